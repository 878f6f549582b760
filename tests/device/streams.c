/* SPDX-License-Identifier: MIT */
/* SUBMIT_3D of contexts, as far as the streams in them are concerned: cases G06, G07, G13, G14 and
 * G19 of the security list, at the device. The rules one by one are in virgl_state.c. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "put.h"
#include "samples.h"

#define VENUS_CTX 9u

static uint32_t submit_stream(struct bench *b, uint32_t ctx_id, const struct stream *s)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, ctx_id);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){.size_bytes = s->n * 4});
    vgd_write_bytes(&c.w, s->dwords, (size_t)s->n * 4);
    return cmd_run(b, &c);
}

static size_t executed_bytes(const struct bench *b)
{
    uint32_t word;
    return vgd_fake_last_submit(b->render, &word);
}

/* A stream of its own is executed after each refusal. */
static void goes_on(struct bench *b)
{
    STREAM(s);
    PUT(&s, SET_STENCIL_REF, 1);
    cr_assert_resp(submit_stream(b, CTX, &s), OK_NODATA);
    cr_assert_eq(executed_bytes(b), 8);
}

/* Each stream: two good commands, the wrong one, and one that must not be executed. */
struct refused {
    const char *name;
    uint32_t resp;
    uint32_t n, dwords[24];
};

static void refuse(const struct refused *cases, size_t n)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    for (size_t i = 0; i < n; i++) {
        STREAM(s);
        PUT(&s, SET_STENCIL_REF, 1);
        PUT(&s, DRAW_VBO, 0, 3, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        uint32_t good = s.n;
        memcpy(s.dwords + s.n, cases[i].dwords, cases[i].n * sizeof(uint32_t));
        s.n += cases[i].n;
        PUT(&s, SET_STENCIL_REF, 2);
        struct vgd_gpu_counters before = b.counters;
        uint32_t submits = vgd_fake_calls(b.render, VGD_FAKE_SUBMIT);
        cr_assert_eq(submit_stream(&b, CTX, &s), cases[i].resp, "%s", cases[i].name);
        cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_SUBMIT), submits + 1, "%s", cases[i].name);
        cr_assert_eq(executed_bytes(&b), good * 4, "%s", cases[i].name);
        cr_assert_eq(b.counters.stream_refused, before.stream_refused + 1, "%s", cases[i].name);
        cr_assert_eq(b.counters.stream_commands, before.stream_commands + 2, "%s", cases[i].name);
        cr_assert_eq(b.counters.stream_draws, before.stream_draws + 1, "%s", cases[i].name);
        cr_assert_eq(b.counters.errors, before.errors + 1, "%s", cases[i].name);
        goes_on(&b);
    }
    const struct vgd_context *ctx = vgd_context_find(b.gpu, CTX);
    cr_assert_eq(ctx->slot->draws, n);
    cr_assert_eq(ctx->slot->commands, 3 * n);
    cr_assert_eq(ctx->slot->submits, 2 * n);
    bench_close(&b);
}
#define HEADER(opcode, object, n) ((n) << 16 | (object) << 8 | VGD_VIRGL_CMD_##opcode)
#define REFUSE(cases) refuse((cases), sizeof(cases) / sizeof((cases)[0]))

