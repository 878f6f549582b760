/* SPDX-License-Identifier: MIT */
#include "guest_heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 64u

struct span {
    uint64_t offset, n_bytes;
};

struct vgd_guest_heap {
    struct span *free_spans; /* sorted, no two touch; owned */
    uint32_t n_free, room;
    uint64_t used_bytes;
};

static uint64_t rounded(uint64_t n_bytes)
{
    uint64_t grain = VGD_GUEST_HEAP_GRAIN_BYTES;
    return n_bytes == 0 ? grain : (n_bytes + grain - 1) / grain * grain;
}

struct vgd_guest_heap *vgd_guest_heap_create(uint64_t size_bytes)
{
    struct vgd_guest_heap *heap = calloc(1, sizeof(*heap));
    if (heap == NULL) {
        return NULL;
    }
    heap->free_spans = calloc(FIRST_ROOM, sizeof(*heap->free_spans));
    if (heap->free_spans == NULL) {
        free(heap);
        return NULL;
    }
    heap->room = FIRST_ROOM;
    heap->free_spans[0] = (struct span){.offset = 0, .n_bytes = size_bytes};
    heap->n_free = 1;
    return heap;
}

void vgd_guest_heap_destroy(struct vgd_guest_heap *heap)
{
    if (heap != NULL) {
        free(heap->free_spans);
        free(heap);
    }
}

static void remove_at(struct vgd_guest_heap *heap, uint32_t at)
{
    heap->n_free--;
    memmove(&heap->free_spans[at], &heap->free_spans[at + 1],
            (heap->n_free - at) * sizeof(heap->free_spans[0]));
}

bool vgd_guest_heap_alloc(struct vgd_guest_heap *heap, uint64_t n_bytes, uint64_t *out_offset)
{
    if (n_bytes > UINT64_MAX - VGD_GUEST_HEAP_GRAIN_BYTES) {
        return false;
    }
    uint64_t wanted = rounded(n_bytes);
    for (uint32_t i = 0; i < heap->n_free; i++) {
        struct span *span = &heap->free_spans[i];
        if (span->n_bytes >= wanted) {
            *out_offset = span->offset;
            span->offset += wanted;
            span->n_bytes -= wanted;
            if (span->n_bytes == 0) {
                remove_at(heap, i);
            }
            heap->used_bytes += wanted;
            return true;
        }
    }
    return false;
}

void vgd_guest_heap_free(struct vgd_guest_heap *heap, uint64_t offset, uint64_t n_bytes)
{
    uint64_t given = rounded(n_bytes);
    heap->used_bytes -= given;
    uint32_t low = 0;
    uint32_t high = heap->n_free;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (heap->free_spans[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct span *at = &heap->free_spans[low];
    bool joins_before = low > 0 && at[-1].offset + at[-1].n_bytes == offset;
    bool joins_after = low < heap->n_free && offset + given == at->offset;
    if (joins_before && joins_after) {
        at[-1].n_bytes += given + at->n_bytes;
        remove_at(heap, low);
    } else if (joins_before) {
        at[-1].n_bytes += given;
    } else if (joins_after) {
        at->offset = offset;
        at->n_bytes += given;
    } else {
        if (heap->n_free == heap->room) {
            struct span *bigger = realloc(heap->free_spans, 2 * heap->room * sizeof(*bigger));
            if (bigger == NULL) {
                return; /* lost until the heap is destroyed: nothing worse */
            }
            heap->free_spans = bigger;
            heap->room *= 2;
            at = &heap->free_spans[low];
        }
        memmove(at + 1, at, (heap->n_free - low) * sizeof(*at));
        *at = (struct span){.offset = offset, .n_bytes = given};
        heap->n_free++;
    }
}

uint64_t vgd_guest_heap_used(const struct vgd_guest_heap *heap)
{
    return heap->used_bytes;
}
