/* SPDX-License-Identifier: MIT */
/* The layer on a driver of our own: several devices, memory types that cannot be served, refusals.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vulkan/vk_layer.h>

#include "fake_driver.h"
#include "fixture.h"
#include "layer_env.h"

#define UUID_OF_2 "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"
#define HOST_POINTER VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT

static VkInstance instance;
static VkPhysicalDevice gpus[FAKE_DEVICES];

static void set_up(void)
{
    const char *driver = getenv("VGD_FAKE_DRIVER");
    cr_assert_not_null(driver, "VGD_FAKE_DRIVER is the fake driver's manifest");
    cr_assert_eq(setenv("VK_DRIVER_FILES", driver, 1), 0);
    cr_assert_eq(setenv("VK_ICD_FILENAMES", driver, 1), 0);
}

static void tear_down(void)
{
    if (instance != NULL) {
        vkDestroyInstance(instance, NULL);
    }
}

TestSuite(layer_fake, .init = set_up, .fini = tear_down, .timeout = 60);

static void open_all(bool host_memory)
{
    use_layer(host_memory, NULL);
    instance = open_instance();
    cr_assert_eq(list_gpus(instance, gpus, FAKE_DEVICES), FAKE_DEVICES);
}

/* The loader has the driver open: its own copy of the counters. */
static const struct fake_seen *seen(void)
{
    const char *library = getenv("VGD_FAKE_LIBRARY");
    cr_assert_not_null(library);
    void *driver = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    cr_assert_not_null(driver, "%s", dlerror());
    const struct fake_seen *found = dlsym(driver, "fake_seen");
    (void)dlclose(driver);
    cr_assert_not_null(found);
    return found;
}

/* ---- narrowing ---- */

static void expect_no_device(const char *name)
{
    VkInstance one = open_instance();
    uint32_t n = 0;
    VkResult result = vkEnumeratePhysicalDevices(one, &n, NULL);
    cr_assert_eq(result, VK_ERROR_INITIALIZATION_FAILED, "%s: %d", name, (int)result);
    n = 0;
    result = vkEnumeratePhysicalDeviceGroups(one, &n, NULL);
    cr_assert_lt(result, 0, "%s: %d", name, (int)result);
    vkDestroyInstance(one, NULL);
}

Test(layer_fake, narrows_to_one_device)
{
    const struct {
        const char *name, *uuid;
        uint32_t expect;
    } cases[] = {
        {"not set", NULL, 3},
        {"device 2", UUID_OF_2, 1},
        {"device 2, capital letters", "A2A2A2A2A2A2A2A2A2A2A2A2A2A2A2A2", 1},
        {"no such device", "00000000000000000000000000000000", 0},
        {"empty", "", 0},
        {"one digit short", "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a", 0},
        {"one digit too many", UUID_OF_2 "a", 0},
        {"not hex", "g2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2", 0},
        {"with dashes", "a2a2a2a2-a2a2-a2a2-a2a2-a2a2a2a2a2a2", 0},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        use_layer(false, cases[c].uuid);
        if (cases[c].expect == 0) {
            expect_no_device(cases[c].name);
            continue;
        }
        VkInstance one = open_instance();
        VkPhysicalDevice shown[FAKE_DEVICES];
        uint32_t n = list_gpus(one, shown, FAKE_DEVICES);
        cr_assert_eq(n, cases[c].expect, "%s: %u devices", cases[c].name, n);
        if (n == 1) {
            VkPhysicalDeviceProperties about;
            vkGetPhysicalDeviceProperties(shown[0], &about);
            cr_assert_str_eq(about.deviceName, "fake 2");
        }
        vkDestroyInstance(one, NULL);
    }
}

Test(layer_fake, narrows_groups_too)
{
    const struct {
        const char *uuid;
        uint32_t groups;
        const char *device;
    } cases[] = {{"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", 1, "fake 1"}, {UUID_OF_2, 1, "fake 2"}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        use_layer(false, cases[c].uuid);
        VkInstance one = open_instance();
        uint32_t n = 0;
        (void)vkEnumeratePhysicalDeviceGroups(one, &n, NULL);
        cr_assert_eq(n, cases[c].groups);
        if (n == 1) {
            VkPhysicalDeviceGroupProperties group = {
                .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_GROUP_PROPERTIES,
            };
            cr_assert_eq(vkEnumeratePhysicalDeviceGroups(one, &n, &group), VK_SUCCESS);
            cr_assert_eq(group.physicalDeviceCount, 1u);
            cr_assert_eq(group.subsetAllocation, (VkBool32)VK_FALSE);
            VkPhysicalDeviceProperties about;
            vkGetPhysicalDeviceProperties(group.physicalDevices[0], &about);
            cr_assert_str_eq(about.deviceName, cases[c].device);
        }
        vkDestroyInstance(one, NULL);
    }
}

