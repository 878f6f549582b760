/* SPDX-License-Identifier: MIT */
/*
 * Writes a small virgl command stream, as Mesa's virgl driver would: enough for clears, and for
 * triangles from a vertex buffer through TGSI shaders. Numbers follow virglrenderer's
 * virgl_protocol.h and virgl_hw.h.
 * Thread: one at a time.
 */
#ifndef VGD_VIRGL_STREAM_H
#define VGD_VIRGL_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* virgl_hw.h */
#define VGD_VIRGL_FORMAT_B8G8R8A8_UNORM 1u
#define VGD_VIRGL_FORMAT_B8G8R8X8_UNORM 2u
#define VGD_VIRGL_FORMAT_R32G32B32A32_FLOAT 31u
#define VGD_VIRGL_FORMAT_R8_UNORM 64u
#define VGD_VIRGL_BIND_RENDER_TARGET (1u << 1)
#define VGD_VIRGL_BIND_SAMPLER_VIEW (1u << 3)
#define VGD_VIRGL_BIND_VERTEX_BUFFER (1u << 4)
#define VGD_VIRGL_BIND_SCANOUT (1u << 18)
#define VGD_VIRGL_TARGET_BUFFER 0u
#define VGD_VIRGL_TARGET_TEXTURE_2D 2u

enum vgd_virgl_object {
    VGD_VIRGL_OBJECT_NULL = 0,
    VGD_VIRGL_OBJECT_BLEND,
    VGD_VIRGL_OBJECT_RASTERIZER,
    VGD_VIRGL_OBJECT_DSA,
    VGD_VIRGL_OBJECT_SHADER,
    VGD_VIRGL_OBJECT_VERTEX_ELEMENTS,
    VGD_VIRGL_OBJECT_SAMPLER_VIEW,
    VGD_VIRGL_OBJECT_SAMPLER_STATE,
    VGD_VIRGL_OBJECT_SURFACE,
};

enum vgd_virgl_shader {
    VGD_VIRGL_SHADER_VERTEX = 0,
    VGD_VIRGL_SHADER_FRAGMENT = 1,
};

/* A growing array of dwords; zero-initialised is empty. Running out of memory sticks in @failed. */
struct vgd_virgl_stream {
    uint32_t *dwords; /* owned */
    uint32_t n_dwords, capacity_dwords;
    bool failed;
};

void vgd_virgl_stream_finish(struct vgd_virgl_stream *s);
/** Empty it, keep the memory. */
void vgd_virgl_stream_clear(struct vgd_virgl_stream *s);

/** Any command: header with @cmd, @object and the number of payload dwords, then the payload. */
void vgd_virgl_command(struct vgd_virgl_stream *s, uint32_t cmd, uint32_t object,
                       const uint32_t *payload, uint32_t n_dwords);

void vgd_virgl_create_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id);
void vgd_virgl_set_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id);
void vgd_virgl_destroy_sub_ctx(struct vgd_virgl_stream *s, uint32_t sub_ctx_id);
void vgd_virgl_create_surface(struct vgd_virgl_stream *s, uint32_t handle, uint32_t res_id,
                              uint32_t format);
void vgd_virgl_set_framebuffer(struct vgd_virgl_stream *s, uint32_t color_surface);
void vgd_virgl_set_viewport(struct vgd_virgl_stream *s, uint32_t w_px, uint32_t h_px);
/** Clear the first colour buffer. */
void vgd_virgl_clear_color(struct vgd_virgl_stream *s, const float rgba[4]);
/** Blend off and all channels written; depth and stencil off; no culling, no scissor. */
void vgd_virgl_create_default_states(struct vgd_virgl_stream *s, uint32_t blend_handle,
                                     uint32_t dsa_handle, uint32_t rasterizer_handle);
void vgd_virgl_create_shader(struct vgd_virgl_stream *s, uint32_t handle,
                             enum vgd_virgl_shader stage, const char *tgsi_text);
void vgd_virgl_bind_shader(struct vgd_virgl_stream *s, uint32_t handle,
                           enum vgd_virgl_shader stage);
void vgd_virgl_bind_object(struct vgd_virgl_stream *s, enum vgd_virgl_object type, uint32_t handle);
void vgd_virgl_destroy_object(struct vgd_virgl_stream *s, enum vgd_virgl_object type,
                              uint32_t handle);
/** Two float4 attributes, position and colour, in buffer 0. */
void vgd_virgl_create_vertex_elements(struct vgd_virgl_stream *s, uint32_t handle);
void vgd_virgl_set_vertex_buffer(struct vgd_virgl_stream *s, uint32_t res_id,
                                 uint32_t stride_bytes);
/** RESOURCE_INLINE_WRITE of a whole buffer from byte 0; @n_bytes at most 200 KiB. */
void vgd_virgl_inline_write(struct vgd_virgl_stream *s, uint32_t res_id, const void *data,
                            uint32_t n_bytes);
/** Constants of @stage, one call replaces all. */
void vgd_virgl_set_constants(struct vgd_virgl_stream *s, enum vgd_virgl_shader stage,
                             const float *values, uint32_t n_values);
void vgd_virgl_draw_triangles(struct vgd_virgl_stream *s, uint32_t first_vertex,
                              uint32_t n_vertices);

/* Position and colour through; a uniform is added to the colour in the _offset variant, so that
 * every draw can carry its own constants as real programs do. */
extern const char vgd_virgl_vertex_shader[];
extern const char vgd_virgl_fragment_shader[];
extern const char vgd_virgl_fragment_shader_uniform[];

/** Everything for triangles into colour surface 1 over @target: sub context 1, states, shaders,
 *  vertex layout, viewport of the target. Handles 1..7 are taken. @uniform: the fragment shader
 *  adds constant 0. */
void vgd_virgl_triangle_setup(struct vgd_virgl_stream *s, uint32_t target_res_id,
                              uint32_t target_format, uint32_t w_px, uint32_t h_px,
                              uint32_t vertex_res_id, bool uniform);

#endif
