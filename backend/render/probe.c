/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if __has_include(<vulkan/vulkan_core.h>)
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>
#define HAVE_VULKAN_HEADERS 1
#else
#define HAVE_VULKAN_HEADERS 0
#endif

#include "child.h"
#include "egl_load.h"
#include "fd.h"
#include "log.h"
#include "loop.h"
#include "virgl.h"

#define PROBE_VERSION 1 /* of the JSON */
#define VIRGL_DEADLINE_MS 20000
#define VULKAN_DEADLINE_MS 10000
#define VULKAN_DEVICES_MAX 8u
#define REASON_BYTES 256u

/* What was found out, before it is written either way. */

struct node_report {
    char path[64], driver[32];
    char denied[64]; /* why the node cannot be opened; "" if it can */
    struct vgd_gl_trial trial;
};

struct vulkan_device {
    char name[128], driver[128], type[16];
    uint32_t api_version;
    bool dma_buf, memory_fd, host_memory;
};

struct vulkan_report {
    bool ok;
    char reason[REASON_BYTES];
    uint32_t n_devices;
    struct vulkan_device devices[VULKAN_DEVICES_MAX];
};

struct virgl_report {
    bool ok;
    char reason[REASON_BYTES];
    char gpu_name[128];
    bool is_software, exports_dmabuf;
    uint32_t n_capsets;
    struct vgd_capset capsets[VGD_RENDER_CAPSETS_MAX];
    uint64_t start_us, private_dirty_kib;
};

struct report {
    uint32_t n_nodes;
    struct node_report nodes[VGD_RENDER_NODES_MAX];
    struct vgd_gl_trial surfaceless;
    uint32_t n_devices;
    struct vgd_gl_trial devices[VGD_EGL_DEVICES_MAX];
    struct vulkan_report vulkan;
    char udmabuf[REASON_BYTES]; /* "" when it can be used */
    char libraries[REASON_BYTES];
    enum vgd_status chosen;
    struct vgd_gl_choice choice;
    struct virgl_report virgl;
};

/* Private_Dirty of this process. */
static uint64_t private_dirty_kib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    if (f == NULL) {
        return 0;
    }
    char line[128];
    uint64_t kib = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "Private_Dirty:", strlen("Private_Dirty:")) == 0) {
            kib = strtoull(line + strlen("Private_Dirty:"), NULL, 10);
        }
    }
    (void)fclose(f);
    return kib;
}

static void no_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user;
    (void)ctx_id;
    (void)ring_idx;
    (void)seq;
}

static void no_loss(void *user, uint32_t ctx_id)
{
    (void)user;
    (void)ctx_id;
}

/* In a child: start the renderer for real. */
static void answer_virgl(const void *question, void *answer)
{
    struct virgl_report *report = answer;
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .choice = question,
        .loop = vgd_loop_create(),
        .callbacks = {.fence_done = no_fence, .context_lost = no_loss},
    };
    if (options.loop == NULL) {
        (void)snprintf(report->reason, sizeof(report->reason), "out of fds");
        return;
    }
    uint64_t before_kib = private_dirty_kib();
    uint64_t start_ns = vgd_now_ns();
    struct vgd_render *r = NULL;
    report->ok = vgd_virgl_create(&options, &r, report->reason, sizeof(report->reason)) == VGD_OK;
    report->start_us = (vgd_now_ns() - start_ns) / 1000u;
    if (!report->ok) {
        return;
    }
    report->private_dirty_kib = private_dirty_kib() - before_kib;
    struct vgd_render_info info;
    r->ops->info(r, &info);
    (void)snprintf(report->gpu_name, sizeof(report->gpu_name), "%s", info.gpu_name);
    report->is_software = info.is_software;
    report->exports_dmabuf = info.exports_dmabuf;
    report->n_capsets = info.n_capsets;
    memcpy(report->capsets, info.capsets, sizeof(report->capsets));
}

#if HAVE_VULKAN_HEADERS
static const char *device_type(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "cpu";
    default:
        return "other";
    }
}

struct vulkan {
    PFN_vkGetInstanceProcAddr get_proc;
    VkInstance instance;
};

#define VULKAN_FUNCTION(vk, name) ((PFN_##name)(vk)->get_proc((vk)->instance, #name))

