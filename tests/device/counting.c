/* SPDX-License-Identifier: MIT */
/* What the device counts and lists: each command, answer, byte and fence once, over loss, reset and
 * death. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "samples.h"

#define BYTES_2D(w, h) ((uint64_t)(w) * (h)*4)

static uint64_t commands_of(const struct bench *b, uint32_t type)
{
    return b->counters.by_command[vgd_command_place(type)];
}

static uint64_t answers_of(const struct bench *b, uint32_t type)
{
    return b->counters.by_response[vgd_response_place(type)];
}

static void sums_are_right(const struct bench *b)
{
    uint64_t commands = 0;
    uint64_t answers = 0;
    uint64_t errors = b->counters.bad_chains;
    for (uint32_t i = 0; i < VGD_COMMAND_PLACES; i++) {
        commands += b->counters.by_command[i];
    }
    for (uint32_t i = 0; i < VGD_RESPONSE_PLACES; i++) {
        answers += b->counters.by_response[i];
        errors += vgd_response_at_place(i) >= VGD_RESP_ERR_UNSPEC ? b->counters.by_response[i] : 0;
    }
    cr_assert_eq(commands, b->counters.commands);
    cr_assert_eq(answers, b->counters.commands);
    cr_assert_eq(errors, b->counters.errors);
}

static const struct vgd_gpu_error_slot *error_of(const struct bench *b, uint32_t command,
                                                 uint32_t response, uint32_t ctx_id)
{
    const struct vgd_gpu_error_slot *found = NULL;
    for (uint32_t i = 0; i < VGD_ERRORS_COUNT; i++) {
        const struct vgd_gpu_error_slot *e = &b->live.errors[i];
        cr_assert(e->seq % 2 == 0);
        if (e->count != 0 && e->command == command && e->response == response &&
            e->ctx_id == ctx_id) {
            cr_assert_null(found);
            found = e;
        }
    }
    return found;
}

static const struct vgd_gpu_context_slot *slot_of(const struct bench *b, uint32_t ctx_id)
{
    const struct vgd_gpu_context_slot *found = NULL;
    for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        const struct vgd_gpu_context_slot *slot = &b->live.contexts[i];
        cr_assert(slot->id == 0 || slot->seq % 2 == 0);
        if (slot->id == ctx_id) {
            cr_assert_null(found);
            found = slot;
        }
    }
    return found;
}

static uint32_t slots_count(const struct bench *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        n += b->live.contexts[i].id != 0;
    }
    return n;
}

static void name_context(struct bench *b, uint32_t ctx_id, const char *name)
{
    struct cmd c;
    struct vgd_cmd_ctx_create create = {.name_len_bytes = (uint32_t)strlen(name)};
    memcpy(create.debug_name, name, strlen(name));
    cmd_begin(&c, VGD_CMD_CTX_CREATE, ctx_id);
    vgd_cmd_ctx_create_encode(&c.w, &create);
    cr_assert_resp(cmd_run(b, &c), OK_NODATA);
}

static void send_fenced(struct bench *b, struct sent *s, uint32_t ctx_id)
{
    struct cmd c;
    cmd_begin_fenced(&c, b, VGD_CMD_SUBMIT_3D, ctx_id);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(b, s, &c);
}

static uint64_t total_of(const struct vgd_histogram *h)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i <= VGD_HISTOGRAM_LE_COUNT; i++) {
        n += h->counts[i];
    }
    return n;
}

DEVICE_TEST(each_command_and_answer_counts_once)
{
    struct bench b;
    bench_open(&b, NULL);
    struct vgd_rect all = {.w_px = 8, .h_px = 4};
    cr_assert_resp(create_2d(&b, 1, VGD_FORMAT_B8G8R8X8_UNORM, 8, 4), OK_NODATA);
    cr_assert_resp(create_2d(&b, 1, VGD_FORMAT_B8G8R8X8_UNORM, 8, 4), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 2, 77, 8, 4), ERR_INVALID_PARAMETER);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 128), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, all, 0), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, (struct vgd_rect){.w_px = 3, .h_px = 2}, 0), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, (struct vgd_rect){.w_px = 9, .h_px = 2}, 0),
                   ERR_INVALID_PARAMETER);
    cr_assert_eq(b.counters.to_host_bytes, BYTES_2D(8, 4) + BYTES_2D(3, 2));
    cr_assert_eq(b.counters.transfers, 2);
    cr_assert_eq(commands_of(&b, VGD_CMD_RESOURCE_CREATE_2D), 3);
    cr_assert_eq(commands_of(&b, VGD_CMD_TRANSFER_TO_HOST_2D), 3);
    cr_assert_eq(answers_of(&b, VGD_RESP_OK_NODATA), 4);
    cr_assert_eq(answers_of(&b, VGD_RESP_ERR_INVALID_PARAMETER), 2);
    cr_assert_eq(b.counters.command_bytes, 3 * (24 + 16) + (24 + 8 + 16) + 3 * (24 + 32));
    cr_assert_eq(b.counters.response_bytes, 7 * 24);

    /* What is no command, or has no room for an answer. */
    struct sent s;
    uint8_t junk[24] = {0xff, 0xff, 0xff, 0xff};
    send_bytes(&b, &s, junk, 7, 24, VGD_QUEUE_CONTROL);
    send_bytes(&b, &s, junk, 24, 24, VGD_QUEUE_CONTROL);
    send_bytes(&b, &s, junk, 24, 23, VGD_QUEUE_CONTROL);
    cr_assert_eq(b.counters.by_command[VGD_COMMAND_PLACES - 1], 3);
    cr_assert_eq(answers_of(&b, VGD_RESP_ERR_UNSPEC), 3);
    cr_assert_eq(b.counters.response_bytes, 7 * 24 + 2 * 24);
    vgd_gpu_bad_chain(b.gpu);
    cr_assert_eq(b.counters.bad_chains, 1);
    cr_assert_eq(b.counters.commands, 10);
    sums_are_right(&b);
    bench_close(&b);
}

