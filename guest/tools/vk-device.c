/* SPDX-License-Identifier: MIT */
/* The device, its one queue, buffers. */
#include "vk-bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NO_DEVICE 100
#define WAIT_NS 30000000000ull /* longer than this is "never" */

_Noreturn void no_device(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("vk-bench: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(NO_DEVICE);
}

/* What must work for anything to be measured: a failure ends the program, as one failed check more.
 */
void must(VkResult result, const char *what)
{
    if (result != VK_SUCCESS) {
        printf("FAIL %s: VkResult %d\n", what, (int)result);
        (void)fflush(stdout);
        exit((int)vk.n_failed + 1);
    }
}

void verdict(const char *name, uint64_t n_wrong, uint64_t n_all)
{
    if (n_wrong == 0) {
        printf("PASS %s\n", name);
    } else {
        vk.n_failed++;
        printf("FAIL %s: %llu of %llu wrong\n", name, (unsigned long long)n_wrong,
               (unsigned long long)n_all);
    }
    (void)fflush(stdout);
}

uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- the device ---- */

struct vk_bench vk;

static bool pick_family(VkPhysicalDevice gpu, uint32_t *out)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = 32;
    vkGetPhysicalDeviceQueueFamilyProperties(gpu, &n, families);
    const VkQueueFlags wanted = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT;
    for (uint32_t f = 0; f < n; f++) {
        if ((families[f].queueFlags & wanted) == wanted) {
            *out = f;
            return true;
        }
    }
    return false;
}

static void pick_gpu(const char *wanted)
{
    VkPhysicalDevice gpus[32];
    uint32_t n = 32;
    VkResult result = vkEnumeratePhysicalDevices(vk.instance, &n, gpus);
    if (result < 0) {
        no_device("no devices: VkResult %d", (int)result);
    }
    for (uint32_t g = 0; g < n; g++) {
        VkPhysicalDeviceProperties about;
        vkGetPhysicalDeviceProperties(gpus[g], &about);
        if (strstr(about.deviceName, wanted) != NULL && pick_family(gpus[g], &vk.family)) {
            vk.gpu = gpus[g];
            printf("device %s\n", about.deviceName);
            return;
        }
    }
    no_device("none of %u devices has '%s' in its name and a queue for graphics and compute",
              (unsigned)n, wanted);
}

void open_device(const char *wanted)
{
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "vk-bench",
        .apiVersion = VK_API_VERSION_1_1,
    };
    VkInstanceCreateInfo instance = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkResult result = vkCreateInstance(&instance, NULL, &vk.instance);
    if (result != VK_SUCCESS) {
        no_device("no Vulkan: VkResult %d", (int)result);
    }
    pick_gpu(wanted);
    vkGetPhysicalDeviceMemoryProperties(vk.gpu, &vk.memory);
    float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = vk.family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo device = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
    };
    must(vkCreateDevice(vk.gpu, &device, NULL, &vk.device), "device");
    vkGetDeviceQueue(vk.device, vk.family, 0, &vk.queue);
    VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = vk.family,
    };
    must(vkCreateCommandPool(vk.device, &pool, NULL, &vk.pool), "command pool");
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    must(vkCreateFence(vk.device, &fence, NULL, &vk.fence), "fence");
    VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk.pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    must(vkAllocateCommandBuffers(vk.device, &commands, &vk.commands), "command buffer");
}

void close_device(void)
{
    vkDestroyFence(vk.device, vk.fence, NULL);
    vkDestroyCommandPool(vk.device, vk.pool, NULL);
    vkDestroyDevice(vk.device, NULL);
    vkDestroyInstance(vk.instance, NULL);
}

void begin(void)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    must(vkBeginCommandBuffer(vk.commands, &info), "begin");
}

/* Submit @commands (NULL: nothing but the fence) and wait until the device is done. */
void submit_and_wait(const VkCommandBuffer *commands)
{
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = commands != NULL ? 1 : 0,
        .pCommandBuffers = commands,
    };
    must(vkQueueSubmit(vk.queue, 1, &submit, vk.fence), "submit");
    must(vkWaitForFences(vk.device, 1, &vk.fence, VK_TRUE, WAIT_NS), "wait for a fence");
    must(vkResetFences(vk.device, 1, &vk.fence), "reset a fence");
}

