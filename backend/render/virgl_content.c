/* SPDX-License-Identifier: MIT */
/* Texels of a resource into our own memory: what a recording begun in mid-life starts with. */
#include "virgl_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "virgl_format.h"

/* Staging buffers: the guest's memory is all there is of them. */
#define BIND_STAGING (1u << 19)
/* For what the library reads and nobody wants. The library adds lengths in 32 bits: no more fits
 * into one call. */
#define REFUSE_BYTES ((size_t)UINT32_MAX)

/* Where the bytes of @box lie. */
struct layout {
    uint64_t row_bytes, n_rows, n_bytes;
};

static bool layout_of(const struct resource *res, const struct vgd_box *box, uint32_t stride_bytes,
                      uint32_t layer_stride_bytes, struct layout *out)
{
    if (res->target == TARGET_BUFFER) {
        *out = (struct layout){.row_bytes = box->w, .n_rows = 1, .n_bytes = box->w};
        return true;
    }
    uint32_t block_w, block_h, block_bytes;
    if (box->w == 0 || box->h == 0 || box->d == 0 ||
        !vgd_virgl_format_block(res->format, &block_w, &block_h, &block_bytes)) {
        return false;
    }
    out->row_bytes = ((uint64_t)box->w + block_w - 1) / block_w * block_bytes;
    out->n_rows = ((uint64_t)box->h + block_h - 1) / block_h;
    out->n_bytes = (box->d - 1) * (uint64_t)layer_stride_bytes + (out->n_rows - 1) * stride_bytes +
                   out->row_bytes;
    return stride_bytes >= out->row_bytes;
}

static int read_box(const struct resource *res, uint32_t level, const struct vgd_box *box,
                    uint32_t stride_bytes, uint32_t layer_stride_bytes, struct iovec *iov,
                    int n_iov)
{
    struct virgl_box at = {box->x, box->y, box->z, box->w, box->h, box->d};
    return virgl_renderer_transfer_read_iov(res->id, 0, level, stride_bytes, layer_stride_bytes,
                                            &at, 0, iov, n_iov);
}

/* Can the host draw to @format? Then the library reads just the box, else by the way below. Its
 * capset says so: a version, then masks of formats to sample from, to draw to, for depth. */
static bool is_drawn_to(uint32_t format)
{
    enum { MASK_DWORDS = 16, RENDER_AT = 1 + MASK_DWORDS, DEPTH_AT = RENDER_AT + MASK_DWORDS };
    static uint32_t *caps; /* of the process's one library; NULL before its first use */
    if (format >= MASK_DWORDS * 32) {
        return false;
    }
    if (caps == NULL) {
        uint32_t version = 0;
        uint32_t n_bytes = 0;
        virgl_renderer_get_cap_set(VGD_CAPSET_VIRGL, &version, &n_bytes);
        caps = calloc(1, n_bytes + (DEPTH_AT + MASK_DWORDS) * sizeof(*caps));
        if (caps == NULL) {
            return false;
        }
        virgl_renderer_fill_caps(VGD_CAPSET_VIRGL, version, caps);
    }
    uint32_t masks = caps[RENDER_AT + format / 32] | caps[DEPTH_AT + format / 32];
    return (masks >> format % 32 & 1) != 0;
}

/* REFUSE_BYTES of address space to be written and forgotten, for munmap; NULL: none.
 * Pages come with the first write: those of rows above a box, at most a texture. */
static uint8_t *refuse_map(void)
{
    void *at = mmap(NULL, REFUSE_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at != MAP_FAILED ? at : NULL;
}

/*
 * A texture that the host cannot draw to is read whole by the library, into memory that holds all
 * its layers, and from its first row and column whatever the box says. So the rows above the box
 * are asked for, too, into memory that takes anything; and the rest of the texture is promised
 * room that is never used. Boxes of whole rows in one layer only.
 */
static enum vgd_status read_by_whole(const struct resource *res, uint32_t level,
                                     const struct vgd_box *box, void *out,
                                     const struct layout *layout, uint32_t stride_bytes)
{
    uint32_t block_w, block_h, block_bytes;
    uint32_t level_w = res->w >> level != 0 ? res->w >> level : 1;
    if (box->x != 0 || box->w != level_w || box->d != 1 || stride_bytes != layout->row_bytes ||
        !vgd_virgl_format_block(res->format, &block_w, &block_h, &block_bytes) ||
        box->y % block_h != 0) {
        return VGD_UNSUPPORTED;
    }
    uint64_t above_bytes = box->y / block_h * layout->row_bytes;
    if (above_bytes > REFUSE_BYTES - layout->n_bytes) {
        return VGD_UNSUPPORTED;
    }
    uint8_t *refuse = refuse_map();
    if (refuse == NULL) {
        return VGD_UNSUPPORTED;
    }
    /* All that is promised is there: nothing of ours is hit, whatever the library writes. */
    struct iovec iov[] = {
        {.iov_base = refuse, .iov_len = (size_t)above_bytes},
        {.iov_base = out, .iov_len = (size_t)layout->n_bytes},
        {.iov_base = refuse, .iov_len = REFUSE_BYTES - above_bytes - layout->n_bytes},
    };
    struct iovec *first = above_bytes != 0 ? iov : iov + 1;
    struct vgd_box from_top = *box;
    from_top.y = 0;
    from_top.h = box->y + box->h;
    int rc = read_box(res, level, &from_top, stride_bytes, 0, first, (int)(iov + 3 - first));
    (void)munmap(refuse, REFUSE_BYTES);
    return rc == 0 ? VGD_OK : VGD_UNSUPPORTED;
}

enum vgd_status vgd_virgl_content_read(struct vgd_render *r, uint32_t res_id, uint32_t level,
                                       const struct vgd_box *box, void *out, size_t out_bytes,
                                       uint32_t stride_bytes, uint32_t layer_stride_bytes)
{
    const struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    struct layout layout;
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (res->is_blob || res->nr_samples > 1 ||
        (res->target == TARGET_BUFFER && res->bind == BIND_STAGING) ||
        !layout_of(res, box, stride_bytes, layer_stride_bytes, &layout)) {
        return VGD_UNSUPPORTED;
    }
    if (layout.n_bytes > out_bytes || layout.n_bytes > UINT32_MAX / 2) {
        return VGD_RANGE;
    }
    if (res->is_2d && !res->gl_newer) {
        struct vgd_rect rect = {.x_px = box->x, .y_px = box->y, .w_px = box->w, .h_px = box->h};
        return level == 0 && box->z == 0 && box->d == 1
                   ? vgd_pixels_copy(&res->shadow, rect, out, stride_bytes)
                   : VGD_RANGE;
    }
    memset(out, 0, (size_t)layout.n_bytes); /* what lies between rows is nobody's */
    if (res->target != TARGET_BUFFER && !is_drawn_to(res->format)) {
        return read_by_whole(res, level, box, out, &layout, stride_bytes);
    }
    struct iovec iov = {.iov_base = out, .iov_len = (size_t)layout.n_bytes};
    return read_box(res, level, box, stride_bytes, layer_stride_bytes, &iov, 1) == 0
               ? VGD_OK
               : VGD_UNSUPPORTED;
}
