/* SPDX-License-Identifier: MIT */
/*
 * Blobs: ranges of bytes as resources. Those of guest memory are used where they lie. Those of host
 * memory are objects of a context; the library holds a file for each, which outlives the context.
 */
#include "virgl_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "fd.h"

#define FOURCC(a, b, c, d)                                                                         \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define MOD_LINEAR 0u

enum vgd_status vgd_virgl_resource_create_blob(struct vgd_render *r,
                                               const struct vgd_render_blob *blob)
{
    struct virgl *v = virgl_of(r);
    struct context *ctx = NULL;
    if (blob->mem != VGD_BLOB_MEM_GUEST) {
        ctx = vgd_idmap_find(&v->contexts, blob->ctx_id);
        if (ctx == NULL) {
            return VGD_NO_CONTEXT;
        }
        if (ctx->venus != NULL && vgd_virgl_venus_is_lost(v, ctx)) {
            return VGD_LOST;
        }
    }
    struct resource *res = calloc(1, sizeof(*res));
    if (res == NULL) {
        return VGD_NO_MEMORY;
    }
    *res = (struct resource){
        .id = blob->res_id,
        .is_blob = true,
        .in_virgl = ctx != NULL || v->has_gl, /* Vulkan cannot use guest pages */
        .blob_mem = blob->mem,
        .blob_ctx_id = ctx != NULL ? ctx->id : 0,
        .of_vulkan = ctx != NULL && ctx->venus != NULL,
        .blob_bytes = blob->size_bytes,
        .iov = blob->n_iov != 0 ? blob->iov : NULL,
        .n_iov = blob->n_iov,
        .iov_bytes = vgd_virgl_iov_total(blob->iov, blob->n_iov),
        .view.sync_fd = -1,
    };
    enum vgd_status st = vgd_idmap_add(&v->resources, blob->res_id, res);
    if (st != VGD_OK) {
        free(res);
        return st;
    }
    if (!res->in_virgl) {
        return VGD_OK;
    }
    const struct virgl_renderer_resource_create_blob_args args = {
        .res_handle = blob->res_id,
        .ctx_id = res->blob_ctx_id,
        .blob_mem = blob->mem,
        .blob_flags = blob->flags,
        .blob_id = blob->blob_id,
        .size = blob->size_bytes,
        .iovecs = res->iov,
        .num_iovs = blob->n_iov,
    };
    bool waits = ctx != NULL && ctx->venus != NULL;
    if (waits) {
        vgd_virgl_venus_begin(v, ctx);
    }
    int rc = virgl_renderer_resource_create_blob(&args);
    if (waits) {
        vgd_virgl_venus_end(v, ctx);
    }
    if (rc == 0) {
        return VGD_OK;
    }
    (void)vgd_idmap_remove(&v->resources, blob->res_id);
    vgd_virgl_resource_free(res);
    return waits && vgd_virgl_venus_is_lost(v, ctx) ? VGD_LOST : VGD_RANGE;
}

/* Can another process map @fd, without danger that it shrinks under the mapping, and is it as long
 * as it is said to be? A context's process, which made it, may belong to the guest by now. */
static bool is_safe_to_map(int fd, uint64_t n_bytes, bool *out_dma_buf)
{
    enum vgd_fd_kind kind = vgd_fd_kind(fd);
    *out_dma_buf = kind == VGD_FD_DMA_BUF;
    if (!*out_dma_buf) {
        int seals = fcntl(fd, F_GET_SEALS);
        if (kind != VGD_FD_MEMORY || seals < 0 || (seals & F_SEAL_WRITE) != 0 ||
            ((seals & F_SEAL_SHRINK) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)) {
            return false;
        }
    }
    off_t end = lseek(fd, 0, SEEK_END);
    return end >= 0 && (uint64_t)end >= n_bytes;
}

/* The file behind a host blob, @n_bytes of it. VGD_UNSUPPORTED: none that another process can map.
 */
static enum vgd_status open_bytes(const struct resource *res, uint64_t n_bytes, int *out_fd,
                                  bool *out_dma_buf)
{
    uint32_t type = 0;
    VGD_AUTO_FD fd = -1;
    if (res->blob_mem == VGD_BLOB_MEM_GUEST ||
        virgl_renderer_resource_export_blob(res->id, &type, &fd) != 0 ||
        (type != VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF && type != VIRGL_RENDERER_BLOB_FD_TYPE_SHM) ||
        !is_safe_to_map(fd, n_bytes, out_dma_buf)) {
        return VGD_UNSUPPORTED;
    }
    *out_fd = vgd_fd_take(&fd);
    return VGD_OK;
}

/* All of it, as far as the guest says. */
static enum vgd_status open_blob(const struct resource *res, int *out_fd, bool *out_dma_buf)
{
    return open_bytes(res, res->blob_bytes, out_fd, out_dma_buf);
}

bool vgd_virgl_blob_has_bytes(const struct resource *res, uint64_t n_bytes)
{
    VGD_AUTO_FD fd = -1;
    bool dma_buf;
    return open_bytes(res, n_bytes, &fd, &dma_buf) == VGD_OK;
}

