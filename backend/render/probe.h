/* SPDX-License-Identifier: MIT */
/* `--probe`: what this host can do, for people and as JSON. */
#ifndef VGD_PROBE_H
#define VGD_PROBE_H

#include <stdbool.h>
#include <stdio.h>

#include "egl_choose.h"

struct vgd_probe_options {
    const char *render_node;       /* as the backend would be started with; NULL: any */
    enum vgd_gl_platform platform; /* VGD_GL_AUTO: choose */
    bool require_hardware;
    bool venus; /* Vulkan must be there; it is looked at even where a node is named */
    const char *render_server; /* NULL: where distributions put it */
    const char
        *layer_manifest; /* of our Vulkan layer, which some drivers need; NULL: not looked at */
};

/**
 * Write the report to @out. Every driver is asked in a child with a deadline, so this ends in
 * bounded time and survives crashes, which it reports.
 *
 * Returns 0; 1 when what @options ask for (that node, that platform, hardware, Vulkan) is not to be
 * had, or @out cannot be written.
 * Thread: the only one, in a process of its own (vgd-worker --probe).
 */
int vgd_probe_run(const struct vgd_probe_options *options, bool json, FILE *out);

#endif
