/* SPDX-License-Identifier: MIT */
/* The worker's display over a real link, with a renderer that counts what is read back. The test
 * plays the supervisor. One file: each test needs that supervisor, and it is half of this. */
#include "display_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "edid.h"
#include "fd.h"
#include "frames.h"
#include "log.h"
#include "presenter.h"
#include "scanout_limits.h"

#define NEXT_NS_MAX 2000000000ull
#define N_SCANOUTS 4u
#define MESSAGES_MAX 256u
#define MS 1000000ull

/* --- A renderer that knows what each pixel should be. --- */

struct fake_render {
    struct vgd_render base;
    bool exports;
    bool read_fails;
    uint32_t export_offset_bytes;
    uint8_t generation; /* part of every pixel */
    uint32_t reads_count;
    uint64_t pixels_read;
    struct vgd_rect last_read;
    uint32_t last_res_id;
    bool last_was_blob;
    struct vgd_image last_image; /* when last_was_blob */
};

static struct fake_render *fake_of(struct vgd_render *r)
{
    return (struct fake_render *)r;
}

static void pixel_of(uint8_t generation, uint32_t res_id, uint32_t x, uint32_t y, uint8_t out[4])
{
    out[0] = (uint8_t)x;
    out[1] = (uint8_t)y;
    out[2] = (uint8_t)res_id;
    out[3] = generation;
}

static void fake_info(const struct vgd_render *r, struct vgd_render_info *out)
{
    *out = (struct vgd_render_info){
        .name = "fake", .gpu_name = "", .exports_dmabuf = ((const struct fake_render *)r)->exports};
}

static enum vgd_status fake_read(struct vgd_render *r, uint32_t res_id,
                                 const struct vgd_image *image, struct vgd_rect rect, void *out,
                                 size_t stride_bytes)
{
    struct fake_render *f = fake_of(r);
    f->reads_count++;
    f->last_was_blob = image != NULL;
    f->last_image = image != NULL ? *image : (struct vgd_image){0};
    f->last_read = rect;
    f->last_res_id = res_id;
    if (f->read_fails) {
        return VGD_HOST_FAILED;
    }
    f->pixels_read += (uint64_t)rect.w_px * rect.h_px;
    for (uint32_t y = 0; y < rect.h_px; y++) {
        bool is_edge = y == 0 || y + 1 == rect.h_px;
        if (rect.h_px > 2000 && !is_edge) {
            continue; /* hundreds of megabytes: the first and the last row will do */
        }
        uint8_t *row = (uint8_t *)out + y * stride_bytes;
        for (uint32_t x = 0; x < rect.w_px; x++) {
            pixel_of(f->generation, res_id, rect.x_px + x, rect.y_px + y, row + (size_t)x * 4);
        }
    }
    return VGD_OK;
}

static enum vgd_status fake_export(struct vgd_render *r, uint32_t res_id,
                                   const struct vgd_image *image, struct vgd_dmabuf *out)
{
    struct fake_render *f = fake_of(r);
    f->last_was_blob = image != NULL;
    f->last_image = image != NULL ? *image : (struct vgd_image){0};
    if (!f->exports) {
        return VGD_UNSUPPORTED;
    }
    *out = (struct vgd_dmabuf){
        .fd = vgd_memfd_create("dmabuf", 4096 * res_id), /* its size tells whose it is */
        .w_px = 640,
        .h_px = 480,
        .stride_bytes = 2560,
        .offset_bytes = f->export_offset_bytes,
        .fourcc = 0x34325258,
        .modifier = 7,
        .y0_top = true,
    };
    return VGD_OK;
}

static const struct vgd_render_ops fake_ops = {
    .info = fake_info, .read_pixels = fake_read, .export_scanout = fake_export};

/* --- The rig. --- */

struct rig {
    struct vgd_loop *loop;
    struct fake_render render;
    struct vgd_link *worker_link, *our_link;
    uint8_t *frames;
    struct vgd_presenter *p;
    struct vgd_display *d;
    /* What the supervisor got, in order. */
    struct {
        uint32_t type;
        union {
            struct vgd_link_scanout scanout;
            struct vgd_link_update update;
            struct vgd_link_damage damage;
            struct vgd_link_dmabuf_scanout dmabuf;
            struct vgd_link_cursor_pos pos;
            struct vgd_link_question question;
            struct vgd_link_snapshot_reply snapshot;
        } body;
        uint8_t cursor_pixel; /* CURSOR_UPDATE: its first byte */
        int fd;
        uint64_t at_ns;
    } got[MESSAGES_MAX];
    uint32_t got_count;
    uint32_t seen_count;    /* taken by next() */
    enum vgd_status status; /* of the last message to the presenter */
};

static void supervisor_got(void *user, struct vgd_link_message *msg)
{
    struct rig *rig = user;
    cr_assert_lt(rig->got_count, MESSAGES_MAX);
    size_t n = msg->payload_bytes;
    n = n < sizeof(rig->got[0].body) ? n : sizeof(rig->got[0].body);
    rig->got[rig->got_count].type = msg->type;
    memcpy(&rig->got[rig->got_count].body, msg->payload, n);
    if (msg->type == VGD_LINK_CURSOR_UPDATE) {
        rig->got[rig->got_count].cursor_pixel =
            ((const struct vgd_link_cursor_update *)(const void *)msg->payload)->pixels[0];
    }
    rig->got[rig->got_count].fd = msg->n_fds == 1 ? vgd_fd_take(&msg->fds[0]) : -1;
    rig->got[rig->got_count].at_ns = vgd_now_ns();
    rig->got_count++;
}

static void worker_got(void *user, struct vgd_link_message *msg)
{
    struct rig *rig = user;
    rig->status = vgd_presenter_message(rig->p, msg);
}

static void closed(void *user, enum vgd_status why)
{
    (void)user;
    (void)why;
}

/* Let what is under way arrive, and for at least @ms. */
static void turn(struct rig *rig, uint32_t ms)
{
    uint64_t end_ns = vgd_now_ns() + ms * MS;
    for (unsigned quiet = 0; quiet < 3 || vgd_now_ns() < end_ns; quiet++) {
        uint32_t before = rig->got_count;
        vgd_loop_turn(rig->loop, vgd_now_ns() < end_ns ? 1 : 0);
        quiet = rig->got_count == before ? quiet : 0;
    }
}

static void send_to_worker(struct rig *rig, enum vgd_link_type type, const void *payload, size_t n)
{
    rig->status = VGD_AGAIN;
    cr_assert_eq(vgd_link_send(rig->our_link, type, payload, n, NULL, 0), VGD_OK);
    while (rig->status == VGD_AGAIN) {
        vgd_loop_turn(rig->loop, 100);
    }
    turn(rig, 0);
}