/* ---- what is said of each device ---- */

static void expect_flags(VkPhysicalDevice gpu, const VkMemoryPropertyFlags expect[4])
{
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(gpu, &memory);
    VkPhysicalDeviceMemoryProperties2 memory2 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
    };
    vkGetPhysicalDeviceMemoryProperties2(gpu, &memory2);
    cr_assert_eq(memory.memoryTypeCount, 4u);
    for (uint32_t t = 0; t < 4; t++) {
        cr_assert_eq(memory.memoryTypes[t].propertyFlags, expect[t], "type %u is 0x%x, not 0x%x", t,
                     memory.memoryTypes[t].propertyFlags, expect[t]);
        cr_assert_eq(memory2.memoryProperties.memoryTypes[t].propertyFlags, expect[t]);
    }
}

#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define HOST (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT

static const VkMemoryPropertyFlags as_the_driver_says[4] = {LOCAL, HOST, HOST | CACHED,
                                                            LOCAL | HOST};

Test(layer_fake, types_that_no_file_serves_are_hidden)
{
    open_all(true);
    const VkMemoryPropertyFlags expect[4] = {LOCAL, HOST | CACHED, HOST | CACHED, LOCAL};
    expect_flags(gpus[FAKE_LIKE_NVIDIA], expect);
    cr_assert(has_extension(gpus[FAKE_LIKE_NVIDIA], VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME));
    cr_assert(has_extension(gpus[FAKE_LIKE_NVIDIA], VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME));
    /* At most one trial for each device (some loaders ask about all of them), and nothing left of
     * it. */
    unsigned trials = seen()->devices;
    expect_flags(gpus[FAKE_LIKE_NVIDIA], expect);
    cr_assert(trials >= 1 && trials <= FAKE_DEVICES && seen()->devices == trials);
    cr_assert_eq(seen()->live_devices, 0u);
    cr_assert_eq(seen()->live_memories, 0u);
    cr_assert_eq(count_maps(), 0u);
}

Test(layer_fake, devices_that_cannot_be_served_pass_through)
{
    open_all(true);
    for (unsigned g = FAKE_NO_IMPORT; g <= FAKE_REFUSES; g++) {
        expect_flags(gpus[g], as_the_driver_says);
        cr_assert(!has_extension(gpus[g], VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME));
    }
    cr_assert_eq(seen()->live_devices, 0u);
}

Test(layer_fake, off_means_off)
{
    open_all(false);
    for (unsigned g = 0; g < FAKE_DEVICES; g++) {
        expect_flags(gpus[g], as_the_driver_says);
        cr_assert(!has_extension(gpus[g], VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME));
    }
    cr_assert_eq(seen()->devices, 0u, "no trial device");
}

Test(layer_fake, the_driver_never_hears_of_dma_bufs)
{
    open_all(true);
    VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT,
        .handleType = DMA_BUF,
    };
    VkExternalBufferProperties about = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
    vkGetPhysicalDeviceExternalBufferProperties(gpus[FAKE_LIKE_NVIDIA], &info, &about);
    cr_assert_eq(about.externalMemoryProperties.exportFromImportedHandleTypes, DMA_BUF);

    struct device d;
    open_device(gpus[FAKE_LIKE_NVIDIA], &d); /* the driver has neither of the two extensions */
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = DMA_BUF | VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT,
    };
    VkBufferCreateInfo buffer_info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = &external,
        .size = 4096,
    };
    VkBuffer buffer;
    cr_assert_eq(vkCreateBuffer(d.device, &buffer_info, NULL, &buffer), VK_SUCCESS);
    cr_assert_eq(seen()->last_types, HOST_POINTER);
    cr_assert_eq(external.handleTypes, DMA_BUF | VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT);
    VkExternalMemoryImageCreateInfo external_image = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMAGE_CREATE_INFO,
        .handleTypes = DMA_BUF,
    };
    VkImageCreateInfo image_info = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
        .pNext = &external_image,
    };
    VkImage image;
    cr_assert_eq(vkCreateImage(d.device, &image_info, NULL, &image), VK_SUCCESS);
    cr_assert_eq(seen()->last_types, HOST_POINTER);

    VkDeviceMemory memory;
    cr_assert_eq(try_allocate(&d, 4096, 1, &memory), VK_SUCCESS);
    vkFreeMemory(d.device, memory, NULL);
    for (uint32_t t = 0; t < 5; t++) { /* 0 and 3: no file; 4: no such type */
        bool is_served = t == 1 || t == 2;
        cr_assert_eq(try_allocate(&d, 4096, t, &memory),
                     is_served ? VK_SUCCESS : VK_ERROR_INVALID_EXTERNAL_HANDLE, "type %u", t);
        if (is_served) {
            vkFreeMemory(d.device, memory, NULL);
        }
    }
    int fd = dup(0);
    cr_assert_lt(try_import(&d, 4096, 1, fd, &memory), 0);
    VkMemoryFdPropertiesKHR of_fd = {.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR};
    cr_assert_eq(d.fd_properties(d.device, DMA_BUF, fd, &of_fd), VK_ERROR_INVALID_EXTERNAL_HANDLE);
    (void)close(fd);
    close_device(&d);
    cr_assert_eq(seen()->dma_bufs, 0u);
    cr_assert_eq(seen()->live_memories, 0u);
}

