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

#define PSNR_DB 40
#define TIMEOUT_MS 10000u
#define TIMEOUT_S_MAX 86400u
#define RAM_BYTES (UINT64_C(4) << 30)
#define RAM_MIB_MAX (UINT64_C(64) << 10)

static const char help[] =
    "Usage: vgd-trace info FILE\n"
    "       vgd-trace print [FILTER]... FILE\n"
    "       vgd-trace stats [FILTER]... FILE\n"
    "       vgd-trace export [FILTER]... FILE [OUT.json]\n"
    "       vgd-trace cut [RANGE]... FILE OUT\n"
    "       vgd-trace replay [OPTION]... FILE\n"
    "       vgd-trace --help | --version\n"
    "\n"
    "  info     where and when it was recorded, how much of it there is\n"
    "  print    each record in a line: number, seconds, kind, fields; below a SUBMIT_3D a line\n"
    "           for each command of its stream\n"
    "  stats    commands, bytes and times, in all and for each frame (flush to flush)\n"
    "  export   a Chrome trace, for ui.perfetto.dev or chrome://tracing\n"
    "  cut      a part, as a trace of its own, with a state of what was made before it;\n"
    "           what the GPU drew before it is in that only with --exec or --socket\n"
    "  replay   do it all again, without a VM, on any vhost-user-gpu backend\n"
    "\n"
    "RANGE:\n"
    "  -f, --from SECONDS      from this time on, counted from the start of the recording\n"
    "  -t, --to SECONDS        up to this time\n"
    "  -n, --records A[-B]     these records, by number; \"A-\": from A on\n"
    "FILTER: a RANGE, and\n"
    "  -x, --context ID        what is done in this context\n"
    "  -r, --resource ID       what names this resource, in command streams too\n"
    "  -k, --command NAME      these commands, with their responses: SUBMIT_3D, 0x0207; or\n"
    "                          streams with these: DRAW_VBO, CREATE_BLEND\n"
    "      --no-streams        do not look into SUBMIT_3D\n"
    "Options of cut:\n"
    "      --bare              only the records of the range\n"
    "      --anonymous         without the host's kernel and the guest's name\n"
    "Options of replay, the first ones of cut too:\n"
    "  -e, --exec COMMAND      a backend to start, with {fd} for its socket's number\n"
    "                          (default: vgd --virgl, from the path)\n"
    "  -s, --socket PATH       or a backend to connect to\n"
    "      --profile NAME      the VMM to be: qemu-11.2 (default), qemu-11.1, qemu-10.0\n"
    "      --log FILE          what the backend says goes there\n"
    "      --timeout SECONDS   how long a command may take (default 10)\n"
    "      --ram MIB           guest memory for resources (default 4096; used as needed)\n"
    "      --compare           compare pictures with the recorded ones; exit status 1 if\n"
    "                          one is worse than --psnr\n"
    "      --psnr DB           (default 40; inf: only equal ones are right)\n"
    "      --png DIR           write pictures as files, named by their records\n"
    "      --png-every flush   of each flush, not only where one was recorded\n"
    "      --loop N            play it N times and tell how fast it was\n"
    "      --speed real        as fast as it was recorded (default: max)\n"
    "      --to, --records     end there\n"
    "\n"
    "A file that was cut off or damaged is read up to there; then the exit status is 1.\n";

/* Which options a subcommand takes. */
enum { TAKES_RANGE = 1, TAKES_FILTER = 2, TAKES_REPLAY = 4, TAKES_BACKEND = 8, TAKES_BARE = 16 };

struct command {
    const char *name;
    bool (*run)(struct tool *tool);
    int n_words_min, n_words_max; /* files */
    unsigned takes;
};

