/* SPDX-License-Identifier: MIT */
/*
 * Which Vulkan device the guest's Vulkan runs on: the one behind the render node, or behind the GL
 * that was chosen; never another GPU.
 * Thread: loop, before any other thread exists.
 */
#ifndef VGD_VULKAN_CHOOSE_H
#define VGD_VULKAN_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "egl_choose.h"
#include "status.h"
#include "vulkan_query.h"

struct vgd_vk_choice {
    char name[128];
    uint8_t device_uuid[VGD_VK_UUID_BYTES];
    bool is_software;
    bool one_of_many; /* the loader shows others, which the guest must not get */
    bool host_memory; /* the driver cannot export host-visible memory in a way that the VMM can map:
                         our layer must */
    char why[VGD_GL_WHY_BYTES]; /* for people: how it was chosen, and why the layer is needed */
};

/**
 * @render_node  the operator's, or "" or NULL
 * @gl           how OpenGL reaches its GPU, or NULL without OpenGL
 * @gl_trial     what that way gave when it was tried (vgd_gl_try); NULL without OpenGL
 *
 * VGD_HOST_FAILED: *why says what is missing and how to get it.
 */
VGD_MUST_CHECK enum vgd_status vgd_vk_choose(const char *render_node,
                                             const struct vgd_gl_choice *gl,
                                             const struct vgd_gl_trial *gl_trial,
                                             bool require_hardware, struct vgd_vk_choice *out,
                                             char *why, size_t why_bytes);

/**
 * The matching alone, for what vgd_vk_list found: an index in @devices, or -1. Either way @why says
 * why. @node_major and @node_minor are of the render node, 0 without one.
 */
int vgd_vk_match(const struct vgd_vk_devices *devices, uint32_t node_major, uint32_t node_minor,
                 const struct vgd_gl_trial *gl_trial, char *why, size_t why_bytes);

#endif
