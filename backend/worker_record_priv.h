/* SPDX-License-Identifier: MIT */
/*
 * What the files of the recorder share; nobody else includes it.
 *
 *   worker_record.c          its life, commands, answers
 *   worker_record_picture.c  what was shown
 */
#ifndef VGD_WORKER_RECORD_PRIV_H
#define VGD_WORKER_RECORD_PRIV_H

#include "trace_writer.h"
#include "worker_record.h"

/* Of the memory that the recorder may have. The rest is for zstd's and the kernel's ways of
 * counting. */
#define VGD_RECORDER_WRITER_BYTES ((size_t)52 << 20)
#define VGD_RECORDER_PICTURE_BYTES ((size_t)8 << 20)
/* Spans that one command writes; more are not recorded. */
#define VGD_RECORDER_WRITES_MAX 64u
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
};

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