static void send_number(struct rig *rig, enum vgd_link_type type, uint64_t value)
{
    struct vgd_link_u64 msg = {.value = value};
    send_to_worker(rig, type, &msg, sizeof(msg));
}

static void set_state(struct rig *rig, bool connected, bool dmabuf, bool fresh)
{
    struct vgd_link_display_state msg = {
        .connected = connected, .dmabuf = dmabuf, .fresh = fresh, .edid = connected};
    send_to_worker(rig, VGD_LINK_DISPLAY_STATE, &msg, sizeof(msg));
    cr_assert_eq(rig->status, VGD_OK);
}

/* Messages not looked at so far are of no interest. */
static void forget(struct rig *rig)
{
    rig->seen_count = rig->got_count;
    rig->render.reads_count = 0;
    rig->render.pixels_read = 0;
}

/* How many of @type came since the last forget. */
static uint32_t count(const struct rig *rig, uint32_t type)
{
    uint32_t n = 0;
    for (uint32_t i = rig->seen_count; i < rig->got_count; i++) {
        n += rig->got[i].type == type;
    }
    return n;
}

/* The next message, which has to be of @type: its index in got. A machine that is busy may take
 * longer than a test has turned the loop for. */
static uint32_t next(struct rig *rig, uint32_t type)
{
    uint64_t until_ns = vgd_now_ns() + NEXT_NS_MAX;
    while (rig->seen_count == rig->got_count && vgd_now_ns() < until_ns) {
        vgd_loop_turn(rig->loop, 10);
    }
    cr_assert_lt(rig->seen_count, rig->got_count, "no message; wanted type %u", type);
    cr_assert_eq(rig->got[rig->seen_count].type, type, "type %u instead of %u",
                 rig->got[rig->seen_count].type, type);
    return rig->seen_count++;
}

static struct vgd_rect rect(uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return (struct vgd_rect){.x_px = x, .y_px = y, .w_px = w, .h_px = h};
}

static bool rect_is(struct vgd_rect a, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return a.x_px == x && a.y_px == y && a.w_px == w && a.h_px == h;
}

/* The slot of @update holds the pixels of resource @res_id, moved by (@dx, @dy). */
static void assert_pixels(const struct rig *rig, const struct vgd_link_update *update,
                          uint32_t res_id, uint8_t generation, uint32_t dx, uint32_t dy)
{
    const uint8_t *at = rig->frames + (size_t)update->slot_idx * VGD_FRAME_SLOT_BYTES;
    for (uint32_t y = 0; y < update->rect.h_px; y++) {
        for (uint32_t x = 0; x < update->rect.w_px; x++, at += 4) {
            uint8_t want[4];
            pixel_of(generation, res_id, update->rect.x_px + x + dx, update->rect.y_px + y + dy,
                     want);
            cr_assert_arr_eq(at, want, 4, "pixel %u,%u", x, y);
        }
    }
}

static struct rig *rig_begin_with(bool has_frames, bool exports)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    rig->loop = vgd_loop_create();
    rig->render.base.ops = &fake_ops;
    rig->render.exports = exports;
    int fds[2];
    cr_assert_eq(vgd_link_pair(fds), VGD_OK);
    rig->worker_link = vgd_link_create(rig->loop, &fds[0], worker_got, closed, rig);
    rig->our_link = vgd_link_create(rig->loop, &fds[1], supervisor_got, closed, rig);
    if (has_frames) {
        rig->frames = mmap(NULL, VGD_FRAMES_BYTES, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        cr_assert_neq(rig->frames, MAP_FAILED);
    }
    struct vgd_presenter_config config = {.loop = rig->loop,
                                          .render = &rig->render.base,
                                          .link = rig->worker_link,
                                          .frames = rig->frames,
                                          .n_scanouts = N_SCANOUTS};
    rig->p = vgd_presenter_create(&config);
    cr_assert_not_null(rig->p);
    rig->d = vgd_presenter_display(rig->p);
    return rig;
}

/* With a display channel that takes pixels only. */
static struct rig *rig_begin(void)
{
    struct rig *rig = rig_begin_with(true, false);
    set_state(rig, true, false, true);
    forget(rig);
    return rig;
}

static void rig_end(struct rig *rig)
{
    vgd_presenter_destroy(rig->p);
    vgd_link_destroy(rig->worker_link);
    vgd_link_destroy(rig->our_link);
    vgd_loop_destroy(rig->loop);
    for (uint32_t i = 0; i < rig->got_count; i++) {
        vgd_fd_closep(&rig->got[i].fd);
    }
    if (rig->frames != NULL) {
        (void)munmap(rig->frames, VGD_FRAMES_BYTES);
    }
    free(rig);
}

static void show(struct rig *rig, uint32_t idx, uint32_t res_id)
{
    rig->d->ops->scanout_set(rig->d, idx, res_id, NULL, rect(0, 0, 640, 480));
}

static void damage(struct rig *rig, uint32_t idx, struct vgd_rect r)
{
    rig->d->ops->flush(rig->d, idx, r);
}

/* Show @res_id on @idx and take its first picture. */
static void show_first(struct rig *rig, uint32_t idx, uint32_t res_id)
{
    show(rig, idx, res_id);
    damage(rig, idx, rect(0, 0, 640, 480));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    uint32_t slot = rig->got[next(rig, VGD_LINK_UPDATE)].body.update.slot_idx;
    send_number(rig, VGD_LINK_FRAME_DONE, slot);
    turn(rig, 20); /* the pace of what comes next starts anew */
    forget(rig);
}

/* --- Who watches. --- */

static struct {
    struct vgd_presenter_look last;
    uint32_t read_count, unread_count;
    uint8_t first_pixel;
} watched;

static void on_look(void *user, const struct vgd_presenter_look *look)
{
    cr_assert_eq(user, &watched);
    watched.last = *look;
    if (look->pixels != NULL) {
        watched.read_count++;
        watched.first_pixel = look->pixels[0];
    } else {
        watched.unread_count++;
    }
}

