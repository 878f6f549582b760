/* SPDX-License-Identifier: MIT */
/*
 * The control socket: what vgdctl and a person with socat talk to. A unix stream socket, mode 0600;
 * clients are our own user or root. JSON, one request and one reply a line:
 *
 *     {"v":1,"cmd":"status"}                  -> {"v":1,"status":{...}}
 *     {"v":1,"cmd":"screenshot","scanout":0}  ->
 * {"v":1,"screenshot":{"w":640,"h":480,"stride":2560, "format":"x8r8g8b8"}}, a memfd beside its
 * first byte anything else                           -> {"v":1,"error":"what is wrong"}
 *
 * A client's next request is read when it has its reply. A client that sends too much without a
 * newline, does not read its reply, or says nothing for a time is dropped.
 * Thread: loop.
 */
#ifndef VGD_CONTROL_H
#define VGD_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "status.h"

#define VGD_CONTROL_VERSION 1
#define VGD_CONTROL_CLIENTS_MAX 8u
#define VGD_CONTROL_LINE_BYTES_MAX 4096u   /* of a request, with its newline */
#define VGD_CONTROL_REPLY_BYTES_MAX 65536u /* of a reply; only one is kept for each client */
#define VGD_CONTROL_IDLE_MS 30000u         /* between requests */
#define VGD_CONTROL_SLOW_MS 5000u          /* to take a reply */
#define VGD_CONTROL_SCREENSHOT_MS 5000u    /* for the owner to make one */

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
};

struct vgd_control_config {
    struct vgd_loop *loop; /* borrowed */
    const char *path;      /* copied */
    struct vgd_control_ops ops;
    void *user;
    uint32_t idle_ms, slow_ms, screenshot_ms; /* 0: those above */
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