/* Linux gives cursor commands no room for an answer: that is no error. */
DEVICE_TEST(a_cursor_without_room_for_an_answer_is_fine)
{
    struct bench b;
    bench_open(&b, NULL);
    struct cmd c;
    struct sent s;
    cmd_begin(&c, VGD_CMD_MOVE_CURSOR, 0);
    vgd_cmd_update_cursor_encode(&c.w, &(struct vgd_cmd_update_cursor){0});
    send_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), 0, VGD_QUEUE_CURSOR);
    cr_assert_eq(commands_of(&b, VGD_CMD_MOVE_CURSOR), 1);
    cr_assert_eq(answers_of(&b, VGD_RESP_OK_NODATA), 1);
    cr_assert_eq(b.counters.errors, 0);
    cr_assert_eq(b.counters.response_bytes, 0);
    cr_assert_null(error_of(&b, VGD_CMD_MOVE_CURSOR, VGD_RESP_ERR_UNSPEC, 0));
    bench_close(&b);
}

DEVICE_TEST(every_type_has_its_place)
{
    uint32_t named = 0;
    for (uint32_t i = 0; i < VGD_COMMAND_PLACES - 1; i++) {
        uint32_t type = vgd_command_at_place(i);
        cr_assert_eq(vgd_command_place(type), i);
        named += strcmp(vgd_cmd_name(type), "unknown") != 0;
    }
    cr_assert_eq(named, 26, "the protocol has grown: is there a place for each command?");
    named = 0;
    for (uint32_t i = 0; i < VGD_RESPONSE_PLACES - 1; i++) {
        uint32_t type = vgd_response_at_place(i);
        cr_assert_eq(vgd_response_place(type), i);
        named += strcmp(vgd_resp_name(type), "unknown") != 0;
    }
    cr_assert_eq(named, 13);
    static const uint32_t strange[] = {0, 0xff, 0x110, 0x400, 0x1000, 0x1110, 0x1300, UINT32_MAX};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        cr_assert_eq(vgd_command_place(strange[i]), VGD_COMMAND_PLACES - 1);
        cr_assert_eq(vgd_response_place(strange[i]), VGD_RESPONSE_PLACES - 1);
    }
}

