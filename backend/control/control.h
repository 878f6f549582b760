/* SPDX-License-Identifier: MIT */
/*
 * The control socket: what vgdctl and a person with socat talk to. A unix stream socket, mode 0600;
 * clients are our own user or root. JSON, one request and one reply a line:
 *
 *     {"v":1,"cmd":"status"}
 *         -> {"v":1,"status":{...,"trace":null}}, or in it what trace-start gives
 *     {"v":1,"cmd":"screenshot","scanout":0}
 *         -> {"v":1,"screenshot":{"w":640,"h":480,"stride":2560,"format":"x8r8g8b8"}}, a memfd
 *            beside its first byte
 *     {"v":1,"cmd":"trace-start","picture_ms":1000}, with one descriptor beside it: an empty file,
 *     open for reading and writing; a pipe, a stream socket, /dev/null. picture_ms: pixels are
 *     recorded that often at most; 0: always; "none": never; 1000 if it is not there
 *         -> {"v":1,"trace":{"state":"running","why":"","records":0,"bytes_in":0,"bytes_out":0,
 *            "gaps":0,"lost_records":0,"lost_bytes":0,"memory_bytes":0,"seconds":0.0}}, when what
 *            the guest does is recorded; at once if there is no worker, with the state "waiting"
 *     {"v":1,"cmd":"trace-stop"}
 *         -> the same when all is in the file, with the state "ended" or "failed" (and why)
 *     {"v":1,"cmd":"log-level","level":"debug"}
 *         -> {"v":1,"log_level":"debug"}
 *     {"v":1,"cmd":"counters"}
 *         -> {"v":1,"counters":{...}}
 *     {"v":1,"cmd":"contexts","from":0}, "from" may be left out
 *         -> {"v":1,"contexts":[...],"next":null}, or the "from" of the next part
 *     {"v":1,"cmd":"errors"}
 *         -> {"v":1,"errors":[...]}
 *     anything else
 *         -> {"v":1,"error":"what is wrong"}
 *
 * A client's next request is read when it has its reply. A descriptor belongs to the line that is
 * read with it: with lines sent at once, the first of them, so trace-start is sent alone, when the
 * last reply is there. One that its line has no use for is closed. A client that sends too much
 * without a newline, asks too often, does not read its reply, or says nothing for a time is
 * dropped. Of each client one request is acted on in a turn of the loop, and all clients together
 * have a share of it: what else the loop does goes on. Thread: loop.
 */
#ifndef VGD_CONTROL_H
#define VGD_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "log.h"
#include "loop.h"
#include "status.h"

#define VGD_CONTROL_VERSION 1
#define VGD_CONTROL_CLIENTS_MAX 8u
#define VGD_CONTROL_LINE_BYTES_MAX 4096u   /* of a request, with its newline */
#define VGD_CONTROL_REPLY_BYTES_MAX 65536u /* of a reply; only one is kept for each client */
#define VGD_CONTROL_BURST 64u              /* requests of a client at once, */
#define VGD_CONTROL_PER_SECOND 100u        /* and in the long run */
#define VGD_CONTROL_SHARE_MS 10u           /* in each such time */
#define VGD_CONTROL_SHARE 16u              /* so much is done for all clients together */
#define VGD_CONTROL_IDLE_MS 30000u         /* between requests */
#define VGD_CONTROL_SLOW_MS 5000u          /* to take a reply */
#define VGD_CONTROL_SCREENSHOT_MS 5000u    /* for the owner to make one */
#define VGD_CONTROL_TRACE_START_MS 5000u   /* for the owner to begin a recording */
#define VGD_CONTROL_TRACE_STOP_MS 12000u   /* for the owner to end a recording */
#define VGD_CONTROL_PICTURE_MS 1000u       /* if a recording's request does not say */
#define VGD_CONTROL_PICTURE_MS_MAX 3600000u
#define VGD_CONTROL_NO_PICTURES UINT32_MAX

struct json_object;
struct vgd_control;

