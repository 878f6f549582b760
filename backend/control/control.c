/* SPDX-License-Identifier: MIT */
/*
 * A client reads a line, is answered, and reads the next: reading -> (waiting for what comes later
 * ->) writing -> reading. In each state one deadline runs; when it passes, the client is dropped (a
 * screenshot that takes too long is an error reply instead). A client that has to go after its
 * reply is `leaving`.
 */
#include "control_priv.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fd.h"
#include "log.h"

#define ACCEPT_PAUSE_MS 1000u /* when the kernel has no descriptor for us */
#define PASSED_FDS_MAX 2u     /* one too many is told from one; the kernel closes others */
#define NS_PER_MS 1000000ull
#define NS_PER_REQUEST (1000000000ull / VGD_CONTROL_PER_SECOND)

static void arm(struct vgd_control *c)
{
    uint64_t due_ns = c->accept_again_ns != 0 ? c->accept_again_ns : UINT64_MAX;
    due_ns = c->paused_until_ns != 0 && c->paused_until_ns < due_ns ? c->paused_until_ns : due_ns;
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        if (c->clients[i] != NULL && c->clients[i]->due_ns < due_ns) {
            due_ns = c->clients[i]->due_ns;
        }
    }
    if (due_ns == UINT64_MAX) {
        vgd_timer_stop(c->timer);
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    vgd_timer_start(c->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

/* --- A share of the loop: what all clients together may have done in a time, come they as they
 * come. Then they wait. --- */

static void watch_client(struct vgd_control_client *client, uint32_t events)
{
    client->events = events;
    vgd_watch_set(client->watch, client->owner->paused_until_ns != 0 ? 0 : events);
}

static void watch_socket(struct vgd_control *c)
{
    bool pause = c->paused_until_ns != 0 || c->accept_again_ns != 0;
    vgd_watch_set(c->watch, pause ? 0 : EPOLLIN);
}

static void watch_all(struct vgd_control *c)
{
    watch_socket(c);
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        if (c->clients[i] != NULL) {
            watch_client(c->clients[i], c->clients[i]->events);
        }
    }
}

/* Something is about to be done for a client. */
static void count(struct vgd_control *c)
{
    uint64_t now_ns = vgd_now_ns();
    if (now_ns - c->share_began_ns >= VGD_CONTROL_SHARE_MS * NS_PER_MS) {
        c->share_began_ns = now_ns;
        c->share_used = 0;
    }
    if (++c->share_used == c->share) {
        c->paused_until_ns = c->share_began_ns + VGD_CONTROL_SHARE_MS * NS_PER_MS;
        watch_all(c);
        arm(c);
    }
}

static void set_deadline(struct vgd_control_client *client, uint32_t ms)
{
    client->due_ns = vgd_now_ns() + ms * NS_PER_MS;
    arm(client->owner);
}

void vgd_control_wait(struct vgd_control_client *client, uint32_t ms, const char *too_late)
{
    client->waiting = true;
    client->too_late = too_late;
    client->token = ++client->owner->last_token;
    set_deadline(client, ms);
}

static void drop(struct vgd_control_client *client)
{
    struct vgd_control *c = client->owner;
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        if (c->clients[i] == client) {
            c->clients[i] = NULL;
        }
    }
    vgd_watch_remove(&client->watch);
    vgd_fd_closep(&client->fd);
    vgd_fd_closep(&client->passed_fd);
    vgd_fd_closep(&client->reply_fd);
    free(client->reply);
    free(client);
    arm(c);
}

/* --- Replies. --- */

