/* SPDX-License-Identifier: MIT */
/*
 * VK_EXT_image_drm_format_modifier for a driver that has none, with one modifier: LINEAR, which is
 * the driver's own VK_IMAGE_TILING_LINEAR. A guest whose pictures have a modifier hands them on as
 * they are; without, its window system layer copies each frame into a buffer.
 */
#include "layer.h"

#define LINEAR_MODIFIER 0u /* DRM_FORMAT_MOD_LINEAR of drm_fourcc.h */

/* In pixels of one plane: neither depth and stencil nor planes side by side, which are laid out as
 * no DRM format has them. */
static bool is_plain(VkFormat format)
{
    static const struct {
        VkFormat first, last;
    } others[] = {
        {VK_FORMAT_UNDEFINED, VK_FORMAT_UNDEFINED},
        {VK_FORMAT_D16_UNORM, VK_FORMAT_D32_SFLOAT_S8_UINT},
        {VK_FORMAT_G8B8G8R8_422_UNORM, VK_FORMAT_G16_B16_R16_3PLANE_444_UNORM},
        {VK_FORMAT_G8_B8R8_2PLANE_444_UNORM_EXT, VK_FORMAT_G16_B16R16_2PLANE_444_UNORM_EXT},
    };
    for (size_t f = 0; f < sizeof(others) / sizeof(others[0]); f++) {
        if (format >= others[f].first && format <= others[f].last) {
            return false;
        }
    }
    return true;
}

/* ---- what is said of formats ---- */

static VkFormatFeatureFlags linear_features(VkFormat format, const VkFormatProperties2 *about)
{
    return is_plain(format) ? about->formatProperties.linearTilingFeatures : 0;
}

/* How many entries to write; @count becomes how many there are, or how many were written. */
static uint32_t fill_count(uint32_t *count, bool has_entries, VkFormatFeatureFlags features)
{
    *count = features != 0 && (!has_entries || *count > 0) ? 1 : 0;
    return has_entries ? *count : 0;
}

VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceFormatProperties2(VkPhysicalDevice handle,
                                                                    VkFormat format,
                                                                    VkFormatProperties2 *out)
{
    struct layer_instance *i = layer_instance_of(handle);
    const struct layer_gpu *gpu = layer_serving_gpu(i, handle);
    if (gpu == NULL || !gpu->adds_modifiers) {
        i->vk.GetPhysicalDeviceFormatProperties2(handle, format, out);
        return;
    }
    union {
        VkFormatProperties2 about;
        VkBaseOutStructure head;
    } asked = {.about = *out};
    /* Lavapipe fills the lists also where it does not have the extension, room or not. */
    struct layer_unlinked u =
        layer_unlink(&asked.head, VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_EXT);
#ifdef VK_VERSION_1_3
    struct layer_unlinked u2 =
        layer_unlink(&asked.head, VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_2_EXT);
#endif
    i->vk.GetPhysicalDeviceFormatProperties2(handle, format, &asked.about);
#ifdef VK_VERSION_1_3
    layer_relink(u2);
#endif
    layer_relink(u);
    out->formatProperties = asked.about.formatProperties;
    VkFormatFeatureFlags features = linear_features(format, out);
    VkDrmFormatModifierPropertiesListEXT *list =
        layer_find(out->pNext, VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_EXT);
    if (list != NULL && fill_count(&list->drmFormatModifierCount,
                                   list->pDrmFormatModifierProperties != NULL, features) != 0) {
        list->pDrmFormatModifierProperties[0] = (VkDrmFormatModifierPropertiesEXT){
            .drmFormatModifier = LINEAR_MODIFIER,
            .drmFormatModifierPlaneCount = 1,
            .drmFormatModifierTilingFeatures = features,
        };
    }
#ifdef VK_VERSION_1_3
    VkDrmFormatModifierPropertiesList2EXT *list2 =
        layer_find(out->pNext, VK_STRUCTURE_TYPE_DRM_FORMAT_MODIFIER_PROPERTIES_LIST_2_EXT);
    const VkFormatProperties3 *wide = layer_find(out->pNext, VK_STRUCTURE_TYPE_FORMAT_PROPERTIES_3);
    if (list2 != NULL && fill_count(&list2->drmFormatModifierCount,
                                    list2->pDrmFormatModifierProperties != NULL, features) != 0) {
        list2->pDrmFormatModifierProperties[0] = (VkDrmFormatModifierProperties2EXT){
            .drmFormatModifier = LINEAR_MODIFIER,
            .drmFormatModifierPlaneCount = 1,
            .drmFormatModifierTilingFeatures = wide != NULL ? wide->linearTilingFeatures : features,
        };
    }
#endif
}

