/* SPDX-License-Identifier: MIT */
/*
 * Which Vulkan device the guest's Vulkan runs on: the one behind the render node, or behind the GL
 * that was chosen; never another GPU. Drivers are asked in a child process: many may not be used on
 * both sides of a fork, and one that crashes costs a line.
 * Thread: loop, before any other thread exists.
 */
#ifndef VGD_VULKAN_CHOOSE_H
#define VGD_VULKAN_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "egl_choose.h"
#include "status.h"

struct vgd_vk_choice {
    char name[128];
    uint8_t device_uuid[16];
    bool is_software;
    bool one_of_many; /* the loader shows others, which the guest must not get */
    bool host_memory; /* the driver cannot export host-visible memory in a way that the VMM can map:
                         our layer must */
    char why[VGD_GL_WHY_BYTES]; /* for people: how it was chosen */
};

/**
 * @render_node   the operator's, or "" or NULL
 * @gl            how OpenGL reaches its GPU, or NULL without OpenGL
 * @gl_renderer   its GL_RENDERER, or ""
 *
 * VGD_HOST_FAILED: *why says what is missing and how to get it.
 */
VGD_MUST_CHECK enum vgd_status
vgd_vk_choose(const char *render_node, const struct vgd_gl_choice *gl, const char *gl_renderer,
              bool require_hardware, struct vgd_vk_choice *out, char *why, size_t why_bytes);

#endif
