/* SPDX-License-Identifier: MIT */
/* What a worker's death leaves of blobs, of the host-visible region, and of commands about them. */
#include <criterion/criterion.h>
#include <string.h>

#include "device.h"
#include "samples.h"

#define PAGE VGD_BLOB_ALIGNMENT_BYTES

static const struct vgd_rect whole = {.w_px = 64, .h_px = 64};

static void show_blob(struct bench *b, uint32_t scanout, uint32_t id)
{
    cr_assert_resp(
        set_scanout_blob(b, &(struct vgd_cmd_set_scanout_blob){.rect = {.w_px = 64, .h_px = 32},
                                                               .scanout_id = scanout,
                                                               .resource_id = id,
                                                               .w_px = 64,
                                                               .h_px = 32,
                                                               .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                                               .strides_bytes = {320},
                                                               .offsets_bytes = {8}}),
        OK_NODATA);
}

static void replace(struct bench *b, bool no_3d)
{
    bench_replace_worker(b, no_3d);
    cr_assert_eq(vgd_gpu_restore(b->gpu), VGD_OK);
}

DEVICE_TEST(blobs_of_guest_memory_return)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    memset(ram_at(&b, MIDDLE_GPA + 0x10000), 0x55, SAMPLE_BYTES);
    show_blob(&b, 3, RES_BLOB_GUEST);
    uint64_t state = state_of(&b);
    for (int life = 0; life < 3; life++) { /* with 3D and without: they need none */
        replace(&b, life == 2);
        if (life < 2) {
            cr_assert_eq(state_of(&b), state);
        }
        cr_assert(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
        const struct event *set = NULL;
        for (uint32_t i = 0; i < b.display.events_count; i++) {
            const struct event *e = &b.display.events[i];
            set = e->kind == EVENT_SET && e->scanout_idx == 3 ? e : set;
        }
        cr_assert_not_null(set);
        cr_assert(set->is_blob && set->image.stride_bytes == 320 && set->image.offset_bytes == 8 &&
                  set->image.h_px == 32 && set->image.format == VGD_FORMAT_B8G8R8X8_UNORM);
        uint8_t pixel[4];
        struct vgd_rect one = {.x_px = 9, .y_px = 9, .w_px = 1, .h_px = 1};
        cr_assert_eq(
            b.render->ops->read_pixels(b.render, RES_BLOB_GUEST, &set->image, one, pixel, 4),
            VGD_OK);
        cr_assert_eq(pixel[1], 0x55);
        cr_assert_resp(flush(&b, RES_BLOB_GUEST, one), OK_NODATA);
    }
    bench_close(&b);
}

