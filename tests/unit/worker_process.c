/* SPDX-License-Identifier: MIT */
/*
 * Worker and render server as one generation, with scripted programs in their place: who is
 * started with what, and that nothing of a generation outlives it, no process and no descriptor.
 * SCRIPTED_PROCESS is the stand-in for both. One file: one scripted life serves all tests.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "frames.h"
#include "leaks.h"
#include "log.h"
#include "render_server.h"
#include "worker_process.h"

#define HANG_MS 300u

static struct {
    struct vgd_loop *loop;
    struct vgd_worker_process *p;
    int frames_fd;
    unsigned ready, gone, failed;
    struct vgd_worker_end end; /* of the last that is gone */
    char folder[64];
    unsigned fds_before;
    bool virgl;    /* wanted, too */
    pid_t earlier; /* a child that is not ours to end; 0: none */
} t;

/* A process that hangs in the kernel is not to be had at will: SIGKILL does not reach this one. */
static pid_t unkillable;
static unsigned n_unkilled;

int kill(pid_t pid, int sig)
{
    if (pid == unkillable && sig == SIGKILL) {
        n_unkilled++;
        return 0;
    }
    return (int)syscall(SYS_kill, pid, sig);
}

static void on_ready(void *user, const struct vgd_link_ready *ready, bool again)
{
    (void)user;
    (void)ready;
    (void)again;
    t.ready++;
}

static void on_message(void *user, struct vgd_link_message *msg)
{
    (void)user;
    (void)msg;
}

static void on_gone(void *user, const struct vgd_worker_end *end)
{
    (void)user;
    t.gone++;
    t.end = *end;
}

static void on_failed(void *user)
{
    (void)user;
    t.failed++;
}

static void start_with(const char *worker, const char *server, const char *program,
                       const char *layer_dir, bool venus, bool require_hardware)
{
    (void)setenv("VGD_TEST_WORKER", worker, 1);
    (void)setenv("VGD_TEST_SERVER", server, 1);
    t.p = vgd_worker_process_create(&(struct vgd_worker_process_config){
        .loop = t.loop,
        .program = getenv("SCRIPTED_PROCESS"),
        .render_node = "",
        .want_virgl = t.virgl,
        .want_venus = venus,
        .render_server = program != NULL ? program : getenv("SCRIPTED_PROCESS"),
        .layer_dir = layer_dir,
        .window_bytes = venus ? 4096 : 0,
        .require_hardware = require_hardware,
        .n_scanouts = 1,
        .restart_window_ms = 0, /* each death is bad luck */
        .hang_ms = HANG_MS,
        .frames_fd = t.frames_fd,
        .on_ready = on_ready,
        .on_message = on_message,
        .on_gone = on_gone,
        .on_failed = on_failed,
        .earlier = {t.earlier},
        .n_earlier = t.earlier != 0 ? 1 : 0,
    });
    cr_assert_not_null(t.p);
    vgd_worker_process_start(t.p);
}

static void start(const char *worker, const char *server)
{
    start_with(worker, server, NULL, NULL, true, false);
}

static struct vgd_worker_process_status status(void)
{
    struct vgd_worker_process_status st;
    vgd_worker_process_get_status(t.p, &st);
    return st;
}

static void turn_until_ready(unsigned count)
{
    for (unsigned i = 0; i < 5000 && t.ready < count && t.failed == 0; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_geq(t.ready, count, "%u workers became ready, %u failed", t.ready, t.failed);
}

/* The living and the dead that we did not reap. */
static unsigned children(void)
{
    char text[4096];
    FILE *f = fopen("/proc/self/task/self/children", "re");
    if (f == NULL) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
        f = fopen(path, "re");
    }
    cr_assert_not_null(f, "this kernel does not list children");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    unsigned count = 0;
    for (char *at = text; (at = strchr(at, ' ')) != NULL; at++) {
        count++;
    }
    return count;
}

