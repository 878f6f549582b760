/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the supervisor's program share: vgd.c (sockets, sessions, workers, signals) and
 * vgd_control.c (what the control socket is told).
 * Thread: loop.
 */
#ifndef VGD_VGD_H
#define VGD_VGD_H

#include <sys/stat.h>
#include <sys/types.h>

#include "control.h"
#include "options.h"
#include "recording.h"
#include "session.h"
#include "worker_process.h"

struct vgd {
    struct vgd_options options;
    char worker_program[4096];
    char layer_dir[4096];
    uint32_t maps_max;                       /* in the host-visible region */
    pid_t earlier[VGD_EARLIER_CHILDREN_MAX]; /* children that we did not start */
    uint32_t n_earlier;
    struct vgd_loop *loop;
    int signal_fd;
    struct vgd_watch *signal_watch;
    int listen_fd;
    struct vgd_watch *listen_watch;
    struct stat listen_stat; /* so that only our own socket is unlinked */
    int frames_fd;
    const uint8_t *frames;
    struct vgd_worker_process *worker;
    struct vgd_session *session;
    struct vgd_timer *end_timer; /* a session is destroyed from the loop, not from inside */
    enum vgd_session_end ended;
    struct vgd_control *control;
    struct vgd_recording *recording;
    struct vgd_timer *quit_timer; /* what is recorded is written out before we end */
    bool quitting;
    int quit_status;
    uint64_t started_ns; /* CLOCK_MONOTONIC, for those who ask how long we are there */
    /* Snapshots under way, one for each control client: the token by question modulo the table. */
    uint64_t snapshot_tokens[VGD_CONTROL_CLIENTS_MAX];
    uint32_t snapshot_questions[VGD_CONTROL_CLIENTS_MAX]; /* 0: none */
    uint32_t last_question;
};

/* ---- vgd_control.c ------------------------------------------------------------------------------
 */

/** Listen for vgdctl, unless that is not wanted. A host that will not have our control socket still
 * gets its GPU. */
void vgd_control_open(struct vgd *vgd);
/** A session's on_snapshot. */
void vgd_control_session_snapshot(void *user, uint32_t question, enum vgd_status status,
                                  uint32_t w_px, uint32_t h_px, int *fd);

#endif
