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

/* --- pictures in blobs --- */

/* A picture of 5 x 3 with rows of 32 bytes from byte 12 on, cut into entries of @piece bytes. */
#define BLOB_BYTES 4096u
static uint32_t cut(uint8_t *blob, size_t piece, struct iovec *iov)
{
    uint32_t n = 0;
    for (size_t at = 0; at < BLOB_BYTES; at += piece) {
        size_t left = BLOB_BYTES - at;
        iov[n++] = (struct iovec){.iov_base = blob + at, .iov_len = left < piece ? left : piece};
    }
    return n;
}

Test(render_soft, a_picture_is_read_where_it_lies)
{
    static uint8_t blob[BLOB_BYTES];
    static struct iovec iov[BLOB_BYTES];
    for (size_t i = 0; i < sizeof(blob); i++) {
        blob[i] = (uint8_t)(i * 7 + i / 256);
    }
    static const struct vgd_image image = {.w_px = 5,
                                           .h_px = 3,
                                           .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                           .stride_bytes = 32,
                                           .offset_bytes = 12};
    static const struct vgd_rect rects[] = {
        {.w_px = 5, .h_px = 3},
        {.x_px = 1, .y_px = 1, .w_px = 3, .h_px = 2},
        {.x_px = 4, .y_px = 2, .w_px = 1, .h_px = 1},
        {.x_px = 5, .y_px = 3}, /* empty at the edge */
    };
    static const size_t pieces[] = {1, 3, 31, 32, 33, BLOB_BYTES};
    for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
        uint32_t n_iov = cut(blob, pieces[p], iov);
        for (size_t i = 0; i < sizeof(rects) / sizeof(rects[0]); i++) {
            struct vgd_rect r = rects[i];
            uint8_t out[3][28];
            memset(out, 0xee, sizeof(out));
            cr_assert_eq(vgd_pixels_read_image(&image, iov, n_iov, r, out, 28), VGD_OK);
            for (uint32_t y = 0; y < 3; y++) {
                for (uint32_t x = 0; x < 28; x++) {
                    bool inside = y < r.h_px && x < r.w_px * 4;
                    uint8_t want = inside ? blob[12 + (r.y_px + y) * 32 + r.x_px * 4 + x] : 0xee;
                    cr_assert_eq(out[y][x], want, "piece %zu rect %zu at %u,%u", pieces[p], i, x,
                                 y);
                }
            }
        }
    }
}

