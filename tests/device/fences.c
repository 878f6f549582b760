/* SPDX-License-Identifier: MIT */
/* Fences, loss, reset and totals: cases F01-F06 of the security list; peers' cases 1, 2, 3, 12. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "samples.h"

static void send_fenced(struct bench *b, struct sent *s, uint32_t ctx_id)
{
    struct cmd c;
    cmd_begin_fenced(&c, b, VGD_CMD_SUBMIT_3D, ctx_id);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(b, s, &c);
}

static void send_ring(struct bench *b, struct sent *s, uint32_t ctx_id, uint8_t ring)
{
    struct cmd c;
    cmd_begin_ring(&c, b, VGD_CMD_SUBMIT_3D, ctx_id, ring);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(b, s, &c);
}

DEVICE_TEST(P01_fences_on_rings_retire)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    for (int hold = 0; hold < 2; hold++) {
        vgd_fake_hold_fences(b.render, hold);
        for (unsigned ring = 0; ring < 64; ring += 9) {
            struct sent s;
            send_ring(&b, &s, CTX, (uint8_t)ring);
            cr_assert_eq(s.completions, !hold);
            vgd_fake_signal_all(b.render);
            cr_assert_eq(s.completions, 1);
            cr_assert_resp(s.hdr.type, OK_NODATA);
            cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX);
            cr_assert_eq(s.hdr.ring_idx, ring);
            cr_assert_eq(s.hdr.ctx_id, CTX);
        }
    }
    bench_close(&b);
}

DEVICE_TEST(P02_completions_out_of_order)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct sent s[5];
    for (int i = 0; i < 5; i++) {
        send_fenced(&b, &s[i], CTX);
    }
    struct vgd_fake_fence f[5];
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert(vgd_fake_held(b.render, i, &f[i]));
        cr_assert(i == 0 || f[i].seq > f[i - 1].seq);
    }
    vgd_gpu_fence_done(b.gpu, 0, 0, f[3].seq); /* 3, and then 1 again */
    vgd_gpu_fence_done(b.gpu, 0, 0, f[1].seq);
    cr_assert_eq(s[0].completions + s[1].completions + s[2].completions + s[3].completions, 4);
    cr_assert_eq(s[4].completions, 0);
    vgd_gpu_fence_done(b.gpu, 0, 0, UINT64_MAX);
    cr_assert_eq(s[4].completions, 1);
    bench_close(&b);
}

DEVICE_TEST(P02_timelines_do_not_wait_for_each_other)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_resp(ctx_create(&b, CTX + 1, 0), OK_NODATA);
    vgd_fake_hold_fences(b.render, true);
    struct sent s[5];
    send_fenced(&b, &s[0], CTX);
    send_ring(&b, &s[1], CTX, 0); /* not the device's timeline */
    send_ring(&b, &s[2], CTX, 1);
    send_ring(&b, &s[3], CTX + 1, 1);
    send_fenced(&b, &s[4], CTX + 1); /* the device's, whatever the context */
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 5);
    vgd_fake_signal(b.render, 3); /* s[3] */
    cr_assert_eq(s[3].completions, 1);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 4);
    vgd_fake_signal(b.render, 3); /* s[4], and s[0] with it */
    cr_assert_eq(s[4].completions, 1);
    cr_assert_eq(s[0].completions, 1);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 2);
    vgd_fake_signal(b.render, 1); /* s[2] */
    cr_assert_eq(s[2].completions, 1);
    cr_assert_eq(s[1].completions, 0);
    vgd_fake_signal(b.render, 0);
    cr_assert_eq(s[1].completions, 1);
    bench_close(&b);
}

DEVICE_TEST(P03_ids_above_32_bits)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct sent s[2];
    b.fence_id = UINT64_MAX - 1;
    send_fenced(&b, &s[0], CTX);
    send_fenced(&b, &s[1], CTX);
    vgd_fake_signal_all(b.render);
    cr_assert_eq(s[0].hdr.fence_id, UINT64_MAX - 1);
    cr_assert_eq(s[1].hdr.fence_id, UINT64_MAX);
    bench_close(&b);
}

