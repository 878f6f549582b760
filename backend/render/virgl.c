/* SPDX-License-Identifier: MIT */
/*
 * The renderer over virglrenderer.
 *
 * 2D resources live in our own memory (the shadow). virglrenderer learns of one when it is first
 * attached to a context, or named by a 3D transfer. From then on the newer copy is tracked:
 *
 *   shadow only    no GL texture yet. Transfers and read-back are memory copies.
 *   shadow newer   a dirty rectangle waits; it is uploaded before GL can look (a submit or transfer
 *                  of a context that the resource is attached to).
 *   GL newer       a context that has it attached ran commands: read-back goes to GL; a 2D transfer
 *                  first brings the shadow up to date.
 *
 * So consoles and dumb buffers never pay for an upload and a read-back through GL.
 *
 * Fences. All of virglrenderer's OpenGL is one stream on one thread, and its per-context fences are
 * the same GL sync objects as its ctx0 fences, only that they are dropped without a callback when
 * their context is destroyed. So every timeline here rides on ctx0 fences: one queue of (context,
 * ring, seq), each with the 32-bit library id that retires it. Where no GL work was asked for
 * since the last fence, none is made: the fence shares that one's id, or is done at once. No sync
 * thread: its two wake-ups cost more than most fences take (measured on llvmpipe: no slower at
 * the median from 16x16 to 1024x1024 clears, and a quarter to a third less CPU time). The library
 * is asked at batch_end, for SPIN_NS where everything pending is new, then by a timer whose
 * delay grows with the wait.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS /* 0.10.4 declares callbacks v3 and v4 behind this */
#include "virgl.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virglrenderer.h>

#include "checked.h"
#include "egl_load.h"
#include "fd.h"
#include "idmap.h"
#include "log.h"
#include "pixels.h"

/* From virgl's protocol and Gallium, which have no installed header. */
#define TARGET_BUFFER 0u
#define TARGET_2D 2u
#define TARGET_3D 3u
#define TARGET_CUBE 4u
#define TARGET_RECT 5u
#define TARGET_1D_ARRAY 6u
#define TARGET_2D_ARRAY 7u
#define TARGET_CUBE_ARRAY 8u
#define TARGETS 9u
#define RESOURCE_Y_0_TOP (1u << 0)
#define FORMAT_B8G8R8A8_SRGB 100u
#define FORMAT_B8G8R8X8_SRGB 101u
#define FORMAT_R8G8B8A8_SRGB 104u
#define FORMAT_R8G8B8X8_SRGB 230u
#define MOD_INVALID 0x00ffffffffffffffull /* DRM_FORMAT_MOD_INVALID */

/* What virglrenderer leaves unchecked or checks in 32 bits. */
#define TEXTURE_LAYERS_MAX 2048u
#define TEXTURE_SAMPLES_MAX 64u
#define TEXTURE_BYTES_MAX (4ull << 30)  /* at the widest format */
#define BUFFER_BYTES_MAX (1u << 30)     /* some buffers are plain heap memory */
#define FORMAT_BYTES_MAX 16u            /* the widest format: 4 x 32 bits */
#define TRANSFER_SPAN_MAX 0xffffffffull /* the library's own bounds check counts in 32 bits */

#define SPIN_NS 20000u /* as long as a small draw takes */
#define POLL_FASTEST_NS 20000u
#define POLL_SLOWEST_NS 1000000u
#define POLL_WAIT_SHARE 4u /* the next look comes after this part of the wait so far */
#define FENCES_FIRST_COUNT 64u
#define PROBE_RESOURCE_ID 0xffffffffu /* used before there is a guest */
#define LOG_LINES_PER_SECOND 20u

/* The library's box: same fields, but it declares the struct only. */
struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

/*
 * struct virgl_renderer_resource_info grew under one SONAME and 1.x always writes all of it, so a
 * program built with 0.10.4's header must not pass that header's struct. The same for the
 * extended form, which 0.10.4's header lacks.
 */
union resource_info {
    struct virgl_renderer_resource_info info;
    struct {
        int32_t version;
        uint32_t base[10];
        bool has_dmabuf_export;
        int32_t planes;
        uint64_t modifier;
        void *d3d_tex2d;
    } ext;
    uint8_t room[256];
};
#define EXT_FOURCC 8 /* index in base[] of drm_fourcc */

struct resource {
    uint32_t id;
    bool is_2d;
    bool in_virgl;
    bool gl_newer;         /* 2D: GL may have changed it since the shadow was written */
    struct vgd_rect dirty; /* 2D, in_virgl: what GL has not seen yet; empty: nothing */
    struct vgd_pixels shadow;
    uint32_t format, target, w, h, depth, array_size, last_level;
    const struct iovec *iov; /* borrowed from the device; NULL: no backing */
    uint32_t n_iov;
    uint64_t iov_bytes;
    uint32_t contexts_count; /* contexts that have it attached */
    bool export_failed;      /* do not try again at each flush */
};

struct context {
    uint32_t id;
    struct vgd_idmap resources;     /* struct resource, borrowed */
    struct resource **resources_2d; /* those with a shadow; owned array, borrowed elements */
    uint32_t resources_2d_count, resources_2d_capacity;
};

struct fence {
    uint64_t seq;
    uint32_t ctx_id;
    uint32_t lib_id; /* retired when the library has retired this id or a later one */
    uint8_t ring_idx;
};

struct virgl {
    struct vgd_render base;
    struct vgd_render_callbacks callbacks;
    struct vgd_gl_choice choice;
    struct vgd_timer *poll_timer;
    uint64_t wait_start_ns;    /* when the oldest fence began to be the oldest */
    uint32_t new_fences_count; /* asked for since the last batch_end */
    char gpu_name[128];
    bool is_software;
    bool exports_dmabuf;
    uint32_t n_capsets;
    struct vgd_capset capsets[VGD_RENDER_CAPSETS_MAX];

    struct vgd_idmap resources; /* struct resource, owned */
    struct vgd_idmap contexts;  /* struct context, owned */

    /* A ring of fences in the order they were asked for; capacity is a power of two. */
    struct fence *fences;
    uint32_t fences_first, fences_count, fences_capacity;
    uint32_t last_lib_id;    /* of the newest GL fence */
    uint32_t retired_lib_id; /* written by the library's callback, inside its poll */
    bool gl_work;            /* asked for since the newest GL fence */

    /* get_drm_fd */
    int drm_fd;
    /* get_egl_display and its companions */
    struct vgd_egl egl;
    EGLDisplay display;
    EGLConfig config;
};

/* The library is one instance per process; so is this. */
static struct virgl *the_virgl;
static struct virgl_renderer_callbacks lib_callbacks;

static struct virgl *virgl_of(struct vgd_render *r)
{
    return (struct virgl *)r; /* base is the first member */
}

