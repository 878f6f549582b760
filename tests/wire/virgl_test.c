/* SPDX-License-Identifier: MIT */
/*
 * Commands written by hand from virgl_protocol.h, not by the generator: they tell whether the
 * schema is right. Each is dwords in hex, the header first; the line that is printed of it has
 * every field at its place, and the last text is what it names.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "virgl_wire.h"

#define LARGEST_DWORDS 64u

struct golden {
    const char *name, *dwords, *line, *refs;
};

static void append(char *text, size_t room, const char *more)
{
    size_t used = strlen(text);
    cr_assert(used + strlen(more) < room);
    strcpy(text + used, more);
}

/* "SURFACE 3 bind, resource 5 read|write" */
static void refs_text(const struct vgd_command *cmd, char *text, size_t room)
{
    static const char *const spaces[] = {"resource", "", "sub_ctx", "codec", "buffer", "blob"};
    static const char *const roles[] = {"create", "destroy", "bind",         "use",
                                        "read",   "write",   "backing_read", "backing_write"};
    struct vgd_command_refs refs = vgd_command_refs_of(cmd);
    struct vgd_command_ref ref;
    text[0] = '\0';
    while (vgd_command_refs_next(&refs, &ref)) {
        char one[64];
        (void)snprintf(one, sizeof(one), "%s%s %u ", text[0] != '\0' ? ", " : "",
                       ref.space == VGD_REF_OBJECT ? vgd_virgl_object_name(ref.object)
                                                   : spaces[ref.space],
                       ref.id);
        append(text, room, one);
        bool first = true;
        for (uint32_t i = 0; i < 8; i++) {
            if ((ref.role >> i & 1) != 0) {
                append(text, room, first ? "" : "|");
                append(text, room, roles[i]);
                first = false;
            }
        }
    }
}

static void compare_all(const struct golden *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t dwords[LARGEST_DWORDS], n_dwords = 0;
        for (char *p = (char *)cases[i].dwords, *end; *p != '\0'; p = end) {
            cr_assert(n_dwords < LARGEST_DWORDS);
            dwords[n_dwords++] = (uint32_t)strtoul(p, &end, 16);
        }
        struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
        struct vgd_command cmd;
        cr_assert(vgd_stream_next(&s, &cmd) && s.at == n_dwords, "%s: length", cases[i].name);
        struct vgd_command_fault fault = {.what = ""};
        enum vgd_status st = vgd_command_check(&cmd, &fault);
        cr_assert(st == VGD_OK, "%s: %s (%s)", cases[i].name, vgd_status_text(st), fault.what);
        char text[VGD_COMMAND_LINE_BYTES_MAX];
        (void)vgd_command_print(&cmd, text, sizeof(text));
        cr_assert_str_eq(text, cases[i].line, "%s:\n%s\n%s", cases[i].name, text, cases[i].line);
        refs_text(&cmd, text, sizeof(text));
        cr_assert_str_eq(text, cases[i].refs, "%s: %s", cases[i].name, text);
    }
}

