/* SPDX-License-Identifier: MIT */
#include "idmap.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>

#define FIRST_CAPACITY_COUNT 16u

static uint32_t slot_of(const struct vgd_idmap *map, uint32_t id)
{
    uint64_t h = (id ^ map->key) * 0x9e3779b97f4a7c15ull; /* odd multiplier of 2^64 / phi */
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93ull;
    return (uint32_t)(h >> 32) & (map->capacity_count - 1);
}

void vgd_idmap_finish(struct vgd_idmap *map)
{
    free(map->slots);
    *map = (struct vgd_idmap){0};
}

/* The slot that holds @id, or the free slot where it would go. There is always a free slot. */
static struct vgd_idmap_slot *probe(const struct vgd_idmap *map, uint32_t id)
{
    uint32_t at = slot_of(map, id);
    while (map->slots[at].object != NULL && map->slots[at].id != id) {
        at = (at + 1) & (map->capacity_count - 1);
    }
    return &map->slots[at];
}

void *vgd_idmap_find(const struct vgd_idmap *map, uint32_t id)
{
    return map->capacity_count == 0 ? NULL : probe(map, id)->object;
}

static enum vgd_status grow(struct vgd_idmap *map)
{
    struct vgd_idmap bigger = {
        .capacity_count = map->capacity_count == 0 ? FIRST_CAPACITY_COUNT : map->capacity_count * 2,
        .used_count = map->used_count,
        .key = map->key,
    };
    if (bigger.capacity_count == 0) {
        return VGD_LIMIT;
    }
    if (bigger.key == 0 && getrandom(&bigger.key, sizeof(bigger.key), GRND_NONBLOCK) < 0) {
        bigger.key = (uintptr_t)map; /* no entropy yet: the address still differs by process */
    }
    bigger.slots = calloc(bigger.capacity_count, sizeof(*bigger.slots));
    if (bigger.slots == NULL) {
        return VGD_NO_MEMORY;
    }
    for (uint32_t i = 0; i < map->capacity_count; i++) {
        if (map->slots[i].object != NULL) {
            *probe(&bigger, map->slots[i].id) = map->slots[i];
        }
    }
    free(map->slots);
    *map = bigger;
    return VGD_OK;
}

enum vgd_status vgd_idmap_add(struct vgd_idmap *map, uint32_t id, void *object)
{
    assert(object != NULL);
    if (vgd_idmap_find(map, id) != NULL) {
        return VGD_RANGE;
    }
    if (map->used_count >= map->capacity_count / 4 * 3) {
        enum vgd_status st = grow(map);
        if (st != VGD_OK) {
            return st;
        }
    }
    *probe(map, id) = (struct vgd_idmap_slot){.id = id, .object = object};
    map->used_count++;
    return VGD_OK;
}

void *vgd_idmap_remove(struct vgd_idmap *map, uint32_t id)
{
    if (map->capacity_count == 0) {
        return NULL;
    }
    struct vgd_idmap_slot *slot = probe(map, id);
    void *object = slot->object;
    if (object == NULL) {
        return NULL;
    }
    slot->object = NULL;
    map->used_count--;

    /* Close the gap: every later slot of the same run is put where a probe now finds it. */
    uint32_t at = (uint32_t)(slot - map->slots);
    for (;;) {
        at = (at + 1) & (map->capacity_count - 1);
        if (map->slots[at].object == NULL) {
            return object;
        }
        struct vgd_idmap_slot moved = map->slots[at];
        map->slots[at].object = NULL;
        *probe(map, moved.id) = moved;
    }
}

void *vgd_idmap_next(const struct vgd_idmap *map, uint32_t *cursor, uint32_t *out_id)
{
    while (*cursor < map->capacity_count) {
        const struct vgd_idmap_slot *slot = &map->slots[(*cursor)++];
        if (slot->object != NULL) {
            if (out_id != NULL) {
                *out_id = slot->id;
            }
            return slot->object;
        }
    }
    return NULL;
}
