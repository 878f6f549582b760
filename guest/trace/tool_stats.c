/* SPDX-License-Identifier: MIT */
/* vgd-trace info and stats: what a trace is, and how much of what is in it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool.h"
#include "virgl_wire.h"

#define NS_PER_S UINT64_C(1000000000)
#define COMMANDS_MAX 64u /* kinds of commands told apart; the rest is one */

/* ---- info ---- */

static void print_start(uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / NS_PER_S);
    struct tm parts;
    char text[64] = "?";
    if (gmtime_r(&seconds, &parts) != NULL) {
        (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
    }
    (void)printf("start: %s\n", text);
}

static void print_about(const struct vgd_trace_item *item)
{
    const struct vgd_trace_record *record = &item->record;
    switch (record->kind) {
    case VGD_TRACE_KIND_FACT:
        (void)printf("%s: ", vgd_trace_fact_name(record->as.fact.fact));
        tool_put_clean(stdout, (const char *)item->data.head, item->data.head_bytes);
        (void)putchar('\n');
        break;
    case VGD_TRACE_KIND_DEVICE:
        (void)printf("device: features=%#" PRIx64 " scanouts=%u capsets=%u window=%" PRIu64 "\n",
                     record->as.device.features, record->as.device.n_scanouts,
                     record->as.device.n_capsets, record->as.device.window_bytes);
        break;
    case VGD_TRACE_KIND_CAPSET:
        (void)printf("capset: %s version=%u bytes=%" PRIu64 "\n",
                     vgd_capset_name(record->as.capset.capset_id), record->as.capset.version,
                     item->data.total_bytes);
        break;
    case VGD_TRACE_KIND_SCANOUT:
        (void)printf("scanout: %u %ux%u%s\n", record->as.scanout.scanout_id,
                     record->as.scanout.w_px, record->as.scanout.h_px,
                     record->as.scanout.enabled != 0 ? "" : " off");
        break;
    default:
        break;
    }
}

bool tool_info(struct tool *tool)
{
    struct vgd_trace_info info = vgd_trace_reader_info(tool->reader);
    (void)printf("file: ");
    tool_put_clean(stdout, tool->path, strlen(tool->path));
    (void)printf("\nversion: %u.%u\nsize: %" PRIu64 "\n", info.header.version_major,
                 info.header.version_minor, info.size_bytes);
    print_start(info.header.start_realtime_ns);
    uint64_t n_records = 0, last_ns = 0, gaps = 0, lost = 0, deaths = 0, states = 0;
    struct vgd_trace_item item;
    bool ok = tool_begin(tool);
    while (ok && tool_next(tool, &item)) {
        n_records++;
        last_ns = item.record.time_ns;
        gaps += item.record.kind == VGD_TRACE_KIND_GAP;
        lost += item.record.kind == VGD_TRACE_KIND_GAP ? item.record.as.gap.lost_records : 0;
        deaths += item.record.kind == VGD_TRACE_KIND_WORKER_DEATH;
        states += item.record.kind == VGD_TRACE_KIND_STATE_BEGIN;
        print_about(&item);
    }
    uint64_t unknown = vgd_trace_reader_info(tool->reader).unknown_count;
    (void)printf("records: %" PRIu64 "\nunknown-records: %" PRIu64 "\n", n_records, unknown);
    (void)printf("seconds: %" PRIu64 ".%06" PRIu64 "\n", last_ns / NS_PER_S,
                 last_ns % NS_PER_S / 1000);
    (void)printf("states: %" PRIu64 "\nworker-deaths: %" PRIu64 "\n", states, deaths);
    (void)printf("gaps: %" PRIu64 "\nlost-records: %" PRIu64 "\n", gaps, lost);
    (void)printf("closed: %s\n", info.has_index ? "yes" : "no");
    (void)fflush(stdout);
    return tool_end(tool) && ok;
}

/* ---- stats ---- */

/* Sums of something that comes in lots. */
struct lots {
    uint64_t n, sum, max;
};

struct counted {
    uint32_t type;
    uint64_t n, bytes, errors;
    struct lots latency_ns;
};

/* Commands of streams, by their number in the schema. */
struct stream_counted {
    const char *name;
    uint64_t n, bytes;
};

struct stats {
    struct stream_counted stream_kinds[VGD_VIRGL_IDS + 1]; /* the last one: newer than ours */
    struct stream_counted venus;                           /* all of them */
    struct lots frame_stream_commands, frame_draws;
    uint64_t now_stream_commands, now_draws, draws, cut_streams;
    struct counted commands[COMMANDS_MAX];
    uint32_t n_commands;
    struct lots frame_commands, frame_stream_bytes, frame_moved_bytes, frame_ns;
    uint64_t now_commands, now_stream_bytes, now_moved_bytes, frame_began_ns;
    uint64_t kinds[VGD_TRACE_KIND_END + 1];
    uint64_t data_bytes;
    /* Commands without their response yet: by id. */
    struct {
        uint64_t id, time_ns;
        struct counted *counted;
    } open[TOOL_IDS];
};

