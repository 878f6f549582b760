/* SPDX-License-Identifier: MIT */
/*
 * A virtual GPU for tests of the vtest bridge: it keeps what it is sent until told to answer, and
 * carries transfers of buffers out between the memory attached and a memory of its own. It watches
 * the bridge: ids that are used while they are not taken, memory that is touched after it was given
 * back, commands in contexts that do not exist; all of that ends the test (assert).
 * Thread: one.
 */
#ifndef VGD_VTEST_FAKE_H
#define VGD_VTEST_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "vtest_device.h"

#define VTEST_FAKE_HOST_BYTES 256u /* of each resource, on the device's side */

/** Room for @queue_commands before vgd_vtest_device_has_room says no. */
struct vgd_vtest_device *vtest_fake_create(uint32_t queue_commands);
/** Everything has to have been given back. */
void vtest_fake_destroy(struct vgd_vtest_device *dev);

/** Commands not answered yet. */
uint32_t vtest_fake_pending(const struct vgd_vtest_device *dev);
/** Type of the one at @idx, 0 is the oldest. */
uint32_t vtest_fake_type(const struct vgd_vtest_device *dev, uint32_t idx);
const struct vgd_ctrl_hdr *vtest_fake_header(const struct vgd_vtest_device *dev, uint32_t idx);
/** The bytes in device memory of the one at @idx. */
const uint8_t *vtest_fake_data(const struct vgd_vtest_device *dev, uint32_t idx,
                               uint32_t *out_bytes);
/** Is anybody told that the one at @idx is waited for? */
bool vtest_fake_is_awaited(const struct vgd_vtest_device *dev, uint32_t idx);

/** Carry out the one at @idx, and answer later: so a device treats what has a fence. */
void vtest_fake_carry_out(struct vgd_vtest_device *dev, uint32_t idx);
/** Carry out (unless it was) and answer the one at @idx; @error 0 or a VGD_RESP_ERR_*: then nothing
 * is done. */
void vtest_fake_answer(struct vgd_vtest_device *dev, uint32_t idx, uint32_t error);
/** All, in order, with those that come meanwhile. */
void vtest_fake_answer_all(struct vgd_vtest_device *dev);
/** All get "the device is gone". */
void vtest_fake_lose_all(struct vgd_vtest_device *dev);

/** The device's side of resource @dev_id; NULL: it is not there. */
uint8_t *vtest_fake_host(struct vgd_vtest_device *dev, uint32_t dev_id);
/** Where the memory attached to @dev_id is; NULL: none. */
uint8_t *vtest_fake_backing(struct vgd_vtest_device *dev, uint32_t dev_id);
uint32_t vtest_fake_resources(const struct vgd_vtest_device *dev);
uint32_t vtest_fake_contexts(const struct vgd_vtest_device *dev);
uint64_t vtest_fake_memory_used(const struct vgd_vtest_device *dev);
/** Room for so many commands from now on. */
void vtest_fake_set_queue(struct vgd_vtest_device *dev, uint32_t queue_commands);
void vtest_fake_set_window(struct vgd_vtest_device *dev, bool is_there);

#endif