TIDY_TEST(display_presenter, who_watches_sees_what_is_read_and_what_is_not)
{
    struct rig *rig = rig_begin_with(true, true);
    memset(&watched, 0, sizeof(watched));
    vgd_presenter_watch(rig->p, on_look, &watched);
    rig->d->ops->scanout_set(rig->d, 1, 9, NULL, rect(8, 16, 640, 480));
    damage(rig, 1, rect(1, 2, 3, 4));
    cr_assert(watched.unread_count == 1 && watched.read_count == 0, "nobody is connected");
    cr_assert(watched.last.scanout_idx == 1 && watched.last.res_id == 9);
    cr_assert(rect_is(watched.last.src, 8, 16, 640, 480) && rect_is(watched.last.rect, 1, 2, 3, 4));
    cr_assert_null(watched.last.image);

    set_state(rig, true, false, true);
    turn(rig, 20);
    cr_assert_geq(watched.read_count, 1, "as pixels");
    cr_assert(rect_is(watched.last.rect, 0, 0, 640, 480));
    cr_assert_eq(watched.first_pixel, *(rig->frames), "of the slot");
    cr_assert_eq(watched.unread_count, 1);

    set_state(rig, true, true, true);
    rig->d->ops->scanout_set(rig->d, 0, 10, NULL, rect(0, 0, 64, 64));
    turn(rig, 20);
    uint32_t reads = watched.read_count;
    damage(rig, 0, rect(0, 0, 64, 64));
    turn(rig, 20);
    cr_assert(watched.unread_count == 2 && watched.last.scanout_idx == 0, "as a dma-buf");
    cr_assert_eq(watched.read_count, reads);

    vgd_presenter_watch(rig->p, NULL, NULL);
    damage(rig, 0, rect(0, 0, 64, 64));
    cr_assert_eq(watched.unread_count, 2);
    rig_end(rig);
}

/* --- Pixels. --- */

TIDY_TEST(display_presenter, first_damage_goes_at_once)
{
    struct rig *rig = rig_begin();
    show(rig, 1, 9);
    damage(rig, 1, rect(0, 0, 640, 480));
    turn(rig, 0);
    const struct vgd_link_scanout *s = &rig->got[next(rig, VGD_LINK_SCANOUT)].body.scanout;
    cr_assert(s->scanout_idx == 1 && s->w_px == 640 && s->h_px == 480);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    cr_assert_eq(u->scanout_idx, 1);
    cr_assert(rect_is(u->rect, 0, 0, 640, 480));
    assert_pixels(rig, u, 9, 0, 0, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, only_the_damaged_pixels_are_read)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    rig->render.generation = 1;
    damage(rig, 0, rect(100, 50, 64, 32));
    turn(rig, 0);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    cr_assert(rect_is(u->rect, 100, 50, 64, 32));
    assert_pixels(rig, u, 5, 1, 0, 0);
    cr_assert_eq(rig->render.reads_count, 1);
    cr_assert_eq(rig->render.pixels_read, 64 * 32);
    rig_end(rig);
}

TIDY_TEST(display_presenter, frequent_damage_is_merged_and_the_newest_pixels_go)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    uint64_t start_ns = vgd_now_ns();
    for (uint32_t i = 0; i < 10; i++) {
        rig->render.generation = (uint8_t)(i + 1);
        damage(rig, 0, rect(10 * i, 5, 10, 10));
    }
    cr_assert_eq(rig->render.reads_count, 1, "only one goes before the pace allows");
    turn(rig, 40);
    cr_assert(rect_is(rig->got[next(rig, VGD_LINK_UPDATE)].body.update.rect, 0, 5, 10, 10));
    uint32_t second = next(rig, VGD_LINK_UPDATE);
    const struct vgd_link_update *u = &rig->got[second].body.update;
    cr_assert(rect_is(u->rect, 10, 5, 90, 10), "%ux%u+%u+%u", u->rect.w_px, u->rect.h_px,
              u->rect.x_px, u->rect.y_px);
    assert_pixels(rig, u, 5, 10, 0, 0);
    cr_assert_geq(rig->got[second].at_ns - start_ns, VGD_FRAME_INTERVAL_NS);
    cr_assert_eq(rig->seen_count, rig->got_count);
    rig_end(rig);
}

TIDY_TEST(display_presenter, two_pictures_in_flight_at_most)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    for (uint32_t i = 0; i < 5; i++) {
        damage(rig, 0, rect(i, 0, 1, 1));
        turn(rig, 20);
    }
    cr_assert_eq(count(rig, VGD_LINK_UPDATE), 2);
    uint32_t slot = rig->got[next(rig, VGD_LINK_UPDATE)].body.update.slot_idx;
    (void)next(rig, VGD_LINK_UPDATE);
    cr_assert_eq(rig->render.reads_count, 2, "nothing is read that cannot go");
    send_number(rig, VGD_LINK_FRAME_DONE, slot);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    cr_assert_eq(u->slot_idx, slot);
    cr_assert(rect_is(u->rect, 2, 0, 3, 1), "what waited is merged");
    rig_end(rig);
}

TIDY_TEST(display_presenter, no_scanout_starves_for_slots)
{
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < N_SCANOUTS; i++) {
        show_first(rig, i, 5 + i);
    }
    damage(rig, 0, rect(0, 0, 1, 1));
    turn(rig, 20);
    damage(rig, 0, rect(0, 0, 1, 1)); /* its second slot */
    turn(rig, 20);
    damage(rig, 1, rect(0, 0, 1, 1));
    turn(rig, 20);
    damage(rig, 1, rect(0, 0, 1, 1)); /* would be the last slot */
    turn(rig, 20);
    cr_assert_eq(count(rig, VGD_LINK_UPDATE), 3);
    damage(rig, 2, rect(0, 0, 1, 1));
    turn(rig, 0);
    cr_assert_eq(count(rig, VGD_LINK_UPDATE), 4);
    cr_assert_eq(rig->got[rig->got_count - 1].body.update.scanout_idx, 2);
    damage(rig, 3, rect(0, 0, 1, 1));
    turn(rig, 0);
    cr_assert_eq(count(rig, VGD_LINK_UPDATE), 4);
    send_number(rig, VGD_LINK_FRAME_DONE, 0);
    cr_assert_eq(count(rig, VGD_LINK_UPDATE), 5, "the free slot goes to one that has none");
    cr_assert_eq(rig->got[rig->got_count - 1].body.update.scanout_idx, 3);
    rig_end(rig);
}

/* 8192 x 8192 is four slots; and new damage must not keep the lower bands from ever going. */
TIDY_TEST(display_presenter, damage_larger_than_a_slot_goes_in_bands)
{
    struct rig *rig = rig_begin();
    rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(0, 0, 8192, 8192));
    damage(rig, 0, rect(0, 0, 8192, 8192));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    uint32_t y = 0;
    while (y < 8192) {
        damage(rig, 0, rect(0, 0, 8192, 8192));
        turn(rig, 0);
        const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
        cr_assert(rect_is(u->rect, 0, y, 8192, 2048), "at %u: %ux%u+%u+%u", y, u->rect.w_px,
                  u->rect.h_px, u->rect.x_px, u->rect.y_px);
        y += u->rect.h_px;
        send_number(rig, VGD_LINK_FRAME_DONE, u->slot_idx);
    }
    rig_end(rig);
}

