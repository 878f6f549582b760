/* SPDX-License-Identifier: MIT */
#include "guest_shm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd.h"
#include "guest_ram.h"
#include "virtio_gpu.h"

#define SIZE_MAX_BYTES (UINT64_C(1) << 46) /* of a region: more is a mistake */

struct range {
    uint64_t offset_bytes, len_bytes;
};

struct vgd_guest_shm {
    uint8_t *base;
    uint64_t size_bytes;
    struct vgd_guest_shm_map *maps; /* by offset, none overlap */
    uint32_t n_maps, maps_room, n_uncommitted;
    struct range *ranges; /* allocated by the guest, by offset */
    uint32_t n_ranges, ranges_room;
};

struct vgd_guest_shm *vgd_guest_shm_create(uint64_t size_bytes)
{
    if (size_bytes == 0 || size_bytes % VGD_GUEST_PAGE_BYTES != 0 || size_bytes > SIZE_MAX_BYTES) {
        return NULL;
    }
    struct vgd_guest_shm *shm = calloc(1, sizeof(*shm));
    if (shm == NULL) {
        return NULL;
    }
    void *base =
        mmap(NULL, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(shm);
        return NULL;
    }
    shm->base = base;
    shm->size_bytes = size_bytes;
    return shm;
}

void vgd_guest_shm_destroy(struct vgd_guest_shm *shm)
{
    if (shm == NULL) {
        return;
    }
    for (uint32_t i = 0; i < shm->n_maps; i++) {
        vgd_fd_closep(&shm->maps[i].fd);
    }
    (void)munmap(shm->base, shm->size_bytes);
    free(shm->maps);
    free(shm->ranges);
    free(shm);
}

uint64_t vgd_guest_shm_size(const struct vgd_guest_shm *shm)
{
    return shm->size_bytes;
}

uint8_t *vgd_guest_shm_base(const struct vgd_guest_shm *shm)
{
    return shm->base;
}

/* Room for one element more in *@array. */
static bool grow(void **array, uint32_t *room, uint32_t n, size_t element_bytes)
{
    if (n < *room) {
        return true;
    }
    uint32_t more = *room == 0 ? 64 : *room * 2;
    void *bigger = realloc(*array, more * element_bytes);
    if (bigger == NULL) {
        return false;
    }
    *array = bigger;
    *room = more;
    return true;
}

