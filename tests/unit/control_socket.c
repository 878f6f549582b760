/* SPDX-License-Identifier: MIT */
/* The control socket and its hostile clients. */
#include "control_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* --- Requests. --- */

TIDY_TEST(control, status)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (uint32_t i = 0; i < 3; i++) {
        say(rig, fd, STATUS_REQUEST);
        cr_assert(is_status(hear(rig, fd)));
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, what_is_counted_and_listed)
{
    static const char *const cases[][2] = {
        {"{\"v\":1,\"cmd\":\"counters\"}\n", "{\"v\":1,\"counters\":{\"flushes\":3}}"},
        {"{\"v\":1,\"cmd\":\"contexts\"}\n", "{\"v\":1,\"contexts\":[1,2],\"next\":3}"},
        {"{\"v\":1,\"cmd\":\"contexts\",\"from\":0}\n", "{\"v\":1,\"contexts\":[1,2],\"next\":3}"},
        {"{\"v\":1,\"cmd\":\"contexts\",\"from\":5}\n",
         "{\"v\":1,\"contexts\":[5,6],\"next\":null}"},
        {"{\"v\":1,\"cmd\":\"contexts\",\"from\":4294967295}\n",
         "{\"v\":1,\"contexts\":[],\"next\":null}"},
        {"{\"v\":1,\"cmd\":\"errors\"}\n", "{\"v\":1,\"errors\":[]}"},
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        say(rig, fd, cases[i][0]);
        cr_assert_str_eq(hear(rig, fd), cases[i][1]);
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, what_is_wrong_is_said_and_the_client_stays)
{
    static const char *const lines[] = {
        "\n",
        "hello\n",
        "{\n",
        "{}\n",
        "null\n",
        "1\n",
        "[1]\n",
        "\"status\"\n",
        "{\"v\":1}\n",
        "{\"cmd\":\"status\"}\n",
        "{\"v\":2,\"cmd\":\"status\"}\n",
        "{\"v\":\"1\",\"cmd\":\"status\"}\n",
        "{\"v\":4294967297,\"cmd\":\"status\"}\n",
        "{\"v\":1,\"cmd\":\"reboot\"}\n",
        "{\"v\":1,\"cmd\":[\"status\"]}\n",
        "{\"v\":1,\"cmd\":\"status\"} x\n",
        "{\"v\":1,\"cmd\":\"status\"}{}\n",
        "{\"v\":1,\"cmd\":\"\xff\xfe\"}\n",
        "{\"v\":1,\"cmd\":\"screenshot\"}\n",
        "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":-1}\n",
        "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":16}\n",
        "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":4294967296}\n",
        "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":\"0\"}\n",
        "{\"v\":1,\"cmd\":\"contexts\",\"from\":-1}\n",
        "{\"v\":1,\"cmd\":\"contexts\",\"from\":4294967296}\n",
        "{\"v\":1,\"cmd\":\"contexts\",\"from\":\"1\"}\n",
        "{\"v\":1,\"cmd\":\"contexts\",\"from\":null}\n",
        "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n",
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (uint32_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        say(rig, fd, lines[i]);
        const char *reply = hear(rig, fd);
        cr_assert(reply != NULL && has_error(reply), "%s -> %s", lines[i], reply);
    }
    cr_assert_eq(send(fd, "{\"v\":1\0}\n", 9, 0), 9);
    cr_assert(has_error(hear(rig, fd)), "a NUL ends nothing");
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)));
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, requests_come_in_any_pieces)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (const char *at = STATUS_REQUEST; *at != '\0'; at++) {
        cr_assert_eq(send(fd, at, 1, 0), 1);
        turn(rig, 0);
    }
    cr_assert(is_status(hear(rig, fd)));
    say(rig, fd, STATUS_REQUEST "nonsense\n" STATUS_REQUEST "{\"v\":1,");
    cr_assert(is_status(hear(rig, fd)));
    cr_assert(has_error(hear(rig, fd)));
    cr_assert(is_status(hear(rig, fd)));
    say(rig, fd, "\"cmd\":\"status\"}\n");
    cr_assert(is_status(hear(rig, fd)));
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, a_line_has_a_limit)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    char line[VGD_CONTROL_LINE_BYTES_MAX + 1];
    memset(line, ' ', sizeof(line));
    memcpy(line, STATUS_REQUEST, strlen(STATUS_REQUEST) - 1);
    line[sizeof(line) - 2] = '\n';
    line[sizeof(line) - 1] = '\0';
    say(rig, fd, line); /* as long as may be */
    cr_assert(is_status(hear(rig, fd)));
    line[sizeof(line) - 2] = ' ';
    say(rig, fd, line);
    cr_assert(has_error(hear(rig, fd)));
    cr_assert(is_dropped(rig, fd, 0), "where its next request starts is unknown");
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, a_reply_has_a_limit)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    rig->status_bytes = VGD_CONTROL_REPLY_BYTES_MAX - 100;
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)));
    rig->status_bytes = VGD_CONTROL_REPLY_BYTES_MAX;
    say(rig, fd, STATUS_REQUEST);
    cr_assert(has_error(hear(rig, fd)));
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* --- Clients that are no good. --- */

