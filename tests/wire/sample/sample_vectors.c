/* SPDX-License-Identifier: MIT */
/* sample: test vectors.
 * Generated from protocol/sample.toml; edit the schema. */
#include <stdbool.h>

#include "sample.h"
#include "wire_case.h"

static bool vgd_sample_point_equal(const void *left, const void *right)
{
    const struct vgd_sample_point *a = left, *b = right;
    bool same = true;
    same = same && a->x_px == b->x_px;
    same = same && a->weight == b->weight;
    return same;
}

static enum vgd_status vgd_sample_point_decode_any(struct vgd_reader *r, void *out)
{
    return vgd_sample_point_decode(r, out);
}

static void vgd_sample_point_encode_any(struct vgd_writer *w, const void *in)
{
    vgd_sample_point_encode(w, in);
}

static const uint8_t vgd_sample_point_bytes[] = {
    0x01, 0x02, 0x00, 0x00, 0x03, 0x04, 0x05, 0x06
};
static const uint8_t vgd_sample_point_padded[] = {
    0x01, 0x02, 0xa5, 0xa5, 0x03, 0x04, 0x05, 0x06
};
static const struct vgd_sample_point vgd_sample_point_value = {.x_px = 0x0201, .weight = 0x06050403u};

static bool vgd_sample_shape_equal(const void *left, const void *right)
{
    const struct vgd_sample_shape *a = left, *b = right;
    bool same = true;
    same = same && a->id == b->id;
    for (size_t i = 0; i < VGD_SAMPLE_MAX_POINTS; i++) {
        same = same && vgd_sample_point_equal(&a->points[i], &b->points[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        same = same && a->levels[i] == b->levels[i];
    }
    for (size_t i = 0; i < 5; i++) {
        same = same && a->tag[i] == b->tag[i];
    }
    same = same && a->kind == b->kind;
    same = same && a->depth == b->depth;
    for (size_t i = 0; i < 1; i++) {
        same = same && a->blob[i] == b->blob[i];
    }
    same = same && a->newer == b->newer;
    return same;
}

static enum vgd_status vgd_sample_shape_decode_any(struct vgd_reader *r, void *out)
{
    return vgd_sample_shape_decode(r, out);
}

static void vgd_sample_shape_encode_any(struct vgd_writer *w, const void *in)
{
    vgd_sample_shape_encode(w, in);
}

static const uint8_t vgd_sample_shape_bytes[] = {
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x00, 0x00, 0x0b, 0x0c, 0x0d, 0x0e,
    0x0f, 0x10, 0x00, 0x00, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x00, 0x00, 0x17, 0x18, 0x19, 0x1a,
    0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x00, 0x00,
    0x00, 0x29, 0x2a, 0x2b, 0x2c, 0x2d
};
static const uint8_t vgd_sample_shape_padded[] = {
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0xa5, 0xa5, 0x0b, 0x0c, 0x0d, 0x0e,
    0x0f, 0x10, 0xa5, 0xa5, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0xa5, 0xa5, 0x17, 0x18, 0x19, 0x1a,
    0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0xa5, 0xa5,
    0xa5, 0x29, 0x2a, 0x2b, 0x2c, 0x2d
};
static const struct vgd_sample_shape vgd_sample_shape_value = {.id = 0x0807060504030201ull, .points = {{.x_px = 0x0a09, .weight = 0x0e0d0c0bu}, {.x_px = 0x100f, .weight = 0x14131211u}, {.x_px = 0x1615, .weight = 0x1a191817u}}, .levels = {0x1c1b, 0x1e1d}, .tag = {(char)31, (char)32, (char)33, (char)34, (char)35}, .kind = 0x24, .depth = 673654309, .blob = {0x29}, .newer = 0x2d2c2b2au};

static enum vgd_status vgd_sample_empty_decode_any(struct vgd_reader *r, void *out)
{
    (void)out;
    return vgd_sample_empty_decode(r);
}

static bool vgd_sample_pixels_equal(const void *left, const void *right)
{
    const struct vgd_sample_pixels *a = left, *b = right;
    bool same = true;
    same = same && a->w_px == b->w_px;
    same = same && a->h_px == b->h_px;
    return same;
}

static enum vgd_status vgd_sample_pixels_decode_any(struct vgd_reader *r, void *out)
{
    return vgd_sample_pixels_decode(r, out);
}

static void vgd_sample_pixels_encode_any(struct vgd_writer *w, const void *in)
{
    vgd_sample_pixels_encode(w, in);
}

static const uint8_t vgd_sample_pixels_bytes[] = {
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08
};
static const uint8_t vgd_sample_pixels_padded[] = {
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08
};
static const struct vgd_sample_pixels vgd_sample_pixels_value = {.w_px = 0x04030201u, .h_px = 0x08070605u};

static enum vgd_status vgd_sample_pixels_tail_any(const struct vgd_reader *r, const void *in)
{
    return vgd_sample_pixels_tail_check(r, in);
}

static bool vgd_sample_fixed_tail_equal(const void *left, const void *right)
{
    const struct vgd_sample_fixed_tail *a = left, *b = right;
    bool same = true;
    same = same && a->kind == b->kind;
    return same;
}

static enum vgd_status vgd_sample_fixed_tail_decode_any(struct vgd_reader *r, void *out)
{
    return vgd_sample_fixed_tail_decode(r, out);
}

static void vgd_sample_fixed_tail_encode_any(struct vgd_writer *w, const void *in)
{
    vgd_sample_fixed_tail_encode(w, in);
}

static const uint8_t vgd_sample_fixed_tail_bytes[] = {
    0x01
};
static const uint8_t vgd_sample_fixed_tail_padded[] = {
    0x01
};
static const struct vgd_sample_fixed_tail vgd_sample_fixed_tail_value = {.kind = 0x01};

static enum vgd_status vgd_sample_fixed_tail_tail_any(const struct vgd_reader *r, const void *in)
{
    return vgd_sample_fixed_tail_tail_check(r, in);
}

const struct wire_case sample_cases[] = {
    {.name = "vgd_sample_point",
     .exact = false,
     .size_bytes = VGD_SAMPLE_POINT_SIZE,
     .bytes = vgd_sample_point_bytes,
     .padded = vgd_sample_point_padded,
     .value = &vgd_sample_point_value,
     .value_size_bytes = sizeof(struct vgd_sample_point),
     .decode = vgd_sample_point_decode_any,
     .encode = vgd_sample_point_encode_any,
     .equal = vgd_sample_point_equal,
     .tail_check = NULL},
    {.name = "vgd_sample_shape",
     .exact = true,
     .size_bytes = VGD_SAMPLE_SHAPE_SIZE,
     .bytes = vgd_sample_shape_bytes,
     .padded = vgd_sample_shape_padded,
     .value = &vgd_sample_shape_value,
     .value_size_bytes = sizeof(struct vgd_sample_shape),
     .decode = vgd_sample_shape_decode_any,
     .encode = vgd_sample_shape_encode_any,
     .equal = vgd_sample_shape_equal,
     .tail_check = NULL},
    {.name = "vgd_sample_empty", .exact = true, .size_bytes = 0, .decode = vgd_sample_empty_decode_any},
    {.name = "vgd_sample_pixels",
     .exact = false,
     .size_bytes = VGD_SAMPLE_PIXELS_SIZE,
     .bytes = vgd_sample_pixels_bytes,
     .padded = vgd_sample_pixels_padded,
     .value = &vgd_sample_pixels_value,
     .value_size_bytes = sizeof(struct vgd_sample_pixels),
     .decode = vgd_sample_pixels_decode_any,
     .encode = vgd_sample_pixels_encode_any,
     .equal = vgd_sample_pixels_equal,
     .tail_check = vgd_sample_pixels_tail_any},
    {.name = "vgd_sample_fixed_tail",
     .exact = false,
     .size_bytes = VGD_SAMPLE_FIXED_TAIL_SIZE,
     .bytes = vgd_sample_fixed_tail_bytes,
     .padded = vgd_sample_fixed_tail_padded,
     .value = &vgd_sample_fixed_tail_value,
     .value_size_bytes = sizeof(struct vgd_sample_fixed_tail),
     .decode = vgd_sample_fixed_tail_decode_any,
     .encode = vgd_sample_fixed_tail_encode_any,
     .equal = vgd_sample_fixed_tail_equal,
     .tail_check = vgd_sample_fixed_tail_tail_any},
};
const size_t sample_n_cases = sizeof(sample_cases) / sizeof(sample_cases[0]);

const struct wire_name sample_names[] = {
    {vgd_sample_colour_name, 16u, "RED"},
    {vgd_sample_colour_name, 17u, "GREEN"},
    {vgd_sample_colour_name, 18u, "OURS"},
    {NULL, 0, NULL},
};
