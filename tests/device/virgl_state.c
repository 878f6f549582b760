/* SPDX-License-Identifier: MIT */
/* What is learned of a context from its streams, and what is made of it again: one rule a test. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learner.h"
#include "limits.h"

DEVICE_TEST(objects_are_made_again_in_their_order)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    put_objects(&s);
    CREATE(&s, MSAA_SURFACE, 12, 1, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0, 4);
    learn(&l, &s);
    cr_assert_eq(vgd_virgl_state_objects(l.state), 21);
    cr_assert_eq(l.tally.commands, 21);
    STREAM(out);
    say(&l, &out);
    cr_assert_eq(out.n, s.n + 2); /* SET_SUB_CTX behind it */
    cr_assert_arr_eq(out.dwords, s.dwords, s.n * sizeof(s.dwords[0]));
    learner_end(&l);
}

/* Each command that stays, with two values: the second one is what is said again. */
DEVICE_TEST(the_last_command_of_each_slot_stays)
{
    STREAM(prelude);
    put_objects(&prelude);
#define PAIR(opcode, object, a, b)                                                                 \
    {                                                                                              \
        .name = #opcode " " #object, .op = VGD_VIRGL_CMD_##opcode,                                 \
        .type = VGD_VIRGL_OBJECT_##object, .n = sizeof(BODY a) / sizeof(uint32_t),                 \
        .first = BODY a, .second = BODY b                                                          \
    }
#define TIMES4(x) x, x, x, x
#define TIMES32(x)                                                                                 \
    TIMES4(x), TIMES4(x), TIMES4(x), TIMES4(x), TIMES4(x), TIMES4(x), TIMES4(x), TIMES4(x)
    const struct {
        const char *name;
        uint8_t op, type;
        uint32_t n;
        const uint32_t *first, *second;
    } cases[] = {
        PAIR(SET_VIEWPORT_STATE, NONE, (2, 1, 2, 3, 4, 5, 6), (2, 9, 8, 7, 6, 5, 4)),
        PAIR(SET_SCISSOR_STATE, NONE, (15, 1, 2), (15, 3, 4)),
        PAIR(SET_FRAMEBUFFER_STATE, NONE, (2, SURFACE, SURFACE + 1, 0),
             (2, 0, SURFACE, SURFACE + 1)),
        PAIR(SET_FRAMEBUFFER_STATE_NO_ATTACH, NONE, (1, 2), (3, 4)),
        PAIR(SET_VERTEX_BUFFERS, NONE, (16, 0, 1, 32, 64, 2), (16, 4, 3, 16, 8, 4)),
        PAIR(SET_INDEX_BUFFER, NONE, (1, 2, 0), (2, 4, 16)),
        PAIR(SET_CONSTANT_BUFFER, NONE, (1, 0, 5, 6, 7), (1, 0, 8, 9, 10)),
        PAIR(SET_UNIFORM_BUFFER, NONE, (5, 31, 0, 64, 1), (5, 31, 64, 128, 2)),
        PAIR(SET_SAMPLER_VIEWS, NONE, (1, 0, VIEW, VIEW + 1), (1, 0, 0, VIEW)),
        PAIR(BIND_SAMPLER_STATES, NONE, (0, 0, SAMPLER, SAMPLER + 1), (0, 0, 0, SAMPLER)),
        PAIR(SET_SHADER_BUFFERS, NONE, (1, 30, 0, 64, 1, 0, 64, 2), (1, 30, 4, 8, 3, 4, 8, 4)),
        PAIR(SET_SHADER_IMAGES, NONE, (4, 1, 5, 1, 2, 3, 1), (4, 1, 6, 2, 4, 6, 2)),
        PAIR(SET_ATOMIC_BUFFERS, NONE, (0, 0, 64, 1), (0, 4, 8, 2)),
        PAIR(SET_STREAMOUT_TARGETS, NONE, (0, TARGET, TARGET + 1), (3, TARGET + 1, TARGET)),
        PAIR(SET_STENCIL_REF, NONE, (1), (2)),
        PAIR(SET_BLEND_COLOR, NONE, (1, 2, 3, 4), (5, 6, 7, 8)),
        PAIR(SET_POLYGON_STIPPLE, NONE, (TIMES32(1)), (TIMES32(2))),
        PAIR(SET_CLIP_STATE, NONE, (TIMES32(1)), (TIMES32(2))),
        PAIR(SET_SAMPLE_MASK, NONE, (0xf), (0x3)),
        PAIR(SET_MIN_SAMPLES, NONE, (2), (4)),
        PAIR(SET_TESS_STATE, NONE, (1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1)),
        PAIR(SET_TWEAKS, NONE, (2, 1), (2, 5)),
        PAIR(PIPE_RESOURCE_SET_TYPE, NONE, (3, 1, 1, 8, 8, 0, 0, 0, 32, 0),
             (4, 1, 1, 8, 8, 0, 0, 0, 32, 0)),
        PAIR(CREATE_VIDEO_CODEC, NONE, (1, 1, 1, 1, 1, 16, 16), (2, 1, 1, 1, 1, 16, 16)),
        PAIR(CREATE_VIDEO_BUFFER, NONE, (1, 1, 16, 16, 1), (2, 1, 16, 16, 1)),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct learner l;
        learner_begin(&l, false);
        STREAM(first);
        STREAM(second);
        STREAM(out);
        put(&first, cases[i].op, cases[i].type, cases[i].first, cases[i].n);
        put(&second, cases[i].op, cases[i].type, cases[i].second, cases[i].n);
        learn(&l, &prelude);
        learn(&l, &first);
        say(&l, &out);
        cr_assert_eq(times_in(&out, &first), 1, "%s", cases[i].name);
        learn(&l, &second);
        say(&l, &out);
        cr_assert_eq(times_in(&out, &second), 1, "%s, again", cases[i].name);
        /* These are made, not set: the first one is there too. */
        bool made = cases[i].op == VGD_VIRGL_CMD_PIPE_RESOURCE_SET_TYPE ||
                    cases[i].op == VGD_VIRGL_CMD_CREATE_VIDEO_CODEC ||
                    cases[i].op == VGD_VIRGL_CMD_CREATE_VIDEO_BUFFER;
        cr_assert_eq(times_in(&out, &first), made, "%s, once", cases[i].name);
        learner_end(&l);
    }
}