TIDY_TEST(display_presenter, part_of_a_resource_is_read_where_it_lies)
{
    struct rig *rig = rig_begin();
    rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(100, 200, 320, 240));
    damage(rig, 0, rect(10, 20, 30, 40));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    cr_assert(rect_is(u->rect, 0, 0, 320, 240), "a new resource is shown whole");
    assert_pixels(rig, u, 5, 0, 100, 200);
    turn(rig, 20);
    damage(rig, 0, rect(10, 20, 30, 40));
    turn(rig, 0);
    u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    assert_pixels(rig, u, 5, 0, 100, 200);
    cr_assert(rect_is(rig->render.last_read, 110, 220, 30, 40));
    rig_end(rig);
}

TIDY_TEST(display_presenter, two_scanouts_show_one_resource)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    show_first(rig, 2, 5);
    damage(rig, 0, rect(1, 1, 2, 2));
    damage(rig, 2, rect(1, 1, 2, 2));
    turn(rig, 0);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_UPDATE)].body.update.scanout_idx, 0);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_UPDATE)].body.update.scanout_idx, 2);
    rig->d->ops->scanout_disable(rig->d, 0);
    turn(rig, 20);
    damage(rig, 2, rect(1, 1, 2, 2));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_UPDATE)].body.update.scanout_idx, 2);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_guest_that_flips_sends_no_scanouts)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    for (uint32_t i = 0; i < 4; i++) {
        show(rig, 0, 6 + i % 2);
        damage(rig, 0, rect(0, 0, 10, 10));
        turn(rig, 20);
        const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
        cr_assert(rect_is(u->rect, 0, 0, 640, 480), "all of the other buffer is new");
        assert_pixels(rig, u, 6 + i % 2, 0, 0, 0);
        send_number(rig, VGD_LINK_FRAME_DONE, u->slot_idx);
    }
    cr_assert_eq(rig->seen_count, rig->got_count);
    rig->d->ops->scanout_set(rig->d, 0, 8, NULL, rect(0, 0, 320, 200));
    turn(rig, 0);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_SCANOUT)].body.scanout.w_px, 320);
    rig_end(rig);
}

static bool last_image_is(const struct rig *rig, const struct vgd_image *image)
{
    const struct vgd_image *last = &rig->render.last_image;
    return rig->render.last_was_blob && last->w_px == image->w_px && last->h_px == image->h_px &&
           last->format == image->format && last->stride_bytes == image->stride_bytes &&
           last->offset_bytes == image->offset_bytes;
}

/* A blob is read as the picture that the guest said lies in it, and another picture of the same
 * blob is another picture. */
TIDY_TEST(display_presenter, a_picture_in_a_blob_is_read_as_the_guest_said)
{
    struct rig *rig = rig_begin();
    struct vgd_image image = {.w_px = 800,
                              .h_px = 600,
                              .format = VGD_FORMAT_R8G8B8X8_UNORM,
                              .stride_bytes = 4096,
                              .offset_bytes = 128};
    rig->d->ops->scanout_set(rig->d, 0, 5, &image, rect(16, 8, 640, 480));
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    assert_pixels(rig, u, 5, 0, 16, 8);
    cr_assert(last_image_is(rig, &image));
    send_number(rig, VGD_LINK_FRAME_DONE, u->slot_idx);

    /* The same once more changes nothing; each field makes another picture, shown whole. */
    turn(rig, 20);
    uint32_t reads = rig->render.reads_count;
    rig->d->ops->scanout_set(rig->d, 0, 5, &image, rect(16, 8, 640, 480));
    turn(rig, 40);
    cr_assert_eq(rig->render.reads_count, reads);
    for (int field = 0; field < 4; field++) {
        image.stride_bytes += field == 0 ? 64 : 0;
        image.offset_bytes += field == 1 ? 4096 : 0;
        image.format = field == 2 ? VGD_FORMAT_B8G8R8A8_UNORM : image.format;
        image.h_px += field == 3 ? 1 : 0;
        rig->d->ops->scanout_set(rig->d, 0, 5, &image, rect(16, 8, 640, 480));
        turn(rig, 40);
        u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
        cr_assert(rect_is(u->rect, 0, 0, 640, 480), "field %d", field);
        cr_assert(last_image_is(rig, &image), "field %d", field);
        send_number(rig, VGD_LINK_FRAME_DONE, u->slot_idx);
    }
    /* And a resource with the same id that is no blob. */
    rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(16, 8, 640, 480));
    turn(rig, 40);
    (void)next(rig, VGD_LINK_UPDATE);
    cr_assert_not(rig->render.last_was_blob);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_resource_that_is_never_flushed_is_shown_a_little_later)
{
    struct rig *rig = rig_begin();
    show(rig, 0, 5);
    cr_assert_eq(rig->render.reads_count, 0, "its flush is about to come");
    turn(rig, 25);
    (void)next(rig, VGD_LINK_SCANOUT);
    (void)next(rig, VGD_LINK_UPDATE);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_scanout_that_is_off_sends_nothing)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 1, 1));
    damage(rig, 0, rect(0, 0, 1, 1)); /* waits */
    rig->d->ops->scanout_disable(rig->d, 0);
    rig->d->ops->scanout_disable(rig->d, 0);
    rig->d->ops->scanout_disable(rig->d, 3);
    damage(rig, 0, rect(0, 0, 1, 1));
    turn(rig, 40);
    (void)next(rig, VGD_LINK_UPDATE);
    const struct vgd_link_scanout *s = &rig->got[next(rig, VGD_LINK_SCANOUT)].body.scanout;
    cr_assert(s->scanout_idx == 0 && s->w_px == 0);
    cr_assert_eq(rig->seen_count, rig->got_count);
    cr_assert_eq(rig->render.reads_count, 1);
    rig_end(rig);
}

TIDY_TEST(display_presenter, what_is_too_large_to_show_is_not_shown)
{
    struct rig *rig = rig_begin();
    rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(0, 0, 16384, 16384));
    damage(rig, 0, rect(0, 0, 1, 1));
    turn(rig, 20);
    cr_assert_eq(rig->seen_count, rig->got_count);
    cr_assert_eq(rig->render.reads_count, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_failed_read_back_costs_that_picture_only)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    rig->render.read_fails = true;
    damage(rig, 0, rect(0, 0, 4, 4));
    turn(rig, 20);
    cr_assert_eq(rig->seen_count, rig->got_count);
    rig->render.read_fails = false;
    for (uint32_t i = 0; i < 2; i++) { /* and its slots are free */
        damage(rig, 0, rect(4, 4, 4, 4));
        turn(rig, 20);
        cr_assert(rect_is(rig->got[next(rig, VGD_LINK_UPDATE)].body.update.rect, 4, 4, 4, 4));
    }
    rig_end(rig);
}

