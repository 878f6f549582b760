/* SPDX-License-Identifier: MIT */
#include "vulkan_choose.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool is_zero(const uint8_t *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Is @name all of a name inside @renderer? "NVIDIA H200" is one in "NVIDIA H200/PCIe/SSE2", but not
 * in "NVIDIA H200 NVL/PCIe/SSE2": what follows a name is a slash, a comma or a parenthesis. */
static bool contains_name(const char *renderer, const char *name, size_t len)
{
    for (const char *at = renderer; len > 0 && strlen(at) >= len; at++) {
        const char *behind = at + len;
        if (strncasecmp(at, name, len) != 0 || (at > renderer && at[-1] != ' ' && at[-1] != '(')) {
            continue;
        }
        behind += *behind == ' ' && behind[1] == '(' ? 1 : 0;
        if (*behind == '\0' || strchr("/,()", *behind) != NULL) {
            return true;
        }
    }
    return false;
}

/* GL_RENDERER of the same device? Drivers add their own words behind a name: "(RADV NAVI21)" here,
 * "(radeonsi, navi21, ...)" there. Older NVIDIA drivers leave the vendor out. */
static bool same_name(const char *renderer, const char *name)
{
    static const char vendor[] = "NVIDIA ";
    size_t len = strlen(name);
    const char *words = strrchr(name, '(');
    size_t short_len = words != NULL && words > name + 1 ? (size_t)(words - name) - 1 : len;
    if (contains_name(renderer, name, len) || contains_name(renderer, name, short_len)) {
        return true;
    }
    return strncmp(name, vendor, strlen(vendor)) == 0 &&
           contains_name(renderer, name + strlen(vendor), len - strlen(vendor));
}

static bool on_node(const struct vgd_vk_device *d, uint32_t node_major, uint32_t node_minor)
{
    return d->has_render_node && d->render_major == node_major && d->render_minor == node_minor;
}

/* Two drivers of one GPU? */
static bool same_gpu(const struct vgd_vk_device *a, const struct vgd_vk_device *b)
{
    return memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0 ||
           (b->has_render_node && on_node(a, b->render_major, b->render_minor));
}

static int match_software(const struct vgd_vk_devices *devices, char *why, size_t why_bytes)
{
    for (uint32_t i = 0; i < devices->n; i++) {
        if (devices->devices[i].is_software) {
            (void)snprintf(why, why_bytes, "OpenGL is software, so Vulkan is too");
            return (int)i;
        }
    }
    (void)snprintf(why, why_bytes,
                   "OpenGL is software, and there is no software Vulkan: install "
                   "mesa-vulkan-drivers (Debian)");
    return -1;
}

/* @node_known: OpenGL's render node is, and no device is known to be behind it. */
static int match_gl(const struct vgd_vk_devices *devices, const struct vgd_gl_trial *trial,
                    bool node_known, char *why, size_t why_bytes)
{
    int found = -1;
    for (uint32_t i = 0; i < devices->n && !is_zero(trial->device_uuid, VGD_VK_UUID_BYTES); i++) {
        if (memcmp(devices->devices[i].uuid, trial->device_uuid, VGD_VK_UUID_BYTES) == 0) {
            (void)snprintf(why, why_bytes, "the device of OpenGL, by its UUID");
            return (int)i;
        }
    }
    for (uint32_t i = 0; i < devices->n; i++) {
        const struct vgd_vk_device *d = &devices->devices[i];
        bool elsewhere = node_known && d->has_render_node; /* its twin, perhaps */
        if (d->is_software || elsewhere || !same_name(trial->gl_renderer, d->name)) {
            continue;
        }
        if (found >= 0 && !same_gpu(&devices->devices[found], d)) {
            (void)snprintf(why, why_bytes,
                           "several GPUs are called %.60s and it is not known which of them "
                           "OpenGL uses: name one with --render-node",
                           d->name);
            return -1;
        }
        found = found < 0 ? (int)i : found;
    }
    if (found >= 0) {
        (void)snprintf(why, why_bytes, "the device of OpenGL, by its name");
    } else {
        (void)snprintf(why, why_bytes,
                       "no Vulkan device is the GPU of OpenGL (%.80s): install "
                       "its Vulkan driver",
                       trial->gl_renderer);
    }
    return found;
}

