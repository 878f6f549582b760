/* SPDX-License-Identifier: MIT */
#include "venus_stream.h"

#include <string.h>

#include "stream.h"
#include "stream_line.h"
#include "venus_wire.h"

struct vgd_venus_stream vgd_venus_stream_of(const void *bytes, size_t n_bytes)
{
    return (struct vgd_venus_stream){.reader = vgd_reader_of(bytes, n_bytes), .start = bytes};
}

/* VGD_UNSUPPORTED from the functions below: nothing can be told of where this body ends. */

static enum vgd_status read_create_ring(struct vgd_reader *r, struct vgd_venus_command *cmd)
{
    cmd->ring = vgd_read_le64(r);
    uint64_t there = vgd_read_le64(r);
    uint32_t type = vgd_read_le32(r);
    uint64_t next = vgd_read_le64(r);
    if (r->status == VGD_OK && (there == 0 || type != VGD_VENUS_STYPE_RING_CREATE_INFO)) {
        return VGD_UNSUPPORTED;
    }
    /* The infos of the chain are one inside the other: types first, contents from the last on. */
    uint32_t n_chained = 0;
    while (next != 0) {
        type = vgd_read_le32(r);
        if (r->status == VGD_OK &&
            (n_chained == VGD_VENUS_CHAIN_MAX || (type != VGD_VENUS_STYPE_RING_MONITOR_INFO &&
                                                  type != VGD_VENUS_STYPE_RING_PRIORITY_INFO))) {
            return VGD_UNSUPPORTED;
        }
        n_chained++;
        next = vgd_read_le64(r);
    }
    vgd_read_skip(r, n_chained * sizeof(uint32_t));
    struct vgd_venus_ring_info info = {0};
    enum vgd_status st = vgd_venus_ring_info_decode(r, &info);
    cmd->resource_id = info.resource_id;
    return st;
}

/* An optional array of @n elements: its length again, or 0. */
static enum vgd_status skip_array(struct vgd_reader *r, uint32_t n, size_t element_bytes)
{
    uint64_t n_there = vgd_read_le64(r);
    if (r->status == VGD_OK && n_there != 0 && (n_there != n || n > VGD_VENUS_STREAMS_MAX)) {
        return VGD_UNSUPPORTED;
    }
    vgd_read_skip(r, r->status == VGD_OK ? (size_t)n_there * element_bytes : 0);
    return r->status;
}

static enum vgd_status read_execute(struct vgd_reader *r)
{
    uint32_t n_streams = vgd_read_le32(r);
    enum vgd_status st = skip_array(r, n_streams, VGD_VENUS_RANGE_SIZE);
    if (st == VGD_OK) {
        st = skip_array(r, n_streams, sizeof(uint64_t)); /* positions of replies */
    }
    if (st == VGD_OK) {
        uint32_t n_dependencies = vgd_read_le32(r);
        st = skip_array(r, n_dependencies, 2 * sizeof(uint32_t));
    }
    vgd_read_skip(r, sizeof(uint32_t)); /* flags */
    return st == VGD_OK ? r->status : st;
}