/* Lines in the log while @run runs. */
static uint32_t lines_logged(void (*run)(struct rig *), struct rig *rig)
{
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    (void)fflush(stderr);
    (void)dup2(fileno(file), STDERR_FILENO);
    vgd_log_setup("test", VGD_LOG_DEBUG);
    run(rig);
    vgd_log_setup("test", VGD_LOG_ERROR);
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    rewind(file);
    uint32_t n = 0;
    for (int c; (c = fgetc(file)) != EOF;) {
        n += c == '\n';
    }
    (void)fclose(file);
    return n;
}

static void set_what_is_too_large(struct rig *rig)
{
    for (uint32_t i = 0; i < 1000; i++) {
        rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(0, 0, 16384, 16384));
    }
}

static void show_what_cannot_be_read(struct rig *rig)
{
    for (uint32_t i = 0; i < 60; i++) {
        rig->render.read_fails = i % 2 == 0;
        damage(rig, 0, rect(0, 0, 4, 4));
        turn(rig, 20);
        forget(rig);
    }
}

/* F09: a guest does both as often as it likes. */
TIDY_TEST(display_presenter, pictures_cannot_flood_the_log)
{
    struct rig *rig = rig_begin();
    uint32_t n = lines_logged(set_what_is_too_large, rig);
    cr_assert(n > 0 && n <= 20, "%u lines", n);
    rig_end(rig);
    rig = rig_begin();
    show_first(rig, 0, 5);
    n = lines_logged(show_what_cannot_be_read, rig);
    cr_assert(n > 0 && n <= 20, "%u lines", n);
    rig_end(rig);
}

/* --- Channels come and go. --- */

TIDY_TEST(display_presenter, without_a_channel_nothing_is_read)
{
    struct rig *rig = rig_begin_with(true, true);
    show(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 640, 480));
    rig->d->ops->scanout_disable(rig->d, 1);
    turn(rig, 40);
    cr_assert_eq(rig->got_count, 0);
    cr_assert_eq(rig->render.reads_count, 0);
    rig_end(rig);

    rig = rig_begin_with(false, true); /* no frame memory: whatever the supervisor says */
    set_state(rig, true, true, true);
    show(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 40);
    cr_assert_eq(rig->got_count, 0);
    cr_assert_eq(rig->render.reads_count, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_fresh_channel_is_told_everything)
{
    struct rig *rig = rig_begin();
    show_first(rig, 1, 5);
    set_state(rig, false, false, false);
    damage(rig, 1, rect(0, 0, 4, 4));
    turn(rig, 20);
    cr_assert_eq(rig->seen_count, rig->got_count);
    set_state(rig, true, false, true);
    bool off[N_SCANOUTS] = {false};
    while (rig->got[rig->seen_count].body.scanout.w_px == 0) {
        off[rig->got[next(rig, VGD_LINK_SCANOUT)].body.scanout.scanout_idx] = true;
    }
    cr_assert(off[0] && !off[1] && off[2] && off[3]);
    const struct vgd_link_scanout *s = &rig->got[next(rig, VGD_LINK_SCANOUT)].body.scanout;
    cr_assert(s->scanout_idx == 1 && s->w_px == 640);
    const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
    cr_assert(u->scanout_idx == 1 && rect_is(u->rect, 0, 0, 640, 480));
    /* The device says it all once more (vgd_gpu_redisplay): no second SCANOUT. */
    show(rig, 1, 5);
    damage(rig, 1, rect(0, 0, 640, 480));
    turn(rig, 30);
    (void)next(rig, VGD_LINK_UPDATE);
    cr_assert_eq(rig->seen_count, rig->got_count);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_slot_in_flight_stays_in_flight_over_channels)
{
    struct rig *rig = rig_begin();
    show_first(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 4, 4));
    turn(rig, 0);
    uint32_t slot = rig->got[next(rig, VGD_LINK_UPDATE)].body.update.slot_idx;
    set_state(rig, false, false, false);
    set_state(rig, true, false, true);
    for (; rig->seen_count < rig->got_count; rig->seen_count++) {
        cr_assert(rig->got[rig->seen_count].type != VGD_LINK_UPDATE ||
                  rig->got[rig->seen_count].body.update.slot_idx != slot);
    }
    send_number(rig, VGD_LINK_FRAME_DONE, slot);
    cr_assert_eq(rig->status, VGD_OK);
    send_number(rig, VGD_LINK_FRAME_DONE, slot);
    cr_assert_eq(rig->status, VGD_RANGE, "it is free");
    rig_end(rig);
}

/* --- dma-bufs. --- */

static struct rig *rig_begin_dmabuf(void)
{
    struct rig *rig = rig_begin_with(true, true);
    set_state(rig, true, true, true);
    forget(rig);
    return rig;
}

static off_t size_of(int fd)
{
    struct stat info;
    cr_assert_eq(fstat(fd, &info), 0);
    return info.st_size;
}

