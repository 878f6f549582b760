/* SPDX-License-Identifier: MIT */
/*
 * The layer on a real driver: the first device of VK_DRIVER_FILES, or lavapipe. What only a fake
 * driver can show is in fake.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fixture.h"

#define N_BYTES (256u * 1024u)
#define N_WORDS (N_BYTES / 4)

static VkInstance instance;
static VkPhysicalDevice gpu;
static struct device d;

static void set_up(void)
{
    gpu = use_real_driver(&instance);
    open_device(gpu, &d);
    cr_assert_neq(next_host_type(&d, 0), UINT32_MAX, "no memory type is left host-visible");
}

static void tear_down(void)
{
    if (d.device != NULL) {
        close_device(&d);
    }
    if (instance != NULL) {
        vkDestroyInstance(instance, NULL);
    }
}

TestSuite(layer_driver, .init = set_up, .fini = tear_down, .timeout = 60);

static uint32_t *map_again(int fd, size_t n_bytes)
{
    void *map = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED, "mmap: %s", strerror(errno));
    return map;
}

static void expect_words(const uint32_t *words, uint32_t value, const char *where)
{
    for (uint32_t i = 0; i < N_WORDS; i++) {
        cr_assert_eq(words[i], value, "%s: word %u is 0x%x, not 0x%x", where, i, words[i], value);
    }
}

/* Both directions through a second mapping, for each type that is still called host-visible. */
Test(layer_driver, what_is_exported_is_the_memory)
{
    for (uint32_t t = next_host_type(&d, 0); t != UINT32_MAX; t = next_host_type(&d, t + 1)) {
        VkDeviceMemory memory[2];
        struct memory m[2];
        for (size_t i = 0; i < 2; i++) {
            cr_assert_eq(try_allocate(&d, N_BYTES, t, &memory[i]), VK_SUCCESS);
            use_memory(&d, memory[i], N_BYTES, &m[i]);
        }
        int fd = export_fd(&d, memory[0]);
        cr_assert_geq(lseek(fd, 0, SEEK_END), N_BYTES);
        uint32_t *again = map_again(fd, N_BYTES);
        expect_words(again, 0, "fresh memory"); /* nothing of anybody else's */

        device_fill(&d, &m[0], 0xfeedf00d);
        expect_words(again, 0xfeedf00d, "written by the device, seen in the file");
        expect_words(m[0].words, 0xfeedf00d, "written by the device, seen by vkMapMemory");

        for (uint32_t i = 0; i < N_WORDS; i++) {
            again[i] = 0x1234abcd;
        }
        expect_words(m[0].words, 0x1234abcd, "written in the file, seen by vkMapMemory");
        device_copy(&d, &m[0], &m[1]);
        expect_words(m[1].words, 0x1234abcd, "written in the file, seen by the device");

        cr_assert_eq(munmap(again, N_BYTES), 0);
        cr_assert_eq(close(fd), 0);
        free_memory(&d, &m[0]);
        free_memory(&d, &m[1]);
    }
}

Test(layer_driver, another_device_imports_the_file)
{
    uint32_t t = next_host_type(&d, 0);
    VkDeviceMemory memory;
    struct memory mine;
    cr_assert_eq(try_allocate(&d, N_BYTES, t, &memory), VK_SUCCESS);
    use_memory(&d, memory, N_BYTES, &mine);
    int fd = export_fd(&d, memory);

    VkInstance other_instance = open_instance();
    VkPhysicalDevice other_gpu;
    cr_assert_geq(list_gpus(other_instance, &other_gpu, 1), 1);
    struct device other;
    open_device(other_gpu, &other);
    VkMemoryFdPropertiesKHR about = {.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR};
    cr_assert_eq(other.fd_properties(other.device, DMA_BUF, fd, &about), VK_SUCCESS);
    cr_assert_neq(about.memoryTypeBits & (1u << t), 0u);

    VkDeviceMemory imported;
    struct memory theirs;
    cr_assert_eq(try_import(&other, N_BYTES, t, fd, &imported), VK_SUCCESS);
    cr_assert_eq(fcntl(fd, F_GETFD), -1, "a successful import takes the fd");
    use_memory(&other, imported, N_BYTES, &theirs);
    device_fill(&other, &theirs, 0x0badcafe);
    expect_words(mine.words, 0x0badcafe, "written by the other device");
    device_fill(&d, &mine, 0x600dcafe);
    expect_words(theirs.words, 0x600dcafe, "written by this device");

    /* It lives on when the first owner frees it, and can be exported from here. */
    free_memory(&d, &mine);
    fd = export_fd(&other, imported);
    uint32_t *again = map_again(fd, N_BYTES);
    expect_words(again, 0x600dcafe, "after the first owner freed it");
    cr_assert_eq(munmap(again, N_BYTES), 0);
    (void)close(fd);
    free_memory(&other, &theirs);
    close_device(&other);
    vkDestroyInstance(other_instance, NULL);
}

