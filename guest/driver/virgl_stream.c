/* SPDX-License-Identifier: MIT */
#include "virgl_stream.h"

#include <stdlib.h>
#include <string.h>

enum {
    CMD_CREATE_OBJECT = 1,
    CMD_BIND_OBJECT = 2,
    CMD_DESTROY_OBJECT = 3,
    CMD_SET_VIEWPORT_STATE = 4,
    CMD_SET_FRAMEBUFFER_STATE = 5,
    CMD_SET_VERTEX_BUFFERS = 6,
    CMD_CLEAR = 7,
    CMD_DRAW_VBO = 8,
    CMD_RESOURCE_INLINE_WRITE = 9,
    CMD_SET_CONSTANT_BUFFER = 12,
    CMD_SET_SUB_CTX = 28,
    CMD_CREATE_SUB_CTX = 29,
    CMD_DESTROY_SUB_CTX = 30,
    CMD_BIND_SHADER = 31,
};

#define CLEAR_COLOR0 (1u << 2)
#define PRIM_TRIANGLES 4u
#define SHADER_TOKENS_COUNT 300u /* upper bound of the parsed program, as the renderer wants it */

const char vgd_virgl_vertex_shader[] = "VERT\n"
                                       "DCL IN[0]\n"
                                       "DCL IN[1]\n"
                                       "DCL OUT[0], POSITION\n"
                                       "DCL OUT[1], COLOR\n"
                                       "  0: MOV OUT[1], IN[1]\n"
                                       "  1: MOV OUT[0], IN[0]\n"
                                       "  2: END\n";
const char vgd_virgl_fragment_shader[] = "FRAG\n"
                                         "DCL IN[0], COLOR, LINEAR\n"
                                         "DCL OUT[0], COLOR\n"
                                         "  0: MOV OUT[0], IN[0]\n"
                                         "  1: END\n";
const char vgd_virgl_fragment_shader_uniform[] = "FRAG\n"
                                                 "DCL IN[0], COLOR, LINEAR\n"
                                                 "DCL OUT[0], COLOR\n"
                                                 "DCL CONST[0]\n"
                                                 "  0: ADD OUT[0], IN[0], CONST[0]\n"
                                                 "  1: END\n";

void vgd_virgl_stream_finish(struct vgd_virgl_stream *s)
{
    free(s->dwords);
    *s = (struct vgd_virgl_stream){0};
}

void vgd_virgl_stream_clear(struct vgd_virgl_stream *s)
{
    s->n_dwords = 0;
}

static void put(struct vgd_virgl_stream *s, uint32_t dword)
{
    if (s->n_dwords == s->capacity_dwords) {
        uint32_t capacity = s->capacity_dwords == 0 ? 256 : s->capacity_dwords * 2;
        uint32_t *grown = realloc(s->dwords, (size_t)capacity * sizeof(*grown));
        if (grown == NULL) {
            s->failed = true;
            return;
        }
        s->dwords = grown;
        s->capacity_dwords = capacity;
    }
    s->dwords[s->n_dwords++] = dword;
}

static void put_float(struct vgd_virgl_stream *s, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put(s, bits);
}

static void put_bytes(struct vgd_virgl_stream *s, const void *data, uint32_t n_bytes)
{
    const uint8_t *bytes = data;
    for (uint32_t at = 0; at < n_bytes; at += 4) {
        uint32_t dword = 0;
        memcpy(&dword, bytes + at, n_bytes - at < 4 ? n_bytes - at : 4);
        put(s, dword);
    }
}

static void put_header(struct vgd_virgl_stream *s, uint32_t cmd, uint32_t object, uint32_t n_dwords)
{
    put(s, cmd | object << 8 | n_dwords << 16);
}

void vgd_virgl_command(struct vgd_virgl_stream *s, uint32_t cmd, uint32_t object,
                       const uint32_t *payload, uint32_t n_dwords)
{
    put_header(s, cmd, object, n_dwords);
    for (uint32_t i = 0; i < n_dwords; i++) {
        put(s, payload[i]);
    }
}

void vgd_virgl_create_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id)
{
    vgd_virgl_command(s, CMD_CREATE_SUB_CTX, 0, &sub_ctx_id, 1);
}

