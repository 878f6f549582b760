/* SPDX-License-Identifier: MIT */
#include "vtest_span.h"

#include <string.h>

/* Bytes of a block of each of virgl's formats (virgl_hw.h), 0: not known here. */
static const uint8_t block_bytes[] = {
    1,  4,  4,  4,  4,  2,  2,  2,  4,  1,  1,  1,
    2,  2,  4,  4,  2,  4,  4,  4,  4,  4,  4,  1, /* from 0 */
    8,  16, 24, 32, 4,  8,  12, 16, 4,  8,  12, 16,
    4,  8,  12, 16, 4,  8,  12, 16, 4,  8,  12, 16, /* from 24 */
    2,  4,  6,  8,  2,  4,  6,  8,  2,  4,  6,  8,
    2,  4,  6,  8,  1,  2,  3,  4,  4,  1,  2,  3, /* from 48 */
    4,  0,  1,  2,  3,  4,  0,  0,  0,  0,  1,  2,
    3,  4,  0,  4,  8,  12, 16, 2,  4,  6,  8,  1, /* from 72 */
    2,  3,  4,  4,  4,  4,  4,  4,  4,  8,  8,  16,
    16, 8,  8,  16, 16, 8,  8,  16, 16, 4,  4,  4, /* from 96 */
    2,  4,  2,  4,  4,  4,  8,  1,  4,  4,  1,  4,
    4,  2,  4,  2,  4,  4,  8,  1,  4,  2,  2,  8, /* from 120 */
    8,  16, 16, 1,  1,  2,  1,  2,  2,  4,  2,  2,
    2,  4,  2,  4,  4,  8,  4,  0,  0,  0,  0,  0, /* from 144 */
    1,  1,  2,  2,  4,  4,  4,  4,  4,  1,  2,  3,
    4,  1,  2,  3,  4,  2,  4,  6,  8,  2,  4,  6, /* from 168 */
    8,  4,  8,  12, 16, 4,  8,  12, 16, 1,  1,  1,
    2,  1,  1,  1,  2,  2,  2,  2,  4,  2,  2,  2, /* from 192 */
    4,  4,  4,  4,  8,  4,  4,  4,  8,  4,  8,  4,
    4,  4,  4,  4,  4,  4,  8,  8,  8,  8,  8,  16, /* from 216 */
    16, 16, 2,  4,  4,  4,  8,  2,  2,  4,  4,  8,
    8,  4,  2,  16, 16, 16, 16, 0,  0,  0,  0,  2, /* from 240 */
    2,  4,  4,  4,  4,  8,  8,  8,  8,  16, 16, 8,
    8,  16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* from 264 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16,
    16, 16, 16, 16, 16, 16, 16, 0,  4,  0,  0,  2, /* from 288 */
    1,  2,  0,  0,  0,  3,  1,  2,  2,  2,  1,  0,
    0,  0,  1,  4,  3,  4,  2,  2,  2,  2,  4,  4, /* from 312 */
    4,  4,  2,  2,  2,  4,  4,  4,  4,  4,  4,  4,
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, /* from 336 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    4,  4,  4,  1,  2,  2,  2,  4,  4,  4,  4,  4, /* from 360 */
    4,  3,  3,  3,  3,  3,  3,  4,  4,  4,  4,  16,
    16, 4,  4,  1,  1,  2,  0,  4,  4,  1,  2,  2, /* from 384 */
    2,  2,  2,  2,  32, 32, 24, 24, 16, 16, 8,  8,
    1,  1,  4,  1,  1,  1,  4,  2,  2,  1,  4,  4, /* from 408 */
    4,  0,  0,  0,  0,  8,  8,  8,  4,  8,  8,  0,
    0,  0,  0,  0,  2,  2,  2,  4,  2,  4,  1,  1, /* from 432 */
    1,  16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16,
    16, 16, 16, 0,  0,  0,  0,  0,  0,  0,  0,  0, /* from 456 */
    0,                                             /* from 480 */
};

/* Blocks of more than one pixel. */
static const struct {
    uint16_t first, last;
    uint8_t w_px, h_px;
} blocks[] = {
    {14, 15, 2, 1},     {105, 116, 4, 4},   {117, 118, 2, 1},   {127, 127, 8, 1},
    {143, 146, 4, 4},   {226, 226, 4, 4},   {227, 228, 2, 1},   {255, 258, 4, 4},
    {269, 279, 4, 4},   {280, 280, 5, 4},   {281, 281, 5, 5},   {282, 282, 6, 5},
    {283, 283, 6, 6},   {284, 284, 8, 5},   {285, 285, 8, 6},   {286, 286, 8, 8},
    {287, 287, 10, 5},  {288, 288, 10, 6},  {289, 289, 10, 8},  {290, 290, 10, 10},
    {291, 291, 12, 10}, {292, 292, 12, 12}, {293, 293, 4, 4},   {294, 294, 5, 4},
    {295, 295, 5, 5},   {296, 296, 6, 5},   {297, 297, 6, 6},   {298, 298, 8, 5},
    {299, 299, 8, 6},   {300, 300, 8, 8},   {301, 301, 10, 5},  {302, 302, 10, 6},
    {303, 303, 10, 8},  {304, 304, 10, 10}, {305, 305, 12, 10}, {306, 306, 12, 12},
    {327, 327, 2, 1},   {384, 384, 2, 1},   {394, 394, 2, 1},   {395, 396, 8, 4},
    {398, 398, 2, 1},   {422, 422, 2, 1},   {426, 426, 2, 1},   {429, 429, 4, 4},
    {437, 439, 2, 1},   {446, 447, 4, 1},   {457, 457, 4, 4},   {458, 458, 5, 4},
    {459, 459, 5, 5},   {460, 460, 6, 5},   {461, 461, 6, 6},   {462, 462, 8, 5},
    {463, 463, 8, 6},   {464, 464, 8, 8},   {465, 465, 10, 5},  {466, 466, 10, 6},
    {467, 467, 10, 8},  {468, 468, 10, 10}, {469, 469, 12, 10}, {470, 470, 12, 12},
    {473, 473, 2, 2},   {474, 474, 4, 2},
};

