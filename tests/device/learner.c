/* SPDX-License-Identifier: MIT */
#include "learner.h"

#include <criterion/criterion.h>
#include <string.h>

static bool has_resource(void *user, uint32_t res_id)
{
    const struct learner *l = user;
    return res_id < RESOURCES && !l->detached[res_id];
}

void learner_begin(struct learner *l, bool strict)
{
    *l = (struct learner){.good = 0};
    l->state = vgd_virgl_state_create(&(struct vgd_virgl_state_config){
        .has_resource = has_resource, .user = l, .total_bytes = &l->total_bytes, .strict = strict});
    cr_assert_not_null(l->state);
}

void learner_end(struct learner *l)
{
    cr_assert_eq(l->total_bytes, vgd_virgl_state_bytes(l->state));
    vgd_virgl_state_destroy(l->state);
    cr_assert_eq(l->total_bytes, 0);
}

enum vgd_status follow(struct learner *l, const struct stream *s)
{
    l->fault = (struct vgd_command_fault){.what = NULL};
    return vgd_virgl_state_follow(l->state, s->dwords, s->n, &l->good, &l->tally, &l->wrong,
                                  &l->fault);
}

void learn(struct learner *l, const struct stream *s)
{
    enum vgd_status st = follow(l, s);
    cr_assert_eq(st, VGD_OK, "dword %u of %s: %s %u", l->wrong.at, vgd_command_name(&l->wrong),
                 l->fault.what, l->fault.value);
    cr_assert_eq(l->good, s->n);
}

void learner_detach(struct learner *l, uint32_t res_id)
{
    l->detached[res_id] = true;
    vgd_virgl_state_forget_resource(l->state, res_id);
}

bool collect(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    struct stream *s = user;
    cr_assert_leq(s->n + n_dwords, STREAM_DWORDS);
    memcpy(s->dwords + s->n, dwords, n_dwords * sizeof(*dwords));
    s->n += n_dwords;
    return true;
}

void say(struct learner *l, struct stream *out)
{
    out->n = 0;
    cr_assert(vgd_virgl_state_is_whole(l->state));
    cr_assert_eq(vgd_virgl_state_emit(l->state, 64, collect, out), VGD_OK);
    STREAM(again);
    struct learner copy;
    learner_begin(&copy, false);
    memcpy(copy.detached, l->detached, sizeof(copy.detached));
    learn(&copy, out);
    cr_assert_eq(vgd_virgl_state_emit(copy.state, 1000, collect, &again), VGD_OK);
    cr_assert_eq(again.n, out->n);
    cr_assert_arr_eq(again.dwords, out->dwords, out->n * sizeof(out->dwords[0]));
    learner_end(&copy);
}

uint32_t times_in(const struct stream *s, const struct stream *part)
{
    uint32_t n = 0;
    for (uint32_t at = 0; at + part->n <= s->n; at += 1 + (s->dwords[at] >> 16)) {
        n += memcmp(s->dwords + at, part->dwords, part->n * sizeof(part->dwords[0])) == 0;
    }
    return n;
}

const uint32_t *nth_of(const struct stream *s, uint8_t opcode, uint32_t nth)
{
    for (uint32_t at = 0; at < s->n; at += 1 + (s->dwords[at] >> 16)) {
        if ((s->dwords[at] & 0xff) == opcode && nth-- == 0) {
            return s->dwords + at;
        }
    }
    return NULL;
}

void put_shader(struct stream *s, uint32_t handle, uint32_t stage, uint32_t text)
{
    CREATE(s, SHADER, handle, stage, 4, 10, 0, text);
}

void put_objects(struct stream *s)
{
    CREATE(s, BLEND, BLEND, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    CREATE(s, RASTERIZER, RASTERIZER, 1, 2, 3, 4, 5, 6, 7, 8);
    CREATE(s, DSA, DSA, 1, 2, 3, 4);
    CREATE(s, VERTEX_ELEMENTS, ELEMENTS, 0, 0, 0, VGD_VIRGL_FORMAT_R32G32_FLOAT);
    for (uint32_t i = 0; i < 2; i++) {
        CREATE(s, SURFACE, SURFACE + i, 1 + i, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0);
        CREATE(s, SAMPLER_VIEW, VIEW + i, 1 + i,
               VGD_VIRGL_FORMAT_B8G8R8A8_UNORM | VGD_VIRGL_TARGET_2D << 24, 0, 0, 0);
        CREATE(s, SAMPLER_STATE, SAMPLER + i, i, 0, 0, 0, 0, 0, 0, 0);
        CREATE(s, STREAMOUT_TARGET, TARGET + i, 1 + i, 0, 64);
        CREATE(s, QUERY, QUERY + i, 0, 0, 1 + i);
    }
    for (uint32_t stage = 0; stage < 6; stage++) {
        put_shader(s, SHADER + stage, stage, 0x54524556 + stage);
    }
}
