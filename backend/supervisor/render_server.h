/* SPDX-License-Identifier: MIT */
/*
 * virglrenderer's render server: started when the worker asks for it, watched, and ended with
 * everything that it started. It executes the guest's Vulkan, in a process for each context, so it
 * is as expendable as the worker; the two live and die together (worker_process.c).
 *
 *   none --start--> running --its end, or ours--> none
 *
 * It gets its socket and descriptors 0 to 2 (1 and 2 lead nowhere unless we log at debug level:
 * what it prints is the guest's doing), an environment made of a list, and a process group of its
 * own. What it forks and leaves behind becomes our child (PR_SET_CHILD_SUBREAPER, which the program
 * sets) and is found by vgd_strays_end. Thread: loop.
 */
#ifndef VGD_RENDER_SERVER_H
#define VGD_RENDER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "link.h"
#include "loop.h"

struct vgd_render_server;

struct vgd_render_server_config {
    struct vgd_loop *loop; /* borrowed */
    const char *program;   /* "": where distributions put it; copied */
    const char *layer_dir; /* of our Vulkan layer's manifest; ""; copied */
    /** It ended by itself. @died: not as it does when its worker is gone. */
    void (*on_exit)(void *user, bool died);
    void *user;
};

/** NULL when out of memory. */
struct vgd_render_server *vgd_render_server_create(const struct vgd_render_server_config *config);
/** Ends it. NULL is fine. */
void vgd_render_server_destroy(struct vgd_render_server *s);

/**
 * Start one; none is running.
 *
 * VGD_OK: *out_fd is the client's end of its SOCK_SEQPACKET socket, the caller's.
 * VGD_HOST_FAILED: @why says what is missing and how to get it.
 */
VGD_MUST_CHECK enum vgd_status vgd_render_server_start(struct vgd_render_server *s,
                                                       const struct vgd_link_want_server *want,
                                                       int *out_fd, char *why, size_t why_bytes);
/** 0: none. */
pid_t vgd_render_server_pid(const struct vgd_render_server *s);
/** Kill it and its process group; vgd_strays_end reaps. No effect without one. */
void vgd_render_server_end(struct vgd_render_server *s);

/**
 * Kill every child of ours but those in @keep, and reap what is dead. Returns how many live on: one
 * that waits in the kernel takes its time; ask again.
 */
uint32_t vgd_strays_end(const pid_t *keep, size_t n_keep);

/* ---- render_environment.c -----------------------------------------------------------------------
 */

/**
 * The server's environment: of ours (@from, NULL-terminated) what a Vulkan loader, its drivers and
 * sanitizers look at, and what brings our layer in when @want says so. One allocation; NULL when
 * out of memory.
 */
char **vgd_render_environment(char *const *from, const struct vgd_link_want_server *want,
                              const char *layer_dir);

#endif