static bool rect_is_empty(struct vgd_rect r)
{
    return r.w_px == 0 || r.h_px == 0;
}

/* Both are inside one resource, so sums cannot overflow. */
static struct vgd_rect rect_union(struct vgd_rect a, struct vgd_rect b)
{
    if (rect_is_empty(a)) {
        return b;
    }
    if (rect_is_empty(b)) {
        return a;
    }
    uint32_t x0 = a.x_px < b.x_px ? a.x_px : b.x_px;
    uint32_t y0 = a.y_px < b.y_px ? a.y_px : b.y_px;
    uint32_t ax1 = a.x_px + a.w_px;
    uint32_t ay1 = a.y_px + a.h_px;
    uint32_t bx1 = b.x_px + b.w_px;
    uint32_t by1 = b.y_px + b.h_px;
    uint32_t x1 = ax1 > bx1 ? ax1 : bx1;
    uint32_t y1 = ay1 > by1 ? ay1 : by1;
    return (struct vgd_rect){.x_px = x0, .y_px = y0, .w_px = x1 - x0, .h_px = y1 - y0};
}

/* Log: the library tells everything at one level and in any number of lines. Its own threads, if
 * any, may call this. */
__attribute__((format(printf, 1, 0))) static void lib_log(const char *format, va_list args)
{
    static uint64_t second;
    static uint32_t lines;
    if (vgd_log_level() < VGD_LOG_DEBUG) {
        return;
    }
    uint64_t now = vgd_now_ns() / 1000000000u;
    if (__atomic_exchange_n(&second, now, __ATOMIC_RELAXED) != now) {
        __atomic_store_n(&lines, 0, __ATOMIC_RELAXED);
    }
    if (__atomic_fetch_add(&lines, 1, __ATOMIC_RELAXED) >= LOG_LINES_PER_SECOND) {
        return;
    }
    char text[512];
    int n = vsnprintf(text, sizeof(text), format, args);
    size_t len = n < 0 ? 0 : strnlen(text, sizeof(text));
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    if (len > 0) {
        vgd_log(VGD_LOG_DEBUG, "virglrenderer", "%s", text);
    }
}

/* What the library asks of us. */

static void lib_write_fence(void *cookie, uint32_t id)
{
    struct virgl *v = cookie;
    v->retired_lib_id = id; /* ids come in order; delivered once the library has returned */
}

static int lib_get_drm_fd(void *cookie)
{
    struct virgl *v = cookie;
    return vgd_fd_take(&v->drm_fd); /* the library's from here; -1: it was asked before */
}

static void *lib_get_egl_display(void *cookie)
{
    const struct virgl *v = cookie;
    return v->display;
}

static virgl_renderer_gl_context lib_create_context(void *cookie, int scanout_idx,
                                                    struct virgl_renderer_gl_ctx_param *param)
{
    const struct virgl *v = cookie;
    (void)scanout_idx;
    const EGLint attributes[] = {EGL_CONTEXT_MAJOR_VERSION_KHR, param->major_ver,
                                 EGL_CONTEXT_MINOR_VERSION_KHR, param->minor_ver, EGL_NONE};
    return v->egl.create_context(v->display, v->config,
                                 param->shared ? v->egl.current_context() : EGL_NO_CONTEXT,
                                 attributes);
}

static void lib_destroy_context(void *cookie, virgl_renderer_gl_context context)
{
    const struct virgl *v = cookie;
    (void)v->egl.destroy_context(v->display, context);
}

static int lib_make_current(void *cookie, int scanout_idx, virgl_renderer_gl_context context)
{
    const struct virgl *v = cookie;
    (void)scanout_idx;
    return v->egl.make_current(v->display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) ? 0 : -1;
}

/* Fences. */

static struct fence *fence_at(const struct virgl *v, uint32_t i)
{
    return &v->fences[(v->fences_first + i) & (v->fences_capacity - 1)];
}

static enum vgd_status fence_push(struct virgl *v, struct fence f)
{
    if (v->fences_count == v->fences_capacity) {
        uint32_t capacity = v->fences_capacity == 0 ? FENCES_FIRST_COUNT : v->fences_capacity * 2;
        struct fence *grown = calloc(capacity, sizeof(*grown));
        if (grown == NULL) {
            return VGD_NO_MEMORY;
        }
        for (uint32_t i = 0; i < v->fences_count; i++) {
            grown[i] = *fence_at(v, i);
        }
        free(v->fences);
        v->fences = grown;
        v->fences_first = 0;
        v->fences_capacity = capacity;
    }
    v->fences_count++;
    *fence_at(v, v->fences_count - 1) = f;
    return VGD_OK;
}

/* Ids wrap: "a is b or came before it". */
static bool lib_id_reached(uint32_t a, uint32_t b)
{
    return (int32_t)(b - a) >= 0;
}

/* Tell the device of everything the library has retired. It may call any operation meanwhile. */
static void deliver_fences(struct virgl *v)
{
    while (v->fences_count > 0 && lib_id_reached(fence_at(v, 0)->lib_id, v->retired_lib_id)) {
        struct fence f = *fence_at(v, 0);
        v->fences_first = (v->fences_first + 1) & (v->fences_capacity - 1);
        v->fences_count--;
        v->callbacks.fence_done(v->callbacks.user, f.ctx_id, f.ring_idx, f.seq);
    }
}

static void poll_fences(struct virgl *v)
{
    uint32_t before = v->retired_lib_id;
    virgl_renderer_poll();
    if (v->retired_lib_id != before) {
        v->wait_start_ns = vgd_now_ns();
        deliver_fences(v);
    }
}

static void poll_later(struct virgl *v)
{
    if (v->fences_count == 0) {
        vgd_timer_stop(v->poll_timer);
        return;
    }
    uint64_t delay_ns = (vgd_now_ns() - v->wait_start_ns) / POLL_WAIT_SHARE;
    delay_ns = delay_ns > POLL_FASTEST_NS ? delay_ns : POLL_FASTEST_NS;
    vgd_timer_start(v->poll_timer, delay_ns < POLL_SLOWEST_NS ? delay_ns : POLL_SLOWEST_NS);
}

static void poll_timer_fired(void *user)
{
    struct virgl *v = user;
    if (v->fences_count > 0) {
        poll_fences(v);
    }
    poll_later(v);
}

static void virgl_batch_end(struct vgd_render *r)
{
    struct virgl *v = virgl_of(r);
    if (v->fences_count == 0) {
        return;
    }
    bool all_new = v->new_fences_count >= v->fences_count;
    v->new_fences_count = 0;
    poll_fences(v);
    /* What is older has been looked for before and takes long: then nothing here is quick. */
    uint64_t end_ns = v->wait_start_ns + SPIN_NS;
    while (all_new && v->fences_count > 0 && vgd_now_ns() < end_ns) {
        poll_fences(v);
    }
    poll_later(v);
}

