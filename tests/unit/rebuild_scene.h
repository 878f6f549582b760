/* SPDX-License-Identifier: MIT */
/* A stream of our own, for what programs of Mesa do not do: everything is destroyed while it is
 * bound, and handles are given again. */
#ifndef REBUILD_SCENE_H
#define REBUILD_SCENE_H

#include <stdint.h>

#define REBUILD_SCENE_PX 128u
#define REBUILD_SCENE_VERTEX_BYTES 4096u

/** Draws into @target, a texture of REBUILD_SCENE_PX squared, from @vertices, a buffer of
 *  REBUILD_SCENE_VERTEX_BYTES. Returns the number of dwords at @out. */
uint32_t rebuild_scene(uint32_t *out, uint32_t max_dwords, uint32_t target, uint32_t vertices);

#endif
