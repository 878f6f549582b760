/* SPDX-License-Identifier: MIT */
/* What the files of the bridge share: clients, their resources and syncs, commands in flight. */
#ifndef VGD_VTEST_PRIV_H
#define VGD_VTEST_PRIV_H

#include "idmap.h"
#include "log.h"
#include "vtest.h"
#include "vtest_bridge.h"
#include "vtest_span.h"

#define VTEST_IN_BYTES 65536u /* of requests read ahead; a longer one than this is a mistake */

struct vgd_vtest_bridge {
    struct vgd_loop *loop;
    struct vgd_vtest_device *dev;
    struct vtest_client *clients; /* connected and gone */
    uint32_t n_connected, n_objects;
    uint64_t device_bytes;    /* device memory that clients have */
    uint32_t n_resources;     /* on the device */
    uint32_t n_ranges;        /* of the host-visible region that resources have */
    uint32_t n_range_waiters; /* clients that want one */
    uint32_t next_number;
    struct vgd_timer *query_timer; /* runs while results of queries are outstanding */
    uint64_t query_delay_ns;
    struct vgd_timer *turn_timer; /* runs out at once, for those that had to let others go first */
    struct vgd_timer *name_timer; /* runs while there are clients without a name */
};

/* Memory that a client and the device see: each has a file or span of its own, and what a transfer
 * touches is copied once. A client maps its file from offset 0, guest RAM is one file, so the two
 * cannot be the same pages. */
struct vtest_resource {
    struct vtest_client *client;
    uint32_t id, dev_id; /* the client's number and the device's */
    uint32_t refs;       /* the client's table, and each command in flight that needs it */
    struct vgd_vtest_picture picture;
    uint8_t *shared; /* the client's file, mapped; NULL: none */
    uint64_t shared_bytes;
    uint8_t *backing; /* in device memory, attached; NULL until the first transfer */
    uint64_t backing_gpa;
    bool is_late; /* the device has not been told of it: see vtest_resource_create */
    bool is_blob, is_shareable;
    uint64_t blob_bytes;
    int file; /* of a shareable blob, for RESOURCE_EXPORT_FD; -1: none */
    uint64_t window_offset, window_bytes; /* while it is mapped there; 0 bytes: not */
};

struct vtest_query {
    uint32_t res_id, offset_bytes;
};

/* A query whose result has been asked for and has not been seen yet. */
struct vtest_asked {
    uint32_t res_id, offset_bytes;
};

struct vtest_out {
    struct vtest_out *next;
    int fd; /* owned, sent with the first byte; -1: none */
    uint32_t n_bytes, sent_bytes;
    uint8_t bytes[];
};

struct vtest_sync {
    uint32_t id;
    uint32_t refs;
    uint64_t value;
};

struct vtest_wait;

struct vtest_client {
    struct vtest_client *next, *prev;
    struct vgd_vtest_bridge *bridge;
    struct vgd_vtest_device *dev;
    uint32_t number; /* for the log */
    uint32_t refs;   /* the connection, and each command in flight */
    bool is_gone;
    char name[32];

    int fd;
    struct vgd_watch *watch;
    uint8_t *in; /* VTEST_IN_BYTES */
    uint32_t in_start, in_end;
    struct {
        bool active;
        uint32_t cmd;
        uint8_t *memory; /* device memory */
        uint64_t gpa;
        uint32_t want_bytes, got_bytes;
        struct vgd_vtest_transfer transfer; /* of TRANSFER_PUT */
    } body;
    struct vtest_out *out, **out_end;
    bool is_running; /* requests are being carried out further up the stack */

    bool is_named;
    uint64_t name_due_ns; /* then it has to be */
    uint32_t version;
    uint32_t capset_id, ctx_id;
    bool has_context;
    uint64_t request_bytes;             /* copied for the request that is being carried out */
    uint64_t spent_bytes;               /* of work since its turn began */
    uint64_t coming_bytes;              /* that commands in flight bring to its memory */
    uint32_t n_in_flight;               /* commands */
    struct vtest_resource *wants_range; /* that is to be mapped when there is room; NULL: none */
    bool is_held;                       /* it has as much in flight as it may */
    bool is_stalled;            /* the answer to a request is outstanding: no other is looked at */
    bool waits_idle;            /* it is RESOURCE_BUSY_WAIT */
    bool is_unfenced;           /* work was submitted that no fence covers yet */
    uint32_t n_busy;            /* commands in flight that keep it from being idle */
    uint64_t last_busy;         /* the number of the last of them; 0: it is answered */
    struct vgd_idmap resources; /* struct vtest_resource by the client's number */
    uint32_t n_late;            /* of them, those that the device has not been told of */
    int fence_file;             /* the memory of all of those; -1: there was none yet */
    uint64_t memory_bytes;
    uint64_t device_bytes;    /* of device memory */
    uint32_t n_resources;     /* on the device */
    uint32_t n_exports;       /* resources with a file */
    struct vgd_idmap queries; /* struct vtest_query by handle */
    struct vtest_asked *asked;
    uint32_t n_asked, asked_room;
    struct vgd_idmap syncs; /* struct vtest_sync */
    uint32_t next_sync_id;
    struct vtest_wait *waits;
    uint32_t n_waits, n_wait_entries;
    struct vgd_log_limit log_limit;
};

