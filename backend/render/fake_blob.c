/* SPDX-License-Identifier: MIT */
/* Blobs of the fake renderer: memory files, and pictures in them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checked.h"
#include "fake_priv.h"
#include "iov.h"

bool vgd_fake_add_object(struct vgd_render *r, uint32_t ctx_id, uint32_t blob_id,
                         uint64_t size_bytes, bool opaque)
{
    struct fake_context *ctx = vgd_idmap_find(&fake_of(r)->contexts, ctx_id);
    struct fake_object *object = calloc(1, sizeof(*object));
    if (ctx == NULL || object == NULL) {
        free(object);
        return false;
    }
    *object = (struct fake_object){.size_bytes = size_bytes, .opaque = opaque};
    if (vgd_idmap_add(&ctx->objects, blob_id, object) != VGD_OK) {
        free(object);
        return false;
    }
    return true;
}

static struct fake_object *object_of(const struct fake *f, const struct vgd_render_blob *blob)
{
    const struct fake_context *ctx = vgd_idmap_find(&f->contexts, blob->ctx_id);
    return ctx != NULL && blob->blob_id != 0 && blob->blob_id <= UINT32_MAX
               ? vgd_idmap_find(&ctx->objects, (uint32_t)blob->blob_id)
               : NULL;
}

void vgd_fake_blob_forget(struct fake *f, const struct fake_resource *res)
{
    if (res->is_blob) {
        struct fake_object *object = object_of(f, &res->blob);
        if (object != NULL) {
            object->taken = false;
        }
    }
}

enum vgd_status vgd_fake_create_blob(struct vgd_render *r, const struct vgd_render_blob *blob)
{
    struct fake *f = fake_of(r);
    bool has_pages = blob->mem != VGD_BLOB_MEM_HOST3D;
    bool has_host = blob->mem != VGD_BLOB_MEM_GUEST;
    assert(blob->mem < 32 && (f->config.blob_mems >> blob->mem & 1) != 0);
    assert(blob->size_bytes > 0 && blob->size_bytes % VGD_BLOB_ALIGNMENT_BYTES == 0);
    assert(blob->flags < 8 && has_pages == (blob->iov != NULL) && has_pages == (blob->n_iov > 0));
    assert(!has_pages || vgd_iov_size(blob->iov, blob->n_iov) >= blob->size_bytes);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_CREATE_BLOB);
    if (st != VGD_OK) {
        return st;
    }
    struct fake_resource made = {
        .is_blob = true, .blob = *blob, .iov = blob->iov, .n_iov = blob->n_iov, .fd = -1};
    made.blob.iov = NULL;
    if (!has_host) {
        assert(blob->ctx_id == 0);
        return vgd_fake_resource_add(f, blob->res_id, made);
    }
    const struct fake_context *ctx = vgd_idmap_find(&f->contexts, blob->ctx_id);
    assert(ctx != NULL && !ctx->lost);
    struct fake_object *object = object_of(f, blob);
    if (blob->blob_id != 0 &&
        (object == NULL || object->taken || object->size_bytes < blob->size_bytes)) {
        return VGD_RANGE;
    }
    made.opaque = object != NULL && object->opaque;
    made.fd = memfd_create("fake-blob", MFD_CLOEXEC);
    if (made.fd < 0 || ftruncate(made.fd, (off_t)blob->size_bytes) != 0) {
        if (made.fd >= 0) {
            (void)close(made.fd);
        }
        return VGD_NO_MEMORY;
    }
    st = vgd_fake_resource_add(f, blob->res_id, made);
    if (st == VGD_OK && object != NULL) {
        object->taken = true;
    }
    return st;
}

enum vgd_status vgd_fake_blob_export(struct vgd_render *r, uint32_t res_id,
                                     struct vgd_blob_file *out)
{
    struct fake *f = fake_of(r);
    const struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(res->is_blob && res->fd >= 0);
    assert((res->blob.flags & VGD_BLOB_FLAG_USE_MAPPABLE) != 0);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_BLOB_EXPORT);
    if (st != VGD_OK) {
        return st;
    }
    if (res->opaque) {
        return VGD_UNSUPPORTED;
    }
    int fd = dup(res->fd);
    if (fd < 0) {
        return VGD_HOST_FAILED;
    }
    *out = (struct vgd_blob_file){.fd = fd, .map_info = VGD_MAP_CACHE_CACHED};
    return VGD_OK;
}

/* Bytes, not texels: box.w of them at box.x. */
enum vgd_status vgd_fake_blob_transfer(struct fake_resource *res,
                                       const struct vgd_cmd_transfer_host_3d *cmd, bool to_host)
{
    assert(res->blob.mem == VGD_BLOB_MEM_HOST3D_GUEST);
    if (!vgd_span_fits(cmd->box.x, cmd->box.w, res->blob.size_bytes) ||
        !vgd_span_fits(cmd->offset_bytes, cmd->box.w, vgd_iov_size(res->iov, res->n_iov))) {
        return VGD_RANGE;
    }
    uint8_t piece[256];
    for (uint32_t done = 0; done < cmd->box.w;) {
        size_t n = cmd->box.w - done < sizeof(piece) ? cmd->box.w - done : sizeof(piece);
        size_t guest = cmd->offset_bytes + done;
        off_t host = (off_t)cmd->box.x + done;
        ssize_t moved;
        if (to_host) {
            (void)vgd_iov_copy_out(res->iov, res->n_iov, guest, piece, n);
            moved = pwrite(res->fd, piece, n, host);
        } else {
            moved = pread(res->fd, piece, n, host);
            (void)vgd_iov_copy_in(res->iov, res->n_iov, guest, piece, n);
        }
        assert(moved == (ssize_t)n);
        done += (uint32_t)n;
    }
    return VGD_OK;
}