/* A mapping of a file that shrinks is a SIGBUS, one that cannot be written no memory at all. */
Test(layer_fake, only_files_that_stay_as_they_are_are_imported)
{
    open_all(true);
    struct device d;
    open_device(gpus[FAKE_LIKE_NVIDIA], &d);
    const struct {
        const char *name;
        int seals;
        bool is_taken;
    } cases[] = {
        {"as ours", F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, true},
        {"it cannot shrink", F_SEAL_SHRINK, true},
        {"not sealed", 0, false},
        {"it can shrink", F_SEAL_GROW, false},
        {"it cannot be written", F_SEAL_SHRINK | F_SEAL_WRITE, false},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        int fd = memfd_create("vgd-vk-theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        cr_assert(fd >= 0 && ftruncate(fd, FAKE_ALIGN_BYTES) == 0);
        cr_assert_eq(fcntl(fd, F_ADD_SEALS, cases[c].seals), 0);
        VkMemoryFdPropertiesKHR about = {.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR};
        VkResult expect = cases[c].is_taken ? VK_SUCCESS : VK_ERROR_INVALID_EXTERNAL_HANDLE;
        cr_assert_eq(d.fd_properties(d.device, DMA_BUF, fd, &about), expect, "%s", cases[c].name);
        VkDeviceMemory memory;
        cr_assert_eq(try_import(&d, 4096, 1, fd, &memory), expect, "%s", cases[c].name);
        cr_assert_eq(count_maps(), cases[c].is_taken, "%s", cases[c].name);
        if (cases[c].is_taken) {
            vkFreeMemory(d.device, memory, NULL);
        } else {
            (void)close(fd);
        }
    }
    close_device(&d);
    cr_assert_eq(seen()->dma_bufs, 0u);
}

/* Layers above may ask for a device's functions by the instance: they are for each of its devices,
 * also for one that the memory part does not serve. */
Test(layer_fake, functions_of_the_instance_serve_every_device)
{
    open_all(true);
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/" VGD_LAYER_LIBRARY, getenv("VGD_LAYER_FOLDER"));
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    cr_assert_not_null(library, "%s", dlerror());
    void *symbol = dlsym(library, "vkNegotiateLoaderLayerInterfaceVersion");
    PFN_vkNegotiateLoaderLayerInterfaceVersion negotiate;
    memcpy(&negotiate, &symbol, sizeof(negotiate)); /* C has no conversion between the two */
    VkNegotiateLayerInterface layer = {.sType = LAYER_NEGOTIATE_INTERFACE_STRUCT,
                                       .loaderLayerInterfaceVersion = 2};
    cr_assert(negotiate != NULL && negotiate(&layer) == VK_SUCCESS);

    float priority = 1.0f;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue};
    VkDevice device;
    cr_assert_eq(vkCreateDevice(gpus[FAKE_NO_IMPORT], &info, NULL, &device), VK_SUCCESS);
#define FIND(name)                                                                                 \
    PFN_vk##name name = (PFN_vk##name)layer.pfnGetInstanceProcAddr(instance, "vk" #name)
    FIND(AllocateMemory);
    FIND(FreeMemory);
    FIND(CreateBuffer);
    VkMemoryAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                     .allocationSize = 4096};
    VkDeviceMemory memory;
    cr_assert_eq(AllocateMemory(device, &allocate, NULL, &memory), VK_SUCCESS);
    FreeMemory(device, memory, NULL);
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = DMA_BUF};
    VkBufferCreateInfo buffer_info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .pNext = &external, .size = 4096};
    VkBuffer buffer;
    cr_assert_eq(CreateBuffer(device, &buffer_info, NULL, &buffer), VK_SUCCESS);
    cr_assert_eq(seen()->last_types, DMA_BUF, "as it was asked");
    vkDestroyDevice(device, NULL);
    cr_assert_eq(seen()->live_memories, 0u);
    (void)dlclose(library);
}

