/* SPDX-License-Identifier: MIT */
#include "egl_choose.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "egl_load.h"
#include "log.h"

#define DRI_FOLDER "/dev/dri"
#define GL_VENDOR_NAME 0x1F00
#define GL_RENDERER_NAME 0x1F01
#define GL_VERSION_NAME 0x1F02
#define GL_DEVICE_UUID_NAME 0x9597 /* GL_EXT_memory_object */

const char *vgd_gl_platform_name(enum vgd_gl_platform platform)
{
    switch (platform) {
    case VGD_GL_AUTO:
        return "auto";
    case VGD_GL_GBM:
        return "gbm";
    case VGD_GL_SURFACELESS:
        return "surfaceless";
    case VGD_GL_DEVICE:
        return "device";
    }
    return "unknown";
}

bool vgd_gl_platform_parse(const char *text, enum vgd_gl_platform *out)
{
    for (enum vgd_gl_platform p = VGD_GL_AUTO; p <= VGD_GL_DEVICE; p++) {
        if (strcmp(text, vgd_gl_platform_name(p)) == 0) {
            *out = p;
            return true;
        }
    }
    return false;
}

void vgd_gl_keep_off_nodes(void)
{
    if (access(DRI_FOLDER, F_OK) == 0) {
        (void)setenv("LIBGL_ALWAYS_SOFTWARE", "1", 1);
        (void)setenv("GBM_ALWAYS_SOFTWARE", "1", 1);
    }
}

bool vgd_gl_is_software(const char *gl_renderer)
{
    static const char *const names[] = {
        "llvmpipe", "softpipe", "swrast", "lavapipe", "Software Rasterizer", "SwiftShader"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasestr(gl_renderer, names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

bool vgd_gl_libraries_present(char *why, size_t why_bytes)
{
    /* libepoxy loads these on first use and aborts when one is missing. They stay loaded: it is
     * about to use them. */
    static const struct {
        const char *library, *package;
    } needed[] = {{"libEGL.so.1", "libegl1"}, {"libGL.so.1", "libgl1"}};
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (dlopen(needed[i].library, RTLD_LAZY | RTLD_LOCAL) == NULL) {
            (void)snprintf(why, why_bytes, "%s is missing: install %s (Debian)", needed[i].library,
                           needed[i].package);
            return false;
        }
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const char *x = a;
    const char *y = b;
    size_t x_len = strlen(x);
    size_t y_len = strlen(y);
    return x_len != y_len ? (x_len > y_len) - (x_len < y_len) : strcmp(x, y); /* renderD128.. */
}

uint32_t vgd_render_nodes_list(char names[VGD_RENDER_NODES_MAX][64])
{
    DIR *dir = opendir(DRI_FOLDER);
    if (dir == NULL) {
        return 0;
    }
    uint32_t n = 0;
    const struct dirent *entry;
    while (n < VGD_RENDER_NODES_MAX && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "renderD", strlen("renderD")) == 0 &&
            strlen(entry->d_name) < 32) {
            (void)snprintf(names[n++], 64, DRI_FOLDER "/%.32s", entry->d_name);
        }
    }
    (void)closedir(dir);
    qsort(names, n, 64, compare_names);
    return n;
}

void vgd_render_node_driver(const char *node, char *out, size_t out_bytes)
{
    out[0] = '\0';
    const char *name = strrchr(node, '/');
    char path[128];
    char target[256];
    if (name == NULL || snprintf(path, sizeof(path), "/sys/class/drm/%s/device/driver", name + 1) >=
                            (int)sizeof(path)) {
        return;
    }
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n <= 0) {
        return;
    }
    target[n] = '\0';
    const char *driver = strrchr(target, '/');
    (void)snprintf(out, out_bytes, "%s", driver != NULL ? driver + 1 : target);
}

