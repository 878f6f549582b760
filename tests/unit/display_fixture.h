/* SPDX-License-Identifier: MIT */
/* What the display and control tests share: a test gives back every fd and byte. */
#ifndef DISPLAY_FIXTURE_H
#define DISPLAY_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIXTURE_HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FIXTURE_HAS_ASAN 1
#endif
#ifdef FIXTURE_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

static inline unsigned open_fds_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    unsigned n = 0;
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

/* A test process leaves through _exit, past the leak checker: ask it here. */
static inline bool leaked(void)
{
#ifdef FIXTURE_HAS_ASAN
    return __lsan_do_recoverable_leak_check() != 0;
#else
    return false;
#endif
}

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
