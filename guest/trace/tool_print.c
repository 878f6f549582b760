/* SPDX-License-Identifier: MIT */
/* vgd-trace print: one line for each record. */
#include <inttypes.h>

#include "tool.h"

#define ARRAY_SHOWN_MAX 4u /* elements of an array; the rest is "..." */
#define BYTES_SHOWN_MAX 16u
#define ENTRIES_SHOWN_MAX 4u /* of a backing */
#define TEXT_SHOWN_MAX 200u
#define NS_PER_S UINT64_C(1000000000)

static void print_value(const struct vgd_wire_field *field, uint64_t value)
{
    const char *name =
        field->names != NULL && value <= UINT32_MAX ? field->names((uint32_t)value) : NULL;
    if (name != NULL && name[0] != 'u') { /* names are upper-case: "unknown" is none */
        (void)fputs(name, stdout);
    } else {
        (void)printf("%" PRIu64, value);
    }
}

static void print_fields(const struct vgd_wire_body *body, const uint8_t *bytes)
{
    for (uint32_t i = 0; body != NULL && i < body->n_fields; i++) {
        const struct vgd_wire_field *field = &body->fields[i];
        (void)printf(" %s=", field->name);
        if (field->is_text) {
            const char *text = (const char *)bytes + field->offset_bytes;
            size_t n_bytes = 0;
            while (n_bytes < field->count && text[n_bytes] != '\0') {
                n_bytes++;
            }
            (void)putchar('"');
            tool_put_clean(stdout, text, n_bytes);
            (void)putchar('"');
            continue;
        }
        if (field->unit_bytes == 1 && field->count > 1) {
            for (uint32_t k = 0; k < field->count && k < BYTES_SHOWN_MAX; k++) {
                (void)printf("%02x", bytes[field->offset_bytes + k]);
            }
            (void)fputs(field->count > BYTES_SHOWN_MAX ? "..." : "", stdout);
            continue;
        }
        for (uint32_t k = 0; k < field->count && k < ARRAY_SHOWN_MAX; k++) {
            if (k > 0) {
                (void)putchar(',');
            }
            print_value(field, tool_field_value(field, bytes, k));
        }
        if (field->count > ARRAY_SHOWN_MAX) {
            (void)fputs(",...", stdout);
        }
    }
}

/* The guest's pages behind ATTACH_BACKING and CREATE_BLOB. */
static void print_entries(struct tool *tool, const struct vgd_trace_item *item,
                          const struct tool_command *command)
{
    uint64_t at = VGD_CTRL_HDR_SIZE + command->body->size_bytes;
    uint32_t shown = 0;
    for (; at + VGD_MEM_ENTRY_SIZE <= item->data.total_bytes && shown < ENTRIES_SHOWN_MAX;
         at += VGD_MEM_ENTRY_SIZE, shown++) {
        uint8_t bytes[VGD_MEM_ENTRY_SIZE];
        struct vgd_mem_entry entry = {0};
        if (vgd_trace_reader_data(tool->reader, &item->data, at, bytes, sizeof(bytes)) != VGD_OK) {
            return;
        }
        struct vgd_reader r = vgd_reader_of(bytes, sizeof(bytes));
        if (vgd_mem_entry_decode(&r, &entry) == VGD_OK) {
            (void)printf(" %#" PRIx64 "+%u", entry.addr, entry.len_bytes);
        }
    }
    if (at + VGD_MEM_ENTRY_SIZE <= item->data.total_bytes) {
        (void)fputs(" ...", stdout);
    }
}

/* What follows the fixed part of a command, on the same line. */
static void print_tail(struct tool *tool, const struct vgd_trace_item *item,
                       const struct tool_command *command)
{
    switch (command->hdr.type) {
    case VGD_CMD_RESOURCE_ATTACH_BACKING:
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        print_entries(tool, item, command);
        break;
    default:
        break;
    }
}

static void print_header(const struct vgd_ctrl_hdr *hdr)
{
    if (hdr->ctx_id != 0) {
        (void)printf(" ctx=%u", hdr->ctx_id);
    }
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
        (void)printf(" ring=%u", hdr->ring_idx);
    }
    if ((hdr->flags & VGD_FLAG_FENCE) != 0) {
        (void)printf(" fence=%" PRIu64, hdr->fence_id);
    }
}