static const struct command commands[] = {
    {"info", tool_info, 1, 1, 0},
    {"print", tool_print, 1, 1, TAKES_RANGE | TAKES_FILTER},
    {"stats", tool_stats, 1, 1, TAKES_RANGE | TAKES_FILTER},
    {"cut", tool_cut, 2, 2, TAKES_RANGE | TAKES_BACKEND | TAKES_BARE},
    {"export", tool_export, 1, 2, TAKES_RANGE | TAKES_FILTER},
    {"replay", tool_replay, 1, 1, TAKES_RANGE | TAKES_REPLAY | TAKES_BACKEND},
};

/* Long options without a letter. */
enum {
    OPTION_PROFILE = 256,
    OPTION_LOG,
    OPTION_COMPARE,
    OPTION_PSNR,
    OPTION_PNG,
    OPTION_PNG_EVERY,
    OPTION_LOOP,
    OPTION_SPEED,
    OPTION_TIMEOUT,
    OPTION_RAM,
    OPTION_STREAMS,
    OPTION_NO_STREAMS,
    OPTION_BARE,
    OPTION_ANONYMOUS,
};

static const struct option options[] = {
    {"from", required_argument, NULL, 'f'},
    {"to", required_argument, NULL, 't'},
    {"records", required_argument, NULL, 'n'},
    {"context", required_argument, NULL, 'x'},
    {"resource", required_argument, NULL, 'r'},
    {"command", required_argument, NULL, 'k'},
    {"exec", required_argument, NULL, 'e'},
    {"socket", required_argument, NULL, 's'},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"log", required_argument, NULL, OPTION_LOG},
    {"compare", no_argument, NULL, OPTION_COMPARE},
    {"psnr", required_argument, NULL, OPTION_PSNR},
    {"png", required_argument, NULL, OPTION_PNG},
    {"png-every", required_argument, NULL, OPTION_PNG_EVERY},
    {"loop", required_argument, NULL, OPTION_LOOP},
    {"speed", required_argument, NULL, OPTION_SPEED},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"ram", required_argument, NULL, OPTION_RAM},
    {"anonymous", no_argument, NULL, OPTION_ANONYMOUS},
    {"bare", no_argument, NULL, OPTION_BARE},
    {"streams", no_argument, NULL, OPTION_STREAMS},
    {"no-streams", no_argument, NULL, OPTION_NO_STREAMS},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static unsigned takes_of(int option)
{
    switch (option) {
    case 'f':
    case 't':
    case 'n':
        return TAKES_RANGE;
    case 'x':
    case 'r':
    case 'k':
    case OPTION_STREAMS:
    case OPTION_NO_STREAMS:
        return TAKES_FILTER;
    case 'e':
    case 's':
    case OPTION_PROFILE:
    case OPTION_LOG:
    case OPTION_TIMEOUT:
    case OPTION_RAM:
        return TAKES_BACKEND;
    case OPTION_BARE:
    case OPTION_ANONYMOUS:
        return TAKES_BARE;
    default:
        return TAKES_REPLAY;
    }
}

static const char *name_of(int option)
{
    for (const struct option *at = options; at->name != NULL; at++) {
        if (at->val == option) {
            return at->name;
        }
    }
    return "";
}

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

/* A command of the device, or one of streams. */
static bool parse_command(const char *text, struct tool_filter *filter)
{
    for (size_t i = 0; i < vgd_virtio_gpu_n_bodies; i++) {
        uint32_t code = vgd_virtio_gpu_bodies[i].code;
        if (strcasecmp(vgd_cmd_name(code), text) == 0) {
            filter->command_type = code;
            filter->has_command = true;
            return true;
        }
    }
    if (tool_is_stream_command(text)) {
        filter->stream_command = text;
        return true;
    }
    filter->has_command = true;
    return parse_id(text, &filter->command_type);
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *end;
    return parse_u64(text, 10, max, &end, out) && *end == '\0' && *out >= min;
}

static bool parse_psnr(const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0)) {
        return false;
    }
    *out = value;
    return true;
}

static bool open_log(const char *path, int *out_fd)
{
    *out_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    return *out_fd >= 0;
}

