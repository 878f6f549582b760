/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of a session share: session.c (its life, the worker, waiting) and
 * session_messages.c (what the front-end's messages mean).
 * Thread: loop.
 */
#ifndef VGD_SESSION_PRIV_H
#define VGD_SESSION_PRIV_H

#include "channel.h"
#include "display_writer.h"
#include "guest_memory.h"
#include "session.h"
#include "shmem.h"

/* Virtio feature bits that belong to the rings and the transport (virtio-v1.3 6). */
#define VGD_F_INDIRECT_DESC 28
#define VGD_F_EVENT_IDX 29
#define VGD_F_VERSION_1 32
#define VGD_NS_PER_MS 1000000ull
#define VGD_DEVICE_FEATURES_MASK 0xffffffull /* bits 0..23 are the device type's */

struct vgd_vring {
    uint32_t size;
    struct vgd_vu_vring_addr addr;
    bool has_addr;
    uint16_t base;
    uint16_t returned_base; /* what the last GET_VRING_BASE answered */
    int kick_fd, call_fd;
    bool kicked; /* has a kick descriptor: started, in the specification's words */
    bool enabled;
    bool running; /* the worker was told to */
    bool recover; /* a dead worker left its record in the vault */
};

struct vgd_session_region {
    struct vgd_vu_mem_region region;
    int fd;
};

/* What a waiting session waits for. */
enum vgd_session_wait {
    WAIT_NONE,
    WAIT_READY,   /* the first worker's report, for GET_FEATURES */
    WAIT_STOP,    /* QUEUE_STOP of wait_queue */
    WAIT_CONFIRM, /* memory or reset */
};

struct vgd_session {
    struct vgd_session_config config;
    struct vgd_channel *channel;
    struct vgd_watch *watch;
    struct vgd_shmem *shmem;       /* what the front-end has mapped for us */
    struct vgd_timer *start_stall; /* a start that seems to have failed in the front-end */
    struct vgd_display_writer *display;
    uint64_t features_offered; /* of the device, from the first READY on */
    uint32_t num_capsets;
    bool has_report;
    bool has_vulkan;     /* by the same report */
    bool told_no_vulkan; /* why the guest has none all the same */
    uint64_t features_acked, protocol_features_acked;
    bool features_set;
    struct vgd_session_region regions[VGD_MEM_REGIONS_MAX];
    uint32_t n_regions;
    struct vgd_vring vrings[VGD_QUEUES_COUNT];
    bool had_ring;      /* some ring has run: a worker may be the guest's by now */
    bool forget_vault;  /* the guest was reset and no worker has said that it cleared the vault */
    uint32_t reset_seq; /* of a RESET that is not confirmed yet; 0: none */

    enum vgd_session_wait wait;
    uint32_t wait_seq, wait_queue;
    struct vgd_vu_hdr wait_hdr; /* of the message to be answered */
    struct vgd_timer *deadline;
    uint32_t next_seq;
    uint64_t messages_count;
    bool ended;
};

/* ---- session.c ----------------------------------------------------------------------------------
 */

/** The connection is over. Once: later calls do nothing. */
void vgd_session_end(struct vgd_session *s, enum vgd_session_end how);
/** The front-end's fault: one line, and the end of the connection. */
void vgd_session_refuse(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const char *why);

/** Send a reply to @hdr's message. A front-end that does not read is refused. */
void vgd_session_answer(struct vgd_session *s, const struct vgd_vu_hdr *hdr, const void *payload,
                        uint32_t n_bytes);
void vgd_session_answer_u64(struct vgd_session *s, const struct vgd_vu_hdr *hdr, uint64_t value);
void vgd_session_answer_vring_base(struct vgd_session *s, const struct vgd_vu_hdr *hdr,
                                   uint32_t idx);

/** The reply of a message that has none of its own, where one is wanted. */
void vgd_session_acknowledge(struct vgd_session *s, const struct vgd_vu_hdr *hdr);

/** False: there is no worker that could take it. */
bool vgd_session_to_worker(struct vgd_session *s, enum vgd_link_type type, const void *payload,
                           size_t n_bytes, const int *fds, uint32_t n_fds);
uint32_t vgd_session_new_seq(struct vgd_session *s);
/** Read no further message until @what; its reply goes to @hdr. */
void vgd_session_wait_for(struct vgd_session *s, enum vgd_session_wait what,
                          const struct vgd_vu_hdr *hdr, uint32_t seq);
/** Start a ring in the worker, if there is one and all is known. */
void vgd_session_start_if_due(struct vgd_session *s, uint32_t idx);
/** If all rings run, as far as the front-end knows, the front-end may be asked for maps. */
void vgd_session_release_if_started(struct vgd_session *s);
/** How many maps hinder the front-end from starting the device. */
uint32_t vgd_session_excess_maps(const struct vgd_session *s);
/** Stop a ring in the worker; true: the answer to @hdr follows its confirmation. */
bool vgd_session_stop(struct vgd_session *s, uint32_t idx, const struct vgd_vu_hdr *hdr);
/** The guest starts from nothing; true: as for stop. */
bool vgd_session_reset_device(struct vgd_session *s, const struct vgd_vu_hdr *hdr);

/* ---- session_messages.c -------------------------------------------------------------------------
 */

/** Act on one message of the front-end, and answer it unless the answer has to wait. */
void vgd_session_dispatch(struct vgd_session *s, struct vgd_vu_message *msg);
void vgd_session_regions_clear(struct vgd_session *s);

#endif