Test(layer_driver, nothing_is_left_of_1000_allocations)
{
    uint32_t t = next_host_type(&d, 0);
    unsigned fds = 0;
    unsigned maps = 0;
    for (unsigned cycle = 0; cycle < 1010; cycle++) {
        if (cycle == 10) { /* after the driver has warmed up */
            fds = open_fds_count();
            maps = count_maps();
        }
        VkDeviceMemory memory;
        struct memory m;
        VkDeviceSize n_bytes = N_BYTES + (cycle % 7) * 4096;
        cr_assert_eq(try_allocate(&d, n_bytes, t, &memory), VK_SUCCESS);
        use_memory(&d, memory, N_BYTES, &m);
        m.words[0] = cycle;
        int fd = export_fd(&d, memory);
        (void)close(fd);
        free_memory(&d, &m);
    }
    cr_assert_eq(open_fds_count(), fds);
    cr_assert_eq(count_maps(), maps);
}

Test(layer_driver, a_destroyed_device_leaves_nothing)
{
    unsigned fds = 0;
    unsigned maps = 0;
    for (unsigned cycle = 0; cycle < 4; cycle++) {
        struct device other;
        open_device(gpu, &other);
        for (unsigned i = 0; i < 10; i++) {
            VkDeviceMemory memory;
            cr_assert_eq(try_allocate(&other, N_BYTES, next_host_type(&other, 0), &memory),
                         VK_SUCCESS);
        }
        cr_assert_geq(count_maps(), 10);
        close_device(&other);
        if (cycle == 1) {
            fds = open_fds_count();
            maps = count_maps();
        }
    }
    cr_assert_eq(open_fds_count(), fds);
    cr_assert_eq(count_maps(), maps);
    cr_assert_eq(maps, 0u);
}

/* A memory map of a file that can shrink is a SIGBUS for whoever touches it. */
Test(layer_driver, the_file_is_sealed)
{
    VkDeviceMemory memory;
    cr_assert_eq(try_allocate(&d, 5000, next_host_type(&d, 0), &memory), VK_SUCCESS);
    int fd = export_fd(&d, memory);
    cr_assert_eq(ftruncate(fd, 0), -1);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(ftruncate(fd, 1 << 20), -1);
    cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1, "nobody may make it read-only");
    cr_assert_eq(lseek(fd, 0, SEEK_END) % 4096, 0, "whole pages");
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    (void)close(fd);
    vkFreeMemory(d.device, memory, NULL);
}

Test(layer_driver, a_file_that_is_too_short_is_refused)
{
    uint32_t t = next_host_type(&d, 0);
    VkDeviceMemory memory;
    cr_assert_eq(try_allocate(&d, N_BYTES, t, &memory), VK_SUCCESS);
    int fd = export_fd(&d, memory);
    VkDeviceMemory other;
    cr_assert_eq(try_import(&d, N_BYTES + 4096, t, fd, &other), VK_ERROR_INVALID_EXTERNAL_HANDLE);
    cr_assert_neq(fcntl(fd, F_GETFD), -1, "a failed import leaves the fd");
    (void)close(fd);
    vkFreeMemory(d.device, memory, NULL);
}

Test(layer_driver, more_than_the_heap_is_refused)
{
    uint32_t t = next_host_type(&d, 0);
    VkDeviceSize heap = d.memory.memoryHeaps[d.memory.memoryTypes[t].heapIndex].size;
    VkDeviceMemory memory;
    const VkDeviceSize sizes[] = {heap + 1, UINT64_MAX / 2 + 1, UINT64_MAX - 4095, UINT64_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        cr_assert_lt(try_allocate(&d, sizes[i], t, &memory), 0, "case %zu", i);
    }
    cr_assert_eq(count_maps(), 0u);
}

