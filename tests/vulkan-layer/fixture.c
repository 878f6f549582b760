/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer_env.h"

#define LAVAPIPE "/usr/share/vulkan/icd.d/lvp_icd.json"

static void set(const char *name, const char *value)
{
    if (value != NULL) {
        cr_assert_eq(setenv(name, value, 1), 0);
    } else {
        cr_assert_eq(unsetenv(name), 0);
    }
}

void use_layer(bool host_memory, const char *uuid)
{
    const char *folder = getenv("VGD_LAYER_FOLDER"); /* meson's, or wherever the layer was put */
    cr_assert_not_null(folder, "VGD_LAYER_FOLDER says where the layer is");
    set(VGD_LAYER_ENV_PATH, NULL);
    set(VGD_LAYER_ENV_ADD_PATH, folder);
    set(VGD_LAYER_ENV_LAYERS, VGD_LAYER_NAME);
    set(VGD_LAYER_ENV_HOST_MEMORY, host_memory ? VGD_LAYER_HOST_MEMORY_ON : NULL);
    set(VGD_LAYER_ENV_DEVICE_UUID, uuid);
}

void use_no_layer(void)
{
    set(VGD_LAYER_ENV_LAYERS, NULL);
}

uint32_t wanted_api_version = VK_API_VERSION_1_1;

VkInstance open_instance(void)
{
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .apiVersion = wanted_api_version,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkInstance instance = NULL;
    VkResult result = vkCreateInstance(&info, NULL, &instance);
    cr_assert_eq(result, VK_SUCCESS, "vkCreateInstance: %d", (int)result);
    return instance;
}

VkPhysicalDevice use_real_driver(VkInstance *out_instance)
{
    if (getenv("VK_DRIVER_FILES") == NULL && access(LAVAPIPE, R_OK) == 0) {
        cr_assert_eq(setenv("VK_DRIVER_FILES", LAVAPIPE, 1), 0);
    }
    use_layer(true, NULL);
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .apiVersion = wanted_api_version,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkPhysicalDevice gpu = VK_NULL_HANDLE;
    VkResult result = vkCreateInstance(&info, NULL, out_instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER || list_gpus(*out_instance, &gpu, 1) == 0) {
        cr_skip("no Vulkan driver on this machine");
    }
    cr_assert_eq(result, VK_SUCCESS, "vkCreateInstance: %d", (int)result);
    if (!has_extension(gpu, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)) {
        cr_skip("this driver does not import host pointers");
    }
    return gpu;
}

uint32_t list_gpus(VkInstance instance, VkPhysicalDevice *out, uint32_t room)
{
    uint32_t count = 0;
    cr_assert_eq(vkEnumeratePhysicalDevices(instance, &count, NULL), VK_SUCCESS);
    if (count != 0) {
        uint32_t n = room;
        cr_assert_geq(vkEnumeratePhysicalDevices(instance, &n, out), 0);
    }
    return count;
}

bool has_extension(VkPhysicalDevice gpu, const char *name)
{
    VkExtensionProperties list[512];
    uint32_t n = 512;
    cr_assert_eq(vkEnumerateDeviceExtensionProperties(gpu, NULL, &n, list), VK_SUCCESS);
    unsigned found = 0;
    for (uint32_t e = 0; e < n; e++) {
        found += strcmp(list[e].extensionName, name) == 0;
    }
    cr_assert_leq(found, 1, "%s is listed %u times", name, found);
    return found == 1;
}

void open_device(VkPhysicalDevice gpu, struct device *out)
{
    open_device_with(gpu, NULL, out);
}

void open_device_with(VkPhysicalDevice gpu, const char *extension, struct device *out)
{
    *out = (struct device){.gpu = gpu};
    vkGetPhysicalDeviceMemoryProperties(gpu, &out->memory);
    float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    const char *extensions[] = {
        VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME,
        VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME,
        extension,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = extension != NULL ? 3 : 2,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result = vkCreateDevice(gpu, &info, NULL, &out->device);
    cr_assert_eq(result, VK_SUCCESS, "vkCreateDevice: %d", (int)result);
    vkGetDeviceQueue(out->device, 0, 0, &out->queue);
    out->get_fd = (PFN_vkGetMemoryFdKHR)vkGetDeviceProcAddr(out->device, "vkGetMemoryFdKHR");
    out->fd_properties = (PFN_vkGetMemoryFdPropertiesKHR)vkGetDeviceProcAddr(
        out->device, "vkGetMemoryFdPropertiesKHR");
    cr_assert(out->get_fd != NULL && out->fd_properties != NULL);
}

void close_device(struct device *d)
{
    if (d->pool != VK_NULL_HANDLE) {
        vkDestroyCommandPool(d->device, d->pool, NULL);
    }
    vkDestroyDevice(d->device, NULL);
    *d = (struct device){0};
}

uint32_t next_host_type(const struct device *d, uint32_t from)
{
    for (uint32_t t = from; t < d->memory.memoryTypeCount; t++) {
        if ((d->memory.memoryTypes[t].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) != 0) {
            return t;
        }
    }
    return UINT32_MAX;
}

VkResult try_allocate(const struct device *d, VkDeviceSize n_bytes, uint32_t type,
                      VkDeviceMemory *out)
{
    VkExportMemoryAllocateInfo export = {
        .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
        .handleTypes = DMA_BUF,
    };
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &export,
        .allocationSize = n_bytes,
        .memoryTypeIndex = type,
    };
    return vkAllocateMemory(d->device, &info, NULL, out);
}

