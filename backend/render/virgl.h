/* SPDX-License-Identifier: MIT */
/*
 * The renderer over virglrenderer. The library is one instance per process, so at most one of these
 * exists at a time; a second create fails. It keeps the GL context current on the loop thread.
 */
#ifndef VGD_VIRGL_H
#define VGD_VIRGL_H

#include <stdbool.h>
#include <stddef.h>

#include "egl_choose.h"
#include "loop.h"
#include "render.h"
#include "vulkan_choose.h"

/* A context's process may have to finish a pipeline before it looks at a message; on a CPU that
 * takes seconds. */
#define VGD_VULKAN_CALL_MS 10000

struct vgd_virgl_options {
    const char *render_node;            /* NULL or "": choose; else only this node is ever opened */
    enum vgd_gl_platform platform;      /* VGD_GL_AUTO: choose */
    const struct vgd_gl_choice *choice; /* NULL: choose by the two above; else go that way at once,
                                           as an earlier worker did (copied) */
    bool require_hardware;              /* software GL is an error */
    bool want_virgl;                    /* OpenGL contexts */
    const struct vgd_vk_choice *vulkan; /* the device that the render server shows; NULL: no Vulkan
                                           contexts (copied) */
    int *server_fd;     /* with @vulkan: a connected SOCK_SEQPACKET to virgl_render_server; taken */
    int vulkan_call_ms; /* how long a call may wait for a context's process, or for the server,
                           before that is given up; 0: VGD_VULKAN_CALL_MS */
    struct vgd_loop *loop; /* borrowed; outlives the renderer. Ended with a failure when the render
                              server hangs: this process is then to be replaced with it */
    struct vgd_render_callbacks callbacks; /* copied */
};

/**
 * @out  the renderer, the caller's; untouched on failure
 * @why  one line for the operator on failure: what is missing and how to get it
 *
 * Whether Vulkan contexts really work is tried once (a render server of another version, a driver
 * that dies): if they do not, but OpenGL does and @want_virgl, the renderer is made without them
 * and
 * @why says the reason; info's vulkan_name is then "".
 *
 * VGD_HOST_FAILED, VGD_NO_MEMORY. Logs the GPU, and loudly when it is software.
 * Thread: loop, before any other thread exists: unless there is only one way, candidates are tried
 * in children.
 */
VGD_MUST_CHECK enum vgd_status vgd_virgl_create(const struct vgd_virgl_options *options,
                                                struct vgd_render **out, char *why,
                                                size_t why_bytes);

/** How the renderer reached its GPU; pass it back in the options after a restart to skip the
 * search. Borrowed; lives as long as @render, which vgd_virgl_create made. */
const struct vgd_gl_choice *vgd_virgl_choice(const struct vgd_render *render);

/** The library's version as far as its symbols tell: "0.10", "1.0 or 1.1", ... A literal. */
const char *vgd_virgl_runtime_version(void);
/** The version of the headers that this program was built with. A literal. */
const char *vgd_virgl_build_version(void);

#endif