Test(layer_fake, imports_are_aligned_and_keep_their_flags)
{
    open_all(true);
    struct device d;
    open_device(gpus[FAKE_LIKE_NVIDIA], &d);
    unsigned fds = open_fds_count();
    const VkDeviceSize sizes[] = {1, 4095, 4096, 4097, FAKE_ALIGN_BYTES, FAKE_ALIGN_BYTES + 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        VkMemoryDedicatedAllocateInfo dedicated = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
        };
        VkMemoryAllocateFlagsInfo flags = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
            .pNext = &dedicated,
            .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
        };
        VkExportMemoryAllocateInfo export = {
            .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
            .pNext = &flags,
            .handleTypes = DMA_BUF,
        };
        VkMemoryAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
            .pNext = &export,
            .allocationSize = sizes[i],
            .memoryTypeIndex = 2,
        };
        VkDeviceMemory memory;
        cr_assert_eq(vkAllocateMemory(d.device, &info, NULL, &memory), VK_SUCCESS);
        cr_assert(info.pNext == &export && export.pNext == &flags && flags.pNext == &dedicated &&
                  dedicated.pNext == NULL);
        cr_assert(seen()->device_address && !seen()->dedicated);
        cr_assert_eq(seen()->last_bytes % FAKE_ALIGN_BYTES, 0u);
        cr_assert_geq(seen()->last_bytes, sizes[i]);
        cr_assert_lt(seen()->last_bytes, sizes[i] + FAKE_ALIGN_BYTES);
        vkFreeMemory(d.device, memory, NULL);
    }
    cr_assert_eq(open_fds_count(), fds);
    cr_assert_eq(count_maps(), 0u);
    close_device(&d);
}

Test(layer_fake, a_driver_that_refuses_leaves_nothing)
{
    open_all(true);
    struct device d;
    open_device(gpus[FAKE_LIKE_NVIDIA], &d);
    unsigned fds = open_fds_count();
    for (unsigned i = 0; i < 100; i++) {
        VkDeviceMemory memory;
        cr_assert_eq(try_allocate(&d, FAKE_UNLUCKY_BYTES, 1, &memory),
                     VK_ERROR_OUT_OF_DEVICE_MEMORY);
    }
    cr_assert_eq(open_fds_count(), fds);
    cr_assert_eq(count_maps(), 0u);
    cr_assert_eq(seen()->live_memories, 0u);
    close_device(&d);
}

/* ---- semaphores ---- */

#define OPAQUE_FD VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD_BIT
#define SYNC_FD VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT

static VkExternalSemaphoreFeatureFlags features_of(VkPhysicalDevice gpu,
                                                   VkExternalSemaphoreHandleTypeFlagBits handle,
                                                   VkSemaphoreType type)
{
    VkSemaphoreTypeCreateInfo of_type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = type,
    };
    VkPhysicalDeviceExternalSemaphoreInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
        .pNext = type == VK_SEMAPHORE_TYPE_BINARY ? NULL : &of_type,
        .handleType = handle,
    };
    VkExternalSemaphoreProperties about = {.sType =
                                               VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES};
    vkGetPhysicalDeviceExternalSemaphoreProperties(gpu, &info, &about);
    bool compatible = (about.compatibleHandleTypes & handle) != 0;
    cr_assert_eq(compatible, about.externalSemaphoreFeatures != 0);
    return about.externalSemaphoreFeatures;
}

/* A device of @n_queues; @semaphores: with the extension that imports into them. */
static VkDevice make_device(VkPhysicalDevice gpu, uint32_t n_queues, bool semaphores)
{
    const float priorities[FAKE_QUEUES] = {0.25f, 0.5f, 0.75f};
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = n_queues,
        .pQueuePriorities = priorities,
    };
    const char *extensions[] = {VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME};
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = n_queues > 0 ? 1 : 0,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = semaphores ? 1 : 0,
        .ppEnabledExtensionNames = extensions,
    };
    VkDevice device = NULL;
    cr_assert_eq(vkCreateDevice(gpu, &info, NULL, &device), VK_SUCCESS);
    return device;
}

