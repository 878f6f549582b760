/* SPDX-License-Identifier: MIT */
/*
 * Writes a trace file, record by record, on the caller's thread: frames, pieces, index. What
 * records a live device puts a buffer and a thread in front of it (trace_writer.h); tools that make
 * one file of another use it as it is.
 *
 *   created --begin or resume--> open --finish--> finished
 *                                  +--a write fails--> failed (sticky; what was written stays)
 *
 * One thread. A write(2) to a pipe or a socket that nobody reads raises SIGPIPE, and one beyond
 * RLIMIT_FSIZE SIGXFSZ: the caller's thread has them blocked or ignored.
 */
#ifndef VGD_TRACE_OUT_H
#define VGD_TRACE_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "trace_record.h"

struct vgd_trace_out;

#define VGD_TRACE_LEVEL_MAX 9
#define VGD_TRACE_LEVEL_DEFAULT 1
/* Pieces remembered by default: 4 GiB of data if all are full. */
#define VGD_TRACE_DEDUP_COUNT_DEFAULT 65536u
#define VGD_TRACE_DEDUP_COUNT_MAX (1u << 18)

struct vgd_trace_out_config {
    int level;                /* of zstd, 1 to VGD_TRACE_LEVEL_MAX; 0: the default */
    uint32_t dedup_count;     /* pieces remembered, a power of two from 2 on; 0: the default */
    uint32_t frame_raw_bytes; /* a frame is closed when it has this much; 0, or more than the
                                 format's VGD_TRACE_FRAME_RAW_MAX: that */
};

/* What has been written. */
struct vgd_trace_out_stats {
    uint64_t records;   /* with numbers: no pieces */
    uint64_t bytes_in;  /* fixed parts and data of these */
    uint64_t bytes_out; /* written to the file */
    uint64_t frames;
    uint64_t pieces;       /* of data: stored or found */
    uint64_t pieces_found; /* that the file had already */
    uint64_t bytes_found;  /* in these */
};

/** Copies bytes [@offset_bytes, + @n_bytes) of a record's data to @out; false: they cannot be had,
 *  and zeros take their place. */
typedef bool (*vgd_trace_source)(void *user, uint64_t offset_bytes, void *out, size_t n_bytes);

/** NULL: no memory, or a config that is out of range. */
struct vgd_trace_out *vgd_trace_out_create(const struct vgd_trace_out_config *config);
/** Does not finish the file and does not close the descriptor. */
void vgd_trace_out_destroy(struct vgd_trace_out *out);

/** Begin a file on @fd: an empty regular file, a pipe, a socket. Borrowed until destroy.
 *  VGD_HOST_FAILED with vgd_trace_out_error; EEXIST: there is something in it. */
VGD_MUST_CHECK enum vgd_status vgd_trace_out_begin(struct vgd_trace_out *out, int fd,
                                                   uint64_t start_realtime_ns,
                                                   uint64_t start_monotonic_ns);
/**
 * Go on with a trace file that is there, finished or cut off anywhere: what follows its last whole
 * frame of records is cut away. @fd: a regular file, open for reading and writing; borrowed.
 * *@out_start_monotonic_ns is what the times of its records count from.
 *
 * VGD_RANGE: not a trace file, or one that is damaged; VGD_UNSUPPORTED; VGD_TRUNCATED: no whole
 * header. Then the file is as it was. VGD_HOST_FAILED with vgd_trace_out_error.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_out_resume(struct vgd_trace_out *out, int fd,
                                                    uint64_t *out_start_monotonic_ns);

/**
 * Append a record, with @n_bytes of data from @source if its kind has data. A time that is less
 * than the last one's becomes the last one's.
 *
 * VGD_RANGE: data longer than VGD_TRACE_DATA_MAX, or data for a kind that has none. VGD_HOST_FAILED
 * once a write has failed.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_out_put(struct vgd_trace_out *out,
                                                 const struct vgd_trace_record *record,
                                                 vgd_trace_source source, void *user,
                                                 uint64_t n_bytes);
/** Write what is there as a frame, however small. Nothing where nothing is there. */
VGD_MUST_CHECK enum vgd_status vgd_trace_out_flush(struct vgd_trace_out *out);
/** Flush, then index and trailer. */
VGD_MUST_CHECK enum vgd_status vgd_trace_out_finish(struct vgd_trace_out *out);

/** Bytes put and not yet written as a frame. */
size_t vgd_trace_out_pending_bytes(const struct vgd_trace_out *out);
/** errno of the write that failed, or 0. */
int vgd_trace_out_error(const struct vgd_trace_out *out);
/** Time of the last record. */
uint64_t vgd_trace_out_last_time_ns(const struct vgd_trace_out *out);
struct vgd_trace_out_stats vgd_trace_out_stats(const struct vgd_trace_out *out);
/** Memory in use, zstd's too. */
size_t vgd_trace_out_memory_bytes(const struct vgd_trace_out *out);

#endif
