/* SPDX-License-Identifier: MIT */
/* vgd-trace: looks into recordings of a virtual GPU. The command line; tool_*.c do the work. Exit
 * status 0, or 1 and a line on standard error. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fd.h"
#include "tool.h"

static const char help[] =
    "Usage: vgd-trace info FILE\n"
    "       vgd-trace print [FILTER]... FILE\n"
    "       vgd-trace stats [FILTER]... FILE\n"
    "       vgd-trace export [FILTER]... FILE [OUT.json]\n"
    "       vgd-trace cut [RANGE]... FILE OUT\n"
    "       vgd-trace --help | --version\n"
    "\n"
    "  info     where and when it was recorded, how much of it there is\n"
    "  print    each record in a line: number, seconds, kind, fields\n"
    "  stats    commands, bytes and times, in all and for each frame (flush to flush)\n"
    "  export   a Chrome trace, for ui.perfetto.dev or chrome://tracing\n"
    "  cut      a part, as a trace of its own: without what was made before it\n"
    "\n"
    "RANGE:\n"
    "  -f, --from SECONDS      from this time on, counted from the start of the recording\n"
    "  -t, --to SECONDS        up to this time\n"
    "  -n, --records A[-B]     these records, by number; \"A-\": from A on\n"
    "FILTER: a RANGE, and\n"
    "  -x, --context ID        what is done in this context\n"
    "  -r, --resource ID       what names this resource outside of command streams\n"
    "  -k, --command NAME      these commands, with their responses: SUBMIT_3D, 0x0207\n"
    "\n"
    "A file that was cut off or damaged is read up to there; then the exit status is 1.\n";

struct command {
    const char *name;
    bool (*run)(struct tool *tool);
    int n_words_min, n_words_max; /* files */
    bool filters, ranges;
};

static const struct command commands[] = {
    {"info", tool_info, 1, 1, false, false},   {"print", tool_print, 1, 1, true, true},
    {"stats", tool_stats, 1, 1, true, true},   {"cut", tool_cut, 2, 2, false, true},
    {"export", tool_export, 1, 2, true, true},
};

static bool parse_u64(const char *text, int base, uint64_t max, const char **end, uint64_t *out)
{
    char *stop;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, base);
    if (text[0] < '0' || text[0] > '9' || stop == text || errno != 0 || value > max) {
        return false;
    }
    *end = stop;
    *out = value;
    return true;
}

static bool parse_id(const char *text, uint32_t *out)
{
    const char *end;
    uint64_t value;
    if (!parse_u64(text, 0, UINT32_MAX, &end, &value) || *end != '\0') {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

/* "12.345": exact to the nanosecond, which a double is not. */
static bool parse_seconds(const char *text, uint64_t *out_ns)
{
    const char *end;
    uint64_t seconds, ns = 0;
    if (!parse_u64(text, 10, UINT64_MAX / 1000000000u - 1, &end, &seconds)) {
        return false;
    }
    if (*end == '.') {
        uint64_t unit = 100000000;
        for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10) {
            ns += (uint64_t)(*end - '0') * unit;
        }
    }
    *out_ns = seconds * 1000000000u + ns;
    return *end == '\0';
}

static bool parse_records(const char *text, uint64_t *first, uint64_t *last)
{
    const char *end;
    if (!parse_u64(text, 10, UINT64_MAX, &end, first)) {
        return false;
    }
    *last = *first;
    if (*end == '-' && end[1] == '\0') {
        *last = UINT64_MAX;
        return true;
    }
    if (*end == '-' && !parse_u64(end + 1, 10, UINT64_MAX, &end, last)) {
        return false;
    }
    return *end == '\0' && *first <= *last;
}

static bool parse_command(const char *text, uint32_t *out)
{
    for (size_t i = 0; i < vgd_virtio_gpu_n_bodies; i++) {
        uint32_t code = vgd_virtio_gpu_bodies[i].code;
        if (strcasecmp(vgd_cmd_name(code), text) == 0) {
            *out = code;
            return true;
        }
    }
    return parse_id(text, out);
}

/* One option into @filter; false: its value cannot be. */
static bool take_option(int option, const char *value, struct tool_filter *filter)
{
    switch (option) {
    case 'f':
        return parse_seconds(value, &filter->from_ns);
    case 't':
        return parse_seconds(value, &filter->to_ns);
    case 'n':
        return parse_records(value, &filter->first_record, &filter->last_record);
    case 'x':
        filter->has_context = true;
        return parse_id(value, &filter->ctx_id);
    case 'r':
        filter->has_resource = true;
        return parse_id(value, &filter->resource_id);
    case 'k':
        filter->has_command = true;
        return parse_command(value, &filter->command_type);
    default:
        return false;
    }
}

static bool open_and_run(struct tool *tool, const struct command *command)
{
    VGD_AUTO_FD fd = open(tool->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        tool_complain("%s: %s", tool->path, strerror(errno));
        return false;
    }
    struct vgd_trace_fault fault;
    if (vgd_trace_reader_open(&fd, &tool->reader, &fault) != VGD_OK) {
        tool_complain("%s: at byte %llu: %s", tool->path, (unsigned long long)fault.offset_bytes,
                      fault.text);
        return false;
    }
    bool ok = command->run(tool);
    vgd_trace_reader_close(tool->reader);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        tool_complain("cannot write: %s", strerror(errno));
        return false;
    }
    return ok;
}

static bool run(int argc, char **argv)
{
    static const struct option options[] = {
        {"from", required_argument, NULL, 'f'},
        {"to", required_argument, NULL, 't'},
        {"records", required_argument, NULL, 'n'},
        {"context", required_argument, NULL, 'x'},
        {"resource", required_argument, NULL, 'r'},
        {"command", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    static struct tool tool = {.filter = {.to_ns = UINT64_MAX, .last_record = UINT64_MAX}};
    bool has_range = false;
    int option, idx = -1;
    while ((option = getopt_long(argc, argv, "f:t:n:x:r:k:hV", options, &idx)) != -1) {
        if (option == 'h') {
            (void)fputs(help, stdout);
            return true;
        }
        if (option == 'V') {
            (void)puts("vgd-trace " VGD_VERSION);
            return true;
        }
        if (option == '?') {
            return false; /* getopt has said why */
        }
        if (!take_option(option, optarg, &tool.filter)) {
            tool_complain("'%s' is no value for option -%c; see --help", optarg, option);
            return false;
        }
        has_range = has_range || option == 'f' || option == 't' || option == 'n';
    }
    const char *const *words = (const char *const *)argv + optind;
    int n_words = argc - optind;
    const struct command *command = NULL;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (n_words > 0 && strcmp(words[0], commands[i].name) == 0) {
            command = &commands[i];
        }
    }
    if (command == NULL) {
        tool_complain("what is to be done? info, print, stats, export or cut; see --help");
        return false;
    }
    if (n_words - 1 < command->n_words_min || n_words - 1 > command->n_words_max) {
        tool_complain("%s takes %s; see --help", command->name,
                      command->n_words_max == 1 ? "one file" : "a file and one to write");
        return false;
    }
    const struct tool_filter *f = &tool.filter;
    if ((has_range && !command->ranges) ||
        ((f->has_context || f->has_resource || f->has_command) && !command->filters)) {
        tool_complain("%s has no such option; see --help", command->name);
        return false;
    }
    tool.path = words[1];
    tool.out_path = n_words > 2 ? words[2] : NULL;
    return open_and_run(&tool, command);
}

int main(int argc, char **argv)
{
    return run(argc, argv) ? 0 : 1;
}
