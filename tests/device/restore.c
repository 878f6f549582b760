/* SPDX-License-Identifier: MIT */
/* A worker dies, and a new one takes over: the journal, what returns, and what is lost. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.h"
#include "samples.h"

#define BGRA VGD_FORMAT_B8G8R8A8_UNORM

static const struct vgd_rect whole = {.w_px = 64, .h_px = 64};

static void prepare(struct bench *b)
{
    samples_prepare(b);
    memset(ram_at(b, MIDDLE_GPA), 0x66, SAMPLE_BYTES);
    memset(ram_at(b, HIGH_GPA), 0x77, SAMPLE_BYTES);
    cr_assert_resp(create_2d(b, 10, BGRA, 16, 16), OK_NODATA);
    cr_assert_resp(attach(b, 10, MIDDLE_GPA, 1024), OK_NODATA);
    cr_assert_resp(transfer_2d(b, 10, (struct vgd_rect){.w_px = 16, .h_px = 16}, 0), OK_NODATA);
    cr_assert_resp(update_cursor(b, 2, 10), OK_NODATA);
    cr_assert_resp(unref(b, 10), OK_NODATA); /* the cursor stays */
    cr_assert_resp(move_cursor(b, 2, 33, 44), OK_NODATA);
    cr_assert_resp(create_query(b, 50), OK_NODATA);
    cr_assert_resp(attach(b, 50, LOW_GPA, 4096), OK_NODATA);
    cr_assert_resp(ctx_attach(b, CTX, 50), OK_NODATA);
    cr_assert_resp(set_scanout(b, 1, RES_3D, whole), OK_NODATA);
}

DEVICE_TEST(what_returns)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    uint64_t state = state_of(&b);
    uint32_t *query = (uint32_t *)ram_at(&b, LOW_GPA);
    query[0] = 2;
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(state_of(&b), state);
    cr_assert_eq(b.counters.resources_live, SAMPLE_RESOURCES + 1);
    cr_assert_eq(b.counters.contexts_live, 1);
    cr_assert_eq(b.counters.contexts_lost, 1);
    cr_assert_eq(b.counters.backing_entries_live, 4);
    cr_assert_eq(b.counters.maps_live, 1);
    cr_assert_eq(pixel_at(&b, RES_2D, 63, 63), 0xff666666); /* refilled from guest memory */
    cr_assert_eq(pixel_at(&b, RES_3D, 0, 0), 0);            /* empty */
    cr_assert(vgd_fake_has_backing(b.render, RES_3D));
    cr_assert_eq(query[0], 1); /* nobody spins */

    /* Each scanout set and flushed whole; the cursor with its pixels, where it was. */
    cr_assert_eq(events_of(&b, EVENT_SET), 2);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 2);
    cr_assert_eq(events_of(&b, EVENT_CURSOR), 1);
    for (uint32_t i = 0; i < b.display.events_count; i++) {
        const struct event *e = &b.display.events[i];
        if (e->kind == EVENT_CURSOR) {
            cr_assert_eq(e->pos.scanout_id, 2);
            cr_assert_eq(e->pos.x_px, 33);
            cr_assert_eq(e->pos.y_px, 44);
            cr_assert_eq(e->hot_y_px, 2);
        } else {
            cr_assert_eq(e->rect.w_px, 64);
        }
    }
    cr_assert_eq(b.display.pixels[0], 0x66);
    cr_assert_eq(b.display.pixels[16 * 4], 0);

    /* And once more, from what the new worker wrote: attachments too. */
    query[0] = 2;
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(state_of(&b), state);
    cr_assert_eq(query[0], 1);
    cr_assert_eq(events_of(&b, EVENT_SET), 2);
    cr_assert_eq(events_of(&b, EVENT_CURSOR), 1);
    bench_close(&b);
}

