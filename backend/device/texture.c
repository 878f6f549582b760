/* SPDX-License-Identifier: MIT */
#include "texture.h"

#include "checked.h"
#include "device.h"
#include "limits.h"

bool vgd_texture_in_limits(const struct vgd_cmd_resource_create_3d *cmd)
{
    bool is_buffer = cmd->target == VGD_TARGET_BUFFER;
    uint32_t width_max = is_buffer ? VGD_BUFFER_BYTES_MAX : VGD_TEXTURE_SIDE_PX_MAX;
    return cmd->target <= VGD_TARGET_MAX && cmd->format != 0 && cmd->width != 0 &&
           cmd->height != 0 && cmd->depth != 0 && cmd->width <= width_max &&
           cmd->height <= VGD_TEXTURE_SIDE_PX_MAX && cmd->depth <= VGD_TEXTURE_DEPTH_MAX &&
           cmd->array_size <= VGD_TEXTURE_LAYERS_MAX && cmd->last_level <= VGD_TEXTURE_LEVEL_MAX &&
           cmd->nr_samples <= VGD_TEXTURE_SAMPLES_MAX &&
           (!is_buffer || (cmd->height == 1 && cmd->depth == 1));
}

/*
 * Four bytes a texel, a third more for its levels. The formats' real sizes are the renderer's
 * business; this is for a total that no guest passes by far. The limits on each number keep the
 * product below 2^64.
 */
uint64_t vgd_texture_bytes(const struct vgd_cmd_resource_create_3d *cmd)
{
    if (cmd->target == VGD_TARGET_BUFFER) {
        return cmd->width;
    }
    uint64_t bytes = (uint64_t)cmd->width * cmd->height * VGD_BYTES_PER_PIXEL;
    uint64_t slices = (uint64_t)cmd->depth * (cmd->array_size != 0 ? cmd->array_size : 1);
    slices *= cmd->nr_samples != 0 ? cmd->nr_samples : 1;
    if (!vgd_mul_u64(bytes, slices, &bytes)) {
        return UINT64_MAX;
    }
    return cmd->last_level != 0 ? bytes / 3 * 4 : bytes;
}