static void lots_add(struct lots *lots, uint64_t value)
{
    lots->n++;
    lots->sum += value;
    lots->max = value > lots->max ? value : lots->max;
}

static struct counted *count_of(struct stats *s, uint32_t type)
{
    for (uint32_t i = 0; i < s->n_commands; i++) {
        if (s->commands[i].type == type) {
            return &s->commands[i];
        }
    }
    if (s->n_commands == COMMANDS_MAX) {
        return &s->commands[COMMANDS_MAX - 1];
    }
    s->commands[s->n_commands].type = type;
    return &s->commands[s->n_commands++];
}

/* A flush ends a frame. */
static void end_frame(struct stats *s, uint64_t time_ns)
{
    lots_add(&s->frame_commands, s->now_commands);
    lots_add(&s->frame_stream_bytes, s->now_stream_bytes);
    lots_add(&s->frame_moved_bytes, s->now_moved_bytes);
    lots_add(&s->frame_stream_commands, s->now_stream_commands);
    lots_add(&s->frame_draws, s->now_draws);
    lots_add(&s->frame_ns, time_ns - s->frame_began_ns);
    s->now_stream_commands = s->now_draws = 0;
    s->now_commands = s->now_stream_bytes = s->now_moved_bytes = 0;
    s->frame_began_ns = time_ns;
}

static void count_stream(struct stats *s, struct tool *tool, const struct vgd_trace_item *item,
                         const struct tool_command *command)
{
    struct tool_stream stream;
    if (!tool->streams || !tool_stream_open(tool, item, command, &stream)) {
        return;
    }
    while (tool_stream_next(&stream)) {
        s->now_stream_commands++;
        if (stream.is_venus) {
            s->venus.n++;
            s->venus.bytes += stream.venus_command.n_body_bytes;
            continue;
        }
        const struct vgd_command *cmd = &stream.command;
        uint32_t id = cmd->kind != NULL ? cmd->kind->id : VGD_VIRGL_IDS;
        struct stream_counted *c = &s->stream_kinds[id];
        c->name = vgd_command_name(cmd);
        c->n++;
        c->bytes += 4 + 4 * (uint64_t)cmd->n_dwords;
        s->now_draws += tool_is_draw(cmd);
        s->draws += tool_is_draw(cmd);
    }
    s->cut_streams += tool_stream_is_cut(&stream);
}

static void count_command(struct stats *s, const struct vgd_trace_item *item,
                          const struct tool_command *command)
{
    uint32_t type = command != NULL ? command->hdr.type : 0;
    struct counted *c = count_of(s, type);
    c->n++;
    c->bytes += item->data.total_bytes;
    uint64_t id = item->record.as.command.command_id;
    s->open[id % TOOL_IDS].id = id;
    s->open[id % TOOL_IDS].time_ns = item->record.time_ns;
    s->open[id % TOOL_IDS].counted = c;
    s->now_commands++;
    if (type == VGD_CMD_SUBMIT_3D) {
        s->now_stream_bytes += item->data.total_bytes;
    } else if (type == VGD_CMD_RESOURCE_FLUSH) {
        end_frame(s, item->record.time_ns);
    }
}

static void count_response(struct stats *s, const struct vgd_trace_item *item,
                           const struct tool_command *command)
{
    uint64_t id = item->record.as.response.command_id;
    struct counted *c = s->open[id % TOOL_IDS].counted;
    if (id == 0 || c == NULL || s->open[id % TOOL_IDS].id != id) {
        return; /* its command is before the cut, in a gap, or long ago */
    }
    s->open[id % TOOL_IDS].id = 0;
    c->errors += command != NULL && command->hdr.type >= VGD_RESP_ERR_UNSPEC;
    lots_add(&c->latency_ns, item->record.time_ns - s->open[id % TOOL_IDS].time_ns);
}

static void print_lots(const char *name, const struct lots *lots, uint64_t unit)
{
    (void)printf("%-24s mean %12.1f  max %12.1f\n", name,
                 lots->n > 0 ? (double)lots->sum / (double)lots->n / (double)unit : 0,
                 (double)lots->max / (double)unit);
}

static int more_of(const void *a, const void *b)
{
    const struct counted *left = a, *right = b;
    return left->n < right->n ? 1 : left->n > right->n ? -1 : 0;
}