DEVICE_TEST(bound_objects_are_bound_again)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(binds);
    STREAM(out);
    put_objects(&s);
    learn(&l, &s);
    PUT_OBJECT(&binds, BIND_OBJECT, BLEND, BLEND);
    PUT_OBJECT(&binds, BIND_OBJECT, DSA, DSA);
    PUT_OBJECT(&binds, BIND_OBJECT, RASTERIZER, RASTERIZER);
    PUT_OBJECT(&binds, BIND_OBJECT, VERTEX_ELEMENTS, ELEMENTS);
    for (uint32_t stage = 0; stage < 6; stage++) {
        PUT(&binds, BIND_SHADER, SHADER + stage, stage);
    }
    learn(&l, &binds);
    say(&l, &out);
    cr_assert_eq(times_in(&out, &binds), 1);
    STREAM(none);
    PUT_OBJECT(&none, BIND_OBJECT, BLEND, 0);
    PUT_OBJECT(&none, BIND_OBJECT, DSA, 0);
    PUT_OBJECT(&none, BIND_OBJECT, RASTERIZER, 0);
    PUT_OBJECT(&none, BIND_OBJECT, VERTEX_ELEMENTS, 0);
    for (uint32_t stage = 0; stage < 6; stage++) {
        PUT(&none, BIND_SHADER, 0, stage);
    }
    learn(&l, &none);
    say(&l, &out);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BIND_OBJECT, 0));
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BIND_SHADER, 0));
    learner_end(&l);
}

/* Surfaces, views, shaders, blend and rasterizer live on in the binding; what the renderer unbinds
 * when it is destroyed is not bound again. */