Test(render_soft, a_picture_in_each_format_becomes_bgra)
{
    static const struct {
        uint32_t format;
        uint8_t in[4];
    } cases[] = {
        {VGD_FORMAT_B8G8R8A8_UNORM, {1, 2, 3, 4}}, {VGD_FORMAT_B8G8R8X8_UNORM, {1, 2, 3, 4}},
        {VGD_FORMAT_A8R8G8B8_UNORM, {4, 3, 2, 1}}, {VGD_FORMAT_X8R8G8B8_UNORM, {4, 3, 2, 1}},
        {VGD_FORMAT_R8G8B8A8_UNORM, {3, 2, 1, 4}}, {VGD_FORMAT_X8B8G8R8_UNORM, {4, 1, 2, 3}},
        {VGD_FORMAT_A8B8G8R8_UNORM, {4, 1, 2, 3}}, {VGD_FORMAT_R8G8B8X8_UNORM, {3, 2, 1, 4}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t blob[64] = {0}; /* two rows of 2 pixels and 4 bytes between them */
        for (size_t at = 0; at + 4 <= sizeof(blob); at += 4) {
            memcpy(blob + at, cases[i].in, 4);
        }
        struct iovec iov = {.iov_base = blob, .iov_len = 20};
        struct vgd_image image = {
            .w_px = 2, .h_px = 2, .format = cases[i].format, .stride_bytes = 12};
        uint8_t out[16];
        struct vgd_rect all = {.w_px = 2, .h_px = 2};
        cr_assert_eq(vgd_pixels_read_image(&image, &iov, 1, all, out, 8), VGD_OK);
        for (size_t at = 0; at < sizeof(out); at += 4) {
            static const uint8_t bgr[3] = {1, 2, 3};
            cr_assert_arr_eq(out + at, bgr, 3, "format %u", cases[i].format);
        }
    }
}

/* The device checks; what it would have let through all the same must not be read beyond. */
Test(render_soft, pictures_that_do_not_fit)
{
    struct picture {
        struct vgd_image image;
        struct vgd_rect rect;
    };
    static const struct picture good = {
        .image = {.w_px = 4, .h_px = 4, .format = 1, .stride_bytes = 16},
        .rect = {.w_px = 4, .h_px = 4},
    };
    uint8_t *exact = calloc(1, 64); /* to the byte: the address sanitizer sees one too many */
    cr_assert_not_null(exact);
    struct iovec iov = {.iov_base = exact, .iov_len = 64};
    static const struct {
        const char *name;
        struct picture p;
    } cases[] = {
        {"a byte too far", {{4, 4, 1, 16, 1}, {0, 0, 4, 4}}},
        {"a row too many", {{4, 5, 1, 16, 0}, {0, 0, 4, 5}}},
        {"stride too long", {{4, 4, 1, 20, 0}, {0, 0, 4, 4}}},
        {"stride too short", {{4, 4, 1, 12, 0}, {0, 0, 4, 4}}},
        {"stride too short for one row", {{4, 1, 1, 12, 0}, {0, 0, 4, 1}}},
        {"stride 2^32 - 4", {{4, 4, 1, UINT32_MAX - 3, 0}, {0, 0, 4, 4}}},
        {"offset wraps", {{4, 4, 1, 16, UINT64_MAX - 47}, {0, 0, 4, 4}}},
        {"offset 2^64 - 1", {{4, 4, 1, 16, UINT64_MAX}, {0, 0, 1, 1}}},
        {"width wraps", {{UINT32_MAX, 1, 1, UINT32_MAX, 0}, {0, 0, UINT32_MAX, 1}}},
        {"height wraps", {{1, UINT32_MAX, 1, UINT32_MAX, 0}, {0, 0, 1, UINT32_MAX}}},
        {"rectangle too wide", {{2, 2, 1, 16, 0}, {1, 0, 2, 2}}}, /* the bytes are there */
        {"rectangle too high", {{2, 2, 1, 16, 0}, {0, 1, 2, 2}}},
        {"rectangle wraps", {{4, 4, 1, 16, 0}, {UINT32_MAX, 0, 2, 1}}},
        {"no such format", {{4, 4, 5, 16, 0}, {0, 0, 4, 4}}},
    };
    uint8_t out[256];
    cr_assert_eq(vgd_pixels_read_image(&good.image, &iov, 1, good.rect, out, 16), VGD_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(vgd_pixels_read_image(&cases[i].p.image, &iov, 1, cases[i].p.rect, out, 16),
                     VGD_RANGE, "%s", cases[i].name);
    }
    cr_expect_eq(vgd_pixels_read_image(&good.image, NULL, 0, good.rect, out, 16), VGD_RANGE);
    free(exact);
}

Test(render_soft, blobs_of_guest_memory)
{
    struct vgd_render *r = create();
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect_eq(info.blob_mems, 1u << VGD_BLOB_MEM_GUEST);
    uint8_t pages[4096] = {0};
    struct iovec iov = {.iov_base = pages, .iov_len = sizeof(pages)};
    struct vgd_render_blob blob = {.res_id = 1,
                                   .mem = VGD_BLOB_MEM_GUEST,
                                   .size_bytes = sizeof(pages),
                                   .iov = &iov,
                                   .n_iov = 1};
    cr_assert_eq(r->ops->resource_create_blob(r, &blob), VGD_OK);
    cr_expect_eq(r->ops->resource_create_blob(r, &blob), VGD_RANGE, "the id is taken");
    struct vgd_image image = {.w_px = 8, .h_px = 8, .format = 1, .stride_bytes = 64};
    struct vgd_rect one = {.x_px = 3, .y_px = 2, .w_px = 1, .h_px = 1};
    uint8_t out[4];
    pages[2 * 64 + 3 * 4] = 0x44; /* no transfer: the pages are the picture */
    cr_assert_eq(r->ops->read_pixels(r, 1, &image, one, out, 4), VGD_OK);
    cr_expect_eq(out[0], 0x44);
    pages[2 * 64 + 3 * 4] = 0x45;
    cr_assert_eq(r->ops->read_pixels(r, 1, &image, one, out, 4), VGD_OK);
    cr_expect_eq(out[0], 0x45);
    cr_expect(rect_is(r->ops->take_changed(r, 1, one), 3, 2, 1, 1), "nobody compares");
    cr_expect_eq(r->ops->read_pixels(r, 1, NULL, one, out, 4), VGD_NO_RESOURCE);
    cr_expect_eq(r->ops->transfer_to_host_2d(r, 1, one, 0), VGD_NO_RESOURCE);
    struct vgd_blob_file file;
    cr_expect_eq(r->ops->blob_export(r, 1, &file), VGD_UNSUPPORTED);
    struct vgd_dmabuf buffer;
    cr_expect_eq(r->ops->export_scanout(r, 1, &image, &buffer), VGD_UNSUPPORTED);

    r->ops->resource_detach(r, 1);
    cr_expect_eq(r->ops->read_pixels(r, 1, &image, one, out, 4), VGD_UNSUPPORTED);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_expect_eq(r->ops->read_pixels(r, 1, &image, one, out, 4), VGD_OK);
    r->ops->resource_unref(r, 1);
    cr_expect_eq(r->ops->read_pixels(r, 1, &image, one, out, 4), VGD_NO_RESOURCE);
    for (uint32_t mem = VGD_BLOB_MEM_HOST3D; mem <= VGD_BLOB_MEM_HOST3D_GUEST; mem++) {
        blob.mem = mem;
        cr_expect_eq(r->ops->resource_create_blob(r, &blob), VGD_UNSUPPORTED);
    }
    blob.mem = VGD_BLOB_MEM_GUEST;
    cr_assert_eq(r->ops->resource_create_blob(r, &blob), VGD_OK);
    cr_assert_eq(r->ops->resource_create_2d(r, 2, 1, 4, 4), VGD_OK);
    cr_expect_eq(r->ops->read_pixels(r, 2, &image, one, out, 4), VGD_NO_RESOURCE);
    r->ops->destroy(r);
}
