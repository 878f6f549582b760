/* SPDX-License-Identifier: MIT */
/*
 * The life of the worker process, and of the render server that it asked for: started, greeted,
 * watched, ended, replaced. The two are one generation: if either dies, both are replaced, with
 * everything that they started.
 *
 *   idle --start--> starting --READY--> ready --death--> waiting --delay--> starting ...
 *
 * A death within the restart window counts towards back-off; after VGD_3D_DEATHS_MAX of them in a
 * row the next worker comes without 3D. Each step is one log line.
 * Thread: loop.
 */
#ifndef VGD_WORKER_PROCESS_H
#define VGD_WORKER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "link.h"
#include "loop.h"
#include "vault.h"

#define VGD_RESTART_WINDOW_MS 10000u /* a death this long after READY is bad luck, not a loop */
#define VGD_3D_DEATHS_MAX 4u         /* counted deaths in a row; then 3D is given up */
#define VGD_READY_DEADLINE_MS                                                                      \
    60000u /* a cold start of a GL driver in an emulated VM takes seconds */

#define VGD_EARLIER_CHILDREN_MAX 32u

struct vgd_worker_process;

struct vgd_worker_process_config {
    struct vgd_loop *loop;   /* borrowed */
    const char *program;     /* path of vgd-worker; copied */
    const char *render_node; /* "" = choose; copied */
    bool want_virgl, want_venus;
    const char *render_server; /* path of virgl_render_server, "" or NULL: where it usually is */
    const char *layer_dir;     /* folder of our Vulkan layer's manifest, "" or NULL; copied */
    uint64_t window_bytes;     /* of the host-visible region */
    bool require_hardware;
    bool strict_streams;
    uint32_t n_scanouts;
    uint32_t restart_window_ms; /* VGD_RESTART_WINDOW_MS unless a test is in a hurry */
    int frames_fd;              /* borrowed */
    /* Children that are not ours to end: a shell that starts something, then becomes us, has some.
     * Every other one is a stray once a worker is dead. */
    pid_t earlier[VGD_EARLIER_CHILDREN_MAX];
    uint32_t n_earlier;

    /** It said READY; @again: it takes over from a dead one, with the vault it left. */
    void (*on_ready)(void *user, const struct vgd_link_ready *ready, bool again);
    /** Any later message. */
    void (*on_message)(void *user, struct vgd_link_message *msg);
    /** It is gone (another one follows by itself). */
    void (*on_gone)(void *user);
    /** It cannot be started at all, or not as asked for. Final; said in the log. */
    void (*on_failed)(void *user);
    void *user;
};

/** NULL when out of memory. Nothing runs until start. */
struct vgd_worker_process *
vgd_worker_process_create(const struct vgd_worker_process_config *config);
/** Ends the process, with SIGKILL, and reaps it. NULL is fine. */
void vgd_worker_process_destroy(struct vgd_worker_process *p);

/** Start the first worker; no effect when one is there or on its way. */
void vgd_worker_process_start(struct vgd_worker_process *p);
/** Is there one that said READY? */
bool vgd_worker_process_ready(const struct vgd_worker_process *p);
/** Send to a ready worker; false when there is none. A worker that takes no messages is killed. */
bool vgd_worker_process_send(struct vgd_worker_process *p, enum vgd_link_type type,
                             const void *payload, size_t n_bytes, const int *fds, uint32_t n_fds);
/** End it now: @why for the log. on_gone follows from the loop. */
void vgd_worker_process_kill(struct vgd_worker_process *p, const char *why);
/** The guest was reset: a worker that has served it is replaced by a fresh one (on_gone follows),
 * what a dead one left is forgotten, and 3D that was given up is tried again. A ready worker that
 * has served nothing stays. */
void vgd_worker_process_forget(struct vgd_worker_process *p);

/* For status. */
struct vgd_worker_process_status {
    pid_t pid;        /* 0: none */
    pid_t server_pid; /* of the render server; 0: none */
    const char *state;
    uint32_t starts_count, deaths_count;
    uint32_t server_deaths_count; /* render servers that ended by themselves */
    bool gave_up_3d;
    struct vgd_link_ready ready; /* of the last one that said READY */
    uint64_t last_recovery_ns;   /* death seen to first answered command; 0: none */
};
void vgd_worker_process_get_status(struct vgd_worker_process *p,
                                   struct vgd_worker_process_status *out);
/** The vault as mapped here. Borrowed; changes with vgd_worker_process_forget. */
const struct vgd_vault *vgd_worker_process_vault(const struct vgd_worker_process *p);

#endif
