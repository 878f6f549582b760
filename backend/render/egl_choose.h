/* SPDX-License-Identifier: MIT */
/*
 * Which GPU, and by which EGL platform. The choice is explicit: a render node that was named, else
 * the first usable render node, else surfaceless EGL, else EGL's device platform. Candidates are
 * tried in child processes with a deadline: a driver that crashes or hangs costs one line, and no
 * node that is not chosen stays open in ours.
 * Thread: loop, before any other thread exists.
 */
#ifndef VGD_EGL_CHOOSE_H
#define VGD_EGL_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

enum vgd_gl_platform {
    VGD_GL_AUTO = 0,
    VGD_GL_GBM,         /* a DRM render node */
    VGD_GL_SURFACELESS, /* EGL_PLATFORM_SURFACELESS_MESA; NVIDIA's driver has it too */
    VGD_GL_DEVICE,      /* EGL_PLATFORM_DEVICE_EXT */
};
/** "gbm", "surfaceless", "device", "auto". */
const char *vgd_gl_platform_name(enum vgd_gl_platform platform);
/** false leaves *out untouched. */
bool vgd_gl_platform_parse(const char *text, enum vgd_gl_platform *out);

#define VGD_RENDER_NODES_MAX 32u
#define VGD_GL_TRY_DEADLINE_MS                                                                     \
    15000 /* a cold start of Mesa and LLVM in an emulated VM takes 6 s                             \
           */
#define VGD_GL_WHY_BYTES 256u

struct vgd_gl_choice {
    enum vgd_gl_platform platform; /* never VGD_GL_AUTO */
    char render_node[64];          /* "" unless platform is VGD_GL_GBM */
    int device_idx;                /* of eglQueryDevicesEXT; -1 unless platform is VGD_GL_DEVICE */
    char why[VGD_GL_WHY_BYTES];    /* for people */
};

/* What one platform gave when it was tried. Strings are empty where unknown. */
struct vgd_gl_trial {
    bool ok;
    bool is_software;
    char reason[VGD_GL_WHY_BYTES]; /* when not ok: "eglInitialize failed", "crashed (signal 11)" */
    char egl_vendor[64], egl_version[64], client_apis[64];
    char gl_renderer[128], gl_version[128], es_version[128];
    uint8_t device_uuid[16]; /* GL_DEVICE_UUID_EXT, as Vulkan has it; zeros where unknown */
    bool dmabuf_export;      /* EGL_MESA_image_dma_buf_export is there; whether it works is another
                                question */
};

/** Surfaceless means: no render node. Mesa's EGL would try every node and take one of its own
 * choice; this keeps it to software (it may still open vgem, which is no GPU). Other vendors' EGL,
 * which has other ways to its GPU, does not look at it. For this process and its children. */
void vgd_gl_keep_off_nodes(void);

/** Is this a GL_RENDERER of a CPU rasteriser? */
bool vgd_gl_is_software(const char *gl_renderer);

/** Are the libraries there without which libepoxy aborts the process? false: *why says what to
 *  install. */
bool vgd_gl_libraries_present(char *why, size_t why_bytes);

/** Names of /dev/dri/renderD*, sorted; nothing is opened. Returns how many. */
uint32_t vgd_render_nodes_list(char names[VGD_RENDER_NODES_MAX][64]);
/** The kernel driver of @node from sysfs, "" if unknown; nothing is opened. */
void vgd_render_node_driver(const char *node, char *out, size_t out_bytes);

/** Try one platform in a child: @render_node for GBM, @device_idx for the device platform. Returns
 *  after VGD_GL_TRY_DEADLINE_MS at most. */
void vgd_gl_try(enum vgd_gl_platform platform, const char *render_node, int device_idx,
                struct vgd_gl_trial *out);
/** How many EGL devices there are (asked in a child); 0 if the extension is missing. */
uint32_t vgd_egl_device_count(void);

/**
 * Choose. @render_node NULL or "": any; else only that node is ever opened. @wanted VGD_GL_AUTO:
 * the order above.
 * VGD_HOST_FAILED: *why says what to do.
 */
VGD_MUST_CHECK enum vgd_status vgd_gl_choose(const char *render_node, enum vgd_gl_platform wanted,
                                             struct vgd_gl_choice *out, char *why,
                                             size_t why_bytes);

#endif
