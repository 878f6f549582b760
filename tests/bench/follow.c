/* SPDX-License-Identifier: MIT */
/*
 * What it costs to follow the streams of small draws on their way to the renderer.
 *
 *   bench-follow [PAIRS]
 *
 * The device over the real renderer, in one process. In pairs, turn about: the same stream given to
 * the renderer directly, and as a SUBMIT_3D to the device, which follows it. Each is waited for (a
 * pixel is read back). And following alone. Prints ns a draw, and what following adds in percent.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bytes.h"
#include "display.h"
#include "gpu.h"
#include "log.h"
#include "loop.h"
#include "virgl.h"
#include "virgl_state.h"
#include "virgl_stream.h"

#define DRAWS 1000u
#define PAIRS 101u
#define PAIRS_MAX 10001u
#define CTX 1u
#define TARGET 1u
#define VERTICES 2u
#define SIDE_PX 256u

static struct vgd_render *render;
static struct vgd_gpu *gpu;
static uint32_t resp_type;
static struct vgd_display display;

static void complete(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    (void)user, (void)req, (void)n_bytes;
    memcpy(&resp_type, resp, sizeof(resp_type));
}

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    (void)user, (void)addr, (void)len_bytes, (void)iov, (void)n_iov, (void)max;
    return VGD_RANGE;
}

static void cancel(struct vgd_display *d)
{
    (void)d;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "bench-follow: %s\n", what);
    exit(1);
}

struct cmd {
    _Alignas(8) uint8_t bytes[1u << 20];
    size_t n_bytes;
};

static void execute(const struct cmd *c)
{
    struct vgd_gpu_request req = {
        .cmd = c->bytes, .cmd_bytes = c->n_bytes, .resp_capacity_bytes = 256};
    vgd_gpu_execute(gpu, &req);
    if (resp_type != VGD_RESP_OK_NODATA) {
        die("a command was refused");
    }
}

static struct vgd_writer begin(struct cmd *c, uint32_t type)
{
    struct vgd_writer w = vgd_writer_of(c->bytes, sizeof(c->bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = type, .ctx_id = CTX});
    return w;
}

static void end(struct cmd *c, const struct vgd_writer *w)
{
    if (w->status != VGD_OK) {
        die("a command is too long");
    }
    c->n_bytes = vgd_writer_used(w);
}

static void submit_of(struct cmd *c, const struct vgd_virgl_stream *s)
{
    struct vgd_writer w = begin(c, VGD_CMD_SUBMIT_3D);
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = s->n_dwords * 4});
    vgd_write_bytes(&w, s->dwords, (size_t)s->n_dwords * 4);
    end(c, &w);
}

static void resource(uint32_t id, uint32_t target, uint32_t format, uint32_t bind, uint32_t w_px,
                     uint32_t h_px)
{
    static struct cmd c;
    struct vgd_writer w = begin(&c, VGD_CMD_RESOURCE_CREATE_3D);
    vgd_cmd_resource_create_3d_encode(&w, &(struct vgd_cmd_resource_create_3d){.resource_id = id,
                                                                               .target = target,
                                                                               .format = format,
                                                                               .bind = bind,
                                                                               .width = w_px,
                                                                               .height = h_px,
                                                                               .depth = 1,
                                                                               .array_size = 1});
    end(&c, &w);
    execute(&c);
    w = begin(&c, VGD_CMD_CTX_ATTACH_RESOURCE);
    vgd_cmd_ctx_resource_encode(&w, &(struct vgd_cmd_ctx_resource){.resource_id = id});
    end(&c, &w);
    execute(&c);
}

static const float vertices[3][8] = {
    {-0.9f, -0.9f, 0, 1, 1, 0, 0, 1},
    {-0.8f, -0.9f, 0, 1, 0, 1, 0, 1},
    {-0.9f, -0.8f, 0, 1, 0, 0, 1, 1},
};

static void set_up(struct vgd_virgl_stream *setup)
{
    static struct cmd c;
    struct vgd_writer w = begin(&c, VGD_CMD_CTX_CREATE);
    vgd_cmd_ctx_create_encode(&w, &(struct vgd_cmd_ctx_create){.name_len_bytes = 0});
    end(&c, &w);
    execute(&c);
    resource(TARGET, VGD_VIRGL_TARGET_TEXTURE_2D, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
             VGD_VIRGL_BIND_RENDER_TARGET, SIDE_PX, SIDE_PX);
    resource(VERTICES, VGD_VIRGL_TARGET_BUFFER, VGD_VIRGL_FORMAT_R8_UNORM,
             VGD_VIRGL_BIND_VERTEX_BUFFER, sizeof(vertices), 1);
    vgd_virgl_triangle_setup(setup, TARGET, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, SIDE_PX, SIDE_PX,
                             VERTICES, true);
    vgd_virgl_inline_write(setup, VERTICES, vertices, sizeof(vertices));
    submit_of(&c, setup);
    execute(&c);
}

/* Two commands a draw; or six, as of a program that changes something each time. */
static void make_draws(struct vgd_virgl_stream *s, bool many)
{
    for (uint32_t i = 0; i < DRAWS; i++) {
        float color[16] = {(float)i / DRAWS};
        vgd_virgl_set_constants(s, VGD_VIRGL_SHADER_FRAGMENT, color, 4);
        if (many) {
            vgd_virgl_set_constants(s, VGD_VIRGL_SHADER_VERTEX, color, 16);
            vgd_virgl_set_vertex_buffer(s, VERTICES, 32);
            vgd_virgl_bind_object(s, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, 7);
            vgd_virgl_bind_shader(s, 5, VGD_VIRGL_SHADER_VERTEX);
        }
        vgd_virgl_draw_triangles(s, 0, 3);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void wait_for_it(void)
{
    uint8_t pixel[4];
    struct vgd_rect one = {.w_px = 1, .h_px = 1};
    if (render->ops->read_pixels(render, TARGET, NULL, one, pixel, 4) != VGD_OK) {
        die("no pixels");
    }
}

static bool has_resource(void *user, uint32_t res_id)
{
    (void)user;
    return res_id == TARGET || res_id == VERTICES;
}

static void follow(struct vgd_virgl_state *state, const struct vgd_virgl_stream *s)
{
    uint32_t good;
    struct vgd_virgl_tally tally;
    struct vgd_command wrong;
    struct vgd_command_fault fault;
    if (vgd_virgl_state_follow(state, s->dwords, s->n_dwords, &good, &tally, &wrong, &fault) !=
        VGD_OK) {
        die(fault.what);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, uint32_t n)
{
    qsort(values, n, sizeof(values[0]), by_value);
    return values[n / 2];
}

static void measure(const char *name, bool many, const struct vgd_virgl_stream *setup,
                    uint32_t pairs)
{
    static struct cmd c;
    static _Alignas(8) uint8_t copy[sizeof(c.bytes)];
    static double direct[PAIRS_MAX], through[PAIRS_MAX], added[PAIRS_MAX], alone[PAIRS_MAX];
    struct vgd_virgl_stream s = {0};
    make_draws(&s, many);
    submit_of(&c, &s);
    uint64_t total_bytes = 0;
    struct vgd_virgl_state *state = vgd_virgl_state_create(&(struct vgd_virgl_state_config){
        .has_resource = has_resource, .total_bytes = &total_bytes});
    if (state == NULL) {
        die("no memory");
    }
    follow(state, setup);
    for (uint32_t i = 0; i < 2 * pairs; i++) {
        bool device = (i % 4 == 1 || i % 4 == 2); /* turn about: A B B A */
        memcpy(copy, s.dwords, (size_t)s.n_dwords * 4);
        uint64_t start = now_ns();
        if (device) {
            execute(&c);
        } else if (render->ops->submit(render, CTX, copy, (size_t)s.n_dwords * 4) != VGD_OK) {
            die("a stream was refused");
        }
        wait_for_it();
        *(device ? &through[i / 2] : &direct[i / 2]) = (double)(now_ns() - start) / DRAWS;
        if (i % 2 == 0) {
            start = now_ns();
            follow(state, &s);
            alone[i / 2] = (double)(now_ns() - start) / DRAWS;
        }
    }
    for (uint32_t i = 0; i < pairs; i++) {
        added[i] = (through[i] / direct[i] - 1) * 100;
    }
    vgd_virgl_state_destroy(state);
    vgd_virgl_stream_finish(&s);
    double d = median(direct, pairs), t = median(through, pairs), f = median(alone, pairs);
    printf("%-24s %8.1f ns a draw not followed, %8.1f followed: %+5.2f %% (median of pairs "
           "%+5.2f %%); following alone %5.1f ns, %4.2f %%\n",
           name, d, t, (t / d - 1) * 100, median(added, pairs), f, f / d * 100);
}

int main(int argc, char **argv)
{
    uint32_t pairs = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : PAIRS;
    if (pairs < 1 || pairs > PAIRS_MAX) {
        (void)fprintf(stderr, "usage: bench-follow [PAIRS]   (1 to %u)\n", PAIRS_MAX);
        return 2;
    }
    vgd_log_setup("bench-follow", VGD_LOG_ERROR);
    static const struct vgd_display_ops display_ops = {.cancel = cancel};
    display.ops = &display_ops;
    struct vgd_loop *loop = vgd_loop_create();
    char why[256] = "";
    struct vgd_virgl_options options = {.want_virgl = true, .loop = loop};
    if (loop == NULL || vgd_virgl_create(&options, &render, why, sizeof(why)) != VGD_OK) {
        die(why);
    }
    gpu = vgd_gpu_create(&(struct vgd_gpu_config){.render = render,
                                                  .display = &display,
                                                  .memory = {.translate = translate},
                                                  .n_scanouts = 1,
                                                  .complete = complete});
    if (gpu == NULL) {
        die("no memory");
    }
    vgd_gpu_set_features(gpu, vgd_gpu_features(gpu));
    struct vgd_render_info info;
    render->ops->info(render, &info);
    printf("%s, %u pairs of %u draws\n", info.gpu_name, pairs, DRAWS);
    struct vgd_virgl_stream setup = {0};
    set_up(&setup);
    measure("2 commands a draw", false, &setup, pairs);
    measure("6 commands a draw", true, &setup, pairs);
    vgd_virgl_stream_finish(&setup);
    vgd_gpu_destroy(gpu);
    render->ops->destroy(render);
    vgd_loop_destroy(loop);
    return 0;
}