DEVICE_TEST(G07_destroyed_while_bound)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    put_objects(&s);
    PUT_OBJECT(&s, BIND_OBJECT, BLEND, BLEND);
    PUT_OBJECT(&s, BIND_OBJECT, DSA, DSA);
    PUT_OBJECT(&s, BIND_OBJECT, RASTERIZER, RASTERIZER);
    PUT_OBJECT(&s, BIND_OBJECT, VERTEX_ELEMENTS, ELEMENTS);
    PUT(&s, SET_FRAMEBUFFER_STATE, 1, SURFACE + 1, SURFACE);
    PUT(&s, SET_SAMPLER_VIEWS, 1, 0, VIEW, 0, VIEW + 1);
    PUT(&s, BIND_SAMPLER_STATES, 1, 0, SAMPLER, SAMPLER + 1, 0, SAMPLER + 1);
    PUT(&s, SET_STREAMOUT_TARGETS, 0, TARGET, TARGET + 1);
    PUT(&s, BIND_SHADER, SHADER, 0);
    DESTROY(&s, BLEND, BLEND);
    DESTROY(&s, DSA, DSA);
    DESTROY(&s, RASTERIZER, RASTERIZER);
    DESTROY(&s, VERTEX_ELEMENTS, ELEMENTS);
    DESTROY(&s, SURFACE, SURFACE);
    DESTROY(&s, SURFACE, SURFACE + 1);
    DESTROY(&s, SAMPLER_VIEW, VIEW);
    DESTROY(&s, SAMPLER_STATE, SAMPLER);
    DESTROY(&s, STREAMOUT_TARGET, TARGET);
    DESTROY(&s, SHADER, SHADER);
    learn(&l, &s);
    say(&l, &out);
    const uint32_t *cmd = nth_of(&out, VGD_VIRGL_CMD_BIND_OBJECT, 0);
    cr_assert_eq(cmd[0] >> 8 & 0xff, VGD_VIRGL_OBJECT_BLEND);
    cmd = nth_of(&out, VGD_VIRGL_CMD_BIND_OBJECT, 1);
    cr_assert_eq(cmd[0] >> 8 & 0xff, VGD_VIRGL_OBJECT_RASTERIZER);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BIND_OBJECT, 2));
    cmd = nth_of(&out, VGD_VIRGL_CMD_SET_FRAMEBUFFER_STATE, 0);
    cr_assert(cmd[1] == 1 && cmd[2] != 0 && cmd[3] != 0 && cmd[2] != cmd[3]);
    cmd = nth_of(&out, VGD_VIRGL_CMD_SET_SAMPLER_VIEWS, 0);
    cr_assert(cmd[3] != 0 && cmd[4] == 0 && cmd[5] == VIEW + 1);
    /* The renderer closes the gap that a destroyed sampler state leaves. */
    cmd = nth_of(&out, VGD_VIRGL_CMD_BIND_SAMPLER_STATES, 0);
    cr_assert(cmd[0] >> 16 == 5 && cmd[3] == SAMPLER + 1 && cmd[4] == 0 && cmd[5] == SAMPLER + 1);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_SET_STREAMOUT_TARGETS, 0));
    cmd = nth_of(&out, VGD_VIRGL_CMD_BIND_SHADER, 0);
    cr_assert_neq(cmd[1], 0);
    uint32_t destroyed = 0;
    while (nth_of(&out, VGD_VIRGL_CMD_DESTROY_OBJECT, destroyed) != NULL) {
        destroyed++;
    }
    cr_assert_eq(destroyed, 6); /* blend, rasterizer, two surfaces, a view, a shader */

    /* A handle that is given again names the new object; the binding has the old one. */
    s.n = 0;
    CREATE(&s, SAMPLER_VIEW, VIEW, 2, VGD_VIRGL_FORMAT_R8_UNORM | VGD_VIRGL_TARGET_2D << 24, 0, 0,
           0);
    learn(&l, &s);
    say(&l, &out);
    cmd = nth_of(&out, VGD_VIRGL_CMD_SET_SAMPLER_VIEWS, 0);
    cr_assert(cmd[3] != 0 && cmd[3] != VIEW);
    /* Bound anew, the orphans go. */
    uint32_t before = vgd_virgl_state_objects(l.state);
    s.n = 0;
    PUT(&s, SET_FRAMEBUFFER_STATE, 0, 0);
    PUT(&s, SET_SAMPLER_VIEWS, 1, 0, VIEW);
    PUT(&s, BIND_SHADER, 0, 0);
    learn(&l, &s);
    cr_assert_eq(vgd_virgl_state_objects(l.state), before - 4);
    say(&l, &out);
    cmd = nth_of(&out, VGD_VIRGL_CMD_SET_SAMPLER_VIEWS, 0);
    cr_assert(cmd[0] >> 16 == 3 && cmd[3] == VIEW);
    learner_end(&l);
}

