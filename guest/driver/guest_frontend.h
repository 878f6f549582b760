/* SPDX-License-Identifier: MIT */
/*
 * The front-end half of vhost-user, message by message as QEMU speaks it:
 *
 *   connected --realize--> realized --start--> running --stop--> realized
 *
 * While it waits for a reply nothing else is read, not the display and not the backend channel,
 * just as QEMU does: a backend that waits for the VMM at such a moment is caught.
 * Thread: one at a time.  Spec: vhost-user; the order is measured on QEMU 11.1.
 */
#ifndef VGD_GUEST_FRONTEND_H
#define VGD_GUEST_FRONTEND_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "guest_display.h"
#include "guest_queue.h"
#include "guest_ram.h"
#include "status.h"
#include "vhost_user.h"

#define VGD_GUEST_QUEUES_COUNT 2u

/* Virtio feature bits of the ring and the transport. */
#define VGD_GUEST_F_INDIRECT_DESC 28u
#define VGD_GUEST_F_EVENT_IDX 29u
#define VGD_GUEST_F_VERSION_1 32u
#define VGD_GUEST_F_RING_RESET 40u

enum vgd_guest_profile {
    VGD_GUEST_QEMU_11_1 = 0, /* config reads of 20 bytes, acks SHMEM, asks for replies to CALL.. */
    VGD_GUEST_QEMU_10_0,     /* config reads of 16 bytes, no reply to KICK, CALL and ERR */
    VGD_GUEST_QEMU_GENERIC,  /* 11.1's generic device: acks what is offered, no display, no reset */
    VGD_GUEST_QEMU_11_2,     /* as 11.1, and the GPU device has BLOB, CONTEXT_INIT and hostmem */
};

struct vgd_guest_frontend_config {
    enum vgd_guest_profile profile;
    uint32_t reply_timeout_ms; /* 0: 10 s */
    uint64_t drop_features;    /* virtio bits not to ack (EVENT_IDX: as with event_idx=off) */
    uint64_t drop_protocol;    /* protocol bits not to ack */
};

struct vgd_guest_frontend_counters {
    uint64_t messages, replies, backend_messages;
};

struct vgd_guest_frontend;

/**
 * Takes *@fd. @ram and @queues are borrowed; @display too.
 * NULL when out of memory.
 */
struct vgd_guest_frontend *
vgd_guest_frontend_create(int *fd, const struct vgd_guest_frontend_config *config,
                          struct vgd_guest_ram *ram, struct vgd_guest_display *display,
                          struct vgd_guest_queue *const queues[VGD_GUEST_QUEUES_COUNT]);
void vgd_guest_frontend_destroy(struct vgd_guest_frontend *fe);

/*
 * Each: VGD_OK; VGD_CLOSED: the backend closed; VGD_AGAIN: no reply in time; VGD_RANGE: a reply
 * that makes no sense, or one that says the backend failed.
 */

/** What QEMU sends when the device is made. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_realize(struct vgd_guest_frontend *fe);
/** DRIVER_OK: config reads, a fresh display channel, features, memory, rings, enable. The rings go
 *  on where they stopped; after vgd_guest_frontend_reset they begin at 0. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_start(struct vgd_guest_frontend *fe);
/** Pause: the display channel is closed, rings are disabled, their bases read. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_stop(struct vgd_guest_frontend *fe);
/** A guest reset: stop if running, RESET_DEVICE where the backend has it (three times, as QEMU at
 *  a reboot), rings emptied. Start comes next. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_reset(struct vgd_guest_frontend *fe);
/** A fresh display channel while running (GPU_SET_SOCKET once more). */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_new_display(struct vgd_guest_frontend *fe);

/** GET_CONFIG. @out_bytes is untouched on failure; the reply has to have exactly @n_bytes. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_config_read(struct vgd_guest_frontend *fe,
                                                              uint32_t offset, uint32_t n_bytes,
                                                              uint8_t *out_bytes);

/** One request and its reply, for tests: *reply is owned by the caller. @need_reply adds the flag.
 */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_ask(struct vgd_guest_frontend *fe,
                                                      uint32_t request, bool need_reply,
                                                      const void *payload, uint32_t n_bytes,
                                                      const int *fds, uint32_t n_fds,
                                                      struct vgd_vu_message *reply);
/** One request without a reply. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_tell(struct vgd_guest_frontend *fe,
                                                       uint32_t request, const void *payload,
                                                       uint32_t n_bytes, const int *fds,
                                                       uint32_t n_fds);

/** Write the kick eventfd of queue @idx. */
void vgd_guest_frontend_kick(struct vgd_guest_frontend *fe, uint32_t idx);
/** Call eventfd of queue @idx: readable when the device called. Borrowed. */
int vgd_guest_frontend_call_fd(const struct vgd_guest_frontend *fe, uint32_t idx);
/** Times that the device signalled queue @idx. Reads the eventfds. */
uint64_t vgd_guest_frontend_calls(struct vgd_guest_frontend *fe, uint32_t idx);

/** The socket itself: poll it for a hang-up, or write rubbish to it. Borrowed. */
int vgd_guest_frontend_fd(const struct vgd_guest_frontend *fe);
/** Has the backend closed its end? */
bool vgd_guest_frontend_is_closed(struct vgd_guest_frontend *fe);
/** Our end of the backend channel, to poll; -1 without one. Borrowed. */
int vgd_guest_frontend_backend_fd(const struct vgd_guest_frontend *fe);
/** Answer what the backend asked: every request with an error, as QEMU's GPU device does. */
void vgd_guest_frontend_service(struct vgd_guest_frontend *fe);

/** Offered by the backend, and acked by us. */
uint64_t vgd_guest_frontend_features(const struct vgd_guest_frontend *fe);
uint64_t vgd_guest_frontend_acked_features(const struct vgd_guest_frontend *fe);
uint64_t vgd_guest_frontend_protocol_features(const struct vgd_guest_frontend *fe);
uint64_t vgd_guest_frontend_acked_protocol(const struct vgd_guest_frontend *fe);
bool vgd_guest_frontend_running(const struct vgd_guest_frontend *fe);
/** The next available index that the backend gave for queue @idx at the last stop. */
uint16_t vgd_guest_frontend_base(const struct vgd_guest_frontend *fe, uint32_t idx);
/** num_capsets of the last config read at start. */
uint32_t vgd_guest_frontend_num_capsets(const struct vgd_guest_frontend *fe);
/** The request sent last, "" before the first: which one to blame when a step fails. */
const char *vgd_guest_frontend_last_request(const struct vgd_guest_frontend *fe);
struct vgd_guest_frontend_counters vgd_guest_frontend_counters(const struct vgd_guest_frontend *fe);

#endif