TIDY_TEST(control, clients_vanish_at_every_point)
{
    struct rig *rig = rig_begin();
    static const char *const said[] = {"",
                                       "{\"v\":1",
                                       STATUS_REQUEST,
                                       STATUS_REQUEST STATUS_REQUEST,
                                       SHOT_REQUEST,
                                       SHOT_REQUEST STATUS_REQUEST};
    for (uint32_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        for (uint32_t turned = 0; turned < 2; turned++) {
            int fd = client(rig);
            (void)send(fd, said[i], strlen(said[i]), 0);
            if (turned) {
                turn(rig, 0);
            }
            vgd_fd_closep(&fd);
            turn(rig, 0);
        }
    }
    for (uint32_t i = 0; i < rig->shots_count; i++) {
        int fd = picture(8, 4);
        vgd_control_screenshot_reply(rig->c, rig->tokens[i], VGD_OK, 8, 4, &fd);
        cr_assert_eq(fd, -1, "taken, and closed");
    }
    uint64_t start_ns = vgd_now_ns();
    vgd_loop_turn(rig->loop, 50);
    cr_assert_geq(vgd_now_ns() - start_ns, 45 * MS, "nothing is left to wake the loop");
    int fd = client(rig);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)));
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* `echo ... | nc -N`: writes, shuts down, reads. */
TIDY_TEST(control, a_client_that_shuts_down_its_side_is_answered)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    (void)send(fd, STATUS_REQUEST, strlen(STATUS_REQUEST), 0);
    (void)shutdown(fd, SHUT_WR);
    cr_assert(is_status(hear(rig, fd)));
    cr_assert_null(hear(rig, fd));
    vgd_fd_closep(&fd);
    fd = client(rig);
    (void)send(fd, SHOT_REQUEST, strlen(SHOT_REQUEST), 0);
    (void)shutdown(fd, SHUT_WR);
    turn(rig, 0);
    int shot_fd = picture(8, 4);
    vgd_control_screenshot_reply(rig->c, rig->tokens[0], VGD_OK, 8, 4, &shot_fd);
    cr_assert_not_null(hear(rig, fd));
    cr_assert_geq(rig->fd, 0);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, a_client_that_does_not_read_is_dropped)
{
    struct rig *rig = rig_begin();
    rig->status_bytes = 60000;
    int slow = client(rig);
    for (uint32_t i = 0; i < 100; i++) {
        (void)send(slow, STATUS_REQUEST, strlen(STATUS_REQUEST), MSG_NOSIGNAL);
        turn(rig, 0);
    }
    int good = client(rig);
    say(rig, good, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, good)), "others do not notice");
    turn(rig, 600);
    cr_assert_eq(send(slow, "x", 1, MSG_NOSIGNAL), -1);
    cr_assert(errno == EPIPE || errno == ECONNRESET);
    vgd_fd_closep(&slow);
    vgd_fd_closep(&good);
    rig_end(rig);
}

TIDY_TEST(control, a_client_that_says_nothing_is_dropped)
{
    struct rig *rig = rig_begin();
    int silent = client(rig), half = client(rig), busy = client(rig);
    say(rig, half, "{\"v\":");
    for (uint32_t i = 0; i < 4; i++) {
        turn(rig, 300);
        say(rig, busy, STATUS_REQUEST);
        cr_assert(is_status(hear(rig, busy)));
    }
    cr_assert(is_dropped(rig, silent, 0));
    cr_assert(is_dropped(rig, half, 0));
    vgd_fd_closep(&silent);
    vgd_fd_closep(&half);
    vgd_fd_closep(&busy);
    rig_end(rig);
}