DEVICE_TEST(durations_fall_into_their_bucket)
{
    static const struct {
        uint64_t ns;
        uint32_t bucket;
    } cases[] = {
        {0, 0},
        {1, 0},
        {1024, 0},
        {1025, 1},
        {2048, 1},
        {2049, 2},
        {4096, 2},
        {UINT64_C(1) << 33, 23},
        {(UINT64_C(1) << 33) + 1, 24},
        {UINT64_MAX, 24},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgd_histogram h = {0};
        vgd_histogram_add(&h, cases[i].ns);
        cr_assert_eq(h.counts[cases[i].bucket], 1, "case %zu", i);
        cr_assert_eq(total_of(&h), 1);
        cr_assert_eq(h.sum_ns, cases[i].ns);
    }
}

DEVICE_TEST(fences_end_once_however_they_end)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    const struct vgd_gpu_counters *c = &b.counters;
    struct sent s[8];
    send_fenced(&b, &s[0], CTX);
    cr_assert_eq(c->fences, 1);
    cr_assert_eq(c->fences_done, 1);

    vgd_fake_hold_fences(b.render, true);
    for (int i = 0; i < 8; i++) {
        send_fenced(&b, &s[i], CTX);
    }
    cr_assert_eq(c->fences, 9);
    cr_assert_eq(c->fences_done, 1);
    vgd_fake_signal(b.render, 2); /* and the two before it */
    cr_assert_eq(c->fences_done, 4);
    cr_assert_eq(total_of(&c->fence_latency), 4);
    vgd_gpu_fail_pending(b.gpu);
    cr_assert_eq(c->fences_done, 9);
    cr_assert_eq(total_of(&c->fence_latency), 9);
    cr_assert_eq(error_of(&b, VGD_CMD_SUBMIT_3D, VGD_RESP_ERR_UNSPEC, CTX)->count, 5);
    sums_are_right(&b);

    send_fenced(&b, &s[0], CTX);
    send_fenced(&b, &s[1], CTX);
    cr_assert_eq(c->fences - c->fences_done, 2);
    uint64_t answered = c->commands;
    bench_reset(&b); /* forgets them */
    cr_assert_eq(c->fences - c->fences_done, 0);
    cr_assert_eq(total_of(&c->fence_latency), 9);
    cr_assert_eq(c->commands, answered);
    bench_close(&b);
}

DEVICE_TEST(memory_by_kind_comes_and_goes)
{
    struct bench b;
    bench_open(&b, NULL);
    const uint64_t *memory = b.counters.memory_bytes;
    name_context(&b, 5, "five");
    cr_assert_resp(create_2d(&b, 1, VGD_FORMAT_B8G8R8X8_UNORM, 16, 8), OK_NODATA);
    cr_assert_resp(create_texture(&b, 2, 32, 32), OK_NODATA);
    cr_assert_resp(create_guest_blob(&b, 3, LOW_GPA, 8192), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 4, 5, 12288), OK_NODATA);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 4096), OK_NODATA);
    cr_assert_resp(attach(&b, 2, MIDDLE_GPA, 512), OK_NODATA);
    static const uint64_t expect[VGD_MEMORY_KINDS_COUNT] = {
        [VGD_MEMORY_2D] = BYTES_2D(16, 8), [VGD_MEMORY_3D] = BYTES_2D(32, 32),
        [VGD_MEMORY_BLOBS_GUEST] = 8192,   [VGD_MEMORY_BLOBS_HOST] = 12288,
        [VGD_MEMORY_BACKING] = 4096 + 512,
    };
    for (uint32_t i = 0; i < VGD_MEMORY_CONTEXT_STATE; i++) {
        cr_assert_eq(memory[i], expect[i], "kind %u: %llu", i, (unsigned long long)memory[i]);
    }
    cr_assert_resp(detach(&b, 2), OK_NODATA);
    cr_assert_eq(memory[VGD_MEMORY_BACKING], 4096);
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    cr_assert_eq(memory[VGD_MEMORY_BACKING], 0);
    cr_assert_eq(memory[VGD_MEMORY_2D], 0);
    cr_assert_resp(detach(&b, 3), OK_NODATA); /* its pages are the blob itself */
    cr_assert_eq(memory[VGD_MEMORY_BLOBS_GUEST], 8192);
    cr_assert_eq(memory[VGD_MEMORY_BACKING], 0);
    bench_reset(&b);
    for (uint32_t i = 0; i < VGD_MEMORY_KINDS_COUNT; i++) {
        cr_assert_eq(memory[i], 0, "kind %u", i);
    }
    bench_close(&b);
}

