/* SPDX-License-Identifier: MIT */
/* VK_EXT_image_drm_format_modifier as the layer brings it to a real driver that has none. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fixture.h"

#define FORMAT VK_FORMAT_B8G8R8A8_UNORM
#define WIDTH 129u
#define HEIGHT 65u
#define NOT_LINEAR 0x0100000000000001u /* Intel's X tiling */

static VkInstance instance;
static VkPhysicalDevice gpu;
static struct device d;

static void set_up(void)
{
    gpu = use_real_driver(&instance);
    use_no_layer();
    VkInstance bare = open_instance();
    VkPhysicalDevice driver;
    cr_assert_neq(list_gpus(bare, &driver, 1), 0u);
    bool has_own = has_extension(driver, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME);
    vkDestroyInstance(bare, NULL);
    if (has_own) {
        cr_skip("this driver has modifiers itself");
    }
    cr_assert(has_extension(gpu, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME));
    open_device_with(gpu, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME, &d);
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

TestSuite(layer_modifier, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- what is said of formats ---- */

static uint32_t modifiers_of(VkFormat format, uint32_t room, VkDrmFormatModifierPropertiesEXT *out,
                             VkFormatFeatureFlags *out_linear)
{
    VkDrmFormatModifierPropertiesListEXT list = {
        .sType = VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_EXT,
        .drmFormatModifierCount = room,
        .pDrmFormatModifierProperties = out,
    };
    VkFormatProperties2 about = {
        .sType = VK_STRUCTURE_TYPE_FORMAT_PROPERTIES_2,
        .pNext = &list,
    };
    vkGetPhysicalDeviceFormatProperties2(gpu, format, &about);
    *out_linear = about.formatProperties.linearTilingFeatures;
    return list.drmFormatModifierCount;
}

Test(layer_modifier, a_format_has_the_linear_one)
{
    VkDrmFormatModifierPropertiesEXT found = {.drmFormatModifier = 77};
    VkFormatFeatureFlags linear;
    cr_assert_eq(modifiers_of(FORMAT, 0, NULL, &linear), 1u);
    cr_assert_eq(modifiers_of(FORMAT, 0, &found, &linear), 0u, "no room");
    cr_assert_eq(found.drmFormatModifier, 77u, "and nothing written");
    cr_assert_eq(modifiers_of(FORMAT, 1, &found, &linear), 1u);
    cr_assert_eq(found.drmFormatModifier, 0u);
    cr_assert_eq(found.drmFormatModifierPlaneCount, 1u);
    cr_assert_eq(found.drmFormatModifierTilingFeatures, linear);
    static const VkFormat none[] = {
        VK_FORMAT_UNDEFINED,
        VK_FORMAT_D32_SFLOAT,
        VK_FORMAT_S8_UINT,
        VK_FORMAT_G8_B8_R8_3PLANE_420_UNORM,
    };
    for (size_t f = 0; f < sizeof(none) / sizeof(none[0]); f++) {
        cr_assert_eq(modifiers_of(none[f], 1, &found, &linear), 0u, "format %d", (int)none[f]);
    }
}

static VkResult ask(uint64_t modifier, VkFormat format, bool chained, VkDeviceSize *out_size)
{
    VkPhysicalDeviceExternalImageFormatInfo external = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_IMAGE_FORMAT_INFO,
        .handleType = DMA_BUF,
    };
    VkPhysicalDeviceImageDrmFormatModifierInfoEXT with = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_IMAGE_DRM_FORMAT_MODIFIER_INFO_EXT,
        .pNext = &external,
        .drmFormatModifier = modifier,
    };
    VkPhysicalDeviceImageFormatInfo2 info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_IMAGE_FORMAT_INFO_2,
        .pNext = chained ? (void *)&with : &external,
        .format = format,
        .type = VK_IMAGE_TYPE_2D,
        .tiling = VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT,
        .usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
    };
    VkExternalImageFormatProperties external_answer = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_IMAGE_FORMAT_PROPERTIES,
    };
    VkImageFormatProperties2 answer = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_FORMAT_PROPERTIES_2,
        .pNext = &external_answer,
    };
    VkResult result = vkGetPhysicalDeviceImageFormatProperties2(gpu, &info, &answer);
    cr_assert_eq(info.tiling, VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT);
    cr_assert(with.pNext == &external && external.handleType == DMA_BUF,
              "the caller's chain is as it was");
    if (result == VK_SUCCESS) {
        cr_assert_neq(external_answer.externalMemoryProperties.externalMemoryFeatures &
                          VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT,
                      0u);
    }
    *out_size = answer.imageFormatProperties.maxResourceSize;
    return result;
}

