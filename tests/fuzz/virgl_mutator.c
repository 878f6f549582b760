/* SPDX-License-Identifier: MIT */
/*
 * Mutations of virgl streams that keep them streams: whole commands are put in, taken out, copied
 * and exchanged, and single dwords become what such a command has there. Commands to put in are the
 * generator's samples, which the checks accept. Inputs are 4 bytes of the target's own, then
 * dwords.
 */
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "stream_case.h"
#include "virgl_wire.h"

#define OWN_BYTES ((size_t)4)
#define COMMANDS_MAX 256u
#define HANDLES 12u
#define RESOURCES 6u

size_t LLVMFuzzerMutate(uint8_t *data, size_t n_bytes, size_t max_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed);

extern const struct stream_case virgl_wire_commands[];
extern const size_t virgl_wire_n_commands;

static uint32_t state;

static uint32_t random_below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return n != 0 ? state % n : 0;
}

struct piece {
    uint32_t at, n_dwords;
};

/* Where commands lie. The last piece may be what is no whole command. */
static uint32_t pieces_of(const uint32_t *dwords, uint32_t n_dwords, struct piece *out)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    uint32_t n = 0;
    while (n < COMMANDS_MAX && vgd_stream_next(&s, &cmd)) {
        out[n++] = (struct piece){cmd.at, 1u + cmd.n_dwords};
    }
    return n;
}

static uint32_t likely(uint32_t old)
{
    static const uint32_t edges[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 4096};
    switch (random_below(8)) {
    case 0:
        return old ^ 1u << random_below(32);
    case 1:
        return edges[random_below(sizeof(edges) / sizeof(edges[0]))];
    case 2:
        return old + random_below(3) - 1;
    case 3:
        return 1 + random_below(RESOURCES);
    case 4:
        return random_below(256);
    default:
        return 1 + random_below(HANDLES);
    }
}

/* The ids in a command become ones that are likely to be there. */
static void rename_ids(uint32_t *dwords, uint32_t n_dwords)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    if (!vgd_stream_next(&s, &cmd)) {
        return;
    }
    struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        bool resource = ref.space == VGD_REF_RESOURCE;
        dwords[ref.dword] = 1 + random_below(resource ? RESOURCES : HANDLES);
    }
}

/* Make room for @n dwords at @at. False: there is none. */
static bool open_gap(uint32_t *dwords, uint32_t *n_dwords, uint32_t max, uint32_t at, uint32_t n)
{
    if (n > max - *n_dwords) {
        return false;
    }
    memmove(dwords + at + n, dwords + at, (*n_dwords - at) * sizeof(*dwords));
    *n_dwords += n;
    return true;
}

static void put_in(uint32_t *dwords, uint32_t *n_dwords, uint32_t max, uint32_t at)
{
    const struct stream_case *c =
        &virgl_wire_commands[random_below((uint32_t)virgl_wire_n_commands)];
    if (open_gap(dwords, n_dwords, max, at, c->n_dwords)) {
        memcpy(dwords + at, c->dwords, c->n_dwords * sizeof(*dwords));
        rename_ids(dwords + at, c->n_dwords);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n_bytes, size_t max_bytes, unsigned seed)
{
    state = seed | 1;
    if (n_bytes < OWN_BYTES || max_bytes < OWN_BYTES + 64 || random_below(6) == 0) {
        return LLVMFuzzerMutate(data, n_bytes, max_bytes);
    }
    uint32_t max = (uint32_t)((max_bytes - OWN_BYTES) / 4);
    uint32_t *dwords = malloc((size_t)max * 4);
    if (dwords == NULL) {
        return n_bytes;
    }
    uint32_t n_dwords = (uint32_t)((n_bytes - OWN_BYTES) / 4);
    memcpy(dwords, data + OWN_BYTES, (size_t)n_dwords * 4);
    if (random_below(10) == 0) {
        data[random_below(OWN_BYTES)] = (uint8_t)random_below(256);
    }
    for (uint32_t rounds = 1 + random_below(4); rounds > 0; rounds--) {
        static struct piece pieces[COMMANDS_MAX];
        uint32_t n = pieces_of(dwords, n_dwords, pieces);
        const struct piece some = n != 0 ? pieces[random_below(n)] : (struct piece){0};
        switch (n != 0 ? random_below(8) : 0) {
        case 0:
        case 1:
            put_in(dwords, &n_dwords, max, n != 0 && random_below(2) ? some.at : n_dwords);
            break;
        case 2:
            n_dwords -= some.n_dwords;
            memmove(dwords + some.at, dwords + some.at + some.n_dwords,
                    (size_t)(n_dwords - some.at) * 4);
            break;
        case 3: /* again, somewhere else */
            if (open_gap(dwords, &n_dwords, max, n_dwords, some.n_dwords)) {
                memcpy(dwords + n_dwords - some.n_dwords, dwords + some.at,
                       (size_t)some.n_dwords * 4);
            }
            break;
        case 4: /* longer or shorter by one than it says */
            dwords[some.at] += random_below(2) ? 0x10000u : (uint32_t)-0x10000;
            break;
        case 5:
            rename_ids(dwords + some.at, some.n_dwords);
            break;
        default:
            for (uint32_t k = 1 + random_below(3); k > 0; k--) {
                uint32_t at = some.at + random_below(some.n_dwords);
                dwords[at] = likely(dwords[at]);
            }
            break;
        }
    }
    memcpy(data + OWN_BYTES, dwords, (size_t)n_dwords * 4);
    free(dwords);
    return OWN_BYTES + (size_t)n_dwords * 4;
}
