/* SPDX-License-Identifier: MIT */
/* sample commands: test vectors.
 * Generated from protocol/commands.toml; edit the schema. */
#include <stdbool.h>

#include "sample_commands.h"
#include "wire_case.h"


const struct wire_name sample_commands_names[] = {
    {cmds_opcode_name, 0u, "NOP"},
    {cmds_opcode_name, 1u, "CREATE"},
    {cmds_opcode_name, 2u, "BIND"},
    {cmds_opcode_name, 3u, "DRAW"},
    {cmds_opcode_name, 5u, "SET"},
    {cmds_opcode_name, 6u, "SAY"},
    {cmds_object_name, 1u, "PEN"},
    {cmds_object_name, 2u, "INK"},
    {cmds_hue_name, 1u, "RED"},
    {cmds_hue_name, 8u, "BLUE"},
    {NULL, 0, NULL},
};

#include <string.h>

#include "stream_case.h"

static bool point_same(const struct cmds_point *a, const struct cmds_point *b)
{
    bool same = true;
    same = same && a->x == b->x;
    same = same && !(a->y < b->y) && !(a->y > b->y);
    return same;
}

static void nop_encode_any(struct vgd_writer *w, const void *in)
{
    (void)in;
    cmds_nop_encode(w);
}

static const uint32_t nop_0_dwords[] = {
    0x00000000
};
static const uint32_t nop_3_dwords[] = {
    0x00030000, 0x61626364, 0x61626365, 0x61626366
};
static enum vgd_status create_pen_decode_any(const struct vgd_command *cmd, void *out)
{
    return cmds_create_pen_decode(cmd, out);
}
static void create_pen_encode_any(struct vgd_writer *w, const void *in)
{
    cmds_create_pen_encode(w, in);
}
static bool create_pen_equal_any(const void *left, const void *right)
{
    const struct cmds_create_pen *a = left, *b = right;
    bool same = true;
    same = same && a->form_dwords == b->form_dwords;
    same = same && a->handle == b->handle;
    same = same && a->hue == b->hue;
    same = same && a->width == b->width;
    for (size_t i = 0; i < 2; i++) {
        same = same && point_same(&a->points[i], &b->points[i]);
    }
    same = same && !(a->weight < b->weight) && !(a->weight > b->weight);
    return same;
}

static const uint32_t create_pen_3_dwords[] = {
    0x00030101, 0x000003e9, 0x00000001, 0x00000003
};
static const struct cmds_create_pen create_pen_3_value = {.handle = 1001u, .hue = 1u, .width = 3u,
    .form_dwords = 3};
static const uint32_t create_pen_9_dwords[] = {
    0x00090101, 0x000003e9, 0x00000001, 0x00000003, 0xfffffc14, 0x447b6000, 0xfffffc12, 0x447be000,
    0x00000000, 0x408f8400
};
static const struct cmds_create_pen create_pen_9_value = {.handle = 1001u, .hue = 1u, .width = 3u,
    .points = {{.x = -1004, .y = 1005.5f}, {.x = -1006, .y = 1007.5f}}, .weight = 1008.5,
    .form_dwords = 9};
static enum vgd_status create_ink_decode_any(const struct vgd_command *cmd, void *out)
{
    return cmds_create_ink_decode(cmd, out);
}
static void create_ink_encode_any(struct vgd_writer *w, const void *in)
{
    cmds_create_ink_encode(w, in);
}
static bool create_ink_equal_any(const void *left, const void *right)
{
    const struct cmds_create_ink *a = left, *b = right;
    bool same = true;
    same = same && a->handle == b->handle;
    same = same && a->serial == b->serial;
    return same;
}

static const uint32_t create_ink_3_dwords[] = {
    0x00030201, 0x000003e9, 0x000003ea, 0x000003eb
};
static const struct cmds_create_ink create_ink_3_value = {.handle = 1001u, .serial =
    0x3eb000003eaull};
