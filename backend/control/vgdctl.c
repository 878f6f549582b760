/* SPDX-License-Identifier: MIT */
/*
 * vgdctl: asks a running vgd over its control socket. Exit status 0, or 1 and one line on standard
 * error.
 */
#include "vgdctl.h"

#include <getopt.h>
#include <string.h>

static const char help[] =
    "Usage: vgdctl [--control PATH] status|counters|contexts|errors [--json]\n"
    "       vgdctl [--control PATH] screenshot SCANOUT FILE.png\n"
    "       vgdctl [--control PATH] trace start FILE [--pictures MS|none]\n"
    "       vgdctl [--control PATH] trace stop | trace status\n"
    "       vgdctl [--control PATH] log-level LEVEL\n"
    "       vgdctl [--control PATH] top [--interval SECONDS] [--once]\n"
    "       vgdctl --help | --version\n"
    "\n"
    "  status       what this virtual GPU is and does; --json as one line of JSON\n"
    "  counters     what was counted since vgd started: commands, bytes, times, memory\n"
    "  contexts     the guest's contexts: whose they are, and what they did\n"
    "  errors       what was answered with an error lately\n"
    "  screenshot   write what the guest shows on SCANOUT (0, 1, ...) to FILE.png\n"
    "  trace start  record what the guest does into FILE, which is new or empty, from now on;\n"
    "               the guest does not notice. vgd-trace reads it\n"
    "  trace stop   end the recording, and wait until all is in the file\n"
    "  trace status how it is going\n"
    "  top          rates, latencies, memory, contexts and recent errors, again and again; q\n"
    "               ends it. With --once, or where there is no terminal: a single time\n"
    "  log-level    from now on vgd logs error, warning, info or debug\n"
    "\n"
    "  -c, --control PATH  the control socket of the vgd to ask. Default: the only live\n"
    "                      socket in $XDG_RUNTIME_DIR/vgd (root: or else /run/vgd)\n"
    "  -j, --json          print the reply as JSON\n"
    "  -p, --pictures MS   of what the guest shows, record the pixels every MS milliseconds at\n"
    "                      most (default 1000; 0: always), or none: their hashes alone\n"
    "  -i, --interval SECONDS  between two looks, 0.1 to 3600 (default 1)\n"
    "  -1, --once          one look, over one interval, as plain text\n";

/* Options that only some commands know. */
enum {
    OPTION_JSON = 1u << 0,
    OPTION_PICTURES = 1u << 1,
    OPTION_INTERVAL = 1u << 2,
    OPTION_ONCE = 1u << 3,
};

static const struct {
    const char *name;
    const char *words; /* that follow, for the one who got them wrong */
    int least_words, most_words;
    unsigned options;
    bool (*run)(const struct vgdctl_args *args);
} commands[] = {
    {"status", "", 0, 0, OPTION_JSON, vgdctl_status},
    {"counters", "", 0, 0, OPTION_JSON, vgdctl_counters},
    {"contexts", "", 0, 0, OPTION_JSON, vgdctl_contexts},
    {"errors", "", 0, 0, OPTION_JSON, vgdctl_errors},
    {"screenshot", " SCANOUT FILE.png", 2, 2, 0, vgdctl_screenshot},
    {"trace", " start FILE [--pictures MS|none], trace stop, or trace status", 1, 2,
     OPTION_JSON | OPTION_PICTURES, vgdctl_trace},
    {"log-level", " LEVEL", 1, 1, OPTION_JSON, vgdctl_log_level},
    {"top", " [--interval SECONDS] [--once]", 0, 0, OPTION_INTERVAL | OPTION_ONCE, vgdctl_top},
};
#define COMMANDS_COUNT (sizeof(commands) / sizeof(commands[0]))

static bool run_command(const char *name, struct vgdctl_args *args, unsigned options)
{
    for (size_t i = 0; i < COMMANDS_COUNT; i++) {
        if (strcmp(commands[i].name, name) != 0) {
            continue;
        }
        if (args->n_words < commands[i].least_words || args->n_words > commands[i].most_words ||
            (options & ~commands[i].options) != 0) {
            vgdctl_complain("it is: %s%s; see --help", name, commands[i].words);
            return false;
        }
        return commands[i].run(args);
    }
    vgdctl_complain("'%s' is none of its commands; see --help", name);
    return false;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"control", required_argument, NULL, 'c'},  {"json", no_argument, NULL, 'j'},
        {"pictures", required_argument, NULL, 'p'}, {"interval", required_argument, NULL, 'i'},
        {"once", no_argument, NULL, '1'},           {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},        {NULL, 0, NULL, 0},
    };
    struct vgdctl_args args = {0};
    unsigned options = 0;
    int option;
    while ((option = getopt_long(argc, argv, "c:jp:i:1hV", longs, NULL)) != -1) {
        switch (option) {
        case 'c':
            args.control_path = optarg;
            break;
        case 'j':
            args.json = true;
            options |= OPTION_JSON;
            break;
        case 'p':
            args.pictures = optarg;
            options |= OPTION_PICTURES;
            break;
        case 'i':
            args.interval = optarg;
            options |= OPTION_INTERVAL;
            break;
        case '1':
            args.once = true;
            options |= OPTION_ONCE;
            break;
        case 'h':
            (void)fputs(help, stdout);
            return 0;
        case 'V':
            (void)puts("vgdctl " VGD_VERSION);
            return 0;
        default:
            return 1; /* getopt has said why */
        }
    }
    if (optind == argc) {
        vgdctl_complain("what is to be done? see --help");
        return 1;
    }
    args.words = (const char *const *)argv + optind + 1;
    args.n_words = argc - optind - 1;
    return run_command(argv[optind], &args, options) ? 0 : 1;
}
