/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

#define PROGRESS_NS UINT64_C(100000000)
/* Names of fields by which resources and contexts are known, in every layout. */
#define RESOURCE_FIELD "resource_id"
#define CONTEXT_FIELD "ctx_id"

void tool_complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("vgd-trace: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

void tool_put_clean(FILE *to, const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        /* C1 control characters are two bytes in UTF-8, the first of them c2. */
        bool is_c1 = c == 0xc2 && i + 1 < n_bytes && (unsigned char)text[i + 1] < 0xa0;
        i += is_c1;
        (void)fputc(is_c1 || c < ' ' || c == 0x7f ? '?' : c, to);
    }
}

/* ---- going through the file ---- */

static void show_progress(struct tool *tool)
{
    uint64_t now_ns = vgd_now_ns();
    if (tool->progress_ns == 0) {
        tool->progress_ns = now_ns; /* what is done soon shows none */
    }
    if (now_ns - tool->progress_ns < PROGRESS_NS || isatty(STDERR_FILENO) != 1) {
        return;
    }
    tool->progress_ns = now_ns;
    tool->progress_shown = true;
    uint64_t size_bytes = vgd_trace_reader_info(tool->reader).size_bytes;
    uint64_t at_bytes = vgd_trace_reader_at_bytes(tool->reader);
    (void)fprintf(stderr, "\r%3u %% of %llu MiB", (unsigned)(at_bytes * 100 / size_bytes),
                  (unsigned long long)(size_bytes >> 20));
    (void)fflush(stderr);
}

bool tool_begin(struct tool *tool)
{
    tool_learn_before(tool);
    const struct tool_filter *f = &tool->filter;
    enum vgd_status st = VGD_OK;
    if (f->first_record != 0) {
        st = vgd_trace_reader_seek_number(tool->reader, f->first_record);
    } else if (f->from_ns != 0) {
        st = vgd_trace_reader_seek_time(tool->reader, f->from_ns);
    }
    return st == VGD_OK;
}

bool tool_next(struct tool *tool, struct vgd_trace_item *out)
{
    const struct tool_filter *f = &tool->filter;
    while (vgd_trace_reader_next(tool->reader, out) == VGD_OK) {
        if ((out->number & 255u) == 0) {
            show_progress(tool);
        }
        if (out->number > f->last_record || out->record.time_ns > f->to_ns) {
            return false;
        }
        if (out->record.time_ns >= f->from_ns) {
            return true;
        }
    }
    return false;
}

bool tool_end(struct tool *tool)
{
    if (tool->progress_shown) {
        (void)fputs("\r\033[K", stderr);
    }
    const struct vgd_trace_fault *fault = vgd_trace_reader_fault(tool->reader);
    if (fault->status != VGD_OK) {
        tool_complain("%s: at byte %llu: %s", tool->path, (unsigned long long)fault->offset_bytes,
                      fault->text);
    }
    return fault->status == VGD_OK;
}

/* ---- what records say ---- */

static const struct vgd_wire_body *body_of(const struct vgd_wire_body *bodies, size_t n_bodies,
                                           uint32_t code)
{
    for (size_t i = 0; i < n_bodies; i++) {
        if (bodies[i].code == code) {
            return &bodies[i];
        }
    }
    return NULL;
}

bool tool_field(const struct vgd_wire_body *body, const uint8_t *bytes, const char *name,
                uint64_t *out)
{
    for (uint32_t i = 0; body != NULL && i < body->n_fields; i++) {
        const struct vgd_wire_field *field = &body->fields[i];
        if (strcmp(field->name, name) == 0) {
            *out = tool_field_value(field, bytes, 0);
            return true;
        }
    }
    return false;
}

uint64_t tool_field_value(const struct vgd_wire_field *field, const uint8_t *bytes, uint32_t idx)
{
    uint64_t value = 0;
    for (uint32_t i = field->unit_bytes; i > 0; i--) {
        value = value << 8 | bytes[field->offset_bytes + idx * field->unit_bytes + i - 1];
    }
    return value;
}

bool tool_command_of(struct tool *tool, const struct vgd_trace_item *item, struct tool_command *out)
{
    if (item->record.kind != VGD_TRACE_KIND_COMMAND &&
        item->record.kind != VGD_TRACE_KIND_RESPONSE) {
        return false;
    }
    out->n_bytes = item->data.total_bytes < sizeof(out->bytes) ? (size_t)item->data.total_bytes
                                                               : sizeof(out->bytes);
    if (vgd_trace_reader_data(tool->reader, &item->data, 0, out->bytes, out->n_bytes) != VGD_OK) {
        return false;
    }
    struct vgd_reader r = vgd_reader_of(out->bytes, out->n_bytes);
    if (vgd_ctrl_hdr_decode(&r, &out->hdr) != VGD_OK) {
        return false;
    }
    out->body = body_of(vgd_virtio_gpu_bodies, vgd_virtio_gpu_n_bodies, out->hdr.type);
    if (out->body != NULL && out->body->size_bytes > vgd_reader_left(&r)) {
        out->body = NULL;
    }
    return true;
}

const struct vgd_wire_body *tool_record_body(struct tool *tool, const struct vgd_trace_item *item)
{
    struct vgd_writer w = vgd_writer_of(tool->record_body, sizeof(tool->record_body));
    vgd_trace_record_encode(&w, &item->record);
    return w.status == VGD_OK
               ? body_of(vgd_trace_file_bodies, vgd_trace_file_n_bodies, item->record.kind)
               : NULL;
}

/* Does a record, or the command in it, have @name with @value? */
static bool has_field(struct tool *tool, const struct vgd_trace_item *item,
                      const struct tool_command *command, const char *name, uint32_t value)
{
    uint64_t found;
    const struct vgd_wire_body *body = tool_record_body(tool, item);
    if (tool_field(body, tool->record_body, name, &found) && found == value) {
        return true;
    }
    return command != NULL && tool_field(command->body, tool_command_body(command), name, &found) &&
           found == value;
}

bool tool_meant(struct tool *tool, const struct vgd_trace_item *item,
                const struct tool_command *command)
{
    const struct tool_filter *f = &tool->filter;
    if (!f->has_context && !f->has_resource && !f->has_command && f->stream_command == NULL) {
        return true;
    }
    if (item->record.kind == VGD_TRACE_KIND_RESPONSE) {
        uint64_t id = item->record.as.response.command_id;
        return id != 0 && tool->meant_ids[id % TOOL_IDS] == id;
    }
    bool is_command = item->record.kind == VGD_TRACE_KIND_COMMAND;
    bool in_stream = (f->has_resource || f->stream_command != NULL) &&
                     tool_stream_has_meant(tool, item, command);
    bool meant =
        (!f->has_context || (is_command && command != NULL && command->hdr.ctx_id == f->ctx_id) ||
         (!is_command && has_field(tool, item, NULL, CONTEXT_FIELD, f->ctx_id))) &&
        (!f->has_resource || in_stream ||
         has_field(tool, item, command, RESOURCE_FIELD, f->resource_id)) &&
        (f->stream_command == NULL || in_stream) &&
        (!f->has_command ||
         (is_command && command != NULL && command->hdr.type == f->command_type));
    if (is_command) {
        uint64_t id = item->record.as.command.command_id;
        tool->meant_ids[id % TOOL_IDS] = meant ? id : 0;
    }
    return meant;
}
