/* SPDX-License-Identifier: MIT */
#include "vulkan_query.h"

#include <stdio.h>
#include <string.h>

#include "child.h"
#include "egl_load.h"
#include "fd.h"

#if __has_include(<vulkan/vulkan_core.h>)
#define VK_NO_PROTOTYPES
#include <errno.h>
#include <linux/dma-buf.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <vulkan/vulkan_core.h>

#define TRIAL_BYTES 65536u /* a multiple of every alignment for host pointers in use */
#define TRIAL_MAGIC 0x64677600u

struct vulkan {
    PFN_vkGetInstanceProcAddr get_proc;
    VkInstance instance;
    uint32_t n_devices;
    VkPhysicalDevice devices[VGD_VK_DEVICES_MAX];
};

#define FUNCTION(vk, name) ((PFN_##name)(vk)->get_proc((vk)->instance, #name))

static void say(char *reason, const char *text)
{
    (void)snprintf(reason, VGD_VK_REASON_BYTES, "%s", text);
}

static bool load(struct vulkan *vk, char *reason)
{
    *vk = (struct vulkan){0};
    void *lib = dlopen("libvulkan.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (lib == NULL) {
        say(reason, "libvulkan.so.1 is missing: install libvulkan1 (Debian)");
        return false;
    }
    vgd_dl_function(lib, "vkGetInstanceProcAddr", &vk->get_proc);
    PFN_vkCreateInstance create = vk->get_proc != NULL ? FUNCTION(vk, vkCreateInstance) : NULL;
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "vgd",
                                   .apiVersion = VK_API_VERSION_1_2};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pApplicationInfo = &app};
    if (create == NULL || create(&info, NULL, &vk->instance) != VK_SUCCESS) {
        say(reason, "no Vulkan driver: install mesa-vulkan-drivers (Debian)");
        return false;
    }
    PFN_vkEnumeratePhysicalDevices enumerate = FUNCTION(vk, vkEnumeratePhysicalDevices);
    vk->n_devices = VGD_VK_DEVICES_MAX;
    if (enumerate == NULL || enumerate(vk->instance, &vk->n_devices, vk->devices) < VK_SUCCESS) {
        say(reason, "the loader cannot list devices");
        return false;
    }
    return true;
}

static const char *type_name(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return "cpu";
    default:
        return "other";
    }
}

/* Does @device have the extension @name? @list, of @n, is the caller's to free. */
static bool in_list(const VkExtensionProperties *list, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(list[i].extensionName, name) == 0) {
            return true;
        }
    }
    return false;
}

static VkExtensionProperties *extensions(const struct vulkan *vk, VkPhysicalDevice device,
                                         uint32_t *out_n)
{
    PFN_vkEnumerateDeviceExtensionProperties enumerate =
        FUNCTION(vk, vkEnumerateDeviceExtensionProperties);
    *out_n = 0;
    if (enumerate == NULL || enumerate(device, NULL, out_n, NULL) != VK_SUCCESS) {
        *out_n = 0;
        return NULL;
    }
    VkExtensionProperties *list = calloc(*out_n + 1, sizeof(*list));
    if (list == NULL || enumerate(device, NULL, out_n, list) < VK_SUCCESS) {
        *out_n = 0;
    }
    return list;
}

static void describe(const struct vulkan *vk, VkPhysicalDevice device, struct vgd_vk_device *out)
{
    uint32_t n = 0;
    VkExtensionProperties *list = extensions(vk, device, &n);
    VkPhysicalDeviceDrmPropertiesEXT drm = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRM_PROPERTIES_EXT};
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                       .pNext = &driver};
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
    if (in_list(list, n, "VK_EXT_physical_device_drm")) {
        driver.pNext = &drm;
    }
    PFN_vkGetPhysicalDeviceProperties2 get = FUNCTION(vk, vkGetPhysicalDeviceProperties2);
    if (get != NULL) {
        get(device, &properties);
    }
    (void)snprintf(out->name, sizeof(out->name), "%.127s", properties.properties.deviceName);
    say(out->type, type_name(properties.properties.deviceType));
    (void)snprintf(out->driver, sizeof(out->driver), "%.60s %.60s", driver.driverName,
                   driver.driverInfo);
    memcpy(out->uuid, id.deviceUUID, sizeof(out->uuid));
    out->api_version = properties.properties.apiVersion;
    out->is_software = properties.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    out->dma_buf = in_list(list, n, "VK_EXT_external_memory_dma_buf");
    out->memory_fd = in_list(list, n, "VK_KHR_external_memory_fd");
    out->host_memory = in_list(list, n, "VK_EXT_external_memory_host");
    out->has_render_node = drm.hasRender != VK_FALSE;
    out->render_major = (uint32_t)drm.renderMajor;
    out->render_minor = (uint32_t)drm.renderMinor;
    free(list);
}

