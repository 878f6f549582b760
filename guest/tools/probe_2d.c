/* SPDX-License-Identifier: MIT */
/* 2D commands with their pictures, cursor, display questions. */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "probe.h"

#define B8G8R8X8 VGD_FORMAT_B8G8R8X8_UNORM

static struct vgd_rect rect_at(uint32_t x_px, uint32_t y_px, uint32_t w_px, uint32_t h_px)
{
    return (struct vgd_rect){.x_px = x_px, .y_px = y_px, .w_px = w_px, .h_px = h_px};
}

static void display_info(struct probe *p)
{
    struct vgd_resp_display_info info;
    PROBE_REQUIRE(p, probe_resp(p, "GET_DISPLAY_INFO", vgd_guest_get_display_info(p->gpu, &info),
                                VGD_RESP_OK_DISPLAY_INFO));
    PROBE_CHECK(p, info.pmodes[0].enabled != 0);
    PROBE_CHECK(p, info.pmodes[0].rect.w_px == 1366 && info.pmodes[0].rect.h_px == 768);
    for (uint32_t i = 1; i < VGD_MAX_SCANOUTS; i++) {
        PROBE_CHECK(p, info.pmodes[i].enabled == 0);
    }
    /* The VMM's window changes: the guest asks again. */
    vgd_guest_display_resize(vgd_guest_gpu_display(p->gpu), 0, 1024, 600);
    PROBE_REQUIRE(p, probe_resp(p, "GET_DISPLAY_INFO", vgd_guest_get_display_info(p->gpu, &info),
                                VGD_RESP_OK_DISPLAY_INFO));
    PROBE_CHECK(p, info.pmodes[0].rect.w_px == 1024 && info.pmodes[0].rect.h_px == 600);
}

static void edid(struct probe *p)
{
    struct vgd_resp_edid got;
    uint8_t want[128];
    for (uint32_t i = 0; i < 2; i++) {
        vgd_guest_display_edid(i, want);
        PROBE_REQUIRE(
            p, probe_resp(p, "GET_EDID", vgd_guest_get_edid(p->gpu, i, &got), VGD_RESP_OK_EDID));
        PROBE_CHECK(p, got.size_bytes >= 128);
        if (memcmp(got.edid, want, 128) != 0) {
            probe_fail(p, "the EDID of scanout %u is not the display's", i);
        }
    }
}

static void edid_bad_scanout(struct probe *p)
{
    /* QEMU never answers these on the display channel: the backend must not hang on it. */
    static const uint32_t ids[] = {1, 15, 16, 0xffffffff};
    struct vgd_resp_edid got;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        uint32_t type = vgd_guest_get_edid(p->gpu, ids[i], &got);
        if (type == 0) {
            probe_fail(p, "GET_EDID of scanout 0x%x is never answered", ids[i]);
            return;
        }
        if (ids[i] >= VGD_MAX_SCANOUTS) {
            probe_err(p, "GET_EDID of a scanout outside the device", type);
        }
    }
    probe_goes_on(p);
}

static void picture(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 640, 480, 1, 1));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0}));
    probe_image_destroy(p, &img);
}

static void scattered_backing(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 501, 303, 101, 2));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    /* A part of it, starting in the middle of an entry. */
    probe_image_paint(p, &img, 3);
    struct vgd_rect part = rect_at(77, 33, 211, 99);
    if (probe_image_show(p, &img, part)) {
        probe_expect_picture(p, 0, &img, part);
    }
    probe_image_destroy(p, &img);
}