TIDY_TEST(display_presenter, a_dmabuf_is_passed_and_not_read)
{
    struct rig *rig = rig_begin_dmabuf();
    show(rig, 2, 5);
    damage(rig, 2, rect(1, 2, 3, 4));
    turn(rig, 0);
    uint32_t at = next(rig, VGD_LINK_DMABUF_SCANOUT);
    const struct vgd_link_dmabuf_scanout *s = &rig->got[at].body.dmabuf;
    cr_assert(s->scanout_idx == 2 && rect_is(s->rect, 0, 0, 640, 480));
    cr_assert(s->fd_w_px == 640 && s->fd_h_px == 480 && s->fd_stride_bytes == 2560);
    cr_assert(s->fourcc == 0x34325258 && s->modifier == 7 && s->y0_top == 1);
    cr_assert_eq(size_of(rig->got[at].fd), 4096 * 5);
    const struct vgd_link_damage *u = &rig->got[next(rig, VGD_LINK_DMABUF_UPDATE)].body.damage;
    cr_assert(u->scanout_idx == 2 && rect_is(u->rect, 0, 0, 640, 480));
    cr_assert_eq(rig->render.reads_count, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_blob_is_passed_as_a_dmabuf)
{
    struct rig *rig = rig_begin_dmabuf();
    struct vgd_image image = {
        .w_px = 640, .h_px = 480, .format = VGD_FORMAT_B8G8R8X8_UNORM, .stride_bytes = 2560};
    rig->d->ops->scanout_set(rig->d, 2, 5, &image, rect(0, 0, 640, 480));
    damage(rig, 2, rect(1, 2, 3, 4));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_DMABUF_SCANOUT);
    (void)next(rig, VGD_LINK_DMABUF_UPDATE);
    cr_assert(last_image_is(rig, &image));
    cr_assert_eq(rig->render.reads_count, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, one_dmabuf_update_is_outstanding)
{
    struct rig *rig = rig_begin_dmabuf();
    show(rig, 0, 5);
    show(rig, 1, 5);
    for (uint32_t i = 0; i < 4; i++) {
        damage(rig, 0, rect(10 * i, 0, 10, 10));
    }
    damage(rig, 1, rect(0, 0, 1, 1));
    turn(rig, 20);
    cr_assert_eq(count(rig, VGD_LINK_DMABUF_UPDATE), 2, "one for each scanout");
    forget(rig);
    send_number(rig, VGD_LINK_DMABUF_DONE, 0);
    const struct vgd_link_damage *u = &rig->got[next(rig, VGD_LINK_DMABUF_UPDATE)].body.damage;
    cr_assert(u->scanout_idx == 0 && rect_is(u->rect, 10, 0, 30, 10));
    send_number(rig, VGD_LINK_DMABUF_DONE, 0);
    cr_assert_eq(rig->seen_count, rig->got_count);
    send_number(rig, VGD_LINK_DMABUF_DONE, 0);
    cr_assert_eq(rig->status, VGD_RANGE, "none is outstanding");
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_flip_passes_the_other_dmabuf_at_once)
{
    struct rig *rig = rig_begin_dmabuf();
    show(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    forget(rig);
    show(rig, 0, 6); /* the update of 5 is unanswered: what the guest may draw to is 5 now */
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    cr_assert_eq(size_of(rig->got[next(rig, VGD_LINK_DMABUF_SCANOUT)].fd), 4096 * 6);
    cr_assert_eq(rig->seen_count, rig->got_count);
    send_number(rig, VGD_LINK_DMABUF_DONE, 0);
    (void)next(rig, VGD_LINK_DMABUF_UPDATE);
    show(rig, 0, 6); /* the same again: it is remembered */
    turn(rig, 0);
    cr_assert_eq(rig->seen_count, rig->got_count);
    rig_end(rig);
}

TIDY_TEST(display_presenter, what_no_dmabuf_can_show_is_read_back)
{
    static const struct {
        const char *name;
        bool exports, channel_takes;
        uint32_t x, y, offset_bytes;
    } cases[] = {
        {"no export", false, true, 0, 0, 0},          {"no channel for it", true, false, 0, 0, 0},
        {"part, x offset", true, true, 8, 0, 0},      {"part, y offset", true, true, 0, 8, 0},
        {"offset in memory", true, true, 0, 0, 4096},
    };
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *rig = rig_begin_with(true, true);
        rig->render.exports = cases[i].exports; /* info said yes: export_scanout may still say no */
        rig->render.export_offset_bytes = cases[i].offset_bytes;
        set_state(rig, true, cases[i].channel_takes, true);
        forget(rig);
        rig->d->ops->scanout_set(rig->d, 0, 5, NULL, rect(cases[i].x, cases[i].y, 320, 240));
        damage(rig, 0, rect(0, 0, 320, 240));
        turn(rig, 0);
        cr_assert_eq(count(rig, VGD_LINK_DMABUF_SCANOUT), 0, "%s", cases[i].name);
        (void)next(rig, VGD_LINK_SCANOUT);
        const struct vgd_link_update *u = &rig->got[next(rig, VGD_LINK_UPDATE)].body.update;
        assert_pixels(rig, u, 5, 0, cases[i].x, cases[i].y);
        rig_end(rig);
    }
}

TIDY_TEST(display_presenter, from_dmabuf_to_pixels_and_back)
{
    struct rig *rig = rig_begin_dmabuf();
    show(rig, 0, 5);
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    forget(rig);
    rig->render.exports = false;
    show(rig, 0, 6);
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_SCANOUT);
    (void)next(rig, VGD_LINK_UPDATE);
    rig->render.exports = true;
    show(rig, 0, 7);
    damage(rig, 0, rect(0, 0, 640, 480));
    turn(rig, 0);
    (void)next(rig, VGD_LINK_DMABUF_SCANOUT);
    cr_assert_eq(rig->seen_count, rig->got_count, "the first update is still unanswered");
    send_number(rig, VGD_LINK_DMABUF_DONE, 0);
    (void)next(rig, VGD_LINK_DMABUF_UPDATE);
    rig_end(rig);
}

/* --- Cursor. --- */

TIDY_TEST(display_presenter, cursor)
{
    struct rig *rig = rig_begin();
    static uint8_t picture[VGD_CURSOR_BYTES];
    memset(picture, 0x77, sizeof(picture));
    struct vgd_cursor_pos pos = {.scanout_id = 1, .x_px = 10, .y_px = 20};
    rig->d->ops->cursor_update(rig->d, pos, 3, 4, picture);
    turn(rig, 10);
    uint32_t at = next(rig, VGD_LINK_CURSOR_UPDATE);
    cr_assert(rig->got[at].body.pos.scanout_idx == 1 && rig->got[at].body.pos.x_px == 10);
    cr_assert(rig->got[at].cursor_pixel == 0x77 && rig->got[at].body.pos.hide == 0);

    for (uint32_t i = 0; i < 1000; i++) {
        pos.x_px = i;
        rig->d->ops->cursor_move(rig->d, pos);
    }
    turn(rig, 10);
    cr_assert_leq(rig->got_count - rig->seen_count, 30, "a thousand moves at once are a few");
    cr_assert_eq(rig->got[rig->got_count - 1].body.pos.x_px, 999, "and the last one counts");
    forget(rig);

    rig->d->ops->cursor_update(rig->d, pos, 0, 0, NULL);
    turn(rig, 10);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_CURSOR_MOVE)].body.pos.hide, 1);
    rig->d->ops->cursor_move(rig->d, pos);
    turn(rig, 10);
    cr_assert_eq(rig->got[next(rig, VGD_LINK_CURSOR_MOVE)].body.pos.hide, 1, "stays hidden");
    rig_end(rig);
}

/* --- Questions. --- */

struct answers {
    uint32_t infos, edids;
    struct vgd_resp_display_info info;
    uint8_t edid[1024];
    uint32_t edid_bytes;
    struct rig *ask_again; /* from inside the answer */
};

static void got_info(void *user, const struct vgd_resp_display_info *info)
{
    struct answers *a = user;
    a->infos++;
    a->info = *info;
    if (a->ask_again != NULL) {
        struct rig *rig = a->ask_again;
        a->ask_again = NULL;
        rig->d->ops->get_info(rig->d, got_info, a);
    }
}

static void got_edid(void *user, const uint8_t *edid, uint32_t size_bytes)
{
    struct answers *a = user;
    a->edids++;
    a->edid_bytes = size_bytes;
    if (size_bytes > 0) {
        memcpy(a->edid, edid, size_bytes);
    }
}

static bool edid_is_sound(const struct answers *a)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < a->edid_bytes; i++) {
        sum = (uint8_t)(sum + a->edid[i]);
    }
    return a->edid_bytes == VGD_EDID_BYTES && sum == 0 && a->edid[1] == 0xff;
}

