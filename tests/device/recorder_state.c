/* SPDX-License-Identifier: MIT */
/* The worker's recorder: the state that a recording begins with, and pictures. */
#include "tape.h"

/* The state with what it holds stands in front; it was put before start returned. */
DEVICE_TEST(recorded_from_mid_life_on)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    samples_prepare(&t->b);
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8A8_UNORM, 512, 700), OK_NODATA);
    cr_assert_resp(attach(&t->b, 50, LOW_GPA, 512 * 700 * 4), OK_NODATA);
    noise(ram_at(&t->b, LOW_GPA), REGION_BYTES, 8);
    cr_assert_resp(transfer_2d(&t->b, 50, (struct vgd_rect){0, 0, 512, 100}, 0), OK_NODATA);
    start(t, VGD_LINK_TRACE_NEW);
    cr_assert_not(t->held, "there is room for all of it");
    cr_assert_resp(unref(&t->b, 50), OK_NODATA);
    stop(t);
    expect_all(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_START);
    uint32_t made_up = 0;
    uint64_t texel_bytes = 0, page_bytes = 0;
    bool made = false;
    while (play_next(&p) && p.item.record.kind != VGD_TRACE_KIND_STATE_END) {
        const struct vgd_trace_record *record = &p.item.record;
        if (record->kind == VGD_TRACE_KIND_COMMAND) {
            cr_assert_eq(record->as.command.flags, VGD_TRACE_COMMAND_MADE_UP);
            made_up++;
            made = made || (p.item.data.total_bytes == VGD_CTRL_HDR_SIZE + 16 && p.data[24] == 50);
        } else if (record->kind == VGD_TRACE_KIND_CONTENT && record->as.content.resource_id == 50) {
            cr_assert(made && page_bytes == 0, "behind what makes it, before its pages");
            cr_assert_eq(record->as.content.y * 2048, texel_bytes);
            size_t loaded = texel_bytes < 512 * 100 * 4 ? 512 * 100 * 4 - texel_bytes : 0;
            loaded = loaded < p.item.data.total_bytes ? loaded : (size_t)p.item.data.total_bytes;
            cr_assert_eq(memcmp(p.data, ram_at(&t->b, LOW_GPA) + texel_bytes, loaded), 0);
            texel_bytes += p.item.data.total_bytes;
        } else if (record->kind == VGD_TRACE_KIND_BACKING && record->as.backing.resource_id == 50) {
            cr_assert_eq(record->as.backing.reason, VGD_TRACE_BACKING_STATE);
            cr_assert_eq(record->as.backing.offset_bytes, page_bytes);
            page_bytes += p.item.data.total_bytes;
        }
    }
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_STATE_END);
    cr_assert_gt(made_up, 10);
    cr_assert_eq(texel_bytes, 512 * 700 * 4);
    cr_assert_eq(page_bytes, 512 * 700 * 4);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.record.as.command.flags, 0);
    play_close(&p);
    tape_close(t);
    free(t);
}

/* @n resources with 1 MiB of texels each, none like the other. */
static void make_much(struct tape *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_resp(create_2d(&t->b, 50 + i, VGD_FORMAT_B8G8R8A8_UNORM, 512, 512), OK_NODATA);
        cr_assert_resp(attach(&t->b, 50 + i, LOW_GPA, 512 * 512 * 4), OK_NODATA);
        noise(ram_at(&t->b, LOW_GPA), REGION_BYTES, i);
        cr_assert_resp(transfer_2d(&t->b, 50 + i, (struct vgd_rect){0, 0, 512, 512}, 0), OK_NODATA);
        cr_assert_resp(detach(&t->b, 50 + i), OK_NODATA);
    }
}

/* More state than the buffer takes, and a file that takes none: the rings are held for a while, and
 * then the guest goes on. Once the file takes records again, a state follows the gap. */