DEVICE_TEST(blobs_of_host_memory_are_lost_and_can_be_let_go)
{
    for (int no_3d = 0; no_3d < 2; no_3d++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        samples_prepare(&b);
        cr_assert_resp(ctx_attach(&b, CTX, RES_BLOB_MAPPED), OK_NODATA);
        struct vgd_cmd_resource_create_blob args = {.resource_id = 30,
                                                    .blob_mem = VGD_BLOB_MEM_HOST3D_GUEST,
                                                    .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                    .nr_entries = 1,
                                                    .size_bytes = PAGE};
        struct vgd_mem_entry entry = {.addr = LOW_GPA, .len_bytes = PAGE};
        cr_assert_resp(create_blob(&b, CTX, &args, &entry, 1), OK_NODATA);
        show_blob(&b, 1, RES_BLOB);
        uint64_t bytes = b.counters.resource_bytes_live;
        uint8_t byte = 0x77;
        cr_assert(window_write(&b, 5, &byte, 1));
        replace(&b, no_3d);
        cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB));
        cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB_MAPPED));
        cr_assert_eq(b.counters.resource_bytes_live, bytes); /* the guest has not let go */
        cr_assert_eq(events_of(&b, EVENT_SET), 1);           /* of the 2D one */
        cr_assert(window_read(&b, 5, &byte, 1));             /* the guest's map lives on */
        cr_assert_eq(byte, 0x77);
        cr_assert_eq(b.window.asked_unmaps, 0);

        cr_assert_resp(map_blob(&b, RES_BLOB, 0x100000), ERR_UNSPEC);
        cr_assert_resp(map_blob(&b, RES_BLOB_MAPPED, 0x100000), ERR_UNSPEC);
        struct vgd_cmd_set_scanout_blob set = {.rect = whole,
                                               .scanout_id = 1,
                                               .resource_id = RES_BLOB,
                                               .w_px = 64,
                                               .h_px = 64,
                                               .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                               .strides_bytes = {256}};
        cr_assert_resp(set_scanout_blob(&b, &set), ERR_UNSPEC);
        cr_assert_resp(update_cursor(&b, 0, RES_BLOB), ERR_UNSPEC);
        cr_assert_resp(flush(&b, RES_BLOB, whole), OK_NODATA);
        cr_assert_resp(create_guest_blob(&b, RES_BLOB, LOW_GPA, PAGE), ERR_INVALID_RESOURCE_ID);
        cr_assert_geq(create_host_blob(&b, 31, CTX, PAGE), VGD_RESP_ERR_UNSPEC);
        cr_assert_resp(ctx_detach(&b, CTX, RES_BLOB_MAPPED), OK_NODATA);
        cr_assert_resp(detach(&b, 30), OK_NODATA);
        cr_assert_resp(attach(&b, 30, LOW_GPA, PAGE), OK_NODATA);
        cr_assert_resp(unref(&b, 30), OK_NODATA);
        cr_assert_resp(unmap_blob(&b, RES_BLOB_MAPPED), OK_NODATA);
        cr_assert_eq(b.window.maps_count, 0);
        cr_assert_resp(unref(&b, RES_BLOB_MAPPED), OK_NODATA);
        cr_assert_resp(unref(&b, RES_BLOB), OK_NODATA);
        bench_close(&b);
    }
}

DEVICE_TEST(unref_of_a_lost_blob_takes_it_out_of_the_region)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    replace(&b, false);
    b.window.later = true;
    struct sent s;
    send_unref(&b, &s, RES_BLOB_MAPPED);
    cr_assert_eq(s.completions, 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    cr_assert_eq(b.window.maps_count, 0);
    bench_close(&b);
}

DEVICE_TEST(ranges_are_still_taken_after_a_death)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    replace(&b, false);
    cr_assert_resp(ctx_create(&b, 2, 0), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 40, 2, PAGE), OK_NODATA);
    cr_assert_resp(map_blob(&b, 40, 0), ERR_INVALID_PARAMETER);
    cr_assert_resp(unref(&b, RES_BLOB_MAPPED), OK_NODATA);
    cr_assert_resp(map_blob(&b, 40, 0), OK_MAP_INFO);
    bench_close(&b);
}

DEVICE_TEST(a_death_while_the_window_is_asked)
{
    /* Of the map nobody knows; the guest gets an error, and may map again where it was. */
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    cr_assert_resp(ctx_create(&b, 3, 0), OK_NODATA);
    b.window.later = true;
    struct sent s, u;
    struct cmd map, unmap;
    cmd_begin(&map, VGD_CMD_RESOURCE_MAP_BLOB, 0);
    vgd_cmd_resource_map_blob_encode(
        &map.w,
        &(struct vgd_cmd_resource_map_blob){.resource_id = RES_BLOB, .offset_bytes = PAGE * 16});
    cmd_send(&b, &s, &map);
    cmd_begin(&unmap, VGD_CMD_RESOURCE_UNMAP_BLOB, 0);
    vgd_cmd_resource_unmap_blob_encode(
        &unmap.w, &(struct vgd_cmd_resource_unmap_blob){.resource_id = RES_BLOB_MAPPED});
    cmd_send(&b, &u, &unmap);
    cr_assert_eq(b.window.asks_count, 2);
    /* The VMM carries both out, and nobody hears of it. */
    b.window.maps[b.window.maps_count++] = b.window.asks[0].range;
    b.window.asks_count = 0;
    replace(&b, false);
    b.window.later = false;
    fail_bytes(&b, &s, map.bytes, vgd_writer_used(&map.w), 64);
    cr_assert_resp(s.hdr.type, ERR_UNSPEC);
    cr_assert_eq(b.window.maps_count, 1); /* taken back; the one of the unmap is still there */
    fail_bytes(&b, &u, unmap.bytes, vgd_writer_used(&unmap.w), 64);
    cr_assert_resp(u.hdr.type, OK_NODATA);
    cr_assert_eq(b.counters.maps_live, 0);
    cr_assert_resp(unmap_blob(&b, RES_BLOB), ERR_UNSPEC); /* as Linux does after an error */
    cr_assert_resp(unref(&b, RES_BLOB), OK_NODATA);
    cr_assert_resp(ctx_create(&b, 4, 0), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 41, 4, PAGE), OK_NODATA);
    cr_assert_resp(map_blob(&b, 41, PAGE * 16), OK_MAP_INFO);
    bench_close(&b);
}

