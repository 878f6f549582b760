/* SPDX-License-Identifier: MIT */
/*
 * The VMM's side of the host-visible region: address space reserved whole, files mapped into it by
 * the backend's SHMEM_MAP, and the guest kernel's allocator of ranges in it. It refuses what QEMU
 * refuses.
 * Thread: one at a time.  Spec: vhost-user, "VIRTIO Shared Memory Region map/unmap".
 */
#ifndef VGD_GUEST_SHM_H
#define VGD_GUEST_SHM_H

#include <stdbool.h>
#include <stdint.h>

#include "status.h"
#include "vhost_user.h"

/* Where the region lies in the guest's physical memory: far above any RAM. */
#define VGD_GUEST_SHM_GPA (UINT64_C(1) << 45)

struct vgd_guest_shm_map {
    uint64_t offset_bytes, len_bytes; /* in the region */
    uint64_t file_offset_bytes;
    int fd;         /* owned by the table */
    bool committed; /* the guest can reach it; see vgd_guest_shm_commit */
};

struct vgd_guest_shm;

/** NULL: no address space, or not whole pages. */
struct vgd_guest_shm *vgd_guest_shm_create(uint64_t size_bytes);
void vgd_guest_shm_destroy(struct vgd_guest_shm *shm);

uint64_t vgd_guest_shm_size(const struct vgd_guest_shm *shm);
uint8_t *vgd_guest_shm_base(const struct vgd_guest_shm *shm);

/**
 * Map what *@map says; takes *@fd. On failure *out_why is what QEMU would print.
 * VGD_RANGE: the backend asked for what it may not. VGD_HOST_FAILED: mmap refused.
 */
VGD_MUST_CHECK enum vgd_status vgd_guest_shm_map(struct vgd_guest_shm *shm,
                                                 const struct vgd_vu_shmem_map *map, int *fd,
                                                 const char **out_why);
/** What was mapped since the last call is now where the guest reaches it. QEMU 11.1 acknowledges a
 *  map before this (D7); until then a guest that was told of it writes into nothing. */
void vgd_guest_shm_commit(struct vgd_guest_shm *shm);
/** VGD_RANGE: it does not equal one mapping. */
VGD_MUST_CHECK enum vgd_status vgd_guest_shm_unmap(struct vgd_guest_shm *shm,
                                                   const struct vgd_vu_shmem_map *map,
                                                   const char **out_why);
/** A device reset: every mapping goes, and the guest's allocations too. */
void vgd_guest_shm_reset(struct vgd_guest_shm *shm);

uint32_t vgd_guest_shm_count(const struct vgd_guest_shm *shm);
/** In the order of offsets. Borrowed until the next change. */
const struct vgd_guest_shm_map *vgd_guest_shm_at(const struct vgd_guest_shm *shm, uint32_t idx);
/** The mapping that begins at @offset_bytes, or NULL. */
const struct vgd_guest_shm_map *vgd_guest_shm_find(const struct vgd_guest_shm *shm,
                                                   uint64_t offset_bytes);

/** First fit, whole pages; UINT64_MAX: no room. Independent of what is mapped. */
uint64_t vgd_guest_shm_alloc(struct vgd_guest_shm *shm, uint64_t size_bytes);
/** As allocated; anything else is ignored. */
void vgd_guest_shm_free(struct vgd_guest_shm *shm, uint64_t offset_bytes, uint64_t size_bytes);

#endif
