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

/* What is remembered of OpenGL contexts (virgl_state.h). */
#define VGD_VIRGL_OBJECTS_MAX (1u << 17) /* one context */
#define VGD_VIRGL_SUB_CONTEXTS_MAX 512u  /* one context; each is a GL context of the host */
#define VGD_VIRGL_BLOBS_MAX 256u         /* made for blobs that the guest has not asked for */
#define VGD_VIRGL_VIDEOS_MAX 256u        /* codecs, and pictures; more are not remembered */
#define VGD_VIRGL_STATE_BYTES_MAX                                                                  \
    (64u << 20) /* commands kept of one context; then it is not whole */
#define VGD_VIRGL_KEPT_BYTES_MAX (256u << 20)      /* likewise, all contexts together */
#define VGD_VIRGL_STATE_BYTES_ALL_MAX (512u << 20) /* with the tables, all contexts together */

#endif
