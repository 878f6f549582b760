/* SPDX-License-Identifier: MIT */
/* What is refused of a stream, and that it leaves no trace: one rule a test. */
#include <criterion/criterion.h>
#include <string.h>

#include "fixture.h"
#include "learner.h"

DEVICE_TEST(G07_bound_in_another_sub_context)
{
    static const uint8_t types[] = {VGD_VIRGL_OBJECT_BLEND, VGD_VIRGL_OBJECT_RASTERIZER,
                                    VGD_VIRGL_OBJECT_DSA, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS};
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    put_objects(&s);
    PUT(&s, CREATE_SUB_CTX, 1);
    learn(&l, &s);
    for (uint32_t i = 0; i < 4; i++) {
        s.n = 0;
        put(&s, VGD_VIRGL_CMD_BIND_OBJECT, types[i], BODY(BLEND + i), 1);
        cr_assert_eq(follow(&l, &s), VGD_RANGE);
        cr_assert_str_eq(l.fault.what, "handle");
        cr_assert_eq(l.fault.value, BLEND + i);
        cr_assert_eq(l.good, 0);
    }
    learner_end(&l);
}

/* What the renderer takes offence at, and what it passes over. */
DEVICE_TEST(G06_unknown_handles)
{
    STREAM(prelude);
    put_objects(&prelude);
    const struct {
        const char *name;
        uint8_t op, type;
        uint32_t n;
        const uint32_t *body;
        enum vgd_status status;
        const char *what;
    } cases[] = {
#define ONE(text, opcode, object, result, field, ...)                                              \
    {.name = (text),                                                                               \
     .op = VGD_VIRGL_CMD_##opcode,                                                                 \
     .type = VGD_VIRGL_OBJECT_##object,                                                            \
     .n = sizeof(BODY(__VA_ARGS__)) / sizeof(uint32_t),                                            \
     .body = BODY(__VA_ARGS__),                                                                    \
     .status = (result),                                                                           \
     .what = (field)}
        ONE("blend", BIND_OBJECT, BLEND, VGD_RANGE, "handle", 99),
        ONE("of another type", BIND_OBJECT, BLEND, VGD_RANGE, "handle", DSA),
        ONE("color", SET_FRAMEBUFFER_STATE, NONE, VGD_RANGE, "handle", 2, 0, SURFACE, 99),
        ONE("depth", SET_FRAMEBUFFER_STATE, NONE, VGD_RANGE, "depth_stencil", 0, 99),
        ONE("view", SET_SAMPLER_VIEWS, NONE, VGD_RANGE, "handle", 1, 0, VIEW, SURFACE),
        ONE("target", SET_STREAMOUT_TARGETS, NONE, VGD_RANGE, "handle", 0, 99),
        ONE("begin", BEGIN_QUERY, NONE, VGD_RANGE, "handle", 99),
        ONE("end", END_QUERY, NONE, VGD_RANGE, "handle", SURFACE),
        ONE("result", GET_QUERY_RESULT, NONE, VGD_RANGE, "handle", 99, 0),
        ONE("clear", CLEAR_SURFACE, NONE, VGD_RANGE, "handle", 2, 99, 0, 0, 0, 0, 0, 0, 1, 1),
        ONE("shader", BIND_SHADER, NONE, VGD_OK, NULL, 99, 0),
        ONE("shader of another stage", BIND_SHADER, NONE, VGD_OK, NULL, SHADER, 1),
        ONE("link", LINK_SHADER, NONE, VGD_OK, NULL, 99, 98, 0, 0, 0, 0),
        ONE("sampler", BIND_SAMPLER_STATES, NONE, VGD_OK, NULL, 1, 0, 99),
        ONE("condition", SET_RENDER_CONDITION, NONE, VGD_OK, NULL, 99, 0, 0),
        ONE("destroy", DESTROY_OBJECT, BLEND, VGD_OK, NULL, 99),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct learner l;
        learner_begin(&l, false);
        learn(&l, &prelude);
        STREAM(before);
        say(&l, &before);
        STREAM(s);
        PUT(&s, SET_STENCIL_REF, 0);
        DESTROY(&s, DSA, 0); /* a null handle */
        uint32_t at = s.n;
        put(&s, cases[i].op, cases[i].type, cases[i].body, cases[i].n);
        PUT(&s, SET_MIN_SAMPLES, 3);
        cr_assert_eq(follow(&l, &s), cases[i].status, "%s", cases[i].name);
        cr_assert_eq(l.good, cases[i].status == VGD_OK ? s.n : at, "%s", cases[i].name);
        STREAM(out);
        say(&l, &out);
        cr_assert_not_null(nth_of(&out, VGD_VIRGL_CMD_SET_STENCIL_REF, 0));
        if (cases[i].status != VGD_OK) {
            cr_assert_str_eq(l.fault.what, cases[i].what, "%s: %s", cases[i].name, l.fault.what);
            cr_assert_eq(l.wrong.at, at);
            cr_assert_eq(l.tally.commands, 2);
            cr_assert_eq(out.n, before.n + 2, "%s leaves a trace", cases[i].name);
        }
        learner_end(&l);
    }
}

