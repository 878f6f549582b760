/* SPDX-License-Identifier: MIT */
/*
 * The virgl renderer on whatever GL this host has (llvmpipe will do). Criterion runs each test in a
 * process of its own, which the library needs: it is one instance per process.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leaks.h"
#include "log.h"
#include "loop.h"
#include "virgl.h"

#define SIDE 16u
#define BIND_RENDER_TARGET (1u << 1)
#define BIND_SAMPLER_VIEW (1u << 3)
#define BIND_VERTEX_BUFFER (1u << 4)
#define CMD(code, object, len) ((code) | ((object) << 8) | ((uint32_t)(len) << 16))

struct seen {
    uint32_t fences_count;
    uint64_t last_seq;
    uint32_t last_ctx;
    uint8_t last_ring;
};

static struct vgd_loop *loop;
static struct vgd_render *r;
static struct seen seen;

static void on_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    struct seen *s = user;
    s->fences_count++;
    cr_assert_gt(seq, s->last_seq, "fences complete in order");
    s->last_seq = seq;
    s->last_ctx = ctx_id;
    s->last_ring = ring_idx;
}

static void on_lost(void *user, uint32_t ctx_id)
{
    (void)user;
    cr_assert_fail("context %u lost", ctx_id);
}

static struct vgd_virgl_options options(void)
{
    return (struct vgd_virgl_options){
        .want_virgl = true,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost, .user = &seen},
    };
}

static void set_up(void)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    char why[256] = "";
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    struct vgd_virgl_options o = options();
    if (vgd_virgl_create(&o, &r, why, sizeof(why)) != VGD_OK) {
        cr_skip("no OpenGL on this host: %s", why);
    }
}

static void tear_down(void)
{
    if (r != NULL) {
        r->ops->destroy(r);
    }
    vgd_loop_destroy(loop);
}

TestSuite(render_virgl, .init = set_up, .fini = tear_down, .timeout = 60);

static const struct vgd_rect whole = {.w_px = SIDE, .h_px = SIDE};

static struct vgd_cmd_resource_create_3d texture(uint32_t id, uint32_t flags)
{
    return (struct vgd_cmd_resource_create_3d){
        .resource_id = id,
        .target = 2,
        .format = VGD_FORMAT_B8G8R8A8_UNORM,
        .bind = BIND_RENDER_TARGET | BIND_SAMPLER_VIEW,
        .width = SIDE,
        .height = SIDE,
        .depth = 1,
        .array_size = 1,
        .flags = flags,
    };
}

static void create_texture(uint32_t id, uint32_t flags)
{
    struct vgd_cmd_resource_create_3d cmd = texture(id, flags);
    cr_assert_eq(r->ops->resource_create_3d(r, &cmd), VGD_OK);
}

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* Clear resource @res_id, attached to @ctx_id, to a colour. */
static enum vgd_status clear(uint32_t ctx_id, uint32_t res_id, uint32_t surface, float red,
                             float green, float blue)
{
    uint32_t stream[] = {
        CMD(1u, 8u, 5), /* CREATE_OBJECT, SURFACE */
        surface,
        res_id,
        VGD_FORMAT_B8G8R8A8_UNORM,
        0,
        0,
        CMD(5u, 0u, 3), /* SET_FRAMEBUFFER_STATE */
        1,
        0,
        surface,
        CMD(7u, 0u, 8), /* CLEAR */
        1u << 2,
        float_bits(red),
        float_bits(green),
        float_bits(blue),
        float_bits(1.0f),
        0,
        0,
        0,
    };
    return r->ops->submit(r, ctx_id, stream, sizeof(stream));
}