DEVICE_TEST(an_unmap_that_the_dead_worker_did_not_get_to)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    replace(&b, false);
    b.window.later = true; /* the guest gets its answer at once: it lets go */
    struct sent s;
    struct cmd c;
    cmd_begin_fenced(&c, &b, VGD_CMD_RESOURCE_UNMAP_BLOB, 0);
    vgd_cmd_resource_unmap_blob_encode(
        &c.w, &(struct vgd_cmd_resource_unmap_blob){.resource_id = RES_BLOB_MAPPED});
    fail_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), 64);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE);
    cr_assert_eq(b.window.asks_count, 1);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    window_answer(&b, 0, VGD_OK);
    cr_assert_eq(b.window.maps_count, 0);
    cr_assert_eq(b.counters.maps_live, 0);
    bench_close(&b);
}

DEVICE_TEST(a_guest_blob_without_pages_returns_without)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    cr_assert_resp(detach(&b, RES_BLOB_GUEST), OK_NODATA);
    uint64_t state = state_of(&b);
    for (int life = 0; life < 2; life++) {
        replace(&b, false);
        cr_assert_eq(state_of(&b), state);
        cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB_GUEST));
    }
    vgd_fake_fail_nth(b.render, 1, VGD_NO_MEMORY);
    cr_assert_resp(attach(&b, RES_BLOB_GUEST, LOW_GPA, SAMPLE_BYTES), ERR_OUT_OF_MEMORY);
    cr_assert_eq(state_of(&b), state);
    cr_assert_resp(attach(&b, RES_BLOB_GUEST, LOW_GPA, SAMPLE_BYTES), OK_NODATA);
    cr_assert(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
    show_blob(&b, 1, RES_BLOB_GUEST);
    bench_close(&b);
}

DEVICE_TEST(a_guest_blob_whose_memory_comes_later)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    show_blob(&b, 1, RES_BLOB_GUEST);
    bench_replace_worker(&b, false);
    b.ram_gone[1] = true; /* MIDDLE */
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB_GUEST));
    b.ram_gone[1] = false;
    vgd_fake_fail_nth(b.render, 2, VGD_HOST_FAILED); /* once not, once all is well */
    vgd_gpu_memory_changed(b.gpu);
    vgd_gpu_memory_changed(b.gpu);
    cr_assert(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
    show_blob(&b, 1, RES_BLOB_GUEST);
    bench_close(&b);
}

DEVICE_TEST(a_renderer_that_has_no_blobs_any_more)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    show_blob(&b, 1, RES_BLOB_GUEST);
    b.blobs_gone = true;
    replace(&b, false);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CREATE_BLOB), 0);
    cr_assert_eq(vgd_gpu_features(b.gpu) >> VGD_F_RESOURCE_BLOB & 1, 0);
    cr_assert_not(vgd_fake_has_resource(b.render, RES_BLOB_GUEST));
    cr_assert_eq(events_of(&b, EVENT_SET), 1);
    cr_assert_resp(detach(&b, RES_BLOB_GUEST), OK_NODATA);
    cr_assert_resp(unref(&b, RES_BLOB_GUEST), OK_NODATA);
    bench_close(&b);
}

