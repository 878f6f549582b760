/* SPDX-License-Identifier: MIT */
/*
 * Rule: each request does what Mesa's drivers count on, waits for the device only where its answer
 * needs it, and touches nothing of another client; whatever a client leaves is freed.
 */
#include "vtest_fixture.h"

#include <poll.h>

enum { GET2 = VGD_VTEST_TRANSFER_GET2, PUT2 = VGD_VTEST_TRANSFER_PUT2 };

RULE(greets_old_clients_and_new_ones)
{
    VGD_AUTO_FD fd = client_begin_raw(b);
    say_name(fd);
    /* As Mesa does: a server without PING answers only the second. */
    ask(fd, VGD_VTEST_PING_PROTOCOL_VERSION, NULL, 0);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, 0);
    pump(b);
    uint32_t word = 9;
    get_reply(fd, VGD_VTEST_PING_PROTOCOL_VERSION, NULL, 0);
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &word, 1);
    cr_assert_eq(word, 0);
    const struct {
        uint32_t asked, given;
    } versions[] = {{0, 0}, {1, 0}, {2, 2}, {3, 3}, {4, 4}, {5, 4}, {UINT32_MAX, 4}};
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        ASK(fd, VGD_VTEST_PROTOCOL_VERSION, versions[i].asked);
        pump(b);
        get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &word, 1);
        cr_assert_eq(word, versions[i].given);
    }
    cr_assert_eq(vtest_fake_pending(b->dev), 0, "no context before it is needed");
}

RULE(says_what_the_device_can_do)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    ask(fd, VGD_VTEST_GET_CAPS2, NULL, 0);
    ask(fd, VGD_VTEST_GET_CAPS, NULL, 0);
    pump(b);
    static uint8_t caps[1408];
    uint32_t hdr[2];
    get(fd, hdr, sizeof(hdr));
    cr_assert(hdr[0] == 1409 && hdr[1] == 2, "bytes and one");
    get(fd, caps, 1408);
    cr_assert(caps[0] == 0x12 && caps[1407] == 0x12);
    get(fd, hdr, sizeof(hdr));
    cr_assert(hdr[0] == 309 && hdr[1] == 1);
    get(fd, caps, 308);
    cr_assert_eq(caps[307], 0x11);

    ASK(fd, VGD_VTEST_GET_CAPSET, VGD_CAPSET_VENUS, 0);
    ASK(fd, VGD_VTEST_GET_CAPSET, VGD_CAPSET_VENUS, 1);
    ASK(fd, VGD_VTEST_GET_CAPSET, 77, 0);
    ASK(fd, VGD_VTEST_GET_PARAM, VGD_VTEST_PARAM_MAX_TIMELINE_COUNT);
    ASK(fd, VGD_VTEST_GET_PARAM, VGD_VTEST_PARAM_HAS_TIMELINE_SYNCOBJ);
    ASK(fd, VGD_VTEST_GET_PARAM, 77);
    pump(b);
    uint32_t words[41];
    get_reply(fd, VGD_VTEST_GET_CAPSET, words, 41);
    cr_assert(words[0] == 1 && words[40] == 0x14141414);
    for (int i = 0; i < 2; i++) {
        get_reply(fd, VGD_VTEST_GET_CAPSET, words, 1);
        cr_assert_eq(words[0], 0, "there is no such version, no such capset");
    }
    get_reply(fd, VGD_VTEST_GET_PARAM, words, 2);
    cr_assert(words[0] == 1 && words[1] == 64);
    for (int i = 0; i < 2; i++) {
        get_reply(fd, VGD_VTEST_GET_PARAM, words, 2);
        cr_assert(words[0] == 0 && words[1] == 0, "no DRM device here");
    }
}

