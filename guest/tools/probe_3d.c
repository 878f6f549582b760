/* SPDX-License-Identifier: MIT */
/* Capsets, contexts, 3D resources, transfers, streams and their pictures, fences. */
#include <stdlib.h>
#include <string.h>

#include "probe.h"
#include "virgl_stream.h"

#define BGRA VGD_VIRGL_FORMAT_B8G8R8A8_UNORM
#define BAD_ID 0x7fffff00u

static void capsets(struct probe *p)
{
    uint32_t n = vgd_guest_frontend_num_capsets(vgd_guest_gpu_frontend(p->gpu));
    PROBE_REQUIRE(p, n >= 1 && n <= 64);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_resp_capset_info info;
        if (!probe_resp(p, "GET_CAPSET_INFO", vgd_guest_get_capset_info(p->gpu, i, &info),
                        VGD_RESP_OK_CAPSET_INFO)) {
            continue;
        }
        PROBE_REQUIRE(p, info.capset_id >= 1 && info.capset_id < 64);
        PROBE_CHECK(p, (seen & UINT64_C(1) << info.capset_id) == 0);
        seen |= UINT64_C(1) << info.capset_id;
        PROBE_REQUIRE(p, info.max_size_bytes > 0 && info.max_size_bytes <= 4000);
        for (uint32_t version = 0; version <= info.max_version; version++) {
            uint8_t data[4000];
            uint32_t n_bytes;
            memset(data, 0xaa, sizeof(data));
            if (!probe_resp(p, "GET_CAPSET",
                            vgd_guest_get_capset(p->gpu, info.capset_id, version, data,
                                                 info.max_size_bytes, &n_bytes),
                            VGD_RESP_OK_CAPSET)) {
                continue;
            }
            PROBE_CHECK(p, n_bytes == info.max_size_bytes);
            bool all_zero = true;
            for (uint32_t at = 0; at < n_bytes; at++) {
                all_zero = all_zero && data[at] == 0;
            }
            if (all_zero) {
                probe_fail(p, "capset %u version %u is all zeros", info.capset_id, version);
            }
        }
    }
    PROBE_CHECK(p, (seen & (1u << VGD_CAPSET_VIRGL | 1u << VGD_CAPSET_VIRGL2)) != 0);
}

static void contexts(struct probe *p)
{
    for (uint32_t i = 1; i <= 50; i++) {
        PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, i, 0, "one of many"));
    }
    for (uint32_t i = 50; i >= 1; i--) {
        PROBE_OK_OR_RETURN(p, vgd_guest_ctx_destroy(p->gpu, i));
    }
    /* The ids are free again. */
    PROBE_OK(p, vgd_guest_ctx_create(p->gpu, 7, 0, ""));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 7));
}

static void context_errors(struct probe *p)
{
    probe_err(p, "CTX_CREATE with id 0", vgd_guest_ctx_create(p->gpu, 0, 0, "zero"));
    PROBE_OK(p, vgd_guest_ctx_create(p->gpu, 5, 0, "five"));
    probe_err(p, "CTX_CREATE with an id that is taken",
              vgd_guest_ctx_create(p->gpu, 5, 0, "five again"));
    probe_resp(p, "CTX_DESTROY of an unknown context", vgd_guest_ctx_destroy(p->gpu, 99),
               VGD_RESP_ERR_INVALID_CONTEXT_ID);
    uint32_t nop = 0;
    probe_resp(p, "SUBMIT_3D to an unknown context", vgd_guest_submit_3d(p->gpu, 99, &nop, 1, 0),
               VGD_RESP_ERR_INVALID_CONTEXT_ID);
    probe_resp(p, "SUBMIT_3D to context 0", vgd_guest_submit_3d(p->gpu, 0, &nop, 1, 0),
               VGD_RESP_ERR_INVALID_CONTEXT_ID);
    probe_resp(p, "CTX_ATTACH_RESOURCE of an unknown resource",
               vgd_guest_ctx_attach(p->gpu, 5, BAD_ID), VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "CTX_ATTACH_RESOURCE to an unknown context",
               vgd_guest_ctx_attach(p->gpu, 99, BAD_ID), VGD_RESP_ERR_INVALID_CONTEXT_ID);
    probe_err(p, "CTX_DETACH_RESOURCE of an unknown resource",
              vgd_guest_ctx_detach(p->gpu, 5, BAD_ID));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 5));
    probe_resp(p, "CTX_DESTROY twice", vgd_guest_ctx_destroy(p->gpu, 5),
               VGD_RESP_ERR_INVALID_CONTEXT_ID);
    /* A name whose length lies. */
    uint8_t body[VGD_CMD_CTX_CREATE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_ctx_create create = {.name_len_bytes = 0xffffffff};
    memset(create.debug_name, 'x', sizeof(create.debug_name));
    vgd_cmd_ctx_create_encode(&w, &create);
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_CTX_CREATE, .ctx_id = 6},
        .body = body,
        .body_bytes = sizeof(body),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    PROBE_CHECK(p, vgd_guest_gpu_call(p->gpu, &req, NULL, 0) != 0);
    probe_goes_on(p);
}

