/* SPDX-License-Identifier: MIT */
/* Memory that lives in a file: allocated, imported, exported, freed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fd.h"
#include "layer.h"

void *layer_map_aligned(int fd, size_t len_bytes, size_t align_bytes)
{
    /* A place first, then the file in it: the kernel aligns to pages only. */
    size_t place_bytes = len_bytes + align_bytes;
    uint8_t *place = place_bytes > len_bytes
                         ? mmap(NULL, place_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                         : MAP_FAILED;
    if (place == MAP_FAILED) {
        return NULL;
    }
    size_t ahead = (align_bytes - (uintptr_t)place % align_bytes) % align_bytes;
    size_t behind = align_bytes - ahead;
    void *map =
        mmap(place + ahead, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (ahead != 0) {
        (void)munmap(place, ahead);
    }
    if (behind != 0) {
        (void)munmap(place + ahead + len_bytes, behind);
    }
    if (map == MAP_FAILED) {
        (void)munmap(place + ahead, len_bytes);
        return NULL;
    }
    return map;
}

/* ---- the allocations of a device that live in files ---- */

static struct layer_memory **bucket_of(struct layer_device *d, VkDeviceMemory handle)
{
    uint64_t hash =
        (uint64_t)handle * 0x9e3779b97f4a7c15u; /* the golden ratio: mixes low bits up */
    return &d->memories[(hash >> 32) & (LAYER_MEMORY_BUCKETS - 1u)];
}

static void memory_add(struct layer_device *d, struct layer_memory *m)
{
    pthread_mutex_lock(&d->lock);
    struct layer_memory **bucket = bucket_of(d, m->handle);
    m->next = *bucket;
    *bucket = m;
    pthread_mutex_unlock(&d->lock);
}

/* NULL: not one that lives in a file. */
static struct layer_memory *memory_take(struct layer_device *d, VkDeviceMemory handle)
{
    pthread_mutex_lock(&d->lock);
    struct layer_memory **link = bucket_of(d, handle);
    while (*link != NULL && (*link)->handle != handle) {
        link = &(*link)->next;
    }
    struct layer_memory *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

static void memory_free(struct layer_memory *m)
{
    if (m == NULL) {
        return;
    }
    if (m->map != NULL) {
        (void)munmap(m->map, m->map_bytes);
    }
    vgd_fd_closep(&m->fd);
    free(m);
}

void layer_memories_free(struct layer_device *device)
{
    for (size_t b = 0; b < LAYER_MEMORY_BUCKETS; b++) {
        while (device->memories[b] != NULL) {
            struct layer_memory *m = device->memories[b];
            device->memories[b] = m->next;
            memory_free(m);
        }
    }
}

/* ---- files ---- */

/* A file that this layer made, here or in another process: it can no longer shrink, so a mapping of
 * it never faults. A dma-buf has no seals. */
static bool is_our_kind(int fd, uint64_t *out_bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat about;
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || (seals & F_SEAL_WRITE) != 0 ||
        fstat(fd, &about) != 0 || about.st_size <= 0) {
        return false;
    }
    *out_bytes = (uint64_t)about.st_size;
    return true;
}

static VkResult fd_error(void)
{
    return errno == EMFILE || errno == ENFILE ? VK_ERROR_TOO_MANY_OBJECTS
                                              : VK_ERROR_OUT_OF_HOST_MEMORY;
}

/* ---- allocate and free ---- */

/* The driver's part: the same allocation, as an import of the mapped file. */
static VkResult import_map(const struct layer_device *d, const VkMemoryAllocateInfo *info,
                           const VkAllocationCallbacks *allocator, const struct layer_memory *m,
                           VkDeviceMemory *out)
{
    union {
        VkMemoryAllocateInfo info;
        VkBaseOutStructure head;
    } real = {.info = *info};
    /* Flags (buffer device address), priority and capture address stay. A dedicated allocation has
     * the exact size of its resource, an import a multiple of the alignment: no driver wants both,
     * and to be dedicated is a wish that host pointers cannot meet. */
    struct layer_unlinked export =
        layer_unlink(&real.head, VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO);
    struct layer_unlinked import =
        layer_unlink(&real.head, VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR);
    struct layer_unlinked dedicated =
        layer_unlink(&real.head, VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO);
    VkImportMemoryHostPointerInfoEXT pointer = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .pNext = real.info.pNext,
        .handleType = LAYER_HOST_POINTER,
        .pHostPointer = m->map,
    };
    VkMemoryAllocateInfo imported = real.info;
    imported.pNext = &pointer;
    imported.allocationSize = m->map_bytes;
    VkResult result = d->vk.AllocateMemory(d->handle, &imported, allocator, out);
    layer_relink(dedicated); /* the other way round than they went */
    layer_relink(import);
    layer_relink(export);
    return result;
}

