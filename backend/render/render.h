/* SPDX-License-Identifier: MIT */
/*
 * What executes a guest's commands: a table of operations that virglrenderer, the pixman renderer
 * and the tests' fake each fill. The device calls it with ids and sizes that it has checked
 * against its own tables; the renderer checks again only what the device cannot know.
 *
 * Thread: every operation is called on the loop thread, and every callback comes there.
 */
#ifndef VGD_RENDER_H
#define VGD_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "status.h"
#include "virtio_gpu.h"

#define VGD_RENDER_CAPSETS_MAX 8u
/* Blobs and their places in the host-visible region are whole pages (config.blob_alignment). */
#define VGD_BLOB_ALIGNMENT_BYTES 4096u

/* One capability set that the renderer really initialised. */
struct vgd_capset {
    uint32_t id; /* VGD_CAPSET_* */
    uint32_t max_version;
    uint32_t size_bytes; /* of the largest version */
};

/* What the host side looks like; fixed for the renderer's life. Strings are owned by the renderer.
 */
struct vgd_render_info {
    const char *name;        /* "virgl", "pixman", "fake" */
    const char *gpu_name;    /* GL_RENDERER or "software 2D"; "" if unknown */
    bool has_3d;             /* contexts and SUBMIT_3D work, by the capsets below */
    bool is_software;        /* no hardware behind it */
    bool exports_dmabuf;     /* export_scanout may succeed */
    uint32_t blob_mems;      /* bit n: resource_create_blob takes VGD_BLOB_MEM_ value n */
    const char *vulkan_name; /* the Vulkan device behind the VENUS capset; "" without one */
    uint32_t n_capsets;      /* index in the table = capset index that the guest sees */
    struct vgd_capset capsets[VGD_RENDER_CAPSETS_MAX];
};

/* A scanout's pixels as a file descriptor, one plane. */
struct vgd_dmabuf {
    int fd; /* owned by whoever holds the struct */
    uint32_t w_px, h_px, stride_bytes, offset_bytes;
    uint32_t fourcc;   /* DRM_FORMAT_* */
    uint64_t modifier; /* DRM_FORMAT_MOD_INVALID when unknown */
    bool y0_top;       /* the resource's Y_0_TOP flag, as the display channel passes it on */
};

/* How the bytes of a blob are a picture (SET_SCANOUT_BLOB): one plane, 4 bytes a pixel. The device
 * has checked that every row lies inside the blob. */
struct vgd_image {
    uint32_t w_px, h_px;
    uint32_t format; /* VGD_FORMAT_* */
    uint32_t stride_bytes;
    uint64_t offset_bytes;
};

/* A range of bytes as a resource (RESOURCE_CREATE_BLOB, virtio-v1.3 5.7.6.8). */
struct vgd_render_blob {
    uint32_t res_id;
    uint32_t ctx_id; /* whose object @blob_id names; 0 with VGD_BLOB_MEM_GUEST */
    uint32_t mem;    /* VGD_BLOB_MEM_*, one of info's blob_mems */
    uint32_t flags;  /* VGD_BLOB_FLAG_* */
    uint64_t blob_id;
    uint64_t size_bytes;     /* a multiple of VGD_BLOB_ALIGNMENT_BYTES */
    const struct iovec *iov; /* guest pages, @size_bytes or more; borrowed as by resource_attach.
                                None with HOST3D */
    uint32_t n_iov;
};

/* A blob's memory as a file that another process can map: seekable, at least as long as the blob.
 */
struct vgd_blob_file {
    int fd; /* owned by whoever holds the struct */
    uint64_t offset_bytes;
    uint32_t map_info; /* VGD_MAP_CACHE_*, as the guest is told */
};

/* The renderer tells its owner. Set at creation, before any operation. */
struct vgd_render_callbacks {
    /** Every fence up to and including @seq on (ctx_id, ring_idx) has signalled. Comes from the
     * loop or from batch_end, never from inside another operation; it may call operations. */
    void (*fence_done)(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq);
    /** A context stopped working (renderer error, process gone). Its submits fail from now on. */
    void (*context_lost)(void *user, uint32_t ctx_id);
    void *user;
};

struct vgd_render;

struct vgd_render_ops {
    /** Fill *out; the pointers in it live as long as @r. */
    void (*info)(const struct vgd_render *r, struct vgd_render_info *out);

    /** Copy capset @id (advertised; version <= its max_version) to @out of @size_bytes, zero-filled
     *  behind the data. VGD_HOST_FAILED. */
    enum vgd_status (*capset_fill)(struct vgd_render *r, uint32_t id, uint32_t version, void *out,
                                   size_t size_bytes);

    /** @name has @name_len bytes (at most 64), any values, no terminator. @capset_id 0: the
     *  renderer's default (virgl). VGD_LIMIT, VGD_NO_MEMORY, VGD_HOST_FAILED, VGD_UNSUPPORTED. */
    enum vgd_status (*context_create)(struct vgd_render *r, uint32_t ctx_id, uint32_t capset_id,
                                      const char *name, size_t name_len);
    void (*context_destroy)(struct vgd_render *r, uint32_t ctx_id);
    enum vgd_status (*context_attach)(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id);
    void (*context_detach)(struct vgd_render *r, uint32_t ctx_id, uint32_t res_id);

