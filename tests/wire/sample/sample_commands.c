/* SPDX-License-Identifier: MIT */
/* sample commands: codecs and names.
 * Generated from protocol/commands.toml; edit the schema. */
#include "sample_commands.h"

const char *cmds_opcode_name(uint32_t value)
{
    switch (value) {
    case CMDS_OP_NOP:
        return "NOP";
    case CMDS_OP_CREATE:
        return "CREATE";
    case CMDS_OP_BIND:
        return "BIND";
    case CMDS_OP_DRAW:
        return "DRAW";
    case CMDS_OP_SET:
        return "SET";
    case CMDS_OP_SAY:
        return "SAY";
    default:
        return "unknown";
    }
}

const char *cmds_object_name(uint32_t value)
{
    switch (value) {
    case CMDS_OBJECT_PEN:
        return "PEN";
    case CMDS_OBJECT_INK:
        return "INK";
    default:
        return "unknown";
    }
}

const char *cmds_hue_name(uint32_t value)
{
    switch (value) {
    case CMDS_HUE_RED:
        return "RED";
    case CMDS_HUE_BLUE:
        return "BLUE";
    default:
        return "unknown";
    }
}

static bool known_hue(uint32_t value)
{
    static const uint32_t known[1] = {
        0x00000102u
    };
    return value < 32u && (known[value / 32] >> value % 32 & 1) != 0;
}

static const struct vgd_field_flag sides_bits[] = {
    {CMDS_SIDE_LEFT, "LEFT"},
    {CMDS_SIDE_RIGHT, "RIGHT"},
    {0, NULL},
};

void cmds_point_decode(const uint32_t *dwords, struct cmds_point *out)
{
    const uint32_t *d = dwords;
    *out = (struct cmds_point){0};
    out->x = (int32_t)d[0];
    out->y = vgd_dword_f32(d[1]);
}

void cmds_point_encode(struct vgd_writer *w, const struct cmds_point *in)
{
    vgd_write_le32(w, (uint32_t)in->x);
    vgd_write_le32(w, vgd_f32_dword(in->y));
}

static const struct vgd_command_field point_fields[] = {
    {.name = "x", .type = VGD_FIELD_I32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "y", .type = VGD_FIELD_F32, .dword = 1, .shift = 0, .width = 32, .count = 1},
};
static const struct vgd_command_part point_part = {
    .fields = point_fields,
    .n_fields = 2,
    .n_dwords = 2,
};

void cmds_slot_decode(const uint32_t *dwords, struct cmds_slot *out)
{
    const uint32_t *d = dwords;
    *out = (struct cmds_slot){0};
    out->paper = d[0];
    out->hue = d[1] & 0xffu;
    out->deep = (d[1] >> 16 & 0x1u) != 0;
}

void cmds_slot_encode(struct vgd_writer *w, const struct cmds_slot *in)
{
    vgd_write_le32(w, in->paper);
    vgd_write_le32(w, (in->hue & 0xffu) | (uint32_t)in->deep << 16);
}

static enum vgd_status check_slot(const uint32_t *d, uint32_t dword, enum vgd_status st,
                                  struct vgd_command_fault *fault)
{
    if (!known_hue((d[1] & 0xffu))) {
        return vgd_command_wrong(fault, dword + 1, "hue", (d[1] & 0xffu));
    }
    return st;
}

static const struct vgd_command_field slot_fields[] = {
    {.name = "paper", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "hue", .type = VGD_FIELD_ENUM, .dword = 1, .shift = 0, .width = 8, .count = 1,
     .name_of = cmds_hue_name},
    {.name = "deep", .type = VGD_FIELD_BOOL, .dword = 1, .shift = 16, .width = 1, .count = 1},
};
static const struct vgd_command_part slot_part = {
    .fields = slot_fields,
    .n_fields = 3,
    .n_dwords = 2,
};

void cmds_nop_encode(struct vgd_writer *w)
{
    vgd_write_le32(w, 0x0000u | 0u << 16);
}

static enum vgd_status check_create_pen(const struct vgd_command *cmd,
                                        struct vgd_command_fault *fault)
{
    enum vgd_status st = VGD_OK;
    const uint32_t *d = cmd->body;
    if (d[0] == 0) {
        return vgd_command_wrong(fault, 1, "handle", d[0]);
    }
    if (!known_hue(d[1])) {
        return vgd_command_wrong(fault, 2, "hue", d[1]);
    }
    if (d[2] > 4u) {
        return vgd_command_wrong(fault, 3, "width", d[2]);
    }
    return st;
}