static enum vgd_status virgl_fence(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx,
                                   uint64_t seq, bool *out_done)
{
    struct virgl *v = virgl_of(r);
    if (!v->gl_work && v->fences_count == 0) {
        *out_done = true;
        return VGD_OK;
    }
    struct fence f = {.seq = seq, .ctx_id = ctx_id, .ring_idx = ring_idx, .lib_id = v->last_lib_id};
    if (v->gl_work) {
        f.lib_id++;
    }
    enum vgd_status st = fence_push(v, f);
    if (st != VGD_OK) {
        return st;
    }
    if (v->gl_work) {
        if (virgl_renderer_create_fence((int)f.lib_id, 0) != 0) {
            v->fences_count--;
            return VGD_HOST_FAILED;
        }
        v->last_lib_id = f.lib_id;
        v->gl_work = false;
    }
    if (v->fences_count == 1) {
        v->wait_start_ns = vgd_now_ns();
    }
    v->new_fences_count++;
    *out_done = false;
    return VGD_OK;
}

/* Resources. */

static bool is_layered(uint32_t target)
{
    return target == TARGET_CUBE || target == TARGET_1D_ARRAY || target == TARGET_2D_ARRAY ||
           target == TARGET_CUBE_ARRAY;
}

static uint32_t minify(uint32_t side, uint32_t level)
{
    uint32_t small = level < 32 ? side >> level : 0;
    return small > 0 ? small : 1;
}

/* The plain format whose bytes lie as @format's do, or 0: 4-byte formats only. */
static uint32_t linear_format(uint32_t format)
{
    switch (format) {
    case FORMAT_B8G8R8A8_SRGB:
        return VGD_FORMAT_B8G8R8A8_UNORM;
    case FORMAT_B8G8R8X8_SRGB:
        return VGD_FORMAT_B8G8R8X8_UNORM;
    case FORMAT_R8G8B8A8_SRGB:
        return VGD_FORMAT_R8G8B8A8_UNORM;
    case FORMAT_R8G8B8X8_SRGB:
        return VGD_FORMAT_R8G8B8X8_UNORM;
    default:
        return vgd_pixels_known_format(format) ? format : 0;
    }
}

static uint64_t iov_total(const struct iovec *iov, uint32_t n_iov)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_iov; i++) {
        n += iov[i].iov_len;
    }
    return n;
}

static struct resource *resource_find(const struct virgl *v, uint32_t res_id)
{
    return vgd_idmap_find(&v->resources, res_id);
}

static void resource_free(struct resource *res)
{
    if (res != NULL) {
        vgd_pixels_finish(&res->shadow);
        free(res);
    }
}

static enum vgd_status virgl_resource_create_2d(struct vgd_render *r, uint32_t res_id,
                                                uint32_t format, uint32_t w_px, uint32_t h_px)
{
    struct virgl *v = virgl_of(r);
    struct resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct resource){
        .id = res_id,
        .is_2d = true,
        .format = format,
        .target = TARGET_2D,
        .w = w_px,
        .h = h_px,
        .depth = 1,
        .array_size = 1,
    };
    enum vgd_status st = vgd_pixels_init(&res->shadow, format, w_px, h_px);
    if (st == VGD_OK) {
        st = vgd_idmap_add(&v->resources, res_id, res);
    }
    if (st != VGD_OK) {
        resource_free(res);
    }
    return st;
}

/* Sizes that the library would take and choke on: it checks the mip count against width and height
 * only and one too high, buffers not at all. */
static enum vgd_status check_create_3d(const struct vgd_cmd_resource_create_3d *cmd)
{
    if (cmd->target >= TARGETS || cmd->resource_id == 0) {
        return VGD_RANGE;
    }
    if (cmd->target == TARGET_BUFFER) {
        bool ok = cmd->width > 0 && cmd->width <= BUFFER_BYTES_MAX && cmd->height <= 1 &&
                  cmd->depth <= 1 && cmd->array_size <= 1 && cmd->last_level == 0 &&
                  cmd->nr_samples <= 1;
        return ok ? VGD_OK : VGD_RANGE;
    }
    if (cmd->width == 0 || cmd->height == 0 || cmd->depth == 0 ||
        cmd->width > VGD_PIXELS_SIDE_PX_MAX || cmd->height > VGD_PIXELS_SIDE_PX_MAX ||
        cmd->depth > TEXTURE_LAYERS_MAX || cmd->array_size > TEXTURE_LAYERS_MAX ||
        cmd->nr_samples > TEXTURE_SAMPLES_MAX ||
        (is_layered(cmd->target) && cmd->array_size == 0) ||
        (cmd->target != TARGET_3D && cmd->depth != 1)) {
        return VGD_RANGE;
    }
    uint32_t longest = cmd->width > cmd->height ? cmd->width : cmd->height;
    longest = longest > cmd->depth ? longest : cmd->depth;
    if (cmd->last_level > 31u - (uint32_t)__builtin_clz(longest)) {
        return VGD_RANGE;
    }
    uint64_t bytes = (uint64_t)cmd->width * cmd->height * FORMAT_BYTES_MAX; /* at most 2^32 */
    uint64_t layers = is_layered(cmd->target) ? cmd->array_size : cmd->depth;
    if (!vgd_mul_u64(bytes, layers, &bytes) ||
        !vgd_mul_u64(bytes, cmd->nr_samples > 1 ? cmd->nr_samples : 1, &bytes) ||
        bytes > TEXTURE_BYTES_MAX) {
        return VGD_RANGE;
    }
    return VGD_OK;
}

static enum vgd_status virgl_resource_create_3d(struct vgd_render *r,
                                                const struct vgd_cmd_resource_create_3d *cmd)
{
    struct virgl *v = virgl_of(r);
    enum vgd_status st = check_create_3d(cmd);
    if (st != VGD_OK) {
        return st;
    }
    struct resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct resource){
        .id = cmd->resource_id,
        .in_virgl = true,
        .format = cmd->format,
        .target = cmd->target,
        .w = cmd->width,
        .h = cmd->height,
        .depth = cmd->depth,
        .array_size = cmd->array_size,
        .last_level = cmd->last_level,
    };
    st = vgd_idmap_add(&v->resources, cmd->resource_id, res);
    if (st != VGD_OK) {
        resource_free(res);
        return st;
    }
    struct virgl_renderer_resource_create_args args = {
        .handle = cmd->resource_id,
        .target = cmd->target,
        .format = cmd->format,
        .bind = cmd->bind,
        .width = cmd->width,
        .height = cmd->height,
        .depth = cmd->depth,
        .array_size = cmd->array_size,
        .last_level = cmd->last_level,
        .nr_samples = cmd->nr_samples,
        .flags = cmd->flags,
    };
    if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
        (void)vgd_idmap_remove(&v->resources, cmd->resource_id);
        resource_free(res);
        return VGD_RANGE; /* nearly always the guest's: the library logs which */
    }
    return VGD_OK;
}

