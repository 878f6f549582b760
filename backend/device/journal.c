/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u
#define SLACK_BYTES (1u << 20)
#define COMPACT_FACTOR 4u

/* At the start of the area; the halves follow on pages of their own. */
struct header {
    uint32_t active; /* 0 or 1 */
    uint32_t pad;
    uint64_t used_bytes[2];
};

/* What the header says is read once, checked, and kept here: nobody else writes it while we live.
 */
struct vgd_journal {
    struct header *header; /* borrowed */
    uint8_t *halves[2];    /* borrowed */
    size_t half_bytes;
    size_t used_bytes[2];
    size_t live_bytes; /* what the last compaction left */
    uint32_t active;
    uint32_t target; /* where appends go: the other half during a compaction */
    bool lies;
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t record_bytes(size_t n_bytes)
{
    return round_up(sizeof(uint32_t) + n_bytes, 8);
}

size_t vgd_journal_area_bytes(size_t live_bytes)
{
    /* Twice: as much again can be appended between two compactions. */
    return PAGE_BYTES + 2 * round_up(2 * live_bytes + SLACK_BYTES, PAGE_BYTES);
}

struct vgd_journal *vgd_journal_open(void *area, size_t area_bytes)
{
    if (area_bytes < 3 * (size_t)PAGE_BYTES) {
        return NULL;
    }
    struct vgd_journal *journal = calloc(1, sizeof(*journal));
    if (journal == NULL) {
        return NULL;
    }
    journal->header = area;
    journal->half_bytes = (area_bytes - PAGE_BYTES) / 2 / PAGE_BYTES * PAGE_BYTES;
    journal->halves[0] = (uint8_t *)area + PAGE_BYTES;
    journal->halves[1] = journal->halves[0] + journal->half_bytes;

    uint32_t active = __atomic_load_n(&journal->header->active, __ATOMIC_ACQUIRE);
    uint64_t used_bytes = 0;
    if (active <= 1) {
        used_bytes = __atomic_load_n(&journal->header->used_bytes[active], __ATOMIC_ACQUIRE);
    }
    if (active > 1 || used_bytes > journal->half_bytes || used_bytes % 8 != 0) {
        journal->lies = true;
        return journal;
    }
    journal->active = active;
    journal->target = active;
    journal->used_bytes[active] = used_bytes;
    return journal;
}

void vgd_journal_close(struct vgd_journal *journal)
{
    free(journal);
}

bool vgd_journal_has_room(const struct vgd_journal *journal, size_t n_bytes)
{
    return !journal->lies && n_bytes > 0 && n_bytes <= UINT32_MAX &&
           record_bytes(n_bytes) <= journal->half_bytes - journal->used_bytes[journal->target];
}

uint8_t *vgd_journal_append_begin(struct vgd_journal *journal, size_t n_bytes)
{
    if (!vgd_journal_has_room(journal, n_bytes)) {
        return NULL;
    }
    uint8_t *at = journal->halves[journal->target] + journal->used_bytes[journal->target];
    uint32_t length = (uint32_t)n_bytes;
    memcpy(at, &length, sizeof(length));
    return at + sizeof(length);
}

void vgd_journal_append_end(struct vgd_journal *journal, size_t n_bytes)
{
    size_t used_bytes = journal->used_bytes[journal->target] + record_bytes(n_bytes);
    assert(used_bytes <= journal->half_bytes);
    journal->used_bytes[journal->target] = used_bytes;
    /* From this store on the record exists. */
    __atomic_store_n(&journal->header->used_bytes[journal->target], used_bytes, __ATOMIC_RELEASE);
}

enum vgd_status vgd_journal_append(struct vgd_journal *journal, const void *record, size_t n_bytes)
{
    uint8_t *at = vgd_journal_append_begin(journal, n_bytes);
    if (at == NULL) {
        return VGD_LIMIT;
    }
    memcpy(at, record, n_bytes);
    vgd_journal_append_end(journal, n_bytes);
    return VGD_OK;
}

bool vgd_journal_wants_compaction(const struct vgd_journal *journal)
{
    size_t used_bytes = journal->used_bytes[journal->active];
    return used_bytes > VGD_JOURNAL_COMPACT_BYTES &&
           used_bytes > COMPACT_FACTOR * journal->live_bytes;
}

/* Give the pages of a half back where the area is shared memory; elsewhere this does nothing. */
static void drop_pages(const struct vgd_journal *journal, uint32_t half)
{
    if ((uintptr_t)journal->halves[half] % PAGE_BYTES == 0) {
        (void)madvise(journal->halves[half], journal->half_bytes, MADV_REMOVE);
    }
}

static void set_used(struct vgd_journal *journal, uint32_t half, size_t used_bytes)
{
    journal->used_bytes[half] = used_bytes;
    __atomic_store_n(&journal->header->used_bytes[half], used_bytes, __ATOMIC_RELEASE);
}

static void set_active(struct vgd_journal *journal, uint32_t half)
{
    journal->active = half;
    journal->target = half;
    __atomic_store_n(&journal->header->active, half, __ATOMIC_RELEASE);
}

void vgd_journal_compact_begin(struct vgd_journal *journal)
{
    assert(journal->target == journal->active && !journal->lies);
    journal->target = 1 - journal->active;
    set_used(journal, journal->target, 0);
}

void vgd_journal_compact_commit(struct vgd_journal *journal)
{
    assert(journal->target != journal->active);
    uint32_t old = journal->active;
    journal->live_bytes = journal->used_bytes[journal->target];
    set_active(journal, journal->target); /* one store: the new state is the journal now */
    drop_pages(journal, old);
}

void vgd_journal_compact_abort(struct vgd_journal *journal)
{
    assert(journal->target != journal->active);
    uint32_t half = journal->target;
    journal->target = journal->active;
    set_used(journal, half, 0);
    drop_pages(journal, half);
}

void vgd_journal_clear(struct vgd_journal *journal)
{
    if (journal->lies) {
        set_used(journal, 0, 0);
        set_active(journal, 0);
        journal->lies = false;
    }
    journal->target = journal->active;
    journal->live_bytes = 0;
    set_used(journal, journal->active, 0);
    drop_pages(journal, 0);
    drop_pages(journal, 1);
}

enum vgd_status vgd_journal_next(const struct vgd_journal *journal, size_t *cursor,
                                 const uint8_t **out, size_t *out_bytes)
{
    if (journal->lies) {
        return VGD_RANGE;
    }
    size_t used_bytes = journal->used_bytes[journal->active];
    assert(*cursor <= used_bytes);
    if (*cursor == used_bytes) {
        return VGD_AGAIN;
    }
    const uint8_t *at = journal->halves[journal->active] + *cursor;
    uint32_t n_bytes; /* lengths are multiples of 8: there is room for this */
    memcpy(&n_bytes, at, sizeof(n_bytes));
    if (n_bytes == 0) {
        return VGD_RANGE;
    }
    if (record_bytes(n_bytes) > used_bytes - *cursor) {
        return VGD_TRUNCATED;
    }
    *cursor += record_bytes(n_bytes);
    *out = at + sizeof(n_bytes);
    *out_bytes = n_bytes;
    return VGD_OK;
}