static void expect_colour(uint32_t res_id, uint8_t b, uint8_t g, uint8_t red)
{
    uint8_t out[SIDE * SIDE * 4];
    memset(out, 0x11, sizeof(out));
    cr_assert_eq(r->ops->read_pixels(r, res_id, NULL, whole, out, SIDE * 4), VGD_OK);
    for (size_t i = 0; i < sizeof(out); i += 4) {
        cr_assert(out[i] == b && out[i + 1] == g && out[i + 2] == red,
                  "pixel %zu is %u %u %u, not %u %u %u", i / 4, out[i], out[i + 1], out[i + 2], b,
                  g, red);
    }
}

static void context(uint32_t ctx_id)
{
    cr_assert_eq(r->ops->context_create(r, ctx_id, 0, "test", 4), VGD_OK);
}

Test(render_virgl, tells_what_it_is)
{
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect_str_eq(info.name, "virgl");
    cr_expect(info.has_3d);
    cr_expect_str_not_empty(info.gpu_name);
    cr_expect_eq(info.is_software, vgd_gl_is_software(info.gpu_name));
    cr_assert_eq(info.n_capsets, 2, "exactly what was initialised: VIRGL and VIRGL2");
    for (uint32_t i = 0; i < info.n_capsets; i++) {
        uint8_t caps[4096];
        uint8_t zeros[4096] = {0};
        cr_assert_leq(info.capsets[i].size_bytes, sizeof(caps));
        memset(caps, 0xee, sizeof(caps));
        cr_assert_eq(r->ops->capset_fill(r, info.capsets[i].id, info.capsets[i].max_version, caps,
                                         sizeof(caps)),
                     VGD_OK);
        cr_expect_arr_neq(caps, zeros, info.capsets[i].size_bytes);
        cr_expect_arr_eq(caps + info.capsets[i].size_bytes, zeros,
                         sizeof(caps) - info.capsets[i].size_bytes);
    }
    uint8_t caps[4];
    cr_expect_eq(r->ops->capset_fill(r, VGD_CAPSET_VENUS, 0, caps, sizeof(caps)), VGD_HOST_FAILED);
}

Test(render_virgl, second_instance_is_refused)
{
    char why[256] = "";
    struct vgd_render *other = NULL;
    struct vgd_virgl_options o = options();
    cr_assert_eq(vgd_virgl_create(&o, &other, why, sizeof(why)), VGD_HOST_FAILED);
    cr_assert_null(other);
    cr_assert_str_not_empty(why);
}

Test(render_virgl, a_2d_resource_without_context_never_meets_gl)
{
    uint8_t backing[SIDE * SIDE * 4];
    for (size_t i = 0; i < sizeof(backing); i++) {
        backing[i] = (uint8_t)(i * 5);
    }
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    uint8_t out[sizeof(backing)];
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE), VGD_OK);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, whole, 0), VGD_OK);
    cr_assert_eq(r->ops->read_pixels(r, 1, NULL, whole, out, SIDE * 4), VGD_OK);
    cr_assert_arr_eq(out, backing, sizeof(out));
    bool done = false;
    cr_assert_eq(r->ops->fence(r, 0, 0, 1, &done), VGD_OK);
    cr_expect(done, "no GL work: nothing to wait for");
}

Test(render_virgl, clear_and_read_back)
{
    context(1);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(clear(1, 1, 10, 1.0f, 0.0f, 0.2f), VGD_OK);
    expect_colour(1, 51, 0, 255);
}

/* What a 3D transfer puts in row 0 is the top row for the display, whichever way the texture is
 * stored. */