enum vgd_status vgd_virgl_blob_export(struct vgd_render *r, uint32_t res_id,
                                      struct vgd_blob_file *out)
{
    const struct resource *res = vgd_virgl_resource_find(virgl_of(r), res_id);
    if (res == NULL) {
        return VGD_NO_RESOURCE;
    }
    if (!res->is_blob) {
        return VGD_UNSUPPORTED;
    }
    uint32_t map_info = 0;
    if (res->in_virgl && virgl_renderer_resource_get_map_info(res_id, &map_info) != 0) {
        return VGD_UNSUPPORTED; /* not made to be mapped */
    }
    int fd = -1;
    bool dma_buf;
    enum vgd_status st = open_blob(res, &fd, &dma_buf);
    if (st == VGD_OK) {
        *out = (struct vgd_blob_file){.fd = fd, .map_info = map_info & VGD_MAP_CACHE_MASK};
    }
    return st;
}

void vgd_virgl_blob_finish(struct resource *res)
{
    if (res->view.data != NULL) {
        (void)munmap(res->view.data, res->blob_bytes);
        res->view.data = NULL;
        vgd_fd_closep(&res->view.sync_fd);
    }
}

static enum vgd_status view_blob(struct resource *res)
{
    struct blob_view *view = &res->view;
    if (view->data != NULL || view->failed) {
        return view->failed ? VGD_UNSUPPORTED : VGD_OK;
    }
    VGD_AUTO_FD fd = -1;
    bool dma_buf = false;
    void *data = MAP_FAILED;
    if (open_blob(res, &fd, &dma_buf) == VGD_OK) {
        data = mmap(NULL, res->blob_bytes, PROT_READ, MAP_SHARED, fd, 0);
    }
    view->failed = data == MAP_FAILED;
    if (view->failed) {
        return VGD_UNSUPPORTED;
    }
    view->data = data;
    view->sync_fd = dma_buf ? vgd_fd_take(&fd) : -1;
    return VGD_OK;
}

/* Tell the dma-buf's exporter that the CPU begins or ends to read. */
static void sync_view(const struct blob_view *view, uint64_t when)
{
    if (view->sync_fd >= 0) {
        struct dma_buf_sync sync = {.flags = DMA_BUF_SYNC_READ | when};
        while (ioctl(view->sync_fd, DMA_BUF_IOCTL_SYNC, &sync) != 0 && errno == EINTR) {
        }
    }
}

enum vgd_status vgd_virgl_blob_read_pixels(struct resource *res, const struct vgd_image *image,
                                           struct vgd_rect rect, void *out, size_t stride_bytes)
{
    if (res->blob_mem == VGD_BLOB_MEM_GUEST) {
        return vgd_pixels_read_image(image, res->iov, res->n_iov, rect, out, stride_bytes);
    }
    enum vgd_status st = view_blob(res);
    if (st != VGD_OK) {
        return st;
    }
    const struct iovec whole = {.iov_base = res->view.data, .iov_len = res->blob_bytes};
    sync_view(&res->view, DMA_BUF_SYNC_START);
    st = vgd_pixels_read_image(image, &whole, 1, rect, out, stride_bytes);
    sync_view(&res->view, DMA_BUF_SYNC_END);
    return st;
}

/* virtio-gpu names the bytes in memory order, DRM from the highest to the lowest. */
static uint32_t fourcc_of(uint32_t format)
{
    switch (format) {
    case VGD_FORMAT_B8G8R8A8_UNORM:
        return FOURCC('A', 'R', '2', '4');
    case VGD_FORMAT_B8G8R8X8_UNORM:
        return FOURCC('X', 'R', '2', '4');
    case VGD_FORMAT_A8R8G8B8_UNORM:
        return FOURCC('B', 'A', '2', '4');
    case VGD_FORMAT_X8R8G8B8_UNORM:
        return FOURCC('B', 'X', '2', '4');
    case VGD_FORMAT_R8G8B8A8_UNORM:
        return FOURCC('A', 'B', '2', '4');
    case VGD_FORMAT_X8B8G8R8_UNORM:
        return FOURCC('R', 'X', '2', '4');
    case VGD_FORMAT_A8B8G8R8_UNORM:
        return FOURCC('R', 'A', '2', '4');
    case VGD_FORMAT_R8G8B8X8_UNORM:
        return FOURCC('X', 'B', '2', '4');
    default:
        return 0;
    }
}

enum vgd_status vgd_virgl_blob_export_scanout(struct resource *res, const struct vgd_image *image,
                                              struct vgd_dmabuf *out)
{
    uint32_t fourcc = image != NULL ? fourcc_of(image->format) : 0;
    VGD_AUTO_FD fd = -1;
    bool dma_buf = false;
    if (fourcc == 0 || image->offset_bytes > UINT32_MAX || res->export_failed ||
        open_blob(res, &fd, &dma_buf) != VGD_OK || !dma_buf) {
        res->export_failed = fourcc != 0;
        return VGD_UNSUPPORTED;
    }
    *out = (struct vgd_dmabuf){
        .fd = vgd_fd_take(&fd),
        .w_px = image->w_px,
        .h_px = image->h_px,
        .stride_bytes = image->stride_bytes,
        .offset_bytes = (uint32_t)image->offset_bytes,
        .fourcc = fourcc,
        .modifier = MOD_LINEAR, /* rows of a stride are all that SET_SCANOUT_BLOB can say */
    };
    return VGD_OK;
}
