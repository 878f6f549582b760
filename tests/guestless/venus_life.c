/* SPDX-License-Identifier: MIT */
/*
 * vgd's processes with Vulkan, from start to end: what they hold after a thousand cycles of
 * create, map, write, read, unmap and destroy; pauses, reboots and a new display with mapped
 * memory; idle; every way to end.
 *
 *   venus_life VGD [--sanitized] [--cycles=N]
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "venus_scene.h"

#define GROWTH_MAX_KIB 2048
#define WARM_CYCLES 100u
#define LIVE_MAPS 20u
#define IDLE_SECONDS 4u
#define IDLE_MAX_PERCENT 0.5

struct options {
    const char *vgd;
    bool sanitized;
    uint32_t cycles;
};

/* Open @s with Vulkan, or say why not. */
static bool open_scene(struct scene *s, const struct options *o, const char *name)
{
    bool offered;
    if (!venus_scene_open(s, o->vgd, name, &offered)) {
        return false;
    }
    if (!offered) {
        (void)tap_ok(false, name, "Vulkan is not offered");
        scene_drop(s);
    }
    return offered;
}

/* No request on the backend channel broke a rule. */
static void check_rules(struct scene *s, const char *name)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(s->gpu);
    char text[160];
    vgd_guest_frontend_violation(fe, text, sizeof(text));
    (void)tap_ok(vgd_guest_frontend_counters(fe).violations == 0, name, "the last: %s", text);
}

/* One cycle; every other one with memory of the Vulkan device. */
static bool cycle(struct vgd_venus *v, uint32_t res_id, bool device_memory, uint32_t seed)
{
    uint64_t memory = 0;
    if (device_memory) {
        memory = vgd_venus_allocate(v, VENUS_BLOB_BYTES);
        if (memory == 0) {
            return false;
        }
    }
    struct vgd_venus_blob blob;
    if (!vgd_venus_blob_create(v, res_id, memory, VENUS_BLOB_BYTES, &blob)) {
        return false;
    }
    bool right = true;
    if (device_memory && seed % 20 == 1) {
        right = vgd_venus_fill(v, memory, VENUS_BLOB_BYTES, seed);
        uint32_t read_back;
        memcpy(&read_back, blob.bytes + VENUS_BLOB_BYTES - 4, 4);
        right = right && read_back == seed;
    }
    memset(blob.bytes, (int)(seed & 0xff), VENUS_BLOB_BYTES);
    int fd;
    uint64_t offset;
    uint64_t len;
    uint8_t byte = 0;
    right = right && vgd_guest_window_file(v->gpu, blob.offset_bytes, &fd, &offset, &len) &&
            pread(fd, &byte, 1, (off_t)(offset + VENUS_BLOB_BYTES - 1)) == 1 &&
            byte == (seed & 0xff);
    right = vgd_venus_blob_destroy(v, &blob) && right;
    return (memory == 0 || vgd_venus_free(v, memory)) && right;
}

