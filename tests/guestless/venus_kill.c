/* SPDX-License-Identifier: MIT */
/*
 * The process of a Vulkan context, the render server, or the worker is killed while contexts with
 * mapped memory live. What is asked next is answered in time; what is lost says so, what is not
 * goes on; mapped memory stays readable; everything can be let go of and made anew; the supervisor
 * keeps nothing.
 *
 *   venus_kill VGD --target=context|server|worker [--kills=N] [--guests=N] [--spacing-ms=N]
 *              [--sanitized]
 *
 * Deaths of worker and render server within 10 s of READY count towards back-off: the spacing
 * (10.5 s) keeps beyond it, and several guests are killed in turns.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kill_guests.h"
#include "log.h"
#include "venus_scene.h"

#define IN_FLIGHT 8u
#define FLIGHT_MAX_MS 2000.0
#define LOST_MAX_MS 5000u /* until the device has seen that a context is dead */

enum target {
    CONTEXT,
    SERVER,
    WORKER,
};

struct options {
    struct kill_options kill;
    enum target target;
};

/* What a guest's process reports for each kill; one write to a pipe. */
struct report {
    uint32_t guest;
    bool done;        /* the kill itself */
    double answer_ms; /* SIGKILL to the first answer after it */
    double flight_ms; /* to the last answer of what was in flight */
    double lost_ms;   /* to the first submit that is refused */
    double again_ms;  /* to a new context that works */
    uint32_t unanswered;
    uint32_t spurious;
    bool died;        /* the supervisor */
    bool kept;        /* mapped memory holds what it held */
    bool lost_right;  /* contexts that are lost say so, others go on */
    bool let_go;      /* everything of them can be let go of */
    bool works;       /* made anew, it works as before */
    bool same_others; /* processes that were not hit are the same */
    uint64_t violations;
    char why[256];           /* what failed first */
    struct kill_keeps keeps; /* of the last one */
    bool is_last;
};

static void blame(struct report *r, const char *what, const char *why)
{
    if (r->why[0] == '\0') {
        (void)snprintf(r->why, sizeof(r->why), "%s: %s", what, why);
    }
}

static uint32_t put_in_flight(struct scene *s, uint32_t ctx_id,
                              struct vgd_guest_command *cmds[IN_FLIGHT], uint64_t *fence_id)
{
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct vgd_guest_request req = vgd_guest_ring_request(
            ctx_id, (uint8_t)(i % 2 == 0 ? 0 : VGD_VENUS_QUEUE_RING), NULL, 0, ++*fence_id, body);
        cmds[i] = vgd_guest_gpu_begin(s->gpu, &req, true);
        if (cmds[i] == NULL) {
            return i;
        }
    }
    return IN_FLIGHT;
}

/* A blob of the victim that is being mapped when the process dies. */
struct flight {
    uint32_t res_id;
    uint64_t at;
    struct vgd_guest_command *map;
};

static bool begin_map(struct scene *s, const struct venus_user *victim, struct flight *f)
{
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = victim->first_res_id + 50,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .size_bytes = VENUS_BLOB_BYTES,
    };
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    *f = (struct flight){.res_id = create.resource_id};
    f->at = vgd_guest_window_alloc(s->gpu, VENUS_BLOB_BYTES);
    struct vgd_guest_request req = vgd_guest_map_request(f->res_id, f->at, body);
    if (vgd_guest_create_blob(s->gpu, victim->v.ctx_id, &create, NULL, 0) != VGD_RESP_OK_NODATA) {
        return false;
    }
    f->map = vgd_guest_gpu_begin(s->gpu, &req, true);
    return f->map != NULL;
}

/* Mapped or not, it can be let go of, and nothing stays mapped (the caller counts). */
static bool end_map(struct scene *s, struct flight *f)
{
    bool answered = vgd_guest_gpu_wait(s->gpu, f->map, (int)LOST_MAX_MS);
    bool mapped = answered && f->map->resp.type == VGD_RESP_OK_MAP_INFO;
    vgd_guest_gpu_end(s->gpu, f->map);
    bool unmapped = !mapped || vgd_guest_unmap_blob(s->gpu, f->res_id) == VGD_RESP_OK_NODATA;
    bool gone = vgd_guest_unref(s->gpu, f->res_id) == VGD_RESP_OK_NODATA;
    vgd_guest_window_free(s->gpu, f->at, VENUS_BLOB_BYTES);
    return answered && unmapped && gone;
}

