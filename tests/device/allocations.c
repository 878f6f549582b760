/* SPDX-License-Identifier: MIT */
/*
 * Every allocation on the path of a command fails once (cases R04, F08), and every byte that the
 * allocator and the stack hand out is poisoned (case H08). Linked with --wrap for the allocator.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "learner.h"
#include "samples.h"

#define POISON 0xa5

static uint32_t fail_in; /* 0: none */
static bool armed;

void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t n_bytes);
void *__real_realloc(void *p, size_t n_bytes);
void *__wrap_malloc(size_t n_bytes);
void *__wrap_calloc(size_t n, size_t n_bytes);
void *__wrap_realloc(void *p, size_t n_bytes);

static bool fails(void)
{
    return armed && fail_in > 0 && --fail_in == 0;
}

void *__wrap_malloc(size_t n_bytes)
{
    void *p = fails() ? NULL : __real_malloc(n_bytes);
    if (p != NULL) {
        memset(p, POISON, n_bytes);
    }
    return p;
}

void *__wrap_calloc(size_t n, size_t n_bytes)
{
    return fails() ? NULL : __real_calloc(n, n_bytes);
}

void *__wrap_realloc(void *p, size_t n_bytes)
{
    return fails() ? NULL : __real_realloc(p, n_bytes);
}

/* Execute with the @nth allocation failing (0: none); was it reached? */
static bool execute(struct bench *b, struct sent *s, const struct cmd *c, enum vgd_gpu_queue queue,
                    uint32_t nth)
{
    memset(s, POISON, sizeof(*s));
    s->bench = b;
    s->completions = 0;
    s->hdr = (struct vgd_ctrl_hdr){0};
    static _Alignas(8) uint8_t bytes[4096];
    memcpy(bytes, c->bytes, vgd_writer_used(&c->w));
    s->req.cmd = bytes;
    s->req.cmd_bytes = vgd_writer_used(&c->w);
    s->req.resp_capacity_bytes = RESP_BYTES_MAX;
    s->req.queue = queue;
    armed = true;
    fail_in = nth;
    vgd_gpu_execute(b->gpu, &s->req);
    armed = false;
    return nth != 0 && fail_in == 0;
}

static void build(const struct sample *sample, struct bench *b, struct cmd *c, bool ring)
{
    if (ring) {
        cmd_begin_ring(c, b, sample->type, CTX, 2);
        sample->body(&c->w);
    } else {
        sample_build(sample, b, c, true);
    }
}

DEVICE_TEST(F08_every_allocation_of_every_command)
{
    uint32_t sites = 0;
    for (size_t i = 0; i < samples_count * 2; i++) {
        const struct sample *sample = &samples[i / 2];
        bool ring = i % 2 != 0;
        if (ring && sample->ctx_id != CTX) {
            continue;
        }
        for (uint32_t nth = 1;; nth++) {
            struct bench b;
            bench_open(&b, &(struct bench_setup){.with_journal = true});
            samples_prepare(&b);
            uint64_t state = state_of(&b);
            vgd_fake_hold_fences(b.render, i % 4 < 2);
            struct cmd c;
            build(sample, &b, &c, ring);
            struct sent s;
            bool reached = execute(&b, &s, &c, sample->queue, nth);
            vgd_fake_signal_all(b.render);
            cr_assert_eq(s.completions, 1, "%s at allocation %u", sample->name, nth);
            if (s.hdr.type != sample->resp_type) {
                cr_assert(reached);
                cr_assert_resp(s.hdr.type, ERR_OUT_OF_MEMORY);
                /* A fence that fails comes after its command: the effect stays, as it must. */
                if (vgd_fake_calls(b.render, VGD_FAKE_FENCE) == 0) {
                    cr_assert_eq(state_of(&b), state, "%s at allocation %u", sample->name, nth);
                    (void)execute(&b, &s, &c, sample->queue, 0);
                    vgd_fake_signal_all(b.render);
                    cr_assert_eq(s.hdr.type, sample->resp_type, "%s after allocation %u",
                                 sample->name, nth);
                }
            }
            bench_close(&b);
            sites += reached;
            if (!reached) {
                break;
            }
        }
    }
    cr_assert_gt(sites, 15);
}