enum vgd_status cmds_create_pen_decode(const struct vgd_command *cmd, struct cmds_create_pen *out)
{
    enum vgd_status st = vgd_command_fits(cmd, &cmds_kinds[CMDS_ID_CREATE_PEN]);
    if (st != VGD_OK) {
        return st;
    }
    const uint32_t *d = cmd->body;
    struct cmds_create_pen v = {0};
    v.form_dwords = cmd->n_dwords < 9 ? cmd->n_dwords : 9;
    v.handle = d[0];
    v.hue = d[1];
    v.width = d[2];
    if (cmd->n_dwords >= 9) {
        for (size_t i = 0; i < 2; i++) {
            cmds_point_decode(d + 3 + i * 2, &v.points[i]);
        }
        v.weight = vgd_dwords_f64(d + 7);
    }
    *out = v;
    return VGD_OK;
}

void cmds_create_pen_encode(struct vgd_writer *w, const struct cmds_create_pen *in)
{
    vgd_write_le32(w, 0x0101u | in->form_dwords << 16);
    vgd_write_le32(w, in->handle);
    vgd_write_le32(w, in->hue);
    vgd_write_le32(w, in->width);
    if (in->form_dwords >= 9) {
        for (size_t i = 0; i < 2; i++) {
            cmds_point_encode(w, &in->points[i]);
        }
        vgd_write_le64(w, vgd_f64_bits(in->weight));
    }
}

static enum vgd_status check_create_ink(const struct vgd_command *cmd,
                                        struct vgd_command_fault *fault)
{
    enum vgd_status st = VGD_OK;
    const uint32_t *d = cmd->body;
    if (d[0] == 0) {
        return vgd_command_wrong(fault, 1, "handle", d[0]);
    }
    struct vgd_command_fault more;
    enum vgd_status hand = cmds_create_ink_check(cmd, &more);
    if (hand != VGD_OK && (st == VGD_OK || hand != VGD_UNSUPPORTED)) {
        *fault = more;
        st = hand;
    }
    return st;
}

enum vgd_status cmds_create_ink_decode(const struct vgd_command *cmd, struct cmds_create_ink *out)
{
    enum vgd_status st = vgd_command_fits(cmd, &cmds_kinds[CMDS_ID_CREATE_INK]);
    if (st != VGD_OK) {
        return st;
    }
    const uint32_t *d = cmd->body;
    struct cmds_create_ink v = {0};
    v.handle = d[0];
    v.serial = vgd_dwords_u64(d + 1);
    *out = v;
    return VGD_OK;
}

void cmds_create_ink_encode(struct vgd_writer *w, const struct cmds_create_ink *in)
{
    vgd_write_le32(w, 0x0201u | 3u << 16);
    vgd_write_le32(w, in->handle);
    vgd_write_le64(w, in->serial);
}

enum vgd_status cmds_bind_decode(const struct vgd_command *cmd, struct cmds_bind *out)
{
    enum vgd_status st = vgd_command_fits(cmd, &cmds_kinds[CMDS_ID_BIND]);
    if (st != VGD_OK) {
        return st;
    }
    const uint32_t *d = cmd->body;
    struct cmds_bind v = {0};
    v.object = cmd->object;
    v.handle = d[0];
    *out = v;
    return VGD_OK;
}

void cmds_bind_encode(struct vgd_writer *w, const struct cmds_bind *in)
{
    vgd_write_le32(w, 0x0002u | in->object << 8 | 1u << 16);
    vgd_write_le32(w, in->handle);
}

void cmds_draw_encode(struct vgd_writer *w)
{
    vgd_write_le32(w, 0x0003u | 0u << 16);
}

static enum vgd_status check_set(const struct vgd_command *cmd, struct vgd_command_fault *fault)
{
    enum vgd_status st = VGD_OK;
    const uint32_t *d = cmd->body;
    if (d[0] > 4u || (cmd->n_dwords - 3u) / 2u > 4u - d[0]) {
        return vgd_command_wrong(fault, 1, "start", d[0]);
    }
    if (d[1] != (cmd->n_dwords - 3u) / 2u) {
        return vgd_command_wrong(fault, 2, "count", d[1]);
    }
    uint32_t n = (cmd->n_dwords - 3u) / 2u;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = 3 + i * 2;
        st = check_slot(d + at, at + 1, st, fault);
        if (st != VGD_OK && st != VGD_UNSUPPORTED) {
            return st;
        }
    }
    return st;
}

