/* SPDX-License-Identifier: MIT */
/*
 * Ask a question in a child process: a driver that crashes, hangs or leaves fds open costs one
 * line. Thread: the only one.
 */
#ifndef VGD_CHILD_H
#define VGD_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#define VGD_CHILD_REASON_BYTES 64u

/** Fill @answer, which is zeroed. Runs in the child, whose standard output and error go nowhere. */
typedef void (*vgd_child_fn)(const void *question, void *answer);

/**
 * @answer  plain data without pointers; only whole answers are stored, else it is zeroed
 * @reason  VGD_CHILD_REASON_BYTES; on failure "crashed (signal 11)", "timed out after 5 s", ...
 *
 * Returns within @deadline_ms and the moment that it takes to kill a process.
 */
bool vgd_child_ask(vgd_child_fn fn, const void *question, void *answer, size_t answer_bytes,
                   int deadline_ms, char *reason);

#endif