/* A 2D colour target with backing, attached to @ctx_id. */
struct target {
    uint32_t res_id, w_px, h_px;
    struct vgd_guest_backing backing;
};

static bool target_create(struct probe *p, uint32_t ctx_id, uint32_t w_px, uint32_t h_px,
                          uint32_t n_entries, struct target *out)
{
    *out = (struct target){.res_id = probe_id(p), .w_px = w_px, .h_px = h_px};
    struct vgd_cmd_resource_create_3d create = {
        .resource_id = out->res_id,
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = BGRA,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SAMPLER_VIEW,
        .width = w_px,
        .height = h_px,
        .depth = 1,
        .array_size = 1,
    };
    if (!vgd_guest_backing_create(p->gpu, (uint64_t)w_px * h_px * 4, n_entries, &out->backing)) {
        probe_fail(p, "no room for a target");
        return false;
    }
    return PROBE_OK(p, vgd_guest_create_3d(p->gpu, ctx_id, &create)) &&
           PROBE_OK(p, vgd_guest_attach(p->gpu, out->res_id, out->backing.entries,
                                        out->backing.n_entries)) &&
           PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, ctx_id, out->res_id));
}

static void target_destroy(struct probe *p, uint32_t ctx_id, struct target *t)
{
    PROBE_OK(p, vgd_guest_ctx_detach(p->gpu, ctx_id, t->res_id));
    PROBE_OK(p, vgd_guest_unref(p->gpu, t->res_id));
    vgd_guest_backing_destroy(p->gpu, &t->backing);
}

static struct vgd_cmd_transfer_host_3d whole_transfer(const struct target *t)
{
    return (struct vgd_cmd_transfer_host_3d){
        .box = {.w = t->w_px, .h = t->h_px, .d = 1},
        .resource_id = t->res_id,
    };
}

/* Read the target back and return its pixels, owned by the caller; NULL: failed. */
static uint32_t *target_read(struct probe *p, uint32_t ctx_id, struct target *t)
{
    uint64_t n_bytes = (uint64_t)t->w_px * t->h_px * 4;
    uint32_t *pixels = malloc(n_bytes);
    struct vgd_cmd_transfer_host_3d transfer = whole_transfer(t);
    if (pixels == NULL || !PROBE_OK(p, vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_FROM_HOST_3D,
                                                             ctx_id, &transfer))) {
        free(pixels);
        return NULL;
    }
    vgd_guest_backing_read(p->gpu, &t->backing, 0, pixels, n_bytes);
    return pixels;
}

static bool near(uint32_t a, uint32_t b)
{
    for (uint32_t shift = 0; shift < 24; shift += 8) {
        int diff = (int)(a >> shift & 0xff) - (int)(b >> shift & 0xff);
        if (diff < -3 || diff > 3) {
            return false;
        }
    }
    return true;
}