bool vgd_egl_load(struct vgd_egl *egl)
{
    *egl = (struct vgd_egl){0};
    void *lib = dlopen("libEGL.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (lib == NULL) {
        return false;
    }
    vgd_dl_function(lib, "eglGetProcAddress", &egl->get_proc);
    if (egl->get_proc == NULL) {
        return false;
    }
    vgd_dl_function(lib, "eglQueryString", &egl->query_string);
    vgd_dl_function(lib, "eglInitialize", &egl->initialize);
    vgd_dl_function(lib, "eglBindAPI", &egl->bind_api);
    vgd_dl_function(lib, "eglChooseConfig", &egl->choose_config);
    vgd_dl_function(lib, "eglCreateContext", &egl->create_context);
    vgd_dl_function(lib, "eglDestroyContext", &egl->destroy_context);
    vgd_dl_function(lib, "eglMakeCurrent", &egl->make_current);
    vgd_dl_function(lib, "eglGetCurrentContext", &egl->current_context);
    egl->get_platform_display =
        (PFNEGLGETPLATFORMDISPLAYEXTPROC)egl->get_proc("eglGetPlatformDisplayEXT");
    egl->query_devices = (PFNEGLQUERYDEVICESEXTPROC)egl->get_proc("eglQueryDevicesEXT");
    return egl->query_string != NULL && egl->initialize != NULL && egl->bind_api != NULL &&
           egl->choose_config != NULL && egl->create_context != NULL &&
           egl->destroy_context != NULL && egl->make_current != NULL &&
           egl->current_context != NULL && egl->get_platform_display != NULL;
}

static void copy_text(char *out, size_t out_bytes, const void *text)
{
    (void)snprintf(out, out_bytes, "%s", text != NULL ? (const char *)text : "");
}

static EGLDisplay gbm_display(const struct vgd_egl *egl, const char *render_node,
                              struct vgd_gl_trial *t)
{
    int fd = open(render_node, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(t->reason, sizeof(t->reason), "cannot open %s: %s", render_node,
                       strerror(errno));
        return EGL_NO_DISPLAY;
    }
    void *lib = dlopen("libgbm.so.1", RTLD_LAZY | RTLD_LOCAL);
    void *(*create_device)(int) = NULL;
    if (lib != NULL) {
        vgd_dl_function(lib, "gbm_create_device", &create_device);
    }
    void *device = create_device != NULL ? create_device(fd) : NULL;
    if (device == NULL) {
        copy_text(t->reason, sizeof(t->reason), "no GBM device");
        return EGL_NO_DISPLAY; /* the fd goes with the process */
    }
    return egl->get_platform_display(EGL_PLATFORM_GBM_KHR, device, NULL);
}

static EGLDisplay device_display(const struct vgd_egl *egl, int device_idx, struct vgd_gl_trial *t)
{
    EGLDeviceEXT devices[VGD_EGL_DEVICES_MAX];
    EGLint n = 0;
    if (egl->query_devices == NULL || !egl->query_devices(VGD_EGL_DEVICES_MAX, devices, &n) ||
        device_idx < 0 || device_idx >= n) {
        copy_text(t->reason, sizeof(t->reason), "no such EGL device");
        return EGL_NO_DISPLAY;
    }
    return egl->get_platform_display(EGL_PLATFORM_DEVICE_EXT, devices[device_idx], NULL);
}

typedef const unsigned char *(*get_string_fn)(unsigned name);
typedef void (*get_bytes_fn)(unsigned name, unsigned index, uint8_t *out);

