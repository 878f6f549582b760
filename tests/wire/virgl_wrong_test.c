/* SPDX-License-Identifier: MIT */
/* Commands that are wrong, or newer than ours, and what is said of them. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "virgl_shader.h"
#include "virgl_wire.h"

#define LARGEST_DWORDS 256u

static uint32_t parse(const char *text, uint32_t *dwords)
{
    uint32_t n = 0;
    for (char *p = (char *)text, *end; *p != '\0'; p = end) {
        cr_assert(n < LARGEST_DWORDS);
        dwords[n++] = (uint32_t)strtoul(p, &end, 16);
    }
    return n;
}

static struct vgd_command command_of(const uint32_t *dwords, uint32_t n_dwords)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd = {0};
    cr_assert(vgd_stream_next(&s, &cmd) && s.at == n_dwords);
    return cmd;
}

static const struct {
    const char *name, *dwords;
    enum vgd_status status;
    const char *what;
    uint32_t dword, value;
} faults[] = {
    /* newer than ours, as far as we can tell */
    {"opcode above the last", "00010040 1", VGD_UNSUPPORTED, "opcode", 0, 64},
    {"largest opcode", "000000ff", VGD_UNSUPPORTED, "opcode", 0, 255},
    {"object above the last", "00010c01 1", VGD_UNSUPPORTED, "object", 0, 12},
    {"largest object", "0001ff01 1", VGD_UNSUPPORTED, "object", 0, 255},
    {"object above the last, destroyed", "00010c03 1", VGD_UNSUPPORTED, "object", 0, 12},
    {"a longer surface", "00060801 c 21 15 2 0 0", VGD_UNSUPPORTED, "length", 0, 6},
    {"a longer draw", "00150008 0 0 4 0 0 0 0 0 0 0 0 0 0 0 7 10 14 2 20 8 1", VGD_UNSUPPORTED,
     "length", 0, 21},
    {"a format above the last", "00050801 c 21 1e1 2 0", VGD_UNSUPPORTED, "format", 3, 481},
    {"a format in a gap", "00050801 c 21 49 2 0", VGD_UNSUPPORTED, "format", 3, 73},
    {"a primitive", "000c0008 0 6 f 1 1 0 0 1 0 0 3 0", VGD_UNSUPPORTED, "mode", 3, 15},
    {"a query", "00040901 d d 40 22", VGD_UNSUPPORTED, "type", 2, 13},
    {"a vertex format", "00050501 9 0 0 0 1f0", VGD_UNSUPPORTED, "format", 5, 0x1f0},
    {"an index of 3 bytes", "0003000b 6 3 80", VGD_UNSUPPORTED, "index_size", 2, 3},
    {"stage 6", "0002000c 6 0", VGD_UNSUPPORTED, "stage", 1, 6},
    {"half an element", "00060022 5 1 10 20 a 0", VGD_UNSUPPORTED, "length", 0, 6},
    {"the last format that a capset can offer", "00050801 c 21 1ff 2 0", VGD_UNSUPPORTED, "format",
     3, 511},
    /* never right */
    {"a format that no capset can offer", "00050801 c 21 200 2 0", VGD_RANGE, "format", 3, 512},
    {"the largest format", "00050801 c 21 ffffffff 2 0", VGD_RANGE, "format", 3, UINT32_MAX},
    {"an image's format", "00070023 1 0 ffffffff 1 0 0 21", VGD_RANGE, "format", 3, UINT32_MAX},
    {"object 0", "00010001 1", VGD_RANGE, "object", 0, 0},
    {"binding a shader", "00010402 1", VGD_RANGE, "object", 0, 4},
    {"binding nothing's type", "00010002 1", VGD_RANGE, "object", 0, 0},
    {"an object without a handle", "00040901 0 4 40 22", VGD_RANGE, "handle", 1, 0},
    {"a surface of no resource", "00050801 c 0 15 2 0", VGD_RANGE, "resource", 2, 0},
    {"a transfer of no resource", "000d002b 0 0 0 0 0 0 0 0 1 1 1 0 1", VGD_RANGE, "resource", 1,
     0},
    {"a transfer in no direction", "000d002b 1 0 0 0 0 0 0 0 1 1 1 0 3", VGD_RANGE, "direction", 13,
     3},
    {"a query that is nobody", "00010013 0", VGD_RANGE, "handle", 1, 0},
    {"layers the wrong way round", "00050801 c 21 15 2 10002", VGD_RANGE, "last_layer", 5, 1},
    {"a view without a format", "00060601 a 20 2000000 0 0 0", VGD_RANGE, "format", 3, 0},
    {"a view of target 9", "00060601 a 20 9000001 0 0 0", VGD_RANGE, "target", 3, 9},
    {"mip filter 3", "00090701 b 1800 0 0 0 0 0 0 0", VGD_RANGE, "mip_filter", 2, 3},

    {"vertex buffer slot 32", "00050501 9 0 0 20 1e", VGD_RANGE, "buffer", 4, 32},
    {"uniform buffer 32", "0005001b 0 20 0 0 7", VGD_RANGE, "index", 2, 32},
    {"colors that are not there", "00030005 2 0 4", VGD_RANGE, "count", 1, 2},
    {"views beyond the last slot", "0004000a 1 7f 8 9", VGD_RANGE, "start_slot", 2, 127},
    {"a slot that wraps", "0004000a 1 ffffffff 8 9", VGD_RANGE, "start_slot", 2, UINT32_MAX},
    {"a viewport and a half", "000a0004 0 0 0 0 0 0 0 0 0 0", VGD_RANGE, "length", 0, 10},
    {"between the lengths of a draw", "000d0008 0 6 4 1 1 0 0 1 0 0 3 0 0", VGD_RANGE, "length", 0,
     13},
    {"an index buffer of 2", "0002000b 6 2", VGD_RANGE, "length", 0, 2},
    {"a marker longer than itself", "00020033 5 41414141", VGD_RANGE, "n_bytes", 1, 5},
    {"more text than announced", "00070401 8 1 4 1 0 41414141 41414141", VGD_RANGE, "offset_bytes",
     3, 4},
    {"outputs that are not there", "00050401 8 0 4 1 1", VGD_TRUNCATED, "n_outputs", 5, 1},
    {"too many outputs", "00060401 8 0 4 1 41 0", VGD_RANGE, "n_outputs", 5, 65},
    {"outputs that wrap", "00060401 8 0 4 1 80000000 0", VGD_RANGE, "n_outputs", 5, 0x80000000},
    {"no plane", "00080031 5 1 8 1 1 0 0 0", VGD_TRUNCATED, "length", 0, 8},
    {"an object of nothing", "00000101", VGD_TRUNCATED, "length", 0, 0},
    /* an error is told, not what is newer before it */
    {"an unknown usage, and no resource", "000d002b 0 0 ffffffff 0 0 0 0 0 1 1 1 0 1", VGD_RANGE,
     "resource", 1, 0},
    {"a new format, then wrong layers", "00050801 c 21 1e1 2 10002", VGD_RANGE, "last_layer", 5, 1},
    {"a new length, then no handle", "00060801 0 21 15 2 0 0", VGD_RANGE, "handle", 1, 0},
};