/* Submits to @ctx_id become errors, and each is answered. */
static bool becomes_lost(struct scene *s, uint32_t ctx_id, uint64_t *fence_id)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)LOST_MAX_MS * 1000000;
    uint32_t got;
    do {
        got = vgd_guest_submit_ring(s->gpu, ctx_id, 0, NULL, 0, ++*fence_id);
    } while (got == VGD_RESP_OK_NODATA && vgd_now_ns() < until_ns);
    return got >= VGD_RESP_ERR_UNSPEC;
}

/* Let go of @u and make it anew. A new worker needs a moment before it takes contexts. */
static bool renew(struct scene *s, struct venus_user *u, struct report *r)
{
    uint32_t ctx_id = u->v.ctx_id;
    uint32_t first = u->first_res_id;
    if (!venus_user_close(u)) {
        blame(r, "letting go", u->v.why);
        r->let_go = false;
    }
    return venus_user_open(u, s, ctx_id, first);
}

static pid_t target_of(const struct options *o, const struct scene *s, const struct venus_user *u)
{
    switch (o->target) {
    case CONTEXT:
        return u->process;
    case SERVER:
        return venus_server(s, 0, 5000);
    default:
        return scene_worker(s, 0, 5000);
    }
}

static void one_kill(const struct options *o, struct scene *s, struct venus_user *victim,
                     struct venus_user *other, uint64_t *fence_id, struct report *r)
{
    pid_t pid = target_of(o, s, victim);
    pid_t worker = scene_worker(s, 0, 5000);
    pid_t server = venus_server(s, 0, 5000);
    if (pid <= 0) {
        blame(r, "the kill", "there is no such process");
        return;
    }
    r->let_go = r->kept = true;
    struct flight map;
    if (!begin_map(s, victim, &map)) {
        blame(r, "before the kill", "no blob to be mapped");
        return;
    }
    struct vgd_guest_command *cmds[IN_FLIGHT];
    uint32_t n = put_in_flight(s, victim->v.ctx_id, cmds, fence_id);
    struct timespec pause = {.tv_nsec = (long)(*fence_id * 7919 % 23) * 200000};
    (void)nanosleep(&pause, NULL);
    uint64_t start_ns = vgd_now_ns();
    r->done = kill(pid, SIGKILL) == 0;
    while (!process_is_gone(pid)) {
    }
    vgd_guest_gpu_turn(s->gpu, 0); /* what the dying one still answered does not count */
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_RESOURCE_UNREF, .flags = VGD_FLAG_FENCE, .fence_id = ++*fence_id},
        .body = "\x00\xff\xff\x7f\0\0\0",
        .body_bytes = VGD_CMD_RESOURCE_UNREF_SIZE,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    struct vgd_guest_command *probe = vgd_guest_gpu_begin(s->gpu, &req, true);
    r->unanswered += probe == NULL || !vgd_guest_gpu_wait(s->gpu, probe, 10000);
    r->answer_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    vgd_guest_gpu_end(s->gpu, probe);
    for (uint32_t i = 0; i < n; i++) {
        r->unanswered += !vgd_guest_gpu_wait(s->gpu, cmds[i], (int)LOST_MAX_MS);
        vgd_guest_gpu_end(s->gpu, cmds[i]);
    }
    if (!end_map(s, &map)) {
        r->let_go = false;
        blame(r, "the blob that was being mapped", "not answered, or not let go of");
    }
    r->flight_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    /* The guest's mappings are the VMM's: nothing in them changes. */
    if (!venus_user_keeps(victim) || !venus_user_keeps(other)) {
        r->kept = false;
        blame(r, "mapped memory", "it changed");
    }
    r->lost_right = becomes_lost(s, victim->v.ctx_id, fence_id);
    r->lost_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    if (!r->lost_right) {
        blame(r, "the victim", "its submits are not refused");
    }
    if (o->target == CONTEXT) {
        if (!venus_user_works(other, (uint32_t)*fence_id)) {
            r->lost_right = false;
            blame(r, "the other context", other->v.why);
        }
        r->same_others = scene_worker(s, 0, 0) == worker && venus_server(s, 0, 0) == server;
    } else {
        /* Worker and render server are one generation. */
        if (!becomes_lost(s, other->v.ctx_id, fence_id)) {
            r->lost_right = false;
            blame(r, "the other context", "its submits are not refused");
        }
        r->same_others = scene_worker(s, worker, 5000) != 0 && venus_server(s, server, 5000) != 0;
        if (!renew(s, other, r)) {
            blame(r, "the other context anew", other->v.why);
        }
    }
    if (!r->same_others) {
        blame(r, "processes", "not those that should be");
    }
    r->works = renew(s, victim, r);
    if (!r->works) {
        blame(r, "the victim anew", victim->v.why);
    }
    if (r->works && (!venus_user_works(victim, (uint32_t)*fence_id + 1) ||
                     !venus_user_works(other, (uint32_t)*fence_id + 2))) {
        r->works = false;
        blame(r, "work", victim->v.why);
    }
    r->again_ms = (double)(vgd_now_ns() - start_ns) / 1e6;
    r->spurious = vgd_guest_queue_spurious_count(vgd_guest_gpu_queue(s->gpu, 0));
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(s->gpu);
    r->violations = vgd_guest_frontend_counters(fe).violations;
    if (r->violations > 0) {
        char text[160];
        vgd_guest_frontend_violation(fe, text, sizeof(text));
        blame(r, "backend channel", text);
    }
    r->died = !vgd_guest_process_alive(&s->vgd);
}