static void damage(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 640, 480, 1, 4));
    uint32_t *expected = malloc((size_t)640 * 480 * 4);
    PROBE_REQUIRE(p, expected != NULL);
    memcpy(expected, img.pixels, (size_t)640 * 480 * 4);
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img)) &&
        probe_expect_picture(p, 0, &img, probe_whole(&img))) {
        /* The whole backing changes; only a rectangle is transferred. The rest must stay. */
        probe_image_paint(p, &img, 5);
        struct vgd_rect part = rect_at(100, 200, 64, 64);
        for (uint32_t y = 200; y < 264; y++) {
            memcpy(expected + (size_t)y * 640 + 100, img.pixels + (size_t)y * 640 + 100, 64 * 4);
        }
        PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, part, (200 * 640 + 100) * 4));
        struct vgd_guest_display_counters before;
        struct vgd_guest_display_counters after;
        vgd_guest_gpu_settle(p->gpu, 30);
        vgd_guest_display_counters(vgd_guest_gpu_display(p->gpu), &before);
        PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, part));
        probe_expect_picture(p, 0, &img, part);
        vgd_guest_display_counters(vgd_guest_gpu_display(p->gpu), &after);
        PROBE_CHECK(p, after.pixel_bytes - before.pixel_bytes <= 64 * 64 * 4);
        PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
        memcpy(img.pixels, expected, (size_t)640 * 480 * 4);
        vgd_guest_gpu_settle(p->gpu, 30);
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    free(expected);
    probe_image_destroy(p, &img);
}

static void transfer_offset(struct probe *p)
{
    /* The offset names the first pixel of the rectangle; the stride is the resource's. */
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 240, 1, 6));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        /* Pixels of 10,10 go to 200,100. */
        PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, rect_at(200, 100, 50, 60),
                                          (10 * 320 + 10) * 4));
        for (uint32_t y = 0; y < 60; y++) {
            for (uint32_t x = 0; x < 50; x++) {
                img.pixels[(100 + y) * 320 + 200 + x] = probe_pixel(6, 10 + x, 10 + y);
            }
        }
        PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void formats(struct probe *p)
{
    /* Where red, green and blue are in memory. */
    static const struct {
        uint32_t format;
        uint8_t r, g, b;
    } table[] = {
        {VGD_FORMAT_B8G8R8A8_UNORM, 2, 1, 0}, {VGD_FORMAT_B8G8R8X8_UNORM, 2, 1, 0},
        {VGD_FORMAT_A8R8G8B8_UNORM, 1, 2, 3}, {VGD_FORMAT_X8R8G8B8_UNORM, 1, 2, 3},
        {VGD_FORMAT_R8G8B8A8_UNORM, 0, 1, 2}, {VGD_FORMAT_X8B8G8R8_UNORM, 3, 2, 1},
        {VGD_FORMAT_A8B8G8R8_UNORM, 3, 2, 1}, {VGD_FORMAT_R8G8B8X8_UNORM, 0, 1, 2},
    };
    for (size_t f = 0; f < sizeof(table) / sizeof(table[0]); f++) {
        struct probe_image img;
        bool failed_before = p->failed;
        if (probe_image_create(p, &img, table[f].format, 64, 32, 1, 7)) {
            uint8_t *bytes = calloc((size_t)64 * 32, 4);
            PROBE_REQUIRE(p, bytes != NULL);
            for (uint32_t i = 0; i < 64 * 32; i++) {
                memset(bytes + (size_t)i * 4, 0xff, 4); /* alpha is full */
                bytes[i * 4 + table[f].r] = (uint8_t)(img.pixels[i] >> 16);
                bytes[i * 4 + table[f].g] = (uint8_t)(img.pixels[i] >> 8);
                bytes[i * 4 + table[f].b] = (uint8_t)img.pixels[i];
            }
            vgd_guest_backing_write(p->gpu, &img.backing, 0, bytes, (uint64_t)64 * 32 * 4);
            free(bytes);
            PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
            if (probe_image_show(p, &img, probe_whole(&img))) {
                probe_expect_picture(p, 0, &img, probe_whole(&img));
            }
        }
        if (img.pixels != NULL) {
            probe_image_destroy(p, &img);
        }
        if (p->failed && !failed_before) {
            probe_note(p, "the first format with a failure: %s", vgd_format_name(table[f].format));
        }
    }
}

