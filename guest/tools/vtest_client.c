/* SPDX-License-Identifier: MIT */
/* The connection of a client: requests in, replies out, and its life. One file: each of these ends
 * or begins by the others. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"
#include "vtest_priv.h"

#define READ_PER_TURN_BYTES (256u << 10) /* then others have their turn */
#define QUERY_FASTEST_NS UINT64_C(1000000)
#define QUERY_SLOWEST_NS UINT64_C(64000000)
#define NAME_LOOK_NS UINT64_C(500000000)
#define REQUEST_COST_BYTES 1024u /* what a request costs, whatever it is */
#define ROW_COST_BYTES 64u       /* what a row costs, however short */

bool vtest_grow(void **array, uint32_t *room, uint32_t n, size_t element_bytes)
{
    if (n <= *room) {
        return true;
    }
    uint32_t more = *room == 0 ? 16 : *room * 2;
    while (more < n) {
        more *= 2;
    }
    void *bigger = realloc(*array, more * element_bytes);
    if (bigger == NULL) {
        return false;
    }
    *array = bigger;
    *room = more;
    return true;
}

static void on_turn(void *user);
static void on_name_time(void *user);

/* A client may look at its memory for a result without asking us for anything. */
static void on_query_time(void *user)
{
    struct vgd_vtest_bridge *bridge = user;
    bool is_any_left = false;
    for (struct vtest_client *client = bridge->clients; client != NULL; client = client->next) {
        vtest_look_at_queries(client);
        is_any_left = is_any_left || client->n_asked > 0;
    }
    if (is_any_left) {
        bridge->query_delay_ns = bridge->query_delay_ns * 2 < QUERY_SLOWEST_NS
                                     ? bridge->query_delay_ns * 2
                                     : QUERY_SLOWEST_NS;
        vgd_timer_start(bridge->query_timer, bridge->query_delay_ns);
    }
}

void vtest_expect_results(struct vgd_vtest_bridge *bridge)
{
    bridge->query_delay_ns = QUERY_FASTEST_NS;
    vgd_timer_start(bridge->query_timer, QUERY_FASTEST_NS);
}

struct vgd_vtest_bridge *vgd_vtest_bridge_create(struct vgd_loop *loop,
                                                 struct vgd_vtest_device *dev)
{
    struct vgd_vtest_bridge *bridge = calloc(1, sizeof(*bridge));
    if (bridge == NULL) {
        return NULL;
    }
    bridge->loop = loop;
    bridge->dev = dev;
    bridge->query_timer = vgd_timer_create(loop, on_query_time, bridge);
    bridge->turn_timer = vgd_timer_create(loop, on_turn, bridge);
    bridge->name_timer = vgd_timer_create(loop, on_name_time, bridge);
    if (bridge->query_timer == NULL || bridge->turn_timer == NULL || bridge->name_timer == NULL) {
        vgd_vtest_bridge_destroy(bridge);
        return NULL;
    }
    return bridge;
}

void vgd_vtest_bridge_destroy(struct vgd_vtest_bridge *bridge)
{
    if (bridge == NULL) {
        return;
    }
    vgd_vtest_bridge_drop_all(bridge, "the bridge ends");
    vgd_timer_destroy(&bridge->query_timer);
    vgd_timer_destroy(&bridge->turn_timer);
    vgd_timer_destroy(&bridge->name_timer);
    free(bridge);
}

uint32_t vgd_vtest_bridge_client_count(const struct vgd_vtest_bridge *bridge)
{
    return bridge->n_connected;
}

uint32_t vgd_vtest_bridge_object_count(const struct vgd_vtest_bridge *bridge)
{
    return bridge->n_objects;
}

