/* SPDX-License-Identifier: MIT */
#include "guest_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checked.h"

/* What translation needs; kept apart so that the table fits a few cache lines. */
struct span {
    uint64_t gpa, size_bytes;
    uint8_t *host; /* of gpa */
};

struct region {
    struct vgd_vu_mem_region wire;
    dev_t dev; /* with ino: which file is mapped */
    ino_t ino;
    void *map; /* owned; what mmap returned, at or before the region's first byte */
    size_t map_bytes;
    uint8_t *host;
};

struct vgd_mem {
    uint32_t n;
    uint32_t last_hit; /* index of the span found last; commands come from the same few pages */
    struct span spans[VGD_MEM_REGIONS_MAX];     /* sorted by gpa; spans[i] is of regions[i] */
    struct region regions[VGD_MEM_REGIONS_MAX]; /* sorted by gpa */
};

struct vgd_mem *vgd_mem_create(void)
{
    return calloc(1, sizeof(struct vgd_mem));
}

static void region_unmap(struct region *region)
{
    if (region->map != NULL) {
        (void)munmap(region->map, region->map_bytes);
        region->map = NULL;
    }
}

static void clear(struct vgd_mem *mem)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        region_unmap(&mem->regions[i]);
    }
    mem->n = 0;
    mem->last_hit = 0;
}

void vgd_mem_destroy(struct vgd_mem *mem)
{
    if (mem != NULL) {
        clear(mem);
        free(mem);
    }
}

static enum vgd_status check(const struct vgd_vu_mem_region *region, int fd, struct stat *file,
                             const char **why)
{
    uint64_t end;
    if (region->size_bytes == 0) {
        *why = "size is 0";
    } else if (!vgd_add_u64(region->gpa, region->size_bytes, &end)) {
        *why = "guest address + size wraps";
    } else if (!vgd_add_u64(region->user_addr, region->size_bytes, &end)) {
        *why = "user address + size wraps";
    } else if (!vgd_add_u64(region->mmap_offset_bytes, region->size_bytes, &end)) {
        *why = "mmap offset + size wraps";
    } else if (fstat(fd, file) != 0) {
        *why = "no usable fd";
    } else if (!S_ISREG(file->st_mode)) {
        *why = "fd is not a file";
    } else if (file->st_size < 0 || end > (uint64_t)file->st_size) {
        *why = "file is shorter than the region";
    } else {
        return VGD_OK;
    }
    return VGD_RANGE;
}

enum vgd_status vgd_mem_region_check(const struct vgd_vu_mem_region *region, int fd,
                                     const char **why)
{
    struct stat file;
    return check(region, fd, &file, why);
}

/* The unit that offset and length of a mapping must be multiples of: hugetlbfs wants its own page
 * size, which it gives as st_blksize. A larger unit than needed does no harm elsewhere. */
static uint64_t map_unit(const struct stat *file)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t block = file->st_blksize > 0 ? (uint64_t)file->st_blksize : 0;
    return block > page && (block & (block - 1)) == 0 ? block : page;
}

static enum vgd_status region_map(const struct vgd_vu_mem_region *wire, int fd, struct region *out)
{
    struct stat file;
    const char *why;
    enum vgd_status st = check(wire, fd, &file, &why);
    if (st != VGD_OK) {
        return st;
    }
    uint64_t unit = map_unit(&file);
    uint64_t offset = wire->mmap_offset_bytes & ~(unit - 1);
    uint64_t skip = wire->mmap_offset_bytes - offset;
    /* No wrap: the checked end is at most INT64_MAX, and a unit is far less than that. Bytes that
     * rounding adds behind the file's end are never touched. */
    uint64_t map_bytes = (skip + wire->size_bytes + unit - 1) & ~(unit - 1);
    if (map_bytes > SIZE_MAX) {
        return VGD_RANGE;
    }
    void *map = mmap(NULL, (size_t)map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                     fd, (off_t)offset);
    if (map == MAP_FAILED) {
        return VGD_HOST_FAILED;
    }
    (void)madvise(map, (size_t)map_bytes, MADV_DONTDUMP); /* a core must not hold the guest */
    *out = (struct region){
        .wire = *wire,
        .dev = file.st_dev,
        .ino = file.st_ino,
        .map = map,
        .map_bytes = (size_t)map_bytes,
        .host = (uint8_t *)map + skip,
    };
    return VGD_OK;
}

/* Both lie below 2^64: only for spans that passed the check. */
static bool overlaps(uint64_t a, uint64_t b, uint64_t a_bytes, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static bool regions_overlap(const struct vgd_vu_mem_region *a, const struct vgd_vu_mem_region *b)
{
    return overlaps(a->gpa, b->gpa, a->size_bytes, b->size_bytes) ||
           overlaps(a->user_addr, b->user_addr, a->size_bytes, b->size_bytes);
}

/* Takes @region over, unless it fails. */
static enum vgd_status insert(struct vgd_mem *mem, const struct region *region)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < mem->n; i++) {
        if (regions_overlap(&mem->regions[i].wire, &region->wire)) {
            return VGD_RANGE;
        }
        if (mem->regions[i].wire.gpa < region->wire.gpa) {
            at = i + 1;
        }
    }
    if (mem->n == VGD_MEM_REGIONS_MAX) {
        return VGD_LIMIT;
    }
    uint32_t n_after = mem->n - at;
    memmove(&mem->regions[at + 1], &mem->regions[at], n_after * sizeof(mem->regions[0]));
    memmove(&mem->spans[at + 1], &mem->spans[at], n_after * sizeof(mem->spans[0]));
    mem->regions[at] = *region;
    mem->spans[at] = (struct span){
        .gpa = region->wire.gpa,
        .size_bytes = region->wire.size_bytes,
        .host = region->host,
    };
    mem->n++;
    return VGD_OK;
}

