/* SPDX-License-Identifier: MIT */
/* Rules of the bridge's parts: spans of memory, bytes that a transfer touches, command streams. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "guest_heap.h"
#include "vtest_span.h"
#include "vtest_stream.h"

#define GRAIN VGD_GUEST_HEAP_GRAIN_BYTES

Test(heap, gives_what_is_free_and_no_span_twice)
{
    enum { SLOTS = 64, TURNS = 20000, UNITS = 256 };
    struct vgd_guest_heap *heap = vgd_guest_heap_create(UNITS * GRAIN);
    cr_assert_not_null(heap);
    static uint8_t owner[UNITS];
    struct {
        uint64_t offset, n_bytes;
    } slots[SLOTS] = {{0}};
    uint32_t seed = 1;
    uint64_t used = 0;
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        seed = seed * 1103515245 + 12345;
        uint32_t at = seed >> 16 & (SLOTS - 1);
        uint64_t units = (slots[at].n_bytes + GRAIN - 1) / GRAIN;
        if (slots[at].n_bytes != 0) {
            memset(owner + slots[at].offset / GRAIN, 0, units);
            vgd_guest_heap_free(heap, slots[at].offset, slots[at].n_bytes);
            used -= units * GRAIN;
            slots[at].n_bytes = 0;
        } else {
            uint64_t wanted = 1 + (seed >> 8) % (20 * GRAIN);
            uint64_t offset;
            if (vgd_guest_heap_alloc(heap, wanted, &offset)) {
                units = (wanted + GRAIN - 1) / GRAIN;
                cr_assert(offset % GRAIN == 0 && offset / GRAIN + units <= UNITS);
                for (uint64_t i = 0; i < units; i++) {
                    cr_assert_eq(owner[offset / GRAIN + i], 0, "given twice");
                    owner[offset / GRAIN + i] = 1;
                }
                used += units * GRAIN;
                slots[at].offset = offset;
                slots[at].n_bytes = wanted;
            }
        }
        cr_assert_eq(vgd_guest_heap_used(heap), used);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (slots[i].n_bytes != 0) {
            vgd_guest_heap_free(heap, slots[i].offset, slots[i].n_bytes);
        }
    }
    uint64_t offset;
    cr_assert(vgd_guest_heap_alloc(heap, UNITS * GRAIN, &offset), "all of it, in one piece");
    cr_assert(!vgd_guest_heap_alloc(heap, 0, &offset), "nothing takes room, too");
    vgd_guest_heap_destroy(heap);
}

Test(heap, refuses_what_cannot_be)
{
    struct vgd_guest_heap *heap = vgd_guest_heap_create(16 * GRAIN);
    uint64_t offset = 77;
    cr_assert(!vgd_guest_heap_alloc(heap, 16 * GRAIN + 1, &offset));
    cr_assert(!vgd_guest_heap_alloc(heap, UINT64_MAX, &offset));
    cr_assert_eq(offset, 77, "untouched");
    vgd_guest_heap_destroy(heap);
}

enum { BUFFER = 0, TEXTURE = 2, RGBA8 = 67, DXT1 = 105, UNKNOWN = 79 };

static const struct {
    const char *name;
    struct vgd_vtest_picture picture;
    struct vgd_vtest_move move;
    uint64_t memory;
    bool fits;
    uint64_t first, last; /* bytes touched: from, and one behind the last */
    uint64_t row, rows;
} spans[] = {
    {"a buffer's bytes",
     {BUFFER, 64, 100, 1},
     {.w_px = 10, .h_px = 1, .depth = 1, .offset_bytes = 5},
     100,
     true,
     5,
     15,
     10,
     1},
    {"a buffer to its end",
     {BUFFER, 64, 100, 1},
     {.w_px = 95, .offset_bytes = 5},
     100,
     true,
     5,
     100,
     95,
     1},
    {"one past the end", {BUFFER, 64, 100, 1}, {.w_px = 96, .offset_bytes = 5}, 100, false},
    {"offset at the end", {BUFFER, 64, 100, 1}, {.w_px = 0, .offset_bytes = 100}, 100, false},
    {"offset that wraps",
     {BUFFER, 64, 100, 1},
     {.w_px = 2, .offset_bytes = UINT64_MAX},
     100,
     false},
    {"a box, strides of the picture",
     {TEXTURE, RGBA8, 16, 16},
     {.w_px = 4, .h_px = 3, .depth = 1, .offset_bytes = 64},
     1024,
     true,
     64,
     64 + 2 * 64 + 16,
     16,
     3},
    {"of level 2",
     {TEXTURE, RGBA8, 16, 16},
     {.level = 2, .w_px = 4, .h_px = 4, .depth = 1},
     64,
     true,
     0,
     64,
     16,
     4},
    {"level 40 is as small as it gets",
     {TEXTURE, RGBA8, 16, 16},
     {.level = 40, .w_px = 1, .h_px = 1, .depth = 1},
     64,
     true,
     0,
     4,
     4,
     1},
    {"strides as said",
     {TEXTURE, RGBA8, 16, 16},
     {.stride_bytes = 100, .layer_stride_bytes = 500, .w_px = 2, .h_px = 2, .depth = 2},
     1024,
     true,
     0,
     608,
     8,
     2},
    {"blocks",
     {TEXTURE, DXT1, 16, 16},
     {.w_px = 5, .h_px = 5, .depth = 1},
     128,
     true,
     0,
     48,
     16,
     2},
    {"rows outside", {TEXTURE, RGBA8, 16, 16}, {.w_px = 16, .h_px = 17, .depth = 1}, 1024, false},
    {"rows that wrap",
     {TEXTURE, RGBA8, 16, 16},
     {.stride_bytes = UINT32_MAX, .w_px = 1, .h_px = UINT32_MAX, .depth = 1},
     1024,
     false},
    {"layers that wrap",
     {TEXTURE, RGBA8, 16, 16},
     {.layer_stride_bytes = UINT32_MAX, .w_px = 1, .h_px = 1, .depth = UINT32_MAX},
     1024,
     false},
    {"a format without a size: all from the offset on",
     {TEXTURE, UNKNOWN, 16, 16},
     {.w_px = 1, .h_px = 1, .depth = 1, .offset_bytes = 24},
     1024,
     true,
     24,
     1024,
     1000,
     1},
    {"rows that overlap: the same",
     {TEXTURE, RGBA8, 16, 16},
     {.stride_bytes = 1, .w_px = 16, .h_px = 16, .depth = 1, .offset_bytes = 24},
     1024,
     true,
     24,
     1024,
     1000,
     1},
    {"layers that overlap: the same",
     {TEXTURE, RGBA8, 16, 16},
     {.layer_stride_bytes = 1, .w_px = 16, .h_px = 2, .depth = 900},
     1024,
     true,
     0,
     1024,
     1024,
     1},
};