DEVICE_TEST(F01_fence_flood)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.fences_max = 8}});
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct sent s[9];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 9; i++) {
            send_fenced(&b, &s[i], CTX);
        }
        cr_assert_eq(s[8].completions, 1);
        cr_assert_resp(s[8].hdr.type, ERR_OUT_OF_MEMORY);
        cr_assert_eq(vgd_gpu_pending_count(b.gpu), 8);
        vgd_fake_signal_all(b.render);
        cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    }
    bench_close(&b);
}

DEVICE_TEST(F01_unknown_contexts_and_same_ids)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct sent s[3];
    send_ring(&b, &s[0], CTX + 1, 0);
    cr_assert_resp(s[0].hdr.type, ERR_INVALID_CONTEXT_ID);
    send_ring(&b, &s[0], 0, 0);
    cr_assert_resp(s[0].hdr.type, ERR_INVALID_CONTEXT_ID);
    vgd_fake_hold_fences(b.render, true);
    for (int i = 0; i < 3; i++) {
        b.fence_id = 5;
        send_fenced(&b, &s[i], CTX);
    }
    vgd_fake_signal(b.render, 0);
    cr_assert_eq(s[0].completions, 1);
    cr_assert_eq(s[1].completions + s[2].completions, 0);
    vgd_fake_signal_all(b.render);
    cr_assert_eq(s[1].completions + s[2].completions, 2);
    bench_close(&b);
}

DEVICE_TEST(F01_fences_that_the_renderer_refuses)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct sent s[2];
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    send_fenced(&b, &s[0], CTX);
    cr_assert_resp(s[0].hdr.type, ERR_UNSPEC);
    cr_assert_eq(s[0].hdr.flags, VGD_FLAG_FENCE);
    bench_close(&b);
}

DEVICE_TEST(F01_errors_do_not_overtake_fences)
{
    /* Linux ends every older fence of the timeline when it sees an answer. */
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct sent good, bad, bad_ring, plain;
    send_fenced(&b, &good, CTX);
    send_fenced(&b, &bad, CTX + 1);
    cr_assert_eq(bad.completions, 0);
    struct cmd c;
    cmd_begin_ring(&c, &b, VGD_CMD_CTX_ATTACH_RESOURCE, CTX, 1);
    vgd_cmd_ctx_resource_encode(&c.w, &(struct vgd_cmd_ctx_resource){.resource_id = 99});
    cmd_send(&b, &bad_ring, &c);
    cr_assert_resp(bad_ring.hdr.type, ERR_INVALID_RESOURCE_ID); /* nothing waits there */
    cmd_begin(&c, VGD_CMD_CTX_DESTROY, 99);
    cmd_send(&b, &plain, &c);
    cr_assert_resp(plain.hdr.type, ERR_INVALID_CONTEXT_ID); /* no fence */
    vgd_fake_signal_all(b.render);
    cr_assert_resp(good.hdr.type, OK_NODATA);
    cr_assert_resp(bad.hdr.type, ERR_INVALID_CONTEXT_ID);
    bench_close(&b);
}