static void device_extensions(const struct vulkan *vk, VkPhysicalDevice device,
                              struct vulkan_device *out)
{
    PFN_vkEnumerateDeviceExtensionProperties enumerate =
        VULKAN_FUNCTION(vk, vkEnumerateDeviceExtensionProperties);
    uint32_t n = 0;
    if (enumerate == NULL || enumerate(device, NULL, &n, NULL) != VK_SUCCESS || n == 0) {
        return;
    }
    VkExtensionProperties *list = calloc(n, sizeof(*list));
    if (list != NULL && enumerate(device, NULL, &n, list) >= VK_SUCCESS) {
        for (uint32_t i = 0; i < n; i++) {
            const char *name = list[i].extensionName;
            out->dma_buf |= strcmp(name, "VK_EXT_external_memory_dma_buf") == 0;
            out->memory_fd |= strcmp(name, "VK_KHR_external_memory_fd") == 0;
            out->host_memory |= strcmp(name, "VK_EXT_external_memory_host") == 0;
        }
    }
    free(list);
}

static void describe_device(const struct vulkan *vk, VkPhysicalDevice device,
                            struct vulkan_device *out)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
    PFN_vkGetPhysicalDeviceProperties2 get = VULKAN_FUNCTION(vk, vkGetPhysicalDeviceProperties2);
    if (get == NULL) {
        return;
    }
    get(device, &properties);
    (void)snprintf(out->name, sizeof(out->name), "%.127s", properties.properties.deviceName);
    (void)snprintf(out->type, sizeof(out->type), "%s",
                   device_type(properties.properties.deviceType));
    (void)snprintf(out->driver, sizeof(out->driver), "%.60s %.60s", driver.driverName,
                   driver.driverInfo);
    out->api_version = properties.properties.apiVersion;
    device_extensions(vk, device, out);
}

static void answer_vulkan(const void *question, void *answer)
{
    (void)question;
    struct vulkan_report *report = answer;
    struct vulkan vk = {0};
    void *lib = dlopen("libvulkan.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (lib == NULL) {
        (void)snprintf(report->reason, sizeof(report->reason),
                       "libvulkan.so.1 is missing: install libvulkan1 (Debian)");
        return;
    }
    vgd_dl_function(lib, "vkGetInstanceProcAddr", &vk.get_proc);
    PFN_vkCreateInstance create =
        vk.get_proc != NULL ? VULKAN_FUNCTION(&vk, vkCreateInstance) : NULL;
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "vgd",
                                   .apiVersion = VK_API_VERSION_1_2};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pApplicationInfo = &app};
    if (create == NULL || create(&info, NULL, &vk.instance) != VK_SUCCESS) {
        (void)snprintf(report->reason, sizeof(report->reason),
                       "no Vulkan driver: install mesa-vulkan-drivers (Debian)");
        return;
    }
    PFN_vkEnumeratePhysicalDevices enumerate = VULKAN_FUNCTION(&vk, vkEnumeratePhysicalDevices);
    VkPhysicalDevice devices[VULKAN_DEVICES_MAX];
    uint32_t n = VULKAN_DEVICES_MAX;
    if (enumerate == NULL || enumerate(vk.instance, &n, devices) < VK_SUCCESS) {
        (void)snprintf(report->reason, sizeof(report->reason), "devices cannot be listed");
        return;
    }
    report->ok = true;
    report->n_devices = n;
    for (uint32_t i = 0; i < n; i++) {
        describe_device(&vk, devices[i], &report->devices[i]);
    }
}
#else
static void answer_vulkan(const void *question, void *answer)
{
    (void)question;
    struct vulkan_report *report = answer;
    (void)snprintf(report->reason, sizeof(report->reason), "this build has no Vulkan headers");
}
#endif

static void probe_vulkan(struct report *rep)
{
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_vulkan, NULL, &rep->vulkan, sizeof(rep->vulkan), VULKAN_DEADLINE_MS,
                       reason)) {
        (void)snprintf(rep->vulkan.reason, sizeof(rep->vulkan.reason), "%s", reason);
    }
}

static bool is_named(const struct vgd_probe_options *options)
{
    return options->render_node != NULL && options->render_node[0] != '\0';
}

static void probe_nodes(const struct vgd_probe_options *options, struct report *rep)
{
    char paths[VGD_RENDER_NODES_MAX][64];
    uint32_t n;
    if (is_named(options)) {
        n = 1; /* the only one that is opened, wherever it lies */
        (void)snprintf(paths[0], sizeof(paths[0]), "%.63s", options->render_node);
    } else {
        n = vgd_render_nodes_list(paths);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct node_report *node = &rep->nodes[rep->n_nodes++];
        memcpy(node->path, paths[i], sizeof(node->path));
        vgd_render_node_driver(node->path, node->driver, sizeof(node->driver));
        if (access(node->path, R_OK | W_OK) != 0) {
            (void)snprintf(node->denied, sizeof(node->denied), "%s", strerror(errno));
        } else {
            vgd_gl_try(VGD_GL_GBM, node->path, -1, &node->trial);
        }
    }
}