/* One option of replay. */
static bool take_replay_option(int option, const char *value, struct tool_replay *replay)
{
    uint64_t number;
    switch (option) {
    case 'e':
        replay->exec = value;
        return true;
    case 's':
        replay->socket_path = value;
        return true;
    case OPTION_PROFILE:
        return vgd_guest_profile_named(value, &replay->profile);
    case OPTION_LOG:
        return open_log(value, &replay->log_fd);
    case OPTION_COMPARE:
        replay->compare = true;
        return true;
    case OPTION_PSNR:
        return parse_psnr(value, &replay->psnr_db);
    case OPTION_PNG:
        replay->png_dir = value;
        return true;
    case OPTION_PNG_EVERY:
        replay->png_every_flush = strcmp(value, "flush") == 0;
        return replay->png_every_flush;
    case OPTION_LOOP:
        if (!parse_number(value, 1, TOOL_PASSES_MAX, &number)) {
            return false;
        }
        replay->n_passes = (uint32_t)number;
        return true;
    case OPTION_SPEED:
        replay->real_speed = strcmp(value, "real") == 0;
        return replay->real_speed || strcmp(value, "max") == 0;
    case OPTION_TIMEOUT:
        if (!parse_number(value, 1, TIMEOUT_S_MAX, &number)) {
            return false;
        }
        replay->timeout_ms = (uint32_t)number * 1000;
        return true;
    case OPTION_RAM:
        if (!parse_number(value, 1, RAM_MIB_MAX, &number)) {
            return false;
        }
        replay->ram_bytes = number << 20;
        return true;
    default:
        return false;
    }
}

/* One option; false: its value cannot be. */
static bool take_option(int option, const char *value, struct tool *tool)
{
    struct tool_filter *filter = &tool->filter;
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
        filter->has_command = false;
        filter->stream_command = NULL;
        return parse_command(value, filter);
    case OPTION_BARE:
        tool->bare = true;
        return true;
    case OPTION_ANONYMOUS:
        tool->anonymous = true;
        return true;
    case OPTION_NO_STREAMS:
        tool->streams = false;
        return true;
    case OPTION_STREAMS:
        tool->streams = true;
        return true;
    default:
        return take_replay_option(option, value, &tool->replay);
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
    vgd_idmap_finish(&tool->contexts);
    free(tool->stream_bytes);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        tool_complain("cannot write: %s", strerror(errno));
        return false;
    }
    return ok;
}

static bool run(int argc, char **argv)
{
    static struct tool tool = {
        .streams = true,
        .filter = {.to_ns = UINT64_MAX, .last_record = UINT64_MAX},
        .replay = {.profile = VGD_GUEST_QEMU_11_2,
                   .log_fd = -1,
                   .psnr_db = PSNR_DB,
                   .n_passes = 1,
                   .timeout_ms = TIMEOUT_MS,
                   .ram_bytes = RAM_BYTES},
    };
    unsigned given = 0;
    int option;
    while ((option = getopt_long(argc, argv, "f:t:n:x:r:k:e:s:hV", options, NULL)) != -1) {
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
        if (!take_option(option, optarg, &tool)) {
            tool_complain("'%s' is no value for option --%s; see --help", optarg, name_of(option));
            return false;
        }
        given |= takes_of(option);
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
        tool_complain("what is to be done? info, print, stats, export, cut or replay; see --help");
        return false;
    }
    if (n_words - 1 < command->n_words_min || n_words - 1 > command->n_words_max) {
        tool_complain("%s takes %s; see --help", command->name,
                      command->n_words_max == 1 ? "one file" : "a file and one to write");
        return false;
    }
    if ((given & ~command->takes) != 0) {
        tool_complain("%s has no such option; see --help", command->name);
        return false;
    }
    if (!tool.streams && tool.filter.stream_command != NULL) {
        tool_complain("%s is in streams; see --help", tool.filter.stream_command);
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