static bool submit(struct probe *p, uint32_t ctx_id, struct vgd_virgl_stream *s)
{
    PROBE_CHECK(p, !s->failed);
    uint32_t type = vgd_guest_submit_3d(p->gpu, ctx_id, s->dwords, s->n_dwords, 1);
    vgd_virgl_stream_clear(s);
    return probe_resp(p, "SUBMIT_3D", type, VGD_RESP_OK_NODATA);
}

static void clear(struct probe *p)
{
    struct target t;
    struct vgd_virgl_stream s = {0};
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "clear"));
    PROBE_REQUIRE(p, target_create(p, 1, 128, 96, 5, &t));
    static const float colors[][4] = {
        {1.0f, 0.0f, 0.0f, 1.0f}, {0.0f, 0.5f, 1.0f, 1.0f}, {0.25f, 0.75f, 0.5f, 0.0f}};
    static const uint32_t expected[] = {0xff0000, 0x0080ff, 0x40bf80};
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_set_sub_ctx(&s, 1);
    vgd_virgl_create_surface(&s, 1, t.res_id, BGRA);
    vgd_virgl_set_framebuffer(&s, 1);
    for (uint32_t i = 0; i < 3; i++) {
        vgd_virgl_clear_color(&s, colors[i]);
        if (!submit(p, 1, &s)) {
            break;
        }
        uint32_t *pixels = target_read(p, 1, &t);
        uint32_t wrong = 0;
        for (uint32_t at = 0; pixels != NULL && at < 128 * 96; at++) {
            wrong += !near(pixels[at], expected[i]);
        }
        if (pixels == NULL || wrong != 0) {
            probe_fail(p, "clear %u: %u pixels differ; the first is %08x, wanted %06x", i, wrong,
                       pixels != NULL ? pixels[0] : 0, expected[i]);
        }
        free(pixels);
    }
    vgd_virgl_stream_finish(&s);
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

/* Position and colour of the corners of a triangle over the left lower half. */
static const float triangle_vertices[3][8] = {
    {-1.0f, -1.0f, 0.0f, 1.0f, 1.0f, 0.0f, 0.0f, 1.0f},
    {1.0f, -1.0f, 0.0f, 1.0f, 0.0f, 1.0f, 0.0f, 1.0f},
    {-1.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 1.0f, 1.0f},
};

static bool vertex_buffer_create(struct probe *p, uint32_t ctx_id, uint32_t *out_res_id)
{
    *out_res_id = probe_id(p);
    struct vgd_cmd_resource_create_3d create = {
        .resource_id = *out_res_id,
        .target = VGD_VIRGL_TARGET_BUFFER,
        .format = VGD_VIRGL_FORMAT_R8_UNORM,
        .bind = VGD_VIRGL_BIND_VERTEX_BUFFER,
        .width = sizeof(triangle_vertices),
        .height = 1,
        .depth = 1,
        .array_size = 1,
    };
    return PROBE_OK(p, vgd_guest_create_3d(p->gpu, ctx_id, &create)) &&
           PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, ctx_id, *out_res_id));
}

/* The triangle's picture: inside, outside, and what the corners mix to. */
static void check_triangle(struct probe *p, const uint32_t *pixels, uint32_t w_px, uint32_t h_px,
                           bool flipped)
{
    uint32_t wrong = 0;
    uint32_t first_x = 0;
    uint32_t first_y = 0;
    for (uint32_t row = 0; row < h_px; row++) {
        for (uint32_t x = 0; x < w_px; x++) {
            uint32_t y = flipped ? h_px - 1 - row : row;
            float fx = ((float)x + 0.5f) / (float)w_px;
            float fy = ((float)y + 0.5f) / (float)h_px;
            float edge = fx + fy - 1.0f;
            if (edge > -0.02f && edge < 0.02f) {
                continue; /* the diagonal itself may go either way */
            }
            uint32_t want = 0x804020;
            if (edge < 0) {
                want = (uint32_t)((1.0f - fx - fy) * 255.0f + 0.5f) << 16 |
                       (uint32_t)(fx * 255.0f + 0.5f) << 8 | (uint32_t)(fy * 255.0f + 0.5f);
            }
            if (!near(pixels[(size_t)row * w_px + x], want)) {
                if (wrong == 0) {
                    first_x = x;
                    first_y = row;
                }
                wrong++;
            }
        }
    }
    if (wrong != 0) {
        probe_fail(p, "triangle: %u of %u pixels differ, the first at %u,%u is %06x", wrong,
                   w_px * h_px, first_x, first_y,
                   pixels[(size_t)first_y * w_px + first_x] & 0xffffff);
    }
}