/* Where B, G, R and A are in the bytes of a pixel; -1: opaque. */
static void channels(uint32_t format, int out[4])
{
    static const struct {
        uint32_t format;
        int at[4];
    } table[] = {
        {VGD_FORMAT_B8G8R8A8_UNORM, {0, 1, 2, 3}}, {VGD_FORMAT_B8G8R8X8_UNORM, {0, 1, 2, -1}},
        {VGD_FORMAT_A8R8G8B8_UNORM, {3, 2, 1, 0}}, {VGD_FORMAT_X8R8G8B8_UNORM, {3, 2, 1, -1}},
        {VGD_FORMAT_R8G8B8A8_UNORM, {2, 1, 0, 3}}, {VGD_FORMAT_X8B8G8R8_UNORM, {1, 2, 3, -1}},
        {VGD_FORMAT_A8B8G8R8_UNORM, {1, 2, 3, 0}}, {VGD_FORMAT_R8G8B8X8_UNORM, {2, 1, 0, -1}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].format == format) {
            memcpy(out, table[i].at, sizeof(table[i].at));
            return;
        }
    }
    memcpy(out, table[0].at, sizeof(table[0].at));
}

/* The four bytes of a pixel, of guest pages or of a memory file. */
static bool blob_pixel(const struct fake_resource *res, const struct vgd_image *image,
                       uint32_t x_px, uint32_t y_px, uint8_t out[BYTES_PER_PIXEL])
{
    uint64_t at = image->offset_bytes + (uint64_t)y_px * image->stride_bytes +
                  (uint64_t)x_px * BYTES_PER_PIXEL;
    assert(at + BYTES_PER_PIXEL <= res->blob.size_bytes); /* the device has checked */
    size_t got = res->fd >= 0 ? (size_t)pread(res->fd, out, BYTES_PER_PIXEL, (off_t)at)
                              : vgd_iov_copy_out(res->iov, res->n_iov, at, out, BYTES_PER_PIXEL);
    return got == BYTES_PER_PIXEL;
}

enum vgd_status vgd_fake_read_pixels(struct vgd_render *r, uint32_t res_id,
                                     const struct vgd_image *image, struct vgd_rect rect, void *out,
                                     size_t stride_bytes)
{
    struct fake *f = fake_of(r);
    const struct fake_resource *res = vgd_fake_resource(f, res_id);
    assert(res->is_blob == (image != NULL));
    uint32_t w_px = image != NULL ? image->w_px : res->w_px;
    uint32_t h_px = image != NULL ? image->h_px : res->h_px;
    assert(rect.x_px + rect.w_px <= w_px && rect.y_px + rect.h_px <= h_px);
    enum vgd_status st = vgd_fake_try(f, VGD_FAKE_READ_PIXELS);
    if (st != VGD_OK) {
        return st;
    }
    if (!res->is_blob && res->texel_bytes != BYTES_PER_PIXEL) {
        return VGD_UNSUPPORTED;
    }
    int at[4];
    channels(image != NULL ? image->format : res->format, at);
    for (uint32_t y = 0; y < rect.h_px; y++) {
        for (uint32_t x = 0; x < rect.w_px; x++) {
            uint8_t pixel[BYTES_PER_PIXEL];
            if (res->is_blob) {
                if (!blob_pixel(res, image, rect.x_px + x, rect.y_px + y, pixel)) {
                    return VGD_UNSUPPORTED; /* the guest's pages have gone */
                }
            } else {
                size_t from = (size_t)(rect.y_px + y) * res->w_px + rect.x_px + x;
                memcpy(pixel, res->pixels + from * BYTES_PER_PIXEL, BYTES_PER_PIXEL);
            }
            uint8_t *to = (uint8_t *)out + y * stride_bytes + (size_t)x * BYTES_PER_PIXEL;
            for (int c = 0; c < 4; c++) {
                to[c] = at[c] < 0 ? 0xff : pixel[at[c]];
            }
        }
    }
    return VGD_OK;
}