DEVICE_TEST(F08_every_allocation_of_a_restore)
{
    for (uint32_t nth = 1;; nth++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        samples_prepare(&b);
        cr_assert_resp(update_cursor(&b, 0, RES_2D), OK_NODATA);
        bench_replace_worker(&b, false);
        armed = true;
        fail_in = nth;
        enum vgd_status st = vgd_gpu_restore(b.gpu);
        armed = false;
        bool reached = fail_in == 0;
        cr_assert(st == VGD_OK || b.counters.resources_live == 0);
        cr_assert(st == VGD_OK || reached);
        bench_reset(&b);
        samples_prepare(&b);
        bench_close(&b);
        if (!reached) {
            cr_assert_gt(nth, 10);
            break;
        }
    }
}

DEVICE_TEST(F08_every_allocation_of_a_memory_change)
{
    for (uint32_t nth = 1;; nth++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        vgd_gpu_memory_detach(b.gpu);
        armed = true;
        fail_in = nth;
        vgd_gpu_memory_changed(b.gpu);
        armed = false;
        bool reached = fail_in == 0;
        vgd_gpu_memory_changed(b.gpu);
        struct vgd_rect r = {.w_px = 64, .h_px = 64};
        cr_assert_resp(transfer_2d(&b, RES_2D, r, 0), OK_NODATA);
        bench_close(&b);
        if (!reached) {
            break;
        }
    }
}

DEVICE_TEST(F08_create_and_open)
{
    struct bench b;
    bench_open(&b, NULL);
    uint32_t nth = 1;
    for (;; nth++) {
        armed = true;
        fail_in = nth;
        struct vgd_gpu *gpu = vgd_gpu_create(&b.config);
        armed = false;
        cr_assert_eq(gpu == NULL, fail_in == 0);
        vgd_gpu_destroy(gpu);
        if (gpu != NULL) {
            break;
        }
    }
    cr_assert_eq(nth, 3);
    bench_close(&b);
}

/* Each command of a stream that makes one of everything: refused without a trace, then followed. */
DEVICE_TEST(F08_every_allocation_of_a_stream)
{
    STREAM(s);
    put_objects(&s);
    CREATE(&s, SHADER, 5, 1, 16, 300, 0, 1, 2);
    CREATE(&s, SHADER, 5, 1, 8u | 1u << 31, 300, 0, 3, 4); /* and its other half */
    PUT(&s, CREATE_SUB_CTX, 1);
    PUT(&s, SET_CONSTANT_BUFFER, 0, 0, 1, 2, 3);
    PUT(&s, SET_CONSTANT_BUFFER, 0, 0, 1, 2, 3, 4, 5);
    PUT(&s, PIPE_RESOURCE_CREATE, 2, 1, 1, 64, 64, 1, 1, 0, 0, 0, 9);
    PUT(&s, PIPE_RESOURCE_SET_TYPE, 1, 1, 1, 8, 8, 0, 0, 0, 32, 0);
    PUT(&s, CREATE_VIDEO_CODEC, 1, 1, 1, 1, 1, 16, 16);
    PUT(&s, CREATE_VIDEO_BUFFER, 1, 1, 16, 16, 1);
    struct learner l;
    learner_begin(&l, false);
    uint32_t sites = 0;
    for (uint32_t at = 0; at < s.n; at += 1 + (s.dwords[at] >> 16)) {
        STREAM(one);
        one.n = 1 + (s.dwords[at] >> 16);
        memcpy(one.dwords, s.dwords + at, one.n * sizeof(one.dwords[0]));
        for (uint32_t nth = 1;; nth++) {
            STREAM(before);
            STREAM(after);
            say(&l, &before);
            uint64_t bytes = l.total_bytes;
            armed = true;
            fail_in = nth;
            enum vgd_status st = follow(&l, &one);
            armed = false;
            if (fail_in != 0) {
                cr_assert_eq(st, VGD_OK);
                break;
            }
            cr_assert_eq(st, VGD_NO_MEMORY, "dword %u", at);
            cr_assert_eq(l.total_bytes, bytes);
            say(&l, &after);
            cr_assert(before.n == after.n &&
                          memcmp(before.dwords, after.dwords, after.n * sizeof(uint32_t)) == 0,
                      "dword %u, allocation %u", at, nth);
            sites++;
        }
    }
    cr_assert_gt(sites, 25);
    STREAM(out);
    for (uint32_t nth = 1;; nth++) {
        out.n = 0;
        armed = true;
        fail_in = nth;
        enum vgd_status st = vgd_virgl_state_emit(l.state, 4, collect, &out);
        armed = false;
        cr_assert_eq(st, fail_in == 0 ? VGD_NO_MEMORY : VGD_OK);
        if (st == VGD_OK) {
            cr_assert_gt(nth, 10); /* many are longer than a part */
            break;
        }
    }
    learner_end(&l);
}