static int more_of_stream(const void *a, const void *b)
{
    const struct stream_counted *left = a, *right = b;
    return left->n < right->n ? 1 : left->n > right->n ? -1 : 0;
}

static void print_streams(struct stats *s)
{
    qsort(s->stream_kinds, VGD_VIRGL_IDS + 1, sizeof(s->stream_kinds[0]), more_of_stream);
    (void)printf("\n%-26s %10s %14s\n", "in streams", "count", "bytes");
    for (uint32_t i = 0; i <= VGD_VIRGL_IDS && s->stream_kinds[i].n != 0; i++) {
        const struct stream_counted *c = &s->stream_kinds[i];
        (void)printf("%-26s %10" PRIu64 " %14" PRIu64 "\n", c->name, c->n, c->bytes);
    }
    if (s->venus.n != 0) {
        (void)printf("%-26s %10" PRIu64 " %14" PRIu64 "\n", "(venus)", s->venus.n, s->venus.bytes);
    }
    (void)printf("\ndraws: %" PRIu64 "\n", s->draws);
    if (s->cut_streams != 0) {
        (void)printf("streams that end inside a command: %" PRIu64 "\n", s->cut_streams);
    }
}

static void print_stats(struct stats *s, bool streams)
{
    (void)printf("%-26s %10s %14s %8s %12s %12s\n", "command", "count", "bytes", "errors",
                 "mean us", "max us");
    qsort(s->commands, s->n_commands, sizeof(*s->commands), more_of);
    for (uint32_t i = 0; i < s->n_commands; i++) {
        const struct counted *c = &s->commands[i];
        char number[24];
        const char *name = vgd_cmd_name(c->type);
        if (name[0] == 'u') { /* names are upper-case: "unknown" is none */
            (void)snprintf(number, sizeof(number), "0x%04x", c->type);
            name = number;
        }
        (void)printf(
            "%-26s %10" PRIu64 " %14" PRIu64 " %8" PRIu64 " %12.1f %12.1f\n", name, c->n, c->bytes,
            c->errors,
            c->latency_ns.n > 0 ? (double)c->latency_ns.sum / (double)c->latency_ns.n / 1000 : 0,
            (double)c->latency_ns.max / 1000);
    }
    (void)printf("\n%-26s %10s\n", "record", "count");
    for (uint32_t kind = 0; kind <= VGD_TRACE_KIND_END; kind++) {
        if (s->kinds[kind] != 0) {
            (void)printf("%-26s %10" PRIu64 "\n", vgd_trace_kind_name(kind), s->kinds[kind]);
        }
    }
    if (streams) {
        print_streams(s);
    }
    (void)printf("\ndata bytes: %" PRIu64 "\nframes: %" PRIu64 "\n", s->data_bytes,
                 s->frame_commands.n);
    if (s->frame_commands.n > 0) {
        print_lots("commands a frame", &s->frame_commands, 1);
        if (streams) {
            print_lots("stream commands a frame", &s->frame_stream_commands, 1);
            print_lots("draws a frame", &s->frame_draws, 1);
        }
        print_lots("stream bytes a frame", &s->frame_stream_bytes, 1);
        print_lots("moved bytes a frame", &s->frame_moved_bytes, 1);
        print_lots("ms a frame", &s->frame_ns, 1000000);
    }
}

bool tool_stats(struct tool *tool)
{
    struct stats *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        tool_complain("no memory");
        return false;
    }
    struct vgd_trace_item item;
    bool ok = tool_begin(tool), first = true;
    while (ok && tool_next(tool, &item)) {
        struct tool_command command;
        bool is_command = tool_command_of(tool, &item, &command);
        tool_learn(tool, &item, is_command ? &command : NULL);
        if (!tool_meant(tool, &item, is_command ? &command : NULL)) {
            continue;
        }
        if (first) {
            s->frame_began_ns = item.record.time_ns;
            first = false;
        }
        s->kinds[item.record.kind]++;
        s->data_bytes += item.data.total_bytes;
        if (item.record.kind == VGD_TRACE_KIND_COMMAND) {
            count_stream(s, tool, &item, is_command ? &command : NULL);
            count_command(s, &item, is_command ? &command : NULL);
        } else if (item.record.kind == VGD_TRACE_KIND_RESPONSE) {
            count_response(s, &item, is_command ? &command : NULL);
        } else if (item.record.kind == VGD_TRACE_KIND_BACKING) {
            s->now_moved_bytes += item.data.total_bytes;
        }
    }
    print_stats(s, tool->streams);
    free(s);
    (void)fflush(stdout);
    return tool_end(tool) && ok;
}