enum vgd_status cmds_set_decode(const struct vgd_command *cmd, struct cmds_set *out)
{
    enum vgd_status st = vgd_command_fits(cmd, &cmds_kinds[CMDS_ID_SET]);
    if (st != VGD_OK) {
        return st;
    }
    const uint32_t *d = cmd->body;
    struct cmds_set v = {0};
    v.start = d[0];
    v.count = d[1];
    v.sides = d[2];
    v.n_slots = (cmd->n_dwords - 3u) / 2u;
    v.slots = d + 3;
    *out = v;
    return VGD_OK;
}

void cmds_set_encode(struct vgd_writer *w, const struct cmds_set *in)
{
    vgd_write_le32(w, 0x0005u | (3u + in->n_slots * 2u) << 16);
    vgd_write_le32(w, in->start);
    vgd_write_le32(w, in->count);
    vgd_write_le32(w, in->sides);
    vgd_write_bytes(w, in->slots, (size_t)in->n_slots * 8u);
}

enum vgd_status cmds_say_decode(const struct vgd_command *cmd, struct cmds_say *out)
{
    enum vgd_status st = vgd_command_fits(cmd, &cmds_kinds[CMDS_ID_SAY]);
    if (st != VGD_OK) {
        return st;
    }
    const uint32_t *d = cmd->body;
    struct cmds_say v = {0};
    v.tone = d[0];
    for (size_t i = 0; i < 2; i++) {
        v.keys[i] = d[1 + i];
    }
    v.n_words_dwords = cmd->n_dwords - 3u;
    v.words = d + 3;
    *out = v;
    return VGD_OK;
}

void cmds_say_encode(struct vgd_writer *w, const struct cmds_say *in)
{
    vgd_write_le32(w, 0x0006u | (3u + in->n_words_dwords) << 16);
    vgd_write_le32(w, in->tone);
    for (size_t i = 0; i < 2; i++) {
        vgd_write_le32(w, in->keys[i]);
    }
    vgd_write_bytes(w, in->words, (size_t)in->n_words_dwords * 4u);
}