Test(render_virgl, transfers_and_read_back_agree_on_rows)
{
    uint8_t backing[SIDE * SIDE * 4];
    for (size_t i = 0; i < sizeof(backing); i++) {
        backing[i] = (uint8_t)(i / (SIDE * 4) * 16 + i % 4);
    }
    struct iovec iov[2] = {{.iov_base = backing, .iov_len = 100},
                           {.iov_base = backing + 100, .iov_len = sizeof(backing) - 100}};
    context(1);
    for (uint32_t flags = 0; flags <= 1; flags++) {
        uint32_t id = 1 + flags;
        create_texture(id, flags);
        cr_assert_eq(r->ops->context_attach(r, 1, id), VGD_OK);
        for (uint32_t n_iov = 1; n_iov <= 2; n_iov++) {
            struct iovec single = {.iov_base = backing, .iov_len = sizeof(backing)};
            cr_assert_eq(r->ops->resource_attach(r, id, n_iov == 1 ? &single : iov, n_iov), VGD_OK);
            struct vgd_cmd_transfer_host_3d t = {
                .box = {.w = SIDE, .h = SIDE, .d = 1}, .resource_id = id, .stride_bytes = SIDE * 4};
            cr_assert_eq(r->ops->transfer_to_host_3d(r, n_iov == 1 ? 1 : 0, &t), VGD_OK);
            uint8_t out[sizeof(backing)];
            cr_assert_eq(r->ops->read_pixels(r, id, NULL, whole, out, SIDE * 4), VGD_OK);
            cr_assert_arr_eq(out, backing, sizeof(out), "flags %u", flags);

            /* A piece of it, into wider rows. */
            struct vgd_rect part = {.x_px = 3, .y_px = 5, .w_px = 4, .h_px = 6};
            uint8_t wide[6 * 64];
            memset(wide, 0xaa, sizeof(wide));
            cr_assert_eq(r->ops->read_pixels(r, id, NULL, part, wide, 64), VGD_OK);
            for (uint32_t y = 0; y < 6; y++) {
                cr_assert_arr_eq(wide + y * 64, backing + ((y + 5) * SIDE + 3) * 4, 16);
                cr_assert_eq(wide[y * 64 + 16], 0xaa, "nothing between the rows is written");
            }
            r->ops->resource_detach(r, id);
        }
    }
}

Test(render_virgl, swizzled_formats_read_as_bgra)
{
    struct vgd_cmd_resource_create_3d cmd = texture(1, 1);
    cmd.format = VGD_FORMAT_R8G8B8A8_UNORM;
    cr_assert_eq(r->ops->resource_create_3d(r, &cmd), VGD_OK);
    uint8_t backing[SIDE * SIDE * 4];
    for (size_t i = 0; i < sizeof(backing); i++) {
        backing[i] = (uint8_t)(10 * (i % 4) + i / 4);
    }
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = SIDE, .h = SIDE, .d = 1}, .resource_id = 1};
    cr_assert_eq(r->ops->transfer_to_host_3d(r, 0, &t), VGD_OK);
    uint8_t out[sizeof(backing)];
    cr_assert_eq(r->ops->read_pixels(r, 1, NULL, whole, out, SIDE * 4), VGD_OK);
    for (size_t i = 0; i < sizeof(out); i += 4) {
        cr_assert(out[i] == backing[i + 2] && out[i + 1] == backing[i + 1] &&
                  out[i + 2] == backing[i] && out[i + 3] == backing[i + 3]);
    }
}

