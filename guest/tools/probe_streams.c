/* SPDX-License-Identifier: MIT */
/* Streams that are rewritten while they are read, and objects that come and go in odd ways, against
 * the real renderer. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "probe_streams.h"

#define BAD_ID 0x7fffff00u
/* virgl_protocol.h, virgl_hw.h and Gallium's p_defines.h */
#define CMD_CREATE_OBJECT 1u
#define CMD_SET_SAMPLER_VIEWS 10u
#define CMD_BEGIN_QUERY 19u
#define CMD_END_QUERY 20u
#define CMD_STREAMOUT 25u
#define OBJECT_QUERY 9u
#define OBJECT_STREAMOUT 10u
#define BIND_STREAM_OUTPUT (1u << 11)
#define BIND_CUSTOM (1u << 17) /* what queries write to */

pid_t streams_worker(const struct probe *p)
{
    return p->exec == NULL ? 0 : vgd_guest_child_named(p->process.pid, "vgd-worker");
}

uint32_t streams_make(struct probe *p, uint32_t ctx_id, struct vgd_cmd_resource_create_3d create,
                      uint64_t n_bytes, struct vgd_guest_backing *out)
{
    create.resource_id = probe_id(p);
    create.depth = create.depth != 0 ? create.depth : 1;
    create.array_size = create.array_size != 0 ? create.array_size : 1;
    if (vgd_guest_create_3d(p->gpu, ctx_id, &create) != VGD_RESP_OK_NODATA) {
        return 0;
    }
    if (out != NULL &&
        (!vgd_guest_backing_create(p->gpu, n_bytes, 1, out) ||
         vgd_guest_attach(p->gpu, create.resource_id, out->entries, 1) != VGD_RESP_OK_NODATA)) {
        return 0;
    }
    return vgd_guest_ctx_attach(p->gpu, ctx_id, create.resource_id) == VGD_RESP_OK_NODATA
               ? create.resource_id
               : 0;
}

const struct vgd_cmd_resource_create_3d streams_plain = {
    .target = TARGET_2D,
    .format = BGRA,
    .bind = VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SAMPLER_VIEW,
    .width = 32,
    .height = 32,
};

uint32_t streams_submit(struct probe *p, uint32_t ctx_id, struct vgd_virgl_stream *s)
{
    uint32_t got = vgd_guest_submit_3d(p->gpu, ctx_id, s->dwords, s->n_dwords, 1);
    vgd_virgl_stream_clear(s);
    return got;
}

void streams_check_draws(struct probe *p, const char *after, pid_t worker)
{
    enum { CTX = 1000, N = 32 * 32 };
    static const float color[4] = {1.0f, 0.0f, 0.0f, 1.0f};
    struct vgd_guest_backing backing = {0};
    struct vgd_virgl_stream s = {0};
    if (!PROBE_OK(p, vgd_guest_ctx_create(p->gpu, CTX, 0, "good"))) {
        return;
    }
    uint32_t id = streams_make(p, CTX, streams_plain, N * 4, &backing);
    if (id == 0) {
        probe_fail(p, "after %s: no texture", after);
        return;
    }
    vgd_virgl_create_surface(&s, 1, id, BGRA);
    vgd_virgl_set_framebuffer(&s, 1);
    vgd_virgl_clear_color(&s, color);
    struct vgd_cmd_transfer_host_3d read = {
        .box = {.w = 32, .h = 32, .d = 1}, .resource_id = id, .stride_bytes = 128};
    bool right = streams_submit(p, CTX, &s) == VGD_RESP_OK_NODATA &&
                 vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_FROM_HOST_3D, CTX, &read) ==
                     VGD_RESP_OK_NODATA;
    for (uint32_t i = 0; i < N && right; i++) {
        right = backing.bytes[4 * i] == 0 && backing.bytes[4 * i + 2] == 0xff;
    }
    if (!right) {
        probe_fail(p, "after %s: another context does not draw what it should", after);
    }
    if (streams_worker(p) != worker) {
        probe_fail(p, "after %s: the worker died", after);
    }
    (void)vgd_guest_unref(p->gpu, id);
    (void)vgd_guest_ctx_destroy(p->gpu, CTX);
    vgd_guest_backing_destroy(p->gpu, &backing);
    vgd_virgl_stream_finish(&s);
}

bool streams_begin(struct probe *p)
{
    return PROBE_OK(p, vgd_guest_ctx_create(p->gpu, BAD_CTX, 0, "bad"));
}

