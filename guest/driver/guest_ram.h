/* SPDX-License-Identifier: MIT */
/*
 * The user-space guest's RAM: memfd regions with guest-physical addresses, and an allocator of
 * pages in them, so that a test can hold real "DMA" buffers.
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_RAM_H
#define VGD_GUEST_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define VGD_GUEST_PAGE_BYTES 4096u
#define VGD_GUEST_REGIONS_MAX 8u

struct vgd_guest_region {
    uint64_t gpa;
    uint64_t size_bytes;
    uint64_t file_offset;
    int fd;       /* owned by the RAM; regions may share one file */
    uint8_t *map; /* its address is the region's "user address" on the wire, as in QEMU */
};

struct vgd_guest_ram_layout {
    uint64_t size_bytes; /* of all regions; rounded up to whole pages for each */
    uint32_t n_regions;  /* 1..VGD_GUEST_REGIONS_MAX */
    uint64_t hole_bytes; /* guest-physical gap between regions; 0: they touch */
    bool separate_files; /* a memfd for each region, else slices of one */
};

struct vgd_guest_ram;

/** NULL when the kernel refuses or the layout makes no sense. */
struct vgd_guest_ram *vgd_guest_ram_create(const struct vgd_guest_ram_layout *layout);
void vgd_guest_ram_destroy(struct vgd_guest_ram *ram);

uint32_t vgd_guest_ram_region_count(const struct vgd_guest_ram *ram);
/** Borrowed; lives as long as @ram. */
const struct vgd_guest_region *vgd_guest_ram_region(const struct vgd_guest_ram *ram, uint32_t idx);
/** One past the highest guest-physical address. */
uint64_t vgd_guest_ram_end(const struct vgd_guest_ram *ram);

/** Pages in a row, zeroed, in one region. NULL when there are none; *out_gpa is then untouched. */
void *vgd_guest_ram_alloc(struct vgd_guest_ram *ram, uint64_t size_bytes, uint64_t *out_gpa);
/** The same without the zeros: what is in a fresh region is zero and takes no memory until it is
 *  touched. For one who hands out pieces of a large span himself. */
void *vgd_guest_ram_reserve(struct vgd_guest_ram *ram, uint64_t size_bytes, uint64_t *out_gpa);
/** As allocated. */
void vgd_guest_ram_free(struct vgd_guest_ram *ram, uint64_t gpa, uint64_t size_bytes);
/** Pages allocated now: a test ends with the number it began with. */
uint64_t vgd_guest_ram_used_pages(const struct vgd_guest_ram *ram);

/** The driver's own view of [gpa, gpa + n) or NULL when it is not inside one region. */
void *vgd_guest_ram_at(const struct vgd_guest_ram *ram, uint64_t gpa, uint64_t n_bytes);
/** The user address on the wire of @gpa (front-end's virtual address); 0 outside RAM. */
uint64_t vgd_guest_ram_user_addr(const struct vgd_guest_ram *ram, uint64_t gpa);

#endif