/* Shadow, GL, shadow again: each side always sees what the other wrote last. */
Test(render_virgl, a_2d_resource_is_promoted_and_stays_coherent)
{
    uint8_t backing[SIDE * SIDE * 4];
    memset(backing, 0x40, sizeof(backing));
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    uint8_t out[sizeof(backing)];
    context(1);
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, SIDE, SIDE), VGD_OK);
    create_texture(2, 1); /* stored the same way up: a copy between others would turn over */
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, whole, 0), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 2), VGD_OK);

    /* GL sees the shadow: copy it to a texture (RESOURCE_COPY_REGION 2 <- 1). */
    uint32_t copy[] = {CMD(17u, 0u, 13), 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, SIDE, SIDE, 1};
    cr_assert_eq(r->ops->submit(r, 1, copy, sizeof(copy)), VGD_OK);
    expect_colour(2, 0x40, 0x40, 0x40);

    /* We see GL: it clears, read-back comes from there. */
    cr_assert_eq(clear(1, 1, 10, 0.0f, 1.0f, 0.0f), VGD_OK);
    expect_colour(1, 0, 255, 0);

    /* A 2D transfer of a part after GL drew: the rest keeps what GL drew. */
    struct vgd_rect part = {.x_px = 4, .y_px = 2, .w_px = 3, .h_px = 2};
    cr_assert_eq(r->ops->transfer_to_host_2d(r, 1, part, (2 * SIDE + 4) * 4), VGD_OK);
    for (int after_submit = 0; after_submit <= 1; after_submit++) {
        cr_assert_eq(r->ops->read_pixels(r, 1, NULL, whole, out, SIDE * 4), VGD_OK);
        for (uint32_t i = 0; i < SIDE * SIDE; i++) {
            uint32_t x = i % SIDE;
            uint32_t y = i / SIDE;
            bool inside = x >= 4 && x < 7 && y >= 2 && y < 4;
            cr_assert_eq(out[i * 4], inside ? 0x40 : 0, "pixel %u,%u", x, y);
            cr_assert_eq(out[i * 4 + 1], inside ? 0x40 : 255, "pixel %u,%u", x, y);
        }
        cr_assert_eq(r->ops->submit(r, 1, copy, sizeof(copy)), VGD_OK); /* uploads the part */
    }
    cr_assert_eq(r->ops->read_pixels(r, 2, NULL, whole, out, SIDE * 4), VGD_OK);
    cr_assert_eq(out[(2 * SIDE + 4) * 4], 0x40, "and GL saw the part in its place");
    cr_assert_eq(out[1], 255);

    /* And back to the guest by a 3D transfer. */
    struct vgd_cmd_transfer_host_3d t = {
        .box = {.w = SIDE, .h = SIDE, .d = 1}, .resource_id = 1, .stride_bytes = SIDE * 4};
    cr_assert_eq(clear(1, 1, 11, 0.0f, 0.0f, 1.0f), VGD_OK);
    cr_assert_eq(r->ops->transfer_from_host_3d(r, 1, &t), VGD_OK);
    cr_assert_eq(backing[0], 255);
    cr_assert_eq(backing[1], 0);
}

static void wait_for_seq(uint64_t seq)
{
    uint64_t deadline_ns = vgd_now_ns() + 10000000000ull;
    r->ops->batch_end(r);
    while (seen.last_seq < seq && vgd_now_ns() < deadline_ns) {
        vgd_loop_turn(loop, 100);
    }
    cr_assert_eq(seen.last_seq, seq);
}

Test(render_virgl, fences_complete_in_order_on_their_timelines)
{
    context(1);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    uint32_t asked = 0;
    for (uint64_t seq = 1; seq <= 300; seq++) {
        bool done = true;
        cr_assert_eq(clear(1, 1, (uint32_t)seq + 10, 0.0f, 0.0f, 1.0f), VGD_OK);
        cr_assert_eq(r->ops->fence(r, seq % 2 == 0 ? 1 : 0, seq % 2 == 0 ? 5 : 0, seq, &done),
                     VGD_OK);
        cr_assert(!done, "there is work to wait for");
        asked++;
        cr_assert_eq(seen.fences_count, 0, "never from inside an operation");
    }
    wait_for_seq(300);
    cr_expect_eq(seen.fences_count, asked);
    cr_expect_eq(seen.last_ctx, 1);
    cr_expect_eq(seen.last_ring, 5);
    bool done = false;
    cr_assert_eq(r->ops->fence(r, 1, 0, 301, &done), VGD_OK);
    cr_expect(done, "no work since: done at once");
    cr_assert_eq(r->ops->submit(r, 1, NULL, 0), VGD_OK);
    done = false;
    cr_assert_eq(r->ops->fence(r, 1, 0, 302, &done), VGD_OK);
    cr_expect(done, "an empty submit is no work");
}

