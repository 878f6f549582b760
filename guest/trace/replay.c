/* SPDX-License-Identifier: MIT */
/* vgd-trace replay: options are checked, the trace is played once or several times, and what came
 * of it is told. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "log.h"
#include "replay.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static const char *const left_out_names[REPLAY_LEFT_OUT_COUNT] = {
    [REPLAY_OF_VENUS] = "of Vulkan (venus), whose commands are not in a trace",
    [REPLAY_NO_FEATURE] = "of features that are not here",
    [REPLAY_NO_WINDOW] = "of a host-visible region that is not here",
    [REPLAY_NO_RESOURCE] = "of resources and contexts that could not be made here",
    [REPLAY_LOST] = "that a dead worker left and nobody executed",
    [REPLAY_CUT] = "that are not whole in the trace",
};

bool replay_fail(struct replay *r, const char *format, ...)
{
    if (!r->failed) {
        char text[512];
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        tool_complain("%s", text);
    }
    r->failed = true;
    return false;
}

void replay_differs(struct replay *r, const char *format, ...)
{
    if (r->n_told < REPLAY_TOLD_MAX) {
        char text[512];
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        tool_complain("%s", text);
    } else if (r->n_told == REPLAY_TOLD_MAX) {
        tool_complain("what differs from here on is only counted");
    }
    r->n_told += r->n_told <= REPLAY_TOLD_MAX;
}

/* Wait until it is as late as the record was, counted from the first one. */
static void keep_time(uint64_t began_ns, uint64_t first_ns, uint64_t record_ns)
{
    uint64_t due_ns = began_ns + (record_ns - first_ns);
    uint64_t now_ns = vgd_now_ns();
    if (due_ns > now_ns) {
        struct timespec pause = {.tv_sec = (time_t)((due_ns - now_ns) / NS_PER_S),
                                 .tv_nsec = (long)((due_ns - now_ns) % NS_PER_S)};
        (void)nanosleep(&pause, NULL);
    }
}

/* One time through the trace. *out_ns: how long, from the first record to the last answer. */
static bool pass(struct replay *r, uint64_t *out_ns)
{
    struct tool *tool = r->tool;
    struct vgd_trace_item item;
    uint64_t began_ns = 0, first_ns = 0;
    if (vgd_trace_reader_seek_number(tool->reader, 0) != VGD_OK) {
        return false; /* tool_end says why */
    }
    while (tool_next(tool, &item)) {
        if (began_ns == 0 && item.record.kind >= VGD_TRACE_KIND_COMMAND) {
            /* A backend's start is not part of what is played. */
            if (!replay_ready(r)) {
                return false;
            }
            began_ns = vgd_now_ns();
            first_ns = item.record.time_ns;
        }
        if (r->config->real_speed && began_ns != 0) {
            keep_time(began_ns, first_ns, item.record.time_ns);
        }
        if (!replay_record(r, &item)) {
            return false;
        }
    }
    if (!replay_wait_all(r)) {
        return false;
    }
    *out_ns = began_ns != 0 ? vgd_now_ns() - began_ns : 0;
    return true;
}

static void forget_counts(struct replay *r)
{
    memset(r->answers, 0, sizeof(r->answers));
    memset(r->left_out, 0, sizeof(r->left_out));
    memset(r->transfers, 0, sizeof(r->transfers));
    r->n_answers_differ = r->n_answers_same = r->n_undone = r->n_state_refused = 0;
    r->n_commands = r->n_stream_commands = r->n_draws = r->n_content = 0;
    r->n_gaps = r->n_unplayable = r->died_at = 0;
    r->after_gap = false;
    r->needs_fresh = true;
    r->pictures = (struct replay_pictures){0};
}

