/* SPDX-License-Identifier: MIT */
#include "call_guard.h"

#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"

#define GUARD_SIGNAL (SIGRTMIN + 4) /* of no other use in this process */

static timer_t timer;
static bool timer_made, timer_failed;
static volatile sig_atomic_t guarded_fd = -1, fired;

/* On whichever thread: shutdown wakes the one that waits. */
static void time_is_up(int number)
{
    (void)number;
    if (guarded_fd >= 0) {
        (void)shutdown((int)guarded_fd, SHUT_RDWR);
        fired = 1;
    }
}

static bool make_timer(void)
{
    if (timer_made || timer_failed) {
        return timer_made;
    }
    struct sigaction action = {.sa_handler = time_is_up, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = GUARD_SIGNAL};
    timer_made = sigemptyset(&action.sa_mask) == 0 && sigaction(GUARD_SIGNAL, &action, NULL) == 0 &&
                 timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
    timer_failed = !timer_made;
    if (timer_failed) {
        vgd_log(VGD_LOG_WARNING, "render", "no timer: a Vulkan process that hangs is waited for");
    }
    return timer_made;
}

static void arm(int delay_ms)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = delay_ms / 1000, .tv_nsec = (delay_ms % 1000) * 1000000L}};
    (void)timer_settime(timer, 0, &when, NULL);
}

void vgd_call_guard_begin(int fd, int deadline_ms)
{
    fired = 0;
    if (fd >= 0 && make_timer()) {
        guarded_fd = fd;
        arm(deadline_ms);
    }
}

bool vgd_call_guard_end(void)
{
    if (guarded_fd >= 0) {
        guarded_fd = -1; /* before the timer: a signal on its way finds nothing to shut down */
        arm(0);
    }
    return fired != 0;
}