static void scanout_part(struct probe *p)
{
    /* A scanout shows a part of a larger resource: everything moves by its corner. */
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 800, 600, 1, 8));
    struct vgd_rect part = rect_at(100, 50, 320, 200);
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, part));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        struct probe_image shown = img;
        shown.w_px = 320;
        shown.h_px = 200;
        shown.pixels = calloc((size_t)320 * 200, 4);
        PROBE_REQUIRE(p, shown.pixels != NULL);
        for (uint32_t y = 0; y < 200; y++) {
            memcpy(shown.pixels + (size_t)y * 320, img.pixels + (size_t)(50 + y) * 800 + 100,
                   320 * 4);
        }
        probe_expect_picture(p, 0, &shown, rect_at(0, 0, 320, 200));
        free(shown.pixels);
    }
    probe_image_destroy(p, &img);
}

static bool scanout_is(struct probe *p, uint32_t idx, bool wanted)
{
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(2000000000);
    uint32_t w_px;
    uint32_t h_px;
    while (vgd_guest_display_scanout(vgd_guest_gpu_display(p->gpu), idx, &w_px, &h_px) != wanted) {
        if (vgd_now_ns() > deadline_ns) {
            return false;
        }
        vgd_guest_gpu_turn(p->gpu, 5);
    }
    return true;
}

static void scanout_off_and_on(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 9));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0}));
    PROBE_CHECK(p, scanout_is(p, 0, false));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    probe_image_destroy(p, &img);
}

static void scanout_resize(struct probe *p)
{
    static const uint32_t sizes[][2] = {{640, 480}, {1920, 1080}, {17, 3}, {1, 1}, {800, 600}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct probe_image img;
        PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, sizes[i][0], sizes[i][1], 1,
                                            (uint32_t)i + 10));
        PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
        if (probe_image_show(p, &img, probe_whole(&img))) {
            probe_expect_picture(p, 0, &img, probe_whole(&img));
        }
        probe_image_destroy(p, &img);
    }
}

static void two_scanouts(struct probe *p)
{
    /* Mirrored: one resource on two scanouts. Then one of its own each. */
    struct probe_image a;
    struct probe_image b;
    PROBE_REQUIRE(p, probe_image_create(p, &a, B8G8R8X8, 300, 200, 1, 20));
    PROBE_REQUIRE(p, probe_image_create(p, &b, B8G8R8X8, 200, 300, 1, 21));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, a.res_id, probe_whole(&a)));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 1, a.res_id, probe_whole(&a)));
    if (probe_image_show(p, &a, probe_whole(&a))) {
        probe_expect_picture(p, 0, &a, probe_whole(&a));
        probe_expect_picture(p, 1, &a, probe_whole(&a));
    }
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 1, b.res_id, probe_whole(&b)));
    if (probe_image_show(p, &b, probe_whole(&b))) {
        probe_expect_picture(p, 1, &b, probe_whole(&b));
        probe_expect_picture(p, 0, &a, probe_whole(&a));
    }
    probe_image_destroy(p, &a);
    probe_image_destroy(p, &b);
}

static void unref_while_shown(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 30));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    probe_image_destroy(p, &img);
    probe_goes_on(p);
    /* The id is free again. */
    p->next_id--;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 100, 100, 1, 31));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void flush_unshown(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 32));
    struct vgd_guest_display_counters before;
    struct vgd_guest_display_counters after;
    vgd_guest_gpu_settle(p->gpu, 20);
    vgd_guest_display_counters(vgd_guest_gpu_display(p->gpu), &before);
    (void)probe_image_show(p, &img, probe_whole(&img));
    vgd_guest_gpu_settle(p->gpu, 20);
    vgd_guest_display_counters(vgd_guest_gpu_display(p->gpu), &after);
    PROBE_CHECK(p, before.messages[VGD_DISP_UPDATE] == after.messages[VGD_DISP_UPDATE]);
    probe_image_destroy(p, &img);
}

static void other_backing(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 33));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    PROBE_OK(p, vgd_guest_detach(p->gpu, img.res_id));
    /* The pixels stay, with no backing behind them. */
    PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    struct vgd_guest_backing old = img.backing;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, (uint64_t)320 * 200 * 4, 7, &img.backing));
    PROBE_OK(p, vgd_guest_attach(p->gpu, img.res_id, img.backing.entries, img.backing.n_entries));
    probe_image_paint(p, &img, 34);
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    vgd_guest_backing_destroy(p->gpu, &old);
    probe_image_destroy(p, &img);
}

