/* SPDX-License-Identifier: MIT */
/*
 * Serves vtest clients on a virtual GPU. A client is a connection:
 *
 *   connected --CREATE_RENDERER--> named --first use--> has a context --end or mistake--> gone
 *
 * Each has one context of its own on the device, and its own resources and syncs. What it did wrong
 * costs it the connection and nobody else anything; what it leaves is freed when it goes. A client
 * that is gone stays in memory until the last of its commands is answered.
 * Thread: loop.
 */
#ifndef VGD_VTEST_BRIDGE_H
#define VGD_VTEST_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "vtest_device.h"

/* What one client may ask for; beyond it is dropped. */
#define VGD_VTEST_CLIENTS_MAX 256u
#define VGD_VTEST_RESOURCES_MAX 16384u
#define VGD_VTEST_RESOURCES_ALL 60000u /* of all clients together */
#define VGD_VTEST_FENCES_MAX                                                                       \
    (1u << 18) /* resources that are only fences; Mesa keeps them for 1 s */
#define VGD_VTEST_MEMORY_MAX (UINT64_C(4) << 30) /* shared memory and blobs in guest memory */
#define VGD_VTEST_SUBMIT_MAX (16u << 20)         /* one SUBMIT_CMD, SUBMIT_CMD2, TRANSFER_PUT */
#define VGD_VTEST_GET_MAX (64u << 20)            /* one TRANSFER_GET */
#define VGD_VTEST_BLOB_MAX (UINT64_C(64) << 30)
#define VGD_VTEST_EXPORTS_MAX 1024u /* shareable blobs: each is a descriptor here */
#define VGD_VTEST_BATCHES_MAX 64u   /* each is a command: as many as have room in the queue */
#define VGD_VTEST_SYNCS_MAX 65536u
#define VGD_VTEST_WAITS_MAX 1024u
#define VGD_VTEST_WAIT_ENTRIES_MAX 4096u /* of all its waits */
#define VGD_VTEST_SIGNALS_MAX 4096u      /* of one SUBMIT_CMD2 */
#define VGD_VTEST_QUERIES_MAX 65536u
#define VGD_VTEST_ASKED_MAX 4096u                /* results of queries outstanding */
#define VGD_VTEST_COPY_MAX (UINT64_C(512) << 20) /* what one request moves to and from memory */

/* Of what all share (device memory, numbers of resources) a client may have so many times what is
 * left: whoever comes late finds something. */
#define VGD_VTEST_SHARE 2u

/* A client has so long to say its name: it has a place that another one may want. */
#define VGD_VTEST_NAME_MS 5000u

/* What one client may have under way; beyond it, it waits, and others have their turn. */
#define VGD_VTEST_TURN_BYTES (8u << 20)    /* of work at a time; copied, mostly */
#define VGD_VTEST_COMING_BYTES (64u << 20) /* to be copied from the device to its memory */
#define VGD_VTEST_IN_FLIGHT 128u           /* commands; some may never be answered */

struct vgd_vtest_bridge;

/** @dev and @loop are borrowed. NULL when out of memory. */
struct vgd_vtest_bridge *vgd_vtest_bridge_create(struct vgd_loop *loop,
                                                 struct vgd_vtest_device *dev);
/** Drops everybody. The device has to have answered or given up everything. NULL is fine. */
void vgd_vtest_bridge_destroy(struct vgd_vtest_bridge *bridge);

/** A new client on *@fd, a connected stream socket, which is taken. */
void vgd_vtest_bridge_add(struct vgd_vtest_bridge *bridge, int *fd);
/** Connected clients. */
uint32_t vgd_vtest_bridge_client_count(const struct vgd_vtest_bridge *bridge);
/** Those, and the ones that are gone with commands in flight. */
uint32_t vgd_vtest_bridge_object_count(const struct vgd_vtest_bridge *bridge);
/** End every connection: the device is gone. */
void vgd_vtest_bridge_drop_all(struct vgd_vtest_bridge *bridge, const char *why);
/** The device has room again. */
void vgd_vtest_bridge_on_room(struct vgd_vtest_bridge *bridge);

#endif
