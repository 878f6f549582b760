/* SPDX-License-Identifier: MIT */
/* Named limits of what one guest may ask of the host. Each refusal names its limit in the log. */
#ifndef VGD_LIMITS_H
#define VGD_LIMITS_H

#define VGD_RESOURCES_MAX 65536u
#define VGD_CONTEXTS_MAX 1024u
#define VGD_FENCES_MAX 65536u
#define VGD_ATTACHMENTS_MAX (1u << 18)       /* resources in contexts, all contexts together */
#define VGD_BACKING_ENTRIES_MAX (1u << 20)   /* all resources together */
#define VGD_RESOURCE_BYTES_MAX (16ull << 30) /* all resources together, declared sizes */
#define VGD_MAPS_MAX 4096u                   /* blobs in the host-visible region at a time */
#define VGD_SUBMIT_BYTES_MAX (16u << 20)     /* one SUBMIT_3D */
#define VGD_TEXTURE_SIDE_PX_MAX 16384u
#define VGD_TEXTURE_DEPTH_MAX 4096u
#define VGD_TEXTURE_LAYERS_MAX 16384u
#define VGD_TEXTURE_LEVEL_MAX 14u /* log2 of the side */
#define VGD_TEXTURE_SAMPLES_MAX 32u
#define VGD_BUFFER_BYTES_MAX (1u << 30)
#define VGD_RESOURCE_2D_SIDE_PX_MAX 16384u

#endif
