/* SPDX-License-Identifier: MIT */
/* A context's state, as it is learned from streams (virgl_state.h), for tests. */
#ifndef DEVICE_LEARNER_H
#define DEVICE_LEARNER_H

#include <stdbool.h>
#include <stdint.h>

#include "put.h"
#include "virgl_state.h"

#define RESOURCES 64u /* ids below are attached */

struct learner {
    struct vgd_virgl_state *state;
    bool detached[RESOURCES];
    uint64_t total_bytes;
    struct vgd_virgl_tally tally;
    struct vgd_command wrong;
    struct vgd_command_fault fault;
    uint32_t good;
};

void learner_begin(struct learner *l, bool strict);
/** Everything it took is given back. */
void learner_end(struct learner *l);
enum vgd_status follow(struct learner *l, const struct stream *s);
/** A stream that must be in order. */
void learn(struct learner *l, const struct stream *s);
void learner_detach(struct learner *l, uint32_t res_id);
/** For vgd_virgl_state_emit: appends to a struct stream. */
bool collect(void *user, const uint32_t *dwords, uint32_t n_dwords);
/** Says it all again; and a context that is made of this says the same. */
void say(struct learner *l, struct stream *out);
/** How many commands of @s are those of @part, one behind the other? */
uint32_t times_in(const struct stream *s, const struct stream *part);
/** The @nth command with @opcode; NULL if there are not so many. */
const uint32_t *nth_of(const struct stream *s, uint8_t opcode, uint32_t nth);

/* Objects for tests to bind: handles 1 to 4, and pairs of one type, with resource 1 and 2. */
enum {
    BLEND = 1,
    RASTERIZER,
    DSA,
    ELEMENTS,
    SURFACE = 10,
    VIEW = 20,
    SAMPLER = 30,
    TARGET = 40,
    QUERY = 50,
    SHADER = 60, /* one a stage */
};
void put_shader(struct stream *s, uint32_t handle, uint32_t stage, uint32_t text);
void put_objects(struct stream *s);

#endif
