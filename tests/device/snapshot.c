/* SPDX-License-Identifier: MIT */
/* A device that is fed with another one's snapshot ends as that one is. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "samples.h"
#include "virgl_wire.h"

/* Where the player puts texels while it uploads them; what was there comes back. */
#define UPLOAD_GPA HIGH_GPA
#define UPLOAD_BYTES REGION_BYTES

struct player {
    struct bench *from, *to;
    uint32_t calls, commands, contents, backings;
    uint32_t refuse_each; /* every call is refused so often before it is taken */
    uint32_t refused;
};

static bool refuses(struct player *p)
{
    if (p->refused < p->refuse_each) {
        p->refused++;
        return true;
    }
    p->refused = 0;
    p->calls++;
    return false;
}

static bool on_command(void *user, enum vgd_gpu_queue queue, const uint8_t *head, size_t head_bytes,
                       const void *tail, size_t tail_bytes)
{
    struct player *p = user;
    cr_assert_eq((uintptr_t)tail % 4, 0);
    if (refuses(p)) {
        return false;
    }
    uint8_t *bytes = malloc(head_bytes + tail_bytes);
    cr_assert_not_null(bytes);
    memcpy(bytes, head, head_bytes);
    if (tail_bytes != 0) {
        memcpy(bytes + head_bytes, tail, tail_bytes);
    }
    struct sent s;
    send_bytes(p->to, &s, bytes, head_bytes + tail_bytes, RESP_BYTES_MAX, queue);
    cr_assert_eq(s.completions, 1);
    cr_assert_lt(s.hdr.type, VGD_RESP_ERR_UNSPEC, "command 0x%02x%02x: answer 0x%x", bytes[1],
                 bytes[0], s.hdr.type);
    p->commands++;
    free(bytes);
    return true;
}

/* The same place of the other guest's memory. */
static uint8_t *there(struct player *p, const uint8_t *at)
{
    for (uint32_t i = 0; i < REGIONS_COUNT; i++) {
        if (at >= p->from->ram[i] && at < p->from->ram[i] + REGION_BYTES) {
            return p->to->ram[i] + (at - p->from->ram[i]);
        }
    }
    cr_assert_fail("outside of guest memory");
    return NULL;
}

static bool on_backing(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                       uint64_t offset_bytes, uint64_t n_bytes)
{
    (void)res_id;
    struct player *p = user;
    cr_assert(n_bytes > 0 && n_bytes <= VGD_SNAPSHOT_PART_BYTES);
    if (refuses(p)) {
        return false;
    }
    for (uint32_t i = 0; i < n_iov && n_bytes > 0; i++) {
        if (offset_bytes >= iov[i].iov_len) {
            offset_bytes -= iov[i].iov_len;
            continue;
        }
        uint64_t n =
            iov[i].iov_len - offset_bytes < n_bytes ? iov[i].iov_len - offset_bytes : n_bytes;
        const uint8_t *from = (const uint8_t *)iov[i].iov_base + offset_bytes;
        memcpy(there(p, from), from, n);
        offset_bytes = 0;
        n_bytes -= n;
    }
    cr_assert_eq(n_bytes, 0, "all of it is there");
    p->backings++;
    return true;
}

/* By what a guest has: pages of its own, a transfer, and the pages away again. */
static bool on_content(void *user, uint32_t res_id, uint32_t level, const struct vgd_box *box,
                       uint32_t stride_bytes, uint32_t layer_stride_bytes, const void *data,
                       size_t n_bytes)
{
    struct player *p = user;
    cr_assert(n_bytes > 0 && n_bytes <= VGD_SNAPSHOT_PART_BYTES);
    if (refuses(p)) {
        return false;
    }
    static uint8_t saved[UPLOAD_BYTES];
    memcpy(saved, ram_at(p->to, UPLOAD_GPA), sizeof(saved));
    memcpy(ram_at(p->to, UPLOAD_GPA), data, n_bytes);
    cr_assert_resp(attach(p->to, res_id, UPLOAD_GPA, UPLOAD_BYTES), OK_NODATA);
    struct vgd_rect rect = {.x_px = box->x, .y_px = box->y, .w_px = box->w, .h_px = box->h};
    if (transfer_2d(p->to, res_id, rect, 0) != VGD_RESP_OK_NODATA) {
        struct vgd_cmd_transfer_host_3d t = {.box = *box,
                                             .resource_id = res_id,
                                             .level = level,
                                             .stride_bytes = stride_bytes,
                                             .layer_stride_bytes = layer_stride_bytes};
        cr_assert_resp(transfer_3d(p->to, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), OK_NODATA);
    }
    cr_assert_resp(detach(p->to, res_id), OK_NODATA);
    memcpy(ram_at(p->to, UPLOAD_GPA), saved, sizeof(saved));
    p->contents++;
    return true;
}

