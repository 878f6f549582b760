#include "vk.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_DEVICES 16
#define MAX_FAMILIES 16

void vk_die(const struct vk *vk, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", vk->program);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(stdout);
    // Not exit(): handlers of a driver whose device is lost need not come to an end.
    _Exit(EXIT_COULD_NOT);
}

static const char *result_name(VkResult result)
{
    switch (result) {
    case VK_TIMEOUT:
        return "VK_TIMEOUT";
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED:
        return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST:
        return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_MEMORY_MAP_FAILED:
        return "VK_ERROR_MEMORY_MAP_FAILED";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return "VK_ERROR_INCOMPATIBLE_DRIVER";
    case VK_ERROR_TOO_MANY_OBJECTS:
        return "VK_ERROR_TOO_MANY_OBJECTS";
    default:
        return "other";
    }
}

void vk_must(const struct vk *vk, VkResult result, const char *what)
{
    if (result != VK_SUCCESS) {
        vk_die(vk, "%s: %s (%d)", what, result_name(result), result);
    }
}

double vk_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void choose_device(struct vk *vk, bool any)
{
    VkPhysicalDevice found[MAX_DEVICES];
    uint32_t n_found = MAX_DEVICES;
    VkResult result = vkEnumeratePhysicalDevices(vk->instance, &n_found, found);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        vk_must(vk, result, "vkEnumeratePhysicalDevices");
    }
    for (uint32_t i = 0; i < n_found; i++) {
        VkPhysicalDeviceDriverProperties driver = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
        VkPhysicalDeviceProperties2 about = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &driver};
        vkGetPhysicalDeviceProperties2(found[i], &about);
        if (any || driver.driverID == VK_DRIVER_ID_MESA_VENUS) {
            vk->physical = found[i];
            printf("device: %s\ndriver: %s %s\n", about.properties.deviceName, driver.driverName,
                   driver.driverInfo);
            vkGetPhysicalDeviceMemoryProperties(vk->physical, &vk->memory);
            return;
        }
    }
    vk_die(vk, "none of %u Vulkan devices is venus", n_found);
}

static void choose_family(struct vk *vk)
{
    VkQueueFamilyProperties families[MAX_FAMILIES];
    uint32_t n_families = MAX_FAMILIES;
    vkGetPhysicalDeviceQueueFamilyProperties(vk->physical, &n_families, families);
    const VkQueueFlags wanted = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT;
    for (uint32_t i = 0; i < n_families; i++) {
        if ((families[i].queueFlags & wanted) == wanted) {
            vk->family = i;
            return;
        }
    }
    vk_die(vk, "no queue for graphics and compute");
}

void vk_open(struct vk *vk, const char *program, bool any)
{
    *vk = (struct vk){.program = program};
    setvbuf(stdout, NULL, _IOLBF, 0);
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = program,
                             .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo instance = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                     .pApplicationInfo = &app};
    vk_must(vk, vkCreateInstance(&instance, NULL, &vk->instance), "vkCreateInstance");
    choose_device(vk, any);
    choose_family(vk);
    const float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = vk->family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo device = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                 .queueCreateInfoCount = 1,
                                 .pQueueCreateInfos = &queue};
    vk_must(vk, vkCreateDevice(vk->physical, &device, NULL, &vk->device), "vkCreateDevice");
    vkGetDeviceQueue(vk->device, vk->family, 0, &vk->queue);
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = vk->family};
    vk_must(vk, vkCreateCommandPool(vk->device, &pool, NULL, &vk->pool), "vkCreateCommandPool");
    VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = vk->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
    vk_must(vk, vkAllocateCommandBuffers(vk->device, &commands, &vk->commands),
            "vkAllocateCommandBuffers");
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    vk_must(vk, vkCreateFence(vk->device, &fence, NULL, &vk->fence), "vkCreateFence");
}

void vk_close(struct vk *vk)
{
    vkDestroyFence(vk->device, vk->fence, NULL);
    vkDestroyCommandPool(vk->device, vk->pool, NULL);
    vkDestroyDevice(vk->device, NULL);
    vkDestroyInstance(vk->instance, NULL);
    *vk = (struct vk){.program = vk->program};
}

uint32_t vk_memory_type(const struct vk *vk, uint32_t type_bits, VkMemoryPropertyFlags flags)
{
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
        if ((type_bits >> i & 1) != 0 &&
            (vk->memory.memoryTypes[i].propertyFlags & flags) == flags) {
            return i;
        }
    }
    vk_die(vk, "no memory type among 0x%x has flags 0x%x", type_bits, flags);
}

void vk_buffer_create(const struct vk *vk, VkDeviceSize n_bytes, VkBufferUsageFlags usage,
                      VkMemoryPropertyFlags flags, struct vk_buffer *out)
{
    *out = (struct vk_buffer){.n_bytes = n_bytes};
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = n_bytes, .usage = usage};
    vk_must(vk, vkCreateBuffer(vk->device, &info, NULL, &out->buffer), "vkCreateBuffer");
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(vk->device, out->buffer, &needs);
    VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                   .allocationSize = needs.size,
                                   .memoryTypeIndex =
                                       vk_memory_type(vk, needs.memoryTypeBits, flags)};
    vk_must(vk, vkAllocateMemory(vk->device, &memory, NULL, &out->memory), "vkAllocateMemory");
    vk_must(vk, vkBindBufferMemory(vk->device, out->buffer, out->memory, 0), "vkBindBufferMemory");
    if (flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
        vk_must(vk, vkMapMemory(vk->device, out->memory, 0, VK_WHOLE_SIZE, 0, &out->map),
                "vkMapMemory");
    }
}

void vk_buffer_destroy(const struct vk *vk, struct vk_buffer *buffer)
{
    vkDestroyBuffer(vk->device, buffer->buffer, NULL);
    vkFreeMemory(vk->device, buffer->memory, NULL); // unmaps
    *buffer = (struct vk_buffer){0};
}

void vk_begin(const struct vk *vk)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    vk_must(vk, vkBeginCommandBuffer(vk->commands, &info), "vkBeginCommandBuffer");
}

void vk_barrier(const struct vk *vk)
{
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
                               .dstAccessMask =
                                   VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT};
    const VkPipelineStageFlags all =
        VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_HOST_BIT;
    vkCmdPipelineBarrier(vk->commands, all, all, 0, 1, &barrier, 0, NULL, 0, NULL);
}

void vk_finish(const struct vk *vk)
{
    vk_barrier(vk);
    vk_must(vk, vkEndCommandBuffer(vk->commands), "vkEndCommandBuffer");
    VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                           .commandBufferCount = 1,
                           .pCommandBuffers = &vk->commands};
    vk_must(vk, vkQueueSubmit(vk->queue, 1, &submit, vk->fence), "vkQueueSubmit");
    vk_must(
        vk,
        vkWaitForFences(vk->device, 1, &vk->fence, VK_TRUE, VK_DEADLINE_S * UINT64_C(1000000000)),
        "vkWaitForFences");
    vk_must(vk, vkResetFences(vk->device, 1, &vk->fence), "vkResetFences");
}

VkShaderModule vk_shader(const struct vk *vk, const uint32_t *words, size_t n_bytes)
{
    VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = n_bytes, .pCode = words};
    VkShaderModule shader;
    vk_must(vk, vkCreateShaderModule(vk->device, &info, NULL, &shader), "vkCreateShaderModule");
    return shader;
}