/* VGD_OK: sent whole; VGD_AGAIN; VGD_CLOSED. */
static enum vgd_status send_reply(struct vgd_control_client *client)
{
    while (client->sent_bytes < client->reply_bytes) {
        struct iovec iov = {.iov_base = client->reply + client->sent_bytes,
                            .iov_len = client->reply_bytes - client->sent_bytes};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control = {0};
        if (client->reply_fd >= 0) {
            msg.msg_control = control.bytes;
            msg.msg_controllen = sizeof(control.bytes);
            struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(head), &client->reply_fd, sizeof(int));
        }
        ssize_t n = sendmsg(client->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? VGD_AGAIN : VGD_CLOSED;
        }
        vgd_fd_closep(&client->reply_fd);
        client->sent_bytes += (size_t)n;
    }
    return VGD_OK;
}

void vgd_control_set_reply(struct vgd_control_client *client, const char *key,
                           struct json_object *value)
{
    struct json_object *reply = vgd_control_new_reply();
    (void)json_object_object_add(reply, key, value);
    vgd_control_set_whole(client, reply);
}

struct json_object *vgd_control_new_reply(void)
{
    struct json_object *reply = json_object_new_object();
    (void)json_object_object_add(reply, "v", json_object_new_int(VGD_CONTROL_VERSION));
    return reply;
}

void vgd_control_set_whole(struct vgd_control_client *client, struct json_object *reply)
{
    assert(client->reply == NULL);
    size_t n_bytes = 0;
    const char *text = json_object_to_json_string_length(reply, JSON_C_TO_STRING_PLAIN, &n_bytes);
    if (text != NULL && n_bytes < VGD_CONTROL_REPLY_BYTES_MAX) {
        client->reply = malloc(n_bytes + 1);
    }
    if (client->reply != NULL) {
        memcpy(client->reply, text, n_bytes);
        client->reply[n_bytes] = '\n';
        client->reply_bytes = n_bytes + 1;
    }
    client->sent_bytes = 0;
    (void)json_object_put(reply);
    if (client->reply == NULL && n_bytes >= VGD_CONTROL_REPLY_BYTES_MAX) {
        vgd_control_set_error(client, "the reply is too long");
    }
}

void vgd_control_set_error(struct vgd_control_client *client, const char *text)
{
    vgd_control_set_reply(client, "error", json_object_new_string(text));
}

/* --- Lines. --- */

static bool may_ask(struct vgd_control_client *client)
{
    uint64_t now_ns = vgd_now_ns();
    uint64_t more = (now_ns - client->requests_filled_ns) / NS_PER_REQUEST;
    uint64_t left = client->requests_left + more;
    client->requests_left = left < VGD_CONTROL_BURST ? (uint32_t)left : VGD_CONTROL_BURST;
    client->requests_filled_ns += more * NS_PER_REQUEST;
    client->requests_left -= client->requests_left > 0;
    return left > 0;
}

static bool has_line(const struct vgd_control_client *client)
{
    return client->line_bytes == sizeof(client->line) ||
           memchr(client->line, '\n', client->line_bytes) != NULL;
}

/* Take the next whole line out of the buffer and act on it. False: there is none. */
static bool next_line(struct vgd_control_client *client)
{
    const char *end = memchr(client->line, '\n', client->line_bytes);
    if (end == NULL) {
        if (client->line_bytes < sizeof(client->line)) {
            return false;
        }
        client->line_bytes = 0;
        client->leaving = true; /* where the next request starts is unknown */
        vgd_control_set_error(client, "the request is too long");
        return true;
    }
    if (!may_ask(client)) {
        client->line_bytes = 0;
        client->leaving = true;
        vgd_control_set_error(client, "too many requests");
        return true;
    }
    size_t n_bytes = (size_t)(end - client->line) + 1;
    char line[VGD_CONTROL_LINE_BYTES_MAX];
    memcpy(line, client->line, n_bytes);
    client->line_bytes -= n_bytes;
    memmove(client->line, client->line + n_bytes, client->line_bytes);
    vgd_control_do_line(client, line, n_bytes);
    vgd_fd_closep(&client->passed_fd);
    client->passed_excess = false;
    return true;
}