void vgd_virgl_set_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id)
{
    vgd_virgl_command(s, CMD_SET_SUB_CTX, 0, &sub_ctx_id, 1);
}

void vgd_virgl_destroy_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id)
{
    vgd_virgl_command(s, CMD_DESTROY_SUB_CTX, 0, &sub_ctx_id, 1);
}

void vgd_virgl_create_surface(struct vgd_virgl_stream *s, uint32_t handle, uint32_t res_id,
                              uint32_t format)
{
    uint32_t payload[] = {handle, res_id, format, 0 /* level */, 0 /* layers */};
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SURFACE, payload, 5);
}

void vgd_virgl_set_framebuffer(struct vgd_virgl_stream *s, uint32_t color_surface)
{
    uint32_t payload[] = {1 /* colour buffers */, 0 /* no depth */, color_surface};
    vgd_virgl_command(s, CMD_SET_FRAMEBUFFER_STATE, 0, payload, 3);
}

void vgd_virgl_set_viewport(struct vgd_virgl_stream *s, uint32_t w_px, uint32_t h_px)
{
    put_header(s, CMD_SET_VIEWPORT_STATE, 0, 7);
    put(s, 0); /* first slot */
    put_float(s, (float)w_px / 2.0f);
    put_float(s, (float)h_px / 2.0f);
    put_float(s, 0.5f);
    put_float(s, (float)w_px / 2.0f);
    put_float(s, (float)h_px / 2.0f);
    put_float(s, 0.5f);
}

void vgd_virgl_clear_color(struct vgd_virgl_stream *s, const float rgba[4])
{
    put_header(s, CMD_CLEAR, 0, 8);
    put(s, CLEAR_COLOR0);
    for (uint32_t i = 0; i < 4; i++) {
        put_float(s, rgba[i]);
    }
    put(s, 0); /* depth, a double */
    put(s, 0);
    put(s, 0); /* stencil */
}

void vgd_virgl_create_default_states(struct vgd_virgl_stream *s, uint32_t blend_handle,
                                     uint32_t dsa_handle, uint32_t rasterizer_handle)
{
    uint32_t blend[11] = {blend_handle};
    for (uint32_t i = 3; i < 11; i++) {
        blend[i] = 0xfu << 27; /* colour mask of each target */
    }
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_BLEND, blend, 11);
    vgd_virgl_bind_object(s, VGD_VIRGL_OBJECT_BLEND, blend_handle);

    uint32_t dsa[5] = {dsa_handle};
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_DSA, dsa, 5);
    vgd_virgl_bind_object(s, VGD_VIRGL_OBJECT_DSA, dsa_handle);

    const float one = 1.0f;
    uint32_t one_bits;
    memcpy(&one_bits, &one, sizeof(one_bits));
    uint32_t rasterizer[9] = {rasterizer_handle};
    rasterizer[1] = 1u << 1 /* depth clip */ | 1u << 29 /* half pixel centre */ |
                    1u << 30 /* bottom edge rule */;
    rasterizer[2] = one_bits; /* point size */
    rasterizer[5] = one_bits; /* line width */
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_RASTERIZER, rasterizer, 9);
    vgd_virgl_bind_object(s, VGD_VIRGL_OBJECT_RASTERIZER, rasterizer_handle);
}

void vgd_virgl_create_shader(struct vgd_virgl_stream *s, uint32_t handle,
                             enum vgd_virgl_shader stage, const char *tgsi_text)
{
    uint32_t n_bytes = (uint32_t)strlen(tgsi_text) + 1;
    put_header(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SHADER, 5 + (n_bytes + 3) / 4);
    put(s, handle);
    put(s, stage);
    put(s, n_bytes); /* length of the whole text: it comes in one piece */
    put(s, SHADER_TOKENS_COUNT);
    put(s, 0); /* no stream output */
    put_bytes(s, tgsi_text, n_bytes);
}

void vgd_virgl_bind_shader(struct vgd_virgl_stream *s, uint32_t handle, enum vgd_virgl_shader stage)
{
    uint32_t payload[] = {handle, stage};
    vgd_virgl_command(s, CMD_BIND_SHADER, 0, payload, 2);
}

