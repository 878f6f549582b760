/* SPDX-License-Identifier: MIT */
/*
 * A clock that an input can put forward, so that deadlines pass without waiting. Linked in, it
 * takes the place of clock_gettime and timerfd_settime for CLOCK_MONOTONIC; one event loop at a
 * time.
 */
#ifndef VGD_TESTS_OWN_CLOCK_H
#define VGD_TESTS_OWN_CLOCK_H

#include <stdint.h>

/** Let @ns pass. Timers that are due then fire in the loop's next turn. */
void own_clock_advance(uint64_t ns);
/** Back to the real time; at the end of each input, since libFuzzer looks at the clock too. */
void own_clock_reset(void);

#endif