/* No OpenGL and no node to go by. */
static int match_best(const struct vgd_vk_devices *devices, char *why, size_t why_bytes)
{
    static const char *const order[] = {"discrete", "integrated", "virtual", "other", "cpu"};
    for (size_t rank = 0; rank < sizeof(order) / sizeof(order[0]); rank++) {
        for (uint32_t i = 0; i < devices->n; i++) {
            if (strcmp(devices->devices[i].type, order[rank]) == 0) {
                (void)snprintf(why, why_bytes,
                               devices->n == 1 ? "the only Vulkan device"
                                               : "the first Vulkan device of type %s",
                               order[rank]);
                return (int)i;
            }
        }
    }
    (void)snprintf(why, why_bytes, "no Vulkan device");
    return -1;
}

int vgd_vk_match(const struct vgd_vk_devices *devices, uint32_t node_major, uint32_t node_minor,
                 const struct vgd_gl_trial *gl_trial, char *why, size_t why_bytes)
{
    if (devices->n == 0) {
        (void)snprintf(why, why_bytes,
                       "no Vulkan device: install the GPU's Vulkan driver, or "
                       "mesa-vulkan-drivers (Debian) for software");
        return -1;
    }
    for (uint32_t i = 0; node_major != 0 && i < devices->n; i++) {
        if (on_node(&devices->devices[i], node_major, node_minor)) {
            (void)snprintf(why, why_bytes, "behind the same render node");
            return (int)i;
        }
    }
    if (gl_trial != NULL) {
        return gl_trial->is_software ? match_software(devices, why, why_bytes)
                                     : match_gl(devices, gl_trial, node_major != 0, why, why_bytes);
    }
    if (node_major != 0) {
        (void)snprintf(why, why_bytes,
                       "no Vulkan device is behind the render node: install its "
                       "Vulkan driver");
        return -1;
    }
    return match_best(devices, why, why_bytes);
}

enum vgd_status vgd_vk_choose(const char *render_node, const struct vgd_gl_choice *gl,
                              const struct vgd_gl_trial *gl_trial, bool require_hardware,
                              struct vgd_vk_choice *out, char *why, size_t why_bytes)
{
    const char *node = render_node != NULL ? render_node : "";
    if (node[0] == '\0' && gl != NULL && gl->platform == VGD_GL_GBM) {
        node = gl->render_node;
    }
    struct stat st = {0};
    bool is_node = node[0] != '\0';
    if (is_node && (stat(node, &st) != 0 || !S_ISCHR(st.st_mode))) {
        (void)snprintf(why, why_bytes, "cannot use render node %.128s: %s", node,
                       st.st_mode != 0 ? "it is no device" : strerror(errno));
        return VGD_HOST_FAILED; /* any device would be another GPU */
    }
    struct vgd_vk_devices devices;
    vgd_vk_list(&devices);
    if (!devices.ok) {
        (void)snprintf(why, why_bytes, "%s", devices.reason);
        return VGD_HOST_FAILED;
    }
    struct vgd_vk_choice c = {0};
    int found = vgd_vk_match(&devices, is_node ? major(st.st_rdev) : 0,
                             is_node ? minor(st.st_rdev) : 0, gl_trial, c.why, sizeof(c.why));
    if (found < 0) {
        (void)snprintf(why, why_bytes, "%s", c.why);
        return VGD_HOST_FAILED;
    }
    const struct vgd_vk_device *d = &devices.devices[found];
    if (d->is_software && require_hardware) {
        (void)snprintf(why, why_bytes, "only software Vulkan here (%.80s) and hardware is required",
                       d->name);
        return VGD_HOST_FAILED;
    }
    struct vgd_vk_memory memory;
    vgd_vk_try_memory(d->uuid, &memory);
    if (!memory.exports && !memory.imports) {
        (void)snprintf(why, why_bytes,
                       "%.60s can share no host-visible memory: dma-buf export: %s; import of "
                       "shared memory: %s",
                       d->name, memory.export_reason, memory.import_reason);
        return VGD_HOST_FAILED;
    }
    memcpy(c.name, d->name, sizeof(c.name));
    memcpy(c.device_uuid, d->uuid, sizeof(c.device_uuid));
    c.is_software = d->is_software;
    c.one_of_many = devices.n > 1;
    c.host_memory = !memory.exports;
    if (c.host_memory) {
        size_t used = strlen(c.why);
        (void)snprintf(
            c.why + used, sizeof(c.why) - used,
            "; the driver exports no host-visible memory (%.80s), so our layer shares it",
            memory.export_reason);
    }
    *out = c;
    return VGD_OK;
}