Test(virgl_wrong, each_is_told_with_its_place)
{
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        uint32_t dwords[LARGEST_DWORDS];
        struct vgd_command cmd = command_of(dwords, parse(faults[i].dwords, dwords));
        struct vgd_command_fault fault = {0};
        enum vgd_status st = vgd_command_check(&cmd, &fault);
        cr_assert(st == faults[i].status, "%s: %s", faults[i].name, vgd_status_text(st));
        cr_assert_str_eq(fault.what, faults[i].what, "%s: %s", faults[i].name, fault.what);
        cr_assert(fault.dword == faults[i].dword && fault.value == faults[i].value,
                  "%s: dword %u is %u", faults[i].name, fault.dword, fault.value);
        bool newer = st == VGD_UNSUPPORTED;
        cr_assert(vgd_command_passes(st, false) == newer && !vgd_command_passes(st, true));
    }
}

Test(virgl_wrong, what_is_right_passes_strictly)
{
    const uint32_t draw[] = {0x000c0008, 0, 6, 4, 1, 1, 0, 0, 1, 0, 0, 3, 0};
    struct vgd_command cmd = command_of(draw, 13);
    struct vgd_command_fault fault;
    cr_assert(vgd_command_passes(vgd_command_check(&cmd, &fault), true));
}

