/* SPDX-License-Identifier: MIT */
/*
 * What Vulkan devices this host has and what they can do with memory. Asked in child processes:
 * many drivers may not be used on both sides of a fork, and one that crashes or hangs costs a line.
 * Thread: loop, before any other thread exists.
 */
#ifndef VGD_VULKAN_QUERY_H
#define VGD_VULKAN_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#define VGD_VK_DEVICES_MAX 16u
#define VGD_VK_UUID_BYTES 16u
#define VGD_VK_DEADLINE_MS 15000 /* as VGD_GL_TRY_DEADLINE_MS */
#define VGD_VK_REASON_BYTES 128u

struct vgd_vk_device {
    char name[128], driver[128], type[16]; /* type: "discrete", "cpu", ... */
    uint8_t uuid[VGD_VK_UUID_BYTES];
    uint32_t api_version; /* as VK_MAKE_API_VERSION makes it */
    bool is_software;
    bool dma_buf, memory_fd, host_memory; /* extensions for external memory */
    bool has_render_node;                 /* with the two below */
    uint32_t render_major, render_minor;
};

struct vgd_vk_devices {
    bool ok; /* the loader works; there may still be no device */
    char reason[VGD_VK_REASON_BYTES];
    uint32_t n;
    struct vgd_vk_device devices[VGD_VK_DEVICES_MAX];
};
/** In the loader's order. */
void vgd_vk_list(struct vgd_vk_devices *out);

/* How host-visible memory can come to be shared with another process; really tried. */
struct vgd_vk_memory {
    bool exports; /* as a dma-buf that can be mapped */
    char export_reason[VGD_VK_REASON_BYTES];
    bool imports; /* from shared memory of ours */
    char import_reason[VGD_VK_REASON_BYTES];
};
void vgd_vk_try_memory(const uint8_t uuid[VGD_VK_UUID_BYTES], struct vgd_vk_memory *out);

#endif