/* All that the device wrote is visible to the processor, and the other way round. */
void barrier_all(void)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT,
        .dstAccessMask =
            VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT | VK_ACCESS_HOST_READ_BIT,
    };
    const VkPipelineStageFlags everything =
        VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_HOST_BIT;
    vkCmdPipelineBarrier(vk.commands, everything, everything, 0, 1, &barrier, 0, NULL, 0, NULL);
}

void end_submit_wait(void)
{
    barrier_all();
    must(vkEndCommandBuffer(vk.commands), "end");
    submit_and_wait(&vk.commands);
}

/* ---- memory ---- */

bool is_type(uint32_t type, VkMemoryPropertyFlags wanted)
{
    return (vk.memory.memoryTypes[type].propertyFlags & wanted) == wanted;
}

/* The first type of @bits with @wanted; VK_MAX_MEMORY_TYPES: none. */
uint32_t find_type(uint32_t bits, VkMemoryPropertyFlags wanted)
{
    for (uint32_t t = 0; t < vk.memory.memoryTypeCount; t++) {
        if ((bits & (1u << t)) != 0 && is_type(t, wanted)) {
            return t;
        }
    }
    return VK_MAX_MEMORY_TYPES;
}

#define HOST_TYPE (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)

/* @type: VK_MAX_MEMORY_TYPES for the first that has @wanted. */
static bool make_buffer(struct buffer *b, VkDeviceSize n_bytes, uint32_t type,
                        VkMemoryPropertyFlags wanted)
{
    *b = (struct buffer){0};
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = n_bytes,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT,
    };
    must(vkCreateBuffer(vk.device, &info, NULL, &b->buffer), "buffer");
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(vk.device, b->buffer, &needs);
    if (type == VK_MAX_MEMORY_TYPES) {
        type = find_type(needs.memoryTypeBits, wanted);
    }
    if (type == VK_MAX_MEMORY_TYPES || (needs.memoryTypeBits & (1u << type)) == 0) {
        vkDestroyBuffer(vk.device, b->buffer, NULL);
        return false;
    }
    VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    must(vkAllocateMemory(vk.device, &allocate, NULL, &b->memory), "allocate");
    must(vkBindBufferMemory(vk.device, b->buffer, b->memory, 0), "bind");
    if (is_type(type, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)) {
        void *map = NULL;
        must(vkMapMemory(vk.device, b->memory, 0, VK_WHOLE_SIZE, 0, &map), "map");
        b->words = map;
    }
    return true;
}

bool buffer_create(struct buffer *b, VkDeviceSize n_bytes, uint32_t type)
{
    return make_buffer(b, n_bytes, type, 0);
}

void buffer_destroy(struct buffer *b)
{
    vkDestroyBuffer(vk.device, b->buffer, NULL);
    vkFreeMemory(vk.device, b->memory, NULL); /* unmaps */
}

void buffer_host(struct buffer *b, VkDeviceSize n_bytes)
{
    if (!make_buffer(b, n_bytes, VK_MAX_MEMORY_TYPES, HOST_TYPE)) {
        no_device("no host-visible memory for buffers");
    }
}

void buffer_device(struct buffer *b, VkDeviceSize n_bytes)
{
    if (!make_buffer(b, n_bytes, VK_MAX_MEMORY_TYPES, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)) {
        no_device("no device-local memory for buffers");
    }
}

void copy_once(const struct buffer *from, const struct buffer *to, VkDeviceSize n_bytes)
{
    begin();
    VkBufferCopy all = {.size = n_bytes};
    vkCmdCopyBuffer(vk.commands, from->buffer, to->buffer, 1, &all);
    end_submit_wait();
}

VkShaderModule shader_create(const uint32_t *words, size_t n_bytes)
{
    VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = n_bytes,
        .pCode = words,
    };
    VkShaderModule shader;
    must(vkCreateShaderModule(vk.device, &info, NULL, &shader), "shader");
    return shader;
}