static void turn_until_children(unsigned count)
{
    for (unsigned i = 0; i < 1000 && children() != count; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(children(), count, "%u children", children());
}

static void setup(void)
{
    memset(&t, 0, sizeof(t));
    vgd_log_setup("test", VGD_LOG_ERROR);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    t.fds_before = open_fds_count();
    t.loop = vgd_loop_create();
    t.frames_fd = vgd_memfd_create("test-frames", VGD_FRAMES_BYTES);
    (void)snprintf(t.folder, sizeof(t.folder), "/tmp/vgd-wp.XXXXXX");
    cr_assert_not_null(mkdtemp(t.folder));
}

static void teardown(void)
{
    vgd_worker_process_destroy(t.p);
    cr_assert_eq(children(), 0, "processes left behind");
    vgd_loop_destroy(t.loop);
    vgd_fd_closep(&t.frames_fd);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", t.folder);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(open_fds_count(), t.fds_before, "descriptors left open");
}

TestSuite(worker_process, .init = setup, .fini = teardown, .timeout = 60);

Test(worker_process, no_server_unless_it_is_asked_for)
{
    start("", "");
    turn_until_ready(1);
    struct vgd_worker_process_status st = status();
    cr_assert_eq(st.server_pid, 0);
    cr_assert_str_eq(st.ready.renderer, "venus 1, window 4096");
    cr_assert_eq(children(), 1);
}

Test(worker_process, the_server_is_reached)
{
    start("want", "");
    turn_until_ready(1);
    struct vgd_worker_process_status st = status();
    cr_assert_neq(st.server_pid, 0);
    cr_assert_str_eq(st.ready.vulkan_name, "a device");
    cr_assert_eq(children(), 2);
}

static char *dumped(char *text, size_t max_bytes)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/dump", t.folder);
    FILE *f = fopen(path, "re");
    cr_assert_not_null(f, "the server said nothing");
    size_t n = fread(text, 1, max_bytes - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    return text;
}

/* Until the worker is ready, with our output in a file of the folder. */
static void start_with_output_to_log(enum vgd_log_level level)
{
    char path[128];
    int saved[2] = {fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3),
                    fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
    (void)snprintf(path, sizeof(path), "%s/log", t.folder);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(file >= 0 && saved[0] >= 0 && saved[1] >= 0);
    (void)dup2(file, STDOUT_FILENO);
    (void)dup2(file, STDERR_FILENO);
    vgd_log_setup("test", level);
    start("want", "");
    turn_until_ready(1);
    vgd_log_setup("test", VGD_LOG_ERROR);
    (void)dup2(saved[0], STDOUT_FILENO);
    (void)dup2(saved[1], STDERR_FILENO);
    (void)close(saved[0]);
    (void)close(saved[1]);
    (void)close(file);
}

Test(worker_process, what_the_server_inherits)
{
    char path[128], text[16384];
    (void)snprintf(path, sizeof(path), "%s/dump", t.folder);
    (void)setenv("VGD_TEST_DUMP", path, 1);
    (void)setenv("VK_DRIVER_FILES", "/a/driver.json", 1);
    (void)setenv("SECRET_TOKEN", "not for guests", 1);
    (void)setenv("QEMU_AUDIO_DRV", "none", 1);
    int leaked = open("/dev/null", O_RDONLY); /* of whoever started us: not close-on-exec */
    start_with_output_to_log(VGD_LOG_ERROR);
    (void)close(leaked);
    char *at = dumped(text, sizeof(text));
    unsigned n_fds = 0;
    for (char *fd = at; (fd = strstr(fd, "fd ")) == at || (fd != NULL && fd[-1] == '\n'); fd += 3) {
        cr_assert_leq(atoi(fd + 3), 3, "it inherits descriptor %d", atoi(fd + 3));
        n_fds++;
    }
    cr_assert_eq(n_fds, 4, "%u descriptors", n_fds);
    cr_assert_not_null(strstr(at, "group 1\n"));
    cr_assert_not_null(strstr(at, "no_new_privs 1\n"));
    cr_assert_not_null(strstr(at, "death_signal 9\n"));
    cr_assert_not_null(strstr(at, "env VK_DRIVER_FILES=/a/driver.json\n"));
    cr_assert_null(strstr(at, "SECRET_TOKEN"));
    cr_assert_null(strstr(at, "QEMU_AUDIO_DRV"));
    cr_assert_null(strstr(at, "VK_LAYER_VGD"), "the layer only where it is wanted");
    cr_assert_not_null(strstr(at, "\n1 is /dev/null\n"), "what it prints is the guest's doing");
    cr_assert_not_null(strstr(at, "\n2 is /dev/null\n"));
}

Test(worker_process, what_the_server_prints_is_for_debugging)
{
    char path[128], text[16384];
    (void)snprintf(path, sizeof(path), "%s/dump", t.folder);
    (void)setenv("VGD_TEST_DUMP", path, 1);
    start_with_output_to_log(VGD_LOG_DEBUG);
    char expected[160];
    (void)snprintf(expected, sizeof(expected), "\n2 is %s/log\n", t.folder);
    cr_assert_not_null(strstr(dumped(text, sizeof(text)), expected));
}

Test(worker_process, the_layer_is_brought_in)
{
    char path[128], text[16384], expected[256];
    (void)snprintf(path, sizeof(path), "%s/VkLayer_vgd_host_memory.json", t.folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    (void)close(fd);
    (void)snprintf(path, sizeof(path), "%s/dump", t.folder);
    (void)setenv("VGD_TEST_DUMP", path, 1);
    start_with("want layer", "", NULL, t.folder, true, false);
    turn_until_ready(1);
    char *at = dumped(text, sizeof(text));
    (void)snprintf(expected, sizeof(expected), "env VK_ADD_LAYER_PATH=%s\n", t.folder);
    cr_assert_not_null(strstr(at, expected));
    cr_assert_not_null(strstr(at, "env VK_INSTANCE_LAYERS=VK_LAYER_VGD_host_memory\n"));
    cr_assert_not_null(strstr(at, "env VGD_VULKAN_HOST_MEMORY=1\n"));
    cr_assert_not_null(strstr(at, "env VGD_VULKAN_DEVICE_UUID=a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\n"));
}

Test(worker_process, a_layer_that_is_not_there)
{
    start_with("want layer", "", NULL, t.folder, true, false);
    turn_until_ready(1);
    struct vgd_worker_process_status st = status();
    cr_assert_eq(st.server_pid, 0);
    cr_assert_not_null(strstr(st.ready.vulkan_note, "VkLayer_vgd_host_memory.json"), "%s",
                       st.ready.vulkan_note);
}

Test(worker_process, a_server_that_cannot_be_run)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/server", t.folder);
    start_with("want", "", path, NULL, true, false);
    turn_until_ready(1);
    cr_assert_not_null(strstr(status().ready.vulkan_note, path), "%s", status().ready.vulkan_note);
    cr_assert_not_null(strstr(status().ready.vulkan_note, "No such file"));
    cr_assert_eq(status().deaths_count, 0, "the worker goes on without");
    vgd_worker_process_destroy(t.p);

    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    cr_assert_eq(write(fd, "not a program", 13), 13);
    (void)close(fd);
    start_with("want", "", path, NULL, true, false);
    turn_until_ready(2);
    cr_assert_not_null(strstr(status().ready.vulkan_note, "Exec format error"), "%s",
                       status().ready.vulkan_note);
    cr_assert_eq(status().server_pid, 0);
    turn_until_children(1);
}

/* What was asked for by name has to be there at the first start. */
Test(worker_process, required_and_not_there)
{
    start_with("want", "", "/nowhere/virgl_render_server", NULL, true, true);
    for (unsigned i = 0; i < 2000 && t.failed == 0; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(t.failed, 1);
    cr_assert_eq(t.ready, 0);
}

Test(worker_process, required_and_only_half_of_it_there)
{
    t.virgl = true;
    start_with("want", "", NULL, NULL, true, true); /* Vulkan, and no OpenGL */
    for (unsigned i = 0; i < 2000 && t.failed + t.ready == 0; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(t.failed, 1);
    vgd_worker_process_destroy(t.p);
    start_with("want opengl", "", NULL, NULL, true, true);
    t.failed = 0;
    turn_until_ready(1);
}

Test(worker_process, killed_with_what_they_started)
{
    for (int of_server = 0; of_server < 2; of_server++) {
        t.ready = 0;
        t.gone = 0;
        start("want leave-child", "fork");
        turn_until_ready(1);
        for (unsigned i = 0; i < 10; i++) {
            struct vgd_worker_process_status before = status();
            cr_assert_eq(kill(of_server != 0 ? before.server_pid : before.pid, SIGKILL), 0);
            turn_until_ready(2 + i);
            struct vgd_worker_process_status after = status();
            cr_assert_neq(after.pid, before.pid);
            cr_assert_neq(after.server_pid, before.server_pid, "both are replaced");
            cr_assert_eq(t.gone, 1 + i);
            cr_assert_eq(after.deaths_count, 1 + i, "one death, not two");
            cr_assert_eq(after.server_deaths_count, of_server != 0 ? 1 + i : 0);
            turn_until_children(2); /* nothing of the old: three forks, a child, a session */
        }
        vgd_worker_process_destroy(t.p);
        t.p = NULL;
        cr_assert_eq(children(), 0);
    }
}

Test(worker_process, deaths_leave_no_descriptors)
{
    start("want", "");
    turn_until_ready(1);
    unsigned before = open_fds_count();
    for (unsigned i = 0; i < 20; i++) {
        (void)kill(i % 2 != 0 ? status().pid : status().server_pid, SIGKILL);
        turn_until_ready(2 + i);
    }
    turn_until_children(2);
    cr_assert_eq(open_fds_count(), before);
}

/* Of another version, or no render server at all: what else the worker has goes on. */
Test(worker_process, a_server_that_ends_at_once)
{
    start("want", "exit");
    turn_until_ready(1);
    turn_until_children(1);
    for (unsigned i = 0; i < 50; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(status().deaths_count, 0);
    cr_assert_eq(status().server_pid, 0);
    cr_assert_eq(status().ready.vulkan_name[0], 0);
    cr_assert_eq(t.gone + t.failed, 0);
}

/* Later, a generation is what had Vulkan: both are made anew. */
Test(worker_process, a_server_that_ends_at_once_later)
{
    start("want slow", "");
    turn_until_ready(1);
    (void)setenv("VGD_TEST_SERVER", "exit", 1);
    (void)kill(status().server_pid, SIGKILL);
    for (unsigned i = 0; i < 500 && status().deaths_count < 2; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_geq(status().deaths_count, 2, "tried again");
}

Test(worker_process, a_server_that_is_of_no_use_is_ended)
{
    start("want", "silent");
    turn_until_ready(1);
    cr_assert_eq(status().ready.vulkan_name[0], 0);
    turn_until_children(1);
    cr_assert_eq(status().server_pid, 0);
    cr_assert_eq(status().deaths_count, 0);
}

static void expect_killed(const char *worker, bool venus)
{
    start_with(worker, "", NULL, NULL, venus, false);
    for (unsigned i = 0; i < 1000 && status().deaths_count == 0; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_geq(status().deaths_count, 1, "'%s' is believed", worker);
    vgd_worker_process_destroy(t.p);
    t.p = NULL;
    cr_assert_eq(children(), 0);
}

Test(worker_process, requests_that_cannot_be)
{
    expect_killed("want twice", true);
    expect_killed("want short", true);
    expect_killed("want", false);
    expect_killed("late", true);
}

static unsigned count_in(const char *text, const char *word)
{
    unsigned n = 0;
    for (; (text = strstr(text, word)) != NULL; text++) {
        n++;
    }
    return n;
}

/* What it sends behind that is not looked at, and one line is enough. */
Test(worker_process, killed_once)
{
    char path[128], text[16384];
    (void)snprintf(path, sizeof(path), "%s/log", t.folder);
    int log = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int old = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    cr_assert(log >= 0 && old >= 0 && dup2(log, STDERR_FILENO) >= 0);
    vgd_log_setup("test", VGD_LOG_WARNING);
    start("late", "");
    (void)usleep(300000); /* it has sent all of them */
    turn_until_ready(1);
    (void)setenv("VGD_TEST_WORKER", "", 1);
    for (unsigned i = 0; i < 1000 && t.gone == 0; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(t.gone, 1);
    vgd_log_setup("test", VGD_LOG_ERROR);
    (void)dup2(old, STDERR_FILENO);
    (void)close(old);
    ssize_t n = pread(log, text, sizeof(text) - 1, 0);
    (void)close(log);
    cr_assert_gt(n, 0);
    text[n] = '\0';
    cr_assert_eq(count_in(text, "killing worker"), 1, "%s", text);
}

/* A worker that served chooses its exit status; the session has to hear of its end all the same. */
Test(worker_process, an_exit_status_like_a_failed_exec)
{
    start("status-127", "");
    turn_until_ready(1);
    (void)setenv("VGD_TEST_WORKER", "", 1);
    struct vgd_link_u64 m = {.value = 0};
    cr_assert(vgd_worker_process_send(t.p, VGD_LINK_FEATURES, &m, sizeof(m), NULL, 0));
    turn_until_ready(2);
    cr_assert_eq(t.gone, 1);
    cr_assert_eq(status().deaths_count, 1);
    cr_assert(!t.end.replaced && t.end.generation == 1 && t.end.exit_status == 127 &&
              t.end.signal == 0);
    cr_assert_eq(kill(status().pid, SIGKILL), 0);
    turn_until_ready(3);
    cr_assert(!t.end.replaced && t.end.generation == 2 && t.end.exit_status == 0 &&
              t.end.signal == SIGKILL);
}

/* A worker is told to die, by a reset of the guest or otherwise, and does not. */
static void hangs(bool reset)
{
    start("stay", "");
    turn_until_ready(1);
    (void)setenv("VGD_TEST_WORKER", "", 1);
    struct vgd_link_queue_start m = {.size = 64};
    cr_assert(vgd_worker_process_send(t.p, VGD_LINK_QUEUE_START, &m, sizeof(m), NULL, 0));
    unkillable = status().pid;
    pid_t before = unkillable;
    uint64_t start_ns = vgd_now_ns();
    if (reset) {
        vgd_worker_process_forget(t.p);
    } else {
        vgd_worker_process_kill(t.p, "a test");
    }
    turn_until_ready(2);
    cr_assert_geq(vgd_now_ns() - start_ns, HANG_MS * 1000000ull);
    cr_assert_eq(t.gone, 1);
    cr_assert(t.end.left_behind && t.end.signal == SIGKILL && t.end.replaced == reset);
    cr_assert_neq(status().pid, before);
    cr_assert_eq(children(), 2, "it did die");

    /* Looked for again and again, less and less often. */
    n_unkilled = 0;
    for (uint64_t end_ns = vgd_now_ns() + 1000000000; vgd_now_ns() < end_ns;) {
        vgd_loop_turn(t.loop, 10);
    }
    cr_assert_geq(n_unkilled, 2);
    cr_assert_leq(n_unkilled, 8);
    unkillable = 0; /* the call ended, and the process with it */
    turn_until_children(1);
    cr_assert_eq(t.gone, 1, "told twice");
    cr_assert_eq(t.ready, 2);
}

Test(worker_process, one_that_hangs_in_the_kernel)
{
    hangs(false);
}

Test(worker_process, one_that_hangs_in_the_kernel_at_a_reset)
{
    hangs(true);
}

/* It can write into the vault, so what it counts there decides nothing. */
Test(worker_process, a_reset_replaces_what_had_a_ring)
{
    start("", "");
    turn_until_ready(1);
    vgd_worker_process_forget(t.p);
    cr_assert(vgd_worker_process_ready(t.p));
    for (unsigned i = 0; i < 20; i++) {
        vgd_loop_turn(t.loop, 2);
    }
    cr_assert_eq(t.gone, 0, "it has served nothing");
    struct vgd_link_queue_start m = {.size = 64};
    cr_assert(vgd_worker_process_send(t.p, VGD_LINK_QUEUE_START, &m, sizeof(m), NULL, 0));
    pid_t before = status().pid;
    vgd_worker_process_forget(t.p);
    turn_until_ready(2);
    cr_assert_eq(t.gone, 1);
    cr_assert_neq(status().pid, before);
    cr_assert_eq(status().deaths_count, 0, "not a death");
    cr_assert(t.end.replaced && t.end.generation == 1);
}

/* The way that one worker told may be what kills the next. */
Test(worker_process, a_choice_that_ends_its_successor)
{
    start("chosen distrust", "");
    turn_until_ready(1);
    cr_assert_eq(kill(status().pid, SIGKILL), 0);
    turn_until_ready(2);
    struct vgd_worker_process_status st = status();
    cr_assert_eq(st.deaths_count, 2, "%u deaths", st.deaths_count);
    cr_assert_not(st.gave_up_3d);
}

static pid_t child(bool lives)
{
    pid_t pid = fork();
    if (pid == 0) {
        while (lives) {
            (void)pause();
        }
        _exit(0);
    }
    cr_assert_gt(pid, 0);
    return pid;
}

/* A shell that starts a VMM in the background and then becomes us. */
Test(worker_process, children_that_were_there_before)
{
    t.earlier = child(true);
    pid_t stray = child(true);
    start("", "");
    turn_until_ready(1);
    cr_assert_eq(kill(status().pid, SIGKILL), 0);
    turn_until_ready(2);
    turn_until_children(2);
    cr_assert_eq(kill(t.earlier, 0), 0);
    cr_assert_neq(kill(stray, 0), 0);
    vgd_worker_process_destroy(t.p);
    t.p = NULL;
    pid_t left[4];
    cr_assert_eq(vgd_children(left, 4), 1);
    cr_assert_eq(left[0], t.earlier);
    while (vgd_strays_end(NULL, 0) != 0) {
        (void)usleep(1000);
    }
}

/* What it leaves may have become our child after we looked: so there is another look. */
Test(worker_process, a_dead_child_is_no_reason_to_stop_looking)
{
    pid_t dead = child(false);
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0);
    cr_assert_eq(vgd_strays_end(NULL, 0), 1);
    cr_assert_eq(vgd_strays_end(NULL, 0), 0);
}

/* More than one look finds: the dead in front do not hide the living behind. */
Test(worker_process, very_many_children)
{
    for (unsigned i = 0; i < 3000; i++) {
        (void)child(false);
    }
    pid_t last = child(true);
    unsigned looks = 0;
    while (vgd_strays_end(NULL, 0) != 0) {
        cr_assert_lt(++looks, 1000);
        (void)usleep(1000);
    }
    cr_assert_neq(kill(last, 0), 0, "the last one lives on");
}

/* ---- the environment alone ----------------------------------------------------------------------
 */

static const char *find(char **env, const char *word)
{
    size_t n = strlen(word);
    const char *found = NULL;
    for (; *env != NULL; env++) {
        if (strncmp(*env, word, n) == 0 && (*env)[n] == '=') {
            cr_assert_null(found, "%s is there twice", word);
            found = *env + n + 1;
        }
    }
    return found;
}

Test(render_environment, of_a_list)
{
    char *from[] = {"VK_LAYER_PATH=/other",
                    "VK_ADD_LAYER_PATH=/more",
                    "VK_INSTANCE_LAYERS=VK_LAYER_other",
                    "VGD_VULKAN_HOST_MEMORY=1",
                    "VGD_VULKAN_DEVICE_UUID=00",
                    "MESA_LOADER_DRIVER_OVERRIDE=x",
                    "VK_LOADER_DEBUG=all",
                    "MESAX=no",
                    "HOMER=no",
                    "HOME=/root",
                    "LD_PRELOAD=lib.so",
                    "__EGL_VENDOR_LIBRARY_FILENAMES=/nvidia.json",
                    "=odd",
                    "",
                    "NOTHING",
                    NULL};
    struct vgd_link_want_server want = {.host_memory = 0};
    char **env = vgd_render_environment(from, &want, "/ours");
    cr_assert_str_eq(find(env, "VK_LAYER_PATH"), "/other");
    cr_assert_str_eq(find(env, "VK_INSTANCE_LAYERS"), "VK_LAYER_other");
    cr_assert_null(find(env, "VGD_VULKAN_HOST_MEMORY"), "ours to say");
    cr_assert_null(find(env, "VGD_VULKAN_DEVICE_UUID"));
    cr_assert_str_eq(find(env, "MESA_LOADER_DRIVER_OVERRIDE"), "x");
    cr_assert_str_eq(find(env, "VK_LOADER_DEBUG"), "all");
    cr_assert_str_eq(find(env, "HOME"), "/root");
    cr_assert_str_eq(find(env, "LD_PRELOAD"), "lib.so");
    cr_assert_str_eq(find(env, "__EGL_VENDOR_LIBRARY_FILENAMES"), "/nvidia.json");
    cr_assert_null(find(env, "MESAX"));
    cr_assert_null(find(env, "HOMER"));
    free(env);

    want.host_memory = 1;
    env = vgd_render_environment(from, &want, "/ours");
    cr_assert_str_eq(find(env, "VK_LAYER_PATH"), "/ours:/other");
    cr_assert_null(find(env, "VK_ADD_LAYER_PATH"));
    cr_assert_str_eq(find(env, "VK_INSTANCE_LAYERS"), "VK_LAYER_VGD_host_memory:VK_LAYER_other");
    cr_assert_str_eq(find(env, "VGD_VULKAN_HOST_MEMORY"), "1");
    cr_assert_null(find(env, "VGD_VULKAN_DEVICE_UUID"));
    free(env);

    char *none[] = {NULL};
    want.host_memory = 0;
    want.one_device = 1;
    env = vgd_render_environment(none, &want, "/ours");
    cr_assert_str_eq(find(env, "VK_ADD_LAYER_PATH"), "/ours");
    cr_assert_str_eq(find(env, "VGD_VULKAN_DEVICE_UUID"), "00000000000000000000000000000000");
    free(env);
}