static void probe_udmabuf(struct report *rep)
{
    VGD_AUTO_FD fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(rep->udmabuf, sizeof(rep->udmabuf), "%s",
                       errno == ENOENT ? "no /dev/udmabuf: load the kernel module udmabuf"
                                       : strerror(errno));
    }
}

static void probe_virgl(const struct vgd_probe_options *options, struct report *rep)
{
    struct virgl_report *virgl = &rep->virgl;
    if (rep->libraries[0] != '\0') {
        memcpy(virgl->reason, rep->libraries, sizeof(virgl->reason));
        rep->chosen = VGD_HOST_FAILED;
        return;
    }
    char why[REASON_BYTES] = "";
    rep->chosen =
        vgd_gl_choose(options->render_node, options->platform, &rep->choice, why, sizeof(why));
    if (rep->chosen != VGD_OK) {
        memcpy(virgl->reason, why, sizeof(virgl->reason));
        return;
    }
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_virgl, &rep->choice, virgl, sizeof(*virgl), VIRGL_DEADLINE_MS,
                       reason)) {
        (void)snprintf(virgl->reason, sizeof(virgl->reason), "virglrenderer %s", reason);
    }
    if (virgl->ok && virgl->is_software && options->require_hardware) {
        virgl->ok = false;
        (void)snprintf(virgl->reason, sizeof(virgl->reason),
                       "only software GL here (%.128s) and hardware is required", virgl->gpu_name);
    }
}

static void probe_all(const struct vgd_probe_options *options, struct report *rep)
{
    probe_nodes(options, rep);
    if (!is_named(options)) {
        /* These open whatever nodes the vendor's library likes. */
        vgd_gl_try(VGD_GL_SURFACELESS, NULL, -1, &rep->surfaceless);
        rep->n_devices = vgd_egl_device_count();
        for (uint32_t i = 0; i < rep->n_devices; i++) {
            vgd_gl_try(VGD_GL_DEVICE, NULL, (int)i, &rep->devices[i]);
        }
        probe_vulkan(rep);
    } else {
        static const char skipped[] = "not tried: a render node was named";
        memcpy(rep->surfaceless.reason, skipped, sizeof(skipped));
        memcpy(rep->vulkan.reason, skipped, sizeof(skipped));
    }
    probe_udmabuf(rep);
    (void)vgd_gl_libraries_present(rep->libraries, sizeof(rep->libraries));
    probe_virgl(options, rep);
}

/* JSON. */

static void add_text(struct json_object *o, const char *key, const char *value)
{
    (void)json_object_object_add(o, key, json_object_new_string(value));
}

static void add_bool(struct json_object *o, const char *key, bool value)
{
    (void)json_object_object_add(o, key, json_object_new_boolean(value));
}

static void add_number(struct json_object *o, const char *key, uint64_t value)
{
    (void)json_object_object_add(o, key, json_object_new_int64((int64_t)value));
}

static struct json_object *add_object(struct json_object *o, const char *key)
{
    struct json_object *child = json_object_new_object();
    (void)json_object_object_add(o, key, child);
    return child;
}

static struct json_object *add_array(struct json_object *o, const char *key)
{
    struct json_object *child = json_object_new_array();
    (void)json_object_object_add(o, key, child);
    return child;
}

static struct json_object *append_object(struct json_object *array)
{
    struct json_object *child = json_object_new_object();
    (void)json_object_array_add(array, child);
    return child;
}

static void json_trial(struct json_object *o, const struct vgd_gl_trial *t)
{
    add_bool(o, "usable", t->ok);
    if (!t->ok) {
        add_text(o, "reason", t->reason);
        return;
    }
    add_bool(o, "software", t->is_software);
    add_text(o, "egl_vendor", t->egl_vendor);
    add_text(o, "egl_version", t->egl_version);
    add_text(o, "client_apis", t->client_apis);
    add_text(o, "gl_renderer", t->gl_renderer);
    add_text(o, "gl_version", t->gl_version);
    add_text(o, "es_version", t->es_version);
    add_bool(o, "dmabuf_export_extension", t->dmabuf_export);
}

