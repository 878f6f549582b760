/* SPDX-License-Identifier: MIT */
/* What the files of the fake renderer share. */
#ifndef VGD_FAKE_PRIV_H
#define VGD_FAKE_PRIV_H

#include <assert.h>

#include "fake.h"
#include "idmap.h"

#define BYTES_PER_PIXEL 4u
#define TARGET_BUFFER 0u
#define RINGS_MAX 64u

struct fake_resource {
    bool is_2d;
    uint32_t format; /* 2D only; 3D pixels are taken as B G R A */
    uint32_t texel_bytes;
    uint32_t w_px, h_px;
    uint8_t *pixels; /* owned; level 0, layer 0 */
    const struct iovec *iov;
    uint32_t n_iov;
    bool is_blob;                /* then no pixels, but: */
    struct vgd_render_blob blob; /* as asked for; its iov is above */
    bool opaque;
    int fd; /* owned; host memory, or -1 */
};

/* Memory that a context has made, and of which a blob can be made, one at a time. */
struct fake_object {
    uint64_t size_bytes;
    bool opaque, taken;
};

struct fake_context {
    uint32_t capset_id;
    bool lost;
    bool dies;                 /* at the end of the batch */
    struct vgd_idmap attached; /* resource id -> struct fake_resource, borrowed */
    struct vgd_idmap objects;  /* blob id -> struct fake_object, owned */
};

struct held_fence {
    struct held_fence *next;
    struct vgd_fake_fence fence;
};

struct fake {
    struct vgd_render base;
    struct vgd_fake_config config;
    struct vgd_idmap resources; /* struct fake_resource, owned */
    struct vgd_idmap contexts;  /* struct fake_context, owned */
    struct held_fence *held;    /* owned, oldest first */
    uint64_t last_seq;
    bool hold;
    bool some_changed;
    struct vgd_rect changed; /* when some_changed */
    uint32_t calls[VGD_FAKE_OPS_COUNT];
    uint32_t fail_in;
    enum vgd_status fail_status;
    size_t last_submit_bytes;
    uint32_t last_submit_word;
};

static inline struct fake *fake_of(const struct vgd_render *r)
{
    return (struct fake *)(uintptr_t)r;
}

/* fake.c */
/** Count a call that can fail; is it its turn? */
enum vgd_status vgd_fake_try(struct fake *f, enum vgd_fake_op op);
/** One that the device has created. */
struct fake_resource *vgd_fake_resource(const struct fake *f, uint32_t res_id);
/** @made into the table, with what it owns; on failure that is gone. */
enum vgd_status vgd_fake_resource_add(struct fake *f, uint32_t res_id, struct fake_resource made);
void vgd_fake_resource_free(struct fake_resource *res);

/* fake_blob.c */
enum vgd_status vgd_fake_create_blob(struct vgd_render *r, const struct vgd_render_blob *blob);
enum vgd_status vgd_fake_blob_export(struct vgd_render *r, uint32_t res_id,
                                     struct vgd_blob_file *out);
enum vgd_status vgd_fake_blob_transfer(struct fake_resource *res,
                                       const struct vgd_cmd_transfer_host_3d *cmd, bool to_host);
enum vgd_status vgd_fake_read_pixels(struct vgd_render *r, uint32_t res_id,
                                     const struct vgd_image *image, struct vgd_rect rect, void *out,
                                     size_t stride_bytes);
/** The blob's object, if it has one, may be taken again. */
void vgd_fake_blob_forget(struct fake *f, const struct fake_resource *res);

#endif