DEVICE_TEST(recorded_state_that_finds_no_room)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    const uint32_t n = 100;
    make_much(t, n);
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    uint64_t begin_ns = vgd_now_ns();
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    cr_assert(t->held, "there is more than fits");
    cr_assert_lt(vgd_now_ns() - begin_ns, 1000000000, "the loop goes on meanwhile");
    vgd_recorder_changed(t->r); /* begins again */
    while (t->held && vgd_now_ns() - begin_ns < 5000000000) {
        vgd_loop_turn(t->loop, 10);
    }
    cr_assert_not(t->held);
    uint64_t held_ns = vgd_now_ns() - begin_ns;
    cr_assert(held_ns > 1500000000 && held_ns < 3500000000, "%llu ms",
              (unsigned long long)held_ns / 1000000);
    /* Somebody reads, at last. */
    char path[] = "/tmp/vgd-recorder-XXXXXX";
    int file = mkstemp(path);
    cr_assert(file >= 0);
    (void)unlink(path);
    (void)close(fds[1]);
    cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    static uint8_t bytes[1 << 20];
    uint64_t drain_ns = vgd_now_ns();
    bool again = false, stopped = false;
    ssize_t got = -1;
    while (got != 0 && vgd_now_ns() - drain_ns < 20000000000) {
        vgd_loop_turn(t->loop, 1);
        again = again || t->told.gaps > 0;
        if (again && !t->held && !stopped && vgd_now_ns() - drain_ns > 1500000000) {
            stopped = true;
            vgd_recorder_stop(t->r);
        }
        while ((got = read(fds[0], bytes, sizeof(bytes))) > 0) {
            cr_assert_eq(write(file, bytes, (size_t)got), got);
        }
    }
    cr_assert(stopped);
    turn_until_over(t);
    cr_assert_eq(t->told.state, VGD_TRACE_ENDED);
    (void)close(fds[0]);
    cr_assert_gt(count_of(file, VGD_TRACE_KIND_GAP), 0);
    struct play p;
    play_open(&p, file);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_START);
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN), "it began again");
    cr_assert(play_until(&p, VGD_TRACE_KIND_GAP), "and is not whole");
    cr_assert(play_until(&p, VGD_TRACE_KIND_STATE_BEGIN));
    cr_assert_eq(p.item.record.as.state_begin.reason, VGD_TRACE_STATE_AFTER_GAP);
    uint32_t commands = 0;
    while (play_next(&p) && p.item.record.kind != VGD_TRACE_KIND_STATE_END) {
        commands += p.item.record.kind == VGD_TRACE_KIND_COMMAND;
    }
    cr_assert_eq(commands, n);
    play_close(&p);
    (void)close(file);
    tape_close(t);
    free(t);
}

/* A resource whose pages fill the longest command. */
DEVICE_TEST(recorded_state_with_a_very_long_command)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    const uint32_t n = (1u << 20) - 64; /* limits.h */
    cr_assert_resp(create_2d(&t->b, 50, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8), OK_NODATA);
    size_t n_bytes =
        VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE + (size_t)n * VGD_MEM_ENTRY_SIZE;
    uint8_t *bytes = malloc(n_bytes);
    cr_assert_not_null(bytes);
    struct vgd_writer w = vgd_writer_of(bytes, n_bytes);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_ATTACH_BACKING});
    vgd_cmd_resource_attach_backing_encode(
        &w, &(struct vgd_cmd_resource_attach_backing){.resource_id = 50, .nr_entries = n});
    for (uint32_t i = 0; i < n; i++) {
        vgd_mem_entry_encode(&w,
                             &(struct vgd_mem_entry){.addr = LOW_GPA + i % 4096, .len_bytes = 1});
    }
    cr_assert_eq(w.status, VGD_OK);
    struct sent s;
    send_bytes(&t->b, &s, bytes, n_bytes, RESP_BYTES_MAX, VGD_QUEUE_CONTROL);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    start(t, VGD_LINK_TRACE_NEW);
    cr_assert_not(t->held);
    stop(t);
    cr_assert_eq(t->told.lost_records, 0);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert(play_until(&p, VGD_TRACE_KIND_COMMAND));
    cr_assert_eq(p.item.data.total_bytes, n_bytes);
    cr_assert_eq(memcmp(p.data, bytes, n_bytes), 0, "as it was sent");
    play_close(&p);
    free(bytes);
    tape_close(t);
    free(t);
}

