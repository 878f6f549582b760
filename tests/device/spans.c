/* SPDX-License-Identifier: MIT */
/* What a recording is told of guest memory that a command reads and writes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "samples.h"
#include "virgl_wire.h"

#define RES 40u
#define STAGING 41u
#define BACKING_BYTES 0x40000u
#define STAGING_BYTES 0x20000u
#define SPANS_MAX 64u

struct told {
    struct {
        uint32_t res_id;
        uint64_t offset_bytes, n_bytes;
        bool is_write;
    } spans[SPANS_MAX];
    uint32_t count;
    uint64_t bytes, untold_bytes;
};

static void on_span(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                    uint64_t offset_bytes, uint64_t n_bytes, bool is_write)
{
    struct told *t = user;
    uint64_t backing_bytes = 0;
    for (uint32_t i = 0; i < n_iov; i++) {
        backing_bytes += iov[i].iov_len;
    }
    cr_assert_gt(n_bytes, 0);
    cr_assert(offset_bytes < backing_bytes && n_bytes <= backing_bytes - offset_bytes,
              "inside the backing");
    if (t->count < SPANS_MAX) {
        t->spans[t->count].res_id = res_id;
        t->spans[t->count].offset_bytes = offset_bytes;
        t->spans[t->count].n_bytes = n_bytes;
        t->spans[t->count].is_write = is_write;
    }
    t->count++;
    t->bytes += n_bytes;
}

static struct told spans_of(struct bench *b, const struct cmd *c, enum vgd_gpu_queue queue)
{
    struct told t = {0};
    cr_assert_eq(c->w.status, VGD_OK);
    t.untold_bytes =
        vgd_gpu_command_spans(b->gpu, queue, c->bytes, vgd_writer_used(&c->w), on_span, &t);
    return t;
}

/* "1r:0+64": resource, read or write, offset, length; separated by spaces. */
static const char *text_of(const struct told *t)
{
    static char text[2048];
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < t->count && i < SPANS_MAX; i++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u%c:%llu+%llu", i > 0 ? " " : "",
                               t->spans[i].res_id, t->spans[i].is_write ? 'w' : 'r',
                               (unsigned long long)t->spans[i].offset_bytes,
                               (unsigned long long)t->spans[i].n_bytes);
    }
    return text;
}

static void open_prepared(struct bench *b)
{
    bench_open(b, NULL);
    samples_prepare(b);
}

/* A 3D resource with its backing, attached to CTX. */
static void make_3d(struct bench *b, uint32_t id, uint32_t target, uint32_t format, uint32_t w,
                    uint32_t h, uint32_t d, uint32_t layers, uint32_t gpa)
{
    struct vgd_cmd_resource_create_3d args = {.resource_id = id,
                                              .target = target,
                                              .format = format,
                                              .bind = 8,
                                              .width = w,
                                              .height = h,
                                              .depth = d,
                                              .array_size = layers,
                                              .last_level = target == 0 ? 0 : 2};
    cr_assert_resp(create_3d(b, &args), OK_NODATA);
    cr_assert_resp(attach(b, id, gpa, id == RES ? BACKING_BYTES : STAGING_BYTES), OK_NODATA);
    cr_assert_resp(ctx_attach(b, CTX, id), OK_NODATA);
}

struct case_3d {
    const char *name;
    uint32_t target, format, w, h, d, layers;
    struct vgd_cmd_transfer_host_3d t;
    const char *want; /* with r for to-host */
};

#define FORMAT_DXT5 108u
#define FORMAT_NV12 166u
#define FORMAT_R16G16B16A16 94u