static enum vgd_status snapshot(struct player *p, uint64_t *position)
{
    struct vgd_gpu_snapshot_sink sink = {
        .command = on_command, .backing = on_backing, .content = on_content, .user = p};
    return vgd_gpu_snapshot(p->from->gpu, &sink, position);
}

static void fill(struct bench *b)
{
    for (uint32_t i = 0; i < REGIONS_COUNT; i++) {
        for (uint32_t k = 0; k < REGION_BYTES; k++) {
            b->ram[i][k] = (uint8_t)(i * 61 + k * 7 + (k >> 9));
        }
    }
}

/* Something of everything; one picture larger than a part. */
static void build(struct bench *b)
{
    fill(b);
    samples_prepare(b);
    cr_assert_resp(create_2d(b, 100, VGD_FORMAT_R8G8B8A8_UNORM, 500, 900), OK_NODATA);
    cr_assert_resp(attach(b, 100, LOW_GPA, 2 * REGION_BYTES - 4096), OK_NODATA);
    cr_assert_resp(transfer_2d(b, 100, (struct vgd_rect){0, 0, 500, 900}, 0), OK_NODATA);
    cr_assert_resp(set_scanout(b, 0, 100, (struct vgd_rect){10, 10, 300, 200}), OK_NODATA);
    struct vgd_cmd_set_scanout_blob set = {.rect = {.w_px = 8, .h_px = 8},
                                           .scanout_id = 1,
                                           .resource_id = RES_BLOB_GUEST,
                                           .w_px = 8,
                                           .h_px = 8,
                                           .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                           .strides_bytes = {32}};
    cr_assert_resp(set_scanout_blob(b, &set), OK_NODATA);
    struct vgd_cmd_transfer_host_3d t = {.resource_id = RES_3D,
                                         .box = {.w = SAMPLE_SIDE_PX, .h = SAMPLE_SIDE_PX, .d = 1}};
    cr_assert_resp(transfer_3d(b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), OK_NODATA);
    /* A cursor, whose resource has gone since. */
    cr_assert_resp(create_2d(b, 101, VGD_FORMAT_B8G8R8A8_UNORM, 64, 64), OK_NODATA);
    cr_assert_resp(attach(b, 101, MIDDLE_GPA + 12345, 64 * 64 * 4), OK_NODATA);
    cr_assert_resp(transfer_2d(b, 101, (struct vgd_rect){0, 0, 64, 64}, 0), OK_NODATA);
    cr_assert_resp(update_cursor(b, 2, 101), OK_NODATA);
    cr_assert_resp(move_cursor(b, 2, 33, 44), OK_NODATA);
    cr_assert_resp(unref(b, 101), OK_NODATA);
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    cr_assert_resp(assign_uuid(b, 100, uuid), OK_RESOURCE_UUID);
    memset(b->ram[0], 0x17, 4096); /* the guest goes on in memory: texels and pages differ */
}