/* Give a 2D resource its texture. */
static enum vgd_status promote(struct resource *res)
{
    if (res->in_virgl) {
        return VGD_OK;
    }
    struct virgl_renderer_resource_create_args args = {
        .handle = res->id,
        .target = TARGET_2D,
        .format = res->format,
        .bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SAMPLER_VIEW,
        .width = res->w,
        .height = res->h,
        .depth = 1,
        .array_size = 1,
        .flags = RESOURCE_Y_0_TOP,
    };
    if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
        return VGD_HOST_FAILED; /* a byte order that GL does not have */
    }
    res->in_virgl = true;
    res->dirty = (struct vgd_rect){.w_px = res->w, .h_px = res->h};
    if (res->iov != NULL) {
        (void)virgl_renderer_resource_attach_iov((int)res->id, (struct iovec *)res->iov,
                                                 (int)res->n_iov);
    }
    return VGD_OK;
}

static struct virgl_box box_of(struct vgd_rect rect)
{
    return (struct virgl_box){
        .x = rect.x_px, .y = rect.y_px, .w = rect.w_px, .h = rect.h_px, .d = 1};
}

/* Shadow -> texture, what is dirty of it. */
static enum vgd_status upload_dirty(struct resource *res)
{
    if (rect_is_empty(res->dirty)) {
        return VGD_OK;
    }
    struct iovec iov = {.iov_base = res->shadow.data,
                        .iov_len = res->shadow.stride_bytes * res->shadow.h_px};
    struct virgl_box box = box_of(res->dirty);
    uint64_t offset_bytes = (uint64_t)res->dirty.y_px * res->shadow.stride_bytes +
                            (uint64_t)res->dirty.x_px * VGD_BYTES_PER_PIXEL;
    int rc = virgl_renderer_transfer_write_iov(res->id, 0, 0, (uint32_t)res->shadow.stride_bytes, 0,
                                               &box, offset_bytes, &iov, 1);
    res->dirty = (struct vgd_rect){0};
    return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
}

/* Texture -> @out, in the resource's own format. @rect is inside and not empty. */
static enum vgd_status read_texture(const struct resource *res, struct vgd_rect rect, void *out,
                                    size_t stride_bytes)
{
    struct iovec iov = {.iov_base = out,
                        .iov_len = stride_bytes * (rect.h_px - 1) +
                                   (size_t)rect.w_px * VGD_BYTES_PER_PIXEL};
    struct virgl_box box = box_of(rect);
    int rc = virgl_renderer_transfer_read_iov(res->id, 0, 0, (uint32_t)stride_bytes, 0, &box, 0,
                                              &iov, 1);
    return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
}

/* Texture -> shadow, all of it. */
static enum vgd_status refresh_shadow(struct resource *res)
{
    struct vgd_rect all = {.w_px = res->w, .h_px = res->h};
    enum vgd_status st = read_texture(res, all, res->shadow.data, res->shadow.stride_bytes);
    if (st == VGD_OK) {
        res->gl_newer = false;
    }
    return st;
}

static void context_forget(struct context *ctx, const struct resource *res)
{
    for (uint32_t i = 0; res->is_2d && i < ctx->resources_2d_count; i++) {
        if (ctx->resources_2d[i] == res) {
            ctx->resources_2d[i] = ctx->resources_2d[--ctx->resources_2d_count];
            break;
        }
    }
}