struct vtest_copy {
    struct vtest_resource *res; /* with a reference */
    struct vgd_vtest_span span;
};

struct vtest_signal {
    struct vtest_sync *sync; /* with a reference */
    uint64_t value;
};

/* Device memory that commands in flight share. */
struct vtest_memory {
    struct vtest_client *client; /* with a reference */
    uint32_t refs;
    uint64_t gpa, n_bytes;
};

/* A command in flight, with what is to be done when it is answered. */
struct vtest_op {
    struct vtest_client *client; /* with a reference */
    void (*then)(struct vtest_op *op, const struct vgd_vtest_answer *answer);
    struct vtest_resource *res; /* with a reference; NULL: none */
    bool is_busy;
    bool is_awaited;             /* the client waits for this one */
    struct vtest_memory *memory; /* with a reference; NULL: none */
    uint64_t sent;               /* the number that the device gave it */
    uint64_t number;             /* as @then likes */
    uint32_t number_bytes;
    struct vtest_copy *copies; /* from the device to the client */
    uint32_t n_copies, copies_room;
    uint64_t coming_bytes; /* of those */
    struct vtest_asked *asked;
    uint32_t n_asked, asked_room;
    struct vtest_signal *signals;
    uint32_t n_signals;
};

/* vtest_client.c */
void vtest_client_drop(struct vtest_client *client, const char *why);
void vtest_client_unref(struct vtest_client *client);
/** Reply with @n_bytes, then (if *@fd is not -1) one byte with the descriptor, which is taken. */
void vtest_client_send(struct vtest_client *client, const void *bytes, uint32_t n_bytes, int *fd);
/** A reply of a header and @n_bytes behind it. */
void vtest_client_reply(struct vtest_client *client, uint32_t cmd, const void *bytes,
                        uint32_t n_bytes, int *fd);
/** The client waits: nothing more is read until vtest_client_go. */
void vtest_client_stall(struct vtest_client *client);
void vtest_client_go(struct vtest_client *client);
/** Answer a RESOURCE_BUSY_WAIT if there is nothing left to wait for, and carry out requests. */
void vtest_client_progress(struct vtest_client *client);
/** It cost us as much as copying @n_bytes. */
void vtest_client_spend(struct vtest_client *client, uint64_t n_bytes);
/** The same for copying @span. False: that is too much for one request, the client was dropped. */
bool vtest_client_may_copy(struct vtest_client *client, const struct vgd_vtest_span *span);
/** A query's result is going to appear in device memory: look for it by and by. */
void vtest_expect_results(struct vgd_vtest_bridge *bridge);
/** Room for @n elements in *@array. */
bool vtest_grow(void **array, uint32_t *room, uint32_t n, size_t element_bytes);

/* vtest_op.c */
/** Device memory for the client, zeroed or @is_raw. NULL: that is more than its share, or there is
 *  none; the client was dropped. */
uint8_t *vtest_memory_take(struct vtest_client *client, uint64_t n_bytes, bool is_raw,
                           uint64_t *out_gpa);
void vtest_memory_give(struct vtest_client *client, uint64_t gpa, uint64_t n_bytes);
/** Takes the span over; NULL (the span freed, the client dropped) when out of memory. */
struct vtest_memory *vtest_memory_new(struct vtest_client *client, uint64_t gpa, uint64_t n_bytes);
/** One owner more; returns @memory. */
struct vtest_memory *vtest_memory_ref(struct vtest_memory *memory);
/** NULL is fine. */
void vtest_memory_unref(struct vtest_memory *memory);
/** NULL (and the client dropped) when out of memory. */
struct vtest_op *vtest_op_new(struct vtest_client *client, struct vtest_resource *res);
/** Send; @op belongs to the device from here on. */
void vtest_op_send(struct vtest_op *op, struct vgd_ctrl_hdr hdr, const void *body,
                   uint32_t body_bytes, uint64_t data_gpa, uint32_t data_bytes,
                   uint32_t resp_bytes);
/** A command whose body is @bytes and of whose answer only the failure matters: then the client is
 *  dropped with @why; NULL: not even that. */
