/* SPDX-License-Identifier: MIT */
/* Instances, and the narrowing to one device. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "layer_env.h"

static VkLayerInstanceCreateInfo *instance_link(const VkInstanceCreateInfo *info,
                                                VkLayerFunction function)
{
    VkLayerInstanceCreateInfo *link =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    while (link != NULL && link->function != function) {
        link = layer_find(link->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    }
    return link;
}

static bool parse_uuid(const char *text, uint8_t out[VK_UUID_SIZE])
{
    if (strlen(text) != VGD_LAYER_UUID_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < VGD_LAYER_UUID_DIGITS; i++) {
        if (!isxdigit((unsigned char)text[i])) {
            return false;
        }
    }
    uint8_t any = 0;
    for (size_t i = 0; i < VK_UUID_SIZE; i++) {
        char byte[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(byte, NULL, 16);
        any |= out[i];
    }
    return any != 0; /* zeros are what stays there when a driver does not answer */
}

static void read_environment(struct layer_instance *i)
{
    const char *memory = getenv(VGD_LAYER_ENV_HOST_MEMORY);
    i->host_memory = memory != NULL && strcmp(memory, VGD_LAYER_HOST_MEMORY_ON) == 0;
    const char *uuid = getenv(VGD_LAYER_ENV_DEVICE_UUID);
    i->narrow = uuid != NULL;
    i->uuid_valid = uuid != NULL && parse_uuid(uuid, i->uuid);
}

/* Functions of Vulkan 1.1 under their first names too: an instance of 1.0 has them so. */
static PFN_vkVoidFunction find_either(const struct layer_instance *i, const char *name,
                                      const char *khr_name)
{
    PFN_vkVoidFunction found = i->next_gipa(i->handle, name);
    return found != NULL ? found : i->next_gipa(i->handle, khr_name);
}

static void load_functions(struct layer_instance *i)
{
#define LOAD(name) i->vk.name = (PFN_vk##name)i->next_gipa(i->handle, "vk" #name)
#define LOAD_EITHER(name) i->vk.name = (PFN_vk##name)find_either(i, "vk" #name, "vk" #name "KHR")
    LOAD(DestroyInstance);
    LOAD(EnumeratePhysicalDevices);
    LOAD(EnumerateDeviceExtensionProperties);
    LOAD(GetPhysicalDeviceMemoryProperties);
    LOAD(GetPhysicalDeviceQueueFamilyProperties);
    LOAD_EITHER(EnumeratePhysicalDeviceGroups);
    LOAD_EITHER(GetPhysicalDeviceProperties2);
    LOAD_EITHER(GetPhysicalDeviceMemoryProperties2);
    LOAD_EITHER(GetPhysicalDeviceExternalBufferProperties);
    LOAD_EITHER(GetPhysicalDeviceExternalSemaphoreProperties);
    LOAD_EITHER(GetPhysicalDeviceImageFormatProperties2);
    LOAD_EITHER(GetPhysicalDeviceFormatProperties2);
#undef LOAD
#undef LOAD_EITHER
}

static bool is_shown(const struct layer_instance *i, VkPhysicalDevice gpu)
{
    if (!i->uuid_valid || i->vk.GetPhysicalDeviceProperties2 == NULL) {
        return false; /* it cannot be told apart: better none than the wrong one */
    }
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .pNext = &id,
    };
    i->vk.GetPhysicalDeviceProperties2(gpu, &properties);
    return memcmp(id.deviceUUID, i->uuid, VK_UUID_SIZE) == 0;
}

