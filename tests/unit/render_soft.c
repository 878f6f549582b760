/* SPDX-License-Identifier: MIT */
/* The pixman renderer: every format, every shape of backing, and what must not be touched. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pixels.h"
#include "soft.h"

#define SIDE 8u

static struct vgd_render *create(void)
{
    struct vgd_render_callbacks none = {0};
    struct vgd_render *r = vgd_soft_create(&none);
    cr_assert_not_null(r);
    return r;
}

Test(render_soft, new_resources_read_as_zeros)
{
    struct vgd_render *r = create();
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE), VGD_OK);
    uint8_t out[SIDE * SIDE * 4];
    memset(out, 0xee, sizeof(out));
    struct vgd_rect all = {.w_px = SIDE, .h_px = SIDE};
    cr_assert_eq(r->ops->read_pixels(r, 1, NULL, all, out, SIDE * 4), VGD_OK);
    for (size_t i = 0; i < sizeof(out); i++) {
        cr_assert_eq(out[i], 0);
    }
    r->ops->destroy(r);
}

/* One red-ish pixel in each format's memory order must come out as B G R A/X. */
Test(render_soft, formats_become_bgra)
{
    static const struct {
        const char *name;
        uint32_t format;
        uint8_t in[4];
        bool has_alpha;
    } cases[] = {
        {"B8G8R8A8", VGD_FORMAT_B8G8R8A8_UNORM, {1, 2, 3, 4}, true},
        {"B8G8R8X8", VGD_FORMAT_B8G8R8X8_UNORM, {1, 2, 3, 4}, false},
        {"A8R8G8B8", VGD_FORMAT_A8R8G8B8_UNORM, {4, 3, 2, 1}, true},
        {"X8R8G8B8", VGD_FORMAT_X8R8G8B8_UNORM, {4, 3, 2, 1}, false},
        {"R8G8B8A8", VGD_FORMAT_R8G8B8A8_UNORM, {3, 2, 1, 4}, true},
        {"X8B8G8R8", VGD_FORMAT_X8B8G8R8_UNORM, {4, 1, 2, 3}, false},
        {"A8B8G8R8", VGD_FORMAT_A8B8G8R8_UNORM, {4, 1, 2, 3}, true},
        {"R8G8B8X8", VGD_FORMAT_R8G8B8X8_UNORM, {3, 2, 1, 4}, false},
    };
    struct vgd_render *r = create();
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t pixel[4];
        memcpy(pixel, cases[i].in, 4);
        struct iovec iov = {.iov_base = pixel, .iov_len = 4};
        struct vgd_rect all = {.w_px = 1, .h_px = 1};
        uint8_t out[4] = {0};
        cr_assert_eq(r->ops->resource_create_2d(r, i + 1, cases[i].format, 1, 1), VGD_OK);
        cr_assert_eq(r->ops->resource_attach(r, i + 1, &iov, 1), VGD_OK);
        cr_assert_eq(r->ops->transfer_to_host_2d(r, i + 1, all, 0), VGD_OK);
        cr_assert_eq(r->ops->read_pixels(r, i + 1, NULL, all, out, 4), VGD_OK);
        static const uint8_t bgr[3] = {1, 2, 3};
        cr_assert_arr_eq(out, bgr, 3, "%s", cases[i].name);
        cr_assert(!cases[i].has_alpha || out[3] == 4, "%s", cases[i].name);
    }
    r->ops->destroy(r);
}

Test(render_soft, refuses_what_is_no_2d_resource)
{
    static const struct {
        const char *name;
        uint32_t format, w, h;
    } cases[] = {
        {"no such format", 5, 8, 8},
        {"zero width", VGD_FORMAT_B8G8R8A8_UNORM, 0, 8},
        {"zero height", VGD_FORMAT_B8G8R8A8_UNORM, 8, 0},
        {"too wide", VGD_FORMAT_B8G8R8A8_UNORM, VGD_PIXELS_SIDE_PX_MAX + 1, 8},
        {"all ones", VGD_FORMAT_B8G8R8A8_UNORM, UINT32_MAX, UINT32_MAX},
    };
    struct vgd_render *r = create();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(r->ops->resource_create_2d(r, 1, cases[i].format, cases[i].w, cases[i].h),
                     VGD_RANGE, "%s", cases[i].name);
    }
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8), VGD_OK);
    cr_expect_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8), VGD_RANGE,
                 "an id that is taken");
    r->ops->destroy(r);
}

