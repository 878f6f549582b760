/* SPDX-License-Identifier: MIT */
/* sample: codecs and names.
 * Generated from protocol/sample.toml; edit the schema. */
#include "sample.h"

const char *vgd_sample_colour_name(uint32_t value)
{
    switch (value) {
    case VGD_SAMPLE_COLOUR_RED:
        return "RED";
    case VGD_SAMPLE_COLOUR_GREEN:
        return "GREEN";
    case VGD_SAMPLE_COLOUR_OURS:
        return "OURS";
    default:
        return "unknown";
    }
}

static void read_point(struct vgd_reader *r, struct vgd_sample_point *out)
{
    out->x_px = vgd_read_le16(r);
    vgd_read_skip(r, 2); /* padding */
    out->weight = vgd_read_le32(r);
}

enum vgd_status vgd_sample_point_decode(struct vgd_reader *r, struct vgd_sample_point *out)
{
    struct vgd_sample_point decoded = {0};
    read_point(r, &decoded);
    enum vgd_status st = r->status;
    if (st == VGD_OK) {
        *out = decoded;
    }
    return st;
}

void vgd_sample_point_encode(struct vgd_writer *w, const struct vgd_sample_point *in)
{
    vgd_write_le16(w, in->x_px);
    vgd_write_zeros(w, 2); /* padding */
    vgd_write_le32(w, in->weight);
}

static void read_shape(struct vgd_reader *r, struct vgd_sample_shape *out)
{
    out->id = vgd_read_le64(r);
    for (size_t i = 0; i < VGD_SAMPLE_MAX_POINTS; i++) {
        read_point(r, &out->points[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        out->levels[i] = vgd_read_le16(r);
    }
    vgd_read_bytes(r, out->tag, sizeof(out->tag));
    out->kind = vgd_read_u8(r);
    out->depth = (int32_t)vgd_read_le32(r);
    vgd_read_skip(r, 3); /* padding */
    vgd_read_bytes(r, out->blob, sizeof(out->blob));
    out->newer = vgd_read_le32(r);
}

enum vgd_status vgd_sample_shape_decode(struct vgd_reader *r, struct vgd_sample_shape *out)
{
    struct vgd_sample_shape decoded = {0};
    read_shape(r, &decoded);
    enum vgd_status st = vgd_reader_finish(r);
    if (st == VGD_OK) {
        *out = decoded;
    }
    return st;
}

void vgd_sample_shape_encode(struct vgd_writer *w, const struct vgd_sample_shape *in)
{
    vgd_write_le64(w, in->id);
    for (size_t i = 0; i < VGD_SAMPLE_MAX_POINTS; i++) {
        vgd_sample_point_encode(w, &in->points[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        vgd_write_le16(w, in->levels[i]);
    }
    vgd_write_bytes(w, in->tag, sizeof(in->tag));
    vgd_write_u8(w, in->kind);
    vgd_write_le32(w, (uint32_t)in->depth);
    vgd_write_zeros(w, 3); /* padding */
    vgd_write_bytes(w, in->blob, sizeof(in->blob));
    vgd_write_le32(w, in->newer);
}

enum vgd_status vgd_sample_empty_decode(struct vgd_reader *r)
{
    return vgd_reader_finish(r);
}

static void read_pixels(struct vgd_reader *r, struct vgd_sample_pixels *out)
{
    out->w_px = vgd_read_le32(r);
    out->h_px = vgd_read_le32(r);
}

enum vgd_status vgd_sample_pixels_decode(struct vgd_reader *r, struct vgd_sample_pixels *out)
{
    struct vgd_sample_pixels decoded = {0};
    read_pixels(r, &decoded);
    enum vgd_status st = r->status;
    if (st == VGD_OK) {
        *out = decoded;
    }
    return st;
}

void vgd_sample_pixels_encode(struct vgd_writer *w, const struct vgd_sample_pixels *in)
{
    vgd_write_le32(w, in->w_px);
    vgd_write_le32(w, in->h_px);
}

enum vgd_status vgd_sample_pixels_tail_check(const struct vgd_reader *r,
                                             const struct vgd_sample_pixels *in)
{
    uint64_t need_bytes = 4;
    if (__builtin_mul_overflow(need_bytes, in->w_px, &need_bytes)) {
        return VGD_TRUNCATED; /* more than any memory holds */
    }
    if (__builtin_mul_overflow(need_bytes, in->h_px, &need_bytes)) {
        return VGD_TRUNCATED; /* more than any memory holds */
    }
    size_t left_bytes = vgd_reader_left(r);
    if (need_bytes > left_bytes) {
        return VGD_TRUNCATED;
    }
    return need_bytes == left_bytes ? VGD_OK : VGD_TRAILING;
}

static void read_fixed_tail(struct vgd_reader *r, struct vgd_sample_fixed_tail *out)
{
    out->kind = vgd_read_u8(r);
}

enum vgd_status vgd_sample_fixed_tail_decode(struct vgd_reader *r,
                                             struct vgd_sample_fixed_tail *out)
{
    struct vgd_sample_fixed_tail decoded = {0};
    read_fixed_tail(r, &decoded);
    enum vgd_status st = r->status;
    if (st == VGD_OK) {
        *out = decoded;
    }
    return st;
}

void vgd_sample_fixed_tail_encode(struct vgd_writer *w, const struct vgd_sample_fixed_tail *in)
{
    vgd_write_u8(w, in->kind);
}

enum vgd_status vgd_sample_fixed_tail_tail_check(const struct vgd_reader *r,
                                                 const struct vgd_sample_fixed_tail *in)
{
    (void)in; /* the announced size is constant */
    uint64_t need_bytes = 8;
    if (__builtin_mul_overflow(need_bytes, UINT64_C(2), &need_bytes)) {
        return VGD_TRUNCATED; /* more than any memory holds */
    }
    size_t left_bytes = vgd_reader_left(r);
    if (need_bytes > left_bytes) {
        return VGD_TRUNCATED;
    }
    return need_bytes == left_bytes ? VGD_OK : VGD_TRAILING;
}
