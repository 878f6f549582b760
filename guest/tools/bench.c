/* SPDX-License-Identifier: MIT */
/*
 * vgd-bench: how fast a vhost-user-gpu backend is, from a user-space guest. With --vs two backends
 * take turns, round by round, so that what else the machine does meets both.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "fd.h"

#define ROUNDS_MAX 101u

struct options {
    enum vgd_guest_profile profile;
    uint32_t rounds;
    uint32_t scale_percent;
    const char *only;
    int log_fd;
};

static bool subject_open(struct bench_subject *s, const struct options *options)
{
    if (s->gpu != NULL) {
        return true;
    }
    if (vgd_guest_process_start(s->exec, options->log_fd, &s->process) != VGD_OK) {
        return false;
    }
    VGD_AUTO_FD fd = vgd_fd_take(&s->process.socket);
    struct vgd_guest_gpu_config config = {
        .frontend.profile = options->profile,
        .w_px = BENCH_SCREEN_W_PX,
        .h_px = BENCH_SCREEN_H_PX,
        .display_thread = true,
    };
    enum vgd_status st;
    s->gpu = vgd_guest_gpu_open(&fd, &config, &st);
    return s->gpu != NULL;
}

static void subject_close(struct bench_subject *s)
{
    vgd_guest_gpu_close(s->gpu);
    s->gpu = NULL;
    (void)vgd_guest_process_stop(&s->process);
    s->process = (struct vgd_guest_process){.socket = -1};
    free(s->screen.entries);
    s->screen = (struct vgd_guest_backing){0};
    free(s->pixels);
    s->pixels = NULL;
    vgd_virgl_stream_finish(&s->draws);
    s->screen_ready = s->context_ready = s->venus_ready = false;
}

struct summary {
    uint32_t n;
    double rounds[ROUNDS_MAX];
    double median, min, max, p99, updates, mib_per_flush;
    const char *why; /* failed; NULL: it did not */
};

static void one_round(struct bench_subject *s, const struct bench_line *line,
                      const struct options *options, bool counts, struct summary *sum)
{
    if (sum->why != NULL) {
        return;
    }
    if (!subject_open(s, options)) {
        sum->why = "the backend does not start";
        return;
    }
    if (line->needs_venus && !vgd_venus_is_offered(s->gpu)) {
        sum->why = "no Vulkan offered";
        return;
    }
    if (line->needs_3d && !vgd_guest_gpu_has_3d(s->gpu)) {
        sum->why = "no 3D offered";
        return;
    }
    uint32_t n = line->iterations * options->scale_percent / 100;
    struct bench_result result = {.failed = true, .why = "preparation failed"};
    if (line->prepare(s)) {
        result = line->run(s, n == 0 ? 1 : n);
    }
    if (result.failed) {
        sum->why = vgd_guest_process_alive(&s->process) ? result.why : "the backend died";
        subject_close(s);
        return;
    }
    if (counts) {
        sum->rounds[sum->n++] = result.value;
        sum->p99 += result.p99;
        sum->updates += result.updates;
        sum->mib_per_flush += result.mib_per_flush;
    }
}

static void summarize(struct summary *sum)
{
    if (sum->why != NULL || sum->n == 0) {
        return;
    }
    double sorted[ROUNDS_MAX];
    memcpy(sorted, sum->rounds, sizeof(sorted[0]) * sum->n);
    qsort(sorted, sum->n, sizeof(sorted[0]), bench_compare_double);
    sum->median =
        sum->n % 2 == 1 ? sorted[sum->n / 2] : (sorted[sum->n / 2 - 1] + sorted[sum->n / 2]) / 2;
    sum->min = sorted[0];
    sum->max = sorted[sum->n - 1];
    sum->p99 /= sum->n;
    sum->updates /= sum->n;
    sum->mib_per_flush /= sum->n;
}

static void print_string(const char *text)
{
    (void)putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            (void)putchar('\\');
        }
        (void)putchar(*text < ' ' ? ' ' : *text);
    }
    (void)putchar('"');
}

static void print_summary(const char *key, const struct bench_line *line, const struct summary *sum)
{
    (void)printf(",\n      \"%s\": {", key);
    if (sum->why != NULL) {
        (void)printf("\"failed\": ");
        print_string(sum->why);
        (void)printf("}");
        return;
    }
    (void)printf("\"median\": %.2f, \"min\": %.2f, \"max\": %.2f", sum->median, sum->min, sum->max);
    if (sum->p99 > 0) {
        (void)printf(", \"p99\": %.2f", sum->p99);
    }
    if (line->has_pictures) {
        (void)printf(", \"updates_per_flush\": %.3f, \"mib_per_flush\": %.3f, "
                     "\"last_picture_right\": true",
                     sum->updates, sum->mib_per_flush);
    }
    (void)printf(", \"rounds\": [");
    for (uint32_t i = 0; i < sum->n; i++) {
        (void)printf("%s%.2f", i == 0 ? "" : ", ", sum->rounds[i]);
    }
    (void)printf("]}");
}

static const char usage[] =
    "usage: vgd-bench --exec='BACKEND ARGS with {fd} or {socket}' [--vs='OTHER ARGS']\n"
    "                 [--lines=NAME[,NAME...]] [--rounds=N] [--scale=PERCENT] [--log=FILE]\n"
    "                 [--profile=qemu-11.1|qemu-10.0|qemu-11.2|qemu-generic]\n"
    "Prints JSON on standard output, a table on standard error. A ratio above 1 says that the\n"
    "first backend is better. Exit status 1 when a line failed that was wanted.\n"
    "Lines: control fenced-submit draws damage-64x64 flush-1080p shown-1080p\n"
    "With --profile=qemu-11.2 or qemu-generic: blob-create map-unmap venus-cpu-fence\n"
    "venus-queue-fence\n";