Test(layer_modifier, others_are_not_supported)
{
    VkDeviceSize n_bytes = 0;
    cr_assert_eq(ask(0, FORMAT, true, &n_bytes), VK_SUCCESS);
    cr_assert_neq(n_bytes, 0u, "the driver's own answer");
    cr_assert_eq(ask(NOT_LINEAR, FORMAT, true, &n_bytes), VK_ERROR_FORMAT_NOT_SUPPORTED);
    cr_assert_eq(ask(0, FORMAT, false, &n_bytes), VK_ERROR_FORMAT_NOT_SUPPORTED);
    cr_assert_eq(ask(0, VK_FORMAT_D32_SFLOAT, true, &n_bytes), VK_ERROR_FORMAT_NOT_SUPPORTED);
}

/* ---- images ---- */

/* By the list, or where @layout is not NULL by that layout. */
static VkResult create(const struct device *dev, const uint64_t *modifiers, uint32_t n_modifiers,
                       const VkSubresourceLayout *layout, VkImage *out)
{
    VkExternalMemoryImageCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMAGE_CREATE_INFO,
        .handleTypes = DMA_BUF,
    };
    VkImageDrmFormatModifierListCreateInfoEXT list = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_LIST_CREATE_INFO_EXT,
        .pNext = &external,
        .drmFormatModifierCount = n_modifiers,
        .pDrmFormatModifiers = modifiers,
    };
    VkImageDrmFormatModifierExplicitCreateInfoEXT explicit = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT,
        .pNext = &external,
        .drmFormatModifier = n_modifiers > 0 ? modifiers[0] : 0,
        .drmFormatModifierPlaneCount = 1,
        .pPlaneLayouts = layout,
    };
    VkImageCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
        .pNext = layout != NULL ? (void *)&explicit : &list,
        .imageType = VK_IMAGE_TYPE_2D,
        .format = FORMAT,
        .extent = {WIDTH, HEIGHT, 1},
        .mipLevels = 1,
        .arrayLayers = 1,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .tiling = VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT,
        .usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT,
    };
    VkResult result = vkCreateImage(dev->device, &info, NULL, out);
    cr_assert(info.tiling == VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT && list.pNext == &external &&
                  explicit.pNext == &external && external.handleTypes == DMA_BUF,
              "the caller's chain is as it was");
    return result;
}

static VkSubresourceLayout layout_of(const struct device *dev, VkImage image)
{
    VkImageSubresource plane = {.aspectMask = VK_IMAGE_ASPECT_MEMORY_PLANE_0_BIT_EXT};
    VkSubresourceLayout layout;
    vkGetImageSubresourceLayout(dev->device, image, &plane, &layout);
    return layout;
}

static VkDeviceMemory bind_new_memory(VkImage image)
{
    VkMemoryRequirements needs;
    vkGetImageMemoryRequirements(d.device, image, &needs);
    uint32_t type = next_host_type(&d, 0);
    cr_assert_neq(needs.memoryTypeBits & (1u << type), 0u);
    VkDeviceMemory memory;
    cr_assert_eq(try_allocate(&d, needs.size, type, &memory), VK_SUCCESS);
    cr_assert_eq(vkBindImageMemory(d.device, image, memory, 0), VK_SUCCESS);
    return memory;
}

/* What a window system does: a picture by a list of modifiers, its plane's layout, its file; and
 * elsewhere the same picture again by that layout. */
Test(layer_modifier, a_picture_goes_from_device_to_device)
{
    static const uint64_t wanted[] = {NOT_LINEAR, 0};
    VkImage image, again;
    cr_assert_eq(create(&d, wanted, 2, NULL, &image), VK_SUCCESS);
    PFN_vkGetImageDrmFormatModifierPropertiesEXT which =
        (PFN_vkGetImageDrmFormatModifierPropertiesEXT)vkGetDeviceProcAddr(
            d.device, "vkGetImageDrmFormatModifierPropertiesEXT");
    cr_assert(which != NULL);
    VkImageDrmFormatModifierPropertiesEXT chosen = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_PROPERTIES_EXT,
        .drmFormatModifier = 77,
    };
    cr_assert_eq(which(d.device, image, &chosen), VK_SUCCESS);
    cr_assert_eq(chosen.drmFormatModifier, 0u);
    VkSubresourceLayout layout = layout_of(&d, image);
    cr_assert_geq(layout.rowPitch, 4u * WIDTH);
    VkDeviceMemory memory = bind_new_memory(image);
    int fd = export_fd(&d, memory);

    struct device other;
    open_device_with(gpu, VK_EXT_IMAGE_DRM_FORMAT_MODIFIER_EXTENSION_NAME, &other);
    cr_assert_eq(create(&other, &wanted[1], 1, &layout, &again), VK_SUCCESS);
    VkMemoryRequirements needs;
    vkGetImageMemoryRequirements(other.device, again, &needs);
    VkDeviceMemory imported;
    cr_assert_eq(try_import(&other, needs.size, next_host_type(&other, 0), dup(fd), &imported),
                 VK_SUCCESS);
    cr_assert_eq(vkBindImageMemory(other.device, again, imported, 0), VK_SUCCESS);
    device_clear(&other, again, (VkClearColorValue){.float32 = {1.0f, 0.0f, 0.2f, 1.0f}});

    size_t n_bytes = layout.offset + layout.rowPitch * HEIGHT;
    const uint8_t *map = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    for (uint32_t y = 0; y < HEIGHT; y++) {
        for (uint32_t x = 0; x < WIDTH; x++) {
            const uint8_t *pixel = map + layout.offset + layout.rowPitch * y + 4u * x;
            cr_assert_arr_eq(pixel, "\x33\x00\xff\xff", 4, "pixel %u, %u", x, y);
        }
    }
    (void)munmap((void *)(uintptr_t)map, n_bytes);
    (void)close(fd);
    vkDestroyImage(other.device, again, NULL);
    vkFreeMemory(other.device, imported, NULL);
    close_device(&other);
    vkDestroyImage(d.device, image, NULL);
    vkFreeMemory(d.device, memory, NULL);
}