TIDY_TEST(display_presenter, without_a_channel_questions_are_answered_here)
{
    struct rig *rig = rig_begin_with(true, false);
    struct answers a = {0};
    rig->d->ops->get_info(rig->d, got_info, &a);
    cr_assert_eq(a.infos, 1);
    cr_assert_eq(a.info.pmodes[0].enabled, 1);
    cr_assert(rect_is(a.info.pmodes[0].rect, 0, 0, 1280, 800));
    for (uint32_t i = 1; i < VGD_MAX_SCANOUTS; i++) {
        cr_assert_eq(a.info.pmodes[i].enabled, 0);
    }
    rig->d->ops->get_edid(rig->d, 1, got_edid, &a);
    cr_assert(a.edids == 1 && edid_is_sound(&a));
    rig->d->ops->get_edid(rig->d, N_SCANOUTS, got_edid, &a);
    cr_assert(a.edids == 2 && a.edid_bytes == 0);
    rig->d->ops->get_edid(rig->d, UINT32_MAX, got_edid, &a);
    cr_assert(a.edids == 3 && a.edid_bytes == 0);
    turn(rig, 0);
    cr_assert_eq(rig->got_count, 0);
    rig_end(rig);
}

TIDY_TEST(display_presenter, questions_are_forwarded_and_answers_find_theirs)
{
    struct rig *rig = rig_begin();
    struct answers a = {0}, b = {0}, c = {0};
    rig->d->ops->get_info(rig->d, got_info, &a);
    rig->d->ops->get_edid(rig->d, 2, got_edid, &b);
    rig->d->ops->get_info(rig->d, got_info, &c);
    rig->d->ops->get_edid(rig->d, N_SCANOUTS, got_edid, &c);
    cr_assert(c.edids == 1 && c.edid_bytes == 0, "no such scanout: answered here");
    turn(rig, 0);
    uint32_t id_a = rig->got[next(rig, VGD_LINK_GET_INFO)].body.question.question;
    const struct vgd_link_question *q = &rig->got[next(rig, VGD_LINK_GET_EDID)].body.question;
    uint32_t id_b = q->question;
    cr_assert_eq(q->scanout_idx, 2);
    uint32_t id_c = rig->got[next(rig, VGD_LINK_GET_INFO)].body.question.question;
    cr_assert_eq(a.infos + b.edids + c.infos, 0);

    struct vgd_link_info_reply info = {.question = id_c};
    info.info.pmodes[1].enabled = 1;
    info.info.pmodes[1].rect = rect(0, 0, 800, 600);
    info.info.pmodes[N_SCANOUTS].enabled = 1; /* the guest knows of no such scanout */
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &info, sizeof(info));
    cr_assert_eq(rig->status, VGD_OK);
    cr_assert(c.infos == 1 && c.info.pmodes[1].rect.w_px == 800);
    cr_assert_eq(c.info.pmodes[N_SCANOUTS].enabled, 0);
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &info, sizeof(info));
    cr_assert(rig->status == VGD_OK && c.infos == 1, "a second answer is dropped");

    struct vgd_link_edid_reply edid = {.question = id_b, .size_bytes = 256, .edid = {1, 2, 3}};
    send_to_worker(rig, VGD_LINK_EDID_REPLY, &edid, sizeof(edid));
    cr_assert(b.edids == 1 && b.edid_bytes == 256 && b.edid[2] == 3);
    info.question = id_a;
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &info, sizeof(info));
    cr_assert_eq(a.infos, 1);
    rig_end(rig);
}

TIDY_TEST(display_presenter, answers_that_lie_are_refused_and_the_guest_is_answered)
{
    struct rig *rig = rig_begin();
    struct answers a = {0}, b = {0}, c = {0};
    rig->d->ops->get_info(rig->d, got_info, &a);
    rig->d->ops->get_edid(rig->d, 0, got_edid, &b);
    rig->d->ops->get_edid(rig->d, 0, got_edid, &c);
    turn(rig, 0);
    struct vgd_link_edid_reply edid = {
        .question = rig->got[next(rig, VGD_LINK_GET_INFO)].body.question.question};
    send_to_worker(rig, VGD_LINK_EDID_REPLY, &edid, sizeof(edid));
    cr_assert(rig->status == VGD_RANGE && a.infos == 1);
    struct vgd_link_info_reply info = {
        .question = rig->got[next(rig, VGD_LINK_GET_EDID)].body.question.question};
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &info, sizeof(info));
    cr_assert(rig->status == VGD_RANGE && b.edids == 1 && edid_is_sound(&b));
    edid.question = rig->got[next(rig, VGD_LINK_GET_EDID)].body.question.question;
    edid.size_bytes = sizeof(edid.edid) + 1;
    send_to_worker(rig, VGD_LINK_EDID_REPLY, &edid, sizeof(edid));
    cr_assert(rig->status == VGD_RANGE && c.edids == 1 && edid_is_sound(&c));
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_question_that_is_not_answered_has_a_deadline)
{
    struct rig *rig = rig_begin();
    struct answers a = {.ask_again = rig}, b = {0};
    uint64_t start_ns = vgd_now_ns();
    rig->d->ops->get_info(rig->d, got_info, &a);
    rig->d->ops->get_edid(rig->d, 1, got_edid, &b);
    while (b.edids == 0) {
        vgd_loop_turn(rig->loop, 100);
    }
    uint64_t took_ms = (vgd_now_ns() - start_ns) / MS;
    cr_assert(took_ms >= VGD_DISPLAY_REPLY_MS && took_ms < VGD_DISPLAY_REPLY_MS + 4000);
    cr_assert(a.infos == 1 && a.info.pmodes[0].rect.w_px == 1280, "asked again: not answered yet");
    cr_assert(edid_is_sound(&b));
    struct vgd_link_info_reply late = {
        .question = rig->got[next(rig, VGD_LINK_GET_INFO)].body.question.question};
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &late, sizeof(late));
    cr_assert(rig->status == VGD_OK && a.infos == 1);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_lost_channel_answers_what_was_asked)
{
    struct rig *rig = rig_begin();
    struct answers a = {0}, b = {.ask_again = rig};
    rig->d->ops->get_edid(rig->d, 1, got_edid, &a);
    rig->d->ops->get_info(rig->d, got_info, &b);
    turn(rig, 0);
    set_state(rig, false, false, false);
    cr_assert(a.edids == 1 && edid_is_sound(&a));
    cr_assert_eq(b.infos, 2, "what is asked from inside is answered too");
    rig_end(rig);
}

