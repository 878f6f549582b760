/* SPDX-License-Identifier: MIT */
/* Requests with a descriptor beside them, recordings, the log's level; and clients that are no good
 * at that. */
#include "control_fixture.h"

#include <fcntl.h>

#define START_REQUEST "{\"v\":1,\"cmd\":\"trace-start\"}\n"
#define STOP_REQUEST "{\"v\":1,\"cmd\":\"trace-stop\"}\n"
#define FDS_MAX 253u /* the kernel takes no more at once */

/* Send @text with @n descriptors beside its first byte, each a duplicate of @passed. */
static void send_fds(int fd, const char *text, const int *passed, unsigned n)
{
    static union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    memset(&control, 0, sizeof(control));
    struct iovec iov = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * n);
    for (unsigned i = 0; i < n; i++) {
        memcpy(CMSG_DATA(head) + i * sizeof(int), passed, sizeof(int));
    }
    cr_assert_eq(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* A pipe: as long as anybody holds its writing end, its reading end does not end. */
struct held {
    int ends[2];
};

static struct held held_begin(void)
{
    struct held h;
    cr_assert_eq(pipe2(h.ends, O_CLOEXEC | O_NONBLOCK), 0);
    return h;
}

/* We let go: does nobody else hold it either? */
static bool is_let_go(struct held *h)
{
    char byte;
    vgd_fd_closep(&h->ends[1]);
    return read(h->ends[0], &byte, 1) == 0;
}

static void held_end(struct held *h)
{
    vgd_fds_close(h->ends, 2);
}

static bool is_trace(const char *line)
{
    return line != NULL && strcmp(line, "{\"v\":1,\"trace\":{\"state\":\"as it is\"}}") == 0;
}

static bool error_tells(const char *line, const char *text)
{
    return line != NULL && has_error(line) && strstr(line, text) != NULL;
}

/* ---- a descriptor beside a request ------------------------------------------------------------
 */

TIDY_TEST(control_trace, start_takes_one_descriptor)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    struct held h = held_begin();
    send_fds(fd, START_REQUEST, &h.ends[1], 1);
    cr_assert(is_trace(hear(rig, fd)));
    cr_assert(rig->traces_count == 1 && rig->trace_fd >= 0);
    cr_assert_eq(fcntl(rig->trace_fd, F_GETFD), FD_CLOEXEC);
    cr_assert_eq(write(rig->trace_fd, "x", 1), 1);
    char byte;
    cr_assert(read(h.ends[0], &byte, 1) == 1 && byte == 'x', "it is that one");
    vgd_fd_closep(&rig->trace_fd);
    cr_assert(is_let_go(&h));
    held_end(&h);

    rig->no_trace = "not today";
    h = held_begin();
    send_fds(fd, START_REQUEST, &h.ends[1], 1);
    cr_assert(error_tells(hear(rig, fd), "not today"));
    vgd_fd_closep(&rig->trace_fd);
    cr_assert(is_let_go(&h));
    held_end(&h);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, none_or_too_many)
{
    static const unsigned counts[] = {2, 3, 8, 250, FDS_MAX};
    struct rig *rig = rig_begin();
    int fd = client(rig);
    say(rig, fd, START_REQUEST);
    cr_assert(error_tells(hear(rig, fd), "one descriptor"));
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct held h = held_begin();
        unsigned before = open_fds_count();
        send_fds(fd, START_REQUEST, &h.ends[1], counts[i]);
        cr_assert(error_tells(hear(rig, fd), "one descriptor"), "%u", counts[i]);
        cr_assert_eq(open_fds_count(), before);
        cr_assert(is_let_go(&h));
        held_end(&h);
    }
    struct held h = held_begin();
    send_fds(fd, "{\"v\":1,", &h.ends[1], 2);
    turn(rig, 0);
    cr_assert(is_let_go(&h), "at once, not with the rest of the line");
    held_end(&h);
    say(rig, fd, "\"cmd\":\"trace-start\"}\n");
    cr_assert(error_tells(hear(rig, fd), "one descriptor"));
    /* One at a time is still more than one. */
    h = held_begin();
    send_fds(fd, "{\"v\":1,", &h.ends[1], 1);
    turn(rig, 0);
    send_fds(fd, "\"cmd\":\"trace-start\"", &h.ends[1], 1);
    turn(rig, 0);
    send_fds(fd, "}\n", &h.ends[1], 1);
    cr_assert(error_tells(hear(rig, fd), "one descriptor"));
    cr_assert(is_let_go(&h));
    held_end(&h);
    cr_assert_eq(rig->traces_count, 0);
    h = held_begin();
    send_fds(fd, START_REQUEST, &h.ends[1], 1);
    cr_assert(is_trace(hear(rig, fd)), "that is forgotten with its line");
    held_end(&h);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, what_has_no_use_for_one_closes_it)
{
    static const char *const lines[] = {
        STATUS_REQUEST,
        STOP_REQUEST,
        SHOT_REQUEST,
        "nonsense\n",
        "\n",
        "{\"v\":1,\"cmd\":\"x\"}\n",
        "{\"v\":2,\"cmd\":\"trace-start\"}\n",
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    rig->shot = SHOT_REFUSED;
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        for (unsigned n = 1; n <= 3; n += 2) {
            struct held h = held_begin();
            send_fds(fd, lines[i], &h.ends[1], n);
            cr_assert_not_null(hear(rig, fd));
            cr_assert(is_let_go(&h), "%s", lines[i]);
            held_end(&h);
            say(rig, fd, START_REQUEST);
            cr_assert(error_tells(hear(rig, fd), "one descriptor"), "it is not kept for later");
        }
    }
    cr_assert_eq(rig->traces_count, 0);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* The kernel glues what was sent to what was sent behind it with a descriptor. */
TIDY_TEST(control_trace, it_belongs_to_the_first_line_that_is_read_with_it)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    struct held h = held_begin();
    cr_assert_eq(send(fd, STATUS_REQUEST, strlen(STATUS_REQUEST), 0),
                 (ssize_t)strlen(STATUS_REQUEST));
    send_fds(fd, START_REQUEST, &h.ends[1], 1);
    cr_assert(is_status(hear(rig, fd)));
    cr_assert(error_tells(hear(rig, fd), "one descriptor"));
    cr_assert_eq(rig->traces_count, 0);
    cr_assert(is_let_go(&h));
    held_end(&h);
    h = held_begin();
    send_fds(fd, START_REQUEST STATUS_REQUEST, &h.ends[1], 1);
    cr_assert(is_trace(hear(rig, fd)));
    cr_assert(is_status(hear(rig, fd)));
    held_end(&h);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, it_comes_with_any_piece_of_the_line)
{
    const char *whole = START_REQUEST;
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (size_t at = 0; at < strlen(whole); at++) {
        struct held h = held_begin();
        char piece[2] = "";
        for (size_t i = 0; i < strlen(whole); i++) {
            piece[0] = whole[i];
            if (i == at) {
                send_fds(fd, piece, &h.ends[1], 1);
            } else {
                cr_assert_eq(send(fd, piece, 1, 0), 1);
            }
            turn(rig, 0);
        }
        cr_assert(is_trace(hear(rig, fd)), "byte %zu", at);
        held_end(&h);
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* ---- clients that are no good -----------------------------------------------------------------
 */

TIDY_TEST(control_trace, clients_vanish_with_it)
{
    static const char *const said[] = {"{", START_REQUEST, START_REQUEST STOP_REQUEST,
                                       STATUS_REQUEST START_REQUEST};
    struct rig *rig = rig_begin();
    rig->trace_stop = VGD_AGAIN;
    for (unsigned i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        for (unsigned n = 1; n <= 250; n += 249) {
            for (unsigned turned = 0; turned < 2; turned++) {
                int fd = client(rig);
                struct held h = held_begin();
                send_fds(fd, said[i], &h.ends[1], n); /* in flight */
                if (turned) {
                    turn(rig, 0); /* or between the request and its answer */
                }
                vgd_fd_closep(&fd);
                turn(rig, 10);
                vgd_fd_closep(&rig->trace_fd);
                cr_assert(is_let_go(&h), "'%s' with %u", said[i], n);
                held_end(&h);
            }
        }
    }
    vgd_control_trace_stopped(rig->c); /* nobody is left who wants to know */
    uint64_t start_ns = vgd_now_ns();
    vgd_loop_turn(rig->loop, 50);
    cr_assert_geq(vgd_now_ns() - start_ns, 45 * MS, "nothing is left to wake the loop");
    rig_end(rig);
}

TIDY_TEST(control_trace, a_stall_with_it)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    struct held h = held_begin();
    send_fds(fd, "{\"v\":1,\"cmd\":\"trace-", &h.ends[1], 1);
    cr_assert(is_dropped(rig, fd, 1200));
    cr_assert(is_let_go(&h));
    held_end(&h);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, an_endless_line_with_it)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    struct held h = held_begin();
    char line[VGD_CONTROL_LINE_BYTES_MAX + 1];
    memset(line, ' ', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    send_fds(fd, line, &h.ends[1], 250);
    turn(rig, 0);
    cr_assert(error_tells(hear(rig, fd), "too long"));
    cr_assert(is_dropped(rig, fd, 0));
    cr_assert(is_let_go(&h));
    held_end(&h);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, a_flood_of_them)
{
    struct rig *rig = rig_begin();
    rig->status_bytes = 60000;
    int flood = client(rig);
    struct held h = held_begin();
    for (unsigned i = 0; i < 200; i++) {
        struct iovec iov = {.iov_base = (char *)(uintptr_t)STATUS_REQUEST,
                            .iov_len = strlen(STATUS_REQUEST)};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &h.ends[1], sizeof(int));
        (void)sendmsg(flood, &msg, MSG_NOSIGNAL); /* until its buffers are full */
        turn(rig, 0);
    }
    int good = client(rig);
    say(rig, good, "{\"v\":1,\"cmd\":\"log-level\",\"level\":\"error\"}\n");
    cr_assert_not_null(strstr(hear(rig, good), "\"log_level\":\"error\""), "others do not notice");
    turn(rig, 600);
    cr_assert_eq(send(flood, "x", 1, MSG_NOSIGNAL), -1, "dropped");
    cr_assert(is_let_go(&h));
    held_end(&h);
    vgd_fd_closep(&flood);
    vgd_fd_closep(&good);
    rig_end(rig);
}