DEVICE_TEST(G07_created_over_an_existing_handle)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    CREATE(&s, DSA, 5, 1, 2, 3, 4);
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    STREAM(second);
    CREATE(&second, QUERY, 5, 0, 0, 1);
    learn(&l, &s);
    learn(&l, &second);
    cr_assert_eq(vgd_virgl_state_objects(l.state), 1);
    say(&l, &out);
    cr_assert_eq(times_in(&out, &second), 1);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BIND_OBJECT, 0)); /* unbound, as if destroyed */
    s.n = 0;
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    cr_assert_eq(follow(&l, &s), VGD_RANGE); /* not a DSA any more */
    s.n = 0;
    DESTROY(&s, QUERY, 5);
    DESTROY(&s, QUERY, 5); /* destroyed twice: nothing */
    DESTROY(&s, BLEND, 99);
    learn(&l, &s);
    cr_assert_eq(vgd_virgl_state_objects(l.state), 0);
    learner_end(&l);
}

DEVICE_TEST(sub_contexts_have_their_own_handles)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    CREATE(&s, DSA, 5, 1, 2, 3, 4);
    PUT(&s, CREATE_SUB_CTX, 3); /* and it is the current one */
    CREATE(&s, BLEND, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    PUT_OBJECT(&s, BIND_OBJECT, BLEND, 5);
    PUT(&s, SET_STENCIL_REF, 7);
    PUT(&s, CREATE_SUB_CTX, 1);
    PUT(&s, CREATE_SUB_CTX, 3); /* is there: nothing, and 1 stays current */
    PUT(&s, SET_STENCIL_REF, 9);
    PUT(&s, SET_SUB_CTX, 77); /* is not there: nothing */
    PUT(&s, SET_BLEND_COLOR, 1, 2, 3, 4);
    PUT(&s, SET_SUB_CTX, 0);
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    PUT(&s, SET_SUB_CTX, 3);
    learn(&l, &s);
    say(&l, &out);
    STREAM(want);
    CREATE(&want, DSA, 5, 1, 2, 3, 4);
    PUT_OBJECT(&want, BIND_OBJECT, DSA, 5);
    PUT(&want, CREATE_SUB_CTX, 3);
    CREATE(&want, BLEND, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    PUT_OBJECT(&want, BIND_OBJECT, BLEND, 5);
    PUT(&want, SET_STENCIL_REF, 7);
    PUT(&want, CREATE_SUB_CTX, 1);
    PUT(&want, SET_STENCIL_REF, 9);
    PUT(&want, SET_BLEND_COLOR, 1, 2, 3, 4);
    PUT(&want, SET_SUB_CTX, 3);
    cr_assert_eq(out.n, want.n);
    cr_assert_arr_eq(out.dwords, want.dwords, want.n * sizeof(want.dwords[0]));

    s.n = 0;
    PUT(&s, DESTROY_SUB_CTX, 3); /* the current one: 0 is current now */
    PUT(&s, DESTROY_SUB_CTX, 3);
    PUT(&s, DESTROY_SUB_CTX, 0); /* never */
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    learn(&l, &s);
    cr_assert_eq(vgd_virgl_state_objects(l.state), 1);
    say(&l, &out);
    cr_assert_eq(out.dwords[out.n - 1], 0);
    learner_end(&l);
}

/* A resource that goes away takes what is made of it along. */
DEVICE_TEST(G19_detached_resources_are_not_bound_again)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    put_objects(&s);
    PUT(&s, SET_FRAMEBUFFER_STATE, 1, 0, SURFACE);
    PUT(&s, SET_SAMPLER_VIEWS, 0, 0, VIEW, VIEW + 1);
    PUT(&s, SET_VERTEX_BUFFERS, 4, 0, 1, 8, 0, 2);
    PUT(&s, SET_INDEX_BUFFER, 1, 2, 0);
    PUT(&s, SET_UNIFORM_BUFFER, 0, 3, 0, 4, 1);
    PUT(&s, SET_SHADER_BUFFERS, 0, 3, 0, 4, 1, 0, 4, 2);
    PUT(&s, SET_SHADER_IMAGES, 0, 3, 1, 0, 0, 0, 1);
    PUT(&s, SET_ATOMIC_BUFFERS, 3, 0, 4, 1);
    PUT(&s, SET_STREAMOUT_TARGETS, 0, TARGET);
    PUT(&s, PIPE_RESOURCE_SET_TYPE, 1, 1, 1, 8, 8, 0, 0, 0, 32, 0);
    PUT(&s, CREATE_VIDEO_BUFFER, 1, 1, 16, 16, 1);
    PUT(&s, BEGIN_QUERY, QUERY);
    DESTROY(&s, SAMPLER_VIEW, VIEW); /* an orphan goes, too */
    learn(&l, &s);
    learner_detach(&l, 1);
    say(&l, &out);
    struct vgd_stream walk = vgd_stream_of(&vgd_virgl_stream, out.dwords, out.n);
    struct vgd_command cmd;
    while (vgd_stream_next(&walk, &cmd)) {
        struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
        struct vgd_command_ref ref;
        while (vgd_command_refs_next(&refs, &ref)) {
            cr_assert(ref.space != VGD_REF_RESOURCE || ref.id != 1, "%s", vgd_command_name(&cmd));
        }
    }
    const uint32_t *fb = nth_of(&out, VGD_VIRGL_CMD_SET_FRAMEBUFFER_STATE, 0);
    cr_assert(fb[0] >> 16 == 2 && fb[1] == 0); /* none of several is nothing a renderer takes */
    const uint32_t *vb = nth_of(&out, VGD_VIRGL_CMD_SET_VERTEX_BUFFERS, 0);
    cr_assert(vb[0] >> 16 == 6 && vb[1] == 4 && vb[3] == 0 && vb[6] == 2);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BEGIN_QUERY, 0));
    /* It comes again, as another one: nothing of the old is it. */
    l.detached[1] = false;
    STREAM(out2);
    say(&l, &out2);
    cr_assert_eq(out2.n, out.n);
    s.n = 0;
    PUT(&s, SET_VERTEX_BUFFERS, 4, 0, 1, 8, 0, 2);
    PUT(&s, PIPE_RESOURCE_SET_TYPE, 1, 2, 1, 8, 8, 0, 0, 0, 32, 0);
    learn(&l, &s);
    say(&l, &out);
    cr_assert_eq(nth_of(&out, VGD_VIRGL_CMD_SET_VERTEX_BUFFERS, 0)[3], 1);
    cr_assert_eq(nth_of(&out, VGD_VIRGL_CMD_PIPE_RESOURCE_SET_TYPE, 0)[2], 2);
    learner_end(&l);
}

