/* SPDX-License-Identifier: MIT */
/*
 * Streams of commands in dwords, as SUBMIT_3D carries them for virgl: each command is a header and
 * its body. The low byte of the header is the opcode, the next one an object type, the upper half
 * the number of dwords in the body. What there is to know of each command comes from a schema
 * (virgl_wire.h): the tables of one wire are one struct vgd_stream_wire.
 *
 * Nothing is copied and nothing allocated: a command borrows from the stream. The stream has to be
 * memory that nobody else writes (a private copy, never the guest's own).
 *
 * Thread: any; there is no state beside the caller's.
 */
#ifndef VGD_PROTOCOL_STREAM_H
#define VGD_PROTOCOL_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "status.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "dwords are used where they lie");

struct vgd_command_kind;
struct vgd_line; /* stream_line.h */

/* Everything the generator made of one schema. */
struct vgd_stream_wire {
    const struct vgd_command_kind *const *by_opcode; /* NULL where the object type decides */
    uint32_t n_opcodes;                              /* those above are newer than ours */
    const struct vgd_command_kind *const *by_object; /* of create_opcode; NULL: not an object */
    uint32_t n_objects;
    uint32_t create_opcode;
    const char *(*opcode_name)(uint32_t opcode);
    const char *(*object_name)(uint32_t object);
};

struct vgd_stream {
    const struct vgd_stream_wire *wire;
    const uint32_t *dwords;
    uint32_t n_dwords, at; /* at: of the next header */
    enum vgd_status status;
};

struct vgd_command {
    const struct vgd_stream_wire *wire;
    const struct vgd_command_kind *kind; /* NULL: newer than ours */
    const uint32_t *body;                /* n_dwords of them, in the stream */
    uint32_t at;                         /* of the header in the stream, in dwords */
    uint16_t n_dwords;
    uint8_t opcode, object;
};

/** A stream of @n_dwords at @dwords, which must outlive it and all commands taken from it. */
static inline struct vgd_stream vgd_stream_of(const struct vgd_stream_wire *wire,
                                              const uint32_t *dwords, uint32_t n_dwords)
{
    return (struct vgd_stream){.wire = wire, .dwords = dwords, .n_dwords = n_dwords};
}

/**
 * The next command of @s.
 *
 * Returns false at the end, and when a body would reach beyond it: then s->status is VGD_TRUNCATED
 * and s->at is that command's header. *out is untouched by that.
 */
bool vgd_stream_next(struct vgd_stream *s, struct vgd_command *out);

/* What is wrong with a command, or not known of it. */
struct vgd_command_fault {
    const char *what; /* the field's name in the schema, "opcode", "object" or "length"; static */
    uint32_t dword;   /* of the command; 0 is its header */
    uint32_t value;
};

/**
 * Is @cmd what the schema says: its length, object type, enums, counts, and no null id where one is
 * needed? Whether ids name something is for the caller (vgd_command_refs_next).
 *
 * @fault  what was found; untouched when VGD_OK is returned
 *
 * Returns VGD_OK;
 *         VGD_UNSUPPORTED: an opcode, object type, enum value or length newer than ours and nothing
 *         worse, so that a newer renderer may know better. Who indexes by an enum has to look
 *         at it;
 *         VGD_TRUNCATED: the body is too short;
 *         VGD_RANGE: no renderer takes this.
 */
VGD_MUST_CHECK enum vgd_status vgd_command_check(const struct vgd_command *cmd,
                                                 struct vgd_command_fault *fault);

/** May a command with this result of vgd_command_check go to the renderer? */
static inline bool vgd_command_passes(enum vgd_status checked, bool strict)
{
    return checked == VGD_OK || (checked == VGD_UNSUPPORTED && !strict);
}

/** "CREATE_BLEND", "DRAW_VBO", or "unknown". */
const char *vgd_command_name(const struct vgd_command *cmd);

/* --- what a command names --------------------------------------------------------------------- */

enum vgd_ref_space {
    VGD_REF_RESOURCE, /* a resource id of the device */
    VGD_REF_OBJECT,   /* a handle of the current sub-context */
    VGD_REF_SUB_CTX,
    VGD_REF_VIDEO_CODEC,
    VGD_REF_VIDEO_BUFFER,
    VGD_REF_BLOB, /* a blob id of the context: what a later RESOURCE_CREATE_BLOB asks for */
};

/* Bits of vgd_command_ref.role. */
enum vgd_ref_role {
    VGD_ROLE_CREATE = 1,
    VGD_ROLE_DESTROY = 2,
    VGD_ROLE_BIND = 4,           /* stays in use, by the context or by the object that is made */
    VGD_ROLE_USE = 8,            /* has to be there */
    VGD_ROLE_READ = 16,          /* the renderer's copy of the contents */
    VGD_ROLE_WRITE = 32,         /* likewise */
    VGD_ROLE_BACKING_READ = 64,  /* the guest's memory behind it */
    VGD_ROLE_BACKING_WRITE = 128 /* likewise */
};

struct vgd_command_ref {
    enum vgd_ref_space space;
    uint8_t role;   /* bits of vgd_ref_role */
    uint8_t object; /* VGD_REF_OBJECT: the type meant, 0 if any */
    uint32_t id;    /* never 0 */
    uint32_t dword; /* of the command; 0 is its header */
};

struct vgd_command_refs {
    const struct vgd_command *cmd;
    uint32_t i, element, n_elements; /* private */
};

/** All ids that @cmd names, in no order; none for a command that is newer than ours. */
static inline struct vgd_command_refs vgd_command_refs_of(const struct vgd_command *cmd)
{
    return (struct vgd_command_refs){.cmd = cmd};
}