RULE(makes_a_context_at_the_first_use)
{
    VGD_AUTO_FD gl = client_begin(b, 4);
    VGD_AUTO_FD vk = client_begin(b, 4);
    ASK(vk, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    pump(b);
    cr_assert_eq(vtest_fake_type(b->dev, 0), VGD_CMD_CTX_CREATE);
    settle(b);
    cr_assert_eq(vtest_fake_contexts(b->dev), 1);
    ask(gl, VGD_VTEST_SUBMIT_CMD, (const uint32_t[]){0}, 1);
    pump(b);
    cr_assert_eq(vtest_fake_type(b->dev, 0), VGD_CMD_CTX_CREATE);
    cr_assert_eq(vtest_fake_type(b->dev, 1), VGD_CMD_SUBMIT_3D);
    cr_assert_neq(vtest_fake_header(b->dev, 1)->ctx_id, 1, "its own");
    settle(b);
    cr_assert_eq(vtest_fake_contexts(b->dev), 2);
    ASK(vk, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS); /* once more is fine */
    pump(b);
    cr_assert(!is_dropped(vk));
    ASK(vk, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VIRGL2);
    pump(b);
    cr_assert(is_dropped(vk), "it cannot become another kind");
    settle(b);
    cr_assert_eq(vtest_fake_contexts(b->dev), 1);
}

RULE(a_resource_is_there_before_the_device_has_answered)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint32_t id = make_buffer(b, fd, 100, &memory);
    cr_assert_gt(vtest_fake_pending(b->dev), 0);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 1);
    cr_assert_null(vtest_fake_backing(b->dev, id), "nobody has transferred anything");
    ASK(fd, VGD_VTEST_RESOURCE_UNREF, id);
    pump(b);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 0);
    cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
    (void)munmap(memory, 100);
}

RULE(the_size_of_shared_memory_is_sealed)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 16, 8192, 1, 1, 1, 0, 0, 8192);
    pump(b);
    uint32_t id;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
    VGD_AUTO_FD file = get_fd(fd);
    cr_assert_neq(ftruncate(file, 0), 0, "or the bridge would die of SIGBUS");
}

RULE(a_transfer_moves_exactly_its_bytes)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint32_t id = make_buffer(b, fd, 128, &memory);
    settle(b);
    uint8_t *host = vtest_fake_host(b->dev, id);
    memset(host, 0xee, VTEST_FAKE_HOST_BYTES);
    for (int i = 0; i < 128; i++) {
        memory[i] = (uint8_t)i;
    }
    /* 10 bytes from 40 on in memory, to 100 on in the buffer. */
    ASK(fd, PUT2, id, 0, 100, 0, 0, 10, 1, 1, 10, 40);
    pump(b);
    settle(b);
    cr_assert_eq(host[99], 0xee);
    cr_assert_eq(host[110], 0xee);
    cr_assert_eq(memcmp(host + 100, memory + 40, 10), 0);

    memset(host, 0x77, 20);
    ASK(fd, GET2, id, 0, 4, 0, 0, 8, 1, 1, 8, 64);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, id, VGD_VTEST_BUSY_WAIT_WAIT);
    pump(b);
    cr_assert(is_silent(fd), "not before the bytes are there");
    cr_assert_eq(memory[64], 64);
    uint32_t n = vtest_fake_pending(b->dev);
    cr_assert(vtest_fake_is_awaited(b->dev, n - 1), "the device is told that somebody waits");
    settle(b);
    uint32_t busy = 9;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    cr_assert_eq(busy, 0);
    for (int i = 0; i < 128; i++) {
        cr_assert_eq(memory[i], i >= 64 && i < 72 ? 0x77 : i, "byte %d", i);
    }
    (void)munmap(memory, 128);
}

