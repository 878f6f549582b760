/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the control socket share: control.c (the socket, clients, lines, replies)
 * and control_commands.c (what the requests mean).
 * Thread: loop.
 */
#ifndef VGD_CONTROL_PRIV_H
#define VGD_CONTROL_PRIV_H

#include <stdbool.h>
#include <sys/socket.h>

#include "control.h"

struct vgd_control_client {
    struct vgd_control *owner;
    int fd; /* -1: a free place */
    struct vgd_watch *watch;
    uint32_t events; /* that it waits for, unless all are paused */
    uint64_t due_ns;

    char line[VGD_CONTROL_LINE_BYTES_MAX];
    size_t line_bytes;
    uint64_t requests_filled_ns; /* a token bucket: when it was last filled, */
    uint32_t requests_left;      /* and what is in it */
    int passed_fd;               /* came with what is read and not yet acted on; -1: none */
    bool passed_excess;          /* so did more */

    bool waiting; /* for what comes under @token */
    uint64_t token;
    const char *too_late; /* what it is told when it has waited too long; static */

    char *reply; /* owned; NULL: reading or waiting */
    size_t reply_bytes, sent_bytes;
    int reply_fd; /* goes with the first byte */
    bool leaving; /* after the reply */
};

struct vgd_control {
    struct vgd_loop *loop;
    struct vgd_control_ops ops;
    void *user;
    uint32_t idle_ms, slow_ms, screenshot_ms, trace_start_ms, trace_stop_ms;
    struct vgd_control_place place;
    int fd;
    struct vgd_watch *watch;
    struct vgd_timer *timer;
    uint64_t accept_again_ns; /* 0: accepting */
    uint64_t paused_until_ns; /* 0: not paused */
    uint64_t share_began_ns;
    uint32_t share, share_used;
    uint64_t last_token;
    struct vgd_control_client *clients[VGD_CONTROL_CLIENTS_MAX]; /* owned; NULL: a free place */
};

/* ---- control.c ----------------------------------------------------------------------------------
 */

/** Make @value (taken over) under @key the reply to what was read, or an error if that is longer
 * than a reply may be. Without memory client->reply stays NULL, and the client is dropped. */
void vgd_control_set_reply(struct vgd_control_client *client, const char *key,
                           struct json_object *value);
/** The same with all of @reply (taken over), which was begun with vgd_control_new_reply. */
struct json_object *vgd_control_new_reply(void);
void vgd_control_set_whole(struct vgd_control_client *client, struct json_object *reply);
void vgd_control_set_error(struct vgd_control_client *client, const char *text);
/** The client waits for what comes later under a new token, at most @ms; then it gets the error
 * @too_late, which is static. */
void vgd_control_wait(struct vgd_control_client *client, uint32_t ms, const char *too_late);
/** The client that waits with @token, or NULL. */
struct vgd_control_client *vgd_control_waiting(struct vgd_control *c, uint64_t token);
/** A waiting client has its reply now (or no memory for one): it is written on the next turn of
 * the loop, since we may be inside its request. */
void vgd_control_wait_over(struct vgd_control_client *client);

/* ---- control_commands.c -------------------------------------------------------------------------
 */

/** Act on one line of @n_bytes, its newline included: sets a reply, or waits. */
void vgd_control_do_line(struct vgd_control_client *client, const char *text, size_t n_bytes);

#endif