DEVICE_TEST(G06_streams_that_are_no_streams)
{
    static const struct refused cases[] = {
        {"length past the end",
         VGD_RESP_ERR_INVALID_PARAMETER,
         1,
         {HEADER(SET_CLIP_STATE, 0u, 32u)}},
        {"longest", VGD_RESP_ERR_INVALID_PARAMETER, 1, {HEADER(NOP, 0u, 0xffffu)}},
        {"length 0", VGD_RESP_ERR_INVALID_PARAMETER, 1, {HEADER(SET_BLEND_COLOR, 0u, 0u)}},
        {"too short", VGD_RESP_ERR_INVALID_PARAMETER, 4, {HEADER(SET_BLEND_COLOR, 0u, 3u)}},
        {"object type of nobody",
         VGD_RESP_ERR_INVALID_PARAMETER,
         2,
         {HEADER(CREATE_OBJECT, 0u, 1u), 5}},
        {"handle 0",
         VGD_RESP_ERR_INVALID_PARAMETER,
         6,
         {HEADER(CREATE_OBJECT, 3u, 5u), 0, 0, 0, 0, 0}},
        {"unknown handle", VGD_RESP_ERR_INVALID_PARAMETER, 2, {HEADER(BIND_OBJECT, 3u, 1u), 77}},
        {"unknown query", VGD_RESP_ERR_INVALID_PARAMETER, 2, {HEADER(BEGIN_QUERY, 0u, 1u), 77}},
        {"colors that are not there",
         VGD_RESP_ERR_INVALID_PARAMETER,
         3,
         {HEADER(SET_FRAMEBUFFER_STATE, 0u, 2u), 8, 0}},
    };
    REFUSE(cases);
}

DEVICE_TEST(G06_what_is_newer_is_passed_on)
{
    STREAM(s);
    PUT(&s, SET_STENCIL_REF, 1);
    put(&s, 0xee, 0, BODY(1, 2, 3), 3);
    put(&s, VGD_VIRGL_CMD_CREATE_OBJECT, 0x20, BODY(5, 2, 3), 3);
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_eq(executed_bytes(&b), s.n * 4);
    cr_assert_eq(b.counters.stream_unknown, 2);
    cr_assert_eq(b.counters.stream_refused, 0);
    bench_close(&b);

    bench_open(&b, &(struct bench_setup){.strict_streams = true});
    samples_prepare(&b);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_UNSPEC);
    cr_assert_eq(executed_bytes(&b), 8);
    cr_assert_eq(b.counters.stream_unknown, 0);
    cr_assert_eq(b.counters.stream_refused, 1);
    bench_close(&b);
}

/* Nothing is executed where nothing precedes what is wrong. */
DEVICE_TEST(G06_wrong_from_the_start)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    STREAM(s);
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_PARAMETER);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_SUBMIT), 0);
    goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(G07_handles_of_one_context_are_not_another_ones)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_resp(ctx_create(&b, CTX + 1, 0), OK_NODATA);
    STREAM(s);
    CREATE(&s, DSA, 5, 0, 0, 0, 0);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    s.n = 0;
    PUT_OBJECT(&s, BIND_OBJECT, DSA, 5);
    cr_assert_resp(submit_stream(&b, CTX + 1, &s), ERR_INVALID_PARAMETER);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    /* Nor of one that had the same number. */
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

/* A launch without a shader, and of any size, is the renderer's to judge (a grid costs what the
 * shader does); what lies outside the slots that there are is ours. */
DEVICE_TEST(G13_grids_and_slots)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    STREAM(s);
    PUT(&s, LAUNCH_GRID, 0, 0, 0, 0, 0, 0, 0, 0);
    PUT(&s, LAUNCH_GRID, 1, 1, 1, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 0);
    PUT(&s, SET_SHADER_BUFFERS, 5, 31, UINT32_MAX, UINT32_MAX, RES_3D);
    PUT(&s, SET_SHADER_IMAGES, 5, 31, 1, 3, UINT32_MAX, UINT32_MAX, RES_3D);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_eq(executed_bytes(&b), s.n * 4);
    cr_assert_eq(b.counters.stream_draws, 2);
    bench_close(&b);
    static const struct refused cases[] = {
        {"buffer slot 32",
         VGD_RESP_ERR_INVALID_PARAMETER,
         6,
         {HEADER(SET_SHADER_BUFFERS, 0u, 5u), 5, 32, 0, 4, RES_3D}},
        {"buffer slot that wraps",
         VGD_RESP_ERR_INVALID_PARAMETER,
         6,
         {HEADER(SET_SHADER_BUFFERS, 0u, 5u), 5, UINT32_MAX, 0, 4, RES_3D}},
        {"image slots 31 and 32",
         VGD_RESP_ERR_INVALID_PARAMETER,
         13,
         {HEADER(SET_SHADER_IMAGES, 0u, 12u), 5, 31, 1, 0, 0, 0, RES_3D, 1, 0, 0, 0, RES_3D}},
        {"uniform slot 32",
         VGD_RESP_ERR_INVALID_PARAMETER,
         6,
         {HEADER(SET_UNIFORM_BUFFER, 0u, 5u), 0, 32, 0, 4, RES_3D}},
        {"atomic slot that wraps",
         VGD_RESP_ERR_INVALID_PARAMETER,
         5,
         {HEADER(SET_ATOMIC_BUFFERS, 0u, 4u), UINT32_MAX - 1, 0, 4, RES_3D}},
        {"indirect grid in another context's resource",
         VGD_RESP_ERR_INVALID_RESOURCE_ID,
         9,
         {HEADER(LAUNCH_GRID, 0u, 8u), 1, 1, 1, 1, 1, 1, RES_3D_OUTSIDE, 0}},
    };
    REFUSE(cases);
}