DEVICE_TEST(F02_a_context_is_lost)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_resp(ctx_create(&b, CTX + 1, 0), OK_NODATA);
    cr_assert_resp(create_query(&b, 50), OK_NODATA);
    cr_assert_resp(attach(&b, 50, LOW_GPA, 4096), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, 50), OK_NODATA);
    uint32_t *query = (uint32_t *)ram_at(&b, LOW_GPA);
    query[0] = 2; /* waiting */
    query[2] = query[3] = query[4] = 0xabababab;
    vgd_fake_hold_fences(b.render, true);
    struct sent lost, other, device;
    send_ring(&b, &lost, CTX, 1);
    send_ring(&b, &other, CTX + 1, 1);
    send_fenced(&b, &device, CTX);
    vgd_fake_lose_context(b.render, CTX);
    cr_assert_eq(lost.completions, 1);
    cr_assert_resp(lost.hdr.type, ERR_UNSPEC);
    cr_assert_eq(other.completions + device.completions, 0);
    cr_assert_eq(b.counters.contexts_lost, 1);
    cr_assert_eq(query[0], 1); /* done */
    cr_assert_eq(query[2] | query[3], 0);
    cr_assert_eq(query[4], 0xabababab);

    vgd_fake_hold_fences(b.render, false);
    query[0] = 2;
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    cr_assert_eq(query[0], 1); /* at every refused submit */
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 16, .h = 1, .d = 1}, .resource_id = 50};
    query[0] = 2;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_FROM_HOST_3D, CTX, &t), ERR_UNSPEC);
    cr_assert_eq(query[0], 1);
    cr_assert_resp(submit(&b, CTX + 1, 4, 4), OK_NODATA);
    vgd_fake_lose_context(b.render, CTX); /* once more changes nothing */
    vgd_gpu_context_lost(b.gpu, 12345);
    cr_assert_eq(b.counters.contexts_lost, 1);

    /* New queries of the lost context end too. */
    cr_assert_resp(create_query(&b, 51), OK_NODATA);
    cr_assert_resp(attach(&b, 51, LOW_GPA + 4096, 4096), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, 51), OK_NODATA);
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    cr_assert_eq(*(uint32_t *)ram_at(&b, LOW_GPA + 4096), 1);

    struct sent ring;
    send_ring(&b, &ring, CTX, 1);
    cr_assert_resp(ring.hdr.type, ERR_UNSPEC);
    cr_assert_resp(ctx_detach(&b, CTX, 50), OK_NODATA);
    query[0] = *(uint32_t *)ram_at(&b, LOW_GPA + 4096) = 2;
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    cr_assert_eq(query[0], 2);                                /* not its own any more, */
    cr_assert_eq(*(uint32_t *)ram_at(&b, LOW_GPA + 4096), 1); /* but the other still is */
    cr_assert_resp(ctx_detach(&b, CTX, 51), OK_NODATA);
    cr_assert_resp(detach(&b, 50), OK_NODATA);
    cr_assert_resp(unref(&b, 50), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_eq(vgd_fake_context_count(b.render), 1);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    cr_assert_resp(submit(&b, CTX, 4, 4), OK_NODATA);
    vgd_gpu_fail_pending(b.gpu);
    bench_close(&b);
}