static void draw_triangle(struct vgd_virgl_stream *s, uint32_t vertex_res)
{
    static const float background[4] = {0x80 / 255.0f, 0x40 / 255.0f, 0x20 / 255.0f, 1.0f};
    vgd_virgl_clear_color(s, background);
    vgd_virgl_inline_write(s, vertex_res, triangle_vertices, sizeof(triangle_vertices));
    vgd_virgl_draw_triangles(s, 0, 3);
}

static void triangle(struct probe *p)
{
    struct target t;
    uint32_t vertices;
    struct vgd_virgl_stream s = {0};
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "triangle"));
    PROBE_REQUIRE(p, target_create(p, 1, 200, 100, 1, &t));
    PROBE_REQUIRE(p, vertex_buffer_create(p, 1, &vertices));
    vgd_virgl_triangle_setup(&s, t.res_id, BGRA, t.w_px, t.h_px, vertices, false);
    draw_triangle(&s, vertices);
    if (submit(p, 1, &s)) {
        uint32_t *pixels = target_read(p, 1, &t);
        if (pixels != NULL) {
            check_triangle(p, pixels, t.w_px, t.h_px, false);
        }
        free(pixels);
    }
    vgd_virgl_stream_finish(&s);
    PROBE_OK(p, vgd_guest_unref(p->gpu, vertices));
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

/* Draw on a scanout and compare the screen with what a transfer from the host gives: row by row the
 * same, whichever way up the resource is kept. */
static void on_screen(struct probe *p, uint32_t flags)
{
    uint32_t vertices;
    struct target t = {.res_id = probe_id(p), .w_px = 320, .h_px = 240};
    struct vgd_virgl_stream s = {0};
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "screen"));
    struct vgd_cmd_resource_create_3d create = {
        .resource_id = t.res_id,
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = VGD_VIRGL_FORMAT_B8G8R8X8_UNORM,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SCANOUT,
        .width = t.w_px,
        .height = t.h_px,
        .depth = 1,
        .array_size = 1,
        .flags = flags,
    };
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 320 * 240 * 4, 1, &t.backing));
    PROBE_OK_OR_RETURN(p, vgd_guest_create_3d(p->gpu, 1, &create));
    PROBE_OK(p, vgd_guest_attach(p->gpu, t.res_id, t.backing.entries, 1));
    PROBE_OK(p, vgd_guest_ctx_attach(p->gpu, 1, t.res_id));
    PROBE_REQUIRE(p, vertex_buffer_create(p, 1, &vertices));
    vgd_virgl_triangle_setup(&s, t.res_id, VGD_VIRGL_FORMAT_B8G8R8X8_UNORM, 320, 240, vertices,
                             false);
    draw_triangle(&s, vertices);
    struct vgd_rect whole = {.w_px = 320, .h_px = 240};
    uint32_t *pixels = submit(p, 1, &s) ? target_read(p, 1, &t) : NULL;
    if (pixels != NULL && PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, t.res_id, whole)) &&
        PROBE_OK(p, vgd_guest_flush(p->gpu, t.res_id, whole))) {
        /* A picture at all: the right half is background, the rest is not. */
        PROBE_CHECK(p, near(pixels[120 * 320 + 319], 0x804020));
        check_triangle(p, pixels, 320, 240, near(pixels[0], 0x0000ff));
        struct probe_image img = {.w_px = 320, .h_px = 240, .pixels = pixels};
        probe_expect_picture(p, 0, &img, whole);
    }
    free(pixels);
    vgd_virgl_stream_finish(&s);
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, 0, (struct vgd_rect){0}));
    PROBE_OK(p, vgd_guest_unref(p->gpu, vertices));
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void triangle_on_screen(struct probe *p)
{
    on_screen(p, 0);
}