/* Make a context of @api current; false if that is not to be had. */
static bool bring_up(const struct vgd_egl *egl, EGLDisplay display, EGLenum api)
{
    static const EGLint es[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
    if (!egl->bind_api(api)) {
        return false;
    }
    EGLContext context = egl->create_context(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT,
                                             api == EGL_OPENGL_ES_API ? es : NULL);
    return context != EGL_NO_CONTEXT &&
           egl->make_current(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context);
}

static void try_in_child(enum vgd_gl_platform platform, const char *render_node, int device_idx,
                         struct vgd_gl_trial *t)
{
    struct vgd_egl egl;
    if (!vgd_egl_load(&egl)) {
        copy_text(t->reason, sizeof(t->reason), "libEGL.so.1 cannot be loaded");
        return;
    }
    EGLDisplay display = EGL_NO_DISPLAY;
    switch (platform) {
    case VGD_GL_GBM:
        display = gbm_display(&egl, render_node, t);
        break;
    case VGD_GL_DEVICE:
        display = device_display(&egl, device_idx, t);
        break;
    case VGD_GL_AUTO:
    case VGD_GL_SURFACELESS:
        vgd_gl_keep_off_nodes();
        display =
            egl.get_platform_display(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
        break;
    }
    if (display == EGL_NO_DISPLAY) {
        if (t->reason[0] == '\0') {
            copy_text(t->reason, sizeof(t->reason), "no EGL display");
        }
        return;
    }
    if (!egl.initialize(display, NULL, NULL)) {
        copy_text(t->reason, sizeof(t->reason), "eglInitialize failed");
        return;
    }
    copy_text(t->egl_vendor, sizeof(t->egl_vendor), egl.query_string(display, EGL_VENDOR));
    copy_text(t->egl_version, sizeof(t->egl_version), egl.query_string(display, EGL_VERSION));
    copy_text(t->client_apis, sizeof(t->client_apis), egl.query_string(display, EGL_CLIENT_APIS));
    const char *extensions = egl.query_string(display, EGL_EXTENSIONS);
    t->dmabuf_export =
        extensions != NULL && strstr(extensions, "EGL_MESA_image_dma_buf_export") != NULL;
    get_string_fn get_string = (get_string_fn)egl.get_proc("glGetString");
    if (get_string == NULL) {
        copy_text(t->reason, sizeof(t->reason), "no glGetString");
        return;
    }
    if (bring_up(&egl, display, EGL_OPENGL_ES_API)) {
        copy_text(t->es_version, sizeof(t->es_version), get_string(GL_VERSION_NAME));
    }
    if (!bring_up(&egl, display, EGL_OPENGL_API)) {
        copy_text(t->reason, sizeof(t->reason), "no desktop OpenGL context");
        return;
    }
    copy_text(t->gl_renderer, sizeof(t->gl_renderer), get_string(GL_RENDERER_NAME));
    copy_text(t->gl_version, sizeof(t->gl_version), get_string(GL_VERSION_NAME));
    t->is_software = vgd_gl_is_software(t->gl_renderer);
    get_bytes_fn get_bytes = (get_bytes_fn)egl.get_proc("glGetUnsignedBytei_vEXT");
    if (get_bytes != NULL) {
        get_bytes(GL_DEVICE_UUID_NAME, 0, t->device_uuid); /* an error leaves the zeros */
    }
    t->ok = true;
}

/* What a child is asked. */
struct question {
    enum vgd_gl_platform platform;
    const char *render_node;
    int device_idx;
};

static void answer_trial(const void *question, void *answer)
{
    const struct question *q = question;
    try_in_child(q->platform, q->render_node, q->device_idx, answer);
}

static void answer_device_count(const void *question, void *answer)
{
    (void)question;
    struct vgd_egl egl;
    EGLint n = 0;
    if (vgd_egl_load(&egl) && egl.query_devices != NULL && egl.query_devices(0, NULL, &n)) {
        uint32_t count = n < VGD_EGL_DEVICES_MAX ? (uint32_t)n : VGD_EGL_DEVICES_MAX;
        memcpy(answer, &count, sizeof(count));
    }
}

void vgd_gl_try(enum vgd_gl_platform platform, const char *render_node, int device_idx,
                struct vgd_gl_trial *out)
{
    struct question q = {
        .platform = platform, .render_node = render_node, .device_idx = device_idx};
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_trial, &q, out, sizeof(*out), VGD_GL_TRY_DEADLINE_MS, reason)) {
        copy_text(out->reason, sizeof(out->reason), reason);
    }
}

uint32_t vgd_egl_device_count(void)
{
    uint32_t n = 0;
    char reason[VGD_CHILD_REASON_BYTES];
    (void)vgd_child_ask(answer_device_count, NULL, &n, sizeof(n), VGD_GL_TRY_DEADLINE_MS, reason);
    return n;
}

/* NVIDIA's driver without a DRM node is the one GPU that shows nowhere under DRI_FOLDER. */
static bool other_gpu_present(void)
{
    return access("/dev/nvidiactl", F_OK) == 0;
}

/* Does the node itself render? One whose GL is our own CPU's (vgem, virtio-gpu without 3D) does
 * not: surfaceless gives the same with no node open. A guest's virgl does, whatever renders for it.
 */
static bool renders(const struct vgd_gl_trial *t)
{
    return t->ok && (!t->is_software || strncmp(t->gl_renderer, "virgl", strlen("virgl")) == 0);
}

/* The first node that renders. */
static bool choose_node(struct vgd_gl_choice *out, char *tried, size_t tried_bytes)
{
    char nodes[VGD_RENDER_NODES_MAX][64];
    uint32_t n = vgd_render_nodes_list(nodes);
    size_t used = 0;
    tried[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_gl_trial t;
        char driver[32];
        vgd_render_node_driver(nodes[i], driver, sizeof(driver));
        vgd_gl_try(VGD_GL_GBM, nodes[i], -1, &t);
        if (renders(&t)) {
            out->platform = VGD_GL_GBM;
            (void)snprintf(out->render_node, sizeof(out->render_node), "%.63s", nodes[i]);
            (void)snprintf(out->why, sizeof(out->why), "first usable render node (%s, %.100s)",
                           driver[0] != '\0' ? driver : "unknown driver", t.gl_renderer);
            return true;
        }
        const char *reason = t.ok ? "software GL only" : t.reason;
        vgd_log(VGD_LOG_INFO, "render", "%s (%s) is not usable: %s", nodes[i], driver, reason);
        if (used < tried_bytes) {
            int len = snprintf(tried + used, tried_bytes - used, "%s%.40s: %.60s",
                               used > 0 ? "; " : "", nodes[i], reason);
            used += len > 0 ? (size_t)len : 0;
        }
    }
    return false;
}