/* A fence asked for while others wait, with no work of its own, completes with them, in order. */
Test(render_virgl, a_fence_without_work_rides_on_the_one_before)
{
    context(1);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(clear(1, 1, 10, 0.0f, 0.0f, 1.0f), VGD_OK);
    bool done = true;
    cr_assert_eq(r->ops->fence(r, 1, 0, 1, &done), VGD_OK);
    cr_assert(!done);
    cr_assert_eq(r->ops->fence(r, 0, 0, 2, &done), VGD_OK);
    cr_assert(!done);
    wait_for_seq(2);
    cr_expect_eq(seen.fences_count, 2);
}

Test(render_virgl, fences_outlive_their_context)
{
    context(1);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(clear(1, 1, 10, 0.0f, 0.0f, 1.0f), VGD_OK);
    bool done = true;
    cr_assert_eq(r->ops->fence(r, 1, 0, 7, &done), VGD_OK);
    r->ops->context_destroy(r, 1);
    wait_for_seq(7);
}

Test(render_virgl, reset_forgets_everything_and_the_renderer_lives)
{
    for (int round = 0; round < 8; round++) {
        for (uint32_t i = 1; i <= 5; i++) {
            context(i);
            create_texture(i, 0);
            cr_assert_eq(r->ops->resource_create_2d(r, 100 + i, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8),
                         VGD_OK);
            cr_assert_eq(r->ops->context_attach(r, i, i), VGD_OK);
            cr_assert_eq(r->ops->context_attach(r, i, 100 + i), VGD_OK);
            cr_assert_eq(clear(i, i, 10, 1.0f, 1.0f, 1.0f), VGD_OK);
            bool done;
            cr_assert_eq(r->ops->fence(r, i, 0, (uint64_t)round * 5 + i, &done), VGD_OK);
        }
        r->ops->reset(r);
        uint8_t out[4];
        struct vgd_rect one = {.w_px = 1, .h_px = 1};
        cr_assert_eq(r->ops->read_pixels(r, 1, NULL, one, out, 4), VGD_NO_RESOURCE);
        cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_NO_CONTEXT);
        r->ops->batch_end(r);
        vgd_loop_turn(loop, 0);
        cr_assert_eq(seen.fences_count, 0, "fences of before the reset are forgotten");
    }
    context(1);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(clear(1, 1, 10, 0.0f, 0.0f, 1.0f), VGD_OK);
    expect_colour(1, 255, 0, 0);
}

Test(render_virgl, unref_detaches_everywhere)
{
    context(1);
    context(2);
    cr_assert_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 2, 1), VGD_OK);
    r->ops->resource_unref(r, 1);
    uint32_t nop[] = {CMD(0u, 0u, 0)};
    cr_assert_eq(r->ops->submit(r, 1, nop, sizeof(nop)), VGD_OK, "no walk over a freed resource");
    cr_assert_eq(r->ops->submit(r, 2, nop, sizeof(nop)), VGD_OK);
    r->ops->context_destroy(r, 1);
    r->ops->context_detach(r, 2, 1);
}

Test(render_virgl, hostile_sizes_are_refused)
{
    const struct vgd_cmd_resource_create_3d good = texture(1, 0);
    struct vgd_cmd_resource_create_3d c[] = {good, good, good, good, good, good,
                                             good, good, good, good, good, good};
    static const char *const names[] = {
        "id 0",         "zero width", "zero height",     "zero depth",
        "target",       "too wide",   "too many levels", "huge array",
        "cube of none", "format",     "huge buffer",     "huge volume"};
    c[0].resource_id = 0;
    c[1].width = 0;
    c[2].height = 0;
    c[3].depth = 0;
    c[4].target = 9;
    c[5].width = 16385;
    c[6].last_level = 5; /* 16x16 has levels 0..4 */
    c[7].target = 7;
    c[7].array_size = UINT32_MAX;
    c[8].target = 4;
    c[8].array_size = 0;
    c[9].format = 0xffffff;
    c[10] = (struct vgd_cmd_resource_create_3d){.resource_id = 1,
                                                .format = 64,
                                                .bind = BIND_VERTEX_BUFFER,
                                                .width = UINT32_MAX,
                                                .height = 1,
                                                .depth = 1,
                                                .array_size = 1};
    c[11].target = 3;
    c[11].width = c[11].height = 16384;
    c[11].depth = 2048;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        cr_expect_eq(r->ops->resource_create_3d(r, &c[i]), VGD_RANGE, "%s", names[i]);
    }
    create_texture(1, 0);
}

