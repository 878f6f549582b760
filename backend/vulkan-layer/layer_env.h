/* SPDX-License-Identifier: MIT */
/**
 * How a process gets our Vulkan layer: the names of the environment variables and their values.
 *
 * The supervisor sets these for the render server and for nothing else; the layer and its tests
 * read the same names. Only constants, so that neither side includes anything of the other.
 *
 * What to set, for a layer installed in the folder DIR (VGD_LAYER_SUBFOLDER below the library
 * folder, or the build folder's backend/vulkan-layer):
 *
 *   VK_ADD_LAYER_PATH   DIR, if VK_LAYER_PATH is not set in the environment taken over. The loader
 *                       ignores VK_ADD_LAYER_PATH when VK_LAYER_PATH is there: then VK_LAYER_PATH
 *                       becomes "DIR:" followed by its old value.
 *   VK_INSTANCE_LAYERS  VGD_LAYER_NAME, followed by ":" and the old value where there is one.
 *   VGD_VULKAN_HOST_MEMORY   "1" where the driver cannot export host-visible memory; else not set.
 *   VGD_VULKAN_DEVICE_UUID   VGD_LAYER_UUID_DIGITS hex digits of VkPhysicalDeviceIDProperties::
 *                            deviceUUID, where one device of several is meant; else not set.
 *
 * With neither of the last two the layer changes nothing, and need not be loaded.
 */
#ifndef VGD_VULKAN_LAYER_LAYER_ENV_H
#define VGD_VULKAN_LAYER_LAYER_ENV_H

#define VGD_LAYER_NAME "VK_LAYER_VGD_host_memory"
#define VGD_LAYER_MANIFEST "VkLayer_vgd_host_memory.json"
#define VGD_LAYER_LIBRARY "libVkLayer_vgd_host_memory.so"
#define VGD_LAYER_SUBFOLDER "vgd/vulkan" /* below the library folder (libdir) */

#define VGD_LAYER_ENV_ADD_PATH "VK_ADD_LAYER_PATH"
#define VGD_LAYER_ENV_PATH "VK_LAYER_PATH"
#define VGD_LAYER_ENV_LAYERS "VK_INSTANCE_LAYERS"

/* "1" switches the memory part on. Anything else, or nothing: the layer only narrows. */
#define VGD_LAYER_ENV_HOST_MEMORY "VGD_VULKAN_HOST_MEMORY"
#define VGD_LAYER_HOST_MEMORY_ON "1"

/* Hex digits, either case, no separators. Malformed, or of no device: enumerating devices fails
 * with VK_ERROR_INITIALIZATION_FAILED; a guest must not get a device that the administrator did not
 * name. */
#define VGD_LAYER_ENV_DEVICE_UUID "VGD_VULKAN_DEVICE_UUID"
#define VGD_LAYER_UUID_DIGITS 32

#endif