DEVICE_TEST(contexts_are_listed_with_what_they_did)
{
    struct bench b;
    bench_open(&b, NULL);
    name_context(&b, 9, "glxgears");
    name_context(&b, 2, "");
    cr_assert_resp(create_texture(&b, 1, 8, 8), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, 9, 1), OK_NODATA);
    cr_assert_resp(submit(&b, 9, 8, 8), OK_NODATA);
    cr_assert_resp(submit(&b, 9, 16, 16), OK_NODATA);
    cr_assert_resp(submit(&b, 9, 7, 8), ERR_INVALID_PARAMETER);
    const struct vgd_gpu_context_slot *nine = slot_of(&b, 9);
    cr_assert_str_eq((const char *)nine->name, "glxgears");
    cr_assert_eq(nine->submits, 2);
    cr_assert_eq(nine->submit_bytes, 24);
    cr_assert_eq(nine->resources, 1);
    cr_assert_eq(nine->lost, 0);
    cr_assert_eq(slot_of(&b, 2)->submits, 0);
    cr_assert_eq(b.counters.submits, 2);
    cr_assert_eq(total_of(&b.counters.submit_time), 2);
    cr_assert_eq(b.counters.contexts_created, 2);

    cr_assert_resp(ctx_detach(&b, 9, 1), OK_NODATA);
    cr_assert_eq(nine->resources, 0);
    vgd_fake_lose_context(b.render, 9);
    cr_assert_eq(nine->lost, 1);
    cr_assert_eq(b.counters.contexts_lost_live, 1);
    cr_assert_resp(submit(&b, 9, 8, 8), ERR_UNSPEC);
    cr_assert_eq(nine->submits, 2);
    cr_assert_resp(ctx_destroy(&b, 9), OK_NODATA);
    cr_assert_null(slot_of(&b, 9));
    cr_assert_eq(b.counters.contexts_lost_live, 0);
    cr_assert_eq(b.counters.contexts_lost, 1);
    name_context(&b, 11, "again"); /* in its place, with nothing of it */
    cr_assert_eq(slot_of(&b, 11), nine);
    cr_assert_eq(nine->submits + nine->busy_ns + nine->lost, 0);
    cr_assert_str_eq((const char *)nine->name, "again");
    bench_reset(&b);
    cr_assert_eq(slots_count(&b), 0);
    bench_close(&b);
}

DEVICE_TEST(contexts_beyond_the_table_are_not_listed)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.contexts_max = VGD_CONTEXT_SLOTS_COUNT + 2}});
    for (uint32_t id = 1; id <= VGD_CONTEXT_SLOTS_COUNT + 2; id++) {
        cr_assert_resp(ctx_create(&b, id, 0), OK_NODATA);
    }
    cr_assert_eq(slots_count(&b), VGD_CONTEXT_SLOTS_COUNT);
    cr_assert_null(slot_of(&b, VGD_CONTEXT_SLOTS_COUNT + 2));
    cr_assert_resp(submit(&b, VGD_CONTEXT_SLOTS_COUNT + 2, 8, 8), OK_NODATA);
    cr_assert_eq(b.counters.submits, 1);
    cr_assert_resp(ctx_destroy(&b, VGD_CONTEXT_SLOTS_COUNT + 2), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, 3), OK_NODATA);
    cr_assert_resp(ctx_create(&b, 5000, 0), OK_NODATA);
    cr_assert_not_null(slot_of(&b, 5000));
    bench_close(&b);
}