void vgd_virgl_bind_object(struct vgd_virgl_stream *s, enum vgd_virgl_object type, uint32_t handle)
{
    vgd_virgl_command(s, CMD_BIND_OBJECT, type, &handle, 1);
}

void vgd_virgl_destroy_object(struct vgd_virgl_stream *s, enum vgd_virgl_object type,
                              uint32_t handle)
{
    vgd_virgl_command(s, CMD_DESTROY_OBJECT, type, &handle, 1);
}

void vgd_virgl_create_vertex_elements(struct vgd_virgl_stream *s, uint32_t handle)
{
    uint32_t payload[] = {
        handle, 0,                                          /* position at byte 0 */
        0,      0, VGD_VIRGL_FORMAT_R32G32B32A32_FLOAT, 16, /* colour behind it */
        0,      0, VGD_VIRGL_FORMAT_R32G32B32A32_FLOAT,
    };
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, payload, 9);
}

void vgd_virgl_set_vertex_buffer(struct vgd_virgl_stream *s, uint32_t res_id, uint32_t stride_bytes)
{
    uint32_t payload[] = {stride_bytes, 0, res_id};
    vgd_virgl_command(s, CMD_SET_VERTEX_BUFFERS, 0, payload, 3);
}

void vgd_virgl_inline_write(struct vgd_virgl_stream *s, uint32_t res_id, const void *data,
                            uint32_t n_bytes)
{
    put_header(s, CMD_RESOURCE_INLINE_WRITE, 0, 11 + (n_bytes + 3) / 4);
    put(s, res_id);
    put(s, 0); /* level */
    put(s, 0); /* usage */
    put(s, 0); /* stride */
    put(s, 0); /* layer stride */
    put(s, 0); /* x, y, z */
    put(s, 0);
    put(s, 0);
    put(s, n_bytes); /* w, h, d */
    put(s, 1);
    put(s, 1);
    put_bytes(s, data, n_bytes);
}

void vgd_virgl_set_constants(struct vgd_virgl_stream *s, enum vgd_virgl_shader stage,
                             const float *values, uint32_t n_values)
{
    put_header(s, CMD_SET_CONSTANT_BUFFER, 0, 2 + n_values);
    put(s, stage);
    put(s, 0); /* index */
    for (uint32_t i = 0; i < n_values; i++) {
        put_float(s, values[i]);
    }
}

void vgd_virgl_draw_triangles(struct vgd_virgl_stream *s, uint32_t first_vertex,
                              uint32_t n_vertices)
{
    uint32_t payload[12] = {first_vertex, n_vertices, PRIM_TRIANGLES};
    payload[4] = 1;                              /* instances */
    payload[9] = 0;                              /* lowest index */
    payload[10] = first_vertex + n_vertices - 1; /* highest index */
    vgd_virgl_command(s, CMD_DRAW_VBO, 0, payload, 12);
}

void vgd_virgl_triangle_setup(struct vgd_virgl_stream *s, uint32_t target_res_id,
                              uint32_t target_format, uint32_t w_px, uint32_t h_px,
                              uint32_t vertex_res_id, bool uniform)
{
    vgd_virgl_create_sub_ctx(s, 1);
    vgd_virgl_set_sub_ctx(s, 1);
    vgd_virgl_create_surface(s, 1, target_res_id, target_format);
    vgd_virgl_set_framebuffer(s, 1);
    vgd_virgl_set_viewport(s, w_px, h_px);
    vgd_virgl_create_default_states(s, 2, 3, 4);
    vgd_virgl_create_shader(s, 5, VGD_VIRGL_SHADER_VERTEX, vgd_virgl_vertex_shader);
    vgd_virgl_bind_shader(s, 5, VGD_VIRGL_SHADER_VERTEX);
    vgd_virgl_create_shader(s, 6, VGD_VIRGL_SHADER_FRAGMENT,
                            uniform ? vgd_virgl_fragment_shader_uniform
                                    : vgd_virgl_fragment_shader);
    vgd_virgl_bind_shader(s, 6, VGD_VIRGL_SHADER_FRAGMENT);
    vgd_virgl_create_vertex_elements(s, 7);
    vgd_virgl_bind_object(s, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, 7);
    vgd_virgl_set_vertex_buffer(s, vertex_res_id, 32);
}
