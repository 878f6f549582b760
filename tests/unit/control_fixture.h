/* SPDX-License-Identifier: MIT */
/* A control socket whose owner is the test, and its clients. */
#ifndef CONTROL_FIXTURE_H
#define CONTROL_FIXTURE_H

#include "display_fixture.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "control.h"
#include "fd.h"
#include "log.h"

#define MS 1000000ull
#define SHOTS_MAX 32u
#define STATUS_REQUEST "{\"v\":1,\"cmd\":\"status\"}\n"
#define SHOT_REQUEST "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":3}\n"

enum shot { SHOT_LATER, SHOT_AT_ONCE, SHOT_REFUSED };

struct rig {
    struct vgd_loop *loop;
    char dir[32], path[64];
    struct vgd_control *c;
    uint32_t status_bytes; /* of padding in the status */
    uint32_t status_count;
    uint32_t share;
    enum shot shot;
    uint64_t tokens[SHOTS_MAX]; /* asked for */
    uint32_t shots_count, last_scanout;
    int fd; /* a descriptor that came with a reply */

    const char *no_trace; /* why none is begun; NULL: it is */
    bool trace_later;     /* and its worker has still to say so */
    uint32_t traces_count, picture_ms;
    int trace_fd;               /* that one was begun with */
    enum vgd_status trace_stop; /* what stopping one gives */
    uint32_t trace_stops_count;
    enum vgd_log_level level;
};

static inline void fill_status(void *user, struct json_object *out)
{
    struct rig *rig = user;
    rig->status_count++;
    char *padding = calloc(1, rig->status_bytes + 1);
    memset(padding, 'x', rig->status_bytes);
    (void)json_object_object_add(out, "padding", json_object_new_string(padding));
    (void)json_object_object_add(out, "answer", json_object_new_int(42));
    free(padding);
}

static inline int picture(uint32_t w, uint32_t h)
{
    return vgd_memfd_create("shot", (uint64_t)w * h * 4);
}

static inline enum vgd_status make_shot(void *user, uint32_t scanout_idx, uint64_t token)
{
    struct rig *rig = user;
    rig->last_scanout = scanout_idx;
    cr_assert_lt(rig->shots_count, SHOTS_MAX);
    rig->tokens[rig->shots_count++] = token;
    if (rig->shot == SHOT_REFUSED) {
        return VGD_LOST;
    }
    if (rig->shot == SHOT_AT_ONCE) {
        int fd = picture(8, 4);
        vgd_control_screenshot_reply(rig->c, token, VGD_OK, 8, 4, &fd);
    }
    return VGD_OK;
}

static inline enum vgd_status start_trace(void *user, int *fd, uint32_t picture_ms,
                                          const char **why)
{
    struct rig *rig = user;
    rig->traces_count++;
    rig->picture_ms = picture_ms;
    vgd_fd_closep(&rig->trace_fd);
    rig->trace_fd = vgd_fd_take(fd);
    if (rig->no_trace != NULL) {
        *why = rig->no_trace;
        return VGD_LIMIT;
    }
    return rig->trace_later ? VGD_AGAIN : VGD_OK;
}

static inline enum vgd_status stop_trace(void *user)
{
    struct rig *rig = user;
    rig->trace_stops_count++;
    return rig->trace_stop;
}

static inline void fill_trace(void *user, struct json_object *out)
{
    (void)user;
    (void)json_object_object_add(out, "state", json_object_new_string("as it is"));
}

static inline void set_level(void *user, enum vgd_log_level level)
{
    struct rig *rig = user;
    rig->level = level;
}

static inline struct json_object *give_counters(void *user)
{
    (void)user;
    return json_tokener_parse("{\"flushes\":3}");
}

/* Ids 1 to 6, two at a time. */
static inline struct json_object *give_contexts(void *user, uint32_t from_id, int64_t *out_next_id)
{
    (void)user;
    struct json_object *out = json_object_new_array();
    for (uint32_t id = from_id > 1 ? from_id : 1; id <= 6 && json_object_array_length(out) < 2;
         id++) {
        (void)json_object_array_add(out, json_object_new_int((int)id));
    }
    *out_next_id = from_id <= 4 ? (int64_t)(from_id > 1 ? from_id : 1) + 2 : -1;
    return out;
}

static inline struct json_object *give_errors(void *user)
{
    (void)user;
    return json_object_new_array();
}