/* Each kind of slot, in sub-contexts that have nothing else: those that name nothing are not looked
 * at, and which these are changes. */
DEVICE_TEST(G19_resources_are_forgotten_in_each_sub_context)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    for (uint32_t round = 0; round < 4; round++) {
        uint32_t res = 1 + round;
        uint32_t other = 10 + round;
        s.n = 0;
        PUT(&s, CREATE_SUB_CTX, 100); /* the newest and the oldest come and go */
        PUT(&s, SET_INDEX_BUFFER, res, 2, 0);
        for (uint32_t i = 1; i <= 7; i++) {
            PUT(&s, CREATE_SUB_CTX, i);
            PUT(&s, SET_SUB_CTX, i);
            switch (i) {
            case 1:
                PUT(&s, SET_VERTEX_BUFFERS, 4, 0, res);
                break;
            case 2:
                PUT(&s, SET_INDEX_BUFFER, res, 2, 0);
                break;
            case 3:
                PUT(&s, SET_UNIFORM_BUFFER, 0, 3, 0, 4, res);
                break;
            case 4:
                PUT(&s, SET_SHADER_BUFFERS, 0, 3, 0, 4, res);
                break;
            case 5:
                PUT(&s, SET_SHADER_IMAGES, 5, 3, 1, 0, 0, 0, res);
                break;
            case 6:
                PUT(&s, SET_ATOMIC_BUFFERS, 3, 0, 4, res);
                break;
            default:
                PUT(&s, SET_UNIFORM_BUFFER, 5, 31, 0, 4, res);
                PUT(&s, SET_UNIFORM_BUFFER, 5, 30, 0, 4, other);
                break;
            }
        }
        PUT(&s, DESTROY_SUB_CTX, round % 2 == 0 ? 100 : 1 + round);
        learn(&l, &s);
        learner_detach(&l, res);
        say(&l, &out);
        struct vgd_stream walk = vgd_stream_of(&vgd_virgl_stream, out.dwords, out.n);
        struct vgd_command cmd;
        bool has_other = false;
        while (vgd_stream_next(&walk, &cmd)) {
            struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
            struct vgd_command_ref ref;
            while (vgd_command_refs_next(&refs, &ref)) {
                bool is_resource = ref.space == VGD_REF_RESOURCE;
                cr_assert(!is_resource || ref.id != res, "%s", vgd_command_name(&cmd));
                has_other |= is_resource && ref.id == other;
            }
        }
        cr_assert(has_other);
        learner_detach(&l, other);
    }
    learner_end(&l);
}