TIDY_TEST(display_presenter, cancelled_questions_are_never_answered)
{
    struct rig *rig = rig_begin();
    struct answers a = {0};
    for (uint32_t i = 0; i < 3; i++) {
        rig->d->ops->get_info(rig->d, got_info, &a);
        rig->d->ops->get_edid(rig->d, 0, got_edid, &a);
    }
    rig->d->ops->cancel(rig->d);
    turn(rig, 0);
    struct vgd_link_info_reply info = {
        .question = rig->got[next(rig, VGD_LINK_GET_INFO)].body.question.question};
    send_to_worker(rig, VGD_LINK_INFO_REPLY, &info, sizeof(info));
    set_state(rig, false, false, false);
    cr_assert_eq(a.infos + a.edids, 0);
    rig->d->ops->get_info(rig->d, got_info, &a);
    cr_assert_eq(a.infos, 1, "and the list still works");
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_flood_of_questions_is_bounded)
{
    struct rig *rig = rig_begin();
    struct answers a = {0};
    for (uint32_t i = 0; i < 2000; i++) {
        rig->d->ops->get_edid(rig->d, 0, got_edid, &a);
        forget(rig);
        rig->got_count = rig->seen_count = 0;
    }
    cr_assert_geq(a.edids, 2000 - 1024, "the rest is answered here");
    rig->d->ops->cancel(rig->d);
    rig_end(rig);
}

/* --- Messages that make no sense. --- */

/* A guest may ask before the display has said what it can: its answer counts, not ours. */
TIDY_TEST(display_presenter, questions_wait_for_a_display_that_is_coming)
{
    struct rig *rig = rig_begin_with(true, false);
    struct answers a = {0};
    struct vgd_link_display_state state = {.pending = 1};
    send_to_worker(rig, VGD_LINK_DISPLAY_STATE, &state, sizeof(state));
    cr_assert_eq(rig->status, VGD_OK);
    rig->d->ops->get_info(rig->d, got_info, &a);
    rig->d->ops->get_edid(rig->d, 1, got_edid, &a);
    turn(rig, 0);
    cr_assert_eq(a.infos + a.edids, 0, "not answered here");
    cr_assert_eq(rig->got_count, 0, "and not asked there yet");
    set_state(rig, true, false, true);
    turn(rig, 0);
    (void)next(rig, VGD_LINK_GET_INFO);
    (void)next(rig, VGD_LINK_GET_EDID);
    set_state(rig, false, false, false);
    cr_assert(a.infos == 1 && a.edids == 1, "the display went away: answered here");
    rig_end(rig);
}

TIDY_TEST(display_presenter, nonsense_is_refused)
{
    static const struct {
        const char *name;
        enum vgd_link_type type;
        size_t n_bytes;
        uint64_t value;
    } cases[] = {
        {"a slot that is free", VGD_LINK_FRAME_DONE, 8, 0},
        {"no such slot", VGD_LINK_FRAME_DONE, 8, VGD_FRAME_SLOTS_COUNT},
        {"slot 2^32", VGD_LINK_FRAME_DONE, 8, 1ull << 32},
        {"slot all ones", VGD_LINK_FRAME_DONE, 8, UINT64_MAX},
        {"no update", VGD_LINK_DMABUF_DONE, 8, 0},
        {"no such scanout", VGD_LINK_DMABUF_DONE, 8, N_SCANOUTS},
        {"scanout all ones", VGD_LINK_DMABUF_DONE, 8, UINT64_MAX},
        {"short", VGD_LINK_FRAME_DONE, 7, 0},
        {"empty", VGD_LINK_DISPLAY_STATE, 0, 0},
        {"short state", VGD_LINK_DISPLAY_STATE, 7, 0},
        {"short info", VGD_LINK_INFO_REPLY, 8, 0},
        {"not for us", VGD_LINK_RESET, 8, 0},
        {"our own kind", VGD_LINK_UPDATE, 8, 0},
    };
    struct rig *rig = rig_begin();
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        send_to_worker(rig, cases[i].type, &cases[i].value, cases[i].n_bytes);
        cr_assert_eq(rig->status, VGD_RANGE, "%s", cases[i].name);
    }
    rig_end(rig);
}

/* --- Snapshots. --- */

static uint32_t ask_snapshot(struct rig *rig, uint32_t idx)
{
    struct vgd_link_question q = {.question = 77 + idx, .scanout_idx = idx};
    send_to_worker(rig, VGD_LINK_SNAPSHOT, &q, sizeof(q));
    cr_assert_eq(rig->status, VGD_OK);
    uint32_t at = next(rig, VGD_LINK_SNAPSHOT_REPLY);
    cr_assert_eq(rig->got[at].body.snapshot.question, 77 + idx);
    return at;
}

TIDY_TEST(display_presenter, a_snapshot_is_the_whole_scanout)
{
    struct rig *rig = rig_begin_with(true, true); /* without a channel too, and with dma-bufs */
    rig->d->ops->scanout_set(rig->d, 1, 5, NULL, rect(10, 20, 30, 40));
    uint32_t at = ask_snapshot(rig, 1);
    const struct vgd_link_snapshot_reply *reply = &rig->got[at].body.snapshot;
    cr_assert(reply->status == VGD_OK && reply->w_px == 30 && reply->h_px == 40);
    cr_assert_eq(size_of(rig->got[at].fd), 30 * 40 * 4);
    cr_assert(fcntl(rig->got[at].fd, F_GET_SEALS) & F_SEAL_SHRINK);
    uint8_t *pixels = mmap(NULL, 30 * 40 * 4, PROT_READ, MAP_SHARED, rig->got[at].fd, 0);
    cr_assert_neq(pixels, MAP_FAILED);
    for (uint32_t y = 0; y < 40; y++) {
        for (uint32_t x = 0; x < 30; x++) {
            uint8_t want[4];
            pixel_of(0, 5, 10 + x, 20 + y, want);
            cr_assert_arr_eq(pixels + ((size_t)y * 30 + x) * 4, want, 4);
        }
    }
    (void)munmap(pixels, 30 * 40 * 4);
    rig_end(rig);
}

TIDY_TEST(display_presenter, a_snapshot_of_nothing_says_so)
{
    struct rig *rig = rig_begin();
    static const uint32_t none[] = {0, N_SCANOUTS, UINT32_MAX};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t at = ask_snapshot(rig, none[i]);
        cr_assert_eq(rig->got[at].body.snapshot.status, VGD_NO_SCANOUT);
        cr_assert_eq(rig->got[at].fd, -1);
    }
    show(rig, 0, 5);
    turn(rig, 0);
    forget(rig);
    rig->render.read_fails = true;
    uint32_t at = ask_snapshot(rig, 0);
    cr_assert_eq(rig->got[at].body.snapshot.status, VGD_HOST_FAILED);
    cr_assert_eq(rig->got[at].fd, -1);
    rig_end(rig);
}
