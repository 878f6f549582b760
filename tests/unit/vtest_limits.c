/* SPDX-License-Identifier: MIT */
/*
 * Rule: what a client can make the bridge do, hold and wait for is bounded, and comes out of its
 * own share: others are served meanwhile, and none of them loses its connection for it.
 */
#include "log.h"
#include "vtest_fixture.h"

#include <errno.h>
#include <malloc.h>

RULE(a_stream_that_keeps_everybody_waiting_is_refused)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    enum { BYTES = 1 << 20, TIMES = 1000 };
    ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 16, BYTES, 1, 1, 1, 0, 0, BYTES);
    pump(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
    VGD_AUTO_FD file = get_fd(fd);
    cr_assert_geq(file, 0);
    settle(b);
    static uint32_t stream[TIMES][14];
    for (uint32_t i = 0; i < TIMES; i++) {
        const uint32_t one[] = {43 | 13u << 16, id, 0, 0, 0, 0, 0, 0, 0, BYTES, 1, 1, 0, 1};
        memcpy(stream[i], one, sizeof(one));
    }
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream[0], TIMES * 14);
    pump(b);
    cr_assert(is_dropped(fd));
}

/* A SUBMIT_CMD2 whose batches all name the same @n_shared dwords, as commands or as syncs. */
static void submit_shared(struct bed *b, int fd, uint32_t n_batches, uint32_t n_shared,
                          bool are_syncs, uint32_t sync)
{
    static uint32_t words[1 + 64 * 8 + 3 * 1024];
    uint32_t at = 1 + n_batches * 8;
    words[0] = n_batches;
    for (uint32_t i = 0; i < n_batches; i++) {
        const uint32_t batch[8] = {VGD_VTEST_BATCH_FLAG_RING_IDX, at, are_syncs ? 0 : n_shared, at,
                                   are_syncs ? n_shared / 3 : 0};
        memcpy(words + 1 + i * 8, batch, sizeof(batch));
    }
    for (uint32_t i = 0; i < n_shared; i++) {
        words[at + i] = are_syncs && i % 3 == 0 ? sync : 0;
    }
    ask(fd, VGD_VTEST_SUBMIT_CMD2, words, at + n_shared);
    pump(b);
}

RULE(batches_do_not_multiply_what_a_request_holds)
{
    for (uint32_t i = 0; i < 2; i++) {
        VGD_AUTO_FD fd = client_begin(b, 4);
        ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
        uint32_t sync = make_sync(b, fd, 0);
        settle(b);
        submit_shared(b, fd, 1, 3 * 1024, i == 0, sync);
        cr_assert(!is_dropped(fd), "all of it, once");
        settle(b);
        submit_shared(b, fd, 64, 3 * 1024, i == 0, sync);
        cr_assert(is_dropped(fd), "all of it, 64 times");
        cr_assert_leq(vtest_fake_pending(b->dev), 4);
        settle(b);
    }
}

RULE(a_full_device_makes_clients_wait_not_the_bridge)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    static uint32_t many[500][3]; /* in one piece: the socket has room for so many bytes */
    for (int i = 0; i < 500; i++) {
        many[i][0] = 1;
        many[i][1] = VGD_VTEST_SUBMIT_CMD;
    }
    put(fd, many, sizeof(many));
    ASK(fd, VGD_VTEST_PROTOCOL_VERSION, 4);
    pump(b);
    cr_assert_lt(vtest_fake_pending(b->dev), 70, "the queue is bounded");
    cr_assert(is_silent(fd));
    settle(b);
    uint32_t version;
    get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &version, 1);
}

RULE(room_is_given_out_in_turns)
{
    vtest_fake_set_queue(b->dev, 16);
    VGD_AUTO_FD one = client_begin(b, 4);
    VGD_AUTO_FD two = client_begin(b, 4);
    static uint32_t many[200][3];
    for (int i = 0; i < 200; i++) {
        many[i][0] = 1;
        many[i][1] = VGD_VTEST_SUBMIT_CMD;
    }
    put(one, many, sizeof(many));
    put(two, many, sizeof(many));
    pump(b);
    for (int round = 0; round < 4; round++) {
        while (vtest_fake_pending(b->dev) > 0) {
            vtest_fake_answer(b->dev, 0, 0);
        }
        pump(b);
        uint32_t n_pending = vtest_fake_pending(b->dev);
        uint32_t n_first = 0; /* of whoever is first */
        for (uint32_t i = 0; i < n_pending; i++) {
            n_first += vtest_fake_header(b->dev, i)->ctx_id == vtest_fake_header(b->dev, 0)->ctx_id;
        }
        /* At first whoever is read first has it. */
        cr_assert(round < 2 || (n_first >= 6 && n_first <= 10), "%u of %u", n_first, n_pending);
    }
}

