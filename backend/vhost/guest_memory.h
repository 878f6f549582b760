/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM as regions of shared files, mapped by the worker. The front-end describes them; nothing
 * it says is believed before it is checked against the file.
 * Thread: loop.  Spec: vhost-user, "Memory region description".
 */
#ifndef VGD_GUEST_MEMORY_H
#define VGD_GUEST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "status.h"
#include "vhost_user.h"

#define VGD_MEM_REGIONS_MAX 64u

struct vgd_mem;

/** An empty table; NULL when out of memory. */
struct vgd_mem *vgd_mem_create(void);
/** Unmap everything. NULL is fine. */
void vgd_mem_destroy(struct vgd_mem *mem);

/**
 * Check one region without mapping it: size not 0, gpa + size and mmap_offset + size and
 * user_addr + size do not wrap, the file is regular shared memory (fstat) and long enough.
 * VGD_RANGE with *why a literal for the log. @fd is borrowed. Used by the supervisor too.
 */
VGD_MUST_CHECK enum vgd_status vgd_mem_region_check(const struct vgd_vu_mem_region *region, int fd,
                                                    const char **why);

/**
 * Map one more region. @fd is borrowed (closed by the caller; the mapping keeps the file).
 * VGD_RANGE: fails the check, or overlaps another region in guest-physical or user addresses.
 * VGD_LIMIT, VGD_HOST_FAILED. On failure the table is unchanged.
 */
VGD_MUST_CHECK enum vgd_status vgd_mem_add(struct vgd_mem *mem,
                                           const struct vgd_vu_mem_region *region, int fd);
/** Unmap the region with this gpa, user address and size. VGD_RANGE if there is none. */
VGD_MUST_CHECK enum vgd_status vgd_mem_remove(struct vgd_mem *mem,
                                              const struct vgd_vu_mem_region *region);
/**
 * Replace the whole table. A region that is the same as a mapped one (addresses, size, offset,
 * same file by device and inode) keeps its mapping, so pointers into it stay good.
 * *out_changed: any mapping was made or dropped. On failure the table is empty.
 */
VGD_MUST_CHECK enum vgd_status vgd_mem_set_table(struct vgd_mem *mem,
                                                 const struct vgd_vu_mem_region *regions,
                                                 const int *fds, uint32_t n_regions,
                                                 bool *out_changed);
uint32_t vgd_mem_region_count(const struct vgd_mem *mem);

/**
 * Host mappings of the guest-physical span [gpa, gpa + len): appends to @iov from *n_iov on, at
 * most @max entries in all; a span may cross regions that touch. VGD_RANGE if any byte is outside
 * or there is no room: *n_iov is then unchanged. len 0 appends nothing.
 */
VGD_MUST_CHECK enum vgd_status vgd_mem_translate(struct vgd_mem *mem, uint64_t gpa,
                                                 uint64_t len_bytes, struct iovec *iov,
                                                 uint32_t *n_iov, uint32_t max);

/** The host address of a span of front-end user addresses that lies in one region, or NULL. */
void *vgd_mem_user_to_host(const struct vgd_mem *mem, uint64_t user_addr, uint64_t len_bytes);

#endif
