/* SPDX-License-Identifier: MIT */
/* Streams and transfers that once broke somebody's renderer, against the real one: textures, blits,
 * compute, shaders. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "probe_streams.h"

#define BAD_ID 0x7fffff00u
/* virgl_protocol.h, virgl_hw.h and Gallium's p_defines.h */
#define CMD_CREATE_OBJECT 1u
#define CMD_BLIT 16u
#define CMD_COPY_REGION 17u
#define CMD_SHADER_BUFFERS 34u
#define CMD_SHADER_IMAGES 35u
#define CMD_LAUNCH_GRID 37u
#define CMD_TRANSFER3D 43u
#define FORMAT_S8_UINT_Z24_UNORM 20u
#define FORMAT_Z32_FLOAT 18u
#define FORMAT_R32_FLOAT 28u
#define FORMAT_DXT1_RGB 105u
#define BIND_DEPTH_STENCIL (1u << 0)
#define STAGE_COMPUTE 5u
#define SHADER_CONTINUES 0x80000000u /* in the word that else is the length of the text */

/* --- G10, G11 --- */

/* The same transfer as a command of a stream: @direction 1 to the host, 2 from it. */
static void in_a_stream(struct probe *p, const struct vgd_cmd_transfer_host_3d *t,
                        uint32_t direction)
{
    struct vgd_virgl_stream s = {0};
    uint32_t payload[13] = {t->resource_id, 0,        0, t->stride_bytes, 0, 0, 0, 0, t->box.w,
                            t->box.h,       t->box.d, 0, direction};
    vgd_virgl_command(&s, CMD_TRANSFER3D, 0, payload, 13);
    PROBE_CHECK(p, streams_submit(p, BAD_CTX, &s) != 0);
    vgd_virgl_stream_finish(&s);
}

/* Textures that cannot simply be copied; with backing that is a byte too short, and whole. Nothing
 * behind the backing is touched, and nothing but the texture's bytes comes back. */