static void virgl_resource_unref(struct vgd_render *r, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct resource *res = vgd_idmap_remove(&v->resources, res_id);
    if (res == NULL) {
        return;
    }
    uint32_t cursor = 0;
    struct context *ctx;
    while (res->contexts_count > 0 && (ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        if (vgd_idmap_remove(&ctx->resources, res_id) != NULL) {
            context_forget(ctx, res);
            res->contexts_count--;
        }
    }
    if (res->in_virgl) {
        virgl_renderer_resource_detach_iov((int)res_id, NULL, NULL);
        virgl_renderer_resource_unref(res_id); /* detaches it from the library's contexts */
    }
    resource_free(res);
}

static void virgl_resource_detach(struct vgd_render *r, uint32_t res_id)
{
    struct resource *res = resource_find(virgl_of(r), res_id);
    if (res == NULL || res->iov == NULL) {
        return;
    }
    if (res->in_virgl) {
        virgl_renderer_resource_detach_iov((int)res_id, NULL, NULL);
    }
    res->iov = NULL;
    res->n_iov = 0;
    res->iov_bytes = 0;
}

static enum vgd_status virgl_resource_attach(struct vgd_render *r, uint32_t res_id,
                                             const struct iovec *iov, uint32_t n_iov)
{
    struct resource *res = resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    virgl_resource_detach(r, res_id); /* the library refuses a second backing */
    if (n_iov == 0) {
        return VGD_OK;
    }
    if (res->in_virgl &&
        virgl_renderer_resource_attach_iov((int)res_id, (struct iovec *)iov, (int)n_iov) != 0) {
        return VGD_HOST_FAILED;
    }
    res->iov = iov;
    res->n_iov = n_iov;
    res->iov_bytes = iov_total(iov, n_iov);
    return VGD_OK;
}

static enum vgd_status virgl_transfer_to_host_2d(struct vgd_render *r, uint32_t res_id,
                                                 struct vgd_rect rect, uint64_t offset_bytes)
{
    struct resource *res = resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (!vgd_pixels_rect_fits(rect, res->w, res->h)) {
        return VGD_RANGE;
    }
    if (!res->is_2d) {
        /* Linux does this to 3D resources that it scans out from the CPU. */
        if (res->target != TARGET_2D || linear_format(res->format) == 0) {
            return VGD_RANGE;
        }
        uint64_t stride_bytes = (uint64_t)res->w * VGD_BYTES_PER_PIXEL;
        uint64_t span = rect_is_empty(rect) ? 0
                                            : (rect.h_px - 1) * stride_bytes +
                                                  (uint64_t)rect.w_px * VGD_BYTES_PER_PIXEL;
        if (!vgd_span_fits(offset_bytes, span, res->iov_bytes)) {
            return VGD_RANGE;
        }
        if (span == 0) {
            return VGD_OK;
        }
        struct virgl_box box = box_of(rect);
        int rc =
            virgl_renderer_transfer_write_iov(res_id, 0, 0, (uint32_t)stride_bytes, 0, &box,
                                              offset_bytes, (struct iovec *)res->iov, res->n_iov);
        return rc == 0 ? VGD_OK : VGD_HOST_FAILED;
    }
    if (res->gl_newer) {
        enum vgd_status st = refresh_shadow(res);
        if (st != VGD_OK) {
            return st;
        }
    }
    enum vgd_status st = vgd_pixels_load(&res->shadow, res->iov, res->n_iov, rect, offset_bytes);
    if (st == VGD_OK && res->in_virgl) {
        res->dirty = rect_union(res->dirty, rect);
    }
    return st;
}

/*
 * A transfer that the library refuses puts the guest's whole context in an error state, and its
 * bounds check counts in 32 bits: so what is wrong is refused here. Formats wider than they are
 * believed to be cannot overflow it either, since all sums stay below 2^32 at the widest format.
 */
static enum vgd_status check_transfer(const struct resource *res,
                                      const struct vgd_cmd_transfer_host_3d *cmd, bool *out_empty)
{
    const struct vgd_box *b = &cmd->box;
    if (cmd->level > res->last_level) {
        return VGD_RANGE;
    }
    bool buffer = res->target == TARGET_BUFFER;
    uint32_t w = minify(res->w, cmd->level);
    uint32_t h = buffer ? 1 : minify(res->h, cmd->level);
    uint32_t d = 1;
    if (res->target == TARGET_3D) {
        d = minify(res->depth, cmd->level);
    } else if (is_layered(res->target)) {
        d = res->array_size;
    }
    if (!vgd_span_fits(b->x, b->w, w) || !vgd_span_fits(b->y, b->h, h) ||
        !vgd_span_fits(b->z, b->d, d)) {
        return VGD_RANGE;
    }
    *out_empty = b->w == 0 || b->h == 0 || b->d == 0;
    if (*out_empty) {
        return VGD_OK;
    }
    /* Bytes from the first to behind the last, at least what the library will compute. */
    uint64_t texel = buffer ? 1 : linear_format(res->format) != 0 ? 4 : FORMAT_BYTES_MAX;
    uint64_t stride = cmd->stride_bytes != 0 ? cmd->stride_bytes : w * texel;
    uint64_t layer = cmd->layer_stride_bytes != 0 ? cmd->layer_stride_bytes : stride * h;
    uint64_t span = 0;
    uint64_t layers = 0;
    uint64_t rows = 0;
    if (!vgd_mul_u64(layer, b->d - 1, &layers) || !vgd_mul_u64(stride, b->h - 1, &rows) ||
        !vgd_add_u64(layers, rows, &span) || !vgd_add_u64(span, b->w * texel, &span) ||
        span > TRANSFER_SPAN_MAX || layer > TRANSFER_SPAN_MAX ||
        cmd->offset_bytes > res->iov_bytes || cmd->offset_bytes > TRANSFER_SPAN_MAX) {
        return VGD_RANGE;
    }
    if (texel != FORMAT_BYTES_MAX && !vgd_span_fits(cmd->offset_bytes, span, res->iov_bytes)) {
        return VGD_RANGE; /* exactly known; for other formats the library's own check decides */
    }
    return VGD_OK;
}

/* Everything before the library's transfer: *out_res is ready for it, or *out_empty says that there
 * is nothing to do. */
static enum vgd_status prepare_transfer(struct virgl *v, uint32_t ctx_id,
                                        const struct vgd_cmd_transfer_host_3d *cmd,
                                        struct resource **out_res, bool *out_empty)
{
    struct resource *res = resource_find(v, cmd->resource_id);
    if (res == NULL || res->iov == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (ctx_id != 0) {
        const struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
        if (ctx == NULL) {
            return VGD_NO_CONTEXT;
        }
        if (vgd_idmap_find(&ctx->resources, res->id) == NULL) {
            return VGD_RANGE; /* the library would put the context in its error state */
        }
    }
    enum vgd_status st = check_transfer(res, cmd, out_empty);
    if (st != VGD_OK || *out_empty) {
        return st;
    }
    if (res->is_2d) {
        st = promote(res);
        if (st == VGD_OK) {
            st = upload_dirty(res);
        }
    }
    *out_res = res;
    return st;
}

static enum vgd_status virgl_transfer_to_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                                 const struct vgd_cmd_transfer_host_3d *cmd)
{
    struct resource *res = NULL;
    bool empty = false;
    enum vgd_status st = prepare_transfer(virgl_of(r), ctx_id, cmd, &res, &empty);
    if (st != VGD_OK || empty) {
        return st;
    }
    struct virgl_box box = {cmd->box.x, cmd->box.y, cmd->box.z, cmd->box.w, cmd->box.h, cmd->box.d};
    int rc = virgl_renderer_transfer_write_iov(res->id, ctx_id, (int)cmd->level, cmd->stride_bytes,
                                               cmd->layer_stride_bytes, &box, cmd->offset_bytes,
                                               (struct iovec *)res->iov, res->n_iov);
    res->gl_newer = res->is_2d;
    /* No GL fence is owed: the guest's pages have been read when this returns. */
    return rc == 0 ? VGD_OK : VGD_RANGE;
}

static enum vgd_status virgl_transfer_from_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                                   const struct vgd_cmd_transfer_host_3d *cmd)
{
    struct resource *res = NULL;
    bool empty = false;
    enum vgd_status st = prepare_transfer(virgl_of(r), ctx_id, cmd, &res, &empty);
    if (st != VGD_OK || empty) {
        return st;
    }
    struct virgl_box box = {cmd->box.x, cmd->box.y, cmd->box.z, cmd->box.w, cmd->box.h, cmd->box.d};
    int rc = virgl_renderer_transfer_read_iov(res->id, ctx_id, cmd->level, cmd->stride_bytes,
                                              cmd->layer_stride_bytes, &box, cmd->offset_bytes,
                                              (struct iovec *)res->iov, (int)res->n_iov);
    return rc == 0 ? VGD_OK : VGD_RANGE;
}

/* Contexts. */

static enum vgd_status virgl_context_create(struct vgd_render *r, uint32_t ctx_id,
                                            uint32_t capset_id, const char *name, size_t name_len)
{
    struct virgl *v = virgl_of(r);
    if (capset_id != 0 && capset_id != VGD_CAPSET_VIRGL && capset_id != VGD_CAPSET_VIRGL2) {
        return VGD_UNSUPPORTED;
    }
    char text[65] = {0}; /* the library wants a terminator */
    memcpy(text, name, name_len < sizeof(text) - 1 ? name_len : sizeof(text) - 1);
    struct context *ctx = calloc(1, sizeof(*ctx));
    if (ctx == NULL) {
        return VGD_NO_MEMORY;
    }
    ctx->id = ctx_id;
    enum vgd_status st = vgd_idmap_add(&v->contexts, ctx_id, ctx);
    if (st != VGD_OK) {
        free(ctx);
        return st;
    }
    uint32_t text_len = (uint32_t)strlen(text);
    int rc = capset_id == 0
                 ? virgl_renderer_context_create(ctx_id, text_len, text)
                 : virgl_renderer_context_create_with_flags(ctx_id, capset_id, text_len, text);
    if (rc != 0) {
        (void)vgd_idmap_remove(&v->contexts, ctx_id);
        free(ctx);
        return VGD_HOST_FAILED;
    }
    return VGD_OK;
}