static uint8_t expected(uint32_t x, uint32_t y, uint32_t c)
{
    return (uint8_t)(x * 31 + y * 7 + c + 1);
}

/* The same picture through backings cut at every length, so that rows and pixels straddle entries.
 */
Test(render_soft, scattered_backing_gives_the_same_pixels)
{
    uint8_t backing[SIDE * SIDE * 4];
    for (uint32_t i = 0; i < sizeof(backing); i++) {
        backing[i] = expected(i / 4 % SIDE, i / 4 / SIDE, i % 4);
    }
    static const struct vgd_rect rects[] = {
        {0, 0, SIDE, SIDE}, {2, 3, 4, 5}, {7, 7, 1, 1}, {0, 4, SIDE, 2}, {3, 0, 1, SIDE}};
    struct vgd_render *r = create();
    for (uint32_t piece = 1; piece <= 41; piece++) {
        uint32_t n_iov = (uint32_t)((sizeof(backing) + piece - 1) / piece);
        struct iovec *iov = calloc(n_iov + 1, sizeof(*iov));
        cr_assert_not_null(iov);
        for (uint32_t i = 0; i < n_iov; i++) {
            size_t left = sizeof(backing) - (size_t)i * piece;
            iov[i].iov_base = backing + (size_t)i * piece;
            iov[i].iov_len = left < piece ? left : piece;
        }
        for (size_t k = 0; k < sizeof(rects) / sizeof(rects[0]); k++) {
            struct vgd_rect rect = rects[k];
            cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE),
                         VGD_OK);
            cr_assert_eq(r->ops->resource_attach(r, 1, iov, n_iov), VGD_OK);
            uint64_t offset = (rect.y_px * SIDE + rect.x_px) * 4;
            cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, rect, offset), VGD_OK);
            uint8_t out[SIDE * SIDE * 4];
            struct vgd_rect all = {.w_px = SIDE, .h_px = SIDE};
            cr_assert_eq(r->ops->read_pixels(r, 1, NULL, all, out, SIDE * 4), VGD_OK);
            for (uint32_t i = 0; i < sizeof(out); i++) {
                uint32_t x = i / 4 % SIDE;
                uint32_t y = i / 4 / SIDE;
                bool inside = x >= rect.x_px && x < rect.x_px + rect.w_px && y >= rect.y_px &&
                              y < rect.y_px + rect.h_px;
                cr_assert_eq(out[i], inside ? expected(x, y, i % 4) : 0,
                             "piece %u rect %zu byte %u", piece, k, i);
            }
            r->ops->resource_unref(r, 1);
        }
        free(iov);
    }
    r->ops->destroy(r);
}

static bool rect_is(struct vgd_rect r, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return r.x_px == x && r.y_px == y && r.w_px == w && r.h_px == h;
}

/* What a flush has to show is what changed, not what the guest transferred. */
Test(render_soft, only_what_changed_is_shown)
{
    uint8_t backing[SIDE * SIDE * 4] = {0};
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    struct vgd_rect all = {.w_px = SIDE, .h_px = SIDE};
    struct vgd_render *r = create();
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE), VGD_OK);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_assert(rect_is(r->ops->take_changed(r, 1, all), 0, 0, SIDE, SIDE), "new: nobody saw it");
    cr_assert_eq(r->ops->take_changed(r, 1, all).w_px, 0);

    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, all, 0), VGD_OK);
    cr_assert_eq(r->ops->take_changed(r, 1, all).w_px, 0, "the same pixels once more");

    backing[(3 * SIDE + 5) * 4 + 1] = 1;
    backing[(4 * SIDE + 1) * 4] = 1;
    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, all, 0), VGD_OK);
    struct vgd_rect above = {.w_px = SIDE, .h_px = 4};
    cr_assert(rect_is(r->ops->take_changed(r, 1, above), 0, 3, SIDE, 1), "only the asked part");
    cr_assert(rect_is(r->ops->take_changed(r, 1, all), 0, 3, SIDE, 2),
              "and it is kept until all is");
    cr_assert_eq(r->ops->take_changed(r, 1, all).w_px, 0);

    uint8_t last = backing[sizeof(backing) - 1] = 9;
    struct vgd_rect corner = {.x_px = SIDE - 1, .y_px = SIDE - 1, .w_px = 1, .h_px = 1};
    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, corner, sizeof(backing) - 4), VGD_OK);
    cr_assert(rect_is(r->ops->take_changed(r, 1, all), SIDE - 1, SIDE - 1, 1, 1));
    uint8_t out[4];
    cr_assert_eq(r->ops->read_pixels(r, 1, NULL, corner, out, 4), VGD_OK);
    cr_assert_eq(out[3], last);
    r->ops->destroy(r);
}