DEVICE_TEST(the_latest_kinds_of_errors_are_kept)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(unref(&b, 77), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(unref(&b, 78), ERR_INVALID_RESOURCE_ID);
    const struct vgd_gpu_error_slot *e =
        error_of(&b, VGD_CMD_RESOURCE_UNREF, VGD_RESP_ERR_INVALID_RESOURCE_ID, 0);
    cr_assert_eq(e->count, 2);
    cr_assert_str_eq((const char *)e->text, "res=78");
    uint64_t first_ns = e->last_ns;
    cr_assert_neq(first_ns, 0);

    for (uint32_t ctx = 1; ctx < VGD_ERRORS_COUNT; ctx++) {
        cr_assert_resp(ctx_destroy(&b, ctx), ERR_INVALID_CONTEXT_ID);
    }
    cr_assert_eq(error_of(&b, VGD_CMD_RESOURCE_UNREF, VGD_RESP_ERR_INVALID_RESOURCE_ID, 0), e);
    cr_assert_resp(unref(&b, 79), ERR_INVALID_RESOURCE_ID); /* the newest again */
    cr_assert_resp(ctx_destroy(&b, 1000), ERR_INVALID_CONTEXT_ID);
    cr_assert_null(error_of(&b, VGD_CMD_CTX_DESTROY, VGD_RESP_ERR_INVALID_CONTEXT_ID, 1));
    cr_assert_eq(error_of(&b, VGD_CMD_CTX_DESTROY, VGD_RESP_ERR_INVALID_CONTEXT_ID, 1000)->count,
                 1);
    cr_assert_eq(error_of(&b, VGD_CMD_RESOURCE_UNREF, VGD_RESP_ERR_INVALID_RESOURCE_ID, 0)->count,
                 3);

    /* A text that is too long is cut, one that failed by itself is said in our words. */
    cr_assert_resp(create_3d(&b,
                             &(struct vgd_cmd_resource_create_3d){
                                 .resource_id = UINT32_MAX,
                                 .target = UINT32_MAX,
                                 .format = UINT32_MAX,
                                 .width = UINT32_MAX,
                                 .height = UINT32_MAX,
                                 .depth = UINT32_MAX,
                                 .array_size = UINT32_MAX,
                                 .last_level = UINT32_MAX,
                                 .nr_samples = UINT32_MAX,
                             }),
                   ERR_INVALID_PARAMETER);
    e = error_of(&b, VGD_CMD_RESOURCE_CREATE_3D, VGD_RESP_ERR_INVALID_PARAMETER, 0);
    cr_assert_eq(strnlen((const char *)e->text, VGD_ERROR_TEXT_BYTES), VGD_ERROR_TEXT_BYTES);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(create_2d(&b, 5, VGD_FORMAT_B8G8R8X8_UNORM, 8, 4), ERR_UNSPEC);
    e = error_of(&b, VGD_CMD_RESOURCE_CREATE_2D, VGD_RESP_ERR_UNSPEC, 0);
    cr_assert_not_null(strstr((const char *)e->text, vgd_status_text(VGD_HOST_FAILED)));
    bench_close(&b);
}