void vtest_client_unref(struct vtest_client *client)
{
    if (--client->refs > 0) {
        return;
    }
    if (client->prev != NULL) {
        client->prev->next = client->next;
    } else {
        client->bridge->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->prev = client->prev;
    }
    client->bridge->n_objects--;
    vgd_idmap_finish(&client->resources);
    vgd_idmap_finish(&client->queries);
    vgd_idmap_finish(&client->syncs);
    vgd_fd_closep(&client->fence_file);
    free(client->asked);
    free(client->in);
    free(client);
}

static void forget_out(struct vtest_client *client)
{
    while (client->out != NULL) {
        struct vtest_out *out = client->out;
        client->out = out->next;
        vgd_fd_closep(&out->fd);
        free(out);
    }
    client->out_end = &client->out;
}

static void then_give_context(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    (void)answer;
    vgd_vtest_device_give_context_id(op->client->dev, (uint32_t)op->number);
}

static void release_all(struct vtest_client *client)
{
    vtest_range_forget(client);
    /* The context first: what it holds of the resources goes with it at once. */
    if (client->has_context) {
        client->has_context = false;
        struct vtest_op *op = vtest_op_new(client, NULL);
        if (op != NULL) {
            op->then = then_give_context;
            op->number = client->ctx_id;
            struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_CTX_DESTROY, .ctx_id = client->ctx_id};
            vtest_op_send(op, hdr, NULL, 0, 0, 0, 0);
        }
    }
    struct vtest_resource *res;
    uint32_t cursor = 0;
    while ((res = vgd_idmap_next(&client->resources, &cursor, NULL)) != NULL) {
        vtest_resource_release(res);
    }
    vgd_idmap_finish(&client->resources);
    client->resources = (struct vgd_idmap){0};
    vtest_forget_queries(client);
    vtest_syncs_forget(client);
    if (client->body.memory != NULL) {
        vtest_memory_give(client, client->body.gpa, client->body.want_bytes);
        client->body.memory = NULL;
    }
}

void vtest_client_drop(struct vtest_client *client, const char *why)
{
    if (client->is_gone) {
        return;
    }
    client->is_gone = true;
    client->bridge->n_connected--;
    vgd_log(VGD_LOG_INFO, "client", "%u (%s) ends: %s", client->number, client->name, why);
    client->is_stalled = false;
    vgd_watch_remove(&client->watch);
    vgd_fd_closep(&client->fd);
    forget_out(client);
    release_all(client);
    vtest_client_unref(client);
}

void vgd_vtest_bridge_drop_all(struct vgd_vtest_bridge *bridge, const char *why)
{
    struct vtest_client *client = bridge->clients;
    while (client != NULL) {
        if (client->is_gone) {
            client = client->next;
            continue;
        }
        vtest_client_drop(client, why);
        client = bridge->clients; /* it may be freed, others too */
    }
}

/* Send @n_bytes at @bytes, and *@fd with the first of them. Returns how many went, 0 when the
 * socket is full, -1 when it is broken. */
static ssize_t send_some(int socket, const uint8_t *bytes, uint32_t n_bytes, int fd)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
    }
    ssize_t n;
    do {
        n = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    return n;
}

/* False: the connection is broken. */
static bool flush(struct vtest_client *client)
{
    while (client->out != NULL) {
        struct vtest_out *out = client->out;
        ssize_t n = send_some(client->fd, out->bytes + out->sent_bytes,
                              out->n_bytes - out->sent_bytes, out->fd);
        if (n <= 0) {
            return n == 0;
        }
        vgd_fd_closep(&out->fd);
        out->sent_bytes += (uint32_t)n;
        if (out->sent_bytes == out->n_bytes) {
            client->out = out->next;
            if (client->out == NULL) {
                client->out_end = &client->out;
            }
            free(out);
        }
    }
    return true;
}