/* All devices of the driver; the caller frees *out. */
static VkResult list_all(const struct layer_instance *i, VkPhysicalDevice **out,
                         uint32_t *out_count)
{
    uint32_t n = 0;
    VkResult result = i->vk.EnumeratePhysicalDevices(i->handle, &n, NULL);
    VkPhysicalDevice *all = calloc(n + 1u, sizeof(VkPhysicalDevice));
    if (all == NULL) {
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    if (result == VK_SUCCESS) {
        result = i->vk.EnumeratePhysicalDevices(i->handle, &n, all);
    }
    if (result < 0) {
        free(all);
        return result;
    }
    *out = all;
    *out_count = n;
    return VK_SUCCESS;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_CreateInstance(const VkInstanceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkInstance *out)
{
    VkLayerInstanceCreateInfo *link = instance_link(info, VK_LAYER_LINK_INFO);
    if (link == NULL || link->u.pLayerInfo == NULL) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    struct layer_instance *i = calloc(1, sizeof(*i));
    if (i == NULL) {
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    i->next_gipa = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    i->next_gpdpa = link->u.pLayerInfo->pfnNextGetPhysicalDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext; /* the next layer finds its own there */
    const VkLayerInstanceCreateInfo *callback =
        instance_link(info, VK_LOADER_LAYER_CREATE_DEVICE_CALLBACK);
    if (callback != NULL) {
        i->create_device = callback->u.layerDevice.pfnLayerCreateDevice;
        i->destroy_device = callback->u.layerDevice.pfnLayerDestroyDevice;
    }
    PFN_vkCreateInstance create =
        (PFN_vkCreateInstance)i->next_gipa(VK_NULL_HANDLE, "vkCreateInstance");
    VkResult result =
        create != NULL ? create(info, allocator, out) : VK_ERROR_INITIALIZATION_FAILED;
    if (result != VK_SUCCESS) {
        free(i);
        return result;
    }
    i->handle = *out;
    (void)pthread_mutex_init(&i->lock, NULL);
    read_environment(i);
    load_functions(i);
    layer_instance_add(i);
    return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL layer_DestroyInstance(VkInstance instance,
                                                 const VkAllocationCallbacks *allocator)
{
    struct layer_instance *i = instance != NULL ? layer_instance_take(instance) : NULL;
    if (i == NULL) {
        return;
    }
    i->vk.DestroyInstance(instance, allocator);
    layer_gpus_free(i->gpus);
    (void)pthread_mutex_destroy(&i->lock);
    free(i);
}

/* Not an empty list: Mesa's device-select layer, which sits above this one, does not survive one.
 */
#define NONE_SHOWN VK_ERROR_INITIALIZATION_FAILED

/* How many of @have fit into *@count, by Vulkan's rule for such lists. */
static VkResult clamp_count(uint32_t have, uint32_t *count)
{
    if (*count < have) {
        return VK_INCOMPLETE;
    }
    *count = have;
    return VK_SUCCESS;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_EnumeratePhysicalDevices(VkInstance instance, uint32_t *count,
                                                              VkPhysicalDevice *out)
{
    const struct layer_instance *i = layer_instance_of(instance);
    if (!i->narrow) {
        return i->vk.EnumeratePhysicalDevices(instance, count, out);
    }
    VkPhysicalDevice *all = NULL;
    uint32_t n_all = 0;
    VkResult result = list_all(i, &all, &n_all);
    if (result != VK_SUCCESS) {
        return result;
    }
    uint32_t n_shown = 0;
    for (uint32_t d = 0; d < n_all; d++) {
        if (is_shown(i, all[d])) {
            all[n_shown++] = all[d];
        }
    }
    result = VK_SUCCESS;
    if (n_shown == 0) {
        result = NONE_SHOWN;
    } else if (out == NULL) {
        *count = n_shown;
    } else {
        result = clamp_count(n_shown, count);
        memcpy(out, all, *count * sizeof(VkPhysicalDevice));
    }
    free(all);
    return result;
}

/* A group that holds the device becomes a group of that device alone. */
static bool narrow_group(const struct layer_instance *i, VkPhysicalDeviceGroupProperties *group)
{
    for (uint32_t d = 0; d < group->physicalDeviceCount; d++) {
        if (is_shown(i, group->physicalDevices[d])) {
            group->physicalDevices[0] = group->physicalDevices[d];
            group->physicalDeviceCount = 1;
            group->subsetAllocation = VK_FALSE;
            return true;
        }
    }
    return false;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_EnumeratePhysicalDeviceGroups(
    VkInstance instance, uint32_t *count, VkPhysicalDeviceGroupProperties *out)
{
    const struct layer_instance *i = layer_instance_of(instance);
    if (i->vk.EnumeratePhysicalDeviceGroups == NULL) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    if (!i->narrow) {
        return i->vk.EnumeratePhysicalDeviceGroups(instance, count, out);
    }
    uint32_t n_all = 0;
    VkResult result = i->vk.EnumeratePhysicalDeviceGroups(instance, &n_all, NULL);
    VkPhysicalDeviceGroupProperties *all = calloc(n_all + 1u, sizeof(*all));
    if (all == NULL) {
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    for (uint32_t g = 0; g < n_all; g++) {
        all[g].sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GROUP_PROPERTIES;
    }
    if (result == VK_SUCCESS) {
        result = i->vk.EnumeratePhysicalDeviceGroups(instance, &n_all, all);
    }
    if (result < 0) {
        free(all);
        return result;
    }
    uint32_t n_shown = 0;
    for (uint32_t g = 0; g < n_all; g++) {
        if (narrow_group(i, &all[g])) {
            all[n_shown++] = all[g];
        }
    }
    result = VK_SUCCESS;
    if (n_shown == 0) {
        result = NONE_SHOWN;
    } else if (out == NULL) {
        *count = n_shown;
    } else {
        result = clamp_count(n_shown, count);
        for (uint32_t g = 0; g < *count; g++) {
            void *chain = out[g].pNext;
            out[g] = all[g];
            out[g].pNext = chain;
        }
    }
    free(all);
    return result;
}
