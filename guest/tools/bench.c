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
#include <time.h>
#include <unistd.h>

#include "fd.h"
#include "guest_gpu.h"
#include "guest_process.h"
#include "log.h"
#include "virgl_stream.h"

#define ROUNDS_MAX 101u
#define SCREEN_W_PX 1920u
#define SCREEN_H_PX 1080u
#define DAMAGE_PX 64u
#define DRAWS_PER_SUBMIT 100u
#define SUBMITS_IN_FLIGHT 8u
#define RES_SCREEN 1u
#define RES_TARGET 2u
#define RES_VERTICES 3u
#define CTX 1u

/* One of the two. */
struct subject {
    const char *exec;
    struct vgd_guest_process process;
    struct vgd_guest_gpu *gpu;
    bool screen_ready, context_ready;
    struct vgd_guest_backing screen;
    uint32_t *pixels; /* what the screen should show */
    struct vgd_virgl_stream draws;
    uint64_t fence_id;
};

/* What one round of one line found. */
struct result {
    double value;   /* in the line's unit */
    double p99;     /* of single iterations, 0: not known */
    double updates; /* display updates for each flush */
    double mib_per_flush;
    bool failed;
    const char *why;
};

struct line {
    const char *name, *unit, *what;
    bool higher_is_better;
    bool needs_3d;
    bool has_pictures;
    uint32_t iterations;
    bool (*prepare)(struct subject *s);
    struct result (*run)(struct subject *s, uint32_t iterations);
};

static struct result failure(const char *why)
{
    return (struct result){.failed = true, .why = why};
}

static double elapsed_us(uint64_t since_ns)
{
    return (double)(vgd_now_ns() - since_ns) / 1000.0;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* --- lines --- */

/* Issue @req @n times, one at a time: median and p99 of the single round trips, in us. */
static struct result round_trips(struct subject *s, const struct vgd_guest_request *req, uint32_t n,
                                 uint32_t want)
{
    double *times = calloc(n, sizeof(*times));
    if (times == NULL) {
        return failure("out of memory");
    }
    struct result result = {0};
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_guest_request now = *req;
        if (req->hdr.flags & VGD_FLAG_FENCE) {
            now.hdr.fence_id = ++s->fence_id;
        }
        uint64_t start_ns = vgd_now_ns();
        uint32_t got = vgd_guest_gpu_call(s->gpu, &now, NULL, 0);
        times[i] = elapsed_us(start_ns);
        if (got != want) {
            free(times);
            return failure(got == 0 ? "no answer" : "answered with an error");
        }
    }
    qsort(times, n, sizeof(*times), compare_double);
    result.value = times[n / 2];
    result.p99 = times[n * 99 / 100];
    free(times);
    return result;
}

static bool prepare_nothing(struct subject *s)
{
    (void)s;
    return true;
}

/* A command that both kinds of backend answer from their own tables. */
static struct result run_control(struct subject *s, uint32_t n)
{
    uint8_t body[VGD_CMD_SET_SCANOUT_SIZE] = {0};
    if (vgd_guest_gpu_has_3d(s->gpu)) {
        struct vgd_guest_request req = {
            .hdr = {.type = VGD_CMD_GET_CAPSET_INFO},
            .body = body,
            .body_bytes = VGD_CMD_GET_CAPSET_INFO_SIZE,
            .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_CAPSET_INFO_SIZE,
        };
        return round_trips(s, &req, n, VGD_RESP_OK_CAPSET_INFO);
    }
    body[16] = 5; /* scanout 5, which is off, goes off */
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_SET_SCANOUT},
        .body = body,
        .body_bytes = VGD_CMD_SET_SCANOUT_SIZE,
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    return round_trips(s, &req, n, VGD_RESP_OK_NODATA);
}

