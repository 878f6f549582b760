/* SPDX-License-Identifier: MIT */
/*
 * An end to a call of a library that waits on a socket for ever: when the time is up, a signal's
 * handler shuts the socket down, and the call comes back with an error. (Receive time-outs on the
 * socket do not help where the library tries again on EAGAIN.)
 *
 * One for the process; begin and end come in pairs, without nesting. Thread: loop.
 */
#ifndef VGD_CALL_GUARD_H
#define VGD_CALL_GUARD_H

#include <stdbool.h>

/** Calls between this and vgd_call_guard_end that wait on @fd's socket do not wait longer than
 *  @deadline_ms. @fd -1, or a kernel without timers: they are not bounded. */
void vgd_call_guard_begin(int fd, int deadline_ms);
/** true: the time was up, and the socket is shut down. */
bool vgd_call_guard_end(void);

#endif
