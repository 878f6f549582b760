/* SPDX-License-Identifier: MIT */
/*
 * An instance and devices above our layer. Criterion runs each test in a process of its own, so the
 * environment that a test sets is its own too; what is opened is closed by close_all.
 */
#ifndef VGD_TEST_LAYER_FIXTURE_H
#define VGD_TEST_LAYER_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <vulkan/vulkan.h>

#include "leaks.h"

#define DMA_BUF VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT

/** The layer's environment. @host_memory: its memory part; @uuid: narrow to this, or NULL. */
void use_layer(bool host_memory, const char *uuid);
/** The same driver without the layer. */
void use_no_layer(void);

/** Vulkan 1.1. Asserts. */
/* What instances are made for: 1.1 unless a test says more. */
extern uint32_t wanted_api_version;
VkInstance open_instance(void);
/** The layer above the first device of VK_DRIVER_FILES, or lavapipe. Skips the test where there is
 * no driver, or none that imports host pointers. */
VkPhysicalDevice use_real_driver(VkInstance *out_instance);
/** @out has room for @room devices; returns how many there are. */
uint32_t list_gpus(VkInstance instance, VkPhysicalDevice *out, uint32_t room);

struct device {
    VkPhysicalDevice gpu;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue;
    VkCommandPool pool;
    VkCommandBuffer commands;
    PFN_vkGetMemoryFdKHR get_fd;
    PFN_vkGetMemoryFdPropertiesKHR fd_properties;
};

/** A device with the two extensions by which memory goes out as a dma-buf. */
void open_device(VkPhysicalDevice gpu, struct device *out);
/** ... and one more, unless it is NULL. */
void open_device_with(VkPhysicalDevice gpu, const char *extension, struct device *out);
/** What render servers do when a client is gone: the device is destroyed with memory in it. */
void close_device(struct device *d);

bool has_extension(VkPhysicalDevice gpu, const char *name);

struct memory {
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint32_t *words; /* by vkMapMemory */
    VkDeviceSize n_bytes;
};

/** The first host-visible type for which the layer works, at or after @from; UINT32_MAX: none. */
uint32_t next_host_type(const struct device *d, uint32_t from);
/** Allocate @n_bytes that can be exported; *out as vkAllocateMemory leaves it. */
VkResult try_allocate(const struct device *d, VkDeviceSize n_bytes, uint32_t type,
                      VkDeviceMemory *out);
VkResult try_import(const struct device *d, VkDeviceSize n_bytes, uint32_t type, int fd,
                    VkDeviceMemory *out);
/** A buffer on @memory, mapped; asserts. */
void use_memory(const struct device *d, VkDeviceMemory memory, VkDeviceSize n_bytes,
                struct memory *out);
void free_memory(const struct device *d, struct memory *m);
/** A duplicate that the caller closes; asserts. */
int export_fd(const struct device *d, VkDeviceMemory memory);

/** The device itself writes @value into all of @m, or copies; returns when it is done. */
void device_fill(const struct device *d, const struct memory *m, uint32_t value);
void device_copy(const struct device *d, const struct memory *from, const struct memory *to);

/** @image, of undefined content, becomes @colour all over; its layout GENERAL. */
void device_clear(const struct device *d, VkImage image, VkClearColorValue colour);

/** Open fds, and lines of /proc/self/maps that are of our files. */
unsigned count_maps(void);

#endif