/* A transfer that the library refuses would put the whole context in its error state: the context
 * must still work afterwards. */
Test(render_virgl, hostile_transfers_leave_the_context_working)
{
    uint8_t backing[SIDE * SIDE * 4] = {0};
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    context(1);
    create_texture(1, 0);
    create_texture(2, 0);
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_assert_eq(r->ops->resource_attach(r, 2, &iov, 1), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    const struct vgd_cmd_transfer_host_3d good = {
        .box = {.w = SIDE, .h = SIDE, .d = 1}, .resource_id = 1, .stride_bytes = SIDE * 4};
    struct vgd_cmd_transfer_host_3d t[] = {good, good, good, good, good, good,
                                           good, good, good, good, good, good};
    static const char *const names[] = {"x outside",
                                        "x + w wraps",
                                        "h outside",
                                        "z outside",
                                        "level",
                                        "offset beyond",
                                        "stride overflows",
                                        "layer stride overflows",
                                        "offset all ones",
                                        "not attached",
                                        "stride times rows wraps 32 bits",
                                        "negative as int"};
    t[0].box.x = 1;
    t[1].box.x = UINT32_MAX;
    t[1].box.w = 2;
    t[2].box.h = SIDE + 1;
    t[3].box.z = 1;
    t[4].level = 1;
    t[5].offset_bytes = 4;
    t[6].stride_bytes = UINT32_MAX;
    t[7].layer_stride_bytes = UINT32_MAX;
    t[7].box.d = 2;
    t[8].offset_bytes = UINT64_MAX;
    t[9].resource_id = 2;
    t[10].stride_bytes = 0x11111112;
    t[11].box.y = 0x80000000u;
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        cr_expect_eq(r->ops->transfer_to_host_3d(r, 1, &t[i]), VGD_RANGE, "to host: %s", names[i]);
        cr_expect_eq(r->ops->transfer_from_host_3d(r, 1, &t[i]), VGD_RANGE, "from host: %s",
                     names[i]);
    }
    struct vgd_cmd_transfer_host_3d empty = good;
    empty.box.w = 0;
    cr_expect_eq(r->ops->transfer_to_host_3d(r, 1, &empty), VGD_OK, "nothing to do is no mistake");
    cr_expect_eq(r->ops->transfer_to_host_3d(r, 1, &good), VGD_OK);
    cr_assert_eq(clear(1, 1, 10, 1.0f, 0.0f, 0.0f), VGD_OK);
    expect_colour(1, 0, 0, 255);
}

