/* SPDX-License-Identifier: MIT */
#include "stream.h"

bool vgd_stream_next(struct vgd_stream *s, struct vgd_command *out)
{
    if (s->at >= s->n_dwords) {
        return false;
    }
    const struct vgd_stream_wire *wire = s->wire;
    uint32_t header = s->dwords[s->at];
    uint32_t n_body = header >> 16;
    if (n_body > s->n_dwords - s->at - 1) {
        s->status = VGD_TRUNCATED;
        return false;
    }
    uint8_t opcode = (uint8_t)header, object = (uint8_t)(header >> 8);
    const struct vgd_command_kind *kind = NULL;
    if (opcode == wire->create_opcode) {
        kind = object < wire->n_objects ? wire->by_object[object] : NULL;
    } else if (opcode < wire->n_opcodes) {
        kind = wire->by_opcode[opcode];
    }
    *out = (struct vgd_command){.wire = wire,
                                .kind = kind,
                                .body = s->dwords + s->at + 1,
                                .at = s->at,
                                .n_dwords = (uint16_t)n_body,
                                .opcode = opcode,
                                .object = object};
    s->at += 1 + n_body;
    return true;
}

/* The length alone. VGD_UNSUPPORTED: longer than any form that we know. */
static enum vgd_status length_check(const struct vgd_command_kind *k, uint32_t n_dwords)
{
    if (n_dwords < k->min_dwords) {
        return VGD_TRUNCATED;
    }
    if (k->group != NULL) {
        if (n_dwords > k->max_dwords) {
            return k->longer_ignored ? VGD_OK : VGD_RANGE; /* more elements than there are slots */
        }
        if ((n_dwords - k->fixed_dwords) % k->group->n_dwords != 0) {
            return k->slack ? VGD_UNSUPPORTED : VGD_RANGE;
        }
        return VGD_OK;
    }
    if (k->tail != VGD_TAIL_NONE) {
        return VGD_OK;
    }
    if (n_dwords > k->max_dwords) {
        return k->longer_ignored ? VGD_OK : VGD_UNSUPPORTED;
    }
    return (k->forms >> n_dwords & 1) != 0 ? VGD_OK : VGD_RANGE;
}

enum vgd_status vgd_command_check(const struct vgd_command *cmd, struct vgd_command_fault *fault)
{
    const struct vgd_command_kind *k = cmd->kind;
    if (k == NULL) {
        bool object = cmd->opcode == cmd->wire->create_opcode;
        bool never = object && cmd->object < cmd->wire->n_objects; /* a gap among the types */
        *fault = (struct vgd_command_fault){.what = object ? "object" : "opcode",
                                            .value = object ? cmd->object : cmd->opcode};
        return never ? VGD_RANGE : VGD_UNSUPPORTED;
    }
    enum vgd_status st = length_check(k, cmd->n_dwords);
    if (st != VGD_OK) {
        *fault = (struct vgd_command_fault){.what = "length", .value = cmd->n_dwords};
        if (st != VGD_UNSUPPORTED) {
            return st;
        }
    }
    if (k->objects != 0 && (cmd->object >= 32 || (k->objects >> cmd->object & 1) == 0)) {
        if (cmd->object < cmd->wire->n_objects) {
            return vgd_command_wrong(fault, 0, "object", cmd->object);
        }
        st = vgd_command_newer(fault, st, 0, "object", cmd->object);
    }
    if (k->check != NULL) {
        struct vgd_command_fault found;
        enum vgd_status fields = k->check(cmd, &found);
        if (fields != VGD_OK && (st == VGD_OK || fields != VGD_UNSUPPORTED)) {
            *fault = found;
            st = fields;
        }
    }
    return st;
}

enum vgd_status vgd_command_fits(const struct vgd_command *cmd, const struct vgd_command_kind *kind)
{
    if (cmd->kind != kind) {
        return VGD_RANGE;
    }
    enum vgd_status st = length_check(kind, cmd->n_dwords);
    return st == VGD_UNSUPPORTED ? VGD_OK : st;
}

const char *vgd_command_name(const struct vgd_command *cmd)
{
    return cmd->kind != NULL ? cmd->kind->name : "unknown";
}

bool vgd_command_refs_next(struct vgd_command_refs *refs, struct vgd_command_ref *out)
{
    const struct vgd_command *cmd = refs->cmd;
    const struct vgd_command_kind *k = cmd->kind;
    while (k != NULL && refs->i < k->n_refs) {
        const struct vgd_command_ref_at *at = &k->refs[refs->i];
        uint32_t dword = at->dword;
        if (refs->element == 0) {
            refs->n_elements = at->in_group ? vgd_command_elements(cmd) : 1;
        }
        if (at->in_group) {
            dword += k->fixed_dwords + refs->element * k->group->n_dwords;
        }
        /* Elements beyond the slots that there are name nothing. */
        bool there = refs->element < refs->n_elements && dword < cmd->n_dwords &&
                     (!at->in_group || dword < k->max_dwords);
        refs->element++;
        if (!there || !at->in_group) {
            refs->i++;
            refs->element = 0;
        }
        if (there && cmd->body[dword] != 0) {
            *out = (struct vgd_command_ref){.space = at->space,
                                            .role = at->role,
                                            .object = k->objects != 0 ? cmd->object : at->object,
                                            .id = cmd->body[dword],
                                            .dword = dword + 1};
            if (k->adjust != NULL) {
                k->adjust(cmd, out);
            }
            return true;
        }
    }
    return false;
}
