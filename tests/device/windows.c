/* SPDX-License-Identifier: MIT */
/* Blobs in the host-visible region: cases B04-B06, B08-B11, B14, B15 and G18 of the list.
 * One file: each case is a way through the life of a map, and they are prepared alike. */
#include <criterion/criterion.h>
#include <string.h>

#include "samples.h"

#define PAGE VGD_BLOB_ALIGNMENT_BYTES

static void device_goes_on(struct bench *b)
{
    b->window.later = false;
    b->window.status = VGD_OK;
    cr_assert_resp(create_host_blob(b, 999, CTX, PAGE), OK_NODATA);
    cr_assert_resp(map_blob(b, 999, WINDOW_BYTES - PAGE), OK_MAP_INFO);
    cr_assert_resp(unref(b, 999), OK_NODATA);
}

/* @n blobs of a page each, ids from 100 on. */
static void prepare(struct bench *b, const struct bench_setup *setup, uint32_t n)
{
    bench_open(b, setup);
    cr_assert_resp(ctx_create(b, CTX, 0), OK_NODATA);
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_resp(create_host_blob(b, 100 + i, CTX, PAGE), OK_NODATA);
    }
}

DEVICE_TEST(a_map_is_shared_memory)
{
    struct bench b;
    prepare(&b, NULL, 2);
    struct sent s;
    send_map(&b, &s, 100, 0x5000);
    cr_assert_eq(s.completions, 1);
    cr_assert_resp(s.hdr.type, OK_MAP_INFO);
    cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE + VGD_RESP_MAP_INFO_SIZE);
    static const uint8_t info[VGD_RESP_MAP_INFO_SIZE] = {VGD_MAP_CACHE_CACHED};
    cr_assert_arr_eq(s.resp + VGD_CTRL_HDR_SIZE, info, sizeof(info));
    cr_assert_eq(b.counters.maps_live, 1);

    uint8_t byte = 0xff;
    cr_assert(window_read(&b, 0x5fff, &byte, 1));
    cr_assert_eq(byte, 0); /* B15: never what another had */
    byte = 0x33;
    cr_assert(window_write(&b, 0x5000, &byte, 1));
    uint8_t pixel[4];
    struct vgd_image image = {
        .w_px = 1, .h_px = 1, .format = VGD_FORMAT_B8G8R8A8_UNORM, .stride_bytes = 4};
    struct vgd_rect one = {.w_px = 1, .h_px = 1};
    cr_assert_eq(b.render->ops->read_pixels(b.render, 100, &image, one, pixel, 4), VGD_OK);
    cr_assert_eq(pixel[0], 0x33);
    cr_assert_resp(unmap_blob(&b, 100), OK_NODATA);
    cr_assert_not(window_read(&b, 0x5000, &byte, 1));
    cr_assert_resp(map_blob(&b, 101, 0x5000), OK_MAP_INFO);
    cr_assert(window_read(&b, 0x5000, &byte, 1));
    cr_assert_eq(byte, 0);
    bench_close(&b);
}

