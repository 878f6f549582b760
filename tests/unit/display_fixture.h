/* SPDX-License-Identifier: MIT */
/* What the display and control tests share: a test gives back every fd and byte. */
#ifndef DISPLAY_FIXTURE_H
#define DISPLAY_FIXTURE_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>

#include "leaks.h"

/* Criterion ignores failures in a fixture's end, so the checks wrap the body. */
#define TIDY_TEST(suite, name)                                                                     \
    static void suite##_##name(void);                                                              \
    Test(suite, name, .timeout = 60)                                                               \
    {                                                                                              \
        unsigned fds_before = open_fds_count();                                                    \
        suite##_##name();                                                                          \
        cr_assert_eq(open_fds_count(), fds_before, "fds leaked");                                  \
        cr_assert(!leaked(), "memory leaked");                                                     \
    }                                                                                              \
    static void suite##_##name(void)

#endif