static inline struct vgd_control_config config_of(struct rig *rig)
{
    return (struct vgd_control_config){
        .loop = rig->loop,
        .path = rig->path,
        .ops = {.status = fill_status,
                .screenshot = make_shot,
                .trace_start = start_trace,
                .trace_stop = stop_trace,
                .trace = fill_trace,
                .log_level = set_level,
                .counters = give_counters,
                .contexts = give_contexts,
                .errors = give_errors},
        .user = rig,
        .idle_ms = 1000,
        .slow_ms = 500,
        .screenshot_ms = 500,
        .trace_start_ms = 500,
        .trace_stop_ms = 500,
        .share = rig->share != 0 ? rig->share : UINT32_MAX, /* the loop is theirs */
    };
}

static inline struct rig *rig_begin_only(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    (void)strcpy(rig->dir, "/tmp/vgd-control-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    (void)snprintf(rig->path, sizeof(rig->path), "%s/c.sock", rig->dir);
    rig->loop = vgd_loop_create();
    rig->fd = -1;
    rig->trace_fd = -1;
    return rig;
}

static inline struct rig *rig_begin(void)
{
    struct rig *rig = rig_begin_only();
    struct vgd_control_config config = config_of(rig);
    cr_assert_eq(vgd_control_create(&config, &rig->c), VGD_OK);
    return rig;
}

static inline void rig_end(struct rig *rig)
{
    vgd_control_destroy(rig->c);
    vgd_fd_closep(&rig->fd);
    vgd_fd_closep(&rig->trace_fd);
    vgd_loop_destroy(rig->loop);
    cr_assert_eq(rmdir(rig->dir), 0, "the socket is removed");
    free(rig);
}

static inline void turn(struct rig *rig, uint32_t ms)
{
    uint64_t end_ns = vgd_now_ns() + ms * MS;
    do {
        for (unsigned i = 0; i < 8; i++) {
            vgd_loop_turn(rig->loop, 0);
        }
        if (vgd_now_ns() < end_ns) {
            vgd_loop_turn(rig->loop, 5);
        }
    } while (vgd_now_ns() < end_ns);
}

static inline int client(struct rig *rig)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, rig->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    turn(rig, 0);
    return fd;
}

static inline void say(struct rig *rig, int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    turn(rig, 0);
}

/* The next line from @fd: the text without its newline (static), or NULL when the other side has
 * closed. */
static inline const char *hear(struct rig *rig, int fd)
{
    static char line[VGD_CONTROL_REPLY_BYTES_MAX + 2];
    size_t n = 0;
    for (unsigned idle = 0; idle < 5000;) {
        struct iovec iov = {.iov_base = line + n, .iov_len = 1};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t got = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            return NULL;
        }
        if (got < 0) {
            idle++;
            vgd_loop_turn(rig->loop, 1);
            continue;
        }
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        if (head != NULL) {
            cr_assert_eq(n, 0, "it goes with the first byte");
            vgd_fd_closep(&rig->fd);
            memcpy(&rig->fd, CMSG_DATA(head), sizeof(int));
        }
        if (line[n] == '\n') {
            line[n] = '\0';
            return line;
        }
        n++;
    }
    cr_assert_fail("no reply");
    return NULL;
}

static inline bool has_error(const char *line)
{
    struct json_object *reply = json_tokener_parse(line), *value = NULL;
    bool v = json_object_object_get_ex(reply, "v", &value) && json_object_get_int(value) == 1;
    bool error = json_object_object_get_ex(reply, "error", &value) &&
                 json_object_is_type(value, json_type_string) &&
                 json_object_object_length(reply) == 2;
    (void)json_object_put(reply);
    return v && error;
}

static inline bool is_status(const char *line)
{
    struct json_object *reply = json_tokener_parse(line), *status = NULL, *value = NULL;
    bool ok = json_object_object_get_ex(reply, "v", &value) && json_object_get_int(value) == 1 &&
              json_object_object_get_ex(reply, "status", &status) &&
              json_object_object_get_ex(status, "answer", &value) &&
              json_object_get_int(value) == 42;
    (void)json_object_put(reply);
    return ok;
}

/* Is @fd closed by the other side, within @ms? */
static inline bool is_dropped(struct rig *rig, int fd, uint32_t ms)
{
    turn(rig, ms);
    char bytes[65536];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
    }
    return n == 0 || errno == ECONNRESET;
}

#endif
