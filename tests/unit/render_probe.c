/* SPDX-License-Identifier: MIT */
/* --probe's report, and the children that keep a bad driver from harming it. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "log.h"
#include "probe.h"

#define BIG_BYTES 200000u /* several times what a pipe holds */

TestSuite(render_probe, .timeout = 120);

static void crashes(const void *question, void *answer)
{
    (void)question;
    (void)answer;
    (void)signal(SIGSEGV, SIG_DFL); /* without the sanitizers' report */
    (void)raise(SIGSEGV);
}

static void hangs(const void *question, void *answer)
{
    (void)question;
    memset(answer, 1, 1);
    for (;;) {
        (void)pause();
    }
}

static void gives_up(const void *question, void *answer)
{
    (void)answer;
    _exit(*(const int *)question);
}

static void fills(const void *question, void *answer)
{
    memset(answer, *(const int *)question, BIG_BYTES);
}

Test(render_probe, children_that_fail_cost_one_line)
{
    char reason[VGD_CHILD_REASON_BYTES];
    char answer[4];
    int status = 7;
    cr_expect(!vgd_child_ask(crashes, NULL, answer, sizeof(answer), 5000, reason));
    cr_expect_str_eq(reason, "crashed (signal 11)");
    cr_expect(!vgd_child_ask(gives_up, &status, answer, sizeof(answer), 5000, reason));
    cr_expect_str_eq(reason, "ended with status 7");
    uint64_t start_ns = vgd_now_ns();
    cr_expect(!vgd_child_ask(hangs, NULL, answer, sizeof(answer), 1000, reason));
    cr_expect_str_eq(reason, "timed out after 1 s");
    cr_expect_lt(vgd_now_ns() - start_ns, 5000000000ull);
    cr_expect_eq(answer[0], 0, "half an answer is none");
    cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "no child is left behind");
}

Test(render_probe, answers_larger_than_a_pipe_arrive_whole)
{
    char reason[VGD_CHILD_REASON_BYTES];
    char *answer = malloc(BIG_BYTES);
    cr_assert_not_null(answer);
    int fill = 0x5a;
    cr_assert(vgd_child_ask(fills, &fill, answer, BIG_BYTES, 5000, reason));
    for (size_t i = 0; i < BIG_BYTES; i++) {
        cr_assert_eq(answer[i], 0x5a);
    }
    free(answer);
}

/* Run the probe and give back its text; the caller frees. */
static char *report(const struct vgd_probe_options *options, bool json, int *out_status)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    cr_assert_not_null(f);
    *out_status = vgd_probe_run(options, json, f);
    (void)fclose(f);
    return text;
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;
    cr_assert(json_object_object_get_ex(o, key, &value), "no member %s", key);
    return value;
}

Test(render_probe, json_and_text_say_what_was_chosen)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    struct vgd_probe_options any = {0};
    int status = -1;
    char *text = report(&any, true, &status);
    cr_expect_eq(status, 0);
    struct json_object *root = json_tokener_parse(text);
    cr_assert_not_null(root, "not JSON: %s", text);
    cr_expect_eq(json_object_get_int(member(root, "version")), 1);
    cr_expect_eq(json_object_get_type(member(root, "render_nodes")), json_type_array);
    cr_expect_geq(json_object_array_length(member(root, "egl")), 1);
    (void)member(member(root, "vulkan"), "devices");
    (void)member(member(root, "udmabuf"), "usable");
    struct json_object *virgl = member(root, "virgl");
    (void)member(virgl, "library_build");
    (void)member(virgl, "library_runtime");
    bool usable = json_object_get_boolean(member(virgl, "usable"));
    cr_expect_str_eq(json_object_get_string(member(root, "renderer")), usable ? "virgl" : "pixman");
    if (usable) {
        cr_expect_geq(json_object_array_length(member(virgl, "capsets")), 1);
        cr_expect_str_not_empty(json_object_get_string(member(virgl, "gpu")));
        cr_expect_str_not_empty(json_object_get_string(member(virgl, "why")));
    } else {
        cr_expect_str_not_empty(json_object_get_string(member(virgl, "reason")));
    }
    struct json_object *venus = member(root, "venus");
    bool vulkan = json_object_get_boolean(member(venus, "usable"));
    (void)member(member(venus, "render_server"), "path");
    if (vulkan) {
        cr_expect_str_not_empty(json_object_get_string(member(venus, "device")));
        cr_expect_str_not_empty(json_object_get_string(member(venus, "why")));
        (void)member(member(venus, "layer"), "needed");
    } else {
        cr_expect_str_not_empty(json_object_get_string(member(venus, "reason")));
    }
    (void)json_object_put(root);
    free(text);

    text = report(&any, false, &status);
    cr_expect_eq(status, 0);
    cr_expect_not_null(
        strstr(text, vulkan ? "Vulkan for the guest: by venus" : "Vulkan for the guest: none"));
    cr_expect_not_null(strstr(text, usable ? "Chosen: 3D by virgl" : "Chosen: software 2D"));
    free(text);
}