static enum vgd_status read_body(struct vgd_reader *r, struct vgd_venus_command *cmd)
{
    enum vgd_status st;
    switch (cmd->type) {
    case VGD_VENUS_CMD_SET_REPLY_COMMAND_STREAM: {
        struct vgd_venus_set_reply body = {0};
        st = vgd_venus_set_reply_decode(r, &body);
        cmd->resource_id = body.stream.resource_id;
        return st == VGD_OK && body.there == 0 ? VGD_UNSUPPORTED : st;
    }
    case VGD_VENUS_CMD_SEEK_REPLY_COMMAND_STREAM: {
        struct vgd_venus_seek_reply body;
        return vgd_venus_seek_reply_decode(r, &body);
    }
    case VGD_VENUS_CMD_EXECUTE_COMMAND_STREAMS:
        return read_execute(r);
    case VGD_VENUS_CMD_CREATE_RING:
        return read_create_ring(r, cmd);
    case VGD_VENUS_CMD_DESTROY_RING: {
        struct vgd_venus_ring body = {0};
        st = vgd_venus_ring_decode(r, &body);
        cmd->ring = body.ring;
        return st;
    }
    case VGD_VENUS_CMD_NOTIFY_RING: {
        struct vgd_venus_notify_ring body = {0};
        st = vgd_venus_notify_ring_decode(r, &body);
        cmd->ring = body.ring;
        cmd->seqno = body.seqno;
        return st;
    }
    case VGD_VENUS_CMD_WRITE_RING_EXTRA: {
        struct vgd_venus_write_ring_extra body = {0};
        st = vgd_venus_write_ring_extra_decode(r, &body);
        cmd->ring = body.ring;
        return st;
    }
    case VGD_VENUS_CMD_SUBMIT_VIRTQUEUE_SEQNO:
    case VGD_VENUS_CMD_WAIT_RING_SEQNO: {
        struct vgd_venus_ring_seqno body = {0};
        st = vgd_venus_ring_seqno_decode(r, &body);
        cmd->ring = body.ring;
        cmd->seqno = body.seqno;
        return st;
    }
    case VGD_VENUS_CMD_WAIT_VIRTQUEUE_SEQNO: {
        struct vgd_venus_virtqueue_seqno body = {0};
        st = vgd_venus_virtqueue_seqno_decode(r, &body);
        cmd->seqno = body.seqno;
        return st;
    }
    default:
        return VGD_UNSUPPORTED;
    }
}

bool vgd_venus_next(struct vgd_venus_stream *s, struct vgd_venus_command *out)
{
    if (s->status != VGD_OK || vgd_reader_left(&s->reader) == 0) {
        return false;
    }
    struct vgd_reader r = s->reader;
    struct vgd_venus_command cmd = {.at_bytes = (size_t)(r.pos - s->start)};
    struct vgd_venus_header header;
    if (vgd_venus_header_decode(&r, &header) != VGD_OK) {
        s->status = VGD_TRUNCATED;
        return false;
    }
    cmd.type = header.type;
    cmd.flags = header.flags;
    cmd.body = r.pos;
    enum vgd_status st = read_body(&r, &cmd);
    if (st == VGD_UNSUPPORTED) {
        cmd = (struct vgd_venus_command){.type = cmd.type,
                                         .flags = cmd.flags,
                                         .at_bytes = cmd.at_bytes,
                                         .body = cmd.body,
                                         .opaque = true};
        r.pos = r.end;
    } else if (st != VGD_OK) {
        s->status = st;
        return false;
    }
    cmd.n_body_bytes = (size_t)(r.pos - cmd.body);
    s->reader.pos = r.pos;
    *out = cmd;
    return true;
}

size_t vgd_venus_print(const struct vgd_venus_command *cmd, char *out, size_t n_bytes)
{
    if (n_bytes == 0) {
        return 0;
    }
    struct vgd_line line = vgd_line_of(
        out, n_bytes < VGD_COMMAND_LINE_BYTES_MAX ? n_bytes : VGD_COMMAND_LINE_BYTES_MAX);
    const char *name = vgd_venus_command_name(cmd->type);
    if (strcmp(name, "unknown") != 0) {
        vgd_line_text(&line, name);
    } else {
        vgd_line_text(&line, cmd->type <= VGD_VENUS_TYPE_MAX ? "vulkan-" : "unknown-");
        vgd_line_u64(&line, cmd->type);
    }
    if (cmd->flags != 0) {
        vgd_line_field(&line, "flags");
        vgd_line_hex(&line, cmd->flags);
    }
    if (cmd->ring != 0) {
        vgd_line_field(&line, "ring");
        vgd_line_hex(&line, cmd->ring);
    }
    if (cmd->seqno != 0) {
        vgd_line_field(&line, "seqno");
        vgd_line_u64(&line, cmd->seqno);
    }
    if (cmd->resource_id != 0) {
        vgd_line_field(&line, "resource");
        vgd_line_u64(&line, cmd->resource_id);
    }
    if (cmd->opaque) {
        vgd_line_text(&line, " (");
        vgd_line_u64(&line, cmd->n_body_bytes);
        vgd_line_text(&line, " bytes, not looked into)");
    }
    return vgd_line_finish(&line);
}
