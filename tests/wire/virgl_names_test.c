/* SPDX-License-Identifier: MIT */
/*
 * Numbers by hand from virgl_hw.h and p_defines.h: of lists their ends and both sides of each gap,
 * of packed dwords every bit.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "stream.h"
#include "virgl_wire.h"

static const struct {
    const char *(*name_of)(uint32_t value);
    uint32_t value;
    const char *name;
} names[] = {
    {vgd_virgl_format_name, 0, "NONE"},
    {vgd_virgl_format_name, 1, "B8G8R8A8_UNORM"},
    {vgd_virgl_format_name, 24, "R64_FLOAT"},
    {vgd_virgl_format_name, 72, "R8G8B8A8_USCALED"},
    {vgd_virgl_format_name, 73, "unknown"},
    {vgd_virgl_format_name, 74, "R8_SNORM"},
    {vgd_virgl_format_name, 77, "R8G8B8A8_SNORM"},
    {vgd_virgl_format_name, 82, "R8_SSCALED"},
    {vgd_virgl_format_name, 85, "R8G8B8A8_SSCALED"},
    {vgd_virgl_format_name, 86, "unknown"},
    {vgd_virgl_format_name, 87, "R32_FIXED"},
    {vgd_virgl_format_name, 100, "B8G8R8A8_SRGB"},
    {vgd_virgl_format_name, 126, "Z32_FLOAT_S8X24_UINT"},
    {vgd_virgl_format_name, 166, "Y8_U8V8_420_UNORM"},
    {vgd_virgl_format_name, 200, "R32G32B32A32_SINT"},
    {vgd_virgl_format_name, 225, "B10G10R10A2_UINT"},
    {vgd_virgl_format_name, 255, "BPTC_RGBA_UNORM"},
    {vgd_virgl_format_name, 258, "BPTC_RGB_UFLOAT"},
    {vgd_virgl_format_name, 259, "unknown"},
    {vgd_virgl_format_name, 262, "unknown"},
    {vgd_virgl_format_name, 263, "G8R8_UNORM"},
    {vgd_virgl_format_name, 269, "ETC2_RGB8"},
    {vgd_virgl_format_name, 279, "ASTC_4X4"},
    {vgd_virgl_format_name, 306, "ASTC_12X12_SRGB"},
    {vgd_virgl_format_name, 307, "unknown"},
    {vgd_virgl_format_name, 308, "R10G10B10X2_UNORM"},
    {vgd_virgl_format_name, 310, "unknown"},
    {vgd_virgl_format_name, 311, "A4B4G4R4_UNORM"},
    {vgd_virgl_format_name, 317, "B8G8R8_UNORM"},
    {vgd_virgl_format_name, 400, "G8_B8R8_420_UNORM"},
    {vgd_virgl_format_name, 457, "ASTC_4X4_FLOAT"},
    {vgd_virgl_format_name, 480, "Y12X4_U12X4_V12X4_444_UNORM"},
    {vgd_virgl_format_name, 481, "unknown"},
    {vgd_virgl_target_name, 0, "BUFFER"},
    {vgd_virgl_target_name, 5, "RECT"},
    {vgd_virgl_target_name, 8, "CUBE_ARRAY"},
    {vgd_virgl_primitive_name, 7, "QUADS"},
    {vgd_virgl_primitive_name, 14, "PATCHES"},
    {vgd_virgl_stage_name, 2, "GEOMETRY"},
    {vgd_virgl_stage_name, 5, "COMPUTE"},
    {vgd_virgl_blend_factor_name, 0x0a, "SRC1_ALPHA"},
    {vgd_virgl_blend_factor_name, 0x11, "ZERO"},
    {vgd_virgl_blend_factor_name, 0x16, "unknown"},
    {vgd_virgl_blend_factor_name, 0x1a, "INV_SRC1_ALPHA"},
    {vgd_virgl_blend_func_name, 4, "MAX"},
    {vgd_virgl_logic_op_name, 5, "INVERT"},
    {vgd_virgl_logic_op_name, 12, "COPY"},
    {vgd_virgl_logic_op_name, 15, "SET"},
    {vgd_virgl_compare_name, 6, "GEQUAL"},
    {vgd_virgl_stencil_op_name, 5, "INCR_WRAP"},
    {vgd_virgl_stencil_op_name, 7, "INVERT"},
    {vgd_virgl_fill_name, 2, "POINT"},
    {vgd_virgl_face_name, 3, "FRONT_AND_BACK"},
    {vgd_virgl_wrap_name, 3, "CLAMP_TO_BORDER"},
    {vgd_virgl_wrap_name, 7, "MIRROR_CLAMP_TO_BORDER"},
    {vgd_virgl_mip_filter_name, 2, "NONE"},
    {vgd_virgl_query_name, 4, "TIME_ELAPSED"},
    {vgd_virgl_query_name, 10, "PIPELINE_STATISTICS"},
    {vgd_virgl_query_name, 12, "SO_OVERFLOW_ANY_PREDICATE"},
    {vgd_virgl_condition_mode_name, 3, "BY_REGION_NO_WAIT"},
    {vgd_virgl_direction_name, 1, "TO_HOST"},
    {vgd_virgl_tweak_name, 2, "GLES_TF3_SAMPLES_PASSED_MULTIPLIER"},
    {vgd_virgl_video_profile_name, 9, "AVC_BASELINE"},
    {vgd_virgl_video_profile_name, 22, "JPEG_BASELINE"},
    {vgd_virgl_video_profile_name, 25, "AV1_MAIN"},
    {vgd_virgl_video_entrypoint_name, 4, "ENCODE"},
    {vgd_virgl_object_name, 11, "MSAA_SURFACE"},
    {vgd_virgl_command_name, 26, "SET_RENDER_CONDITION"},
    {vgd_virgl_command_name, 63, "GET_PIPE_RESOURCE_LAYOUT"},
};

Test(virgl_names, numbers_have_their_names)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_str_eq(names[i].name_of(names[i].value), names[i].name, "%s, not %s",
                         names[i].name_of(names[i].value), names[i].name);
    }
}

/* Is " @name=1" in the line of a command whose dword @dword is one bit, and no other switch? */
static void check_bits(uint32_t header, uint32_t n_dwords, uint32_t dword, const char *const bits[])
{
    for (uint32_t bit = 0; bit < 32; bit++) {
        if (bits[bit] == NULL) {
            continue;
        }
        uint32_t dwords[32] = {header, 1};
        dwords[dword] = UINT32_C(1) << bit;
        struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
        struct vgd_command cmd;
        cr_assert(vgd_stream_next(&s, &cmd) && s.at == n_dwords);
        char line[VGD_COMMAND_LINE_BYTES_MAX], want[64];
        (void)vgd_command_print(&cmd, line, sizeof(line));
        (void)snprintf(want, sizeof(want), " %s ", bits[bit]);
        cr_assert(strstr(line, want) != NULL, "bit %u:%snot in %s", bit, want, line);
    }
}

