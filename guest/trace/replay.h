/* SPDX-License-Identifier: MIT */
/*
 * Plays a trace to a vhost-user-gpu backend, as the user-space guest. What the files share:
 *
 *   replay.c          the subcommand: options, passes, report
 *   replay_play.c     records, one after the other
 *   replay_connect.c  the backend: start, features, reset
 *   replay_flight.c   commands in flight, and their answers
 *   replay_memory.c   the guest memory behind resources
 *   replay_picture.c  pictures: taken, compared, written
 *   replay_readback.c what the guest read back, compared
 *   replay_follow.c   what a cut has to know beside: streams' state, contents of 2D resources
 *
 * A pass is one time through the trace. It fails as a whole (replay->failed) when the backend does;
 * what the backend does otherwise than the recorded one is counted.
 * One thread.
 */
#ifndef VGD_TRACE_REPLAY_H
#define VGD_TRACE_REPLAY_H

#include "guest_gpu.h"
#include "guest_heap.h"
#include "guest_process.h"
#include "model.h"
#include "tool.h"

/* Commands that wait for an answer at a time; the ring holds fewer. */
#define REPLAY_FLIGHTS_MAX 2048u
/* Guest RAM for commands, beside that for backings. */
#define REPLAY_COMMAND_RAM_BYTES (UINT64_C(128) << 20)
/* Differences told one by one; the rest is only counted. */
#define REPLAY_TOLD_MAX 10u
/* Sides of a picture. */
#define REPLAY_PICTURE_SIDE_MAX 16384u

/* Why a command of the trace is not played. */
enum replay_left_out {
    REPLAY_PLAYED = 0,
    REPLAY_OF_VENUS,    /* Vulkan's commands are not in a trace */
    REPLAY_NO_FEATURE,  /* not negotiated here */
    REPLAY_NO_WINDOW,   /* no host-visible region here, or a smaller one */
    REPLAY_NO_RESOURCE, /* names a resource or context that could not be made here */
    REPLAY_LOST,        /* was answered without being executed */
    REPLAY_CUT,         /* not whole in the trace, or never was */
    REPLAY_LEFT_OUT_COUNT,
};

/* A command in flight. */
struct replay_flight {
    struct vgd_guest_command *command;
    uint64_t command_id; /* in the trace; 0: none, of state or our own */
    uint64_t number;     /* of the record */
    uint32_t type;
    uint32_t named_id; /* of the resource or context that it makes; 0 */
};

/* What a command was answered with when recorded, and here. */
struct replay_answer {
    uint64_t command_id, number;
    uint32_t res_id, ctx_id;  /* that it names */
    uint32_t type, want, got; /* 0: not known yet */
};

struct replay_pictures {
    uint64_t seen;  /* PICTURE records */
    uint64_t taken; /* and those of flushes */
    uint64_t written;
    uint64_t compared, exact, below;
    uint64_t by_hash_only; /* differ, and without pixels nobody can say how much */
    uint64_t missing;      /* could not be had here */
    uint64_t left_out;     /* of what was left out */
    double psnr_min_db;    /* of those that are not exact */
    /* What the guest read back, where it is pixels of 4 bytes. */
    uint64_t readbacks, readbacks_exact, readbacks_below;
};

/* Transfers from the host of which the trace may say what they wrote. */
#define REPLAY_TRANSFERS 64u
struct replay_transfer {
    uint64_t command_id;
    uint32_t memory_id, texels_id; /* resources: whose memory, whose texels */
    uint32_t level, w, h;
    uint32_t stride_bytes; /* 0: as the level has them */
    uint64_t offset_bytes; /* into the memory */
};

struct replay {
    struct tool *tool;
    const struct tool_replay *config;
    bool dry;              /* there is no backend: only what the trace says is followed */
    bool follows;          /* for a cut: see replay_follow.c */
    uint64_t stream_bytes; /* of the states of streams, all contexts together */

