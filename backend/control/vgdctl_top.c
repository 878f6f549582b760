/* SPDX-License-Identifier: MIT */
#include "vgdctl_top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

#define NS_PER_MS 1000000ull
#define MS_PER_SECOND 1000.0
#define INTERVAL_DEFAULT_MS 1000
#define INTERVAL_MIN_S 0.1
#define INTERVAL_MAX_S 3600.0
#define ROWS_DEFAULT 24
#define COLUMNS_DEFAULT 80

#define ENTER_SCREEN "\033[?1049h\033[?25l"
#define LEAVE_SCREEN "\033[?25h\033[?1049l"
#define TO_TOP "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_BELOW "\033[J"

static volatile sig_atomic_t told_to_end;
static struct termios saved; /* the terminal as it was */
static bool on_screen;

static void end_soon(int signal)
{
    (void)signal;
    told_to_end = 1;
}

static void nothing(int signal)
{
    (void)signal; /* of another window size: it ends a poll, and the screen is drawn anew */
}

static void put(const char *text, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = write(STDOUT_FILENO, text, n_bytes);
        if (n < 0 && errno != EINTR) {
            told_to_end = 1; /* nobody looks any more */
            return;
        }
        text += n > 0 ? n : 0;
        n_bytes -= n > 0 ? (size_t)n : 0;
    }
}

static void leave_screen(void)
{
    if (on_screen) {
        on_screen = false;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
        put(LEAVE_SCREEN, strlen(LEAVE_SCREEN));
    }
}

/* False: this is no terminal. */
static bool enter_screen(void)
{
    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved) != 0) {
        return false;
    }
    struct sigaction end = {.sa_handler = end_soon}; /* no SA_RESTART: they end a poll */
    struct sigaction resize = {.sa_handler = nothing};
    (void)sigaction(SIGINT, &end, NULL);
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGHUP, &end, NULL);
    (void)sigaction(SIGWINCH, &resize, NULL);
    struct termios keys = saved;
    keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    keys.c_cc[VSUSP] = _POSIX_VDISABLE; /* a shell would have our screen, and no cursor */
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    on_screen = true;
    vgdctl_before_complaint = leave_screen;
    put(ENTER_SCREEN, strlen(ENTER_SCREEN));
    return true;
}

/* @text, of whole lines, cut to what the terminal has room for: a line that wraps would push the
 * first one out. */
static void draw(const char *text, unsigned rows, unsigned columns)
{
    char *screen = NULL;
    size_t n_bytes = 0;
    FILE *to = open_memstream(&screen, &n_bytes);
    if (to == NULL) {
        return;
    }
    (void)fputs(TO_TOP, to);
    for (unsigned row = 0; *text != '\0' && row < rows; row++) {
        size_t len = strcspn(text, "\n");
        (void)fprintf(to, "%s%.*s" CLEAR_LINE, row > 0 ? "\r\n" : "",
                      (int)(len < columns ? len : columns), text);
        text += len + (text[len] == '\n');
    }
    (void)fputs(CLEAR_BELOW, to);
    if (fclose(to) == 0) {
        put(screen, n_bytes);
    }
    free(screen);
}

static void show(const struct top_sample *before, const struct top_sample *now)
{
    char *text = NULL;
    size_t n_bytes = 0;
    struct winsize size = {0};
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    unsigned rows = size.ws_row != 0 ? size.ws_row : ROWS_DEFAULT;
    unsigned columns = size.ws_col != 0 ? size.ws_col : COLUMNS_DEFAULT;
    FILE *to = open_memstream(&text, &n_bytes);
    if (to != NULL) {
        vgdctl_top_screen(to, before, now, rows);
        if (fclose(to) == 0) {
            draw(text, rows, columns);
        }
    }
    free(text);
}

/* Wait for @due_ns, drawing anew if the window changes. False: it is time to end. */
static bool wait_until(uint64_t due_ns, const struct top_sample *before,
                       const struct top_sample *now)
{
    while (!told_to_end) {
        uint64_t time_ns = vgd_now_ns();
        if (time_ns >= due_ns) {
            return true;
        }
        struct pollfd key = {.fd = STDIN_FILENO, .events = POLLIN};
        int n = poll(&key, 1, (int)((due_ns - time_ns) / NS_PER_MS) + 1);
        if (n < 0 && errno == EINTR && !told_to_end) {
            show(before, now);
        } else if (n > 0) {
            char byte = 0;
            if (read(STDIN_FILENO, &byte, 1) <= 0 || byte == 'q' || byte == 'Q') {
                return false;
            }
        }
    }
    return false;
}

/* Once, for a file or a program. */
static bool print_once(int fd, int interval_ms, struct top_sample samples[2])
{
    (void)poll(NULL, 0, interval_ms);
    if (!vgdctl_top_sample(fd, &samples[1])) {
        return false;
    }
    vgdctl_top_screen(stdout, &samples[0], &samples[1], 0);
    return vgdctl_flush();
}

static bool parse_interval(const char *text, int *out_ms)
{
    char *end;
    *out_ms = INTERVAL_DEFAULT_MS;
    if (text == NULL) {
        return true;
    }
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= INTERVAL_MIN_S && seconds <= INTERVAL_MAX_S)) {
        vgdctl_complain("--interval is a number of seconds from 0.1 to 3600, not '%s'", text);
        return false;
    }
    *out_ms = (int)(seconds * MS_PER_SECOND);
    return true;
}

bool vgdctl_top(const struct vgdctl_args *args)
{
    int interval_ms;
    if (!parse_interval(args->interval, &interval_ms)) {
        return false;
    }
    VGD_AUTO_FD fd = vgdctl_connect(args);
    struct top_sample *samples = calloc(2, sizeof(*samples));
    if (fd < 0 || samples == NULL || !vgdctl_top_sample(fd, &samples[0])) {
        free(samples);
        return false;
    }
    bool ok = true;
    if (args->once || !enter_screen()) {
        ok = print_once(fd, interval_ms, samples);
    } else {
        unsigned now = 0, before = 0;
        do {
            show(&samples[before], &samples[now]);
            if (!wait_until(samples[now].time_ns + (uint64_t)interval_ms * NS_PER_MS,
                            &samples[before], &samples[now])) {
                break;
            }
            before = now;
            now = 1 - now;
            ok = vgdctl_top_sample(fd, &samples[now]);
        } while (ok);
        leave_screen();
    }
    free(samples);
    return ok;
}
