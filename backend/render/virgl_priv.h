/* SPDX-License-Identifier: MIT */
/* What the files of the virgl renderer share. Thread: loop. */
#ifndef VGD_VIRGL_PRIV_H
#define VGD_VIRGL_PRIV_H

#define VIRGL_RENDERER_UNSTABLE_APIS /* 0.10.4 declares callbacks v3 and v4 behind this */
#include <virglrenderer.h>

#include "egl_load.h"
#include "idmap.h"
#include "pixels.h"
#include "virgl.h"

/* From virgl's protocol and Gallium, which have no installed header. */
#define TARGET_BUFFER 0u
#define TARGET_2D 2u
#define TARGET_3D 3u
#define TARGET_RECT 5u
#define RESOURCE_Y_0_TOP (1u << 0)

#define MOD_INVALID 0x00ffffffffffffffull /* DRM_FORMAT_MOD_INVALID */
/* Used before there is a guest. */
#define PROBE_RESOURCE_ID 0xffffffffu
#define PROBE_CONTEXT_ID 0xffffffffu
/* How long to look for what was just asked for: a small draw takes as long, an answer of an idle
 * Vulkan process less. */
#define SPIN_NS 20000u
#define VENUS_RINGS 64u /* virtio-v1.3 5.7.6.7: ring_idx 0 to 63 */

/* The library's box: same fields, but it declares the struct only. */
struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

struct resource {
    uint32_t id;
    bool is_2d;
    bool in_virgl;
    bool gl_newer;         /* 2D: GL may have changed it since the shadow was written */
    struct vgd_rect dirty; /* 2D, in_virgl: what GL has not seen yet; empty: nothing */
    struct vgd_pixels shadow;
    uint32_t format, target, w, h, depth, array_size, last_level, bind;
    uint32_t nr_samples; /* more than 1: pixels of it cannot be moved, only resolved into another */
    const struct iovec *iov; /* borrowed from the device; NULL: no backing */
    uint32_t n_iov;
    uint64_t iov_bytes;
    uint32_t contexts_count; /* contexts that have it attached */
    bool export_failed;      /* do not try again at each flush */

    bool is_blob; /* what follows is for blobs only; is_2d, target and sizes are not */
    uint32_t blob_mem;
    uint32_t blob_ctx_id; /* whose object it is of; 0: none */
    bool of_vulkan;       /* and that is a Vulkan context: there is a file of its process */
    uint64_t blob_bytes;
    struct blob_view {
        void *data;  /* read-only mapping of a host blob, made when its pixels are first read */
        int sync_fd; /* of the dma-buf behind it, to keep caches coherent; -1: it is no dma-buf */
        bool failed; /* do not try again at each flush */
    } view;
};

/* The process of a Vulkan context, as far as it shows on our side. */
struct venus {
    int socket_fd; /* duplicate of the library's socket to it; -1: not found, deaths are then
                      noticed by failing calls and by the library's own look, after 100 polls */
    struct vgd_watch *socket_watch, *fence_watch;
    bool has_fence_fd;      /* the library has a descriptor that says when fences signal */
    uint64_t pending_rings; /* bit n: ring n has fences that the device was not told of */
    uint64_t looks_before;  /* venus_looks when the first of these was asked for */
    struct venus_ring {
        uint64_t asked_seq, retired_seq, told_seq;
    } rings[VENUS_RINGS];
};

struct context {
    uint32_t id;
    bool lost;                      /* its process is gone, and with it the library's context */
    bool loss_told;                 /* the device knows */
    struct venus *venus;            /* NULL: an OpenGL context */
    struct vgd_idmap resources;     /* struct resource, borrowed */
    struct resource **resources_2d; /* those with a shadow; owned array, borrowed elements */
    uint32_t resources_2d_count, resources_2d_capacity;
    uint32_t watched_count; /* attached resources for which streams are looked through */
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
    char vulkan_name[128]; /* "" without Vulkan contexts */
    bool has_gl, has_venus;
    bool is_software, gl_is_software;
    bool exports_textures; /* as dma-bufs */
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

