/* SPDX-License-Identifier: MIT */
#include "fake_driver.h"

#include <stdlib.h>
#include <string.h>

#include <vulkan/vk_icd.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))
#define HOST_POINTER VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT

EXPORT struct fake_seen fake_seen;

struct gpu {
    VK_LOADER_DATA loader;
    unsigned index;
};
struct object { /* an instance, a device or a queue */
    VK_LOADER_DATA loader;
    unsigned gpu;
    bool imports; /* VK_EXT_external_memory_host is enabled */
};
static struct gpu gpus[FAKE_DEVICES];

static const char *const extensions[FAKE_DEVICES][2] = {
    {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME},
    {VK_KHR_SWAPCHAIN_EXTENSION_NAME, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME},
    {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, VK_KHR_SWAPCHAIN_EXTENSION_NAME},
};

static unsigned index_of(VkPhysicalDevice gpu)
{
    return ((const struct gpu *)(const void *)gpu)->index;
}

static const void *find(const void *chain, VkStructureType type)
{
    const VkBaseInStructure *s = chain;
    while (s != NULL && s->sType != type) {
        s = s->pNext;
    }
    return s;
}

static struct object *object_new(unsigned gpu)
{
    struct object *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        abort();
    }
    set_loader_magic_value(o);
    o->gpu = gpu;
    return o;
}

/* ---- instance ---- */

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_instance_extensions(const char *layer, uint32_t *n,
                                                                    VkExtensionProperties *out)
{
    (void)layer;
    (void)out;
    *n = 0;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_version(uint32_t *version)
{
    *version = VK_API_VERSION_1_1;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkInstance *out)
{
    (void)info;
    (void)allocator;
    for (unsigned g = 0; g < FAKE_DEVICES; g++) {
        set_loader_magic_value(&gpus[g]);
        gpus[g].index = g;
    }
    *out = (VkInstance)(void *)object_new(0);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance instance,
                                                   const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    free(instance);
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_gpus(VkInstance instance, uint32_t *n,
                                                     VkPhysicalDevice *out)
{
    (void)instance;
    if (out == NULL) {
        *n = FAKE_DEVICES;
        return VK_SUCCESS;
    }
    uint32_t room = *n;
    *n = room < FAKE_DEVICES ? room : FAKE_DEVICES;
    for (uint32_t g = 0; g < *n; g++) {
        out[g] = (VkPhysicalDevice)(void *)&gpus[g];
    }
    return room < FAKE_DEVICES ? VK_INCOMPLETE : VK_SUCCESS;
}

/* Devices 0 and 1 are one group, 2 is another. */
static VKAPI_ATTR VkResult VKAPI_CALL enumerate_groups(VkInstance instance, uint32_t *n,
                                                       VkPhysicalDeviceGroupProperties *out)
{
    (void)instance;
    if (out == NULL) {
        *n = 2;
        return VK_SUCCESS;
    }
    uint32_t room = *n;
    *n = room < 2 ? room : 2;
    for (uint32_t g = 0; g < *n; g++) {
        out[g].physicalDeviceCount = g == 0 ? 2 : 1;
        out[g].physicalDevices[0] = (VkPhysicalDevice)(void *)&gpus[g == 0 ? 0 : 2];
        out[g].physicalDevices[1] = (VkPhysicalDevice)(void *)&gpus[1];
        out[g].subsetAllocation = g == 0;
    }
    return room < 2 ? VK_INCOMPLETE : VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice gpu,
                                                 VkPhysicalDeviceProperties *out)
{
    memset(out, 0, sizeof(*out));
    out->apiVersion = VK_API_VERSION_1_1;
    out->deviceType = VK_PHYSICAL_DEVICE_TYPE_OTHER;
    memcpy(out->deviceName, "fake 0", 7);
    out->deviceName[5] = (char)('0' + index_of(gpu));
}

static VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice gpu,
                                                  VkPhysicalDeviceProperties2 *out)
{
    get_properties(gpu, &out->properties);
    for (VkBaseOutStructure *s = out->pNext; s != NULL; s = s->pNext) {
        void *any = s;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES) {
            VkPhysicalDeviceIDProperties *id = any;
            memset(id->deviceUUID, FAKE_UUID_BYTE((int)index_of(gpu)), VK_UUID_SIZE);
        } else if (s->sType ==
                   VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT) {
            VkPhysicalDeviceExternalMemoryHostPropertiesEXT *host = any;
            host->minImportedHostPointerAlignment = FAKE_ALIGN_BYTES;
        }
    }
}