TIDY_TEST(control, a_client_that_asks_too_often_is_dropped)
{
    struct rig *rig = rig_begin();
    int fd = client(rig), good = client(rig);
    uint64_t start_ns = vgd_now_ns();
    uint32_t answered = 0;
    const char *reply = "";
    while (answered < 10000 && reply != NULL) {
        (void)send(fd, STATUS_REQUEST, strlen(STATUS_REQUEST), MSG_NOSIGNAL);
        reply = hear(rig, fd);
        if (reply != NULL && has_error(reply)) {
            cr_assert_not_null(strstr(reply, "too many requests"));
            break;
        }
        answered++;
    }
    uint64_t ms = (vgd_now_ns() - start_ns) / MS;
    cr_assert_geq(answered, VGD_CONTROL_BURST);
    cr_assert_leq(answered, VGD_CONTROL_BURST + ms * VGD_CONTROL_PER_SECOND / 1000 + 1);
    cr_assert(is_dropped(rig, fd, 0));
    say(rig, good, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, good)), "others do not notice");
    turn(rig, 300);
    for (uint32_t i = 1; i < VGD_CONTROL_BURST + 20; i++) {
        if (i == VGD_CONTROL_BURST) {
            turn(rig, 300); /* who pauses may ask again */
        }
        say(rig, good, STATUS_REQUEST);
        cr_assert(is_status(hear(rig, good)), "request %u", i);
    }
    vgd_fd_closep(&fd);
    vgd_fd_closep(&good);
    rig_end(rig);
}

TIDY_TEST(control, all_together_have_a_share)
{
    struct rig *rig = rig_begin_only();
    rig->share = 4;
    struct vgd_control_config config = config_of(rig);
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_OK);
    int fds[VGD_CONTROL_CLIENTS_MAX];
    for (uint32_t i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        fds[i] = client(rig);
        (void)send(fds[i], STATUS_REQUEST STATUS_REQUEST STATUS_REQUEST, 3 * strlen(STATUS_REQUEST),
                   0);
    }
    uint64_t start_ns = vgd_now_ns();
    uint32_t before = rig->status_count;
    for (uint32_t turns = 0; rig->status_count < 3 * VGD_CONTROL_CLIENTS_MAX; turns++) {
        vgd_loop_turn(rig->loop, 1);
        uint64_t shares = (vgd_now_ns() - start_ns) / (VGD_CONTROL_SHARE_MS * MS) + 2;
        cr_assert_leq(rig->status_count - before, shares * rig->share);
        cr_assert_lt(turns, 5000);
    }
    cr_assert_geq(vgd_now_ns() - start_ns, 20 * MS);
    for (uint32_t i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        for (uint32_t n = 0; n < 3; n++) {
            cr_assert(is_status(hear(rig, fds[i])), "each is answered");
        }
    }
    vgd_fd_closep(&fds[0]);
    turn(rig, 30);
    int fd = client(rig);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)), "and its place is free again");
    vgd_fd_closep(&fd);
    vgd_fds_close(fds, VGD_CONTROL_CLIENTS_MAX);
    rig_end(rig);
}

/* What else the loop does comes in between. */
TIDY_TEST(control, one_request_in_a_turn)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_gt(send(fd, STATUS_REQUEST, strlen(STATUS_REQUEST), 0), 0);
    }
    for (uint32_t i = 1; i <= 20; i++) {
        vgd_loop_turn(rig->loop, 0);
        cr_assert_leq(rig->status_count, i);
    }
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert(is_status(hear(rig, fd)));
    }
    cr_assert_eq(rig->status_count, 20);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, clients_are_bounded)
{
    struct rig *rig = rig_begin();
    int fds[VGD_CONTROL_CLIENTS_MAX];
    for (uint32_t i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        fds[i] = client(rig);
    }
    int fd = client(rig);
    cr_assert(has_error(hear(rig, fd)));
    cr_assert_null(hear(rig, fd));
    vgd_fd_closep(&fd);
    vgd_fd_closep(&fds[3]);
    turn(rig, 0);
    fd = client(rig);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)), "a place was free again");
    vgd_fd_closep(&fd);
    vgd_fds_close(fds, VGD_CONTROL_CLIENTS_MAX);
    rig_end(rig);
}

