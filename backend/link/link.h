/* SPDX-License-Identifier: MIT */
/*
 * The private channel between the supervisor and its worker: a SOCK_SEQPACKET socketpair, one
 * message a packet, descriptors beside it. Both ends are built together, so messages are plain C
 * structs; the supervisor still checks sizes and every value, since a worker may have been taken
 * over, and a message that it cannot believe costs the worker its life.
 *
 * Order is the contract: what the supervisor sends is acted on in the order sent. A message that
 * ends the use of memory or of a ring carries a number that the worker confirms with DONE.
 * Thread: loop.
 */
#ifndef VGD_LINK_H
#define VGD_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "status.h"
#include "vhost_user.h"
#include "virtio_gpu.h"

#define VGD_LINK_VERSION 4u
#define VGD_LINK_FDS_MAX 8u
#define VGD_LINK_BYTES_MAX 20480u /* a cursor picture is the largest */
#define VGD_QUEUES_COUNT 2u       /* control and cursor */
#define VGD_NAME_BYTES 128u
#define VGD_PATH_BYTES 256u

enum vgd_link_type {
    /* Supervisor to worker. */
    VGD_LINK_HELLO = 1,     /* struct vgd_link_hello; fds: vault, frame memory */
    VGD_LINK_FEATURES,      /* struct vgd_link_u64: what the guest acked */
    VGD_LINK_MEM_TABLE,     /* struct vgd_link_mem_table; fds: one a region; confirmed */
    VGD_LINK_MEM_ADD,       /* struct vgd_vu_mem_region; 1 fd */
    VGD_LINK_MEM_REMOVE,    /* struct vgd_link_mem_remove; confirmed */
    VGD_LINK_QUEUE_START,   /* struct vgd_link_queue_start; fds: kick, call */
    VGD_LINK_QUEUE_CALL,    /* struct vgd_link_u64: queue index; 1 fd or none */
    VGD_LINK_QUEUE_STOP,    /* struct vgd_link_request; confirmed with the next available index */
    VGD_LINK_RESET,         /* struct vgd_link_request; confirmed */
    VGD_LINK_RESTORE,       /* no payload: memory is there, rebuild the device from the vault */
    VGD_LINK_DISPLAY_STATE, /* struct vgd_link_display_state */
    VGD_LINK_FRAME_DONE,    /* struct vgd_link_u64: frame slot that may be written again */
    VGD_LINK_DMABUF_DONE,   /* struct vgd_link_u64: scanout whose DMABUF_UPDATE was shown */
    VGD_LINK_INFO_REPLY,    /* struct vgd_link_info_reply */
    VGD_LINK_EDID_REPLY,    /* struct vgd_link_edid_reply */
    VGD_LINK_SNAPSHOT,      /* struct vgd_link_question: read this scanout back for vgdctl */
    VGD_LINK_SERVER,        /* struct vgd_link_server; 1 fd if its status is VGD_OK */
    VGD_LINK_WINDOW_DONE,   /* struct vgd_link_window_done: of a WINDOW_MAP or WINDOW_UNMAP */
    VGD_LINK_TRACE_START, /* struct vgd_link_trace_start; 1 fd: the file, open for read and write */
    VGD_LINK_TRACE_STOP,  /* no payload: the last TRACE_STATE follows when the file is whole */
    VGD_LINK_LOG_LEVEL,   /* struct vgd_link_u64: enum vgd_log_level */

    /* Worker to supervisor. */
    VGD_LINK_READY = 64,     /* struct vgd_link_ready */
    VGD_LINK_DONE,           /* struct vgd_link_done */
    VGD_LINK_SCANOUT,        /* struct vgd_link_scanout; width 0 disables */
    VGD_LINK_UPDATE,         /* struct vgd_link_update: pixels lie in a frame slot */
    VGD_LINK_DMABUF_SCANOUT, /* struct vgd_link_dmabuf_scanout; 1 fd */
    VGD_LINK_DMABUF_UPDATE,  /* struct vgd_link_damage */
    VGD_LINK_CURSOR_UPDATE,  /* struct vgd_link_cursor_update */
    VGD_LINK_CURSOR_MOVE,    /* struct vgd_link_cursor_pos */
    VGD_LINK_GET_INFO,       /* struct vgd_link_question */
    VGD_LINK_GET_EDID,       /* struct vgd_link_question */
    VGD_LINK_STARTED, /* struct vgd_link_u64: queue index; its recorded chains are answered */
    VGD_LINK_SNAPSHOT_REPLY, /* struct vgd_link_snapshot_reply; 1 fd if its status is VGD_OK */
    VGD_LINK_WANT_SERVER,    /* struct vgd_link_want_server, before READY: answered by SERVER */
    VGD_LINK_WINDOW_MAP,     /* struct vgd_link_window; 1 fd; answered by WINDOW_DONE */
    VGD_LINK_WINDOW_UNMAP,   /* struct vgd_link_window; answered by WINDOW_DONE */
    VGD_LINK_TRACE_STATE,    /* struct vgd_link_trace_state: each VGD_LINK_TRACE_STATE_MS while it
                                records, and once when it has ended or failed */
};

