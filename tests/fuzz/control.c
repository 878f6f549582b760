/* SPDX-License-Identifier: MIT */
/*
 * The control socket's clients: several at once, lines whole, cut, garbled and too long,
 * descriptors of any kind beside them, clients that do not read, vanish, flood and wait; an owner
 * that answers at once, late, with nonsense or never; and a vault of any bytes behind "counters",
 * "contexts" and "errors".
 *
 * Properties: what a client reads is lines, each a JSON object of version 1, in printable ASCII and
 * within the limit; a client that sent whole lines gets no more replies than it sent lines; a
 * descriptor comes with a screenshot only; the owner is asked nothing out of range; every
 * descriptor is closed in the end.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "fd.h"
#include "live_json.h"
#include "log.h"
#include "open_fds.h"
#include "own_clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define OPS_MAX 100u
#define CLIENTS_MAX 10u /* more than are served */
#define FDS_AT_ONCE_MAX 4u
#define TOKENS_MAX 64u
#define NS_PER_MS 1000000ull

struct client {
    int fd;
    uint32_t lines_count;   /* sent */
    uint32_t replies_count; /* read */
    char reply[VGD_CONTROL_REPLY_BYTES_MAX + 1];
    size_t reply_bytes;
    bool has_fd; /* came with the reply being read */
};

static struct {
    const uint8_t *pos, *end;
    struct vgd_loop *loop;
    struct vgd_control *control;
    struct client clients[CLIENTS_MAX];
    uint64_t tokens[TOKENS_MAX];
    uint32_t tokens_count;
    uint8_t mood; /* of the owner */
    bool tracing;
} s;

static struct vgd_gpu_counters counters;
static struct vgd_gpu_live live;
static char path[64];
static int kept_file, kept_pipe, kept_event;

static uint8_t u8(void)
{
    return s.pos < s.end ? *s.pos++ : 0;
}

static void turn(void)
{
    for (unsigned i = 0; i < 3; i++) {
        vgd_loop_turn(s.loop, 0);
    }
}

/* --- the owner --- */

static void status(void *user, struct json_object *out)
{
    (void)user;
    char text[256];
    memset(text, s.mood, sizeof(text) - 1); /* may be no UTF-8 */
    text[s.mood] = '\0';
    (void)json_object_object_add(out, "text", json_object_new_string(text));
}

static void answer_shot(uint64_t token)
{
    uint8_t how = u8();
    uint32_t w_px = how % 5u, h_px = how / 5u % 5u;
    int fd = -1;
    enum vgd_status st = VGD_OK;
    if (how < 0xa0) {
        fd = vgd_memfd_create("shot", (uint64_t)(w_px + how % 2u) * (h_px + 1) * 4);
    } else if (how < 0xc0) {
        fd = eventfd(0, EFD_CLOEXEC);
        w_px = how < 0xb0 ? 2 : UINT32_MAX;
        h_px = 2;
    } else {
        st = how < 0xe0 ? VGD_LOST : VGD_NO_SCANOUT;
    }
    vgd_control_screenshot_reply(s.control, token, st, w_px, h_px, &fd);
    assert(fd == -1);
}

static enum vgd_status screenshot(void *user, uint32_t scanout_idx, uint64_t token)
{
    (void)user;
    assert(scanout_idx < 16);
    if ((s.mood & 1) != 0) {
        return VGD_LOST;
    }
    if ((s.mood & 2) != 0) {
        answer_shot(token);
    } else if (s.tokens_count < TOKENS_MAX) {
        s.tokens[s.tokens_count++] = token;
    }
    return VGD_OK;
}

static enum vgd_status trace_start(void *user, int *fd, uint32_t picture_ms, const char **why)
{
    (void)user;
    assert(picture_ms <= VGD_CONTROL_PICTURE_MS_MAX || picture_ms == VGD_CONTROL_NO_PICTURES);
    assert(*fd >= 0 && (fcntl(*fd, F_GETFD) & FD_CLOEXEC) != 0);
    vgd_fd_closep(fd);
    *why = "not now";
    if ((s.mood & 4) != 0) {
        return VGD_LIMIT;
    }
    s.tracing = true;
    return (s.mood & 16) != 0 ? VGD_AGAIN : VGD_OK;
}

static enum vgd_status trace_stop(void *user)
{
    (void)user;
    if (!s.tracing) {
        return VGD_UNSUPPORTED;
    }
    s.tracing = (s.mood & 8) != 0;
    return s.tracing ? VGD_AGAIN : VGD_OK;
}

static void trace(void *user, struct json_object *out)
{
    (void)user;
    (void)json_object_object_add(out, "state", json_object_new_string("running"));
}

static void log_level(void *user, enum vgd_log_level level)
{
    (void)user;
    assert(level <= VGD_LOG_DEBUG);
}

static struct json_object *tell_counters(void *user)
{
    (void)user;
    const struct vgd_live_worker worker = {.starts = 1};
    return vgd_live_counters(&counters, &worker);
}

