/* SPDX-License-Identifier: MIT */
/*
 * Scatter lists over guest memory. Guest memory can change while we look at it: copy once, then
 * decode the copy. Only the functions here and the renderer's own transfers touch it.
 */
#ifndef VGD_BASE_IOV_H
#define VGD_BASE_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/** Total length in bytes. Cannot overflow: every entry lies in mapped memory. */
size_t vgd_iov_size(const struct iovec *iov, size_t n_iov);

/** Copy up to @n_bytes from @offset_bytes of the list to private memory; returns the bytes copied.
 *  Ends with a compiler barrier, so nothing is read from guest memory twice. */
size_t vgd_iov_copy_out(const struct iovec *iov, size_t n_iov, size_t offset_bytes, void *out,
                        size_t n_bytes);

/** Copy up to @n_bytes from private memory to @offset_bytes of the list; returns the bytes copied.
 */
size_t vgd_iov_copy_in(const struct iovec *iov, size_t n_iov, size_t offset_bytes, const void *data,
                       size_t n_bytes);

#endif