static const struct golden objects[] = {
    {"blend",
     "000b0101 5 4 c 7cc32631 78000000 78000000 78000000 78000000 78000000 78000000 "
     "78000000",
     "CREATE_BLEND handle=5 dither=1 logic_op=COPY targets=[{enable=1 rgb_func=ADD "
     "rgb_src=SRC_ALPHA rgb_dst=INV_SRC_ALPHA alpha_func=MAX alpha_src=ONE "
     "alpha_dst=INV_SRC_ALPHA write=R|G|B|A} {rgb_func=ADD rgb_src=UNSET "
     "rgb_dst=UNSET alpha_func=ADD alpha_src=UNSET alpha_dst=UNSET write=R|G|B|A} "
     "{rgb_func=ADD rgb_src=UNSET rgb_dst=UNSET alpha_func=ADD alpha_src=UNSET "
     "alpha_dst=UNSET write=R|G|B|A} {rgb_func=ADD rgb_src=UNSET rgb_dst=UNSET "
     "alpha_func=ADD alpha_src=UNSET alpha_dst=UNSET write=R|G|B|A} {rgb_func=ADD "
     "rgb_src=UNSET rgb_dst=UNSET alpha_func=ADD alpha_src=UNSET alpha_dst=UNSET "
     "write=R|G|B|A} {rgb_func=ADD rgb_src=UNSET rgb_dst=UNSET alpha_func=ADD "
     "alpha_src=UNSET alpha_dst=UNSET write=R|G|B|A} {rgb_func=ADD rgb_src=UNSET "
     "rgb_dst=UNSET alpha_func=ADD alpha_src=UNSET alpha_dst=UNSET write=R|G|B|A} "
     "{rgb_func=ADD rgb_src=UNSET rgb_dst=UNSET alpha_func=ADD alpha_src=UNSET "
     "alpha_dst=UNSET write=R|G|B|A}]",
     "BLEND 5 create"},
    {"rasterizer", "00090201 6 20004602 40200000 3 8001ffff 3f800000 c0800000 3f000000 0",
     "CREATE_RASTERIZER handle=6 depth_clip=1 cull=BACK fill_front=LINE "
     "fill_back=FILL scissor=1 half_pixel_center=1 point_size=2.5 "
     "sprite_coord_enable=0x3 stipple_pattern=0xffff stipple_factor=1 "
     "clip_planes=0x80 line_width=1 offset_units=-4 offset_scale=0.5 offset_clamp=0",
     "RASTERIZER 6 create"},
    {"dsa", "00050301 7 90f 1fffd05 0 3e800000",
     "CREATE_DSA handle=7 depth_enable=1 depth_write=1 depth_func=LEQUAL "
     "alpha_enable=1 alpha_func=GREATER stencil=[{enable=1 func=EQUAL fail=KEEP "
     "zpass=REPLACE zfail=INVERT value_mask=0xff write_mask=0xf} {func=NEVER "
     "fail=KEEP zpass=KEEP zfail=KEEP value_mask=0x0 write_mask=0x0}] alpha_ref=0.25",
     "DSA 7 create"},
    {"shader", "00080401 8 1 9 12c 0 47415246 444e450a 0",
     "CREATE_SHADER handle=8 stage=FRAGMENT offset_bytes=9 n_tokens=300 n_outputs=0 "
     "text=\"FRAG\\nEND\"",
     "SHADER 8 create"},
    {"shader_further_piece", "00060401 8 1 80000fa0 12c 0 41",
     "CREATE_SHADER handle=8 stage=FRAGMENT offset_bytes=4000 continued=1 "
     "n_tokens=300 n_outputs=0 text=\"A\"",
     "SHADER 8 use|write"},
    {"shader_with_outputs", "000c0401 8 0 4 12c 1 4 0 0 0 52903 2 54524556",
     "CREATE_SHADER handle=8 stage=VERTEX offset_bytes=4 n_tokens=300 n_outputs=1 "
     "strides=[0x4 0x0 0x0 0x0] (4 dwords) outputs=[{reg=3 components=1+2 buffer=1 "
     "offset_dwords=5 stream=2}] text=\"VERT\"",
     "SHADER 8 create"},
    {"shader_compute", "00060401 8 5 4 12c 4000 504d4f43",
     "CREATE_SHADER handle=8 stage=COMPUTE offset_bytes=4 n_tokens=300 "
     "n_outputs=16384 text=\"COMP\"",
     "SHADER 8 create"},
    {"vertex_elements", "00090501 9 0 0 0 1e c 1 1f 43",
     "CREATE_VERTEX_ELEMENTS handle=9 elements=[{offset_bytes=0 instance_divisor=0 "
     "buffer=0 format=R32G32B32_FLOAT} {offset_bytes=12 instance_divisor=1 buffer=31 "
     "format=R8G8B8A8_UNORM}]",
     "VERTEX_ELEMENTS 9 create"},
    {"sampler_view", "00060601 a 20 2000001 30000 900 a0a",
     "CREATE_SAMPLER_VIEW handle=10 resource=32 format=B8G8R8A8_UNORM target=2D "
     "layers_or_first=0x30000 levels_or_last=0x900 swizzle_r=B swizzle_g=G "
     "swizzle_b=R swizzle_a=ONE",
     "SAMPLER_VIEW 10 create, resource 32 bind"},
    {"sampler_state", "00090701 b 10bab1a 0 0 447a0000 3f800000 0 0 3f800000",
     "CREATE_SAMPLER_STATE handle=11 wrap_s=CLAMP_TO_EDGE wrap_t=CLAMP_TO_BORDER "
     "wrap_r=MIRROR_REPEAT min_filter=LINEAR mip_filter=LINEAR mag_filter=LINEAR "
     "compare_enable=1 compare=LEQUAL seamless_cube=1 max_anisotropy=16 lod_bias=0 "
     "min_lod=0 max_lod=1000 border_color=[1 0 0 1]",
     "SAMPLER_STATE 11 create"},
    {"surface", "00050801 c 21 15 2 50003",
     "CREATE_SURFACE handle=12 resource=33 format=Z24X8_UNORM level=2 first_layer=3 "
     "last_layer=5",
     "SURFACE 12 create, resource 33 bind"},
    {"query", "00040901 d 20004 40 22",
     "CREATE_QUERY handle=13 type=TIME_ELAPSED index=2 offset_bytes=64 resource=34",
     "QUERY 13 create, resource 34 bind"},
    {"streamout_target", "00040a01 e 23 100 1000",
     "CREATE_STREAMOUT_TARGET handle=14 resource=35 offset_bytes=256 size_bytes=4096",
     "STREAMOUT_TARGET 14 create, resource 35 bind"},
    {"msaa_surface", "00060b01 f 24 43 0 0 4",
     "CREATE_MSAA_SURFACE handle=15 resource=36 format=R8G8B8A8_UNORM level=0 "
     "first_layer=0 last_layer=0 n_samples=4",
     "MSAA_SURFACE 15 create, resource 36 bind"},
    {"bind", "00010302 7", "BIND_OBJECT DSA handle=7", "DSA 7 bind"},
    {"bind_nothing", "00010102 0", "BIND_OBJECT BLEND handle=0", ""},
    {"destroy", "00010803 c", "DESTROY_OBJECT SURFACE handle=12", "SURFACE 12 destroy"},
    {"bind_shader", "0002001f 8 1", "BIND_SHADER handle=8 stage=FRAGMENT", "SHADER 8 bind"},
    {"link_shader", "00060034 1 2 0 0 0 0",
     "LINK_SHADER vertex=1 fragment=2 geometry=0 tess_ctrl=0 tess_eval=0 compute=0",
     "SHADER 1 use, SHADER 2 use"},
};

