/* SPDX-License-Identifier: MIT */
#include "pixels.h"

#include <assert.h>
#include <pixman.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"

/* virtio names formats by memory order, pixman by the order of bits in a native 32-bit word. */
static pixman_format_code_t pixman_format(uint32_t format)
{
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pixman's formats below are for little-endian hosts"
#endif
    switch (format) {
    case VGD_FORMAT_B8G8R8A8_UNORM:
        return PIXMAN_a8r8g8b8;
    case VGD_FORMAT_B8G8R8X8_UNORM:
        return PIXMAN_x8r8g8b8;
    case VGD_FORMAT_A8R8G8B8_UNORM:
        return PIXMAN_b8g8r8a8;
    case VGD_FORMAT_X8R8G8B8_UNORM:
        return PIXMAN_b8g8r8x8;
    case VGD_FORMAT_R8G8B8A8_UNORM:
        return PIXMAN_a8b8g8r8;
    case VGD_FORMAT_X8B8G8R8_UNORM:
        return PIXMAN_r8g8b8x8;
    case VGD_FORMAT_A8B8G8R8_UNORM:
        return PIXMAN_r8g8b8a8;
    case VGD_FORMAT_R8G8B8X8_UNORM:
        return PIXMAN_x8b8g8r8;
    default:
        return (pixman_format_code_t)0;
    }
}

bool vgd_pixels_known_format(uint32_t format)
{
    return pixman_format(format) != (pixman_format_code_t)0;
}

enum vgd_status vgd_pixels_init(struct vgd_pixels *p, uint32_t format, uint32_t w_px, uint32_t h_px)
{
    *p = (struct vgd_pixels){0};
    if (!vgd_pixels_known_format(format) || w_px == 0 || h_px == 0 ||
        w_px > VGD_PIXELS_SIDE_PX_MAX || h_px > VGD_PIXELS_SIDE_PX_MAX) {
        return VGD_RANGE;
    }
    size_t stride_bytes = (size_t)w_px * VGD_BYTES_PER_PIXEL; /* at most 64 KiB */
    uint8_t *data = calloc(h_px, stride_bytes);
    if (data == NULL) {
        return VGD_NO_MEMORY;
    }
    *p = (struct vgd_pixels){
        .data = data,
        .format = format,
        .w_px = w_px,
        .h_px = h_px,
        .stride_bytes = stride_bytes,
        .changed = {.w_px = w_px, .h_px = h_px}, /* nobody has seen the zeros */
    };
    return VGD_OK;
}

void vgd_pixels_finish(struct vgd_pixels *p)
{
    free(p->data);
    *p = (struct vgd_pixels){0};
}

/* A place in a scatter list that only moves forward: finding each row from the start would cost the
 * product of rows and entries. */
struct cursor {
    const struct iovec *iov;
    uint32_t n_iov;
    size_t skip_bytes; /* within iov[0] */
};

static void cursor_advance(struct cursor *c, uint64_t n_bytes)
{
    while (c->n_iov > 0 && n_bytes >= c->iov->iov_len - c->skip_bytes) {
        n_bytes -= c->iov->iov_len - c->skip_bytes;
        c->skip_bytes = 0;
        c->iov++;
        c->n_iov--;
    }
    if (c->n_iov > 0) {
        c->skip_bytes += n_bytes; /* less than what the entry has left */
    }
}

/* Copies and advances; false when the list ended first. *changed is set where the bytes were
 * others: comparing costs little beside copying, and showing what did not change costs much more.
 */
static bool cursor_read(struct cursor *c, uint8_t *out, size_t n_bytes, bool *changed)
{
    while (n_bytes > 0) {
        if (c->n_iov == 0) {
            return false;
        }
        size_t here = c->iov->iov_len - c->skip_bytes;
        size_t n = here < n_bytes ? here : n_bytes;
        const uint8_t *in = (const uint8_t *)c->iov->iov_base + c->skip_bytes;
        if (*changed || memcmp(out, in, n) != 0) {
            memcpy(out, in, n);
            *changed = true;
        }
        out += n;
        n_bytes -= n;
        cursor_advance(c, n);
    }
    return true;
}