DEVICE_TEST(B04_ranges)
{
    struct bench b;
    prepare(&b, NULL, 0);
    cr_assert_resp(create_host_blob(&b, 1, CTX, PAGE), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 3, CTX, 3 * PAGE), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 9, CTX, WINDOW_BYTES), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 10, CTX, WINDOW_BYTES + PAGE), OK_NODATA);
    static const struct {
        const char *name;
        uint32_t id;
        uint64_t offset_bytes;
        bool ok;
    } cases[] = {
        {"first page", 1, 0, true},
        {"last page", 1, WINDOW_BYTES - PAGE, true},
        {"one past", 1, WINDOW_BYTES, false},
        {"half past", 3, WINDOW_BYTES - 2 * PAGE, false},
        {"all of it", 9, 0, true},
        {"all of it, moved", 9, PAGE, false},
        {"larger than the region", 10, 0, false},
        {"unaligned by 1", 1, 1, false},
        {"unaligned by half a page", 1, PAGE / 2, false},
        {"offset + size wraps", 3, UINT64_MAX - 2 * PAGE + 1, false},
        {"offset + size is 2^64", 1, UINT64_MAX - PAGE + 1, false},
        {"offset 2^63", 1, UINT64_C(1) << 63, false},
        {"offset 2^64 - 1", 1, UINT64_MAX, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t asked = b.window.asked_maps;
        uint32_t resp = map_blob(&b, cases[i].id, cases[i].offset_bytes);
        cr_assert_eq(resp, cases[i].ok ? VGD_RESP_OK_MAP_INFO : VGD_RESP_ERR_INVALID_PARAMETER,
                     "%s: 0x%x", cases[i].name, resp);
        cr_assert_eq(b.window.asked_maps, asked + cases[i].ok, "%s", cases[i].name);
        if (cases[i].ok) {
            cr_assert_resp(unmap_blob(&b, cases[i].id), OK_NODATA);
        }
    }
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B04_overlaps)
{
    struct bench b;
    prepare(&b, NULL, 1);
    cr_assert_resp(create_host_blob(&b, 1, CTX, 4 * PAGE), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 3, CTX, 3 * PAGE), OK_NODATA);
    cr_assert_resp(map_blob(&b, 1, 8 * PAGE), OK_MAP_INFO);
    for (uint64_t page = 0; page < 20; page++) {
        bool one = page < 8 || page >= 12;
        bool three = page + 3 <= 8 || page >= 12;
        cr_assert_eq(map_blob(&b, 100, page * PAGE),
                     one ? VGD_RESP_OK_MAP_INFO : VGD_RESP_ERR_INVALID_PARAMETER);
        cr_assert_eq(unmap_blob(&b, 100), one ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_UNSPEC);
        cr_assert_eq(map_blob(&b, 3, page * PAGE),
                     three ? VGD_RESP_OK_MAP_INFO : VGD_RESP_ERR_INVALID_PARAMETER);
        cr_assert_eq(unmap_blob(&b, 3), three ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_UNSPEC);
    }
    /* One that is on its way has its range as well. */
    b.window.later = true;
    struct sent s, t;
    send_map(&b, &s, 3, 0);
    send_map(&b, &t, 100, 2 * PAGE);
    cr_assert_eq(s.completions, 0);
    cr_assert_resp(t.hdr.type, ERR_INVALID_PARAMETER);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_MAP_INFO);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B04_what_cannot_be_mapped)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    uint32_t asked = b.window.asked_maps;
    uint64_t at = 0x80000;
    cr_assert_resp(map_blob(&b, RES_2D, at), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(map_blob(&b, RES_3D, at), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(map_blob(&b, 99, at), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(map_blob(&b, 0, at), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(map_blob(&b, RES_BLOB_GUEST, at), ERR_UNSPEC); /* it is the guest's already */
    struct vgd_cmd_resource_create_blob args = {.resource_id = 30,
                                                .blob_mem = VGD_BLOB_MEM_HOST3D,
                                                .blob_flags = VGD_BLOB_FLAG_USE_SHAREABLE |
                                                              VGD_BLOB_FLAG_USE_CROSS_DEVICE,
                                                .size_bytes = PAGE};
    cr_assert_resp(create_blob(&b, CTX, &args, NULL, 0), OK_NODATA);
    cr_assert_resp(map_blob(&b, 30, at), ERR_UNSPEC); /* nobody said mappable */
    args = (struct vgd_cmd_resource_create_blob){.resource_id = 31,
                                                 .blob_mem = VGD_BLOB_MEM_GUEST,
                                                 .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                 .nr_entries = 1,
                                                 .size_bytes = PAGE};
    struct vgd_mem_entry entry = {.addr = LOW_GPA, .len_bytes = PAGE};
    cr_assert_resp(create_blob(&b, 0, &args, &entry, 1), OK_NODATA);
    cr_assert_resp(map_blob(&b, 31, at), ERR_UNSPEC);
    cr_assert_eq(b.window.asked_maps, asked);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_BLOB_EXPORT), 1); /* of samples_prepare */
    device_goes_on(&b);
    bench_close(&b);

    prepare(&b, &(struct bench_setup){.no_window = true}, 1);
    cr_assert_resp(map_blob(&b, 100, 0), ERR_UNSPEC);
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    cr_assert_eq(b.window.asked_maps, 0);
    bench_close(&b);
}

DEVICE_TEST(B05_twice)
{
    struct bench b;
    prepare(&b, NULL, 1);
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    cr_assert_resp(unmap_blob(&b, 99), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
    cr_assert_resp(map_blob(&b, 100, 0), ERR_UNSPEC);
    cr_assert_resp(map_blob(&b, 100, 0x8000), ERR_UNSPEC);
    cr_assert_resp(unmap_blob(&b, 100), OK_NODATA);
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    cr_assert_eq(b.window.asked_maps, 1);
    cr_assert_eq(b.window.asked_unmaps, 1);

    b.window.later = true;
    struct sent s, t;
    send_map(&b, &s, 100, 0);
    send_map(&b, &t, 100, 0x8000); /* while it is on its way */
    cr_assert_resp(t.hdr.type, ERR_UNSPEC);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_MAP_INFO);
    send_unmap(&b, &s, 100);
    send_unmap(&b, &t, 100);
    cr_assert_resp(t.hdr.type, ERR_UNSPEC);
    cr_assert_eq(s.completions, 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B06_unref_while_mapped)
{
    struct bench b;
    prepare(&b, NULL, 2);
    cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
    b.window.later = true;
    struct sent s, t;
    vgd_fake_calls_clear(b.render);
    b.render->ops->batch_end(b.render);
    send_unref(&b, &s, 100);
    cr_assert_eq(b.window.asks_count, 1); /* asked for ... */
    cr_assert_eq(b.window.asks[0].is_map, false);
    cr_assert_eq(s.completions, 0); /* ... and the guest hears when it is done */
    cr_assert_eq(b.window.maps_count, 1);
    /* The id is free at once, and so is the range, since the window works in order. */
    cr_assert_resp(create_host_blob(&b, 100, CTX, 2 * PAGE), OK_NODATA);
    send_map(&b, &t, 100, 0);
    cr_assert_eq(t.completions, 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    cr_assert_eq(t.completions, 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(t.hdr.type, OK_MAP_INFO);
    cr_assert_eq(b.window.maps_count, 1);
    cr_assert_eq(b.counters.maps_live, 1);

    /* A VMM that cannot: the guest lets go whatever we say. */
    send_unref(&b, &s, 100);
    window_answer(&b, 0, VGD_HOST_FAILED);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    cr_assert_eq(b.counters.maps_live, 0);
    device_goes_on(&b);
    bench_close(&b);
}

/* The order in which unmap and unref reach window and renderer. */
static struct bench *ordered;
static uint32_t unrefs_at_unmap;
static void (*fixture_unmap)(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes);
static void ordered_unmap(void *user, uint64_t token, uint64_t offset_bytes, uint64_t len_bytes)
{
    unrefs_at_unmap = vgd_fake_calls(ordered->render, VGD_FAKE_UNREF);
    fixture_unmap(user, token, offset_bytes, len_bytes);
}

DEVICE_TEST(B06_the_range_goes_before_the_memory)
{
    struct bench b;
    bench_open(&b, NULL);
    ordered = &b;
    fixture_unmap = b.config.window.unmap;
    b.config.window.unmap = ordered_unmap;
    vgd_gpu_destroy(b.gpu);
    b.gpu = vgd_gpu_create(&b.config);
    vgd_gpu_set_features(b.gpu, UINT64_MAX);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 100, CTX, PAGE), OK_NODATA);
    cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
    unrefs_at_unmap = UINT32_MAX;
    cr_assert_resp(unref(&b, 100), OK_NODATA);
    cr_assert_eq(unrefs_at_unmap, 0);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_UNREF), 1);
    bench_close(&b);
}