static VkResult import_into(VkDevice device, VkExternalSemaphoreHandleTypeFlagBits type, int fd)
{
    PFN_vkImportSemaphoreFdKHR import =
        (PFN_vkImportSemaphoreFdKHR)vkGetDeviceProcAddr(device, "vkImportSemaphoreFdKHR");
    cr_assert_not_null(import);
    VkImportSemaphoreFdInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
        .semaphore = (VkSemaphore)(uintptr_t)0x5e3a,
        .flags = VK_SEMAPHORE_IMPORT_TEMPORARY_BIT,
        .handleType = type,
        .fd = fd,
    };
    return import(device, &info);
}

Test(layer_fake, a_semaphore_is_born_signalled)
{
    open_all(true);
    VkPhysicalDevice gpu = gpus[FAKE_LIKE_NVIDIA];
    const VkExternalSemaphoreFeatureFlags importable = VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT;
    cr_assert_eq(features_of(gpu, SYNC_FD, VK_SEMAPHORE_TYPE_BINARY), importable, "no export");
    cr_assert_eq(features_of(gpu, SYNC_FD, VK_SEMAPHORE_TYPE_TIMELINE), 0);
    cr_assert_neq(features_of(gpu, OPAQUE_FD, VK_SEMAPHORE_TYPE_BINARY), importable,
                  "the driver's");
    cr_assert_eq(features_of(gpus[FAKE_REFUSES], SYNC_FD, VK_SEMAPHORE_TYPE_BINARY), 0);
    for (uint32_t n = 0; n < FAKE_QUEUES; n++) { /* the application's queues */
        unsigned signals = seen()->signals;
        VkDevice device = make_device(gpu, n, true);
        cr_assert_eq(seen()->queues, n + 1);
        cr_assert_eq(seen()->queue_index, n);
        cr_assert_eq(import_into(device, SYNC_FD, -1), VK_SUCCESS);
        cr_assert_eq(seen()->signals, signals + 1);
        cr_assert_eq(seen()->last_signal, 0x5e3a);
        int fd = dup(0);
        cr_assert_eq(import_into(device, SYNC_FD, fd), VK_ERROR_INVALID_EXTERNAL_HANDLE);
        cr_assert_eq(close(fd), 0, "still ours");
        cr_assert_eq(import_into(device, OPAQUE_FD, -1), VK_SUCCESS);
        cr_assert_eq(seen()->opaque_fds, n + 1);
        vkDestroyDevice(device, NULL);
    }
    cr_assert_eq(seen()->sync_fds, 0u, "the driver does not know the word");
}

Test(layer_fake, no_queue_is_added_where_none_is_left_or_wanted)
{
    open_all(true);
    VkPhysicalDevice gpu = gpus[FAKE_LIKE_NVIDIA];
    VkDevice device = make_device(gpu, 1, false);
    cr_assert_eq(seen()->queues, 1u);
    vkDestroyDevice(device, NULL);
    device = make_device(gpu, FAKE_QUEUES, true);
    cr_assert_eq(seen()->queues, (unsigned)FAKE_QUEUES);
    cr_assert_eq(import_into(device, SYNC_FD, -1), VK_ERROR_INVALID_EXTERNAL_HANDLE);
    cr_assert_eq(seen()->signals, 0u);
    cr_assert_eq(seen()->sync_fds, 0u);
    vkDestroyDevice(device, NULL);
}

Test(layer_fake, semaphores_are_the_drivers_when_off)
{
    open_all(false);
    VkPhysicalDevice gpu = gpus[FAKE_LIKE_NVIDIA];
    cr_assert_eq(features_of(gpu, SYNC_FD, VK_SEMAPHORE_TYPE_BINARY), 0);
    VkDevice device = make_device(gpu, 1, true);
    cr_assert_eq(seen()->queues, 1u);
    vkDestroyDevice(device, NULL);
}

/* Two instances at once, as two contexts of one server process would be. */
Test(layer_fake, instances_do_not_share_answers)
{
    use_layer(true, UUID_OF_2);
    VkInstance narrow = open_instance();
    open_all(true);
    VkPhysicalDevice shown[FAKE_DEVICES];
    cr_assert_eq(list_gpus(narrow, shown, FAKE_DEVICES), 1u);
    expect_flags(shown[0], as_the_driver_says);
    cr_assert(has_extension(gpus[FAKE_LIKE_NVIDIA], VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME));
    vkDestroyInstance(narrow, NULL);
    struct device d;
    open_device(gpus[FAKE_LIKE_NVIDIA], &d);
    close_device(&d);
}