static void triangle_on_screen_y0_top(struct probe *p)
{
    on_screen(p, VGD_RESOURCE_FLAG_Y_0_TOP);
}

static void transfers(struct probe *p)
{
    /* To the host and back, whole and in parts. */
    struct target t;
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "transfers"));
    PROBE_REQUIRE(p, target_create(p, 1, 123, 77, 4, &t));
    uint64_t n_bytes = (uint64_t)t.w_px * t.h_px * 4;
    uint32_t *pixels = malloc(n_bytes);
    uint32_t *zeros = calloc(n_bytes, 1);
    PROBE_REQUIRE(p, pixels != NULL && zeros != NULL);
    for (uint32_t i = 0; i < t.w_px * t.h_px; i++) {
        pixels[i] = probe_pixel(5, i % t.w_px, i / t.w_px) | 0xff000000;
    }
    vgd_guest_backing_write(p->gpu, &t.backing, 0, pixels, n_bytes);
    struct vgd_cmd_transfer_host_3d transfer = whole_transfer(&t);
    PROBE_OK(p, vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_TO_HOST_3D, 1, &transfer));
    vgd_guest_backing_write(p->gpu, &t.backing, 0, zeros, n_bytes);
    uint32_t *back = target_read(p, 1, &t);
    if (back != NULL && memcmp(back, pixels, n_bytes) != 0) {
        probe_fail(p, "a picture differs after a transfer there and back");
    }
    free(back);
    /* One box of it: only its rows and columns change. */
    vgd_guest_backing_write(p->gpu, &t.backing, 0, zeros, n_bytes);
    transfer.box = (struct vgd_box){.x = 10, .y = 20, .w = 30, .h = 40, .d = 1};
    transfer.offset_bytes = (20 * t.w_px + 10) * 4;
    transfer.stride_bytes = t.w_px * 4;
    PROBE_OK(p, vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_FROM_HOST_3D, 1, &transfer));
    vgd_guest_backing_read(p->gpu, &t.backing, 0, zeros, n_bytes);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < t.w_px * t.h_px; i++) {
        uint32_t x = i % t.w_px;
        uint32_t y = i / t.w_px;
        bool inside = x >= 10 && x < 40 && y >= 20 && y < 60;
        wrong += zeros[i] != (inside ? pixels[i] : 0);
    }
    if (wrong != 0) {
        probe_fail(p, "%u pixels differ after reading back a box", wrong);
    }
    free(pixels);
    free(zeros);
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void transfer_errors(struct probe *p)
{
    struct target t;
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "bad transfers"));
    PROBE_REQUIRE(p, target_create(p, 1, 64, 64, 1, &t));
    struct vgd_cmd_transfer_host_3d good = whole_transfer(&t);
    struct vgd_cmd_transfer_host_3d table[12];
    for (uint32_t i = 0; i < 12; i++) {
        table[i] = good;
    }
    table[0].box.w = 65;
    table[1].box.h = 65;
    table[2].box.d = 2;
    table[3].box.x = 0x80000000;
    table[4].box.x = 0xffffffff;
    table[4].box.w = 2;
    table[5].level = 1;
    table[6].level = 0xffffffff;
    table[7].offset_bytes = UINT64_MAX - 16;
    table[8].offset_bytes = 64 * 64 * 4;
    table[9].stride_bytes = 0xfffffff0;
    table[10].box.z = 1;
    table[11].resource_id = BAD_ID;
    for (uint32_t i = 0; i < 12; i++) {
        for (uint32_t way = 0; way < 2; way++) {
            uint32_t got = vgd_guest_transfer_3d(
                p->gpu, way == 0 ? VGD_CMD_TRANSFER_TO_HOST_3D : VGD_CMD_TRANSFER_FROM_HOST_3D, 1,
                &table[i]);
            if (!probe_err(p, "a bad TRANSFER_3D", got)) {
                probe_note(p, "case %u, %s the host", i, way == 0 ? "to" : "from");
            }
        }
    }
    probe_err(p, "TRANSFER_TO_HOST_3D in an unknown context",
              vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_TO_HOST_3D, 99, &good));
    PROBE_OK(p, vgd_guest_transfer_3d(p->gpu, VGD_CMD_TRANSFER_TO_HOST_3D, 1, &good));
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void create_errors(struct probe *p)
{
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "bad resources"));
    struct vgd_cmd_resource_create_3d good = {
        .resource_id = probe_id(p),
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = BGRA,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET,
        .width = 16,
        .height = 16,
        .depth = 1,
        .array_size = 1,
    };
    struct vgd_cmd_resource_create_3d table[12];
    for (uint32_t i = 0; i < 12; i++) {
        table[i] = good;
    }
    table[0].resource_id = 0;
    table[1].target = 99;
    table[2].format = 0xffff;
    table[3].width = 0;
    table[4].height = 0;
    table[5].depth = 0;
    table[6].width = 0xffffffff;
    table[7].width = 0x40000000;
    table[7].height = 0x40000000;
    table[8].array_size = 0xffffffff;
    table[9].last_level = 200;
    table[10].nr_samples = 0xffffffff;
    table[11].depth = 2;
    for (uint32_t i = 0; i < 12; i++) {
        if (!probe_err(p, "a bad RESOURCE_CREATE_3D", vgd_guest_create_3d(p->gpu, 1, &table[i]))) {
            probe_note(p, "case %u", i);
            (void)vgd_guest_unref(p->gpu, good.resource_id);
        }
    }
    PROBE_OK(p, vgd_guest_create_3d(p->gpu, 1, &good));
    probe_resp(p, "RESOURCE_CREATE_3D with an id that is taken",
               vgd_guest_create_3d(p->gpu, 1, &good), VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "RESOURCE_CREATE_2D with an id that is taken",
               vgd_guest_create_2d(p->gpu, good.resource_id, VGD_FORMAT_B8G8R8X8_UNORM, 16, 16),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_OK(p, vgd_guest_unref(p->gpu, good.resource_id));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void submit_errors(struct probe *p)
{
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "bad submits"));
    uint32_t nops[16] = {0};
    static const uint32_t sizes[] = {1, 2, 63, 65, 68, 4096, 0x10000000, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
        struct vgd_guest_request req = vgd_guest_submit_request(1, nops, 16, 0, body);
        struct vgd_writer w = vgd_writer_of(body, sizeof(body));
        vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = sizes[i]});
        if (!probe_err(p, "SUBMIT_3D whose size lies", vgd_guest_gpu_call(p->gpu, &req, NULL, 0))) {
            probe_note(p, "says %u, has 64 bytes", sizes[i]);
        }
    }
    PROBE_OK(p, vgd_guest_submit_3d(p->gpu, 1, nops, 16, 0));
    PROBE_CHECK(p, vgd_guest_submit_3d(p->gpu, 1, nops, 0, 0) != 0); /* empty: answered */
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void bad_streams(struct probe *p)
{
    /* Streams that the renderer refuses: that context may be lost, others and the device are not.
     */
    static const uint32_t streams[][6] = {
        {0xffffffff},                             /* command 255, 65535 dwords */
        {0x00ff0001},                             /* create object, longer than the stream */
        {0x00000000 | 200},                       /* unknown command */
        {1 | 0xff << 8 | 1 << 16, 1},             /* unknown object type */
        {2 | 1 << 8 | 1 << 16, 4711},             /* bind a blend state that is not there */
        {3 | 8 << 8 | 1 << 16, 4711},             /* destroy a surface that is not there */
        {5 | 3 << 16, 1, 0, 4711},                /* framebuffer of an unknown surface */
        {1 | 8 << 8 | 5 << 16, 1, 4711, 1, 0, 0}, /* surface of an unknown resource */
        {9 | 2 << 16, 4711, 0},                   /* inline write, too short */
        {28 | 1 << 16, 4711},                     /* sub-context that is not there */
        {31 | 2 << 16, 4711, 77},                 /* shader that is not there */
        {8 | 3 << 16, 0, 3, 4},                   /* draw, too short */
    };
    for (uint32_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 10 + i, 0, "bad stream"));
        uint32_t type = vgd_guest_submit_3d(p->gpu, 10 + i, streams[i], 6, 1000 + i);
        if (type == 0) {
            probe_fail(p, "bad stream %u is never answered", i);
            return;
        }
    }
    triangle(p);
    for (uint32_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 10 + i));
    }
}