/**
 * The next id that is named; null ids are skipped. Safe for a command that vgd_command_check
 * refuses: what is not in the body is not there.
 */
bool vgd_command_refs_next(struct vgd_command_refs *refs, struct vgd_command_ref *out);

/* --- for logs and traces ---------------------------------------------------------------------- */

#define VGD_COMMAND_LINE_BYTES_MAX 2048u /* never more is written, ending 0 included */
#define VGD_COMMAND_TEXT_BYTES_MAX 120u  /* of a text in it, before escaping */
#define VGD_COMMAND_DATA_DWORDS_MAX 4u   /* of data in it */

/**
 * One line, without a newline, of printable ASCII. Longer lines are cut and end in "...".
 *
 * @n_bytes  room at @out, ended by 0 unless there is none; more than VGD_COMMAND_LINE_BYTES_MAX is
 *           not used
 *
 * Returns the number of bytes before the 0. Any command is safe to pass.
 */
size_t vgd_command_print(const struct vgd_command *cmd, char *out, size_t n_bytes);

/* --- what generated code and hand-written parts of a wire are made of --------------------------
 */

enum vgd_field_type {
    VGD_FIELD_U32,
    VGD_FIELD_HEX,
    VGD_FIELD_I32,
    VGD_FIELD_BOOL,
    VGD_FIELD_F32,
    VGD_FIELD_F64,   /* two dwords, the lower half first */
    VGD_FIELD_U64,   /* likewise */
    VGD_FIELD_ENUM,  /* name_of */
    VGD_FIELD_FLAGS, /* flags, ended by .name == NULL */
    VGD_FIELD_PART,  /* part; count of them, one behind the other */
};

struct vgd_field_flag {
    uint32_t bit;
    const char *name;
};

struct vgd_command_part;

struct vgd_command_field {
    const char *name;
    const char *(*name_of)(uint32_t value);
    const struct vgd_field_flag *flags;
    const struct vgd_command_part *part;
    uint8_t type;  /* enum vgd_field_type */
    uint8_t dword; /* in the body or the part; 0 is the first */
    uint8_t shift, width;
    uint8_t count;
};

struct vgd_command_part {
    const struct vgd_command_field *fields;
    uint32_t n_fields;
    uint32_t n_dwords;
};

struct vgd_command_ref_at {
    uint8_t space, role, object;
    uint8_t dword;    /* in the body, or in each element */
    uint8_t in_group; /* once in each element */
};

enum vgd_tail_type {
    VGD_TAIL_NONE,
    VGD_TAIL_DWORDS,
    VGD_TAIL_TEXT,
    VGD_TAIL_IGNORED,
};

struct vgd_command_kind {
    const char *name;
    const struct vgd_command_field *fields;
    const struct vgd_command_ref_at *refs;
    const struct vgd_command_part *group; /* elements behind the fields, to the end; or NULL */
    const char *rest_name;                /* of the group or the tail */
    enum vgd_status (*check)(const struct vgd_command *cmd, struct vgd_command_fault *fault);
    void (*adjust)(const struct vgd_command *cmd, struct vgd_command_ref *ref); /* or NULL */
    /* Instead of the tail: more of the line. */
    void (*print)(const struct vgd_command *cmd, struct vgd_line *line);
    uint64_t forms;   /* bit n: a body of n dwords is one; without a group or tail */
    uint32_t objects; /* bit n: type n is one for this opcode; 0: the byte is not looked at */
    uint16_t id;
    uint16_t fixed_dwords; /* fields; with several forms, of the longest */
    uint16_t min_dwords, max_dwords;
    uint8_t n_fields, n_refs;
    uint8_t tail; /* enum vgd_tail_type */
    bool longer_ignored, slack;
};

/** Elements of the group in the body of @cmd, which has one; parts of one at the end do not count.
 */
static inline uint32_t vgd_command_elements(const struct vgd_command *cmd)
{
    const struct vgd_command_kind *k = cmd->kind;
    return cmd->n_dwords <= k->fixed_dwords
               ? 0
               : (cmd->n_dwords - (uint32_t)k->fixed_dwords) / k->group->n_dwords;
}

/** Is @cmd of @kind, and long enough? VGD_OK, VGD_RANGE, VGD_TRUNCATED. */
VGD_MUST_CHECK enum vgd_status vgd_command_fits(const struct vgd_command *cmd,
                                                const struct vgd_command_kind *kind);

static inline enum vgd_status vgd_command_wrong(struct vgd_command_fault *fault, uint32_t dword,
                                                const char *what, uint32_t value)
{
    *fault = (struct vgd_command_fault){.what = what, .dword = dword, .value = value};
    return VGD_RANGE;
}

/* Something newer than ours; the first one is kept. */
static inline enum vgd_status vgd_command_newer(struct vgd_command_fault *fault,
                                                enum vgd_status so_far, uint32_t dword,
                                                const char *what, uint32_t value)
{
    if (so_far == VGD_OK) {
        *fault = (struct vgd_command_fault){.what = what, .dword = dword, .value = value};
    }
    return VGD_UNSUPPORTED;
}

static inline float vgd_dword_f32(uint32_t dword)
{
    float value;
    memcpy(&value, &dword, sizeof(value));
    return value;
}

static inline uint32_t vgd_f32_dword(float value)
{
    uint32_t dword;
    memcpy(&dword, &value, sizeof(dword));
    return dword;
}

static inline uint64_t vgd_dwords_u64(const uint32_t *dwords)
{
    return (uint64_t)dwords[1] << 32 | dwords[0];
}

static inline double vgd_dwords_f64(const uint32_t *dwords)
{
    uint64_t bits = vgd_dwords_u64(dwords);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint64_t vgd_f64_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

#endif