DEVICE_TEST(G14_shader_texts)
{
    static const struct refused cases[] = {
        {"more than announced",
         VGD_RESP_ERR_INVALID_PARAMETER,
         8,
         {HEADER(CREATE_OBJECT, 4u, 7u), 5, 0, 4, 300, 0, 1, 2}},
        {"the largest piece of no shader",
         VGD_RESP_ERR_INVALID_PARAMETER,
         7,
         {HEADER(CREATE_OBJECT, 4u, 6u), 5, 0, UINT32_MAX, 300, 0, 1}},
        {"outputs that are not there",
         VGD_RESP_ERR_INVALID_PARAMETER,
         7,
         {HEADER(CREATE_OBJECT, 4u, 6u), 5, 0, 4, 300, 1, 1}},
        {"too many outputs",
         VGD_RESP_ERR_INVALID_PARAMETER,
         7,
         {HEADER(CREATE_OBJECT, 4u, 6u), 5, 0, 4, 300, UINT32_MAX, 1}},
    };
    REFUSE(cases);
    /* A text that says it is 2 GiB takes what has come of it, and its handle is not free. */
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    uint64_t before = b.gpu->stream_state_bytes;
    STREAM(s);
    CREATE(&s, SHADER, 5, 0, INT32_MAX, 300, 0, 1);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_lt(b.gpu->stream_state_bytes - before, 1024);
    s.n = 0;
    DESTROY(&s, SHADER, 5);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_PARAMETER);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_lt(b.gpu->stream_state_bytes, before);
    bench_close(&b);
}

DEVICE_TEST(G19_a_stream_and_what_is_attached)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    STREAM(s);
    CREATE(&s, SURFACE, 5, RES_3D_OUTSIDE, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0);
    PUT(&s, SET_VERTEX_BUFFERS, 4, 0, RES_3D_OUTSIDE);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_RESOURCE_ID);
    s.n = 0;
    PUT(&s, SET_VERTEX_BUFFERS, 4, 0, RES_3D_OUTSIDE); /* the very same binding as before */
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_resp(unref(&b, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_RESOURCE_ID);
    goes_on(&b);
    bench_close(&b);
}

static void bad_streams(struct bench *b)
{
    STREAM(s);
    for (uint32_t i = 0; i < 20000; i++) {
        s.n = 0;
        PUT(&s, SET_STENCIL_REF, 1);
        PUT_OBJECT(&s, BIND_OBJECT, DSA, 5000 + i);
        cr_assert_resp(submit_stream(b, CTX, &s), ERR_INVALID_PARAMETER);
    }
}

DEVICE_TEST(F09_log_flood_by_streams)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    char text[65536];
    size_t n_bytes = bench_logged(bad_streams, &b, text, sizeof(text));
    cr_assert_lt(n_bytes, 4096);
    cr_assert_not_null(strstr(text, "SUBMIT_3D: ctx=7 dword 3 BIND_OBJECT: handle 5000 (0x1388)"),
                       "%s", text);
    cr_assert_eq(b.counters.stream_refused, 20000);
    bench_close(&b);
}

