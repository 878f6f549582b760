/* SPDX-License-Identifier: MIT */
/* The display writer: negotiation, pixels, and channels and workers that go. */
#include "display_writer_rig.h"

/* --- Negotiation. --- */

TIDY_TEST(display_writer, negotiates_what_both_know)
{
    static const struct {
        uint64_t offered;
        bool edid;
    } cases[] = {{0, false}, {1, true}, {2, false}, {3, true}, {UINT64_MAX, true}};
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin_with(false);
        vgd_display_writer_worker_started(rig->w);
        cr_assert(!vgd_display_writer_connected(rig->w));
        give_channel(rig);
        cr_assert(vgd_display_writer_connected(rig->w));
        cr_assert_eq(rig->told_count, 1, "the worker hears of it when it can be used");
        negotiate(rig, cases[i].offered);
        const struct vgd_link_display_state *s = &rig->told[1].body.state;
        cr_assert(s->connected && s->dmabuf && s->fresh && s->edid == cases[i].edid);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, a_vmm_without_features_is_used_without)
{
    struct rig *rig = rig_begin_with(false);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    (void)vmm_expect(rig, VGD_DISP_GET_PROTOCOL_FEATURES, 0);
    rig->told_count = 0;
    uint64_t start_ns = vgd_now_ns();
    while (rig->told_count == 0 && vgd_now_ns() - start_ns < 5000 * MS) {
        vgd_loop_turn(rig->loop, 100);
    }
    const struct vgd_link_display_state *s = &only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state;
    cr_assert(s->connected && !s->edid);
    (void)vmm_expect(rig, VGD_DISP_SET_PROTOCOL_FEATURES, 8);
    ask(rig, VGD_LINK_GET_INFO, 5, 0); /* its answer is not taken for the one that never came */
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 1);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.question, 5);
    rig_end(rig);
}

TIDY_TEST(display_writer, pixels_only_is_told_to_the_worker)
{
    struct rig *rig = rig_begin_with(true);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    negotiate(rig, 3);
    cr_assert(rig->told[1].body.state.connected && !rig->told[1].body.state.dmabuf);
    rig_end(rig);
}

/* --- Pixels. --- */

TIDY_TEST(display_writer, a_scanout_comes_before_its_first_update_and_after_off)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 2; i++) {
        scanout(rig, 1, 640, 480);
        paint(rig, 2, 100, 7);
        cr_assert_eq(update(rig, 1, rect(5, 6, 10, 10), 2), VGD_OK);
        const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[0] == 1 && words[1] == 640 && words[2] == 480);
        cr_assert_eq(expect_picture(rig, 1, rect(5, 6, 10, 10), 7), 1);
        cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 2);

        scanout(rig, 1, 640, 480); /* a flip: nothing new to the VMM */
        cr_assert_eq(update(rig, 1, rect(0, 0, 10, 10), 2), VGD_OK);
        (void)expect_picture(rig, 1, rect(0, 0, 10, 10), 7);
        rig->told_count = 0;

        scanout(rig, 1, 0, 0);
        words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[0] == 1 && words[1] == 0);
        cr_assert_eq(update(rig, 1, rect(0, 0, 10, 10), 2), VGD_RANGE);
    }
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

TIDY_TEST(display_writer, large_updates_go_in_bands_from_the_frame_memory)
{
    static const size_t pieces[] = {0, 7919, 100000};
    for (uint32_t i = 0; i < 3; i++) {
        struct rig *rig = rig_begin();
        rig->piece_bytes = pieces[i];
        scanout(rig, 0, 1920, 1080);
        paint(rig, 3, 1920 * 1080, 1000);
        cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 3), VGD_OK);
        (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert_eq(rig->told_count, 0);
        uint32_t n = expect_picture(rig, 0, rect(0, 0, 1920, 1080), 1000);
        cr_assert_eq(n, (1080 + 16) / 17, "17 rows of 7680 bytes a band");
        cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 3);
        rig_end(rig);
    }
}

