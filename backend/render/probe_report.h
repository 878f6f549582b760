/* SPDX-License-Identifier: MIT */
/* What --probe found out, before it is written either way. */
#ifndef VGD_PROBE_REPORT_H
#define VGD_PROBE_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "egl_load.h"
#include "virgl.h"

#define VGD_PROBE_REASON_BYTES 256u

struct vgd_probe_node {
    char path[64], driver[32];
    char denied[64]; /* why the node cannot be opened; "" if it can */
    struct vgd_gl_trial trial;
};

struct vgd_probe_virgl {
    bool ok;
    char reason[VGD_PROBE_REASON_BYTES];
    char gpu_name[128];
    bool is_software, exports_dmabuf;
    uint32_t n_capsets;
    struct vgd_capset capsets[VGD_RENDER_CAPSETS_MAX];
    uint64_t start_us, private_dirty_kib;
};

/* Vulkan for the guest. */
struct vgd_probe_venus {
    bool chosen; /* @choice is valid */
    struct vgd_vk_choice choice;
    char server_path[VGD_PROBE_REASON_BYTES]; /* "" when there is none */
    bool ok;                                  /* a context was made, and shared memory */
    char reason[VGD_PROBE_REASON_BYTES];      /* when not ok */
    uint64_t start_us;                        /* of the library with a first context */
};

struct vgd_probe_report {
    uint32_t n_nodes;
    struct vgd_probe_node nodes[VGD_RENDER_NODES_MAX];
    struct vgd_gl_trial surfaceless;
    uint32_t n_devices;
    struct vgd_gl_trial devices[VGD_EGL_DEVICES_MAX];
    struct vgd_vk_devices vulkan;
    char udmabuf[VGD_PROBE_REASON_BYTES]; /* "" when it can be used */
    char libraries[VGD_PROBE_REASON_BYTES];
    enum vgd_status chosen;
    struct vgd_gl_choice choice;
    struct vgd_probe_virgl virgl;
    struct vgd_probe_venus venus;
};

void vgd_probe_write_json(const struct vgd_probe_report *rep, FILE *out);
void vgd_probe_write_text(const struct vgd_probe_report *rep, FILE *out);

#endif
