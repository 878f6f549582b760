/* SPDX-License-Identifier: MIT */
/*
 * VK_LAYER_VGD_host_memory, from the inside.
 *
 * The layer is loaded into the render server only. It has two parts, each switched on by a variable
 * of layer_env.h:
 *  - narrowing: of all Vulkan devices the guest gets the one with a given UUID;
 *  - host memory: a driver that cannot export host-visible memory as a dma-buf gets that ability.
 * An allocation that asks for it lives in a sealed memfd, which the driver imports as a host
 * pointer (VK_EXT_external_memory_host), and whose duplicate is the answer to "give me the
 * dma-buf". Whoever gets that fd can mmap it, and that is all that is ever done with it: nothing
 * here is a dma-buf for another kernel driver. Such a driver often lacks sync files too; of those
 * the layer supplies what swapchains need (layer_semaphore.c).
 *
 * Where the driver has no DRM format modifiers, the layer brings them too, with LINEAR alone: what
 * a guest's window system needs to hand on the pictures that live in such memory without a copy.
 *
 * States of a device (layer_gpu) in the memory part: unknown -> asked once, by a trial device ->
 * serving or not serving. A device that is not serving passes through unchanged.
 *
 * Structures that the caller chains with pNext are edited in place during a call and restored
 * before it returns. A copy would need the size of every structure ahead of the edited one, and
 * would have to drop those that it does not know. The render server decodes each call into memory
 * of that call, so nobody else reads them meanwhile.
 *
 * Threads: every function may run on any thread; the registries and each object's list have a lock.
 */
#ifndef VGD_VULKAN_LAYER_LAYER_H
#define VGD_VULKAN_LAYER_LAYER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define LAYER_DMA_BUF VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT
#define LAYER_HOST_POINTER VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT

/* What the trial maps and imports: a few pages, and more than any alignment in use. */
#define LAYER_TRIAL_BYTES (64u * 1024u)
/* minImportedHostPointerAlignment beyond this is taken for a driver's mistake. */
#define LAYER_MAX_ALIGN_BYTES (2u * 1024u * 1024u)

/* A device as its driver has it. Filled once, then constant until the instance ends. */
struct layer_gpu {
    struct layer_gpu *next;
    VkPhysicalDevice handle;
    bool serving;              /* the memory part is on for this device */
    bool driver_has_dma_buf;   /* VK_EXT_external_memory_dma_buf */
    bool driver_has_memory_fd; /* VK_KHR_external_memory_fd */
    bool
        adds_modifiers; /* the layer brings VK_EXT_image_drm_format_modifier; the driver has none */
    uint32_t type_bits; /* memory types that are host-visible and take a mapped memfd */
    VkDeviceSize align_bytes; /* of pointer and size; a power of two, at least a page */
    bool signals;             /* imports of the sync file -1 are ours: layer_semaphore.c */
    VkPhysicalDeviceMemoryProperties memory; /* the driver's own answer */
};

struct layer_instance {
    struct layer_instance *next;
    void *key; /* the loader's dispatch pointer, shared by the instance and its devices */
    VkInstance handle;
    PFN_vkGetInstanceProcAddr next_gipa;
    PFN_GetPhysicalDeviceProcAddr next_gpdpa; /* or NULL */
    PFN_vkLayerCreateDevice create_device;    /* or NULL: a loader too old for a trial */
    PFN_vkLayerDestroyDevice destroy_device;
    bool host_memory; /* VGD_LAYER_ENV_HOST_MEMORY */
    bool narrow;      /* VGD_LAYER_ENV_DEVICE_UUID is set */
    bool uuid_valid;  /* ... and well-formed; else no device is shown */
    uint8_t uuid[VK_UUID_SIZE];
    struct {
        PFN_vkDestroyInstance DestroyInstance;
        PFN_vkEnumeratePhysicalDevices EnumeratePhysicalDevices;
        PFN_vkEnumeratePhysicalDeviceGroups EnumeratePhysicalDeviceGroups;
        PFN_vkEnumerateDeviceExtensionProperties EnumerateDeviceExtensionProperties;
        PFN_vkGetPhysicalDeviceProperties2 GetPhysicalDeviceProperties2;
        PFN_vkGetPhysicalDeviceMemoryProperties GetPhysicalDeviceMemoryProperties;
        PFN_vkGetPhysicalDeviceMemoryProperties2 GetPhysicalDeviceMemoryProperties2;
        PFN_vkGetPhysicalDeviceQueueFamilyProperties GetPhysicalDeviceQueueFamilyProperties;
        PFN_vkGetPhysicalDeviceExternalBufferProperties GetPhysicalDeviceExternalBufferProperties;
        PFN_vkGetPhysicalDeviceExternalSemaphoreProperties
            GetPhysicalDeviceExternalSemaphoreProperties;
        PFN_vkGetPhysicalDeviceImageFormatProperties2 GetPhysicalDeviceImageFormatProperties2;
        PFN_vkGetPhysicalDeviceFormatProperties2 GetPhysicalDeviceFormatProperties2;
    } vk; /* the next layer's or the driver's; those of Vulkan 1.1 may be NULL */
    pthread_mutex_t lock;
    struct layer_gpu *gpus; /* guarded by lock */
};