/* Whatever the shape: exact sizes, every row once. */
TIDY_TEST(display_writer, every_shape_of_update_is_whole)
{
    static const struct vgd_rect shapes[] = {
        {0, 0, 1, 1},    {8191, 0, 1, 8192},   {0, 8191, 8192, 1},  {1, 2, 3, 5000},
        {0, 0, 8192, 8}, {100, 100, 33, 1000}, {5000, 1, 1024, 33},
    };
    for (uint32_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct rig *rig = rig_begin();
        scanout(rig, 0, 8192, 8192);
        (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        paint(rig, 0, shapes[i].w_px * shapes[i].h_px, i);
        cr_assert_eq(update(rig, 0, shapes[i], 0), VGD_OK);
        (void)expect_picture(rig, 0, shapes[i], i);
        (void)only_told(rig, VGD_LINK_FRAME_DONE);
        cr_assert(!vmm_next(rig));
        rig_end(rig);
    }
}

/* What lies in the socket when nobody reads, and we go, ends with a whole message. */
TIDY_TEST(display_writer, nobody_is_ever_left_with_half_a_message)
{
    for (uint32_t w_px = 200; w_px < 8192; w_px += 1111) { /* bands of many sizes */
        struct rig *rig = rig_begin();
        scanout(rig, 0, w_px, 2000);
        scanout(rig, 1, w_px, 2000);
        for (uint32_t slot = 0; slot < VGD_FRAME_SLOTS_COUNT; slot++) {
            cr_assert_eq(update(rig, slot % 2, rect(0, 0, w_px, 2000), slot), VGD_OK);
        }
        turn(rig);
        cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 0);
        vgd_display_writer_destroy(rig->w); /* as if we were killed */
        rig->w = NULL;
        uint32_t n = 0;
        while (vmm_next(rig)) { /* asserts that none is half */
            n++;
        }
        cr_assert(n >= 3 && n < 30, "%u messages", n);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, small_messages_overtake_pixels)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    struct vgd_link_cursor_pos pos = {.scanout_idx = 0, .x_px = 5, .y_px = 6};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    uint32_t before = 0, after = 0;
    bool seen = false;
    while (vmm_next(rig)) {
        seen = seen || rig->msg.hdr.request == VGD_DISP_CURSOR_POS;
        before += !seen;
        after += seen;
    }
    cr_assert(seen && before < 8 && after > 50, "%u before, %u after", before, after);
    rig_end(rig);
}

TIDY_TEST(display_writer, two_scanouts_share_the_channel)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    scanout(rig, 1, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 1), VGD_OK);
    uint32_t rows[2] = {0, 0};
    while (vmm_next(rig)) {
        const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
        cr_assert_eq(rig->msg.hdr.request, VGD_DISP_UPDATE);
        rows[words[0]] += words[4];
        uint32_t ahead = rows[0] > rows[1] ? rows[0] - rows[1] : rows[1] - rows[0];
        cr_assert_lt(ahead, 200, "in turn");
    }
    cr_assert(rows[0] == 1080 && rows[1] == 1080);
    rig_end(rig);
}

TIDY_TEST(display_writer, a_new_size_drops_what_waits)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    scanout(rig, 0, 64, 64);
    paint(rig, 2, 64 * 64, 3);
    cr_assert_eq(update(rig, 0, rect(0, 0, 64, 64), 2), VGD_OK);
    uint32_t old = 0;
    while (vmm_next(rig) && rig->msg.hdr.request == VGD_DISP_UPDATE) {
        old++;
    }
    cr_assert_lt(old, 8, "only what was in the socket already");
    cr_assert_eq(rig->msg.hdr.request, VGD_DISP_SCANOUT);
    (void)expect_picture(rig, 0, rect(0, 0, 64, 64), 3);
    bool done[3] = {false};
    cr_assert_eq(rig->told_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        done[rig->told[i].body.number.value] = true;
    }
    cr_assert(done[0] && done[1] && done[2], "each slot comes back once");
    rig_end(rig);
}

/* --- Channels go. --- */

TIDY_TEST(display_writer, a_channel_that_closes_mid_message_is_no_trouble)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    uint8_t some[5000];
    cr_assert(vmm_read(rig, some, sizeof(some)));
    cr_assert_eq(rig->told_count, 0);
    hang_up(rig);
    turn(rig);
    cr_assert(!vgd_display_writer_connected(rig->w));
    cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 2);
    cr_assert_eq(rig->told[2].type, VGD_LINK_DISPLAY_STATE);
    cr_assert_eq(rig->told[2].body.state.connected, 0);
    uint64_t start_ns = vgd_now_ns();
    vgd_loop_turn(rig->loop, 50);
    cr_assert_geq(vgd_now_ns() - start_ns, 45 * MS, "nothing wakes the loop any more");

    /* Told before the worker knew: answered at once. */
    rig->told_count = 0;
    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_OK);
    cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 0);
    ask(rig, VGD_LINK_GET_INFO, 1, 0);
    cr_assert_eq(rig->told_count, 0, "the worker answers by itself");

    give_channel(rig);
    negotiate(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert(words[0] == 0 && words[1] == 1920, "a fresh channel starts with the scanout");
    paint(rig, 0, 100, 4);
    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_OK);
    (void)expect_picture(rig, 0, rect(0, 0, 10, 10), 4);
    rig_end(rig);
}

