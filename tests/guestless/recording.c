/* SPDX-License-Identifier: MIT */
/*
 * Recordings of a guest that draws, from outside: begun with vgd or by vgdctl in mid-life, over
 * deaths and resets, into files that take no more; and what vgd-trace reads of them.
 *
 *   recording VGD VGDCTL VGD_TRACE [--virgl]
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "scene.h"

#define ARGS_MAX 8
#define TEXT_BYTES (4u << 20)
#define RUN_WITHIN_MS 60000u
#define LOOK_EVERY_MS 5u
#define FRAMES 10u
#define FILE_MAX_BYTES (256u << 10) /* where it has to be small */

static struct {
    const char *vgd, *vgdctl, *vgd_trace, *words;
    char dir[32], file[64], socket[64], options[256];
} t;
static char text[TEXT_BYTES]; /* of the last run */

/* ---- programs ---------------------------------------------------------------------------------
 */

/* Exit status of @argv, while the guest of @s (may be NULL) is served; its output is in text. -1:
 * it did not end by itself. */
static int run(struct scene *s, const char *const *argv)
{
    VGD_AUTO_FD out = memfd_create("output", MFD_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    pid_t ended = 0;
    for (unsigned ms = 0; ended == 0 && ms < RUN_WITHIN_MS; ms += LOOK_EVERY_MS) {
        ended = waitpid(pid, &status, WNOHANG);
        if (ended == 0 && s != NULL) {
            vgd_guest_gpu_settle(s->gpu, LOOK_EVERY_MS);
        } else if (ended == 0) {
            sleep_ms(LOOK_EVERY_MS);
        }
    }
    if (ended == 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    ssize_t n = pread(out, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    return ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define RUN(s, ...) run(s, (const char *const[ARGS_MAX]){__VA_ARGS__})
#define VGDCTL(s, ...) RUN(s, t.vgdctl, "--control", t.socket, "trace", __VA_ARGS__)

/* Is vgdctl's answer that the recording is @state? */
static bool state_is(struct scene *s, const char *state)
{
    char line[64];
    (void)snprintf(line, sizeof(line), "state: %s\n", state);
    return VGDCTL(s, "status") == 0 && strstr(text, line) != NULL;
}

static bool wait_for_state(struct scene *s, const char *state, unsigned ms)
{
    for (uint64_t end_ns = vgd_now_ns() + ms * 1000000ull; vgd_now_ns() < end_ns;) {
        if (state_is(s, state)) {
            return true;
        }
    }
    tap_note("not %s: %s", state, text);
    return false;
}

/* ---- what is in the file ----------------------------------------------------------------------
 */

/* How many lines vgd-trace prints with @filter that hold @word. -1: it cannot read the file. */
static int lines_with(const char *filter, const char *word)
{
    int status = filter != NULL ? RUN(NULL, t.vgd_trace, "print", "--command", filter, t.file)
                                : RUN(NULL, t.vgd_trace, "print", t.file);
    if (status != 0) {
        return -1;
    }
    int n = 0;
    for (const char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        const char *at = strstr(line, word);
        n += at != NULL && at < line + len;
        line += len + (line[len] == '\n');
    }
    return n;
}

static int commands(const char *name)
{
    return lines_with(name, " COMMAND ");
}

/* ---- a guest ----------------------------------------------------------------------------------
 */

static bool begin(struct scene *s, const char *name, bool record)
{
    (void)unlink(t.file);
    (void)snprintf(t.options, sizeof(t.options), "%s --control-path=%s%s%s", t.words, t.socket,
                   record ? " --record=" : "", record ? t.file : "");
    return scene_open(s, t.vgd, t.options, name);
}

/* Draw @n pictures, each flushed and seen. */
static bool frames(struct scene *s, uint32_t n, uint32_t seed)
{
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    for (uint32_t i = 0; i < n; i++) {
        scene_paint(s, seed + i);
        if (vgd_guest_transfer_2d(s->gpu, SCENE_RES, whole, 0) != VGD_RESP_OK_NODATA ||
            vgd_guest_flush(s->gpu, SCENE_RES, whole) != VGD_RESP_OK_NODATA ||
            !scene_is_shown(s, 5000)) {
            return false;
        }
    }
    return true;
}

static void free_scene(struct scene *s)
{
    vgd_guest_backing_destroy(s->gpu, &s->backing);
    vgd_guest_backing_destroy(s->gpu, &s->cursor_backing);
    free(s->pixels);
    s->pixels = NULL;
}

/* ---- the tests --------------------------------------------------------------------------------
 */

static void from_the_beginning(void)
{
    struct scene s;
    if (!begin(&s, "--record", true)) {
        return;
    }
    bool drawn = scene_draw(&s) && frames(&s, FRAMES, 100);
    (void)tap_ok(drawn && state_is(&s, "running"), "a guest that is recorded draws", "%s", text);
    (void)tap_ok(scene_close(&s), "it ends when the connection closes", NULL);
    int flushes = commands("RESOURCE_FLUSH"), ends = lines_with(NULL, " END ");
    int creates = commands("RESOURCE_CREATE_2D");
    (void)tap_ok(flushes == 1 + FRAMES && creates == 2 && ends == 1, "each command is in the file",
                 "%d flushes, %d creates, %d ends: %.2000s", flushes, creates, ends, text);
}

static void in_mid_life(void)
{
    struct scene s;
    if (!begin(&s, "trace start", false)) {
        return;
    }
    bool drawn = scene_draw(&s);
    bool none = state_is(&s, "none");
    bool started = VGDCTL(&s, "start", t.file) == 0;
    (void)tap_ok(drawn && none && started, "a recording begins in mid-life", "%s", text);
    bool again = VGDCTL(&s, "start", "/dev/null") == 0;
    (void)tap_ok(!again && strstr(text, "is running") != NULL, "one at a time", "%s", text);
    (void)tap_ok(frames(&s, FRAMES, 200), "the guest goes on", NULL);
    bool stopped = VGDCTL(&s, "stop") == 0 && strstr(text, "state: ended\n") != NULL;
    (void)tap_ok(stopped, "it is stopped", "%s", text);
    bool more = frames(&s, 3, 300);
    bool over = VGDCTL(&s, "stop") != 0;
    (void)tap_ok(more && over && state_is(&s, "ended"), "and the guest goes on", "%s", text);
    int flushes = commands("RESOURCE_FLUSH");
    (void)tap_ok(flushes == FRAMES && lines_with(NULL, " END ") == 1,
                 "what came in between is in the file", "%d flushes: %.2000s", flushes, text);

    (void)unlink(t.file);
    started = VGDCTL(&s, "start", t.file) == 0;
    bool right = started && frames(&s, 2, 400) && VGDCTL(&s, "stop") == 0;
    (void)tap_ok(right && commands("RESOURCE_FLUSH") == 2, "once more, into another file", "%s",
                 text);
    (void)tap_ok(scene_close(&s), "all ends", NULL);
}

static void over_deaths_and_resets(void)
{
    struct scene s;
    if (!begin(&s, "deaths", false)) {
        return;
    }
    bool drawn = scene_draw(&s) && VGDCTL(&s, "start", t.file) == 0 && frames(&s, FRAMES, 500);
    pid_t first = scene_worker(&s, 0, 1000);
    sleep_ms(600); /* so that all of that is in the file */
    (void)kill(first, SIGKILL);
    pid_t second = scene_worker(&s, first, 10000);
    (void)tap_ok(drawn && second != 0 && frames(&s, FRAMES, 600) && state_is(&s, "running"),
                 "it goes on after a death", "%s", text);
    sleep_ms(600);
    bool reset = vgd_guest_gpu_reset(s.gpu) == VGD_OK;
    free_scene(&s);
    pid_t third = scene_worker(&s, second, 10000);
    (void)tap_ok(reset && third != 0 && scene_draw(&s) && frames(&s, FRAMES, 700) &&
                     state_is(&s, "running"),
                 "and after a reset of the guest", "%s", text);
    bool stopped = VGDCTL(&s, "stop") == 0;
    (void)tap_ok(stopped, "it is stopped", "%s", text);
    int flushes = commands("RESOURCE_FLUSH");
    int deaths = lines_with(NULL, " WORKER_DEATH "), ends = lines_with(NULL, " END ");
    (void)tap_ok(flushes == 3 * FRAMES + 1 && deaths == 1 && ends == 1,
                 "one file has all three parts", "%d flushes, %d deaths, %d ends: %.2000s", flushes,
                 deaths, ends, text);

    (void)unlink(t.file);
    bool right = VGDCTL(&s, "start", t.file) == 0;
    for (unsigned i = 0; i < 5 && right; i++) {
        pid_t worker = scene_kill_worker(&s, 10000);
        right = scene_worker(&s, worker, 20000) != 0 && frames(&s, 1, 800 + i);
    }
    (void)tap_ok(right, "deaths in a row while it runs", NULL);
    right = VGDCTL(&s, "stop") == 0;
    (void)tap_ok(right && lines_with(NULL, " END ") == 1, "and it can be read", "%s", text);
    (void)tap_ok(scene_close(&s), "all ends", NULL);
}

/* A front-end that is refused has its worker replaced: the next one's guest is recorded on. */
static void over_connections(void)
{
    struct scene s = {.vgd.socket = -1};
    char command[1024];
    (void)unlink(t.file);
    (void)snprintf(command, sizeof(command),
                   "'%s' %s --control-path=%s --record=%s --socket-path={socket}", t.vgd, t.words,
                   t.socket, t.file);
    if (vgd_guest_process_start(command, -1, &s.vgd) != VGD_OK) {
        (void)tap_ok(false, "a path to listen on", "vgd does not start");
        return;
    }
    static const char nonsense[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char byte;
    bool refused = send(s.vgd.socket, nonsense, sizeof(nonsense), MSG_NOSIGNAL) > 0 &&
                   recv(s.vgd.socket, &byte, 1, 0) <= 0;
    vgd_fd_closep(&s.vgd.socket);
    enum vgd_status st = VGD_OK;
    VGD_AUTO_FD fd = vgd_guest_connect(s.vgd.socket_path);
    s.gpu = vgd_guest_gpu_open(&fd, &(struct vgd_guest_gpu_config){.n_scanouts = 1}, &st);
    bool drawn = s.gpu != NULL && scene_draw(&s) && frames(&s, FRAMES, 1700);
    (void)tap_ok(refused && drawn && state_is(&s, "running"), "a path to listen on", "%s", text);
    (void)tap_ok(s.gpu != NULL && scene_close(&s), "all ends", NULL);
    int flushes = commands("RESOURCE_FLUSH"), ends = lines_with(NULL, " END ");
    (void)tap_ok(flushes == 1 + FRAMES && ends == 1, "one file, from the first front-end on",
                 "%d flushes, %d ends: %.2000s", flushes, ends, text);
}

/* Signals to the whole group, as a service manager sends them. */
static void ended_by_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct scene s;
        if (!begin(&s, "signals", true)) {
            return;
        }
        bool drawn = scene_draw(&s) && frames(&s, 3, 900);
        pid_t worker = scene_worker(&s, 0, 1000);
        (void)kill(worker, signals[i]);
        (void)kill(s.vgd.pid, signals[i]);
        bool ended = vgd_guest_process_wait(&s.vgd, 3000);
        bool clean = ended && WIFEXITED(s.vgd.wait_status) && WEXITSTATUS(s.vgd.wait_status) == 0;
        scene_drop(&s);
        int flushes = commands("RESOURCE_FLUSH");
        (void)tap_ok(drawn && clean && flushes == 4 && lines_with(NULL, " END ") == 1,
                     strsignal(signals[i]), "the file is not whole, %d flushes: %.2000s", flushes,
                     text);
    }
}

/* A disk that is full, as far as the worker can tell, ends the recording and nothing else. */
static void a_file_that_is_full(void)
{
    struct scene s;
    if (!begin(&s, "full", false)) {
        return;
    }
    bool drawn = scene_draw(&s) && VGDCTL(&s, "start", t.file) == 0;
    pid_t worker = scene_worker(&s, 0, 1000);
    struct rlimit limit = {.rlim_cur = FILE_MAX_BYTES, .rlim_max = FILE_MAX_BYTES};
    bool limited = prlimit(worker, RLIMIT_FSIZE, &limit, NULL) == 0;
    bool went_on = true;
    for (unsigned i = 0; i < 20 && went_on; i++) {
        went_on = frames(&s, 2, 1000 + 2 * i);
    }
    bool failed = wait_for_state(&s, "failed", 5000) && strstr(text, "may not grow") != NULL;
    (void)tap_ok(drawn && limited && went_on && failed, "a file that takes no more", "%s", text);
    (void)tap_ok(frames(&s, 3, 1100) && scene_worker(&s, 0, 0) == worker,
                 "the guest does not notice", NULL);
    int status = RUN(NULL, t.vgd_trace, "info", t.file);
    (void)tap_ok(status >= 0 && status <= 1 && strstr(text, "records") != NULL,
                 "what was written can be read", "status %d: %s", status, text);
    (void)tap_ok(scene_close(&s), "all ends", NULL);
}

static void a_pipe(void)
{
    struct scene s;
    char fifo[80];
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", t.dir);
    if (mkfifo(fifo, 0600) != 0 || !begin(&s, "a pipe", false)) {
        (void)unlink(fifo);
        return;
    }
    bool refused = VGDCTL(&s, "start", fifo) == 1 && strstr(text, "nobody reads") != NULL;
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool drawn = scene_draw(&s) && VGDCTL(&s, "start", fifo) == 0 && frames(&s, 2, 1200);
    sleep_ms(400);
    char bytes[16] = "";
    bool came = read(reader, bytes, sizeof(bytes)) == sizeof(bytes);
    (void)tap_ok(refused && drawn && came, "a pipe is recorded into", "%s", text);
    /* Nobody reads on: the pipe fills up, the guest goes on. */
    bool went_on = frames(&s, FRAMES, 1300);
    (void)tap_ok(went_on && state_is(&s, "running"), "a reader that stalls", "%s", text);
    vgd_fd_closep(&reader);
    went_on = frames(&s, 2, 1400);
    bool failed = wait_for_state(&s, "failed", 5000) && strstr(text, "nobody reads") != NULL;
    (void)tap_ok(went_on && failed, "a reader that goes", "%s", text);
    reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool started = VGDCTL(&s, "start", fifo) == 0 && frames(&s, 2, 1500);
    (void)scene_kill_worker(&s, 1000);
    failed = wait_for_state(&s, "failed", 10000) && strstr(text, "regular file") != NULL;
    (void)tap_ok(started && failed && frames(&s, 2, 1600), "a worker that dies with it", "%s",
                 text);
    vgd_fd_closep(&reader);
    (void)tap_ok(scene_close(&s), "all ends", NULL);
    (void)unlink(fifo);
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 5) {
        (void)fprintf(stderr, "usage: recording VGD VGDCTL VGD_TRACE [--virgl]\n");
        return 2;
    }
    t.vgd = argv[1];
    t.vgdctl = argv[2];
    t.vgd_trace = argv[3];
    t.words = argc == 5 ? argv[4] : "";
    (void)strcpy(t.dir, "/tmp/vgd-recording-XXXXXX");
    if (mkdtemp(t.dir) == NULL) {
        return 2;
    }
    (void)snprintf(t.file, sizeof(t.file), "%s/guest.vgdtrace", t.dir);
    (void)snprintf(t.socket, sizeof(t.socket), "%s/control", t.dir);
    from_the_beginning();
    in_mid_life();
    over_deaths_and_resets();
    over_connections();
    ended_by_signals();
    a_file_that_is_full();
    a_pipe();
    (void)unlink(t.file);
    (void)rmdir(t.dir);
    return tap_done();
}