/* Every command that names a resource, with one that is not attached. */
DEVICE_TEST(G19_resources_that_are_not_attached)
{
    STREAM(prelude);
    put_objects(&prelude);
    const uint32_t format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM;
#define RES 63u
    const struct {
        const char *name;
        uint8_t op, type;
        uint32_t n;
        const uint32_t *body;
        enum vgd_status status;
        const char *what;
    } cases[] = {
#define REFUSED(opcode, object, field, ...)                                                        \
    ONE(#opcode " " #object, opcode, object, VGD_NO_RESOURCE, field, __VA_ARGS__)
        REFUSED(CREATE_OBJECT, SURFACE, "resource", 90, RES, format, 0, 0),
        REFUSED(CREATE_OBJECT, MSAA_SURFACE, "resource", 90, RES, format, 0, 0, 4),
        REFUSED(CREATE_OBJECT, SAMPLER_VIEW, "resource", 90, RES, format, 0, 0, 0),
        REFUSED(CREATE_OBJECT, QUERY, "resource", 90, 0, 0, RES),
        REFUSED(CREATE_OBJECT, STREAMOUT_TARGET, "resource", 90, RES, 0, 4),
        REFUSED(SET_VERTEX_BUFFERS, NONE, "resource", 4, 0, 1, 4, 0, RES),
        REFUSED(SET_INDEX_BUFFER, NONE, "resource", RES, 2, 0),
        REFUSED(SET_UNIFORM_BUFFER, NONE, "resource", 0, 0, 0, 4, RES),
        REFUSED(SET_SHADER_BUFFERS, NONE, "resource", 0, 0, 0, 4, RES),
        REFUSED(SET_SHADER_IMAGES, NONE, "resource", 0, 0, format, 0, 0, 0, RES),
        REFUSED(SET_ATOMIC_BUFFERS, NONE, "resource", 0, 0, 4, RES),
        REFUSED(CLEAR_TEXTURE, NONE, "resource", RES, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0),
        REFUSED(DRAW_VBO, NONE, "indirect", 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, RES, 0, 0, 0,
                0, 0),
        REFUSED(DRAW_VBO, NONE, "indirect_count", 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, RES),
        REFUSED(LAUNCH_GRID, NONE, "indirect", 1, 1, 1, 1, 1, 1, RES, 0),
        REFUSED(BLIT, NONE, "dst", 0, 0, 0, RES, 0, format, 0, 0, 0, 1, 1, 1, 1, 0, format, 0, 0, 0,
                1, 1, 1),
        REFUSED(BLIT, NONE, "src", 0, 0, 0, 1, 0, format, 0, 0, 0, 1, 1, 1, RES, 0, format, 0, 0, 0,
                1, 1, 1),
        REFUSED(RESOURCE_COPY_REGION, NONE, "src", 1, 0, 0, 0, 0, RES, 0, 0, 0, 0, 1, 1, 1),
        REFUSED(RESOURCE_INLINE_WRITE, NONE, "resource", RES, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0),
        REFUSED(TRANSFER3D, NONE, "resource", RES, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1),
        REFUSED(COPY_TRANSFER3D, NONE, "staging", 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, RES, 0, 0),
        REFUSED(GET_QUERY_RESULT_QBO, NONE, "resource", QUERY, RES, 0, 0, 0, 0),
        REFUSED(PIPE_RESOURCE_SET_TYPE, NONE, "resource", RES, 1, 1, 8, 8, 0, 0, 0, 32, 0),
        REFUSED(GET_MEMORY_INFO, NONE, "resource", RES),
        REFUSED(GET_PIPE_RESOURCE_LAYOUT, NONE, "out", RES, 1),
        ONE("video", CREATE_VIDEO_BUFFER, NONE, VGD_OK, NULL, 1, 1, 16, 16, RES),
        ONE("video", DECODE_BITSTREAM, NONE, VGD_OK, NULL, 1, 1, RES, RES, 4),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct learner l;
        learner_begin(&l, false);
        l.detached[RES] = true;
        learn(&l, &prelude);
        STREAM(before);
        STREAM(s);
        STREAM(out);
        say(&l, &before);
        put(&s, cases[i].op, cases[i].type, cases[i].body, cases[i].n);
        cr_assert_eq(follow(&l, &s), cases[i].status, "%s", cases[i].name);
        if (cases[i].status != VGD_OK) {
            cr_assert_str_eq(l.fault.what, cases[i].what, "%s: %s", cases[i].name, l.fault.what);
            cr_assert_eq(l.fault.value, RES, "%s", cases[i].name);
            say(&l, &out);
            cr_assert(out.n == before.n &&
                          memcmp(out.dwords, before.dwords, out.n * sizeof(out.dwords[0])) == 0,
                      "%s leaves a trace", cases[i].name);
            l.detached[RES] = false;
            learn(&l, &s);
        }
        learner_end(&l);
    }
}

DEVICE_TEST(G14_shader_pieces_that_do_not_fit)
{
    const struct {
        const char *name;
        uint32_t n, body[8];
        const char *what;
    } cases[] = {
        {"no first piece", 6, {7, 0, 16u | 1u << 31, 300, 0, 5}, "handle"},
        {"another handle", 6, {6, 1, 16u | 1u << 31, 300, 0, 5}, "handle"},
        {"a gap", 6, {5, 1, 20u | 1u << 31, 300, 0, 5}, "offset_bytes"},
        {"from the start", 6, {5, 1, 0u | 1u << 31, 300, 0, 5}, "offset_bytes"},
        {"more than announced", 8, {5, 1, 16u | 1u << 31, 300, 0, 5, 6, 7}, "offset_bytes"},
        {"a new shader of the stage", 6, {8, 1, 4, 300, 0, 5}, "offset_bytes"},
        {"the same handle, another stage", 6, {5, 0, 4, 300, 0, 5}, "handle"},
        {"more at once than announced", 7, {9, 0, 4, 300, 0, 5, 6}, "offset_bytes"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct learner l;
        learner_begin(&l, false);
        STREAM(s);
        STREAM(before);
        STREAM(out);
        CREATE(&s, SHADER, 5, 1, 24, 300, 0, 1, 2, 3, 4);
        learn(&l, &s);
        say(&l, &before);
        s.n = 0;
        put(&s, VGD_VIRGL_CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SHADER, cases[i].body, cases[i].n);
        cr_assert_eq(follow(&l, &s), VGD_RANGE, "%s", cases[i].name);
        cr_assert_str_eq(l.fault.what, cases[i].what, "%s: %s", cases[i].name, l.fault.what);
        say(&l, &out);
        cr_assert(out.n == before.n &&
                  memcmp(out.dwords, before.dwords, out.n * sizeof(out.dwords[0])) == 0);
        s.n = 0;
        CREATE(&s, SHADER, 5, 1, 16u | 1u << 31, 300, 0, 5, 6); /* the right one still fits */
        learn(&l, &s);
        learner_end(&l);
    }
}

DEVICE_TEST(G14_half_a_shader_is_not_destroyed)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    CREATE(&s, SHADER, 5, 1, 24, 300, 0, 1, 2, 3, 4);
    learn(&l, &s);
    s.n = 0;
    DESTROY(&s, SHADER, 5);
    cr_assert_eq(follow(&l, &s), VGD_RANGE);
    s.n = 0;
    CREATE(&s, DSA, 5, 1, 2, 3, 4);
    cr_assert_eq(follow(&l, &s), VGD_RANGE);
    s.n = 0;
    CREATE(&s, SHADER, 5, 1, 16u | 1u << 31, 300, 0, 5, 6);
    DESTROY(&s, SHADER, 5);
    learn(&l, &s);
    cr_assert_eq(vgd_virgl_state_objects(l.state), 0);
    learner_end(&l);
}

/* virglrenderer ends when something is drawn with one. */
DEVICE_TEST(G14_half_a_shader_is_not_bound)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    CREATE(&s, SHADER, 5, 1, 24, 300, 0, 1, 2, 3, 4);
    learn(&l, &s);
    s.n = 0;
    PUT(&s, BIND_SHADER, 5, 1);
    cr_assert_eq(follow(&l, &s), VGD_RANGE);
    s.n = 0;
    PUT(&s, LINK_SHADER, 0, 5, 0, 0, 0, 0);
    cr_assert_eq(follow(&l, &s), VGD_RANGE);
    s.n = 0;
    CREATE(&s, SHADER, 5, 1, 16u | 1u << 31, 300, 0, 5, 6);
    PUT(&s, BIND_SHADER, 5, 1);
    PUT(&s, LINK_SHADER, 0, 5, 0, 0, 0, 0);
    learn(&l, &s);
    learner_end(&l);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* A command that the stream's end cuts off. */
DEVICE_TEST(G06_length_past_the_end)
{
    struct learner l;
    learner_begin(&l, false);
    STREAM(s);
    PUT(&s, SET_STENCIL_REF, 1);
    PUT(&s, SET_BLEND_COLOR, 1, 2, 3, 4);
    for (uint32_t cut = 3; cut < s.n; cut++) {
        struct stream *part = &s;
        uint32_t whole = s.n;
        part->n = cut;
        cr_assert_eq(follow(&l, part), VGD_TRUNCATED);
        cr_assert_eq(l.good, 2);
        cr_assert_str_eq(l.fault.what, "length");
        cr_assert_eq(l.fault.value, 4);
        cr_assert_str_eq(vgd_command_name(&l.wrong), "SET_BLEND_COLOR");
        part->n = whole;
    }
    learner_end(&l);
}