DEVICE_TEST(streams_of_a_vulkan_context_are_counted)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_venus = true});
    cr_assert_resp(ctx_create(&b, VENUS_CTX, VGD_CAPSET_VENUS), OK_NODATA);
    STREAM(s);
    s.dwords[0] = 190; /* vkNotifyRingMESA: the ring, a number, flags */
    s.dwords[1] = 0;
    memset(s.dwords + 2, 0, 4 * sizeof(uint32_t));
    s.n = 6;
    cr_assert_resp(submit_stream(&b, VENUS_CTX, &s), OK_NODATA);
    cr_assert_eq(b.counters.stream_commands, 1);
    cr_assert_eq(vgd_context_find(b.gpu, VENUS_CTX)->slot->commands, 1);
    s.n = 4;
    uint32_t submits = vgd_fake_calls(b.render, VGD_FAKE_SUBMIT);
    cr_assert_resp(submit_stream(&b, VENUS_CTX, &s), ERR_INVALID_PARAMETER);
    cr_assert_eq(b.counters.stream_refused, 1);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_SUBMIT), submits);
    /* What is not of the transport is passed on whole, as it is. */
    s.dwords[0] = 3;
    cr_assert_resp(submit_stream(&b, VENUS_CTX, &s), OK_NODATA);
    cr_assert_eq(executed_bytes(&b), 16);
    bench_close(&b);
}

/* All that is remembered goes with the context, however it goes. */
DEVICE_TEST(memory_of_streams_is_given_back)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    STREAM(s);
    CREATE(&s, SURFACE, 5, RES_3D, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0);
    PUT(&s, CREATE_SUB_CTX, 1);
    PUT(&s, SET_CONSTANT_BUFFER, 0, 0, 1, 2, 3, 4);
    uint64_t before = b.gpu->stream_state_bytes;
    cr_assert_gt(before, 0);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_gt(b.gpu->stream_state_bytes, before);
    vgd_fake_lose_context(b.render, CTX);
    cr_assert_eq(b.gpu->stream_state_bytes, 0);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_UNSPEC);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D), OK_NODATA);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_gt(b.gpu->stream_state_bytes, 0);
    bench_reset(&b);
    cr_assert_eq(b.gpu->stream_state_bytes, 0);
    bench_close(&b);
}

DEVICE_TEST(a_stream_that_the_renderer_refuses_is_not_made_again)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    const struct vgd_context *ctx = vgd_context_find(b.gpu, CTX);
    cr_assert(vgd_virgl_state_is_whole(ctx->stream));
    vgd_fake_fail_nth(b.render, 1, VGD_RANGE);
    STREAM(s);
    PUT(&s, SET_STENCIL_REF, 1);
    cr_assert_resp(submit_stream(&b, CTX, &s), ERR_INVALID_PARAMETER);
    cr_assert(!vgd_virgl_state_is_whole(ctx->stream));
    bench_close(&b);
}

DEVICE_TEST(a_blob_knows_what_it_was_made_of)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    STREAM(s);
    PUT(&s, PIPE_RESOURCE_CREATE, 2, 1, 1, 64, 64, 1, 1, 0, 0, 0, 33);
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert(vgd_fake_add_object(b.render, CTX, 33, SAMPLE_BYTES, false));
    struct vgd_cmd_resource_create_blob args = {.resource_id = 50,
                                                .blob_mem = VGD_BLOB_MEM_HOST3D,
                                                .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                .blob_id = 33,
                                                .size_bytes = SAMPLE_BYTES};
    cr_assert_resp(create_blob(&b, CTX, &args, NULL, 0), OK_NODATA);
    const struct vgd_resource *res = vgd_resource_find(b.gpu, 50);
    cr_assert_arr_eq(res->as.blob.made_by, s.dwords, s.n * sizeof(uint32_t));
    cr_assert_eq(vgd_resource_find(b.gpu, RES_BLOB)->as.blob.made_by[0], 0);
    bench_close(&b);
}

/* --- what streams make for blobs is as limited as what commands make ----------------------------
 */

