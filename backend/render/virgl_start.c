/* SPDX-License-Identifier: MIT */
/* Starting virglrenderer on the GPU that was chosen, and learning what it can do. */
#include "virgl_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

#define LOG_LINES_PER_SECOND 20u

static struct virgl_renderer_callbacks lib_callbacks;

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

/* What OpenGL needs before the library starts; adds to *flags. */
static bool prepare_gl(struct virgl *v, int *flags, char *why, size_t why_bytes)
{
    switch (v->choice.platform) {
    case VGD_GL_GBM:
        v->drm_fd = open(v->choice.render_node, O_RDWR | O_CLOEXEC);
        if (v->drm_fd < 0) {
            (void)snprintf(why, why_bytes, "cannot open render node %s: %s", v->choice.render_node,
                           strerror(errno));
            return false;
        }
        *flags |= VIRGL_RENDERER_USE_EGL;
        break;
    case VGD_GL_AUTO:
    case VGD_GL_SURFACELESS:
        vgd_gl_keep_off_nodes();
        if (access("/dev/dri", F_OK) == 0) {
            /* Without an fd the library opens the first render node for GBM, which surfaceless
             * does not need. This one gives it a GBM device that can do nothing. */
            v->drm_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        }
        *flags |= VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS;
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
    return true;
}

static bool init_library(struct virgl *v, char *why, size_t why_bytes)
{
    /* Guests get blobs, and blobs may have to be mapped by the VMM. The flag keeps the library from
     * offering those that only this process can map. */
    int flags = VIRGL_RENDERER_USE_EXTERNAL_BLOB;
    lib_callbacks = (struct virgl_renderer_callbacks){
        .version = 3,
        .write_fence = vgd_virgl_write_fence,
        .get_drm_fd = lib_get_drm_fd,
        .write_context_fence = vgd_virgl_write_context_fence,
        .get_server_fd = vgd_virgl_get_server_fd,
    };
    if (!v->has_gl) {
        flags |= VIRGL_RENDERER_NO_VIRGL;
    } else if (!prepare_gl(v, &flags, why, why_bytes)) {
        return false;
    }
    if (v->has_venus) {
        flags |= VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER;
        /* A descriptor for each Vulkan context that tells of fences. With OpenGL the flag would
         * also make a thread for OpenGL's fences, and that one loses a fence for good when a
         * context is destroyed while it waits for another's. */
        flags |= v->has_gl ? 0 : VIRGL_RENDERER_THREAD_SYNC;
    }
    (void)virgl_set_debug_callback(lib_log);
    int rc = virgl_renderer_init(v, flags, &lib_callbacks);
    if (rc != 0 && v->has_gl) {
        (void)snprintf(why, why_bytes,
                       "virglrenderer cannot start on %s%s%s (error %d): --probe shows what this "
                       "host can do",
                       vgd_gl_platform_name(v->choice.platform),
                       v->choice.render_node[0] != '\0' ? " " : "", v->choice.render_node, rc);
    } else if (rc != 0) {
        (void)snprintf(
            why, why_bytes,
            "virglrenderer cannot start for Vulkan (error %d): is virgl_render_server of "
            "the same version as libvirglrenderer (package virgl-server)?",
            rc);
    }
    return rc == 0;
}

static void learn_gpu(struct virgl *v)
{
    typedef const unsigned char *(*get_string_fn)(unsigned name);
    get_string_fn get_string = (get_string_fn)v->egl.get_proc("glGetString");
    const unsigned char *renderer =
        get_string != NULL ? get_string(0x1F01 /* GL_RENDERER */) : NULL;
    (void)snprintf(v->gpu_name, sizeof(v->gpu_name), "%s",
                   renderer != NULL ? (const char *)renderer : "");
}

static void learn_capsets(struct virgl *v)
{
    /* The library lists some that were never initialised. */
    const struct {
        uint32_t id;
        bool works;
    } capsets[] = {{VGD_CAPSET_VIRGL, v->has_gl},
                   {VGD_CAPSET_VIRGL2, v->has_gl},
                   {VGD_CAPSET_VENUS, v->has_venus}};
    for (size_t i = 0; i < sizeof(capsets) / sizeof(capsets[0]); i++) {
        uint32_t version = 0;
        uint32_t size_bytes = 0;
        virgl_renderer_get_cap_set(capsets[i].id, &version, &size_bytes);
        if (capsets[i].works && size_bytes > 0) {
            v->capsets[v->n_capsets++] = (struct vgd_capset){
                .id = capsets[i].id, .max_version = version, .size_bytes = size_bytes};
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
    if (vgd_virgl_export_texture(PROBE_RESOURCE_ID, 64, 64, &buffer) == VGD_OK) {
        vgd_fd_closep(&buffer.fd);
        v->exports_textures = true;
    }
    virgl_renderer_resource_unref(PROBE_RESOURCE_ID);
}

/* Everything that goes wrong with OpenGL before the library is asked. */
static enum vgd_status choose_gl(struct virgl *v, const struct vgd_virgl_options *options,
                                 char *why, size_t why_bytes)
{
    if (!vgd_gl_libraries_present(why, why_bytes)) {
        return VGD_HOST_FAILED;
    }
    if (!vgd_egl_load(&v->egl)) {
        (void)snprintf(why, why_bytes, "libEGL.so.1 is too old: EGL 1.4 with platforms is needed");
        return VGD_HOST_FAILED;
    }
    if (options->choice != NULL) {
        v->choice = *options->choice;
        return VGD_OK;
    }
    return vgd_gl_choose(options->render_node, options->platform, &v->choice, why, why_bytes);
}

/* Once the library runs: what does each half really do? */
static enum vgd_status learn(struct virgl *v, const struct vgd_virgl_options *options, char *why,
                             size_t why_bytes)
{
    if (v->has_venus && !vgd_virgl_venus_trial(v, why, why_bytes)) {
        v->has_venus = false;
        if (!v->has_gl) {
            return VGD_HOST_FAILED;
        }
    }
    if (v->has_gl) {
        learn_gpu(v);
        v->gl_is_software = vgd_gl_is_software(v->gpu_name);
        v->is_software = v->gl_is_software;
        learn_export(v);
    }
    if (v->has_venus && options->vulkan != NULL) {
        (void)snprintf(v->vulkan_name, sizeof(v->vulkan_name), "%s", options->vulkan->name);
        v->is_software = v->is_software || options->vulkan->is_software;
    }
    if (v->is_software && options->require_hardware) {
        (void)snprintf(why, why_bytes,
                       "only software rendering here (%s) and hardware is required: name a GPU "
                       "with --render-node, or allow software",
                       v->has_gl ? v->gpu_name : v->vulkan_name);
        return VGD_HOST_FAILED;
    }
    learn_capsets(v);
    return VGD_OK;
}

static void log_start(const struct virgl *v, uint64_t start_ns)
{
    unsigned long long ms = (vgd_now_ns() - start_ns) / 1000000u;
    const char *loud = v->is_software ? "SOFTWARE RENDERING, no GPU is used: " : "";
    enum vgd_log_level level = v->is_software ? VGD_LOG_WARNING : VGD_LOG_INFO;
    if (v->has_gl) {
        vgd_log(level, "render", "%s%s by %s%s%s (%s); dma-buf scanout: %s; ready in %llu ms", loud,
                v->gpu_name, vgd_gl_platform_name(v->choice.platform),
                v->choice.render_node[0] != '\0' ? " " : "", v->choice.render_node, v->choice.why,
                v->exports_textures ? "yes" : "no", ms);
    }
    if (v->has_venus) {
        vgd_log(level, "render", "%sVulkan for the guest on %s; ready in %llu ms", loud,
                v->vulkan_name, ms);
    }
}

enum vgd_status vgd_virgl_create(const struct vgd_virgl_options *options, struct vgd_render **out,
                                 char *why, size_t why_bytes)
{
    uint64_t start_ns = vgd_now_ns();
    why[0] = '\0';
    if (vgd_virgl_instance != NULL) {
        (void)snprintf(why, why_bytes, "virglrenderer is already running in this process");
        return VGD_HOST_FAILED;
    }
    struct virgl *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return VGD_NO_MEMORY;
    }
    v->base.ops = &vgd_virgl_ops;
    v->callbacks = options->callbacks;
    v->loop = options->loop;
    v->drm_fd = v->server_fd = v->server_socket_fd = -1;
    v->has_gl = options->want_virgl;
    v->venus_call_ms = options->vulkan_call_ms != 0 ? options->vulkan_call_ms : VGD_VULKAN_CALL_MS;
    v->poll_timer = vgd_timer_create(options->loop, vgd_virgl_poll_timer_fired, v);
    enum vgd_status st = v->poll_timer != NULL ? VGD_OK : VGD_NO_MEMORY;
    if (st == VGD_OK && v->has_gl) {
        st = choose_gl(v, options, why, why_bytes);
    }
    if (st == VGD_OK && options->vulkan != NULL) {
        v->has_venus = vgd_virgl_venus_prepare(v, options->server_fd, why, why_bytes);
    }
    if (st == VGD_OK && !v->has_gl && !v->has_venus) {
        st = VGD_HOST_FAILED;
    }
    if (st == VGD_OK && !init_library(v, why, why_bytes)) {
        bool retry = v->has_gl && v->has_venus; /* OpenGL alone may do */
        v->has_venus = false;
        vgd_virgl_venus_finish(v);
        vgd_fd_closep(&v->drm_fd);
        st = retry && init_library(v, why, why_bytes) ? VGD_OK : VGD_HOST_FAILED;
        if (st == VGD_OK) {
            (void)snprintf(
                why, why_bytes,
                "the render server ended at once: is virgl_render_server of the same version "
                "as libvirglrenderer (package virgl-server)?");
        }
    }
    if (st != VGD_OK) {
        vgd_virgl_venus_finish(v);
        vgd_fd_closep(&v->drm_fd);
        vgd_timer_destroy(&v->poll_timer);
        free(v);
        return st;
    }
    vgd_virgl_instance = v;
    st = learn(v, options, why, why_bytes);
    if (st != VGD_OK) {
        vgd_virgl_destroy(&v->base);
        return st;
    }
    log_start(v, start_ns);
    *out = &v->base;
    return VGD_OK;
}