Test(virgl_names, bits_of_a_rasterizer)
{
    static const char *const bits[32] = {"flatshade=1",
                                         "depth_clip=1",
                                         "clip_halfz=1",
                                         "rasterizer_discard=1",
                                         "flatshade_first=1",
                                         "light_twoside=1",
                                         "sprite_coord_lower_left=1",
                                         "point_quad=1",
                                         "cull=FRONT",
                                         "cull=BACK",
                                         "fill_front=LINE",
                                         "fill_front=POINT",
                                         "fill_back=LINE",
                                         "fill_back=POINT",
                                         "scissor=1",
                                         "front_ccw=1",
                                         "clamp_vertex_color=1",
                                         "clamp_fragment_color=1",
                                         "offset_line=1",
                                         "offset_point=1",
                                         "offset_tri=1",
                                         "poly_smooth=1",
                                         "poly_stipple=1",
                                         "point_smooth=1",
                                         "point_size_per_vertex=1",
                                         "multisample=1",
                                         "line_smooth=1",
                                         "line_stipple=1",
                                         "line_last_pixel=1",
                                         "half_pixel_center=1",
                                         "bottom_edge_rule=1",
                                         "force_persample=1"};
    check_bits(0x00090201, 10, 2, bits);
}

Test(virgl_names, bits_of_a_blend_state)
{
    static const char *const bits[32] = {"independent=1", "logic_op_enable=1", "dither=1",
                                         "alpha_to_coverage=1", "alpha_to_one=1"};
    check_bits(0x000b0101, 12, 2, bits);
}

Test(virgl_names, bits_of_what_a_resource_is_for)
{
    static const char *const bits[32] = {
        [0] = "bind=DEPTH_STENCIL",  [1] = "bind=RENDER_TARGET", [3] = "bind=SAMPLER_VIEW",
        [4] = "bind=VERTEX_BUFFER",  [5] = "bind=INDEX_BUFFER",  [6] = "bind=CONSTANT_BUFFER",
        [7] = "bind=DISPLAY_TARGET", [8] = "bind=COMMAND_ARGS",  [11] = "bind=STREAM_OUTPUT",
        [14] = "bind=SHADER_BUFFER", [15] = "bind=QUERY_BUFFER", [16] = "bind=CURSOR",
        [17] = "bind=CUSTOM",        [18] = "bind=SCANOUT",      [19] = "bind=STAGING",
        [20] = "bind=SHARED",        [22] = "bind=LINEAR",       [31] = "bind=0x80000000"};
    check_bits(0x000b0030, 12, 3, bits);
}

Test(virgl_names, bits_of_a_clear)
{
    static const char *const bits[32] = {
        "buffers=DEPTH",  "buffers=STENCIL", "buffers=COLOR0", "buffers=COLOR1", "buffers=COLOR2",
        "buffers=COLOR3", "buffers=COLOR4",  "buffers=COLOR5", "buffers=COLOR6", "buffers=COLOR7"};
    check_bits(0x00080007, 9, 1, bits);
}

Test(virgl_names, bits_of_a_blit)
{
    static const char *const bits[32] = {"mask=R",
                                         "mask=G",
                                         "mask=B",
                                         "mask=A",
                                         "mask=Z",
                                         "mask=S",
                                         [8] = "filter=LINEAR",
                                         [10] = "scissor_enable=1",
                                         [11] = "render_condition=1",
                                         [12] = "alpha_blend=1"};
    check_bits(0x00150010, 22, 1, bits);
}