static void answer_list(const void *question, void *answer)
{
    (void)question;
    struct vgd_vk_devices *out = answer;
    struct vulkan vk;
    if (!load(&vk, out->reason)) {
        return;
    }
    out->ok = true;
    out->n = vk.n_devices;
    for (uint32_t i = 0; i < vk.n_devices; i++) {
        describe(&vk, vk.devices[i], &out->devices[i]);
    }
}

/* ---- memory -----------------------------------------------------------------------------------
 */

struct trial {
    struct vulkan vk;
    VkDevice device;
    VkPhysicalDeviceMemoryProperties memory;
    bool dma_buf, host_memory; /* enabled on the device */
};

/* Memory type of @bits that the CPU can see without flushing, else UINT32_MAX. */
static uint32_t visible_type(const struct trial *t, uint32_t bits)
{
    const VkMemoryPropertyFlags wanted =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    for (uint32_t i = 0; i < t->memory.memoryTypeCount; i++) {
        if ((bits >> i & 1u) != 0 && (t->memory.memoryTypes[i].propertyFlags & wanted) == wanted) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* Allocate with @next and map; NULL with a reason. */
static volatile uint32_t *allocate(const struct trial *t, uint32_t type_bits, const void *next,
                                   VkDeviceMemory *out_memory, char *reason)
{
    PFN_vkAllocateMemory allocate_memory = FUNCTION(&t->vk, vkAllocateMemory);
    PFN_vkMapMemory map_memory = FUNCTION(&t->vk, vkMapMemory);
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = next,
                                       .allocationSize = TRIAL_BYTES,
                                       .memoryTypeIndex = visible_type(t, type_bits)};
    void *data = NULL;
    if (info.memoryTypeIndex == UINT32_MAX) {
        say(reason, "no host-visible memory type for it");
    } else if (allocate_memory(t->device, &info, NULL, out_memory) != VK_SUCCESS) {
        say(reason, "vkAllocateMemory fails");
    } else if (map_memory(t->device, *out_memory, 0, VK_WHOLE_SIZE, 0, &data) != VK_SUCCESS) {
        say(reason, "vkMapMemory fails");
        data = NULL;
    }
    return data;
}

static bool try_export(const struct trial *t, char *reason)
{
    if (!t->dma_buf) {
        say(reason, "no VK_EXT_external_memory_dma_buf");
        return false;
    }
    const VkExportMemoryAllocateInfo export_info = {
        .sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT};
    VkDeviceMemory memory = VK_NULL_HANDLE;
    volatile uint32_t *inside = allocate(t, UINT32_MAX, &export_info, &memory, reason);
    if (inside == NULL) {
        return false;
    }
    *inside = TRIAL_MAGIC;
    PFN_vkGetMemoryFdKHR get_fd = FUNCTION(&t->vk, vkGetMemoryFdKHR);
    const VkMemoryGetFdInfoKHR fd_info = {.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
                                          .memory = memory,
                                          .handleType =
                                              VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT};
    VGD_AUTO_FD fd = -1;
    if (get_fd == NULL || get_fd(t->device, &fd_info, &fd) != VK_SUCCESS) {
        say(reason, "vkGetMemoryFdKHR fails");
        return false;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    volatile uint32_t *outside =
        end < (off_t)TRIAL_BYTES
            ? MAP_FAILED
            : mmap(NULL, TRIAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (outside == MAP_FAILED) {
        say(reason, "the exported dma-buf cannot be mapped");
        return false;
    }
    struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_READ | DMA_BUF_SYNC_START};
    (void)ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
    if (*outside != TRIAL_MAGIC) {
        say(reason, "the exported dma-buf shows other memory");
        return false;
    }
    return true;
}

static bool try_import(const struct trial *t, char *reason)
{
    if (!t->host_memory) {
        say(reason, "no VK_EXT_external_memory_host");
        return false;
    }
    VGD_AUTO_FD fd = vgd_memfd_create("vgd-trial", TRIAL_BYTES);
    void *outside =
        fd < 0 ? MAP_FAILED : mmap(NULL, TRIAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    PFN_vkGetMemoryHostPointerPropertiesEXT get_types =
        FUNCTION(&t->vk, vkGetMemoryHostPointerPropertiesEXT);
    VkMemoryHostPointerPropertiesEXT types = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    if (outside == MAP_FAILED || get_types == NULL ||
        get_types(t->device, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, outside,
                  &types) != VK_SUCCESS) {
        say(reason, "shared memory cannot be imported");
        return false;
    }
    const VkImportMemoryHostPointerInfoEXT import_info = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = outside};
    VkDeviceMemory memory = VK_NULL_HANDLE;
    volatile uint32_t *inside = allocate(t, types.memoryTypeBits, &import_info, &memory, reason);
    if (inside == NULL) {
        return false;
    }
    *(volatile uint32_t *)outside = TRIAL_MAGIC;
    if (*inside != TRIAL_MAGIC) {
        say(reason, "imported memory shows other bytes");
        return false;
    }
    return true;
}

static bool open_device(struct trial *t, const uint8_t *uuid, char *reason)
{
    if (!load(&t->vk, reason)) {
        return false;
    }
    for (uint32_t i = 0; i < t->vk.n_devices; i++) {
        struct vgd_vk_device d = {0};
        describe(&t->vk, t->vk.devices[i], &d);
        if (memcmp(d.uuid, uuid, sizeof(d.uuid)) != 0) {
            continue;
        }
        const char *names[3];
        uint32_t n = 0;
        t->dma_buf = d.dma_buf && d.memory_fd;
        t->host_memory = d.host_memory;
        if (t->dma_buf) {
            names[n++] = "VK_KHR_external_memory_fd";
            names[n++] = "VK_EXT_external_memory_dma_buf";
        }
        if (t->host_memory) {
            names[n++] = "VK_EXT_external_memory_host";
        }
        const float priority = 1.0f;
        const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                               .queueCount = 1,
                                               .pQueuePriorities = &priority};
        const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                         .queueCreateInfoCount = 1,
                                         .pQueueCreateInfos = &queue,
                                         .enabledExtensionCount = n,
                                         .ppEnabledExtensionNames = names};
        PFN_vkCreateDevice create = FUNCTION(&t->vk, vkCreateDevice);
        PFN_vkGetPhysicalDeviceMemoryProperties get_memory =
            FUNCTION(&t->vk, vkGetPhysicalDeviceMemoryProperties);
        get_memory(t->vk.devices[i], &t->memory);
        if (create(t->vk.devices[i], &info, NULL, &t->device) != VK_SUCCESS) {
            say(reason, "vkCreateDevice fails");
            return false;
        }
        return true;
    }
    say(reason, "the device is not there any more");
    return false;
}