static void odd_textures(struct probe *p)
{
    static const struct {
        const char *name;
        struct vgd_cmd_resource_create_3d create;
        uint32_t n_bytes, stride_bytes;
    } textures[] = {
        {"plain",
         {.target = TARGET_2D, .format = BGRA, .bind = 2, .width = 32, .height = 32},
         4096,
         128},
        {"multisampled",
         {.target = TARGET_2D,
          .format = BGRA,
          .bind = 2,
          .width = 32,
          .height = 32,
          .nr_samples = 4},
         4096,
         128},
        {"depth and stencil",
         {.target = TARGET_2D,
          .format = FORMAT_S8_UINT_Z24_UNORM,
          .bind = BIND_DEPTH_STENCIL,
          .width = 32,
          .height = 32},
         4096,
         128},
        {"depth",
         {.target = TARGET_2D,
          .format = FORMAT_Z32_FLOAT,
          .bind = BIND_DEPTH_STENCIL,
          .width = 32,
          .height = 32},
         4096,
         128},
        {"compressed",
         {.target = TARGET_2D, .format = FORMAT_DXT1_RGB, .bind = 8, .width = 32, .height = 32},
         512,
         64},
    };
    enum { POISON = 0xa5, MINE = 0x33, BEHIND = 0x77 };
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    for (size_t i = 0; i < sizeof(textures) / sizeof(textures[0]); i++) {
        struct vgd_cmd_resource_create_3d create = textures[i].create;
        create.resource_id = probe_id(p);
        create.depth = create.array_size = 1;
        if (vgd_guest_create_3d(p->gpu, BAD_CTX, &create) != VGD_RESP_OK_NODATA) {
            probe_note(p, "%s: cannot be made here", textures[i].name);
            continue;
        }
        PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, BAD_CTX, create.resource_id));
        struct vgd_guest_backing room;
        PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 8192, 1, &room));
        for (uint32_t n_short = 0; n_short < 2; n_short++) {
            uint32_t n_bytes = textures[i].n_bytes - n_short;
            struct vgd_mem_entry entry = {room.entries[0].addr, n_bytes};
            PROBE_OK(p, vgd_guest_attach(p->gpu, create.resource_id, &entry, 1));
            struct vgd_cmd_transfer_host_3d t = {.box = {.w = 32, .h = 32, .d = 1},
                                                 .resource_id = create.resource_id,
                                                 .stride_bytes = textures[i].stride_bytes};
            for (uint32_t way = 0; way < 4; way++) {
                memset(room.bytes, MINE, n_bytes);
                memset(room.bytes + n_bytes, BEHIND, 8192 - n_bytes);
                uint32_t type =
                    way % 2 == 0 ? VGD_CMD_TRANSFER_TO_HOST_3D : VGD_CMD_TRANSFER_FROM_HOST_3D;
                t.stride_bytes = way < 2 ? textures[i].stride_bytes : 0;
                uint32_t got = vgd_guest_transfer_3d(p->gpu, type, BAD_CTX, &t);
                if (create.nr_samples > 1) {
                    in_a_stream(p, &t, way % 2 == 0 ? 1 : 2);
                }
                PROBE_CHECK(p, got != 0);
                if (i == 0) {
                    PROBE_CHECK(p, (got == VGD_RESP_OK_NODATA) == (n_short == 0));
                } else if (create.nr_samples > 1) {
                    probe_err(p, "a transfer of a multisampled texture", got);
                }
                uint32_t behind = 0;
                uint32_t poison = 0;
                for (uint32_t at = n_bytes; at < 8192; at++) {
                    behind += room.bytes[at] != BEHIND;
                }
                for (uint32_t at = 3; at < n_bytes; at++) {
                    poison += room.bytes[at] == POISON && room.bytes[at - 1] == POISON &&
                              room.bytes[at - 2] == POISON && room.bytes[at - 3] == POISON;
                    poison += room.bytes[at] == (POISON ^ 0xff) &&
                              room.bytes[at - 1] == (POISON ^ 0xff) &&
                              room.bytes[at - 2] == (POISON ^ 0xff) &&
                              room.bytes[at - 3] == (POISON ^ 0xff);
                }
                if (behind != 0 || poison != 0) {
                    probe_fail(p, "%s, %u short, %s: %u bytes behind the backing, %u of the heap",
                               textures[i].name, n_short, vgd_cmd_name(type), behind, poison);
                }
                if (got != VGD_RESP_OK_NODATA) { /* the context may be in its error state */
                    (void)vgd_guest_ctx_destroy(p->gpu, BAD_CTX);
                    PROBE_REQUIRE(p, streams_begin(p));
                    PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, BAD_CTX, create.resource_id));
                }
            }
            PROBE_OK(p, vgd_guest_detach(p->gpu, create.resource_id));
        }
        PROBE_OK(p, vgd_guest_unref(p->gpu, create.resource_id));
        vgd_guest_backing_destroy(p->gpu, &room);
        streams_check_draws(p, textures[i].name, worker);
    }
}

/* The same in a backend whose heap is poisoned: what malloc gives and free takes is 0x5a and 0xa5
 * (glibc). A texture that nobody wrote holds what the host's GL says; so each is written first. */
static void poisoned_heap(struct probe *p)
{
    (void)setenv("MALLOC_PERTURB_", "165", 1);
    (void)setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=165", 1);
    bool open = probe_open(p, &(struct vgd_guest_gpu_config){.command_timeout_ms = 0});
    (void)unsetenv("MALLOC_PERTURB_");
    (void)unsetenv("GLIBC_TUNABLES");
    if (!open) {
        return;
    }
    if (!vgd_guest_gpu_has_3d(p->gpu)) {
        probe_skip(p, "the backend offers no 3D");
        return;
    }
    odd_textures(p);
}

/* --- G12 --- */