Test(render_soft, rectangles_outside_are_refused)
{
    static const struct {
        const char *name;
        struct vgd_rect rect;
    } cases[] = {
        {"one too wide", {1, 0, SIDE, 1}},       {"one too high", {0, 1, 1, SIDE}},
        {"x + w wraps", {UINT32_MAX, 0, 2, 1}},  {"y + h wraps", {0, UINT32_MAX, 1, 2}},
        {"starts outside", {SIDE + 1, 0, 0, 0}},
    };
    uint8_t backing[SIDE * SIDE * 4] = {0};
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    struct vgd_render *r = create();
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE), VGD_OK);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[4];
        cr_expect_eq(r->ops->transfer_to_host_2d(r, 1, cases[i].rect, 0), VGD_RANGE, "%s",
                     cases[i].name);
        cr_expect_eq(r->ops->read_pixels(r, 1, NULL, cases[i].rect, out, 4), VGD_RANGE, "%s",
                     cases[i].name);
    }
    struct vgd_rect empty_at_edge = {.x_px = SIDE, .y_px = SIDE};
    cr_expect_eq(r->ops->transfer_to_host_2d(r, 1, empty_at_edge, 0), VGD_OK);
    r->ops->destroy(r);
}

/* The device checks lengths; a backing that is too short all the same must not be read beyond. */
Test(render_soft, short_backing_is_not_overread)
{
    uint8_t *exact = malloc(5);
    cr_assert_not_null(exact);
    memset(exact, 0x55, 5);
    struct iovec iov = {.iov_base = exact, .iov_len = 5};
    struct vgd_render *r = create();
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, 2, 2), VGD_OK);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    struct vgd_rect all = {.w_px = 2, .h_px = 2};
    static const uint64_t offsets[] = {0, 4, 5, 6, UINT64_MAX};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        (void)r->ops->transfer_to_host_2d(r, 1, all, offsets[i]);
    }
    r->ops->resource_detach(r, 1);
    cr_expect_eq(r->ops->transfer_to_host_2d(r, 1, all, 0), VGD_OK, "no backing: nothing to copy");
    r->ops->destroy(r);
    free(exact);
}

Test(render_soft, three_d_is_unsupported_and_fences_are_done)
{
    struct vgd_render *r = create();
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect(!info.has_3d);
    cr_expect_eq(info.n_capsets, 0);
    cr_expect_eq(r->ops->context_create(r, 1, 0, "x", 1), VGD_UNSUPPORTED);
    bool done = false;
    cr_expect_eq(r->ops->fence(r, 0, 0, 1, &done), VGD_OK);
    cr_expect(done);
    struct vgd_dmabuf buffer;
    cr_expect_eq(r->ops->export_scanout(r, 1, NULL, &buffer), VGD_UNSUPPORTED);
    r->ops->destroy(r);
}

Test(render_soft, reset_frees_ids)
{
    struct vgd_render *r = create();
    for (uint32_t id = 1; id <= 100; id++) {
        cr_assert_eq(r->ops->resource_create_2d(r, id, VGD_FORMAT_B8G8R8X8_UNORM, 4, 4), VGD_OK);
    }
    r->ops->reset(r);
    uint8_t out[4];
    struct vgd_rect one = {.w_px = 1, .h_px = 1};
    for (uint32_t id = 1; id <= 100; id++) {
        cr_assert_eq(r->ops->read_pixels(r, id, NULL, one, out, 4), VGD_NO_RESOURCE);
        cr_assert_eq(r->ops->resource_create_2d(r, id, VGD_FORMAT_B8G8R8X8_UNORM, 4, 4), VGD_OK);
    }
    r->ops->destroy(r);
}