DEVICE_TEST(what_is_lost)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(vgd_fake_context_count(b.render), 0);
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 1, .h = 1, .d = 1}, .resource_id = RES_3D};
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_UNSPEC);
    cr_assert_resp(ctx_create(&b, CTX, 0), ERR_INVALID_CONTEXT_ID); /* still the guest's */
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D), OK_NODATA);
    cr_assert_resp(detach(&b, RES_3D), OK_NODATA);
    cr_assert_resp(unref(&b, RES_3D), OK_NODATA);
    cr_assert_resp(unref(&b, 50), OK_NODATA);
    struct sent s;
    struct cmd c;
    vgd_fake_hold_fences(b.render, true);
    cmd_begin_fenced(&c, &b, VGD_CMD_SUBMIT_3D, CTX);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(&b, &s, &c);
    cr_assert_resp(s.hdr.type, ERR_UNSPEC);
    cmd_begin_ring(&c, &b, VGD_CMD_CTX_ATTACH_RESOURCE, CTX, 1);
    vgd_cmd_ctx_resource_encode(&c.w,
                                &(struct vgd_cmd_ctx_resource){.resource_id = RES_3D_OUTSIDE});
    cmd_send(&b, &s, &c);
    cr_assert_resp(s.hdr.type, OK_NODATA); /* nothing to wait for */
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_resp(submit(&b, CTX, 4, 4), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(without_3d_the_guest_can_still_let_go)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    bench_replace_worker(&b, true);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(pixel_at(&b, RES_2D, 0, 0), 0xff666666);
    cr_assert_not(vgd_fake_has_resource(b.render, RES_3D));
    cr_assert_eq(events_of(&b, EVENT_SET), 1); /* not the lost one */
    uint32_t *query = (uint32_t *)ram_at(&b, LOW_GPA);
    cr_assert_eq(query[0], 1);
    query[0] = 2;
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    cr_assert_eq(query[0], 1);
    cr_assert_resp(set_scanout(&b, 1, RES_3D, whole), ERR_UNSPEC);
    cr_assert_resp(update_cursor(&b, 1, RES_3D), ERR_UNSPEC);
    cr_assert_resp(flush(&b, RES_3D, whole), OK_NODATA); /* on no scanout; no renderer knows it */
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 1, .h = 1, .d = 1}, .resource_id = RES_2D};
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), ERR_UNSPEC);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D), OK_NODATA);
    cr_assert_resp(detach(&b, RES_3D), OK_NODATA);
    cr_assert_resp(attach(&b, RES_3D, HIGH_GPA, 4096), OK_NODATA);
    cr_assert_resp(unref(&b, RES_3D), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), ERR_UNSPEC);
    cr_assert_resp(create_texture(&b, 60, 4, 4), ERR_UNSPEC);
    bench_close(&b);
}

DEVICE_TEST(death_after_death)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    for (uint32_t life = 0; life < 5; life++) {
        cr_assert_resp(create_2d(&b, 100 + life, BGRA, 8, 8), OK_NODATA);
        cr_assert_resp(attach(&b, 100 + life, MIDDLE_GPA, 256), OK_NODATA);
        uint64_t state = state_of(&b);
        bench_replace_worker(&b, life == 3);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        if (life < 3) { /* without 3D its scanout goes off */
            cr_assert_eq(state_of(&b), state);
        }
    }
    cr_assert_eq(b.counters.resources_live, SAMPLE_RESOURCES + 1 + 5);
    bench_close(&b);
}

DEVICE_TEST(an_empty_journal_restores_nothing)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(b.display.events_count, 0);
    cr_assert_eq(b.counters.resources_live, 0);
    bench_close(&b);
    bench_open(&b, NULL);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK); /* none at all */
    bench_close(&b);
}

DEVICE_TEST(the_renderer_refuses_some_resources)
{
    for (uint32_t nth = 1; nth < 12; nth++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        prepare(&b);
        bench_replace_worker(&b, false);
        vgd_fake_fail_nth(b.render, nth, VGD_HOST_FAILED);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        cr_assert_eq(b.counters.resources_live, SAMPLE_RESOURCES + 1);
        static const uint32_t ids[] = {RES_2D,         RES_2D_BARE, RES_3D,          RES_3D_OUTSIDE,
                                       RES_BLOB_GUEST, RES_BLOB,    RES_BLOB_MAPPED, 50};
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
            cr_assert_resp(unref(&b, ids[i]), OK_NODATA);
        }
        cr_assert_eq(vgd_fake_resource_count(b.render), 0);
        bench_close(&b);
    }
}

