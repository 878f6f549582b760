/* SPDX-License-Identifier: MIT */
/*
 * Which render nodes are opened. Two stand-ins for nodes (the null device under other names) in a
 * /dev that only the test's process sees; inotify tells of every open, in children too. The same
 * with real nodes is a job for a virtual machine.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "virgl.h"

#define FIRST "/dev/dri/renderD128"
#define SECOND "/dev/dri/renderD129"

static int watch_fd = -1;
static struct vgd_loop *loop;

static bool make_node(const char *path, unsigned minor_number)
{
    return mknod(path, S_IFCHR | 0666, makedev(1, minor_number)) == 0;
}

/* In a chroot, "/" is no mount that could be made private; then nothing may be shared already. */
static bool mounts_are_private(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
        return true;
    }
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL) {
        return false;
    }
    char line[1024];
    bool shared = false;
    while (fgets(line, sizeof(line), f) != NULL) {
        shared |= strstr(line, " shared:") != NULL;
    }
    (void)fclose(f);
    return !shared;
}

/* /dev of our own: null, zero, random, urandom and the two nodes. */
static bool private_dev(void)
{
    char folder[] = "/tmp/vgd-dev.XXXXXX";
    if (unshare(CLONE_NEWNS) != 0 || !mounts_are_private() || mkdtemp(folder) == NULL) {
        return false;
    }
    bool ok = mount("tmpfs", folder, "tmpfs", 0, "mode=755") == 0 && chdir(folder) == 0 &&
              mkdir("dri", 0755) == 0 && mkdir("shm", 01777) == 0 && make_node("null", 3) &&
              make_node("zero", 5) && make_node("random", 8) && make_node("urandom", 9) &&
              make_node("dri/renderD128", 3) && make_node("dri/renderD129", 3) &&
              mount(folder, "/dev", NULL, MS_MOVE, NULL) == 0;
    (void)rmdir(folder); /* empty again once the mount has moved */
    int fd = ok ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)close(fd); /* a mount with nodev would have refused */
    }
    return fd >= 0 && chdir("/") == 0;
}

static void set_up(void)
{
    char why[256] = "";
    vgd_log_setup("test", VGD_LOG_ERROR);
    if (!private_dev()) {
        cr_skip("needs root and a mount namespace: %s", strerror(errno));
    }
    if (!vgd_gl_libraries_present(why, sizeof(why))) {
        cr_skip("no OpenGL on this host: %s", why);
    }
    watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    cr_assert_geq(watch_fd, 0);
    cr_assert_geq(inotify_add_watch(watch_fd, "/dev/dri", IN_OPEN), 0);
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
}

static void tear_down(void)
{
    vgd_loop_destroy(loop);
    if (watch_fd >= 0) {
        (void)close(watch_fd);
    }
}

TestSuite(render_nodes, .init = set_up, .fini = tear_down, .timeout = 120);

/* Opens of node @name since the last call of this for any name. */
static void count_opens(uint32_t *out_first, uint32_t *out_second)
{
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;
    *out_first = 0;
    *out_second = 0;
    while ((n = read(watch_fd, buffer, sizeof(buffer))) > 0) {
        for (char *at = buffer; at < buffer + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;
            if (event->len > 0) {
                *out_first += strcmp(event->name, "renderD128") == 0;
                *out_second += strcmp(event->name, "renderD129") == 0;
            }
            at += sizeof(*event) + event->len;
        }
    }
}

/* Does this process hold anything under /dev/dri? */
static bool holds_node(void)
{
    for (int fd = 0; fd < 256; fd++) {
        char path[64];
        char target[256];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            if (strncmp(target, "/dev/dri/", strlen("/dev/dri/")) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void on_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user;
    (void)ctx_id;
    (void)ring_idx;
    (void)seq;
}

static void on_lost(void *user, uint32_t ctx_id)
{
    (void)user;
    (void)ctx_id;
}

static enum vgd_status create(const char *node, enum vgd_gl_platform platform,
                              struct vgd_render **out)
{
    char why[256] = "";
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .render_node = node,
        .platform = platform,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost},
    };
    return vgd_virgl_create(&options, out, why, sizeof(why));
}

Test(render_nodes, a_named_node_is_the_only_one_opened)
{
    struct vgd_render *r = NULL;
    uint32_t first;
    uint32_t second;
    /* Whether the null device makes a renderer is up to Mesa's software path. */
    enum vgd_status st = create(SECOND, VGD_GL_AUTO, &r);
    count_opens(&first, &second);
    cr_expect_eq(first, 0, "the other node was opened %u times", first);
    cr_expect_geq(second, 1);
    if (st == VGD_OK) {
        r->ops->destroy(r);
    }
}

Test(render_nodes, surfaceless_opens_none)
{
    struct vgd_render *r = NULL;
    uint32_t first;
    uint32_t second;
    cr_assert_eq(create(NULL, VGD_GL_SURFACELESS, &r), VGD_OK);
    count_opens(&first, &second);
    cr_expect_eq(first + second, 0, "opened %u and %u times", first, second);
    cr_expect(!holds_node());
    r->ops->destroy(r);
}

Test(render_nodes, candidates_do_not_stay_open)
{
    struct vgd_render *r = NULL;
    uint32_t first;
    uint32_t second;
    cr_assert_eq(create(NULL, VGD_GL_AUTO, &r), VGD_OK);
    cr_expect_eq(vgd_virgl_choice(r)->platform, VGD_GL_SURFACELESS,
                 "no stand-in renders by itself");
    count_opens(&first, &second);
    cr_expect_geq(first, 1, "each candidate is tried");
    cr_expect_geq(second, 1);
    cr_expect(!holds_node(), "but in a child");
    r->ops->destroy(r);
}

/* What an earlier worker found is not searched for again. */
Test(render_nodes, a_choice_passed_back_tries_nothing)
{
    struct vgd_render *r = NULL;
    uint32_t first;
    uint32_t second;
    cr_assert_eq(create(NULL, VGD_GL_AUTO, &r), VGD_OK);
    struct vgd_gl_choice choice = *vgd_virgl_choice(r);
    r->ops->destroy(r);
    count_opens(&first, &second);
    char why[256] = "";
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .choice = &choice,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost},
    };
    cr_assert_eq(vgd_virgl_create(&options, &r, why, sizeof(why)), VGD_OK, "%s", why);
    count_opens(&first, &second);
    cr_expect_eq(first + second, 0);
    r->ops->destroy(r);
}

Test(render_nodes, nodes_are_listed_in_order)
{
    char names[VGD_RENDER_NODES_MAX][64];
    cr_assert(make_node("/dev/dri/renderD1000", 3) && make_node("/dev/dri/card0", 3));
    cr_assert_eq(vgd_render_nodes_list(names), 3);
    cr_expect_str_eq(names[0], FIRST);
    cr_expect_str_eq(names[1], SECOND);
    cr_expect_str_eq(names[2], "/dev/dri/renderD1000");
}