static bool prepare_context(struct subject *s)
{
    if (s->context_ready) {
        return true;
    }
    struct vgd_cmd_resource_create_3d target = {
        .resource_id = RES_TARGET,
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET,
        .width = 256,
        .height = 256,
        .depth = 1,
        .array_size = 1,
    };
    static const float vertices[3][8] = {
        {-0.9f, -0.9f, 0, 1, 1, 0, 0, 1},
        {-0.8f, -0.9f, 0, 1, 0, 1, 0, 1},
        {-0.9f, -0.8f, 0, 1, 0, 0, 1, 1},
    };
    struct vgd_cmd_resource_create_3d buffer = {
        .resource_id = RES_VERTICES,
        .target = VGD_VIRGL_TARGET_BUFFER,
        .format = VGD_VIRGL_FORMAT_R8_UNORM,
        .bind = VGD_VIRGL_BIND_VERTEX_BUFFER,
        .width = sizeof(vertices),
        .height = 1,
        .depth = 1,
        .array_size = 1,
    };
    struct vgd_virgl_stream setup = {0};
    vgd_virgl_triangle_setup(&setup, RES_TARGET, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 256, 256,
                             RES_VERTICES, true);
    vgd_virgl_inline_write(&setup, RES_VERTICES, vertices, sizeof(vertices));
    for (uint32_t i = 0; i < DRAWS_PER_SUBMIT; i++) {
        float color[4] = {(float)i / DRAWS_PER_SUBMIT, 0, 0, 0};
        vgd_virgl_set_constants(&s->draws, VGD_VIRGL_SHADER_FRAGMENT, color, 4);
        vgd_virgl_draw_triangles(&s->draws, 0, 3);
    }
    bool ok = vgd_guest_ctx_create(s->gpu, CTX, 0, "vgd-bench") == VGD_RESP_OK_NODATA &&
              vgd_guest_create_3d(s->gpu, CTX, &target) == VGD_RESP_OK_NODATA &&
              vgd_guest_create_3d(s->gpu, CTX, &buffer) == VGD_RESP_OK_NODATA &&
              vgd_guest_ctx_attach(s->gpu, CTX, RES_TARGET) == VGD_RESP_OK_NODATA &&
              vgd_guest_ctx_attach(s->gpu, CTX, RES_VERTICES) == VGD_RESP_OK_NODATA &&
              vgd_guest_submit_3d(s->gpu, CTX, setup.dwords, setup.n_dwords, ++s->fence_id) ==
                  VGD_RESP_OK_NODATA;
    vgd_virgl_stream_finish(&setup);
    s->context_ready = ok;
    return ok;
}

static struct result run_fenced_submit(struct subject *s, uint32_t n)
{
    static const uint32_t nop[1] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_guest_request req = vgd_guest_submit_request(CTX, nop, 1, 1, body);
    return round_trips(s, &req, n, VGD_RESP_OK_NODATA);
}

static struct result run_draws(struct subject *s, uint32_t n)
{
    struct vgd_guest_command *flight[SUBMITS_IN_FLIGHT] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    uint64_t start_ns = vgd_now_ns();
    bool ok = true;
    for (uint32_t i = 0; i < n + SUBMITS_IN_FLIGHT; i++) {
        struct vgd_guest_command **slot = &flight[i % SUBMITS_IN_FLIGHT];
        if (*slot != NULL) {
            ok = ok && vgd_guest_gpu_wait(s->gpu, *slot, 10000) &&
                 (*slot)->resp.type == VGD_RESP_OK_NODATA;
            vgd_guest_gpu_end(s->gpu, *slot);
            *slot = NULL;
        }
        if (i < n && ok) {
            struct vgd_guest_request req = vgd_guest_submit_request(
                CTX, s->draws.dwords, s->draws.n_dwords, ++s->fence_id, body);
            *slot = vgd_guest_gpu_begin(s->gpu, &req, true);
            ok = *slot != NULL;
        }
    }
    if (!ok) {
        return failure("a submit failed");
    }
    double us = elapsed_us(start_ns);
    return (struct result){.value = (double)n * DRAWS_PER_SUBMIT / us * 1e6};
}