static const struct case_3d cases_3d[] = {
    {"whole, default strides",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 64, .h = 32, .d = 1}},
     "40r:0+8192"},
    {"a box: from its corner to its end",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.x = 4, .y = 2, .w = 8, .h = 3, .d = 1}, .offset_bytes = 528},
     "40r:528+544"},
    {"a stride of its own",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 64, .h = 4, .d = 1}, .stride_bytes = 300},
     "40r:0+1156"},
    {"rows far apart are told one by one",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 2, .h = 3, .d = 1}, .stride_bytes = 4096, .offset_bytes = 16},
     "40r:16+8 40r:4112+8 40r:8208+8"},
    {"a level has the level's stride",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 16, .h = 8, .d = 1}, .level = 2, .offset_bytes = 100},
     "40r:100+512"},
    {"compressed: rows of blocks",
     2,
     FORMAT_DXT5,
     64,
     32,
     1,
     1,
     {.box = {.w = 64, .h = 6, .d = 1}},
     "40r:0+512"},
    {"wide texels",
     2,
     FORMAT_R16G16B16A16,
     64,
     32,
     1,
     1,
     {.box = {.w = 64, .h = 2, .d = 1}},
     "40r:0+1024"},
    {"several planes: all of it",
     2,
     FORMAT_NV12,
     64,
     32,
     1,
     1,
     {.box = {.w = 2, .h = 2, .d = 1}},
     "40r:0+262144"},
    {"a buffer counts bytes, whatever its format",
     0,
     1,
     4096,
     1,
     1,
     1,
     {.box = {.x = 10, .w = 100, .h = 1, .d = 1}, .offset_bytes = 10},
     "40r:10+100"},
    {"slices that touch", 3, 1, 16, 16, 4, 1, {.box = {.w = 16, .h = 16, .d = 4}}, "40r:0+4096"},
    {"layers far apart",
     7,
     1,
     16,
     16,
     1,
     3,
     {.box = {.w = 16, .h = 16, .d = 3}, .layer_stride_bytes = 8192},
     "40r:0+1024 40r:8192+1024 40r:16384+1024"},
    {"cut at the end of the backing",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 64, .h = 32, .d = 1}, .offset_bytes = BACKING_BYTES - 100},
     "40r:262044+100"},
    {"no box", 2, 1, 64, 32, 1, 1, {.box = {.w = 0, .h = 32, .d = 1}}, ""},
    {"a box outside is refused", 2, 1, 64, 32, 1, 1, {.box = {.w = 65, .h = 1, .d = 1}}, ""},
    {"an offset outside is refused",
     2,
     1,
     64,
     32,
     1,
     1,
     {.box = {.w = 1, .h = 1, .d = 1}, .offset_bytes = BACKING_BYTES + 1},
     ""},
};

static void transfer_bodies(struct bench *b, const struct case_3d *k, bool from_host)
{
    struct cmd c;
    struct vgd_cmd_transfer_host_3d t = k->t;
    t.resource_id = RES;
    cmd_begin(&c, from_host ? VGD_CMD_TRANSFER_FROM_HOST_3D : VGD_CMD_TRANSFER_TO_HOST_3D, CTX);
    vgd_cmd_transfer_host_3d_encode(&c.w, &t);
    struct told told = spans_of(b, &c, VGD_QUEUE_CONTROL);
    char want[256];
    (void)snprintf(want, sizeof(want), "%s", k->want);
    for (char *p = want; from_host && (p = strchr(p, 'r')) != NULL;) {
        *p = 'w';
    }
    cr_expect_str_eq(text_of(&told), want, "%s: %s instead of %s", k->name, text_of(&told), want);
    cr_expect_eq(spans_of(b, &c, VGD_QUEUE_CURSOR).count, 0, "refused on the cursor queue");
}

DEVICE_TEST(spans_of_3d_transfers)
{
    for (size_t i = 0; i < sizeof(cases_3d) / sizeof(cases_3d[0]); i++) {
        const struct case_3d *k = &cases_3d[i];
        struct bench b;
        open_prepared(&b);
        make_3d(&b, RES, k->target, k->format, k->w, k->h, k->d, k->layers, LOW_GPA);
        transfer_bodies(&b, k, false);
        transfer_bodies(&b, k, true);
        bench_close(&b);
    }
}