Test(layer_driver, out_of_fds_is_an_error_and_leaves_nothing)
{
    uint32_t t = next_host_type(&d, 0);
    VkDeviceMemory memory;
    cr_assert_eq(try_allocate(&d, N_BYTES, t, &memory), VK_SUCCESS);
    int lowest = dup(0);
    (void)close(lowest);
    struct rlimit old;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit none = {.rlim_cur = (rlim_t)lowest, .rlim_max = old.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    VkDeviceMemory other;
    VkResult allocated = try_allocate(&d, N_BYTES, t, &other);
    VkMemoryGetFdInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
        .memory = memory,
        .handleType = DMA_BUF,
    };
    int fd = -1;
    VkResult exported = d.get_fd(d.device, &info, &fd);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
    cr_assert_eq(allocated, VK_ERROR_TOO_MANY_OBJECTS);
    cr_assert_eq(exported, VK_ERROR_TOO_MANY_OBJECTS);
    cr_assert_eq(count_maps(), 1u);
    vkFreeMemory(d.device, memory, NULL);
}

/* What venus asks before it takes the path of exports. */
Test(layer_driver, external_properties_say_exportable)
{
    VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT,
        .handleType = DMA_BUF,
    };
    VkExternalBufferProperties about = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
    vkGetPhysicalDeviceExternalBufferProperties(gpu, &info, &about);
    const VkExternalMemoryProperties *external = &about.externalMemoryProperties;
    cr_assert_neq(external->externalMemoryFeatures & VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT, 0u);
    cr_assert_neq(external->externalMemoryFeatures & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT, 0u);
    cr_assert_eq(external->exportFromImportedHandleTypes, DMA_BUF);
    cr_assert_eq(external->compatibleHandleTypes, DMA_BUF);

    VkPhysicalDeviceExternalImageFormatInfo external_info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_IMAGE_FORMAT_INFO,
        .handleType = DMA_BUF,
    };
    VkPhysicalDeviceImageFormatInfo2 image = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_IMAGE_FORMAT_INFO_2,
        .pNext = &external_info,
        .format = VK_FORMAT_R8G8B8A8_UNORM,
        .type = VK_IMAGE_TYPE_2D,
        .tiling = VK_IMAGE_TILING_LINEAR,
        .usage = VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
    };
    VkExternalImageFormatProperties external_answer = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_IMAGE_FORMAT_PROPERTIES,
    };
    VkImageFormatProperties2 answer = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_FORMAT_PROPERTIES_2,
        .pNext = &external_answer,
    };
    VkResult result = vkGetPhysicalDeviceImageFormatProperties2(gpu, &image, &answer);
    cr_assert_eq(external_info.handleType, DMA_BUF, "the caller's structure is as it was");
    if (result == VK_SUCCESS) {
        VkExternalMemoryFeatureFlags features =
            external_answer.externalMemoryProperties.externalMemoryFeatures;
        cr_assert(features == 0 || (features & VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT) != 0);
    }
}

/* As a client of venus does it: an external buffer, memory dedicated to it, with more in the chain.
 */
Test(layer_driver, external_buffers_with_dedicated_memory)
{
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = DMA_BUF,
    };
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = &external,
        .size = N_BYTES - 100,
        .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    VkBuffer buffer;
    cr_assert_eq(vkCreateBuffer(d.device, &info, NULL, &buffer), VK_SUCCESS);
    cr_assert_eq(external.handleTypes, DMA_BUF, "the caller's structure is as it was");
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(d.device, buffer, &needs);
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO};
    VkMemoryDedicatedAllocateInfo dedicated = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
        .pNext = &flags,
        .buffer = buffer,
    };
    VkExportMemoryAllocateInfo export = {
        .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
        .pNext = &dedicated,
        .handleTypes = DMA_BUF,
    };
    VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &export,
        .allocationSize = needs.size,
        .memoryTypeIndex = next_host_type(&d, 0),
    };
    cr_assert_neq(needs.memoryTypeBits & (1u << allocate.memoryTypeIndex), 0u);
    VkDeviceMemory memory;
    cr_assert_eq(vkAllocateMemory(d.device, &allocate, NULL, &memory), VK_SUCCESS);
    cr_assert(allocate.pNext == &export && export.pNext == &dedicated && dedicated.pNext == &flags,
              "the caller's chain is as it was");
    cr_assert_eq(export.handleTypes, DMA_BUF);
    cr_assert_eq(vkBindBufferMemory(d.device, buffer, memory, 0), VK_SUCCESS);
    int fd = export_fd(&d, memory);
    (void)close(fd);
    vkDestroyBuffer(d.device, buffer, NULL);
    vkFreeMemory(d.device, memory, NULL);
}

