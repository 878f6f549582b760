/* SPDX-License-Identifier: MIT */
/* What the subcommands of vgd-trace share. One thread; a program that ends after one of them. */
#ifndef VGD_TRACE_TOOL_H
#define VGD_TRACE_TOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "guest_frontend.h"
#include "idmap.h"
#include "stream.h"
#include "trace_reader.h"
#include "venus_stream.h"
#include "virtio_gpu.h"
#include "wire_fields.h"

/* Of zstd, for files that are written once and kept. */
#define TOOL_CUT_LEVEL 6
/* Commands that are not answered after so many others are forgotten. */
#define TOOL_IDS 65536u

/* Which records are meant; all of what is given has to be right. */
struct tool_filter {
    bool has_context, has_resource, has_command;
    uint32_t ctx_id, resource_id;
    uint32_t command_type;
    const char *stream_command; /* by its name; NULL: any. Not with has_command */
    uint64_t from_ns, to_ns;    /* of the trace's time; to is the last one */
    uint64_t first_record, last_record;
};

/* Options of replay; some of cut. */
struct tool_replay {
    const char *exec;        /* a backend to start, as vgd_guest_process_start takes it */
    const char *socket_path; /* or one to connect to; neither: the installed vgd */
    enum vgd_guest_profile profile;
    int log_fd;          /* for what the backend says; -1: with what we say */
    const char *png_dir; /* NULL: no files */
    bool png_every_flush;
    bool compare;
    double psnr_db;      /* what is enough */
    uint32_t n_passes;   /* 1..TOOL_PASSES_MAX */
    bool real_speed;     /* else as fast as it goes */
    uint32_t timeout_ms; /* of a command */
    uint64_t ram_bytes;  /* for backings */
};
#define TOOL_PASSES_MAX 10000u

struct tool {
    const char *path;     /* of the trace */
    const char *out_path; /* cut, export; NULL or "-": standard output */
    struct vgd_trace_reader *reader;
    struct tool_filter filter;
    struct tool_replay replay;
    bool streams;              /* look into SUBMIT_3D */
    bool anonymous;            /* cut: without what tells of whose host it was */
    bool bare;                 /* cut: only the records of the range */
    struct vgd_idmap contexts; /* capset id + 1 by context, as far as tool_learn saw */
    uint8_t *stream_bytes;     /* of the stream opened last; NULL before */
    uint64_t progress_ns;      /* when it was shown last; 0: not yet */
    bool progress_shown;
    uint64_t meant_ids[TOOL_IDS]; /* of commands: the last ones that the filter means, by id */
    uint8_t record_body[VGD_TRACE_BODY_MAX]; /* scratch */
};

/* A header and the longest fixed part of a command behind it. */
#define TOOL_COMMAND_BYTES (VGD_CTRL_HDR_SIZE + VGD_CMD_CTX_CREATE_SIZE)

/* A command or a response, as far as its fixed part tells it. */
struct tool_command {
    struct vgd_ctrl_hdr hdr;
    const struct vgd_wire_body *body; /* NULL: not known, or it is shorter than that */
    uint8_t bytes[TOOL_COMMAND_BYTES];
    size_t n_bytes; /* in @bytes: those of a fixed part, or fewer */
};

/** A line on standard error, "vgd-trace: ...". */
void tool_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** @text without what a terminal would act on. */
void tool_put_clean(FILE *to, const char *text, size_t n_bytes);

/**
 * The next record within the filter's times and numbers, and a look at the progress. False at the
 * end of the file or of the range: then tool_end says how it went.
 */
bool tool_next(struct tool *tool, struct vgd_trace_item *out);
/** Let tool_next begin at the filter's first record. */
bool tool_begin(struct tool *tool);
/** Clear the progress, and complain of a fault if that is what ended it. True: no fault. */
bool tool_end(struct tool *tool);

/** False: @item is neither command nor response, or has no whole header. */
bool tool_command_of(struct tool *tool, const struct vgd_trace_item *item,
                     struct tool_command *out);
/** The fixed part behind the header. */
static inline const uint8_t *tool_command_body(const struct tool_command *command)
{
    return command->bytes + VGD_CTRL_HDR_SIZE;
}
/** The value of the fixed part's field @name; false: it has none. */
bool tool_field(const struct vgd_wire_body *body, const uint8_t *bytes, const char *name,
                uint64_t *out);
/** Element @idx of a field. */
uint64_t tool_field_value(const struct vgd_wire_field *field, const uint8_t *bytes, uint32_t idx);
/** The layout of a record's fixed part, whose bytes are then in tool->record_body; NULL: it has no
 *  fields. */
const struct vgd_wire_body *tool_record_body(struct tool *tool, const struct vgd_trace_item *item);
/** Is this one that the filter means, as to context, resource and command? @command may be NULL. A
 *  response is meant if its command was. */
bool tool_meant(struct tool *tool, const struct vgd_trace_item *item,
                const struct tool_command *command);

/* --- what is in SUBMIT_3D --- */

/* Contexts alive at a time, as the device bounds them. */
#define TOOL_CONTEXTS_MAX 1024u

/* The commands of one stream, one after the other. */
struct tool_stream {
    bool is_venus; /* which of these it is */
    struct vgd_stream virgl;
    struct vgd_command command;
    struct vgd_venus_stream venus;
    struct vgd_venus_command venus_command;
};

/** Which contexts there are, from each record in order. @command may be NULL. */
void tool_learn(struct tool *tool, const struct vgd_trace_item *item,
                const struct tool_command *command);
/** Learn from what is before the filter's range. For tool_begin. */
void tool_learn_before(struct tool *tool);
/** False: no SUBMIT_3D, or nothing in it that can be read. One at a time. */
bool tool_stream_open(struct tool *tool, const struct vgd_trace_item *item,
                      const struct tool_command *command, struct tool_stream *out);
/** The next command, in s->command or s->venus_command. False at the end. */
bool tool_stream_next(struct tool_stream *s);
/** At the end: did it end inside a command? */
bool tool_stream_is_cut(const struct tool_stream *s);
/** The command as a line; as vgd_command_print. */
size_t tool_stream_print(const struct tool_stream *s, char *out, size_t n_bytes);
/** Is this command one that the filter means? */
bool tool_stream_meant(const struct tool *tool, const struct tool_stream *s);
/** Is any in the stream of @item? */
bool tool_stream_has_meant(struct tool *tool, const struct vgd_trace_item *item,
                           const struct tool_command *command);
/** Is there a command of this name, in any case? */
bool tool_is_stream_command(const char *name);
/** Is @cmd one that draws: a draw, a clear, a blit, a grid of a compute shader? As the device
 *  counts them. */
bool tool_is_draw(const struct vgd_command *cmd);

/* The subcommands. True: all went well. */
bool tool_info(struct tool *tool);
bool tool_print(struct tool *tool);
bool tool_stats(struct tool *tool);
bool tool_cut(struct tool *tool);
bool tool_export(struct tool *tool);
bool tool_replay(struct tool *tool);

#endif
