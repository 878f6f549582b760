/* SPDX-License-Identifier: MIT */
#include "guest_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NO_DESC UINT16_MAX

struct chain_state {
    bool inflight;
    bool raw;
    void *token;
    uint64_t table_gpa; /* indirect table, 0: none */
    uint32_t table_bytes;
};

struct vgd_guest_queue {
    struct vgd_guest_ram *ram;
    uint32_t size;
    bool indirect, event_idx;
    uint64_t rings_gpa, rings_bytes;
    uint64_t avail_gpa, used_gpa;
    struct vgd_guest_queue_raw raw;
    struct chain_state *chains; /* by head */
    /* A table of 16 entries for each head, so that small chains allocate nothing. */
    uint64_t small_tables_gpa;
    struct vgd_guest_desc *small_tables;
    uint16_t free_head;
    uint32_t free_count;
    uint32_t inflight_count;
    uint16_t avail_idx; /* as published */
    uint16_t kicked_idx;
    uint16_t used_idx; /* next to look at */
    uint32_t spurious_count;
    uint32_t raw_used_count;
    uint32_t raw_foreign_count; /* heads outside the ring that were pushed and may come back */
};

#define SMALL_TABLE_ENTRIES 16u

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

struct vgd_guest_queue *vgd_guest_queue_create(struct vgd_guest_ram *ram,
                                               const struct vgd_guest_queue_setup *setup)
{
    uint32_t size = setup->size;
    if (size == 0 || size > 32768 || (size & (size - 1)) != 0) {
        return NULL;
    }
    struct vgd_guest_queue *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    q->ram = ram;
    q->size = size;
    q->chains = calloc(size, sizeof(q->chains[0]));
    uint64_t avail_at = (uint64_t)size * sizeof(struct vgd_guest_desc);
    uint64_t used_at = round_up(avail_at + 6 + 2 * (uint64_t)size, VGD_GUEST_PAGE_BYTES);
    q->rings_bytes = used_at + 6 + 8 * (uint64_t)size;
    uint8_t *rings = vgd_guest_ram_alloc(ram, q->rings_bytes, &q->rings_gpa);
    uint64_t tables_bytes = (uint64_t)size * SMALL_TABLE_ENTRIES * sizeof(struct vgd_guest_desc);
    q->small_tables = vgd_guest_ram_alloc(ram, tables_bytes, &q->small_tables_gpa);
    if (rings == NULL || q->small_tables == NULL || q->chains == NULL) {
        if (rings != NULL) {
            vgd_guest_ram_free(ram, q->rings_gpa, q->rings_bytes);
        }
        if (q->small_tables != NULL) {
            vgd_guest_ram_free(ram, q->small_tables_gpa, tables_bytes);
        }
        free(q->chains);
        free(q);
        return NULL;
    }
    q->avail_gpa = q->rings_gpa + avail_at;
    q->used_gpa = q->rings_gpa + used_at;
    q->raw = (struct vgd_guest_queue_raw){
        .desc = (struct vgd_guest_desc *)rings,
        .avail = (uint16_t *)(rings + avail_at),
        .used_words = (uint16_t *)(rings + used_at),
        .used = (struct vgd_guest_used_elem *)(rings + used_at + 4),
        .avail_event = (uint16_t *)(rings + used_at + 4 + 8 * (uint64_t)size),
        .size = size,
    };
    vgd_guest_queue_reset(q);
    vgd_guest_queue_set_features(q, setup->indirect, setup->event_idx);
    return q;
}

static void release_table(struct vgd_guest_queue *q, struct chain_state *chain)
{
    if (chain->table_gpa != 0) {
        vgd_guest_ram_free(q->ram, chain->table_gpa, chain->table_bytes);
        chain->table_gpa = 0;
    }
}

void vgd_guest_queue_destroy(struct vgd_guest_queue *q)
{
    if (q == NULL) {
        return;
    }
    for (uint32_t i = 0; i < q->size; i++) {
        release_table(q, &q->chains[i]);
    }
    vgd_guest_ram_free(q->ram, q->rings_gpa, q->rings_bytes);
    vgd_guest_ram_free(q->ram, q->small_tables_gpa,
                       (uint64_t)q->size * SMALL_TABLE_ENTRIES * sizeof(struct vgd_guest_desc));
    free(q->chains);
    free(q);
}