/* How many mappings begin before @offset_bytes. */
static uint32_t maps_before(const struct vgd_guest_shm *shm, uint64_t offset_bytes)
{
    uint32_t low = 0;
    uint32_t high = shm->n_maps;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (shm->maps[middle].offset_bytes < offset_bytes) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_inside(const struct vgd_guest_shm *shm, const struct vgd_vu_shmem_map *map)
{
    return map->len_bytes <= shm->size_bytes &&
           map->shm_offset_bytes <= shm->size_bytes - map->len_bytes;
}

enum vgd_status vgd_guest_shm_map(struct vgd_guest_shm *shm, const struct vgd_vu_shmem_map *map,
                                  int *fd, const char **out_why)
{
    VGD_AUTO_FD file = vgd_fd_take(fd);
    *out_why = "";
    if (file < 0) {
        *out_why = "no file descriptor";
    } else if (map->shmid != VGD_SHM_ID_HOST_VISIBLE) {
        *out_why = "no such region";
    } else if (map->len_bytes == 0) {
        *out_why = "length 0";
    } else if (!is_inside(shm, map)) {
        *out_why = "outside the region";
    } else if ((map->shm_offset_bytes | map->fd_offset_bytes | map->len_bytes) %
                   VGD_GUEST_PAGE_BYTES !=
               0) {
        *out_why = "not whole pages";
    }
    if (**out_why != '\0') {
        return VGD_RANGE;
    }
    uint32_t at = maps_before(shm, map->shm_offset_bytes);
    if ((at < shm->n_maps && shm->maps[at].offset_bytes - map->shm_offset_bytes < map->len_bytes) ||
        (at > 0 &&
         map->shm_offset_bytes - shm->maps[at - 1].offset_bytes < shm->maps[at - 1].len_bytes)) {
        *out_why = "overlaps a mapping";
        return VGD_RANGE;
    }
    off_t end = lseek(file, 0, SEEK_END);
    if (end < 0 || map->fd_offset_bytes > (uint64_t)end ||
        map->len_bytes > (uint64_t)end - map->fd_offset_bytes) {
        *out_why = end < 0 ? "the file has no length" : "the file is too short";
        return VGD_RANGE;
    }
    if (!grow((void **)&shm->maps, &shm->maps_room, shm->n_maps, sizeof(*shm->maps))) {
        *out_why = "out of memory";
        return VGD_HOST_FAILED;
    }
    bool writable = (map->flags & VGD_VU_SHMEM_FLAG_RW) != 0;
    void *placed = mmap(shm->base + map->shm_offset_bytes, map->len_bytes,
                        PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED, file,
                        (off_t)map->fd_offset_bytes);
    if (placed == MAP_FAILED) {
        *out_why = "mmap refuses";
        return VGD_HOST_FAILED;
    }
    memmove(&shm->maps[at + 1], &shm->maps[at], (shm->n_maps - at) * sizeof(*shm->maps));
    shm->n_maps++;
    shm->n_uncommitted++;
    shm->maps[at] = (struct vgd_guest_shm_map){
        .offset_bytes = map->shm_offset_bytes,
        .len_bytes = map->len_bytes,
        .file_offset_bytes = map->fd_offset_bytes,
        .fd = vgd_fd_take(&file),
    };
    return VGD_OK;
}

void vgd_guest_shm_commit(struct vgd_guest_shm *shm)
{
    for (uint32_t i = 0; i < shm->n_maps && shm->n_uncommitted > 0; i++) {
        shm->n_uncommitted -= !shm->maps[i].committed;
        shm->maps[i].committed = true;
    }
}

static void remove_at(struct vgd_guest_shm *shm, uint32_t at)
{
    struct vgd_guest_shm_map *map = &shm->maps[at];
    /* The address space stays ours. */
    (void)mmap(shm->base + map->offset_bytes, map->len_bytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    vgd_fd_closep(&map->fd);
    shm->n_uncommitted -= !map->committed;
    shm->n_maps--;
    memmove(map, map + 1, (shm->n_maps - at) * sizeof(*map));
}

enum vgd_status vgd_guest_shm_unmap(struct vgd_guest_shm *shm, const struct vgd_vu_shmem_map *map,
                                    const char **out_why)
{
    *out_why = "";
    if (map->shmid != VGD_SHM_ID_HOST_VISIBLE) {
        *out_why = "no such region";
    } else if (!is_inside(shm, map)) {
        *out_why = "outside the region";
    }
    if (**out_why != '\0') {
        return VGD_RANGE;
    }
    uint32_t at = maps_before(shm, map->shm_offset_bytes);
    if (at >= shm->n_maps || shm->maps[at].offset_bytes != map->shm_offset_bytes ||
        shm->maps[at].len_bytes != map->len_bytes) {
        *out_why = "equals no mapping";
        return VGD_RANGE;
    }
    remove_at(shm, at);
    return VGD_OK;
}

void vgd_guest_shm_reset(struct vgd_guest_shm *shm)
{
    while (shm->n_maps > 0) {
        remove_at(shm, shm->n_maps - 1);
    }
    shm->n_ranges = 0;
}

uint32_t vgd_guest_shm_count(const struct vgd_guest_shm *shm)
{
    return shm->n_maps;
}

const struct vgd_guest_shm_map *vgd_guest_shm_at(const struct vgd_guest_shm *shm, uint32_t idx)
{
    return &shm->maps[idx];
}

const struct vgd_guest_shm_map *vgd_guest_shm_find(const struct vgd_guest_shm *shm,
                                                   uint64_t offset_bytes)
{
    uint32_t at = maps_before(shm, offset_bytes);
    return at < shm->n_maps && shm->maps[at].offset_bytes == offset_bytes ? &shm->maps[at] : NULL;
}

uint64_t vgd_guest_shm_alloc(struct vgd_guest_shm *shm, uint64_t size_bytes)
{
    if (size_bytes == 0 || size_bytes > shm->size_bytes) {
        return UINT64_MAX;
    }
    uint64_t len = (size_bytes + VGD_GUEST_PAGE_BYTES - 1) / VGD_GUEST_PAGE_BYTES *
                   (uint64_t)VGD_GUEST_PAGE_BYTES;
    uint64_t start = 0;
    uint32_t at = 0;
    while (at < shm->n_ranges && shm->ranges[at].offset_bytes - start < len) {
        start = shm->ranges[at].offset_bytes + shm->ranges[at].len_bytes;
        at++;
    }
    if (len > shm->size_bytes - start ||
        !grow((void **)&shm->ranges, &shm->ranges_room, shm->n_ranges, sizeof(*shm->ranges))) {
        return UINT64_MAX;
    }
    memmove(&shm->ranges[at + 1], &shm->ranges[at], (shm->n_ranges - at) * sizeof(*shm->ranges));
    shm->n_ranges++;
    shm->ranges[at] = (struct range){.offset_bytes = start, .len_bytes = len};
    return start;
}

void vgd_guest_shm_free(struct vgd_guest_shm *shm, uint64_t offset_bytes, uint64_t size_bytes)
{
    for (uint32_t i = 0; i < shm->n_ranges; i++) {
        struct range *r = &shm->ranges[i];
        if (r->offset_bytes == offset_bytes && r->len_bytes >= size_bytes &&
            r->len_bytes - size_bytes < VGD_GUEST_PAGE_BYTES) {
            shm->n_ranges--;
            memmove(r, r + 1, (shm->n_ranges - i) * sizeof(*r));
            return;
        }
    }
}