DEVICE_TEST(queries_that_run_are_begun_again)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    put_objects(&s);
    PUT(&s, BEGIN_QUERY, QUERY);
    PUT(&s, BEGIN_QUERY, QUERY + 1);
    PUT(&s, END_QUERY, QUERY);
    learn(&l, &s);
    say(&l, &out);
    cr_assert_eq(nth_of(&out, VGD_VIRGL_CMD_BEGIN_QUERY, 0)[1], QUERY + 1);
    cr_assert_null(nth_of(&out, VGD_VIRGL_CMD_BEGIN_QUERY, 1));
    learner_end(&l);
}

/* --- shaders ---------------------------------------------------------------------------------- */

DEVICE_TEST(G14_shader_in_pieces)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    CREATE(&s, SHADER, 5, 1, 40, 300, 0, 1, 2, 3, 4);
    learn(&l, &s);
    say(&l, &out); /* half of it, and it can be continued in a copy */
    CREATE(&s, SHADER, 5, 1, 16u | 1u << 31, 300, 0, 5, 6);
    CREATE(&s, SHADER, 5, 1, 24u | 1u << 31, 300, 0, 7, 8, 9, 10);
    PUT(&s, BIND_SHADER, 5, 1);
    static struct stream rest;
    rest.n = s.n - 10;
    memcpy(rest.dwords, s.dwords + 10, rest.n * sizeof(rest.dwords[0]));
    learn(&l, &rest);
    put_shader(&s, 6, 1, 1); /* whole now, so another one may come */
    static struct stream last;
    last.n = 7;
    memcpy(last.dwords, s.dwords + s.n - 7, 7 * sizeof(last.dwords[0]));
    learn(&l, &last);
    say(&l, &out);
    STREAM(pieces);
    memcpy(pieces.dwords, s.dwords, 27 * sizeof(s.dwords[0]));
    pieces.n = 27;
    cr_assert_eq(times_in(&out, &pieces), 1);
    learner_end(&l);
}

