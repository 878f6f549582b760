/* SPDX-License-Identifier: MIT */
/* What vgd-bench measures. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "log.h"

#define DAMAGE_PX 64u
#define DRAWS_PER_SUBMIT 100u
#define SUBMITS_IN_FLIGHT 8u
#define RES_SCREEN 1u
#define RES_TARGET 2u
#define RES_VERTICES 3u
#define CTX 1u

static struct bench_result failure(const char *why)
{
    return (struct bench_result){.failed = true, .why = why};
}

static double elapsed_us(uint64_t since_ns)
{
    return (double)(vgd_now_ns() - since_ns) / 1000.0;
}

int bench_compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Issue @req @n times, one at a time: median and p99 of the single round trips, in us. */
static struct bench_result round_trips(struct bench_subject *s, const struct vgd_guest_request *req,
                                       uint32_t n, uint32_t want)
{
    double *times = calloc(n, sizeof(*times));
    if (times == NULL) {
        return failure("out of memory");
    }
    struct bench_result result = {0};
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
    qsort(times, n, sizeof(*times), bench_compare_double);
    result.value = times[n / 2];
    result.p99 = times[n * 99 / 100];
    free(times);
    return result;
}

static bool prepare_nothing(struct bench_subject *s)
{
    (void)s;
    return true;
}

/* A command that both kinds of backend answer from their own tables. */
static struct bench_result run_control(struct bench_subject *s, uint32_t n)
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

static bool prepare_context(struct bench_subject *s)
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

static struct bench_result run_fenced_submit(struct bench_subject *s, uint32_t n)
{
    static const uint32_t nop[1] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_guest_request req = vgd_guest_submit_request(CTX, nop, 1, 1, body);
    return round_trips(s, &req, n, VGD_RESP_OK_NODATA);
}

static struct bench_result run_draws(struct bench_subject *s, uint32_t n)
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
    return (struct bench_result){.value = (double)n * DRAWS_PER_SUBMIT / us * 1e6};
}

static bool prepare_screen(struct bench_subject *s)
{
    if (s->screen_ready) {
        return true;
    }
    size_t n_pixels = (size_t)BENCH_SCREEN_W_PX * BENCH_SCREEN_H_PX;
    s->pixels = malloc(n_pixels * 4);
    if (s->pixels == NULL || !vgd_guest_backing_create(s->gpu, n_pixels * 4, 1, &s->screen)) {
        return false;
    }
    for (size_t i = 0; i < n_pixels; i++) {
        s->pixels[i] = (uint32_t)(i * 2654435761u) & 0xffffff;
    }
    vgd_guest_backing_write(s->gpu, &s->screen, 0, s->pixels, n_pixels * 4);
    struct vgd_rect whole = {.w_px = BENCH_SCREEN_W_PX, .h_px = BENCH_SCREEN_H_PX};
    s->screen_ready =
        vgd_guest_create_2d(s->gpu, RES_SCREEN, VGD_FORMAT_B8G8R8X8_UNORM, BENCH_SCREEN_W_PX,
                            BENCH_SCREEN_H_PX) == VGD_RESP_OK_NODATA &&
        vgd_guest_attach(s->gpu, RES_SCREEN, s->screen.entries, 1) == VGD_RESP_OK_NODATA &&
        vgd_guest_set_scanout(s->gpu, 0, RES_SCREEN, whole) == VGD_RESP_OK_NODATA &&
        vgd_guest_transfer_2d(s->gpu, RES_SCREEN, whole, 0) == VGD_RESP_OK_NODATA &&
        vgd_guest_flush(s->gpu, RES_SCREEN, whole) == VGD_RESP_OK_NODATA;
    return s->screen_ready;
}

/* New values for the last pixels of the rectangle, in guest RAM and in what we expect. */
static void mark(struct bench_subject *s, struct vgd_rect rect, uint32_t value)
{
    uint32_t *ram = (uint32_t *)(void *)s->screen.bytes;
    for (uint32_t x = rect.w_px - 16; x < rect.w_px; x++) {
        size_t at = (size_t)(rect.y_px + rect.h_px - 1) * BENCH_SCREEN_W_PX + rect.x_px + x;
        s->pixels[at] = ram[at] = (value * 2654435761u + x) & 0xffffff;
    }
}