RULE(a_transfer_inside_a_stream_moves_its_bytes)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint8_t *staging;
    uint32_t id = make_buffer(b, fd, 64, &memory);
    uint32_t staging_id = make_buffer(b, fd, 64, &staging);
    memset(memory, 1, 64);
    memset(staging, 2, 64);
    const uint32_t stream[] = {
        /* TRANSFER3D to the host: 4 bytes from offset 8 on, to 20 */
        43 | 13u << 16, id, 0, 0, 0, 0, 20, 0, 0, 4, 1, 1, 8, 1,
        /* COPY_TRANSFER3D: 4 bytes of the staging buffer from 16 on, to 40 */
        45 | 14u << 16, id, 0, 0, 0, 0, 40, 0, 0, 4, 1, 1, staging_id, 16, 1,
        /* TRANSFER3D from the host: what is at 20 goes to offset 50 */
        43 | 13u << 16, id, 0, 0, 0, 0, 20, 0, 0, 4, 1, 1, 50, 2};
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream, sizeof(stream) / 4);
    pump(b);
    memset(memory, 3, 16); /* the client may go on at once */
    settle(b);
    const uint8_t *host = vtest_fake_host(b->dev, id);
    cr_assert(host[19] == 0 && host[20] == 1 && host[23] == 1 && host[24] == 0);
    cr_assert(host[39] == 0 && host[40] == 2 && host[43] == 2 && host[44] == 0);
    cr_assert(memory[15] == 3 && memory[49] == 1 && memory[54] == 1);
    cr_assert_eq(memory[50], 1);
    (void)munmap(memory, 64);
    (void)munmap(staging, 64);
}

RULE(results_of_queries_appear_in_the_clients_memory)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    uint32_t id = make_buffer(b, fd, 64, &memory);
    volatile uint32_t *state = (volatile uint32_t *)(void *)(memory + 16);
    *state = 2; /* waiting, as Mesa writes it before it asks */
    const uint32_t stream[] = {1 | 9u << 8 | 4u << 16, 33, 0, 16, id, 21 | 2u << 16, 33, 0};
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream, sizeof(stream) / 4);
    pump(b);
    settle(b);
    uint8_t *backing = vtest_fake_backing(b->dev, id);
    cr_assert_not_null(backing);
    cr_assert_eq(*state, 2);
    const uint32_t result[4] = {1, 8, 0x1234, 0};
    memcpy(backing + 16, result, sizeof(result)); /* the host, at a time of its own */
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, id, 0);
    pump(b);
    uint32_t busy;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    cr_assert_eq(memcmp(memory + 16, result, sizeof(result)), 0);

    /* A client that only looks at its memory sees it, too. */
    *state = 2;
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream + 5, 3);
    pump(b);
    settle(b);
    memcpy(backing + 16, result, sizeof(result));
    for (int i = 0; i < 100 && *state == 2; i++) {
        vgd_loop_turn(b->loop, 10);
    }
    cr_assert_eq(*state, 1);

    /* Asked again: the old result must not look like the new one. */
    *state = 2;
    ask(fd, VGD_VTEST_SUBMIT_CMD, stream + 5, 3);
    pump(b);
    settle(b);
    cr_assert_eq(*state, 2);
    (void)munmap(memory, 64);
}

RULE(a_busy_wait_waits_for_the_last_stream_and_no_longer)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    ask(fd, VGD_VTEST_SUBMIT_CMD, (const uint32_t[]){0}, 1);
    pump(b);
    uint32_t n = vtest_fake_pending(b->dev);
    cr_assert((vtest_fake_header(b->dev, n - 1)->flags & VGD_FLAG_FENCE) != 0);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, 0);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, VGD_VTEST_BUSY_WAIT_WAIT);
    ASK(fd, VGD_VTEST_PROTOCOL_VERSION, 4); /* behind it */
    pump(b);
    cr_assert_eq(vtest_fake_pending(b->dev), n, "nothing more has to be asked of the device");
    uint32_t word = 9;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &word, 1);
    cr_assert_eq(word, 1);
    cr_assert(is_silent(fd));
    settle(b);
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &word, 1);
    cr_assert_eq(word, 0);
    get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &word, 1);
}