DEVICE_TEST(B06_unmap_and_unref_while_mapping)
{
    for (int unref_too = 0; unref_too < 2; unref_too++) {
        for (int refused = 0; refused < 2; refused++) {
            struct bench b;
            prepare(&b, &(struct bench_setup){.with_journal = true}, 1);
            b.window.later = true;
            struct sent m, u, r;
            send_map(&b, &m, 100, 0);
            if (unref_too) {
                send_unref(&b, &u, 100);
            } else {
                send_unmap(&b, &u, 100);
            }
            cr_assert_eq(m.completions + u.completions, 0);
            cr_assert_eq(b.window.asks_count, 2);
            window_answer(&b, 0, refused ? VGD_HOST_FAILED : VGD_OK);
            cr_assert_eq(m.completions, 1);
            if (refused) {
                cr_assert_resp(m.hdr.type, ERR_UNSPEC);
            } else {
                cr_assert_resp(m.hdr.type, OK_MAP_INFO);
            }
            cr_assert_eq(u.completions, 0);
            window_answer(&b, 0, VGD_OK); /* the fixture refuses one that names nothing */
            if (refused && !unref_too) {
                cr_assert_resp(u.hdr.type, ERR_INVALID_PARAMETER);
            } else {
                cr_assert_resp(u.hdr.type, OK_NODATA);
            }
            cr_assert_eq(b.window.maps_count, 0);
            cr_assert_eq(b.counters.maps_live, 0);
            if (!unref_too) { /* and there is nothing left of it: mapped again, and restored */
                send_map(&b, &r, 100, 0);
                window_answer(&b, 0, VGD_OK);
                cr_assert_resp(r.hdr.type, OK_MAP_INFO);
            }
            uint64_t state = state_of(&b);
            bench_replace_worker(&b, false);
            cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
            cr_assert_eq(state_of(&b), state);
            bench_close(&b);
        }
    }
}

