/* SPDX-License-Identifier: MIT */
#include "trace_dedup.h"

#include <stdlib.h>

#include "trace_hash.h"

#define NONE UINT32_MAX

struct entry {
    struct vgd_trace_dedup_key key;
    uint32_t at_bytes;
    uint64_t frame_offset_bytes;
    uint32_t chain;        /* next in the bucket, or NONE */
    uint32_t newer, older; /* by last use */
};

struct vgd_trace_dedup {
    struct entry *entries;
    uint32_t *buckets; /* as many as entries: first of each chain, or NONE */
    uint32_t capacity_count, used_count;
    uint32_t newest, oldest;
};

size_t vgd_trace_dedup_bytes(uint32_t capacity_count)
{
    return sizeof(struct vgd_trace_dedup) +
           (size_t)capacity_count * (sizeof(struct entry) + sizeof(uint32_t));
}

struct vgd_trace_dedup *vgd_trace_dedup_create(uint32_t capacity_count)
{
    struct vgd_trace_dedup *table = calloc(1, sizeof(*table));
    if (table == NULL) {
        return NULL;
    }
    table->capacity_count = capacity_count;
    table->newest = table->oldest = NONE;
    table->entries = malloc(capacity_count * sizeof(*table->entries));
    table->buckets = malloc(capacity_count * sizeof(*table->buckets));
    if (table->entries == NULL || table->buckets == NULL) {
        vgd_trace_dedup_destroy(table);
        return NULL;
    }
    for (uint32_t i = 0; i < capacity_count; i++) {
        table->buckets[i] = NONE;
    }
    return table;
}

void vgd_trace_dedup_destroy(struct vgd_trace_dedup *table)
{
    if (table != NULL) {
        free(table->entries);
        free(table->buckets);
        free(table);
    }
}

struct vgd_trace_dedup_key vgd_trace_dedup_key_of(const void *data, uint32_t size_bytes,
                                                  uint64_t name_seed, uint64_t check_seed)
{
    XXH128_hash_t name = XXH3_128bits_withSeed(data, size_bytes, name_seed);
    return (struct vgd_trace_dedup_key){
        .name_low = name.low64,
        .name_high = name.high64,
        .check = vgd_trace_check(data, size_bytes, check_seed),
        .size_bytes = size_bytes,
    };
}

static uint32_t *bucket_of(struct vgd_trace_dedup *table, const struct vgd_trace_dedup_key *key)
{
    return &table->buckets[key->name_low & (table->capacity_count - 1)];
}

static bool equal(const struct vgd_trace_dedup_key *a, const struct vgd_trace_dedup_key *b)
{
    return a->name_low == b->name_low && a->name_high == b->name_high && a->check == b->check &&
           a->size_bytes == b->size_bytes;
}

static void unlink_by_use(struct vgd_trace_dedup *table, uint32_t at)
{
    struct entry *e = &table->entries[at];
    if (e->newer != NONE) {
        table->entries[e->newer].older = e->older;
    } else {
        table->newest = e->older;
    }
    if (e->older != NONE) {
        table->entries[e->older].newer = e->newer;
    } else {
        table->oldest = e->newer;
    }
}

static void link_newest(struct vgd_trace_dedup *table, uint32_t at)
{
    struct entry *e = &table->entries[at];
    e->newer = NONE;
    e->older = table->newest;
    if (table->newest != NONE) {
        table->entries[table->newest].newer = at;
    } else {
        table->oldest = at;
    }
    table->newest = at;
}

bool vgd_trace_dedup_find(struct vgd_trace_dedup *table, const struct vgd_trace_dedup_key *key,
                          struct vgd_trace_piece_ref *out)
{
    for (uint32_t at = *bucket_of(table, key); at != NONE; at = table->entries[at].chain) {
        const struct entry *e = &table->entries[at];
        if (equal(&e->key, key)) {
            *out = (struct vgd_trace_piece_ref){
                .frame_offset_bytes = e->frame_offset_bytes,
                .check = key->check,
                .at_bytes = e->at_bytes,
                .size_bytes = key->size_bytes,
            };
            unlink_by_use(table, at);
            link_newest(table, at);
            return true;
        }
    }
    return false;
}

/* The entry of the piece that was not used the longest, taken out of everything. */
static uint32_t forget_oldest(struct vgd_trace_dedup *table)
{
    uint32_t at = table->oldest;
    unlink_by_use(table, at);
    uint32_t *link = bucket_of(table, &table->entries[at].key);
    while (*link != at) {
        link = &table->entries[*link].chain;
    }
    *link = table->entries[at].chain;
    return at;
}

void vgd_trace_dedup_add(struct vgd_trace_dedup *table, const struct vgd_trace_dedup_key *key,
                         uint64_t frame_offset_bytes, uint32_t at_bytes)
{
    uint32_t at =
        table->used_count < table->capacity_count ? table->used_count++ : forget_oldest(table);
    uint32_t *bucket = bucket_of(table, key);
    table->entries[at] = (struct entry){
        .key = *key,
        .at_bytes = at_bytes,
        .frame_offset_bytes = frame_offset_bytes,
        .chain = *bucket,
    };
    *bucket = at;
    link_newest(table, at);
}