static void answer_memory(const void *question, void *answer)
{
    struct vgd_vk_memory *out = answer;
    struct trial t = {0};
    if (!open_device(&t, question, out->export_reason)) {
        memcpy(out->import_reason, out->export_reason, sizeof(out->import_reason));
        return;
    }
    out->exports = try_export(&t, out->export_reason);
    out->imports = try_import(&t, out->import_reason);
}

#else

static void answer_list(const void *question, void *answer)
{
    (void)question;
    struct vgd_vk_devices *out = answer;
    (void)snprintf(out->reason, sizeof(out->reason),
                   "vgd was built without Vulkan's headers (Debian: libvulkan-dev)");
}

static void answer_memory(const void *question, void *answer)
{
    (void)question;
    (void)answer;
}

#endif

void vgd_vk_list(struct vgd_vk_devices *out)
{
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_list, NULL, out, sizeof(*out), VGD_VK_DEADLINE_MS, reason)) {
        (void)snprintf(out->reason, sizeof(out->reason), "a driver %s", reason);
    }
}

void vgd_vk_try_memory(const uint8_t uuid[VGD_VK_UUID_BYTES], struct vgd_vk_memory *out)
{
    char reason[VGD_CHILD_REASON_BYTES];
    if (!vgd_child_ask(answer_memory, uuid, out, sizeof(*out), VGD_VK_DEADLINE_MS, reason)) {
        (void)snprintf(out->export_reason, sizeof(out->export_reason), "the driver %s", reason);
        memcpy(out->import_reason, out->export_reason, sizeof(out->import_reason));
    }
}
