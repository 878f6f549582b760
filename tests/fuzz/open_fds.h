/* SPDX-License-Identifier: MIT */
/* Is every descriptor closed in the end? Without reading /proc, which takes too long here. */
#ifndef VGD_TESTS_OPEN_FDS_H
#define VGD_TESTS_OPEN_FDS_H

#include <fcntl.h>
#include <stdint.h>

/** A bit for each of the first 64 descriptors that is open. The same at the start and at the end of
 *  an input: nothing was left open there. */
static inline uint64_t open_fds(void)
{
    uint64_t fds = 0;
    for (int fd = 0; fd < 64; fd++) {
        fds |= fcntl(fd, F_GETFD) >= 0 ? UINT64_C(1) << fd : 0;
    }
    return fds;
}

#endif
