/* SPDX-License-Identifier: MIT */
#include "bytes.h"

#include <string.h>

void vgd_read_bytes(struct vgd_reader *r, void *out, size_t n_bytes)
{
    if (n_bytes == 0) {
        return;
    }
    if (n_bytes > vgd_reader_left(r)) {
        vgd_read_skip(r, n_bytes);
        memset(out, 0, n_bytes);
        return;
    }
    memcpy(out, r->pos, n_bytes);
    r->pos += n_bytes;
}

void vgd_read_skip(struct vgd_reader *r, size_t n_bytes)
{
    if (n_bytes > vgd_reader_left(r)) { /* compare lengths; never add to a pointer first */
        if (r->status == VGD_OK) {
            r->status = VGD_TRUNCATED;
        }
        r->pos = r->end;
        return;
    }
    r->pos += n_bytes;
}

uint8_t vgd_read_u8(struct vgd_reader *r)
{
    uint8_t b = 0;
    vgd_read_bytes(r, &b, sizeof(b));
    return b;
}

uint16_t vgd_read_le16(struct vgd_reader *r)
{
    uint8_t b[2];
    vgd_read_bytes(r, b, sizeof(b));
    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t vgd_read_le32(struct vgd_reader *r)
{
    uint8_t b[4];
    vgd_read_bytes(r, b, sizeof(b));
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t vgd_read_le64(struct vgd_reader *r)
{
    uint8_t b[8];
    vgd_read_bytes(r, b, sizeof(b));
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)b[i] << (8 * i);
    }
    return value;
}

enum vgd_status vgd_reader_finish(const struct vgd_reader *r)
{
    if (r->status != VGD_OK) {
        return r->status;
    }
    return r->pos == r->end ? VGD_OK : VGD_TRAILING;
}

/* The next @n_bytes of @w, or NULL once something did not fit. */
static uint8_t *claim(struct vgd_writer *w, size_t n_bytes)
{
    if (w->status != VGD_OK || n_bytes > (size_t)(w->end - w->pos)) {
        w->status = VGD_RANGE;
        return NULL;
    }
    uint8_t *at = w->pos;
    w->pos += n_bytes;
    return at;
}

void vgd_write_bytes(struct vgd_writer *w, const void *data, size_t n_bytes)
{
    uint8_t *at = claim(w, n_bytes);
    if (at != NULL && n_bytes != 0) {
        memcpy(at, data, n_bytes);
    }
}

void vgd_write_zeros(struct vgd_writer *w, size_t n_bytes)
{
    uint8_t *at = claim(w, n_bytes);
    if (at != NULL && n_bytes != 0) {
        memset(at, 0, n_bytes);
    }
}

static void write_le(struct vgd_writer *w, uint64_t value, size_t n_bytes)
{
    uint8_t *at = claim(w, n_bytes);
    for (size_t i = 0; at != NULL && i < n_bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

void vgd_write_u8(struct vgd_writer *w, uint8_t value)
{
    write_le(w, value, 1);
}

void vgd_write_le16(struct vgd_writer *w, uint16_t value)
{
    write_le(w, value, 2);
}

void vgd_write_le32(struct vgd_writer *w, uint32_t value)
{
    write_le(w, value, 4);
}

void vgd_write_le64(struct vgd_writer *w, uint64_t value)
{
    write_le(w, value, 8);
}