Test(virgl, objects)
{
    compare_all(objects, sizeof(objects) / sizeof(objects[0]));
}

static const struct golden state[] = {
    {"viewport", "00070004 0 43c80000 43960000 3f000000 43c80000 43960000 3f000000",
     "SET_VIEWPORT_STATE start_slot=0 viewports=[{scale=[400 300 0.5] translate=[400 "
     "300 0.5]}]",
     ""},
    {"framebuffer", "00040005 2 3 4 0",
     "SET_FRAMEBUFFER_STATE count=2 depth_stencil=3 colors=[4 0]",
     "SURFACE 3 bind, SURFACE 4 bind"},
    {"framebuffer_without", "00020026 2580320 40006",
     "SET_FRAMEBUFFER_STATE_NO_ATTACH w=800 h=600 layers=6 samples=4", ""},
    {"vertex_buffers", "00060006 18 0 5 0 40 0",
     "SET_VERTEX_BUFFERS buffers=[{stride_bytes=24 offset_bytes=0 resource=5} "
     "{stride_bytes=0 offset_bytes=64 resource=0}]",
     "resource 5 bind"},
    {"index_buffer", "0003000b 6 2 80",
     "SET_INDEX_BUFFER resource=6 index_size=U16 offset_bytes=128", "resource 6 bind"},
    {"index_buffer_none", "0001000b 0", "SET_INDEX_BUFFER resource=0", ""},
    {"constants", "0007000c 1 0 3f800000 1 2 3 4",
     "SET_CONSTANT_BUFFER stage=FRAGMENT index=0 values=[0x3f800000 0x1 0x2 0x3 ...] "
     "(5 dwords)",
     ""},
    {"uniforms", "0005001b 0 1f 100 200 7",
     "SET_UNIFORM_BUFFER stage=VERTEX index=31 offset_bytes=256 size_bytes=512 "
     "resource=7",
     "resource 7 bind|read"},
    {"sampler_views", "0004000a 1 2 8 0",
     "SET_SAMPLER_VIEWS stage=FRAGMENT start_slot=2 views=[8 0]", "SAMPLER_VIEW 8 bind"},
    {"sampler_states", "00030012 1 1f 9",
     "BIND_SAMPLER_STATES stage=FRAGMENT start_slot=31 states=[9]", "SAMPLER_STATE 9 bind"},
    {"shader_buffers", "00050022 5 1 10 20 a",
     "SET_SHADER_BUFFERS stage=COMPUTE start_slot=1 buffers=[{offset_bytes=16 "
     "size_bytes=32 resource=10}]",
     "resource 10 bind|read|write"},
    {"shader_images", "00070023 5 0 43 3 10000 2 b",
     "SET_SHADER_IMAGES stage=COMPUTE start_slot=0 images=[{format=R8G8B8A8_UNORM "
     "access=READ|WRITE layers_or_offset=0x10000 level_or_size=2 resource=11}]",
     "resource 11 bind|read|write"},
    {"atomic_buffers", "00040028 3 0 4 c",
     "SET_ATOMIC_BUFFERS start_slot=3 buffers=[{offset_bytes=0 size_bytes=4 "
     "resource=12}]",
     "resource 12 bind|read|write"},
    {"streamout_targets", "00030019 1 e 0", "SET_STREAMOUT_TARGETS append=0x1 targets=[14 0]",
     "STREAMOUT_TARGET 14 bind"},
    {"stencil_ref", "0001000d ff7f", "SET_STENCIL_REF front=127 back=255", ""},
    {"blend_color", "0004000e 3e800000 0 0 3f800000", "SET_BLEND_COLOR color=[0.25 0 0 1]", ""},
    {"scissors", "0003000f 0 140014 2580320",
     "SET_SCISSOR_STATE start_slot=0 scissors=[{min_x=20 min_y=20 max_x=800 "
     "max_y=600}]",
     ""},
    {"stipple",
     "00200016 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 "
     "aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0 "
     "aaaaaaaa 0 aaaaaaaa 0 aaaaaaaa 0",
     "SET_POLYGON_STIPPLE rows=[0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 "
     "0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 "
     "0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 "
     "0xaaaaaaaa 0x0 0xaaaaaaaa 0x0 0xaaaaaaaa 0x0]",
     ""},
    {"clip",
     "00200017 3f800000 0 0 bf800000 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
     "0 0 0 0",
     "SET_CLIP_STATE planes=[1 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
     "0 0 0 0]",
     ""},
    {"sample_mask", "00010018 f", "SET_SAMPLE_MASK mask=0xf", ""},
    {"min_samples", "00010021 4", "SET_MIN_SAMPLES n_samples=4", ""},
    {"tess", "00060020 3f800000 40000000 40400000 40800000 40a00000 40c00000",
     "SET_TESS_STATE outer=[1 2 3 4] inner=[5 6]", ""},
    {"condition", "0003001a d 1 3",
     "SET_RENDER_CONDITION handle=13 inverted=1 mode=BY_REGION_NO_WAIT", "QUERY 13 bind"},
};

