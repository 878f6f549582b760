/* SPDX-License-Identifier: MIT */
/*
 * The outer parts of a trace file, with their magics and checks: header, frames, trailer. Reading
 * is of untrusted bytes: every length is bounded by the format's limits and by the file's size.
 */
#ifndef VGD_TRACE_LAYOUT_H
#define VGD_TRACE_LAYOUT_H

#include <stdint.h>

#include "status.h"
#include "trace_file.h"

/** Fill in magic and check, and write @header to @out (VGD_TRACE_FILE_HEADER_SIZE bytes). */
void vgd_trace_seal_header(struct vgd_trace_file_header *header, uint8_t *out);
/** Fill in the check and write @frame to @out (VGD_TRACE_FILE_FRAME_SIZE bytes). */
void vgd_trace_seal_frame(struct vgd_trace_file_frame *frame, uint64_t check_seed, uint8_t *out);
/** Fill in magic and check, and write @trailer to @out (VGD_TRACE_FILE_TRAILER_SIZE bytes). */
void vgd_trace_seal_trailer(struct vgd_trace_file_trailer *trailer, uint64_t check_seed,
                            uint8_t *out);

/**
 * Read from @fd, a file of @size_bytes, by pread(2).
 *
 * VGD_TRUNCATED: the file ends before it does. VGD_RANGE: it is something else, or damaged; a
 * header's magic that is right with a check that is wrong is damage. VGD_UNSUPPORTED: another major
 * version. VGD_HOST_FAILED with errno.
 */
VGD_MUST_CHECK enum vgd_status vgd_trace_read_header(int fd, uint64_t size_bytes,
                                                     struct vgd_trace_file_header *out);
/** The file_frame at @offset_bytes. VGD_OK: the file is long enough for what it announces, and it
 * is within the format's limits. VGD_CLOSED: the file ends exactly there. */
VGD_MUST_CHECK enum vgd_status vgd_trace_read_frame(int fd, uint64_t size_bytes,
                                                    uint64_t check_seed, uint64_t offset_bytes,
                                                    struct vgd_trace_file_frame *out);
/** What is stored behind @frame, checked, to @out (VGD_TRACE_FRAME_STORED_MAX bytes). */
VGD_MUST_CHECK enum vgd_status vgd_trace_read_payload(int fd, uint64_t check_seed,
                                                      const struct vgd_trace_file_frame *frame,
                                                      uint8_t *out);
/** The trailer, if the file has one that is right; else VGD_RANGE or VGD_TRUNCATED. */
VGD_MUST_CHECK enum vgd_status vgd_trace_read_trailer(int fd, uint64_t size_bytes,
                                                      uint64_t check_seed,
                                                      struct vgd_trace_file_trailer *out);

/** Where the frame behind @frame begins. */
static inline uint64_t vgd_trace_frame_end(const struct vgd_trace_file_frame *frame)
{
    return frame->offset_bytes + VGD_TRACE_FILE_FRAME_SIZE + frame->stored_bytes;
}

#endif