/* More elements than slots: refused, and those beyond name nothing. */
Test(virgl_wrong, too_many_elements)
{
    static const struct {
        uint32_t opcode, n_fixed, n_most, step, ref_at;
    } groups[] = {
        {VGD_VIRGL_CMD_SET_VERTEX_BUFFERS, 0, 32, 3, 2},
        {VGD_VIRGL_CMD_SET_SAMPLER_VIEWS, 2, 128, 1, 0},
        {VGD_VIRGL_CMD_BIND_SAMPLER_STATES, 2, 32, 1, 0},
        {VGD_VIRGL_CMD_SET_SHADER_BUFFERS, 2, 32, 3, 2},
        {VGD_VIRGL_CMD_SET_SHADER_IMAGES, 2, 32, 5, 4},
        {VGD_VIRGL_CMD_SET_ATOMIC_BUFFERS, 1, 32, 3, 2},
        {VGD_VIRGL_CMD_SET_STREAMOUT_TARGETS, 1, 16, 1, 0},
    };
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        for (uint32_t over = 0; over < 2; over++) {
            uint32_t dwords[LARGEST_DWORDS] = {0};
            uint32_t n_elements = groups[i].n_most + over;
            uint32_t n_body = groups[i].n_fixed + n_elements * groups[i].step;
            cr_assert(n_body < LARGEST_DWORDS);
            dwords[0] = groups[i].opcode | n_body << 16;
            for (uint32_t e = 0; e < n_elements; e++) {
                dwords[1 + groups[i].n_fixed + e * groups[i].step + groups[i].ref_at] = 1000 + e;
            }
            struct vgd_command cmd = command_of(dwords, 1 + n_body);
            struct vgd_command_fault fault;
            cr_assert(vgd_command_check(&cmd, &fault) == (over == 0 ? VGD_OK : VGD_RANGE), "%s",
                      vgd_command_name(&cmd));
            struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
            struct vgd_command_ref ref;
            uint32_t n_refs = 0;
            while (vgd_command_refs_next(&refs, &ref)) {
                cr_assert(ref.id == 1000 + n_refs);
                n_refs++;
            }
            cr_assert(n_refs == groups[i].n_most, "%s: %u", vgd_command_name(&cmd), n_refs);
        }
    }
}

Test(virgl_wrong, a_stream_goes_on_after_what_is_unknown)
{
    const uint32_t stream[] = {0x00000000, 0x000200c8, 1,  2,          0x00010c01,
                               7,          0x00010013, 13, 0x00030014, 1};
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, stream, 10);
    struct vgd_command cmd;
    static const uint32_t at[] = {0, 1, 4, 6};
    static const char *const names[] = {"NOP", "unknown", "unknown", "BEGIN_QUERY"};
    static const char *const lines[] = {
        "NOP", "unknown opcode=unknown-200 object=NULL body=[0x1 0x2] (2 dwords)",
        "unknown opcode=CREATE_OBJECT object=unknown-12 body=[0x7] (1 dwords)",
        "BEGIN_QUERY handle=13"};
    for (size_t i = 0; i < 4; i++) {
        cr_assert(vgd_stream_next(&s, &cmd) && cmd.at == at[i]);
        cr_assert_str_eq(vgd_command_name(&cmd), names[i]);
        char line[256];
        (void)vgd_command_print(&cmd, line, sizeof(line));
        cr_assert_str_eq(line, lines[i]);
        struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
        struct vgd_command_ref ref;
        cr_assert(vgd_command_refs_next(&refs, &ref) == (i == 3));
    }
    cr_assert(!vgd_stream_next(&s, &cmd) && s.status == VGD_TRUNCATED && s.at == 8);
    cr_assert(!vgd_stream_next(&s, &cmd) && s.at == 8); /* and stays there */
}

