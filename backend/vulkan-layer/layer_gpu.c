/* SPDX-License-Identifier: MIT */
/* What a device can do: its extensions, and which memory types take a mapped memfd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd.h"
#include "layer.h"

/* The loader asks this layer for extensions while it makes the trial device: those questions go
 * straight to the driver. */
static __thread bool in_trial;

static bool has_extension(const VkExtensionProperties *list, uint32_t count, const char *name)
{
    for (uint32_t e = 0; e < count; e++) {
        if (strcmp(list[e].extensionName, name) == 0) {
            return true;
        }
    }
    return false;
}

/* True if the driver imports host pointers. */
static bool read_extensions(const struct layer_instance *i, struct layer_gpu *gpu)
{
    uint32_t count = 0;
    VkResult result = i->vk.EnumerateDeviceExtensionProperties(gpu->handle, NULL, &count, NULL);
    VkExtensionProperties *list = calloc(count + 1u, sizeof(*list));
    if (result == VK_SUCCESS && list != NULL) {
        result = i->vk.EnumerateDeviceExtensionProperties(gpu->handle, NULL, &count, list);
    }
    bool imports = false;
    if (result == VK_SUCCESS && list != NULL) {
        gpu->driver_has_dma_buf =
            has_extension(list, count, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
        gpu->driver_has_memory_fd =
            has_extension(list, count, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
        gpu->adds_modifiers =
            !has_extension(list, count, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME) &&
            i->vk.GetPhysicalDeviceFormatProperties2 != NULL &&
            i->vk.GetPhysicalDeviceImageFormatProperties2 != NULL;
        gpu->signals = has_extension(list, count, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME);
        imports = has_extension(list, count, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    }
    free(list);
    return imports;
}

static bool read_alignment(const struct layer_instance *i, struct layer_gpu *gpu)
{
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT,
    };
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .pNext = &host,
    };
    i->vk.GetPhysicalDeviceProperties2(gpu->handle, &properties);
    VkDeviceSize align = host.minImportedHostPointerAlignment;
    VkDeviceSize page = (VkDeviceSize)sysconf(_SC_PAGESIZE);
    gpu->align_bytes = align > page ? align : page;
    return properties.properties.apiVersion >= VK_API_VERSION_1_1 && align != 0 &&
           (align & (align - 1)) == 0 && align <= LAYER_MAX_ALIGN_BYTES;
}

/* Types that the driver says take the pointer, and that then do. */
static uint32_t try_types(VkDevice device, PFN_vkGetDeviceProcAddr gdpa,
                          const struct layer_gpu *gpu, void *map, size_t map_bytes)
{
    PFN_vkGetMemoryHostPointerPropertiesEXT ask = (PFN_vkGetMemoryHostPointerPropertiesEXT)gdpa(
        device, "vkGetMemoryHostPointerPropertiesEXT");
    PFN_vkAllocateMemory allocate = (PFN_vkAllocateMemory)gdpa(device, "vkAllocateMemory");
    PFN_vkFreeMemory release = (PFN_vkFreeMemory)gdpa(device, "vkFreeMemory");
    VkMemoryHostPointerPropertiesEXT answer = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT,
    };
    if (ask == NULL || allocate == NULL || release == NULL ||
        ask(device, LAYER_HOST_POINTER, map, &answer) != VK_SUCCESS) {
        return 0;
    }
    uint32_t works = 0;
    for (uint32_t t = 0; t < gpu->memory.memoryTypeCount; t++) {
        uint32_t flags = gpu->memory.memoryTypes[t].propertyFlags;
        if ((answer.memoryTypeBits & (1u << t)) == 0 ||
            (flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) == 0) {
            continue;
        }
        VkImportMemoryHostPointerInfoEXT import = {
            .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
            .handleType = LAYER_HOST_POINTER,
            .pHostPointer = map,
        };
        VkMemoryAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
            .pNext = &import,
            .allocationSize = map_bytes,
            .memoryTypeIndex = t,
        };
        VkDeviceMemory memory;
        if (allocate(device, &info, NULL, &memory) == VK_SUCCESS) {
            release(device, memory, NULL);
            works |= 1u << t;
        }
    }
    return works;
}

