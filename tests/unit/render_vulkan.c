/* SPDX-License-Identifier: MIT */
/* Which Vulkan device belongs to the GPU of OpenGL: the matching by itself, then this host's own.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "vulkan_choose.h"

static struct vgd_vk_device device(const char *name, const char *type, uint8_t uuid, uint32_t minor)
{
    struct vgd_vk_device d = {.uuid = {uuid}, .is_software = strcmp(type, "cpu") == 0};
    (void)snprintf(d.name, sizeof(d.name), "%s", name);
    (void)snprintf(d.type, sizeof(d.type), "%s", type);
    d.has_render_node = minor != 0;
    d.render_major = minor != 0 ? 226 : 0;
    d.render_minor = minor;
    return d;
}

static struct vgd_vk_devices devices(struct vgd_vk_device a, struct vgd_vk_device b)
{
    return (struct vgd_vk_devices){.ok = true, .n = 2, .devices = {a, b}};
}

static struct vgd_gl_trial gl(const char *renderer, uint8_t uuid)
{
    struct vgd_gl_trial t = {
        .ok = true, .is_software = vgd_gl_is_software(renderer), .device_uuid = {uuid}};
    (void)snprintf(t.gl_renderer, sizeof(t.gl_renderer), "%s", renderer);
    return t;
}

Test(render_vulkan, names_match_whole_or_not_at_all)
{
    static const struct {
        const char *gl, *vulkan;
        bool same;
    } cases[] = {
        {"NVIDIA H200/PCIe/SSE2", "NVIDIA H200", true},
        {"NVIDIA H200 NVL/PCIe/SSE2", "NVIDIA H200", false},
        {"NVIDIA H200/PCIe/SSE2", "NVIDIA H20", false},
        {"NVIDIA H20/PCIe/SSE2", "NVIDIA H200", false},
        {"GeForce RTX 3060/PCIe/SSE2", "NVIDIA GeForce RTX 3060", true},
        {"GeForce RTX 3060 Ti/PCIe/SSE2", "NVIDIA GeForce RTX 3060", false},
        {"AMD Radeon RX 6800 (radeonsi, navi21, LLVM 15.0.6, DRM 3.49)",
         "AMD Radeon RX 6800 (RADV NAVI21)", true},
        {"AMD Radeon RX 6800 XT (radeonsi, navi21, LLVM 15.0.6, DRM 3.49)",
         "AMD Radeon RX 6800 (RADV NAVI21)", false},
        {"Mesa Intel(R) UHD Graphics 620 (KBL GT2)", "Intel(R) UHD Graphics 620 (KBL GT2)", true},
        {"zink Vulkan 1.3(NVIDIA GeForce RTX 2060 (NVK TU106))",
         "NVIDIA GeForce RTX 2060 (NVK TU106)", true},
        {"", "NVIDIA H200", false},
        {"NVIDIA H200/PCIe/SSE2", "", false},
        {"NVIDIA H200/PCIe/SSE2", "(x)", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char why[256] = "";
        struct vgd_vk_devices d = devices(device("llvmpipe (LLVM 15.0.6, 256 bits)", "cpu", 1, 0),
                                          device(cases[i].vulkan, "discrete", 2, 0));
        struct vgd_gl_trial t = gl(cases[i].gl, 0);
        int found = vgd_vk_match(&d, 0, 0, &t, why, sizeof(why));
        cr_expect_eq(found, cases[i].same ? 1 : -1, "%s and %s: %s", cases[i].gl, cases[i].vulkan,
                     why);
        cr_expect_str_not_empty(why);
    }
}

Test(render_vulkan, the_render_node_decides)
{
    char why[256] = "";
    struct vgd_vk_devices d =
        devices(device("GPU", "discrete", 1, 128), device("GPU", "discrete", 2, 129));
    struct vgd_gl_trial t = gl("GPU/PCIe", 0);
    cr_expect_eq(vgd_vk_match(&d, 226, 129, &t, why, sizeof(why)), 1);
    cr_expect_eq(vgd_vk_match(&d, 226, 128, NULL, why, sizeof(why)), 0);
    cr_expect_eq(vgd_vk_match(&d, 226, 130, NULL, why, sizeof(why)), -1, "never another GPU");
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), -1, "which of the two?");
    cr_expect_not_null(strstr(why, "--render-node"), "%s", why);
    t = gl("GPU/PCIe", 2);
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), 1, "the UUID tells");
    t = gl("GPU/PCIe", 0);
    cr_expect_eq(vgd_vk_match(&d, 226, 130, &t, why, sizeof(why)), -1, "known to be elsewhere");
    d.n = 1;
    cr_expect_eq(vgd_vk_match(&d, 226, 129, &t, why, sizeof(why)), -1, "a twin without Vulkan");
    d.devices[0].has_render_node = false;
    cr_expect_eq(vgd_vk_match(&d, 226, 129, &t, why, sizeof(why)), 0, "a driver that tells none");
    d = devices(device("GPU", "discrete", 1, 128), device("GPU", "discrete", 2, 129));
    d.devices[1].render_minor = 128; /* two drivers of one GPU */
    t = gl("GPU/PCIe", 0);
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), 0);
}