/* Half a shader takes its stage: what else is of that stage has to be made before it. */
DEVICE_TEST(G14_half_a_shader_beside_an_orphan)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    STREAM(out);
    put_shader(&s, 4, 1, 1);
    PUT(&s, BIND_SHADER, 4, 1);
    CREATE(&s, SHADER, 5, 1, 24, 300, 0, 1, 2, 3, 4);
    put_shader(&s, 6, 0, 1);
    DESTROY(&s, SHADER, 4);
    learn(&l, &s);
    say(&l, &out);
    cr_assert_neq(nth_of(&out, VGD_VIRGL_CMD_BIND_SHADER, 0)[1], 5);
    learner_end(&l);
}

DEVICE_TEST(objects_have_a_limit)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    uint32_t n = 0;
    while (n < VGD_VIRGL_OBJECTS_MAX) {
        s.n = 0;
        for (uint32_t i = 0; i < 4096; i++) {
            n++;
            CREATE(&s, DSA, n, 1, 2, 3, 4);
        }
        learn(&l, &s);
    }
    cr_assert_eq(n, VGD_VIRGL_OBJECTS_MAX);
    s.n = 0;
    PUT(&s, SET_STENCIL_REF, 1);
    CREATE(&s, DSA, n + 1, 1, 2, 3, 4);
    cr_assert_eq(follow(&l, &s), VGD_LIMIT);
    cr_assert_eq(l.good, 2);
    s.n = 0;
    DESTROY(&s, DSA, 1);
    CREATE(&s, DSA, n + 1, 1, 2, 3, 4);
    learn(&l, &s);
    learner_end(&l);
}

DEVICE_TEST(sub_contexts_have_a_limit)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    for (uint32_t i = 1; i < VGD_VIRGL_SUB_CONTEXTS_MAX; i++) {
        PUT(&s, CREATE_SUB_CTX, i);
    }
    learn(&l, &s);
    s.n = 0;
    PUT(&s, CREATE_SUB_CTX, 5000);
    cr_assert_eq(follow(&l, &s), VGD_LIMIT);
    s.n = 0;
    PUT(&s, DESTROY_SUB_CTX, 5);
    PUT(&s, CREATE_SUB_CTX, 5000);
    learn(&l, &s);
    learner_end(&l);
}

/* Shaders of 256 KiB: after some of them no more is kept, and the context goes on. */
DEVICE_TEST(over_its_bytes_a_context_goes_on_but_is_not_whole)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    const uint32_t n_dwords = 60000;
    uint32_t n = 0;
    while (vgd_virgl_state_is_whole(l.state)) {
        s.n = 0;
        uint32_t *body = calloc(n_dwords + 5, sizeof(*body));
        cr_assert_not_null(body);
        body[0] = ++n;
        body[2] = n_dwords * 4;
        put(&s, VGD_VIRGL_CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SHADER, body, n_dwords + 5);
        free(body);
        learn(&l, &s);
        cr_assert_leq(vgd_virgl_state_bytes(l.state), VGD_VIRGL_STATE_BYTES_MAX + (1u << 20));
        cr_assert_lt(n, 1000);
    }
    cr_assert_gt(n, 200);
    cr_assert_eq(vgd_virgl_state_emit(l.state, 64, collect, &s), VGD_UNSUPPORTED);
    s.n = 0;
    PUT(&s, BIND_SHADER, n, 0); /* it is there, for what is checked */
    CREATE(&s, DSA, 100000, 1, 2, 3, 4);
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 100000);
    learn(&l, &s);
    s.n = 0;
    PUT(&s, BIND_SHADER, 0, 0);
    DESTROY(&s, SHADER, n); /* what was not kept is gone */
    learn(&l, &s);
    cr_assert(vgd_virgl_state_is_whole(l.state));
    learner_end(&l);
}