Test(render_probe, what_is_asked_for_and_missing_is_an_error)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    struct vgd_probe_options missing = {.render_node = "/nonexistent/renderD128"};
    int status = -1;
    char *text = report(&missing, false, &status);
    cr_expect_eq(status, 1);
    cr_expect_not_null(strstr(text, "No such file"));
    free(text);
    struct vgd_probe_options no_server = {.venus = true, .render_server = "/nonexistent/server"};
    text = report(&no_server, false, &status);
    cr_expect_eq(status, 1);
    cr_expect_not_null(strstr(text, "Vulkan for the guest: none"));
    cr_expect(strstr(text, "/nonexistent/server cannot be run: No such file") != NULL ||
                  strstr(text, "install") != NULL,
              "what to do is said: %s", text);
    free(text);
}

Test(render_probe, a_layer_that_is_needed_and_missing_is_said)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    static const char missing[] = "/nonexistent/layer.json";
    struct vgd_probe_options options = {.venus = true};
    int status = -1;
    char *text = report(&options, true, &status);
    bool works = status == 0;
    struct json_object *root = json_tokener_parse(text);
    struct json_object *layer = NULL;
    cr_assert_not_null(root, "not JSON: %s", text);
    bool chosen = json_object_object_get_ex(member(root, "venus"), "layer", &layer);
    bool needed = chosen && json_object_get_boolean(member(layer, "needed"));
    (void)json_object_put(root);
    free(text);
    if (!works) {
        cr_skip("no Vulkan for a guest on this host");
    }
    options.layer_manifest = missing;
    text = report(&options, false, &status);
    cr_expect_eq(status, needed ? 1 : 0);
    cr_expect_eq(strstr(text, missing) != NULL, needed, "%s", text);
    free(text);
}

Test(render_probe, a_full_disk_is_an_error)
{
    FILE *full = fopen("/dev/full", "we");
    cr_assert_not_null(full);
    struct vgd_probe_options any = {0};
    cr_expect_eq(vgd_probe_run(&any, false, full), 1);
    (void)fclose(full);
}

Test(render_probe, software_renderers_are_known_by_name)
{
    static const struct {
        const char *renderer;
        bool is_software;
    } cases[] = {
        {"llvmpipe (LLVM 15.0.6, 256 bits)", true},
        {"virgl (LLVMPIPE (LLVM 21.1.8 256 bits))", true},
        {"softpipe", true},
        {"Software Rasterizer", true},
        {"NVIDIA H200/PCIe/SSE2", false},
        {"AMD Radeon RX 7900 XTX (radeonsi, navi31, LLVM 17.0.6)", false},
        {"Mesa Intel(R) UHD Graphics 630 (CFL GT2)", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(vgd_gl_is_software(cases[i].renderer), cases[i].is_software, "%s",
                     cases[i].renderer);
    }
}

Test(render_probe, platform_names_round_trip)
{
    for (enum vgd_gl_platform p = VGD_GL_AUTO; p <= VGD_GL_DEVICE; p++) {
        enum vgd_gl_platform parsed = VGD_GL_AUTO;
        cr_expect(vgd_gl_platform_parse(vgd_gl_platform_name(p), &parsed));
        cr_expect_eq(parsed, p);
    }
    enum vgd_gl_platform untouched = VGD_GL_DEVICE;
    cr_expect(!vgd_gl_platform_parse("glx", &untouched));
    cr_expect_eq(untouched, VGD_GL_DEVICE);
}
