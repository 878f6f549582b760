/* SPDX-License-Identifier: MIT */
#include "guest_ram.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checked.h"
#include "fd.h"

struct vgd_guest_ram {
    uint32_t n_regions;
    struct vgd_guest_region regions[VGD_GUEST_REGIONS_MAX];
    uint8_t *page_used[VGD_GUEST_REGIONS_MAX]; /* one byte a page */
    uint64_t hint_page[VGD_GUEST_REGIONS_MAX]; /* where the last search ended */
    uint64_t used_pages;
};

static uint64_t pages_of(uint64_t n_bytes)
{
    return (n_bytes + VGD_GUEST_PAGE_BYTES - 1) / VGD_GUEST_PAGE_BYTES;
}

struct vgd_guest_ram *vgd_guest_ram_create(const struct vgd_guest_ram_layout *layout)
{
    if (layout->n_regions == 0 || layout->n_regions > VGD_GUEST_REGIONS_MAX ||
        layout->size_bytes == 0 || layout->size_bytes > UINT64_C(1) << 40) {
        return NULL;
    }
    struct vgd_guest_ram *ram = calloc(1, sizeof(*ram));
    if (ram == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < VGD_GUEST_REGIONS_MAX; i++) {
        ram->regions[i].fd = -1;
    }
    uint64_t each = pages_of(layout->size_bytes / layout->n_regions) * VGD_GUEST_PAGE_BYTES;
    uint64_t gpa = 0;
    for (uint32_t i = 0; i < layout->n_regions; i++) {
        struct vgd_guest_region *region = &ram->regions[i];
        region->gpa = gpa;
        region->size_bytes = each;
        gpa += each + layout->hole_bytes;
        if (layout->separate_files) {
            region->fd = vgd_memfd_create("guest-ram", each);
        } else {
            region->file_offset = each * i;
            region->fd = i == 0 ? vgd_memfd_create("guest-ram", each * layout->n_regions)
                                : ram->regions[0].fd;
        }
        ram->n_regions = i + 1;
        if (region->fd < 0) {
            vgd_guest_ram_destroy(ram);
            return NULL;
        }
        void *map = mmap(NULL, each, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd,
                         (off_t)region->file_offset);
        region->map = map == MAP_FAILED ? NULL : map;
        ram->page_used[i] = calloc(each / VGD_GUEST_PAGE_BYTES, 1);
        if (region->map == NULL || ram->page_used[i] == NULL) {
            vgd_guest_ram_destroy(ram);
            return NULL;
        }
    }
    /* Guest-physical 0 is never handed out: an address of 0 in a test then means a mistake. */
    ram->page_used[0][0] = 1;
    return ram;
}

void vgd_guest_ram_destroy(struct vgd_guest_ram *ram)
{
    if (ram == NULL) {
        return;
    }
    for (uint32_t i = 0; i < ram->n_regions; i++) {
        struct vgd_guest_region *region = &ram->regions[i];
        if (region->map != NULL) {
            (void)munmap(region->map, region->size_bytes);
        }
        free(ram->page_used[i]);
        if (i != 0 && region->fd != ram->regions[0].fd) {
            vgd_fd_closep(&region->fd);
        }
    }
    vgd_fd_closep(&ram->regions[0].fd); /* last: the others are compared with it */
    free(ram);
}

uint32_t vgd_guest_ram_region_count(const struct vgd_guest_ram *ram)
{
    return ram->n_regions;
}

const struct vgd_guest_region *vgd_guest_ram_region(const struct vgd_guest_ram *ram, uint32_t idx)
{
    return &ram->regions[idx];
}

uint64_t vgd_guest_ram_end(const struct vgd_guest_ram *ram)
{
    const struct vgd_guest_region *last = &ram->regions[ram->n_regions - 1];
    return last->gpa + last->size_bytes;
}

static bool find_run(const uint8_t *used, uint64_t n_pages, uint64_t from, uint64_t wanted,
                     uint64_t *out_first)
{
    uint64_t run = 0;
    for (uint64_t page = from; page < n_pages; page++) {
        run = used[page] ? 0 : run + 1;
        if (run == wanted) {
            *out_first = page + 1 - wanted;
            return true;
        }
    }
    return false;
}

void *vgd_guest_ram_reserve(struct vgd_guest_ram *ram, uint64_t size_bytes, uint64_t *out_gpa)
{
    uint64_t wanted = pages_of(size_bytes);
    if (wanted == 0) {
        wanted = 1;
    }
    for (uint32_t i = 0; i < ram->n_regions; i++) {
        struct vgd_guest_region *region = &ram->regions[i];
        uint64_t n_pages = region->size_bytes / VGD_GUEST_PAGE_BYTES;
        uint64_t first;
        if (!find_run(ram->page_used[i], n_pages, ram->hint_page[i], wanted, &first) &&
            !find_run(ram->page_used[i], n_pages, 0, wanted, &first)) {
            continue;
        }
        memset(ram->page_used[i] + first, 1, wanted);
        ram->hint_page[i] = first + wanted;
        ram->used_pages += wanted;
        *out_gpa = region->gpa + first * VGD_GUEST_PAGE_BYTES;
        return region->map + first * VGD_GUEST_PAGE_BYTES;
    }
    return NULL;
}

void *vgd_guest_ram_alloc(struct vgd_guest_ram *ram, uint64_t size_bytes, uint64_t *out_gpa)
{
    void *at = vgd_guest_ram_reserve(ram, size_bytes, out_gpa);
    if (at != NULL) {
        uint64_t n_pages = pages_of(size_bytes);
        memset(at, 0, (n_pages == 0 ? 1 : n_pages) * VGD_GUEST_PAGE_BYTES);
    }
    return at;
}

static struct vgd_guest_region *region_of(const struct vgd_guest_ram *ram, uint64_t gpa,
                                          uint64_t n_bytes)
{
    for (uint32_t i = 0; i < ram->n_regions; i++) {
        const struct vgd_guest_region *region = &ram->regions[i];
        if (gpa >= region->gpa && vgd_span_fits(gpa - region->gpa, n_bytes, region->size_bytes)) {
            return (struct vgd_guest_region *)region;
        }
    }
    return NULL;
}

void vgd_guest_ram_free(struct vgd_guest_ram *ram, uint64_t gpa, uint64_t size_bytes)
{
    struct vgd_guest_region *region = region_of(ram, gpa, size_bytes);
    if (region == NULL) {
        return;
    }
    uint32_t idx = (uint32_t)(region - ram->regions);
    uint64_t first = (gpa - region->gpa) / VGD_GUEST_PAGE_BYTES;
    uint64_t n_pages = pages_of(size_bytes);
    if (n_pages == 0) {
        n_pages = 1;
    }
    memset(ram->page_used[idx] + first, 0, n_pages);
    ram->used_pages -= n_pages;
    if (first < ram->hint_page[idx]) {
        ram->hint_page[idx] = first;
    }
}

uint64_t vgd_guest_ram_used_pages(const struct vgd_guest_ram *ram)
{
    return ram->used_pages;
}

void *vgd_guest_ram_at(const struct vgd_guest_ram *ram, uint64_t gpa, uint64_t n_bytes)
{
    struct vgd_guest_region *region = region_of(ram, gpa, n_bytes);
    return region == NULL ? NULL : region->map + (gpa - region->gpa);
}

uint64_t vgd_guest_ram_user_addr(const struct vgd_guest_ram *ram, uint64_t gpa)
{
    struct vgd_guest_region *region = region_of(ram, gpa, 1);
    return region == NULL ? 0 : (uint64_t)(uintptr_t)region->map + (gpa - region->gpa);
}