/* One piece: sent now, or kept until the client reads. */
static void send_piece(struct vtest_client *client, const void *bytes, uint32_t n_bytes, int *fd)
{
    ssize_t n = 0;
    if (client->out == NULL) {
        n = send_some(client->fd, bytes, n_bytes, fd == NULL ? -1 : *fd);
    }
    if (n < 0) {
        vtest_client_drop(client, "its socket is closed");
        return;
    }
    if (n > 0 && fd != NULL) {
        vgd_fd_closep(fd);
    }
    if ((uint32_t)n == n_bytes) {
        return;
    }
    uint32_t left = n_bytes - (uint32_t)n;
    struct vtest_out *out = malloc(sizeof(*out) + left);
    if (out == NULL) {
        vtest_client_drop(client, "out of memory");
        return;
    }
    *out = (struct vtest_out){.fd = fd == NULL ? -1 : vgd_fd_take(fd), .n_bytes = left};
    memcpy(out->bytes, (const uint8_t *)bytes + n, left);
    *client->out_end = out;
    client->out_end = &out->next;
    vgd_watch_set(client->watch, EPOLLOUT); /* nothing more is read before it is gone */
}

void vtest_client_send(struct vtest_client *client, const void *bytes, uint32_t n_bytes, int *fd)
{
    if (!client->is_gone && n_bytes > 0) {
        send_piece(client, bytes, n_bytes, NULL);
    }
    if (fd == NULL) {
        return;
    }
    if (!client->is_gone) {
        /* A byte of its own: a client reads the reply with read(2), which would lose it. */
        static const uint8_t zero;
        send_piece(client, &zero, 1, fd);
    }
    vgd_fd_closep(fd);
}

void vtest_client_reply(struct vtest_client *client, uint32_t cmd, const void *bytes,
                        uint32_t n_bytes, int *fd)
{
    uint8_t whole[VGD_VTEST_HDR_SIZE + 64];
    struct vgd_writer w = vgd_writer_of(whole, sizeof(whole));
    vgd_vtest_hdr_encode(&w, &(struct vgd_vtest_hdr){.length = n_bytes / 4, .cmd = cmd});
    vgd_write_bytes(&w, bytes, n_bytes);
    vtest_client_send(client, whole, (uint32_t)vgd_writer_used(&w), fd);
}

void vtest_client_stall(struct vtest_client *client)
{
    client->is_stalled = true;
}

void vtest_client_spend(struct vtest_client *client, uint64_t n_bytes)
{
    client->spent_bytes += n_bytes;
    if (client->spent_bytes >= VGD_VTEST_TURN_BYTES && !client->is_gone) {
        vgd_timer_start(client->bridge->turn_timer, 0);
    }
}

bool vtest_client_may_copy(struct vtest_client *client, const struct vgd_vtest_span *span)
{
    uint64_t rows = (uint64_t)span->rows * span->layers; /* each lies in memory: no overflow */
    uint64_t cost_bytes = rows * (span->row_bytes + ROW_COST_BYTES);
    client->request_bytes += cost_bytes;
    vtest_client_spend(client, cost_bytes);
    if (client->request_bytes > VGD_VTEST_COPY_MAX) {
        vtest_client_drop(client, "a request moves too many bytes");
        return false;
    }
    return true;
}

static bool has_enough_in_flight(const struct vtest_client *client)
{
    return client->n_in_flight >= VGD_VTEST_IN_FLIGHT ||
           client->coming_bytes >= VGD_VTEST_COMING_BYTES;
}

/* Is there nothing that keeps the next request from being looked at? */
static bool may_run(const struct vtest_client *client)
{
    return !client->is_gone && !client->is_stalled && client->out == NULL && !client->is_held &&
           !has_enough_in_flight(client) && client->spent_bytes < VGD_VTEST_TURN_BYTES &&
           vgd_vtest_device_has_room(client->dev);
}

static void consume(struct vtest_client *client, uint32_t n_bytes)
{
    client->in_start += n_bytes;
    if (client->in_start == client->in_end) {
        client->in_start = 0;
        client->in_end = 0;
    }
}