void vtest_send_simple(struct vtest_client *client, struct vtest_resource *res, uint32_t type,
                       const void *body, uint32_t body_bytes, const char *why);
bool vtest_is_error(const struct vgd_vtest_answer *answer);
/** The device writes this part of @res while it carries out @op: copy it to the client then. */
void vtest_op_expect(struct vtest_op *op, struct vtest_resource *res,
                     const struct vgd_vtest_span *span);
/** Never sent. */
void vtest_op_free(struct vtest_op *op);

/* vtest_resource.c */
struct vtest_resource *vtest_resource_find(struct vtest_client *client, uint32_t id);
/** The same for something to be done with it: the device knows it from here on. */
struct vtest_resource *vtest_resource_use(struct vtest_client *client, uint32_t id);
void vtest_resource_unref(struct vtest_resource *res);
void vtest_resource_create(struct vtest_client *client, uint32_t cmd,
                           const struct vgd_vtest_texture *texture, uint32_t data_bytes);
/** A resource with the client's number @id (0: ours) in its table. NULL: the client was dropped. */
struct vtest_resource *vtest_resource_new(struct vtest_client *client, uint32_t id);
void vtest_resource_attach_to_context(struct vtest_resource *res);
/** The client lets go of it. */
void vtest_resource_release(struct vtest_resource *res);
/** Device memory for it, attached. False: there is none, or nothing is shared with the client. */
bool vtest_resource_back(struct vtest_resource *res);
/** Take what a transfer to the host reads from the client's memory. */
void vtest_resource_to_device(struct vtest_resource *res, const struct vgd_vtest_span *span);
void vtest_transfer(struct vtest_client *client, const struct vgd_vtest_transfer2 *transfer,
                    bool to_host);
void vtest_transfer_put(struct vtest_client *client, const struct vgd_vtest_transfer *transfer,
                        uint64_t gpa);
void vtest_transfer_get(struct vtest_client *client, const struct vgd_vtest_transfer *transfer);

/* vtest_blob.c */
void vtest_resource_create_blob(struct vtest_client *client,
                                const struct vgd_vtest_resource_create_blob *blob);
/** Give the range of @res back, if it has one. @is_free: others may have it. */
void vtest_range_release(struct vtest_resource *res, bool is_free);
/** Map what the client waits for, if there is room now. */
void vtest_range_take(struct vtest_client *client);
/** It waits no longer. */
void vtest_range_forget(struct vtest_client *client);
void vtest_resource_export(struct vtest_client *client, uint32_t id);

/* vtest_submit.c */
/** The @n_bytes at @bytes are a whole SUBMIT_CMD; the memory is taken. */
void vtest_submit(struct vtest_client *client, uint8_t *bytes, uint64_t gpa, uint32_t n_bytes);
void vtest_submit2(struct vtest_client *client, uint8_t *bytes, uint64_t gpa, uint32_t n_bytes);
/** A fence behind everything submitted, if there is not one already. */
void vtest_fence(struct vtest_client *client);
/** Copy results of queries that have come. */
void vtest_look_at_queries(struct vtest_client *client);
void vtest_forget_queries(struct vtest_client *client);

/* vtest_sync.c */
void vtest_sync_create(struct vtest_client *client, uint64_t value);
void vtest_sync_unref_id(struct vtest_client *client, uint32_t id);
void vtest_sync_unref(struct vtest_sync *sync);
struct vtest_sync *vtest_sync_find(struct vtest_client *client, uint32_t id);
void vtest_sync_signal(struct vtest_client *client, struct vtest_sync *sync, uint64_t value);
/** @body  a whole sync_wait with its tail */
void vtest_sync_wait(struct vtest_client *client, const uint8_t *body, uint32_t n_bytes);
void vtest_syncs_forget(struct vtest_client *client);

/* vtest_commands.c */
/** Bytes of the body of @cmd that have to be there before it is carried out; false: there is no
 *  such request. SUBMIT_CMD, SUBMIT_CMD2, SYNC_WAIT and CREATE_RENDERER go by hdr.length. */
bool vtest_command_size(const struct vgd_vtest_hdr *hdr, uint32_t *out_bytes);
/** Does its body go to device memory? */
bool vtest_command_is_long(uint32_t cmd);
void vtest_command(struct vtest_client *client, uint32_t cmd, const uint8_t *body,
                   uint32_t n_bytes);
/** A body in device memory is complete. */
void vtest_command_long(struct vtest_client *client);
/** The context on the device, made at the first use. False: the client was dropped. */
bool vtest_context_make(struct vtest_client *client);
/** Do the command streams of this client follow virgl's rules? */
bool vtest_is_virgl(const struct vtest_client *client);

#endif
