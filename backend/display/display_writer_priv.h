/* SPDX-License-Identifier: MIT */
/*
 * What the files of the display writer share: what is to be shown (display_writer.c), the message
 * on its way (display_writer_out.c), the channel with its questions and replies
 * (display_writer_channel.c). Thread: loop.
 */
#ifndef VGD_DISPLAY_WRITER_PRIV_H
#define VGD_DISPLAY_WRITER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "display_channel.h"
#include "display_writer.h"
#include "frames.h"
#include "scanout_limits.h"

/* Questions unanswered or unsent, ours included; a worker that asks more gets no answer. */
#define QUESTIONS_MAX 128u

#define NO_SLOT UINT32_MAX

#define HEAD_BYTES_MAX 64u
#define REPLY_BYTES_MAX (VGD_DISP_HDR_SIZE + VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE)
#define CURSOR_PICTURE_BYTES ((size_t)VGD_DISP_CURSOR_BYTES)

enum showing {
    SHOWS_NOTHING = 0,
    SHOWS_PIXELS,
    SHOWS_DMABUF,
    SHOWS_UNKNOWN, /* a picture that an earlier channel, or the VMM itself, left there */
};

struct scanout {
    /* What the worker wants. */
    enum showing want;
    uint32_t w_px, h_px;                   /* want != SHOWS_NOTHING */
    struct vgd_link_dmabuf_scanout dmabuf; /* want == SHOWS_DMABUF */
    int dmabuf_fd;                         /* until it is passed on */
    bool is_new;                           /* the channel is to be told */

    /* What the channel was told. */
    enum showing told;
    uint32_t told_w_px, told_h_px;
    bool holds_dmabuf; /* the VMM has a dma-buf of ours open, whatever became of the channel */

    struct vgd_rect damage; /* of the dma-buf */
    bool damaged;           /* waits to be sent; the worker waits for its DMABUF_DONE */

    /* The cursor, if the channel is to be told. */
    bool cursor_moved;
    struct vgd_link_cursor_pos cursor;
    uint32_t hot_x_px, hot_y_px;
    uint8_t *picture; /* owned; NULL: only the place changed */
};

/* What a frame slot is used for. */
struct slot {
    bool used; /* the worker waits for its FRAME_DONE */
    uint32_t scanout_idx;
    struct vgd_rect rect;
    uint32_t rows_sent;
    uint64_t order; /* the smaller goes first */
};

/* The message on its way. */
struct outgoing {
    uint8_t head[HEAD_BYTES_MAX];
    size_t head_bytes;
    const uint8_t *body; /* @owned or in the frame mapping */
    size_t body_bytes;
    uint8_t *owned;
    int fd;        /* goes with the first byte */
    uint32_t slot; /* NO_SLOT unless its end ends the use of the slot */
    size_t sent_bytes;
    bool active;
};

struct question {
    uint32_t request; /* VGD_DISP_GET_... */
    uint32_t scanout_idx;
    uint32_t id;   /* the worker's */
    bool for_them; /* a worker waits */
};

struct vgd_display_writer {
    struct vgd_display_writer_config config;
    bool has_worker;

    int fd;
    struct vgd_watch *watch;
    int send_buffer_bytes;
    bool wants_room;   /* pixels wait for room in the socket's buffer */
    bool ready;        /* negotiated */
    uint64_t features; /* once ready */
    bool features_due; /* to be told to the VMM */
    struct vgd_timer *features_timer;

    struct outgoing out;
    uint8_t in[REPLY_BYTES_MAX];
    size_t in_bytes;

    struct question questions[QUESTIONS_MAX]; /* a ring: first the asked ones, in order */
    uint32_t questions_first, questions_count, asked_count;
    uint32_t edid_end_idx; /* the VMM has no scanouts from here on */
    uint16_t enabled;      /* bits: scanouts that the last display info showed enabled */

    struct scanout scanouts[VGD_MAX_SCANOUTS];
    uint32_t turn;                             /* whose pixels go next */
    uint32_t dmabuf_updates[VGD_MAX_SCANOUTS]; /* scanouts whose update is unanswered, in order;
                                                 VGD_MAX_SCANOUTS: nobody waits any more */
    uint32_t dmabuf_updates_count;

    struct slot slots[VGD_FRAME_SLOTS_COUNT];
    uint64_t last_order;
};

/* --- display_writer.c --- */

/** For the worker, if there is one. */
void vgd_display_writer_tell_worker(struct vgd_display_writer *w, enum vgd_link_type type,
                                    const void *payload, size_t n_bytes);
void vgd_display_writer_tell_worker_u64(struct vgd_display_writer *w, enum vgd_link_type type,
                                        uint64_t value);
/** DISPLAY_STATE: is there a channel, and what does it take? */
void vgd_display_writer_tell_state(struct vgd_display_writer *w);
/** The worker may use frame slot @slot again. */
void vgd_display_writer_end_slot(struct vgd_display_writer *w, uint32_t slot);
/** The picture of @idx changes or there is no channel: what waits for the old one is in vain. What
 * has begun goes to its end; its slot is given back then. */
void vgd_display_writer_drop_pictures(struct vgd_display_writer *w, uint32_t idx);
void vgd_display_writer_drop_cursor(struct scanout *s);

/* --- display_writer_out.c --- */

/** Write until there is nothing, the socket is full, or others want their turn. */
void vgd_display_writer_pump(struct vgd_display_writer *w);
/** The message on its way has gone, or never will. */
void vgd_display_writer_end_outgoing(struct vgd_display_writer *w);

/* --- display_writer_channel.c --- */

/** False: too many wait. */
bool vgd_display_writer_push_question(struct vgd_display_writer *w, struct question q);
/** To the worker's question @id; NULL: there is no EDID. */
void vgd_display_writer_answer_edid(struct vgd_display_writer *w, uint32_t id,
                                    const struct vgd_resp_edid *edid);
/** The VMM has not told its features in time. */
void vgd_display_writer_features_late(void *user);
/** There is no channel (any more). */
void vgd_display_writer_drop_channel(struct vgd_display_writer *w);

#endif