struct vgd_link_hdr {
    uint32_t type;
    uint32_t payload_bytes;
};

struct vgd_link_u64 {
    uint64_t value;
};

/* How a worker reached its GPU (struct vgd_gl_choice, which only the renderer knows). */
struct vgd_link_gl_choice {
    uint32_t platform; /* enum vgd_gl_platform; 0: none */
    int32_t device_idx;
    char render_node[64];
};

/* The Vulkan device that a worker chose (struct vgd_vk_choice, which only the renderer knows). */
struct vgd_link_vk_choice {
    uint8_t known; /* else the rest is nothing */
    uint8_t is_software, one_of_many, host_memory;
    uint8_t pad[4];
    uint8_t device_uuid[16];
    char name[VGD_NAME_BYTES];
    char why[VGD_PATH_BYTES];
};

struct vgd_link_hello {
    uint32_t version;   /* VGD_LINK_VERSION */
    uint32_t log_level; /* enum vgd_log_level */
    uint32_t n_scanouts;
    uint8_t want_virgl;       /* OpenGL */
    uint8_t want_venus;       /* Vulkan */
    uint8_t require_hardware; /* software GL or Vulkan is an error */
    uint8_t strict_streams;   /* refuse commands in streams that are newer than the decoder */
    uint64_t window_bytes;    /* of the host-visible region; 0: there is none */
    char render_node[VGD_PATH_BYTES]; /* "" = choose */
    struct vgd_link_gl_choice choice; /* of an earlier worker: go that way at once */
    struct vgd_link_vk_choice vulkan; /* the same */
};

/* Which Vulkan the render server is to see: its environment is made of this. */
struct vgd_link_want_server {
    uint8_t host_memory; /* the driver cannot export host-visible memory: load our layer for it */
    uint8_t one_device;  /* show @device_uuid only: load our layer for it */
    uint8_t pad[6];
    uint8_t device_uuid[16]; /* VkPhysicalDeviceIDProperties.deviceUUID */
};

struct vgd_link_server {
    uint32_t status; /* enum vgd_status; else @why says what is missing */
    uint32_t pad;
    char why[VGD_PATH_BYTES];
};

/* A range of the host-visible region. */
struct vgd_link_window {
    uint64_t token; /* echoed; grows with each request */
    uint64_t offset_bytes, len_bytes;
    uint64_t file_offset_bytes; /* WINDOW_MAP only */
};

struct vgd_link_window_done {
    uint64_t token;
    uint32_t status; /* enum vgd_status */
    uint32_t pad;
};

/* Why a recording begins with this worker. */
enum vgd_link_trace_why {
    VGD_LINK_TRACE_NEW,         /* an empty file */
    VGD_LINK_TRACE_AFTER_DEATH, /* the file of a worker that died: go on behind it */
    VGD_LINK_TRACE_AFTER_RESET, /* of one that a reset of the guest replaced: likewise */
};
#define VGD_LINK_TRACE_STATE_MS 500u
#define VGD_LINK_TRACE_NO_PIXELS UINT32_MAX

/* Sent after READY, and after RESTORE if there is one; before the rings start, or at any time
 * later. */
struct vgd_link_trace_start {
    uint32_t why;        /* enum vgd_link_trace_why */
    uint32_t picture_ms; /* pixels of what is shown are recorded this often at most, else their hash
                            alone; 0: always; VGD_LINK_TRACE_NO_PIXELS: never */
    uint32_t generation, signal, exit_status; /* AFTER_DEATH: of the worker that died */
    uint32_t pad;
    char guest[VGD_NAME_BYTES]; /* the operator's name for it; "" if it has none */
};

/* How far a worker is with a recording. */
enum vgd_link_trace_writer {
    VGD_LINK_WRITER_RUNNING,
    VGD_LINK_WRITER_STOPPING,
    VGD_LINK_WRITER_ENDED, /* the file is whole */
    VGD_LINK_WRITER_FAILED,
};
struct vgd_link_trace_state {
    uint32_t state; /* enum vgd_link_trace_writer */
    int32_t error;  /* errno, if it failed */
    uint64_t records, bytes_in, bytes_out;
    uint64_t gaps, lost_records, lost_bytes;
    uint64_t memory_bytes;
};

struct vgd_link_mem_table {
    uint32_t request_seq;
    uint32_t n_regions; /* at most VGD_LINK_FDS_MAX */
    struct vgd_vu_mem_region regions[VGD_LINK_FDS_MAX];
};

struct vgd_link_mem_remove {
    uint32_t request_seq;
    uint32_t pad;
    struct vgd_vu_mem_region region;
};

struct vgd_link_queue_start {
    uint32_t queue_idx;
    uint32_t size;
    uint64_t desc_user_addr, avail_user_addr, used_user_addr;
    uint16_t base;
    uint8_t event_idx;
    uint8_t recover; /* the vault's record tells where to go on; base is ignored */
    uint8_t has_call;
    uint8_t pad[3];
};

struct vgd_link_request {
    uint32_t request_seq;
    uint32_t queue_idx; /* QUEUE_STOP only */
};