static void json_vulkan(struct json_object *root, const struct vulkan_report *vulkan)
{
    struct json_object *o = add_object(root, "vulkan");
    add_bool(o, "usable", vulkan->ok);
    add_text(o, "reason", vulkan->reason);
    struct json_object *devices = add_array(o, "devices");
    for (uint32_t i = 0; i < vulkan->n_devices; i++) {
        const struct vulkan_device *d = &vulkan->devices[i];
        struct json_object *device = append_object(devices);
        char version[32];
        (void)snprintf(version, sizeof(version), "%u.%u.%u", (d->api_version >> 22) & 0x7fu,
                       (d->api_version >> 12) & 0x3ffu, d->api_version & 0xfffu);
        add_text(device, "name", d->name);
        add_text(device, "type", d->type);
        add_text(device, "driver", d->driver);
        add_text(device, "api_version", version);
        add_bool(device, "external_memory_dma_buf", d->dma_buf);
        add_bool(device, "external_memory_fd", d->memory_fd);
        add_bool(device, "external_memory_host", d->host_memory);
    }
}

static void json_virgl(struct json_object *root, const struct report *rep)
{
    struct json_object *o = add_object(root, "virgl");
    add_text(o, "library_build", vgd_virgl_build_version());
    add_text(o, "library_runtime", vgd_virgl_runtime_version());
    add_bool(o, "usable", rep->virgl.ok);
    add_text(o, "reason", rep->virgl.reason);
    if (rep->chosen == VGD_OK) {
        add_text(o, "platform", vgd_gl_platform_name(rep->choice.platform));
        add_text(o, "render_node", rep->choice.render_node);
        add_text(o, "why", rep->choice.why);
    }
    if (!rep->virgl.ok) {
        return;
    }
    add_text(o, "gpu", rep->virgl.gpu_name);
    add_bool(o, "software", rep->virgl.is_software);
    add_bool(o, "dmabuf_scanout", rep->virgl.exports_dmabuf);
    add_number(o, "start_us", rep->virgl.start_us);
    add_number(o, "private_dirty_kib", rep->virgl.private_dirty_kib);
    struct json_object *capsets = add_array(o, "capsets");
    for (uint32_t i = 0; i < rep->virgl.n_capsets; i++) {
        const struct vgd_capset *c = &rep->virgl.capsets[i];
        struct json_object *capset = append_object(capsets);
        add_number(capset, "id", c->id);
        add_text(capset, "name", vgd_capset_name(c->id));
        add_number(capset, "max_version", c->max_version);
        add_number(capset, "size_bytes", c->size_bytes);
    }
}

static void write_json(const struct report *rep, FILE *out)
{
    struct json_object *root = json_object_new_object();
    add_number(root, "version", PROBE_VERSION);
    struct json_object *nodes = add_array(root, "render_nodes");
    for (uint32_t i = 0; i < rep->n_nodes; i++) {
        struct json_object *node = append_object(nodes);
        add_text(node, "path", rep->nodes[i].path);
        add_text(node, "driver", rep->nodes[i].driver);
        if (rep->nodes[i].denied[0] != '\0') {
            add_bool(node, "usable", false);
            add_text(node, "reason", rep->nodes[i].denied);
        } else {
            json_trial(node, &rep->nodes[i].trial);
        }
    }
    struct json_object *egl = add_array(root, "egl");
    struct json_object *surfaceless = append_object(egl);
    add_text(surfaceless, "platform", vgd_gl_platform_name(VGD_GL_SURFACELESS));
    json_trial(surfaceless, &rep->surfaceless);
    for (uint32_t i = 0; i < rep->n_devices; i++) {
        struct json_object *device = append_object(egl);
        add_text(device, "platform", vgd_gl_platform_name(VGD_GL_DEVICE));
        add_number(device, "device", i);
        json_trial(device, &rep->devices[i]);
    }
    json_vulkan(root, &rep->vulkan);
    struct json_object *udmabuf = add_object(root, "udmabuf");
    add_bool(udmabuf, "usable", rep->udmabuf[0] == '\0');
    add_text(udmabuf, "reason", rep->udmabuf);
    json_virgl(root, rep);
    add_text(root, "renderer", rep->virgl.ok ? "virgl" : "pixman");
    (void)fprintf(out, "%s\n",
                  json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE));
    (void)json_object_put(root);
}

/* Text. */

static void text_trial(FILE *out, const struct vgd_gl_trial *t)
{
    if (!t->ok) {
        (void)fprintf(out, "no (%s)\n", t->reason);
        return;
    }
    (void)fprintf(out, "%s%s\n", t->gl_renderer, t->is_software ? "  [SOFTWARE]" : "");
    (void)fprintf(out, "      %s; %s; EGL %s by %s%s\n", t->gl_version,
                  t->es_version[0] != '\0' ? t->es_version : "no OpenGL ES", t->egl_version,
                  t->egl_vendor, t->dmabuf_export ? "; dma-buf export extension" : "");
}

