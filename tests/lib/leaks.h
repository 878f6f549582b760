/* SPDX-License-Identifier: MIT */
/* What a test asks at its end, to be sure that it gave everything back. */
#ifndef VGD_TESTS_LEAKS_H
#define VGD_TESTS_LEAKS_H

#include <assert.h>
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define LEAKS_HAS_ASAN 1
#endif
#ifdef LEAKS_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

/** A number that is the same again when as many descriptors are open. */
static inline unsigned open_fds_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    assert(dir != NULL);
    unsigned n = 0;
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

/** Is there memory that nothing points to? A test process leaves through _exit, past the leak
 *  checker: so ask it here. */
static inline bool leaked(void)
{
#ifdef LEAKS_HAS_ASAN
    return __lsan_do_recoverable_leak_check() != 0;
#else
    return false;
#endif
}

#endif