void vgd_guest_queue_reset(struct vgd_guest_queue *q)
{
    for (uint32_t i = 0; i < q->size; i++) {
        release_table(q, &q->chains[i]);
        q->chains[i] = (struct chain_state){0};
        q->raw.desc[i] =
            (struct vgd_guest_desc){.next = i + 1 < q->size ? (uint16_t)(i + 1) : NO_DESC};
    }
    memset(q->raw.avail, 0, 6 + 2 * (size_t)q->size);
    memset(q->raw.used_words, 0, 6 + 8 * (size_t)q->size);
    q->free_head = 0;
    q->free_count = q->size;
    q->inflight_count = 0;
    q->avail_idx = 0;
    q->kicked_idx = 0;
    q->used_idx = 0;
}

void vgd_guest_queue_set_features(struct vgd_guest_queue *q, bool indirect, bool event_idx)
{
    q->indirect = indirect;
    q->event_idx = event_idx;
}

uint32_t vgd_guest_queue_size(const struct vgd_guest_queue *q)
{
    return q->size;
}

uint64_t vgd_guest_queue_desc_gpa(const struct vgd_guest_queue *q)
{
    return q->rings_gpa;
}

uint64_t vgd_guest_queue_avail_gpa(const struct vgd_guest_queue *q)
{
    return q->avail_gpa;
}

uint64_t vgd_guest_queue_used_gpa(const struct vgd_guest_queue *q)
{
    return q->used_gpa;
}

static void publish(struct vgd_guest_queue *q, uint16_t head)
{
    q->raw.avail[2 + (q->avail_idx & (q->size - 1))] = head;
    q->avail_idx++;
    __atomic_store_n(&q->raw.avail[1], q->avail_idx, __ATOMIC_RELEASE);
}

static struct vgd_guest_desc segment_desc(const struct vgd_guest_segment *readable,
                                          uint32_t n_readable,
                                          const struct vgd_guest_segment *writable, uint32_t i)
{
    bool write = i >= n_readable;
    const struct vgd_guest_segment *seg = write ? &writable[i - n_readable] : &readable[i];
    return (struct vgd_guest_desc){
        .gpa = seg->gpa,
        .len_bytes = seg->len_bytes,
        .flags = write ? VGD_GUEST_DESC_WRITE : 0,
    };
}

enum vgd_status vgd_guest_queue_add(struct vgd_guest_queue *q,
                                    const struct vgd_guest_segment *readable, uint32_t n_readable,
                                    const struct vgd_guest_segment *writable, uint32_t n_writable,
                                    void *token)
{
    if (n_readable > VGD_GUEST_SEGMENTS_MAX || n_writable > VGD_GUEST_SEGMENTS_MAX ||
        n_readable + n_writable == 0) {
        return VGD_RANGE;
    }
    uint32_t n = n_readable + n_writable;
    if (!q->indirect && n > q->size) {
        return VGD_RANGE;
    }
    if (q->free_count < (q->indirect ? 1 : n)) {
        return VGD_LIMIT;
    }
    uint16_t head = q->free_head;
    struct chain_state *chain = &q->chains[head];
    if (q->indirect) {
        struct vgd_guest_desc *table = q->small_tables + (size_t)head * SMALL_TABLE_ENTRIES;
        uint64_t table_gpa = q->small_tables_gpa + (uint64_t)head * SMALL_TABLE_ENTRIES * 16;
        if (n > SMALL_TABLE_ENTRIES) {
            chain->table_bytes = n * (uint32_t)sizeof(struct vgd_guest_desc);
            table = vgd_guest_ram_alloc(q->ram, chain->table_bytes, &table_gpa);
            if (table == NULL) {
                return VGD_LIMIT;
            }
            chain->table_gpa = table_gpa;
        }
        for (uint32_t i = 0; i < n; i++) {
            struct vgd_guest_desc desc = segment_desc(readable, n_readable, writable, i);
            if (i + 1 < n) {
                desc.flags |= VGD_GUEST_DESC_NEXT;
                desc.next = (uint16_t)(i + 1);
            }
            table[i] = desc;
        }
        q->free_head = q->raw.desc[head].next;
        q->free_count--;
        q->raw.desc[head] = (struct vgd_guest_desc){
            .gpa = table_gpa,
            .len_bytes = n * (uint32_t)sizeof(struct vgd_guest_desc),
            .flags = VGD_GUEST_DESC_INDIRECT,
        };
    } else {
        uint16_t at = head;
        for (uint32_t i = 0; i < n; i++) {
            uint16_t next_free = q->raw.desc[at].next;
            struct vgd_guest_desc desc = segment_desc(readable, n_readable, writable, i);
            desc.next = next_free;
            if (i + 1 < n) {
                desc.flags |= VGD_GUEST_DESC_NEXT;
            }
            q->raw.desc[at] = desc;
            at = next_free;
        }
        q->free_head = at;
        q->free_count -= n;
    }
    chain->inflight = true;
    chain->token = token;
    q->inflight_count++;
    publish(q, head);
    return VGD_OK;
}