TIDY_TEST(control, other_users_are_refused)
{
    if (geteuid() != 0) {
        cr_skip_test("only root can be another user");
    }
    struct rig *rig = rig_begin();
    cr_assert_eq(chmod(rig->dir, 0755), 0);
    cr_assert_eq(chmod(rig->path, 0666), 0); /* someone was careless */
    /* The peer's user is taken at connect; by the bare system call it is this thread's alone. A
     * child that becomes another user hung now and then under sanitizers. */
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, rig->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(syscall(SYS_setresuid, -1, 65534, -1), 0);
    int connected = connect(fd, (const struct sockaddr *)&to, sizeof(to));
    cr_assert_eq(syscall(SYS_setresuid, -1, 0, -1), 0);
    cr_assert_eq(connected, 0);
    (void)!write(fd, STATUS_REQUEST, strlen(STATUS_REQUEST));
    char byte;
    ssize_t n = -1;
    for (uint32_t i = 0; i < 200 && n < 0; i++) {
        turn(rig, 5);
        n = read(fd, &byte, 1);
        if (n < 0 && errno != EAGAIN) {
            n = 0; /* reset: closed with our request unread */
        }
    }
    cr_assert_eq(n, 0, "another user is answered, or kept");
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* --- Screenshots. --- */

static bool is_shot(struct rig *rig, const char *line, int64_t w, int64_t h)
{
    struct json_object *reply = json_tokener_parse(line), *shot = NULL, *value = NULL;
    bool ok = json_object_object_get_ex(reply, "screenshot", &shot) &&
              json_object_object_get_ex(shot, "w", &value) && json_object_get_int64(value) == w &&
              json_object_object_get_ex(shot, "h", &value) && json_object_get_int64(value) == h &&
              json_object_object_get_ex(shot, "stride", &value) &&
              json_object_get_int64(value) == w * 4;
    (void)json_object_put(reply);
    struct stat info;
    return ok && rig->fd >= 0 && fstat(rig->fd, &info) == 0 && info.st_size == w * h * 4;
}

TIDY_TEST(control, screenshots_come_now_or_later)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    rig->shot = SHOT_AT_ONCE;
    say(rig, fd, SHOT_REQUEST STATUS_REQUEST);
    cr_assert(is_shot(rig, hear(rig, fd), 8, 4));
    cr_assert_eq(rig->last_scanout, 3);
    cr_assert(is_status(hear(rig, fd)));

    rig->shot = SHOT_LATER;
    int other = client(rig);
    say(rig, fd, SHOT_REQUEST STATUS_REQUEST);
    say(rig, other, SHOT_REQUEST);
    cr_assert_eq(rig->shots_count, 3);
    int shot = picture(5, 6);
    vgd_control_screenshot_reply(rig->c, rig->tokens[2], VGD_OK, 5, 6, &shot);
    cr_assert(is_shot(rig, hear(rig, other), 5, 6), "to the one that asked");
    shot = picture(7, 3);
    vgd_control_screenshot_reply(rig->c, rig->tokens[1], VGD_OK, 7, 3, &shot);
    cr_assert(is_shot(rig, hear(rig, fd), 7, 3));
    cr_assert(is_status(hear(rig, fd)), "after the picture, not before");

    rig->shot = SHOT_REFUSED;
    say(rig, fd, SHOT_REQUEST);
    cr_assert(has_error(hear(rig, fd)));
    rig->shot = SHOT_LATER;
    say(rig, fd, SHOT_REQUEST);
    int none = -1;
    vgd_control_screenshot_reply(rig->c, rig->tokens[rig->shots_count - 1], VGD_NO_SCANOUT, 0, 0,
                                 &none);
    cr_assert(has_error(hear(rig, fd)));
    vgd_fd_closep(&fd);
    vgd_fd_closep(&other);
    rig_end(rig);
}

TIDY_TEST(control, a_screenshot_that_never_comes)
{
    struct rig *rig = rig_begin();
    int fd = client(rig);
    say(rig, fd, SHOT_REQUEST);
    uint64_t start_ns = vgd_now_ns();
    cr_assert(has_error(hear(rig, fd)));
    cr_assert_geq(vgd_now_ns() - start_ns, 450 * MS);
    int shot = picture(8, 4);
    vgd_control_screenshot_reply(rig->c, rig->tokens[0], VGD_OK, 8, 4, &shot);
    cr_assert_eq(shot, -1);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)), "the late picture is not taken for a reply");
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* The worker that makes pictures may have been taken over. */
TIDY_TEST(control, pictures_that_lie_are_refused)
{
    static const struct {
        const char *name;
        uint32_t w, h;
        int64_t fd_bytes; /* -1: no descriptor; -2: a memfd that can shrink; -3: no memfd */
    } cases[] = {
        {"no descriptor", 8, 4, -1},
        {"it can shrink", 8, 4, -2},
        {"not a memfd", 8, 4, -3},
        {"one byte short", 8, 4, 127},
        {"empty", 8, 4, 0},
        {"no width", 0, 4, 128},
        {"no height", 8, 0, 128},
        {"w * h * 4 wraps", 0x80000000, 0x80000000, 128},
        {"all ones", UINT32_MAX, UINT32_MAX, 128},
    };
    struct rig *rig = rig_begin();
    int fd = client(rig);
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        say(rig, fd, SHOT_REQUEST);
        int shot = -1;
        if (cases[i].fd_bytes >= 0) {
            shot = vgd_memfd_create("shot", (uint64_t)cases[i].fd_bytes);
        } else if (cases[i].fd_bytes == -2) {
            shot = memfd_create("shot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
            cr_assert_eq(ftruncate(shot, 128), 0);
        } else if (cases[i].fd_bytes == -3) {
            shot = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        }
        vgd_control_screenshot_reply(rig->c, rig->tokens[i], VGD_OK, cases[i].w, cases[i].h, &shot);
        cr_assert(has_error(hear(rig, fd)), "%s", cases[i].name);
        cr_assert_eq(rig->fd, -1);
    }
    vgd_fd_closep(&fd);
    rig_end(rig);
}