/* On a device of its own: only a device can say which memory types a pointer can be imported as. */
static uint32_t trial(const struct layer_instance *i, const struct layer_gpu *gpu)
{
    uint32_t n_families = 0;
    i->vk.GetPhysicalDeviceQueueFamilyProperties(gpu->handle, &n_families, NULL);
    if (i->create_device == NULL || i->destroy_device == NULL || n_families == 0) {
        return 0;
    }
    size_t map_bytes = LAYER_TRIAL_BYTES > gpu->align_bytes ? LAYER_TRIAL_BYTES : gpu->align_bytes;
    VGD_AUTO_FD fd = vgd_memfd_create("vgd-vk-trial", map_bytes);
    void *map = fd >= 0 ? layer_map_aligned(fd, map_bytes, gpu->align_bytes) : NULL;
    if (map == NULL) {
        return 0;
    }
    float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    const char *extensions[] = {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME};
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = 1,
        .ppEnabledExtensionNames = extensions,
    };
    VkDevice device = VK_NULL_HANDLE;
    PFN_vkGetDeviceProcAddr gdpa = NULL;
    uint32_t works = 0;
    in_trial = true;
    if (i->create_device(i->handle, gpu->handle, &info, NULL, &device, layer_GetInstanceProcAddr,
                         &gdpa) == VK_SUCCESS) {
        works = try_types(device, gdpa, gpu, map, map_bytes);
        i->destroy_device(device, NULL, (PFN_vkDestroyDevice)gdpa(device, "vkDestroyDevice"));
    }
    in_trial = false;
    (void)munmap(map, map_bytes);
    return works;
}

static struct layer_gpu *make_gpu(const struct layer_instance *i, VkPhysicalDevice handle)
{
    struct layer_gpu *gpu = calloc(1, sizeof(*gpu));
    if (gpu == NULL) {
        return NULL;
    }
    gpu->handle = handle;
    i->vk.GetPhysicalDeviceMemoryProperties(handle, &gpu->memory);
    const char *missing = NULL;
    if (i->vk.GetPhysicalDeviceProperties2 == NULL ||
        i->vk.GetPhysicalDeviceExternalBufferProperties == NULL) {
        missing = "the instance is older than Vulkan 1.1";
    } else if (!read_extensions(i, gpu)) {
        missing = "the driver has no " VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    } else if (!read_alignment(i, gpu)) {
        missing = "the driver's Vulkan is older than 1.1, or its pointer alignment is out of range";
    } else {
        gpu->type_bits = trial(i, gpu);
        gpu->serving = gpu->type_bits != 0;
        gpu->signals = gpu->signals && layer_wants_signals(i, handle);
        missing = gpu->serving ? NULL : "no host-visible memory type takes a shared file's pages";
    }
    if (missing != NULL) {
        (void)fprintf(stderr, "vgd-vulkan-layer: no host memory on this device: %s\n", missing);
    }
    return gpu;
}

const struct layer_gpu *layer_gpu_of(struct layer_instance *instance, VkPhysicalDevice handle)
{
    if (in_trial) {
        return NULL;
    }
    /* Held during the trial: others that ask about a device wait for its answer. */
    pthread_mutex_lock(&instance->lock);
    struct layer_gpu *gpu = instance->gpus;
    while (gpu != NULL && gpu->handle != handle) {
        gpu = gpu->next;
    }
    if (gpu == NULL) {
        gpu = make_gpu(instance, handle);
        if (gpu != NULL) {
            gpu->next = instance->gpus;
            instance->gpus = gpu;
        }
    }
    pthread_mutex_unlock(&instance->lock);
    return gpu;
}

const struct layer_gpu *layer_serving_gpu(struct layer_instance *instance, VkPhysicalDevice handle)
{
    if (!instance->host_memory) {
        return NULL;
    }
    const struct layer_gpu *gpu = layer_gpu_of(instance, handle);
    return gpu != NULL && gpu->serving ? gpu : NULL;
}

void layer_gpus_free(struct layer_gpu *gpus)
{
    while (gpus != NULL) {
        struct layer_gpu *next = gpus->next;
        free(gpus);
        gpus = next;
    }
}
