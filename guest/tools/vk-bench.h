/* SPDX-License-Identifier: MIT */
/*
 * The pieces of vk-bench: one device, one queue, one thread. Functions end the program when
 * something without which nothing can be measured fails.
 */
#ifndef VGD_GUEST_VK_BENCH_H
#define VGD_GUEST_VK_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vulkan/vulkan.h>

/* ---- vk-device.c ---- */

struct vk_bench {
    VkInstance instance;
    VkPhysicalDevice gpu;
    VkPhysicalDeviceMemoryProperties memory;
    uint32_t family;
    VkDevice device;
    VkQueue queue;
    VkCommandPool pool;
    VkFence fence;
    VkCommandBuffer commands; /* for what runs once */
    unsigned n_failed;        /* checks */
};
extern struct vk_bench vk;

/** Exit status NO_DEVICE with a message. */
_Noreturn void no_device(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Ends the program, as one failed check more, unless @result is VK_SUCCESS. */
void must(VkResult result, const char *what);
/** Prints PASS or FAIL and counts. */
void verdict(const char *name, uint64_t n_wrong, uint64_t n_all);
uint64_t now_ns(void);

/** @wanted is part of the device's name; "" takes the first that has a queue for everything. */
void open_device(const char *wanted);
void close_device(void);

/** vk.commands: begin recording; end it, submit it and wait until the device is done. */
void begin(void);
void end_submit_wait(void);
/** Everything before is visible to everything after, the processor too. */
void barrier_all(void);
/** Submit @commands (NULL: nothing but the fence) and wait until the device is done. */
void submit_and_wait(const VkCommandBuffer *commands);

struct buffer {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint32_t *words; /* mapped, if its memory type can be; else NULL */
};

/** Has memory type @type all of @wanted? */
bool is_type(uint32_t type, VkMemoryPropertyFlags wanted);
/** The first type of @bits with @wanted; VK_MAX_MEMORY_TYPES: none. */
uint32_t find_type(uint32_t bits, VkMemoryPropertyFlags wanted);
/** False: memory type @type is not for buffers. */
bool buffer_create(struct buffer *b, VkDeviceSize n_bytes, uint32_t type);
void buffer_host(struct buffer *b, VkDeviceSize n_bytes);   /* mapped */
void buffer_device(struct buffer *b, VkDeviceSize n_bytes); /* the device's own */
void buffer_destroy(struct buffer *b);
void copy_once(const struct buffer *from, const struct buffer *to, VkDeviceSize n_bytes);
VkShaderModule shader_create(const uint32_t *words, size_t n_bytes);

/* ---- vk-checks.c ---- */

void check_mapped_type(uint32_t type);
void check_compute(void);

/* ---- vk-scene.c ---- */

struct push {
    float rect[4]; /* left, top, right, bottom in clip space */
    float colour[4];
};

void scene_create(void);
void scene_destroy(void);
/** Record a frame into vk.commands: begin, any number of rectangles, end. */
void draw_begin(void);
void draw_rect(const struct push *push);
void draw_end(void);
void check_picture(void);

#endif
