/* SPDX-License-Identifier: MIT */
/*
 * The worker's start as the supervisor sees it: hello, perhaps the question for a render server,
 * and ready. The real program, whatever this host has of OpenGL and Vulkan.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "fd.h"
#include "frames.h"
#include "link.h"
#include "log.h"
#include "render_server_fixture.h"
#include "vault.h"

#define READY_WITHIN_NS 60000000000ull
#define GONE_WITHIN_NS 10000000000ull
#define WINDOW_BYTES (1ull << 30)

static struct vgd_loop *loop;
static struct vgd_link *to_worker;
static pid_t worker, server;

static struct {
    bool wants_server, ready, closed;
    struct vgd_link_want_server want;
    struct vgd_link_ready report;
} seen;

static void on_message(void *user, struct vgd_link_message *msg)
{
    (void)user;
    if (msg->type == VGD_LINK_WANT_SERVER) {
        const struct vgd_link_want_server *m = vgd_link_payload(msg, sizeof(*m));
        cr_assert_not_null(m);
        cr_assert_not(seen.ready, "asked for before ready");
        cr_assert_not(seen.wants_server, "asked for once");
        seen.wants_server = true;
        seen.want = *m;
    } else if (msg->type == VGD_LINK_READY) {
        const struct vgd_link_ready *m = vgd_link_payload(msg, sizeof(*m));
        cr_assert_not_null(m);
        seen.ready = true;
        seen.report = *m;
    }
}

static void on_closed(void *user, enum vgd_status why)
{
    (void)user;
    (void)why;
    seen.closed = true;
}

static void set_up(void)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    int fds[2];
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    cr_assert_eq(vgd_link_pair(fds), VGD_OK);
    const char *program = getenv("VGD_WORKER");
    cr_assert_not_null(program);
    pid_t parent = getpid();
    worker = fork();
    if (worker == 0) {
        char number[16];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)snprintf(number, sizeof(number), "%d", dup(fds[1]));
        if (getppid() == parent) {
            (void)execl(program, program, "--link-fd", number, (char *)NULL);
        }
        _exit(127);
    }
    cr_assert_gt(worker, 0);
    (void)close(fds[1]);
    to_worker = vgd_link_create(loop, &fds[0], on_message, on_closed, NULL);
    cr_assert_not_null(to_worker);
}

static void end(pid_t pid)
{
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
}

static void tear_down(void)
{
    vgd_link_destroy(to_worker);
    vgd_loop_destroy(loop);
    end(worker);
    end(server);
}

TestSuite(worker_start, .init = set_up, .fini = tear_down, .timeout = 120);

static struct vgd_link_vk_choice earlier_vulkan;

static void greet(bool virgl, bool venus)
{
    VGD_AUTO_FD vault = vgd_vault_create();
    VGD_AUTO_FD frames = vgd_memfd_create("frames", VGD_FRAMES_BYTES);
    cr_assert(vault >= 0 && frames >= 0);
    struct vgd_link_hello hello = {
        .version = VGD_LINK_VERSION,
        .log_level = VGD_LOG_ERROR,
        .n_scanouts = 1,
        .want_virgl = virgl,
        .want_venus = venus,
        .window_bytes = WINDOW_BYTES,
        .vulkan = earlier_vulkan,
    };
    int fds[2] = {vault, frames};
    cr_assert_eq(vgd_link_send(to_worker, VGD_LINK_HELLO, &hello, sizeof(hello), fds, 2), VGD_OK);
}

static bool turn_until(const bool *flag, const bool *other, uint64_t limit_ns)
{
    uint64_t end_ns = vgd_now_ns() + limit_ns;
    while (!*flag && !*other && !seen.closed && vgd_now_ns() < end_ns) {
        vgd_loop_turn(loop, 50);
    }
    return *flag;
}

static void answer(enum vgd_status status, const char *why, int fd)
{
    struct vgd_link_server m = {.status = status};
    (void)snprintf(m.why, sizeof(m.why), "%s", why);
    cr_assert_eq(vgd_link_send(to_worker, VGD_LINK_SERVER, &m, sizeof(m), &fd, fd >= 0 ? 1 : 0),
                 VGD_OK);
}

/* Greet; false: this host has no Vulkan to ask a server for, and the worker has said why. */
static bool greet_for_vulkan(bool virgl)
{
    greet(virgl, true);
    cr_assert(turn_until(&seen.wants_server, &seen.ready, READY_WITHIN_NS) || seen.ready);
    if (!seen.wants_server) {
        cr_expect_str_empty(seen.report.vulkan_name);
        cr_expect_str_not_empty(seen.report.vulkan_note);
        cr_skip("no Vulkan on this host: %s", seen.report.vulkan_note);
    }
    return seen.wants_server;
}

Test(worker_start, without_vulkan_no_server_is_asked_for)
{
    greet(true, false);
    cr_assert(turn_until(&seen.ready, &seen.wants_server, READY_WITHIN_NS));
    cr_expect_not(seen.wants_server);
    cr_expect_str_empty(seen.report.vulkan_name);
    cr_expect_str_empty(seen.report.vulkan_note);
}

