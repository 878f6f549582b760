/* SPDX-License-Identifier: MIT */
/*
 * An event loop over epoll, with timers. One thread runs it; only vgd_inbox_post may be called
 * from another. A callback may add, change or remove any watch or timer, its own too.
 */
#ifndef VGD_BASE_LOOP_H
#define VGD_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "status.h"

struct vgd_loop;
struct vgd_watch;
struct vgd_timer;

typedef void (*vgd_watch_fn)(void *user, uint32_t events);
typedef void (*vgd_timer_fn)(void *user);

/** A new loop, or NULL when the kernel refuses. */
struct vgd_loop *vgd_loop_create(void);
/** Destroy the loop and the watches and timers left on it; their fds are not touched. NULL is fine.
 */
void vgd_loop_destroy(struct vgd_loop *loop);

/**
 * Call @fn when @fd has @events (EPOLLIN, EPOLLOUT; errors and hang-ups always come).
 * @fd stays the caller's and must stay open until vgd_watch_remove. Returns NULL on failure.
 */
struct vgd_watch *vgd_loop_watch(struct vgd_loop *loop, int fd, uint32_t events, vgd_watch_fn fn,
                                 void *user);
/** Change what is waited for; 0 keeps only errors and hang-ups. */
void vgd_watch_set(struct vgd_watch *watch, uint32_t events);
/** Stop watching and free. Sets *watch to NULL; *watch may be NULL. No callback comes afterwards.
 */
void vgd_watch_remove(struct vgd_watch **watch);

/** A stopped timer. Returns NULL on failure. */
struct vgd_timer *vgd_timer_create(struct vgd_loop *loop, vgd_timer_fn fn, void *user);
/** Fire once, @delay_ns from now (0: on the next turn). Replaces an earlier start. */
void vgd_timer_start(struct vgd_timer *timer, uint64_t delay_ns);
void vgd_timer_stop(struct vgd_timer *timer);
bool vgd_timer_running(const struct vgd_timer *timer);
/** Stop and free. Sets *timer to NULL; *timer may be NULL. */
void vgd_timer_destroy(struct vgd_timer **timer);

/** Run until vgd_loop_quit. Returns its exit code. */
int vgd_loop_run(struct vgd_loop *loop);
/** Make vgd_loop_run return @exit_code after the current callback. */
void vgd_loop_quit(struct vgd_loop *loop, int exit_code);
/** One turn: wait at most @timeout_ms (-1: for ever), then dispatch. For tests and drivers. */
void vgd_loop_turn(struct vgd_loop *loop, int timeout_ms);

/** An item posted to an inbox; embed it, first member or not. Owned by the inbox until delivered.
 */
struct vgd_inbox_item {
    struct vgd_inbox_item *next;
};
struct vgd_inbox;
typedef void (*vgd_inbox_fn)(void *user, struct vgd_inbox_item *item);

/** Items posted by any thread are delivered on the loop's thread, in order. NULL on failure. */
struct vgd_inbox *vgd_inbox_create(struct vgd_loop *loop, vgd_inbox_fn fn, void *user);
/** Any thread. Takes *item over. */
void vgd_inbox_post(struct vgd_inbox *inbox, struct vgd_inbox_item *item);
/** Deliver now what was posted, without waiting for the loop. Loop thread. */
void vgd_inbox_drain(struct vgd_inbox *inbox);
/** Undelivered items are handed to @fn first. No thread may post any more. NULL is fine. */
void vgd_inbox_destroy(struct vgd_inbox *inbox);

#endif