static struct json_object *tell_contexts(void *user, uint32_t from_id, int64_t *out_next_id)
{
    (void)user;
    struct json_object *list = vgd_live_contexts(&live, from_id, out_next_id);
    assert(list == NULL || json_object_array_length(list) <= VGD_LIVE_CONTEXTS_MAX);
    assert(*out_next_id == -1 || *out_next_id > (int64_t)from_id);
    return list;
}

static struct json_object *tell_errors(void *user)
{
    (void)user;
    return vgd_live_errors(&live, vgd_now_ns());
}

/* --- clients --- */

static void client_leave(struct client *c)
{
    vgd_fd_closep(&c->fd);
    c->lines_count = c->replies_count = 0;
    c->reply_bytes = 0;
    c->has_fd = false;
}

static void client_come(struct client *c)
{
    client_leave(c);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, sizeof(path));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert(c->fd >= 0);
    if (connect(c->fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        client_leave(c); /* too many wait already */
    }
    turn();
}

static int any_fd(void)
{
    switch (u8() % 4) {
    case 0:
        return kept_pipe;
    case 1:
        return kept_event;
    default:
        return kept_file;
    }
}

static void client_sends(struct client *c, const void *bytes, size_t n_bytes, uint32_t n_fds)
{
    if (c->fd < 0 || n_bytes == 0) {
        return;
    }
    int fds[FDS_AT_ONCE_MAX];
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    for (uint32_t i = 0; i < n_fds; i++) {
        fds[i] = any_fd();
    }
    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    for (ssize_t i = 0; i < n; i++) {
        c->lines_count += ((const char *)bytes)[i] == '\n';
    }
    turn();
}

static void look_at_reply(struct client *c)
{
    for (size_t i = 0; i + 1 < c->reply_bytes; i++) {
        assert(c->reply[i] >= ' ' || (unsigned char)c->reply[i] >= 0x80);
    }
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *reply = json_tokener_parse_ex(tokener, c->reply, (int)c->reply_bytes);
    struct json_object *version, *shot;
    assert(reply != NULL && json_object_is_type(reply, json_type_object));
    assert(json_object_object_get_ex(reply, "v", &version) && json_object_get_int(version) == 1);
    assert(json_object_object_length(reply) >= 2);
    bool has_shot = json_object_object_get_ex(reply, "screenshot", &shot);
    assert(has_shot == c->has_fd);
    (void)json_object_put(reply);
    json_tokener_free(tokener);
    c->replies_count++;
    /* One more is the complaint about a line that never ended. */
    assert(c->replies_count <= c->lines_count + 1);
}

