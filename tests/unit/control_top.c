/* SPDX-License-Identifier: MIT */
/* vgdctl top (VGDCTL names the program) against a scripted vgd: once as text, and on a terminal. */
#include "display_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "fd.h"

#define SECOND 1000000000ull
#define WAIT_MS 10000

struct rig {
    char dir[32], path[64];
    int listener;
    pid_t vgd; /* the scripted one */
    char out[1 << 16], err[4096];
    size_t n_out;
};

/* ---- a vgd ------------------------------------------------------------------------------------
 */

/* What one tells: %1$llu is the number of the look, from 1 on. */
struct script {
    const char *counters, *contexts, *contexts_rest, *errors, *status;
    unsigned looks_max; /* then it hangs up; 0: never */
};

static const char plain_counters[] =
    "{\"v\":1,\"counters\":{\"uptime_ns\":%1$llu000000000,"
    "\"commands\":{\"SUBMIT_3D\":%1$llu300,\"RESOURCE_FLUSH\":%1$llu60},"
    "\"responses\":{\"OK_NODATA\":%1$llu500,\"ERR_UNSPEC\":%1$llu7},"
    "\"bytes\":{\"commands\":%1$llu024,\"to_host\":%1$llu048576,\"from_host\":0,\"responses\":7,"
    "\"pictures\":%1$llu000000},"
    "\"stream\":{\"commands\":%1$llu000,\"draws\":%1$llu250,\"unknown\":3,\"refused\":4},"
    "\"fences\":{\"created\":9,\"done\":%1$llu0,\"outstanding\":5},"
    "\"fence_latency\":{\"le_ns\":[1000,1000000,2000000],\"counts\":[0,%1$llu98,%1$llu,0],"
    "\"sum_ns\":1,\"count\":1},"
    "\"submit_time\":{\"le_ns\":[1000,2000],\"counts\":[0,0,%1$llu],\"sum_ns\":1,\"count\":1},"
    "\"memory\":{\"resources_2d\":3145728,\"resources_3d\":1073741824,\"blobs_guest\":1,"
    "\"blobs_host\":2,\"backing\":3,\"context_state\":4096},"
    "\"live\":{\"resources\":42,\"contexts\":3,\"contexts_lost\":1,\"maps\":6},\"flushes\":%1$"
    "llu60,"
    "\"worker\":{\"starts\":3,\"deaths\":2,\"pid\":77}}}\n";
static const char plain_contexts[] =
    "{\"v\":1,\"contexts\":[{\"id\":1,\"capset\":0,\"name\":\"idle\",\"lost\":false,"
    "\"submits\":5,\"submit_bytes\":1,\"draws\":5,\"commands\":9,\"resources\":1,\"objects\":2,"
    "\"state_bytes\":2048,\"busy_ns\":5},"
    "{\"id\":2,\"capset\":4,\"name\":\"gone\",\"lost\":true,\"submits\":0,\"draws\":0,"
    "\"resources\":0,\"objects\":0,\"state_bytes\":0,\"busy_ns\":0}],\"next\":2}\n";
static const char rest_contexts[] =
    "{\"v\":1,\"contexts\":[{\"id\":9,\"capset\":2,\"name\":\"glmark2\\u001b[2J\\u009b\","
    "\"lost\":false,\"submits\":%1$llu20,\"draws\":%1$llu250,\"commands\":9,\"resources\":31,"
    "\"objects\":17,\"state_bytes\":10240,\"busy_ns\":%1$llu500000000}],\"next\":null}\n";
static const char plain_errors[] =
    "{\"v\":1,\"errors\":[{\"age_ms\":61000,\"command\":\"SUBMIT_3D\",\"response\":\"ERR_UNSPEC\","
    "\"ctx\":9,\"count\":3,\"text\":\"draw without\\u0007 a shader\"}]}\n";
static const char plain_status[] =
    "{\"v\":1,\"status\":{\"version\":\"0.1.0\",\"pid\":55,\"worker\":{\"state\":\"ready\","
    "\"renderer\":\"virgl\",\"gpu\":\"a \\u001b]0;x GPU\"},\"trace\":{\"state\":\"running\","
    "\"records\":1200,\"bytes_out\":2097152,\"gaps\":0}}}\n";

static const struct script plain = {
    .counters = plain_counters,
    .contexts = plain_contexts,
    .contexts_rest = rest_contexts,
    .errors = plain_errors,
    .status = plain_status,
};