/* One guest with its vgd, in a process of its own. */
static int run_guest(const void *user, uint32_t guest, uint32_t kills, int report_fd)
{
    const struct options *o = user;
    struct scene s;
    bool offered;
    struct venus_user victim;
    struct venus_user other;
    if (!venus_scene_open(&s, o->kill.vgd, "start", &offered)) {
        return 1;
    }
    if (!venus_user_open(&other, &s, 2, 200) || !venus_user_open(&victim, &s, 1, 100) ||
        !venus_user_works(&victim, 1) || !venus_user_works(&other, 2)) {
        (void)tap_ok(false, "start", "no Vulkan contexts: %s%s", other.v.why, victim.v.why);
        scene_drop(&s);
        return 1;
    }
    uint64_t fence_id = 1000000;
    uint32_t maps = vgd_guest_window_maps_count(s.gpu);
    struct kill_keeps keeps = {0};
    for (uint32_t i = 0; i < kills; i++) {
        struct report r = {.guest = guest, .is_last = i + 1 == kills};
        kill_wait(&o->kill, &s, guest, i);
        if (i == 0) {
            kill_keeps_before(&keeps, &s);
        }
        one_kill(o, &s, &victim, &other, &fence_id, &r);
        if (vgd_guest_window_maps_count(s.gpu) != maps) {
            r.let_go = false;
            blame(&r, "mappings", "more or fewer than before");
        }
        if (r.is_last) {
            vgd_guest_gpu_settle(s.gpu, 100);
            kill_keeps_after(&keeps, &s);
            r.keeps = keeps;
        }
        if (write(report_fd, &r, sizeof(r)) != sizeof(r)) {
            break;
        }
    }
    bool let_go = venus_user_close(&victim) && venus_user_close(&other);
    return scene_close(&s) && let_go ? 0 : 2;
}

/* What the reports of all guests add up to. */
struct sums {
    double answers[KILLS_MAX], agains[KILLS_MAX];
    double flight_max, lost_max;
    uint32_t n, unanswered, spurious, deaths, not_kept, not_lost, not_let_go, not_working, others,
        fd_leaks;
    uint64_t violations;
    int64_t growth_kib;
    char why[256];
};

static void add_up(void *user, const void *report)
{
    struct sums *sum = user;
    const struct report *r = report;
    if (!r->done || sum->n == KILLS_MAX) {
        memcpy(sum->why, r->why, sizeof(sum->why));
        return;
    }
    sum->answers[sum->n] = r->answer_ms;
    sum->agains[sum->n] = r->again_ms;
    sum->flight_max = r->flight_ms > sum->flight_max ? r->flight_ms : sum->flight_max;
    sum->lost_max = r->lost_ms > sum->lost_max ? r->lost_ms : sum->lost_max;
    sum->n++;
    sum->unanswered += r->unanswered;
    sum->spurious = r->spurious > sum->spurious ? r->spurious : sum->spurious;
    sum->deaths += r->died;
    sum->not_kept += !r->kept;
    sum->not_lost += !r->lost_right;
    sum->not_let_go += !r->let_go;
    sum->not_working += !r->works;
    sum->others += !r->same_others;
    sum->violations += r->violations;
    if (sum->why[0] == '\0') {
        memcpy(sum->why, r->why, sizeof(sum->why));
    }
    if (r->is_last) {
        kill_keeps_add(&r->keeps, r->guest, &sum->fd_leaks, &sum->growth_kib);
    }
}