DEVICE_TEST(recorded_reset_ends_a_state)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    make_much(t, 100);
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    (void)close(fds[1]);
    cr_assert(t->held);
    vgd_recorder_reset(t->r);
    cr_assert_not(t->held);
    (void)close(fds[0]);
    turn_until_over(t);

    /* And a start of the rings does not wait for longer than they may be held. */
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    start_on(t, fds[1], VGD_LINK_TRACE_NEW);
    (void)close(fds[1]);
    cr_assert(t->held);
    uint64_t begin_ns = vgd_now_ns();
    vgd_recorder_settle(t->r);
    cr_assert_not(t->held);
    cr_assert_lt(vgd_now_ns() - begin_ns, 3500000000);
    (void)close(fds[0]);
    turn_until_over(t);
    tape_close(t);
    free(t);
}

static struct vgd_presenter_look look_of(uint32_t res_id, struct vgd_rect src, struct vgd_rect rect,
                                         const uint8_t *pixels)
{
    return (struct vgd_presenter_look){
        .scanout_idx = 1, .res_id = res_id, .src = src, .rect = rect, .pixels = pixels};
}

static void expect_hash(const struct play *p, const uint8_t *pixels, size_t n_bytes)
{
    XXH128_canonical_t want;
    XXH128_canonicalFromHash(&want, XXH3_128bits(pixels, n_bytes));
    cr_assert_eq(p->item.record.as.picture.flags, VGD_TRACE_PICTURE_HASHED);
    cr_assert_arr_eq(p->item.record.as.picture.hash, want.digest, sizeof(want.digest));
}

/* The hash of all that the display reads, pixels at their pace. */
DEVICE_TEST(recorded_pictures_that_the_display_reads)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    t->picture_ms = 1500;
    start(t, VGD_LINK_TRACE_NEW);
    /* Larger than one record takes. */
    const struct vgd_rect src = {0, 0, 2048, 1500};
    const size_t n_bytes = 2048 * 1500 * 4;
    uint8_t *pixels = malloc(n_bytes);
    noise(pixels, n_bytes, 4);
    struct vgd_presenter_look look = look_of(77, src, src, pixels);
    vgd_recorder_shown(t->r, &look);
    vgd_recorder_shown(t->r, &look);
    struct timespec pause = {.tv_sec = 1, .tv_nsec = 600000000};
    (void)nanosleep(&pause, NULL);
    struct vgd_rect part = {10, 20, 30, 40};
    look = look_of(77, src, part, pixels);
    vgd_recorder_shown(t->r, &look);
    stop(t);

    struct play p;
    play_open(&p, t->fd);
    uint32_t y_px = 0;
    while (y_px < src.h_px) {
        cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
        const struct vgd_trace_picture *picture = &p.item.record.as.picture;
        cr_assert(picture->scanout_id == 1 && picture->resource_id == 77 &&
                  picture->command_id == 0 && picture->format == VGD_FORMAT_B8G8R8X8_UNORM);
        cr_assert(picture->x_px == 0 && picture->y_px == y_px && picture->w_px == 2048);
        cr_assert_eq(p.item.data.total_bytes, (uint64_t)2048 * 4 * picture->h_px);
        const uint8_t *want = pixels + (size_t)y_px * 2048 * 4;
        cr_assert_eq(memcmp(p.data, want, (size_t)p.item.data.total_bytes), 0);
        expect_hash(&p, want, (size_t)p.item.data.total_bytes);
        y_px += picture->h_px;
    }
    cr_assert_eq(y_px, src.h_px);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 0, "too soon for pixels");
    cr_assert(p.item.record.as.picture.h_px == 1500);
    expect_hash(&p, pixels, n_bytes);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 30 * 40 * 4);
    cr_assert(p.item.record.as.picture.x_px == 10 && p.item.record.as.picture.y_px == 20);
    cr_assert_not(play_until(&p, VGD_TRACE_KIND_PICTURE));
    play_close(&p);
    free(pixels);
    tape_close(t);
    free(t);
}