static void client_reads(struct client *c, size_t max)
{
    if (c->fd < 0) {
        return;
    }
    char bytes[2048];
    struct iovec iov = {.iov_base = bytes, .iov_len = max < sizeof(bytes) ? max : sizeof(bytes)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            client_leave(c);
        }
        return;
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    assert((msg.msg_flags & MSG_CTRUNC) == 0);
    if (head != NULL) {
        int fd;
        struct stat st;
        assert(head->cmsg_len == CMSG_LEN(sizeof(int)));
        memcpy(&fd, CMSG_DATA(head), sizeof(int));
        assert(fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
        assert((fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
        (void)close(fd);
    }
    for (ssize_t i = 0; i < n; i++) {
        assert(c->reply_bytes < sizeof(c->reply));
        c->reply[c->reply_bytes++] = bytes[i];
        /* A read ends with what a descriptor came with. */
        c->has_fd = c->has_fd || (head != NULL && i + 1 == n);
        if (bytes[i] == '\n') {
            look_at_reply(c);
            c->reply_bytes = 0;
            c->has_fd = false;
        }
    }
    turn();
}

static const char *const words[] = {
    "{\"v\":1,\"cmd\":\"status\"}\n",
    "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":3}\n",
    "{\"v\":1,\"cmd\":\"trace-start\",\"picture_ms\":1000}\n",
    "{\"v\":1,\"cmd\":\"trace-start\",\"picture_ms\":\"none\"}\n",
    "{\"v\":1,\"cmd\":\"trace-stop\"}\n",
    "{\"v\":1,\"cmd\":\"log-level\",\"level\":\"debug\"}\n",
    "{\"v\":1,\"cmd\":\"counters\"}\n",
    "{\"v\":1,\"cmd\":\"contexts\",\"from\":0}\n",
    "{\"v\":1,\"cmd\":\"errors\"}\n",
    "{\"v\":1,\"cmd\":",
    "\"screenshot\",\"scanout\":",
    "\"contexts\",\"from\":",
    "[[[[[[[[[[",
    "{\"v\":1,\"v\":2}\n",
    "-1}\n",
    "4294967296}\n",
    "1e999}\n",
    "\"\\u0000\\ud800\"}\n",
    "\n",
    "\xff\xfe\n",
};
#define WORDS_COUNT (sizeof(words) / sizeof(words[0]))

static void client_says(struct client *c)
{
    char line[512];
    const char *word = words[u8() % WORDS_COUNT];
    size_t n_bytes = strlen(word);
    memcpy(line, word, n_bytes);
    uint8_t how = u8();
    if (how >= 0xe0) { /* garbled */
        line[u8() % n_bytes] = (char)u8();
    } else if (how >= 0xc0) { /* cut */
        n_bytes = u8() % n_bytes;
    } else if (how >= 0xb0) { /* two at once */
        memcpy(line + n_bytes, line, n_bytes);
        n_bytes *= 2;
    }
    client_sends(c, line, n_bytes, how % 16 < 12 ? 0 : how % 16 - 11);
}

static void client_says_anything(struct client *c)
{
    char bytes[64];
    size_t n_bytes = u8() % sizeof(bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (char)u8();
    }
    client_sends(c, bytes, n_bytes, u8() < 0xf0 ? 0 : 1);
}

static void client_floods(struct client *c)
{
    static char bytes[VGD_CONTROL_LINE_BYTES_MAX + 256];
    memset(bytes, u8() < 0x80 ? ' ' : '\n', sizeof(bytes));
    client_sends(c, bytes, u8() * sizeof(bytes) / 255, 0);
}

/* The vault, as a worker that was taken over writes it. */
static void worker_writes(void)
{
    uint8_t how = u8();
    uint8_t *at = how < 0x40 ? (uint8_t *)&counters : (uint8_t *)&live;
    size_t size = how < 0x40 ? sizeof(counters) : sizeof(live);
    if (how >= 0xe0) {
        memset(&live.contexts[u8() % 8u], how == 0xff ? 0xff : 2, sizeof(live.contexts[0]));
        return;
    }
    if (how >= 0xc0) {
        struct vgd_gpu_context_slot *slot = &live.contexts[u8()];
        slot->id = u8();
        memset(slot->name, u8(), sizeof(slot->name));
        return;
    }
    size_t where = ((size_t)u8() << 8 | u8()) % size;
    for (size_t n = 1u + how % 32u; n > 0 && where < size; n--) {
        at[where++] = u8();
    }
}

static void step(uint8_t op)
{
    struct client *c = &s.clients[op / 16 % CLIENTS_MAX];
    switch (op % 16) {
    case 0:
        client_come(c);
        break;
    case 1:
        client_leave(c);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        if (c->fd < 0) {
            client_come(c);
        }
        client_says(c);
        break;
    case 6:
        client_says_anything(c);
        break;
    case 7:
        client_floods(c);
        break;
    case 8:
    case 9:
        client_reads(c, SIZE_MAX);
        break;
    case 10:
        client_reads(c, 1u + u8());
        break;
    case 11:
        s.mood = u8();
        break;
    case 12:
        if (s.tokens_count > 0) {
            uint32_t i = u8() % s.tokens_count;
            uint64_t token = s.tokens[i];
            s.tokens[i] = s.tokens[--s.tokens_count];
            answer_shot(token);
        } else {
            answer_shot(u8()); /* that nobody asked for */
        }
        break;
    case 13:
        vgd_control_trace_started(s.control); /* before its end, or when nobody began one */
        if ((s.mood & 32) == 0) {
            s.tracing = false;
            vgd_control_trace_stopped(s.control);
        }
        break;
    case 14:
        own_clock_advance(500 * NS_PER_MS * (1u + u8()));
        break;
    default:
        worker_writes();
        break;
    }
    turn();
}

static void once(void)
{
    static char folder[] = "/tmp/vgd-fuzz-XXXXXX";
    if (path[0] != '\0') {
        return;
    }
    char *made = mkdtemp(folder);
    assert(made != NULL);
    (void)snprintf(path, sizeof(path), "%s/socket", folder);
    kept_file = vgd_memfd_create("file", 4096);
    int fds[2];
    int rc = pipe2(fds, O_CLOEXEC);
    assert(rc == 0);
    (void)rc;
    kept_pipe = fds[1];
    kept_event = eventfd(0, EFD_CLOEXEC);
}

/* The folder of the socket goes with the program. */
__attribute__((destructor)) static void remove_folder(void)
{
    char *end = strrchr(path, '/');
    if (end != NULL) {
        *end = '\0';
        (void)rmdir(path);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    once();
    uint64_t fds_before = open_fds();
    s.pos = data;
    s.end = data + len_bytes;
    s.tokens_count = 0;
    s.mood = 0;
    s.tracing = false;
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        s.clients[i].fd = -1;
        client_leave(&s.clients[i]);
    }
    memset(&counters, 0, sizeof(counters));
    memset(&live, 0, sizeof(live));
    s.loop = vgd_loop_create();
    const struct vgd_control_config config = {
        .loop = s.loop,
        .path = path,
        .ops = {.status = status,
                .screenshot = screenshot,
                .trace_start = trace_start,
                .trace_stop = trace_stop,
                .trace = trace,
                .log_level = log_level,
                .counters = tell_counters,
                .contexts = tell_contexts,
                .errors = tell_errors},
    };
    enum vgd_status st = vgd_control_create(&config, &s.control);
    assert(st == VGD_OK);
    (void)st;
    for (uint32_t i = 0; i < OPS_MAX && s.pos < s.end; i++) {
        step(u8());
    }
    vgd_control_destroy(s.control);
    for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
        client_leave(&s.clients[i]);
    }
    vgd_loop_destroy(s.loop);
    own_clock_reset();
    assert(open_fds() == fds_before);
    return 0;
}