void streams_try(struct probe *p, struct vgd_virgl_stream *s, const char *what)
{
    if (streams_submit(p, BAD_CTX, s) == 0) {
        probe_fail(p, "%s: never answered", what);
        return;
    }
    uint32_t nop = 0;
    (void)vgd_guest_submit_3d(p->gpu, BAD_CTX, &nop, 1, 2); /* with what it left behind */
    (void)vgd_guest_ctx_destroy(p->gpu, BAD_CTX);
    (void)streams_begin(p);
}

/* --- G05 --- */

struct flipper {
    uint8_t *word; /* in guest RAM */
    uint32_t values[2];
    atomic_bool stop;
};

static void *flip(void *user)
{
    struct flipper *f = user;
    for (uint32_t i = 0; !atomic_load(&f->stop); i++) {
        __atomic_store_n((uint32_t *)(void *)f->word, f->values[i % 2], __ATOMIC_RELAXED);
    }
    return NULL;
}

/* A guest changes words of a stream for as long as it is executed: which of the values counts is
 * open, that it is one of them is not. */
static void rewritten_stream(struct probe *p)
{
    enum { ROUNDS = 300 };
    struct vgd_virgl_stream s = {0};
    struct vgd_guest_backing backing = {0};
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    uint32_t id = streams_make(p, BAD_CTX, streams_plain, 32 * 32 * 4, &backing);
    PROBE_REQUIRE(p, id != 0);
    static const float color[4] = {0.0f, 0.0f, 1.0f, 1.0f};
    vgd_virgl_create_surface(&s, 1, id, BGRA);
    vgd_virgl_set_framebuffer(&s, 1);
    vgd_virgl_clear_color(&s, color);
    vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 1);
    struct vgd_guest_ram *ram = vgd_guest_gpu_ram(p->gpu);
    uint64_t gpa;
    uint8_t *bytes = vgd_guest_ram_alloc(ram, 4096, &gpa);
    PROBE_REQUIRE(p, bytes != NULL && !s.failed && s.n_dwords < 1024);
    /* Which word, and what else it says: a resource, a length, a command, a colour. */
    const struct {
        uint32_t at, other;
    } flips[] = {
        {2, BAD_ID}, {2, 0xffffffff}, {0, 0xffff0801}, {0, 0x00000801}, {6, 0x00ff0005}, {14, 0},
    };
    for (uint32_t round = 0; round < ROUNDS && !p->failed; round++) {
        uint32_t k = round % (sizeof(flips) / sizeof(flips[0]));
        memcpy(bytes, s.dwords, (size_t)4 * s.n_dwords);
        struct flipper f = {.word = bytes + (size_t)4 * flips[k].at,
                            .values = {s.dwords[flips[k].at], flips[k].other}};
        pthread_t thread;
        PROBE_REQUIRE(p, pthread_create(&thread, NULL, flip, &f) == 0);
        uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
        struct vgd_writer w = vgd_writer_of(body, sizeof(body));
        vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = 4 * s.n_dwords});
        struct vgd_guest_request req = {
            .hdr = {.type = VGD_CMD_SUBMIT_3D, .ctx_id = BAD_CTX},
            .body = body,
            .body_bytes = sizeof(body),
            .ram_gpa = gpa,
            .ram_bytes = 4 * s.n_dwords,
            .resp_bytes = VGD_CTRL_HDR_SIZE,
        };
        uint32_t got = vgd_guest_gpu_call(p->gpu, &req, NULL, 0);
        atomic_store(&f.stop, true);
        (void)pthread_join(thread, NULL);
        PROBE_CHECK(p, got != 0);
        if (got != VGD_RESP_OK_NODATA || round % 10 == 9) {
            (void)vgd_guest_ctx_destroy(p->gpu, BAD_CTX);
            PROBE_REQUIRE(p, streams_begin(p));
            (void)vgd_guest_ctx_attach(p->gpu, BAD_CTX, id);
        }
        if (round % 30 == 29) {
            streams_check_draws(p, "a stream that was rewritten", worker);
        }
    }
    streams_check_draws(p, "streams that were rewritten", worker);
    vgd_guest_ram_free(ram, gpa, 4096);
    vgd_guest_backing_destroy(p->gpu, &backing);
    vgd_virgl_stream_finish(&s);
}

/* --- G07, G16 --- */

static void surface(struct vgd_virgl_stream *s, uint32_t handle, uint32_t res_id)
{
    vgd_virgl_create_surface(s, handle, res_id, BGRA);
}