static void blit(struct vgd_virgl_stream *s, uint32_t dst, uint32_t dst_format, const uint32_t d[6],
                 uint32_t src, uint32_t src_format, const uint32_t b[6])
{
    uint32_t payload[21] = {0xf, 0, 0, dst, 0, dst_format};
    memcpy(payload + 6, d, 24);
    payload[12] = src;
    payload[14] = src_format;
    memcpy(payload + 15, b, 24);
    vgd_virgl_command(s, CMD_BLIT, 0, payload, 21);
}

static void blits(struct probe *p)
{
    static const uint32_t boxes[][6] = {
        {0, 0, 0, 32, 32, 1},
        {0, 0, 0, 33, 32, 1},
        {31, 31, 0, 32, 32, 1},
        {0xffffffff, 0, 0, 2, 1, 1},
        {0x80000000, 0x80000000, 0, 1, 1, 1},
        {0, 0, 5, 32, 32, 1},
        {0, 0, 0, 32, 32, 0xffffffff},
        {0, 0, 0, 0, 0, 0},
        {16, 16, 0, 0xfffffff0, 0xfffffff0, 1}, /* mirrored */
        {0, 0, 0, 0x7fffffff, 0x7fffffff, 1},
    };
    static const uint32_t formats[] = {BGRA, FORMAT_R32_FLOAT, FORMAT_Z32_FLOAT, FORMAT_DXT1_RGB, 0,
                                       255,  0xffff,           0xffffffff};
    struct vgd_virgl_stream s = {0};
    struct vgd_guest_backing backing[3] = {0};
    uint32_t ids[3];
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    struct vgd_cmd_resource_create_3d depth = streams_plain;
    depth.format = FORMAT_Z32_FLOAT;
    depth.bind = BIND_DEPTH_STENCIL;
    ids[0] = streams_make(p, BAD_CTX, streams_plain, 4096, &backing[0]);
    ids[1] = streams_make(p, BAD_CTX, streams_plain, 4096, &backing[1]);
    ids[2] = streams_make(p, BAD_CTX, depth, 4096, &backing[2]);
    PROBE_REQUIRE(p, ids[0] != 0 && ids[1] != 0);
    const uint32_t n_boxes = sizeof(boxes) / sizeof(boxes[0]);
    const uint32_t n_formats = sizeof(formats) / sizeof(formats[0]);
    for (uint32_t k = 0; k < n_boxes * n_formats && !p->failed; k++) {
        const uint32_t *box = boxes[k % n_boxes];
        for (uint32_t i = 0; i < 3; i++) {
            (void)vgd_guest_ctx_attach(p->gpu, BAD_CTX, ids[i]);
        }
        for (uint32_t way = 0; way < 4; way++) {
            uint32_t dst = ids[way % 2 == 0 ? 0 : 2]; /* onto itself, and over another kind */
            const uint32_t *d = way < 2 ? boxes[0] : box;
            const uint32_t *b = way < 2 ? box : boxes[0];
            blit(&s, dst, formats[k / n_boxes], d, ids[0], BGRA, b);
            blit(&s, ids[1], BGRA, d, dst, formats[k / n_boxes], b);
            uint32_t copy[13] = {dst, way, d[0], d[1], d[2], ids[0], 0};
            memcpy(copy + 7, b, 24);
            vgd_virgl_command(&s, CMD_COPY_REGION, 0, copy, 13);
        }
        streams_try(p, &s, "blits and copies");
        if (k % n_boxes == n_boxes - 1) {
            streams_check_draws(p, "blits and copies", worker);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        vgd_guest_backing_destroy(p->gpu, &backing[i]);
    }
    vgd_virgl_stream_finish(&s);
}

/* --- G13, G14 --- */

/* CREATE_OBJECT of a shader: text of @n_bytes of which this is a piece, with @offset_or_length as
 * it stands. */
static void shader_piece(struct vgd_virgl_stream *s, uint32_t handle, uint32_t stage,
                         uint32_t offset_or_length, const char *text, uint32_t n_bytes)
{
    uint32_t payload[4096] = {handle, stage, offset_or_length, 300, 0};
    uint32_t n = n_bytes < sizeof(payload) - 20 ? n_bytes : (uint32_t)sizeof(payload) - 20;
    memcpy(payload + 5, text, n);
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SHADER, payload, 5 + (n + 3) / 4);
}