DEVICE_TEST(B08_the_vmm_refuses)
{
    static const struct {
        enum vgd_status status;
        uint32_t resp;
    } cases[] = {
        {VGD_HOST_FAILED, VGD_RESP_ERR_UNSPEC},
        {VGD_RANGE, VGD_RESP_ERR_INVALID_PARAMETER},
        {VGD_LIMIT, VGD_RESP_ERR_OUT_OF_MEMORY},
    };
    struct bench b;
    prepare(&b, NULL, 2);
    unsigned fds = open_fds_count();
    for (int later = 0; later < 2; later++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            b.window.later = later;
            b.window.status = cases[i].status;
            struct sent s;
            send_map(&b, &s, 100, 0);
            cr_assert_eq(s.completions, !later);
            if (later) {
                window_answer(&b, 0, cases[i].status);
            }
            cr_assert_eq(s.hdr.type, cases[i].resp, "0x%x", s.hdr.type);
            cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE);
            cr_assert_eq(open_fds_count(), fds);
            cr_assert_eq(b.counters.maps_live, 0);
            b.window.later = false;
            b.window.status = VGD_OK;
            cr_assert_resp(map_blob(&b, 101, 0), OK_MAP_INFO); /* the range is free again */
            cr_assert_resp(unmap_blob(&b, 101), OK_NODATA);
        }
    }
    /* And to unmap: an error, and the blob counts as unmapped. */
    cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
    b.window.status = VGD_HOST_FAILED;
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    b.window.status = VGD_OK;
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    cr_assert_resp(map_blob(&b, 100, 0x8000), OK_MAP_INFO);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B09_memory_that_cannot_be_exported)
{
    struct bench b;
    prepare(&b, NULL, 1);
    cr_assert(vgd_fake_add_object(b.render, CTX, 40, PAGE, true));
    struct vgd_cmd_resource_create_blob args = {.resource_id = 5,
                                                .blob_mem = VGD_BLOB_MEM_HOST3D,
                                                .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                .blob_id = 40,
                                                .size_bytes = PAGE};
    cr_assert_resp(create_blob(&b, CTX, &args, NULL, 0), OK_NODATA);
    cr_assert_resp(map_blob(&b, 5, 0), ERR_UNSPEC);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(map_blob(&b, 100, 0), ERR_UNSPEC);
    cr_assert_eq(b.window.asked_maps, 0);
    cr_assert_eq(b.counters.maps_live, 0);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B10_maps_max)
{
    struct bench b;
    prepare(&b, &(struct bench_setup){.limits = {.maps_max = 3}}, 5);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_resp(map_blob(&b, 100 + i, i * PAGE), OK_MAP_INFO);
    }
    cr_assert_resp(map_blob(&b, 103, 3 * PAGE), ERR_OUT_OF_MEMORY);
    cr_assert_eq(b.window.asked_maps, 3);
    cr_assert_resp(unmap_blob(&b, 101), OK_NODATA);
    cr_assert_resp(map_blob(&b, 103, 3 * PAGE), OK_MAP_INFO);
    /* On their way in or out, they count. */
    b.window.later = true;
    struct sent s;
    send_unmap(&b, &s, 103);
    cr_assert_resp(map_blob(&b, 104, 4 * PAGE), ERR_OUT_OF_MEMORY);
    window_answer(&b, 0, VGD_OK);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B10_many_maps_at_a_time)
{
    enum { COUNT = 60 };
    struct bench b;
    prepare(&b, NULL, COUNT);
    b.window.later = true;
    static struct sent s[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        send_map(&b, &s[i], 100 + i, i * PAGE);
        cr_assert_eq(s[i].completions, 0);
    }
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), COUNT);
    for (uint32_t i = 0; i < COUNT; i++) { /* the last one first, every third refused */
        uint32_t nth = COUNT - 1 - i;
        window_answer(&b, nth, nth % 3 == 0 ? VGD_HOST_FAILED : VGD_OK);
        cr_assert_eq(s[nth].completions, 1);
        cr_assert_eq(s[nth].hdr.type, nth % 3 == 0 ? VGD_RESP_ERR_UNSPEC : VGD_RESP_OK_MAP_INFO);
    }
    cr_assert_eq(b.counters.maps_live, COUNT * 2 / 3);
    cr_assert_eq(b.window.maps_count, COUNT * 2 / 3);
    bench_close(&b);
}