/* What a venus context's process does with a ring that nothing was bound to: it ends. */
DEVICE_TEST(F02_a_fence_on_an_unbound_ring_costs_that_context)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.rings_count = 4, .unbound_kills = true});
    samples_prepare(&b);
    cr_assert_resp(ctx_create(&b, CTX + 1, 0), OK_NODATA);
    vgd_fake_hold_fences(b.render, true);
    struct sent bound, unbound, other, device;
    send_ring(&b, &bound, CTX, 1);
    send_ring(&b, &unbound, CTX, 63);
    send_ring(&b, &other, CTX + 1, 1);
    send_fenced(&b, &device, CTX);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 4);
    b.render->ops->batch_end(b.render);
    cr_assert_resp(bound.hdr.type, ERR_UNSPEC);
    cr_assert_resp(unbound.hdr.type, ERR_UNSPEC);
    cr_assert_eq(unbound.hdr.ring_idx, 63);
    cr_assert_eq(unbound.hdr.ctx_id, CTX);
    cr_assert_eq(other.completions + device.completions, 0);
    cr_assert_eq(b.counters.contexts_lost, 1);
    vgd_fake_signal_all(b.render);
    cr_assert_resp(other.hdr.type, OK_NODATA);
    cr_assert_resp(device.hdr.type, OK_NODATA);

    /* Its blobs stay until they are let go; nothing new can be made of it. */
    cr_assert_geq(create_host_blob(&b, 60, CTX, 4096), VGD_RESP_ERR_UNSPEC);
    send_ring(&b, &unbound, CTX, 62);
    cr_assert_resp(unbound.hdr.type, ERR_UNSPEC);
    cr_assert_resp(unmap_blob(&b, RES_BLOB_MAPPED), OK_NODATA);
    cr_assert_resp(unref(&b, RES_BLOB_MAPPED), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    vgd_fake_hold_fences(b.render, false);
    send_ring(&b, &bound, CTX, 3);
    cr_assert_resp(bound.hdr.type, OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(F02_only_query_buffers_are_completed)
{
    static const struct {
        const char *name;
        struct vgd_cmd_resource_create_3d args;
        uint32_t backing_bytes;
        bool query;
    } cases[] = {
        {"a query", {.bind = 1u << 17, .width = 16}, 16, true},
        {"from the driver's cache", {.bind = 1u << 17, .width = 32}, 4096, true},
        {"a reset status", {.bind = 1u << 17, .width = 4}, 4096, false},
        {"a stream of another driver", {.bind = 1u << 17, .width = 1u << 20}, 4096, false},
        {"a vertex buffer", {.bind = 1u << 4, .width = 16}, 4096, false},
        {"backing too short", {.bind = 1u << 17, .width = 16}, 15, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        bench_open(&b, NULL);
        struct vgd_cmd_resource_create_3d args = cases[i].args;
        args.resource_id = 1;
        args.format = 64;
        args.height = args.depth = args.array_size = 1;
        cr_assert_resp(create_3d(&b, &args), OK_NODATA);
        memset(ram_at(&b, LOW_GPA), 0x99, 64);
        cr_assert_resp(attach(&b, 1, LOW_GPA, cases[i].backing_bytes), OK_NODATA);
        cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
        cr_assert_resp(ctx_attach(&b, 1, 1), OK_NODATA);
        vgd_fake_lose_context(b.render, 1);
        static const uint8_t done[16] = {1, 0, 0, 0, 8};
        bool same = memcmp(ram_at(&b, LOW_GPA), done, 16) == 0;
        cr_assert_eq(same, cases[i].query, "%s", cases[i].name);
        cr_assert_eq(ram_at(&b, LOW_GPA)[16], 0x99);
        bench_close(&b);
    }
}

DEVICE_TEST(F03_fences_that_never_retire)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    b.display.defer = true;
    struct sent s[4];
    send_fenced(&b, &s[0], CTX);
    send_ring(&b, &s[1], CTX, 1);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_GET_DISPLAY_INFO, 0);
    cmd_send(&b, &s[2], &c);
    send_fenced(&b, &s[3], CTX + 1); /* an error behind the first */
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 4);
    vgd_gpu_fail_pending(b.gpu);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(s[i].completions, 1);
        cr_assert_resp(s[i].hdr.type, ERR_UNSPEC);
    }
    vgd_fake_signal_all(b.render); /* late: nobody waits */
    recorder_answer(&b.display);
    bench_close(&b);
}

/* Peers' case 12: the second boot finds nothing of the first. */
DEVICE_TEST(F04_reset_in_each_state)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    for (int boot = 0; boot < 3; boot++) {
        samples_prepare(&b);
        cr_assert_resp(update_cursor(&b, 0, RES_2D), OK_NODATA);
        vgd_fake_hold_fences(b.render, true);
        b.display.defer = true;
        struct sent s[3];
        send_fenced(&b, &s[0], CTX);
        send_ring(&b, &s[1], CTX, 3);
        struct cmd c;
        cmd_begin(&c, VGD_CMD_GET_DISPLAY_INFO, 0);
        cmd_send(&b, &s[2], &c);
        events_clear(&b);
        bench_reset(&b);
        cr_assert_eq(events_of(&b, EVENT_DISABLE), 1);
        cr_assert_eq(events_of(&b, EVENT_CURSOR_HIDDEN), 1);
        cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
        vgd_fake_signal_all(b.render);
        recorder_answer(&b.display);
        vgd_gpu_fail_pending(b.gpu);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(s[i].completions, 0); /* dropped */
        }
        cr_assert_eq(b.counters.resources_live, 0);
        cr_assert_eq(b.counters.contexts_live, 0);
        cr_assert_eq(b.counters.resource_bytes_live, 0);
        cr_assert_eq(b.counters.backing_entries_live, 0);
        cr_assert_eq(vgd_fake_resource_count(b.render), 0);
        cr_assert_eq(vgd_fake_context_count(b.render), 0);
        size_t cursor = 0;
        const uint8_t *record;
        size_t n_bytes;
        cr_assert_eq(vgd_journal_next(b.journal, &cursor, &record, &n_bytes), VGD_AGAIN);
        vgd_fake_hold_fences(b.render, false);
        b.display.defer = false;
    }
    bench_close(&b);
}