/* --- journals that lie --- */

static void append(struct bench *b, const struct cmd *c)
{
    cr_assert_eq(vgd_journal_append(b->journal, c->bytes, vgd_writer_used(&c->w)), VGD_OK);
}

static void append_blob(struct bench *b, uint32_t id, uint32_t mem, uint32_t flags, uint64_t size)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_CREATE_BLOB, 0);
    vgd_cmd_resource_create_blob_encode(
        &c.w, &(struct vgd_cmd_resource_create_blob){
                  .resource_id = id, .blob_mem = mem, .blob_flags = flags, .size_bytes = size});
    append(b, &c);
}

static void append_map(struct bench *b, uint32_t id, uint64_t offset_bytes)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_MAP_BLOB, 0);
    vgd_cmd_resource_map_blob_encode(
        &c.w, &(struct vgd_cmd_resource_map_blob){.resource_id = id, .offset_bytes = offset_bytes});
    append(b, &c);
}

static void append_unmap(struct bench *b, uint32_t id)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_UNMAP_BLOB, 0);
    vgd_cmd_resource_unmap_blob_encode(&c.w,
                                       &(struct vgd_cmd_resource_unmap_blob){.resource_id = id});
    append(b, &c);
}

static void append_uuid(struct bench *b, uint32_t id, size_t n_bytes)
{
    struct cmd c;
    cmd_begin(&c, VGD_RECORD_UUID, 0);
    vgd_write_le32(&c.w, id);
    vgd_write_zeros(&c.w, n_bytes);
    append(b, &c);
}

#define HOST VGD_BLOB_MEM_HOST3D
#define MAPPABLE VGD_BLOB_FLAG_USE_MAPPABLE

static void lie_map_nothing(struct bench *b)
{
    append_map(b, 99, 0);
}

static void lie_map_past_the_window(struct bench *b)
{
    append_map(b, 5, WINDOW_BYTES);
}

static void lie_map_wraps(struct bench *b)
{
    append_map(b, 5, UINT64_MAX - PAGE + 1);
}

static void lie_map_unaligned(struct bench *b)
{
    append_map(b, 5, 8);
}

static void lie_map_twice(struct bench *b)
{
    append_map(b, 5, 0);
    append_map(b, 5, PAGE);
}

static void lie_overlap(struct bench *b)
{
    append_blob(b, 6, HOST, MAPPABLE, 2 * PAGE);
    append_map(b, 5, PAGE);
    append_map(b, 6, 0);
}

static void lie_not_mappable(struct bench *b)
{
    append_blob(b, 6, HOST, VGD_BLOB_FLAG_USE_SHAREABLE, PAGE);
    append_map(b, 6, 0);
}

static void lie_guest_memory(struct bench *b)
{
    append_blob(b, 6, VGD_BLOB_MEM_GUEST, MAPPABLE, PAGE);
    append_map(b, 6, 0);
}

static void lie_unmap_nothing(struct bench *b)
{
    append_unmap(b, 5);
}

static void lie_blob_mem(struct bench *b)
{
    append_blob(b, 6, 32, MAPPABLE, PAGE);
}

static void lie_blob_size(struct bench *b)
{
    append_blob(b, 6, HOST, MAPPABLE, UINT64_MAX - PAGE + 1);
}

static void lie_blob_twice(struct bench *b)
{
    append_blob(b, 5, HOST, MAPPABLE, PAGE);
}

static void lie_uuid_of_nothing(struct bench *b)
{
    append_uuid(b, 77, 16);
}

static void lie_uuid_twice(struct bench *b)
{
    append_uuid(b, 5, 16);
    append_uuid(b, 5, 16);
}

static void lie_uuid_short(struct bench *b)
{
    append_uuid(b, 5, 15);
}

static void lie_uuid_long(struct bench *b)
{
    append_uuid(b, 5, 17);
}