VkResult try_import(const struct device *d, VkDeviceSize n_bytes, uint32_t type, int fd,
                    VkDeviceMemory *out)
{
    VkImportMemoryFdInfoKHR import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
        .handleType = DMA_BUF,
        .fd = fd,
    };
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &import,
        .allocationSize = n_bytes,
        .memoryTypeIndex = type,
    };
    return vkAllocateMemory(d->device, &info, NULL, out);
}

void use_memory(const struct device *d, VkDeviceMemory memory, VkDeviceSize n_bytes,
                struct memory *out)
{
    *out = (struct memory){.memory = memory, .n_bytes = n_bytes};
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = n_bytes,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    cr_assert_eq(vkCreateBuffer(d->device, &info, NULL, &out->buffer), VK_SUCCESS);
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(d->device, out->buffer, &needs);
    cr_assert_eq(vkBindBufferMemory(d->device, out->buffer, memory, 0), VK_SUCCESS);
    void *map = NULL;
    cr_assert_eq(vkMapMemory(d->device, memory, 0, VK_WHOLE_SIZE, 0, &map), VK_SUCCESS);
    out->words = map;
}

void free_memory(const struct device *d, struct memory *m)
{
    vkDestroyBuffer(d->device, m->buffer, NULL);
    vkFreeMemory(d->device, m->memory, NULL);
    *m = (struct memory){0};
}

int export_fd(const struct device *d, VkDeviceMemory memory)
{
    VkMemoryGetFdInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
        .memory = memory,
        .handleType = DMA_BUF,
    };
    int fd = -1;
    VkResult result = d->get_fd(d->device, &info, &fd);
    cr_assert_eq(result, VK_SUCCESS, "vkGetMemoryFdKHR: %d", (int)result);
    cr_assert_geq(fd, 0);
    return fd;
}

static void begin(const struct device *from)
{
    struct device *d =
        (struct device *)(uintptr_t)from; /* the command buffer is made on first use */
    if (d->pool == VK_NULL_HANDLE) {
        VkCommandPoolCreateInfo pool = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
            .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        };
        cr_assert_eq(vkCreateCommandPool(d->device, &pool, NULL, &d->pool), VK_SUCCESS);
        VkCommandBufferAllocateInfo commands = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
            .commandPool = d->pool,
            .commandBufferCount = 1,
        };
        cr_assert_eq(vkAllocateCommandBuffers(d->device, &commands, &d->commands), VK_SUCCESS);
    }
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    cr_assert_eq(vkBeginCommandBuffer(d->commands, &info), VK_SUCCESS);
}

static void end_and_wait(const struct device *d)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    vkCmdPipelineBarrier(d->commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0,
                         1, &barrier, 0, NULL, 0, NULL);
    cr_assert_eq(vkEndCommandBuffer(d->commands), VK_SUCCESS);
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = 1,
        .pCommandBuffers = &d->commands,
    };
    cr_assert_eq(vkQueueSubmit(d->queue, 1, &submit, VK_NULL_HANDLE), VK_SUCCESS);
    cr_assert_eq(vkQueueWaitIdle(d->queue), VK_SUCCESS);
}

void device_fill(const struct device *d, const struct memory *m, uint32_t value)
{
    begin(d);
    vkCmdFillBuffer(d->commands, m->buffer, 0, m->n_bytes, value);
    end_and_wait(d);
}

void device_copy(const struct device *d, const struct memory *from, const struct memory *to)
{
    begin(d);
    VkBufferCopy all = {.size = from->n_bytes};
    vkCmdCopyBuffer(d->commands, from->buffer, to->buffer, 1, &all);
    end_and_wait(d);
}

void device_clear(const struct device *d, VkImage image, VkClearColorValue colour)
{
    begin(d);
    VkImageMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
        .dstAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .newLayout = VK_IMAGE_LAYOUT_GENERAL,
        .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
        .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
        .image = image,
        .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1},
    };
    vkCmdPipelineBarrier(d->commands, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT,
                         VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 0, NULL, 0, NULL, 1, &barrier);
    vkCmdClearColorImage(d->commands, image, VK_IMAGE_LAYOUT_GENERAL, &colour, 1,
                         &barrier.subresourceRange);
    end_and_wait(d);
}

unsigned count_maps(void)
{
    unsigned n = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    cr_assert_not_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        n += strstr(line, "memfd:vgd-vk") != NULL;
    }
    (void)fclose(maps);
    return n;
}