enum vgd_status vgd_mem_add(struct vgd_mem *mem, const struct vgd_vu_mem_region *region, int fd)
{
    struct region mapped;
    enum vgd_status st = region_map(region, fd, &mapped);
    if (st != VGD_OK) {
        return st;
    }
    st = insert(mem, &mapped);
    if (st != VGD_OK) {
        region_unmap(&mapped);
    }
    return st;
}

enum vgd_status vgd_mem_remove(struct vgd_mem *mem, const struct vgd_vu_mem_region *region)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct vgd_vu_mem_region *wire = &mem->regions[i].wire;
        if (wire->gpa != region->gpa || wire->user_addr != region->user_addr ||
            wire->size_bytes != region->size_bytes) {
            continue;
        }
        region_unmap(&mem->regions[i]);
        uint32_t n_after = mem->n - i - 1;
        memmove(&mem->regions[i], &mem->regions[i + 1], n_after * sizeof(mem->regions[0]));
        memmove(&mem->spans[i], &mem->spans[i + 1], n_after * sizeof(mem->spans[0]));
        mem->n--;
        mem->last_hit = 0;
        return VGD_OK;
    }
    return VGD_RANGE;
}

/* Move the mapping of @wire over from @old, if it is the same piece of the same file. */
static bool region_reuse(struct region *old, uint32_t n_old, const struct vgd_vu_mem_region *wire,
                         int fd, struct region *out)
{
    struct stat file;
    const char *why;
    if (check(wire, fd, &file, &why) != VGD_OK) {
        return false;
    }
    for (uint32_t i = 0; i < n_old; i++) {
        const struct vgd_vu_mem_region *known = &old[i].wire;
        if (old[i].map != NULL && known->gpa == wire->gpa &&
            known->size_bytes == wire->size_bytes && known->user_addr == wire->user_addr &&
            known->mmap_offset_bytes == wire->mmap_offset_bytes && old[i].dev == file.st_dev &&
            old[i].ino == file.st_ino) {
            *out = old[i];
            old[i].map = NULL;
            return true;
        }
    }
    return false;
}

enum vgd_status vgd_mem_set_table(struct vgd_mem *mem, const struct vgd_vu_mem_region *regions,
                                  const int *fds, uint32_t n_regions, bool *out_changed)
{
    struct region old[VGD_MEM_REGIONS_MAX];
    uint32_t n_old = mem->n;
    memcpy(old, mem->regions, n_old * sizeof(old[0]));
    mem->n = 0;
    mem->last_hit = 0;

    bool changed = false;
    enum vgd_status st = n_regions <= VGD_MEM_REGIONS_MAX ? VGD_OK : VGD_LIMIT;
    for (uint32_t i = 0; st == VGD_OK && i < n_regions; i++) {
        struct region next;
        if (!region_reuse(old, n_old, &regions[i], fds[i], &next)) {
            st = region_map(&regions[i], fds[i], &next);
            changed = true;
        }
        if (st == VGD_OK) {
            st = insert(mem, &next);
            if (st != VGD_OK) {
                region_unmap(&next);
            }
        }
    }
    for (uint32_t i = 0; i < n_old; i++) {
        changed |= old[i].map != NULL;
        region_unmap(&old[i]);
    }
    if (st != VGD_OK) {
        clear(mem);
        changed = true;
    }
    *out_changed = changed;
    return st;
}

uint32_t vgd_mem_region_count(const struct vgd_mem *mem)
{
    return mem->n;
}

static const struct span *find(struct vgd_mem *mem, uint64_t gpa)
{
    const struct span *span = &mem->spans[mem->last_hit];
    /* A gpa below the region's wraps to a huge distance: one comparison tests both ends. */
    if (mem->last_hit < mem->n && gpa - span->gpa < span->size_bytes) {
        return span;
    }
    uint32_t low = 0, high = mem->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        span = &mem->spans[middle];
        if (gpa < span->gpa) {
            high = middle;
        } else if (gpa - span->gpa >= span->size_bytes) {
            low = middle + 1;
        } else {
            mem->last_hit = middle;
            return span;
        }
    }
    return NULL;
}

enum vgd_status vgd_mem_translate(struct vgd_mem *mem, uint64_t gpa, uint64_t len_bytes,
                                  struct iovec *iov, uint32_t *n_iov, uint32_t max)
{
    uint32_t n = *n_iov;
    while (len_bytes > 0) {
        const struct span *span = find(mem, gpa);
        if (span == NULL || n >= max) {
            return VGD_RANGE;
        }
        uint64_t offset = gpa - span->gpa;
        uint64_t part = span->size_bytes - offset;
        if (part > len_bytes) {
            part = len_bytes;
        }
        iov[n++] = (struct iovec){.iov_base = span->host + offset, .iov_len = (size_t)part};
        gpa += part; /* no wrap: no region reaches 2^64 */
        len_bytes -= part;
    }
    *n_iov = n;
    return VGD_OK;
}

void *vgd_mem_user_to_host(const struct vgd_mem *mem, uint64_t user_addr, uint64_t len_bytes)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct region *region = &mem->regions[i];
        uint64_t offset = user_addr - region->wire.user_addr;
        if (user_addr >= region->wire.user_addr &&
            vgd_span_fits(offset, len_bytes, region->wire.size_bytes)) {
            return region->host + offset;
        }
    }
    return NULL;
}
