/* SPDX-License-Identifier: MIT */
/* Texels as a snapshot reads them: what was uploaded comes back, for each kind of texture, in
 * bands, and nothing else changes. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "soft.h"
#include "virgl.h"
#include "virgl_format.h"

#define BIND_RENDER_TARGET 2u
#define BIND_SAMPLER_VIEW 8u
#define BIND_VERTEX_BUFFER 16u
#define BIND_STAGING (1u << 19)

static struct vgd_loop *loop;
static struct vgd_render *r;

static void on_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user, (void)ctx_id, (void)ring_idx, (void)seq;
}

static void on_lost(void *user, uint32_t ctx_id)
{
    (void)user, (void)ctx_id;
}

static void set_up(void)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    struct vgd_virgl_options options = {
        .want_virgl = true,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost}};
    char why[256];
    if (vgd_virgl_create(&options, &r, why, sizeof(why)) != VGD_OK) {
        r = NULL;
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

TestSuite(render_content, .init = set_up, .fini = tear_down, .timeout = 60);

static const struct {
    const char *name;
    uint32_t target, format, w, h, d, layers, last_level;
    bool may_be_refused; /* the host's OpenGL may not have it */
} textures[] = {
    {"a texture that can be drawn to", 2, 1, 64, 40, 1, 1, 2, false},
    {"one that cannot: three bytes a texel", 2, 66, 64, 40, 1, 1, 2, true},
    {"compressed", 2, 108, 64, 40, 1, 1, 2, true},
    {"a volume", 3, 67, 16, 8, 4, 1, 1, false},
    {"layers", 7, 67, 16, 8, 1, 3, 1, false},
    {"layers, compressed", 7, 108, 16, 16, 1, 3, 1, true},
    {"a cube", 4, 67, 16, 16, 1, 6, 1, false},
    {"floats", 2, 94, 32, 8, 1, 1, 0, false},
    {"one byte a texel", 2, 64, 32, 8, 1, 1, 0, false},
};

static uint32_t minify(uint32_t size, uint32_t level)
{
    return size >> level != 0 ? size >> level : 1;
}

static void pattern(uint8_t *out, size_t n_bytes, uint32_t seed)
{
    for (size_t i = 0; i < n_bytes; i++) {
        out[i] = (uint8_t)(seed * 41 + i * 7 + (i >> 8));
    }
    if (n_bytes > 1) { /* no half float that is no number */
        for (size_t i = 1; i < n_bytes; i += 2) {
            out[i] &= 0x3f;
        }
    }
}

/* Upload a layer of a level and read it back in bands of @band_rows rows of blocks. */
static void one_layer(uint32_t id, size_t i, uint32_t level, uint32_t z, uint32_t band_rows)
{
    uint32_t bw, bh, bytes;
    cr_assert(vgd_virgl_format_block(textures[i].format, &bw, &bh, &bytes));
    uint32_t w = minify(textures[i].w, level);
    uint32_t h = minify(textures[i].h, level);
    uint32_t stride = (w + bw - 1) / bw * bytes;
    uint32_t rows = (h + bh - 1) / bh;
    uint8_t *want = malloc((size_t)stride * rows);
    uint8_t *got = malloc((size_t)stride * rows);
    pattern(want, (size_t)stride * rows, level * 16 + z + 1);
    struct iovec iov = {.iov_base = want, .iov_len = (size_t)stride * rows};
    cr_assert_eq(r->ops->resource_attach(r, id, &iov, 1), VGD_OK);
    struct vgd_cmd_transfer_host_3d t = {
        .resource_id = id, .level = level, .box = {.z = z, .w = w, .h = h, .d = 1}};
    t.stride_bytes = stride;
    cr_assert_eq(r->ops->transfer_to_host_3d(r, 0, &t), VGD_OK, "%s", textures[i].name);
    r->ops->resource_detach(r, id);
    memset(got, 0xee, (size_t)stride * rows);
    for (uint32_t row = 0; row < rows; row += band_rows) {
        uint32_t n = rows - row < band_rows ? rows - row : band_rows;
        struct vgd_box box = {.y = row * bh, .z = z, .w = w, .d = 1};
        box.h = row + n == rows ? h - box.y : n * bh;
        enum vgd_status st = r->ops->content_read(r, id, level, &box, got + (size_t)row * stride,
                                                  (size_t)n * stride, stride, stride * n);
        cr_assert_eq(st, VGD_OK, "%s: level %u layer %u row %u: %s", textures[i].name, level, z,
                     row, vgd_status_text(st));
    }
    cr_assert_eq(memcmp(want, got, (size_t)stride * rows), 0, "%s: level %u layer %u bands of %u",
                 textures[i].name, level, z, band_rows);
    free(want);
    free(got);
}

Test(render_content, what_was_uploaded_is_read)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof(textures) / sizeof(textures[0]); i++) {
        uint32_t id = (uint32_t)i + 1;
        struct vgd_cmd_resource_create_3d cmd = {.resource_id = id,
                                                 .target = textures[i].target,
                                                 .format = textures[i].format,
                                                 .bind = BIND_SAMPLER_VIEW,
                                                 .width = textures[i].w,
                                                 .height = textures[i].h,
                                                 .depth = textures[i].d,
                                                 .array_size = textures[i].layers,
                                                 .last_level = textures[i].last_level};
        enum vgd_status st = r->ops->resource_create_3d(r, &cmd);
        if (st != VGD_OK && textures[i].may_be_refused) {
            continue; /* OpenGL here has no such textures */
        }
        cr_assert_eq(st, VGD_OK, "%s", textures[i].name);
        for (uint32_t level = 0; level <= textures[i].last_level; level++) {
            uint32_t layers =
                textures[i].target == 3 ? minify(textures[i].d, level) : textures[i].layers;
            for (uint32_t z = 0; z < layers; z++) {
                one_layer(id, i, level, z, 1000);
                one_layer(id, i, level, z, 3);
            }
        }
    }
}