static void context_free(struct context *ctx)
{
    uint32_t cursor = 0;
    struct resource *res;
    while ((res = vgd_idmap_next(&ctx->resources, &cursor, NULL)) != NULL) {
        res->contexts_count--;
    }
    vgd_idmap_finish(&ctx->resources);
    free(ctx->resources_2d);
    free(ctx);
}

static void virgl_context_destroy(struct vgd_render *r, uint32_t ctx_id)
{
    struct context *ctx = vgd_idmap_remove(&virgl_of(r)->contexts, ctx_id);
    if (ctx != NULL) {
        virgl_renderer_context_destroy(ctx_id);
        context_free(ctx);
    }
}

static enum vgd_status virgl_context_attach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    struct resource *res = resource_find(v, res_id);
    if (ctx == NULL) {
        return VGD_NO_CONTEXT;
    }
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (vgd_idmap_find(&ctx->resources, res_id) != NULL) {
        return VGD_OK;
    }
    if (res->is_2d) {
        enum vgd_status st = promote(res);
        if (st != VGD_OK) {
            return st;
        }
        if (ctx->resources_2d_count == ctx->resources_2d_capacity) {
            uint32_t capacity =
                ctx->resources_2d_capacity == 0 ? 4 : ctx->resources_2d_capacity * 2;
            struct resource **grown = reallocarray(ctx->resources_2d, capacity, sizeof(void *));
            if (grown == NULL) {
                return VGD_NO_MEMORY;
            }
            ctx->resources_2d = grown;
            ctx->resources_2d_capacity = capacity;
        }
    }
    enum vgd_status st = vgd_idmap_add(&ctx->resources, res_id, res);
    if (st != VGD_OK) {
        return st;
    }
    if (res->is_2d) {
        ctx->resources_2d[ctx->resources_2d_count++] = res;
    }
    res->contexts_count++;
    virgl_renderer_ctx_attach_resource((int)ctx_id, (int)res_id);
    return VGD_OK;
}

static void virgl_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    struct resource *res = ctx != NULL ? vgd_idmap_remove(&ctx->resources, res_id) : NULL;
    if (res != NULL) {
        context_forget(ctx, res);
        res->contexts_count--;
        virgl_renderer_ctx_detach_resource((int)ctx_id, (int)res_id);
    }
}

static enum vgd_status virgl_submit(struct vgd_render *r, uint32_t ctx_id, void *commands,
                                    size_t size_bytes)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = vgd_idmap_find(&v->contexts, ctx_id);
    if (ctx == NULL) {
        return VGD_NO_CONTEXT;
    }
    if (size_bytes == 0) {
        return VGD_OK; /* no reason to switch GL contexts, and nothing to fence */
    }
    for (uint32_t i = 0; i < ctx->resources_2d_count; i++) {
        struct resource *res = ctx->resources_2d[i];
        enum vgd_status st = upload_dirty(res);
        if (st != VGD_OK) {
            return st;
        }
        res->gl_newer = true; /* which of them the commands draw to is not known here */
    }
    v->gl_work = true;
    int rc = virgl_renderer_submit_cmd(commands, (int)ctx_id, (int)(size_bytes / 4));
    /* A bad stream: the library keeps the context and refuses what follows, as it sees fit. */
    return rc == 0 ? VGD_OK : VGD_RANGE;
}

static enum vgd_status virgl_read_pixels(struct vgd_render *r, uint32_t res_id,
                                         struct vgd_rect rect, void *out, size_t stride_bytes)
{
    const struct resource *res = resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_2d && !res->gl_newer) {
        return vgd_pixels_read(&res->shadow, rect, out, stride_bytes);
    }
    uint32_t format = linear_format(res->format);
    if (format == 0 || (res->target != TARGET_2D && res->target != TARGET_RECT)) {
        return VGD_UNSUPPORTED;
    }
    if (!vgd_pixels_rect_fits(rect, res->w, res->h) || stride_bytes > UINT32_MAX) {
        return VGD_RANGE;
    }
    if (rect_is_empty(rect)) {
        return VGD_OK;
    }
    /* Transfers count rows from the top whichever way up the texture is stored: the library turns
     * Y_0_TOP ones over, and displays take row 0 of the others for the top. */
    enum vgd_status st = read_texture(res, rect, out, stride_bytes);
    if (st == VGD_OK) {
        vgd_pixels_convert(format, rect.w_px, rect.h_px, out, stride_bytes, out, stride_bytes);
    }
    return st;
}

/* Layout of a texture, by the newer call where the library has it. */
static bool texture_info(uint32_t res_id, union resource_info *u, uint32_t *out_fourcc,
                         int *out_planes, uint64_t *out_modifier, uint32_t *out_tex_id,
                         uint32_t *out_flags)
{
    static int (*info_ext)(int, void *);
    static bool looked_up;
    if (!looked_up) {
        vgd_dl_function(RTLD_DEFAULT, "virgl_renderer_resource_get_info_ext", &info_ext);
        looked_up = true;
    }
    memset(u, 0, sizeof(*u));
    if (info_ext != NULL) {
        if (info_ext((int)res_id, u) != 0 || !u->ext.has_dmabuf_export) {
            return false;
        }
        *out_fourcc = u->ext.base[EXT_FOURCC];
        *out_planes = u->ext.planes;
        *out_modifier = u->ext.modifier;
        *out_tex_id = u->ext.base[6];
        *out_flags = u->ext.base[5];
        return true;
    }
    if (virgl_renderer_resource_get_info((int)res_id, &u->info) != 0) {
        return false;
    }
    *out_fourcc = (uint32_t)u->info.drm_fourcc;
    *out_planes = 1;
    *out_modifier = MOD_INVALID;
    *out_tex_id = u->info.tex_id;
    *out_flags = u->info.flags;
    return true;
}

static enum vgd_status export_texture(uint32_t res_id, uint32_t w, uint32_t h,
                                      struct vgd_dmabuf *out)
{
    union resource_info u;
    uint32_t fourcc;
    uint32_t tex_id;
    uint32_t flags;
    int planes;
    uint64_t modifier;
    virgl_renderer_force_ctx_0(); /* a live GL context, and everything drawn so far is flushed */
    if (!texture_info(res_id, &u, &fourcc, &planes, &modifier, &tex_id, &flags) || planes != 1 ||
        fourcc == 0) {
        return VGD_UNSUPPORTED;
    }
    int fd = -1;
    int stride = 0;
    int offset = 0;
    int rc = virgl_renderer_get_fd_for_texture2(tex_id, &fd, &stride, &offset);
    if (rc != 0 || fd < 0 || stride <= 0 || offset < 0) { /* software GL: rc 0 and no fd */
        vgd_fd_closep(&fd);
        return VGD_UNSUPPORTED;
    }
    *out = (struct vgd_dmabuf){
        .fd = fd,
        .w_px = w,
        .h_px = h,
        .stride_bytes = (uint32_t)stride,
        .offset_bytes = (uint32_t)offset,
        .fourcc = fourcc,
        .modifier = modifier,
        .y0_top = (flags & RESOURCE_Y_0_TOP) != 0,
    };
    return VGD_OK;
}