bool vgd_guest_queue_should_kick(struct vgd_guest_queue *q)
{
    uint16_t added = (uint16_t)(q->avail_idx - q->kicked_idx);
    if (added == 0) {
        return false;
    }
    uint16_t old = q->kicked_idx;
    q->kicked_idx = q->avail_idx;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index is visible before we look for wishes */
    if (q->event_idx) {
        uint16_t event = __atomic_load_n(q->raw.avail_event, __ATOMIC_RELAXED);
        return (uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - old);
    }
    return (__atomic_load_n(&q->raw.used_words[0], __ATOMIC_RELAXED) & 1) == 0;
}

static void give_back(struct vgd_guest_queue *q, uint16_t head)
{
    struct chain_state *chain = &q->chains[head];
    if (q->indirect) {
        release_table(q, chain);
        q->raw.desc[head].next = q->free_head;
        q->free_head = head;
        q->free_count++;
    } else {
        uint16_t tail = head;
        uint32_t n = 1;
        while (q->raw.desc[tail].flags & VGD_GUEST_DESC_NEXT) {
            tail = q->raw.desc[tail].next;
            n++;
        }
        q->raw.desc[tail].next = q->free_head;
        q->free_head = head;
        q->free_count += n;
    }
    chain->inflight = false;
    chain->token = NULL;
    q->inflight_count--;
}

bool vgd_guest_queue_next_used(struct vgd_guest_queue *q, void **out_token, uint32_t *out_len_bytes)
{
    for (;;) {
        uint16_t idx = __atomic_load_n(&q->raw.used_words[1], __ATOMIC_ACQUIRE);
        if (idx == q->used_idx) {
            return false;
        }
        struct vgd_guest_used_elem elem = q->raw.used[q->used_idx & (q->size - 1)];
        q->used_idx++;
        if (elem.id < q->size && q->chains[elem.id].raw) {
            q->raw_used_count++;
            q->chains[elem.id].raw = false;
            continue;
        }
        if (elem.id >= q->size && q->raw_foreign_count > 0) {
            q->raw_foreign_count--;
            q->raw_used_count++;
            continue;
        }
        if (elem.id >= q->size || !q->chains[elem.id].inflight) {
            q->spurious_count++;
            continue;
        }
        *out_token = q->chains[elem.id].token;
        *out_len_bytes = elem.len_bytes;
        give_back(q, (uint16_t)elem.id);
        return true;
    }
}

void vgd_guest_queue_want_calls(struct vgd_guest_queue *q, uint32_t n_answers)
{
    if (q->event_idx) {
        uint16_t ahead = n_answers == 0 ? 0 : (uint16_t)(n_answers - 1);
        __atomic_store_n(&q->raw.avail[2 + q->size], (uint16_t)(q->used_idx + ahead),
                         __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the caller looks at the used ring once more */
}

uint32_t vgd_guest_queue_waiting_count(const struct vgd_guest_queue *q)
{
    uint16_t idx = __atomic_load_n(&q->raw.used_words[1], __ATOMIC_ACQUIRE);
    return (uint16_t)(idx - q->used_idx);
}

uint32_t vgd_guest_queue_inflight_count(const struct vgd_guest_queue *q)
{
    return q->inflight_count;
}

uint32_t vgd_guest_queue_spurious_count(const struct vgd_guest_queue *q)
{
    return q->spurious_count;
}

struct vgd_guest_queue_raw vgd_guest_queue_raw(struct vgd_guest_queue *q)
{
    return q->raw;
}

void vgd_guest_queue_raw_push(struct vgd_guest_queue *q, uint16_t head)
{
    if (head < q->size) {
        q->chains[head].raw = true;
    } else {
        q->raw_foreign_count++;
    }
    publish(q, head);
}

uint32_t vgd_guest_queue_raw_used_count(const struct vgd_guest_queue *q)
{
    return q->raw_used_count;
}

uint16_t vgd_guest_queue_raw_take(struct vgd_guest_queue *q)
{
    assert(q->free_count > 0);
    uint16_t taken = q->free_head;
    q->free_head = q->raw.desc[taken].next;
    q->free_count--;
    return taken;
}
