/* SPDX-License-Identifier: MIT */
/* The display writer: dma-bufs, the cursor, questions, and a worker that was taken over. */
#include "display_writer_rig.h"

/* --- dma-bufs. --- */

static off_t size_of(int fd)
{
    struct stat info;
    cr_assert_eq(fstat(fd, &info), 0);
    return info.st_size;
}

TIDY_TEST(display_channel, dmabufs_go_with_their_descriptor)
{
    for (uint32_t features = 1; features <= 3; features += 2) {
        struct rig *rig = rig_begin_with(false);
        vgd_display_writer_worker_started(rig->w);
        give_channel(rig);
        negotiate(rig, features);
        rig->told_count = 0;
        cr_assert_eq(dmabuf_scanout(rig, 1, 3), VGD_OK);
        bool is_2 = features == 3;
        const uint32_t *words = vmm_expect(
            rig, is_2 ? VGD_DISP_DMABUF_SCANOUT2 : VGD_DISP_DMABUF_SCANOUT, is_2 ? 48 : 40);
        static const uint32_t want[] = {1, 0, 0, 600, 400, 640, 480, 2560, 1, 0x34325258};
        cr_assert_arr_eq(words, want, sizeof(want));
        cr_assert(!is_2 || (words[10] == 0x05060708 && words[11] == 0x01020304));
        cr_assert_eq(size_of(rig->msg.fd), 4096 * 3);

        cr_assert_eq(dmabuf_update(rig, 1), VGD_OK);
        words = vmm_expect(rig, VGD_DISP_DMABUF_UPDATE, 20);
        cr_assert(words[0] == 1 && words[1] == 1 && words[2] == 2 && words[3] == 3);
        cr_assert_eq(dmabuf_update(rig, 1), VGD_RANGE, "one at a time");
        cr_assert_eq(rig->told_count, 0);
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
        cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, 1);
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0); /* nobody asked */
        cr_assert(rig->told_count == 0 && vgd_display_writer_connected(rig->w));
        rig_end(rig);
    }
}

TIDY_TEST(display_channel, dmabuf_answers_are_taken_in_order)
{
    struct rig *rig = rig_begin();
    static const uint32_t order[] = {2, 0, 3};
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(dmabuf_scanout(rig, order[i], 1), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, order[i]), VGD_OK);
    }
    for (uint32_t i = 0; i < 3; i++) {
        vmm_reply(rig, VGD_DISP_DMABUF_UPDATE, NULL, 0);
        cr_assert_eq(only_told(rig, VGD_LINK_DMABUF_DONE)->body.number.value, order[i]);
    }
    rig_end(rig);
}

TIDY_TEST(display_channel, from_dmabuf_to_pixels_and_off)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(dmabuf_scanout(rig, 0, 1), VGD_OK);
        (void)vmm_expect(rig, VGD_DISP_DMABUF_SCANOUT2, 48);
        bool off = i == 1;
        scanout(rig, 0, off ? 0 : 600, off ? 0 : 400);
        const uint32_t *words = vmm_expect(rig, VGD_DISP_DMABUF_SCANOUT, 40);
        cr_assert(words[0] == 0 && words[3] == 0);
        cr_assert_eq(rig->msg.fd, -1, "without a descriptor: the VMM lets go of ours");
        words = vmm_expect(rig, VGD_DISP_SCANOUT, 12);
        cr_assert(words[1] == (off ? 0 : 600));
        cr_assert(!vmm_next(rig));
    }
    rig_end(rig);
}

/* Only the newest waits: no descriptors pile up. */
TIDY_TEST(display_channel, a_vmm_that_does_not_read_gets_the_newest_dmabuf)
{
    struct rig *rig = rig_begin();
    squeeze(rig);
    scanout(rig, 1, 1920, 1080);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK); /* clogs it */
    unsigned fds_before = open_fds_count();
    for (uint32_t i = 1; i <= 100; i++) {
        cr_assert_eq(dmabuf_scanout(rig, 0, i), VGD_OK);
        cr_assert_eq(dmabuf_update(rig, 0), VGD_OK);
        cr_assert_eq(told(rig, VGD_LINK_DMABUF_DONE), i - 1, "a dropped one is answered");
    }
    cr_assert_leq(open_fds_count(), fds_before + 1);
    uint32_t n = 0;
    off_t newest = 0;
    while (vmm_next(rig)) {
        if (rig->msg.fd >= 0) {
            n++;
            newest = size_of(rig->msg.fd);
        }
    }
    cr_assert(n == 1 && newest == 4096 * 100, "%u, %ld", n, (long)newest);
    rig_end(rig);
}