static enum vgd_status bind_decode_any(const struct vgd_command *cmd, void *out)
{
    return cmds_bind_decode(cmd, out);
}
static void bind_encode_any(struct vgd_writer *w, const void *in)
{
    cmds_bind_encode(w, in);
}
static bool bind_equal_any(const void *left, const void *right)
{
    const struct cmds_bind *a = left, *b = right;
    bool same = true;
    same = same && a->object == b->object;
    same = same && a->handle == b->handle;
    return same;
}

static const uint32_t bind_1_dwords[] = {
    0x00010102, 0x000003e9
};
static const struct cmds_bind bind_1_value = {.handle = 1001u, .object = 1};
static void draw_encode_any(struct vgd_writer *w, const void *in)
{
    (void)in;
    cmds_draw_encode(w);
}

static const uint32_t draw_0_dwords[] = {
    0x00000003
};
static enum vgd_status set_decode_any(const struct vgd_command *cmd, void *out)
{
    return cmds_set_decode(cmd, out);
}
static void set_encode_any(struct vgd_writer *w, const void *in)
{
    cmds_set_encode(w, in);
}
static bool set_equal_any(const void *left, const void *right)
{
    const struct cmds_set *a = left, *b = right;
    bool same = true;
    same = same && a->start == b->start;
    same = same && a->count == b->count;
    same = same && a->sides == b->sides;
    same = same && a->n_slots == b->n_slots &&
           memcmp(a->slots, b->slots, a->n_slots * 8u) == 0;
    return same;
}

static const uint32_t set_1_dwords[] = {
    0x00050005, 0x00000001, 0x00000001, 0x00000005, 0x000003ec, 0x00010008
};
static const struct cmds_set set_1_value = {.start = 1u, .count = 1u, .sides = 5u, .n_slots = 1,
    .slots = set_1_dwords + 4};
static const uint32_t set_3_dwords[] = {
    0x00090005, 0x00000001, 0x00000003, 0x00000005, 0x000003ec, 0x00010008, 0x000003ef, 0x00010001,
    0x000003f2, 0x00010008
};
static const struct cmds_set set_3_value = {.start = 1u, .count = 3u, .sides = 5u, .n_slots = 3,
    .slots = set_3_dwords + 4};
static const uint32_t set_4_dwords[] = {
    0x000b0005, 0x00000000, 0x00000004, 0x00000005, 0x000003ec, 0x00010008, 0x000003ef, 0x00010001,
    0x000003f2, 0x00010008, 0x000003f5, 0x00010001
};
static const struct cmds_set set_4_value = {.start = 0u, .count = 4u, .sides = 5u, .n_slots = 4,
    .slots = set_4_dwords + 4};
static enum vgd_status say_decode_any(const struct vgd_command *cmd, void *out)
{
    return cmds_say_decode(cmd, out);
}
static void say_encode_any(struct vgd_writer *w, const void *in)
{
    cmds_say_encode(w, in);
}
static bool say_equal_any(const void *left, const void *right)
{
    const struct cmds_say *a = left, *b = right;
    bool same = true;
    same = same && a->tone == b->tone;
    for (size_t i = 0; i < 2; i++) {
        same = same && a->keys[i] == b->keys[i];
    }
    same = same && a->n_words_dwords == b->n_words_dwords &&
           memcmp(a->words, b->words, a->n_words_dwords * 4u) == 0;
    return same;
}

static const uint32_t say_1_dwords[] = {
    0x00040006, 0x00000003, 0x000003ea, 0x000003eb, 0x61626364
};
static const struct cmds_say say_1_value = {.tone = 3u, .keys = {1002u, 1003u}, .n_words_dwords = 1,
    .words = say_1_dwords + 4};
static const uint32_t say_4_dwords[] = {
    0x00070006, 0x00000003, 0x000003ea, 0x000003eb, 0x61626364, 0x61626365, 0x61626366, 0x61626367
};
static const struct cmds_say say_4_value = {.tone = 3u, .keys = {1002u, 1003u}, .n_words_dwords = 4,
    .words = say_4_dwords + 4};