/* Where nothing is read for the display the recorder reads, at the pace of pixels. */
DEVICE_TEST(recorded_pictures_that_nobody_reads)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    for (int with_pixels = 0; with_pixels < 2; with_pixels++) {
        t->picture_ms = with_pixels ? 60000 : VGD_LINK_TRACE_NO_PIXELS;
        cr_assert_eq(ftruncate(t->fd, 0), 0);
        cr_assert_eq(lseek(t->fd, 0, SEEK_SET), 0);
        start(t, VGD_LINK_TRACE_NEW);
        uint32_t id = 60 + (uint32_t)with_pixels;
        cr_assert_resp(create_2d(&t->b, id, VGD_FORMAT_B8G8R8A8_UNORM, 64, 32), OK_NODATA);
        cr_assert_resp(attach(&t->b, id, LOW_GPA, 64 * 32 * 4), OK_NODATA);
        noise(ram_at(&t->b, LOW_GPA), 64 * 32 * 4, 9);
        cr_assert_resp(transfer_2d(&t->b, id, (struct vgd_rect){0, 0, 64, 32}, 0), OK_NODATA);
        struct vgd_presenter_look look =
            look_of(id, (struct vgd_rect){8, 4, 32, 16}, (struct vgd_rect){0, 0, 1, 1}, NULL);
        vgd_recorder_shown(t->r, &look);
        vgd_recorder_shown(t->r, &look); /* too soon */
        look.scanout_idx = 2;
        vgd_fake_fail_nth(t->b.render, 1, VGD_UNSUPPORTED); /* a blob that cannot be read */
        vgd_recorder_shown(t->r, &look);
        vgd_fake_fail_nth(t->b.render, 0, VGD_OK);
        stop(t);
        cr_assert_eq(count_of(t->fd, VGD_TRACE_KIND_PICTURE), (uint32_t)with_pixels);
        cr_assert_leq(t->told.memory_bytes, VGD_RECORDER_MEMORY_MAX_BYTES);
    }
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_PICTURE));
    cr_assert_eq(p.item.data.total_bytes, 32 * 16 * 4);
    for (uint32_t y = 0; y < 16; y++) {
        cr_assert_eq(memcmp(p.data + y * 32 * 4, ram_at(&t->b, LOW_GPA) + (y + 4) * 256 + 32, 128),
                     0, "row %u", y);
    }
    expect_hash(&p, p.data, 32 * 16 * 4);
    play_close(&p);
    tape_close(t);
    free(t);
}

/* A blob of guest memory: what the picture is made of stands in front of it. */
DEVICE_TEST(recorded_pictures_of_guest_memory)
{
    struct tape *t = malloc(sizeof(*t));
    tape_open(t);
    start(t, VGD_LINK_TRACE_NEW);
    cr_assert_resp(create_guest_blob(&t->b, 70, LOW_GPA, 0x4000), OK_NODATA);
    struct vgd_image image = {
        .w_px = 64, .h_px = 64, .format = VGD_FORMAT_B8G8R8X8_UNORM, .stride_bytes = 256};
    noise(ram_at(&t->b, LOW_GPA), 0x4000, 3);
    struct vgd_rect whole = {0, 0, 64, 64};
    struct vgd_rect part = {0, 8, 64, 4};
    struct vgd_presenter_look look = look_of(70, whole, part, ram_at(&t->b, LOW_GPA) + 8 * 256);
    look.image = &image;
    vgd_recorder_shown(t->r, &look);
    stop(t);
    struct play p;
    play_open(&p, t->fd);
    cr_assert(play_until(&p, VGD_TRACE_KIND_BACKING));
    cr_assert_eq(p.item.record.as.backing.command_id, 0);
    cr_assert_eq(p.item.record.as.backing.offset_bytes, 8 * 256);
    cr_assert_eq(p.item.data.total_bytes, 4 * 256);
    cr_assert_eq(memcmp(p.data, ram_at(&t->b, LOW_GPA) + 8 * 256, 4 * 256), 0);
    cr_assert(play_next(&p));
    cr_assert_eq(p.item.record.kind, VGD_TRACE_KIND_PICTURE);
    play_close(&p);
    tape_close(t);
    free(t);
}