RULE(old_clients_choose_numbers_and_do_not_collide)
{
    VGD_AUTO_FD one = client_begin(b, 2);
    VGD_AUTO_FD two = client_begin(b, 2);
    int fds[2] = {one, two};
    for (int i = 0; i < 2; i++) {
        /* No reply in this version, only the descriptor. */
        ASK(fds[i], VGD_VTEST_RESOURCE_CREATE2, 7, 0, 64, 16, 64, 1, 1, 1, 0, 0, 64);
        pump(b);
        VGD_AUTO_FD file = get_fd(fds[i]);
        cr_assert_geq(file, 0);
        cr_assert(is_silent(fds[i]));
    }
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 2);
    /* SET_VERTEX_BUFFERS of two, and one that does not exist. */
    const uint32_t stream[] = {6 | 9u << 16, 4, 0, 7, 4, 0, 99, 4, 0, 7};
    uint32_t seen[2];
    for (int i = 0; i < 2; i++) {
        ask(fds[i], VGD_VTEST_SUBMIT_CMD, stream, 10);
        pump(b);
        uint32_t n_bytes;
        const uint32_t *data = (const uint32_t *)(const void *)vtest_fake_data(
            b->dev, vtest_fake_pending(b->dev) - 1, &n_bytes);
        cr_assert_eq(n_bytes, 40);
        cr_assert(data[3] == data[9] && data[6] == 0 && data[2] == 0);
        seen[i] = data[3];
    }
    cr_assert_neq(seen[0], seen[1]);
    settle(b);
    ASK(one, VGD_VTEST_RESOURCE_CREATE2, 7, 0, 64, 16, 64, 1, 1, 1, 0, 0, 64);
    pump(b);
    cr_assert(is_dropped(one), "a number twice");
    cr_assert(!is_dropped(two));
}

RULE(the_oldest_version_sends_the_bytes_along)
{
    VGD_AUTO_FD fd = client_begin(b, 0);
    ASK(fd, VGD_VTEST_RESOURCE_CREATE, 5, 0, 64, 16, 64, 1, 1, 1, 0, 0);
    pump(b);
    settle(b);
    uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    /* The length counts the data, in whole words; the bytes are exactly as many as said. */
    const uint32_t put_words[] = {11 + 2, VGD_VTEST_TRANSFER_PUT, 5, 0, 0, 0, 12, 0, 0, 7, 1, 1, 7};
    put(fd, put_words, sizeof(put_words));
    put(fd, bytes, 3);
    pump(b);
    put(fd, bytes + 3, 4); /* in two pieces */
    ASK(fd, VGD_VTEST_TRANSFER_GET, 5, 0, 0, 0, 10, 0, 0, 6, 1, 1, 6);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 5, VGD_VTEST_BUSY_WAIT_WAIT);
    pump(b);
    cr_assert(is_silent(fd));
    settle(b);
    uint8_t got[6];
    get(fd, got, 6); /* without a header */
    cr_assert_eq(memcmp(got, "\0\0\1\2\3\4", 6), 0);
    uint32_t busy = 9;
    get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    settle(b);
    cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
}

RULE(bytes_that_are_fetched_stay_until_they_are_sent)
{
    VGD_AUTO_FD fd = client_begin(b, 0);
    VGD_AUTO_FD other = client_begin(b, 0);
    ASK(fd, VGD_VTEST_RESOURCE_CREATE, 5, 0, 64, 16, 64, 1, 1, 1, 0, 0);
    pump(b);
    settle(b);
    memset(vtest_fake_host(b->dev, 1), 0x55, VTEST_FAKE_HOST_BYTES);
    /* Behind something without a fence, so it has one itself. */
    put(fd, (const uint32_t[]){12, VGD_VTEST_TRANSFER_PUT, 5, 0, 0, 0, 32, 0, 0, 4, 1, 1, 4, 0},
        56);
    ASK(fd, VGD_VTEST_TRANSFER_GET, 5, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6);
    pump(b);
    uint32_t idx = 0;
    while (vtest_fake_type(b->dev, idx) != VGD_CMD_TRANSFER_FROM_HOST_3D) {
        vtest_fake_carry_out(b->dev, idx++);
    }
    cr_assert((vtest_fake_header(b->dev, idx)->flags & VGD_FLAG_FENCE) != 0);
    vtest_fake_carry_out(b->dev, idx);
    cr_assert_eq(vtest_fake_type(b->dev, idx + 1), VGD_CMD_RESOURCE_DETACH_BACKING);
    vtest_fake_answer(b->dev, idx + 1, 0); /* before the fence is done */
    put(other, (const uint32_t[]){2, VGD_VTEST_SUBMIT_CMD, 0x77777777, 0x77777777}, 16);
    pump(b); /* somebody else gets memory */
    settle(b);
    uint8_t got[6];
    get(fd, got, 6);
    cr_assert_eq(memcmp(got, "\x55\x55\x55\x55\x55\x55", 6), 0);
    cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
}