RULE(a_client_that_does_not_read_is_not_read)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint32_t request[4] = {2, VGD_VTEST_GET_CAPSET, VGD_CAPSET_VIRGL2, 2};
    uint32_t n_sent = 0;
    for (int quiet = 0; quiet < 3;) {
        if (send(fd, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(request)) {
            n_sent++;
            quiet = 0;
            continue;
        }
        pump(b);
        quiet++;
    }
    cr_assert_lt(n_sent, 40000, "its requests pile up in its own socket");
    VGD_AUTO_FD other = client_begin(b, 4); /* others go on */
    cr_assert_geq(other, 0);
    static uint8_t reply[8 + 4 + 1408];
    for (uint32_t i = 0; i < n_sent; i++) {
        size_t n = 0;
        while (n < sizeof(reply)) {
            ssize_t now = recv(fd, reply + n, sizeof(reply) - n, MSG_DONTWAIT);
            if (now > 0) {
                n += (size_t)now;
            } else {
                pump(b);
            }
        }
        cr_assert_eq(reply[sizeof(reply) - 1], 0x12, "reply %u", i);
    }
}

RULE(there_is_a_limit_to_clients)
{
    static int fds[VGD_VTEST_CLIENTS_MAX + 1];
    for (uint32_t i = 0; i < VGD_VTEST_CLIENTS_MAX + 1; i++) {
        fds[i] = client_begin_raw(b);
    }
    pump(b);
    cr_assert_eq(vgd_vtest_bridge_client_count(b->bridge), VGD_VTEST_CLIENTS_MAX);
    cr_assert(is_dropped(fds[VGD_VTEST_CLIENTS_MAX]));
    vgd_fd_closep(&fds[0]);
    pump(b);
    VGD_AUTO_FD next = client_begin(b, 4);
    cr_assert_geq(next, 0);
    vgd_fds_close(fds, VGD_VTEST_CLIENTS_MAX + 1);
    pump(b);
}

/* Nobody keeps a place with nothing but a connection, or with half a name. */
RULE(a_client_without_a_name_does_not_stay)
{
    static int fds[VGD_VTEST_CLIENTS_MAX - 1];
    VGD_AUTO_FD named = client_begin(b, 4);
    for (uint32_t i = 0; i < VGD_VTEST_CLIENTS_MAX - 1; i++) {
        fds[i] = client_begin_raw(b);
    }
    put(fds[0], "\5\0\0", 3);
    uint64_t end_ns = vgd_now_ns() + (VGD_VTEST_NAME_MS - 1500) * UINT64_C(1000000);
    while (vgd_now_ns() < end_ns) {
        vgd_loop_turn(b->loop, 50);
    }
    cr_assert_eq(vgd_vtest_bridge_client_count(b->bridge), VGD_VTEST_CLIENTS_MAX);
    say_name(fds[1]);
    end_ns = vgd_now_ns() + UINT64_C(4000000000);
    while (vgd_vtest_bridge_client_count(b->bridge) > 2 && vgd_now_ns() < end_ns) {
        vgd_loop_turn(b->loop, 50);
    }
    cr_assert_eq(vgd_vtest_bridge_client_count(b->bridge), 2);
    cr_assert(is_dropped(fds[0]) && is_dropped(fds[2]));
    cr_assert(is_silent(fds[1]) && is_silent(named));
    VGD_AUTO_FD next = client_begin(b, 4);
    cr_assert_geq(next, 0);
    vgd_fds_close(fds, VGD_VTEST_CLIENTS_MAX - 1);
    pump(b);
}

/* More than fits into the socket: the bridge reads meanwhile. */
static void put_all(struct bed *b, int fd, const void *bytes, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes;) {
        ssize_t n =
            send(fd, (const uint8_t *)bytes + at, n_bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) {
            return; /* the bridge has had enough of it */
        }
        at += n > 0 ? (size_t)n : 0;
        vgd_loop_turn(b->loop, 0);
    }
}

/* A buffer of which only the number is wanted. */
static uint32_t make_large(struct bed *b, int fd, uint32_t n_bytes)
{
    uint8_t *memory;
    uint32_t id = make_buffer(b, fd, n_bytes, &memory);
    (void)munmap(memory, n_bytes);
    return id;
}