const struct stream_case sample_commands_commands[] = {
    {.name = "nop_0",
     .id = CMDS_ID_NOP,
     .dwords = nop_0_dwords,
     .n_dwords = 1,
     .encode = nop_encode_any},
    {.name = "nop_3",
     .id = CMDS_ID_NOP,
     .dwords = nop_3_dwords,
     .n_dwords = 4,
     .encode = nop_encode_any},
    {.name = "create_pen_3",
     .id = CMDS_ID_CREATE_PEN,
     .dwords = create_pen_3_dwords,
     .n_dwords = 4,
     .encode = create_pen_encode_any,
     .value = &create_pen_3_value,
     .value_size_bytes = sizeof(create_pen_3_value),
     .decode = create_pen_decode_any,
     .equal = create_pen_equal_any},
    {.name = "create_pen_9",
     .id = CMDS_ID_CREATE_PEN,
     .dwords = create_pen_9_dwords,
     .n_dwords = 10,
     .encode = create_pen_encode_any,
     .value = &create_pen_9_value,
     .value_size_bytes = sizeof(create_pen_9_value),
     .decode = create_pen_decode_any,
     .equal = create_pen_equal_any},
    {.name = "create_ink_3",
     .id = CMDS_ID_CREATE_INK,
     .dwords = create_ink_3_dwords,
     .n_dwords = 4,
     .encode = create_ink_encode_any,
     .value = &create_ink_3_value,
     .value_size_bytes = sizeof(create_ink_3_value),
     .decode = create_ink_decode_any,
     .equal = create_ink_equal_any},
    {.name = "bind_1",
     .id = CMDS_ID_BIND,
     .dwords = bind_1_dwords,
     .n_dwords = 2,
     .encode = bind_encode_any,
     .value = &bind_1_value,
     .value_size_bytes = sizeof(bind_1_value),
     .decode = bind_decode_any,
     .equal = bind_equal_any},
    {.name = "draw_0",
     .id = CMDS_ID_DRAW,
     .dwords = draw_0_dwords,
     .n_dwords = 1,
     .encode = draw_encode_any},
    {.name = "set_1",
     .id = CMDS_ID_SET,
     .dwords = set_1_dwords,
     .n_dwords = 6,
     .encode = set_encode_any,
     .value = &set_1_value,
     .value_size_bytes = sizeof(set_1_value),
     .decode = set_decode_any,
     .equal = set_equal_any},
    {.name = "set_3",
     .id = CMDS_ID_SET,
     .dwords = set_3_dwords,
     .n_dwords = 10,
     .encode = set_encode_any,
     .value = &set_3_value,
     .value_size_bytes = sizeof(set_3_value),
     .decode = set_decode_any,
     .equal = set_equal_any},
    {.name = "set_4",
     .id = CMDS_ID_SET,
     .dwords = set_4_dwords,
     .n_dwords = 12,
     .encode = set_encode_any,
     .value = &set_4_value,
     .value_size_bytes = sizeof(set_4_value),
     .decode = set_decode_any,
     .equal = set_equal_any},
    {.name = "say_1",
     .id = CMDS_ID_SAY,
     .dwords = say_1_dwords,
     .n_dwords = 5,
     .encode = say_encode_any,
     .value = &say_1_value,
     .value_size_bytes = sizeof(say_1_value),
     .decode = say_decode_any,
     .equal = say_equal_any},
    {.name = "say_4",
     .id = CMDS_ID_SAY,
     .dwords = say_4_dwords,
     .n_dwords = 8,
     .encode = say_encode_any,
     .value = &say_4_value,
     .value_size_bytes = sizeof(say_4_value),
     .decode = say_decode_any,
     .equal = say_equal_any},
};
const size_t sample_commands_n_commands =
    sizeof(sample_commands_commands) / sizeof(sample_commands_commands[0]);
