/* SPDX-License-Identifier: MIT */
/*
 * The worker's rings with a guest that never rests: whenever the worker has served what was there,
 * more is in the ring before it looks again. The worker's loop, its rings and the device are the
 * real ones; the renderer is soft.c, with an end of batch at which the guest gets its chance.
 */
#include <criterion/criterion.h>

#include "soft.h"
#include "vhost_fixture.h"
#include "worker.h"

#define RING_SIZE 16u
#define CHAINS_PER_REFILL 4u
/* Far more than one turn may take. A loop that does not come back ends here, and the test fails. */
#define ROUNDS_MAX 100000u
/* One turn serves at most so many chains (LOOKS_PER_TURN of worker_queue.c). */
#define CHAINS_PER_TURN_MAX 256u
#define STOP_SEQ 77u

struct bench {
    struct guest guest;
    struct vgd_render render; /* soft's, with batch_end of ours */
    struct vgd_render_ops ops;
    struct vgd_render *soft;
    struct vgd_display display;
    struct vgd_gpu *gpu;
    struct vgd_vault *vault;
    struct worker worker;
    int kick_fd, message_fd;
    struct vgd_watch *message_watch;
    bool is_refilling;
    uint32_t rounds, answered;
    bool was_confirmed;
    uint32_t confirmed_seq;
    uint64_t confirmed_value;
};

/* Of the one test that a process runs. Static, so that the requests that the rings keep for reuse,
 * as long as their process lives, stay reachable for the leak checker. */
static struct bench bench;

/* --- what worker.c is to the rings --- */

void vgd_worker_send(struct worker *w, enum vgd_link_type type, const void *payload, size_t n_bytes)
{
    (void)w;
    (void)payload;
    (void)n_bytes;
    cr_assert_eq(type, VGD_LINK_STARTED);
}

void vgd_worker_send_fd(struct worker *w, enum vgd_link_type type, const void *payload,
                        size_t n_bytes, int fd)
{
    (void)w;
    (void)type;
    (void)payload;
    (void)n_bytes;
    (void)fd;
    cr_assert_fail("nothing with a descriptor is sent here");
}

void vgd_worker_confirm(struct worker *w, uint32_t request_seq, enum vgd_status status,
                        uint64_t value)
{
    (void)w;
    cr_assert_eq(status, VGD_OK);
    cr_assert(!bench.was_confirmed);
    bench.was_confirmed = true;
    bench.confirmed_seq = request_seq;
    bench.confirmed_value = value;
}

/* --- the guest --- */

/* Take back what was answered, and offer as many chains again. */
static void refill(struct bench *b)
{
    struct guest *g = &b->guest;
    uint32_t head, n_bytes;
    while (guest_collect(g, &head, &n_bytes)) {
        cr_assert_eq(n_bytes, VGD_CTRL_HDR_SIZE);
        b->answered++;
        if (b->is_refilling) {
            guest_offer(g, (uint16_t)head);
        }
    }
}

static void batch_end(struct vgd_render *r)
{
    (void)r;
    struct bench *b = &bench;
    b->rounds++;
    if (b->rounds > ROUNDS_MAX) {
        b->is_refilling = false;
    }
    refill(b);
}

/* --- the bench --- */

static void display_cancel(struct vgd_display *d)
{
    (void)d;
}

static enum vgd_status no_memory(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    (void)user;
    (void)addr;
    (void)len_bytes;
    (void)iov;
    (void)n_iov;
    (void)max;
    return VGD_RANGE;
}

static void send_queue_start(struct bench *b)
{
    struct vgd_link_queue_start start = {
        .size = RING_SIZE,
        .desc_user_addr = b->guest.setup.desc_user_addr,
        .avail_user_addr = b->guest.setup.avail_user_addr,
        .used_user_addr = b->guest.setup.used_user_addr,
        .event_idx = true,
    };
    struct vgd_link_message msg = {
        .type = VGD_LINK_QUEUE_START, .payload_bytes = sizeof(start), .n_fds = 1};
    memcpy(msg.payload, &start, sizeof(start));
    msg.fds[0] = dup(b->kick_fd);
    cr_assert_eq(vgd_worker_queue_start(&b->worker, &msg), VGD_OK);
}

static void begin(struct bench *b)
{
    guest_begin(&b->guest, RING_SIZE);

    struct vgd_render_callbacks callbacks = {0};
    b->soft = vgd_soft_create(&callbacks);
    int vault_fd = vgd_vault_create();
    b->vault = vgd_vault_map(vault_fd);
    vgd_fd_closep(&vault_fd);
    cr_assert(b->soft != NULL && b->vault != NULL);
    b->ops = *b->soft->ops;
    b->ops.batch_end = batch_end;
    b->render = (struct vgd_render){.ops = &b->ops};
    static const struct vgd_display_ops display_ops = {.cancel = display_cancel};
    b->display.ops = &display_ops;

    b->worker = (struct worker){
        .loop = vgd_loop_create(),
        .vault = b->vault,
        .mem = b->guest.mem,
        .render = &b->render,
    };
    struct vgd_gpu_config config = {
        .render = b->soft,
        .display = &b->display,
        .memory = {.translate = no_memory},
        .counters = &b->vault->counters,
        .n_scanouts = 1,
        .complete = vgd_worker_complete,
        .postpone = vgd_worker_postpone,
        .user = &b->worker,
    };
    b->gpu = vgd_gpu_create(&config);
    cr_assert(b->worker.loop != NULL && b->gpu != NULL);
    b->worker.gpu = b->gpu;
    cr_assert_eq(vgd_worker_queues_create(&b->worker), VGD_OK);
    b->kick_fd = vgd_eventfd_create();
    b->message_fd = vgd_eventfd_create();
    cr_assert(b->kick_fd >= 0 && b->message_fd >= 0);

    /* Commands of a kind that there is not: each is answered at once, with an error. */
    for (uint16_t i = 0; i < CHAINS_PER_REFILL; i++) {
        uint16_t head = (uint16_t)(2 * i);
        uint64_t at = LOW_GPA + BUFFERS_AT + i * 256u;
        guest_desc(&b->guest, head, at, VGD_CTRL_HDR_SIZE, VRING_DESC_F_NEXT, head + 1);
        guest_desc(&b->guest, head + 1u, at + 128, 128, VRING_DESC_F_WRITE, 0);
    }
}

