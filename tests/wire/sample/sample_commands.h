/* SPDX-License-Identifier: MIT */
/* sample commands: constants and decoded forms.
 * Generated from protocol/commands.toml; edit the schema. */
#ifndef VGD_PROTOCOL_SAMPLE_COMMANDS_H
#define VGD_PROTOCOL_SAMPLE_COMMANDS_H

#include <stdint.h>

#include "bytes.h"
#include "status.h"
#include "stream.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "this wire is in host byte order, which has to be little-endian");

#define CMDS_SLOTS 4u

#define CMDS_OP_NOP 0u
#define CMDS_OP_CREATE 1u
#define CMDS_OP_BIND 2u
#define CMDS_OP_DRAW 3u
#define CMDS_OP_SET 5u
#define CMDS_OP_SAY 6u
/** "NOP" for CMDS_OP_NOP and so on; "unknown" for others. */
const char *cmds_opcode_name(uint32_t value);

#define CMDS_OBJECT_PEN 1u
#define CMDS_OBJECT_INK 2u
/** "PEN" for CMDS_OBJECT_PEN and so on; "unknown" for others. */
const char *cmds_object_name(uint32_t value);

#define CMDS_HUE_RED 1u
#define CMDS_HUE_BLUE 8u
/** "RED" for CMDS_HUE_RED and so on; "unknown" for others. */
const char *cmds_hue_name(uint32_t value);

#define CMDS_SIDE_LEFT 0x0001u
#define CMDS_SIDE_RIGHT 0x0004u

/* vgd_command_kind.id; 0 is nobody's. */
enum {
    CMDS_ID_NOP = 1,
    CMDS_ID_CREATE_PEN = 2,
    CMDS_ID_CREATE_INK = 3,
    CMDS_ID_BIND = 4,
    CMDS_ID_DRAW = 5,
    CMDS_ID_SET = 6,
    CMDS_ID_SAY = 7,
    CMDS_IDS = 8,
};

extern const struct vgd_stream_wire cmds_stream;
/* By id; the first has no name */
extern const struct vgd_command_kind cmds_kinds[CMDS_IDS];

/* Where. 2 dwords of a body. */
struct cmds_point {
    int32_t x;
    float y;
};
void cmds_point_decode(const uint32_t *dwords, struct cmds_point *out);
void cmds_point_encode(struct vgd_writer *w, const struct cmds_point *in);

/* 2 dwords of a body. */
struct cmds_slot {
    uint32_t paper;
    uint32_t hue;
    bool deep;
};
void cmds_slot_decode(const uint32_t *dwords, struct cmds_slot *out);
void cmds_slot_encode(struct vgd_writer *w, const struct cmds_slot *in);

void cmds_nop_encode(struct vgd_writer *w);

/* A pen. */
struct cmds_create_pen {
    uint32_t form_dwords; /* 3, 9; fields beyond are 0 */
    uint32_t handle; /* the guest's choice */
    uint32_t hue;
    uint32_t width;
    struct cmds_point points[2];
    double weight;
};
VGD_MUST_CHECK
enum vgd_status cmds_create_pen_decode(const struct vgd_command *cmd, struct cmds_create_pen *out);
void cmds_create_pen_encode(struct vgd_writer *w, const struct cmds_create_pen *in);

struct cmds_create_ink {
    uint32_t handle;
    uint64_t serial;
};
VGD_MUST_CHECK
enum vgd_status cmds_create_ink_decode(const struct vgd_command *cmd, struct cmds_create_ink *out);
void cmds_create_ink_encode(struct vgd_writer *w, const struct cmds_create_ink *in);
void cmds_create_ink_adjust(const struct vgd_command *cmd, struct vgd_command_ref *ref);
VGD_MUST_CHECK
enum vgd_status cmds_create_ink_check(const struct vgd_command *cmd,
                                      struct vgd_command_fault *fault);

struct cmds_bind {
    uint32_t object; /* from the header */
    uint32_t handle;
};
VGD_MUST_CHECK
enum vgd_status cmds_bind_decode(const struct vgd_command *cmd, struct cmds_bind *out);
void cmds_bind_encode(struct vgd_writer *w, const struct cmds_bind *in);

void cmds_draw_encode(struct vgd_writer *w);

struct cmds_set {
    uint32_t start;
    uint32_t count;
    uint32_t sides;
    uint32_t n_slots;
    const uint32_t *slots; /* borrowed; cmds_slot_decode */
};
VGD_MUST_CHECK
enum vgd_status cmds_set_decode(const struct vgd_command *cmd, struct cmds_set *out);
void cmds_set_encode(struct vgd_writer *w, const struct cmds_set *in);

struct cmds_say {
    uint32_t tone;
    uint32_t keys[2];
    uint32_t n_words_dwords;
    const uint32_t *words; /* borrowed */
};
VGD_MUST_CHECK
enum vgd_status cmds_say_decode(const struct vgd_command *cmd, struct cmds_say *out);
void cmds_say_encode(struct vgd_writer *w, const struct cmds_say *in);
void cmds_say_print(const struct vgd_command *cmd, struct vgd_line *line);

#endif