static struct vgd_rect rect_union(struct vgd_rect a, struct vgd_rect b)
{
    if (a.w_px == 0 || a.h_px == 0) {
        return b;
    }
    uint32_t left = a.x_px < b.x_px ? a.x_px : b.x_px;
    uint32_t top = a.y_px < b.y_px ? a.y_px : b.y_px;
    uint32_t a_right = a.x_px + a.w_px, b_right = b.x_px + b.w_px; /* inside the picture */
    uint32_t a_end = a.y_px + a.h_px, b_end = b.y_px + b.h_px;
    uint32_t right = a_right > b_right ? a_right : b_right;
    uint32_t end = a_end > b_end ? a_end : b_end;
    return (struct vgd_rect){.x_px = left, .y_px = top, .w_px = right - left, .h_px = end - top};
}

static struct vgd_rect rect_intersection(struct vgd_rect a, struct vgd_rect b)
{
    uint32_t left = a.x_px > b.x_px ? a.x_px : b.x_px;
    uint32_t top = a.y_px > b.y_px ? a.y_px : b.y_px;
    uint32_t a_right = a.x_px + a.w_px, b_right = b.x_px + b.w_px;
    uint32_t a_end = a.y_px + a.h_px, b_end = b.y_px + b.h_px;
    uint32_t right = a_right < b_right ? a_right : b_right;
    uint32_t end = a_end < b_end ? a_end : b_end;
    if (right <= left || end <= top) {
        return (struct vgd_rect){0};
    }
    return (struct vgd_rect){.x_px = left, .y_px = top, .w_px = right - left, .h_px = end - top};
}

struct vgd_rect vgd_pixels_take_changed(struct vgd_pixels *p, struct vgd_rect rect)
{
    if (!vgd_pixels_rect_fits(rect, p->w_px, p->h_px)) {
        return rect;
    }
    struct vgd_rect part = rect_intersection(p->changed, rect);
    if (memcmp(&part, &p->changed, sizeof(part)) == 0) {
        p->changed = (struct vgd_rect){0}; /* all of it has been asked about now */
    }
    return part;
}

enum vgd_status vgd_pixels_load(struct vgd_pixels *p, const struct iovec *iov, uint32_t n_iov,
                                struct vgd_rect rect, uint64_t offset_bytes)
{
    if (!vgd_pixels_rect_fits(rect, p->w_px, p->h_px)) {
        return VGD_RANGE;
    }
    if (rect.w_px == 0 || rect.h_px == 0) {
        return VGD_OK;
    }
    struct cursor c = {.iov = iov, .n_iov = n_iov};
    cursor_advance(&c, offset_bytes);
    size_t row_bytes = (size_t)rect.w_px * VGD_BYTES_PER_PIXEL;
    uint8_t *row = p->data + rect.y_px * p->stride_bytes + (size_t)rect.x_px * VGD_BYTES_PER_PIXEL;
    uint32_t first = rect.h_px, end = 0; /* rows of @rect that changed */
    for (uint32_t y = 0; y < rect.h_px; y++) {
        bool changed = false;
        bool whole = cursor_read(&c, row, row_bytes, &changed);
        if (changed) {
            first = first < y ? first : y;
            end = y + 1;
        }
        if (!whole) {
            break;
        }
        cursor_advance(&c, p->stride_bytes - row_bytes);
        row += p->stride_bytes;
    }
    if (end > first) {
        struct vgd_rect rows = {
            .x_px = rect.x_px, .y_px = rect.y_px + first, .w_px = rect.w_px, .h_px = end - first};
        p->changed = rect_union(p->changed, rows);
    }
    return VGD_OK;
}

void vgd_pixels_convert(uint32_t format, uint32_t w_px, uint32_t h_px, const void *in,
                        size_t in_stride_bytes, void *out, size_t out_stride_bytes)
{
    size_t row_bytes = (size_t)w_px * VGD_BYTES_PER_PIXEL;
    if (format == VGD_FORMAT_B8G8R8A8_UNORM || format == VGD_FORMAT_B8G8R8X8_UNORM) {
        if (in == out) {
            return;
        }
        if (row_bytes == in_stride_bytes && row_bytes == out_stride_bytes) {
            memcpy(out, in, row_bytes * h_px);
            return;
        }
        for (uint32_t y = 0; y < h_px; y++) {
            memcpy((uint8_t *)out + y * out_stride_bytes, (const uint8_t *)in + y * in_stride_bytes,
                   row_bytes);
        }
        return;
    }
    assert(in_stride_bytes % VGD_BYTES_PER_PIXEL == 0 &&
           out_stride_bytes % VGD_BYTES_PER_PIXEL == 0);
    /* The images only borrow the memory. pixman does not write to a source, but wants it writable.
     */
    union {
        const void *bytes;
        uint32_t *words;
    } source = {.bytes = in};
    pixman_image_t *src = pixman_image_create_bits_no_clear(
        pixman_format(format), (int)w_px, (int)h_px, source.words, (int)in_stride_bytes);
    pixman_image_t *dst = pixman_image_create_bits_no_clear(PIXMAN_a8r8g8b8, (int)w_px, (int)h_px,
                                                            (uint32_t *)out, (int)out_stride_bytes);
    if (src != NULL && dst != NULL) {
        pixman_image_composite32(PIXMAN_OP_SRC, src, NULL, dst, 0, 0, 0, 0, 0, 0, (int)w_px,
                                 (int)h_px);
    }
    if (src != NULL) {
        pixman_image_unref(src);
    }
    if (dst != NULL) {
        pixman_image_unref(dst);
    }
}