RULE(a_client_that_moves_much_lets_others_go_first)
{
    enum { BYTES = 4 << 20, TIMES = 50 };
    VGD_AUTO_FD fd = client_begin(b, 4);
    VGD_AUTO_FD other = client_begin(b, 4);
    uint32_t id = make_large(b, fd, BYTES);
    settle(b);
    for (uint32_t i = 0; i < TIMES; i++) {
        ASK(fd, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, BYTES, 1, 1, BYTES, 0);
    }
    ASK(fd, VGD_VTEST_PROTOCOL_VERSION, 4);
    ask(other, VGD_VTEST_PING_PROTOCOL_VERSION, NULL, 0);
    vgd_loop_turn(b->loop, 0);
    cr_assert_leq(vtest_fake_pending(b->dev), 4, "%u transfers in one turn",
                  vtest_fake_pending(b->dev));
    get_reply(other, VGD_VTEST_PING_PROTOCOL_VERSION, NULL, 0);
    /* By and by it gets there, without having to ask again. */
    for (int i = 0; i < 10000 && is_silent(fd); i++) {
        vgd_loop_turn(b->loop, 1);
        vtest_fake_answer_all(b->dev);
    }
    uint32_t version;
    get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &version, 1);
}

RULE(what_comes_from_the_device_is_bounded)
{
    enum { BYTES = 16 << 20, TIMES = 40 };
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint32_t id = make_large(b, fd, BYTES);
    settle(b);
    for (uint32_t i = 0; i < TIMES; i++) {
        ASK(fd, VGD_VTEST_TRANSFER_GET2, id, 0, 0, 0, 0, BYTES, 1, 1, BYTES, 0);
    }
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, VGD_VTEST_BUSY_WAIT_WAIT);
    for (int i = 0; i < 50; i++) {
        vgd_loop_turn(b->loop, 1);
    }
    uint32_t n = vtest_fake_pending(b->dev);
    cr_assert_leq(n, 2 + VGD_VTEST_COMING_BYTES / BYTES, "%u under way", n);
    cr_assert(vtest_fake_is_awaited(b->dev, n - 1), "or their answers would not be looked at");
    for (int i = 0; i < 10000 && is_silent(fd); i++) {
        vtest_fake_answer_all(b->dev);
        vgd_loop_turn(b->loop, 1);
    }
    uint32_t busy = 9;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    cr_assert_eq(busy, 0);
}

RULE(a_short_stream_cannot_move_without_end)
{
    enum { TIMES = 140000 };
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint32_t id = make_large(b, fd, 4096);
    settle(b);
    uint32_t(*stream)[2] = malloc(TIMES * sizeof(*stream));
    cr_assert_not_null(stream);
    for (uint32_t i = 0; i < TIMES; i++) { /* GET_MEMORY_INFO: the host writes a page */
        stream[i][0] = 50 | 1u << 16;
        stream[i][1] = id;
    }
    const uint32_t hdr[2] = {TIMES * 2, VGD_VTEST_SUBMIT_CMD};
    put(fd, hdr, sizeof(hdr));
    put_all(b, fd, stream, TIMES * sizeof(*stream));
    free(stream);
    pump(b);
    cr_assert(is_dropped(fd));
}

RULE(a_transfer_of_endless_rows_is_refused)
{
    enum { BYTES = 16 << 20 };
    VGD_AUTO_FD fd = client_begin(b, 4);
    /* A volume of one pixel a layer: a byte each. */
    ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 3, 64, 8, 1, 1, BYTES, 1, 0, 0, BYTES);
    pump(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
    VGD_AUTO_FD file = get_fd(fd);
    cr_assert_geq(file, 0);
    settle(b);
    ASK(fd, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, 1, 1, BYTES, BYTES, 0);
    pump(b);
    cr_assert(is_dropped(fd));
}