Test(render_content, buffers)
{
    if (r == NULL) {
        return;
    }
    static uint8_t want[3000], got[1000];
    pattern(want, sizeof(want), 5);
    struct iovec iov = {.iov_base = want, .iov_len = sizeof(want)};
    for (uint32_t id = 1; id <= 2; id++) {
        struct vgd_cmd_resource_create_3d cmd = {.resource_id = id,
                                                 .format = 64,
                                                 .bind =
                                                     id == 1 ? BIND_VERTEX_BUFFER : BIND_STAGING,
                                                 .width = sizeof(want),
                                                 .height = 1,
                                                 .depth = 1,
                                                 .array_size = 1};
        enum vgd_status st = r->ops->resource_create_3d(r, &cmd);
        struct vgd_box box = {.x = 1500, .w = sizeof(got), .h = 1, .d = 1};
        if (id == 2) {
            /* Nothing but the guest's memory, and there is none. */
            cr_assert(st != VGD_OK || r->ops->content_read(r, id, 0, &box, got, sizeof(got), 0,
                                                           0) == VGD_UNSUPPORTED);
            break;
        }
        cr_assert_eq(st, VGD_OK);
        cr_assert_eq(r->ops->resource_attach(r, id, &iov, 1), VGD_OK);
        struct vgd_cmd_transfer_host_3d t = {.resource_id = id,
                                             .box = {.w = sizeof(want), .h = 1, .d = 1}};
        cr_assert_eq(r->ops->transfer_to_host_3d(r, 0, &t), VGD_OK);
        cr_assert_eq(r->ops->content_read(r, id, 0, &box, got, sizeof(got), 0, 0), VGD_OK);
        cr_assert_eq(memcmp(got, want + 1500, sizeof(got)), 0);
        cr_assert_eq(r->ops->content_read(r, id, 0, &box, got, sizeof(got) - 1, 0, 0), VGD_RANGE);
    }
}

Test(render_content, what_cannot_be_read_is_said)
{
    if (r == NULL) {
        return;
    }
    struct vgd_cmd_resource_create_3d cmd = {.resource_id = 1,
                                             .target = 2,
                                             .format = 1,
                                             .bind = BIND_RENDER_TARGET,
                                             .width = 16,
                                             .height = 16,
                                             .depth = 1,
                                             .array_size = 1,
                                             .nr_samples = 4};
    static uint8_t out[4096];
    struct vgd_box box = {.w = 16, .h = 16, .d = 1};
    if (r->ops->resource_create_3d(r, &cmd) == VGD_OK) {
        cr_assert_eq(r->ops->content_read(r, 1, 0, &box, out, sizeof(out), 64, 1024),
                     VGD_UNSUPPORTED);
    }
    cr_assert_eq(r->ops->content_read(r, 77, 0, &box, out, sizeof(out), 64, 1024), VGD_NO_RESOURCE);
}

/* A 2D resource's pixels, wherever the newer copy is; reading moves it nowhere. */
static void two_d(struct vgd_render *render)
{
    static uint8_t backing[16 * 16 * 4], out[16 * 16 * 4];
    pattern(backing, sizeof(backing), 3);
    struct iovec iov = {.iov_base = backing, .iov_len = sizeof(backing)};
    struct vgd_rect whole = {.w_px = 16, .h_px = 16};
    cr_assert_eq(render->ops->resource_create_2d(render, 1, VGD_FORMAT_R8G8B8A8_UNORM, 16, 16),
                 VGD_OK);
    cr_assert_eq(render->ops->resource_attach(render, 1, &iov, 1), VGD_OK);
    cr_assert_eq(render->ops->transfer_to_host_2d(render, 1, whole, 0), VGD_OK);
    struct vgd_box box = {.y = 4, .w = 16, .h = 8, .d = 1};
    cr_assert_eq(render->ops->content_read(render, 1, 0, &box, out, 8 * 64, 64, 0), VGD_OK);
    cr_assert_eq(memcmp(out, backing + 4 * 64, 8 * 64), 0, "in its own format");
    box.h = 13;
    cr_assert_eq(render->ops->content_read(render, 1, 0, &box, out, sizeof(out), 64, 0), VGD_RANGE);
    struct vgd_rect changed = render->ops->take_changed(render, 1, whole);
    cr_assert(changed.w_px == 16 && changed.h_px == 16, "it still has to be shown");
}

Test(render_content, two_dimensions_in_virgl)
{
    if (r == NULL) {
        return;
    }
    two_d(r);
    /* And when it has a texture. */
    static uint8_t out[16 * 16 * 4];
    struct vgd_box box = {.w = 16, .h = 16, .d = 1};
    cr_assert_eq(r->ops->context_create(r, 1, 0, "c", 1), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 1), VGD_OK);
    uint32_t nop[1] = {0};
    cr_assert_eq(r->ops->submit(r, 1, nop, sizeof(nop)), VGD_OK);
    cr_assert_eq(r->ops->content_read(r, 1, 0, &box, out, sizeof(out), 64, 0), VGD_OK);
    uint8_t want[16 * 16 * 4];
    pattern(want, sizeof(want), 3);
    cr_assert_eq(memcmp(out, want, sizeof(want)), 0);
}

Test(render_content, two_dimensions_in_pixman)
{
    struct vgd_render_callbacks callbacks = {.fence_done = on_fence, .context_lost = on_lost};
    struct vgd_render *soft = vgd_soft_create(&callbacks);
    cr_assert_not_null(soft);
    two_d(soft);
    soft->ops->destroy(soft);
}