static void text_chosen(FILE *out, const struct report *rep)
{
    const struct virgl_report *virgl = &rep->virgl;
    if (!virgl->ok) {
        (void)fprintf(out, "Chosen: software 2D, no 3D for the guest\n  because %s\n",
                      virgl->reason);
        return;
    }
    (void)fprintf(out, "Chosen: 3D by virgl on %s%s%s\n",
                  vgd_gl_platform_name(rep->choice.platform),
                  rep->choice.render_node[0] != '\0' ? " " : "", rep->choice.render_node);
    (void)fprintf(out, "  GPU                 %s%s\n", virgl->gpu_name,
                  virgl->is_software ? "  [SOFTWARE: no GPU is used]" : "");
    (void)fprintf(out, "  why                 %s\n", rep->choice.why);
    (void)fprintf(out, "  scanout             %s\n",
                  virgl->exports_dmabuf ? "dma-buf" : "read back and copied (no dma-buf export)");
    (void)fprintf(out, "  capsets            ");
    for (uint32_t i = 0; i < virgl->n_capsets; i++) {
        (void)fprintf(out, " %s(%u) version %u, %u bytes%s", vgd_capset_name(virgl->capsets[i].id),
                      virgl->capsets[i].id, virgl->capsets[i].max_version,
                      virgl->capsets[i].size_bytes, i + 1 < virgl->n_capsets ? ";" : "");
    }
    (void)fprintf(out, "\n  start-up            %llu ms, %llu KiB of memory\n",
                  (unsigned long long)(virgl->start_us / 1000u),
                  (unsigned long long)virgl->private_dirty_kib);
}

static void write_text(const struct report *rep, FILE *out)
{
    (void)fprintf(out, "Render nodes\n");
    for (uint32_t i = 0; i < rep->n_nodes; i++) {
        const struct node_report *node = &rep->nodes[i];
        (void)fprintf(out, "  %s (%s): ", node->path,
                      node->driver[0] != '\0' ? node->driver : "unknown driver");
        if (node->denied[0] != '\0') {
            (void)fprintf(out, "no (%s)\n", node->denied);
        } else {
            text_trial(out, &node->trial);
        }
    }
    if (rep->n_nodes == 0) {
        (void)fprintf(out, "  none\n");
    }
    (void)fprintf(out, "EGL without a render node\n  surfaceless: ");
    text_trial(out, &rep->surfaceless);
    for (uint32_t i = 0; i < rep->n_devices; i++) {
        (void)fprintf(out, "  device %u: ", i);
        text_trial(out, &rep->devices[i]);
    }
    (void)fprintf(out, "Vulkan\n");
    if (!rep->vulkan.ok || rep->vulkan.n_devices == 0) {
        (void)fprintf(out, "  none%s%s\n", rep->vulkan.reason[0] != '\0' ? ": " : "",
                      rep->vulkan.reason);
    }
    for (uint32_t i = 0; i < rep->vulkan.n_devices; i++) {
        const struct vulkan_device *d = &rep->vulkan.devices[i];
        (void)fprintf(out, "  %s (%s), %s, Vulkan %u.%u; memory export:%s%s%s%s\n", d->name,
                      d->type, d->driver, (d->api_version >> 22) & 0x7fu,
                      (d->api_version >> 12) & 0x3ffu, d->dma_buf ? " dma-buf" : "",
                      d->memory_fd ? " fd" : "", d->host_memory ? " host-pointer" : "",
                      d->dma_buf || d->memory_fd || d->host_memory ? "" : " none");
    }
    (void)fprintf(out, "udmabuf: %s\n", rep->udmabuf[0] == '\0' ? "usable" : rep->udmabuf);
    (void)fprintf(out, "virglrenderer: built with %s, running with %s\n", vgd_virgl_build_version(),
                  vgd_virgl_runtime_version());
    text_chosen(out, rep);
}

int vgd_probe_run(const struct vgd_probe_options *options, bool json, FILE *out)
{
    struct report *rep = calloc(1, sizeof(*rep));
    if (rep == NULL) {
        return 1;
    }
    probe_all(options, rep);
    if (json) {
        write_json(rep, out);
    } else {
        write_text(rep, out);
    }
    bool asked = options->require_hardware || options->platform != VGD_GL_AUTO || is_named(options);
    bool failed = asked && !rep->virgl.ok;
    free(rep);
    return fflush(out) != 0 || ferror(out) || failed ? 1 : 0;
}