RULE(fences_that_never_come_stop_only_their_client)
{
    enum { TIMES = 400 };
    vtest_fake_set_queue(b->dev, 1024);
    VGD_AUTO_FD fd = client_begin(b, 4);
    ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    uint32_t sync = make_sync(b, fd, 0);
    settle(b);
    static uint32_t all[TIMES][14]; /* in one piece: the socket has room for so many bytes */
    for (uint32_t i = 0; i < TIMES; i++) {
        const uint32_t one[14] = {12,    VGD_VTEST_SUBMIT_CMD2,
                                  1,     VGD_VTEST_BATCH_FLAG_RING_IDX,
                                  0,     0,
                                  9,     1,
                                  5,     0,
                                  0,     sync,
                                  i + 1, 0};
        memcpy(all[i], one, sizeof(one));
    }
    put(fd, all, sizeof(all));
    ASK(fd, VGD_VTEST_SYNC_READ, sync);
    pump(b);
    cr_assert_leq(vtest_fake_pending(b->dev), VGD_VTEST_IN_FLIGHT + VGD_VTEST_BATCHES_MAX);
    uint8_t *memory;
    VGD_AUTO_FD other = client_begin(b, 4);
    (void)make_buffer(b, other, 64, &memory);
    (void)munmap(memory, 64);
    settle(b);
    uint32_t value[2] = {0};
    get_reply(fd, VGD_VTEST_SYNC_READ, value, 2);
    cr_assert_geq(value[0], TIMES - VGD_VTEST_IN_FLIGHT);
}

/* Waiting for all of it with as much in flight as there may be. */
RULE(a_wait_ends_whatever_was_in_flight)
{
    vtest_fake_set_queue(b->dev, 1024);
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint32_t id = make_buffer(b, fd, 64, &memory);
    (void)munmap(memory, 64);
    settle(b);
    /* Memory for it, transfers without a fence, and the wait's fence: as much as there may be. */
    static uint32_t all[VGD_VTEST_IN_FLIGHT - 2][12];
    for (uint32_t i = 0; i < VGD_VTEST_IN_FLIGHT - 2; i++) {
        const uint32_t one[12] = {10, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, 4, 1, 1, 4, 0};
        memcpy(all[i], one, sizeof(one));
    }
    put(fd, all, sizeof(all));
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, VGD_VTEST_BUSY_WAIT_WAIT);
    ASK(fd, VGD_VTEST_PROTOCOL_VERSION, 4);
    pump(b);
    cr_assert_eq(vtest_fake_pending(b->dev), VGD_VTEST_IN_FLIGHT);
    settle(b);
    uint32_t word = 9;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &word, 1);
    get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &word, 1);
}

RULE(a_client_that_was_sent_away_leaves_no_queries)
{
    enum { MOVES = 600, QUERIES = 20000, ROUNDS = 5 };
    static uint32_t words[MOVES * 14 + QUERIES * 5];
    size_t before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        VGD_AUTO_FD fd = client_begin(b, 4);
        uint32_t id = make_large(b, fd, 1 << 20);
        settle(b);
        for (uint32_t i = 0; i < MOVES; i++) { /* too much: it is sent away in the middle */
            const uint32_t one[14] = {43 | 13u << 16, id, 0, 0, 0, 0, 0, 0, 0, 1 << 20, 1, 1, 0, 1};
            memcpy(words + (size_t)i * 14, one, sizeof(one));
        }
        for (uint32_t i = 0; i < QUERIES; i++) {
            const uint32_t one[5] = {1 | 9u << 8 | 4u << 16, i + 1, 0, 0, id};
            memcpy(words + MOVES * 14 + (size_t)i * 5, one, sizeof(one));
        }
        const uint32_t hdr[2] = {sizeof(words) / 4, VGD_VTEST_SUBMIT_CMD};
        put(fd, hdr, sizeof(hdr));
        put_all(b, fd, words, sizeof(words));
        pump(b);
        cr_assert(is_dropped(fd));
        settle(b);
        if (round == 0) {
            before = mallinfo2().uordblks;
        }
    }
    size_t after = mallinfo2().uordblks;
    cr_assert_leq(after, before + 65536, "%zu bytes, %zu before", after, before);
}