    /* Vulkan contexts */
    struct vgd_loop *loop;
    struct vgd_timer *venus_timer; /* tells of losses; polls what has no descriptor to wait on */
    struct vgd_watch *server_watch;
    uint64_t venus_looks;         /* that the library took for fences of any Vulkan context */
    bool venus_on_trial;          /* a server that hangs costs Vulkan, not this process */
    bool venus_signalled;         /* written by the library's callback, inside its poll */
    bool venus_asked;             /* since the last batch_end, for a fence without a descriptor */
    int venus_call_ms;            /* how long a call may wait for a process */
    uint32_t venus_count;         /* contexts with a process */
    uint64_t venus_wait_start_ns; /* when the venus_timer's polling last saw a fence signal */
    int server_fd;                /* get_server_fd: the library's once it has asked */
    int server_socket_fd;         /* our duplicate of it; -1: no render server, or it is gone */

    /* get_drm_fd */
    int drm_fd;
    /* get_egl_display and its companions */
    struct vgd_egl egl;
    EGLDisplay display;
    EGLConfig config;
};

static inline struct virgl *virgl_of(struct vgd_render *r)
{
    return (struct virgl *)r; /* base is the first member */
}

/* virgl_resource.c */
struct resource *vgd_virgl_resource_find(const struct virgl *v, uint32_t res_id);
void vgd_virgl_resource_free(struct resource *res);
uint64_t vgd_virgl_iov_total(const struct iovec *iov, uint32_t n_iov);
/** The plain format whose bytes lie as @format's do, or 0: 4-byte formats only. */
uint32_t vgd_virgl_linear_format(uint32_t format);
/** Give a 2D resource its texture, if it has none yet; all of it is dirty then. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_promote(struct resource *res);
enum vgd_status vgd_virgl_resource_create_2d(struct vgd_render *r, uint32_t res_id, uint32_t format,
                                             uint32_t w_px, uint32_t h_px);
enum vgd_status vgd_virgl_resource_create_3d(struct vgd_render *r,
                                             const struct vgd_cmd_resource_create_3d *cmd);
void vgd_virgl_resource_unref(struct vgd_render *r, uint32_t res_id);
enum vgd_status vgd_virgl_resource_attach(struct vgd_render *r, uint32_t res_id,
                                          const struct iovec *iov, uint32_t n_iov);
void vgd_virgl_resource_detach(struct vgd_render *r, uint32_t res_id);
/** A texture's memory as a dma-buf; VGD_UNSUPPORTED. @out is untouched on failure. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_export_texture(uint32_t res_id, uint32_t w, uint32_t h,
                                                        struct vgd_dmabuf *out);
enum vgd_status vgd_virgl_export_scanout(struct vgd_render *r, uint32_t res_id,
                                         const struct vgd_image *image, struct vgd_dmabuf *out);

/* virgl_blob.c */
enum vgd_status vgd_virgl_resource_create_blob(struct vgd_render *r,
                                               const struct vgd_render_blob *blob);
enum vgd_status vgd_virgl_blob_export(struct vgd_render *r, uint32_t res_id,
                                      struct vgd_blob_file *out);
/** A picture in a blob; @res is one. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_blob_read_pixels(struct resource *res,
                                                          const struct vgd_image *image,
                                                          struct vgd_rect rect, void *out,
                                                          size_t stride_bytes);
VGD_MUST_CHECK enum vgd_status vgd_virgl_blob_export_scanout(struct resource *res,
                                                             const struct vgd_image *image,
                                                             struct vgd_dmabuf *out);
/** Are there @n_bytes behind a blob of host memory, for as long as somebody has it mapped? */
bool vgd_virgl_blob_has_bytes(const struct resource *res, uint64_t n_bytes);
void vgd_virgl_blob_finish(struct resource *res);

/* virgl_transfer.c */
/** Shadow -> texture, what is dirty of it. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_upload_dirty(struct resource *res);
enum vgd_status vgd_virgl_transfer_to_host_2d(struct vgd_render *r, uint32_t res_id,
                                              struct vgd_rect rect, uint64_t offset_bytes);
enum vgd_status vgd_virgl_transfer_to_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                              const struct vgd_cmd_transfer_host_3d *cmd);
enum vgd_status vgd_virgl_transfer_from_host_3d(struct vgd_render *r, uint32_t ctx_id,
                                                const struct vgd_cmd_transfer_host_3d *cmd);
struct vgd_rect vgd_virgl_take_changed(struct vgd_render *r, uint32_t res_id, struct vgd_rect rect);
enum vgd_status vgd_virgl_read_pixels(struct vgd_render *r, uint32_t res_id,
                                      const struct vgd_image *image, struct vgd_rect rect,
                                      void *out, size_t stride_bytes);

/* virgl_content.c */
enum vgd_status vgd_virgl_content_read(struct vgd_render *r, uint32_t res_id, uint32_t level,
                                       const struct vgd_box *box, void *out, size_t out_bytes,
                                       uint32_t stride_bytes, uint32_t layer_stride_bytes);