/* Whatever is on its way or waits: its memory and its descriptor go with the channel. */
TIDY_TEST(display_writer, a_channel_that_closes_takes_all_with_it)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct rig *rig = rig_begin();
        squeeze(rig);
        static struct vgd_link_cursor_update cursor;
        if (i == 0) { /* the picture is half sent */
            cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)),
                         VGD_OK);
        }
        scanout(rig, 1, 1920, 1080);
        cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK);
        if (i == 2) { /* one of its bands is whole: the dma-buf's message is next */
            uint8_t some[150000];
            cr_assert(vmm_read(rig, some, sizeof(some)));
        }
        cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
        turn(rig);
        hang_up(rig);
        turn(rig);
        cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 1);
        cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), 1);
        rig_end(rig);
    }
}

TIDY_TEST(display_writer, a_fresh_channel_replaces_the_old_one)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(dmabuf_scanout(rig, 1, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 1), VGD_OK);
    int old_fd = vgd_fd_take(&rig->vmm_fd);
    vgd_fd_closep(&rig->writers_fd);
    give_channel(rig);
    cr_assert_eq(told(rig, VGD_LINK_FRAME_DONE), 1);
    cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), 1);
    char byte;
    ssize_t n;
    while ((n = recv(old_fd, &byte, 1, MSG_DONTWAIT)) == 1) {
    }
    cr_assert_eq(n, 0, "the old one is closed");
    vgd_fd_closep(&old_fd);
    rig->told_count = 0;
    negotiate(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);
    rig_end(rig);
}

/* vhost-user-vga shows its own picture until a scanout is set: leave it alone. */
TIDY_TEST(display_writer, off_is_only_told_where_something_was_shown)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        scanout(rig, i, 0, 0);
    }
    cr_assert(!vmm_next(rig));
    scanout(rig, 2, 640, 480);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    give_channel(rig);
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        scanout(rig, i, 0, 0);
    }
    negotiate(rig, 3);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    cr_assert(words[0] == 2 && words[1] == 0, "the VMM may still show it");
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

/* --- Workers go. --- */

TIDY_TEST(display_writer, a_message_begun_is_finished_after_the_workers_death)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 1920, 1080);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    paint(rig, 0, 1920 * 1080, 50);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 0), VGD_OK);
    cr_assert_eq(update(rig, 0, rect(0, 0, 1920, 1080), 1), VGD_OK);
    vgd_display_writer_worker_gone(rig->w);
    cr_assert_eq(rig->told_count, 0, "nobody to tell");
    vgd_display_writer_worker_started(rig->w);
    cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.fresh, 1);

    cr_assert_eq(update(rig, 0, rect(0, 0, 10, 10), 0), VGD_RANGE, "it has shown nothing yet");
    scanout(rig, 0, 1920, 1080);
    cr_assert_eq(update(rig, 0, rect(100, 200, 10, 10), 0), VGD_OK, "its slots are free");
    cr_assert(vmm_next(rig));
    const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
    cr_assert(rig->msg.hdr.request == VGD_DISP_UPDATE && words[2] == 0 && words[4] == 17);
    for (uint32_t i = 0; i < 17 * 1920; i++) {
        cr_assert_eq(words[5 + i], 50 + i);
    }
    /* Then the new worker's; no SCANOUT of the same size, so the screen does not flicker. */
    (void)expect_picture(rig, 0, rect(100, 200, 10, 10), 50);
    cr_assert_eq(only_told(rig, VGD_LINK_FRAME_DONE)->body.number.value, 0);
    cr_assert(!vmm_next(rig));
    rig_end(rig);
}

TIDY_TEST(display_writer, answers_to_a_dead_worker_are_not_told_to_the_next)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_INFO, 1, 0);
    ask(rig, VGD_LINK_GET_EDID, 2, 0);
    cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vgd_display_writer_worker_gone(rig->w);
    vgd_display_writer_worker_started(rig->w);
    rig->told_count = 0;
    ask(rig, VGD_LINK_GET_INFO, 1, 0); /* it counts from 1 too */
    cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
    cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
    uint32_t updates = 0;
    while (vmm_next(rig)) {
        updates += rig->msg.hdr.request == VGD_DISP_DMABUF_UPDATE;
    }
    cr_assert_eq(updates, 2);
    vmm_reply_info(rig, 1);                          /* the old worker's */
    vmm_reply_edid(rig, 9, 128);                     /* too */
    vmm_reply_info(rig, 1);                          /* behind its EDID */
    vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0); /* its update */
    cr_assert_eq(rig->told_count, 0);
    vmm_reply_info(rig, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.info.pmodes[1].enabled, 1);
    vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
    cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, 0);
    rig_end(rig);
}