/* An allocation that lives in a memfd. */
struct layer_memory {
    struct layer_memory *next;
    VkDeviceMemory handle;
    int fd;    /* owned */
    void *map; /* owned; the driver's until the allocation is freed */
    size_t map_bytes;
};

#define LAYER_MEMORY_BUCKETS 256 /* a power of two */

struct layer_device {
    struct layer_device *next;
    void *key;
    VkDevice handle;
    PFN_vkGetDeviceProcAddr next_gdpa;
    const struct layer_gpu *gpu; /* NULL: the memory part is off, all calls go on as they are */
    bool has_memory_fd;          /* the application enabled VK_KHR_external_memory_fd */
    bool has_modifiers;          /* ... VK_EXT_image_drm_format_modifier */
    VkQueue signal_queue;        /* ours alone, guarded by lock; NULL: none */
    struct {
        PFN_vkDestroyDevice DestroyDevice;
        PFN_vkAllocateMemory AllocateMemory;
        PFN_vkFreeMemory FreeMemory;
        PFN_vkGetMemoryFdKHR GetMemoryFdKHR;                     /* or NULL */
        PFN_vkGetMemoryFdPropertiesKHR GetMemoryFdPropertiesKHR; /* or NULL */
        PFN_vkImportSemaphoreFdKHR ImportSemaphoreFdKHR;         /* or NULL */
        PFN_vkQueueSubmit QueueSubmit;
        PFN_vkCreateBuffer CreateBuffer;
        PFN_vkCreateImage CreateImage;
        PFN_vkDestroyImage DestroyImage;
        PFN_vkGetImageSubresourceLayout GetImageSubresourceLayout;
#ifdef VK_EXT_image_compression_control
        PFN_vkGetImageSubresourceLayout2EXT GetImageSubresourceLayout2EXT; /* or NULL */
#endif
#ifdef VK_VERSION_1_3
        PFN_vkGetDeviceBufferMemoryRequirements GetDeviceBufferMemoryRequirements; /* or NULL */
        PFN_vkGetDeviceImageMemoryRequirements GetDeviceImageMemoryRequirements;   /* or NULL */
        PFN_vkGetDeviceImageSparseMemoryRequirements
            GetDeviceImageSparseMemoryRequirements; /* or NULL */
#endif
#ifdef VK_KHR_maintenance5
        PFN_vkGetDeviceImageSubresourceLayoutKHR GetDeviceImageSubresourceLayoutKHR; /* or NULL */
#endif
    } vk;
    pthread_mutex_t lock;
    struct layer_memory *memories[LAYER_MEMORY_BUCKETS]; /* guarded by lock */
};

/* ---- layer.c: who is who, and what the loader asks ---- */

/** The instance that a VkInstance or VkPhysicalDevice belongs to; NULL if it is not one of ours.
 * Valid until vkDestroyInstance. */
struct layer_instance *layer_instance_of(const void *dispatchable);
/** The device that a VkDevice is. NULL if it is not one of ours. Valid until vkDestroyDevice. */
struct layer_device *layer_device_of(const void *dispatchable);

/** Takes ownership; found from now on. */
void layer_instance_add(struct layer_instance *instance);
void layer_device_add(struct layer_device *device);
/** Gives ownership back; NULL if it is not there. */
struct layer_instance *layer_instance_take(VkInstance handle);
struct layer_device *layer_device_take(VkDevice handle);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetInstanceProcAddr(VkInstance instance,
                                                                   const char *name);

/* ---- layer_gpu.c: what a device can do ---- */

/** What is known of a device; asked on first use, with a trial device if the memory part is on.
 * Borrowed from @instance. NULL: no memory, or asked from inside the trial itself. */
const struct layer_gpu *layer_gpu_of(struct layer_instance *instance, VkPhysicalDevice handle);
/** Like layer_gpu_of, but NULL unless the memory part is on and serves this device. */
const struct layer_gpu *layer_serving_gpu(struct layer_instance *instance, VkPhysicalDevice handle);
void layer_gpus_free(struct layer_gpu *gpus);