static void many_resources(struct probe *p)
{
    for (uint32_t i = 1; i <= 300; i++) {
        if (vgd_guest_create_2d(p->gpu, 100000 + i, B8G8R8X8, 16 + i % 7, 16) !=
            VGD_RESP_OK_NODATA) {
            probe_fail(p, "resource %u of 300 cannot be created", i);
            break;
        }
    }
    for (uint32_t i = 300; i >= 1; i--) {
        if (vgd_guest_unref(p->gpu, 100000 + i) != VGD_RESP_OK_NODATA) {
            probe_fail(p, "resource %u of 300 cannot be unreferenced", i);
            break;
        }
    }
}

static void new_resource_is_black(struct probe *p)
{
    /* Old host memory must not reach a guest: fill, free, create again, show untransferred. */
    struct probe_image img;
    for (uint32_t i = 0; i < 4; i++) {
        PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 640, 480, 1, 40 + i));
        PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
        probe_image_destroy(p, &img);
    }
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 640, 480, 1, 50));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
    vgd_guest_gpu_settle(p->gpu, 50);
    memset(img.pixels, 0, (size_t)640 * 480 * 4);
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    probe_image_destroy(p, &img);
}

static bool cursor_becomes(struct probe *p, uint32_t x_px, uint32_t y_px, bool visible,
                           struct vgd_guest_cursor *out)
{
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(2000000000);
    for (;;) {
        vgd_guest_display_cursor(vgd_guest_gpu_display(p->gpu), out);
        if (out->x_px == x_px && out->y_px == y_px && out->visible == visible) {
            return true;
        }
        if (vgd_now_ns() > deadline_ns) {
            probe_fail(p, "cursor is %s at %u,%u, not %s at %u,%u",
                       out->visible ? "visible" : "hidden", out->x_px, out->y_px,
                       visible ? "visible" : "hidden", x_px, y_px);
            return false;
        }
        vgd_guest_gpu_turn(p->gpu, 5);
    }
}

static void cursor(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64, 1, 60));
    for (uint32_t i = 0; i < 64 * 64; i++) {
        img.pixels[i] |= (i % 5) * 0x33000000u;
    }
    vgd_guest_backing_write(p->gpu, &img.backing, 0, img.pixels, 64 * 64 * 4);
    PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
    struct vgd_cmd_update_cursor update = {
        .pos = {.scanout_id = 0, .x_px = 111, .y_px = 222},
        .resource_id = img.res_id,
        .hot_x_px = 3,
        .hot_y_px = 5,
    };
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    struct vgd_guest_cursor seen;
    if (cursor_becomes(p, 111, 222, true, &seen)) {
        PROBE_CHECK(p, seen.hot_x_px == 3 && seen.hot_y_px == 5);
        PROBE_CHECK(p, memcmp(seen.pixels, img.pixels, 64 * 64 * 4) == 0);
    }
    for (uint32_t i = 0; i < 50; i++) {
        update.pos.x_px = i;
        update.pos.y_px = 2 * i;
        PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_MOVE_CURSOR, &update) == 1);
    }
    (void)cursor_becomes(p, 49, 98, true, &seen);
    probe_image_destroy(p, &img);
}

static void cursor_hide(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64, 1, 61));
    PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
    struct vgd_cmd_update_cursor update = {.pos = {.x_px = 7, .y_px = 8},
                                           .resource_id = img.res_id};
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    struct vgd_guest_cursor seen;
    (void)cursor_becomes(p, 7, 8, true, &seen);
    /* Linux hides it with an update to resource 0; a blank picture hides as well. */
    update.resource_id = 0;
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(1000000000);
    bool hidden = false;
    while (!hidden && vgd_now_ns() < deadline_ns) {
        vgd_guest_display_cursor(vgd_guest_gpu_display(p->gpu), &seen);
        hidden = true;
        for (uint32_t i = 0; i < 64 * 64 && seen.visible; i++) {
            hidden = hidden && seen.pixels[i] >> 24 == 0;
        }
        vgd_guest_gpu_turn(p->gpu, 5);
    }
    PROBE_CHECK(p, hidden);
    probe_image_destroy(p, &img);
}