static void compute(struct probe *p)
{
    static const char text[] = "COMP\nPROPERTY CS_FIXED_BLOCK_WIDTH 1\nDCL BUFFER[0]\n"
                               "DCL TEMP[0]\nIMM[0] UINT32 {0, 1, 4294967295, 2147483648}\n"
                               "  0: STORE BUFFER[0].x, IMM[0].zzzz, IMM[0].yyyy\n  1: END\n";
    static const uint32_t numbers[] = {0, 1, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
    struct vgd_virgl_stream s = {0};
    struct vgd_guest_backing backing = {0};
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    uint32_t id = streams_make(p, BAD_CTX, streams_plain, 4096, &backing);
    for (uint32_t k = 0; k < 18 && !p->failed; k++) {
        uint32_t number = numbers[k % 6];
        (void)vgd_guest_ctx_attach(p->gpu, BAD_CTX, id);
        if (k >= 6) {
            shader_piece(&s, 5, STAGE_COMPUTE, sizeof(text), text, sizeof(text));
            vgd_virgl_bind_shader(&s, 5, STAGE_COMPUTE);
        }
        uint32_t buffer[5] = {STAGE_COMPUTE, k < 12 ? 0 : number, number, number, id};
        uint32_t image[7] = {STAGE_COMPUTE, k < 12 ? 0 : number, BGRA, 3, number, number, id};
        vgd_virgl_command(&s, CMD_SHADER_BUFFERS, 0, buffer, 5);
        vgd_virgl_command(&s, CMD_SHADER_IMAGES, 0, image, 7);
        /* Without a shader any size; with one, none that keeps a real GPU busy for long. */
        uint32_t size = k < 6 || number > 0xffff ? number : number != 0;
        uint32_t grid[8] = {1, 1, 1, size, size, size, 0, 0};
        grid[0] = k % 2 == 0 ? number : 1;
        vgd_virgl_command(&s, CMD_LAUNCH_GRID, 0, grid, 8);
        grid[6] = k == 2 ? id : BAD_ID;
        grid[7] = number;
        vgd_virgl_command(&s, CMD_LAUNCH_GRID, 0, grid, 8);
        streams_try(p, &s, "compute");
    }
    streams_check_draws(p, "compute", worker);
    vgd_guest_backing_destroy(p->gpu, &backing);
    vgd_virgl_stream_finish(&s);
}

static void shaders(struct probe *p)
{
    static char text[12000];
    struct vgd_virgl_stream s = {0};
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    static const char head[] = "VERT\nDCL IN[0]\nDCL OUT[0], POSITION\n";
    static const char *const bodies[] = {
        "",
        "  0: MOV OUT[0], IN[0]", /* no end */
        "  0: MOV OUT[99999999999999999999], IN[-1]\n  1: END\n",
        "  0: MOV OUT[4294967295], IN[2147483648]\n  1: END\n",
        "DCL TEMP[0..4294967295]\n  0: END\n",
        "DCL CONST[1][0..1000000]\n  0: END\n",
        ("IMM[0] FLT32 {99999999999999999999999999999999999999999999999999999999999, 1, 1, 1}\n"
         "  0: END\n"),
        "PROPERTY NEXT_SHADER 99999999999\n  0: END\n",
        "  0: BGNLOOP\n  1: BGNLOOP\n  2: BGNLOOP\n  3: END\n",
        "  0: CAL :99\n  1: IF IN[0]\n  2: END\n",
        "  0: TEX OUT[0], IN[0], SAMP[77], 2D\n  1: END\n",
    };
    for (uint32_t k = 0; k < sizeof(bodies) / sizeof(bodies[0]); k++) {
        (void)snprintf(text, sizeof(text), "%s%s", head, bodies[k]);
        uint32_t n = (uint32_t)strlen(text);
        shader_piece(&s, 5, VGD_VIRGL_SHADER_VERTEX, n + 1, text, n + 1);
        vgd_virgl_bind_shader(&s, 5, VGD_VIRGL_SHADER_VERTEX);
        streams_try(p, &s, "shader text");
        shader_piece(&s, 5, VGD_VIRGL_SHADER_VERTEX, n & ~3u, text, n & ~3u); /* no 0 at its end */
        streams_try(p, &s, "shader text without an end");
    }
    streams_check_draws(p, "shader text", worker);
    memset(text, 'A', sizeof(text));
    static const uint32_t lengths[] = {0,
                                       1,
                                       3,
                                       4,
                                       4096,
                                       12000,
                                       0x7fffffff,
                                       SHADER_CONTINUES,
                                       SHADER_CONTINUES | 4,
                                       SHADER_CONTINUES | 4096,
                                       SHADER_CONTINUES | 0x7fffffff};
    const uint32_t n_lengths = sizeof(lengths) / sizeof(lengths[0]);
    for (uint32_t k = 0; k < n_lengths * n_lengths; k++) {
        /* Two pieces that do not fit together, of a text that is none. */
        shader_piece(&s, 5, k % 6, lengths[k / n_lengths], text, 4096);
        shader_piece(&s, k % 3 == 0 ? 6 : 5, k % 6, lengths[k % n_lengths], text, 64);
        vgd_virgl_bind_shader(&s, 5, k % 6);
        streams_try(p, &s, "pieces of shaders");
    }
    streams_check_draws(p, "pieces of shaders", worker);
    vgd_virgl_stream_finish(&s);
}

/* A shader whose text has not come whole is bound, and drawn with. */
static void unfinished_shader(struct probe *p)
{
    struct vgd_virgl_stream s = {0};
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    for (uint32_t stage = 0; stage < 2; stage++) {
        struct vgd_guest_backing backing[2] = {0};
        uint32_t id = streams_make(p, BAD_CTX, streams_plain, 4096, &backing[0]);
        struct vgd_cmd_resource_create_3d buffer = {.target = VGD_VIRGL_TARGET_BUFFER,
                                                    .format = VGD_VIRGL_FORMAT_R8_UNORM,
                                                    .bind = VGD_VIRGL_BIND_VERTEX_BUFFER,
                                                    .width = 4096,
                                                    .height = 1};
        uint32_t vertices = streams_make(p, BAD_CTX, buffer, 4096, &backing[1]);
        PROBE_REQUIRE(p, id != 0 && vertices != 0);
        const char *text =
            stage == VGD_VIRGL_SHADER_VERTEX ? vgd_virgl_vertex_shader : vgd_virgl_fragment_shader;
        uint32_t n_bytes = (uint32_t)strlen(text) + 1;
        vgd_virgl_triangle_setup(&s, id, BGRA, 32, 32, vertices, false);
        shader_piece(&s, 9, stage, n_bytes + 1024, text, n_bytes);
        vgd_virgl_bind_shader(&s, 9, stage);
        vgd_virgl_draw_triangles(&s, 0, 3);
        streams_try(p, &s, "a draw with an unfinished shader");
        (void)vgd_guest_unref(p->gpu, id);
        (void)vgd_guest_unref(p->gpu, vertices);
        vgd_guest_backing_destroy(p->gpu, &backing[0]);
        vgd_guest_backing_destroy(p->gpu, &backing[1]);
        streams_check_draws(
            p, stage == 0 ? "an unfinished vertex shader" : "an unfinished fragment shader",
            worker);
    }
    vgd_virgl_stream_finish(&s);
}

static const struct probe_test tests[] = {
    {"streams/odd-textures", odd_textures, PROBE_3D},
    {"streams/poisoned-heap", poisoned_heap, PROBE_RAW | PROBE_EXEC},
    {"streams/blits", blits, PROBE_3D},
    {"streams/compute", compute, PROBE_3D},
    {"streams/shaders", shaders, PROBE_3D},
    {"streams/unfinished-shader", unfinished_shader, PROBE_3D},
};

const struct probe_suite probe_streams_work = {tests, sizeof(tests) / sizeof(tests[0])};