Test(layer_modifier, images_that_cannot_be)
{
    static const uint64_t linear = 0, other = NOT_LINEAR;
    VkImage image;
    cr_assert_lt(create(&d, &other, 1, NULL, &image), 0, "not the only one wanted");
    cr_assert_lt(create(&d, NULL, 0, NULL, &image), 0, "none wanted");
    cr_assert_eq(create(&d, &linear, 1, NULL, &image), VK_SUCCESS);
    VkSubresourceLayout layout = layout_of(&d, image);
    vkDestroyImage(d.device, image, NULL);
    layout.rowPitch += 64;
    cr_assert_eq(create(&d, &linear, 1, &layout, &image),
                 VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT);
    layout.rowPitch -= 64;
    cr_assert_lt(create(&d, &other, 1, &layout, &image), 0);
    layout.offset += 4096;
    cr_assert_lt(create(&d, &linear, 1, &layout, &image), 0);
}

/* The caller is a guest: what the specification forbids comes all the same. */
Test(layer_modifier, a_list_and_no_layout_at_once)
{
    static const uint64_t linear = 0;
    const VkSubresourceLayout none = {0};
    for (uint32_t n_planes = 0; n_planes < 2; n_planes++) {
        VkImageDrmFormatModifierListCreateInfoEXT list = {
            .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_LIST_CREATE_INFO_EXT,
            .drmFormatModifierCount = 1,
            .pDrmFormatModifiers = &linear,
        };
        VkImageDrmFormatModifierExplicitCreateInfoEXT explicit = {
            .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT,
            .pNext = &list,
            .drmFormatModifierPlaneCount = n_planes,
            .pPlaneLayouts = n_planes == 0 ? NULL : &none,
        };
        VkImageCreateInfo info = {
            .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
            .pNext = &explicit,
            .imageType = VK_IMAGE_TYPE_2D,
            .format = FORMAT,
            .extent = {WIDTH, HEIGHT, 1},
            .mipLevels = 1,
            .arrayLayers = 1,
            .samples = VK_SAMPLE_COUNT_1_BIT,
            .tiling = VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT,
            .usage = VK_IMAGE_USAGE_TRANSFER_DST_BIT,
        };
        VkImage image;
        cr_assert_eq(vkCreateImage(d.device, &info, NULL, &image),
                     VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT, "%u planes", n_planes);
    }
}

/* The functions of newer drivers that ask about an image before it is made. */
static void set_up_newer(void)
{
    wanted_api_version = VK_MAKE_API_VERSION(0, 1, 4, 0);
    set_up();
}

TestSuite(layer_modifier_newer, .init = set_up_newer, .fini = tear_down, .timeout = 60);

/* NULL: not there. */
#define DEVICE_FUNCTION(name) ((PFN_vk##name)vkGetDeviceProcAddr(d.device, "vk" #name))

/* Of the picture that create() makes with a list of @modifier. */
static VkImageCreateInfo picture_of(VkImageDrmFormatModifierListCreateInfoEXT *list,
                                    const uint64_t *modifier)
{
    *list = (VkImageDrmFormatModifierListCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_LIST_CREATE_INFO_EXT,
        .drmFormatModifierCount = 1,
        .pDrmFormatModifiers = modifier,
    };
    return (VkImageCreateInfo){
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
        .pNext = list,
        .imageType = VK_IMAGE_TYPE_2D,
        .format = FORMAT,
        .extent = {WIDTH, HEIGHT, 1},
        .mipLevels = 1,
        .arrayLayers = 1,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .tiling = VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT,
        .usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT,
    };
}