/* The largest command there can be: a whole text, shown in part. */
Test(virgl_wrong, a_long_shader_is_cut)
{
    uint32_t *dwords = calloc(65536, sizeof(*dwords));
    cr_assert(dwords != NULL);
    memset(dwords, 'x', 65536 * sizeof(*dwords));
    dwords[0] = UINT32_C(0xffff0401);
    dwords[1] = 8;
    dwords[2] = VGD_VIRGL_STAGE_VERTEX;
    dwords[3] = 1000000;
    dwords[4] = 5000;
    dwords[5] = 0;
    struct vgd_command cmd = command_of(dwords, 65536);
    struct vgd_command_fault fault;
    cr_assert(vgd_command_check(&cmd, &fault) == VGD_OK);
    char line[VGD_COMMAND_LINE_BYTES_MAX];
    size_t n = vgd_command_print(&cmd, line, sizeof(line));
    cr_assert(n < 256 && strcmp(line + n - 5, "x\"...") == 0, "%s", line);
    struct vgd_virgl_create_shader shader;
    struct vgd_virgl_shader parts;
    cr_assert(vgd_virgl_create_shader_decode(&cmd, &shader) == VGD_OK);
    cr_assert(vgd_virgl_shader_of(&shader, &parts) == VGD_OK);
    cr_assert(parts.n_text_dwords == 65530 && parts.text_dwords == dwords + 6);
    cr_assert(parts.more_follows && parts.total_bytes == 1000000 && parts.n_outputs == 0);
    free(dwords);
}

Test(virgl_wrong, decoding_another_command)
{
    const uint32_t nop[] = {0, 0x00010013, 13};
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, nop, 3);
    struct vgd_command cmd;
    struct vgd_virgl_draw_vbo draw = {.start = 0xdead};
    while (vgd_stream_next(&s, &cmd)) {
        cr_assert(vgd_virgl_draw_vbo_decode(&cmd, &draw) == VGD_RANGE && draw.start == 0xdead);
    }
}

/* Structs, field by field, of what the generator's vectors show only from one side. */
Test(virgl_wrong, structs_have_the_fields)
{
    const uint32_t stream[] = {
        0x00060601, 10, 32, 0x07000043, 0x00020001, 0x0302, 0x0688, /* sampler view */
        0x00060006, 24, 0,  5,          16,         64,     6,      /* vertex buffers */
    };
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, stream, 14);
    struct vgd_command cmd;
    struct vgd_virgl_create_sampler_view view;
    cr_assert(vgd_stream_next(&s, &cmd));
    cr_assert(vgd_virgl_create_sampler_view_decode(&cmd, &view) == VGD_OK);
    cr_assert(view.handle == 10 && view.resource == 32);
    cr_assert(view.format == VGD_VIRGL_FORMAT_R8G8B8A8_UNORM);
    cr_assert(view.target == VGD_VIRGL_TARGET_2D_ARRAY);
    cr_assert(view.swizzle_r == 0 && view.swizzle_g == 1 && view.swizzle_b == 2 &&
              view.swizzle_a == 3);
    struct vgd_virgl_set_vertex_buffers set;
    cr_assert(vgd_stream_next(&s, &cmd));
    cr_assert(vgd_virgl_set_vertex_buffers_decode(&cmd, &set) == VGD_OK);
    cr_assert(set.n_buffers == 2 && set.buffers == stream + 8);
    struct vgd_virgl_vertex_buffer buffer;
    vgd_virgl_vertex_buffer_decode(set.buffers + 3, &buffer);
    cr_assert(buffer.stride_bytes == 16 && buffer.offset_bytes == 64 && buffer.resource == 6);
}
