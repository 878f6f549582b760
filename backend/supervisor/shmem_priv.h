/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the host-visible region share: shmem_table.c (what is where), shmem_ask.c (one
 * request at a time to the VMM) and shmem.c (the worker's requests, in order).
 * Thread: loop.
 */
#ifndef VGD_SHMEM_PRIV_H
#define VGD_SHMEM_PRIV_H

#include <sys/types.h>

#include "channel.h"
#include "log.h"
#include "shmem.h"

enum vgd_shmem_state {
    VGD_SHMEM_LIVE,
    VGD_SHMEM_DOOMED,
    VGD_SHMEM_PARKED,
};

struct vgd_shmem_entry {
    uint64_t offset_bytes, len_bytes, file_offset_bytes;
    dev_t dev; /* of the file: how a region that the VMM announces is recognised */
    ino_t ino;
    int fd;              /* ours; -1 once doomed */
    uint32_t generation; /* of the worker that asked for it */
    enum vgd_shmem_state state;
    bool to_park; /* live, to be unmapped now and mapped again later */
};

/* A worker's request that waits. */
struct vgd_shmem_op {
    struct vgd_shmem_op *next;
    bool unmap;
    uint64_t token, deadline_ns;
    struct vgd_shmem_entry range; /* owns the fd of a map */
};

enum vgd_shmem_phase {
    VGD_SHMEM_NOTHING,
    VGD_SHMEM_BEGUN, /* the VMM has not read the first byte */
    VGD_SHMEM_SENT,  /* its answer is due */
};

struct vgd_shmem {
    struct vgd_shmem_config config;
    struct vgd_channel *channel; /* NULL: none, or broken */
    struct vgd_watch *watch;
    struct vgd_timer *timer;
    bool usable, held, announces;
    bool parking; /* held, and yet the VMM takes requests */
    uint32_t generation;

    struct vgd_shmem_entry *entries; /* in no order; room for what is asked, too */
    uint32_t n_entries, n_live, n_doomed, n_parked, n_to_park;
    uint64_t live_bytes;
    struct vgd_shmem_op *first, **last;
    uint32_t n_ops, n_queued_maps;

    /* The request that the VMM has, or is being offered. */
    struct {
        enum vgd_shmem_phase phase;
        bool unmap;
        bool wanted;    /* false: not to be carried out, or to be undone */
        bool has_token; /* a worker waits for it */
        bool answered;  /* a map, in the table if it is ok; the barrier's answer is due */
        bool ok;        /* with answered: what the VMM said */
        uint64_t token, deadline_ns;
        uint64_t look_ns;             /* begun: until we look again by ourselves */
        struct vgd_shmem_entry range; /* a map's owns its fd; an unmap finds its entry by it */
    } asked;

    uint64_t maps_total, refused_total, withdrawn_total;
    struct vgd_log_limit limit;
};

/* ---- shmem_table.c ------------------------------------------------------------------------------
 */

/** Takes @range's fd. There is room: vgd_shmem_fits was asked. */
void vgd_shmem_add(struct vgd_shmem *sh, const struct vgd_shmem_entry *range,
                   enum vgd_shmem_state state);
/** Clears to_park, too. */
void vgd_shmem_set_state(struct vgd_shmem *sh, struct vgd_shmem_entry *e,
                         enum vgd_shmem_state state);
/** The last entry takes its place. */
void vgd_shmem_drop(struct vgd_shmem *sh, struct vgd_shmem_entry *e);
bool vgd_shmem_equal(const struct vgd_shmem_entry *a, const struct vgd_shmem_entry *b);
/** Has the VMM been told to unmap @e, for good? Then it is nobody's any more. */
bool vgd_shmem_going(const struct vgd_shmem *sh, const struct vgd_shmem_entry *e);
/** One in that state, or NULL. */
struct vgd_shmem_entry *vgd_shmem_find_state(struct vgd_shmem *sh, enum vgd_shmem_state state);
/** The entry of exactly this range that the VMM has mapped, or NULL. */
struct vgd_shmem_entry *vgd_shmem_find_mapped(struct vgd_shmem *sh,
                                              const struct vgd_shmem_entry *range);

/** One rate-limited line. */
void vgd_shmem_complain(struct vgd_shmem *sh, const struct vgd_shmem_op *op, const char *why);
/** May @op's map be made? Older workers' ranges that are in its way are given up. */
VGD_MUST_CHECK enum vgd_status vgd_shmem_fits(struct vgd_shmem *sh, const struct vgd_shmem_op *op);
/** What an unmap has to be done to: *out, or NULL when nothing is there. */
VGD_MUST_CHECK enum vgd_status vgd_shmem_find_for_unmap(struct vgd_shmem *sh,
                                                        const struct vgd_shmem_op *op,
                                                        struct vgd_shmem_entry **out);
/** @op, an unmap, is over without the VMM: what it names is dropped, or doomed if the VMM has it or
 *  is about to. */
VGD_MUST_CHECK enum vgd_status vgd_shmem_let_go(struct vgd_shmem *sh,
                                                const struct vgd_shmem_op *op);

/* ---- shmem_ask.c --------------------------------------------------------------------------------
 */

bool vgd_shmem_may_send(const struct vgd_shmem *sh);
/** There is something to ask for, and the socket took nothing. */
bool vgd_shmem_blocked(const struct vgd_shmem *sh);
void vgd_shmem_answer(struct vgd_shmem *sh, uint64_t token, enum vgd_status status);
/** The worker's answer to what is asked, if it waits for one. */
void vgd_shmem_answer_asked(struct vgd_shmem *sh, enum vgd_status status);
/** Offer a request to the VMM; nothing may be asked yet. A map's fd is taken out of @range. False:
 *  not now, nothing was taken. */
bool vgd_shmem_ask(struct vgd_shmem *sh, bool unmap, struct vgd_shmem_entry *range);
/** The worker that waits for a map will not be told of it: it is undone, now or when the VMM has
 *  answered. */
void vgd_shmem_take_back(struct vgd_shmem *sh);
/** What was begun is not to be carried out, and not any more: its range goes where it belongs until
 *  it can be asked for again. No effect on what was sent. */
void vgd_shmem_withdraw(struct vgd_shmem *sh);
/** Go on with a request whose first byte the VMM has read. */
void vgd_shmem_look(struct vgd_shmem *sh);
/** The channel goes, and with it the answer to what was asked. */
void vgd_shmem_close_channel(struct vgd_shmem *sh);
/** Watch the channel for what matters now. */
void vgd_shmem_watch(struct vgd_shmem *sh);
void vgd_shmem_channel_ready(void *user, uint32_t events);

/* ---- shmem.c ------------------------------------------------------------------------------------
 */

/** Ask for what can be asked for. */
void vgd_shmem_advance(struct vgd_shmem *sh);

#endif