Test(render_vulkan, software_goes_with_software)
{
    char why[256] = "";
    struct vgd_vk_devices d = devices(device("NVIDIA H200", "discrete", 1, 0),
                                      device("llvmpipe (LLVM 15.0.6, 256 bits)", "cpu", 2, 0));
    struct vgd_gl_trial t = gl("llvmpipe (LLVM 15.0.6, 256 bits)", 0);
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), 1);
    d.n = 1;
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), -1, "not the GPU behind its back");
    t = gl("NVIDIA A10/PCIe/SSE2", 0);
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), -1);
    d.devices[0] = d.devices[1];
    cr_expect_eq(vgd_vk_match(&d, 0, 0, &t, why, sizeof(why)), -1, "nor software for a GPU");
}

Test(render_vulkan, without_opengl_the_best_is_taken)
{
    char why[256] = "";
    struct vgd_vk_devices d =
        devices(device("llvmpipe", "cpu", 1, 0), device("Intel", "integrated", 2, 0));
    cr_expect_eq(vgd_vk_match(&d, 0, 0, NULL, why, sizeof(why)), 1);
    d.devices[0] = device("AMD", "discrete", 3, 0);
    cr_expect_eq(vgd_vk_match(&d, 0, 0, NULL, why, sizeof(why)), 0);
    d.n = 0;
    cr_expect_eq(vgd_vk_match(&d, 0, 0, NULL, why, sizeof(why)), -1);
    cr_expect_not_null(strstr(why, "install"), "%s", why);
}

TestSuite(render_vulkan_host, .timeout = 120);

/* Whatever else the host has. */
Test(render_vulkan_host, a_node_that_cannot_be_is_no_other_gpu)
{
    static const char *const nodes[] = {"/nonexistent/renderD128", "/proc/self/exe", "/tmp"};
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        struct vgd_vk_choice c = {.name = "untouched"};
        char why[256] = "";
        cr_expect_eq(vgd_vk_choose(nodes[i], NULL, NULL, false, &c, why, sizeof(why)),
                     VGD_HOST_FAILED);
        cr_expect_not_null(strstr(why, nodes[i]), "%s", why);
        cr_expect_str_eq(c.name, "untouched");
    }
}

Test(render_vulkan_host, a_choice_or_a_reason)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    struct vgd_vk_choice c = {.name = "untouched"};
    char why[256] = "";
    enum vgd_status st = vgd_vk_choose(NULL, NULL, NULL, false, &c, why, sizeof(why));
    if (st != VGD_OK) {
        cr_expect_str_eq(c.name, "untouched");
        cr_expect_str_not_empty(why);
        cr_skip("no Vulkan on this host: %s", why);
        return;
    }
    cr_expect_str_not_empty(c.name);
    cr_expect_str_not_empty(c.why);
    if (c.is_software) {
        why[0] = '\0';
        cr_expect_eq(vgd_vk_choose(NULL, NULL, NULL, true, &c, why, sizeof(why)), VGD_HOST_FAILED);
        cr_expect_not_null(strstr(why, "hardware"), "%s", why);
    }
    struct vgd_vk_memory memory;
    vgd_vk_try_memory(c.device_uuid, &memory);
    cr_expect_eq(c.host_memory, !memory.exports);
    cr_expect(memory.exports || memory.imports);
    static const uint8_t nobody[VGD_VK_UUID_BYTES] = {0xde, 0xad};
    vgd_vk_try_memory(nobody, &memory);
    cr_expect(!memory.exports && !memory.imports);
    cr_expect_str_not_empty(memory.export_reason);
}