struct vgd_control_ops {
    /** Add to @out, an empty object, what "status" tells. */
    void (*status)(void *user, struct json_object *out);
    /**
     * Begin a screenshot. VGD_OK: vgd_control_screenshot_reply with @token comes later, or from
     * inside. Otherwise no reply comes, and the client is told why: VGD_NO_SCANOUT, VGD_LOST (no
     * worker now), ...
     */
    enum vgd_status (*screenshot)(void *user, uint32_t scanout_idx, uint64_t token);
    /** Record into *@fd, a descriptor of which nothing is known, which is taken. @picture_ms: or
     * VGD_CONTROL_NO_PICTURES. VGD_OK: it will be recorded as soon as it can; VGD_AGAIN:
     * vgd_control_trace_started follows, not from inside. Else @why, a literal, tells the client.
     */
    enum vgd_status (*trace_start)(void *user, int *fd, uint32_t picture_ms, const char **why);
    /** VGD_OK: it is over; VGD_AGAIN: vgd_control_trace_stopped follows; VGD_UNSUPPORTED: nothing
     * is recorded. */
    enum vgd_status (*trace_stop)(void *user);
    /** Add to @out, an empty object, how the last recording is. */
    void (*trace)(void *user, struct json_object *out);
    void (*log_level)(void *user, enum vgd_log_level level);
    /** What live_json.h says, taken over from the owner. */
    struct json_object *(*counters)(void *user);
    struct json_object *(*contexts)(void *user, uint32_t from_id, int64_t *out_next_id);
    struct json_object *(*errors)(void *user);
};

struct vgd_control_config {
    struct vgd_loop *loop; /* borrowed */
    const char *path;      /* copied */
    struct vgd_control_ops ops;
    void *user;
    uint32_t idle_ms, slow_ms, screenshot_ms, trace_start_ms, trace_stop_ms; /* 0: those above */
    uint32_t share;                                                          /* likewise */
};

/**
 * Listen on @config->path. A socket there that nobody answers on is replaced; anything else is left
 * alone.
 *
 * VGD_RANGE: the path is too long for a socket, or is something else than a socket; VGD_LIMIT:
 * somebody listens there; VGD_HOST_FAILED; VGD_NO_MEMORY. Said in the log, once.
 */
VGD_MUST_CHECK enum vgd_status vgd_control_create(const struct vgd_control_config *config,
                                                  struct vgd_control **out);
/** Close all and remove the socket if it is still ours. NULL is fine. */
void vgd_control_destroy(struct vgd_control *c);

/**
 * What became of the screenshot @token. Takes *@fd, a memfd that cannot shrink, of @h_px rows of
 * @w_px * 4 bytes (x8r8g8b8): checked here, since it may come from a worker that was taken over.
 * A token whose client is gone, or was told that it took too long, is fine.
 *
 * @fd  -1 unless @status is VGD_OK
 */
void vgd_control_screenshot_reply(struct vgd_control *c, uint64_t token, enum vgd_status status,
                                  uint32_t w_px, uint32_t h_px, int *fd);

/** A recording has begun, or will not soon: those who wait for that are told how it is. */
void vgd_control_trace_started(struct vgd_control *c);
/** A recording is over: those who wait for that are told. */
void vgd_control_trace_stopped(struct vgd_control *c);

/* A unix socket in the file system that we listen on. */
struct vgd_control_place {
    struct sockaddr_un address;
    dev_t dev;
    ino_t ino;
};

/**
 * A non-blocking socket that listens on @path, mode 0600; the caller's. A socket there that nobody
 * answers on is replaced; anything else is left alone. Fails as vgd_control_create does, and says
 * why under @who.
 */
VGD_MUST_CHECK enum vgd_status vgd_control_listen(const char *path, const char *who, int backlog,
                                                  struct vgd_control_place *out, int *out_fd);
/** Remove the socket's file if it is still ours. */
void vgd_control_unlink(const struct vgd_control_place *place);

/**
 * The folder of control sockets: $XDG_RUNTIME_DIR/vgd, or /run/vgd for root where that is not set.
 * VGD_UNSUPPORTED: neither; VGD_RANGE: too long for @out.
 */
VGD_MUST_CHECK enum vgd_status vgd_control_dir(char *out, size_t out_bytes);
/**
 * PID.sock of this process in that folder, which is made (0700) if missing. VGD_HOST_FAILED: it
 * cannot be made, or is not a folder of ours alone; else as vgd_control_dir.
 */
VGD_MUST_CHECK enum vgd_status vgd_control_default_path(char *out, size_t out_bytes);

#endif