/* --- Cursor. --- */

TIDY_TEST(display_channel, cursor)
{
    struct rig *rig = rig_begin();
    static struct vgd_link_cursor_update cursor;
    cursor.pos = (struct vgd_link_cursor_pos){.scanout_idx = 2, .x_px = 10, .y_px = 20};
    cursor.hot_x_px = 3;
    cursor.hot_y_px = 4;
    memset(cursor.pixels, 0x77, sizeof(cursor.pixels));
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
    const uint32_t *words = vmm_expect(rig, VGD_DISP_CURSOR_UPDATE, 16404);
    static const uint32_t want[] = {2, 10, 20, 3, 4, 0x77777777};
    cr_assert_arr_eq(words, want, sizeof(want));
    cr_assert_eq(words[4100], 0x77777777);

    struct vgd_link_cursor_pos pos = {.scanout_idx = 2, .x_px = 11, .y_px = 21};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    words = vmm_expect(rig, VGD_DISP_CURSOR_POS, 12);
    cr_assert(words[0] == 2 && words[1] == 11 && words[2] == 21);
    pos.hide = 1;
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_OK);
    (void)vmm_expect(rig, VGD_DISP_CURSOR_POS_HIDE, 12);
    rig_end(rig);
}

TIDY_TEST(display_channel, a_vmm_that_does_not_read_gets_the_newest_cursor)
{
    struct rig *rig = rig_begin();
    squeeze(rig);
    scanout(rig, 1, 1920, 1080);
    cr_assert_eq(update(rig, 1, rect(0, 0, 1920, 1080), 0), VGD_OK);
    static struct vgd_link_cursor_update cursor;
    for (uint32_t i = 0; i < 1000; i++) {
        memset(cursor.pixels, (int)(i & 0xff), sizeof(cursor.pixels));
        cursor.pos.x_px = i;
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_OK);
        cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &cursor.pos, sizeof(cursor.pos)),
                     VGD_OK);
    }
    uint32_t n = 0;
    while (vmm_next(rig)) {
        if (rig->msg.hdr.request == VGD_DISP_CURSOR_UPDATE) {
            const uint32_t *words = (const uint32_t *)(const void *)rig->msg.payload;
            cr_assert(words[1] == 999 && rig->msg.payload[20] == (999 & 0xff));
            n++;
        }
    }
    cr_assert_eq(n, 1);
    rig_end(rig);
}

/* --- Questions. --- */

TIDY_TEST(display_channel, questions_and_answers)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_INFO, 41, 0);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 5);
    const struct vgd_link_info_reply *info = &only_told(rig, VGD_LINK_INFO_REPLY)->body.info;
    cr_assert(info->question == 41 && info->info.pmodes[2].enabled == 1);
    cr_assert(info->info.pmodes[1].enabled == 0 && info->info.pmodes[15].rect.w_px == 1015);

    ask(rig, VGD_LINK_GET_EDID, 42, 1);
    cr_assert_eq(vmm_expect(rig, VGD_DISP_GET_EDID, 4)[0], 1);
    vmm_reply_edid(rig, 9, 256);
    const struct vgd_link_edid_reply *edid = &only_told(rig, VGD_LINK_EDID_REPLY)->body.edid;
    cr_assert(edid->question == 42 && edid->size_bytes == 256 && edid->edid[255] == 9);
    (void)vmm_expect(rig, VGD_DISP_GET_DISPLAY_INFO, 0);
    vmm_reply_info(rig, 5);
    cr_assert_eq(rig->told_count, 0, "that one was our own");
    rig_end(rig);
}