/* ---- what the requests mean -------------------------------------------------------------------
 */

TIDY_TEST(control_trace, how_often_pictures_are_recorded)
{
    static const struct {
        const char *value; /* NULL: not there */
        bool ok;
        uint32_t ms;
    } cases[] = {
        {NULL, true, VGD_CONTROL_PICTURE_MS},
        {"0", true, 0},
        {"1", true, 1},
        {"3600000", true, 3600000},
        {"3600001", false, 0},
        {"4294967296", false, 0},
        {"-1", false, 0},
        {"1.5", false, 0},
        {"null", false, 0},
        {"[]", false, 0},
        {"\"none\"", true, VGD_CONTROL_NO_PICTURES},
        {"\"None\"", false, 0},
        {"\"\"", false, 0},
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct held h = held_begin();
        char line[128];
        (void)snprintf(line, sizeof(line), "{\"v\":1,\"cmd\":\"trace-start\"%s%s}\n",
                       cases[i].value != NULL ? ",\"picture_ms\":" : "",
                       cases[i].value != NULL ? cases[i].value : "");
        uint32_t before = rig->traces_count;
        send_fds(fd, line, &h.ends[1], 1);
        const char *reply = hear(rig, fd);
        if (cases[i].ok) {
            cr_assert(is_trace(reply), "%s: %s", line, reply);
            cr_assert_eq(rig->picture_ms, cases[i].ms, "%s", line);
            vgd_fd_closep(&rig->trace_fd);
        } else {
            cr_assert(error_tells(reply, "picture_ms"), "%s: %s", line, reply);
        }
        cr_assert_eq(rig->traces_count, before + cases[i].ok);
        cr_assert(is_let_go(&h));
        held_end(&h);
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, start_is_answered_when_it_records)
{
    struct rig *rig = rig_begin();
    int one = client(rig), two = client(rig);
    struct held h = held_begin();
    char byte;
    rig->trace_later = true;
    rig->trace_stop = VGD_AGAIN;
    send_fds(one, START_REQUEST STATUS_REQUEST, &h.ends[1], 1);
    turn(rig, 50);
    cr_assert_eq(rig->traces_count, 1);
    say(rig, two, STOP_REQUEST);
    turn(rig, 50);
    cr_assert_eq(recv(one, &byte, 1, MSG_DONTWAIT), -1, "not before");
    vgd_control_trace_started(rig->c);
    cr_assert(is_trace(hear(rig, one)));
    cr_assert(is_status(hear(rig, one)));
    cr_assert_eq(recv(two, &byte, 1, MSG_DONTWAIT), -1, "who waits for the end waits on");
    vgd_control_trace_stopped(rig->c);
    cr_assert(is_trace(hear(rig, two)));

    send_fds(one, START_REQUEST, &h.ends[1], 1);
    uint64_t start_ns = vgd_now_ns();
    cr_assert(error_tells(hear(rig, one), "does not begin"));
    cr_assert_geq(vgd_now_ns() - start_ns, 450 * MS);
    vgd_control_trace_started(rig->c);
    say(rig, one, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, one)), "what comes late is not taken for a reply");
    held_end(&h);
    vgd_fd_closep(&one);
    vgd_fd_closep(&two);
    rig_end(rig);
}