static void print_command(struct tool *tool, const struct vgd_trace_item *item,
                          const struct tool_command *command)
{
    const struct vgd_trace_command *record = &item->record.as.command;
    (void)printf("COMMAND %" PRIu64 "%s%s", record->command_id,
                 record->queue_idx == 1 ? " cursor" : "",
                 (record->flags & VGD_TRACE_COMMAND_MADE_UP) != 0 ? " made-up" : "");
    if (command == NULL) {
        (void)printf(" no-header bytes=%" PRIu64, item->data.total_bytes);
        return;
    }
    const char *name = vgd_cmd_name(command->hdr.type);
    (void)printf(" %s", name);
    if (name[0] == 'u') {
        (void)printf("(0x%x)", command->hdr.type);
    }
    print_header(&command->hdr);
    if (command->body == NULL) {
        (void)printf(" bytes=%" PRIu64, item->data.total_bytes);
        return;
    }
    print_fields(command->body, tool_command_body(command));
    print_tail(tool, item, command);
}

static void print_response(const struct vgd_trace_item *item, const struct tool_command *command)
{
    (void)printf("RESPONSE %" PRIu64, item->record.as.response.command_id);
    if (command == NULL) {
        (void)printf(" no-header bytes=%" PRIu64, item->data.total_bytes);
        return;
    }
    const char *name = vgd_resp_name(command->hdr.type);
    (void)printf(" %s", name);
    if (name[0] == 'u') {
        (void)printf("(0x%x)", command->hdr.type);
    }
    print_header(&command->hdr);
    if (command->body != NULL && command->body->size_bytes <= TOOL_COMMAND_BYTES) {
        print_fields(command->body, tool_command_body(command));
    }
}

static void print_item(struct tool *tool, const struct vgd_trace_item *item,
                       const struct tool_command *command)
{
    (void)printf("%" PRIu64 " %" PRIu64 ".%09" PRIu64 " ", item->number,
                 item->record.time_ns / NS_PER_S, item->record.time_ns % NS_PER_S);
    switch (item->record.kind) {
    case VGD_TRACE_KIND_COMMAND:
        print_command(tool, item, command);
        break;
    case VGD_TRACE_KIND_RESPONSE:
        print_response(item, command);
        break;
    default:
        (void)fputs(vgd_trace_kind_name(item->record.kind), stdout);
        print_fields(tool_record_body(tool, item), tool->record_body);
        if (item->record.kind == VGD_TRACE_KIND_FACT) {
            size_t n_bytes = item->data.head_bytes;
            (void)putchar(' ');
            tool_put_clean(stdout, (const char *)item->data.head,
                           n_bytes < TEXT_SHOWN_MAX ? n_bytes : TEXT_SHOWN_MAX);
        } else if (vgd_trace_kind_has_data(item->record.kind)) {
            (void)printf(" bytes=%" PRIu64, item->data.total_bytes);
        }
        break;
    }
    (void)putchar('\n');
}

/* Below a SUBMIT_3D: a line for each of its commands. */
static void print_stream(struct tool *tool, const struct vgd_trace_item *item,
                         const struct tool_command *command)
{
    struct tool_stream s;
    if (!tool->streams || !tool_stream_open(tool, item, command, &s)) {
        return;
    }
    char line[VGD_COMMAND_LINE_BYTES_MAX];
    while (tool_stream_next(&s)) {
        if (tool_stream_meant(tool, &s)) {
            (void)tool_stream_print(&s, line, sizeof(line));
            (void)printf("    %s\n", line);
        }
    }
    if (tool_stream_is_cut(&s)) {
        (void)puts("    (ends inside a command)");
    }
}

bool tool_print(struct tool *tool)
{
    struct vgd_trace_item item;
    bool ok = tool_begin(tool);
    while (ok && ferror(stdout) == 0 && tool_next(tool, &item)) {
        struct tool_command command;
        bool is_command = tool_command_of(tool, &item, &command);
        const struct tool_command *known = is_command ? &command : NULL;
        tool_learn(tool, &item, known);
        if (tool_meant(tool, &item, known)) {
            print_item(tool, &item, known);
            print_stream(tool, &item, known);
        }
    }
    return tool_end(tool) && ok;
}