DEVICE_TEST(B11_reset_with_blobs_mapped)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    for (int boot = 0; boot < 3; boot++) {
        b.window.later = false;
        samples_prepare(&b);
        b.window.later = true;
        struct sent s, t, u;
        send_map(&b, &s, RES_BLOB, 0x100000);
        struct cmd c;
        cmd_begin_ring(&c, &b, VGD_CMD_RESOURCE_UNREF, CTX, 1);
        vgd_cmd_resource_unref_encode(
            &c.w, &(struct vgd_cmd_resource_unref){.resource_id = RES_BLOB_MAPPED});
        cmd_send(&b, &t, &c);
        send_unmap(&b, &u, RES_BLOB);
        uint64_t last = b.window.last_token;
        cr_assert_eq(b.window.asks_count, 3);
        bench_reset(&b);
        cr_assert_eq(s.completions + t.completions + u.completions, 0); /* dropped */
        cr_assert_eq(b.counters.maps_live, 0);
        cr_assert_eq(b.window.asked_unmaps, 2u * (boot + 1u)); /* the VMM drops all by itself */
        for (uint64_t token = 0; token <= last + 1; token++) { /* whatever still comes */
            vgd_gpu_window_done(b.gpu, token, VGD_OK);
        }
        cr_assert_eq(b.window.asked_unmaps, 2u * (boot + 1u));
    }
    b.window.later = false;
    samples_prepare(&b);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B11_answers_to_nothing)
{
    struct bench b;
    prepare(&b, NULL, 1);
    cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
    for (uint64_t token = 0; token < 20; token++) {
        vgd_gpu_window_done(b.gpu, token, token % 2 ? VGD_OK : VGD_HOST_FAILED);
    }
    vgd_gpu_window_done(b.gpu, UINT64_MAX, VGD_OK);
    cr_assert_eq(b.counters.maps_live, 1);
    cr_assert_resp(unmap_blob(&b, 100), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(B14_the_journal_is_full_when_the_map_is_there)
{
    size_t area_bytes = vgd_journal_area_bytes(64 << 10);
    static uint8_t area[4 << 20] __attribute__((aligned(4096)));
    cr_assert_leq(area_bytes, sizeof(area));
    struct bench b;
    prepare(&b, &(struct bench_setup){.area = area, .area_bytes = area_bytes}, 1);
    b.window.later = true;
    struct sent s;
    send_map(&b, &s, 100, 0);
    /* Guest pages in many small entries take the rest of the journal. */
    static struct vgd_mem_entry entries[250];
    for (uint32_t i = 0; i < 250; i++) {
        entries[i] = (struct vgd_mem_entry){.addr = LOW_GPA + 32 * i, .len_bytes = 16};
    }
    uint32_t id = 1000;
    uint32_t n = 250;
    while (n > 0) { /* to the last byte */
        if (create_2d(&b, id, VGD_FORMAT_B8G8R8A8_UNORM, 1, 1) != VGD_RESP_OK_NODATA) {
            break;
        }
        while (n > 0 && attach_entries(&b, id, n, entries, n) != VGD_RESP_OK_NODATA) {
            n /= 2;
        }
        id++;
    }
    while (vgd_journal_has_room(b.journal, VGD_CTRL_HDR_SIZE + 8)) {
        cr_assert_resp(ctx_attach(&b, CTX, 100), OK_NODATA);
    }
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(s.completions, 1);
    cr_assert_resp(s.hdr.type, ERR_OUT_OF_MEMORY);
    cr_assert_eq(b.window.asks_count, 1); /* and out with it */
    cr_assert_not(b.window.asks[0].is_map);
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(b.window.maps_count, 0);
    cr_assert_eq(b.counters.maps_live, 0);
    bench_reset(&b);
    b.window.later = false;
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B14_the_renderer_fails_at_each_step)
{
    for (uint32_t nth = 1; nth < 4; nth++) {
        struct bench b;
        prepare(&b, &(struct bench_setup){.with_journal = true}, 1);
        uint64_t state = state_of(&b);
        struct cmd c;
        cmd_begin_ring(&c, &b, VGD_CMD_RESOURCE_MAP_BLOB, CTX, 2);
        vgd_cmd_resource_map_blob_encode(&c.w,
                                         &(struct vgd_cmd_resource_map_blob){.resource_id = 100});
        vgd_fake_fail_nth(b.render, nth, VGD_HOST_FAILED); /* the export, the fence */
        uint32_t resp = cmd_run(&b, &c);
        cr_assert_eq(resp, nth < 3 ? VGD_RESP_ERR_UNSPEC : VGD_RESP_OK_MAP_INFO);
        if (nth < 3) { /* a fence that cannot be is not like others: nothing was mapped */
            cr_assert_eq(b.window.asked_maps, 0);
            cr_assert_eq(b.counters.maps_live, 0);
            cr_assert_eq(state_of(&b), state);
        }
        bench_close(&b);
    }
}

/* --- fences --- */

static void send_fenced_map(struct bench *b, struct sent *s, uint32_t id, uint64_t offset_bytes)
{
    struct cmd c;
    cmd_begin_ring(&c, b, VGD_CMD_RESOURCE_MAP_BLOB, CTX, 1);
    vgd_cmd_resource_map_blob_encode(
        &c.w, &(struct vgd_cmd_resource_map_blob){.resource_id = id, .offset_bytes = offset_bytes});
    cmd_send(b, s, &c);
}

static void send_ring(struct bench *b, struct sent *s, uint32_t really_bytes)
{
    struct cmd c;
    cmd_begin_ring(&c, b, VGD_CMD_SUBMIT_3D, CTX, 1);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){.size_bytes = 0});
    vgd_write_zeros(&c.w, really_bytes); /* not 0: an error */
    cmd_send(b, s, &c);
}