static bool choose_surfaceless(struct vgd_gl_choice *out, const char *tried)
{
    out->platform = VGD_GL_SURFACELESS;
    if (access(DRI_FOLDER, F_OK) != 0 && !other_gpu_present()) {
        /* Nothing but software can come of it, and Mesa has no node to open. */
        (void)snprintf(out->why, sizeof(out->why), "no render node: surfaceless EGL");
        return true;
    }
    struct vgd_gl_trial t;
    vgd_gl_try(VGD_GL_SURFACELESS, NULL, -1, &t);
    if (!t.ok) {
        vgd_log(VGD_LOG_INFO, "render", "surfaceless EGL is not usable: %s", t.reason);
        return false;
    }
    (void)snprintf(out->why, sizeof(out->why), "%s%.120s%ssurfaceless EGL (%.80s)",
                   tried[0] != '\0' ? "no usable render node (" : "", tried,
                   tried[0] != '\0' ? "): " : "", t.gl_renderer);
    return true;
}

static bool choose_device(struct vgd_gl_choice *out)
{
    uint32_t n = vgd_egl_device_count();
    int software_idx = -1;
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_gl_trial t;
        vgd_gl_try(VGD_GL_DEVICE, NULL, (int)i, &t);
        if (renders(&t)) {
            out->device_idx = (int)i;
            break;
        }
        if (t.ok && software_idx < 0) {
            software_idx = (int)i;
        }
    }
    if (out->device_idx < 0) {
        out->device_idx = software_idx;
    }
    if (out->device_idx < 0) {
        return false;
    }
    out->platform = VGD_GL_DEVICE;
    (void)snprintf(out->why, sizeof(out->why), "EGL device %d", out->device_idx);
    return true;
}

enum vgd_status vgd_gl_choose(const char *render_node, enum vgd_gl_platform wanted,
                              struct vgd_gl_choice *out, char *why, size_t why_bytes)
{
    struct vgd_gl_choice c = {.device_idx = -1};
    char tried[160] = "";
    if (render_node != NULL && render_node[0] != '\0') {
        if (wanted != VGD_GL_AUTO && wanted != VGD_GL_GBM) {
            (void)snprintf(why, why_bytes, "a render node is used by platform gbm, not by %s",
                           vgd_gl_platform_name(wanted));
            return VGD_HOST_FAILED;
        }
        c.platform = VGD_GL_GBM;
        if (snprintf(c.render_node, sizeof(c.render_node), "%s", render_node) >=
            (int)sizeof(c.render_node)) {
            (void)snprintf(why, why_bytes, "the render node's path is too long");
            return VGD_HOST_FAILED;
        }
        if (access(render_node, R_OK | W_OK) != 0) {
            (void)snprintf(why, why_bytes, "cannot use render node %s: %s", render_node,
                           errno == EACCES ? "permission denied (is the user in group render?)"
                                           : strerror(errno));
            return VGD_HOST_FAILED;
        }
        (void)snprintf(c.why, sizeof(c.why), "render node was named");
        *out = c;
        return VGD_OK;
    }
    if ((wanted == VGD_GL_AUTO || wanted == VGD_GL_GBM) && choose_node(&c, tried, sizeof(tried))) {
        *out = c;
        return VGD_OK;
    }
    if ((wanted == VGD_GL_AUTO || wanted == VGD_GL_SURFACELESS) && choose_surfaceless(&c, tried)) {
        *out = c;
        return VGD_OK;
    }
    if ((wanted == VGD_GL_AUTO || wanted == VGD_GL_DEVICE) && choose_device(&c)) {
        *out = c;
        return VGD_OK;
    }
    (void)snprintf(why, why_bytes,
                   "no usable OpenGL by platform %s%s%s (install libgl1-mesa-dri and libegl1 for "
                   "software GL)",
                   vgd_gl_platform_name(wanted), tried[0] != '\0' ? ": " : "", tried);
    return VGD_HOST_FAILED;
}
