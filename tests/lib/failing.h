/* SPDX-License-Identifier: MIT */
/* What a test and the library that it preloads (failing.c) share: a file that both map. */
#ifndef VGD_TESTS_FAILING_H
#define VGD_TESTS_FAILING_H

#include <stdatomic.h>
#include <stdint.h>

#define FAILING_VARIABLE "VGD_TEST_FAILING" /* of the environment: the file's path */

struct failing_plan {
    char program[32];           /* whose calls count; at most 15 bytes are told apart */
    atomic_uint armed;          /* bool */
    uint32_t fail_at;           /* 1: the first call while armed; 0: none */
    atomic_uint calls;          /* so far, while armed */
    _Atomic uint64_t failed_at; /* where, from the beginning of the program's code; 0: not yet */
};

#endif