/* Compare what each process held before and holds now. */
static void compare(const struct options *o, const struct venus_process *before, uint32_t n_before,
                    const struct venus_process *after, uint32_t n_after, uint32_t cycles)
{
    bool fds = n_before == n_after;
    bool mappings = fds;
    int64_t growth = 0;
    for (uint32_t i = 0; i < n_before; i++) {
        const struct venus_process *a = &before[i];
        const struct venus_process *b = NULL;
        for (uint32_t j = 0; j < n_after; j++) {
            b = after[j].pid == a->pid ? &after[j] : b;
        }
        if (b == NULL) {
            tap_note("%s (%d) is gone", a->name, (int)a->pid);
            fds = mappings = false;
            continue;
        }
        tap_note("%s: fds %d -> %d, mappings %d -> %d, Private_Dirty %lld -> %lld KiB", a->name,
                 a->fds, b->fds, a->mappings, b->mappings, (long long)a->dirty_kib,
                 (long long)b->dirty_kib);
        fds = fds && a->fds == b->fds && a->fds >= 0;
        mappings = mappings && a->mappings == b->mappings && a->mappings >= 0;
        growth = b->dirty_kib - a->dirty_kib > growth ? b->dirty_kib - a->dirty_kib : growth;
    }
    char name[96];
    (void)snprintf(name, sizeof(name), "%u cycles: file descriptors of every process", cycles);
    (void)tap_ok(fds, name, "%u processes before, %u after", n_before, n_after);
    (void)snprintf(name, sizeof(name), "%u cycles: mappings of every process", cycles);
    (void)tap_ok(mappings, name, NULL);
    (void)snprintf(name, sizeof(name), "%u cycles: memory of every process", cycles);
    if (o->sanitized) {
        tap_skip(name, "sanitizers keep freed memory");
    } else {
        (void)tap_ok(growth <= GROWTH_MAX_KIB, name, "one grew by %lld KiB", (long long)growth);
    }
}

static void cycles(const struct options *o)
{
    struct scene s;
    if (!open_scene(&s, o, "cycles")) {
        return;
    }
    struct vgd_venus v;
    struct venus_process before[VENUS_PROCESSES_MAX];
    struct venus_process after[VENUS_PROCESSES_MAX];
    uint32_t n_before = 0;
    bool right = vgd_venus_open(&v, s.gpu, 1, 1) && vgd_venus_device(&v);
    uint32_t maps = vgd_guest_window_maps_count(s.gpu);
    uint64_t start_ns = 0;
    for (uint32_t i = 0; i < WARM_CYCLES + o->cycles && right; i++) {
        if (i == WARM_CYCLES) {
            vgd_guest_gpu_settle(s.gpu, 100);
            n_before = venus_processes(&s, before);
            start_ns = vgd_now_ns();
        }
        right = cycle(&v, 100 + i % 3, i % 2 == 1, i);
    }
    (void)tap_ok(right, "create, map, write, read, unmap, destroy", "%s", v.why);
    tap_note("%.0f us a cycle", (double)(vgd_now_ns() - start_ns) / 1000.0 / o->cycles);
    vgd_guest_gpu_settle(s.gpu, 100);
    uint32_t n_after = venus_processes(&s, after);
    if (right) {
        compare(o, before, n_before, after, n_after, o->cycles);
    }
    (void)tap_ok(vgd_guest_window_maps_count(s.gpu) == maps, "nothing is left mapped", NULL);
    /* The same for whole contexts: their processes have to go, too. */
    right = vgd_venus_close(&v);
    vgd_guest_gpu_settle(s.gpu, 200);
    n_before = venus_processes(&s, before);
    for (uint32_t i = 0; i < 50 && right; i++) {
        right = vgd_venus_open(&v, s.gpu, 1, 1) && vgd_venus_close(&v);
    }
    (void)tap_ok(right, "contexts that come and go", "%s", v.why);
    vgd_guest_gpu_settle(s.gpu, 300);
    n_after = venus_processes(&s, after);
    compare(o, before, n_before, after, n_after, 50);
    check_rules(&s, "cycles keep the rules of the backend channel");
    (void)tap_ok(scene_close(&s), "it ends after cycles", NULL);
}