RULE(a_blob_comes_as_a_file_and_leaves_the_region_free)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    for (int i = 0; i < 3; i++) {
        ASK(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
            VGD_VTEST_BLOB_FLAG_MAPPABLE, 5000, 0, 77, 0);
        pump(b);
        cr_assert(is_silent(fd));
        settle(b);
        uint32_t id = 0;
        get_reply(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, &id, 1);
        VGD_AUTO_FD file = get_fd(fd);
        uint8_t *memory = mmap(NULL, 5000, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        cr_assert(memory != MAP_FAILED);
        memory[4999] = 1;
        (void)munmap(memory, 5000);
    }
    /* Not mappable: a descriptor, because the client wants one, with nothing in it. */
    ASK(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D, 0, 4096, 0, 78, 0);
    pump(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, &id, 1);
    VGD_AUTO_FD nothing = get_fd(fd);
    cr_assert_eq(lseek(nothing, 0, SEEK_END), 0);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 4);
}

RULE(a_shareable_blob_can_be_exported)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    ASK(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
        VGD_VTEST_BLOB_FLAG_MAPPABLE | VGD_VTEST_BLOB_FLAG_SHAREABLE, 4096, 0, 1, 0);
    pump(b);
    settle(b);
    uint32_t id = 0;
    get_reply(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, &id, 1);
    VGD_AUTO_FD file = get_fd(fd);
    cr_assert_geq(file, 0);
    ASK(fd, VGD_VTEST_RESOURCE_EXPORT_FD, id);
    pump(b);
    get_reply(fd, VGD_VTEST_RESOURCE_EXPORT_FD, NULL, 0);
    VGD_AUTO_FD exported = get_fd(fd);
    cr_assert_eq(lseek(exported, 0, SEEK_END), 4096);
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int wait_for(struct bed *b, int fd, uint32_t flags, uint32_t timeout, uint32_t id,
                    uint32_t value, uint32_t id2, uint32_t value2)
{
    ASK(fd, VGD_VTEST_SYNC_WAIT, flags, timeout, id, value, 0, id2, value2, 0);
    pump(b);
    get_reply(fd, VGD_VTEST_SYNC_WAIT, NULL, 0);
    return get_fd(fd);
}

RULE(syncs_wait_for_one_or_for_all)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint32_t one = make_sync(b, fd, 1);
    uint32_t two = make_sync(b, fd, 0);
    VGD_AUTO_FD reached = wait_for(b, fd, 0, 100, one, 1, two, 0);
    cr_assert(is_readable(reached), "both are there");
    VGD_AUTO_FD all = wait_for(b, fd, 0, UINT32_MAX, one, 2, two, 2);
    VGD_AUTO_FD any = wait_for(b, fd, VGD_VTEST_SYNC_WAIT_ANY, UINT32_MAX, one, 2, two, 2);
    cr_assert(!is_readable(all) && !is_readable(any));
    ASK(fd, VGD_VTEST_SYNC_WRITE, one, 5, 0);
    pump(b);
    cr_assert(!is_readable(all) && is_readable(any));
    ASK(fd, VGD_VTEST_SYNC_WRITE, two, 2, 0);
    ASK(fd, VGD_VTEST_SYNC_READ, one);
    pump(b);
    cr_assert(is_readable(all));
    uint32_t value[2];
    get_reply(fd, VGD_VTEST_SYNC_READ, value, 2);
    cr_assert(value[0] == 5 && value[1] == 0);
    ASK(fd, VGD_VTEST_SYNC_WRITE, one, 3, 0); /* down: a reset */
    ASK(fd, VGD_VTEST_SYNC_READ, one);
    pump(b);
    get_reply(fd, VGD_VTEST_SYNC_READ, value, 2);
    cr_assert_eq(value[0], 3);
    ASK(fd, VGD_VTEST_SYNC_UNREF, one);
    ASK(fd, VGD_VTEST_SYNC_READ, one);
    pump(b);
    cr_assert(is_dropped(fd));
}