#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void serve(int listener, const struct script *script)
{
    static char reply[1 << 16];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    unsigned long long look = 0;
    char line[256];
    ssize_t n;
    while ((n = recv(fd, line, sizeof(line) - 1, 0)) > 0) {
        line[n] = '\0';
        const char *format = script->status;
        if (strstr(line, "counters") != NULL) {
            format = script->counters;
            look++;
            if (script->looks_max != 0 && look > script->looks_max) {
                break;
            }
        } else if (strstr(line, "contexts") != NULL) {
            format = strstr(line, "\"from\":0}") != NULL ? script->contexts : script->contexts_rest;
        } else if (strstr(line, "errors") != NULL) {
            format = script->errors;
        }
        int len = snprintf(reply, sizeof(reply), format, look);
        (void)send(fd, reply, (size_t)len, MSG_NOSIGNAL);
    }
    _exit(0);
}

static struct rig *rig_begin(const struct script *script)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    (void)strcpy(rig->dir, "/tmp/vgd-top-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    (void)snprintf(rig->path, sizeof(rig->path), "%s/c.sock", rig->dir);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)strcpy(at.sun_path, rig->path);
    rig->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(rig->listener, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(rig->listener, 4), 0);
    rig->vgd = fork();
    if (rig->vgd == 0) {
        serve(rig->listener, script);
    }
    return rig;
}

static void rig_end(struct rig *rig)
{
    (void)kill(rig->vgd, SIGKILL);
    (void)waitpid(rig->vgd, NULL, 0);
    vgd_fd_closep(&rig->listener);
    cr_assert_eq(unlink(rig->path), 0);
    cr_assert_eq(rmdir(rig->dir), 0);
    free(rig);
}

/* ---- top --------------------------------------------------------------------------------------
 */

static void become_top(const struct rig *rig, const char *const *words)
{
    const char *program = getenv("VGDCTL");
    char *args[10] = {(char *)(uintptr_t)program, (char *)"--control", (char *)(uintptr_t)rig->path,
                      (char *)"top"};
    for (unsigned i = 0; words[i] != NULL; i++) {
        args[4 + i] = (char *)(uintptr_t)words[i];
    }
    (void)execv(program, args);
    _exit(127);
}

static int ended(pid_t pid)
{
    int status = 0;
    for (unsigned i = 0; i < WAIT_MS / 5; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            cr_assert(WIFEXITED(status), "died: 0x%x", (unsigned)status);
            return WEXITSTATUS(status);
        }
        (void)usleep(5000);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    cr_assert_fail("it does not end");
    return -1;
}

static void slurp(int fd, char *out, size_t out_bytes)
{
    size_t n = 0;
    ssize_t got;
    while (n < out_bytes - 1 && (got = read(fd, out + n, out_bytes - 1 - n)) > 0) {
        n += (size_t)got;
    }
    out[n] = '\0';
}

static int run(struct rig *rig, const char *const *words)
{
    int out[2], err[2];
    cr_assert(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(err[1], STDERR_FILENO);
        become_top(rig, words);
    }
    vgd_fd_closep(&out[1]);
    vgd_fd_closep(&err[1]);
    slurp(out[0], rig->out, sizeof(rig->out));
    slurp(err[0], rig->err, sizeof(rig->err));
    vgd_fd_closep(&out[0]);
    vgd_fd_closep(&err[0]);
    return ended(pid);
}

#define RUN(rig, ...) run(rig, (const char *const[6]){__VA_ARGS__})

static bool is_clean(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((*text < ' ' && *text != '\n') || *text > '~') {
            return false;
        }
    }
    return true;
}

static void assert_has(const struct rig *rig, const char *text)
{
    cr_assert_not_null(strstr(rig->out, text), "no '%s' in:\n%s", text, rig->out);
}

TIDY_TEST(top, once_to_the_unit)
{
    struct rig *rig = rig_begin(&plain);
    cr_assert_eq(RUN(rig, "--once", "--interval", "0.1"), 0, "%s", rig->err);
    cr_assert(is_clean(rig->out), "%s", rig->out);
    /* From look 1 to 2, a second by its clock: the leading digit of each counter grew by one. */
    assert_has(rig, "vgd 0.1.0, process 55, up 2s; worker 77 is ready, 3 started, 2 died; virgl on "
                    "a ?]0;x GPU\n");
    assert_has(rig, "recording  running, 1.2k records, 2.0 MiB, 0 gaps\n");
    assert_has(rig, "commands   1.1k/s (2560), errors 10/s (27), flushes 100/s (260)\n");
    assert_has(rig, "streams    draws 1.0k/s (2250), submits 1.0k/s (2300), unknown 3, refused 4, "
                    "commands 1.0k/s (2000)\n");
    assert_has(rig, "bytes/s    to host 977 KiB, from host 0 B, commands 1000 B, responses 0 B, "
                    "pictures 977 KiB\n");
    assert_has(rig, "fences     10/s (20), 5 outstanding; latency: 50 % <=1.0 ms, 95 % <=1.0 ms, "
                    "99 % <=1.0 ms\n");
    assert_has(rig, "submits    time: 50 % >2.0 us, 95 % >2.0 us, 99 % >2.0 us\n");
    assert_has(rig,
               "memory     2D 3.0 MiB, 3D 1.0 GiB, guest blobs 1 B, host blobs 2 B, backing 3 B, "
               "context state 4.0 KiB\n");
    assert_has(rig, "live       resources 42, contexts 3 (1 lost), maps 6\n");
    const char *busy = strstr(rig->out, "     9 glmark2?[2J");
    const char *idle = strstr(rig->out, "     1 idle");
    cr_assert(busy != NULL && idle != NULL && busy < idle, "%s", rig->out);
    const char *gone = strstr(rig->out, "     2 gone");
    const char *ends[] = {"virgl2 ", "virgl ", "venus "};
    const char *const lines[] = {busy, idle, gone};
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_not_null(lines[i]);
        const char *kind = strstr(lines[i], ends[i]);
        cr_assert(kind != NULL && kind < strchr(lines[i], '\n'), "%s", rig->out);
    }
    assert_has(rig, "   1.0k       100  100.0        31       17   10.0 KiB\n");
    assert_has(rig, " lost\n");
    assert_has(rig,
               " 1m01s ago      3 x SUBMIT_3D -> ERR_UNSPEC, context 9: draw without? a shader\n");
    rig_end(rig);
}