RULE(blobs_wait_for_room_in_the_region)
{
    enum { MIB = 700 }; /* of 1024: only one at a time */
    VGD_AUTO_FD one = client_begin(b, 4);
    VGD_AUTO_FD two = client_begin(b, 4);
    const int fds[2] = {one, two};
    for (int i = 0; i < 2; i++) {
        ASK(fds[i], VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
        ASK(fds[i], VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
            VGD_VTEST_BLOB_FLAG_MAPPABLE, MIB << 20, 0, 7, 0);
        pump(b);
    }
    for (int i = 0; i < 1000 && (is_silent(one) || is_silent(two)); i++) {
        vtest_fake_answer_all(b->dev);
        vgd_loop_turn(b->loop, 1);
    }
    for (int i = 0; i < 2; i++) {
        uint32_t id = 0;
        get_reply(fds[i], VGD_VTEST_RESOURCE_CREATE_BLOB, &id, 1);
        VGD_AUTO_FD file = get_fd(fds[i]);
        cr_assert_geq(file, 0);
    }
    /* What never fits is no reason to wait; nor is what another one waits for when that one goes.
     */
    ASK(one, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
        VGD_VTEST_BLOB_FLAG_MAPPABLE, 0, 1, 7, 0);
    pump(b);
    cr_assert(is_dropped(one));
    settle(b);
    vtest_fake_set_window(b->dev, false);
    ASK(two, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
        VGD_VTEST_BLOB_FLAG_MAPPABLE, 4096, 0, 7, 0);
    pump(b);
    cr_assert(is_dropped(two), "there is no region at all");
}

RULE(one_client_does_not_take_all_memory)
{
    enum { BYTES = 16 << 20 }; /* of 64 MiB */
    VGD_AUTO_FD greedy = client_begin(b, 4);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t id = make_large(b, greedy, BYTES);
        ASK(greedy, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, 4, 1, 1, 4, 0);
        pump(b);
        cr_assert_eq(is_dropped(greedy), i == 2, "%u times 16 MiB", i + 1);
        settle(b);
    }
    VGD_AUTO_FD first = client_begin(b, 4);
    uint32_t id = make_large(b, first, 2 * BYTES);
    ASK(first, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, 4, 1, 1, 4, 0);
    VGD_AUTO_FD next = client_begin(b, 4);
    id = make_large(b, next, BYTES / 2);
    ASK(next, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, 4, 1, 1, 4, 0);
    settle(b);
    cr_assert(!is_dropped(first) && !is_dropped(next));
}

/* What Mesa makes for each fence. */
static uint32_t make_fence(struct bed *b, int fd, uint32_t id, int *out_file)
{
    ASK(fd, VGD_VTEST_RESOURCE_CREATE2, id, 0, 64, 1u << 17, 8, 1, 1, 0, 0, 0, 8);
    pump(b);
    if (id == 0) {
        get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
    }
    *out_file = get_fd(fd);
    return id;
}

RULE(a_fence_costs_the_device_nothing)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint32_t other = make_buffer(b, fd, 64, &memory);
    settle(b);
    /* More than there may be resources, and each mapped by the client. */
    enum { FENCES = VGD_VTEST_RESOURCES_MAX + 100 };
    static uint32_t ids[FENCES];
    for (uint32_t i = 0; i < FENCES; i++) {
        VGD_AUTO_FD file = -1;
        ids[i] = make_fence(b, fd, 0, &file);
        cr_assert(ids[i] != 0 && lseek(file, 0, SEEK_END) >= 8);
    }
    cr_assert_eq(vtest_fake_pending(b->dev), 0);
    for (uint32_t i = 2; i < FENCES; i++) {
        ASK(fd, VGD_VTEST_RESOURCE_UNREF, ids[i]);
        pump(b);
    }
    cr_assert_eq(vtest_fake_pending(b->dev), 0);

    /* Named in a stream, it is there before the stream is; so it is for a transfer. */
    const uint32_t stream[] = {6 | 3u << 16, 16, 0, ids[0]};
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream, 4);
    ASK(fd, VGD_VTEST_TRANSFER_PUT2, ids[1], 0, 0, 0, 0, 8, 1, 1, 8, 0);
    pump(b);
    cr_assert_eq(vtest_fake_type(b->dev, 0), VGD_CMD_RESOURCE_CREATE_3D);
    cr_assert_eq(vtest_fake_type(b->dev, 1), VGD_CMD_CTX_ATTACH_RESOURCE);
    cr_assert_eq(vtest_fake_type(b->dev, 2), VGD_CMD_SUBMIT_3D);
    cr_assert_eq(vtest_fake_type(b->dev, 3), VGD_CMD_RESOURCE_CREATE_3D);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 3);
    for (uint32_t i = 0; i < 2; i++) {
        ASK(fd, VGD_VTEST_RESOURCE_UNREF, ids[i]);
    }
    ASK(fd, VGD_VTEST_RESOURCE_UNREF, other);
    pump(b);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 0);
    (void)munmap(memory, 64);
}

RULE(a_fence_of_an_old_client_gets_its_number_in_a_stream)
{
    VGD_AUTO_FD fd = client_begin(b, 2);
    VGD_AUTO_FD file = -1;
    (void)make_fence(b, fd, 4711, &file);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 0);
    const uint32_t stream[] = {6 | 3u << 16, 16, 0, 4711};
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream, 4);
    pump(b);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 1);
    cr_assert(!is_dropped(fd));
}