TIDY_TEST(control_trace, stop)
{
    struct rig *rig = rig_begin();
    int one = client(rig), two = client(rig), shot = client(rig);
    rig->trace_stop = VGD_UNSUPPORTED;
    say(rig, one, STOP_REQUEST);
    cr_assert(error_tells(hear(rig, one), "nothing is recorded"));
    rig->trace_stop = VGD_OK;
    say(rig, one, STOP_REQUEST STATUS_REQUEST);
    cr_assert(is_trace(hear(rig, one)));
    cr_assert(is_status(hear(rig, one)));

    rig->trace_stop = VGD_AGAIN;
    say(rig, shot, SHOT_REQUEST);
    say(rig, one, STOP_REQUEST STATUS_REQUEST);
    say(rig, two, STOP_REQUEST);
    turn(rig, 50);
    char byte;
    cr_assert_eq(recv(one, &byte, 1, MSG_DONTWAIT), -1, "not before it is over");
    vgd_control_trace_stopped(rig->c);
    cr_assert(is_trace(hear(rig, one)));
    cr_assert(is_status(hear(rig, one)));
    cr_assert(is_trace(hear(rig, two)), "all who wait are told");
    cr_assert_eq(recv(shot, &byte, 1, MSG_DONTWAIT), -1, "and who waits for something else is not");
    vgd_control_trace_stopped(rig->c);
    vgd_fd_closep(&one);
    vgd_fd_closep(&two);
    vgd_fd_closep(&shot);
    rig_end(rig);
}