DEVICE_TEST(guest_memory_comes_and_goes)
{
    struct bench b;
    bench_open(&b, NULL);
    prepare(&b);
    vgd_fake_calls_clear(b.render);
    vgd_gpu_memory_changed(b.gpu); /* the same memory at the same place */
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_ATTACH), 0);

    vgd_gpu_memory_detach(b.gpu);
    cr_assert_not(vgd_fake_has_backing(b.render, RES_2D));
    b.ram_gone[1] = true; /* MIDDLE */
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_not(vgd_fake_has_backing(b.render, RES_2D));
    cr_assert(vgd_fake_has_backing(b.render, RES_3D));
    cr_assert_resp(transfer_2d(&b, RES_2D, whole, 0), ERR_UNSPEC);
    cr_assert_resp(attach(&b, RES_2D, LOW_GPA, 64), ERR_UNSPEC); /* it has one, somewhere */
    b.ram_gone[1] = false;
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_resp(transfer_2d(&b, RES_2D, whole, 0), OK_NODATA);
    cr_assert_eq(pixel_at(&b, RES_2D, 5, 5), 0xff666666);

    uint8_t *moved = calloc(1, REGION_BYTES); /* the same file, mapped elsewhere */
    memset(moved, 0x12, REGION_BYTES);
    free(b.ram[1]);
    b.ram[1] = moved;
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_resp(transfer_2d(&b, RES_2D, whole, 0), OK_NODATA);
    cr_assert_eq(pixel_at(&b, RES_2D, 5, 5), 0xff121212);

    b.ram_gone[1] = true;
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_resp(detach(&b, RES_2D), OK_NODATA);
    b.ram_gone[1] = false;
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_not(vgd_fake_has_backing(b.render, RES_2D));
    cr_assert_resp(attach(&b, RES_2D, LOW_GPA, 64), OK_NODATA);
    vgd_gpu_memory_detach(b.gpu); /* and the end comes now */
    bench_close(&b);
}

DEVICE_TEST(memory_that_is_not_there_yet)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    bench_replace_worker(&b, false);
    b.ram_gone[1] = true;
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(pixel_at(&b, RES_2D, 0, 0), 0xff000000);
    b.ram_gone[1] = false;
    vgd_gpu_memory_changed(b.gpu);
    cr_assert_resp(transfer_2d(&b, RES_2D, whole, 0), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(commands_that_a_dead_worker_had_taken)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        bool done_before = i % 2 == 0; /* before or after its effect */
        if (done_before) {
            (void)cmd_run(&b, &c);
        }
        bench_replace_worker(&b, false);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        for (int twice = 0; twice < 2; twice++) {
            struct sent s;
            fail_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), 64);
            cr_assert_eq(s.completions, 1);
            cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE);
            cr_assert_eq(s.hdr.ctx_id, samples[i].ctx_id);
            bool lets_go = samples[i].type == VGD_CMD_RESOURCE_UNREF ||
                           samples[i].type == VGD_CMD_RESOURCE_UNMAP_BLOB ||
                           samples[i].type == VGD_CMD_CTX_DESTROY ||
                           samples[i].type == VGD_CMD_CTX_DETACH_RESOURCE ||
                           samples[i].type == VGD_CMD_RESOURCE_DETACH_BACKING;
            cr_assert_eq(s.hdr.type, lets_go ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_UNSPEC, "%s",
                         samples[i].name);
        }
        if (samples[i].type == VGD_CMD_RESOURCE_UNREF) { /* the id is free */
            bool mapped = strcmp(samples[i].name, "unref_mapped") == 0;
            cr_assert_resp(create_2d(&b, mapped ? RES_BLOB_MAPPED : RES_2D, BGRA, 4, 4), OK_NODATA);
        }
        struct sent s;
        fail_bytes(&b, &s, c.bytes, 3, 64);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
        fail_bytes(&b, &s, c.bytes, 24, 23);
        cr_assert_eq(s.resp_bytes, 0);
        bench_close(&b);
    }
}