/* @import_fd: the file to use, which stays the caller's; -1 makes a new one. */
static VkResult allocate_in_file(struct layer_device *d, const VkMemoryAllocateInfo *info,
                                 int import_fd, uint64_t import_bytes,
                                 const VkAllocationCallbacks *allocator, VkDeviceMemory *out)
{
    const VkPhysicalDeviceMemoryProperties *memory = &d->gpu->memory;
    uint32_t heap = memory->memoryTypes[info->memoryTypeIndex].heapIndex;
    VkDeviceSize align = d->gpu->align_bytes;
    /* More than the heap is refused here: an empty file of any size would be accepted. */
    if (info->allocationSize == 0 || info->allocationSize > memory->memoryHeaps[heap].size ||
        info->allocationSize > UINT64_MAX / 2) {
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    uint64_t n_bytes = (info->allocationSize + align - 1) & ~(align - 1);
    if (import_fd >= 0 && import_bytes < n_bytes) {
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    struct layer_memory *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    m->map_bytes = n_bytes;
    m->fd =
        import_fd >= 0 ? fcntl(import_fd, F_DUPFD_CLOEXEC, 0) : vgd_memfd_create("vgd-vk", n_bytes);
    if (m->fd < 0) {
        VkResult result = fd_error();
        memory_free(m);
        return result;
    }
    m->map = layer_map_aligned(m->fd, n_bytes, align);
    VkResult result = m->map != NULL ? import_map(d, info, allocator, m, &m->handle)
                                     : VK_ERROR_OUT_OF_HOST_MEMORY;
    if (result != VK_SUCCESS) {
        memory_free(m);
        return result;
    }
    *out = m->handle;
    memory_add(d, m);
    return VK_SUCCESS;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_AllocateMemory(VkDevice device,
                                                    const VkMemoryAllocateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkDeviceMemory *out)
{
    struct layer_device *d = layer_device_of(device);
    if (d->gpu == NULL) {
        return d->vk.AllocateMemory(device, info, allocator, out);
    }
    const VkExportMemoryAllocateInfo *export =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO);
    const VkImportMemoryFdInfoKHR *import =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR);
    bool exports = export != NULL && (export->handleTypes & LAYER_DMA_BUF) != 0;
    bool imports = import != NULL && import->handleType == LAYER_DMA_BUF;
    uint64_t import_bytes = 0;
    bool imports_ours = imports && is_our_kind(import->fd, &import_bytes);
    bool takes_files = info->memoryTypeIndex < d->gpu->memory.memoryTypeCount &&
                       (d->gpu->type_bits & (1u << info->memoryTypeIndex)) != 0;
    if (imports_ours || (exports && import == NULL && takes_files)) {
        if (!takes_files) {
            return VK_ERROR_INVALID_EXTERNAL_HANDLE;
        }
        VkResult result =
            allocate_in_file(d, info, imports_ours ? import->fd : -1, import_bytes, allocator, out);
        if (result == VK_SUCCESS && imports_ours) {
            (void)close(import->fd); /* a successful import takes the fd */
        }
        return result;
    }
    if ((exports || imports) && !d->gpu->driver_has_dma_buf) {
        return VK_ERROR_INVALID_EXTERNAL_HANDLE; /* the driver does not know the word */
    }
    return d->vk.AllocateMemory(device, info, allocator, out);
}

VKAPI_ATTR void VKAPI_CALL layer_FreeMemory(VkDevice device, VkDeviceMemory memory,
                                            const VkAllocationCallbacks *allocator)
{
    struct layer_device *d = layer_device_of(device);
    /* Off the list first: once freed, the driver may give the same handle to another thread. */
    struct layer_memory *m = memory != VK_NULL_HANDLE ? memory_take(d, memory) : NULL;
    d->vk.FreeMemory(device, memory, allocator);
    memory_free(m);
}

/* ---- export ---- */

VKAPI_ATTR VkResult VKAPI_CALL layer_GetMemoryFdKHR(VkDevice device,
                                                    const VkMemoryGetFdInfoKHR *info, int *out_fd)
{
    struct layer_device *d = layer_device_of(device);
    pthread_mutex_lock(&d->lock);
    const struct layer_memory *m = *bucket_of(d, info->memory);
    while (m != NULL && m->handle != info->memory) {
        m = m->next;
    }
    /* Under the lock: another thread's vkFreeMemory of other memory must not move the list. */
    int fd = -1;
    VkResult result = VK_ERROR_OUT_OF_HOST_MEMORY; /* also for a type that was not asked for */
    if (m != NULL && info->handleType == LAYER_DMA_BUF) {
        fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
        result = fd >= 0 ? VK_SUCCESS : fd_error();
    }
    pthread_mutex_unlock(&d->lock);
    if (m == NULL && d->vk.GetMemoryFdKHR != NULL) {
        return d->vk.GetMemoryFdKHR(device, info, out_fd);
    }
    if (result == VK_SUCCESS) {
        *out_fd = fd;
    }
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_GetMemoryFdPropertiesKHR(
    VkDevice device, VkExternalMemoryHandleTypeFlagBits type, int fd, VkMemoryFdPropertiesKHR *out)
{
    const struct layer_device *d = layer_device_of(device);
    uint64_t n_bytes = 0;
    bool is_served = d->gpu != NULL && type == LAYER_DMA_BUF;
    if (is_served && is_our_kind(fd, &n_bytes)) {
        out->memoryTypeBits = d->gpu->type_bits;
        return VK_SUCCESS;
    }
    if (d->vk.GetMemoryFdPropertiesKHR == NULL || (is_served && !d->gpu->driver_has_dma_buf)) {
        return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    }
    return d->vk.GetMemoryFdPropertiesKHR(device, type, fd, out);
}
