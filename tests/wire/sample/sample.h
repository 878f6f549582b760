/* SPDX-License-Identifier: MIT */
/* sample: constants and decoded forms.
 * Generated from protocol/sample.toml; edit the schema. */
/* A wire that has everything. */
#ifndef VGD_PROTOCOL_SAMPLE_H
#define VGD_PROTOCOL_SAMPLE_H

#include <stdint.h>

#include "bytes.h"
#include "status.h"

#define VGD_SAMPLE_MAX_POINTS 3u /* points in a shape */

/* What a shape looks like. Spec: sample 1.2. */
#define VGD_SAMPLE_COLOUR_RED 0x0010u /* the usual one */
#define VGD_SAMPLE_COLOUR_GREEN 0x0011u
#define VGD_SAMPLE_COLOUR_OURS 0x0012u
/** "RED" for VGD_SAMPLE_COLOUR_RED and so on; "unknown" for others. */
const char *vgd_sample_colour_name(uint32_t value);

/* A part: anything may follow it. */
#define VGD_SAMPLE_POINT_SIZE 8u
struct vgd_sample_point {
    uint16_t x_px;
    uint32_t weight; /* of the point */
};
VGD_MUST_CHECK
enum vgd_status vgd_sample_point_decode(struct vgd_reader *r, struct vgd_sample_point *out);
void vgd_sample_point_encode(struct vgd_writer *w, const struct vgd_sample_point *in);

/*
 * Exact: nothing may follow it. Body of VGD_SAMPLE_COLOUR_RED, VGD_SAMPLE_COLOUR_GREEN. Spec:
 * sample 1.3.
 */
#define VGD_SAMPLE_SHAPE_SIZE 54u
struct vgd_sample_shape {
    uint64_t id;
    struct vgd_sample_point points[VGD_SAMPLE_MAX_POINTS];
    uint16_t levels[2];
    char tag[5];
    uint8_t kind;
    int32_t depth;
    uint8_t blob[1];
    uint32_t newer;
};
VGD_MUST_CHECK
enum vgd_status vgd_sample_shape_decode(struct vgd_reader *r, struct vgd_sample_shape *out);
void vgd_sample_shape_encode(struct vgd_writer *w, const struct vgd_sample_shape *in);

#define VGD_SAMPLE_EMPTY_SIZE 0u
VGD_MUST_CHECK
enum vgd_status vgd_sample_empty_decode(struct vgd_reader *r);

/* Tail: pixels, w_px * h_px * 4 bytes. */
#define VGD_SAMPLE_PIXELS_SIZE 8u
struct vgd_sample_pixels {
    uint32_t w_px;
    uint32_t h_px;
};
VGD_MUST_CHECK
enum vgd_status vgd_sample_pixels_decode(struct vgd_reader *r, struct vgd_sample_pixels *out);
void vgd_sample_pixels_encode(struct vgd_writer *w, const struct vgd_sample_pixels *in);
/**
 * Do exactly the pixels that @in announces remain in @r? VGD_TRUNCATED if fewer bytes remain,
 * VGD_TRAILING if more.
 */
VGD_MUST_CHECK
enum vgd_status vgd_sample_pixels_tail_check(const struct vgd_reader *r,
                                             const struct vgd_sample_pixels *in);

/* Tail: points, 2 * 8 bytes. */
#define VGD_SAMPLE_FIXED_TAIL_SIZE 1u
struct vgd_sample_fixed_tail {
    uint8_t kind;
};
VGD_MUST_CHECK
enum vgd_status vgd_sample_fixed_tail_decode(struct vgd_reader *r,
                                             struct vgd_sample_fixed_tail *out);
void vgd_sample_fixed_tail_encode(struct vgd_writer *w, const struct vgd_sample_fixed_tail *in);
/**
 * Do exactly the points that @in announces remain in @r? VGD_TRUNCATED if fewer bytes remain,
 * VGD_TRAILING if more.
 */
VGD_MUST_CHECK
enum vgd_status vgd_sample_fixed_tail_tail_check(const struct vgd_reader *r,
                                                 const struct vgd_sample_fixed_tail *in);

/* Only a tail, whose length nothing announces. Tail: data. */
#define VGD_SAMPLE_OPEN_END_SIZE 0u

#endif