RULE(batches_signal_when_their_ring_is_done)
{
    VGD_AUTO_FD fd = client_begin(b, 3);
    ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    uint32_t sync = make_sync(b, fd, 0);
    settle(b);
    VGD_AUTO_FD first = wait_for(b, fd, 0, UINT32_MAX, sync, 1, sync, 1);
    VGD_AUTO_FD second = wait_for(b, fd, 0, UINT32_MAX, sync, 2, sync, 2);
    /* Two batches: commands and a sync on ring 5, only a sync on ring 6. */
    ASK(fd, VGD_VTEST_SUBMIT_CMD2, 2,                         /* */
        VGD_VTEST_BATCH_FLAG_RING_IDX, 17, 2, 19, 1, 5, 0, 0, /* */
        VGD_VTEST_BATCH_FLAG_RING_IDX, 0, 0, 22, 1, 6, 0, 0,  /* */
        0xaaaa, 0xbbbb,                                       /* */
        sync, 1, 0, sync, 2, 0);
    pump(b);
    cr_assert_eq(vtest_fake_pending(b->dev), 2);
    uint32_t n_bytes;
    const uint8_t *data = vtest_fake_data(b->dev, 0, &n_bytes);
    cr_assert(n_bytes == 8 && memcmp(data, (const uint32_t[]){0xaaaa, 0xbbbb}, 8) == 0);
    const struct vgd_ctrl_hdr *hdr = vtest_fake_header(b->dev, 0);
    cr_assert(hdr->flags == (VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX) && hdr->ring_idx == 5);
    cr_assert_eq(vtest_fake_header(b->dev, 1)->ring_idx, 6);
    cr_assert(!is_readable(first));
    vtest_fake_answer(b->dev, 0, 0);
    cr_assert(is_readable(first) && !is_readable(second));
    vtest_fake_answer(b->dev, 0, 0);
    cr_assert(is_readable(second));
    cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
}

