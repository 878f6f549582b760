/* SPDX-License-Identifier: MIT */
/* A line of text that grows up to its end and no further. What does not fit is dropped. */
#ifndef VGD_PROTOCOL_STREAM_LINE_H
#define VGD_PROTOCOL_STREAM_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vgd_line {
    char *start, *pos, *end; /* one byte behind end is kept for the 0 */
    bool cut;
};

/** @n_bytes at least 1; @out must outlive it. */
struct vgd_line vgd_line_of(char *out, size_t n_bytes);
/** Ends it with 0, and with "..." if it was cut. Returns the bytes before the 0. */
size_t vgd_line_finish(struct vgd_line *line);

void vgd_line_char(struct vgd_line *line, char c);
void vgd_line_text(struct vgd_line *line, const char *text);
void vgd_line_u64(struct vgd_line *line, uint64_t value);
void vgd_line_i32(struct vgd_line *line, int32_t value);
void vgd_line_hex(struct vgd_line *line, uint64_t value);
void vgd_line_real(struct vgd_line *line, double value);
/** Foreign text in quotes, up to its 0 or its end; what is not printable ASCII is escaped. */
void vgd_line_quoted(struct vgd_line *line, const void *text, size_t n_bytes);
/** "[0x1 0x2 ...] (9 dwords)". */
void vgd_line_dwords(struct vgd_line *line, const uint32_t *dwords, uint32_t n_dwords);
/** " name=". */
void vgd_line_field(struct vgd_line *line, const char *name);

#endif