Test(span, table)
{
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        struct vgd_vtest_span span = {.rows = 77};
        bool fits = vgd_vtest_span_of(&spans[i].picture, &spans[i].move, spans[i].memory, &span);
        cr_expect_eq(fits, spans[i].fits, "%s", spans[i].name);
        if (!fits || !spans[i].fits) {
            cr_expect_eq(span.rows, 77, "%s: untouched", spans[i].name);
            continue;
        }
        cr_expect_eq(span.row_bytes, spans[i].row, "%s", spans[i].name);
        cr_expect_eq(span.rows, spans[i].rows, "%s", spans[i].name);
        /* Copy it, and see what was touched: exact memory, so that ASan sees one byte too many. */
        uint8_t *from = malloc(spans[i].memory);
        uint8_t *to = calloc(1, spans[i].memory);
        cr_assert(from != NULL && to != NULL);
        memset(from, 1, spans[i].memory);
        vgd_vtest_span_copy(&span, to, from);
        const uint8_t *first = memchr(to, 1, spans[i].memory);
        uint64_t last = spans[i].memory;
        uint64_t n = 0;
        while (last > 0 && to[last - 1] == 0) {
            last--;
        }
        for (uint64_t k = 0; k < spans[i].memory; k++) {
            n += to[k];
        }
        cr_expect(first == to + spans[i].first && last == spans[i].last, "%s: [%td, %u)",
                  spans[i].name, first - to, (unsigned)last);
        cr_expect_eq(n, spans[i].row * spans[i].rows * span.layers, "%s: nothing in between",
                     spans[i].name);
        free(from);
        free(to);
    }
}

struct seen {
    uint32_t n_transfers, n_made, n_gone, n_asked, n_written, n_named;
    struct vgd_vtest_stream_transfer last;
};

static uint32_t see_id(void *user, uint32_t id)
{
    struct seen *seen = user;
    seen->n_named++;
    return id + 1000;
}

static void see_transfer(void *user, const struct vgd_vtest_stream_transfer *t)
{
    struct seen *seen = user;
    seen->n_transfers++;
    seen->last = *t;
}

static void see_made(void *user, uint32_t handle, uint32_t res_id, uint32_t offset)
{
    struct seen *seen = user;
    seen->n_made += handle == 3 && res_id == 5 && offset == 8;
}

static void see_gone(void *user, uint32_t handle)
{
    struct seen *seen = user;
    seen->n_gone += handle == 3;
}

