/* SPDX-License-Identifier: MIT */
/*
 * vgd-trace export: a Chrome trace (JSON), which ui.perfetto.dev and chrome://tracing show. A
 * command is a slice from when it was taken to its answer: on the track of its queue if it was
 * answered at once, else an asynchronous one, since fenced commands overlap.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tool.h"

enum process { PROCESS_QUEUES = 1, PROCESS_CONTEXTS, PROCESS_DISPLAY };
enum { NS_PER_US = 1000 };

/* Commands that are not answered yet, by id. */
static struct {
    uint64_t id, time_ns, bytes, fence_id;
    uint64_t stream_commands, draws;
    uint32_t type, ctx_id, queue_idx;
    bool fenced;
} waiting[TOOL_IDS];

static FILE *out;
static bool first_event;
static uint64_t frame_draws, frame_stream_commands; /* since the last flush */

static void begin_event(void)
{
    (void)fputs(first_event ? "\n" : ",\n", out);
    first_event = false;
}

static void put_time(const char *key, uint64_t ns)
{
    (void)fprintf(out, ",\"%s\":%" PRIu64 ".%03u", key, ns / NS_PER_US, (unsigned)(ns % NS_PER_US));
}

static void put_text(const char *text, size_t n_bytes)
{
    (void)fputc('"', out);
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            (void)fprintf(out, "\\%c", c);
        } else if (c < ' ' || c >= 0x7f) {
            (void)fputc('?', out); /* whatever it is, the file stays JSON */
        } else {
            (void)fputc(c, out);
        }
    }
    (void)fputc('"', out);
}

static void put_name_of(const char *what, enum process process, uint32_t thread, const char *name)
{
    begin_event();
    (void)fprintf(out,
                  "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%d,\"tid\":%u,\"args\":{\"name\":", what,
                  (int)process, thread);
    put_text(name, strlen(name));
    (void)fputs("}}", out);
}

static void put_command_name(uint32_t type)
{
    const char *name = vgd_cmd_name(type);
    if (name[0] == 'u') {
        (void)fprintf(out, "\"unknown 0x%x\"", type);
    } else {
        (void)fprintf(out, "\"%s\"", name);
    }
}

/* What is in the stream of a SUBMIT_3D. */
static void count_stream(struct tool *tool, const struct vgd_trace_item *item,
                         const struct tool_command *command, uint64_t at)
{
    struct tool_stream s;
    waiting[at].stream_commands = waiting[at].draws = 0;
    if (!tool->streams || !tool_stream_open(tool, item, command, &s)) {
        return;
    }
    while (tool_stream_next(&s)) {
        waiting[at].stream_commands++;
        waiting[at].draws += !s.is_venus && tool_is_draw(&s.command);
    }
    frame_stream_commands += waiting[at].stream_commands;
    frame_draws += waiting[at].draws;
}

/* At a flush: how much was drawn since the one before, as a curve. */
static void put_frame(uint64_t time_ns)
{
    begin_event();
    (void)fprintf(out, "{\"name\":\"frame\",\"ph\":\"C\",\"pid\":%d", PROCESS_DISPLAY);
    put_time("ts", time_ns);
    (void)fprintf(out, ",\"args\":{\"draws\":%" PRIu64 ",\"commands\":%" PRIu64 "}}", frame_draws,
                  frame_stream_commands);
    frame_draws = frame_stream_commands = 0;
}

static void put_drawn(uint64_t at)
{
    if (waiting[at].type == VGD_CMD_SUBMIT_3D) {
        (void)fprintf(out, ",\"commands\":%" PRIu64 ",\"draws\":%" PRIu64,
                      waiting[at].stream_commands, waiting[at].draws);
    }
}

static void take_command(struct tool *tool, const struct vgd_trace_item *item,
                         const struct tool_command *command)
{
    uint64_t id = item->record.as.command.command_id, at = id % TOOL_IDS;
    waiting[at].id = id;
    waiting[at].time_ns = item->record.time_ns;
    waiting[at].bytes = item->data.total_bytes;
    waiting[at].queue_idx = item->record.as.command.queue_idx;
    waiting[at].type = command != NULL ? command->hdr.type : 0;
    waiting[at].ctx_id = command != NULL ? command->hdr.ctx_id : 0;
    waiting[at].fence_id = command != NULL ? command->hdr.fence_id : 0;
    waiting[at].fenced = command != NULL && (command->hdr.flags & VGD_FLAG_FENCE) != 0;
    count_stream(tool, item, command, at);
    if (waiting[at].type == VGD_CMD_RESOURCE_FLUSH) {
        put_frame(item->record.time_ns);
    }
}

static void put_async(uint64_t at, const char *phase, uint64_t time_ns)
{
    begin_event();
    (void)fputs("{\"name\":", out);
    put_command_name(waiting[at].type);
    (void)fprintf(out, ",\"ph\":\"%s\",\"cat\":\"fenced\",\"id\":%" PRIu64 ",\"pid\":%d,\"tid\":%u",
                  phase, waiting[at].id, PROCESS_CONTEXTS, waiting[at].ctx_id);
    put_time("ts", time_ns);
    (void)fprintf(out, ",\"args\":{\"ctx\":%u,\"fence\":%" PRIu64 ",\"bytes\":%" PRIu64,
                  waiting[at].ctx_id, waiting[at].fence_id, waiting[at].bytes);
    put_drawn(at);
    (void)fputs("}}", out);
}