/* Take what has been read of a body that goes to device memory. */
static void fill_body(struct vtest_client *client)
{
    uint32_t here = client->in_end - client->in_start;
    uint32_t missing = client->body.want_bytes - client->body.got_bytes;
    uint32_t n = here < missing ? here : missing;
    memcpy(client->body.memory + client->body.got_bytes, client->in + client->in_start, n);
    client->body.got_bytes += n;
    consume(client, n);
}

/* A request whose data go to device memory: @n_fixed bytes of it are in front of them. */
static bool begin_body(struct vtest_client *client, const struct vgd_vtest_hdr *hdr,
                       uint32_t n_bytes)
{
    if (n_bytes > VGD_VTEST_SUBMIT_MAX) {
        vtest_client_drop(client, "a request is too long");
        return false;
    }
    client->body.memory = vtest_memory_take(client, n_bytes, true, &client->body.gpa);
    if (client->body.memory == NULL) {
        return false;
    }
    client->body.active = true;
    client->body.cmd = hdr->cmd;
    client->body.want_bytes = n_bytes;
    client->body.got_bytes = 0;
    fill_body(client);
    return true;
}

/* The next request, if it is all there. False: there is nothing more to do now. */
static bool next_request(struct vtest_client *client)
{
    client->request_bytes = 0;
    if (client->body.active) {
        fill_body(client);
        if (client->body.got_bytes < client->body.want_bytes) {
            return false;
        }
        client->body.active = false;
        vtest_client_spend(client, REQUEST_COST_BYTES + client->body.got_bytes);
        vtest_command_long(client);
        return true;
    }
    uint32_t here = client->in_end - client->in_start;
    if (here < VGD_VTEST_HDR_SIZE) {
        return false;
    }
    const uint8_t *at = client->in + client->in_start;
    struct vgd_reader r = vgd_reader_of(at, here);
    struct vgd_vtest_hdr hdr = {0};
    uint32_t n_bytes;
    if (vgd_vtest_hdr_decode(&r, &hdr) != VGD_OK || !vtest_command_size(&hdr, &n_bytes)) {
        vtest_client_drop(client, "it sent a request that does not exist");
        return false;
    }
    if (client->is_named == (hdr.cmd == VGD_VTEST_CREATE_RENDERER)) {
        vtest_client_drop(client, "CREATE_RENDERER has to come first, and once");
        return false;
    }
    if (vtest_command_is_long(hdr.cmd) && hdr.cmd != VGD_VTEST_TRANSFER_PUT) {
        consume(client, VGD_VTEST_HDR_SIZE);
        return begin_body(client, &hdr, n_bytes);
    }
    if (n_bytes > VTEST_IN_BYTES - VGD_VTEST_HDR_SIZE) {
        vtest_client_drop(client, "a request is too long");
        return false;
    }
    if (here - VGD_VTEST_HDR_SIZE < n_bytes) {
        return false;
    }
    if (hdr.cmd == VGD_VTEST_TRANSFER_PUT) {
        r = vgd_reader_of(at + VGD_VTEST_HDR_SIZE, n_bytes);
        if (vgd_vtest_transfer_decode(&r, &client->body.transfer) != VGD_OK) {
            return false; /* cannot be: the size is right */
        }
        consume(client, VGD_VTEST_HDR_SIZE + n_bytes);
        return begin_body(client, &hdr, client->body.transfer.data_bytes);
    }
    vtest_client_spend(client, REQUEST_COST_BYTES);
    /* The bytes stay where they are while the request is carried out: nothing is read meanwhile. */
    vtest_command(client, hdr.cmd, at + VGD_VTEST_HDR_SIZE, n_bytes);
    consume(client, VGD_VTEST_HDR_SIZE + n_bytes);
    return true;
}