static void *allocate_and_free(void *user)
{
    uint32_t t = next_host_type(&d, 0);
    size_t *n_wrong = user;
    for (unsigned i = 0; i < 200; i++) {
        VkDeviceMemory memory[3];
        for (size_t k = 0; k < 3; k++) {
            *n_wrong += try_allocate(&d, 4096 * (k + 1), t, &memory[k]) != VK_SUCCESS;
        }
        for (size_t k = 0; k < 3; k++) {
            VkMemoryGetFdInfoKHR info = {
                .sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
                .memory = memory[k],
                .handleType = DMA_BUF,
            };
            int fd = -1;
            *n_wrong += d.get_fd(d.device, &info, &fd) != VK_SUCCESS;
            *n_wrong += lseek(fd, 0, SEEK_END) != (off_t)(4096 * (k + 1)); /* not another's */
            (void)close(fd);
            vkFreeMemory(d.device, memory[k], NULL);
        }
    }
    return NULL;
}

Test(layer_driver, threads_do_not_mix_up_memory)
{
    pthread_t threads[4];
    size_t n_wrong[4] = {0};
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, allocate_and_free, &n_wrong[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_eq(n_wrong[i], 0u);
    }
    cr_assert_eq(count_maps(), 0u);
}

Test(layer_driver, extension_lists_follow_vulkans_rule)
{
    uint32_t count = 0;
    cr_assert_eq(vkEnumerateDeviceExtensionProperties(gpu, NULL, &count, NULL), VK_SUCCESS);
    VkExtensionProperties *list = calloc(count, sizeof(*list));
    cr_assert_not_null(list);
    for (uint32_t room = count < 3 ? 0 : count - 3; room <= count; room++) {
        uint32_t n = room;
        VkResult result = vkEnumerateDeviceExtensionProperties(gpu, NULL, &n, list);
        cr_assert_eq(result, room == count ? VK_SUCCESS : VK_INCOMPLETE, "room %u of %u: %d", room,
                     count, (int)result);
        cr_assert_eq(n, room);
    }
    free(list);
    cr_assert(has_extension(gpu, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME));
    cr_assert(has_extension(gpu, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME));
}

static VkDevice open_with_semaphores(VkQueue *out_queue)
{
    float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    const char *extensions[] = {VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME};
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = 1,
        .ppEnabledExtensionNames = extensions,
    };
    VkDevice device = NULL;
    cr_assert_eq(vkCreateDevice(gpu, &info, NULL, &device), VK_SUCCESS);
    vkGetDeviceQueue(device, 0, 0, out_queue);
    return device;
}

/* As venus does for each image that is acquired: the wait for it comes to an end. */
Test(layer_driver, a_semaphore_is_born_signalled)
{
    VkPhysicalDeviceExternalSemaphoreInfo asked = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
        .handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
    };
    VkExternalSemaphoreProperties about = {.sType =
                                               VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES};
    if (!has_extension(gpu, VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME)) {
        cr_skip("this driver has no semaphores with descriptors");
    }
    vkGetPhysicalDeviceExternalSemaphoreProperties(gpu, &asked, &about);
    cr_assert((about.externalSemaphoreFeatures & VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT) !=
              0);
    VkQueue queue;
    VkDevice device = open_with_semaphores(&queue);
    PFN_vkImportSemaphoreFdKHR import =
        (PFN_vkImportSemaphoreFdKHR)vkGetDeviceProcAddr(device, "vkImportSemaphoreFdKHR");
    VkSemaphoreCreateInfo semaphore_info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
    VkFenceCreateInfo fence_info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkSemaphore semaphore;
    VkFence fence;
    cr_assert_eq(vkCreateSemaphore(device, &semaphore_info, NULL, &semaphore), VK_SUCCESS);
    cr_assert_eq(vkCreateFence(device, &fence_info, NULL, &fence), VK_SUCCESS);
    VkImportSemaphoreFdInfoKHR signalled = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
        .semaphore = semaphore,
        .flags = VK_SEMAPHORE_IMPORT_TEMPORARY_BIT,
        .handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
        .fd = -1,
    };
    const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .waitSemaphoreCount = 1,
        .pWaitSemaphores = &semaphore,
        .pWaitDstStageMask = &stage,
    };
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(import(device, &signalled), VK_SUCCESS);
        cr_assert_eq(vkQueueSubmit(queue, 1, &submit, fence), VK_SUCCESS);
        cr_assert_eq(vkWaitForFences(device, 1, &fence, VK_TRUE, 5000000000ull), VK_SUCCESS,
                     "round %d", i);
        cr_assert_eq(vkResetFences(device, 1, &fence), VK_SUCCESS);
    }
    vkDestroyFence(device, fence, NULL);
    vkDestroySemaphore(device, semaphore, NULL);
    vkDestroyDevice(device, NULL);
}
