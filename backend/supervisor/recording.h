/* SPDX-License-Identifier: MIT */
/*
 * A recording of what the guest does: the file, and which worker writes it. The worker is given a
 * duplicate of the descriptor, and the next one another when it is gone. What was written is kept
 * over deaths and resets; what a dead worker had not written yet is lost, and the file says so.
 *
 *   none --start--> waiting (for a worker) --given to one--> running --stop--> stopping --> ended
 *                      ^------- the worker is gone -----------+  +--> failed <--+
 *
 * Failed: the file does not take it (full, its reader gone), or is a pipe and its worker is gone,
 * or workers die of it.
 * Ended and failed are kept until the next start, for those who ask.
 * Thread: loop.
 */
#ifndef VGD_RECORDING_H
#define VGD_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"
#include "loop.h"
#include "worker_process.h"

#define VGD_RECORDING_START_MS 3000u /* for the worker to say that it records */
#define VGD_RECORDING_STOP_MS 10000u /* for the worker to write what it has */
#define VGD_RECORDING_PICTURE_MS 1000u
/* So many workers in a row that end with the file and without a word of it: then the guest goes on
 * without a recording. */
#define VGD_RECORDING_UNHEARD_MAX 3u

enum vgd_recording_state {
    VGD_RECORDING_NONE,
    VGD_RECORDING_WAITING,
    VGD_RECORDING_RUNNING,
    VGD_RECORDING_STOPPING,
    VGD_RECORDING_ENDED,
    VGD_RECORDING_FAILED,
};

struct vgd_recording;

struct vgd_recording_config {
    struct vgd_loop *loop; /* borrowed */
    uint32_t start_ms;     /* 0: VGD_RECORDING_START_MS */
    uint32_t stop_ms;      /* 0: VGD_RECORDING_STOP_MS */
    /** As vgd_worker_process_send, to the worker that there is now. */
    bool (*to_worker)(void *user, enum vgd_link_type type, const void *payload, size_t n_bytes,
                      const int *fds, uint32_t n_fds);
    /** Behind a start that gave VGD_AGAIN, once, and before on_over: the worker records, or it has
     * come to something else (the state says to what), or start_ms are over. Not from inside
     * start. */
    void (*on_started)(void *user);
    /** It has ended or failed, whoever began that. May come from inside stop and the worker's
     * calls. */
    void (*on_over)(void *user);
    /** A thread of its own that closes the descriptor it is given, as long as that takes. NULL: so;
     * not NULL for tests. */
    void *(*close_file)(void *fd);
    void *user;
};

/** NULL when out of memory. */
struct vgd_recording *vgd_recording_create(const struct vgd_recording_config *config);
/** Lets go of the file; a worker that writes it goes on until it is told. NULL is fine. */
void vgd_recording_destroy(struct vgd_recording *r);

/**
 * Record into *@fd, which is taken in each case and checked (record_file.h).
 *
 * @picture_ms     as in struct vgd_link_trace_start
 * @worker_served  there is a ready worker that has been told all it has to know of the guest;
 *                 else it begins with vgd_recording_worker_told
 * @why            untouched if it starts; else a literal, for the user
 *
 * VGD_OK: it waits for a worker; VGD_AGAIN: one was given the file, on_started follows, and what
 * the guest does from there on is recorded. VGD_RANGE: the file; VGD_LIMIT: there is one running,
 * or one's last bytes are still on their way.
 */
VGD_MUST_CHECK enum vgd_status vgd_recording_start(struct vgd_recording *r, int *fd,
                                                   uint32_t picture_ms, bool worker_served,
                                                   const char **why);
/** End it, unless it is over. on_over follows, from inside or after at most stop_ms. False: there
 * is nothing to end. */
bool vgd_recording_stop(struct vgd_recording *r);

/* Of the worker. */

/** It is ready and knows the guest's state; its rings do not run yet. A second time is nothing. */
void vgd_recording_worker_told(struct vgd_recording *r);
/** A TRACE_STATE. VGD_RANGE: it cannot be believed. */
VGD_MUST_CHECK enum vgd_status vgd_recording_worker_state(struct vgd_recording *r,
                                                          const struct vgd_link_message *msg);
/** A ready one is gone, and how. */
void vgd_recording_worker_gone(struct vgd_recording *r, const struct vgd_worker_end *end);

struct vgd_recording_status {
    enum vgd_recording_state state;
    const char *name; /* of the state; a literal */
    const char *why;  /* it failed; "" if it did not. Valid until the loop's next turn */
    /* Of all its workers together, as far as they have told. */
    uint64_t records, bytes_in, bytes_out;
    uint64_t gaps, lost_records, lost_bytes;
    uint64_t memory_bytes; /* now */
    double seconds;        /* since it was started, or how long it was */
};
void vgd_recording_get_status(const struct vgd_recording *r, struct vgd_recording_status *out);

#endif