/* Carry out at most @n_most requests. Returns how many there were. */
static uint32_t run(struct vtest_client *client, uint32_t n_most)
{
    uint32_t n = 0;
    if (client->is_running) {
        return 0;
    }
    client->is_running = true;
    client->refs++;
    while (n < n_most && may_run(client) && next_request(client)) {
        n++;
    }
    client->is_running = false;
    if (!client->is_gone && !client->is_held && has_enough_in_flight(client)) {
        client->is_held = true;
        vgd_vtest_device_await_all(client->dev, client->ctx_id);
    }
    vtest_client_unref(client);
    return n;
}

static bool resume(struct vtest_client *client, uint32_t n_most)
{
    if (client->is_gone || client->is_stalled || client->out != NULL) {
        return false;
    }
    vgd_watch_set(client->watch, EPOLLIN);
    return run(client, n_most) > 0;
}

/* Call @fn for each client; it may drop that client. Was it true for one of them? */
static bool for_each(struct vgd_vtest_bridge *bridge, bool (*fn)(struct vtest_client *client))
{
    bool was_one = false;
    struct vtest_client *client = bridge->clients;
    while (client != NULL) {
        client->refs++;
        was_one = fn(client) || was_one;
        struct vtest_client *next = client->next;
        vtest_client_unref(client);
        client = next;
    }
    return was_one;
}

static bool one_request(struct vtest_client *client)
{
    return resume(client, 1);
}

/* Room is scarce: one request of each, then the next of each. */
void vgd_vtest_bridge_on_room(struct vgd_vtest_bridge *bridge)
{
    while (for_each(bridge, one_request)) {
    }
}

static bool new_turn(struct vtest_client *client)
{
    client->spent_bytes = 0;
    vtest_range_take(client);
    return true;
}

static void on_turn(void *user)
{
    struct vgd_vtest_bridge *bridge = user;
    (void)for_each(bridge, new_turn);
    vgd_vtest_bridge_on_room(bridge);
}

static bool has_no_name(struct vtest_client *client)
{
    return !client->is_gone && !client->is_named;
}

static bool drop_if_nameless(struct vtest_client *client)
{
    /* Nothing of ours keeps its name from being heard. */
    if (has_no_name(client) && client->name_due_ns <= vgd_now_ns() && may_run(client)) {
        vtest_client_drop(client, "it does not say its name");
    }
    return has_no_name(client);
}

static void on_name_time(void *user)
{
    struct vgd_vtest_bridge *bridge = user;
    if (for_each(bridge, drop_if_nameless)) {
        vgd_timer_start(bridge->name_timer, NAME_LOOK_NS);
    }
}

void vtest_client_go(struct vtest_client *client)
{
    client->is_stalled = false;
    if (client->is_gone) {
        return;
    }
    if (client->out == NULL) {
        vgd_watch_set(client->watch, EPOLLIN);
    }
    (void)run(client, UINT32_MAX);
}

void vtest_client_progress(struct vtest_client *client)
{
    if (client->is_gone) {
        return;
    }
    vtest_look_at_queries(client);
    bool was_held = client->is_held;
    client->is_held = was_held && (client->n_in_flight > VGD_VTEST_IN_FLIGHT / 4 * 3 ||
                                   client->coming_bytes >= VGD_VTEST_COMING_BYTES);
    if (client->waits_idle && client->n_busy > 0) {
        /* The last one has been answered before others: they are on different timelines. */
        if (client->last_busy == 0) {
            vgd_vtest_device_await_all(client->dev, client->ctx_id);
        }
    } else if (client->waits_idle) {
        client->waits_idle = false;
        uint32_t busy = 0;
        vtest_client_reply(client, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, sizeof(busy), NULL);
        vtest_client_go(client);
    } else if (was_held && !client->is_held) {
        (void)resume(client, UINT32_MAX);
    }
}