/* ---- layer_memory.c ---- */

/** Frees what an application that destroyed its device left behind. Only after the driver's
 * vkDestroyDevice: until then the mappings are in use. */
void layer_memories_free(struct layer_device *device);
/** @len_bytes bytes of @fd, shared, at an address that is a multiple of @align_bytes; NULL on
 * failure. The caller unmaps. */
void *layer_map_aligned(int fd, size_t len_bytes, size_t align_bytes);

/* ---- layer_semaphore.c ---- */

/** Does this device lack the import of sync files into semaphores? */
bool layer_wants_signals(const struct layer_instance *instance, VkPhysicalDevice handle);
/** Edits @info to ask for one more queue, *out_index of *out_family. Returns memory that @info
 * points into and the caller frees after the call; NULL: no family has a queue left, or no memory,
 * and @info is as it was. */
void *layer_add_queue(const struct layer_instance *instance, VkPhysicalDevice handle,
                      VkDeviceCreateInfo *info, uint32_t *out_family, uint32_t *out_index);

/* ---- structures chained by pNext ---- */

static inline void *layer_find(const void *chain, VkStructureType type)
{
    union {
        const void *from;
        VkBaseOutStructure *to;
    } s = {chain};
    while (s.to != NULL && s.to->sType != type) {
        s.to = s.to->pNext;
    }
    return s.to;
}

/** A structure that was taken out of a chain. */
struct layer_unlinked {
    VkBaseOutStructure *before; /* NULL: was not there */
    VkBaseOutStructure *taken;
};

/** Takes the first structure of @type out of the chain that begins at @head. */
static inline struct layer_unlinked layer_unlink(VkBaseOutStructure *head, VkStructureType type)
{
    struct layer_unlinked u = {0};
    for (VkBaseOutStructure *s = head; s->pNext != NULL; s = s->pNext) {
        if (s->pNext->sType == type) {
            u.before = s;
            u.taken = s->pNext;
            s->pNext = u.taken->pNext;
            break;
        }
    }
    return u;
}

/** Puts it back. Of several the last one taken goes back first. */
static inline void layer_relink(struct layer_unlinked u)
{
    if (u.before != NULL) {
        u.before->pNext = u.taken;
    }
}

/* ---- layer_modifier.c ---- */

/** An image's create info as the driver gets it: a modifier's image is a linear one there. */
struct layer_linear {
    union {
        VkImageCreateInfo info;
        VkBaseOutStructure head;
    } real;
    struct layer_unlinked list, explicit;
    const VkImageDrmFormatModifierExplicitCreateInfoEXT *layout; /* the caller's; or NULL */
};

/** False: the caller wants a modifier that there is not, or more planes. Else
 * layer_modifier_end must follow, before @info's owner gets it back. */
bool layer_modifier_begin(const struct layer_device *d, const VkImageCreateInfo *info,
                          struct layer_linear *out);
void layer_modifier_end(const struct layer_linear *linear);
/** Whether the driver laid @image out as the caller's explicit layout says. */
bool layer_modifier_fits(const struct layer_device *d, VkImage image,
                         const struct layer_linear *linear);
/** The one memory plane of a linear image is its colours. */
VkImageSubresource layer_without_planes(const struct layer_device *d,
                                        const VkImageSubresource *subresource);
/** vkGetPhysicalDeviceImageFormatProperties2 for a driver that has no modifiers. */
VkResult layer_modifier_image_format(struct layer_instance *i, VkPhysicalDevice gpu,
                                     const VkPhysicalDeviceImageFormatInfo2 *info,
                                     VkImageFormatProperties2 *out);

/* ---- the layer's own versions of Vulkan's functions, by file ---- */

/* layer_instance.c */
VKAPI_ATTR VkResult VKAPI_CALL layer_CreateInstance(const VkInstanceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkInstance *out);
VKAPI_ATTR void VKAPI_CALL layer_DestroyInstance(VkInstance instance,
                                                 const VkAllocationCallbacks *allocator);
VKAPI_ATTR VkResult VKAPI_CALL layer_EnumeratePhysicalDevices(VkInstance instance, uint32_t *count,
                                                              VkPhysicalDevice *out);
VKAPI_ATTR VkResult VKAPI_CALL layer_EnumeratePhysicalDeviceGroups(
    VkInstance instance, uint32_t *count, VkPhysicalDeviceGroupProperties *out);

/* layer_query.c */
VKAPI_ATTR VkResult VKAPI_CALL layer_EnumerateDeviceExtensionProperties(VkPhysicalDevice gpu,
                                                                        const char *layer_name,
                                                                        uint32_t *count,
                                                                        VkExtensionProperties *out);
VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceMemoryProperties(
    VkPhysicalDevice gpu, VkPhysicalDeviceMemoryProperties *out);
VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceMemoryProperties2(
    VkPhysicalDevice gpu, VkPhysicalDeviceMemoryProperties2 *out);
VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceExternalBufferProperties(
    VkPhysicalDevice gpu, const VkPhysicalDeviceExternalBufferInfo *info,
    VkExternalBufferProperties *out);
VKAPI_ATTR VkResult VKAPI_CALL layer_GetPhysicalDeviceImageFormatProperties2(
    VkPhysicalDevice gpu, const VkPhysicalDeviceImageFormatInfo2 *info,
    VkImageFormatProperties2 *out);

/* layer_semaphore.c */
VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceExternalSemaphoreProperties(
    VkPhysicalDevice gpu, const VkPhysicalDeviceExternalSemaphoreInfo *info,
    VkExternalSemaphoreProperties *out);
VKAPI_ATTR VkResult VKAPI_CALL layer_ImportSemaphoreFdKHR(VkDevice device,
                                                          const VkImportSemaphoreFdInfoKHR *info);

/* layer_device.c */
VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice gpu,
                                                  const VkDeviceCreateInfo *info,
                                                  const VkAllocationCallbacks *allocator,
                                                  VkDevice *out);
VKAPI_ATTR void VKAPI_CALL layer_DestroyDevice(VkDevice device,
                                               const VkAllocationCallbacks *allocator);
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetDeviceProcAddr(VkDevice device, const char *name);
VKAPI_ATTR VkResult VKAPI_CALL layer_CreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                                                  const VkAllocationCallbacks *allocator,
                                                  VkBuffer *out);
VKAPI_ATTR VkResult VKAPI_CALL layer_CreateImage(VkDevice device, const VkImageCreateInfo *info,
                                                 const VkAllocationCallbacks *allocator,
                                                 VkImage *out);
#ifdef VK_VERSION_1_3
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceBufferMemoryRequirements(
    VkDevice device, const VkDeviceBufferMemoryRequirements *info, VkMemoryRequirements2 *out);
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageMemoryRequirements(
    VkDevice device, const VkDeviceImageMemoryRequirements *info, VkMemoryRequirements2 *out);
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageSparseMemoryRequirements(
    VkDevice device, const VkDeviceImageMemoryRequirements *info, uint32_t *count,
    VkSparseImageMemoryRequirements2 *out);
#endif
#ifdef VK_KHR_maintenance5
VKAPI_ATTR void VKAPI_CALL layer_GetDeviceImageSubresourceLayout(
    VkDevice device, const VkDeviceImageSubresourceInfoKHR *info, VkSubresourceLayout2KHR *out);
#endif

/* layer_modifier.c */
VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceFormatProperties2(VkPhysicalDevice gpu,
                                                                    VkFormat format,
                                                                    VkFormatProperties2 *out);
VKAPI_ATTR VkResult VKAPI_CALL layer_GetImageDrmFormatModifierPropertiesEXT(
    VkDevice device, VkImage image, VkImageDrmFormatModifierPropertiesEXT *out);
VKAPI_ATTR void VKAPI_CALL layer_GetImageSubresourceLayout(VkDevice device, VkImage image,
                                                           const VkImageSubresource *subresource,
                                                           VkSubresourceLayout *out);
#ifdef VK_EXT_image_compression_control
VKAPI_ATTR void VKAPI_CALL layer_GetImageSubresourceLayout2(
    VkDevice device, VkImage image, const VkImageSubresource2EXT *subresource,
    VkSubresourceLayout2EXT *out);
#endif

/* layer_memory.c */
VKAPI_ATTR VkResult VKAPI_CALL layer_AllocateMemory(VkDevice device,
                                                    const VkMemoryAllocateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkDeviceMemory *out);
VKAPI_ATTR void VKAPI_CALL layer_FreeMemory(VkDevice device, VkDeviceMemory memory,
                                            const VkAllocationCallbacks *allocator);
VKAPI_ATTR VkResult VKAPI_CALL layer_GetMemoryFdKHR(VkDevice device,
                                                    const VkMemoryGetFdInfoKHR *info, int *out_fd);
VKAPI_ATTR VkResult VKAPI_CALL layer_GetMemoryFdPropertiesKHR(
    VkDevice device, VkExternalMemoryHandleTypeFlagBits type, int fd, VkMemoryFdPropertiesKHR *out);

#endif
