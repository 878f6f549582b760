/* SPDX-License-Identifier: MIT */
/*
 * The virtual GPU that the bridge plays the guest of: commands in flight in any number, memory that
 * the device can reach, numbers for resources and contexts, and the host-visible region. There are
 * two behind this header: vtest_device.c, on a vhost-user-gpu backend, and the one of the tests.
 * Thread: loop.
 */
#ifndef VGD_VTEST_DEVICE_H
#define VGD_VTEST_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "virtio_gpu.h"

#define VGD_VTEST_BODY_MAX 256u /* of a command, without the bytes in device memory */

struct vgd_vtest_device;

struct vgd_vtest_answer {
    uint32_t type;       /* VGD_RESP_*; 0: the device is gone */
    const uint8_t *body; /* behind the header; only during the call */
    uint32_t body_bytes;
};
typedef void (*vgd_vtest_done_fn)(void *user, const struct vgd_vtest_answer *answer);

struct vgd_vtest_send {
    struct vgd_ctrl_hdr hdr; /* with FLAG_FENCE the device chooses fence_id */
    const void *body;        /* copied */
    uint32_t body_bytes;     /* at most VGD_VTEST_BODY_MAX */
    uint64_t data_gpa;       /* more bytes, in device memory; the caller's until it is done */
    uint32_t data_bytes;
    uint32_t resp_bytes; /* room for the response's body */
    vgd_vtest_done_fn done;
    void *user;
};

/** Send a command; it waits here where the queue is full. @send->done is called once, from the
 *  loop, never from within this call. The device acts in the order of sending. Returns the
 *  command's number; they grow. */
uint64_t vgd_vtest_device_send(struct vgd_vtest_device *dev, const struct vgd_vtest_send *send);
/** Is there room to take another message of a client? If not, on_room of the config says when. */
bool vgd_vtest_device_has_room(const struct vgd_vtest_device *dev);
/** Somebody waits for the answer to command @number (which vgd_vtest_device_send returned; an
 *  answered one is fine), @is_stalled: and does nothing else until then. What nobody waits for is
 *  picked up when there is something else to do. */
void vgd_vtest_device_await(struct vgd_vtest_device *dev, uint64_t number, bool is_stalled);
/** The same for every command of context @ctx_id. */
void vgd_vtest_device_await_all(struct vgd_vtest_device *dev, uint32_t ctx_id);

/** All the device memory that there is, free or not. */
uint64_t vgd_vtest_device_memory_bytes(const struct vgd_vtest_device *dev);
/** Device memory, in a row, zeroed. NULL: there is none left. */
uint8_t *vgd_vtest_device_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes, uint64_t *out_gpa);
/** The same with what was in it before: for bytes that are all going to be written. */
uint8_t *vgd_vtest_device_alloc_raw(struct vgd_vtest_device *dev, uint64_t n_bytes,
                                    uint64_t *out_gpa);
void vgd_vtest_device_free(struct vgd_vtest_device *dev, uint64_t gpa, uint64_t n_bytes);

/** Numbers, from 1 on, the lowest free one; 0: none left. */
uint32_t vgd_vtest_device_take_resource_id(struct vgd_vtest_device *dev);
void vgd_vtest_device_give_resource_id(struct vgd_vtest_device *dev, uint32_t id);
uint32_t vgd_vtest_device_take_context_id(struct vgd_vtest_device *dev);
void vgd_vtest_device_give_context_id(struct vgd_vtest_device *dev, uint32_t id);

struct vgd_vtest_capset {
    uint32_t id, max_version;
    uint32_t n_bytes;
    const uint8_t *bytes;
};
/** NULL: the device does not have it. Borrowed, as long as the device. */
const struct vgd_vtest_capset *vgd_vtest_device_capset(const struct vgd_vtest_device *dev,
                                                       uint32_t id);
/** Was CONTEXT_INIT negotiated: contexts of a kind, fences on their rings? */
bool vgd_vtest_device_has_context_init(const struct vgd_vtest_device *dev);
/** A free range of the host-visible region; UINT64_MAX: none, or there is no region. */
uint64_t vgd_vtest_device_window_alloc(struct vgd_vtest_device *dev, uint64_t n_bytes);
void vgd_vtest_device_window_free(struct vgd_vtest_device *dev, uint64_t offset, uint64_t n_bytes);
/** A new descriptor of the file mapped at @offset, -1: none, or it does not begin at the file's
 *  start (a client could not map it). */
int vgd_vtest_device_window_file(struct vgd_vtest_device *dev, uint64_t offset);

#endif
