/* SPDX-License-Identifier: MIT */
/*
 * What a texture or buffer of OpenGL may measure, wherever a guest asks for it: in a command of its
 * own, or inside a stream. These are sizes that virglrenderer would take and choke on: it checks
 * the number of levels against width and height only and one too high, buffers not at all.
 */
#ifndef VGD_TEXTURE_LIMITS_H
#define VGD_TEXTURE_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "checked.h"
#include "virgl_wire.h"
#include "virtio_gpu.h"

#define VGD_GL_TEXTURE_SIDE_PX_MAX 16384u
#define VGD_GL_TEXTURE_LAYERS_MAX 2048u
#define VGD_GL_TEXTURE_SAMPLES_MAX 64u
#define VGD_GL_TEXTURE_BYTES_MAX (4ull << 30) /* at the widest format */
#define VGD_GL_FORMAT_BYTES_MAX 16u           /* the widest format: 4 x 32 bits */
#define VGD_GL_BUFFER_BYTES_MAX (1u << 30)    /* some buffers are plain heap memory */

static inline bool vgd_gl_target_is_layered(uint32_t target)
{
    return target == VGD_VIRGL_TARGET_CUBE || target == VGD_VIRGL_TARGET_1D_ARRAY ||
           target == VGD_VIRGL_TARGET_2D_ARRAY || target == VGD_VIRGL_TARGET_CUBE_ARRAY;
}

static inline bool vgd_gl_texture_fits(const struct vgd_cmd_resource_create_3d *cmd)
{
    if (cmd->target == VGD_VIRGL_TARGET_BUFFER) {
        return cmd->width > 0 && cmd->width <= VGD_GL_BUFFER_BYTES_MAX && cmd->height <= 1 &&
               cmd->depth <= 1 && cmd->array_size <= 1 && cmd->last_level == 0 &&
               cmd->nr_samples <= 1;
    }
    bool layered = vgd_gl_target_is_layered(cmd->target);
    if (cmd->target > VGD_VIRGL_TARGET_CUBE_ARRAY || cmd->width == 0 || cmd->height == 0 ||
        cmd->depth == 0 || cmd->width > VGD_GL_TEXTURE_SIDE_PX_MAX ||
        cmd->height > VGD_GL_TEXTURE_SIDE_PX_MAX || cmd->depth > VGD_GL_TEXTURE_LAYERS_MAX ||
        cmd->array_size > VGD_GL_TEXTURE_LAYERS_MAX ||
        cmd->nr_samples > VGD_GL_TEXTURE_SAMPLES_MAX || (layered && cmd->array_size == 0) ||
        (cmd->target != VGD_VIRGL_TARGET_3D && cmd->depth != 1)) {
        return false;
    }
    uint32_t longest = cmd->width > cmd->height ? cmd->width : cmd->height;
    longest = longest > cmd->depth ? longest : cmd->depth;
    if (cmd->last_level > 31u - (uint32_t)__builtin_clz(longest)) {
        return false;
    }
    uint64_t bytes = (uint64_t)cmd->width * cmd->height * VGD_GL_FORMAT_BYTES_MAX; /* <= 2^32 */
    return vgd_mul_u64(bytes, layered ? cmd->array_size : cmd->depth, &bytes) &&
           vgd_mul_u64(bytes, cmd->nr_samples > 1 ? cmd->nr_samples : 1, &bytes) &&
           bytes <= VGD_GL_TEXTURE_BYTES_MAX;
}

#endif