/* QEMU says nothing to GET_EDID for a scanout that it does not have. */
TIDY_TEST(display_channel, an_edid_that_is_never_answered_confuses_nothing)
{
    struct rig *rig = rig_begin();
    ask(rig, VGD_LINK_GET_EDID, 1, 0);
    ask(rig, VGD_LINK_GET_EDID, 2, 2); /* not there */
    ask(rig, VGD_LINK_GET_EDID, 3, 1);
    ask(rig, VGD_LINK_GET_INFO, 4, 0);
    uint32_t asked = 0;
    while (vmm_next(rig)) {
        asked++;
        if (rig->msg.hdr.request == VGD_DISP_GET_DISPLAY_INFO) {
            vmm_reply_info(rig, 1);
        } else if (rig->msg.payload[0] != 2) {
            vmm_reply_edid(rig, (uint8_t)(10 + rig->msg.payload[0]), 128);
        }
    }
    cr_assert_eq(asked, 7);
    cr_assert_eq(rig->told_count, 4);
    for (uint32_t i = 0; i < 3; i++) {
        const struct vgd_link_edid_reply *edid = &rig->told[i].body.edid;
        cr_assert_eq(edid->question, i + 1);
        cr_assert_eq(edid->size_bytes, i == 1 ? 0 : 128);
        cr_assert_eq(edid->edid[0], i == 0 ? 10 : i == 1 ? 0 : 11);
    }
    cr_assert_eq(rig->told[3].body.info.question, 4);

    /* And it is not asked again, nor what comes behind it: QEMU prints a line for each. */
    rig->told_count = 0;
    ask(rig, VGD_LINK_GET_EDID, 5, 2);
    cr_assert_eq(only_told(rig, VGD_LINK_EDID_REPLY)->body.edid.size_bytes, 0);
    ask(rig, VGD_LINK_GET_EDID, 6, 3);
    cr_assert_eq(only_told(rig, VGD_LINK_EDID_REPLY)->body.edid.question, 6);
    cr_assert(!vmm_next(rig));
    ask(rig, VGD_LINK_GET_EDID, 7, 1);
    (void)vmm_expect(rig, VGD_DISP_GET_EDID, 4);
    rig_end(rig);
}

TIDY_TEST(display_channel, a_reply_may_come_byte_by_byte)
{
    struct rig *rig = rig_begin_with(false);
    vgd_display_writer_worker_started(rig->w);
    give_channel(rig);
    uint64_t features = 3;
    vmm_send(rig, VGD_DISP_GET_PROTOCOL_FEATURES, VGD_DISP_FLAG_REPLY, &features, 8, 1);
    cr_assert(rig->told_count == 2 && rig->told[1].body.state.connected);
    rig_end(rig);
}

TIDY_TEST(display_channel, what_is_no_reply_ends_the_channel)
{
    static const struct {
        const char *name;
        uint32_t request, flags, n_bytes;
    } cases[] = {
        {"not a reply", VGD_DISP_GET_DISPLAY_INFO, 0, 408},
        {"short info", VGD_DISP_GET_DISPLAY_INFO, 4, 407},
        {"long info", VGD_DISP_GET_DISPLAY_INFO, 4, 409},
        {"short edid", VGD_DISP_GET_EDID, 4, 0},
        {"a payload where none is", VGD_DISP_DMABUF_UPDATE, 4, 4},
        {"a kind without replies", VGD_DISP_SCANOUT, 4, 0},
        {"no such kind", 99, 4, 0},
        {"kind 0", 0, 4, 0},
    };
    static const uint8_t payload[512];
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin();
        ask(rig, VGD_LINK_GET_INFO, 1, 0);
        vmm_send(rig, cases[i].request, cases[i].flags, payload, cases[i].n_bytes, 2048);
        cr_assert(!vgd_display_writer_connected(rig->w), "%s", cases[i].name);
        cr_assert_eq(only_told(rig, VGD_LINK_DISPLAY_STATE)->body.state.connected, 0);
        rig_end(rig);
    }
    /* A size of 4 GiB allocates nothing and waits for nothing. */
    struct rig *rig = rig_begin();
    static const uint32_t huge[3] = {VGD_DISP_GET_EDID, 4, UINT32_MAX};
    cr_assert_eq(send(rig->vmm_fd, huge, sizeof(huge), 0), sizeof(huge));
    turn(rig);
    cr_assert(!vgd_display_writer_connected(rig->w));
    rig_end(rig);
    /* An EDID that says it is longer than its field. */
    rig = rig_begin();
    ask(rig, VGD_LINK_GET_EDID, 1, 0);
    vmm_reply_edid(rig, 1, 1025);
    cr_assert(!vgd_display_writer_connected(rig->w));
    rig_end(rig);
}