static int shorter_of(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

static void print_times(const struct replay *r, uint64_t *ns, uint32_t n)
{
    qsort(ns, n, sizeof(*ns), shorter_of);
    uint64_t median_ns = ns[n / 2];
    double seconds = (double)median_ns / (double)NS_PER_S;
    (void)printf("passes: %u\nms-min: %.1f\nms-median: %.1f\nms-max: %.1f\n", n,
                 (double)ns[0] / (double)NS_PER_MS, (double)median_ns / (double)NS_PER_MS,
                 (double)ns[n - 1] / (double)NS_PER_MS);
    if (median_ns > 0) {
        (void)printf("commands-per-second: %.0f\nstream-commands-per-second: %.0f\n"
                     "draws-per-second: %.0f\n",
                     (double)r->n_commands / seconds, (double)r->n_stream_commands / seconds,
                     (double)r->n_draws / seconds);
    }
}

static void print_result(const struct replay *r)
{
    (void)printf("commands: %" PRIu64 "\nstream-commands: %" PRIu64 "\ndraws: %" PRIu64
                 "\ncontents: %" PRIu64 "\n",
                 r->n_commands, r->n_stream_commands, r->n_draws, r->n_content);
    for (uint32_t i = 1; i < REPLAY_LEFT_OUT_COUNT; i++) {
        if (r->left_out[i] != 0) {
            (void)printf("left-out: %" PRIu64 " commands %s\n", r->left_out[i], left_out_names[i]);
        }
    }
    (void)printf("answers-same: %" PRIu64 "\nanswers-differ: %" PRIu64 "\n", r->n_answers_same,
                 r->n_answers_differ);
    if (r->n_undone != 0) {
        (void)printf("refused-for-addresses: %" PRIu64 "\n", r->n_undone);
    }
    if (r->n_state_refused != 0) {
        (void)printf("state-refused: %" PRIu64 "\n", r->n_state_refused);
    }
    if (r->n_gaps != 0) {
        (void)printf("gaps: %" PRIu64 "\n", r->n_gaps);
    }
    if (r->n_unplayable != 0) {
        (void)printf("unplayable-records: %" PRIu64 "\n", r->n_unplayable);
    }
    replay_print_pictures(r);
}

static bool check_options(struct tool *tool)
{
    const struct tool_replay *config = &tool->replay;
    struct stat info;
    if (tool->filter.from_ns != 0 || tool->filter.first_record != 0) {
        tool_complain("a trace is played from its beginning; cut it first");
        return false;
    }
    if (config->exec != NULL && config->socket_path != NULL) {
        tool_complain("--exec and --socket exclude each other");
        return false;
    }
    if (config->n_passes > 1 && (config->compare || config->png_dir != NULL)) {
        tool_complain("--loop measures time; pictures would disturb it");
        return false;
    }
    if (config->png_every_flush && config->png_dir == NULL) {
        tool_complain("--png-every says when; --png says where");
        return false;
    }
    if (config->png_dir != NULL && (stat(config->png_dir, &info) != 0 || !S_ISDIR(info.st_mode))) {
        tool_complain("%s: no such folder", config->png_dir);
        return false;
    }
    return true;
}

static bool play(struct replay *r, uint64_t *pass_ns)
{
    for (uint32_t i = 0; i < r->config->n_passes; i++) {
        forget_counts(r);
        if (!pass(r, &pass_ns[i])) {
            return false;
        }
    }
    return true;
}

struct replay *replay_create(struct tool *tool, bool dry)
{
    struct replay *r = calloc(1, sizeof(*r)); /* some megabytes of tables */
    uint8_t *bytes = aligned_alloc(64, VGD_TRACE_DATA_MAX);
    if (r == NULL || bytes == NULL) {
        tool_complain("no memory");
        free(r);
        free(bytes);
        return NULL;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    vgd_guest_raise_files(); /* each mapping of the host-visible region is one */
    r->tool = tool;
    r->config = &tool->replay;
    r->dry = dry;
    r->bytes = bytes;
    r->process.socket = -1;
    r->n_scanouts = 1;
    r->needs_fresh = true;
    r->model.resource_gone = replay_resource_gone;
    r->model.backing_gone = replay_backing_gone;
    r->model.context_gone = replay_follow_context_gone;
    r->model.user = r;
    return r;
}

void replay_destroy(struct replay *r)
{
    if (r != NULL) {
        replay_disconnect(r);
        free(r->bytes);
        free(r);
    }
}

bool replay_until(struct replay *r, struct vgd_trace_item *out, bool *out_more)
{
    struct tool_filter range = r->tool->filter;
    r->tool->filter = (struct tool_filter){.to_ns = UINT64_MAX, .last_record = UINT64_MAX};
    bool ok = vgd_trace_reader_seek_number(r->tool->reader, 0) == VGD_OK;
    *out_more = false;
    while (ok && tool_next(r->tool, out)) {
        if (out->number >= range.first_record && out->record.time_ns >= range.from_ns) {
            *out_more = true;
            break;
        }
        ok = replay_record(r, out);
    }
    r->tool->filter = range;
    return ok && replay_wait_all(r);
}

bool tool_replay(struct tool *tool)
{
    if (!check_options(tool)) {
        return false;
    }
    struct replay *r = replay_create(tool, false);
    uint64_t *pass_ns = calloc(tool->replay.n_passes, sizeof(*pass_ns));
    bool ok = r != NULL && pass_ns != NULL && play(r, pass_ns);
    if (r != NULL) {
        replay_disconnect(r);
    }
    bool read = tool_end(tool);
    if (ok) {
        print_result(r);
        if (!r->config->compare && r->config->png_dir == NULL) { /* pictures are waited for */
            print_times(r, pass_ns, tool->replay.n_passes);
        }
        ok = r->n_answers_differ == 0 && r->n_state_refused == 0 && replay_pictures_ok(r);
    }
    free(pass_ns);
    replay_destroy(r);
    return ok && read;
}