static bool prepare_screen(struct subject *s)
{
    if (s->screen_ready) {
        return true;
    }
    size_t n_pixels = (size_t)SCREEN_W_PX * SCREEN_H_PX;
    s->pixels = malloc(n_pixels * 4);
    if (s->pixels == NULL || !vgd_guest_backing_create(s->gpu, n_pixels * 4, 1, &s->screen)) {
        return false;
    }
    for (size_t i = 0; i < n_pixels; i++) {
        s->pixels[i] = (uint32_t)(i * 2654435761u) & 0xffffff;
    }
    vgd_guest_backing_write(s->gpu, &s->screen, 0, s->pixels, n_pixels * 4);
    struct vgd_rect whole = {.w_px = SCREEN_W_PX, .h_px = SCREEN_H_PX};
    s->screen_ready =
        vgd_guest_create_2d(s->gpu, RES_SCREEN, VGD_FORMAT_B8G8R8X8_UNORM, SCREEN_W_PX,
                            SCREEN_H_PX) == VGD_RESP_OK_NODATA &&
        vgd_guest_attach(s->gpu, RES_SCREEN, s->screen.entries, 1) == VGD_RESP_OK_NODATA &&
        vgd_guest_set_scanout(s->gpu, 0, RES_SCREEN, whole) == VGD_RESP_OK_NODATA &&
        vgd_guest_transfer_2d(s->gpu, RES_SCREEN, whole, 0) == VGD_RESP_OK_NODATA &&
        vgd_guest_flush(s->gpu, RES_SCREEN, whole) == VGD_RESP_OK_NODATA;
    return s->screen_ready;
}

/* New values for the last pixels of the rectangle, in guest RAM and in what we expect. */
static void mark(struct subject *s, struct vgd_rect rect, uint32_t value)
{
    uint32_t *ram = (uint32_t *)(void *)s->screen.bytes;
    for (uint32_t x = rect.w_px - 16; x < rect.w_px; x++) {
        size_t at = (size_t)(rect.y_px + rect.h_px - 1) * SCREEN_W_PX + rect.x_px + x;
        s->pixels[at] = ram[at] = (value * 2654435761u + x) & 0xffffff;
    }
}