TIDY_TEST(display_channel, replies_that_nobody_asked_for_are_dropped)
{
    struct rig *rig = rig_begin();
    vmm_reply_info(rig, 1);
    vmm_reply_edid(rig, 1, 128);
    uint64_t features = 0;
    vmm_reply(rig, VGD_DISP_GET_PROTOCOL_FEATURES, &features, 8);
    ask(rig, VGD_LINK_GET_INFO, 7, 0);
    vmm_reply_edid(rig, 1, 128); /* not what is due */
    cr_assert_eq(rig->told_count, 0);
    vmm_reply_info(rig, 1);
    cr_assert_eq(only_told(rig, VGD_LINK_INFO_REPLY)->body.info.question, 7);
    rig_end(rig);
}

TIDY_TEST(display_channel, a_flood_of_questions_is_bounded)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < 10000; i++) {
        ask(rig, i % 2 ? VGD_LINK_GET_INFO : VGD_LINK_GET_EDID, i, i % N_SCANOUTS);
    }
    uint32_t n = 0;
    while (vmm_next(rig)) {
        n++;
    }
    cr_assert_leq(n, 128);
    rig_end(rig);
}

/* --- A worker that was taken over. --- */

TIDY_TEST(display_channel, what_cannot_be_believed_is_refused)
{
    struct rig *rig = rig_begin();
    scanout(rig, 0, 640, 480);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    scanout(rig, 1, 8192, 8192);
    (void)vmm_expect(rig, VGD_DISP_SCANOUT, 12);
    squeeze(rig);
    paint(rig, 1, 640 * 480, 8);
    cr_assert_eq(update(rig, 0, rect(0, 0, 640, 480), 1), VGD_OK);

    static const struct {
        const char *name;
        struct vgd_link_update msg;
    } updates[] = {
        {"scanout", {N_SCANOUTS, {0, 0, 1, 1}, 0}},
        {"scanout all ones", {UINT32_MAX, {0, 0, 1, 1}, 0}},
        {"a scanout that is off", {2, {0, 0, 1, 1}, 0}},
        {"slot", {0, {0, 0, 1, 1}, VGD_FRAME_SLOTS_COUNT}},
        {"slot all ones", {0, {0, 0, 1, 1}, UINT32_MAX}},
        {"a slot in flight", {0, {0, 0, 1, 1}, 1}},
        {"empty", {0, {0, 0, 0, 1}, 0}},
        {"no rows", {0, {0, 0, 1, 0}, 0}},
        {"one past the right", {0, {1, 0, 640, 480}, 0}},
        {"one past the bottom", {0, {0, 1, 640, 480}, 0}},
        {"x past the edge", {0, {641, 0, 1, 1}, 0}},
        {"x + w wraps", {0, {UINT32_MAX, 0, 2, 1}, 0}},
        {"y + h wraps", {0, {0, UINT32_MAX, 1, 2}, 0}},
        {"w * h wraps", {0, {0, 0, 0x80000000u, 2}, 0}},
        {"larger than a slot", {1, {0, 0, 8192, 2049}, 0}},
    };
    for (uint32_t i = 0; i < sizeof(updates) / sizeof(updates[0]); i++) {
        cr_assert_eq(worker_sends(rig, VGD_LINK_UPDATE, &updates[i].msg, sizeof(updates[i].msg)),
                     VGD_RANGE, "update: %s", updates[i].name);
    }

    static const struct {
        const char *name;
        struct vgd_link_scanout msg;
    } scanouts[] = {
        {"scanout", {N_SCANOUTS, 640, 480}},
        {"no height", {0, 640, 0}},
        {"wide", {0, 16385, 1}},
        {"high", {0, 1, 16385}},
        {"256 MiB and a row", {0, 8192, 8193}},
        {"all ones", {0, UINT32_MAX, UINT32_MAX}},
    };
    for (uint32_t i = 0; i < sizeof(scanouts) / sizeof(scanouts[0]); i++) {
        cr_assert_eq(worker_sends(rig, VGD_LINK_SCANOUT, &scanouts[i].msg, sizeof(scanouts[i].msg)),
                     VGD_RANGE, "scanout: %s", scanouts[i].name);
    }

    static const struct {
        const char *name;
        struct vgd_link_dmabuf_scanout msg;
        bool has_fd;
    } dmabufs[] = {
        {"scanout", {N_SCANOUTS, {0, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"no fd", {0, {0, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, false},
        {"no size", {0, {0, 0, 4, 4}, 0, 4, 16, 1, 0, 1, {0}}, true},
        {"empty", {0, {0, 0, 0, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"outside", {0, {0, 0, 5, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"x wraps", {0, {UINT32_MAX, 0, 4, 4}, 4, 4, 16, 1, 0, 1, {0}}, true},
        {"no stride", {0, {0, 0, 4, 4}, 4, 4, 0, 1, 0, 1, {0}}, true},
        {"too large", {0, {0, 0, 4, 4}, 16385, 4, 16, 1, 0, 1, {0}}, true},
    };
    for (uint32_t i = 0; i < sizeof(dmabufs) / sizeof(dmabufs[0]); i++) {
        int fd = dmabufs[i].has_fd ? vgd_memfd_create("dmabuf", 4096) : -1;
        cr_assert_eq(worker_sends_fds(rig, VGD_LINK_DMABUF_SCANOUT, &dmabufs[i].msg,
                                      sizeof(dmabufs[i].msg), fd),
                     VGD_RANGE, "dmabuf: %s", dmabufs[i].name);
    }
    cr_assert_eq(dmabuf_update(rig, 0), VGD_RANGE, "it shows pixels");
    cr_assert_eq(dmabuf_update(rig, N_SCANOUTS), VGD_RANGE);

    struct vgd_link_cursor_pos pos = {.scanout_idx = N_SCANOUTS};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_MOVE, &pos, sizeof(pos)), VGD_RANGE);
    static struct vgd_link_cursor_update cursor = {.pos = {.scanout_idx = UINT32_MAX}};
    cr_assert_eq(worker_sends(rig, VGD_LINK_CURSOR_UPDATE, &cursor, sizeof(cursor)), VGD_RANGE);
    struct vgd_link_question question = {.question = 1, .scanout_idx = N_SCANOUTS};
    cr_assert_eq(worker_sends(rig, VGD_LINK_GET_EDID, &question, sizeof(question)), VGD_RANGE);

    /* Every wrong size of every message, and types that are not of the display. */
    static const uint8_t bytes[VGD_LINK_BYTES_MAX];
    for (uint32_t type = 0; type < 256; type++) {
        for (size_t n = 0; n < 64; n++) {
            bool right = (type == VGD_LINK_SCANOUT && n == sizeof(struct vgd_link_scanout)) ||
                         (type == VGD_LINK_CURSOR_MOVE && n == sizeof(pos)) ||
                         (type == VGD_LINK_GET_INFO && n == sizeof(question)) ||
                         (type == VGD_LINK_GET_EDID && n == sizeof(question));
            if (!right) {
                cr_assert_eq(worker_sends(rig, type, bytes, n), VGD_RANGE, "%u, %zu", type, n);
            }
        }
    }
    cr_assert_eq(rig->told_count, 0);
    (void)expect_picture(rig, 0, rect(0, 0, 640, 480), 8); /* unharmed */
    rig_end(rig);
}