/* What a guest gets wrong with blobs, once each; everything has to be an error. */
static uint32_t wrong_commands(struct scene *s, uint32_t mapped_id, uint64_t mapped_at)
{
    uint32_t n = 0;
    uint64_t window = vgd_guest_window_bytes(s->gpu);
    struct vgd_cmd_resource_create_blob bad = {
        .resource_id = 900,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .blob_id = 0xdeadbeef,
        .size_bytes = VENUS_BLOB_BYTES,
    };
    n += vgd_guest_create_blob(s->gpu, 1, &bad, NULL, 0) >= VGD_RESP_ERR_UNSPEC;
    bad.blob_id = 0;
    bad.size_bytes = VENUS_BLOB_BYTES + 1;
    n += vgd_guest_create_blob(s->gpu, 1, &bad, NULL, 0) >= VGD_RESP_ERR_UNSPEC;
    bad.size_bytes = UINT64_C(1) << 62;
    n += vgd_guest_create_blob(s->gpu, 1, &bad, NULL, 0) >= VGD_RESP_ERR_UNSPEC;
    bad.size_bytes = VENUS_BLOB_BYTES;
    n += vgd_guest_create_blob(s->gpu, 99, &bad, NULL, 0) >= VGD_RESP_ERR_UNSPEC;
    bad.resource_id = mapped_id;
    n += vgd_guest_create_blob(s->gpu, 1, &bad, NULL, 0) >= VGD_RESP_ERR_UNSPEC;
    bad.resource_id = 901;
    n += vgd_guest_create_blob(s->gpu, 1, &bad, NULL, 0) == VGD_RESP_OK_NODATA;
    n += vgd_guest_map_blob(s->gpu, 901, window, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_map_blob(s->gpu, 901, UINT64_MAX - 4095, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_map_blob(s->gpu, 901, mapped_at + 4096, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_map_blob(s->gpu, 901, mapped_at + 1, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_map_blob(s->gpu, mapped_id, window / 2, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_unmap_blob(s->gpu, 901) >= VGD_RESP_ERR_UNSPEC;
    vgd_guest_frontend_trouble(
        vgd_guest_gpu_frontend(s->gpu),
        &(struct vgd_guest_trouble){.answer = VGD_GUEST_ANSWER_REFUSE, .n_maps = 1});
    n += vgd_guest_map_blob(s->gpu, 901, window / 2, NULL) >= VGD_RESP_ERR_UNSPEC;
    n += vgd_guest_unref(s->gpu, 901) == VGD_RESP_OK_NODATA;
    return n;
}
#define WRONG_COMMANDS 14u

static void nothing_leaks(const struct options *o)
{
    struct scene s;
    if (!open_scene(&s, o, "wrong commands")) {
        return;
    }
    struct vgd_venus v;
    struct vgd_venus_blob blob;
    struct venus_process before[VENUS_PROCESSES_MAX];
    struct venus_process after[VENUS_PROCESSES_MAX];
    uint32_t n_before = 0;
    bool right = vgd_venus_open(&v, s.gpu, 1, 1) && vgd_venus_device(&v) &&
                 vgd_venus_blob_create(&v, 2, 0, VENUS_BLOB_BYTES, &blob);
    uint32_t maps = right ? vgd_guest_window_maps_count(s.gpu) : 0;
    for (uint32_t i = 0; i < 220 && right; i++) {
        if (i == 20) {
            vgd_guest_gpu_settle(s.gpu, 100);
            n_before = venus_processes(&s, before);
        }
        right = wrong_commands(&s, blob.res_id, blob.offset_bytes) == WRONG_COMMANDS;
    }
    (void)tap_ok(right, "every wrong command is an error", "%s", v.why);
    (void)tap_ok(vgd_guest_window_maps_count(s.gpu) == maps, "no wrong command maps anything",
                 "%u mappings, %u before", vgd_guest_window_maps_count(s.gpu), maps);
    vgd_guest_gpu_settle(s.gpu, 100);
    uint32_t n_after = venus_processes(&s, after);
    compare(o, before, n_before, after, n_after, 200);
    (void)tap_ok(right && vgd_venus_blob_destroy(&v, &blob) && vgd_venus_close(&v),
                 "what is right works after wrong commands", "%s", v.why);
    check_rules(&s, "wrong commands do not reach the VMM");
    (void)tap_ok(scene_close(&s), "it ends after wrong commands", NULL);
}

static void pauses(const struct options *o)
{
    struct scene s;
    if (!open_scene(&s, o, "pauses")) {
        return;
    }
    struct vgd_venus v;
    struct vgd_venus_blob blobs[LIVE_MAPS];
    bool right = scene_draw(&s) && vgd_venus_open(&v, s.gpu, 1, 100);
    for (uint32_t i = 0; i < LIVE_MAPS && right; i++) {
        right = vgd_venus_blob_create(&v, 101 + i, 0, VENUS_BLOB_BYTES, &blobs[i]);
        if (right) {
            memset(blobs[i].bytes, (int)i + 1, VENUS_BLOB_BYTES);
        }
    }
    double longest_ms = 0;
    for (uint32_t round = 0; round < 10 && right; round++) {
        uint64_t start_ns = vgd_now_ns();
        right = vgd_guest_gpu_pause(s.gpu) == VGD_OK;
        double ms = (double)(vgd_now_ns() - start_ns) / 1e6;
        longest_ms = ms > longest_ms ? ms : longest_ms;
        right = right && vgd_guest_gpu_resume(s.gpu) == VGD_OK;
        for (uint32_t i = 0; i < LIVE_MAPS && right; i++) {
            right = blobs[i].bytes[VENUS_BLOB_BYTES - 1] == i + 1;
        }
        right =
            right && vgd_guest_submit_ring(s.gpu, 1, 0, NULL, 0, 500 + round) == VGD_RESP_OK_NODATA;
    }
    (void)tap_ok(right, "pause and resume with 20 live mappings", NULL);
    tap_note("the longest pause took %.1f ms", longest_ms);
    vgd_guest_display_scribble(vgd_guest_gpu_display(s.gpu));
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    (void)tap_ok(vgd_guest_flush(s.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
                     scene_is_shown(&s, 5000),
                 "the picture after pauses", NULL);
    right = vgd_guest_frontend_new_display(vgd_guest_gpu_frontend(s.gpu)) == VGD_OK;
    (void)tap_ok(right && scene_is_shown(&s, 5000) && scene_cursor_is_shown(&s, 5000),
                 "a second display socket while memory is mapped", NULL);
    for (uint32_t i = 0; i < LIVE_MAPS && right; i++) {
        right = vgd_venus_blob_destroy(&v, &blobs[i]);
    }
    (void)tap_ok(right && vgd_venus_close(&v), "everything is let go of after pauses", "%s", v.why);
    check_rules(&s, "pauses keep the rules of the backend channel");
    (void)tap_ok(scene_close(&s), "it ends after pauses", NULL);
}

static void reboots(const struct options *o)
{
    struct scene s;
    if (!open_scene(&s, o, "reboots")) {
        return;
    }
    struct venus_process before = {0};
    struct venus_process after = {0};
    uint32_t n_processes[11] = {0};
    bool right = true;
    struct venus_user u;
    for (uint32_t i = 1; i <= 10 && right; i++) {
        right = venus_user_open(&u, &s, 1, 10) && venus_user_works(&u, i);
        struct venus_process now[VENUS_PROCESSES_MAX];
        n_processes[i] = venus_processes(&s, now);
        before = i == 2 ? now[0] : before;
        after = now[0];
        right = right && vgd_guest_gpu_reset(s.gpu) == VGD_OK;
        right = right && vgd_guest_window_maps_count(s.gpu) == 0;
    }
    (void)tap_ok(right, "10 reboots with mapped memory", "%s", u.v.why);
    (void)tap_ok(n_processes[2] == n_processes[10] && n_processes[2] >= 4,
                 "as many processes after 10 reboots as after 2", "%u and %u", n_processes[2],
                 n_processes[10]);
    (void)tap_ok(before.fds == after.fds, "the supervisor's descriptors after 10 reboots",
                 "%d and %d", before.fds, after.fds);
    if (o->sanitized) {
        tap_skip("the supervisor's memory after 10 reboots", "sanitizers keep freed memory");
    } else {
        (void)tap_ok(after.dirty_kib - before.dirty_kib <= GROWTH_MAX_KIB,
                     "the supervisor's memory after 10 reboots", "%lld and %lld KiB",
                     (long long)before.dirty_kib, (long long)after.dirty_kib);
    }
    check_rules(&s, "reboots keep the rules of the backend channel");
    (void)tap_ok(scene_close(&s), "it ends after reboots", NULL);
}

/* CPU time of all its processes in ticks. */
static long cpu_ticks(const struct scene *s)
{
    pid_t pids[VENUS_PROCESSES_MAX];
    pids[0] = s->vgd.pid;
    uint32_t n = 1 + vgd_guest_descendants(s->vgd.pid, pids + 1, VENUS_PROCESSES_MAX - 1);
    long sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += process_ticks(pids[i]);
    }
    return sum;
}

/* Wait until none of @pids is there. */
static bool are_gone(const pid_t *pids, uint32_t n, int timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    for (uint32_t i = 0; i < n; i++) {
        while (!process_is_gone(pids[i])) {
            if (vgd_now_ns() >= until_ns) {
                return false;
            }
            sleep_ms(2);
        }
    }
    return true;
}

static void idle_and_ends(const struct options *o)
{
    static const struct {
        const char *name;
        int signal; /* to the supervisor; 0: the connection closes */
    } ends[] = {
        {"every process ends with the connection", 0},
        {"every process ends with SIGTERM", SIGTERM},
        {"every process ends with a supervisor that is killed", SIGKILL},
    };
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct scene s;
        if (!open_scene(&s, o, ends[i].name)) {
            return;
        }
        struct venus_user u;
        bool right = venus_user_open(&u, &s, 1, 10) && venus_user_works(&u, 1);
        pid_t pids[VENUS_PROCESSES_MAX];
        uint32_t n = vgd_guest_descendants(s.vgd.pid, pids, VENUS_PROCESSES_MAX);
        if (i == 0) {
            (void)tap_ok(right && n >= 3, "worker, render server and a context's process",
                         "%u processes; %s", n, u.v.why);
            vgd_guest_gpu_settle(s.gpu, 200);
            long before = cpu_ticks(&s);
            sleep_ms(IDLE_SECONDS * 1000);
            double percent = (double)(cpu_ticks(&s) - before) * 100.0 /
                             (double)sysconf(_SC_CLK_TCK) / IDLE_SECONDS;
            (void)tap_ok(percent < IDLE_MAX_PERCENT, "idle with a Vulkan context",
                         "%.2f %% of a core", percent);
        }
        if (ends[i].signal != 0) {
            (void)kill(s.vgd.pid, ends[i].signal);
        } else {
            vgd_guest_gpu_close(s.gpu);
            s.gpu = NULL;
        }
        bool ended = vgd_guest_process_wait(&s.vgd, 5000);
        (void)tap_ok(ended && are_gone(pids, n, 3000), ends[i].name, "%u processes", n);
        scene_drop(&s);
    }
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"sanitized", no_argument, NULL, 's'},
        {"cycles", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.cycles = 1000};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 's') {
            o.sanitized = true;
        } else if (option == 'c') {
            o.cycles = (uint32_t)strtoul(optarg, NULL, 10);
        } else {
            return 2;
        }
    }
    if (optind + 1 != argc || o.cycles == 0) {
        (void)fprintf(stderr, "usage: venus_life VGD [--sanitized] [--cycles=N]\n");
        return 2;
    }
    o.vgd = argv[optind];
    (void)signal(SIGPIPE, SIG_IGN);
    struct scene s;
    bool offered;
    if (!venus_scene_open(&s, o.vgd, "start", &offered)) {
        return tap_done();
    }
    scene_drop(&s);
    if (!offered) {
        tap_skip("everything", "this vgd offers no Vulkan here");
        return tap_done();
    }
    cycles(&o);
    nothing_leaks(&o);
    pauses(&o);
    reboots(&o);
    idle_and_ends(&o);
    return tap_done();
}