DEVICE_TEST(spans_of_3d_transfers_that_are_refused)
{
    struct bench b;
    open_prepared(&b);
    make_3d(&b, RES, 2, 1, 64, 32, 1, 1, LOW_GPA);
    struct cmd c;
    struct vgd_cmd_transfer_host_3d t = {.resource_id = RES, .box = {.w = 1, .h = 1, .d = 1}};
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_3D, CTX + 1); /* no such context */
    vgd_cmd_transfer_host_3d_encode(&c.w, &t);
    cr_expect_eq(spans_of(&b, &c, VGD_QUEUE_CONTROL).count, 0);
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_3D, CTX);
    vgd_cmd_transfer_host_3d_encode(&c.w, &t);
    cr_expect_eq(spans_of(&b, &c, VGD_QUEUE_CONTROL).count, 1);
    c.w.pos -= 1; /* short */
    cr_expect_eq(spans_of(&b, &c, VGD_QUEUE_CONTROL).count, 0);
    cr_assert_resp(ctx_detach(&b, CTX, RES), OK_NODATA);
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_3D, CTX);
    vgd_cmd_transfer_host_3d_encode(&c.w, &t);
    cr_expect_eq(spans_of(&b, &c, VGD_QUEUE_CONTROL).count, 0, "not attached");
    cr_assert_resp(detach(&b, RES), OK_NODATA);
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_3D, 0);
    vgd_cmd_transfer_host_3d_encode(&c.w, &t);
    cr_expect_eq(spans_of(&b, &c, VGD_QUEUE_CONTROL).count, 0, "no backing");
    bench_close(&b);
}

DEVICE_TEST(spans_of_2d_transfers)
{
    static const struct {
        const char *name;
        struct vgd_rect rect;
        uint64_t offset_bytes;
        const char *want;
    } cases[] = {
        {"whole", {0, 0, 256, 64}, 0, "40r:0+65536"},
        {"some rows", {0, 8, 256, 2}, 8192, "40r:8192+2048"},
        {"a wide box", {10, 1, 200, 3}, 1064, "40r:1064+2848"},
        {"a narrow one", {10, 1, 4, 3}, 1064, "40r:1064+16 40r:2088+16 40r:3112+16"},
        {"empty", {0, 0, 0, 64}, 0, ""},
        {"outside", {0, 0, 257, 1}, 0, ""},
        {"wraps", {UINT32_MAX, 0, 2, 1}, 0, ""},
        {"offset at the end", {0, 0, 1, 1}, BACKING_BYTES, ""},
        {"offset beyond all", {0, 0, 1, 1}, UINT64_MAX, ""},
    };
    struct bench b;
    open_prepared(&b);
    cr_assert_resp(create_2d(&b, RES, VGD_FORMAT_B8G8R8X8_UNORM, 256, 64), OK_NODATA);
    cr_assert_resp(attach(&b, RES, LOW_GPA, BACKING_BYTES), OK_NODATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cmd c;
        cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_2D, 0);
        vgd_cmd_transfer_to_host_2d_encode(
            &c.w, &(struct vgd_cmd_transfer_to_host_2d){.rect = cases[i].rect,
                                                        .offset_bytes = cases[i].offset_bytes,
                                                        .resource_id = RES});
        struct told told = spans_of(&b, &c, VGD_QUEUE_CONTROL);
        cr_expect_str_eq(text_of(&told), cases[i].want, "%s: %s", cases[i].name, text_of(&told));
    }
    bench_close(&b);
}

/* A stream: the header of a SUBMIT_3D, then what the caller encodes. */
struct stream {
    struct cmd c;
    size_t body_at;
};

static void stream_begin(struct stream *s)
{
    cmd_begin(&s->c, VGD_CMD_SUBMIT_3D, CTX);
    vgd_cmd_submit_3d_encode(&s->c.w, &(struct vgd_cmd_submit_3d){0});
    s->body_at = vgd_writer_used(&s->c.w);
}

static struct told stream_spans(struct bench *b, struct stream *s)
{
    uint32_t n_bytes = (uint32_t)(vgd_writer_used(&s->c.w) - s->body_at);
    struct vgd_writer size = vgd_writer_of(s->c.bytes + VGD_CTRL_HDR_SIZE, 4);
    vgd_write_le32(&size, n_bytes);
    return spans_of(b, &s->c, VGD_QUEUE_CONTROL);
}