TIDY_TEST(top, bad_words)
{
    static const char *const intervals[] = {"0", "0.05", "-1", "3601", "x", "1x", "", "nan", "inf"};
    struct rig *rig = rig_begin(&plain);
    for (unsigned i = 0; i < sizeof(intervals) / sizeof(intervals[0]); i++) {
        cr_assert_eq(RUN(rig, "--once", "--interval", intervals[i]), 1);
        cr_assert_not_null(strstr(rig->err, "--interval"), "%s", rig->err);
        cr_assert_str_eq(rig->out, "");
    }
    cr_assert_eq(RUN(rig, "now"), 1);
    cr_assert_eq(RUN(rig, "--json"), 1);
    rig_end(rig);
}

/* It may have been taken over by its guest. */
TIDY_TEST(top, believes_nothing)
{
    static const char none[] = "{\"v\":1}\n";
    static const struct script scripts[] = {
        {.counters = none, .contexts = none, .contexts_rest = none, .errors = none, .status = none},
        {.counters = "{\"v\":1,\"counters\":7}\n",
         .contexts = "{\"v\":1,\"contexts\":7,\"next\":1}\n",
         .contexts_rest = "{\"v\":1,\"contexts\":{},\"next\":1}\n",
         .errors = "{\"v\":1,\"errors\":\"\"}\n",
         .status = "{\"v\":1,\"status\":[]}\n"},
        {.counters =
             "{\"v\":1,\"counters\":{\"uptime_ns\":18446744073709551615,\"commands\":[1],"
             "\"responses\":{\"x\":-1,\"y\":\"z\"},\"bytes\":null,\"stream\":{\"draws\":-5},"
             "\"fence_latency\":{\"le_ns\":[],\"counts\":[18446744073709551615,1,2]},"
             "\"submit_time\":{\"le_ns\":[{},\"x\"],\"counts\":{}}}}\n",
         .contexts = "{\"v\":1,\"contexts\":[null,7,{},{\"id\":-1,\"name\":[]}],"
                     "\"next\":18446744073709551615}\n",
         .contexts_rest = "{\"v\":1,\"contexts\":[{}],\"next\":18446744073709551615}\n",
         .errors = "{\"v\":1,\"errors\":[null,{\"text\":{}},{\"age_ms\":18446744073709551615}]}\n",
         .status = "{\"v\":1,\"status\":{\"worker\":{\"gpu\":7,\"renderer\":null}}}\n"},
    };
    for (unsigned i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct rig *rig = rig_begin(&scripts[i]);
        int rc = RUN(rig, "--once", "-i", "0.1");
        cr_assert(is_clean(rig->out) && is_clean(rig->err));
        cr_assert_eq(rc, i == 0 ? 1 : 0, "%u: %s", i, rig->err);
        rig_end(rig);
    }
}

/* ---- on a terminal ----------------------------------------------------------------------------
 */

struct terminal {
    int fd;
    pid_t pid;
    struct termios before;
};

static struct terminal open_terminal(const struct rig *rig, unsigned short rows,
                                     unsigned short columns)
{
    struct terminal t;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    static const char *const words[] = {"--interval", "0.2", NULL};
    int slave;
    cr_assert_eq(openpty(&t.fd, &slave, NULL, NULL, &size), 0);
    cr_assert_eq(tcgetattr(slave, &t.before), 0);
    t.pid = fork();
    if (t.pid == 0) {
        (void)close(t.fd);
        if (login_tty(slave) != 0) {
            _exit(126);
        }
        become_top(rig, words);
    }
    (void)close(slave);
    return t;
}

