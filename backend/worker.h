/* SPDX-License-Identifier: MIT */
/* What the files of vgd-worker share. Thread: loop, the only one that any of this runs on. */
#ifndef VGD_WORKER_H
#define VGD_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu.h"
#include "guest_memory.h"
#include "journal.h"
#include "link.h"
#include "log.h"
#include "loop.h"
#include "presenter.h"
#include "render.h"
#include "vault.h"
#include "virtqueue.h"
#include "worker_record.h"

struct worker;
struct request;      /* one command between pop and push */
struct worker_start; /* what is known between hello and ready */

struct queue {
    struct worker *worker;
    uint32_t idx;
    struct vgd_virtqueue *vq;
    int kick_fd, call_fd;
    struct vgd_watch *watch;
    struct vgd_timer *again; /* more is in the ring than one turn takes */
    uint64_t unnotified_ns;  /* when the oldest answer not yet told of was given; 0: none */
    bool in_batch;
    bool stopping;
    uint32_t stop_seq;
    /* Commands that a stop left undone. They stay in flight, over the stop, and are executed again
     * when the ring runs. */
    uint16_t postponed[VGD_QUEUE_SIZE_MAX]; /* heads, oldest first */
    uint32_t n_postponed;
    uint64_t postponed_records[VGD_QUEUE_SIZE_MAX]; /* by head: their ids in the recording, or 0 */
    uint64_t postponed_ns;   /* since when they could have been executed; 0: not yet */
    struct vgd_timer *retry; /* of a ring that runs */
    uint16_t stopped_base;   /* what the last stop answered */
};

struct worker {
    struct vgd_loop *loop;
    struct vgd_link *link;
    bool greeted;
    struct worker_start *start; /* owned; NULL but while the render server is awaited */
    struct vgd_vault *vault;
    uint8_t *frames;
    struct vgd_mem *mem;
    struct vgd_render *render;
    struct vgd_presenter *presenter;
    struct vgd_journal *journal;
    struct vgd_gpu *gpu;
    struct vgd_recorder *recorder;  /* made when one is first asked for */
    struct vgd_recorder *recording; /* the same while it records, else NULL */
    bool held;                      /* by the recorder: no command is executed */
    uint64_t features;              /* what the guest acked */
    uint64_t window_bytes;          /* of the host-visible region */
    uint32_t n_scanouts;
    struct queue queues[VGD_QUEUES_COUNT];
    struct vgd_timer *drain;
    struct request *requests;      /* owned: as many as the rings can hold chains */
    uint32_t requests_begun;       /* of these, how many were ever used */
    struct request *free_requests; /* of those that were used */
    uint8_t *command;              /* private copy of the command being executed */
    size_t command_room_bytes;
    struct vgd_log_limit guest_log;
};

/* worker.c */
/** A message to the supervisor; one that cannot be sent ends the worker. */
void vgd_worker_send(struct worker *w, enum vgd_link_type type, const void *payload,
                     size_t n_bytes);
void vgd_worker_send_fd(struct worker *w, enum vgd_link_type type, const void *payload,
                        size_t n_bytes, int fd);
void vgd_worker_confirm(struct worker *w, uint32_t request_seq, enum vgd_status status,
                        uint64_t value);

/* worker_queue.c: the rings, and each command's way from one back to it */
enum vgd_status vgd_worker_queues_create(struct worker *w);
/** The device's answer to a command. */
void vgd_worker_complete(void *user, struct vgd_gpu_request *base, const uint8_t *resp,
                         size_t n_bytes);
/** The device cannot execute a command until the rings have been stopped and run again. */
void vgd_worker_postpone(void *user, struct vgd_gpu_request *base);
/** Messages of the supervisor; VGD_RANGE if they cannot be. */
enum vgd_status vgd_worker_queue_start(struct worker *w, struct vgd_link_message *msg);
enum vgd_status vgd_worker_queue_call(struct worker *w, struct vgd_link_message *msg);
enum vgd_status vgd_worker_queue_stop(struct worker *w, const struct vgd_link_message *msg);
/** A reset of the guest: nothing is served or answered any more. */
void vgd_worker_queues_drop(struct worker *w);
/** Commands may be executed again. */
void vgd_worker_queues_unhold(struct worker *w);
/** Guest memory is another: rings that lay in what is gone stop. */
void vgd_worker_queues_remap(struct worker *w);

/* worker_start.c: from the supervisor's hello to our ready; w->gpu exists from then on */
enum vgd_status vgd_worker_hello(struct worker *w, const struct vgd_link_message *msg);
enum vgd_status vgd_worker_server(struct worker *w, struct vgd_link_message *msg);

#endif