DEVICE_TEST(spans_of_streams)
{
    struct bench b;
    open_prepared(&b);
    make_3d(&b, RES, 2, 1, 64, 32, 1, 1, LOW_GPA);
    make_3d(&b, STAGING, 0, 64, STAGING_BYTES, 1, 1, 1, HIGH_GPA);
    struct vgd_virgl_transfer3d t = {.resource = RES,
                                     .box = {.x = 1, .y = 1, .w = 4, .h = 2, .d = 1},
                                     .offset_bytes = 260,
                                     .direction = VGD_VIRGL_TRANSFER_TO_HOST};
    struct vgd_virgl_copy_transfer3d copy = {.resource = RES,
                                             .box = {.w = 64, .h = 2, .d = 1},
                                             .staging = STAGING,
                                             .staging_offset_bytes = 4096};
    struct stream s;
    stream_begin(&s);
    vgd_virgl_transfer3d_encode(&s.c.w, &t);
    vgd_virgl_copy_transfer3d_encode(&s.c.w, &copy);
    t.direction = VGD_VIRGL_TRANSFER_FROM_HOST;
    copy.flags = VGD_VIRGL_COPY_READ_FROM_HOST;
    vgd_virgl_transfer3d_encode(&s.c.w, &t);
    vgd_virgl_copy_transfer3d_encode(&s.c.w, &copy);
    vgd_virgl_get_memory_info_encode(&s.c.w,
                                     &(struct vgd_virgl_get_memory_info){.resource = STAGING});
    struct told told = stream_spans(&b, &s);
    cr_expect_str_eq(text_of(&told),
                     "40r:260+272 41r:4096+512 40w:260+272 41w:4096+512 "
                     "41w:0+131072",
                     "%s", text_of(&told));

    /* Cut in the middle of a command: what is whole counts. */
    s.c.w.pos -= 4;
    told = stream_spans(&b, &s);
    cr_expect_eq(told.count, 4, "%s", text_of(&told));

    /* What the context does not have is not its. */
    cr_assert_resp(ctx_detach(&b, CTX, STAGING), OK_NODATA);
    told = stream_spans(&b, &s);
    cr_expect_str_eq(text_of(&told), "40r:260+272 40w:260+272", "%s", text_of(&told));

    /* Nothing for a context that is lost. */
    vgd_gpu_context_lost(b.gpu, CTX);
    cr_expect_eq(stream_spans(&b, &s).count, 0);
    bench_close(&b);
}

/* What is behind the command that the renderer stops at is not told. */
DEVICE_TEST(spans_of_streams_end_with_what_is_refused)
{
    struct bench b;
    open_prepared(&b);
    make_3d(&b, RES, 2, 1, 64, 32, 1, 1, LOW_GPA);
    make_3d(&b, STAGING, 0, 64, STAGING_BYTES, 1, 1, 1, HIGH_GPA);
    const struct vgd_virgl_transfer3d good = {
        .resource = RES, .box = {.w = 64, .h = 1, .d = 1}, .direction = VGD_VIRGL_TRANSFER_TO_HOST};
    struct vgd_virgl_transfer3d bad = good;
    struct vgd_virgl_copy_transfer3d copy = {
        .resource = RES, .box = {.w = 65, .h = 1, .d = 1}, .staging = STAGING};
    struct stream s;
    struct told told;
    for (unsigned i = 0; i < 5; i++) {
        stream_begin(&s);
        vgd_virgl_transfer3d_encode(&s.c.w, &good);
        bad = good;
        bad.box.x = i == 0 ? 1 : 0;
        bad.box.y = i == 1 ? 32 : 0;
        bad.level = i == 2 ? 1 : 0;
        if (i < 3) {
            vgd_virgl_transfer3d_encode(&s.c.w, &bad);
        } else if (i == 3) {
            vgd_virgl_copy_transfer3d_encode(&s.c.w, &copy);
        } else {
            vgd_write_le32(&s.c.w, VGD_VIRGL_CMD_DRAW_VBO); /* without a body */
        }
        vgd_virgl_transfer3d_encode(&s.c.w, &good);
        told = stream_spans(&b, &s);
        cr_expect_str_eq(text_of(&told), "40r:0+256", "%u: %s", i, text_of(&told));
        cr_expect_eq(told.untold_bytes, 0);
    }
    bench_close(&b);
}