DEVICE_TEST(a_fenced_map_waits_for_both)
{
    for (int window_first = 0; window_first < 2; window_first++) {
        struct bench b;
        prepare(&b, NULL, 1);
        b.window.later = true;
        vgd_fake_hold_fences(b.render, true);
        struct sent s;
        send_fenced_map(&b, &s, 100, 0);
        if (window_first) {
            window_answer(&b, 0, VGD_OK);
        } else {
            vgd_fake_signal_all(b.render);
        }
        cr_assert_eq(s.completions, 0);
        if (window_first) {
            vgd_fake_signal_all(b.render);
        } else {
            window_answer(&b, 0, VGD_OK);
        }
        cr_assert_eq(s.completions, 1);
        cr_assert_resp(s.hdr.type, OK_MAP_INFO);
        cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX);
        cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE + VGD_RESP_MAP_INFO_SIZE);
        cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
        bench_close(&b);
    }
}

/* Linux takes the answer of a fence as the end of all before it. */
DEVICE_TEST(nothing_overtakes_a_fenced_map_on_its_timeline)
{
    for (int hold = 0; hold < 2; hold++) {
        struct bench b;
        prepare(&b, NULL, 1);
        b.window.later = true;
        vgd_fake_hold_fences(b.render, hold);
        struct sent before, s, after, bad, other;
        send_ring(&b, &before, 0);
        send_fenced_map(&b, &s, 100, 0);
        send_ring(&b, &after, 0);
        send_ring(&b, &bad, 4);
        struct cmd c;
        cmd_begin_fenced(&c, &b, VGD_CMD_SUBMIT_3D, CTX); /* the device's timeline does not wait */
        vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
        cmd_send(&b, &other, &c);
        vgd_fake_signal_all(b.render);
        cr_assert_eq(before.completions, 1);
        cr_assert_eq(other.completions, 1);
        cr_assert_eq(s.completions + after.completions + bad.completions, 0);
        window_answer(&b, 0, VGD_HOST_FAILED);
        cr_assert_eq(s.completions + after.completions + bad.completions, 3);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
        cr_assert_resp(after.hdr.type, OK_NODATA);
        cr_assert_geq(bad.hdr.type, VGD_RESP_ERR_UNSPEC);
        bench_close(&b);
    }
}