#define MIB (1u << 20)
#define PUT_MAKE(s, target, w, h, d, layers, level, samples, blob_id)                              \
    PUT(s, PIPE_RESOURCE_CREATE, target, 1, 1, w, h, d, layers, level, samples, 0, blob_id)

static uint32_t blob_of(struct bench *b, uint32_t res_id, uint32_t blob_id, uint64_t size_bytes)
{
    struct vgd_cmd_resource_create_blob args = {.resource_id = res_id,
                                                .blob_mem = VGD_BLOB_MEM_HOST3D,
                                                .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                .blob_id = blob_id,
                                                .size_bytes = size_bytes};
    return create_blob(b, CTX, &args, NULL, 0);
}

DEVICE_TEST(sizes_of_what_a_stream_makes)
{
    static const struct {
        const char *name;
        uint32_t target, format, w, h, d, layers, level, samples;
        bool good;
    } cases[] = {
        {"2D", 2, 1, 64, 64, 1, 1, 6, 0, true},
        {"as wide as may be", 2, 1, 16384, 1, 1, 1, 14, 0, true},
        {"wider", 2, 1, 16385, 1, 1, 1, 0, 0, false},
        {"higher", 2, 1, 1, 16385, 1, 1, 0, 0, false},
        {"2^31 wide", 2, 1, 1u << 31, 1, 1, 1, 0, 0, false},
        {"no width", 2, 1, 0, 64, 1, 1, 0, 0, false},
        {"no height", 2, 1, 64, 0, 1, 1, 0, 0, false},
        {"no depth", 2, 1, 64, 64, 0, 1, 0, 0, false},
        {"no format", 2, 0, 64, 64, 1, 1, 0, 0, false},
        {"a level too many", 2, 1, 64, 64, 1, 1, 7, 0, false},
        {"33 samples", 2, 1, 64, 64, 1, 1, 0, 33, false},
        {"deep, and not 3D", 2, 1, 64, 64, 2, 1, 0, 0, false},
        {"3D", 3, 1, 64, 64, 64, 1, 0, 0, true},
        {"too deep", 3, 1, 1, 1, 2049, 1, 0, 0, false},
        {"an array of 0", 7, 1, 64, 64, 1, 0, 0, 0, false},
        {"an array of too many", 7, 1, 1, 1, 1, 2049, 0, 0, false},
        {"8 GiB at the widest format", 2, 1, 16384, 16384, 1, 1, 0, 2, false},
        {"a buffer of 1 GiB", 0, 1, 1u << 30, 1, 1, 1, 0, 0, true},
        {"and a byte", 0, 1, (1u << 30) + 1, 1, 1, 1, 0, 0, false},
        {"a buffer of two rows", 0, 1, 64, 2, 1, 1, 0, 0, false},
        {"a target that is none", 9, 1, 64, 64, 1, 1, 0, 0, false},
    };
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    uint64_t before = b.counters.resource_bytes_live;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        STREAM(s);
        PUT(&s, SET_STENCIL_REF, 1);
        PUT(&s, PIPE_RESOURCE_CREATE, cases[i].target, cases[i].format, 1, cases[i].w, cases[i].h,
            cases[i].d, cases[i].layers, cases[i].level, cases[i].samples, 0, 100 + i);
        uint32_t resp = submit_stream(&b, CTX, &s);
        cr_assert_eq(resp, cases[i].good ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER,
                     "%s: 0x%x", cases[i].name, resp);
        cr_assert_eq(executed_bytes(&b), cases[i].good ? s.n * 4 : 8, "%s", cases[i].name);
        cr_assert(cases[i].good || b.counters.resource_bytes_live == before, "%s", cases[i].name);
        before = b.counters.resource_bytes_live;
    }
    bench_close(&b);
}