static void sampler_view(struct vgd_virgl_stream *s, uint32_t handle, uint32_t res_id)
{
    uint32_t payload[6] = {handle, res_id, BGRA, 0, 0, 0 | 1 << 3 | 2 << 6 | 3 << 9};
    vgd_virgl_command(s, CMD_CREATE_OBJECT, VGD_VIRGL_OBJECT_SAMPLER_VIEW, payload, 6);
    uint32_t set[3] = {VGD_VIRGL_SHADER_FRAGMENT, 0, handle};
    vgd_virgl_command(s, CMD_SET_SAMPLER_VIEWS, 0, set, 3);
}

/* Objects that are made over others, let go twice, let go while in use, or used where they are not.
 */
static void handles(struct probe *p)
{
    struct vgd_virgl_stream s = {0};
    pid_t worker = streams_worker(p);
    static const float color[4] = {0.0f, 1.0f, 0.0f, 1.0f};
    PROBE_REQUIRE(p, streams_begin(p));
    for (uint32_t k = 0; k < 12 && !p->failed; k++) {
        struct vgd_guest_backing backing = {0};
        uint32_t id = streams_make(p, BAD_CTX, streams_plain, 32 * 32 * 4, &backing);
        PROBE_REQUIRE(p, id != 0);
        vgd_virgl_create_sub_ctx(&s, 1);
        vgd_virgl_set_sub_ctx(&s, 1);
        surface(&s, 5, id);
        const char *what = "";
        switch (k) {
        case 0:
            what = "a surface over a surface";
            vgd_virgl_set_framebuffer(&s, 5);
            surface(&s, 5, id);
            break;
        case 1:
            what = "a shader over a surface";
            vgd_virgl_set_framebuffer(&s, 5);
            vgd_virgl_create_shader(&s, 5, VGD_VIRGL_SHADER_VERTEX, vgd_virgl_vertex_shader);
            vgd_virgl_bind_shader(&s, 5, VGD_VIRGL_SHADER_VERTEX);
            break;
        case 2:
            what = "a surface destroyed twice";
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 5);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 5);
            break;
        case 3:
            what = "a surface destroyed while it is drawn to";
            vgd_virgl_set_framebuffer(&s, 5);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 5);
            break;
        case 4:
            what = "a surface of another sub-context";
            vgd_virgl_create_sub_ctx(&s, 2);
            vgd_virgl_set_sub_ctx(&s, 2);
            vgd_virgl_set_framebuffer(&s, 5);
            break;
        case 5:
            what = "shaders destroyed while bound";
            vgd_virgl_triangle_setup(&s, id, BGRA, 32, 32, id, false);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SHADER, 5);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SHADER, 6);
            vgd_virgl_draw_triangles(&s, 0, 3);
            break;
        case 6:
            what = "vertex elements destroyed while bound";
            vgd_virgl_triangle_setup(&s, id, BGRA, 32, 32, id, false);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, 7);
            vgd_virgl_draw_triangles(&s, 0, 3);
            break;
        case 7:
            what = "a sub-context destroyed, then its objects";
            sampler_view(&s, 6, id);
            vgd_virgl_set_framebuffer(&s, 5);
            vgd_virgl_destroy_sub_ctx(&s, 1);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SAMPLER_VIEW, 6);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 5);
            break;
        case 8:
            what = "a sub-context destroyed twice, and made again";
            vgd_virgl_destroy_sub_ctx(&s, 1);
            vgd_virgl_destroy_sub_ctx(&s, 1);
            vgd_virgl_create_sub_ctx(&s, 1);
            vgd_virgl_set_sub_ctx(&s, 1);
            break;
        case 9:
            what = "a view destroyed while it is looked through";
            sampler_view(&s, 6, id);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SAMPLER_VIEW, 6);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SAMPLER_VIEW, 6);
            break;
        default:
            what = k == 10 ? "surface and view of a resource that is gone" : "a resource detached";
            sampler_view(&s, 6, id);
            vgd_virgl_set_framebuffer(&s, 5);
            (void)streams_submit(p, BAD_CTX, &s);
            if (k == 10) {
                PROBE_OK(p, vgd_guest_unref(p->gpu, id));
            } else {
                PROBE_OK(p, vgd_guest_ctx_detach(p->gpu, BAD_CTX, id));
            }
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SURFACE, 5);
            vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_SAMPLER_VIEW, 6);
            break;
        }
        vgd_virgl_clear_color(&s, color);
        streams_try(p, &s, what);
        (void)vgd_guest_unref(p->gpu, id);
        vgd_guest_backing_destroy(p->gpu, &backing);
        streams_check_draws(p, what, worker);
    }
    vgd_virgl_stream_finish(&s);
}