static void cursor_bad(struct probe *p)
{
    /* The queue has no responses: what is wrong is dropped, the chain comes back, and the next
     * one works. */
    struct probe_image small;
    struct probe_image good;
    PROBE_REQUIRE(p, probe_image_create(p, &small, VGD_FORMAT_B8G8R8A8_UNORM, 32, 32, 1, 62));
    PROBE_REQUIRE(p, probe_image_create(p, &good, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64, 1, 63));
    PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, good.res_id, probe_whole(&good), 0));
    struct vgd_cmd_update_cursor bad[] = {
        {.resource_id = 987654},
        {.resource_id = small.res_id},
        {.resource_id = good.res_id, .pos = {.scanout_id = 16}},
        {.resource_id = good.res_id, .pos = {.scanout_id = 0xffffffff}},
        {.resource_id = good.res_id, .hot_x_px = 0xffffffff, .hot_y_px = 64},
        {.resource_id = good.res_id, .pos = {.x_px = 0xffffffff, .y_px = 0x80000000}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &bad[i]) == 1);
        PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_MOVE_CURSOR, &bad[i]) == 1);
    }
    /* A control command, an unknown one and a short one. */
    struct vgd_guest_request req = {.queue = VGD_GUEST_CURSOR,
                                    .hdr = {.type = VGD_CMD_GET_DISPLAY_INFO}};
    PROBE_REQUIRE(p, vgd_guest_gpu_call(p->gpu, &req, NULL, 0) == 1);
    req.hdr.type = 0x3ff;
    PROBE_REQUIRE(p, vgd_guest_gpu_call(p->gpu, &req, NULL, 0) == 1);
    req.cut_bytes = 5;
    PROBE_REQUIRE(p, vgd_guest_gpu_call(p->gpu, &req, NULL, 0) == 1);

    struct vgd_cmd_update_cursor ok = {.resource_id = good.res_id, .pos = {.x_px = 1, .y_px = 2}};
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &ok) == 1);
    struct vgd_guest_cursor seen;
    if (cursor_becomes(p, 1, 2, true, &seen)) {
        PROBE_CHECK(p, memcmp(seen.pixels, good.pixels, 64 * 64 * 4) == 0);
    }
    probe_image_destroy(p, &small);
    probe_image_destroy(p, &good);
}

static void cursor_resource_freed(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64, 1, 64));
    PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
    struct vgd_cmd_update_cursor update = {.resource_id = img.res_id};
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    probe_image_destroy(p, &img);
    update.pos.x_px = 9;
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_MOVE_CURSOR, &update) == 1);
    PROBE_REQUIRE(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    probe_goes_on(p);
}

static void display_stalled(struct probe *p)
{
    /* The VMM stops reading its display: commands go on all the same, and the last picture comes
     * when it reads again. */
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 1024, 768, 1, 70));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    vgd_guest_display_stall(vgd_guest_gpu_display(p->gpu), true);
    uint64_t worst_ns = 0;
    bool answered = true;
    for (uint32_t i = 0; i < 30 && answered; i++) {
        probe_image_paint(p, &img, 71 + i);
        uint64_t start_ns = vgd_now_ns();
        answered = vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0) != 0 &&
                   vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)) != 0;
        uint64_t took_ns = vgd_now_ns() - start_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
    }
    vgd_guest_display_stall(vgd_guest_gpu_display(p->gpu), false);
    if (!answered || worst_ns > UINT64_C(1000000000)) {
        probe_fail(p, "a command waited %llu ms while the display was not read",
                   (unsigned long long)(worst_ns / 1000000));
        return;
    }
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    probe_image_destroy(p, &img);
}

