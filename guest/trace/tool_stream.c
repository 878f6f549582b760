/* SPDX-License-Identifier: MIT */
/* What is inside SUBMIT_3D. Which decoder reads it, its context decides; a reader who begins in the
 * middle learns the contexts from what is before. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tool.h"
#include "venus_stream.h"
#include "virgl_wire.h"

#define NO_CAPSET 0u

/* A capset id as an object of a map: never NULL. */
static void *object_of(uint32_t capset)
{
    return (void *)(uintptr_t)(capset + 1);
}

void tool_learn(struct tool *tool, const struct vgd_trace_item *item,
                const struct tool_command *command)
{
    if (item->record.kind == VGD_TRACE_KIND_RESET) {
        vgd_idmap_finish(&tool->contexts);
        return;
    }
    if (item->record.kind != VGD_TRACE_KIND_COMMAND || command == NULL) {
        return;
    }
    uint64_t init;
    if (command->hdr.type == VGD_CMD_CTX_CREATE &&
        tool_field(command->body, tool_command_body(command), "context_init", &init)) {
        (void)vgd_idmap_remove(&tool->contexts, command->hdr.ctx_id);
        if (tool->contexts.used_count < TOOL_CONTEXTS_MAX) {
            uint32_t capset = (uint32_t)init & VGD_CONTEXT_INIT_CAPSET_ID_MASK;
            /* Without memory it is taken for virgl, which most are. */
            (void)!vgd_idmap_add(&tool->contexts, command->hdr.ctx_id, object_of(capset));
        }
    } else if (command->hdr.type == VGD_CMD_CTX_DESTROY) {
        (void)vgd_idmap_remove(&tool->contexts, command->hdr.ctx_id);
    }
}

void tool_learn_before(struct tool *tool)
{
    struct tool_filter range = tool->filter;
    if (!tool->streams || (range.from_ns == 0 && range.first_record == 0)) {
        return;
    }
    struct vgd_trace_item item;
    tool->filter = (struct tool_filter){.to_ns = UINT64_MAX, .last_record = UINT64_MAX};
    while (tool_next(tool, &item) &&
           (item.number < range.first_record || item.record.time_ns < range.from_ns)) {
        struct tool_command command;
        bool is_command = tool_command_of(tool, &item, &command);
        tool_learn(tool, &item, is_command ? &command : NULL);
    }
    tool->filter = range;
}

static uint32_t capset_of(const struct tool *tool, uint32_t ctx_id)
{
    void *object = vgd_idmap_find(&tool->contexts, ctx_id);
    return object != NULL ? (uint32_t)((uintptr_t)object - 1) : NO_CAPSET;
}

bool tool_stream_open(struct tool *tool, const struct vgd_trace_item *item,
                      const struct tool_command *command, struct tool_stream *out)
{
    *out = (struct tool_stream){0};
    size_t at = VGD_CTRL_HDR_SIZE + VGD_CMD_SUBMIT_3D_SIZE;
    if (item->record.kind != VGD_TRACE_KIND_COMMAND || command == NULL ||
        command->hdr.type != VGD_CMD_SUBMIT_3D || item->data.total_bytes <= at) {
        return false;
    }
    if (tool->stream_bytes == NULL) {
        tool->stream_bytes = aligned_alloc(64, VGD_TRACE_DATA_MAX);
    }
    size_t n_bytes = (size_t)(item->data.total_bytes - at);
    if (tool->stream_bytes == NULL ||
        vgd_trace_reader_data(tool->reader, &item->data, at, tool->stream_bytes, n_bytes) !=
            VGD_OK) {
        return false;
    }
    switch (capset_of(tool, command->hdr.ctx_id)) {
    case VGD_CAPSET_VENUS:
        out->is_venus = true;
        out->venus = vgd_venus_stream_of(tool->stream_bytes, n_bytes);
        return true;
    case NO_CAPSET:
    case VGD_CAPSET_VIRGL:
    case VGD_CAPSET_VIRGL2:
        out->virgl = vgd_stream_of(&vgd_virgl_stream, (const uint32_t *)tool->stream_bytes,
                                   (uint32_t)(n_bytes / 4));
        return true;
    default:
        return false; /* of a renderer that we do not know */
    }
}

bool tool_stream_next(struct tool_stream *s)
{
    return s->is_venus ? vgd_venus_next(&s->venus, &s->venus_command)
                       : vgd_stream_next(&s->virgl, &s->command);
}

bool tool_stream_is_cut(const struct tool_stream *s)
{
    return (s->is_venus ? s->venus.status : s->virgl.status) != VGD_OK;
}

size_t tool_stream_print(const struct tool_stream *s, char *out, size_t n_bytes)
{
    return s->is_venus ? vgd_venus_print(&s->venus_command, out, n_bytes)
                       : vgd_command_print(&s->command, out, n_bytes);
}

static bool names_resource(const struct tool_stream *s, uint32_t res_id)
{
    if (s->is_venus) {
        return res_id != 0 && s->venus_command.resource_id == res_id;
    }
    struct vgd_command_refs refs = vgd_command_refs_of(&s->command);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        if (ref.space == VGD_REF_RESOURCE && ref.id == res_id) {
            return true;
        }
    }
    return false;
}

bool tool_stream_meant(const struct tool *tool, const struct tool_stream *s)
{
    const struct tool_filter *f = &tool->filter;
    if (f->stream_command != NULL &&
        (s->is_venus || strcasecmp(vgd_command_name(&s->command), f->stream_command) != 0)) {
        return false;
    }
    return !f->has_resource || names_resource(s, f->resource_id);
}

bool tool_stream_has_meant(struct tool *tool, const struct vgd_trace_item *item,
                           const struct tool_command *command)
{
    struct tool_stream s;
    if (!tool_stream_open(tool, item, command, &s)) {
        return false;
    }
    while (tool_stream_next(&s)) {
        if (tool_stream_meant(tool, &s)) {
            return true;
        }
    }
    return false;
}

static bool is_among(const struct vgd_command_kind *const *kinds, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (kinds[i] != NULL && strcasecmp(kinds[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool tool_is_stream_command(const char *name)
{
    return is_among(vgd_virgl_stream.by_opcode, vgd_virgl_stream.n_opcodes, name) ||
           is_among(vgd_virgl_stream.by_object, vgd_virgl_stream.n_objects, name);
}

bool tool_is_draw(const struct vgd_command *cmd)
{
    switch (cmd->opcode) {
    case VGD_VIRGL_CMD_CLEAR:
    case VGD_VIRGL_CMD_DRAW_VBO:
    case VGD_VIRGL_CMD_BLIT:
    case VGD_VIRGL_CMD_LAUNCH_GRID:
    case VGD_VIRGL_CMD_CLEAR_TEXTURE:
    case VGD_VIRGL_CMD_CLEAR_SURFACE:
        return true;
    default:
        return false;
    }
}