enum vgd_status vgd_pixels_copy(const struct vgd_pixels *p, struct vgd_rect rect, void *out,
                                size_t stride_bytes)
{
    if (!vgd_pixels_rect_fits(rect, p->w_px, p->h_px)) {
        return VGD_RANGE;
    }
    const uint8_t *from =
        p->data + (size_t)rect.y_px * p->stride_bytes + (size_t)rect.x_px * VGD_BYTES_PER_PIXEL;
    for (uint32_t y = 0; y < rect.h_px; y++) {
        memcpy((uint8_t *)out + y * stride_bytes, from + y * p->stride_bytes,
               (size_t)rect.w_px * VGD_BYTES_PER_PIXEL);
    }
    return VGD_OK;
}

enum vgd_status vgd_pixels_read(const struct vgd_pixels *p, struct vgd_rect rect, void *out,
                                size_t stride_bytes)
{
    if (!vgd_pixels_rect_fits(rect, p->w_px, p->h_px)) {
        return VGD_RANGE;
    }
    if (rect.w_px == 0 || rect.h_px == 0) {
        return VGD_OK;
    }
    vgd_pixels_convert(p->format, rect.w_px, rect.h_px,
                       p->data + rect.y_px * p->stride_bytes +
                           (size_t)rect.x_px * VGD_BYTES_PER_PIXEL,
                       p->stride_bytes, out, stride_bytes);
    return VGD_OK;
}

/* Does the last row of @rect end below 2^64? */
static bool image_end_sane(const struct vgd_image *image, struct vgd_rect rect)
{
    uint64_t end;
    /* Both products are below 2^64: of 32-bit numbers. */
    uint64_t rows_bytes = (uint64_t)image->stride_bytes * ((uint64_t)rect.y_px + rect.h_px - 1);
    uint64_t row_bytes = ((uint64_t)rect.x_px + rect.w_px) * VGD_BYTES_PER_PIXEL;
    return vgd_add_u64(rows_bytes, row_bytes, &end) && vgd_add_u64(end, image->offset_bytes, &end);
}

enum vgd_status vgd_pixels_read_image(const struct vgd_image *image, const struct iovec *iov,
                                      uint32_t n_iov, struct vgd_rect rect, void *out,
                                      size_t stride_bytes)
{
    if (!vgd_pixels_known_format(image->format) ||
        !vgd_pixels_rect_fits(rect, image->w_px, image->h_px)) {
        return VGD_RANGE;
    }
    if (rect.w_px == 0 || rect.h_px == 0) {
        return VGD_OK;
    }
    size_t row_bytes = (size_t)rect.w_px * VGD_BYTES_PER_PIXEL;
    if (image->stride_bytes < row_bytes || !image_end_sane(image, rect)) {
        return VGD_RANGE;
    }
    struct cursor c = {.iov = iov, .n_iov = n_iov};
    cursor_advance(&c, image->offset_bytes + (uint64_t)image->stride_bytes * rect.y_px +
                           (uint64_t)rect.x_px * VGD_BYTES_PER_PIXEL);
    for (uint32_t y = 0; y < rect.h_px; y++) {
        bool copy = true; /* whatever @out held */
        if (!cursor_read(&c, (uint8_t *)out + y * stride_bytes, row_bytes, &copy)) {
            return VGD_RANGE;
        }
        cursor_advance(&c, image->stride_bytes - row_bytes);
    }
    __asm__ volatile("" ::: "memory"); /* what follows looks at the copy */
    vgd_pixels_convert(image->format, rect.w_px, rect.h_px, out, stride_bytes, out, stride_bytes);
    return VGD_OK;
}