static void put_response(const struct vgd_trace_item *item, const struct tool_command *command)
{
    uint64_t id = item->record.as.response.command_id, at = id % TOOL_IDS;
    if (id == 0 || waiting[at].id != id) {
        return; /* its command is before the cut, in a gap, or long ago */
    }
    uint64_t end_ns = item->record.time_ns;
    if (waiting[at].fenced) {
        put_async(at, "b", waiting[at].time_ns);
        put_async(at, "e", end_ns);
    } else {
        begin_event();
        (void)fputs("{\"name\":", out);
        put_command_name(waiting[at].type);
        (void)fprintf(out, ",\"ph\":\"X\",\"pid\":%d,\"tid\":%u", PROCESS_QUEUES,
                      waiting[at].queue_idx);
        put_time("ts", waiting[at].time_ns);
        put_time("dur", end_ns - waiting[at].time_ns);
        (void)fprintf(out, ",\"args\":{\"ctx\":%u,\"bytes\":%" PRIu64, waiting[at].ctx_id,
                      waiting[at].bytes);
        put_drawn(at);
        (void)fputs(",\"response\":", out);
        const char *name = command != NULL ? vgd_resp_name(command->hdr.type) : "none";
        put_text(name, strlen(name));
        (void)fputs("}}", out);
    }
    waiting[at].id = 0;
}

/* Something without a length. @scope: t (track) or g (across all). */
static void put_instant(const struct vgd_trace_item *item, enum process process, uint32_t thread,
                        char scope)
{
    begin_event();
    (void)fprintf(out, "{\"name\":\"%s\",\"ph\":\"i\",\"s\":\"%c\",\"pid\":%d,\"tid\":%u",
                  vgd_trace_kind_name(item->record.kind), scope, (int)process, thread);
    put_time("ts", item->record.time_ns);
}

static void put_record(const struct vgd_trace_item *item)
{
    const struct vgd_trace_record *record = &item->record;
    switch (record->kind) {
    case VGD_TRACE_KIND_FENCE:
        put_instant(item, PROCESS_CONTEXTS, record->as.fence.ctx_id, 't');
        (void)fprintf(out, ",\"args\":{\"fence\":%" PRIu64 ",\"ring\":%u}}",
                      record->as.fence.fence_id, record->as.fence.ring_idx);
        break;
    case VGD_TRACE_KIND_PICTURE:
        put_instant(item, PROCESS_DISPLAY, record->as.picture.scanout_id, 't');
        (void)fprintf(out, ",\"args\":{\"resource\":%u,\"w\":%u,\"h\":%u}}",
                      record->as.picture.resource_id, record->as.picture.w_px,
                      record->as.picture.h_px);
        break;
    case VGD_TRACE_KIND_GAP:
        put_instant(item, PROCESS_QUEUES, 0, 'g');
        (void)fprintf(out, ",\"args\":{\"lost\":%" PRIu64 "}}", record->as.gap.lost_records);
        break;
    case VGD_TRACE_KIND_RESET:
    case VGD_TRACE_KIND_WORKER_DEATH:
    case VGD_TRACE_KIND_STATE_BEGIN:
    case VGD_TRACE_KIND_STATE_END:
        put_instant(item, PROCESS_QUEUES, 0, 'g');
        (void)fputc('}', out);
        break;
    case VGD_TRACE_KIND_FACT:
        begin_event();
        (void)fprintf(out,
                      "{\"name\":\"process_labels\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"labels\":",
                      PROCESS_QUEUES);
        put_text((const char *)item->data.head, item->data.head_bytes);
        (void)fputs("}}", out);
        break;
    default:
        break;
    }
}

static bool write_events(struct tool *tool)
{
    struct vgd_trace_item item;
    bool ok = tool_begin(tool);
    while (ok && ferror(out) == 0 && tool_next(tool, &item)) {
        struct tool_command command;
        bool is_command = tool_command_of(tool, &item, &command);
        const struct tool_command *known = is_command ? &command : NULL;
        tool_learn(tool, &item, known);
        if (!tool_meant(tool, &item, known)) {
            continue;
        }
        if (item.record.kind == VGD_TRACE_KIND_COMMAND) {
            take_command(tool, &item, known);
        } else if (item.record.kind == VGD_TRACE_KIND_RESPONSE) {
            put_response(&item, known);
        } else {
            put_record(&item);
        }
    }
    return ok;
}

bool tool_export(struct tool *tool)
{
    bool to_file = tool->out_path != NULL && strcmp(tool->out_path, "-") != 0;
    out = to_file ? fopen(tool->out_path, "we") : stdout;
    if (out == NULL) {
        tool_complain("%s: %s", tool->out_path, strerror(errno));
        return false;
    }
    first_event = true;
    (void)fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", out);
    put_name_of("process_name", PROCESS_QUEUES, 0, "queues");
    put_name_of("thread_name", PROCESS_QUEUES, 0, "control");
    put_name_of("thread_name", PROCESS_QUEUES, 1, "cursor");
    put_name_of("process_name", PROCESS_CONTEXTS, 0, "contexts");
    put_name_of("process_name", PROCESS_DISPLAY, 0, "display");
    bool ok = write_events(tool);
    (void)fputs("\n]}\n", out);
    bool written = fflush(out) == 0 && ferror(out) == 0;
    if (to_file) {
        written = fclose(out) == 0 && written;
    }
    bool read = tool_end(tool);
    if (!written) {
        tool_complain("%s: cannot be written", to_file ? tool->out_path : "standard output");
    }
    return ok && read && written;
}