/* Do what can be done without waiting. May drop @client: the last thing done with it. */
static void advance(struct vgd_control_client *client)
{
    for (;;) {
        if (client->waiting) {
            watch_client(client, 0); /* a hang-up still comes */
            return;
        }
        if (client->reply != NULL) {
            enum vgd_status st = send_reply(client);
            if (st == VGD_AGAIN) {
                watch_client(client, EPOLLOUT);
                return;
            }
            if (st != VGD_OK || client->leaving) {
                drop(client);
                return;
            }
            free(client->reply);
            client->reply = NULL;
            set_deadline(client, client->owner->idle_ms);
            if (has_line(client)) {
                watch_client(client, EPOLLOUT); /* in the next turn */
                return;
            }
        } else if (next_line(client)) {
            if (!client->waiting && client->reply == NULL) {
                drop(client); /* no memory for a reply */
                return;
            }
            if (client->reply != NULL) {
                set_deadline(client, client->owner->slow_ms);
            }
        } else {
            watch_client(client, EPOLLIN);
            return;
        }
    }
}

/* What a client sends, and descriptors beside it. One is kept: for more, none. */
static ssize_t receive(struct vgd_control_client *client)
{
    struct iovec iov = {.iov_base = client->line + client->line_bytes,
                        .iov_len = sizeof(client->line) - client->line_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * PASSED_FDS_MAX)];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(client->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
        return n;
    }
    client->passed_excess |= (msg.msg_flags & MSG_CTRUNC) != 0; /* the kernel has closed the rest */
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&msg); head != NULL; head = CMSG_NXTHDR(&msg, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n_fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof(fd), sizeof(fd));
            if (client->passed_fd < 0 && !client->passed_excess) {
                client->passed_fd = fd;
            } else {
                client->passed_excess = true;
                vgd_fd_closep(&fd);
            }
        }
    }
    if (client->passed_excess) {
        vgd_fd_closep(&client->passed_fd);
    }
    return n;
}

static void client_event(void *user, uint32_t events)
{
    struct vgd_control_client *client = user;
    if ((events & EPOLLERR) != 0 || ((events & EPOLLHUP) != 0 && (events & EPOLLIN) == 0)) {
        drop(client);
        return;
    }
    count(client->owner);
    if ((events & EPOLLIN) != 0 && !client->waiting && client->reply == NULL) {
        ssize_t n = receive(client);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            drop(client);
            return;
        }
        client->line_bytes += n > 0 ? (size_t)n : 0;
    }
    advance(client);
}

static void deadline(void *user)
{
    struct vgd_control *c = user;
    uint64_t now_ns = vgd_now_ns();
    if (c->accept_again_ns != 0 && c->accept_again_ns <= now_ns) {
        c->accept_again_ns = 0;
        watch_socket(c);
    }
    if (c->paused_until_ns != 0 && c->paused_until_ns <= now_ns) {
        c->paused_until_ns = 0;
        watch_all(c);
    }
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        struct vgd_control_client *client = c->clients[i];
        if (client == NULL || client->due_ns > now_ns) {
            continue;
        }
        if (client->waiting) {
            client->waiting = false;
            vgd_control_set_error(client, client->too_late);
            set_deadline(client, c->slow_ms);
            advance(client);
        } else {
            drop(client);
        }
    }
    arm(c);
}

struct vgd_control_client *vgd_control_waiting(struct vgd_control *c, uint64_t token)
{
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        if (c->clients[i] != NULL && c->clients[i]->waiting && c->clients[i]->token == token) {
            return c->clients[i];
        }
    }
    return NULL;
}

void vgd_control_wait_over(struct vgd_control_client *client)
{
    /* Without memory for a reply, the client is dropped then. */
    client->waiting = false;
    set_deadline(client, client->reply != NULL ? client->owner->slow_ms : 0);
    watch_client(client, client->reply != NULL ? EPOLLOUT : 0);
}

/* --- Listening. --- */

