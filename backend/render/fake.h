/* SPDX-License-Identifier: MIT */
/*
 * The tests' renderer: fills the table of operations without any GPU. It keeps real tables, real
 * 2D pixels and blobs in real memory files, counts calls, fails, delays, reorders and loses things
 * on request, and asserts what render.h promises to a renderer: a call that the device must not
 * make ends the test. Thread: loop.
 */
#ifndef VGD_FAKE_H
#define VGD_FAKE_H

#include "render.h"

enum vgd_fake_op {
    VGD_FAKE_CAPSET_FILL,
    VGD_FAKE_CONTEXT_CREATE,
    VGD_FAKE_CONTEXT_DESTROY,
    VGD_FAKE_CONTEXT_ATTACH,
    VGD_FAKE_CONTEXT_DETACH,
    VGD_FAKE_CREATE_2D,
    VGD_FAKE_CREATE_3D,
    VGD_FAKE_CREATE_BLOB,
    VGD_FAKE_BLOB_EXPORT,
    VGD_FAKE_UNREF,
    VGD_FAKE_ATTACH,
    VGD_FAKE_DETACH,
    VGD_FAKE_TRANSFER_2D,
    VGD_FAKE_TO_HOST_3D,
    VGD_FAKE_FROM_HOST_3D,
    VGD_FAKE_SUBMIT,
    VGD_FAKE_FENCE,
    VGD_FAKE_READ_PIXELS,
    VGD_FAKE_CONTENT_READ,
    VGD_FAKE_EXPORT,
    VGD_FAKE_RESET,
    VGD_FAKE_OPS_COUNT,
};

struct vgd_fake_config {
    struct vgd_render_callbacks callbacks; /* functions may be NULL while no fence is held */
    bool no_3d;
    uint32_t n_capsets;
    struct vgd_capset capsets[VGD_RENDER_CAPSETS_MAX];
    bool capsets_are_zero; /* what a library does whose part for it is not there */
    uint8_t rings_count;   /* fences on rings from here on fail; 0: 64 */
    bool unbound_kills;    /* instead of failing, they end the context at batch_end */
    uint32_t blob_mems;    /* as in vgd_render_info; without 3D only those of guest memory */
};

/** NULL when out of memory. Destroyed through its table. */
struct vgd_render *vgd_fake_create(const struct vgd_fake_config *config);

/** Calls of @op so far, failed ones too. */
uint32_t vgd_fake_calls(const struct vgd_render *r, enum vgd_fake_op op);
void vgd_fake_calls_clear(struct vgd_render *r);

/** The @nth operation from now that can fail (1: the next one) fails with @status; 0: none. */
void vgd_fake_fail_nth(struct vgd_render *r, uint32_t nth, enum vgd_status status);

/** Hold fences back (true), or let new ones signal at once. */
void vgd_fake_hold_fences(struct vgd_render *r, bool hold);
struct vgd_fake_fence {
    uint32_t ctx_id;
    uint8_t ring_idx;
    uint64_t seq;
};
/** Fences held, oldest first: the @nth of them, or false. Those of destroyed contexts too. */
bool vgd_fake_held(const struct vgd_render *r, uint32_t nth, struct vgd_fake_fence *out);
/** Signal the @nth held fence, and with it the older ones of its timeline. */
void vgd_fake_signal(struct vgd_render *r, uint32_t nth);
/** Signal all, the youngest timeline first. */
void vgd_fake_signal_all(struct vgd_render *r);
/** Say that only @changed of any resource looks other than before; NULL: all may (the default). */
void vgd_fake_set_changed(struct vgd_render *r, const struct vgd_rect *changed);
/** The context stops working and its owner is told. */
void vgd_fake_lose_context(struct vgd_render *r, uint32_t ctx_id);

/** Let context @ctx_id have made @size_bytes of memory that @blob_id (not 0) names: a blob can be
 *  made of it, one at a time. @opaque: it cannot be exported. blob_id 0 is memory of any size that
 *  every context has. False: no such context, the id is taken, or out of memory. */
bool vgd_fake_add_object(struct vgd_render *r, uint32_t ctx_id, uint32_t blob_id,
                         uint64_t size_bytes, bool opaque);

uint32_t vgd_fake_resource_count(const struct vgd_render *r);
uint32_t vgd_fake_context_count(const struct vgd_render *r);
bool vgd_fake_has_resource(const struct vgd_render *r, uint32_t res_id);
bool vgd_fake_has_backing(const struct vgd_render *r, uint32_t res_id);
bool vgd_fake_is_attached(const struct vgd_render *r, uint32_t ctx_id, uint32_t res_id);
/** The capset with which the context was created; UINT32_MAX if there is no such context. */
uint32_t vgd_fake_context_capset(const struct vgd_render *r, uint32_t ctx_id);
/** Bytes and first word of the last submit. */
size_t vgd_fake_last_submit(const struct vgd_render *r, uint32_t *out_word);

#endif
