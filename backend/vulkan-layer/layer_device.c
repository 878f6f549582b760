/* SPDX-License-Identifier: MIT */
/* Devices, and what is created with external memory in mind. */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

static VkLayerDeviceCreateInfo *device_link(const VkDeviceCreateInfo *info,
                                            VkLayerFunction function)
{
    VkLayerDeviceCreateInfo *link =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    while (link != NULL && link->function != function) {
        link = layer_find(link->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    }
    return link;
}

/* An extension that this layer has and the driver has not. */
static bool is_added(const struct layer_gpu *gpu, const char *name)
{
    return (!gpu->driver_has_dma_buf &&
            strcmp(name, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME) == 0) ||
           (!gpu->driver_has_memory_fd &&
            strcmp(name, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME) == 0) ||
           (gpu->adds_modifiers &&
            strcmp(name, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME) == 0);
}

/* The application's extensions less those that only the layer has, and with the import of host
 * pointers. The caller frees the list; the names stay the application's. NULL: no memory. */
static const char **real_extensions(const struct layer_gpu *gpu, const VkDeviceCreateInfo *info,
                                    uint32_t *out_count)
{
    const char **list = malloc((info->enabledExtensionCount + 1u) * sizeof(*list));
    if (list == NULL) {
        return NULL;
    }
    uint32_t n = 0;
    bool has_host = false;
    for (uint32_t e = 0; e < info->enabledExtensionCount; e++) {
        const char *name = info->ppEnabledExtensionNames[e];
        if (is_added(gpu, name)) {
            continue;
        }
        has_host = has_host || strcmp(name, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME) == 0;
        list[n++] = name;
    }
    if (!has_host) {
        list[n++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    }
    *out_count = n;
    return list;
}

static bool enables(const VkDeviceCreateInfo *info, const char *wanted)
{
    for (uint32_t e = 0; e < info->enabledExtensionCount; e++) {
        if (strcmp(info->ppEnabledExtensionNames[e], wanted) == 0) {
            return true;
        }
    }
    return false;
}

static PFN_vkVoidFunction find_either(const struct layer_device *d, const char *name,
                                      const char *khr_name)
{
    PFN_vkVoidFunction found = d->next_gdpa(d->handle, name);
    return found != NULL ? found : d->next_gdpa(d->handle, khr_name);
}

static void load_functions(struct layer_device *d)
{
#define LOAD(name) d->vk.name = (PFN_vk##name)d->next_gdpa(d->handle, "vk" #name)
    LOAD(DestroyDevice);
    LOAD(AllocateMemory);
    LOAD(FreeMemory);
    LOAD(GetMemoryFdKHR);
    LOAD(GetMemoryFdPropertiesKHR);
    LOAD(ImportSemaphoreFdKHR);
    LOAD(QueueSubmit);
    LOAD(CreateBuffer);
    LOAD(CreateImage);
    LOAD(DestroyImage);
    LOAD(GetImageSubresourceLayout);
#undef LOAD
#ifdef VK_EXT_image_compression_control
    d->vk.GetImageSubresourceLayout2EXT = (PFN_vkGetImageSubresourceLayout2EXT)find_either(
        d, "vkGetImageSubresourceLayout2", "vkGetImageSubresourceLayout2KHR");
    if (d->vk.GetImageSubresourceLayout2EXT == NULL) {
        d->vk.GetImageSubresourceLayout2EXT = (PFN_vkGetImageSubresourceLayout2EXT)d->next_gdpa(
            d->handle, "vkGetImageSubresourceLayout2EXT");
    }
#endif
#ifdef VK_VERSION_1_3
    d->vk.GetDeviceBufferMemoryRequirements = (PFN_vkGetDeviceBufferMemoryRequirements)find_either(
        d, "vkGetDeviceBufferMemoryRequirements", "vkGetDeviceBufferMemoryRequirementsKHR");
    d->vk.GetDeviceImageMemoryRequirements = (PFN_vkGetDeviceImageMemoryRequirements)find_either(
        d, "vkGetDeviceImageMemoryRequirements", "vkGetDeviceImageMemoryRequirementsKHR");
    d->vk.GetDeviceImageSparseMemoryRequirements =
        (PFN_vkGetDeviceImageSparseMemoryRequirements)find_either(
            d, "vkGetDeviceImageSparseMemoryRequirements",
            "vkGetDeviceImageSparseMemoryRequirementsKHR");
#endif
#ifdef VK_KHR_maintenance5
    d->vk.GetDeviceImageSubresourceLayoutKHR =
        (PFN_vkGetDeviceImageSubresourceLayoutKHR)find_either(
            d, "vkGetDeviceImageSubresourceLayout", "vkGetDeviceImageSubresourceLayoutKHR");
#endif
}

/* The queue that only we know of. Whoever is below us finds its own by what the loader writes
 * there. */
static VkQueue own_queue(const struct layer_device *d, const VkDeviceCreateInfo *info,
                         uint32_t family, uint32_t index)
{
    PFN_vkGetDeviceQueue get = (PFN_vkGetDeviceQueue)d->next_gdpa(d->handle, "vkGetDeviceQueue");
    const VkLayerDeviceCreateInfo *callback = device_link(info, VK_LOADER_DATA_CALLBACK);
    VkQueue queue = VK_NULL_HANDLE;
    if (get != NULL && callback != NULL) {
        get(d->handle, family, index, &queue);
    }
    if (queue != VK_NULL_HANDLE &&
        callback->u.pfnSetDeviceLoaderData(d->handle, queue) != VK_SUCCESS) {
        return VK_NULL_HANDLE;
    }
    return queue;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice handle,
                                                  const VkDeviceCreateInfo *info,
                                                  const VkAllocationCallbacks *allocator,
                                                  VkDevice *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    VkLayerDeviceCreateInfo *link = device_link(info, VK_LAYER_LINK_INFO);
    if (i == NULL || link == NULL || link->u.pLayerInfo == NULL) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    PFN_vkGetInstanceProcAddr next_gipa = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    PFN_vkGetDeviceProcAddr next_gdpa = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    PFN_vkCreateDevice create = (PFN_vkCreateDevice)next_gipa(i->handle, "vkCreateDevice");
    const struct layer_gpu *gpu = layer_serving_gpu(i, handle);
    struct layer_device *d = calloc(1, sizeof(*d));
    VkDeviceCreateInfo real = *info;
    const char **extensions = NULL;
    void *queues = NULL;
    uint32_t family = 0;
    uint32_t index = 0;
    if (d != NULL && gpu != NULL) {
        if (gpu->signals && enables(info, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME)) {
            queues = layer_add_queue(i, handle, &real, &family, &index);
        }
        extensions = real_extensions(gpu, info, &real.enabledExtensionCount);
        real.ppEnabledExtensionNames = extensions;
    }
    if (create == NULL || d == NULL || (gpu != NULL && extensions == NULL)) {
        free(d);
        free(extensions);
        free(queues);
        return create == NULL ? VK_ERROR_INITIALIZATION_FAILED : VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    link->u.pLayerInfo = link->u.pLayerInfo->pNext; /* the next layer finds its own there */
    VkResult result = create(handle, &real, allocator, out);
    bool has_queue = queues != NULL;
    free(extensions);
    free(queues);
    if (result != VK_SUCCESS) {
        free(d);
        return result;
    }
    d->handle = *out;
    d->next_gdpa = next_gdpa;
    d->gpu = gpu;
    d->has_memory_fd = enables(info, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
    d->has_modifiers = enables(info, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME);
    (void)pthread_mutex_init(&d->lock, NULL);
    load_functions(d);
    if (has_queue) {
        d->signal_queue = own_queue(d, info, family, index);
    }
    layer_device_add(d);
    return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL layer_DestroyDevice(VkDevice device,
                                               const VkAllocationCallbacks *allocator)
{
    struct layer_device *d = device != NULL ? layer_device_take(device) : NULL;
    if (d == NULL) {
        return;
    }
    d->vk.DestroyDevice(device, allocator);
    layer_memories_free(d);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

/* ---- create infos that name the dma-buf: to the driver it is a host pointer ---- */

/* Both structures that name handle types have them in the same place. */
_Static_assert(offsetof(VkExternalMemoryBufferCreateInfo, handleTypes) ==
                   offsetof(VkExternalMemoryImageCreateInfo, handleTypes),
               "one function edits both");

/* Gives the place to restore with restore_types, or NULL if there is nothing to edit. */
static VkExternalMemoryHandleTypeFlags *edit_types(const struct layer_device *d, const void *chain,
                                                   VkStructureType type,
                                                   VkExternalMemoryHandleTypeFlags *out_old)
{
    VkExternalMemoryBufferCreateInfo *external = d->gpu != NULL ? layer_find(chain, type) : NULL;
    if (external == NULL || (external->handleTypes & LAYER_DMA_BUF) == 0) {
        return NULL;
    }
    *out_old = external->handleTypes;
    /* Alone: a host pointer need not be compatible with what else was named. */
    external->handleTypes = LAYER_HOST_POINTER;
    return &external->handleTypes;
}

static void restore_types(VkExternalMemoryHandleTypeFlags *place,
                          VkExternalMemoryHandleTypeFlags old)
{
    if (place != NULL) {
        *place = old;
    }
}

VKAPI_ATTR VkResult VKAPI_CALL layer_CreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                                                  const VkAllocationCallbacks *allocator,
                                                  VkBuffer *out)
{
    const struct layer_device *d = layer_device_of(device);
    VkExternalMemoryHandleTypeFlags old = 0;
    VkExternalMemoryHandleTypeFlags *place =
        edit_types(d, info->pNext, VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, &old);
    VkResult result = d->vk.CreateBuffer(device, info, allocator, out);
    restore_types(place, old);
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_CreateImage(VkDevice device, const VkImageCreateInfo *info,
                                                 const VkAllocationCallbacks *allocator,
                                                 VkImage *out)
{
    const struct layer_device *d = layer_device_of(device);
    struct layer_linear linear;
    if (!layer_modifier_begin(d, info, &linear)) {
        return VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT;
    }
    VkExternalMemoryHandleTypeFlags old = 0;
    VkExternalMemoryHandleTypeFlags *place = edit_types(
        d, linear.real.info.pNext, VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMAGE_CREATE_INFO, &old);
    VkResult result = d->vk.CreateImage(device, &linear.real.info, allocator, out);
    restore_types(place, old);
    layer_modifier_end(&linear);
    if (result == VK_SUCCESS && !layer_modifier_fits(d, *out, &linear)) {
        d->vk.DestroyImage(device, *out, allocator);
        *out = VK_NULL_HANDLE;
        return VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT;
    }
    return result;
}

#ifdef VK_VERSION_1_3
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceBufferMemoryRequirements(
    VkDevice device, const VkDeviceBufferMemoryRequirements *info, VkMemoryRequirements2 *out)
{
    const struct layer_device *d = layer_device_of(device);
    VkExternalMemoryHandleTypeFlags old = 0;
    VkExternalMemoryHandleTypeFlags *place = edit_types(
        d, info->pCreateInfo->pNext, VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, &old);
    d->vk.GetDeviceBufferMemoryRequirements(device, info, out);
    restore_types(place, old);
}

/* An image that is only asked about. */
struct question {
    struct layer_linear linear;
    VkExternalMemoryHandleTypeFlags *place, old;
};

/* Gives what the driver is to be asked; question_end follows. NULL: there cannot be such an image.
 * The driver is not asked then: it does not know the tiling. */
static const VkImageCreateInfo *question_begin(const struct layer_device *d,
                                               const VkImageCreateInfo *info, struct question *q)
{
    if (!layer_modifier_begin(d, info, &q->linear)) {
        return NULL;
    }
    q->place = edit_types(d, q->linear.real.info.pNext,
                          VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMAGE_CREATE_INFO, &q->old);
    return &q->linear.real.info;
}

static void question_end(struct question *q)
{
    restore_types(q->place, q->old);
    layer_modifier_end(&q->linear);
}

VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageMemoryRequirements(
    VkDevice device, const VkDeviceImageMemoryRequirements *info, VkMemoryRequirements2 *out)
{
    const struct layer_device *d = layer_device_of(device);
    struct question q;
    VkDeviceImageMemoryRequirements asked = *info;
    asked.pCreateInfo = question_begin(d, info->pCreateInfo, &q);
    if (asked.pCreateInfo == NULL) {
        out->memoryRequirements = (VkMemoryRequirements){.alignment = 1};
        return;
    }
    d->vk.GetDeviceImageMemoryRequirements(device, &asked, out);
    question_end(&q);
}

VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageSparseMemoryRequirements(
    VkDevice device, const VkDeviceImageMemoryRequirements *info, uint32_t *count,
    VkSparseImageMemoryRequirements2 *out)
{
    const struct layer_device *d = layer_device_of(device);
    struct question q;
    VkDeviceImageMemoryRequirements asked = *info;
    asked.pCreateInfo = question_begin(d, info->pCreateInfo, &q);
    if (asked.pCreateInfo == NULL) {
        *count = 0;
        return;
    }
    d->vk.GetDeviceImageSparseMemoryRequirements(device, &asked, count, out);
    question_end(&q);
}
#endif

#ifdef VK_KHR_maintenance5
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageSubresourceLayout(
    VkDevice device, const VkDeviceImageSubresourceInfoKHR *info, VkSubresourceLayout2KHR *out)
{
    const struct layer_device *d = layer_device_of(device);
    struct question q;
    VkDeviceImageSubresourceInfoKHR asked = *info;
    asked.pCreateInfo = question_begin(d, info->pCreateInfo, &q);
    if (asked.pCreateInfo == NULL) {
        out->subresourceLayout = (VkSubresourceLayout){0};
        return;
    }
    VkImageSubresource2KHR subresource = *info->pSubresource;
    subresource.imageSubresource = layer_without_planes(d, &info->pSubresource->imageSubresource);
    asked.pSubresource = &subresource;
    d->vk.GetDeviceImageSubresourceLayoutKHR(device, &asked, out);
    question_end(&q);
}
#endif