static void __attribute__((noinline)) poison_stack(void)
{
    volatile uint8_t deep[32 << 10];
    for (size_t i = 0; i < sizeof(deep); i++) {
        deep[i] = POISON;
    }
}

static void no_poison(const struct sent *s, const char *name)
{
    for (size_t i = 1; i < s->resp_bytes; i++) {
        cr_assert_not(s->resp[i] == POISON && s->resp[i - 1] == POISON, "%s: byte %zu", name, i);
    }
}

DEVICE_TEST(H08_replies_in_poisoned_memory)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        struct sent s;
        /* The largest reply goes first, so that scratch memory holds something of another. */
        struct cmd largest;
        for (size_t k = 0; k < samples_count; k++) {
            if (samples[k].type == VGD_CMD_GET_EDID) {
                sample_build(&samples[k], &b, &largest, false);
            }
        }
        poison_stack();
        (void)execute(&b, &s, &largest, VGD_QUEUE_CONTROL, 0);
        no_poison(&s, "get_edid");
        poison_stack();
        (void)execute(&b, &s, &c, samples[i].queue, 0);
        cr_assert_eq(s.resp_bytes, samples[i].resp_bytes);
        no_poison(&s, samples[i].name);
        if (samples[i].type == VGD_CMD_GET_CAPSET) { /* of which the fake fills one byte */
            for (size_t k = 25; k < s.resp_bytes; k++) {
                cr_assert_eq(s.resp[k], 0);
            }
        }
        c.w.pos -= vgd_writer_used(&c.w) > 24 ? 1 : 0; /* and an error */
        poison_stack();
        (void)execute(&b, &s, &c, samples[i].queue, 0);
        no_poison(&s, samples[i].name);
        bench_close(&b);
    }
}

DEVICE_TEST(H08_every_byte_of_an_edid_reply_is_ours)
{
    /* An EDID of 128 bytes in a field of 1024: the rest is zeros, whatever lay there before. */
    struct bench b;
    bench_open(&b, NULL);
    struct sent s;
    struct cmd c;
    cmd_begin(&c, VGD_CMD_GET_CAPSET_INFO, 0);
    vgd_write_le64(&c.w, 99);
    (void)execute(&b, &s, &c, VGD_QUEUE_CONTROL, 0);
    cmd_begin(&c, VGD_CMD_GET_EDID, 0);
    vgd_write_le64(&c.w, 0);
    (void)execute(&b, &s, &c, VGD_QUEUE_CONTROL, 0);
    cr_assert_resp(s.hdr.type, OK_EDID);
    for (size_t i = 24 + 8 + 128; i < s.resp_bytes; i++) {
        cr_assert_eq(s.resp[i], 0, "byte %zu", i);
    }
    bench_close(&b);
}