Test(virgl, state)
{
    compare_all(state, sizeof(state) / sizeof(state[0]));
}

static const struct golden work[] = {
    {"clear", "00080007 5 3f000000 0 0 3f800000 0 3ff00000 80",
     "CLEAR buffers=DEPTH|COLOR0 color=[0.5 0 0 1] depth=1 stencil=128", ""},
    {"clear_texture", "000c002f 5 1 1 2 3 4 5 6 ff 0 0 0",
     "CLEAR_TEXTURE resource=5 level=1 box={x=1 y=2 z=3 w=4 h=5 d=6} texel=[0xff 0x0 "
     "0x0 0x0]",
     "resource 5 write"},
    {"clear_surface", "000a003e 9 6 3f800000 0 0 0 1 2 3 4",
     "CLEAR_SURFACE render_condition=1 buffers=COLOR0 handle=6 color=[1 0 0 0] x=1 "
     "y=2 w=3 h=4",
     "SURFACE 6 use|write"},
    {"draw", "000c0008 0 6 4 1 1 ffffffff 0 1 ffff 0 3 0",
     "DRAW_VBO start=0 count=6 mode=TRIANGLES indexed=1 instances=1 index_bias=-1 "
     "start_instance=0 primitive_restart=1 restart_index=0xffff min_index=0x0 "
     "max_index=0x3 count_from_streamout=0",
     ""},
    {"draw_patches", "000e0008 0 6 e 0 1 0 0 0 0 0 ffffffff 0 3 9",
     "DRAW_VBO start=0 count=6 mode=PATCHES indexed=0 instances=1 index_bias=0 "
     "start_instance=0 primitive_restart=0 restart_index=0x0 min_index=0x0 "
     "max_index=0xffffffff count_from_streamout=0 vertices_per_patch=3 draw_id=9",
     ""},
    {"draw_indirect", "00140008 0 0 4 0 0 0 0 0 0 0 0 0 0 0 7 10 14 2 20 8",
     "DRAW_VBO start=0 count=0 mode=TRIANGLES indexed=0 instances=0 index_bias=0 "
     "start_instance=0 primitive_restart=0 restart_index=0x0 min_index=0x0 "
     "max_index=0x0 count_from_streamout=0 vertices_per_patch=0 draw_id=0 indirect=7 "
     "indirect_offset_bytes=16 indirect_stride_bytes=20 indirect_draws=2 "
     "indirect_count_offset_bytes=32 indirect_count=8",
     "resource 7 read, resource 8 read"},
    {"grid", "00080025 8 8 1 64 32 1 9 40",
     "LAUNCH_GRID block=[8 8 1] grid=[100 50 1] indirect=9 indirect_offset_bytes=64",
     "resource 9 read"},
    {"blit", "00150010 50f 10000 2580320 5 0 1 1 2 3 4 5 6 6 1 43 ffffffff 0 0 4 fffffffb 1",
     "BLIT mask=R|G|B|A filter=LINEAR scissor_enable=1 scissor={min_x=0 min_y=1 "
     "max_x=800 max_y=600} dst=5 dst_level=0 dst_format=B8G8R8A8_UNORM dst_box={x=1 "
     "y=2 z=3 w=4 h=5 d=6} src=6 src_level=1 src_format=R8G8B8A8_UNORM src_box={x=-1 "
     "y=0 z=0 w=4 h=-5 d=1}",
     "resource 5 write, resource 6 read"},
    {"copy", "000d0011 5 1 a b c 6 2 1 2 3 4 5 6",
     "RESOURCE_COPY_REGION dst=5 dst_level=1 dst_x=10 dst_y=11 dst_z=12 src=6 "
     "src_level=2 src_box={x=1 y=2 z=3 w=4 h=5 d=6}",
     "resource 5 write, resource 6 read"},
    {"inline_write", "000d0009 5 1 102 40 80 1 2 3 4 5 6 64636261 67666564",
     "RESOURCE_INLINE_WRITE resource=5 level=1 usage=WRITE|DISCARD_RANGE "
     "stride_bytes=64 layer_stride_bytes=128 box={x=1 y=2 z=3 w=4 h=5 d=6} "
     "data=[0x64636261 0x67666564] (2 dwords)",
     "resource 5 write"},
    {"transfer_to", "000d002b 5 1 2 40 80 1 2 3 4 5 6 1000 1",
     "TRANSFER3D resource=5 level=1 usage=WRITE stride_bytes=64 "
     "layer_stride_bytes=128 box={x=1 y=2 z=3 w=4 h=5 d=6} offset_bytes=4096 "
     "direction=TO_HOST",
     "resource 5 write|backing_read"},
    {"transfer_from", "000d002b 5 1 1 40 80 1 2 3 4 5 6 1000 2",
     "TRANSFER3D resource=5 level=1 usage=READ stride_bytes=64 layer_stride_bytes=128 "
     "box={x=1 y=2 z=3 w=4 h=5 d=6} offset_bytes=4096 direction=FROM_HOST",
     "resource 5 read|backing_write"},
    {"copy_transfer_to", "000e002d 5 1 2 40 80 1 2 3 4 5 6 7 1000 1",
     "COPY_TRANSFER3D resource=5 level=1 usage=WRITE stride_bytes=64 "
     "layer_stride_bytes=128 box={x=1 y=2 z=3 w=4 h=5 d=6} staging=7 "
     "staging_offset_bytes=4096 flags=SYNCHRONIZED",
     "resource 5 write, resource 7 backing_read"},
    {"copy_transfer_from", "000e002d 5 1 1 40 80 1 2 3 4 5 6 7 1000 2",
     "COPY_TRANSFER3D resource=5 level=1 usage=READ stride_bytes=64 "
     "layer_stride_bytes=128 box={x=1 y=2 z=3 w=4 h=5 d=6} staging=7 "
     "staging_offset_bytes=4096 flags=READ_FROM_HOST",
     "resource 5 read, resource 7 backing_write"},
    {"end_transfers", "0002002c deadbeef deadbeef", "END_TRANSFERS (2 dwords, ignored)", ""},
    {"nop", "00000000", "NOP", ""},
    {"begin_query", "00010013 d", "BEGIN_QUERY handle=13", "QUERY 13 use"},
    {"end_query", "00010014 d", "END_QUERY handle=13", "QUERY 13 use"},
    {"query_result", "00020015 d 1", "GET_QUERY_RESULT handle=13 wait=1", "QUERY 13 read"},
    {"query_result_buffer", "0006002a d 6 1 3 8 ffffffff",
     "GET_QUERY_RESULT_QBO handle=13 resource=6 wait=1 result_type=3 offset_bytes=8 "
     "index=-1",
     "QUERY 13 read, resource 6 write"},
    {"memory_barrier", "00010024 81", "MEMORY_BARRIER flags=MAPPED_BUFFER|TEXTURE", ""},
    {"memory_barrier_unknown", "00010024 80000002", "MEMORY_BARRIER flags=SHADER_BUFFER|0x80000000",
     ""},
    {"texture_barrier", "00010027 2", "TEXTURE_BARRIER flags=FRAMEBUFFER", ""},
};