#ifdef VK_VERSION_1_3
Test(layer_modifier_newer, memory_of_a_picture_that_is_not_made)
{
    PFN_vkGetDeviceImageMemoryRequirements ask_memory =
        DEVICE_FUNCTION(GetDeviceImageMemoryRequirements);
    PFN_vkGetDeviceImageSparseMemoryRequirements ask_sparse =
        DEVICE_FUNCTION(GetDeviceImageSparseMemoryRequirements);
    if (ask_memory == NULL || ask_sparse == NULL) {
        cr_skip("this driver cannot be asked (maintenance4)");
    }
    static const uint64_t modifiers[] = {0, NOT_LINEAR};
    for (unsigned m = 0; m < 2; m++) {
        VkImageDrmFormatModifierListCreateInfoEXT list;
        VkImageCreateInfo info = picture_of(&list, &modifiers[m]);
        VkDeviceImageMemoryRequirements question = {
            .sType = VK_STRUCTURE_TYPE_DEVICE_IMAGE_MEMORY_REQUIREMENTS, .pCreateInfo = &info};
        VkMemoryRequirements2 answer = {.sType = VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2};
        ask_memory(d.device, &question, &answer);
        uint32_t count = 77;
        ask_sparse(d.device, &question, &count, NULL);
        cr_assert_eq(count, 0u);
        cr_assert(info.tiling == VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT && info.pNext == &list,
                  "the caller's chain is as it was");
        if (m != 0) {
            cr_assert_eq(answer.memoryRequirements.memoryTypeBits, 0u, "it cannot be made");
            continue;
        }
        VkImage image;
        VkMemoryRequirements made;
        cr_assert_eq(vkCreateImage(d.device, &info, NULL, &image), VK_SUCCESS);
        vkGetImageMemoryRequirements(d.device, image, &made);
        cr_assert_eq(answer.memoryRequirements.size, made.size);
        cr_assert_neq(answer.memoryRequirements.memoryTypeBits & made.memoryTypeBits, 0u);
        vkDestroyImage(d.device, image, NULL);
    }
}
#endif

#ifdef VK_KHR_maintenance5
Test(layer_modifier_newer, layout_of_a_picture_that_is_not_made)
{
    PFN_vkGetDeviceImageSubresourceLayoutKHR ask_layout =
        (PFN_vkGetDeviceImageSubresourceLayoutKHR)vkGetDeviceProcAddr(
            d.device, "vkGetDeviceImageSubresourceLayout");
    if (ask_layout == NULL) {
        cr_skip("this driver cannot be asked (maintenance5)");
    }
    static const uint64_t modifiers[] = {0, NOT_LINEAR};
    for (unsigned m = 0; m < 2; m++) {
        VkImageDrmFormatModifierListCreateInfoEXT list;
        VkImageCreateInfo info = picture_of(&list, &modifiers[m]);
        VkImageSubresource2KHR plane = {
            .sType = VK_STRUCTURE_TYPE_IMAGE_SUBRESOURCE_2_KHR,
            .imageSubresource = {.aspectMask = VK_IMAGE_ASPECT_MEMORY_PLANE_0_BIT_EXT},
        };
        VkDeviceImageSubresourceInfoKHR question = {
            .sType = VK_STRUCTURE_TYPE_DEVICE_IMAGE_SUBRESOURCE_INFO_KHR,
            .pCreateInfo = &info,
            .pSubresource = &plane,
        };
        VkSubresourceLayout2KHR answer = {.sType = VK_STRUCTURE_TYPE_SUBRESOURCE_LAYOUT_2_KHR};
        answer.subresourceLayout.rowPitch = 77;
        ask_layout(d.device, &question, &answer);
        cr_assert(info.tiling == VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT && info.pNext == &list &&
                      plane.imageSubresource.aspectMask == VK_IMAGE_ASPECT_MEMORY_PLANE_0_BIT_EXT,
                  "what the caller has is as it was");
        if (m != 0) {
            cr_assert_eq(answer.subresourceLayout.rowPitch, 0u, "it cannot be made");
            continue;
        }
        VkImage image;
        cr_assert_eq(vkCreateImage(d.device, &info, NULL, &image), VK_SUCCESS);
        VkSubresourceLayout made = layout_of(&d, image);
        cr_assert_eq(answer.subresourceLayout.rowPitch, made.rowPitch);
        cr_assert_eq(answer.subresourceLayout.offset, made.offset);
        vkDestroyImage(d.device, image, NULL);
    }
}
#endif

Test(layer_modifier, without_the_extension_its_function_is_not_there)
{
    struct device plain;
    open_device(gpu, &plain);
    cr_assert(vkGetDeviceProcAddr(plain.device, "vkGetImageDrmFormatModifierPropertiesEXT") ==
              NULL);
    close_device(&plain);
}
