/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "fd.h"
#include "log.h"

#define EVENTS_PER_TURN 16
#define NS_PER_SECOND 1000000000ull

struct vgd_watch {
    struct vgd_loop *loop;
    int fd;
    uint32_t events;
    vgd_watch_fn fn; /* NULL: removed, waiting to be freed at the end of the turn */
    void *user;
    struct vgd_watch *prev, *next;
};

struct vgd_timer {
    struct vgd_loop *loop;
    uint64_t due_ns; /* 0: stopped */
    vgd_timer_fn fn;
    void *user;
    struct vgd_timer *prev, *next;
};

struct vgd_loop {
    int epoll_fd;
    int timer_fd;
    uint64_t armed_ns;         /* what timer_fd is set to; 0: off */
    struct vgd_watch *watches; /* live ones */
    struct vgd_watch *removed; /* freed when no event of this turn can name them any more */
    struct vgd_timer *timers;  /* few: a plain list is walked */
    bool quit;
    int exit_code;
};

struct vgd_loop *vgd_loop_create(void)
{
    struct vgd_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return NULL;
    }
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (loop->epoll_fd < 0 || loop->timer_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &ev) != 0) {
        vgd_loop_destroy(loop);
        return NULL;
    }
    return loop;
}

static void free_watches(struct vgd_watch **list)
{
    while (*list != NULL) {
        struct vgd_watch *watch = *list;
        *list = watch->next;
        free(watch);
    }
}

void vgd_loop_destroy(struct vgd_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    free_watches(&loop->watches);
    free_watches(&loop->removed);
    while (loop->timers != NULL) {
        struct vgd_timer *timer = loop->timers;
        vgd_timer_destroy(&timer);
    }
    vgd_fd_closep(&loop->epoll_fd);
    vgd_fd_closep(&loop->timer_fd);
    free(loop);
}

struct vgd_watch *vgd_loop_watch(struct vgd_loop *loop, int fd, uint32_t events, vgd_watch_fn fn,
                                 void *user)
{
    struct vgd_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return NULL;
    }
    *watch = (struct vgd_watch){.loop = loop, .fd = fd, .events = events, .fn = fn, .user = user};
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        free(watch);
        return NULL;
    }
    watch->next = loop->watches;
    if (watch->next != NULL) {
        watch->next->prev = watch;
    }
    loop->watches = watch;
    return watch;
}

void vgd_watch_set(struct vgd_watch *watch, uint32_t events)
{
    if (watch->events == events) {
        return;
    }
    watch->events = events;
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    int rc = epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &ev);
    assert(rc == 0); /* the caller closed the fd before removing its watch */
    (void)rc;
}

void vgd_watch_remove(struct vgd_watch **watch)
{
    struct vgd_watch *w = *watch;
    if (w == NULL) {
        return;
    }
    *watch = NULL;
    struct vgd_loop *loop = w->loop;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    if (w->prev != NULL) {
        w->prev->next = w->next;
    } else {
        loop->watches = w->next;
    }
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    w->fn = NULL;
    w->prev = NULL;
    w->next = loop->removed;
    loop->removed = w;
}

struct vgd_timer *vgd_timer_create(struct vgd_loop *loop, vgd_timer_fn fn, void *user)
{
    struct vgd_timer *timer = calloc(1, sizeof(*timer));
    if (timer == NULL) {
        return NULL;
    }
    *timer = (struct vgd_timer){.loop = loop, .fn = fn, .user = user, .next = loop->timers};
    if (timer->next != NULL) {
        timer->next->prev = timer;
    }
    loop->timers = timer;
    return timer;
}

void vgd_timer_start(struct vgd_timer *timer, uint64_t delay_ns)
{
    uint64_t now_ns = vgd_now_ns();
    timer->due_ns = delay_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + delay_ns;
}

void vgd_timer_stop(struct vgd_timer *timer)
{
    timer->due_ns = 0;
}

bool vgd_timer_running(const struct vgd_timer *timer)
{
    return timer->due_ns != 0;
}

void vgd_timer_destroy(struct vgd_timer **timer)
{
    struct vgd_timer *t = *timer;
    if (t == NULL) {
        return;
    }
    *timer = NULL;
    if (t->prev != NULL) {
        t->prev->next = t->next;
    } else {
        t->loop->timers = t->next;
    }
    if (t->next != NULL) {
        t->next->prev = t->prev;
    }
    free(t);
}