DEVICE_TEST(blobs_that_nobody_takes_have_a_limit)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    for (uint32_t i = 0; i < VGD_VIRGL_BLOBS_MAX; i++) {
        PUT(&s, PIPE_RESOURCE_CREATE, 2, 1, 1, 64, 64, 1, 1, 0, 0, 0, 100 + i);
    }
    learn(&l, &s);
    STREAM(more);
    PUT(&more, PIPE_RESOURCE_CREATE, 2, 1, 1, 64, 64, 1, 1, 0, 0, 0, 9);
    cr_assert_eq(follow(&l, &more), VGD_LIMIT);
    uint32_t made[VGD_VIRGL_PIPE_CREATE_DWORDS];
    cr_assert(!vgd_virgl_state_take_blob(l.state, 9, made));
    cr_assert(vgd_virgl_state_take_blob(l.state, 101, made));
    cr_assert_eq(made[VGD_VIRGL_PIPE_CREATE_DWORDS - 1], 101);
    cr_assert(!vgd_virgl_state_take_blob(l.state, 101, made));
    learn(&l, &more);
    STREAM(out);
    say(&l, &out);
    cr_assert_eq(times_in(&out, &more), 1);
    learner_end(&l);
}

/* --- what is newer ---------------------------------------------------------------------------- */

DEVICE_TEST(newer_commands_are_passed_on_and_counted)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    PUT(&s, SET_STENCIL_REF, 1);
    put(&s, 200, 0, BODY(1, 2, 3), 3);
    CREATE(&s, SAMPLER_STATE, 5, 0, 0, 0, 0, 0, 0, 0, 0);
    put(&s, VGD_VIRGL_CMD_BIND_OBJECT, 40, BODY(77), 1);
    PUT(&s, DRAW_VBO, 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0);
    learn(&l, &s);
    cr_assert_eq(l.tally.commands, 5);
    cr_assert_eq(l.tally.unknown, 2);
    cr_assert_eq(l.tally.draws, 1);
    cr_assert(!vgd_virgl_state_is_whole(l.state)); /* what they left is not known */
    learner_end(&l);

    learner_begin(&l, true);
    cr_assert_eq(follow(&l, &s), VGD_UNSUPPORTED);
    cr_assert_eq(l.good, 2);
    cr_assert_str_eq(l.fault.what, "opcode");
    cr_assert_eq(l.fault.value, 200);
    cr_assert(vgd_virgl_state_is_whole(l.state));
    learner_end(&l);
}

DEVICE_TEST(a_refused_stream_spoils_the_state)
{
    struct learner l;
    learner_begin(&l, false);
    vgd_virgl_state_spoil(l.state);
    STREAM(out);
    cr_assert_eq(vgd_virgl_state_emit(l.state, 64, collect, &out), VGD_UNSUPPORTED);
    learner_end(&l);
}

static bool take_none(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    (void)dwords;
    uint32_t *calls = user;
    cr_assert_gt(n_dwords, 0);
    ++*calls;
    return false;
}

static bool take_parts(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    uint32_t *longest = user;
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    uint32_t n = 0;
    while (vgd_stream_next(&s, &cmd)) {
        n++;
    }
    cr_assert_eq(s.status, VGD_OK); /* whole commands */
    cr_assert(n_dwords <= 16 || n == 1);
    *longest = n_dwords > *longest ? n_dwords : *longest;
    return true;
}

DEVICE_TEST(parts_are_whole_commands)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    put_objects(&s);
    PUT(&s, SET_CLIP_STATE, TIMES32(5));
    learn(&l, &s);
    uint32_t calls = 0, longest = 0;
    cr_assert_eq(vgd_virgl_state_emit(l.state, 16, take_none, &calls), VGD_CLOSED);
    cr_assert_eq(calls, 1);
    cr_assert_eq(vgd_virgl_state_emit(l.state, 16, take_parts, &longest), VGD_OK);
    cr_assert_eq(longest, 33);
    learner_end(&l);
}