static bool wanted(const char *only, const char *name)
{
    if (only == NULL) {
        return true;
    }
    size_t len = strlen(name);
    for (const char *at = only; (at = strstr(at, name)) != NULL; at += len) {
        if ((at == only || at[-1] == ',') && (at[len] == '\0' || at[len] == ',')) {
            return true;
        }
    }
    return false;
}

static int run_all(struct bench_subject subjects[2], uint32_t n_subjects,
                   const struct options *options)
{
    int status = 0;
    bool first = true;
    (void)printf("{\n  \"version\": 1,\n  \"rounds\": %u,\n  \"cpus\": %ld,\n  \"exec\": ",
                 options->rounds, sysconf(_SC_NPROCESSORS_ONLN));
    print_string(subjects[0].exec);
    if (n_subjects > 1) {
        (void)printf(",\n  \"vs\": ");
        print_string(subjects[1].exec);
    }
    (void)printf(",\n  \"lines\": [\n");
    (void)fprintf(stderr, "%-17s %-8s %28s %28s %7s\n", "line", "unit", "first: median (min..max)",
                  "second", "ratio");
    for (size_t l = 0; l < bench_lines_count; l++) {
        const struct bench_line *line = &bench_lines[l];
        if (!wanted(options->only, line->name)) {
            continue;
        }
        struct summary sums[2] = {0};
        for (uint32_t round = 0; round <= options->rounds; round++) {
            for (uint32_t i = 0; i < n_subjects; i++) {
                /* Who goes first changes with each round; round 0 warms up. */
                uint32_t who = n_subjects == 2 ? (i + round) % 2 : 0;
                one_round(&subjects[who], line, options, round > 0, &sums[who]);
            }
        }
        char cells[2][64] = {"", ""};
        for (uint32_t i = 0; i < n_subjects; i++) {
            summarize(&sums[i]);
            if (sums[i].why == NULL) {
                (void)snprintf(cells[i], sizeof(cells[i]), "%.1f (%.1f..%.1f)", sums[i].median,
                               sums[i].min, sums[i].max);
            } else {
                (void)snprintf(cells[i], sizeof(cells[i]), "%s", sums[i].why);
                bool excused =
                    options->only == NULL &&
                    ((line->needs_3d && strcmp(sums[i].why, "no 3D offered") == 0) ||
                     (line->needs_venus && strcmp(sums[i].why, "no Vulkan offered") == 0));
                status = i == 0 && !excused ? 1 : status;
            }
        }
        (void)printf("%s    {\"name\": \"%s\", \"unit\": \"%s\", \"better\": \"%s\", \"what\": ",
                     first ? "" : ",\n", line->name, line->unit,
                     line->higher_is_better ? "higher" : "lower");
        first = false;
        print_string(line->what);
        print_summary("first", line, &sums[0]);
        double ratio = 0;
        if (n_subjects > 1) {
            print_summary("second", line, &sums[1]);
            if (sums[0].why == NULL && sums[1].why == NULL) {
                ratio = line->higher_is_better ? sums[0].median / sums[1].median
                                               : sums[1].median / sums[0].median;
                (void)printf(",\n      \"ratio\": %.3f", ratio);
            }
        }
        (void)printf("}");
        (void)fprintf(stderr, "%-17s %-8s %28s %28s %7.2f\n", line->name, line->unit, cells[0],
                      cells[1], ratio);
        for (uint32_t i = 0; i < n_subjects && line->has_pictures; i++) {
            if (sums[i].why == NULL) {
                (void)fprintf(stderr, "  %s: %.3f updates and %.3f MiB a flush\n",
                              i == 0 ? "first" : "second", sums[i].updates, sums[i].mib_per_flush);
            }
        }
    }
    (void)printf("\n  ]\n}\n");
    return status;
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"exec", required_argument, NULL, 'e'},
        {"vs", required_argument, NULL, 'v'},
        {"lines", required_argument, NULL, 'i'},
        {"rounds", required_argument, NULL, 'r'},
        {"scale", required_argument, NULL, 'c'},
        {"log", required_argument, NULL, 'l'},
        {"profile", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct bench_subject subjects[2] = {{.process.socket = -1}, {.process.socket = -1}};
    struct options options = {.rounds = 7, .scale_percent = 100, .log_fd = -1};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'e':
            subjects[0].exec = optarg;
            break;
        case 'v':
            subjects[1].exec = optarg;
            break;
        case 'i':
            options.only = optarg;
            break;
        case 'r':
            options.rounds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            options.scale_percent = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options.log_fd =
                open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
            break;
        case 'p':
            if (!vgd_guest_profile_named(optarg, &options.profile)) {
                (void)fputs(usage, stderr);
                return 2;
            }
            break;
        default:
            (void)fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (subjects[0].exec == NULL || options.rounds == 0 || options.rounds >= ROUNDS_MAX) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    int status = run_all(subjects, subjects[1].exec != NULL ? 2 : 1, &options);
    subject_close(&subjects[0]);
    subject_close(&subjects[1]);
    return status;
}