static void expect_equal(struct bench *a, struct bench *b)
{
    cr_assert_eq(state_of(a), state_of(b));
    static const uint32_t ids[] = {RES_2D, RES_3D, RES_3D_OUTSIDE, 100};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        for (uint32_t y = 0; y < SAMPLE_SIDE_PX; y += 7) {
            cr_assert_eq(pixel_at(a, ids[i], 5, y), pixel_at(b, ids[i], 5, y), "res %u row %u",
                         ids[i], y);
        }
    }
    for (uint32_t y = 0; y < 900; y += 13) {
        cr_assert_eq(pixel_at(a, 100, 499, y), pixel_at(b, 100, 499, y), "row %u", y);
    }
    cr_assert_eq(memcmp(a->ram[0], b->ram[0], REGION_BYTES), 0);
    cr_assert_eq(memcmp(a->ram[1], b->ram[1], REGION_BYTES - 4096), 0);
    cr_assert_eq(memcmp(a->display.pixels, b->display.pixels, VGD_CURSOR_BYTES), 0);
    cr_assert_eq(a->window.maps_count, b->window.maps_count);
    cr_assert_eq(a->window.maps[0].offset_bytes, b->window.maps[0].offset_bytes);
    cr_assert_eq(vgd_fake_context_count(a->render), vgd_fake_context_count(b->render));
    cr_assert(vgd_fake_is_attached(b->render, CTX, RES_3D));
}

DEVICE_TEST(snapshot_makes_the_same_state)
{
    struct bench a, b;
    bench_open(&a, NULL);
    cr_assert_not(vgd_gpu_has_state(a.gpu));
    build(&a);
    cr_assert(vgd_gpu_has_state(a.gpu));
    uint64_t before = state_of(&a);
    uint32_t whole_calls = 0;
    for (uint32_t refuse_each = 0; refuse_each < 2; refuse_each++) {
        bench_open(&b, NULL);
        struct player p = {.from = &a, .to = &b, .refuse_each = refuse_each};
        uint64_t position = 0;
        enum vgd_status st;
        uint32_t turns = 0;
        while ((st = snapshot(&p, &position)) == VGD_CLOSED) {
            turns++;
            cr_assert_leq(turns, 2 * p.calls + 2);
        }
        cr_assert_eq(st, VGD_OK);
        cr_assert(p.contents >= 4 && p.backings >= 3 && p.commands > 12);
        cr_assert_eq(state_of(&a), before, "nothing changes by it");
        if (refuse_each == 0) {
            whole_calls = p.calls;
            cr_assert_eq(turns, 0);
        } else {
            cr_assert_eq(p.calls, whole_calls, "in parts it is the same");
            cr_assert_eq(turns, p.calls, "each call was refused once");
        }
        expect_equal(&a, &b);
        bench_close(&b);
    }
    bench_close(&a);
}

struct emitted {
    uint32_t dwords[4096];
    uint32_t count;
};

static bool on_part(void *user, const uint32_t *dwords, uint32_t n_dwords)
{
    struct emitted *e = user;
    cr_assert_leq(n_dwords, 4096 - e->count);
    memcpy(e->dwords + e->count, dwords, n_dwords * sizeof(*dwords));
    e->count += n_dwords;
    return true;
}

static struct emitted stream_of(struct bench *b)
{
    struct emitted e = {0};
    const struct vgd_context *ctx = vgd_context_find(b->gpu, CTX);
    cr_assert(ctx != NULL && ctx->stream != NULL);
    cr_assert_eq(vgd_virgl_state_emit(ctx->stream, 64, on_part, &e), VGD_OK);
    return e;
}

