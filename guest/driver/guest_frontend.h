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
#include <stddef.h>
#include <stdint.h>

#include "channel.h"
#include "guest_display.h"
#include "guest_queue.h"
#include "guest_ram.h"
#include "guest_shm.h"
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

/** "qemu-11.1", "qemu-10.0", "qemu-generic" or "qemu-11.2"; false for others. */
bool vgd_guest_profile_named(const char *name, enum vgd_guest_profile *out);

/* Does the VMM put what is mapped into the host-visible region in its memory table, too? */
enum vgd_guest_announce {
    VGD_GUEST_ANNOUNCE_DEFAULT = 0, /* the generic device does */
    VGD_GUEST_ANNOUNCE_ALWAYS,
    VGD_GUEST_ANNOUNCE_NEVER,
};

struct vgd_guest_frontend_config {
    enum vgd_guest_profile profile;
    uint32_t reply_timeout_ms; /* 0: 10 s */
    uint64_t drop_features;    /* virtio bits not to ack (EVENT_IDX: as with event_idx=off) */
    uint64_t ack_features;     /* not 0: of the device's own bits these, where they are offered,
                                  whatever the profile would ack */
    uint64_t drop_protocol;    /* protocol bits not to ack */
    bool no_window;            /* a device without a host-visible region (11.2: no hostmem=) */
    enum vgd_guest_announce announce_maps;
};

struct vgd_guest_frontend_counters {
    uint64_t messages, replies, backend_messages;
    uint64_t maps, unmaps, refused; /* on the backend channel; refused: by us, or on purpose */
    uint64_t violations;            /* what QEMU would not survive, or has to refuse */
    uint64_t longest_read_ns;       /* for which a message held the VMM until it was whole */
};

/* How a VMM may treat the next requests on the backend channel. */
enum vgd_guest_answer {
    VGD_GUEST_ANSWER_WELL = 0,
    VGD_GUEST_ANSWER_REFUSE,  /* nothing is done, the answer is an error */
    VGD_GUEST_ANSWER_LATE,    /* done and answered after late_ms; no other request is read before */
    VGD_GUEST_ANSWER_NEVER,   /* the same, but only vgd_guest_frontend_release ends it */
    VGD_GUEST_ANSWER_LOSE,    /* done, but no answer; other requests go on */
    VGD_GUEST_ANSWER_RUBBISH, /* done, and the answer is none */
    VGD_GUEST_ANSWER_CLOSE,   /* done, and the channel is closed */
};

struct vgd_guest_trouble {
    enum vgd_guest_answer answer;
    uint32_t n_maps, n_unmaps; /* so many requests are treated this way */
    uint32_t late_ms;
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
 *  on where they stopped; after vgd_guest_frontend_reset they begin at 0. VGD_LIMIT: RAM and what
 *  is mapped are more regions than a memory table has (D1): QEMU 11.1 has sent SET_FEATURES and
 *  sends nothing more, but reads the backend channel; a later stop and start may go better. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_start(struct vgd_guest_frontend *fe);
/** Pause: the display channel is closed, rings are disabled, their bases read. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_stop(struct vgd_guest_frontend *fe);
/** A guest reset: stop if running, RESET_DEVICE where the backend has it (three times, as QEMU at
 *  a reboot), rings emptied. Start comes next. */
VGD_MUST_CHECK enum vgd_status vgd_guest_frontend_reset(struct vgd_guest_frontend *fe);
/** Another ack_features from the next start on. */
void vgd_guest_frontend_set_ack(struct vgd_guest_frontend *fe, uint64_t ack_features);
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
/** Our end of the backend channel, to poll; -1 without one, or while a request is held. Borrowed.
 */
int vgd_guest_frontend_backend_fd(const struct vgd_guest_frontend *fe);
/** Carry out and answer what the backend asked: maps where there is a region, an error for anything
 *  else. */
void vgd_guest_frontend_service(struct vgd_guest_frontend *fe);
/** When vgd_guest_frontend_service has something to do by itself; -1: not before it is asked. */
int vgd_guest_frontend_service_in_ms(const struct vgd_guest_frontend *fe);
/** Treat the next requests badly. Replaces what was left of the trouble before. */
void vgd_guest_frontend_trouble(struct vgd_guest_frontend *fe,
                                const struct vgd_guest_trouble *trouble);
/** Is a request read and not answered (LATE, NEVER)? */
bool vgd_guest_frontend_is_holding(const struct vgd_guest_frontend *fe);
/** End the trouble: carry out and answer what is held. */
void vgd_guest_frontend_release(struct vgd_guest_frontend *fe);
/** A guest was told that something is mapped at @offset_bytes: if it is not there yet, that is a
 *  violation, and true. */
bool vgd_guest_frontend_mapped_early(struct vgd_guest_frontend *fe, uint64_t offset_bytes);
/** The last violation, as text. */
void vgd_guest_frontend_violation(const struct vgd_guest_frontend *fe, char *out, size_t max_bytes);

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
/** blob_alignment of the same; 0 where the profile reads only 16 bytes. */
uint32_t vgd_guest_frontend_blob_alignment(const struct vgd_guest_frontend *fe);
/** The host-visible region; NULL: there is none. Borrowed. */
struct vgd_guest_shm *vgd_guest_frontend_shm(const struct vgd_guest_frontend *fe);
/** The request sent last, "" before the first: which one to blame when a step fails. */
const char *vgd_guest_frontend_last_request(const struct vgd_guest_frontend *fe);
struct vgd_guest_frontend_counters vgd_guest_frontend_counters(const struct vgd_guest_frontend *fe);

#endif