static const struct vgd_command_field create_pen_fields[] = {
    {.name = "handle", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "hue", .type = VGD_FIELD_ENUM, .dword = 1, .shift = 0, .width = 32, .count = 1,
     .name_of = cmds_hue_name},
    {.name = "width", .type = VGD_FIELD_U32, .dword = 2, .shift = 0, .width = 32, .count = 1},
    {.name = "points", .type = VGD_FIELD_PART, .dword = 3, .shift = 0, .width = 32, .count = 2,
     .part = &point_part},
    {.name = "weight", .type = VGD_FIELD_F64, .dword = 7, .shift = 0, .width = 32, .count = 1},
};
static const struct vgd_command_ref_at create_pen_refs[] = {
    {.space = VGD_REF_OBJECT, .role = VGD_ROLE_CREATE, .object = 1, .dword = 0, .in_group =
     0},
};
static const struct vgd_command_field create_ink_fields[] = {
    {.name = "handle", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "serial", .type = VGD_FIELD_U64, .dword = 1, .shift = 0, .width = 32, .count = 1},
};
static const struct vgd_command_ref_at create_ink_refs[] = {
    {.space = VGD_REF_OBJECT, .role = VGD_ROLE_CREATE, .object = 2, .dword = 0, .in_group =
     0},
};
static const struct vgd_command_field bind_fields[] = {
    {.name = "handle", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
};
static const struct vgd_command_ref_at bind_refs[] = {
    {.space = VGD_REF_OBJECT, .role = VGD_ROLE_BIND, .object = 0, .dword = 0, .in_group = 0},
};
static const struct vgd_command_field set_fields[] = {
    {.name = "start", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "count", .type = VGD_FIELD_U32, .dword = 1, .shift = 0, .width = 32, .count = 1},
    {.name = "sides", .type = VGD_FIELD_FLAGS, .dword = 2, .shift = 0, .width = 32, .count = 1,
     .flags = sides_bits},
};
static const struct vgd_command_ref_at set_refs[] = {
    {.space = VGD_REF_RESOURCE, .role = VGD_ROLE_BIND | VGD_ROLE_READ, .object = 0, .dword =
     0, .in_group = 1},
};
static const struct vgd_command_field say_fields[] = {
    {.name = "tone", .type = VGD_FIELD_U32, .dword = 0, .shift = 0, .width = 32, .count = 1},
    {.name = "keys", .type = VGD_FIELD_HEX, .dword = 1, .shift = 0, .width = 32, .count = 2},
};

const struct vgd_command_kind cmds_kinds[CMDS_IDS] = {
    [CMDS_ID_NOP] = {
        .name = "NOP",
        .id = CMDS_ID_NOP,
        .fixed_dwords = 0,
        .min_dwords = 0,
        .max_dwords = 65535,
        .tail = VGD_TAIL_IGNORED,
    },
    [CMDS_ID_CREATE_PEN] = {
        .name = "CREATE_PEN",
        .id = CMDS_ID_CREATE_PEN,
        .fixed_dwords = 9,
        .min_dwords = 3,
        .max_dwords = 9,
        .forms = UINT64_C(0x208),
        .fields = create_pen_fields,
        .n_fields = 5,
        .refs = create_pen_refs,
        .n_refs = 1,
        .longer_ignored = true,
        .check = check_create_pen,
    },
    [CMDS_ID_CREATE_INK] = {
        .name = "CREATE_INK",
        .id = CMDS_ID_CREATE_INK,
        .fixed_dwords = 3,
        .min_dwords = 3,
        .max_dwords = 3,
        .forms = UINT64_C(0x8),
        .fields = create_ink_fields,
        .n_fields = 2,
        .refs = create_ink_refs,
        .n_refs = 1,
        .check = check_create_ink,
        .adjust = cmds_create_ink_adjust,
    },
    [CMDS_ID_BIND] = {
        .name = "BIND",
        .id = CMDS_ID_BIND,
        .fixed_dwords = 1,
        .min_dwords = 1,
        .max_dwords = 1,
        .forms = UINT64_C(0x2),
        .objects = 0x6u,
        .fields = bind_fields,
        .n_fields = 1,
        .refs = bind_refs,
        .n_refs = 1,
    },
    [CMDS_ID_DRAW] = {
        .name = "DRAW",
        .id = CMDS_ID_DRAW,
        .fixed_dwords = 0,
        .min_dwords = 0,
        .max_dwords = 0,
        .forms = UINT64_C(0x1),
    },
    [CMDS_ID_SET] = {
        .name = "SET",
        .id = CMDS_ID_SET,
        .fixed_dwords = 3,
        .min_dwords = 5,
        .max_dwords = 11,
        .fields = set_fields,
        .n_fields = 3,
        .refs = set_refs,
        .n_refs = 1,
        .group = &slot_part,
        .rest_name = "slots",
        .slack = true,
        .check = check_set,
    },
    [CMDS_ID_SAY] = {
        .name = "SAY",
        .id = CMDS_ID_SAY,
        .fixed_dwords = 3,
        .min_dwords = 4,
        .max_dwords = 65535,
        .fields = say_fields,
        .n_fields = 2,
        .rest_name = "words",
        .tail = VGD_TAIL_TEXT,
        .print = cmds_say_print,
    },
};

static const struct vgd_command_kind *const by_opcode[7] = {
    [0] = &cmds_kinds[CMDS_ID_NOP],
    [2] = &cmds_kinds[CMDS_ID_BIND],
    [3] = &cmds_kinds[CMDS_ID_DRAW],
    [5] = &cmds_kinds[CMDS_ID_SET],
    [6] = &cmds_kinds[CMDS_ID_SAY],
};
static const struct vgd_command_kind *const by_object[3] = {
    [1] = &cmds_kinds[CMDS_ID_CREATE_PEN],
    [2] = &cmds_kinds[CMDS_ID_CREATE_INK],
};
const struct vgd_stream_wire cmds_stream = {
    .by_opcode = by_opcode,
    .n_opcodes = 7,
    .by_object = by_object,
    .n_objects = 3,
    .create_opcode = 1,
    .opcode_name = cmds_opcode_name,
    .object_name = cmds_object_name,
};