static VKAPI_ATTR void VKAPI_CALL get_features(VkPhysicalDevice gpu, VkPhysicalDeviceFeatures *out)
{
    (void)gpu;
    memset(out, 0, sizeof(*out));
}

static VKAPI_ATTR void VKAPI_CALL get_families(VkPhysicalDevice gpu, uint32_t *n,
                                               VkQueueFamilyProperties *out)
{
    (void)gpu;
    if (out != NULL && *n >= 1) {
        out[0] = (VkQueueFamilyProperties){.queueFlags = VK_QUEUE_TRANSFER_BIT,
                                           .queueCount = FAKE_QUEUES};
    }
    *n = 1;
}

/* The loader wants them of every driver; nobody calls them. */
static VKAPI_ATTR VkResult VKAPI_CALL unused(void)
{
    return VK_ERROR_FORMAT_NOT_SUPPORTED;
}

/* As NVIDIA has them: its own, system memory write-combined and cached, and the window on its own.
 */
static VKAPI_ATTR void VKAPI_CALL get_memory(VkPhysicalDevice gpu,
                                             VkPhysicalDeviceMemoryProperties *out)
{
    (void)gpu;
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    *out = (VkPhysicalDeviceMemoryProperties){
        .memoryTypeCount = 4,
        .memoryTypes = {{local, 0},
                        {host, 1},
                        {host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 1},
                        {local | host, 0}},
        .memoryHeapCount = 2,
        .memoryHeaps = {{FAKE_HEAP_BYTES, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}, {FAKE_HEAP_BYTES, 0}},
    };
}

static VKAPI_ATTR void VKAPI_CALL get_memory2(VkPhysicalDevice gpu,
                                              VkPhysicalDeviceMemoryProperties2 *out)
{
    get_memory(gpu, &out->memoryProperties);
}

static VKAPI_ATTR void VKAPI_CALL
get_external_buffer(VkPhysicalDevice gpu, const VkPhysicalDeviceExternalBufferInfo *info,
                    VkExternalBufferProperties *out)
{
    out->externalMemoryProperties = (VkExternalMemoryProperties){0};
    if (info->handleType == HOST_POINTER && index_of(gpu) != FAKE_NO_IMPORT) {
        out->externalMemoryProperties.externalMemoryFeatures =
            VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT;
    } else {
        fake_seen.dma_bufs += info->handleType == VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
    }
}

static VKAPI_ATTR void VKAPI_CALL
get_external_semaphore(VkPhysicalDevice gpu, const VkPhysicalDeviceExternalSemaphoreInfo *info,
                       VkExternalSemaphoreProperties *out)
{
    (void)gpu;
    out->exportFromImportedHandleTypes = 0;
    out->compatibleHandleTypes = 0;
    out->externalSemaphoreFeatures = 0;
    if (info->handleType == VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT) {
        out->compatibleHandleTypes = info->handleType;
        out->externalSemaphoreFeatures = VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT |
                                         VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT;
    }
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_device_extensions(VkPhysicalDevice gpu,
                                                                  const char *layer, uint32_t *n,
                                                                  VkExtensionProperties *out)
{
    (void)layer;
    if (out == NULL) {
        *n = 2;
        return VK_SUCCESS;
    }
    uint32_t room = *n;
    *n = room < 2 ? room : 2;
    for (uint32_t e = 0; e < *n; e++) {
        const char *name = extensions[index_of(gpu)][e];
        out[e].specVersion = 1;
        memcpy(out[e].extensionName, name, strlen(name) + 1);
    }
    return room < 2 ? VK_INCOMPLETE : VK_SUCCESS;
}

/* ---- device ---- */

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice gpu,
                                                    const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkDevice *out)
{
    (void)allocator;
    bool imports = false;
    for (uint32_t e = 0; e < info->enabledExtensionCount; e++) {
        const char *name = info->ppEnabledExtensionNames[e];
        if (strcmp(name, extensions[index_of(gpu)][0]) != 0 &&
            strcmp(name, extensions[index_of(gpu)][1]) != 0) {
            return VK_ERROR_EXTENSION_NOT_PRESENT;
        }
        imports = imports || strcmp(name, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME) == 0;
    }
    fake_seen.queues = 0;
    for (uint32_t q = 0; q < info->queueCreateInfoCount; q++) {
        const VkDeviceQueueCreateInfo *queue = &info->pQueueCreateInfos[q];
        for (uint32_t p = 0; p < queue->queueCount; p++) {
            if (queue->pQueuePriorities[p] < 0.0f || queue->pQueuePriorities[p] > 1.0f) {
                return VK_ERROR_INITIALIZATION_FAILED;
            }
        }
        fake_seen.queues += queue->queueCount;
    }
    if (fake_seen.queues > FAKE_QUEUES) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    struct object *device = object_new(index_of(gpu));
    device->imports = imports;
    fake_seen.devices++;
    fake_seen.live_devices++;
    *out = (VkDevice)(void *)device;
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice device,
                                                 const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_seen.live_devices--;
    free(device);
}

