/* SPDX-License-Identifier: MIT */
/*
 * Bounded reading and writing of untrusted bytes. The first failure sticks; failed reads give
 * zero, so a decoder is a straight list of fields with one check at the end. All integers are
 * assembled byte by byte: alignment and host endianness never matter.
 */
#ifndef VGD_BASE_BYTES_H
#define VGD_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

struct vgd_reader {
    const uint8_t *pos, *end;
    enum vgd_status status; /* first failure; sticky */
};

/** A reader over @n_bytes at @data, which must outlive it. */
static inline struct vgd_reader vgd_reader_of(const void *data, size_t n_bytes)
{
    const uint8_t *bytes = data;
    return (struct vgd_reader){.pos = bytes, .end = bytes + n_bytes};
}

static inline size_t vgd_reader_left(const struct vgd_reader *r)
{
    return (size_t)(r->end - r->pos);
}

/** Copy @n_bytes to @out, or zero @out and stick VGD_TRUNCATED. */
void vgd_read_bytes(struct vgd_reader *r, void *out, size_t n_bytes);
/** Step over @n_bytes, or stick VGD_TRUNCATED. */
void vgd_read_skip(struct vgd_reader *r, size_t n_bytes);
uint8_t vgd_read_u8(struct vgd_reader *r);
uint16_t vgd_read_le16(struct vgd_reader *r);
uint32_t vgd_read_le32(struct vgd_reader *r);
uint64_t vgd_read_le64(struct vgd_reader *r);

/** VGD_OK when every read succeeded and nothing is left; else the first failure or VGD_TRAILING. */
VGD_MUST_CHECK enum vgd_status vgd_reader_finish(const struct vgd_reader *r);

struct vgd_writer {
    uint8_t *start, *pos, *end;
    enum vgd_status status; /* VGD_RANGE once something did not fit; sticky */
};

/** A writer over @n_bytes at @data, which must outlive it. */
static inline struct vgd_writer vgd_writer_of(void *data, size_t n_bytes)
{
    uint8_t *bytes = data;
    return (struct vgd_writer){.start = bytes, .pos = bytes, .end = bytes + n_bytes};
}

/** Bytes written so far. */
static inline size_t vgd_writer_used(const struct vgd_writer *w)
{
    return (size_t)(w->pos - w->start);
}

void vgd_write_bytes(struct vgd_writer *w, const void *data, size_t n_bytes);
void vgd_write_zeros(struct vgd_writer *w, size_t n_bytes);
void vgd_write_u8(struct vgd_writer *w, uint8_t value);
void vgd_write_le16(struct vgd_writer *w, uint16_t value);
void vgd_write_le32(struct vgd_writer *w, uint32_t value);
void vgd_write_le64(struct vgd_writer *w, uint64_t value);

#endif
