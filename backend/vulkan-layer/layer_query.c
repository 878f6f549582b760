/* SPDX-License-Identifier: MIT */
/* What the layer says of a device: extensions, memory types, external memory. */
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "layer_env.h"

/* What the layer adds to a driver's extensions: those that it lacks. */
#define N_ADDED 3
static uint32_t added_extensions(const struct layer_gpu *gpu, VkExtensionProperties out[N_ADDED])
{
    uint32_t n = 0;
    if (!gpu->driver_has_dma_buf) {
        out[n++] = (VkExtensionProperties){
            VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME,
            VK_EXT_EXTERNAL_MEMORY_DMA_BUF_SPEC_VERSION,
        };
    }
    if (!gpu->driver_has_memory_fd) {
        out[n++] = (VkExtensionProperties){
            VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME,
            VK_KHR_EXTERNAL_MEMORY_FD_SPEC_VERSION,
        };
    }
    if (gpu->adds_modifiers) {
        out[n++] = (VkExtensionProperties){
            VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME,
            VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_SPEC_VERSION,
        };
    }
    return n;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_EnumerateDeviceExtensionProperties(VkPhysicalDevice handle,
                                                                        const char *layer_name,
                                                                        uint32_t *count,
                                                                        VkExtensionProperties *out)
{
    if (layer_name != NULL && strcmp(layer_name, VGD_LAYER_NAME) == 0) {
        *count = 0;
        return VK_SUCCESS;
    }
    struct layer_instance *i = layer_instance_of(handle);
    if (i == NULL) {
        return VK_ERROR_LAYER_NOT_PRESENT;
    }
    const struct layer_gpu *gpu = layer_name == NULL ? layer_serving_gpu(i, handle) : NULL;
    VkExtensionProperties added[N_ADDED];
    uint32_t n_added = gpu != NULL ? added_extensions(gpu, added) : 0;
    if (n_added == 0) {
        return i->vk.EnumerateDeviceExtensionProperties(handle, layer_name, count, out);
    }
    if (out == NULL) {
        VkResult result = i->vk.EnumerateDeviceExtensionProperties(handle, NULL, count, NULL);
        *count += n_added;
        return result;
    }
    uint32_t room = *count;
    VkResult result = i->vk.EnumerateDeviceExtensionProperties(handle, NULL, count, out);
    for (uint32_t a = 0; a < n_added && result == VK_SUCCESS; a++) {
        if (*count == room) {
            return VK_INCOMPLETE;
        }
        out[(*count)++] = added[a];
    }
    return result;
}

static void edit_types(const struct layer_gpu *gpu, VkPhysicalDeviceMemoryProperties *memory)
{
    const VkMemoryPropertyFlags host_flags = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                             VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                                             VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    for (uint32_t t = 0; t < memory->memoryTypeCount; t++) {
        VkMemoryPropertyFlags *flags = &memory->memoryTypes[t].propertyFlags;
        if ((gpu->type_bits & (1u << t)) == 0) {
            *flags &= ~host_flags;
        } else if ((*flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) != 0) {
            /* A memfd's pages are ordinary cached memory, also where the driver's own allocations
             * of this type are write-combined: a guest should map them so. */
            *flags |= VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
        }
    }
}

VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceMemoryProperties(
    VkPhysicalDevice handle, VkPhysicalDeviceMemoryProperties *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    i->vk.GetPhysicalDeviceMemoryProperties(handle, out);
    const struct layer_gpu *gpu = layer_serving_gpu(i, handle);
    if (gpu != NULL) {
        edit_types(gpu, out);
    }
}

VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceMemoryProperties2(
    VkPhysicalDevice handle, VkPhysicalDeviceMemoryProperties2 *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    i->vk.GetPhysicalDeviceMemoryProperties2(handle, out);
    const struct layer_gpu *gpu = layer_serving_gpu(i, handle);
    if (gpu != NULL) {
        edit_types(gpu, &out->memoryProperties);
    }
}

/* The driver was asked about host pointers; the answer is about dma-bufs. What can be imported as a
 * pointer can be exported as a file, imported from such a file, and exported again. */
static void edit_external(VkExternalMemoryProperties *external)
{
    VkExternalMemoryFeatureFlags features = external->externalMemoryFeatures;
    if ((features & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT) == 0) {
        *external = (VkExternalMemoryProperties){0};
        return;
    }
    *external = (VkExternalMemoryProperties){
        .externalMemoryFeatures = features | VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT,
        .exportFromImportedHandleTypes = LAYER_DMA_BUF,
        .compatibleHandleTypes = LAYER_DMA_BUF,
    };
}

VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceExternalBufferProperties(
    VkPhysicalDevice handle, const VkPhysicalDeviceExternalBufferInfo *info,
    VkExternalBufferProperties *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    if (info->handleType != LAYER_DMA_BUF || layer_serving_gpu(i, handle) == NULL) {
        i->vk.GetPhysicalDeviceExternalBufferProperties(handle, info, out);
        return;
    }
    VkPhysicalDeviceExternalBufferInfo asked = *info;
    asked.handleType = LAYER_HOST_POINTER;
    i->vk.GetPhysicalDeviceExternalBufferProperties(handle, &asked, out);
    edit_external(&out->externalMemoryProperties);
}

static VkResult ask_image_format(struct layer_instance *i, const struct layer_gpu *gpu,
                                 const VkPhysicalDeviceImageFormatInfo2 *info,
                                 VkImageFormatProperties2 *out)
{
    return gpu->adds_modifiers
               ? layer_modifier_image_format(i, gpu->handle, info, out)
               : i->vk.GetPhysicalDeviceImageFormatProperties2(gpu->handle, info, out);
}

VKAPI_ATTR VkResult VKAPI_CALL layer_GetPhysicalDeviceImageFormatProperties2(
    VkPhysicalDevice handle, const VkPhysicalDeviceImageFormatInfo2 *info,
    VkImageFormatProperties2 *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    const struct layer_gpu *gpu = layer_serving_gpu(i, handle);
    if (gpu == NULL) {
        return i->vk.GetPhysicalDeviceImageFormatProperties2(handle, info, out);
    }
    VkPhysicalDeviceExternalImageFormatInfo *external =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_IMAGE_FORMAT_INFO);
    if (external == NULL || external->handleType != LAYER_DMA_BUF) {
        return ask_image_format(i, gpu, info, out);
    }
    external->handleType = LAYER_HOST_POINTER;
    VkResult result = ask_image_format(i, gpu, info, out);
    external->handleType = LAYER_DMA_BUF;
    VkExternalImageFormatProperties *answer =
        layer_find(out->pNext, VK_STRUCTURE_TYPE_EXTERNAL_IMAGE_FORMAT_PROPERTIES);
    if (result == VK_SUCCESS && answer != NULL) {
        edit_external(&answer->externalMemoryProperties);
    }
    return result;
}