/* What costs a client the connection, each after a good start with one resource, number 1. */
static const struct {
    const char *name;
    uint32_t version;
    uint32_t words[16];
    uint32_t n;
} mistakes[] = {
    {"no such request", 4, {0, 0}, 2},
    {"no such request", 4, {0, 39}, 2},
    {"a second CREATE_RENDERER", 4, {4, VGD_VTEST_CREATE_RENDERER, 0}, 3},
    {"a stream of 16 GiB", 4, {UINT32_MAX, VGD_VTEST_SUBMIT_CMD}, 2},
    {"a stream of 1 GiB", 4, {1u << 28, VGD_VTEST_SUBMIT_CMD}, 2},
    {"SYNC_WAIT of 16 GiB", 4, {UINT32_MAX, VGD_VTEST_SYNC_WAIT}, 2},
    {"SYNC_WAIT cut", 4, {3, VGD_VTEST_SYNC_WAIT, 0, 0, 1}, 5},
    {"SYNC_WAIT empty", 4, {0, VGD_VTEST_SYNC_WAIT}, 2},
    {"a sync of nobody", 4, {5, VGD_VTEST_SYNC_WAIT, 0, 0, 9, 0, 0}, 7},
    {"a number in version 4",
     4,
     {11, VGD_VTEST_RESOURCE_CREATE2, 6, 0, 64, 16, 8, 1, 1, 1, 0, 0, 8},
     13},
    {"no number in version 2",
     2,
     {11, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 16, 8, 1, 1, 1, 0, 0, 8},
     13},
    {"more shared memory than all",
     4,
     {11, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 16, 8, 1, 1, 1, 0, 0, UINT32_MAX},
     13},
    {"a transfer of nothing", 4, {10, PUT2, 99, 0, 0, 0, 0, 4, 1, 1, 4, 0}, 12},
    {"bytes of a resource that shares memory",
     4,
     {11, VGD_VTEST_TRANSFER_GET, 1, 0, 0, 0, 0, 0, 0, 4, 1, 1, 4},
     13},
    {"a blob in guest memory",
     4,
     {6, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_GUEST, 1, 4096, 0, 0, 0},
     8},
    {"a blob of no size",
     4,
     {6, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D, 1, 0, 0, 0, 0},
     8},
    {"a blob of every size",
     4,
     {6, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D, 1, UINT32_MAX, UINT32_MAX, 0,
      0},
     8},
    {"no batch of those said", 4, {1, VGD_VTEST_SUBMIT_CMD2, UINT32_MAX}, 3},
    {"a batch outside", 4, {9, VGD_VTEST_SUBMIT_CMD2, 1, 1, UINT32_MAX, 2, 0, 0, 0, 0, 0}, 11},
    {"syncs outside", 4, {9, VGD_VTEST_SUBMIT_CMD2, 1, 1, 0, 0, 8, UINT32_MAX, 0, 0, 0}, 11},
    {"ring 64", 4, {9, VGD_VTEST_SUBMIT_CMD2, 1, 1, 0, 0, 0, 0, 64, 0, 0}, 11},
    {"syncobjs", 4, {9, VGD_VTEST_SUBMIT_CMD2, 1, 1, 0, 0, 0, 0, 0, 1, 0}, 11},
    {"a fence's descriptor", 4, {9, VGD_VTEST_SUBMIT_CMD2, 1, 5, 0, 0, 0, 0, 0, 0, 0}, 11},
    {"a DRM syncobj", 4, {1, VGD_VTEST_DRM_SYNC_CREATE, 0}, 3},
    {"a capset that is not there", 4, {1, VGD_VTEST_CONTEXT_INIT, 5}, 3},
    {"the file of a buffer", 4, {1, VGD_VTEST_RESOURCE_EXPORT_FD, 1}, 3},
};

RULE(a_mistake_costs_one_client_its_connection)
{
    VGD_AUTO_FD good = client_begin(b, 4);
    uint8_t *good_memory;
    uint32_t good_id = make_buffer(b, good, 64, &good_memory);
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        VGD_AUTO_FD fd = client_begin(b, mistakes[i].version);
        if (mistakes[i].version == 4) {
            ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 16, 64, 1, 1, 1, 0, 0, 64);
            pump(b);
            uint32_t id;
            get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
            VGD_AUTO_FD file = get_fd(fd);
            cr_assert_geq(file, 0);
        }
        settle(b);
        put(fd, mistakes[i].words, mistakes[i].n * 4);
        pump(b);
        settle(b);
        cr_expect(is_dropped(fd), "%s", mistakes[i].name);
    }
    cr_assert_eq(vgd_vtest_bridge_client_count(b->bridge), 1);
    cr_assert_eq(vtest_fake_resources(b->dev), 1);
    ASK(good, PUT2, good_id, 0, 0, 0, 0, 4, 1, 1, 4, 0);
    ASK(good, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, VGD_VTEST_BUSY_WAIT_WAIT);
    pump(b);
    settle(b);
    uint32_t busy = 9;
    get_reply(good, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    (void)munmap(good_memory, 64);
}