/* Set the kernel's timer to the earliest of ours, when that changed. */
static void arm(struct vgd_loop *loop)
{
    uint64_t due_ns = 0;
    for (const struct vgd_timer *t = loop->timers; t != NULL; t = t->next) {
        if (t->due_ns != 0 && (due_ns == 0 || t->due_ns < due_ns)) {
            due_ns = t->due_ns;
        }
    }
    if (due_ns == loop->armed_ns) {
        return;
    }
    loop->armed_ns = due_ns;
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(due_ns / NS_PER_SECOND),
                     .tv_nsec = (long)(due_ns % NS_PER_SECOND)},
    };
    int rc = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(rc == 0);
    (void)rc;
}

/* Each timer that is due now fires once. One that a callback starts again waits for the next turn.
 */
static void fire_timers(struct vgd_loop *loop)
{
    vgd_eventfd_clear(loop->timer_fd);
    loop->armed_ns = 0;
    uint64_t now_ns = vgd_now_ns();
    for (;;) {
        struct vgd_timer *due = NULL;
        for (struct vgd_timer *t = loop->timers; t != NULL && due == NULL; t = t->next) {
            if (t->due_ns != 0 && t->due_ns <= now_ns) {
                due = t;
            }
        }
        if (due == NULL) {
            return;
        }
        due->due_ns = 0;
        due->fn(due->user); /* may free any timer: start the walk again */
    }
}

void vgd_loop_turn(struct vgd_loop *loop, int timeout_ms)
{
    arm(loop);
    struct epoll_event events[EVENTS_PER_TURN];
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n && !loop->quit; i++) {
        struct vgd_watch *watch = events[i].data.ptr;
        if (watch == NULL) {
            fire_timers(loop);
        } else if (watch->fn != NULL) {
            watch->fn(watch->user, events[i].events);
        }
    }
    free_watches(&loop->removed);
}

int vgd_loop_run(struct vgd_loop *loop)
{
    while (!loop->quit) {
        vgd_loop_turn(loop, -1);
    }
    loop->quit = false;
    return loop->exit_code;
}

void vgd_loop_quit(struct vgd_loop *loop, int exit_code)
{
    loop->quit = true;
    loop->exit_code = exit_code;
}

struct vgd_inbox {
    int event_fd;
    struct vgd_watch *watch;
    vgd_inbox_fn fn;
    void *user;
    pthread_mutex_t lock;
    struct vgd_inbox_item *first, **last; /* guarded by lock */
};

static void inbox_ready(void *user, uint32_t events)
{
    (void)events;
    struct vgd_inbox *inbox = user;
    vgd_eventfd_clear(inbox->event_fd);
    vgd_inbox_drain(inbox);
}

struct vgd_inbox *vgd_inbox_create(struct vgd_loop *loop, vgd_inbox_fn fn, void *user)
{
    struct vgd_inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL) {
        return NULL;
    }
    inbox->fn = fn;
    inbox->user = user;
    inbox->last = &inbox->first;
    (void)pthread_mutex_init(&inbox->lock, NULL);
    inbox->event_fd = vgd_eventfd_create();
    if (inbox->event_fd >= 0) {
        inbox->watch = vgd_loop_watch(loop, inbox->event_fd, EPOLLIN, inbox_ready, inbox);
    }
    if (inbox->watch == NULL) {
        vgd_inbox_destroy(inbox);
        return NULL;
    }
    return inbox;
}

void vgd_inbox_post(struct vgd_inbox *inbox, struct vgd_inbox_item *item)
{
    item->next = NULL;
    (void)pthread_mutex_lock(&inbox->lock);
    bool was_empty = inbox->first == NULL;
    *inbox->last = item;
    inbox->last = &item->next;
    (void)pthread_mutex_unlock(&inbox->lock);
    if (was_empty) {
        vgd_eventfd_signal(inbox->event_fd);
    }
}

void vgd_inbox_drain(struct vgd_inbox *inbox)
{
    (void)pthread_mutex_lock(&inbox->lock);
    struct vgd_inbox_item *item = inbox->first;
    inbox->first = NULL;
    inbox->last = &inbox->first;
    (void)pthread_mutex_unlock(&inbox->lock);
    while (item != NULL) {
        struct vgd_inbox_item *next = item->next;
        inbox->fn(inbox->user, item);
        item = next;
    }
}

void vgd_inbox_destroy(struct vgd_inbox *inbox)
{
    if (inbox == NULL) {
        return;
    }
    vgd_inbox_drain(inbox);
    vgd_watch_remove(&inbox->watch);
    vgd_fd_closep(&inbox->event_fd);
    (void)pthread_mutex_destroy(&inbox->lock);
    free(inbox);
}