Test(worker_start, plain_2d)
{
    greet(false, false);
    cr_assert(turn_until(&seen.ready, &seen.wants_server, READY_WITHIN_NS));
    cr_expect_not(seen.report.has_3d);
    cr_expect_str_eq(seen.report.renderer, "pixman");
}

Test(worker_start, vulkan_and_opengl)
{
    if (!greet_for_vulkan(true)) {
        return;
    }
    const char *path = render_server_path();
    if (path == NULL) {
        cr_skip("virgl_render_server is not installed (package virgl-server)");
        return;
    }
    int fd = -1;
    server = render_server_start(path, &fd);
    cr_assert_gt(server, 0);
    answer(VGD_OK, "", fd);
    (void)close(fd);
    cr_assert(turn_until(&seen.ready, &seen.closed, READY_WITHIN_NS));
    cr_expect_str_not_empty(seen.report.vulkan_name);
    cr_expect_str_not_empty(seen.report.vulkan_note);
    cr_expect_str_not_empty(seen.report.gpu_name);
    cr_expect(seen.report.has_3d);
    cr_expect_eq(seen.report.num_capsets, 3);
}

Test(worker_start, vulkan_alone)
{
    if (!greet_for_vulkan(false)) {
        return;
    }
    const char *path = render_server_path();
    if (path == NULL) {
        cr_skip("virgl_render_server is not installed (package virgl-server)");
        return;
    }
    int fd = -1;
    server = render_server_start(path, &fd);
    answer(VGD_OK, "", fd);
    (void)close(fd);
    cr_assert(turn_until(&seen.ready, &seen.closed, READY_WITHIN_NS));
    cr_expect_str_eq(seen.report.gpu_name, seen.report.vulkan_name);
    cr_expect_eq(seen.report.vulkan.known, 1);
    cr_expect_str_eq(seen.report.vulkan.name, seen.report.vulkan_name);
    cr_expect(seen.report.has_3d);
    cr_expect_eq(seen.report.num_capsets, 1);
    cr_expect_eq(seen.report.choice.platform, 0);
}

/* What an earlier worker found is not searched for again: this device is nowhere. */
Test(worker_start, an_earlier_choice_is_taken_as_it_is)
{
    const char *path = render_server_path();
    if (path == NULL) {
        cr_skip("virgl_render_server is not installed (package virgl-server)");
        return;
    }
    earlier_vulkan = (struct vgd_link_vk_choice){.known = 1,
                                                 .one_of_many = 1,
                                                 .device_uuid = {1, 2, 3},
                                                 .name = "a device",
                                                 .why = "it was there"};
    greet(false, true);
    cr_assert(turn_until(&seen.wants_server, &seen.ready, READY_WITHIN_NS));
    cr_expect_eq(seen.want.host_memory, 0);
    cr_expect_eq(seen.want.one_device, 1);
    cr_expect_eq(memcmp(seen.want.device_uuid, earlier_vulkan.device_uuid, 16), 0);
    int fd = -1;
    server = render_server_start(path, &fd);
    answer(VGD_OK, "", fd);
    (void)close(fd);
    cr_assert(turn_until(&seen.ready, &seen.closed, READY_WITHIN_NS));
    cr_expect_str_eq(seen.report.vulkan_name, "a device");
    cr_expect_str_eq(seen.report.vulkan_note, "it was there");
    cr_expect_eq(memcmp(&seen.report.vulkan, &earlier_vulkan, sizeof(earlier_vulkan)), 0);
}

Test(worker_start, without_the_server_there_is_opengl_and_a_reason)
{
    if (!greet_for_vulkan(true)) {
        return;
    }
    answer(VGD_HOST_FAILED, "it is not installed", -1);
    cr_assert(turn_until(&seen.ready, &seen.closed, READY_WITHIN_NS));
    cr_expect_str_empty(seen.report.vulkan_name);
    cr_expect_str_eq(seen.report.vulkan_note, "it is not installed");
    cr_expect_eq(seen.report.vulkan.known, 0);
    cr_expect(seen.report.has_3d);
    cr_expect_eq(seen.report.num_capsets, 2);
}

Test(worker_start, a_server_that_is_none_leaves_opengl_and_a_reason)
{
    if (!greet_for_vulkan(true)) {
        return;
    }
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    answer(VGD_OK, "", pair[0]);
    (void)close(pair[0]);
    (void)close(pair[1]);
    cr_assert(turn_until(&seen.ready, &seen.closed, READY_WITHIN_NS));
    cr_expect_str_empty(seen.report.vulkan_name);
    cr_expect_not_null(strstr(seen.report.vulkan_note, "virgl-server"), "%s",
                       seen.report.vulkan_note);
    cr_expect_eq(seen.report.num_capsets, 2);
}

Test(worker_start, a_server_that_nobody_asked_for_ends_the_worker)
{
    answer(VGD_HOST_FAILED, "", -1);
    cr_expect(turn_until(&seen.closed, &seen.ready, GONE_WITHIN_NS));
}

Test(worker_start, nothing_else_is_taken_before_ready)
{
    struct vgd_link_request m = {.request_seq = 1};
    cr_assert_eq(vgd_link_send(to_worker, VGD_LINK_RESET, &m, sizeof(m), NULL, 0), VGD_OK);
    cr_expect(turn_until(&seen.closed, &seen.ready, GONE_WITHIN_NS));
}