    /* The backend. */
    struct vgd_guest_process process;
    struct vgd_guest_gpu *gpu; /* NULL: not connected */
    uint64_t ack_features;     /* as the trace's guest had them; said to a new connection */
    uint64_t window_bytes;     /* in the trace */
    uint64_t fresh_features, fresh_window_bytes; /* what the present connection was asked for */
    uint32_t n_scanouts;
    struct vgd_rect scanouts[VGD_MAX_SCANOUTS];
    bool needs_fresh; /* nothing of before may be there when the next command is played */
    bool played;      /* something, since it was fresh */
    bool told_features;

    struct model model;
    bool misses; /* something was left out that streams may name */

    /* Guest memory behind resources, handed out of one span. */
    struct vgd_guest_heap *heap;
    uint64_t heap_gpa;
    uint8_t *heap_bytes;

    struct replay_flight flights[REPLAY_FLIGHTS_MAX]; /* a ring; the number of each is its place */
    uint64_t first_flight, next_flight;               /* by number; equal: none */
    uint64_t progress_ns;                             /* the last answer, or when one was begun */

    struct replay_answer answers[TOOL_IDS]; /* by command id */
    uint64_t died_at;                       /* number of the last WORKER_DEATH; 0: none */
    uint64_t n_answers_differ, n_answers_same;
    uint64_t n_undone; /* refused then, for addresses that are others here */
    uint64_t n_state_refused;
    uint64_t left_out[REPLAY_LEFT_OUT_COUNT];
    uint64_t n_commands, n_stream_commands, n_draws, n_content, n_gaps, n_unplayable;
    uint64_t state_number; /* of the STATE_BEGIN that has not ended yet; 0: none */
    bool after_gap;        /* until the next state, what fails is the gap's affair */
    uint32_t n_told;
    struct replay_pictures pictures;
    struct replay_transfer transfers[REPLAY_TRANSFERS]; /* the last ones */
    uint64_t n_transfers;

    uint8_t *bytes; /* VGD_TRACE_DATA_MAX: the record's data; 8-byte aligned */
    bool failed;
};