DEVICE_TEST(a_fence_is_not_older_than_it_is)
{
    struct bench b;
    prepare(&b, NULL, 1);
    struct sent s, after;
    send_ring(&b, &after, 0);
    vgd_gpu_fence_done(b.gpu, CTX, 1, UINT64_MAX); /* more than was asked for */
    b.window.later = true;
    send_fenced_map(&b, &s, 100, 0);
    vgd_fake_hold_fences(b.render, true);
    send_ring(&b, &after, 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_MAP_INFO);
    cr_assert_eq(after.completions, 0);
    vgd_fake_signal_all(b.render);
    cr_assert_eq(after.completions, 1);
    bench_close(&b);
}

DEVICE_TEST(only_what_is_there_is_recorded)
{
    struct bench b;
    prepare(&b, &(struct bench_setup){.with_journal = true}, 1);
    uint64_t without = state_of(&b);
    b.window.later = true;
    struct sent s;
    send_map(&b, &s, 100, 0);
    cr_assert_eq(state_of(&b), without);
    window_answer(&b, 0, VGD_OK);
    uint64_t with = state_of(&b);
    cr_assert_neq(with, without);
    send_unmap(&b, &s, 100);
    cr_assert_eq(state_of(&b), without);
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(state_of(&b), without);
    send_map(&b, &s, 100, 0); /* and a worker that dies now leaves no word of it */
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(state_of(&b), without);
    bench_close(&b);
}

DEVICE_TEST(G18_the_context_goes_with_a_blob_mapped)
{
    for (int lost = 0; lost < 2; lost++) {
        struct bench b;
        prepare(&b, NULL, 2);
        cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
        b.window.later = true;
        struct sent s, gone, after;
        send_fenced_map(&b, &s, 101, PAGE);
        send_ring(&b, &after, 0);
        cr_assert_eq(after.completions, 0);
        if (lost) {
            vgd_fake_lose_context(b.render, CTX);
        } else {
            struct cmd c;
            cmd_begin(&c, VGD_CMD_CTX_DESTROY, CTX);
            cmd_send(&b, &gone, &c);
            cr_assert_resp(gone.hdr.type, OK_NODATA);
        }
        cr_assert_eq(after.completions, 1);
        cr_assert_eq(s.completions, 0); /* the window still has it */
        cr_assert_eq(b.window.maps_count, 1);
        window_answer(&b, 0, VGD_OK);
        cr_assert_resp(s.hdr.type, OK_MAP_INFO);
        b.window.later = false;
        cr_assert_resp(unmap_blob(&b, 100), OK_NODATA); /* blobs live until they are let go */
        cr_assert_resp(map_blob(&b, 100, 0), OK_MAP_INFO);
        cr_assert_resp(unref(&b, 100), OK_NODATA);
        cr_assert_resp(unref(&b, 101), OK_NODATA);
        cr_assert_eq(b.window.maps_count, 0);
        bench_close(&b);
    }
}