/* A command that names the same memory again and again; strides whose product wraps. */
DEVICE_TEST(spans_are_bounded)
{
    struct bench b;
    open_prepared(&b);
    make_3d(&b, STAGING, 0, 64, STAGING_BYTES, 1, 1, 1, HIGH_GPA);
    const uint32_t count = 3000;
    uint32_t stream_bytes = count * 8;
    size_t n_bytes = VGD_CTRL_HDR_SIZE + 8 + stream_bytes;
    uint8_t *bytes = calloc(1, n_bytes);
    cr_assert_not_null(bytes);
    struct vgd_writer w = vgd_writer_of(bytes, n_bytes);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D, .ctx_id = CTX});
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = stream_bytes});
    for (uint32_t i = 0; i < count; i++) {
        vgd_virgl_get_memory_info_encode(&w,
                                         &(struct vgd_virgl_get_memory_info){.resource = STAGING});
    }
    cr_assert_eq(w.status, VGD_OK);
    cr_assert_eq(vgd_writer_used(&w), n_bytes);
    struct told told = {0};
    told.untold_bytes =
        vgd_gpu_command_spans(b.gpu, VGD_QUEUE_CONTROL, bytes, n_bytes, on_span, &told);
    cr_expect_eq(told.bytes, (uint64_t)256 << 20);
    cr_expect_eq(told.bytes + told.untold_bytes, (uint64_t)count * STAGING_BYTES);
    free(bytes);

    make_3d(&b, RES, 2, 1, 64, 32, 1, 1, LOW_GPA);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_TRANSFER_TO_HOST_3D, CTX);
    vgd_cmd_transfer_host_3d_encode(
        &c.w, &(struct vgd_cmd_transfer_host_3d){.box = {.w = 64, .h = 32, .d = 1},
                                                 .resource_id = RES,
                                                 .stride_bytes = UINT32_MAX});
    told = spans_of(&b, &c, VGD_QUEUE_CONTROL);
    cr_expect_str_eq(text_of(&told), "40r:0+256", "%s", text_of(&told));
    bench_close(&b);
}

DEVICE_TEST(spans_of_guest_blobs_that_are_shown)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_guest_blob(&b, RES, LOW_GPA, 0x10000), OK_NODATA);
    struct vgd_cmd_set_scanout_blob set = {.rect = {.x_px = 2, .y_px = 1, .w_px = 32, .h_px = 16},
                                           .scanout_id = 0,
                                           .resource_id = RES,
                                           .w_px = 64,
                                           .h_px = 64,
                                           .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                           .strides_bytes = {256},
                                           .offsets_bytes = {4096 - 4}};
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SET_SCANOUT_BLOB, 0);
    set.offsets_bytes[0] = 4096;
    vgd_cmd_set_scanout_blob_encode(&c.w, &set);
    struct told told = spans_of(&b, &c, VGD_QUEUE_CONTROL);
    cr_expect_str_eq(text_of(&told), "40r:4360+3968", "%s", text_of(&told));
    cr_assert_resp(set_scanout_blob(&b, &set), OK_NODATA);

    cmd_begin(&c, VGD_CMD_RESOURCE_FLUSH, 0);
    vgd_cmd_resource_flush_encode(
        &c.w, &(struct vgd_cmd_resource_flush){.rect = {.w_px = 4, .h_px = 2}, .resource_id = RES});
    told = spans_of(&b, &c, VGD_QUEUE_CONTROL);
    cr_expect_str_eq(text_of(&told), "40r:4360+8", "%s", text_of(&told));

    cmd_begin(&c, VGD_CMD_UPDATE_CURSOR, 0);
    vgd_cmd_update_cursor_encode(&c.w, &(struct vgd_cmd_update_cursor){.resource_id = RES});
    told = spans_of(&b, &c, VGD_QUEUE_CURSOR);
    cr_expect_str_eq(text_of(&told), "40r:0+16384", "%s", text_of(&told));
    bench_close(&b);
}

/* Any prefix, any byte turned: nothing breaks, and nothing changes. */
DEVICE_TEST(spans_of_damaged_commands)
{
    struct bench b;
    open_prepared(&b);
    uint64_t before = state_of(&b);
    for (size_t i = 0; i < samples_count; i++) {
        struct cmd c;
        sample_build(&samples[i], &b, &c, false);
        size_t n_bytes = vgd_writer_used(&c.w);
        struct told t = {0};
        for (size_t len = 0; len <= n_bytes; len++) {
            _Alignas(8) uint8_t exact[4096];
            memcpy(exact, c.bytes, len);
            vgd_gpu_command_spans(b.gpu, samples[i].queue, exact, len, on_span, &t);
            for (unsigned bit = 0; len == n_bytes && bit < 8 * len; bit++) {
                exact[bit / 8] ^= (uint8_t)(1u << bit % 8);
                vgd_gpu_command_spans(b.gpu, samples[i].queue, exact, len, on_span, &t);
                exact[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
        }
    }
    cr_assert_eq(state_of(&b), before);
    bench_close(&b);
}