/* Transfer and flush as Linux sends them: two commands, one notification. */
static bool transfer_and_flush(struct subject *s, struct vgd_rect rect)
{
    uint8_t transfer_body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    uint8_t flush_body[VGD_CMD_RESOURCE_FLUSH_SIZE];
    struct vgd_writer w = vgd_writer_of(transfer_body, sizeof(transfer_body));
    struct vgd_cmd_transfer_to_host_2d transfer = {
        .rect = rect,
        .offset_bytes = ((uint64_t)rect.y_px * SCREEN_W_PX + rect.x_px) * 4,
        .resource_id = RES_SCREEN,
    };
    vgd_cmd_transfer_to_host_2d_encode(&w, &transfer);
    w = vgd_writer_of(flush_body, sizeof(flush_body));
    struct vgd_cmd_resource_flush flush = {.rect = rect, .resource_id = RES_SCREEN};
    vgd_cmd_resource_flush_encode(&w, &flush);
    struct vgd_guest_request first = {
        .hdr = {.type = VGD_CMD_TRANSFER_TO_HOST_2D},
        .body = transfer_body,
        .body_bytes = sizeof(transfer_body),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    struct vgd_guest_request second = {
        .hdr = {.type = VGD_CMD_RESOURCE_FLUSH},
        .body = flush_body,
        .body_bytes = sizeof(flush_body),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    struct vgd_guest_command *a = vgd_guest_gpu_begin(s->gpu, &first, false);
    struct vgd_guest_command *b = vgd_guest_gpu_begin(s->gpu, &second, true);
    bool ok = a != NULL && b != NULL && vgd_guest_gpu_wait(s->gpu, b, 10000) &&
              vgd_guest_gpu_wait(s->gpu, a, 10000) && a->resp.type == VGD_RESP_OK_NODATA &&
              b->resp.type == VGD_RESP_OK_NODATA;
    vgd_guest_gpu_end(s->gpu, a);
    vgd_guest_gpu_end(s->gpu, b);
    return ok;
}

/* Wait for the picture; the time at which its last pixel was seen, 0: it never came. */
static uint64_t picture_arrives(struct subject *s, struct vgd_rect last)
{
    struct vgd_guest_display *d = vgd_guest_gpu_display(s->gpu);
    struct vgd_rect whole = {.w_px = SCREEN_W_PX, .h_px = SCREEN_H_PX};
    uint32_t x = last.x_px + last.w_px - 1;
    uint32_t y = last.y_px + last.h_px - 1;
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(5000000000);
    while (vgd_now_ns() < deadline_ns) {
        if (((vgd_guest_display_pixel(d, 0, x, y) ^ s->pixels[(size_t)y * SCREEN_W_PX + x]) &
             0xffffff) == 0) {
            uint64_t seen_ns = vgd_now_ns();
            if (vgd_guest_display_compare(d, 0, whole, s->pixels, SCREEN_W_PX, 0) == 0) {
                return seen_ns;
            }
        }
        struct timespec pause = {.tv_nsec = 100000};
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

/* The time for each pair, delivery of the last picture included. */
static struct result run_flush(struct subject *s, uint32_t n, uint32_t w_px, uint32_t h_px)
{
    struct vgd_guest_display *d = vgd_guest_gpu_display(s->gpu);
    if (picture_arrives(s, (struct vgd_rect){.w_px = SCREEN_W_PX, .h_px = SCREEN_H_PX}) == 0) {
        return failure("the picture is wrong before the round");
    }
    struct vgd_guest_display_counters before;
    struct vgd_guest_display_counters after;
    vgd_guest_display_counters(d, &before);
    uint64_t start_ns = vgd_now_ns();
    struct vgd_rect rect = {.w_px = w_px, .h_px = h_px};
    for (uint32_t i = 0; i < n; i++) {
        rect.x_px = w_px == SCREEN_W_PX ? 0 : (i * 37) % (SCREEN_W_PX - w_px);
        rect.y_px = h_px == SCREEN_H_PX ? 0 : (i * 23) % (SCREEN_H_PX - h_px);
        mark(s, rect, (uint32_t)++s->fence_id);
        if (!transfer_and_flush(s, rect)) {
            return failure("a command failed");
        }
    }
    uint64_t seen_ns = picture_arrives(s, rect);
    if (seen_ns == 0) {
        return failure("the last picture did not arrive right");
    }
    vgd_guest_display_counters(d, &after);
    uint64_t updates = after.messages[VGD_DISP_UPDATE] + after.messages[VGD_DISP_DMABUF_UPDATE] -
                       before.messages[VGD_DISP_UPDATE] - before.messages[VGD_DISP_DMABUF_UPDATE];
    return (struct result){
        .value = (double)(seen_ns - start_ns) / 1000.0 / n,
        .updates = (double)updates / n,
        .mib_per_flush = (double)(after.pixel_bytes - before.pixel_bytes) / n / (1 << 20),
    };
}

static struct result run_damage(struct subject *s, uint32_t n)
{
    return run_flush(s, n, DAMAGE_PX, DAMAGE_PX);
}

static struct result run_full(struct subject *s, uint32_t n)
{
    return run_flush(s, n, SCREEN_W_PX, SCREEN_H_PX);
}

static const struct line lines[] = {
    {
        .name = "control",
        .unit = "us",
        .what = "median round trip of a command answered locally: GET_CAPSET_INFO with 3D, else "
                "SET_SCANOUT off of a scanout that is off",
        .iterations = 4000,
        .prepare = prepare_nothing,
        .run = run_control,
    },
    {
        .name = "fenced-submit",
        .unit = "us",
        .what = "median round trip of a fenced SUBMIT_3D of one NOP",
        .needs_3d = true,
        .iterations = 2000,
        .prepare = prepare_context,
        .run = run_fenced_submit,
    },
    {
        .name = "draws",
        .unit = "draws/s",
        .what = "small triangles with new constants each, 100 in a SUBMIT_3D, 8 in flight",
        .higher_is_better = true,
        .needs_3d = true,
        .iterations = 200,
        .prepare = prepare_context,
        .run = run_draws,
    },
    {
        .name = "damage-64x64",
        .unit = "us",
        .what = "transfer + flush of 64x64, arrival of the last picture included, for each pair",
        .has_pictures = true,
        .iterations = 1000,
        .prepare = prepare_screen,
        .run = run_damage,
    },
    {
        .name = "flush-1080p",
        .unit = "us",
        .what = "transfer + flush of 1920x1080, arrival of the last picture included, for each "
                "pair",
        .has_pictures = true,
        .iterations = 40,
        .prepare = prepare_screen,
        .run = run_full,
    },
};
#define LINES_COUNT (sizeof(lines) / sizeof(lines[0]))

/* --- running --- */

struct options {
    enum vgd_guest_profile profile;
    uint32_t rounds;
    uint32_t scale_percent;
    const char *only;
    int log_fd;
};

static bool subject_open(struct subject *s, const struct options *options)
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
        .w_px = SCREEN_W_PX,
        .h_px = SCREEN_H_PX,
        .display_thread = true,
    };
    enum vgd_status st;
    s->gpu = vgd_guest_gpu_open(&fd, &config, &st);
    return s->gpu != NULL;
}

static void subject_close(struct subject *s)
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
    s->screen_ready = s->context_ready = false;
}

struct summary {
    uint32_t n;
    double rounds[ROUNDS_MAX];
    double median, min, max, p99, updates, mib_per_flush;
    const char *why; /* failed; NULL: it did not */
};

static void one_round(struct subject *s, const struct line *line, const struct options *options,
                      bool counts, struct summary *sum)
{
    if (sum->why != NULL) {
        return;
    }
    if (!subject_open(s, options)) {
        sum->why = "the backend does not start";
        return;
    }
    if (line->needs_3d && !vgd_guest_gpu_has_3d(s->gpu)) {
        sum->why = "no 3D offered";
        return;
    }
    uint32_t n = line->iterations * options->scale_percent / 100;
    struct result result = failure("preparation failed");
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
    qsort(sorted, sum->n, sizeof(sorted[0]), compare_double);
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

static void print_summary(const char *key, const struct line *line, const struct summary *sum)
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
    "                 [--profile=qemu-11.1|qemu-10.0]\n"
    "Prints JSON on standard output, a table on standard error. A ratio above 1 says that the\n"
    "first backend is better. Exit status 1 when a line failed that was wanted.\n"
    "Lines: control fenced-submit draws damage-64x64 flush-1080p\n";

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

static int run_all(struct subject subjects[2], uint32_t n_subjects, const struct options *options)
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
    (void)fprintf(stderr, "%-14s %-8s %28s %28s %7s\n", "line", "unit", "first: median (min..max)",
                  "second", "ratio");
    for (size_t l = 0; l < LINES_COUNT; l++) {
        const struct line *line = &lines[l];
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
                bool excused = line->needs_3d && options->only == NULL &&
                               strcmp(sums[i].why, "no 3D offered") == 0;
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
        (void)fprintf(stderr, "%-14s %-8s %28s %28s %7.2f\n", line->name, line->unit, cells[0],
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
    struct subject subjects[2] = {{.process.socket = -1}, {.process.socket = -1}};
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
            options.profile =
                strcmp(optarg, "qemu-10.0") == 0 ? VGD_GUEST_QEMU_10_0 : VGD_GUEST_QEMU_11_1;
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
