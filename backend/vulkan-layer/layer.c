/* SPDX-License-Identifier: MIT */
/* Who is who, and what the loader asks: the interface version and the addresses of functions. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

#include "layer_env.h"

#define LAYER_EXPORT __attribute__((visibility("default")))
#define LAYER_INTERFACE_VERSION 2

static struct {
    pthread_rwlock_t lock;
    struct layer_instance *instances; /* guarded by lock */
    struct layer_device *devices;     /* guarded by lock */
} registry = {.lock = PTHREAD_RWLOCK_INITIALIZER};

/* The loader puts a pointer to its dispatch table into the first word of each dispatchable object:
 * the same for an instance and its physical devices, another for each device. */
static void *dispatch_key(const void *dispatchable)
{
    void *key = NULL;
    if (dispatchable != NULL) {
        memcpy(&key, dispatchable, sizeof(key));
    }
    return key;
}

struct layer_instance *layer_instance_of(const void *dispatchable)
{
    void *key = dispatch_key(dispatchable);
    pthread_rwlock_rdlock(&registry.lock);
    struct layer_instance *i = registry.instances;
    while (i != NULL && i->key != key) {
        i = i->next;
    }
    pthread_rwlock_unlock(&registry.lock);
    return i;
}

struct layer_device *layer_device_of(const void *dispatchable)
{
    void *key = dispatch_key(dispatchable);
    pthread_rwlock_rdlock(&registry.lock);
    struct layer_device *d = registry.devices;
    while (d != NULL && d->key != key) {
        d = d->next;
    }
    pthread_rwlock_unlock(&registry.lock);
    return d;
}

void layer_instance_add(struct layer_instance *instance)
{
    instance->key = dispatch_key(instance->handle);
    pthread_rwlock_wrlock(&registry.lock);
    instance->next = registry.instances;
    registry.instances = instance;
    pthread_rwlock_unlock(&registry.lock);
}

void layer_device_add(struct layer_device *device)
{
    device->key = dispatch_key(device->handle);
    pthread_rwlock_wrlock(&registry.lock);
    device->next = registry.devices;
    registry.devices = device;
    pthread_rwlock_unlock(&registry.lock);
}

struct layer_instance *layer_instance_take(VkInstance handle)
{
    void *key = dispatch_key(handle);
    pthread_rwlock_wrlock(&registry.lock);
    struct layer_instance **link = &registry.instances;
    while (*link != NULL && (*link)->key != key) {
        link = &(*link)->next;
    }
    struct layer_instance *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    pthread_rwlock_unlock(&registry.lock);
    return found;
}

struct layer_device *layer_device_take(VkDevice handle)
{
    void *key = dispatch_key(handle);
    pthread_rwlock_wrlock(&registry.lock);
    struct layer_device **link = &registry.devices;
    while (*link != NULL && (*link)->key != key) {
        link = &(*link)->next;
    }
    struct layer_device *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    pthread_rwlock_unlock(&registry.lock);
    return found;
}

/* ---- what is about the layer itself ---- */