DEVICE_TEST(counters_go_on_after_a_death)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    name_context(&b, 7, "first");
    name_context(&b, 8, "second");
    cr_assert_resp(create_texture(&b, 1, 8, 8), OK_NODATA);
    cr_assert_resp(create_2d(&b, 2, VGD_FORMAT_B8G8R8X8_UNORM, 16, 8), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, 8, 1), OK_NODATA);
    cr_assert_resp(submit(&b, 7, 8, 8), OK_NODATA);
    cr_assert_resp(submit(&b, 8, 24, 24), OK_NODATA);
    vgd_fake_hold_fences(b.render, true);
    struct sent s;
    send_fenced(&b, &s, 8);
    uint64_t commands = b.counters.commands;
    cr_assert_eq(b.counters.fences - b.counters.fences_done, 1);
    cr_assert_eq(b.counters.submits, 3);

    for (int death = 1; death <= 2; death++) {
        bench_replace_worker(&b, false);
        cr_assert_eq(b.counters.fences, b.counters.fences_done);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        cr_assert_eq(slots_count(&b), 2);
        cr_assert_eq(slot_of(&b, 8)->submits, 2);
        cr_assert_eq(slot_of(&b, 8)->submit_bytes, 24);
        cr_assert_eq(slot_of(&b, 8)->resources, 1);
        cr_assert_str_eq((const char *)slot_of(&b, 8)->name, "second");
        cr_assert_eq(slot_of(&b, 7)->submits, 1);
        cr_assert_eq(slot_of(&b, 7)->lost, 1);
        cr_assert_eq(b.counters.contexts_lost, 2, "once each");
        cr_assert_eq(b.counters.contexts_lost_live, 2);
        cr_assert_eq(b.counters.contexts_created, 2);
        cr_assert_eq(b.counters.commands, commands);
        cr_assert_eq(b.counters.memory_bytes[VGD_MEMORY_2D], BYTES_2D(16, 8));
        cr_assert_eq(b.counters.memory_bytes[VGD_MEMORY_3D], BYTES_2D(8, 8));
    }
    struct cmd c; /* what was in flight */
    cmd_begin_fenced(&c, &b, VGD_CMD_SUBMIT_3D, 8);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    fail_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), 24);
    cr_assert_eq(b.counters.commands, commands + 1);
    cr_assert_eq(b.counters.submits, 3);
    cr_assert_eq(error_of(&b, VGD_CMD_SUBMIT_3D, VGD_RESP_ERR_UNSPEC, 8)->count, 1);
    cr_assert_resp(ctx_destroy(&b, 7), OK_NODATA);
    cr_assert_eq(b.counters.contexts_lost_live, 1);
    cr_assert_resp(ctx_create(&b, 7, 0), OK_NODATA);
    cr_assert_eq(slot_of(&b, 7)->submits, 0);
    sums_are_right(&b);
    bench_close(&b);
}

/* A worker that was taken over leaves what it wants; the next one's device works, and what it
 * writes can be read. */
DEVICE_TEST(what_a_dead_worker_left_is_only_shown)
{
    for (unsigned seed = 0; seed < 50; seed++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        name_context(&b, 7, "first");
        cr_assert_resp(create_2d(&b, 2, VGD_FORMAT_B8G8R8X8_UNORM, 16, 8), OK_NODATA);
        srand(seed);
        for (size_t i = 0; i < sizeof(b.live); i++) {
            ((uint8_t *)&b.live)[i] = (uint8_t)rand();
        }
        for (size_t i = 0; i < sizeof(b.counters); i++) {
            ((uint8_t *)&b.counters)[i] = (uint8_t)rand();
        }
        for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
            b.live.contexts[i].id = (uint32_t)rand() % 16; /* many a 7 */
        }
        bench_replace_worker(&b, false);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        cr_assert_eq(slots_count(&b), 1);
        cr_assert_str_eq((const char *)slot_of(&b, 7)->name, "first");
        cr_assert_eq(b.counters.resources_live, 1);
        cr_assert_eq(b.counters.contexts_lost_live, 1);
        cr_assert_resp(unref(&b, 2), OK_NODATA);
        cr_assert_resp(unref(&b, 2), ERR_INVALID_RESOURCE_ID);
        cr_assert_resp(ctx_destroy(&b, 7), OK_NODATA);
        cr_assert_eq(slots_count(&b), 0);
        for (uint32_t i = 0; i < VGD_MEMORY_KINDS_COUNT; i++) {
            cr_assert_eq(b.counters.memory_bytes[i], 0);
        }
        bench_close(&b);
    }
}
