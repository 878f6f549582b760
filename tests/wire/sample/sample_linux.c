/* SPDX-License-Identifier: MIT */
/* sample: checks against the kernel's headers.
 * Generated from protocol/sample.toml; edit the schema. */
#include <stddef.h>
#include <linux/sample.h>

#include "sample.h"

_Static_assert(VGD_SAMPLE_MAX_POINTS == SAMPLE_MAX_POINTS,
               "VGD_SAMPLE_MAX_POINTS is not SAMPLE_MAX_POINTS");
_Static_assert(VGD_SAMPLE_COLOUR_RED == SAMPLE_COLOUR_RED,
               "VGD_SAMPLE_COLOUR_RED is not SAMPLE_COLOUR_RED");
#ifdef SAMPLE_COLOUR_GREEN
_Static_assert(VGD_SAMPLE_COLOUR_GREEN == SAMPLE_COLOUR_GREEN,
               "VGD_SAMPLE_COLOUR_GREEN is not SAMPLE_COLOUR_GREEN");
#endif

/* vgd_sample_point */
_Static_assert(sizeof(struct sample_point) == 8, "point: size");
_Static_assert(offsetof(struct sample_point, x) == 0, "point.x_px: offset");
_Static_assert(sizeof(((struct sample_point *)0)->x) == 2, "point.x_px: size");
_Static_assert(offsetof(struct sample_point, w) == 4, "point.weight: offset");
_Static_assert(sizeof(((struct sample_point *)0)->w) == 4, "point.weight: size");

/* vgd_sample_shape */
#ifdef SAMPLE_NEWER
_Static_assert(sizeof(struct sample_shape) == 62, "shape: size");
#else
_Static_assert(sizeof(struct sample_shape) == 58, "shape: size");
#endif
_Static_assert(offsetof(struct sample_shape, id) == 8, "shape.id: offset");
_Static_assert(sizeof(((struct sample_shape *)0)->id) == 8, "shape.id: size");
_Static_assert(offsetof(struct sample_shape, points) == 16, "shape.points: offset");
_Static_assert(sizeof(((struct sample_shape *)0)->points) == 24, "shape.points: size");
#ifdef SAMPLE_NEWER
_Static_assert(offsetof(struct sample_shape, newer) == 58, "shape.newer: offset");
_Static_assert(sizeof(((struct sample_shape *)0)->newer) == 4, "shape.newer: size");
#endif