struct vgd_link_done {
    uint32_t request_seq;
    uint32_t status; /* enum vgd_status */
    uint64_t value;  /* QUEUE_STOP: the next available index */
};

/* What the VMM's display channel can do now. */
struct vgd_link_display_state {
    uint8_t connected; /* there is one */
    uint8_t dmabuf;    /* it takes dma-bufs */
    uint8_t fresh;     /* it is a new one: send scanouts and cursor again */
    uint8_t edid;      /* it answers GET_EDID */
    uint8_t pending;   /* there is one that has not said yet what it can: keep questions for it */
    uint8_t pad[3];
};

struct vgd_link_info_reply {
    uint32_t question;
    uint32_t pad;
    struct vgd_resp_display_info info;
};

struct vgd_link_edid_reply {
    uint32_t question;
    uint32_t size_bytes; /* 0: none */
    uint8_t edid[1024];
};

struct vgd_link_ready {
    uint64_t features; /* virtio feature bits 0..5 */
    uint32_t num_capsets;
    uint8_t has_3d, is_software;
    uint8_t pad[2];
    char renderer[VGD_NAME_BYTES]; /* "virgl", "pixman" */
    char gpu_name[VGD_NAME_BYTES];
    char vulkan_name[VGD_NAME_BYTES]; /* "" without Vulkan */
    char vulkan_note[VGD_PATH_BYTES]; /* how its device was chosen, or why there is none */
    char note[VGD_PATH_BYTES];        /* how the GPU was chosen, or why there is no 3D */
    struct vgd_link_gl_choice choice;
    struct vgd_link_vk_choice vulkan;
};

struct vgd_link_scanout {
    uint32_t scanout_idx, w_px, h_px;
};

struct vgd_link_update {
    uint32_t scanout_idx;
    struct vgd_rect rect; /* in the scanout; pixels are packed, w_px * 4 bytes a row, x8r8g8b8 */
    uint32_t slot_idx;
};

struct vgd_link_damage {
    uint32_t scanout_idx;
    struct vgd_rect rect;
};

struct vgd_link_dmabuf_scanout {
    uint32_t scanout_idx;
    struct vgd_rect rect; /* of the buffer, shown */
    uint32_t fd_w_px, fd_h_px, fd_stride_bytes, fourcc;
    uint64_t modifier;
    uint8_t y0_top;
    uint8_t pad[7];
};

struct vgd_link_cursor_pos {
    uint32_t scanout_idx, x_px, y_px;
    uint8_t hide;
    uint8_t pad[3];
};

struct vgd_link_cursor_update {
    struct vgd_link_cursor_pos pos;
    uint32_t hot_x_px, hot_y_px;
    uint8_t pixels[64 * 64 * 4]; /* a8r8g8b8 */
};

struct vgd_link_question {
    uint32_t question;    /* echoed in the reply */
    uint32_t scanout_idx; /* GET_EDID only */
};

struct vgd_link_snapshot_reply {
    uint32_t question;
    uint32_t status;     /* enum vgd_status; VGD_NO_SCANOUT: it is off */
    uint32_t w_px, h_px; /* w_px * 4 bytes a row, x8r8g8b8 */
};

struct vgd_link;

/* One message as received. fds belong to the message: take (vgd_fd_take) what is kept. */
struct vgd_link_message {
    uint32_t type;
    uint32_t payload_bytes;
    _Alignas(8) uint8_t payload[VGD_LINK_BYTES_MAX];
    int fds[VGD_LINK_FDS_MAX];
    uint32_t n_fds;
};

typedef void (*vgd_link_fn)(void *user, struct vgd_link_message *msg);
/** The other side is gone (VGD_CLOSED) or sent something that is no message (VGD_RANGE). Comes
 * once. */
typedef void (*vgd_link_closed_fn)(void *user, enum vgd_status why);

/** Two connected link sockets, close-on-exec. */
VGD_MUST_CHECK enum vgd_status vgd_link_pair(int out_fds[2]);

/** Takes *@fd. Messages and the end come as callbacks on @loop. NULL on failure: *fd is kept. */
struct vgd_link *vgd_link_create(struct vgd_loop *loop, int *fd, vgd_link_fn on_message,
                                 vgd_link_closed_fn on_closed, void *user);
/** May be called from a callback. NULL is fine. */
void vgd_link_destroy(struct vgd_link *link);

/**
 * Queue one message; @fds are duplicated, the caller keeps its own. Never blocks: what the socket
 * does not take now is sent when it does. VGD_LIMIT: too much is queued (the other side hangs),
 * VGD_CLOSED, VGD_NO_MEMORY.
 */
VGD_MUST_CHECK enum vgd_status vgd_link_send(struct vgd_link *link, enum vgd_link_type type,
                                             const void *payload, size_t payload_bytes,
                                             const int *fds, uint32_t n_fds);

/** The payload as a struct of @size_bytes, or NULL if the size differs. */
static inline const void *vgd_link_payload(const struct vgd_link_message *msg, size_t size_bytes)
{
    return msg->payload_bytes == size_bytes ? msg->payload : NULL;
}

#endif