/* Read once. 1: something came, 0: nothing there, -1: the end. */
static int read_some(struct vtest_client *client, uint32_t *out_bytes, bool *out_is_all)
{
    uint8_t *to;
    uint32_t room;
    if (client->body.active && client->in_start == client->in_end) {
        to = client->body.memory + client->body.got_bytes;
        room = client->body.want_bytes - client->body.got_bytes;
    } else {
        if (client->in_start > 0) {
            memmove(client->in, client->in + client->in_start, client->in_end - client->in_start);
            client->in_end -= client->in_start;
            client->in_start = 0;
        }
        to = client->in + client->in_end;
        room = VTEST_IN_BYTES - client->in_end;
    }
    if (room == 0) {
        return 0;
    }
    ssize_t n;
    do {
        n = recv(client->fd, to, room, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (n <= 0) {
        return -1;
    }
    if (to == client->in + client->in_end) {
        client->in_end += (uint32_t)n;
    } else {
        client->body.got_bytes += (uint32_t)n;
    }
    *out_bytes = (uint32_t)n;
    *out_is_all = (uint32_t)n < room;
    return 1;
}

static void on_readable(struct vtest_client *client)
{
    uint32_t total = 0;
    while (total < READ_PER_TURN_BYTES) {
        if (!may_run(client)) {
            /* Asked for again when it goes on. */
            if (!client->is_gone && client->out == NULL) {
                vgd_watch_set(client->watch, 0);
            }
            return;
        }
        uint32_t n = 0;
        bool is_all = false;
        int result = read_some(client, &n, &is_all);
        if (result < 0) {
            vtest_client_drop(client, "it closed its socket");
            return;
        }
        if (result == 0) {
            return;
        }
        total += n;
        (void)run(client, UINT32_MAX);
        if (is_all) {
            return; /* most likely there is nothing more */
        }
    }
}

static void on_event(void *user, uint32_t events)
{
    struct vtest_client *client = user;
    client->refs++;
    if ((events & EPOLLOUT) != 0) {
        if (!flush(client)) {
            vtest_client_drop(client, "its socket is closed");
        } else if (client->out == NULL) {
            vgd_watch_set(client->watch, EPOLLIN);
            (void)run(client, UINT32_MAX);
        }
    } else if ((events & EPOLLIN) != 0 && may_run(client)) {
        on_readable(client);
    } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        vtest_client_drop(client, "it closed its socket");
    } else if ((events & EPOLLIN) != 0) {
        on_readable(client);
    }
    vtest_client_unref(client);
}

void vgd_vtest_bridge_add(struct vgd_vtest_bridge *bridge, int *fd)
{
    VGD_AUTO_FD socket = vgd_fd_take(fd);
    if (bridge->n_connected >= VGD_VTEST_CLIENTS_MAX) {
        vgd_log(VGD_LOG_WARNING, "bridge", "a client is turned away: there are %u",
                bridge->n_connected);
        return;
    }
    struct vtest_client *client = calloc(1, sizeof(*client));
    uint8_t *in = malloc(VTEST_IN_BYTES);
    if (client == NULL || in == NULL) {
        free(client);
        free(in);
        return;
    }
    client->bridge = bridge;
    client->dev = bridge->dev;
    client->number = ++bridge->next_number;
    client->refs = 1;
    client->in = in;
    client->out_end = &client->out;
    client->next_sync_id = 1;
    client->fence_file = -1;
    client->watch = vgd_loop_watch(bridge->loop, socket, EPOLLIN, on_event, client);
    if (client->watch == NULL) {
        free(client);
        free(in);
        return;
    }
    client->fd = vgd_fd_take(&socket);
    client->next = bridge->clients;
    if (client->next != NULL) {
        client->next->prev = client;
    }
    bridge->clients = client;
    bridge->n_connected++;
    bridge->n_objects++;
    client->name_due_ns = vgd_now_ns() + VGD_VTEST_NAME_MS * UINT64_C(1000000);
    if (!vgd_timer_running(bridge->name_timer)) {
        vgd_timer_start(bridge->name_timer, NAME_LOOK_NS);
    }
}
