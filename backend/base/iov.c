/* SPDX-License-Identifier: MIT */
#include "iov.h"

#include <stdbool.h>
#include <string.h>

size_t vgd_iov_size(const struct iovec *iov, size_t n_iov)
{
    size_t total = 0;
    for (size_t i = 0; i < n_iov; i++) {
        total += iov[i].iov_len;
    }
    return total;
}

static size_t copy(const struct iovec *iov, size_t n_iov, size_t offset_bytes, uint8_t *data,
                   size_t n_bytes, bool to_list)
{
    size_t done = 0;
    for (size_t i = 0; i < n_iov && done < n_bytes; i++) {
        if (offset_bytes >= iov[i].iov_len) {
            offset_bytes -= iov[i].iov_len;
            continue;
        }
        size_t n = iov[i].iov_len - offset_bytes;
        if (n > n_bytes - done) {
            n = n_bytes - done;
        }
        uint8_t *guest = (uint8_t *)iov[i].iov_base + offset_bytes;
        memcpy(to_list ? guest : data + done, to_list ? data + done : guest, n);
        done += n;
        offset_bytes = 0;
    }
    __asm__ volatile("" ::: "memory");
    return done;
}

size_t vgd_iov_copy_out(const struct iovec *iov, size_t n_iov, size_t offset_bytes, void *out,
                        size_t n_bytes)
{
    return copy(iov, n_iov, offset_bytes, out, n_bytes, false);
}

size_t vgd_iov_copy_in(const struct iovec *iov, size_t n_iov, size_t offset_bytes, const void *data,
                       size_t n_bytes)
{
    return copy(iov, n_iov, offset_bytes, (uint8_t *)(uintptr_t)data, n_bytes, true);
}