Test(virgl, work)
{
    compare_all(work, sizeof(work) / sizeof(work[0]));
}

static const struct golden others[] = {
    {"set_sub_ctx", "0001001c 1", "SET_SUB_CTX sub_ctx=1", "sub_ctx 1 bind"},
    {"create_sub_ctx", "0001001d 1", "CREATE_SUB_CTX sub_ctx=1", "sub_ctx 1 create"},
    {"destroy_sub_ctx", "0001001e 1", "DESTROY_SUB_CTX sub_ctx=1", "sub_ctx 1 destroy"},
    {"pipe_resource", "000b0030 2 43 4000a 320 258 1 1 3 0 1 2a",
     "PIPE_RESOURCE_CREATE target=2D format=R8G8B8A8_UNORM "
     "bind=RENDER_TARGET|SAMPLER_VIEW|SCANOUT w=800 h=600 d=1 array_size=1 "
     "last_level=3 n_samples=0 flags=Y_0_TOP blob_id=42",
     "blob 42 create"},
    {"set_type", "000c0031 5 a6 8 320 258 0 89abcdef 1234567 c80 0 c80 75300",
     "PIPE_RESOURCE_SET_TYPE resource=5 format=Y8_U8V8_420_UNORM bind=SAMPLER_VIEW "
     "w=800 h=600 usage=0x0 modifier=0x123456789abcdef planes=[{stride_bytes=3200 "
     "offset_bytes=0} {stride_bytes=3200 offset_bytes=480000}]",
     "resource 5 use"},
    {"layout", "0002003f 5 6", "GET_PIPE_RESOURCE_LAYOUT out=5 resource=6",
     "resource 5 backing_write, resource 6 use"},
    {"memory_info", "00010032 5", "GET_MEMORY_INFO resource=5", "resource 5 backing_write"},
    {"debug_flags", "00020029 6c6c6178 0", "SET_DEBUG_FLAGS text=\"xall\"", ""},
    {"marker", "00030033 6 22014142 ff5c",
     "SEND_STRING_MARKER n_bytes=6 text=\"BA\\x01\\\"\\\\\\xff\"", ""},
    {"tweak", "0002002e 2 400", "SET_TWEAKS tweak=GLES_TF3_SAMPLES_PASSED_MULTIPLIER value=1024",
     ""},
    {"video_codec", "00080035 1 d 1 1 29 780 438 4",
     "CREATE_VIDEO_CODEC codec=1 profile=AVC_HIGH entrypoint=BITSTREAM "
     "chroma_format=1 level=41 w=1920 h=1080 max_references=4",
     "codec 1 create"},
    {"video_codec_old", "00070035 1 11 4 1 29 780 438",
     "CREATE_VIDEO_CODEC codec=1 profile=HEVC_MAIN entrypoint=ENCODE chroma_format=1 "
     "level=41 w=1920 h=1080",
     "codec 1 create"},
    {"video_codec_gone", "00010036 1", "DESTROY_VIDEO_CODEC codec=1", "codec 1 destroy"},
    {"video_buffer", "00060037 2 a6 780 438 5 6",
     "CREATE_VIDEO_BUFFER buffer=2 format=Y8_U8V8_420_UNORM w=1920 h=1080 planes=[5 6]",
     "buffer 2 create, resource 5 bind, resource 6 bind"},
    {"video_buffer_gone", "00010038 2", "DESTROY_VIDEO_BUFFER buffer=2", "buffer 2 destroy"},
    {"begin_frame", "00020039 1 2", "BEGIN_FRAME codec=1 target=2", "codec 1 use, buffer 2 use"},
    {"macroblock", "0001003a 7", "DECODE_MACROBLOCK (1 dwords, ignored)", ""},
    {"decode", "0005003b 1 2 7 8 1000",
     "DECODE_BITSTREAM codec=1 target=2 description=7 data=8 size_bytes=4096",
     "codec 1 use, buffer 2 write, resource 7 read, resource 8 read"},
    {"encode", "0005003c 1 2 7 8 9",
     "ENCODE_BITSTREAM codec=1 source=2 destination=7 description=8 feedback=9",
     "codec 1 use, buffer 2 read, resource 7 write, resource 8 read, resource 9 write"},
    {"end_frame", "0002003d 1 2", "END_FRAME codec=1 target=2", "codec 1 use, buffer 2 use"},
};

Test(virgl, others)
{
    compare_all(others, sizeof(others) / sizeof(others[0]));
}