/* --- a VM that stops, a VMM that does not answer --- */

DEVICE_TEST(what_a_stop_overtakes_is_executed_again)
{
    struct bench b;
    prepare(&b, &(struct bench_setup){.with_journal = true}, 3);
    uint64_t state = state_of(&b);
    b.window.later = true;
    struct sent s[4];
    send_map(&b, &s[0], 100, 0);
    send_fenced_map(&b, &s[1], 101, PAGE);
    send_map(&b, &s[2], 102, 2 * PAGE);
    send_unmap(&b, &s[3], 102);
    for (int i = 0; i < 3; i++) {
        window_answer(&b, 0, VGD_AGAIN);
    }
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(s[i].postponements, 1);
        cr_assert_eq(s[i].completions, 0);
    }
    cr_assert_eq(s[2].completions, 1, "its guest wants it no more");
    cr_assert_resp(s[2].hdr.type, ERR_UNSPEC);
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(s[3].completions, 1);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    cr_assert_eq(state_of(&b), state, "nothing has happened");
    cr_assert_eq(b.counters.maps_live, 0);
    send_map(&b, &s[0], 100, 0); /* to the same place, once more */
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(s[0].completions, 1);
    cr_assert_resp(s[0].hdr.type, OK_MAP_INFO);
    b.window.later = false;
    cr_assert_resp(map_blob(&b, 101, PAGE), OK_MAP_INFO);
    bench_close(&b);
}

DEVICE_TEST(a_stop_does_not_wait_for_the_window)
{
    struct bench b;
    prepare(&b, &(struct bench_setup){.with_journal = true}, 5);
    cr_assert_resp(map_blob(&b, 103, 3 * PAGE), OK_MAP_INFO);
    cr_assert_resp(map_blob(&b, 104, 4 * PAGE), OK_MAP_INFO);
    b.window.later = true;
    struct sent s[4];
    send_map(&b, &s[0], 100, 0);
    send_fenced_map(&b, &s[1], 101, PAGE);
    send_unmap(&b, &s[2], 103);
    send_unref(&b, &s[3], 104);
    vgd_gpu_fail_pending(b.gpu);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(s[i].completions, 1);
        cr_assert_resp(s[i].hdr.type, ERR_UNSPEC);
    }
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    /* Nobody's now: the ranges stay taken until the answer comes. */
    b.window.later = false;
    cr_assert_resp(map_blob(&b, 102, 0), ERR_INVALID_PARAMETER);
    cr_assert_resp(unmap_blob(&b, 100), ERR_UNSPEC);
    cr_assert_resp(map_blob(&b, 100, 8 * PAGE), OK_MAP_INFO); /* elsewhere it may go on */
    b.window.later = true;
    uint32_t unmaps = b.window.asked_unmaps;
    window_answer(&b, 0, VGD_OK); /* what comes is unmapped */
    cr_assert_eq(b.window.asked_unmaps, unmaps + 1);
    window_answer(&b, 0, VGD_HOST_FAILED); /* what does not is gone */
    cr_assert_eq(b.window.asked_unmaps, unmaps + 1);
    while (b.window.asks_count > 0) {
        window_answer(&b, 0, VGD_OK);
    }
    cr_assert_eq(b.window.maps_count, 1);
    cr_assert_eq(b.counters.maps_live, 1);
    b.window.later = false;
    cr_assert_resp(map_blob(&b, 102, 0), OK_MAP_INFO);
    uint64_t state = state_of(&b);
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(state_of(&b), state);
    bench_close(&b);
}
