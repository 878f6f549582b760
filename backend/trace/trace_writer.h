/* SPDX-License-Identifier: MIT */
/*
 * Records what a live device does, into a file that somebody else opened. Whoever puts a record
 * copies it into a bounded buffer and goes on; a thread of the writer's own hashes, compresses and
 * writes. So neither a slow disk nor a full one costs the guest more than that copy.
 *
 *   running --stop--> stopping --all is written--> ended
 *      +--the file does not take it (ENOSPC, EPIPE, EIO, ...)--> failed
 *
 * What does not fit into the buffer is lost, and counted: the file gets a GAP record in its place
 * as soon as the next record, or an idle moment, finds room. Nothing here raises a signal.
 *
 * Who puts: backend/worker_record.c, in this way.
 *   - The supervisor opens the file (vgdctl trace start passes a descriptor, or vgd --record opens
 *     the path), and hands the descriptor to the worker over the link. The worker opens nothing.
 *   - The worker begins with FACT, DEVICE, CAPSET and SCANOUT records. If the guest is alive, then
 *     STATE_BEGIN (START), a snapshot of the device as COMMANDs that are MADE_UP, BACKING (STATE)
 * and CONTENT of what it holds, STATE_END: in parts, each when vgd_trace_writer_room_bytes says
 *     that it fits, or a large state makes a gap of itself.
 *   - For each chain, between copying it and vgd_gpu_execute: BACKING (READ) of what the command
 *     will read of guest memory (the iovecs of the resource are the source), then COMMAND with the
 *     private copy. In its complete function: RESPONSE, and BACKING (WRITTEN) behind a transfer
 *     from the host. With the answer to a fenced command: FENCE. Where the presenter has read
 * pixels back: PICTURE.
 *   - On a reset RESET. After a gap, when stats show one more, a new state as above (AFTER_GAP).
 *   - When a worker dies with the file open, its successor gets the descriptor again, with
 *     config.resume set: its writer cuts a half-written frame off. It begins with WORKER_DEATH, and
 *     after the restore comes the state (AFTER_DEATH).
 *   - Before it exits, or when told to: stop, wait with a deadline, destroy. Its status report to
 *     the supervisor carries the stats, for vgdctl.
 */
#ifndef VGD_TRACE_WRITER_H
#define VGD_TRACE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "status.h"
#include "trace_out.h"

struct vgd_trace_writer;

/* Buffer, frames, zstd, tables, all together. */
#define VGD_TRACE_MEMORY_DEFAULT_BYTES ((size_t)60 << 20)
#define VGD_TRACE_MEMORY_MAX_BYTES ((size_t)1 << 30)
/* The buffer, after the rest has been taken off, has at least this. */
#define VGD_TRACE_BUFFER_MIN_BYTES ((size_t)64 << 10)
/* A record is in the file this long after it was put, if the disk is not slow. */
#define VGD_TRACE_FLUSH_MS_DEFAULT 250u

struct vgd_trace_writer_config {
    size_t memory_max_bytes; /* 0: the default */
    uint32_t flush_ms;       /* 0: the default */
    bool resume;             /* the file is a trace that ended somewhere: go on behind it */
    struct vgd_trace_out_config out;
};

enum vgd_trace_state {
    VGD_TRACE_RUNNING,
    VGD_TRACE_STOPPING,
    VGD_TRACE_ENDED,  /* the file is whole */
    VGD_TRACE_FAILED, /* see error; what was written before can be read */
};

struct vgd_trace_writer_stats {
    enum vgd_trace_state state;
    int error;                      /* errno when failed; EINVAL: resume, and it is not a trace */
    struct vgd_trace_out_stats out; /* as far as the thread has come */
    uint64_t gaps;                  /* GAP records written */
    uint64_t lost_records, lost_bytes; /* in gaps, written or not yet */
    size_t memory_bytes;               /* in use or reserved, all of it */
    size_t buffer_bytes;               /* of that, the buffer */
    size_t buffer_used_bytes, buffer_peak_bytes;
};

/**
 * Start to record to *@fd, which is taken (and left as -1) if this succeeds: an empty file, a pipe,
 * a socket, blocking; for resume a regular file that can be read, too. Only the thread touches it,
 * so whether it can be written shows in the stats. Times of records count from now, or for resume
 * from the file's start.
 *
 * VGD_RANGE: a config outside the limits. VGD_NO_MEMORY, VGD_HOST_FAILED (thread, eventfd).
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_writer_create(const struct vgd_trace_writer_config *config,
                                                       int *fd, struct vgd_trace_writer **out);

/**
 * Put @record with @data_bytes of data, from @offset_bytes of @iov on, which is copied before this
 * returns and may be guest memory. record->time_ns is CLOCK_MONOTONIC, or 0 for now. Never waits
 * for the file: only for another thread that is in here too.
 *
 * False: it is lost (no room in the buffer, or longer than VGD_TRACE_DATA_MAX: counted in the next
 * gap), or the recording is not running any more. Any thread.
 */
bool vgd_trace_writer_put(struct vgd_trace_writer *writer, const struct vgd_trace_record *record,
                          const struct iovec *iov, size_t n_iov, size_t offset_bytes,
                          size_t data_bytes);

/** A record with @data_bytes of data is left out: as if it had not fitted. Any thread. */
void vgd_trace_writer_lose(struct vgd_trace_writer *writer, uint64_t data_bytes);

/** How many bytes of data a record may have to fit now. Another thread's records can take them. Any
 *  thread. */
size_t vgd_trace_writer_room_bytes(struct vgd_trace_writer *writer);

/** Any thread, at any time up to destroy. Does not wait for the file. */
struct vgd_trace_writer_stats vgd_trace_writer_stats(struct vgd_trace_writer *writer);

/** Take no more records, write what is there, end the file. Returns at once. Any thread; a second
 *  time is nothing. */
void vgd_trace_writer_stop(struct vgd_trace_writer *writer);
/** Wait until it has ended or failed, at most @timeout_ms. False: it has not. */
VGD_MUST_CHECK bool vgd_trace_writer_wait(struct vgd_trace_writer *writer, uint32_t timeout_ms);
/** Stop, and let go. Does not wait: the thread writes what is there and frees everything itself,
 *  however long the file takes; a process that ends meanwhile loses the rest. NULL is fine. No
 *  thread may put any more. */
void vgd_trace_writer_destroy(struct vgd_trace_writer *writer);

#endif