static enum vgd_status virgl_export_scanout(struct vgd_render *r, uint32_t res_id,
                                            struct vgd_dmabuf *out)
{
    const struct virgl *v = virgl_of(r);
    struct resource *res = resource_find(v, res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (!v->exports_dmabuf || res->is_2d || res->export_failed || res->target != TARGET_2D) {
        return VGD_UNSUPPORTED;
    }
    enum vgd_status st = export_texture(res_id, res->w, res->h, out);
    res->export_failed = st != VGD_OK;
    return st;
}

static void virgl_info(const struct vgd_render *r, struct vgd_render_info *out)
{
    const struct virgl *v = (const struct virgl *)r;
    *out = (struct vgd_render_info){
        .name = "virgl",
        .gpu_name = v->gpu_name,
        .has_3d = true,
        .is_software = v->is_software,
        .exports_dmabuf = v->exports_dmabuf,
        .n_capsets = v->n_capsets,
    };
    memcpy(out->capsets, v->capsets, sizeof(out->capsets));
}

static enum vgd_status virgl_capset_fill(struct vgd_render *r, uint32_t id, uint32_t version,
                                         void *out, size_t size_bytes)
{
    const struct virgl *v = virgl_of(r);
    for (uint32_t i = 0; i < v->n_capsets; i++) {
        const struct vgd_capset *c = &v->capsets[i];
        if (c->id == id && version <= c->max_version) {
            void *caps = calloc(1, c->size_bytes); /* the library fills its whole size */
            if (caps == NULL) {
                return VGD_NO_MEMORY;
            }
            virgl_renderer_fill_caps(id, version, caps);
            size_t n = size_bytes < c->size_bytes ? size_bytes : c->size_bytes;
            memcpy(out, caps, n);
            memset((uint8_t *)out + n, 0, size_bytes - n);
            free(caps);
            return VGD_OK;
        }
    }
    return VGD_HOST_FAILED;
}

/* Objects are dropped one by one: the library's own reset throws ctx0 away as well, which costs
 * and has been little used. Fences that it still holds retire unheard: their ids are older
 * than those of any fence asked for later. */
static void virgl_reset(struct vgd_render *r)
{
    struct virgl *v = virgl_of(r);
    uint32_t cursor = 0;
    struct context *ctx;
    while ((ctx = vgd_idmap_next(&v->contexts, &cursor, NULL)) != NULL) {
        virgl_renderer_context_destroy(ctx->id);
        context_free(ctx);
    }
    vgd_idmap_finish(&v->contexts);
    cursor = 0;
    struct resource *res;
    while ((res = vgd_idmap_next(&v->resources, &cursor, NULL)) != NULL) {
        if (res->in_virgl) {
            virgl_renderer_resource_detach_iov((int)res->id, NULL, NULL);
            virgl_renderer_resource_unref(res->id);
        }
        resource_free(res);
    }
    vgd_idmap_finish(&v->resources);
    v->fences_first = 0;
    v->fences_count = 0;
    v->new_fences_count = 0;
    vgd_timer_stop(v->poll_timer);
}

static void virgl_destroy(struct vgd_render *r)
{
    if (r == NULL) {
        return;
    }
    struct virgl *v = virgl_of(r);
    virgl_reset(r);
    virgl_renderer_cleanup(v);
    vgd_fd_closep(&v->drm_fd);
    vgd_timer_destroy(&v->poll_timer);
    free(v->fences);
    the_virgl = NULL;
    free(v);
}

static const struct vgd_render_ops virgl_ops = {
    .info = virgl_info,
    .capset_fill = virgl_capset_fill,
    .context_create = virgl_context_create,
    .context_destroy = virgl_context_destroy,
    .context_attach = virgl_context_attach,
    .context_detach = virgl_context_detach,
    .resource_create_2d = virgl_resource_create_2d,
    .resource_create_3d = virgl_resource_create_3d,
    .resource_unref = virgl_resource_unref,
    .resource_attach = virgl_resource_attach,
    .resource_detach = virgl_resource_detach,
    .transfer_to_host_2d = virgl_transfer_to_host_2d,
    .transfer_to_host_3d = virgl_transfer_to_host_3d,
    .transfer_from_host_3d = virgl_transfer_from_host_3d,
    .submit = virgl_submit,
    .fence = virgl_fence,
    .read_pixels = virgl_read_pixels,
    .export_scanout = virgl_export_scanout,
    .batch_end = virgl_batch_end,
    .reset = virgl_reset,
    .destroy = virgl_destroy,
};

/* Start. */

const char *vgd_virgl_runtime_version(void)
{
    static const struct {
        const char *symbol, *version;
    } since[] = {
        {"virgl_renderer_resource_map_fixed", "1.3 or newer"},
        {"virgl_set_log_callback", "1.1 or 1.2"},
        {"virgl_renderer_submit_cmd2", "1.0"},
    };
    for (size_t i = 0; i < sizeof(since) / sizeof(since[0]); i++) {
        if (dlsym(RTLD_DEFAULT, since[i].symbol) != NULL) {
            return since[i].version;
        }
    }
    return "0.10 or older";
}

const char *vgd_virgl_build_version(void)
{
    return VGD_VIRGLRENDERER_VERSION;
}

const struct vgd_gl_choice *vgd_virgl_choice(const struct vgd_render *render)
{
    return &((const struct virgl *)render)->choice;
}

/* An EGL device's display with contexts of our own: the library has no such platform. */
static bool open_device_display(struct virgl *v, char *why, size_t why_bytes)
{
    EGLDeviceEXT devices[VGD_EGL_DEVICES_MAX];
    EGLint n = 0;
    static const EGLint config_attributes[] = {EGL_SURFACE_TYPE, EGL_PBUFFER_BIT,
                                               EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_NONE};
    EGLint n_configs = 0;
    if (v->egl.query_devices == NULL || !v->egl.query_devices(VGD_EGL_DEVICES_MAX, devices, &n) ||
        v->choice.device_idx >= n) {
        (void)snprintf(why, why_bytes, "EGL device %d is not there", v->choice.device_idx);
        return false;
    }
    v->display =
        v->egl.get_platform_display(EGL_PLATFORM_DEVICE_EXT, devices[v->choice.device_idx], NULL);
    if (v->display == EGL_NO_DISPLAY || !v->egl.initialize(v->display, NULL, NULL) ||
        !v->egl.bind_api(EGL_OPENGL_API) ||
        !v->egl.choose_config(v->display, config_attributes, &v->config, 1, &n_configs) ||
        n_configs < 1) {
        (void)snprintf(why, why_bytes, "EGL device %d cannot be initialised", v->choice.device_idx);
        return false;
    }
    return true;
}

static bool init_library(struct virgl *v, char *why, size_t why_bytes)
{
    int flags = 0;
    lib_callbacks = (struct virgl_renderer_callbacks){
        .version = 2, .write_fence = lib_write_fence, .get_drm_fd = lib_get_drm_fd};
    switch (v->choice.platform) {
    case VGD_GL_GBM:
        v->drm_fd = open(v->choice.render_node, O_RDWR | O_CLOEXEC);
        if (v->drm_fd < 0) {
            (void)snprintf(why, why_bytes, "cannot open render node %s: %s", v->choice.render_node,
                           strerror(errno));
            return false;
        }
        flags = VIRGL_RENDERER_USE_EGL;
        break;
    case VGD_GL_AUTO:
    case VGD_GL_SURFACELESS:
        vgd_gl_keep_off_nodes();
        if (access("/dev/dri", F_OK) == 0) {
            /* Without an fd the library opens the first render node for GBM, which surfaceless
             * does not need. This one gives it a GBM device that can do nothing. */
            v->drm_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        flags = VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS;
        break;
    case VGD_GL_DEVICE:
        if (!open_device_display(v, why, why_bytes)) {
            return false;
        }
        lib_callbacks.version = 4;
        lib_callbacks.get_egl_display = lib_get_egl_display;
        lib_callbacks.create_gl_context = lib_create_context;
        lib_callbacks.destroy_gl_context = lib_destroy_context;
        lib_callbacks.make_current = lib_make_current;
        break;
    }
    (void)virgl_set_debug_callback(lib_log);
    int rc = virgl_renderer_init(v, flags, &lib_callbacks);
    if (rc != 0) {
        (void)snprintf(why, why_bytes,
                       "virglrenderer cannot start on %s%s%s (error %d): --probe shows what this "
                       "host can do",
                       vgd_gl_platform_name(v->choice.platform),
                       v->choice.render_node[0] != '\0' ? " " : "", v->choice.render_node, rc);
        return false;
    }
    return true;
}

static void learn_gpu(struct virgl *v)
{
    typedef const unsigned char *(*get_string_fn)(unsigned name);
    get_string_fn get_string = (get_string_fn)v->egl.get_proc("glGetString");
    const unsigned char *renderer =
        get_string != NULL ? get_string(0x1F01 /* GL_RENDERER */) : NULL;
    (void)snprintf(v->gpu_name, sizeof(v->gpu_name), "%s",
                   renderer != NULL ? (const char *)renderer : "");
    v->is_software = vgd_gl_is_software(v->gpu_name);
}

static void learn_capsets(struct virgl *v)
{
    /* VENUS would be listed by the library even when it was never initialised. */
    static const uint32_t ids[] = {VGD_CAPSET_VIRGL, VGD_CAPSET_VIRGL2};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        uint32_t version = 0;
        uint32_t size_bytes = 0;
        virgl_renderer_get_cap_set(ids[i], &version, &size_bytes);
        if (size_bytes > 0) {
            v->capsets[v->n_capsets++] =
                (struct vgd_capset){.id = ids[i], .max_version = version, .size_bytes = size_bytes};
        }
    }
}

static void learn_export(struct virgl *v)
{
    struct virgl_renderer_resource_create_args args = {
        .handle = PROBE_RESOURCE_ID,
        .target = TARGET_2D,
        .format = VGD_FORMAT_B8G8R8X8_UNORM,
        .bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SCANOUT,
        .width = 64,
        .height = 64,
        .depth = 1,
        .array_size = 1,
    };
    if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
        return;
    }
    struct vgd_dmabuf buffer;
    if (export_texture(PROBE_RESOURCE_ID, 64, 64, &buffer) == VGD_OK) {
        vgd_fd_closep(&buffer.fd);
        v->exports_dmabuf = true;
    }
    virgl_renderer_resource_unref(PROBE_RESOURCE_ID);
}