DEVICE_TEST(what_streams_make_counts_until_the_context_ends)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    const uint64_t before = b.counters.resource_bytes_live;
    STREAM(s);
    for (uint32_t i = 0; i < 17; i++) { /* 17 GiB; 16 are the limit, and the samples have some */
        PUT_MAKE(&s, 2, 16384, 16384, 1, 1, 0, 0, i);
    }
    for (uint32_t round = 0; round < 3; round++) {
        cr_assert_resp(submit_stream(&b, CTX, &s), ERR_OUT_OF_MEMORY);
        cr_assert_eq(executed_bytes(&b), (size_t)15 * VGD_VIRGL_PIPE_CREATE_DWORDS * 4);
        cr_assert_eq(b.counters.resource_bytes_live, before + (15ull << 30));
        /* Other commands find the room taken, too. */
        struct vgd_cmd_resource_create_3d args = {.resource_id = 60,
                                                  .target = VGD_TARGET_BUFFER,
                                                  .format = 1,
                                                  .width = 1u << 30,
                                                  .height = 1,
                                                  .depth = 1};
        cr_assert_resp(create_3d(&b, &args), ERR_OUT_OF_MEMORY);
        if (round == 0) {
            vgd_fake_lose_context(b.render, CTX);
            cr_assert_eq(b.counters.resource_bytes_live, before);
        }
        if (round < 2) {
            cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
            cr_assert_eq(b.counters.resource_bytes_live, before);
            cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
        }
    }
    bench_reset(&b);
    cr_assert_eq(b.counters.resource_bytes_live, 0);
    bench_close(&b);
}

DEVICE_TEST(a_blob_counts_once)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.resource_bytes_max = 4 * MIB}});
    samples_prepare(&b);
    const uint64_t before = b.counters.resource_bytes_live;
    STREAM(s);
    PUT_MAKE(&s, 2, 512, 512, 1, 1, 0, 0, 33);
    PUT_MAKE(&s, 0, 64, 1, 1, 1, 0, 0, 34);
    PUT_MAKE(&s, 0, 64, 1, 1, 1, 0, 0, 34); /* a second one of the same name counts, too */
    cr_assert_resp(submit_stream(&b, CTX, &s), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, before + MIB + 128);
    cr_assert(vgd_fake_add_object(b.render, CTX, 33, SAMPLE_BYTES, false));
    cr_assert(vgd_fake_add_object(b.render, CTX, 34, SAMPLE_BYTES, false));

    /* The larger number counts: what was made, or what the blob says. */
    cr_assert_resp(blob_of(&b, 50, 33, SAMPLE_BYTES), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, before + MIB + 128);
    cr_assert_resp(blob_of(&b, 51, 34, SAMPLE_BYTES), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, before + MIB + SAMPLE_BYTES + 64);
    cr_assert_resp(unref(&b, 50), OK_NODATA);
    cr_assert_resp(unref(&b, 51), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, before + 64);

    /* One that takes all there is still becomes a blob; one of more than there is does not. */
    const uint32_t left = 4 * MIB - (uint32_t)before - 64;
    STREAM(all);
    PUT_MAKE(&all, 0, left, 1, 1, 1, 0, 0, 35);
    cr_assert_resp(submit_stream(&b, CTX, &all), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, 4 * MIB);
    cr_assert(vgd_fake_add_object(b.render, CTX, 35, SAMPLE_BYTES, false));
    STREAM(more);
    PUT_MAKE(&more, 0, 1, 1, 1, 1, 0, 0, 36);
    cr_assert_resp(submit_stream(&b, CTX, &more), ERR_OUT_OF_MEMORY);
    cr_assert_resp(blob_of(&b, 52, 35, 4 * MIB), ERR_OUT_OF_MEMORY);
    cr_assert_resp(blob_of(&b, 52, 77, SAMPLE_BYTES), ERR_OUT_OF_MEMORY); /* another's room */
    cr_assert_resp(blob_of(&b, 52, 35, SAMPLE_BYTES * 2), ERR_INVALID_PARAMETER); /* lies */
    cr_assert_eq(b.counters.resource_bytes_live, 4 * MIB);
    cr_assert_resp(blob_of(&b, 52, 35, SAMPLE_BYTES), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, 4 * MIB);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, 4 * MIB - 64); /* the blob stays */
    cr_assert_resp(unref(&b, 52), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, before);
    bench_close(&b);
}