static const VkLayerProperties about = {
    .layerName = VGD_LAYER_NAME,
    .specVersion = VK_API_VERSION_1_1,
    .implementationVersion = 1,
    .description = "vgd: exportable host-visible memory",
};

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_layers(uint32_t *count, VkLayerProperties *out)
{
    if (out == NULL) {
        *count = 1;
        return VK_SUCCESS;
    }
    if (*count < 1) {
        return VK_INCOMPLETE;
    }
    *count = 1;
    *out = about;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_device_layers(VkPhysicalDevice gpu, uint32_t *count,
                                                              VkLayerProperties *out)
{
    (void)gpu;
    return enumerate_layers(count, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_instance_extensions(const char *layer_name,
                                                                    uint32_t *count,
                                                                    VkExtensionProperties *out)
{
    (void)out; /* the layer has none of its own, and the loader asks it for nothing else */
    if (layer_name == NULL || strcmp(layer_name, VGD_LAYER_NAME) != 0) {
        return VK_ERROR_LAYER_NOT_PRESENT;
    }
    *count = 0;
    return VK_SUCCESS;
}

/* ---- addresses ---- */

enum when {
    ALWAYS,    /* the instance may be NULL */
    FOR_GPU,   /* where the memory part is on and what is below has the function */
    FOR_DEVICE /* a device's; layer_GetDeviceProcAddr decides */
};

#define AS_VOID(function) ((PFN_vkVoidFunction)(function))

static const struct {
    const char *name;
    PFN_vkVoidFunction function;
    enum when when;
} functions[] = {
    {"vkGetInstanceProcAddr", AS_VOID(layer_GetInstanceProcAddr), ALWAYS},
    {"vkCreateInstance", AS_VOID(layer_CreateInstance), ALWAYS},
    {"vkDestroyInstance", AS_VOID(layer_DestroyInstance), ALWAYS},
    {"vkEnumerateInstanceLayerProperties", AS_VOID(enumerate_layers), ALWAYS},
    {"vkEnumerateInstanceExtensionProperties", AS_VOID(enumerate_instance_extensions), ALWAYS},
    {"vkEnumerateDeviceLayerProperties", AS_VOID(enumerate_device_layers), ALWAYS},
    {"vkEnumerateDeviceExtensionProperties", AS_VOID(layer_EnumerateDeviceExtensionProperties),
     ALWAYS},
    {"vkEnumeratePhysicalDevices", AS_VOID(layer_EnumeratePhysicalDevices), ALWAYS},
    {"vkEnumeratePhysicalDeviceGroups", AS_VOID(layer_EnumeratePhysicalDeviceGroups), ALWAYS},
    {"vkEnumeratePhysicalDeviceGroupsKHR", AS_VOID(layer_EnumeratePhysicalDeviceGroups), ALWAYS},
    {"vkCreateDevice", AS_VOID(layer_CreateDevice), ALWAYS},
    {"vkGetPhysicalDeviceMemoryProperties", AS_VOID(layer_GetPhysicalDeviceMemoryProperties),
     FOR_GPU},
    {"vkGetPhysicalDeviceMemoryProperties2", AS_VOID(layer_GetPhysicalDeviceMemoryProperties2),
     FOR_GPU},
    {"vkGetPhysicalDeviceMemoryProperties2KHR", AS_VOID(layer_GetPhysicalDeviceMemoryProperties2),
     FOR_GPU},
    {"vkGetPhysicalDeviceExternalBufferProperties",
     AS_VOID(layer_GetPhysicalDeviceExternalBufferProperties), FOR_GPU},
    {"vkGetPhysicalDeviceExternalBufferPropertiesKHR",
     AS_VOID(layer_GetPhysicalDeviceExternalBufferProperties), FOR_GPU},
    {"vkGetPhysicalDeviceImageFormatProperties2",
     AS_VOID(layer_GetPhysicalDeviceImageFormatProperties2), FOR_GPU},
    {"vkGetPhysicalDeviceImageFormatProperties2KHR",
     AS_VOID(layer_GetPhysicalDeviceImageFormatProperties2), FOR_GPU},
    {"vkGetPhysicalDeviceFormatProperties2", AS_VOID(layer_GetPhysicalDeviceFormatProperties2),
     FOR_GPU},
    {"vkGetPhysicalDeviceFormatProperties2KHR", AS_VOID(layer_GetPhysicalDeviceFormatProperties2),
     FOR_GPU},
    {"vkGetPhysicalDeviceExternalSemaphoreProperties",
     AS_VOID(layer_GetPhysicalDeviceExternalSemaphoreProperties), FOR_GPU},
    {"vkGetPhysicalDeviceExternalSemaphorePropertiesKHR",
     AS_VOID(layer_GetPhysicalDeviceExternalSemaphoreProperties), FOR_GPU},
    {"vkGetDeviceProcAddr", AS_VOID(layer_GetDeviceProcAddr), ALWAYS},
    {"vkDestroyDevice", AS_VOID(layer_DestroyDevice), ALWAYS},
    {"vkAllocateMemory", AS_VOID(layer_AllocateMemory), FOR_DEVICE},
    {"vkFreeMemory", AS_VOID(layer_FreeMemory), FOR_DEVICE},
    {"vkGetMemoryFdKHR", AS_VOID(layer_GetMemoryFdKHR), FOR_DEVICE},
    {"vkGetMemoryFdPropertiesKHR", AS_VOID(layer_GetMemoryFdPropertiesKHR), FOR_DEVICE},
    {"vkImportSemaphoreFdKHR", AS_VOID(layer_ImportSemaphoreFdKHR), FOR_DEVICE},
    {"vkCreateBuffer", AS_VOID(layer_CreateBuffer), FOR_DEVICE},
    {"vkCreateImage", AS_VOID(layer_CreateImage), FOR_DEVICE},
    {"vkGetImageSubresourceLayout", AS_VOID(layer_GetImageSubresourceLayout), FOR_DEVICE},
#ifdef VK_EXT_image_compression_control
    {"vkGetImageSubresourceLayout2", AS_VOID(layer_GetImageSubresourceLayout2), FOR_DEVICE},
    {"vkGetImageSubresourceLayout2KHR", AS_VOID(layer_GetImageSubresourceLayout2), FOR_DEVICE},
    {"vkGetImageSubresourceLayout2EXT", AS_VOID(layer_GetImageSubresourceLayout2), FOR_DEVICE},
#endif
#ifdef VK_VERSION_1_3
    {"vkGetDeviceBufferMemoryRequirements", AS_VOID(layer_GetDeviceBufferMemoryRequirements),
     FOR_DEVICE},
    {"vkGetDeviceBufferMemoryRequirementsKHR", AS_VOID(layer_GetDeviceBufferMemoryRequirements),
     FOR_DEVICE},
    {"vkGetDeviceImageMemoryRequirements", AS_VOID(layer_GetDeviceImageMemoryRequirements),
     FOR_DEVICE},
    {"vkGetDeviceImageMemoryRequirementsKHR", AS_VOID(layer_GetDeviceImageMemoryRequirements),
     FOR_DEVICE},
    {"vkGetDeviceImageSparseMemoryRequirements",
     AS_VOID(layer_GetDeviceImageSparseMemoryRequirements), FOR_DEVICE},
    {"vkGetDeviceImageSparseMemoryRequirementsKHR",
     AS_VOID(layer_GetDeviceImageSparseMemoryRequirements), FOR_DEVICE},
#endif
#ifdef VK_KHR_maintenance5
    {"vkGetDeviceImageSubresourceLayout", AS_VOID(layer_GetDeviceImageSubresourceLayout),
     FOR_DEVICE},
    {"vkGetDeviceImageSubresourceLayoutKHR", AS_VOID(layer_GetDeviceImageSubresourceLayout),
     FOR_DEVICE},
#endif
};
#define N_FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetInstanceProcAddr(VkInstance instance,
                                                                   const char *name)
{
    const struct layer_instance *i = layer_instance_of(instance);
    PFN_vkVoidFunction below = i != NULL ? i->next_gipa(instance, name) : NULL;
    for (size_t f = 0; f < N_FUNCTIONS; f++) {
        if (strcmp(name, functions[f].name) != 0) {
            continue;
        }
        bool ours = functions[f].when == ALWAYS || (i != NULL && i->host_memory && below != NULL);
        return ours ? functions[f].function : below;
    }
    return below;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetDeviceProcAddr(VkDevice device, const char *name)
{
    const struct layer_device *d = layer_device_of(device);
    if (d == NULL) {
        return NULL;
    }
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) {
        return AS_VOID(layer_GetDeviceProcAddr);
    }
    if (strcmp(name, "vkDestroyDevice") == 0) {
        return AS_VOID(layer_DestroyDevice);
    }
    PFN_vkVoidFunction below = d->next_gdpa(device, name);
    if (d->gpu != NULL && d->gpu->adds_modifiers && d->has_modifiers &&
        strcmp(name, "vkGetImageDrmFormatModifierPropertiesEXT") == 0) {
        return AS_VOID(layer_GetImageDrmFormatModifierPropertiesEXT);
    }
    for (size_t f = 0; f < N_FUNCTIONS && d->gpu != NULL; f++) {
        if (functions[f].when != FOR_DEVICE || strcmp(name, functions[f].name) != 0) {
            continue;
        }
        bool added = strncmp(name, "vkGetMemoryFd", strlen("vkGetMemoryFd")) == 0;
        /* What the extension brings is there when it was enabled, whatever the driver has. */
        return (added ? d->has_memory_fd : below != NULL) ? functions[f].function : NULL;
    }
    return below;
}

/* A layer's own physical-device functions; unknown names go on down the chain. */
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL physical_device_proc_addr(VkInstance instance,
                                                                          const char *name)
{
    const struct layer_instance *i = layer_instance_of(instance);
    for (size_t f = 0; f < N_FUNCTIONS; f++) {
        if (i != NULL && i->host_memory && functions[f].when == FOR_GPU &&
            strcmp(name, functions[f].name) == 0 && i->next_gipa(instance, name) != NULL) {
            return functions[f].function;
        }
    }
    return i != NULL && i->next_gpdpa != NULL ? i->next_gpdpa(instance, name) : NULL;
}

LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version);

LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version)
{
    if (version == NULL || version->sType != LAYER_NEGOTIATE_INTERFACE_STRUCT ||
        version->loaderLayerInterfaceVersion < LAYER_INTERFACE_VERSION) {
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    version->loaderLayerInterfaceVersion = LAYER_INTERFACE_VERSION;
    version->pfnGetInstanceProcAddr = layer_GetInstanceProcAddr;
    version->pfnGetDeviceProcAddr = layer_GetDeviceProcAddr;
    version->pfnGetPhysicalDeviceProcAddr = physical_device_proc_addr;
    return VK_SUCCESS;
}