static void see_asked(void *user, uint32_t handle)
{
    struct seen *seen = user;
    seen->n_asked += handle == 3;
}

static void see_written(void *user, uint32_t res_id)
{
    struct seen *seen = user;
    seen->n_written += res_id == 6;
}

static const struct vgd_vtest_stream_ops see_all = {see_id,   see_transfer, see_made,
                                                    see_gone, see_asked,    see_written};

Test(stream, sees_what_matters_and_renames_what_names_resources)
{
    uint32_t stream[] = {8 | 12u << 16,
                         1,
                         2,
                         3,
                         4,
                         5,
                         6,
                         7,
                         8,
                         9,
                         10,
                         11,
                         12, /* DRAW_VBO, direct */
                         8 | 20u << 16,
                         1,
                         2,
                         3,
                         4,
                         5,
                         6,
                         7,
                         8,
                         9,
                         10,
                         11,
                         12,
                         13,
                         14,
                         15,
                         16,
                         17,
                         18,
                         19,
                         20,
                         1 | 9u << 8 | 4u << 16,
                         3,
                         0,
                         8,
                         5, /* a query */
                         21 | 2u << 16,
                         3,
                         0, /* its result */
                         3 | 9u << 8 | 1u << 16,
                         3, /* its end */
                         3 | 8u << 8 | 1u << 16,
                         3, /* the end of a surface: another table of handles */
                         50 | 1u << 16,
                         6, /* GET_MEMORY_INFO */
                         11 | 1u << 16,
                         0, /* SET_INDEX_BUFFER: none */
                         10 | 4u << 16,
                         0,
                         0,
                         8,
                         9, /* sampler views are no resources */
                         43 | 13u << 16,
                         7,
                         1,
                         0,
                         64,
                         128,
                         2,
                         3,
                         4,
                         5,
                         6,
                         7,
                         4096,
                         2};
    struct seen seen = {0};
    vgd_vtest_stream_walk(stream, sizeof(stream) / 4, &see_all, &seen);
    cr_assert(seen.n_made == 1 && seen.n_asked == 1 && seen.n_gone == 1 && seen.n_written == 1);
    cr_assert_eq(seen.n_transfers, 1);
    cr_assert(seen.last.res_id == 7 && seen.last.memory_id == 7 && !seen.last.to_host);
    cr_assert(seen.last.x == 2 && seen.last.move.level == 1 && seen.last.move.w_px == 5 &&
              seen.last.move.h_px == 6 && seen.last.move.depth == 7);
    cr_assert(seen.last.move.stride_bytes == 64 && seen.last.move.layer_stride_bytes == 128 &&
              seen.last.move.offset_bytes == 4096);
    cr_assert(stream[12] == 12, "a direct draw names nothing");
    cr_assert(stream[13 + 15] == 1015 && stream[13 + 20] == 1020 && stream[13 + 14] == 14);
    cr_assert_eq(seen.n_named, 5, "two of the draw, the query's, the info's and the transfer's");
}

Test(stream, video_commands_name_resources_too)
{
    /* ENCODE_BITSTREAM: a codec, a video buffer, and three resources, of which one is none. */
    uint32_t stream[] = {60 | 5u << 16, 3, 4, 5, 0, 7};
    struct seen seen = {0};
    vgd_vtest_stream_walk(stream, sizeof(stream) / 4, &see_all, &seen);
    cr_assert_eq(seen.n_named, 2);
    cr_assert(stream[1] == 3 && stream[2] == 4, "codecs and buffers have ids of their own");
    cr_assert(stream[3] == 1005 && stream[4] == 0 && stream[5] == 1007);
}

Test(stream, a_cut_stream_ends_where_it_is_cut)
{
    uint32_t good[] = {43 | 13u << 16, 7, 1, 0, 64, 128, 2, 3, 4, 5, 6, 7, 4096, 1,
                       21 | 2u << 16,  3, 0};
    for (uint32_t n = 0; n <= 17; n++) {
        uint32_t *exact = malloc(n == 0 ? 1 : n * 4);
        cr_assert_not_null(exact);
        memcpy(exact, good, n * 4);
        struct seen seen = {0};
        vgd_vtest_stream_walk(exact, n, &see_all, &seen);
        cr_assert_eq(seen.n_transfers, n >= 14);
        cr_assert_eq(seen.n_asked, n == 17);
        free(exact);
    }
    uint32_t longest[] = {UINT32_MAX, 0};
    struct seen seen = {0};
    vgd_vtest_stream_walk(longest, 2, &see_all, &seen);
    cr_assert_eq(seen.n_transfers + seen.n_named, 0);
}