/* virgl_context.c */
enum vgd_status vgd_virgl_context_create(struct vgd_render *r, uint32_t ctx_id, uint32_t capset_id,
                                         const char *name, size_t name_len);
void vgd_virgl_context_destroy(struct vgd_render *r, uint32_t ctx_id);
enum vgd_status vgd_virgl_context_attach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id);
void vgd_virgl_context_detach(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id);
enum vgd_status vgd_virgl_submit(struct vgd_render *r, uint32_t ctx_id, void *commands,
                                 size_t size_bytes);
/** @res is attached no more: take it from the list of those to keep coherent. */
void vgd_virgl_context_forget(struct context *ctx, const struct resource *res);
/** Detach @res in the library, at the end of the context's use of it. */
void vgd_virgl_context_drop(struct virgl *v, struct context *ctx, struct resource *res);
/** End a context that is out of the table, in the library and on our side. */
void vgd_virgl_context_end(struct virgl *v, struct context *ctx);

/* virgl_venus.c: contexts whose work a process of the render server does */
/** Set up what Vulkan contexts need before the library starts; takes *@server_fd. */
VGD_MUST_CHECK bool vgd_virgl_venus_prepare(struct virgl *v, int *server_fd, char *why,
                                            size_t why_bytes);
/** Does it really work? One context, with a blob and a fence; takes venus_call_ms a call at most.
 */
VGD_MUST_CHECK bool vgd_virgl_venus_trial(struct virgl *v, char *why, size_t why_bytes);
void vgd_virgl_venus_finish(struct virgl *v);
/** The library's callback: @cookie is the renderer. */
int vgd_virgl_get_server_fd(void *cookie, uint32_t version);
/** The library's callback: @cookie is the renderer. Only notes it. */
void vgd_virgl_write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t seq);
/** Tell the device of what vgd_virgl_write_context_fence has noted. It may call any operation. */
void vgd_virgl_venus_deliver(struct virgl *v);
/** Look for a moment for fences that were just asked for, where nothing else would tell. */
void vgd_virgl_venus_batch_end(struct virgl *v);
/** Make the library's context and learn its process. @text_len at most 64. */
VGD_MUST_CHECK enum vgd_status vgd_virgl_venus_create(struct virgl *v, struct context *ctx,
                                                      const char *text, uint32_t text_len);
/** End the library's context, if it has not ended, and free our side of it. */
void vgd_virgl_venus_destroy(struct virgl *v, struct context *ctx);
enum vgd_status vgd_virgl_venus_fence(struct virgl *v, struct context *ctx, uint8_t ring_idx,
                                      uint64_t seq, bool *out_done);
/** Is the process gone? Then the context is lost from here on. */
bool vgd_virgl_venus_is_lost(struct virgl *v, struct context *ctx);
/** Around each call of the library that may wait for the process of @ctx: one that takes longer
 * than venus_call_ms fails, and costs that process its life. */
void vgd_virgl_venus_begin(struct virgl *v, const struct context *ctx);
void vgd_virgl_venus_end(struct virgl *v, struct context *ctx);

/* virgl_fence.c */
/** When to look next for what has been waited for since @wait_start_ns: from now. */
uint64_t vgd_virgl_look_delay_ns(uint64_t wait_start_ns);
/** The library's callback: @cookie is the renderer. */
void vgd_virgl_write_fence(void *cookie, uint32_t id);
/** A timer's callback: @user is the renderer. */
void vgd_virgl_poll_timer_fired(void *user);
void vgd_virgl_batch_end(struct vgd_render *r);
enum vgd_status vgd_virgl_fence(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx,
                                uint64_t seq, bool *out_done);

/* virgl.c */
extern const struct vgd_render_ops vgd_virgl_ops;
void vgd_virgl_destroy(struct vgd_render *r);
/** The one that exists, or NULL: the library is one instance per process. */
extern struct virgl *vgd_virgl_instance;

#endif