static struct object the_queue;

static VKAPI_ATTR void VKAPI_CALL get_queue(VkDevice device, uint32_t family, uint32_t queue,
                                            VkQueue *out)
{
    (void)device;
    (void)family;
    fake_seen.queue_index = queue;
    set_loader_magic_value(&the_queue);
    *out = (VkQueue)(void *)&the_queue;
}

static VKAPI_ATTR VkResult VKAPI_CALL queue_submit(VkQueue queue, uint32_t n,
                                                   const VkSubmitInfo *submits, VkFence fence)
{
    (void)queue;
    (void)fence;
    for (uint32_t s = 0; s < n; s++) {
        for (uint32_t i = 0; i < submits[s].signalSemaphoreCount; i++) {
            fake_seen.signals++;
            fake_seen.last_signal = (uint64_t)(uintptr_t)submits[s].pSignalSemaphores[i];
        }
    }
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL import_semaphore(VkDevice device,
                                                       const VkImportSemaphoreFdInfoKHR *info)
{
    (void)device;
    if (info->handleType != VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT) {
        fake_seen.sync_fds++;
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    fake_seen.opaque_fds++;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL
get_pointer_properties(VkDevice device, VkExternalMemoryHandleTypeFlagBits type,
                       const void *pointer, VkMemoryHostPointerPropertiesEXT *out)
{
    const struct object *o = (const struct object *)(const void *)device;
    if (type != HOST_POINTER || (uintptr_t)pointer % FAKE_ALIGN_BYTES != 0 || !o->imports) {
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    out->memoryTypeBits = 1u << 1 | 1u << 2;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                               const VkAllocationCallbacks *allocator,
                                               VkDeviceMemory *out)
{
    (void)allocator;
    const struct object *o = (const struct object *)(const void *)device;
    const VkExportMemoryAllocateInfo *export =
        find(info->pNext, VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO);
    if (export != NULL || find(info->pNext, VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR) != NULL) {
        fake_seen.dma_bufs++;
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    const VkImportMemoryHostPointerInfoEXT *import =
        find(info->pNext, VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT);
    if (import != NULL) {
        bool fits = o->imports && import->handleType == HOST_POINTER &&
                    (uintptr_t)import->pHostPointer % FAKE_ALIGN_BYTES == 0 &&
                    info->allocationSize % FAKE_ALIGN_BYTES == 0 &&
                    (info->memoryTypeIndex == 1 || info->memoryTypeIndex == 2);
        if (!fits || o->gpu == FAKE_REFUSES) {
            return VK_ERROR_INVALID_EXTERNAL_HANDLE;
        }
        if (info->allocationSize == FAKE_UNLUCKY_BYTES) {
            return VK_ERROR_OUT_OF_DEVICE_MEMORY;
        }
        /* As a device would: the far end is touched too. */
        ((uint8_t *)import->pHostPointer)[info->allocationSize - 1] = 0;
        const VkMemoryAllocateFlagsInfo *flags =
            find(info->pNext, VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO);
        fake_seen.imports++;
        fake_seen.last_bytes = info->allocationSize;
        fake_seen.dedicated =
            find(info->pNext, VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO) != NULL;
        fake_seen.device_address =
            flags != NULL && (flags->flags & VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT) != 0;
    }
    fake_seen.live_memories++;
    *out = (VkDeviceMemory)(uintptr_t)object_new(o->gpu);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL release(VkDevice device, VkDeviceMemory memory,
                                          const VkAllocationCallbacks *allocator)
{
    (void)device;
    (void)allocator;
    if (memory != VK_NULL_HANDLE) {
        fake_seen.live_memories--;
        free((void *)(uintptr_t)memory);
    }
}

static void note_types(const void *chain, VkStructureType type)
{
    const VkExternalMemoryBufferCreateInfo *external = find(chain, type);
    fake_seen.last_types = external != NULL ? external->handleTypes : 0;
    fake_seen.dma_bufs += external != NULL && (external->handleTypes & ~HOST_POINTER) != 0;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice device, const VkBufferCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkBuffer *out)
{
    (void)device;
    (void)allocator;
    note_types(info->pNext, VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO);
    *out = (VkBuffer)(uintptr_t)1;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_image(VkDevice device, const VkImageCreateInfo *info,
                                                   const VkAllocationCallbacks *allocator,
                                                   VkImage *out)
{
    (void)device;
    (void)allocator;
    note_types(info->pNext, VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMAGE_CREATE_INFO);
    *out = (VkImage)(uintptr_t)1;
    return VK_SUCCESS;
}

static PFN_vkVoidFunction proc_addr(const char *name)
{
#define ENTRY(name, function)                                                                      \
    {                                                                                              \
#name, (PFN_vkVoidFunction)(function)                                                      \
    }
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } table[] = {
        ENTRY(vkEnumerateInstanceExtensionProperties, enumerate_instance_extensions),
        ENTRY(vkEnumerateInstanceVersion, enumerate_version),
        ENTRY(vkCreateInstance, create_instance),
        ENTRY(vkDestroyInstance, destroy_instance),
        ENTRY(vkEnumeratePhysicalDevices, enumerate_gpus),
        ENTRY(vkEnumeratePhysicalDeviceGroups, enumerate_groups),
        ENTRY(vkGetPhysicalDeviceProperties, get_properties),
        ENTRY(vkGetPhysicalDeviceProperties2, get_properties2),
        ENTRY(vkGetPhysicalDeviceFeatures, get_features),
        ENTRY(vkGetPhysicalDeviceFormatProperties, unused),
        ENTRY(vkGetPhysicalDeviceImageFormatProperties, unused),
        ENTRY(vkGetPhysicalDeviceSparseImageFormatProperties, unused),
        ENTRY(vkGetPhysicalDeviceQueueFamilyProperties, get_families),
        ENTRY(vkGetPhysicalDeviceMemoryProperties, get_memory),
        ENTRY(vkGetPhysicalDeviceMemoryProperties2, get_memory2),
        ENTRY(vkGetPhysicalDeviceExternalBufferProperties, get_external_buffer),
        ENTRY(vkGetPhysicalDeviceExternalSemaphoreProperties, get_external_semaphore),
        ENTRY(vkEnumerateDeviceExtensionProperties, enumerate_device_extensions),
        ENTRY(vkCreateDevice, create_device),
        ENTRY(vkDestroyDevice, destroy_device),
        ENTRY(vkGetDeviceQueue, get_queue),
        ENTRY(vkQueueSubmit, queue_submit),
        ENTRY(vkImportSemaphoreFdKHR, import_semaphore),
        ENTRY(vkGetMemoryHostPointerPropertiesEXT, get_pointer_properties),
        ENTRY(vkAllocateMemory, allocate),
        ENTRY(vkFreeMemory, release),
        ENTRY(vkCreateBuffer, create_buffer),
        ENTRY(vkCreateImage, create_image),
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(name, table[i].name) == 0) {
            return table[i].function;
        }
    }
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc_addr(VkDevice device, const char *name)
{
    (void)device;
    return proc_addr(name);
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetInstanceProcAddr(VkInstance instance,
                                                                          const char *name);
EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetPhysicalDeviceProcAddr(VkInstance instance,
                                                                                const char *name);
EXPORT VKAPI_ATTR VkResult VKAPI_CALL vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version);

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetInstanceProcAddr(VkInstance instance,
                                                                          const char *name)
{
    (void)instance;
    return strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc_addr
                                                    : proc_addr(name);
}

EXPORT VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vk_icdGetPhysicalDeviceProcAddr(VkInstance instance,
                                                                                const char *name)
{
    (void)instance;
    (void)name;
    return NULL; /* the driver has no function that the loader does not know */
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version)
{
    *version = *version < 5 ? *version : 5;
    return VK_SUCCESS;
}