static void display_stalled_reset(struct probe *p)
{
    /* The guest is reset while pictures wait for a display that is not read, and one is half sent.
     */
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 1024, 768, 1, 72));
    for (uint32_t round = 0; round < 3; round++) {
        PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
        vgd_guest_display_stall(vgd_guest_gpu_display(p->gpu), true);
        for (uint32_t i = 0; i < 10; i++) {
            PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
            PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
        }
        uint64_t start_ns = vgd_now_ns();
        PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
        uint64_t took_ms = (vgd_now_ns() - start_ns) / 1000000;
        if (took_ms > 2000) {
            probe_fail(p, "the reset took %llu ms", (unsigned long long)took_ms);
        }
        vgd_guest_display_stall(vgd_guest_gpu_display(p->gpu), false);
        PROBE_OK(p, vgd_guest_create_2d(p->gpu, img.res_id, B8G8R8X8, 1024, 768));
        PROBE_OK(p,
                 vgd_guest_attach(p->gpu, img.res_id, img.backing.entries, img.backing.n_entries));
        PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
        probe_image_paint(p, &img, 73 + round);
        (void)probe_image_show(p, &img, probe_whole(&img));
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void display_replaced(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 75));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    for (uint32_t i = 0; i < 3; i++) {
        if (vgd_guest_frontend_new_display(vgd_guest_gpu_frontend(p->gpu)) != VGD_OK) {
            probe_fail(p, "GPU_SET_SOCKET cannot be sent");
            return;
        }
        probe_image_paint(p, &img, 76 + i);
        if (probe_image_show(p, &img, probe_whole(&img))) {
            probe_expect_picture(p, 0, &img, probe_whole(&img));
        }
        struct vgd_resp_display_info info;
        (void)probe_resp(p, "GET_DISPLAY_INFO on the new channel",
                         vgd_guest_get_display_info(p->gpu, &info), VGD_RESP_OK_DISPLAY_INFO);
    }
    probe_image_destroy(p, &img);
}

static void display_closed(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 80));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    vgd_guest_display_disconnect(vgd_guest_gpu_display(p->gpu));
    for (uint32_t i = 0; i < 3; i++) {
        (void)probe_image_show(p, &img, probe_whole(&img));
    }
    struct vgd_resp_display_info info;
    PROBE_CHECK(p, vgd_guest_get_display_info(p->gpu, &info) != 0);
    probe_goes_on(p);
    probe_image_destroy(p, &img);
}

static const struct probe_test tests[] = {
    {"2d/display-info", display_info, PROBE_EXEC, .config = {.w_px = 1366, .h_px = 768}},
    {"2d/edid", edid, PROBE_EXEC, .config = {.n_scanouts = 2}},
    {"2d/edid-bad-scanout", edid_bad_scanout, PROBE_ANY},
    {"2d/picture", picture, PROBE_ANY},
    {"2d/scattered-backing", scattered_backing, PROBE_ANY},
    {"2d/damage", damage, PROBE_ANY},
    {"2d/transfer-offset", transfer_offset, PROBE_ANY},
    {"2d/formats", formats, PROBE_ANY},
    {"2d/scanout-part", scanout_part, PROBE_ANY},
    {"2d/scanout-off-and-on", scanout_off_and_on, PROBE_ANY},
    {"2d/scanout-resize", scanout_resize, PROBE_ANY},
    {"2d/two-scanouts", two_scanouts, PROBE_EXEC, .config = {.n_scanouts = 2}},
    {"2d/unref-while-shown", unref_while_shown, PROBE_ANY},
    {"2d/flush-unshown", flush_unshown, PROBE_ANY},
    {"2d/other-backing", other_backing, PROBE_ANY},
    {"2d/many-resources", many_resources, PROBE_ANY},
    {"2d/new-resource-is-black", new_resource_is_black, PROBE_ANY},
    {"2d/cursor", cursor, PROBE_ANY},
    {"2d/cursor-hide", cursor_hide, PROBE_ANY},
    {"2d/cursor-bad", cursor_bad, PROBE_ANY},
    {"2d/cursor-resource-freed", cursor_resource_freed, PROBE_ANY},
    {"2d/display-stalled", display_stalled, PROBE_ANY, .config = {.command_timeout_ms = 3000}},
    {"2d/display-stalled-reset", display_stalled_reset, PROBE_EXEC | PROBE_DISPLAY,
     .config = {.command_timeout_ms = 3000}},
    {"2d/display-replaced", display_replaced, PROBE_ANY},
    {"2d/display-closed", display_closed, PROBE_EXEC},
};

const struct probe_suite probe_2d = {tests, sizeof(tests) / sizeof(tests[0])};
