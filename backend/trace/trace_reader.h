/* SPDX-License-Identifier: MIT */
/*
 * Reads a trace file, which may come from anywhere: every length is checked, memory is bounded by
 * the format's limits whatever the file says, and everything before a fault can be read.
 *
 *   open --next, seek--> records --> end (VGD_CLOSED), or a fault: next goes on to say the same
 *                           ^             |
 *                           +----seek-----+
 *
 * One thread for each reader.
 */
#ifndef VGD_TRACE_READER_H
#define VGD_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"
#include "trace_record.h"

struct vgd_trace_reader;

/* Frames kept decompressed, beside the present one, for pieces of data. */
#define VGD_TRACE_READER_FRAMES 16u

/* Data of a record: borrowed from the reader, valid until the next next or seek. */
struct vgd_trace_data {
    uint64_t total_bytes; /* at most VGD_TRACE_DATA_MAX; 0 for kinds without data */
    const uint8_t *head;  /* the first head_bytes of it */
    uint32_t head_bytes;  /* at most VGD_TRACE_INLINE_MAX */
    uint32_t n_pieces;    /* the rest: vgd_trace_reader_data fetches it */
    const uint8_t *refs;  /* n_pieces * VGD_TRACE_PIECE_REF_SIZE bytes, checked */
};

struct vgd_trace_item {
    uint64_t number; /* in the file, from 0 */
    uint64_t frame_offset_bytes;
    struct vgd_trace_record record;
    struct vgd_trace_data data;
};

struct vgd_trace_fault {
    enum vgd_status status; /* VGD_OK: none */
    uint64_t offset_bytes;  /* in the file: of the frame that is wrong, or where it should begin */
    char text[128];
};

struct vgd_trace_info {
    struct vgd_trace_file_header header;
    uint64_t size_bytes;
    bool has_index;         /* it was closed in good order */
    uint64_t n_records;     /* with an index: in the whole file */
    uint64_t unknown_count; /* records of kinds that we do not know, skipped so far */
};

/**
 * @fd: a regular file, open for reading; taken if this succeeds.
 *
 * Failures, with *@fault: VGD_RANGE (not a trace file, or its header is damaged; not a regular
 * file), VGD_TRUNCATED (shorter than its header), VGD_UNSUPPORTED (another major version),
 * VGD_HOST_FAILED (cannot be read), VGD_NO_MEMORY.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_reader_open(int *fd, struct vgd_trace_reader **out,
                                                     struct vgd_trace_fault *fault);
/** NULL is fine. */
void vgd_trace_reader_close(struct vgd_trace_reader *reader);
struct vgd_trace_info vgd_trace_reader_info(const struct vgd_trace_reader *reader);

/**
 * The next record. VGD_CLOSED: the end of a file that was closed in good order. Otherwise a fault,
 * which vgd_trace_reader_fault tells: VGD_TRUNCATED (cut off here, by a full disk or a kill),
 * VGD_RANGE (damage), VGD_HOST_FAILED, VGD_NO_MEMORY.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_reader_next(struct vgd_trace_reader *reader,
                                                     struct vgd_trace_item *out);
/** The last fault, of next, of a seek or of data. */
const struct vgd_trace_fault *vgd_trace_reader_fault(const struct vgd_trace_reader *reader);

/**
 * Bytes [@offset_bytes, + @n_bytes) of @data to @out. VGD_RANGE: more than there is, or a piece
 * that is not what the record means (damage, or a collision of hashes while it was recorded): a
 * fault, after which next goes on. Other failures as for next.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_reader_data(struct vgd_trace_reader *reader,
                                                     const struct vgd_trace_data *data,
                                                     uint64_t offset_bytes, void *out,
                                                     size_t n_bytes);

/** Let next return the first record with at least this @number, or this time. By the index where
 *  there is one, else by a look at each frame's header. Beyond the last: next says how the file
 *  ends. Failures as for next, which then says the same. */
VGD_MUST_CHECK enum vgd_status vgd_trace_reader_seek_number(struct vgd_trace_reader *reader,
                                                            uint64_t number);
VGD_MUST_CHECK enum vgd_status vgd_trace_reader_seek_time(struct vgd_trace_reader *reader,
                                                          uint64_t time_ns);

/** How far next is into the file, for a display of progress. */
uint64_t vgd_trace_reader_at_bytes(const struct vgd_trace_reader *reader);

#endif