/* What a context's streams have set up is there again; also in parts. */
DEVICE_TEST(snapshot_of_streams)
{
    struct bench a, b;
    bench_open(&a, NULL);
    samples_prepare(&a);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, CTX);
    size_t header_bytes = vgd_writer_used(&c.w) + VGD_CMD_SUBMIT_3D_SIZE;
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    for (uint32_t i = 1; i < 40; i++) {
        vgd_virgl_create_sub_ctx_encode(&c.w, &(struct vgd_virgl_create_sub_ctx){.sub_ctx = i});
    }
    vgd_virgl_set_sub_ctx_encode(&c.w, &(struct vgd_virgl_set_sub_ctx){.sub_ctx = 7});
    struct vgd_writer size = vgd_writer_of(c.bytes + VGD_CTRL_HDR_SIZE, 4);
    vgd_write_le32(&size, (uint32_t)(vgd_writer_used(&c.w) - header_bytes));
    cr_assert_resp(cmd_run(&a, &c), OK_NODATA);
    struct emitted want = stream_of(&a);
    cr_assert_gt(want.count, 40);
    for (uint32_t refuse_each = 0; refuse_each < 2; refuse_each++) {
        bench_open(&b, NULL);
        struct player p = {.from = &a, .to = &b, .refuse_each = refuse_each};
        uint64_t position = 0;
        enum vgd_status st;
        while ((st = snapshot(&p, &position)) == VGD_CLOSED) {
        }
        cr_assert_eq(st, VGD_OK);
        struct emitted got = stream_of(&b);
        cr_assert_eq(got.count, want.count);
        cr_assert_arr_eq(got.dwords, want.dwords, want.count * sizeof(want.dwords[0]));
        bench_close(&b);
    }
    bench_close(&a);
}

DEVICE_TEST(snapshot_leaves_out_what_is_lost)
{
    struct bench a, b;
    bench_open(&a, NULL);
    build(&a);
    vgd_gpu_context_lost(a.gpu, CTX); /* with it the blobs of its memory, and their maps */
    bench_open(&b, NULL);
    struct player p = {.from = &a, .to = &b};
    uint64_t position = 0;
    cr_assert_eq(snapshot(&p, &position), VGD_OK);
    cr_assert_eq(vgd_fake_context_count(b.render), 0);
    cr_assert_eq(b.window.maps_count, 0);
    cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB));
    cr_assert(vgd_fake_has_resource(b.render, RES_3D));
    cr_assert(vgd_fake_has_resource(b.render, RES_BLOB_GUEST));
    bench_close(&b);
    bench_close(&a);
}

/* What the renderer cannot read is not there, and all the rest is, also in parts. */
DEVICE_TEST(snapshot_without_texels_that_cannot_be_read)
{
    struct bench a, b;
    bench_open(&a, NULL);
    fill(&a);
    struct vgd_cmd_resource_create_3d args = {.resource_id = 1,
                                              .target = 2,
                                              .format = 1,
                                              .bind = 8,
                                              .width = 32,
                                              .height = 32,
                                              .depth = 1,
                                              .array_size = 1,
                                              .last_level = 3};
    cr_assert_resp(create_3d(&a, &args), OK_NODATA); /* the fake keeps level 0 alone */
    args.resource_id = 2;
    args.format = 166; /* several planes */
    cr_assert_resp(create_3d(&a, &args), OK_NODATA);
    args.resource_id = 3;
    args.format = 1;
    args.nr_samples = 4;
    cr_assert_resp(create_3d(&a, &args), OK_NODATA);
    bench_open(&b, NULL);
    struct player p = {.from = &a, .to = &b, .refuse_each = 1};
    uint64_t position = 0;
    enum vgd_status st;
    while ((st = snapshot(&p, &position)) == VGD_CLOSED) {
    }
    cr_assert_eq(st, VGD_OK);
    cr_assert_eq(p.contents, 1);
    cr_assert_eq(p.commands, 3);
    cr_assert_eq(state_of(&a), state_of(&b));
    bench_close(&b);
    bench_close(&a);
}

DEVICE_TEST(snapshot_of_a_cursor_takes_an_id_that_is_free)
{
    struct bench a, b;
    bench_open(&a, NULL);
    build(&a);
    cr_assert_resp(create_2d(&a, UINT32_MAX - 1, VGD_FORMAT_B8G8R8A8_UNORM, 8, 8), OK_NODATA);
    bench_open(&b, NULL);
    struct player p = {.from = &a, .to = &b};
    uint64_t position = 0;
    cr_assert_eq(snapshot(&p, &position), VGD_OK);
    expect_equal(&a, &b);
    cr_assert(vgd_fake_has_resource(b.render, UINT32_MAX - 1));
    cr_assert_not(vgd_fake_has_resource(b.render, UINT32_MAX - 2), "it goes at the end");
    bench_close(&b);
    bench_close(&a);
}