RULE(what_another_client_has_cannot_be_named)
{
    VGD_AUTO_FD owner = client_begin(b, 4);
    uint8_t *memory;
    uint32_t id = make_buffer(b, owner, 64, &memory);
    uint32_t sync = make_sync(b, owner, 7);
    const uint32_t attacks[][12] = {
        {GET2, id, 0, 0, 0, 0, 4, 1, 1, 4, 0},
        {VGD_VTEST_SYNC_READ, sync},
        {VGD_VTEST_RESOURCE_EXPORT_FD, id},
    };
    const uint32_t sizes[] = {10, 1, 1};
    for (size_t i = 0; i < 3; i++) {
        VGD_AUTO_FD fd = client_begin(b, 4);
        ask(fd, attacks[i][0], attacks[i] + 1, sizes[i]);
        pump(b);
        cr_expect(is_dropped(fd), "attack %zu", i);
        settle(b);
    }
    VGD_AUTO_FD fd = client_begin(b, 4);
    ASK(fd, VGD_VTEST_RESOURCE_UNREF, id);
    pump(b);
    settle(b);
    cr_assert_eq(vtest_fake_resources(b->dev), 1, "not its to give back");
    (void)munmap(memory, 64);
}

RULE(a_client_that_vanishes_leaves_nothing)
{
    for (uint32_t n_answered = 0; n_answered < 8; n_answered++) {
        int fd = client_begin(b, 4);
        uint8_t *memory;
        uint32_t id = make_buffer(b, fd, 4096, &memory);
        (void)make_sync(b, fd, 0);
        const uint32_t stream[] = {43 | 13u << 16, id, 0, 0, 0, 0, 0, 0, 0, 4, 1, 1, 50, 2};
        ask(fd, VGD_VTEST_SUBMIT_CMD, stream, sizeof(stream) / 4);
        ASK(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
            VGD_VTEST_BLOB_FLAG_MAPPABLE, 4096, 0, 1, 0);
        put(fd, (const uint32_t[]){100, VGD_VTEST_SUBMIT_CMD, 1}, 12); /* half a request */
        pump(b);
        for (uint32_t i = 0; i < n_answered && vtest_fake_pending(b->dev) > 0; i++) {
            vtest_fake_answer(b->dev, 0, 0);
        }
        (void)munmap(memory, 4096);
        vgd_fd_closep(&fd);
        pump(b);
        cr_assert_eq(vgd_vtest_bridge_client_count(b->bridge), 0);
        settle(b);
        cr_assert_eq(vgd_vtest_bridge_object_count(b->bridge), 0);
        cr_assert_eq(vtest_fake_memory_used(b->dev), 0);
        cr_assert_eq(vtest_fake_contexts(b->dev), 0);
    }
}

RULE(a_device_that_refuses_ends_the_client_that_asked)
{
    VGD_AUTO_FD bystander = client_begin(b, 4);
    for (uint32_t refused = 0; refused < 4; refused++) {
        VGD_AUTO_FD fd = client_begin(b, 4);
        uint8_t *memory;
        uint32_t id = make_buffer(b, fd, 64, &memory); /* context, resource, attach */
        ask(fd, VGD_VTEST_SUBMIT_CMD, (const uint32_t[]){0}, 1);
        pump(b);
        uint32_t n = 0;
        while (vtest_fake_pending(b->dev) > 0) {
            vtest_fake_answer(b->dev, 0, n++ == refused ? VGD_RESP_ERR_OUT_OF_MEMORY : 0);
        }
        pump(b);
        cr_assert_eq(is_dropped(fd), refused != 2, "command %u refused", refused);
        settle(b);
        (void)id;
        (void)munmap(memory, 64);
    }
    cr_assert(!is_dropped(bystander));
}

RULE(the_end_of_the_device_is_the_end_of_its_clients)
{
    VGD_AUTO_FD fd = client_begin(b, 4);
    uint8_t *memory;
    (void)make_buffer(b, fd, 64, &memory);
    ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, VGD_VTEST_BUSY_WAIT_WAIT);
    pump(b);
    vgd_vtest_bridge_drop_all(b->bridge, "the device is gone");
    while (vtest_fake_pending(b->dev) > 0) {
        vtest_fake_lose_all(b->dev);
    }
    uint8_t bytes[64];
    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
    cr_assert(is_dropped(fd));
    cr_assert_eq(vgd_vtest_bridge_object_count(b->bridge), 0);
    (void)munmap(memory, 64);
}