DEVICE_TEST(a_full_journal_refuses)
{
    /* 3 MiB: a state near its half is refused, and freeing makes room. */
    static uint8_t area[3 << 20] __attribute__((aligned(4096)));
    struct bench b;
    bench_open(&b, &(struct bench_setup){.area = area, .area_bytes = sizeof(area)});
    static struct vgd_mem_entry entries[250];
    for (uint32_t i = 0; i < 250; i++) {
        entries[i] = (struct vgd_mem_entry){.addr = LOW_GPA + 32 * i, .len_bytes = 16};
    }
    uint32_t id = 1;
    uint32_t resp = VGD_RESP_OK_NODATA;
    while (resp == VGD_RESP_OK_NODATA) {
        cr_assert_lt(id, 1000);
        resp = create_2d(&b, id, BGRA, 1, 1);
        if (resp == VGD_RESP_OK_NODATA) {
            resp = attach_entries(&b, id, 250, entries, 250);
        }
        id++;
    }
    cr_assert_resp(resp, ERR_OUT_OF_MEMORY);
    cr_assert_gt(id, 300);
    uint64_t live = b.counters.backing_entries_live;
    cr_assert_resp(attach_entries(&b, id - 1, 250, entries, 250), ERR_OUT_OF_MEMORY);
    cr_assert_eq(b.counters.backing_entries_live, live); /* none harmed */
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    cr_assert_resp(unref(&b, 2), OK_NODATA);
    cr_assert_resp(attach_entries(&b, id - 1, 250, entries, 250), OK_NODATA);
    bench_reset(&b);
    cr_assert_resp(create_2d(&b, 1, BGRA, 1, 1), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(a_long_life_stays_small)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    prepare(&b);
    for (uint32_t i = 0; i < 20000; i++) {
        cr_assert_resp(move_cursor(&b, 2, i, i), OK_NODATA);
        if (i % 20 == 0) {
            cr_assert_resp(update_cursor(&b, 1, RES_2D), OK_NODATA);
            cr_assert_resp(create_2d(&b, 200, BGRA, 4, 4), OK_NODATA);
            cr_assert_resp(unref(&b, 200), OK_NODATA);
        }
    }
    size_t n_pages = b.area_bytes / 4096;
    unsigned char *map = malloc(n_pages);
    cr_assert_eq(mincore(b.area, b.area_bytes, map), 0);
    size_t resident = 0;
    for (size_t i = 0; i < n_pages; i++) {
        resident += map[i] & 1;
    }
    free(map);
    cr_assert_lt(resident * 4096, 600 << 10);
    uint64_t state = state_of(&b);
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(state_of(&b), state);
    bench_close(&b);
}

/* --- journals that lie --- */

static void append(struct vgd_journal *journal, const struct cmd *c, size_t n_bytes)
{
    cr_assert_eq(vgd_journal_append(journal, c->bytes, n_bytes), VGD_OK);
}

DEVICE_TEST(records_that_no_guest_could_have_left)
{
    for (size_t i = 0; i < samples_count; i++) {
        for (int what = 0; what < 3; what++) {
            struct bench b;
            bench_open(&b, &(struct bench_setup){.with_journal = true});
            struct cmd c;
            sample_build(&samples[i], &b, &c, false);
            size_t n_bytes = vgd_writer_used(&c.w);
            if (what == 0) {
                n_bytes -= 1; /* cut */
            } else if (what == 1) {
                c.bytes[0] ^= 0x80; /* another type */
            } else {
                vgd_write_zeros(&c.w, 8); /* too long */
                n_bytes += 8;
            }
            append(b.journal, &c, n_bytes);
            cr_assert_neq(vgd_gpu_restore(b.gpu), VGD_OK, "%s %d", samples[i].name, what);
            cr_assert_eq(b.counters.resources_live, 0);
            cr_assert_eq(b.counters.contexts_live, 0);
            size_t cursor = 0;
            const uint8_t *record;
            cr_assert_eq(vgd_journal_next(b.journal, &cursor, &record, &n_bytes), VGD_AGAIN);
            samples_prepare(&b); /* it starts empty, and works */
            bench_close(&b);
        }
    }
}

DEVICE_TEST(records_beyond_the_limits)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    b.config.limits = (struct vgd_gpu_limits){.resources_max = 3};
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_LIMIT);
    cr_assert_eq(b.counters.resources_live, 0);
    bench_close(&b);
}

DEVICE_TEST(flipped_bits)
{
    srand(7);
    size_t area_bytes = vgd_journal_area_bytes(64 << 10);
    uint8_t *area =
        mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct bench b;
    bench_open(&b, &(struct bench_setup){.area = area, .area_bytes = area_bytes});
    prepare(&b);
    bench_close(&b);
    uint8_t *good = malloc(64 << 10);
    memcpy(good, area, 64 << 10);
    uint32_t refused = 0;
    for (int round = 0; round < 400; round++) {
        memcpy(area, good, 64 << 10);
        for (int n = rand() % 4; n >= 0; n--) {
            size_t at = round % 5 == 0 ? (size_t)rand() % 24 : 4096 + (size_t)rand() % 1100;
            area[at] = (uint8_t)(rand() % 2 ? rand() : area[at] ^ (1 << rand() % 8));
        }
        bench_open(&b, &(struct bench_setup){.area = area, .area_bytes = area_bytes});
        refused += vgd_gpu_restore(b.gpu) != VGD_OK;
        bench_reset(&b);
        samples_prepare(&b);
        bench_close(&b);
    }
    cr_assert_gt(refused, 50);
    cr_assert_lt(refused, 400);
    free(good);
    (void)munmap(area, area_bytes);
}

/* --- death at any instruction --- */

static uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Step @i of a life, the same whoever takes it. Any answer is fine. */
static void step(struct bench *b, uint32_t *seed)
{
    uint32_t id = 1 + random_next(seed) % 12;
    uint32_t ctx = 1 + random_next(seed) % 4;
    uint32_t x = random_next(seed);
    struct vgd_rect r = {.w_px = 1 + x % 8, .h_px = 8};
    uint32_t guest_blob = 20 + id % 4;
    uint32_t host_blob = 30 + id % 4;
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    switch (random_next(seed) % 23) {
    case 0:
    case 1:
        (void)create_2d(b, id, BGRA, 8, 8);
        break;
    case 2:
        (void)create_texture(b, id, 8, 8);
        break;
    case 3:
    case 4:
        (void)attach(b, id, LOW_GPA + x % 4096, 256 + x % 64);
        break;
    case 5:
        (void)detach(b, id);
        break;
    case 6:
        (void)unref(b, id);
        break;
    case 7:
        (void)set_scanout(b, x % 4, id, r);
        break;
    case 8:
        (void)ctx_create(b, ctx, 0);
        break;
    case 9:
        (void)ctx_attach(b, ctx, id);
        break;
    case 10:
        (void)(x % 2 ? ctx_detach(b, ctx, id) : ctx_destroy(b, ctx));
        break;
    case 11:
        (void)update_cursor(b, x % 4, x % 3 ? id : 0);
        break;
    case 12:
        (void)transfer_2d(b, id, r, 0);
        break;
    case 13:
        (void)create_guest_blob(b, guest_blob, LOW_GPA + x % 4096, 4096 * (1 + x % 5));
        break;
    case 14:
        (void)create_host_blob(b, host_blob, ctx, 4096 * (1 + x % 3));
        break;
    case 15:
    case 16:
        (void)map_blob(b, host_blob, 4096ull * (x % 6));
        break;
    case 17:
        (void)unmap_blob(b, host_blob);
        break;
    case 18:
        (void)unref(b, x % 2 ? host_blob : guest_blob);
        break;
    case 19: /* one of the host would be lost, and its scanout go off */
        (void)set_scanout_blob(
            b, &(struct vgd_cmd_set_scanout_blob){.rect = r,
                                                  .scanout_id = x % 4,
                                                  .resource_id = guest_blob,
                                                  .w_px = 8,
                                                  .h_px = 8,
                                                  .format = BGRA,
                                                  .strides_bytes = {4 * (8 + x % 16)},
                                                  .offsets_bytes = {4 * (x % 32)}});
        break;
    case 20:
        (void)assign_uuid(b, x % 2 ? host_blob : id, uuid);
        break;
    case 21:
        (void)(x % 2 ? detach(b, guest_blob) : attach(b, guest_blob, LOW_GPA, 4096 * 5));
        break;
    default:
        (void)move_cursor(b, x % 4, x, x);
        break;
    }
}

static void life_begin(struct bench *b, void *area, size_t area_bytes)
{
    bench_open(b, &(struct bench_setup){.area = area, .area_bytes = area_bytes});
    for (uint32_t i = 0; i < 8192; i++) {
        ram_at(b, LOW_GPA)[i] = (uint8_t)(i * 7);
    }
}

DEVICE_TEST(killed_at_any_instruction)
{
    enum { ROUNDS = 40 };
    size_t area_bytes = vgd_journal_area_bytes(1 << 20);
    srand((unsigned)vgd_now_ns());
    uint32_t steps_count = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        void *area =
            mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        uint32_t *done =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t child = fork();
        if (child == 0) {
            struct bench b;
            life_begin(&b, area, area_bytes);
            uint32_t seed = round;
            for (;;) {
                step(&b, &seed);
                __atomic_store_n(done, *done + 1, __ATOMIC_RELEASE);
            }
        }
        while (__atomic_load_n(done, __ATOMIC_ACQUIRE) == 0) { /* it lives */
        }
        (void)usleep((unsigned)rand() % 12000);
        (void)kill(child, SIGKILL);
        int status;
        (void)waitpid(child, &status, 0);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child failed by itself");

        struct bench b;
        life_begin(&b, area, area_bytes);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK, "round %u after %u", round, *done);
        uint64_t state = state_of(&b);
        bench_close(&b);

        /* It is the state after the last finished step, or after the one that was cut. */
        struct bench model;
        life_begin(&model, NULL, 0);
        uint32_t seed = round;
        for (uint32_t i = 0; i < *done; i++) {
            step(&model, &seed);
        }
        bool same = state_of(&model) == state;
        step(&model, &seed);
        same = same || state_of(&model) == state;
        cr_assert(same, "round %u after %u steps", round, *done);
        bench_close(&model);
        steps_count += *done;
        (void)munmap(area, area_bytes);
        (void)munmap(done, 4096);
    }
    cr_assert_gt(steps_count, 1000);
}