static void lie_assign_uuid(struct bench *b)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_ASSIGN_UUID, 0);
    vgd_write_le64(&c.w, 5);
    append(b, &c);
}

static void lie_scanout_beyond(struct bench *b)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SET_SCANOUT_BLOB, 0);
    vgd_cmd_set_scanout_blob_encode(
        &c.w, &(struct vgd_cmd_set_scanout_blob){.rect = whole,
                                                 .resource_id = 5,
                                                 .w_px = 64,
                                                 .h_px = 64,
                                                 .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                                 .strides_bytes = {256}});
    append(b, &c);
}

static void truth(struct bench *b)
{
    append_map(b, 5, PAGE);
    append_unmap(b, 5);
    append_map(b, 5, 0);
    append_uuid(b, 5, 16);
}

DEVICE_TEST(records_about_blobs_that_no_guest_could_have_left)
{
    static void (*const lies[])(struct bench *) = {
        lie_map_nothing,
        lie_map_past_the_window,
        lie_map_wraps,
        lie_map_unaligned,
        lie_map_twice,
        lie_overlap,
        lie_not_mappable,
        lie_guest_memory,
        lie_unmap_nothing,
        lie_blob_mem,
        lie_blob_size,
        lie_blob_twice,
        lie_uuid_twice,
        lie_uuid_short,
        lie_uuid_of_nothing,
        lie_uuid_long,
        lie_assign_uuid,
        lie_scanout_beyond,
        truth,
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct bench b;
        bench_open(&b, &(struct bench_setup){.with_journal = true});
        append_blob(&b, 5, HOST, MAPPABLE, PAGE);
        lies[i](&b);
        bool lies_not = lies[i] == truth;
        cr_assert_eq(vgd_gpu_restore(b.gpu) == VGD_OK, lies_not, "lie %zu", i);
        cr_assert_eq(b.counters.resources_live, lies_not);
        cr_assert_eq(b.counters.maps_live, lies_not);
        bench_reset(&b);
        samples_prepare(&b); /* it starts empty, and works */
        bench_close(&b);
    }
}

DEVICE_TEST(maps_beyond_the_limit)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    cr_assert_resp(map_blob(&b, RES_BLOB, 0x10000), OK_MAP_INFO);
    b.config.limits = (struct vgd_gpu_limits){.maps_max = 1};
    bench_replace_worker(&b, false);
    cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_LIMIT);
    cr_assert_eq(b.counters.maps_live, 0);
    bench_close(&b);
}

/* A region that is not there any more: the maps cannot be believed. */
DEVICE_TEST(a_smaller_window)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    b.config.window.size_bytes = 0;
    bench_replace_worker(&b, false);
    cr_assert_neq(vgd_gpu_restore(b.gpu), VGD_OK);
    cr_assert_eq(b.counters.resources_live, 0);
    bench_close(&b);
}

DEVICE_TEST(the_journal_stays_small_with_many_maps)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    unsigned fds = open_fds_count();
    for (uint32_t i = 0; i < 5000; i++) { /* create, map, write, read, unmap, destroy */
        cr_assert_resp(create_host_blob(&b, 1 + i, CTX, PAGE), OK_NODATA);
        cr_assert_resp(map_blob(&b, 1 + i, 0), OK_MAP_INFO);
        uint32_t word = 0;
        cr_assert(window_read(&b, 16, &word, sizeof(word)));
        cr_assert_eq(word, 0);
        word = i + 1;
        cr_assert(window_write(&b, 16, &word, sizeof(word)));
        if (i % 2 == 0) {
            cr_assert_resp(unmap_blob(&b, 1 + i), OK_NODATA);
        }
        cr_assert_resp(unref(&b, 1 + i), OK_NODATA);
        cr_assert_eq(b.window.maps_count, 0);
    }
    cr_assert_eq(open_fds_count(), fds);
    replace(&b, false);
    cr_assert_eq(b.counters.resources_live, 0);
    cr_assert_eq(b.counters.maps_live, 0);
    bench_close(&b);
}