static bool peer_is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void add_client(struct vgd_control *c, int *fd)
{
    unsigned place = 0;
    while (place < VGD_CONTROL_CLIENTS_MAX && c->clients[place] != NULL) {
        place++;
    }
    if (place == VGD_CONTROL_CLIENTS_MAX) {
        static const char text[] = "{\"v\":1,\"error\":\"too many clients\"}\n";
        (void)send(*fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        return;
    }
    struct vgd_control_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return;
    }
    *client = (struct vgd_control_client){.owner = c,
                                          .fd = -1,
                                          .passed_fd = -1,
                                          .reply_fd = -1,
                                          .requests_filled_ns = vgd_now_ns(),
                                          .requests_left = VGD_CONTROL_BURST};
    client->watch = vgd_loop_watch(c->loop, *fd, EPOLLIN, client_event, client);
    if (client->watch == NULL) {
        free(client);
        return;
    }
    watch_client(client, EPOLLIN);
    client->fd = vgd_fd_take(fd);
    c->clients[place] = client;
    set_deadline(client, c->idle_ms);
}

static void can_accept(void *user, uint32_t events)
{
    (void)events;
    struct vgd_control *c = user;
    count(c);
    VGD_AUTO_FD fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The client stays in the kernel's queue and would wake us for ever. */
            c->accept_again_ns = vgd_now_ns() + ACCEPT_PAUSE_MS * NS_PER_MS;
            watch_socket(c);
            arm(c);
        }
        return;
    }
    if (!peer_is_allowed(fd)) {
        vgd_log(VGD_LOG_WARNING, "control", "refused a client of another user");
        return;
    }
    add_client(c, &fd);
}

enum vgd_status vgd_control_create(const struct vgd_control_config *config,
                                   struct vgd_control **out)
{
    struct vgd_control *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return VGD_NO_MEMORY;
    }
    c->loop = config->loop;
    c->ops = config->ops;
    c->user = config->user;
    c->idle_ms = config->idle_ms != 0 ? config->idle_ms : VGD_CONTROL_IDLE_MS;
    c->slow_ms = config->slow_ms != 0 ? config->slow_ms : VGD_CONTROL_SLOW_MS;
    c->screenshot_ms =
        config->screenshot_ms != 0 ? config->screenshot_ms : VGD_CONTROL_SCREENSHOT_MS;
    c->share = config->share != 0 ? config->share : VGD_CONTROL_SHARE;
    c->trace_start_ms =
        config->trace_start_ms != 0 ? config->trace_start_ms : VGD_CONTROL_TRACE_START_MS;
    c->trace_stop_ms =
        config->trace_stop_ms != 0 ? config->trace_stop_ms : VGD_CONTROL_TRACE_STOP_MS;
    c->fd = -1;
    enum vgd_status st =
        vgd_control_listen(config->path, "control", VGD_CONTROL_CLIENTS_MAX, &c->place, &c->fd);
    if (st == VGD_OK) {
        c->watch = vgd_loop_watch(c->loop, c->fd, EPOLLIN, can_accept, c);
        c->timer = vgd_timer_create(c->loop, deadline, c);
        st = c->watch != NULL && c->timer != NULL ? VGD_OK : VGD_NO_MEMORY;
    }
    if (st != VGD_OK) {
        vgd_control_destroy(c);
        return st;
    }
    *out = c;
    return VGD_OK;
}

void vgd_control_destroy(struct vgd_control *c)
{
    if (c == NULL) {
        return;
    }
    for (unsigned i = 0; i < VGD_CONTROL_CLIENTS_MAX; i++) {
        if (c->clients[i] != NULL) {
            drop(c->clients[i]);
        }
    }
    vgd_watch_remove(&c->watch);
    vgd_timer_destroy(&c->timer);
    if (c->fd >= 0) {
        vgd_control_unlink(&c->place);
    }
    vgd_fd_closep(&c->fd);
    free(c);
}