static int say(const struct options *o, struct sums *sum, uint32_t bad_ends)
{
    static const char *const names[] = {"a context's process", "the render server", "the worker"};
    if (sum->why[0] != '\0') {
        tap_note("the first failure: %s", sum->why);
    }
    (void)tap_ok(sum->n == o->kill.kills, "every kill was done", "%u of %u", sum->n, o->kill.kills);
    if (sum->n == 0) {
        return tap_done();
    }
    qsort(sum->answers, sum->n, sizeof(sum->answers[0]), kill_compare_double);
    qsort(sum->agains, sum->n, sizeof(sum->agains[0]), kill_compare_double);
    double median = sum->answers[sum->n / 2];
    double worst = sum->answers[sum->n - 1];
    tap_note("%u kills of %s in %u guests; SIGKILL to first answer: median %.1f ms, max %.1f ms; "
             "to new contexts that work: median %.1f ms, max %.1f ms",
             sum->n, names[o->target], o->kill.guests, median, worst, sum->agains[sum->n / 2],
             sum->agains[sum->n - 1]);
    tap_note("what was in flight is answered after %.1f ms at most, the loss is seen after %.1f ms "
             "at most",
             sum->flight_max, sum->lost_max);
    (void)tap_ok(sum->unanswered == 0, "everything is answered", "%u are not", sum->unanswered);
    (void)tap_ok(sum->spurious == 0, "nothing is answered twice", "%u are", sum->spurious);
    if (o->kill.sanitized) {
        tap_skip("first answer in time", "sanitizers are slow");
    } else {
        (void)tap_ok(median <= ANSWER_MEDIAN_MS && worst <= ANSWER_MAX_MS, "first answer in time",
                     "median %.1f ms (at most %.0f), max %.1f ms (at most %.0f)", median,
                     ANSWER_MEDIAN_MS, worst, ANSWER_MAX_MS);
        (void)tap_ok(sum->flight_max <= FLIGHT_MAX_MS && sum->lost_max <= FLIGHT_MAX_MS,
                     "what was in flight is answered in time", "%.1f and %.1f ms (at most %.0f)",
                     sum->flight_max, sum->lost_max, FLIGHT_MAX_MS);
    }
    (void)tap_ok(sum->not_kept == 0, "mapped memory stays as it is", "not after %u kills",
                 sum->not_kept);
    (void)tap_ok(sum->not_lost == 0, "what is lost says so, what is not goes on",
                 "not after %u kills", sum->not_lost);
    (void)tap_ok(sum->others == 0, "the right processes were replaced", "not after %u kills",
                 sum->others);
    (void)tap_ok(sum->not_let_go == 0, "everything can be let go of", "not after %u kills",
                 sum->not_let_go);
    (void)tap_ok(sum->not_working == 0, "new contexts work", "not after %u kills",
                 sum->not_working);
    (void)tap_ok(sum->violations == 0, "the rules of the backend channel are kept", NULL);
    (void)tap_ok(sum->deaths == 0, "the supervisor lives", "it died %u times", sum->deaths);
    (void)tap_ok(sum->fd_leaks == 0, "the supervisor's file descriptors are as many",
                 "not in %u guests", sum->fd_leaks);
    if (o->kill.sanitized) {
        tap_skip("the supervisor's memory", "sanitizers are large");
    } else {
        (void)tap_ok(sum->growth_kib <= GROWTH_MAX_KIB, "the supervisor's memory",
                     "grew by %lld KiB", (long long)sum->growth_kib);
    }
    (void)tap_ok(bad_ends == 0, "all end with their connections", "%u do not", bad_ends);
    return tap_done();
}

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option long_options[] = {
        {"target", required_argument, NULL, 't'},
        KILL_LONG_OPTIONS,
        {NULL, 0, NULL, 0},
    };
    static const char *const targets[] = {"context", "server", "worker"};
    bool named = false;
    *o = (struct options){.kill = kill_options_default()};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option != 't') {
            if (!kill_option_take(&o->kill, option, optarg)) {
                return false;
            }
            continue;
        }
        for (uint32_t i = 0; i < 3; i++) {
            if (strcmp(optarg, targets[i]) == 0) {
                o->target = (enum target)i;
                named = true;
            }
        }
    }
    return named && kill_options_end(&o->kill, argc, argv, optind);
}

int main(int argc, char **argv)
{
    struct options o;
    if (!read_options(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: venus_kill VGD --target=context|server|worker [--kills=N] "
                              "[--guests=N] [--spacing-ms=N] [--sanitized]\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    struct scene s;
    bool offered;
    if (!venus_scene_open(&s, o.kill.vgd, "start", &offered)) {
        return tap_done();
    }
    scene_drop(&s);
    if (!offered) {
        tap_skip("everything", "this vgd offers no Vulkan here");
        return tap_done();
    }
    static struct sums sum;
    uint32_t bad_ends = kill_guests(&o.kill, run_guest, &o, sizeof(struct report), add_up, &sum);
    return say(&o, &sum, bad_ends);
}