/* --- The path. --- */

TIDY_TEST(control, the_socket_is_ours_alone)
{
    mode_t old = umask(0);
    struct rig *rig = rig_begin();
    (void)umask(old);
    struct stat info;
    cr_assert_eq(stat(rig->path, &info), 0);
    cr_assert_eq(info.st_mode & 07777, 0600, "%o", info.st_mode & 07777);
    rig_end(rig);
}

TIDY_TEST(control, a_stale_socket_is_replaced_and_a_live_one_is_not)
{
    struct rig *rig = rig_begin_only();
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)strcpy(at.sun_path, rig->path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(dead, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(dead, 1), 0);
    struct vgd_control_config config = config_of(rig);
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_LIMIT, "somebody answers there");
    cr_assert_eq(access(rig->path, F_OK), 0, "left alone");
    vgd_fd_closep(&dead);
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_OK);
    int fd = client(rig);
    say(rig, fd, STATUS_REQUEST);
    cr_assert(is_status(hear(rig, fd)));
    struct vgd_control *second = NULL;
    cr_assert_eq(vgd_control_create(&config, &second), VGD_LIMIT);
    vgd_fd_closep(&fd);
    rig_end(rig);
}

TIDY_TEST(control, what_is_no_socket_is_left_alone)
{
    struct rig *rig = rig_begin_only();
    int fd = open(rig->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    vgd_fd_closep(&fd);
    struct vgd_control_config config = config_of(rig);
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_RANGE);
    cr_assert_eq(unlink(rig->path), 0, "still there");

    char path[200];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    config.path = path;
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_RANGE);
    config.path = "";
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_RANGE);
    config.path = "/nowhere/at/all.sock";
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_HOST_FAILED);
    rig_end(rig);
}

TIDY_TEST(control, another_socket_on_our_path_is_not_removed)
{
    struct rig *rig = rig_begin();
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)strcpy(at.sun_path, rig->path);
    cr_assert_eq(unlink(rig->path), 0);
    int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(other, (const struct sockaddr *)&at, sizeof(at)), 0);
    vgd_control_destroy(rig->c);
    rig->c = NULL;
    cr_assert_eq(unlink(rig->path), 0, "still there");
    vgd_fd_closep(&other);
    rig_end(rig);
}

TIDY_TEST(control, default_path)
{
    struct rig *rig = rig_begin_only();
    char path[256], dir[64], want[128];
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", rig->dir, 1), 0);
    cr_assert_eq(vgd_control_default_path(path, sizeof(path)), VGD_OK);
    (void)snprintf(dir, sizeof(dir), "%s/vgd", rig->dir);
    (void)snprintf(want, sizeof(want), "%s/%ld.sock", dir, (long)getpid());
    cr_assert_str_eq(path, want);
    struct stat info;
    cr_assert(stat(dir, &info) == 0 && (info.st_mode & 07777) == 0700);
    cr_assert_eq(vgd_control_default_path(path, sizeof(path)), VGD_OK, "it is there already");
    cr_assert_eq(vgd_control_default_path(path, strlen(want)), VGD_RANGE);

    cr_assert_eq(chmod(dir, 0770), 0);
    cr_assert_eq(vgd_control_default_path(path, sizeof(path)), VGD_HOST_FAILED, "others may write");
    cr_assert_eq(rmdir(dir), 0);
    cr_assert_eq(symlink("/tmp", dir), 0);
    cr_assert_eq(vgd_control_default_path(path, sizeof(path)), VGD_HOST_FAILED, "a link");
    cr_assert_eq(unlink(dir), 0);

    cr_assert_eq(setenv("XDG_RUNTIME_DIR", "relative", 1), 0);
    if (geteuid() == 0) {
        cr_assert_eq(vgd_control_dir(path, sizeof(path)), VGD_OK);
        cr_assert_str_eq(path, "/run/vgd");
    } else {
        cr_assert_eq(vgd_control_dir(path, sizeof(path)), VGD_UNSUPPORTED);
    }
    rig_end(rig);
}
