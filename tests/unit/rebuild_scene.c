/* SPDX-License-Identifier: MIT */
#include "rebuild_scene.h"

#include <assert.h>
#include <string.h>

#include "virgl_stream.h"

/* Triangles in colours of their own, each beside the last one. */
#define TRIANGLES 24u

uint32_t rebuild_scene(uint32_t *out, uint32_t max_dwords, uint32_t target, uint32_t vertices)
{
    struct vgd_virgl_stream s = {0};
    float corners[TRIANGLES * 3][8];
    for (uint32_t i = 0; i < TRIANGLES * 3; i++) {
        float x = -0.95f + (float)(i / 3) * 0.08f;
        const float corner[8] = {x + (i % 3 == 1 ? 0.07f : 0), i % 3 == 2 ? 0.9f : -0.9f, 0, 1};
        memcpy(corners[i], corner, sizeof(corner));
    }
    vgd_virgl_triangle_setup(&s, target, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, REBUILD_SCENE_PX,
                             REBUILD_SCENE_PX, vertices, true);
    vgd_virgl_inline_write(&s, vertices, corners, sizeof(corners));
    /* What is bound lives on: surface, blend, rasterizer, both shaders. */
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 1);
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_BLEND, 2);
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_RASTERIZER, 4);
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SHADER, 5);
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SHADER, 6);
    /* And their handles are somebody else's now. */
    vgd_virgl_create_vertex_elements(&s, 5);
    vgd_virgl_create_vertex_elements(&s, 6);
    for (uint32_t i = 0; i < TRIANGLES; i++) {
        const float color[4] = {(float)i / TRIANGLES, 1.0f - (float)i / TRIANGLES, 0.5f, 1};
        vgd_virgl_set_constants(&s, VGD_VIRGL_SHADER_FRAGMENT, color, 4);
        vgd_virgl_draw_triangles(&s, i * 3, 3);
    }
    uint32_t n = s.n_dwords;
    assert(n <= max_dwords);
    memcpy(out, s.dwords, (size_t)n * sizeof(*out));
    vgd_virgl_stream_finish(&s);
    return n;
}