/* OpenGL has no transfers of them, and what the library then hands out is its heap (case G11). */
Test(render_virgl, multisampled_textures_are_not_moved)
{
    uint8_t backing[SIDE * SIDE * 4];
    uint8_t out[SIDE * SIDE * 4];
    memset(backing, 0x33, sizeof(backing));
    memset(out, 0x33, sizeof(out));
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    struct vgd_cmd_resource_create_3d many = texture(1, 0);
    many.nr_samples = 4;
    many.bind = BIND_RENDER_TARGET;
    context(1);
    if (r->ops->resource_create_3d(r, &many) != VGD_OK) {
        cr_skip("no multisampled textures here");
    }
    cr_assert_eq(r->ops->resource_attach(r, 1, &iov, 1), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    const struct vgd_cmd_transfer_host_3d move = {
        .box = {.w = SIDE, .h = SIDE, .d = 1}, .resource_id = 1, .stride_bytes = SIDE * 4};
    cr_expect_eq(r->ops->transfer_to_host_3d(r, 1, &move), VGD_RANGE);
    cr_expect_eq(r->ops->transfer_from_host_3d(r, 1, &move), VGD_RANGE);
    cr_expect_eq(r->ops->transfer_to_host_2d(r, 1, whole, 0), VGD_RANGE);
    cr_expect_eq(r->ops->read_pixels(r, 1, NULL, whole, out, SIDE * 4), VGD_UNSUPPORTED);
    for (size_t i = 0; i < sizeof(backing); i++) {
        cr_assert(backing[i] == 0x33 && out[i] == 0x33);
    }
    create_texture(2, 0);
    cr_assert_eq(r->ops->context_attach(r, 1, 2), VGD_OK);
    cr_assert_eq(clear(1, 2, 10, 1.0f, 0.0f, 0.0f), VGD_OK);
    expect_colour(2, 0, 0, 255);
}

Test(render_virgl, a_bad_stream_is_an_error_for_its_context_only)
{
    context(1);
    context(2);
    create_texture(1, 0);
    cr_assert_eq(r->ops->context_attach(r, 2, 1), VGD_OK);
    uint32_t no_such_command[] = {CMD(0xffu, 0u, 0)};
    cr_expect_neq(r->ops->submit(r, 1, no_such_command, sizeof(no_such_command)), VGD_OK);
    uint32_t no_such_resource[] = {CMD(17u, 0u, 13), 77, 0, 0, 0, 0, 78, 0, 0, 0, 0, 4, 4, 1};
    /* The library takes this one and refuses what follows. */
    (void)r->ops->submit(r, 1, no_such_resource, sizeof(no_such_resource));
    cr_expect_neq(r->ops->submit(r, 1, no_such_command, sizeof(no_such_command)), VGD_OK);
    cr_assert_eq(clear(2, 1, 10, 1.0f, 0.0f, 0.0f), VGD_OK);
    expect_colour(1, 0, 0, 255);
}

static void try_export(bool supported)
{
    struct vgd_dmabuf buffer = {.fd = -1};
    enum vgd_status st = r->ops->export_scanout(r, 1, NULL, &buffer);
    if (!supported) {
        cr_assert_eq(st, VGD_UNSUPPORTED);
        cr_assert_eq(buffer.fd, -1);
        return;
    }
    cr_assert_eq(st, VGD_OK);
    cr_expect(buffer.w_px == SIDE && buffer.h_px == SIDE && buffer.y0_top);
    cr_expect_geq(buffer.stride_bytes, SIDE * 4);
    cr_expect_neq(buffer.fourcc, 0);
    (void)close(buffer.fd);
}

/* An object of @ctx_id for a blob to be made of: what the whole picture takes, and its number. */
static enum vgd_status make_object(uint32_t ctx_id, uint32_t blob_id)
{
    uint32_t stream[] = {
        CMD(48u, 0u, 11), /* PIPE_RESOURCE_CREATE */
        2,                /* a 2D texture */
        VGD_FORMAT_B8G8R8A8_UNORM,
        BIND_RENDER_TARGET | BIND_SAMPLER_VIEW,
        SIDE,
        SIDE,
        1,
        1,
        0,
        0,
        0,
        blob_id,
    };
    return r->ops->submit(r, ctx_id, stream, sizeof(stream));
}

/* Memory of OpenGL's that no other process can map, with a shadow in guest memory or without. */
static void blob_of_opengl(uint32_t mem)
{
    static _Alignas(4096) uint8_t pages[4096];
    const struct iovec iov = {pages, sizeof(pages)};
    bool shadow = mem == VGD_BLOB_MEM_HOST3D_GUEST;
    struct vgd_render_blob blob = {.res_id = 10,
                                   .ctx_id = 1,
                                   .mem = mem,
                                   .flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                   .blob_id = 7,
                                   .size_bytes = sizeof(pages),
                                   .iov = shadow ? &iov : NULL,
                                   .n_iov = shadow ? 1 : 0};
    context(1);
    context(2);
    cr_assert_eq(r->ops->resource_create_blob(r, &blob), VGD_RANGE, "no such object");
    cr_assert_eq(make_object(1, 7), VGD_OK);
    cr_assert_eq(make_object(1, 8), VGD_OK); /* goes with its context */
    cr_assert_eq(r->ops->resource_create_blob(r, &blob), VGD_OK);
    blob.res_id = 11;
    cr_expect_eq(r->ops->resource_create_blob(r, &blob), VGD_RANGE, "it is taken");
    cr_expect_eq(r->ops->context_attach(r, 1, 10), VGD_OK);
    cr_expect_eq(r->ops->context_attach(r, 2, 10), VGD_OK);
    cr_expect_eq(clear(1, 10, 1, 1.0f, 0.0f, 0.0f), VGD_OK, "it can be drawn to");

    struct vgd_blob_file file = {.fd = -1};
    struct vgd_dmabuf exported = {.fd = -1};
    struct vgd_image image = {
        .w_px = SIDE, .h_px = SIDE, .format = VGD_FORMAT_B8G8R8A8_UNORM, .stride_bytes = SIDE * 4};
    uint8_t out[SIDE * SIDE * 4];
    cr_expect_eq(r->ops->blob_export(r, 10, &file), VGD_UNSUPPORTED);
    cr_expect_eq(r->ops->read_pixels(r, 10, &image, whole, out, SIDE * 4), VGD_UNSUPPORTED);
    cr_expect_eq(r->ops->export_scanout(r, 10, &image, &exported), VGD_UNSUPPORTED);
    if (shadow) {
        r->ops->resource_detach(r, 10);
        cr_expect_eq(r->ops->resource_attach(r, 10, &iov, 1), VGD_OK);
    }

    r->ops->context_destroy(r, 1);
    cr_expect_eq(clear(2, 10, 1, 0.0f, 1.0f, 0.0f), VGD_OK, "it outlives its maker");
    r->ops->resource_unref(r, 10);
    cr_expect_neq(clear(2, 10, 2, 0.0f, 1.0f, 0.0f), VGD_OK);
    r->ops->context_destroy(r, 2);
}

Test(render_virgl, blobs_of_opengl_contexts)
{
    blob_of_opengl(VGD_BLOB_MEM_HOST3D);
    blob_of_opengl(VGD_BLOB_MEM_HOST3D_GUEST);
}

Test(render_virgl, export_gives_an_fd_or_says_unsupported)
{
    struct vgd_render_info info;
    r->ops->info(r, &info);
    create_texture(2, 1);
    uint32_t before = open_fds_count();
    create_texture(1, 1);
    try_export(info.exports_dmabuf); /* the driver may keep some for the texture */
    uint32_t after_one = open_fds_count();
    for (int i = 0; i < 10; i++) {
        try_export(info.exports_dmabuf);
    }
    cr_expect_eq(open_fds_count(), after_one, "no fd for each export");
    r->ops->resource_unref(r, 1);
    cr_expect_leq(open_fds_count(), before, "no fd outlives the texture");
}

Test(render_virgl, hardware_can_be_required)
{
    struct vgd_render_info info;
    r->ops->info(r, &info);
    bool is_software = info.is_software;
    r->ops->destroy(r);
    r = NULL;
    char why[256] = "";
    struct vgd_virgl_options o = options();
    o.require_hardware = true;
    enum vgd_status st = vgd_virgl_create(&o, &r, why, sizeof(why));
    cr_expect_eq(st, is_software ? VGD_HOST_FAILED : VGD_OK);
    cr_expect_eq(why[0] != '\0', is_software);
}
