/* SPDX-License-Identifier: MIT */
/* Sizes of 3D resources, of whichever command makes them: limits.h, and what they count for. */
#ifndef VGD_TEXTURE_H
#define VGD_TEXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio_gpu.h"

/** Is each number of @cmd inside its limit? Ids are not looked at. */
bool vgd_texture_in_limits(const struct vgd_cmd_resource_create_3d *cmd);
/** What one that is in the limits counts for against the guest's total. */
uint64_t vgd_texture_bytes(const struct vgd_cmd_resource_create_3d *cmd);

#endif
