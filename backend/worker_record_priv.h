/* SPDX-License-Identifier: MIT */
/*
 * What the files of the recorder share; nobody else includes it.
 *
 *   worker_record.c          its life, commands, answers
 *   worker_record_picture.c  what was shown
 *   worker_record_state.c    what a recording begun in mid-life starts with
 */
#ifndef VGD_WORKER_RECORD_PRIV_H
#define VGD_WORKER_RECORD_PRIV_H

#include "trace_writer.h"
#include "worker_record.h"

/* Of the memory that the recorder may have. The rest is for zstd's and the kernel's ways of
 * counting. */
#define VGD_RECORDER_WRITER_BYTES ((size_t)52 << 20)
#define VGD_RECORDER_PICTURE_BYTES ((size_t)8 << 20)
/* Spans that one command writes; more are left out, which makes a gap. */
#define VGD_RECORDER_WRITES_MAX 64u
/* The rings are held so long at most: when a recording begins, and when records were lost, which a
 * slow disk can make happen again and again. */
#define VGD_RECORDER_HOLD_MS 2000u
#define VGD_RECORDER_HOLD_AGAIN_MS 250u
/* Guest memory in one record: what is lost at once when the buffer is full. */
#define VGD_RECORDER_SPAN_BYTES ((uint64_t)1 << 20)

struct vgd_recorder {
    struct vgd_recorder_config config;
    struct vgd_trace_writer *writer; /* owned; NULL: idle */
    bool stopping;
    struct vgd_timer *timer; /* reports, and the end */
    struct vgd_link_trace_start start;

    /* Commands of all recordings of this process have different ids, so that an answer cannot be
     * taken for another's. The file counts from file_first_id. */
    uint64_t last_id;
    uint64_t first_id, file_first_id;

    /* What the command that is being executed will write of guest memory. */
    struct {
        uint32_t res_id, n_iov;
        const struct iovec *iov; /* borrowed: no command that writes changes a backing */
        uint64_t offset_bytes, n_bytes;
    } writes[VGD_RECORDER_WRITES_MAX];
    uint32_t writes_count;
    struct vgd_display_one scanouts[VGD_MAX_SCANOUTS]; /* as last told to the guest */
    bool scanouts_known[VGD_MAX_SCANOUTS];

    /* Pictures. */
    uint64_t executing;                   /* the command, as the file counts; 0: none */
    uint64_t read_bytes;                  /* of guest memory, told for it */
    uint64_t pixels_ns[VGD_MAX_SCANOUTS]; /* when pixels of it were put; 0: not yet */
    uint8_t *picture;                     /* owned scratch; NULL before its first use */
    size_t picture_bytes;

    /* The state that is being put; the rings are held meanwhile. */
    struct {
        bool active;
        uint32_t reason;   /* VGD_TRACE_STATE_* */
        uint64_t position; /* of vgd_gpu_snapshot */
        uint64_t begin_ns, limit_ns;
    } state;
    struct vgd_timer *state_timer;
    uint64_t lost_known; /* losses up to this many are followed by a state */
    uint64_t state_wait_ns, next_state_ns;
};

/** Begin to put the state, for VGD_TRACE_STATE_*; the rings are held until it is there. */
void vgd_recorder_state_begin(struct vgd_recorder *r, uint32_t reason);
/** Were records lost since the last state, and is it time for one? */
void vgd_recorder_state_look(struct vgd_recorder *r, const struct vgd_trace_writer_stats *stats);
/** No more of it: the recording ends, or what was to be put is gone. */
void vgd_recorder_state_end(struct vgd_recorder *r);
/** A timer's callback: @user is the recorder. */
void vgd_recorder_state_turn(void *user);

/** Put @record with @n_bytes at @data. What does not fit is counted, and becomes a gap in the file.
 */
void vgd_recorder_put(struct vgd_recorder *r, const struct vgd_trace_record *record,
                      const void *data, size_t n_bytes);

/* Spans of guest memory on their way into BACKING records. */
struct vgd_recorder_spans {
    struct vgd_recorder *recorder;
    uint64_t command_id; /* as the file counts; 0: no command's */
    uint32_t reason;     /* VGD_TRACE_BACKING_* */
};
/** A vgd_gpu_span_fn; @user is a struct vgd_recorder_spans. Those to be written are remembered in
 *  r->writes. */
void vgd_recorder_put_span(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                           uint64_t offset_bytes, uint64_t n_bytes, bool is_write);

#endif