static void foreign_resource(struct probe *p)
{
    /* A resource that is not attached to a context cannot be drawn to from it. */
    struct target t;
    struct vgd_virgl_stream s = {0};
    static const float red[4] = {1, 0, 0, 1};
    static const float green[4] = {0, 1, 0, 1};
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "owner"));
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 2, 0, "stranger"));
    PROBE_REQUIRE(p, target_create(p, 1, 32, 32, 1, &t));
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_set_sub_ctx(&s, 1);
    vgd_virgl_create_surface(&s, 1, t.res_id, BGRA);
    vgd_virgl_set_framebuffer(&s, 1);
    vgd_virgl_clear_color(&s, red);
    (void)submit(p, 1, &s);
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_set_sub_ctx(&s, 1);
    vgd_virgl_create_surface(&s, 1, t.res_id, BGRA);
    vgd_virgl_set_framebuffer(&s, 1);
    vgd_virgl_clear_color(&s, green);
    PROBE_CHECK(p, vgd_guest_submit_3d(p->gpu, 2, s.dwords, s.n_dwords, 5) != 0);
    uint32_t *pixels = target_read(p, 1, &t);
    if (pixels != NULL && !near(pixels[0], 0xff0000)) {
        probe_fail(p, "another context drew %06x on it", pixels[0] & 0xffffff);
    }
    free(pixels);
    vgd_virgl_stream_finish(&s);
    target_destroy(p, 1, &t);
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 2));
}