TIDY_TEST(control_trace, a_stop_that_never_comes)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    rig->trace_stop = VGD_AGAIN;
    say(rig, fd, STOP_REQUEST);
    uint64_t start_ns = vgd_now_ns();
    cr_assert(error_tells(hear(rig, fd), "does not end"));
    cr_assert_geq(vgd_now_ns() - start_ns, 450 * MS);
    vgd_control_trace_stopped(rig->c);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)), "the late end is not taken for a reply");
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control_trace, log_level)
{
    static const struct {
        const char *value;
        bool ok;
        enum vgd_log_level level;
    } cases[] = {
        {"\"error\"", true, VGD_LOG_ERROR}, {"\"warning\"", true, VGD_LOG_WARNING},
        {"\"info\"", true, VGD_LOG_INFO},   {"\"debug\"", true, VGD_LOG_DEBUG},
        {"\"\"", false, VGD_LOG_ERROR},     {"\"Debug\"", false, VGD_LOG_ERROR},
        {"3", false, VGD_LOG_ERROR},        {"null", false, VGD_LOG_ERROR},
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    say(rig, fd, "{\"v\":1,\"cmd\":\"log-level\"}\n");
    cr_assert(error_tells(hear(rig, fd), "level"));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[128], want[128];
        (void)snprintf(line, sizeof(line), "{\"v\":1,\"cmd\":\"log-level\",\"level\":%s}\n",
                       cases[i].value);
        (void)snprintf(want, sizeof(want), "{\"v\":1,\"log_level\":%s}", cases[i].value);
        enum vgd_log_level before = rig->level;
        say(rig, fd, line);
        const char *reply = hear(rig, fd);
        if (cases[i].ok) {
            cr_assert_str_eq(reply, want);
        } else {
            cr_assert(error_tells(reply, "level"));
        }
        cr_assert_eq(rig->level, cases[i].ok ? cases[i].level : before, "%s", line);
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}