    /** New 2D resources read as zeros. What a new 3D resource holds is the host GL's affair, but
     *  never another guest's: a worker serves one. VGD_RANGE, VGD_NO_MEMORY, VGD_UNSUPPORTED,
     *  VGD_HOST_FAILED. */
    enum vgd_status (*resource_create_2d)(struct vgd_render *r, uint32_t res_id, uint32_t format,
                                          uint32_t w_px, uint32_t h_px);
    enum vgd_status (*resource_create_3d)(struct vgd_render *r,
                                          const struct vgd_cmd_resource_create_3d *cmd);
    /** VGD_RANGE: the context has no such object, or not of this size. VGD_UNSUPPORTED,
     *  VGD_NO_MEMORY, VGD_LOST (its process died), VGD_HOST_FAILED. */
    enum vgd_status (*resource_create_blob)(struct vgd_render *r,
                                            const struct vgd_render_blob *blob);
    /** For the host-visible region. *out->fd becomes the caller's. VGD_UNSUPPORTED: memory that no
     *  other process can map. */
    enum vgd_status (*blob_export)(struct vgd_render *r, uint32_t res_id,
                                   struct vgd_blob_file *out);
    void (*resource_unref)(struct vgd_render *r, uint32_t res_id);

    /** @iov is borrowed until detach, replacement by another attach, or unref. */
    enum vgd_status (*resource_attach)(struct vgd_render *r, uint32_t res_id,
                                       const struct iovec *iov, uint32_t n_iov);
    void (*resource_detach)(struct vgd_render *r, uint32_t res_id);

    /** Guest backing -> resource. @rect is inside; the backing holds every byte of it that
     *  @offset_bytes and the resource's stride (w_px * 4) name: checked by the device. */
    enum vgd_status (*transfer_to_host_2d)(struct vgd_render *r, uint32_t res_id,
                                           struct vgd_rect rect, uint64_t offset_bytes);
    /** @ctx_id may be 0. The device has checked that both exist and that the resource has backing.
     */
    enum vgd_status (*transfer_to_host_3d)(struct vgd_render *r, uint32_t ctx_id,
                                           const struct vgd_cmd_transfer_host_3d *cmd);
    enum vgd_status (*transfer_from_host_3d)(struct vgd_render *r, uint32_t ctx_id,
                                             const struct vgd_cmd_transfer_host_3d *cmd);

    /** @commands is a private copy, 8-byte aligned, @size_bytes a multiple of 4; the renderer may
     *  write to it. */
    enum vgd_status (*submit)(struct vgd_render *r, uint32_t ctx_id, void *commands,
                              size_t size_bytes);

    /**
     * Fence everything asked for so far on (ctx_id, ring_idx); (0, 0) is the device-wide timeline.
     * @seq grows by the device's own count on each call (never the guest's id).
     * *out_done true: already signalled, no callback comes. Else fence_done comes later.
     */
    enum vgd_status (*fence)(struct vgd_render *r, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq,
                             bool *out_done);

    /** Read @rect (inside the resource, or inside @image) as 4 bytes a pixel, memory order
     *  B G R A/X, top row first, to @out with @stride_bytes a row. @image: how a blob is a picture;
     *  NULL with other resources. VGD_UNSUPPORTED: a blob that the CPU cannot read. */
    enum vgd_status (*read_pixels)(struct vgd_render *r, uint32_t res_id,
                                   const struct vgd_image *image, struct vgd_rect rect, void *out,
                                   size_t stride_bytes);

    /** The part of @rect (inside the resource) that may look other than when this was last asked of
     *  it; empty if none. May be NULL: all of it may. */
    struct vgd_rect (*take_changed)(struct vgd_render *r, uint32_t res_id, struct vgd_rect rect);

    /** Texels of @box (inside @level of the resource, not empty) from the renderer's copy, laid out
     *  as a transfer to guest memory would, in the resource's own format: rows (of blocks)
     *  @stride_bytes apart, layers @layer_stride_bytes. Nothing else changes, and no guest memory
     * is read or written. May be NULL. VGD_UNSUPPORTED: what cannot be read (multisampled), and
     * blobs. VGD_RANGE: @out_bytes is too short. */
    enum vgd_status (*content_read)(struct vgd_render *r, uint32_t res_id, uint32_t level,
                                    const struct vgd_box *box, void *out, size_t out_bytes,
                                    uint32_t stride_bytes, uint32_t layer_stride_bytes);

    /** VGD_UNSUPPORTED where the host cannot: the caller reads back instead. *out->fd becomes the
     *  caller's. */
    enum vgd_status (*export_scanout)(struct vgd_render *r, uint32_t res_id,
                                      const struct vgd_image *image, struct vgd_dmabuf *out);

    /** Called once before the loop sleeps after a batch of commands: flush what is queued, retire
     *  fences that are done. May be NULL. */
    void (*batch_end)(struct vgd_render *r);

    /** Drop every context and resource; pending fences are forgotten without a callback. */
    void (*reset)(struct vgd_render *r);
    void (*destroy)(struct vgd_render *r);
};

/* First member of every renderer. */
struct vgd_render {
    const struct vgd_render_ops *ops;
};

#endif
