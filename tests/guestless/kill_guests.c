/* SPDX-License-Identifier: MIT */
#include "kill_guests.h"

#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

#define GUESTS_MAX 32u
#define NS_PER_MS UINT64_C(1000000)

struct kill_options kill_options_default(void)
{
    return (struct kill_options){.kills = 8, .guests = 4, .spacing_ms = 10500};
}

bool kill_option_take(struct kill_options *o, int option, const char *value)
{
    uint32_t number = value != NULL ? (uint32_t)strtoul(value, NULL, 10) : 0;
    switch (option) {
    case 's':
        o->sanitized = true;
        return true;
    case 'k':
        o->kills = number;
        return true;
    case 'g':
        o->guests = number;
        return true;
    case 'm':
        o->spacing_ms = number;
        return true;
    default:
        return false;
    }
}

bool kill_options_end(struct kill_options *o, int argc, char **argv, int first)
{
    if (first + 1 != argc || o->guests == 0 || o->guests > GUESTS_MAX || o->kills < o->guests ||
        o->kills > KILLS_MAX) {
        return false;
    }
    o->vgd = argv[first];
    return true;
}

void kill_keeps_before(struct kill_keeps *k, const struct scene *s)
{
    k->fds_before = vgd_guest_fd_count(s->vgd.pid);
    k->kib_before = vgd_guest_private_dirty_kib(s->vgd.pid);
}

void kill_keeps_after(struct kill_keeps *k, const struct scene *s)
{
    k->fds_after = vgd_guest_fd_count(s->vgd.pid);
    k->kib_after = vgd_guest_private_dirty_kib(s->vgd.pid);
}

void kill_keeps_add(const struct kill_keeps *k, uint32_t guest, uint32_t *fd_leaks,
                    int64_t *growth_kib)
{
    *fd_leaks += k->fds_before != k->fds_after;
    int64_t growth = k->kib_after - k->kib_before;
    *growth_kib = growth > *growth_kib ? growth : *growth_kib;
    tap_note("guest %u: supervisor fds %d -> %d, Private_Dirty %lld -> %lld KiB", guest,
             k->fds_before, k->fds_after, (long long)k->kib_before, (long long)k->kib_after);
}

void kill_wait(const struct kill_options *o, struct scene *s, uint32_t guest, uint32_t kill_idx)
{
    uint64_t wait_ns = o->spacing_ms * NS_PER_MS;
    if (kill_idx == 0) {
        wait_ns += wait_ns * guest / o->guests;
    }
    uint64_t until_ns = vgd_now_ns() + wait_ns;
    while (vgd_now_ns() < until_ns) {
        vgd_guest_gpu_turn(s->gpu, 20);
    }
}

uint32_t kill_guests(const struct kill_options *o, kill_guest_fn run, const void *run_user,
                     size_t report_bytes, kill_report_fn take, void *take_user)
{
    assert(report_bytes <= PIPE_BUF); /* written whole */
    int pipe_fds[2];
    if (pipe(pipe_fds) != 0) {
        return o->guests;
    }
    pid_t children[GUESTS_MAX];
    for (uint32_t g = 0; g < o->guests; g++) {
        uint32_t kills = o->kills / o->guests + (g < o->kills % o->guests ? 1 : 0);
        (void)fflush(stdout);
        children[g] = fork();
        if (children[g] == 0) {
            (void)close(pipe_fds[0]);
            _exit(run(run_user, g, kills, pipe_fds[1]));
        }
    }
    (void)close(pipe_fds[1]);
    _Alignas(8) uint8_t report[PIPE_BUF];
    while (read(pipe_fds[0], report, report_bytes) == (ssize_t)report_bytes) {
        take(take_user, report);
    }
    (void)close(pipe_fds[0]);
    uint32_t n_bad = 0;
    for (uint32_t g = 0; g < o->guests; g++) {
        int status = 0;
        bool waited = children[g] > 0 && waitpid(children[g], &status, 0) == children[g];
        n_bad += !waited || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return n_bad;
}

int kill_compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}
