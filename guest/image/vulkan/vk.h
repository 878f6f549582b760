// What our Vulkan programs in the guest share: a device, memory of a wanted kind, commands that are
// waited for. Programs of one thread. Every failure ends the program with exit status 2 and a line
// that names call and result.
#ifndef VGD_GUEST_VK_H
#define VGD_GUEST_VK_H

#include <stdbool.h>
#include <stdint.h>
#include <vulkan/vulkan.h>

enum {
    EXIT_RIGHT = 0,
    EXIT_WRONG = 1,     // something came out other than it must
    EXIT_COULD_NOT = 2, // the device, or a part of it, is not to be had, or was lost
};

/// A submission that is not done after this long counts as hanging.
#define VK_DEADLINE_S 60

struct vk {
    const char *program; // for messages
    VkInstance instance;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue; // graphics and compute
    uint32_t family;
    VkCommandPool pool;
    VkCommandBuffer commands; // between vk_begin and vk_finish
    VkFence fence;
};

/// A buffer with memory of its own.
struct vk_buffer {
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkDeviceSize n_bytes;
    void *map; // NULL if the memory was not asked to be host-visible
};

void vk_die(const struct vk *vk, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/// Ends the program if result is an error.
void vk_must(const struct vk *vk, VkResult result, const char *what);

/// Opens the venus device (or, with any, the first one) and prints "device: NAME" and "driver:
/// NAME".
void vk_open(struct vk *vk, const char *program, bool any);
void vk_close(struct vk *vk);

/// The first memory type among type_bits (as in VkMemoryRequirements) that has all flags; ends the
/// program if none has.
uint32_t vk_memory_type(const struct vk *vk, uint32_t type_bits, VkMemoryPropertyFlags flags);

void vk_buffer_create(const struct vk *vk, VkDeviceSize n_bytes, VkBufferUsageFlags usage,
                      VkMemoryPropertyFlags flags, struct vk_buffer *out);
void vk_buffer_destroy(const struct vk *vk, struct vk_buffer *buffer);

/// Starts recording vk->commands; vk_finish submits them and waits, at most VK_DEADLINE_S.
void vk_begin(const struct vk *vk);
void vk_finish(const struct vk *vk);

/// Between commands: what earlier ones wrote is seen by the later ones and by the host.
void vk_barrier(const struct vk *vk);

VkShaderModule vk_shader(const struct vk *vk, const uint32_t *words, size_t n_bytes);

/// Seconds of a clock that only goes forward.
double vk_now_s(void);

#define HOST_MEMORY (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)

#endif