static void fences(struct probe *p)
{
    /* Many fenced submits in flight on two contexts, ids falling: each answered once, its own. */
    enum { N = 64 };
    uint32_t nops[8] = {0};
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "fences 1"));
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 2, 0, "fences 2"));
    struct vgd_guest_command *cmds[N];
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < N; i++) {
            uint64_t fence_id = 10000 - i - round * N;
            struct vgd_guest_request req =
                vgd_guest_submit_request(1 + i % 2, nops, 8, fence_id, body);
            cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, true);
            PROBE_REQUIRE(p, cmds[i] != NULL);
        }
        for (uint32_t i = 0; i < N; i++) {
            if (!vgd_guest_gpu_wait(p->gpu, cmds[i], 5000)) {
                probe_fail(p, "fenced submit %u of %u is never answered", i, N);
                return;
            }
            const struct vgd_ctrl_hdr *resp = &cmds[i]->resp;
            PROBE_CHECK(p, resp->type == VGD_RESP_OK_NODATA);
            PROBE_CHECK(p, (resp->flags & VGD_FLAG_FENCE) != 0);
            PROBE_CHECK(p, resp->fence_id == 10000 - i - round * N);
            PROBE_CHECK(p, resp->ctx_id == 1 + i % 2);
            vgd_guest_gpu_end(p->gpu, cmds[i]);
        }
        if (p->failed) {
            break;
        }
    }
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 2));
}