DEVICE_TEST(F06_totals)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_eq(b.counters.resources_live, SAMPLE_RESOURCES);
    cr_assert_eq(b.counters.contexts_live, 1);
    cr_assert_eq(b.counters.resource_bytes_live,
                 6 * SAMPLE_BYTES); /* guest memory is the guest's */
    cr_assert_eq(b.counters.backing_entries_live, 3);
    cr_assert_eq(b.counters.maps_live, 1);
    uint64_t commands = b.counters.commands;
    cr_assert_resp(flush(&b, RES_2D, (struct vgd_rect){.w_px = 1, .h_px = 1}), OK_NODATA);
    cr_assert_resp(flush(&b, 99, (struct vgd_rect){0}), ERR_INVALID_RESOURCE_ID);
    cr_assert_eq(b.counters.commands, commands + 2);
    cr_assert_eq(b.counters.flushes, 1);
    cr_assert_eq(b.counters.errors, 1);
    for (uint32_t id = RES_2D; id <= RES_BLOB_MAPPED; id++) {
        if (id != CTX) {
            cr_assert_resp(unref(&b, id), OK_NODATA);
        }
    }
    cr_assert_eq(b.counters.maps_live, 0);
    cr_assert_eq(b.window.maps_count, 0);
    cr_assert_eq(b.counters.resource_bytes_live, 0);
    cr_assert_eq(b.counters.backing_entries_live, 0);
    bench_close(&b);
}

static void bad_commands(struct bench *b)
{
    for (uint32_t i = 0; i < 20000; i++) {
        cr_assert_resp(unref(b, 1000 + i), ERR_INVALID_RESOURCE_ID);
    }
}

DEVICE_TEST(F09_log_flood)
{
    struct bench b;
    bench_open(&b, NULL);
    char text[65536];
    size_t n_bytes = bench_logged(bad_commands, &b, text, sizeof(text));
    cr_assert_gt(n_bytes, 0);
    cr_assert_lt(n_bytes, 4096);
    cr_assert_not_null(strstr(text, "RESOURCE_UNREF: res=1000"));
    bench_close(&b);
}

static uint32_t lines_in(const char *text)
{
    uint32_t n = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++) {
        n++;
    }
    return n;
}

/* By UNMAP and by UNREF, of a VMM that takes nothing out, at once or later. */
static void unmaps_refused(struct bench *b)
{
    for (uint32_t i = 0; i < 80; i++) {
        struct sent s;
        b->window.later = i / 2 % 2 == 0;
        if (i % 2 == 0) {
            send_unmap(b, &s, 100 + i);
        } else {
            send_unref(b, &s, 100 + i);
        }
        if (b->window.later) {
            window_answer(b, 0, VGD_HOST_FAILED);
        }
        cr_assert_eq(s.completions, 1);
    }
}

DEVICE_TEST(F09_log_flood_by_a_vmm_that_refuses)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    for (uint32_t i = 0; i < 80; i++) {
        cr_assert_resp(create_host_blob(&b, 100 + i, CTX, VGD_BLOB_ALIGNMENT_BYTES), OK_NODATA);
        cr_assert_resp(map_blob(&b, 100 + i, i * VGD_BLOB_ALIGNMENT_BYTES), OK_MAP_INFO);
    }
    b.window.status = VGD_HOST_FAILED;
    char text[65536];
    (void)bench_logged(unmaps_refused, &b, text, sizeof(text));
    cr_assert_not_null(strstr(text, "stay"));
    cr_assert_leq(lines_in(text), 20, "%u lines", lines_in(text));
    b.window.status = VGD_OK;
    bench_close(&b);
}