/* --- G15 --- */

static int64_t dirty_kib(const struct probe *p)
{
    pid_t pids[64];
    uint32_t n = vgd_guest_descendants(p->process.pid, pids, 64);
    int64_t sum = vgd_guest_private_dirty_kib(p->process.pid);
    for (uint32_t i = 0; i < n; i++) {
        int64_t kib = vgd_guest_private_dirty_kib(pids[i]);
        sum += kib > 0 ? kib : 0;
    }
    return sum;
}

static void growth(struct probe *p)
{
    enum { ROUNDS = 12, WARM = 4, PER_ROUND = 40, GROWTH_KIB_MAX = 2048 };
    struct vgd_virgl_stream s = {0};
    struct vgd_guest_backing backing[2] = {0};
    pid_t worker = streams_worker(p);
    PROBE_REQUIRE(p, streams_begin(p));
    struct vgd_cmd_resource_create_3d buffer = {.target = VGD_VIRGL_TARGET_BUFFER,
                                                .format = VGD_VIRGL_FORMAT_R8_UNORM,
                                                .bind = BIND_STREAM_OUTPUT,
                                                .width = 4096,
                                                .height = 1};
    uint32_t id = streams_make(p, BAD_CTX, buffer, 4096, &backing[0]);
    buffer.bind = BIND_CUSTOM;
    uint32_t results = streams_make(p, BAD_CTX, buffer, 4096, &backing[1]);
    PROBE_REQUIRE(p, id != 0 && results != 0);
    int64_t before_kib = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        if (round == WARM) {
            before_kib = dirty_kib(p);
        }
        for (uint32_t i = 0; i < PER_ROUND; i++) {
            for (uint32_t k = 0; k < 100; k++) {
                uint32_t handle = 10 + 3 * k;
                vgd_virgl_create_vertex_elements(&s, handle);
                vgd_virgl_bind_object(&s, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, handle);
                uint32_t query[4] = {handle + 1, 0, 0, results};
                vgd_virgl_command(&s, CMD_CREATE_OBJECT, OBJECT_QUERY, query, 4);
                vgd_virgl_command(&s, CMD_BEGIN_QUERY, 0, query, 1);
                vgd_virgl_command(&s, CMD_END_QUERY, 0, query, 1);
                uint32_t target[4] = {handle + 2, id, 0, 256};
                vgd_virgl_command(&s, CMD_CREATE_OBJECT, OBJECT_STREAMOUT, target, 4);
                uint32_t out[2] = {0, handle + 2};
                vgd_virgl_command(&s, CMD_STREAMOUT, 0, out, 2);
                vgd_virgl_command(&s, CMD_STREAMOUT, 0, out, 1);
                vgd_virgl_destroy_object(&s, OBJECT_STREAMOUT, handle + 2);
                vgd_virgl_destroy_object(&s, OBJECT_QUERY, handle + 1);
                vgd_virgl_destroy_object(&s, VGD_VIRGL_OBJECT_VERTEX_ELEMENTS, handle);
            }
            PROBE_REQUIRE(p, !s.failed);
            if (!probe_resp(p, "objects made and dropped", streams_submit(p, BAD_CTX, &s),
                            VGD_RESP_OK_NODATA)) {
                return;
            }
        }
    }
    int64_t grown_kib = dirty_kib(p) - before_kib;
    probe_note(p, "%d objects of each kind: %+lld KiB", (ROUNDS - WARM) * PER_ROUND * 100,
               (long long)grown_kib);
    /* Sanitizers keep what was freed. */
    bool sanitized = false;
#if defined(__SANITIZE_ADDRESS__)
    sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    sanitized = true;
#endif
#endif
    if (!sanitized && grown_kib > GROWTH_KIB_MAX) {
        probe_fail(p, "it grew by %lld KiB", (long long)grown_kib);
    }
    streams_check_draws(p, "objects made and dropped", worker);
    vgd_guest_backing_destroy(p->gpu, &backing[0]);
    vgd_guest_backing_destroy(p->gpu, &backing[1]);
    vgd_virgl_stream_finish(&s);
}

static const struct probe_test tests[] = {
    {"streams/rewritten", rewritten_stream, PROBE_3D},
    {"streams/handles", handles, PROBE_3D},
    {"streams/growth", growth, PROBE_3D | PROBE_EXEC},
};

const struct probe_suite probe_streams = {tests, sizeof(tests) / sizeof(tests[0])};