static void end(struct bench *b)
{
    vgd_worker_queues_drop(&b->worker);
    vgd_watch_remove(&b->message_watch);
    for (uint32_t i = 0; i < VGD_QUEUES_COUNT; i++) {
        struct queue *q = &b->worker.queues[i];
        vgd_virtqueue_destroy(q->vq);
        vgd_timer_destroy(&q->again);
        vgd_timer_destroy(&q->retry);
        vgd_fd_closep(&q->kick_fd);
        vgd_fd_closep(&q->call_fd);
    }
    free(b->worker.command);
    vgd_timer_destroy(&b->worker.drain);
    vgd_gpu_destroy(b->gpu);
    b->soft->ops->destroy(b->soft);
    vgd_loop_destroy(b->worker.loop);
    vgd_vault_unmap(b->vault);
    vgd_fd_closep(&b->kick_fd);
    vgd_fd_closep(&b->message_fd);
    guest_end(&b->guest);
}

/* --- the tests --- */

static void offer_all(struct bench *b)
{
    b->is_refilling = true;
    for (uint16_t i = 0; i < CHAINS_PER_REFILL; i++) {
        guest_offer(&b->guest, (uint16_t)(2 * i));
    }
}

static void note_fired(void *user)
{
    *(bool *)user = true;
}

VHOST_TEST(worker_queue, a_ring_that_is_refilled_for_ever_leaves_turns_to_others)
{
    struct bench *b = &bench;
    begin(b);
    send_queue_start(b);
    offer_all(b);
    vgd_eventfd_signal(b->kick_fd);

    bool has_fired = false;
    struct vgd_timer *other = vgd_timer_create(b->worker.loop, note_fired, &has_fired);
    vgd_timer_start(other, 0);
    uint32_t turns = 0;
    for (; !has_fired && turns < 4; turns++) {
        uint32_t before = b->answered;
        vgd_loop_turn(b->worker.loop, 1000);
        /* At most the kick's share and the share of what was left over. */
        cr_assert_leq(b->answered - before, 2 * CHAINS_PER_TURN_MAX);
    }
    cr_assert(has_fired, "other work got no turn");
    vgd_timer_destroy(&other);

    /* The guest is not forgotten over it: without another kick, each turn serves more. */
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t before = b->answered;
        vgd_loop_turn(b->worker.loop, 1000);
        cr_assert_gt(b->answered, before);
    }

    /* And once it rests, everything is answered, and kicks are asked for again. */
    b->is_refilling = false;
    for (uint32_t i = 0; i < 4; i++) {
        vgd_loop_turn(b->worker.loop, 0);
    }
    refill(b);
    cr_assert_eq(vgd_virtqueue_inflight_count(b->worker.queues[0].vq), 0);
    cr_assert_eq(b->guest.used_seen, b->guest.avail_idx);
    cr_assert_eq(get16(guest_avail_event(&b->guest)), b->guest.avail_idx);
    uint32_t rounds = b->rounds;
    vgd_loop_turn(b->worker.loop, 0);
    cr_assert_eq(b->rounds, rounds, "the loop goes on with nothing to do");
    end(b);
}

static void stop_arrives(void *user, uint32_t events)
{
    (void)events;
    struct bench *b = user;
    vgd_eventfd_clear(b->message_fd);
    struct vgd_link_request stop = {.request_seq = STOP_SEQ, .queue_idx = 0};
    struct vgd_link_message msg = {.type = VGD_LINK_QUEUE_STOP, .payload_bytes = sizeof(stop)};
    memcpy(msg.payload, &stop, sizeof(stop));
    cr_assert_eq(vgd_worker_queue_stop(&b->worker, &msg), VGD_OK);
}

VHOST_TEST(worker_queue, a_ring_that_is_refilled_for_ever_stops_when_told)
{
    struct bench *b = &bench;
    begin(b);
    b->message_watch = vgd_loop_watch(b->worker.loop, b->message_fd, EPOLLIN, stop_arrives, b);
    cr_assert(b->message_watch != NULL);
    send_queue_start(b);
    offer_all(b);
    vgd_eventfd_signal(b->kick_fd);
    vgd_loop_turn(b->worker.loop, 1000);
    cr_assert(b->is_refilling, "the first turn did not end by itself");

    vgd_eventfd_signal(b->message_fd);
    for (uint32_t turns = 0; !b->was_confirmed && turns < 4; turns++) {
        vgd_loop_turn(b->worker.loop, 1000);
    }
    cr_assert(b->was_confirmed, "the stop got no turn");
    cr_assert_eq(b->confirmed_seq, STOP_SEQ);
    uint32_t rounds = b->rounds;
    vgd_loop_turn(b->worker.loop, 0);
    cr_assert_eq(b->rounds, rounds, "a stopped ring is served");
    /* The VMM is told where the guest's next chain is: all before it were answered. */
    refill(b);
    cr_assert_eq((uint16_t)b->confirmed_value, b->guest.used_seen);
    end(b);
}