static void at_the_limits(struct bench *b)
{
    cr_assert_resp(create_2d(b, 1, VGD_FORMAT_B8G8R8A8_UNORM, 1, 1), OK_NODATA);
    cr_assert_resp(create_2d(b, 2, VGD_FORMAT_B8G8R8A8_UNORM, 1, 1), ERR_OUT_OF_MEMORY);
    cr_assert_resp(unref(b, 1), OK_NODATA);
    cr_assert_resp(create_2d(b, 3, VGD_FORMAT_B8G8R8A8_UNORM, 5, 5), ERR_OUT_OF_MEMORY);
    cr_assert_resp(ctx_create(b, 1, 0), OK_NODATA);
    cr_assert_resp(ctx_create(b, 2, 0), ERR_OUT_OF_MEMORY);
    cr_assert_resp(submit(b, 1, 8, 8), ERR_OUT_OF_MEMORY);
    cr_assert_resp(create_query(b, 4), OK_NODATA);
    static const struct vgd_mem_entry two[2] = {{.addr = LOW_GPA, .len_bytes = 8},
                                                {.addr = LOW_GPA + 16, .len_bytes = 8}};
    cr_assert_resp(attach_entries(b, 4, 2, two, 2), ERR_OUT_OF_MEMORY);
}

DEVICE_TEST(F06_each_limit_is_named_in_the_log)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.resources_max = 1,
                                                    .resource_bytes_max = 99,
                                                    .contexts_max = 1,
                                                    .backing_entries_max = 1,
                                                    .submit_bytes_max = 4}});
    char text[65536];
    (void)bench_logged(at_the_limits, &b, text, sizeof(text));
    static const char *const names[] = {"resources_max 1", "resource_bytes_max 99",
                                        "contexts_max 1", "backing_entries_max 1",
                                        "submit_bytes_max 4"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_not_null(strstr(text, names[i]), "%s in: %s", names[i], text);
    }
    bench_close(&b);
}

static void at_maps_max(struct bench *b)
{
    cr_assert_resp(ctx_create(b, 1, 0), OK_NODATA);
    for (uint32_t id = 1; id <= 2; id++) {
        cr_assert_resp(create_host_blob(b, id, 1, 4096), OK_NODATA);
        cr_assert_eq(map_blob(b, id, 4096 * id),
                     id == 1 ? VGD_RESP_OK_MAP_INFO : VGD_RESP_ERR_OUT_OF_MEMORY);
    }
}

DEVICE_TEST(F06_maps_max_is_named_in_the_log)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.maps_max = 1}});
    char text[65536];
    (void)bench_logged(at_maps_max, &b, text, sizeof(text));
    cr_assert_not_null(strstr(text, "maps_max 1"), "%s", text);
    bench_close(&b);
}

static void lose(struct bench *b)
{
    vgd_fake_lose_context(b->render, 1);
}

DEVICE_TEST(F09_names_cannot_forge_log_lines)
{
    struct bench b;
    bench_open(&b, NULL);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_CTX_CREATE, 1);
    vgd_cmd_ctx_create_encode(
        &c.w, &(struct vgd_cmd_ctx_create){.name_len_bytes = 64,
                                           .debug_name = "a\nvgd[1] error: \033[31mforged"});
    cr_assert_resp(cmd_run(&b, &c), OK_NODATA);
    char text[4096];
    size_t n_bytes = bench_logged(lose, &b, text, sizeof(text));
    cr_assert_eq(strchr(text, '\n'), text + n_bytes - 1);
    cr_assert_null(strchr(text, '\033'));
    bench_close(&b);
}