VkResult layer_modifier_image_format(struct layer_instance *i, VkPhysicalDevice handle,
                                     const VkPhysicalDeviceImageFormatInfo2 *info,
                                     VkImageFormatProperties2 *out)
{
    const VkPhysicalDeviceImageDrmFormatModifierInfoEXT *modifier = layer_find(
        info->pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_IMAGE_DRM_FORMAT_MODIFIER_INFO_EXT);
    if (info->tiling != VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT) {
        return i->vk.GetPhysicalDeviceImageFormatProperties2(handle, info, out);
    }
    if (modifier == NULL || modifier->drmFormatModifier != LINEAR_MODIFIER ||
        !is_plain(info->format)) {
        return VK_ERROR_FORMAT_NOT_SUPPORTED;
    }
    union {
        VkPhysicalDeviceImageFormatInfo2 info;
        VkBaseOutStructure head;
    } asked = {.info = *info};
    asked.info.tiling = VK_IMAGE_TILING_LINEAR;
    struct layer_unlinked u = layer_unlink(
        &asked.head, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_IMAGE_DRM_FORMAT_MODIFIER_INFO_EXT);
    VkResult result = i->vk.GetPhysicalDeviceImageFormatProperties2(handle, &asked.info, out);
    layer_relink(u);
    return result;
}

/* ---- images ---- */

/* A create info as the driver gets it. What the layer took out of the chain goes back with
 * layer_modifier_end; explicit stays readable until then. */
bool layer_modifier_begin(const struct layer_device *d, const VkImageCreateInfo *info,
                          struct layer_linear *out)
{
    *out = (struct layer_linear){.real.info = *info};
    if (d->gpu == NULL || !d->gpu->adds_modifiers ||
        info->tiling != VK_IMAGE_TILING_DRM_FORMAT_MODIFIER_EXT) {
        return true;
    }
    const VkImageDrmFormatModifierListCreateInfoEXT *list =
        layer_find(info->pNext, VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_LIST_CREATE_INFO_EXT);
    out->layout = layer_find(info->pNext,
                             VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT);
    bool has_linear = out->layout != NULL && out->layout->drmFormatModifier == LINEAR_MODIFIER &&
                      out->layout->drmFormatModifierPlaneCount == 1 &&
                      out->layout->pPlaneLayouts != NULL;
    /* It is one or the other. A guest can send both: then the list must not vouch for a layout that
     * is not there. */
    for (uint32_t m = 0; list != NULL && m < list->drmFormatModifierCount; m++) {
        has_linear =
            has_linear || (out->layout == NULL && list->pDrmFormatModifiers[m] == LINEAR_MODIFIER);
    }
    if (!has_linear || !is_plain(info->format)) {
        return false;
    }
    out->real.info.tiling = VK_IMAGE_TILING_LINEAR;
    out->list = layer_unlink(&out->real.head,
                             VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_LIST_CREATE_INFO_EXT);
    out->explicit = layer_unlink(
        &out->real.head, VK_STRUCTURE_TYPE_IMAGE_DRM_FORMAT_MODIFIER_EXPLICIT_CREATE_INFO_EXT);
    return true;
}

void layer_modifier_end(const struct layer_linear *linear)
{
    layer_relink(linear->explicit); /* the other way round than they went */
    layer_relink(linear->list);
}

bool layer_modifier_fits(const struct layer_device *d, VkImage image,
                         const struct layer_linear *linear)
{
    if (linear->layout == NULL) {
        return true;
    }
    const VkImageSubresource whole = {.aspectMask = VK_IMAGE_ASPECT_COLOR_BIT};
    const VkSubresourceLayout *wanted = &linear->layout->pPlaneLayouts[0];
    VkSubresourceLayout has;
    d->vk.GetImageSubresourceLayout(d->handle, image, &whole, &has);
    return has.offset == wanted->offset && has.rowPitch == wanted->rowPitch;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_GetImageDrmFormatModifierPropertiesEXT(
    VkDevice device, VkImage image, VkImageDrmFormatModifierPropertiesEXT *out)
{
    (void)device;
    (void)image;
    out->drmFormatModifier = LINEAR_MODIFIER;
    return VK_SUCCESS;
}

VkImageSubresource layer_without_planes(const struct layer_device *d,
                                        const VkImageSubresource *subresource)
{
    VkImageSubresource s = *subresource;
    if (d->gpu != NULL && d->gpu->adds_modifiers &&
        s.aspectMask == VK_IMAGE_ASPECT_MEMORY_PLANE_0_BIT_EXT) {
        s.aspectMask = VK_IMAGE_ASPECT_COLOR_BIT;
    }
    return s;
}

VKAPI_ATTR void VKAPI_CALL layer_GetImageSubresourceLayout(VkDevice device, VkImage image,
                                                           const VkImageSubresource *subresource,
                                                           VkSubresourceLayout *out)
{
    const struct layer_device *d = layer_device_of(device);
    VkImageSubresource s = layer_without_planes(d, subresource);
    d->vk.GetImageSubresourceLayout(device, image, &s, out);
}

#ifdef VK_EXT_image_compression_control
VKAPI_ATTR void VKAPI_CALL layer_GetImageSubresourceLayout2(
    VkDevice device, VkImage image, const VkImageSubresource2EXT *subresource,
    VkSubresourceLayout2EXT *out)
{
    const struct layer_device *d = layer_device_of(device);
    VkImageSubresource2EXT s = *subresource;
    s.imageSubresource = layer_without_planes(d, &subresource->imageSubresource);
    d->vk.GetImageSubresourceLayout2EXT(device, image, &s, out);
}
#endif
