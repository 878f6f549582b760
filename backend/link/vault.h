/* SPDX-License-Identifier: MIT */
/*
 * What outlives a worker: a sealed memfd that the supervisor makes and each worker maps. Offsets
 * and ids only; no pointers, descriptors or paths. The supervisor reads numbers that it shows or
 * hands back to the VMM, and depends on none of them; a new worker believes the rest no more than
 * what a guest sends.
 *
 * Zeroes are a valid empty vault.
 */
#ifndef VGD_VAULT_H
#define VGD_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu_counters.h"
#include "link.h"
#include "virtqueue.h"

/* Room for the largest state that the device's limits allow, twice. Pages that nobody touched do
 * not exist. */
#define VGD_VAULT_JOURNAL_BYTES (256ull << 20)

struct vgd_vault {
    uint64_t
        answered_ns; /* CLOCK_MONOTONIC of the first command that this worker answered; 0: none */
    struct vgd_gpu_counters counters;
    struct vgd_gpu_live live;
    struct vgd_inflight inflight[VGD_QUEUES_COUNT];
    _Alignas(4096) uint8_t journal[VGD_VAULT_JOURNAL_BYTES];
};

/** An empty vault: a sealed memfd, the caller's, or -1. */
int vgd_vault_create(void);
/** Map one. NULL when @fd is too small or the kernel refuses. */
struct vgd_vault *vgd_vault_map(int fd);
void vgd_vault_unmap(struct vgd_vault *vault);

/** The next available index that the record of a dead worker stands for. Any bytes are safe. */
uint16_t vgd_vault_queue_base(const struct vgd_vault *vault, uint32_t queue_idx);
/** Of a stopped queue: did the stop leave commands in flight, for the next start? */
bool vgd_vault_queue_has_undone(const struct vgd_vault *vault, uint32_t queue_idx);

#endif
