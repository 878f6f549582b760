/* SPDX-License-Identifier: MIT */
/*
 * What is learned of a hostile context's streams: the input is 4 bytes of our own and then dwords.
 * The bytes say which resources are attached, into how many submits the dwords are cut, and whether
 * a resource goes away between them.
 *
 * Properties: a refused command leaves no trace; what is said to be whole can be made again, by a
 * stream that is in order, and the copy is made by the same stream as the original; everything that
 * was taken is given back.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "virgl_state.h"

#define OWN_BYTES 4u
#define RESOURCES 64u
#define PARTS_MAX 8u
#define RESOURCE_BYTES_MAX (8u << 20)

struct resources {
    bool gone[RESOURCES];
    uint32_t mask; /* ids of which a bit is here are not attached */
};

static bool has_resource(void *user, uint32_t res_id)
{
    const struct resources *r = user;
    return (res_id & r->mask) == 0 && (res_id >= RESOURCES || !r->gone[res_id]);
}

struct stream {
    uint32_t *dwords;
    uint32_t n, capacity;
};

static bool append(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    struct stream *s = user;
    while (n_dwords > s->capacity - s->n) {
        s->capacity = s->capacity != 0 ? s->capacity * 2 : 256;
        s->dwords = realloc(s->dwords, s->capacity * sizeof(*s->dwords));
        assert(s->dwords != NULL);
    }
    memcpy(s->dwords + s->n, dwords, n_dwords * sizeof(*dwords));
    s->n += n_dwords;
    return true;
}

/* What is taken: of the guest's total for what is remembered, and for resources. */
struct totals {
    uint64_t state_bytes, resource_bytes;
};

static struct vgd_virgl_state *create(struct resources *r, struct totals *totals, bool strict)
{
    struct vgd_virgl_state *state = vgd_virgl_state_create(&(struct vgd_virgl_state_config){
        .has_resource = has_resource,
        .user = r,
        .total_bytes = &totals->state_bytes,
        .resource_bytes = &totals->resource_bytes,
        .resource_bytes_max = RESOURCE_BYTES_MAX,
        .strict = strict,
    });
    assert(state != NULL);
    return state;
}

/* The stream is given as memory of exactly its size. */
static uint32_t follow(struct vgd_virgl_state *state, const uint32_t *dwords, uint32_t n_dwords)
{
    uint32_t *exact = malloc(n_dwords != 0 ? n_dwords * sizeof(*exact) : 1);
    assert(exact != NULL);
    if (n_dwords != 0) {
        memcpy(exact, dwords, n_dwords * sizeof(*exact));
    }
    struct vgd_virgl_tally tally;
    struct vgd_command wrong;
    struct vgd_command_fault fault = {.what = NULL};
    uint32_t good = UINT32_MAX;
    enum vgd_status st =
        vgd_virgl_state_follow(state, exact, n_dwords, &good, &tally, &wrong, &fault);
    assert(good <= n_dwords && (st == VGD_OK) == (good == n_dwords));
    assert((st == VGD_OK) == (fault.what == NULL));
    assert(st == VGD_OK || (wrong.at == good && vgd_command_name(&wrong) != NULL));
    assert(tally.draws <= tally.commands && tally.unknown <= tally.commands);
    assert(tally.commands <= n_dwords);
    free(exact);
    return good;
}

static void look_at_emit(const struct vgd_virgl_state *state, struct resources *r, uint32_t part)
{
    struct stream first = {.dwords = NULL}, second = {.dwords = NULL};
    enum vgd_status st = vgd_virgl_state_emit(state, part, append, &first);
    assert((st == VGD_OK) == vgd_virgl_state_is_whole(state));
    if (st == VGD_OK) {
        struct totals totals = {0};
        struct vgd_virgl_state *copy = create(r, &totals, false);
        uint32_t good = follow(copy, first.dwords, first.n);
        assert(good == first.n && vgd_virgl_state_is_whole(copy));
        st = vgd_virgl_state_emit(copy, part + 100, append, &second);
        assert(st == VGD_OK && second.n == first.n &&
               memcmp(first.dwords, second.dwords, first.n * sizeof(*first.dwords)) == 0);
        (void)good;
        vgd_virgl_state_destroy(copy);
        assert(totals.state_bytes == 0 && totals.resource_bytes == 0);
    }
    free(first.dwords);
    free(second.dwords);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes < OWN_BYTES) {
        return 0;
    }
    struct resources r = {.mask = data[0]};
    uint32_t parts = 1 + data[1] % PARTS_MAX;
    uint32_t n_dwords = (uint32_t)((len_bytes - OWN_BYTES) / sizeof(uint32_t));
    uint32_t *dwords = malloc(n_dwords != 0 ? n_dwords * sizeof(*dwords) : 1);
    assert(dwords != NULL);
    if (n_dwords != 0) {
        memcpy(dwords, data + OWN_BYTES, n_dwords * sizeof(*dwords));
    }
    struct totals totals = {0};
    struct vgd_virgl_state *state = create(&r, &totals, (data[3] & 1) != 0);
    for (uint32_t i = 0, at = 0; i < parts; i++) {
        uint32_t end = i + 1 < parts ? n_dwords / parts * (i + 1) : n_dwords;
        while (at < end) {
            at += follow(state, dwords + at, end - at);
            at += at < end; /* goes on behind what is wrong: at any dword, as a guest may */
        }
        uint32_t gone = (data[2] + i * 13u) % RESOURCES;
        if (gone != 0 && (data[3] & 2) != 0) {
            r.gone[gone] = true;
            vgd_virgl_state_forget_resource(state, gone);
        }
    }
    assert(totals.state_bytes == vgd_virgl_state_bytes(state));
    assert(totals.resource_bytes <= RESOURCE_BYTES_MAX);
    look_at_emit(state, &r, data[3] * 4u);
    uint32_t made[VGD_VIRGL_PIPE_CREATE_DWORDS];
    uint64_t counted = vgd_virgl_state_blob_bytes(state, data[2]);
    uint64_t before = totals.resource_bytes;
    (void)vgd_virgl_state_take_blob(state, data[2], made);
    assert(totals.resource_bytes == before - counted);
    (void)counted;
    (void)before;
    vgd_virgl_state_destroy(state);
    assert(totals.state_bytes == 0 && totals.resource_bytes == 0);
    free(dwords);
    return 0;
}