struct block {
    uint32_t n_bytes, w_px, h_px;
};

static struct block block_of(uint32_t format)
{
    struct block block = {.w_px = 1, .h_px = 1};
    if (format < sizeof(block_bytes)) {
        block.n_bytes = block_bytes[format];
    }
    for (uint32_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        if (format >= blocks[i].first && format <= blocks[i].last) {
            block.w_px = blocks[i].w_px;
            block.h_px = blocks[i].h_px;
        }
    }
    return block;
}

static uint64_t blocks_count(uint32_t px, uint32_t block_px)
{
    return ((uint64_t)px + block_px - 1) / block_px;
}

static uint32_t smaller(uint32_t px, uint32_t level)
{
    uint32_t at_level = level < 32 ? px >> level : 0;
    return at_level == 0 ? 1 : at_level;
}

bool vgd_vtest_span_of(const struct vgd_vtest_picture *picture, const struct vgd_vtest_move *move,
                       uint64_t memory_bytes, struct vgd_vtest_span *out)
{
    if (move->offset_bytes >= memory_bytes) {
        return false;
    }
    struct vgd_vtest_span span = {.offset_bytes = move->offset_bytes, .rows = 1, .layers = 1};
    uint64_t room = memory_bytes - move->offset_bytes;
    if (picture->target == VGD_VTEST_TARGET_BUFFER) {
        span.row_bytes = move->w_px;
        if (span.row_bytes > room) {
            return false;
        }
        *out = span;
        return true;
    }
    struct block block = block_of(picture->format);
    span.rows = (uint32_t)blocks_count(move->h_px == 0 ? 1 : move->h_px, block.h_px);
    span.layers = move->depth == 0 ? 1 : move->depth;
    span.row_bytes = blocks_count(move->w_px == 0 ? 1 : move->w_px, block.w_px) * block.n_bytes;
    span.row_stride_bytes =
        move->stride_bytes != 0
            ? move->stride_bytes
            : blocks_count(smaller(picture->w_px, move->level), block.w_px) * block.n_bytes;
    span.layer_stride_bytes =
        move->layer_stride_bytes != 0
            ? move->layer_stride_bytes
            : span.row_stride_bytes * blocks_count(smaller(picture->h_px, move->level), block.h_px);
    uint64_t layer_bytes = 0;
    bool is_known = block.n_bytes != 0 &&
                    (span.rows == 1 || span.row_stride_bytes >= span.row_bytes) &&
                    !__builtin_mul_overflow(span.row_stride_bytes, span.rows - 1, &layer_bytes);
    /* Layers that overlap would have the same bytes copied again and again. */
    if (!is_known || (span.layers > 1 && span.layer_stride_bytes < layer_bytes + span.row_bytes)) {
        *out = (struct vgd_vtest_span){
            .offset_bytes = move->offset_bytes, .row_bytes = room, .rows = 1, .layers = 1};
        return true;
    }
    uint64_t layers_bytes;
    uint64_t rows_bytes;
    if (__builtin_mul_overflow(span.layer_stride_bytes, span.layers - 1, &layers_bytes) ||
        __builtin_mul_overflow(span.row_stride_bytes, span.rows - 1, &rows_bytes) ||
        layers_bytes > room || rows_bytes > room - layers_bytes ||
        span.row_bytes > room - layers_bytes - rows_bytes) {
        return false;
    }
    *out = span;
    return true;
}

void vgd_vtest_span_copy(const struct vgd_vtest_span *span, uint8_t *to, const uint8_t *from)
{
    for (uint32_t layer = 0; layer < span->layers; layer++) {
        uint64_t at = span->offset_bytes + layer * span->layer_stride_bytes;
        if (span->row_stride_bytes == span->row_bytes) {
            memcpy(to + at, from + at, span->row_bytes * span->rows);
            continue;
        }
        for (uint32_t row = 0; row < span->rows; row++) {
            memcpy(to + at, from + at, span->row_bytes);
            at += span->row_stride_bytes;
        }
    }
}