static void fence_64_bits(struct probe *p)
{
    /* The guest's fence ids have 64 bits, the renderer's 32. */
    static const uint64_t ids[] = {0xffffffff,         0x100000000, 0x100000001,
                                   0x8000000000000000, UINT64_MAX,  1};
    uint32_t nops[8] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "wide fences"));
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct vgd_guest_request req = vgd_guest_submit_request(1, nops, 8, ids[i], body);
        struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
        PROBE_REQUIRE(p, cmd != NULL);
        if (!vgd_guest_gpu_wait(p->gpu, cmd, 3000)) {
            probe_fail(p, "fence 0x%llx never comes", (unsigned long long)ids[i]);
            return;
        }
        PROBE_CHECK(p, cmd->resp.fence_id == ids[i]);
        vgd_guest_gpu_end(p->gpu, cmd);
    }
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
}

static void destroy_with_fences(struct probe *p)
{
    uint32_t nops[8] = {0};
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    for (uint32_t round = 0; round < 10; round++) {
        PROBE_OK_OR_RETURN(p, vgd_guest_ctx_create(p->gpu, 1, 0, "short life"));
        struct vgd_guest_command *cmds[20];
        for (uint32_t i = 0; i < 20; i++) {
            struct vgd_guest_request req = vgd_guest_submit_request(1, nops, 8, 1 + i, body);
            cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, false);
            PROBE_REQUIRE(p, cmds[i] != NULL);
        }
        PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1)); /* kicks for all */
        for (uint32_t i = 0; i < 20; i++) {
            if (!vgd_guest_gpu_wait(p->gpu, cmds[i], 5000)) {
                probe_fail(p, "a fence of a destroyed context never comes");
                return;
            }
            vgd_guest_gpu_end(p->gpu, cmds[i]);
        }
    }
}

static void large_submit(struct probe *p)
{
    /* 1 MiB in pages, as Linux sends it: more descriptors than the queue has. */
    const uint32_t n_dwords = 1u << 18;
    uint32_t *nops = calloc(n_dwords, 4);
    PROBE_REQUIRE(p, nops != NULL);
    PROBE_OK(p, vgd_guest_ctx_create(p->gpu, 1, 0, "large"));
    for (uint32_t piece = 4096; piece >= 2048; piece /= 2) {
        uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
        struct vgd_guest_request req = vgd_guest_submit_request(1, nops, n_dwords, 9, body);
        req.data_piece_bytes = piece;
        probe_resp(p, "SUBMIT_3D of 1 MiB in pages", vgd_guest_gpu_call(p->gpu, &req, NULL, 0),
                   VGD_RESP_OK_NODATA);
    }
    PROBE_OK(p, vgd_guest_ctx_destroy(p->gpu, 1));
    free(nops);
}

static const struct probe_test tests[] = {
    {"3d/capsets", capsets, PROBE_3D},
    {"3d/contexts", contexts, PROBE_3D},
    {"3d/context-errors", context_errors, PROBE_3D},
    {"3d/clear", clear, PROBE_3D},
    {"3d/triangle", triangle, PROBE_3D},
    {"3d/triangle-on-screen", triangle_on_screen, PROBE_3D},
    {"3d/triangle-on-screen-y0-top", triangle_on_screen_y0_top, PROBE_3D},
    {"3d/transfers", transfers, PROBE_3D},
    {"3d/transfer-errors", transfer_errors, PROBE_3D},
    {"3d/create-errors", create_errors, PROBE_3D},
    {"3d/submit-errors", submit_errors, PROBE_3D},
    {"3d/bad-streams", bad_streams, PROBE_3D},
    {"3d/foreign-resource", foreign_resource, PROBE_3D},
    {"3d/fences", fences, PROBE_3D},
    {"3d/fence-64-bits", fence_64_bits, PROBE_3D},
    {"3d/destroy-with-fences", destroy_with_fences, PROBE_3D},
    {"3d/large-submit", large_submit, PROBE_3D},
};

const struct probe_suite probe_3d = {tests, sizeof(tests) / sizeof(tests[0])};