/* Transfer and flush as Linux sends them: two commands, one notification. */
static bool transfer_and_flush(struct bench_subject *s, struct vgd_rect rect)
{
    uint8_t transfer_body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    uint8_t flush_body[VGD_CMD_RESOURCE_FLUSH_SIZE];
    struct vgd_writer w = vgd_writer_of(transfer_body, sizeof(transfer_body));
    struct vgd_cmd_transfer_to_host_2d transfer = {
        .rect = rect,
        .offset_bytes = ((uint64_t)rect.y_px * BENCH_SCREEN_W_PX + rect.x_px) * 4,
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
static uint64_t picture_arrives(struct bench_subject *s, struct vgd_rect last)
{
    struct vgd_guest_display *d = vgd_guest_gpu_display(s->gpu);
    struct vgd_rect whole = {.w_px = BENCH_SCREEN_W_PX, .h_px = BENCH_SCREEN_H_PX};
    uint32_t x = last.x_px + last.w_px - 1;
    uint32_t y = last.y_px + last.h_px - 1;
    uint64_t deadline_ns = vgd_now_ns() + UINT64_C(5000000000);
    while (vgd_now_ns() < deadline_ns) {
        if (((vgd_guest_display_pixel(d, 0, x, y) ^ s->pixels[(size_t)y * BENCH_SCREEN_W_PX + x]) &
             0xffffff) == 0) {
            uint64_t seen_ns = vgd_now_ns();
            if (vgd_guest_display_compare(d, 0, whole, s->pixels, BENCH_SCREEN_W_PX, 0) == 0) {
                return seen_ns;
            }
        }
        struct timespec pause = {.tv_nsec = 100000};
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

static void count_updates(const struct vgd_guest_display_counters *before,
                          const struct vgd_guest_display_counters *after, uint32_t n_flushes,
                          struct bench_result *out)
{
    uint64_t updates = after->messages[VGD_DISP_UPDATE] + after->messages[VGD_DISP_DMABUF_UPDATE] -
                       before->messages[VGD_DISP_UPDATE] - before->messages[VGD_DISP_DMABUF_UPDATE];
    out->updates = (double)updates / n_flushes;
    out->mib_per_flush = (double)(after->pixel_bytes - before->pixel_bytes) / n_flushes / (1 << 20);
}

/* The time for each pair, delivery of the last picture included. */
static struct bench_result run_flush(struct bench_subject *s, uint32_t n, uint32_t w_px,
                                     uint32_t h_px)
{
    struct vgd_guest_display *d = vgd_guest_gpu_display(s->gpu);
    if (picture_arrives(
            s, (struct vgd_rect){.w_px = BENCH_SCREEN_W_PX, .h_px = BENCH_SCREEN_H_PX}) == 0) {
        return failure("the picture is wrong before the round");
    }
    struct vgd_guest_display_counters before;
    struct vgd_guest_display_counters after;
    vgd_guest_display_counters(d, &before);
    uint64_t start_ns = vgd_now_ns();
    struct vgd_rect rect = {.w_px = w_px, .h_px = h_px};
    for (uint32_t i = 0; i < n; i++) {
        rect.x_px = w_px == BENCH_SCREEN_W_PX ? 0 : (i * 37) % (BENCH_SCREEN_W_PX - w_px);
        rect.y_px = h_px == BENCH_SCREEN_H_PX ? 0 : (i * 23) % (BENCH_SCREEN_H_PX - h_px);
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
    struct bench_result result = {.value = (double)(seen_ns - start_ns) / 1000.0 / n};
    count_updates(&before, &after, n, &result);
    return result;
}

static struct bench_result run_damage(struct bench_subject *s, uint32_t n)
{
    return run_flush(s, n, DAMAGE_PX, DAMAGE_PX);
}

static struct bench_result run_full(struct bench_subject *s, uint32_t n)
{
    return run_flush(s, n, BENCH_SCREEN_W_PX, BENCH_SCREEN_H_PX);
}

/* Each picture has to be seen before the next, and they come at 40 Hz, less than any pace that a
 * backend keeps: how old is what the user sees? */
static struct bench_result run_shown(struct bench_subject *s, uint32_t n)
{
    struct vgd_guest_display *d = vgd_guest_gpu_display(s->gpu);
    struct vgd_rect whole = {.w_px = BENCH_SCREEN_W_PX, .h_px = BENCH_SCREEN_H_PX};
    double *times = calloc(n, sizeof(*times));
    if (times == NULL || picture_arrives(s, whole) == 0) {
        free(times);
        return failure("the picture is wrong before the round");
    }
    struct vgd_guest_display_counters before;
    struct vgd_guest_display_counters after;
    vgd_guest_display_counters(d, &before);
    uint32_t x = BENCH_SCREEN_W_PX - 1;
    uint32_t y = BENCH_SCREEN_H_PX - 1;
    for (uint32_t i = 0; i < n; i++) {
        mark(s, whole, (uint32_t)++s->fence_id);
        uint32_t want = s->pixels[(size_t)y * BENCH_SCREEN_W_PX + x];
        uint64_t start_ns = vgd_now_ns();
        if (!transfer_and_flush(s, whole)) {
            free(times);
            return failure("a command failed");
        }
        while (((vgd_guest_display_pixel(d, 0, x, y) ^ want) & 0xffffff) != 0) {
            if (vgd_now_ns() - start_ns > UINT64_C(5000000000)) {
                free(times);
                return failure("a picture did not arrive");
            }
            struct timespec pause = {.tv_nsec = 20000};
            (void)nanosleep(&pause, NULL);
        }
        times[i] = elapsed_us(start_ns);
        struct timespec rest = {.tv_nsec = 25000000};
        (void)nanosleep(&rest, NULL);
    }
    bool right = picture_arrives(s, whole) != 0;
    qsort(times, n, sizeof(*times), bench_compare_double);
    struct bench_result result = {
        .value = times[n / 2],
        .p99 = times[n * 99 / 100],
    };
    vgd_guest_display_counters(d, &after);
    count_updates(&before, &after, n, &result);
    free(times);
    return right ? result : failure("the last picture did not arrive right");
}

const struct bench_line bench_lines[] = {
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
        .iterations = 20000, /* the wait for the last picture has to weigh little */
        .prepare = prepare_screen,
        .run = run_damage,
    },
    {
        .name = "flush-1080p",
        .unit = "us",
        .what = "transfer + flush of 1920x1080, arrival of the last picture included, for each "
                "pair",
        .has_pictures = true,
        .iterations = 400,
        .prepare = prepare_screen,
        .run = run_full,
    },
    {
        .name = "shown-1080p",
        .unit = "us",
        .what = "transfer + flush of 1920x1080 until its last pixel is seen, 25 ms apart, so that "
                "no picture can be left out: median",
        .has_pictures = true,
        .iterations = 40,
        .prepare = prepare_screen,
        .run = run_shown,
    },
    {
        .name = "blob-create",
        .unit = "us",
        .what = "RESOURCE_CREATE_BLOB of 64 KiB of shared memory in a Vulkan context, and UNREF",
        .needs_venus = true,
        .iterations = 1000,
        .prepare = bench_prepare_venus,
        .run = bench_run_blob,
    },
    {
        .name = "map-unmap",
        .unit = "us",
        .what = "RESOURCE_MAP_BLOB of 64 KiB, a byte written, RESOURCE_UNMAP_BLOB; the VMM's part "
                "included",
        .needs_venus = true,
        .iterations = 1000,
        .prepare = bench_prepare_venus,
        .run = bench_run_map,
    },
    {
        .name = "venus-cpu-fence",
        .unit = "us",
        .what = "empty SUBMIT_3D with a fence on ring 0 of a Vulkan context",
        .needs_venus = true,
        .iterations = 2000,
        .prepare = bench_prepare_venus,
        .run = bench_run_cpu_fence,
    },
    {
        .name = "venus-queue-fence",
        .unit = "us",
        .what = "empty SUBMIT_3D with a fence on the ring of a Vulkan queue: through the driver",
        .needs_venus = true,
        .iterations = 1000,
        .prepare = bench_prepare_venus,
        .run = bench_run_queue_fence,
    },
};
const uint32_t bench_lines_count = sizeof(bench_lines) / sizeof(bench_lines[0]);