/** Say why, once a pass; it is over. Returns false. */
bool replay_fail(struct replay *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** One more difference: told if few were told before. */
void replay_differs(struct replay *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- replay.c --- */

/** NULL: no memory, which is said. One at a time. @dry: without a backend. */
struct replay *replay_create(struct tool *tool, bool dry);
/** NULL is fine. */
void replay_destroy(struct replay *r);
/** Play from the beginning up to the first record of the filter's range, which is then *@out; or to
 *  the end: *@out_more false. False: failed, or the file cannot be read, which tool_end says. */
bool replay_until(struct replay *r, struct vgd_trace_item *out, bool *out_more);

/* --- replay_follow.c --- */

/** Learn from a command that is played, behind the model. */
void replay_follow(struct replay *r, const struct vgd_ctrl_hdr *hdr, uint8_t *bytes,
                   size_t n_bytes);
/** Contents that the trace has of a 2D resource. */
void replay_follow_content(struct replay *r, struct model_resource *res,
                           const struct vgd_trace_item *item);
void replay_follow_context_gone(void *user, struct model_context *ctx);
void replay_follow_resource_gone(struct model_resource *res);
/** What a blob of the context's was made of, as a stream of @out dwords; NULL: nothing. */
const uint32_t *replay_blob_stream(const struct model_resource *res, uint32_t *out_dwords);
/** Pixels of a 2D resource, w_px * h_px * 4 bytes; NULL: nothing was ever put there. */
const uint8_t *replay_pixels(const struct model_resource *res);

/* --- replay_connect.c --- */

/** A backend in which nothing is made: reset, or started, or connected to. False: failed. */
bool replay_fresh(struct replay *r);
/** The same where the present one does not do: something is to be played now. False: failed. */
bool replay_ready(struct replay *r);
/** Was @feature (a bit number) negotiated? */
bool replay_has(const struct replay *r, uint32_t feature);
void replay_disconnect(struct replay *r);

/* --- replay_flight.c --- */

/**
 * Send command @bytes, which is in the trace as @command_id. Waits while the ring is full.
 * *@out_flight is its number, for replay_wait. False: failed.
 */
bool replay_send(struct replay *r, uint32_t queue, const uint8_t *bytes, size_t n_bytes,
                 uint32_t response_bytes, uint64_t command_id, uint64_t number,
                 uint64_t *out_flight);
/** Wait until flights up to and including @flight are answered. False: failed. */
bool replay_wait(struct replay *r, uint64_t flight);
/** Wait until every command is answered. False: failed. */
bool replay_wait_all(struct replay *r);
/** Forget those in flight: their device is gone. */
void replay_drop_flights(struct replay *r);
/** A response in the trace. False: failed. */
bool replay_expect(struct replay *r, uint64_t command_id, uint32_t type);
/** Send a command of our own and wait: the response's type; 0: failed. */
uint32_t replay_call(struct replay *r, const uint8_t *bytes, size_t n_bytes);

/* --- replay_memory.c --- */

/** The span for backings, in a guest that was just made. */
bool replay_memory_begin(struct replay *r);
void replay_memory_end(struct replay *r);
/** Callbacks of the model. */
void replay_backing_gone(void *user, struct model_resource *res);
void replay_resource_gone(void *user, struct model_resource *res);
/**
 * Write our own addresses into the entries of ATTACH_BACKING or CREATE_BLOB @bytes, which the model
 * has taken. False: failed (no room).
 */
bool replay_place_entries(struct replay *r, struct model_resource *res, uint8_t *bytes,
                          size_t n_bytes);
/** The flight up to which commands may still touch the memory of @res. */
void replay_touches(struct replay *r, struct model_resource *res, uint64_t flight);
/** Bytes of a BACKING record into the memory of @res; waits for who still reads it. */
bool replay_fill(struct replay *r, struct model_resource *res, const struct vgd_trace_item *item);
/** The memory of @res, backing_bytes of it; NULL: it has none. */
const uint8_t *replay_memory(const struct replay *r, const struct model_resource *res);
/**
 * Texels of @res from the backend: *@out_bytes, borrowed until the next call, NULL where the
 * backend refuses. False: failed.
 */
bool replay_fetch(struct replay *r, struct model_resource *res,
                  const struct vgd_trace_content *content, uint32_t n_bytes,
                  const uint8_t **out_bytes);
/** Give @res its own memory again after replay_fetch. False: failed. */
bool replay_fetched(struct replay *r, struct model_resource *res);
/** A CONTENT record: texels into @res by a transfer. False: failed. */
bool replay_content(struct replay *r, const struct vgd_trace_item *item);

/* --- replay_play.c --- */

/** One record. False: failed. */
bool replay_record(struct replay *r, const struct vgd_trace_item *item);
/** The record's data to r->bytes. False: they cannot be had, which is said. */
bool replay_data(struct replay *r, const struct vgd_trace_item *item);

/* --- replay_readback.c --- */

/** A transfer from the host is sent, which was @command_id. */
void replay_reads_back(struct replay *r, uint64_t command_id, const uint8_t *bytes, size_t n_bytes);
/** A COPY_TRANSFER3D is in the stream of @command_id. */
void replay_copies_back(struct replay *r, uint64_t command_id, const struct vgd_command *cmd);
/** A BACKING (WRITTEN) record: compare. False: failed. */
bool replay_readback(struct replay *r, const struct vgd_trace_item *item);

/* --- replay_picture.c --- */

/** Sum of the squared differences of @n pixels in blue, green and red. */
uint64_t replay_squares(const uint8_t *have, const uint8_t *want, uint32_t n);
/** PSNR of @n_pixels with that sum; infinite: equal. */
double replay_db(uint64_t sum, uint64_t n_pixels);

/** A PICTURE record: take it here, compare, write. False: failed. */
bool replay_picture(struct replay *r, const struct vgd_trace_item *item);
/** What scanouts show @res_id now, as files. False: failed. */
bool replay_picture_of_flush(struct replay *r, uint64_t number, uint32_t res_id);
/** Does the trace's guest see the same pictures here, as far as was compared? */
bool replay_pictures_ok(const struct replay *r);
void replay_print_pictures(const struct replay *r);

#endif
