/* SPDX-License-Identifier: MIT */
/* --probe's report, for people and as JSON. */
#include "probe_report.h"

#include <json.h>

#define PROBE_VERSION 1 /* of the JSON */

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

static void json_vulkan(struct json_object *root, const struct vgd_vk_devices *vulkan)
{
    struct json_object *o = add_object(root, "vulkan");
    add_bool(o, "usable", vulkan->ok);
    add_text(o, "reason", vulkan->reason);
    struct json_object *devices = add_array(o, "devices");
    for (uint32_t i = 0; i < vulkan->n; i++) {
        const struct vgd_vk_device *d = &vulkan->devices[i];
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

static void json_virgl(struct json_object *root, const struct vgd_probe_report *rep)
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

static void json_venus(struct json_object *root, const struct vgd_probe_venus *venus)
{
    struct json_object *o = add_object(root, "venus");
    add_bool(o, "usable", venus->ok);
    add_text(o, "reason", venus->reason);
    if (venus->chosen) {
        char uuid[2 * VGD_VK_UUID_BYTES + 1];
        for (size_t i = 0; i < VGD_VK_UUID_BYTES; i++) {
            (void)snprintf(uuid + 2 * i, 3, "%02x", venus->choice.device_uuid[i]);
        }
        add_text(o, "device", venus->choice.name);
        add_text(o, "device_uuid", uuid);
        add_bool(o, "software", venus->choice.is_software);
        add_text(o, "why", venus->choice.why);
        struct json_object *layer = add_object(o, "layer");
        add_bool(layer, "needed", venus->choice.host_memory || venus->choice.one_of_many);
        add_bool(layer, "host_memory", venus->choice.host_memory);
        add_bool(layer, "one_device", venus->choice.one_of_many);
    }
    struct json_object *server = add_object(o, "render_server");
    add_text(server, "path", venus->server_path);
    add_text(server, "library_runtime", vgd_virgl_runtime_version());
    if (venus->ok) {
        add_number(server, "start_us", venus->start_us);
    }
}

void vgd_probe_write_json(const struct vgd_probe_report *rep, FILE *out)
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
    json_venus(root, &rep->venus);
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

static void text_chosen(FILE *out, const struct vgd_probe_report *rep)
{
    const struct vgd_probe_virgl *virgl = &rep->virgl;
    if (!virgl->ok) {
        (void)fprintf(out, "Chosen: software 2D, no OpenGL for the guest\n  because %s\n",
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

static void text_venus(FILE *out, const struct vgd_probe_venus *venus)
{
    if (!venus->ok) {
        (void)fprintf(out, "Vulkan for the guest: none\n  because %s\n", venus->reason);
    } else {
        (void)fprintf(out, "Vulkan for the guest: by venus\n");
    }
    if (venus->chosen) {
        const struct vgd_vk_choice *c = &venus->choice;
        (void)fprintf(out, "  device              %s%s\n", c->name,
                      c->is_software ? "  [SOFTWARE: no GPU is used]" : "");
        (void)fprintf(out, "  why                 %s\n", c->why);
        (void)fprintf(out, "  our Vulkan layer    %s%s%s%s\n",
                      c->host_memory || c->one_of_many ? "needed:" : "not needed",
                      c->host_memory ? " shares host-visible memory" : "",
                      c->host_memory && c->one_of_many ? "," : "",
                      c->one_of_many ? " shows this device only" : "");
    }
    (void)fprintf(out, "  render server       %s",
                  venus->server_path[0] != '\0' ? venus->server_path : "none");
    if (venus->ok) {
        (void)fprintf(out, ", works with this virglrenderer; first context after %llu ms",
                      (unsigned long long)(venus->start_us / 1000u));
    }
    (void)fprintf(out, "\n");
}

void vgd_probe_write_text(const struct vgd_probe_report *rep, FILE *out)
{
    (void)fprintf(out, "Render nodes\n");
    for (uint32_t i = 0; i < rep->n_nodes; i++) {
        const struct vgd_probe_node *node = &rep->nodes[i];
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
    if (!rep->vulkan.ok || rep->vulkan.n == 0) {
        (void)fprintf(out, "  none%s%s\n", rep->vulkan.reason[0] != '\0' ? ": " : "",
                      rep->vulkan.reason);
    }
    for (uint32_t i = 0; i < rep->vulkan.n; i++) {
        const struct vgd_vk_device *d = &rep->vulkan.devices[i];
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
    text_venus(out, &rep->venus);
}