/* Read what it writes until @text was there @count times, or it ends. */
static void watch_terminal(struct rig *rig, struct terminal *t, const char *text, unsigned count)
{
    for (;;) {
        unsigned n = 0;
        for (const char *at = rig->out; (at = strstr(at, text)) != NULL; at++) {
            n++;
        }
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        cr_assert(n >= count || rig->n_out < sizeof(rig->out) - 1);
        if (n >= count || poll(&p, 1, WAIT_MS) <= 0) {
            cr_assert_geq(n, count, "no '%s' in:\n%s", text, rig->out);
            return;
        }
        ssize_t got = read(t->fd, rig->out + rig->n_out, sizeof(rig->out) - 1 - rig->n_out);
        cr_assert_gt(got, 0, "it ended: %s", rig->out);
        rig->n_out += (size_t)got;
        rig->out[rig->n_out] = '\0';
    }
}

static void close_terminal(struct rig *rig, struct terminal *t, int want_status)
{
    watch_terminal(rig, t, "\033[?1049l", 1);
    struct termios after;
    cr_assert_eq(tcgetattr(t->fd, &after), 0);
    cr_assert_eq(after.c_lflag, t->before.c_lflag, "echo and lines are back");
    cr_assert_eq(ended(t->pid), want_status);
    vgd_fd_closep(&t->fd);
}

TIDY_TEST(top, on_a_terminal)
{
    struct rig *rig = rig_begin(&plain);
    struct terminal t = open_terminal(rig, 40, 132);
    watch_terminal(rig, &t, "\033[H", 3);
    cr_assert_eq(strncmp(rig->out, "\033[?1049h\033[?25l\033[H", 17), 0);
    assert_has(rig, "commands   0/s"); /* the first look has nothing before it */
    assert_has(rig, "commands   1.1k/s");
    assert_has(rig, "glmark2?[2J");
    cr_assert_null(strstr(rig->out, "2J\302\233"));
    assert_has(rig, "recent errors");
    cr_assert_eq(write(t.fd, "xq", 2), 2);
    close_terminal(rig, &t, 0);
    rig_end(rig);
}

TIDY_TEST(top, ends_with_an_interrupt)
{
    struct rig *rig = rig_begin(&plain);
    struct terminal t = open_terminal(rig, 24, 80);
    watch_terminal(rig, &t, "glmark2", 1);
    cr_assert_eq(write(t.fd, "\003", 1), 1);
    close_terminal(rig, &t, 0);
    rig_end(rig);
}

TIDY_TEST(top, gives_the_terminal_back_before_it_complains)
{
    struct script script = plain;
    script.looks_max = 3;
    struct rig *rig = rig_begin(&script);
    struct terminal t = open_terminal(rig, 24, 80);
    watch_terminal(rig, &t, "no reply", 1);
    cr_assert(strstr(rig->out, "\033[?1049l") < strstr(rig->out, "vgdctl: no reply"));
    close_terminal(rig, &t, 1);
    rig_end(rig);
}

TIDY_TEST(top, keeps_within_the_window)
{
    static const unsigned short sizes[][2] = {{1, 1}, {2, 7}, {5, 20}, {10, 79}, {13, 40}};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rig *rig = rig_begin(&plain);
        struct terminal t = open_terminal(rig, sizes[i][0], sizes[i][1]);
        watch_terminal(rig, &t, "\033[J", 2);
        const char *from = strstr(rig->out, "\033[H") + 3, *end = strstr(from, "\033[J");
        unsigned rows = 1, column = 0;
        for (const char *at = from; at < end; at++) {
            if (*at == '\033') {
                at += 2; /* to the end of the line */
            } else if (*at == '\n') {
                rows++;
                column = 0;
            } else if (*at != '\r') {
                column++;
            }
            cr_assert_leq(column, sizes[i][1], "%u columns", sizes[i][1]);
        }
        cr_assert_leq(rows, sizes[i][0], "%u rows", sizes[i][0]);
        cr_assert_eq(write(t.fd, "q", 1), 1);
        close_terminal(rig, &t, 0);
        rig_end(rig);
    }
}

TIDY_TEST(top, a_window_that_changes)
{
    struct rig *rig = rig_begin(&plain);
    struct terminal t = open_terminal(rig, 3, 40);
    watch_terminal(rig, &t, "\033[J", 1);
    struct winsize size = {.ws_row = 40, .ws_col = 132};
    cr_assert_eq(ioctl(t.fd, TIOCSWINSZ, &size), 0);
    watch_terminal(rig, &t, "recent errors", 1);
    cr_assert_eq(write(t.fd, "q", 1), 1);
    close_terminal(rig, &t, 0);
    rig_end(rig);
}
