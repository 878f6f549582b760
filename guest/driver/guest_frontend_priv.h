/* SPDX-License-Identifier: MIT */
/* Between the two halves of the front-end: what it says (guest_frontend.c), and what it is asked on
 * the backend channel, with the memory that both talk about (guest_backend.c). */
#ifndef VGD_GUEST_FRONTEND_PRIV_H
#define VGD_GUEST_FRONTEND_PRIV_H

#include "guest_frontend.h"
#include "guest_shm.h"

#define BIT(n) (UINT64_C(1) << (n))

struct ring {
    struct vgd_guest_queue *queue;
    int kick_fd, call_fd, masked_fd, err_fd;
    uint16_t base;
    uint64_t calls;
};

struct vgd_guest_frontend {
    struct vgd_channel *channel;
    struct vgd_channel *backend; /* our end of the backend channel; NULL: none */
    struct vgd_guest_frontend_config config;
    struct vgd_guest_ram *ram;
    struct vgd_guest_display *display;
    struct ring rings[VGD_GUEST_QUEUES_COUNT];
    struct vgd_guest_shm *shm; /* the host-visible region; NULL: none */
    uint64_t features, acked_features;
    uint64_t protocol, acked_protocol;
    uint64_t max_mem_slots;
    uint32_t num_capsets, blob_alignment_bytes;
    bool slots_sent; /* with CONFIGURE_MEM_SLOTS: regions are added once */
    bool running;
    bool half_started; /* the last start failed at the memory table: requests are safe again */
    bool was_reset;    /* before the first start QEMU resets, too */
    struct vgd_guest_frontend_counters counters;
    char violation[160];   /* the last */
    uint32_t last_request; /* sent last: the one to blame when a step fails */

    struct vgd_guest_trouble trouble; /* what is left of it */
    struct vgd_vu_message held;       /* a request that is answered late */
    bool is_held;
    enum vgd_guest_answer held_answer;
    uint64_t held_until_ns; /* UINT64_MAX: until released */
    uint64_t commit_at_ns;  /* of the last map; 0: it is done */
};

/** Send and wait until the socket has taken all. */
enum vgd_status frontend_send_all(struct vgd_guest_frontend *fe, struct vgd_channel *ch,
                                  uint32_t request, uint32_t flags, const void *payload,
                                  uint32_t n_bytes, const int *fds, uint32_t n_fds);
/** With REPLY_ACK and @wanted: send and expect 0. Else just send. */
VGD_MUST_CHECK enum vgd_status frontend_say(struct vgd_guest_frontend *fe, uint32_t request,
                                            bool wanted, const void *payload, uint32_t n_bytes,
                                            const int *fds, uint32_t n_fds);

/** GET_SHMEM_CONFIG, and the address space for the answer. */
VGD_MUST_CHECK enum vgd_status frontend_ask_shm(struct vgd_guest_frontend *fe);
/** All of guest RAM, and what is mapped, as QEMU 11.1 sends it at a start. VGD_LIMIT: more regions
 *  than a table has (D1: the device stays dead). */
VGD_MUST_CHECK enum vgd_status frontend_send_memory(struct vgd_guest_frontend *fe);
/** The handler of the last map is done: it is in effect. */
void frontend_commit(struct vgd_guest_frontend *fe);
/** A device reset: nothing is mapped any more. */
void frontend_shm_reset(struct vgd_guest_frontend *fe);

#endif