enum vgd_status vgd_virgl_create(const struct vgd_virgl_options *options, struct vgd_render **out,
                                 char *why, size_t why_bytes)
{
    uint64_t start_ns = vgd_now_ns();
    if (the_virgl != NULL) {
        (void)snprintf(why, why_bytes, "virglrenderer is already running in this process");
        return VGD_HOST_FAILED;
    }
    struct vgd_egl egl;
    if (!vgd_gl_libraries_present(why, why_bytes)) {
        return VGD_HOST_FAILED;
    }
    if (!vgd_egl_load(&egl)) {
        (void)snprintf(why, why_bytes, "libEGL.so.1 is too old: EGL 1.4 with platforms is needed");
        return VGD_HOST_FAILED;
    }
    struct virgl *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return VGD_NO_MEMORY;
    }
    v->base.ops = &virgl_ops;
    v->egl = egl;
    v->callbacks = options->callbacks;
    v->drm_fd = -1;
    v->poll_timer = vgd_timer_create(options->loop, poll_timer_fired, v);
    enum vgd_status st = v->poll_timer != NULL ? VGD_OK : VGD_NO_MEMORY;
    if (st == VGD_OK && options->choice != NULL) {
        v->choice = *options->choice;
    } else if (st == VGD_OK) {
        st = vgd_gl_choose(options->render_node, options->platform, &v->choice, why, why_bytes);
    }
    if (st == VGD_OK && !init_library(v, why, why_bytes)) {
        st = VGD_HOST_FAILED;
    }
    if (st != VGD_OK) {
        vgd_fd_closep(&v->drm_fd);
        vgd_timer_destroy(&v->poll_timer);
        free(v);
        return st;
    }
    the_virgl = v;
    learn_gpu(v);
    if (v->is_software && options->require_hardware) {
        (void)snprintf(why, why_bytes,
                       "only software GL here (%s) and hardware is required: name a GPU with "
                       "--render-node, or allow software",
                       v->gpu_name);
        virgl_destroy(&v->base);
        return VGD_HOST_FAILED;
    }
    learn_capsets(v);
    learn_export(v);
    vgd_log(v->is_software ? VGD_LOG_WARNING : VGD_LOG_INFO, "render",
            "%s%s by %s%s%s (%s); dma-buf scanout: %s; ready in %llu ms",
            v->is_software ? "SOFTWARE RENDERING, no GPU is used: " : "", v->gpu_name,
            vgd_gl_platform_name(v->choice.platform), v->choice.render_node[0] != '\0' ? " " : "",
            v->choice.render_node, v->choice.why, v->exports_dmabuf ? "yes" : "no",
            (unsigned long long)((vgd_now_ns() - start_ns) / 1000000u));
    *out = &v->base;
    return VGD_OK;
}
