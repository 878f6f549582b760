/* SPDX-License-Identifier: MIT */
/*
 * Semaphores that are born signalled. venus takes swapchains only from a driver that imports sync
 * files into semaphores, and then imports nothing but -1, which stands for "signalled already": so
 * what an acquired image waits for is there. A driver without sync files (NVIDIA's without a DRM
 * node) gets that much from us: such an import becomes a signal, submitted to a queue of our own,
 * on which nothing else is done. It needs no lock against the application's submits and never
 * waits. Real sync files stay refused, and nothing is exported.
 */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

#define SYNC_FD VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT
#define FAMILIES_MAX 16u

bool layer_wants_signals(const struct layer_instance *i, VkPhysicalDevice handle)
{
    VkPhysicalDeviceExternalSemaphoreInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
        .handleType = SYNC_FD,
    };
    VkExternalSemaphoreProperties about = {.sType =
                                               VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES};
    if (i->vk.GetPhysicalDeviceExternalSemaphoreProperties == NULL) {
        return false;
    }
    i->vk.GetPhysicalDeviceExternalSemaphoreProperties(handle, &info, &about);
    return (about.externalSemaphoreFeatures & VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT) == 0;
}

VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceExternalSemaphoreProperties(
    VkPhysicalDevice handle, const VkPhysicalDeviceExternalSemaphoreInfo *info,
    VkExternalSemaphoreProperties *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    i->vk.GetPhysicalDeviceExternalSemaphoreProperties(handle, info, out);
    const struct layer_gpu *gpu = info->handleType == SYNC_FD ? layer_serving_gpu(i, handle) : NULL;
    if (gpu == NULL || !gpu->signals) {
        return;
    }
#ifdef VK_VERSION_1_2
    const VkSemaphoreTypeCreateInfo *type =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO);
    if (type != NULL && type->semaphoreType != VK_SEMAPHORE_TYPE_BINARY) {
        return;
    }
#endif
    out->externalSemaphoreFeatures |= VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT;
    out->compatibleHandleTypes |= SYNC_FD;
}

/* Queues of @family that the application asks for; UINT32_MAX: in a way that we do not add to. */
static uint32_t asked_of(const VkDeviceCreateInfo *info, uint32_t family)
{
    uint32_t n = 0;
    for (uint32_t q = 0; q < info->queueCreateInfoCount; q++) {
        const VkDeviceQueueCreateInfo *queue = &info->pQueueCreateInfos[q];
        if (queue->queueFamilyIndex == family) {
            if (queue->flags != 0 || n != 0) {
                return UINT32_MAX;
            }
            n = queue->queueCount;
        }
    }
    return n;
}

void *layer_add_queue(const struct layer_instance *i, VkPhysicalDevice handle,
                      VkDeviceCreateInfo *info, uint32_t *out_family, uint32_t *out_index)
{
    VkQueueFamilyProperties families[FAMILIES_MAX];
    uint32_t n_families = FAMILIES_MAX;
    i->vk.GetPhysicalDeviceQueueFamilyProperties(handle, &n_families, families);
    uint32_t family = 0;
    uint32_t asked = UINT32_MAX;
    for (; family < n_families; family++) {
        asked = asked_of(info, family);
        if (asked < families[family].queueCount) {
            break;
        }
    }
    if (family == n_families) {
        return NULL;
    }
    uint32_t n = info->queueCreateInfoCount;
    size_t infos_bytes = (n + 1u) * sizeof(VkDeviceQueueCreateInfo);
    void *memory = malloc(infos_bytes + (asked + 1u) * sizeof(float));
    if (memory == NULL) {
        return NULL;
    }
    VkDeviceQueueCreateInfo *infos = memory;
    float *priorities = (float *)(void *)(infos + n + 1);
    memcpy(infos, info->pQueueCreateInfos, n * sizeof(*infos));
    uint32_t at = 0;
    while (at < n && infos[at].queueFamilyIndex != family) {
        at++;
    }
    if (at == n) {
        infos[n++] = (VkDeviceQueueCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = family,
        };
    } else {
        memcpy(priorities, infos[at].pQueuePriorities, asked * sizeof(*priorities));
    }
    priorities[asked] = 1.0f;
    infos[at].queueCount = asked + 1;
    infos[at].pQueuePriorities = priorities;
    info->queueCreateInfoCount = n;
    info->pQueueCreateInfos = infos;
    *out_family = family;
    *out_index = asked;
    return memory;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_ImportSemaphoreFdKHR(VkDevice device,
                                                          const VkImportSemaphoreFdInfoKHR *info)
{
    struct layer_device *d = layer_device_of(device);
    if (info->handleType != SYNC_FD || d->gpu == NULL || !d->gpu->signals) {
        return d->vk.ImportSemaphoreFdKHR(device, info);
    }
    if (info->fd != -1 || d->signal_queue == NULL) {
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &info->semaphore,
    };
    pthread_mutex_lock(&d->lock);
    VkResult result = d->vk.QueueSubmit(d->signal_queue, 1, &submit, VK_NULL_HANDLE);
    pthread_mutex_unlock(&d->lock);
    return result;
}
