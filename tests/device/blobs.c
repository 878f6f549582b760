/* SPDX-License-Identifier: MIT */
/* Blob resources, their pictures and UUIDs: cases B01-B03, B07, B12-B15 and R13 of the list. */
#include <criterion/criterion.h>
#include <string.h>

#include "limits.h"
#include "samples.h"

#define PAGE VGD_BLOB_ALIGNMENT_BYTES
#define SIDE 64u
#define STRIDE (SIDE * 4u)
#define PICTURE_BYTES (SIDE * STRIDE)

static const struct vgd_rect whole = {.w_px = SIDE, .h_px = SIDE};

static void device_goes_on(struct bench *b)
{
    cr_assert_resp(create_guest_blob(b, 999, LOW_GPA, PAGE), OK_NODATA);
    cr_assert_resp(unref(b, 999), OK_NODATA);
}

DEVICE_TEST(B01_sizes)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.resource_bytes_max = 16 * PAGE}});
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    static const struct {
        const char *name;
        uint64_t size_bytes;
        uint32_t resp;
    } cases[] = {
        {"0", 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"1", 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"a page less one", PAGE - 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"a page and one", PAGE + 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"a page", PAGE, VGD_RESP_OK_NODATA},
        {"the limit", 16 * PAGE, VGD_RESP_OK_NODATA},
        {"above the limit", 17 * PAGE, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"2^32", UINT64_C(1) << 32, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"2^63", UINT64_C(1) << 63, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"2^64 less a page", UINT64_MAX - PAGE + 1, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"2^64 less one", UINT64_MAX, VGD_RESP_ERR_INVALID_PARAMETER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t resp = create_host_blob(&b, 5, 1, cases[i].size_bytes);
        cr_assert_eq(resp, cases[i].resp, "%s: 0x%x", cases[i].name, resp);
        if (resp == VGD_RESP_OK_NODATA) {
            cr_assert_eq(b.counters.resource_bytes_live, cases[i].size_bytes);
            cr_assert_resp(unref(&b, 5), OK_NODATA);
        }
        cr_assert_eq(b.counters.resource_bytes_live, 0);
    }
    /* The total counts, not each one; memory of the guest counts for nothing. */
    cr_assert_resp(create_host_blob(&b, 5, 1, 9 * PAGE), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 6, 1, 8 * PAGE), ERR_OUT_OF_MEMORY);
    cr_assert_resp(create_guest_blob(&b, 7, LOW_GPA, 20 * PAGE), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 6, 1, 7 * PAGE), OK_NODATA);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B01_size_against_the_entries)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.backing_entries_max = 3}});
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    static const struct vgd_mem_entry entries[4] = {
        {.addr = LOW_GPA, .len_bytes = PAGE},
        {.addr = HIGH_GPA, .len_bytes = PAGE - 1},
        {.addr = MIDDLE_GPA, .len_bytes = 1},
        {.addr = MIDDLE_GPA, .len_bytes = 1},
    };
    static const struct {
        const char *name;
        uint32_t nr_entries, n_entries; /* as said, and really there */
        uint32_t pages;
        uint32_t resp;
    } cases[] = {
        {"none", 0, 0, 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"one byte short", 2, 2, 2, VGD_RESP_ERR_INVALID_PARAMETER},
        {"exactly", 3, 3, 2, VGD_RESP_OK_NODATA},
        {"more than the blob", 2, 2, 1, VGD_RESP_OK_NODATA},
        {"above the limit", 4, 4, 2, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"nr_entries too small", 1, 2, 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"nr_entries too large", 3, 2, 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"nr_entries 2^28", 1u << 28, 2, 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"nr_entries 2^32 - 1", UINT32_MAX, 2, 1, VGD_RESP_ERR_INVALID_PARAMETER},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint32_t mem = VGD_BLOB_MEM_GUEST; mem <= VGD_BLOB_MEM_HOST3D_GUEST; mem += 2) {
            struct vgd_cmd_resource_create_blob args = {.resource_id = 5,
                                                        .blob_mem = mem,
                                                        .nr_entries = cases[i].nr_entries,
                                                        .size_bytes = cases[i].pages * PAGE};
            uint32_t resp = create_blob(&b, 1, &args, entries, cases[i].n_entries);
            cr_assert_eq(resp, cases[i].resp, "%s, mem %u: 0x%x", cases[i].name, mem, resp);
            if (resp == VGD_RESP_OK_NODATA) {
                cr_assert_eq(b.counters.backing_entries_live, cases[i].n_entries);
                cr_assert_resp(unref(&b, 5), OK_NODATA);
            }
            cr_assert_eq(b.counters.backing_entries_live, 0);
            cr_assert_eq(vgd_fake_resource_count(b.render), 0);
        }
    }
    struct vgd_cmd_resource_create_blob host = {
        .resource_id = 5, .blob_mem = VGD_BLOB_MEM_HOST3D, .nr_entries = 1, .size_bytes = PAGE};
    cr_assert_resp(create_blob(&b, 1, &host, entries, 1), ERR_INVALID_PARAMETER);
    device_goes_on(&b);
    bench_close(&b);
}

/* Peers' case 10. */
DEVICE_TEST(B01_entries_that_lie)
{
    struct bench b;
    bench_open(&b, NULL);
    static const struct {
        const char *name;
        struct vgd_mem_entry entries[2];
    } cases[] = {
        {"empty", {{LOW_GPA, PAGE}, {LOW_GPA, 0}}},
        {"in a hole", {{LOW_GPA, PAGE}, {HOLE_GPA, PAGE}}},
        {"past the end", {{LOW_GPA, PAGE}, {HIGH_GPA + REGION_BYTES - 16, 17}}},
        {"wraps", {{LOW_GPA, PAGE}, {UINT64_MAX - 15, PAGE}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgd_cmd_resource_create_blob args = {
            .resource_id = 5, .blob_mem = VGD_BLOB_MEM_GUEST, .nr_entries = 2, .size_bytes = PAGE};
        cr_assert_resp(create_blob(&b, 0, &args, cases[i].entries, 2), ERR_INVALID_PARAMETER);
        cr_assert_eq(b.counters.resources_live, 0, "%s", cases[i].name);
        cr_assert_eq(b.counters.backing_entries_live, 0);
    }
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CREATE_BLOB), 0);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B02_ids_in_use)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    uint64_t state = state_of(&b);
    static const uint32_t ids[] = {0, RES_2D, RES_3D, RES_BLOB_GUEST, RES_BLOB, RES_BLOB_MAPPED};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        cr_assert_resp(create_guest_blob(&b, ids[i], LOW_GPA, PAGE), ERR_INVALID_RESOURCE_ID);
        cr_assert_resp(create_host_blob(&b, ids[i], CTX, PAGE), ERR_INVALID_RESOURCE_ID);
        cr_assert_eq(state_of(&b), state); /* the one that has the id is as it was */
    }
    for (size_t i = 3; i < sizeof(ids) / sizeof(ids[0]); i++) {
        cr_assert_resp(create_2d(&b, ids[i], VGD_FORMAT_B8G8R8A8_UNORM, 4, 4),
                       ERR_INVALID_RESOURCE_ID);
        cr_assert_resp(create_texture(&b, ids[i], 4, 4), ERR_INVALID_RESOURCE_ID);
    }
    cr_assert_eq(state_of(&b), state);
    cr_assert_eq(b.counters.resources_live, SAMPLE_RESOURCES);
    bench_close(&b);
}

DEVICE_TEST(B02_a_create_that_fails_leaves_nothing)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    uint64_t state = state_of(&b);
    uint64_t entries = b.counters.backing_entries_live;
    uint64_t bytes = b.counters.resource_bytes_live;
    static const struct {
        enum vgd_status status;
        uint32_t resp;
    } cases[] = {
        {VGD_NO_MEMORY, VGD_RESP_ERR_OUT_OF_MEMORY},
        {VGD_RANGE, VGD_RESP_ERR_INVALID_PARAMETER},
        {VGD_HOST_FAILED, VGD_RESP_ERR_UNSPEC},
        {VGD_LOST, VGD_RESP_ERR_UNSPEC},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        vgd_fake_fail_nth(b.render, 1, cases[i].status);
        cr_assert_eq(create_host_blob(&b, 30, CTX, PAGE), cases[i].resp);
        vgd_fake_fail_nth(b.render, 1, cases[i].status);
        cr_assert_eq(create_guest_blob(&b, 30, LOW_GPA, PAGE), cases[i].resp);
        cr_assert_eq(state_of(&b), state);
        cr_assert_eq(b.counters.backing_entries_live, entries);
        cr_assert_eq(b.counters.resource_bytes_live, bytes);
    }
    cr_assert_resp(create_host_blob(&b, 30, CTX, PAGE), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(B03_mem_and_flags)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    static const struct {
        const char *name;
        uint32_t mem, flags;
        bool ok;
    } cases[] = {
        {"mem 0", 0, 1, false},
        {"mem 4", 4, 1, false},
        {"mem 32", 32, 1, false},
        {"mem 33", 33, 1, false}, /* bit 33 of a mask is bit 1 on some machines */
        {"mem 2^32 - 1", UINT32_MAX, 1, false},
        {"no flag", VGD_BLOB_MEM_HOST3D, 0, true},
        {"every flag", VGD_BLOB_MEM_HOST3D, 7, true},
        {"flag 8", VGD_BLOB_MEM_HOST3D, 8, false},
        {"flag 2^31", VGD_BLOB_MEM_HOST3D, 0x80000001, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgd_cmd_resource_create_blob args = {.resource_id = 5,
                                                    .blob_mem = cases[i].mem,
                                                    .blob_flags = cases[i].flags,
                                                    .size_bytes = PAGE};
        uint32_t resp = create_blob(&b, 1, &args, NULL, 0);
        cr_assert_eq(resp, cases[i].ok ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER,
                     "%s: 0x%x", cases[i].name, resp);
        if (cases[i].ok) {
            cr_assert_resp(unref(&b, 5), OK_NODATA);
        }
    }
    bench_close(&b);

    /* What the renderer does not have, as the one without 3D. */
    bench_open(&b, &(struct bench_setup){.blob_mems = 1u << VGD_BLOB_MEM_GUEST});
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 5, 1, PAGE), ERR_UNSPEC);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(B03_host_memory_needs_a_context_that_lives)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_host_blob(&b, 5, 0, PAGE), ERR_INVALID_CONTEXT_ID);
    cr_assert_resp(create_host_blob(&b, 5, 1, PAGE), ERR_INVALID_CONTEXT_ID);
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    cr_assert_resp(create_host_blob(&b, 5, 1, PAGE), OK_NODATA);
    cr_assert_resp(unref(&b, 5), OK_NODATA);
    vgd_fake_lose_context(b.render, 1);
    cr_assert_resp(create_host_blob(&b, 5, 1, PAGE), ERR_UNSPEC);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CREATE_BLOB), 1);
    /* The guest's own pages need none. */
    struct vgd_cmd_resource_create_blob args = {
        .resource_id = 5, .blob_mem = VGD_BLOB_MEM_GUEST, .nr_entries = 1, .size_bytes = PAGE};
    struct vgd_mem_entry entry = {.addr = LOW_GPA, .len_bytes = PAGE};
    cr_assert_resp(create_blob(&b, 77, &args, &entry, 1), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(B03_objects_of_the_context)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    cr_assert_resp(ctx_create(&b, 2, 0), OK_NODATA);
    cr_assert(vgd_fake_add_object(b.render, 1, 40, 2 * PAGE, false));
    struct vgd_cmd_resource_create_blob args = {
        .resource_id = 5, .blob_mem = VGD_BLOB_MEM_HOST3D, .blob_id = 41, .size_bytes = PAGE};
    cr_assert_resp(create_blob(&b, 1, &args, NULL, 0), ERR_INVALID_PARAMETER); /* unknown */
    args.blob_id = 40;
    cr_assert_resp(create_blob(&b, 2, &args, NULL, 0), ERR_INVALID_PARAMETER); /* another's */
    args.blob_id = (UINT64_C(1) << 32) + 40;
    cr_assert_resp(create_blob(&b, 1, &args, NULL, 0), ERR_INVALID_PARAMETER); /* all 64 bits */
    args.blob_id = 40;
    args.size_bytes = 3 * PAGE;
    cr_assert_resp(create_blob(&b, 1, &args, NULL, 0), ERR_INVALID_PARAMETER); /* lies */
    args.size_bytes = 2 * PAGE;
    cr_assert_resp(create_blob(&b, 1, &args, NULL, 0), OK_NODATA);
    args.resource_id = 6;
    cr_assert_resp(create_blob(&b, 1, &args, NULL, 0), ERR_INVALID_PARAMETER); /* twice */
    cr_assert_eq(b.counters.resources_live, 1);
    bench_close(&b);
}

/* --- guest pages --- */

DEVICE_TEST(pages_of_a_guest_blob_come_and_go)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct vgd_cmd_set_scanout_blob set = {.rect = whole,
                                           .scanout_id = 2,
                                           .resource_id = RES_BLOB_GUEST,
                                           .w_px = SIDE,
                                           .h_px = SIDE,
                                           .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                           .strides_bytes = {STRIDE}};
    cr_assert_resp(set_scanout_blob(&b, &set), OK_NODATA);
    events_clear(&b);
    cr_assert_resp(detach(&b, RES_BLOB_GUEST), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_DISABLE), 1); /* it showed these pages */
    cr_assert_resp(set_scanout_blob(&b, &set), ERR_UNSPEC);
    cr_assert_resp(update_cursor(&b, 0, RES_BLOB_GUEST), ERR_UNSPEC);
    cr_assert_resp(detach(&b, RES_BLOB_GUEST), ERR_UNSPEC);
    cr_assert_resp(attach(&b, RES_BLOB_GUEST, LOW_GPA, PICTURE_BYTES - 1), ERR_INVALID_PARAMETER);
    cr_assert_not(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
    cr_assert_resp(attach(&b, RES_BLOB_GUEST, LOW_GPA, PICTURE_BYTES), OK_NODATA);
    cr_assert_resp(attach(&b, RES_BLOB_GUEST, LOW_GPA, PICTURE_BYTES), ERR_UNSPEC);
    cr_assert_resp(set_scanout_blob(&b, &set), OK_NODATA);
    cr_assert_resp(attach(&b, RES_BLOB, LOW_GPA, PICTURE_BYTES), ERR_UNSPEC); /* HOST3D */
    cr_assert_resp(detach(&b, RES_BLOB), ERR_UNSPEC);

    vgd_gpu_memory_detach(b.gpu);
    cr_assert_not(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
    vgd_gpu_memory_changed(b.gpu);
    cr_assert(vgd_fake_has_backing(b.render, RES_BLOB_GUEST));
    bench_close(&b);
}

DEVICE_TEST(transfers_of_blobs)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    /* Guest pages are all there is of a guest blob: nothing to do, and Linux asks for it. */
    cr_assert_resp(transfer_2d(&b, RES_BLOB_GUEST, whole, 0), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, RES_BLOB, whole, 0), ERR_INVALID_RESOURCE_ID);
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 16, .h = 1, .d = 1},
                                         .resource_id = RES_BLOB_GUEST};
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), OK_NODATA);
    t.resource_id = RES_BLOB; /* no guest memory */
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), ERR_UNSPEC);

    struct vgd_cmd_resource_create_blob args = {.resource_id = 30,
                                                .blob_mem = VGD_BLOB_MEM_HOST3D_GUEST,
                                                .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                .nr_entries = 1,
                                                .size_bytes = PAGE};
    struct vgd_mem_entry entry = {.addr = LOW_GPA, .len_bytes = PAGE};
    cr_assert_resp(create_blob(&b, CTX, &args, &entry, 1), OK_NODATA);
    t.resource_id = 30;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_attach(&b, CTX, 30), OK_NODATA);
    memset(ram_at(&b, LOW_GPA), 0x41, PAGE);
    t.offset_bytes = 100;
    t.box.x = 8;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), OK_NODATA);
    cr_assert_resp(map_blob(&b, 30, 0x20000), OK_MAP_INFO);
    uint8_t bytes[32];
    cr_assert(window_read(&b, 0x20000, bytes, sizeof(bytes)));
    cr_assert(bytes[7] == 0 && bytes[8] == 0x41 && bytes[23] == 0x41 && bytes[24] == 0);
    bytes[9] = 0x42;
    cr_assert(window_write(&b, 0x20000, bytes, sizeof(bytes)));
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_FROM_HOST_3D, CTX, &t), OK_NODATA);
    cr_assert_eq(ram_at(&b, LOW_GPA)[101], 0x42);

    static const struct {
        const char *name;
        struct vgd_cmd_transfer_host_3d t;
    } cases[] = {
        {"x + w wraps", {.box = {.x = UINT32_MAX, .w = 2, .h = 1, .d = 1}}},
        {"y + h wraps", {.box = {.y = 2, .w = 1, .h = UINT32_MAX, .d = 1}}},
        {"z + d wraps", {.box = {.z = 0x80000000, .w = 1, .h = 1, .d = 0x80000000}}},
        {"no such level", {.box = {.w = 1, .h = 1, .d = 1}, .level = 15}},
        {"offset", {.box = {.w = 1, .h = 1, .d = 1}, .offset_bytes = PAGE + 1}},
        {"the renderer's", {.box = {.x = PAGE, .w = 1, .h = 1, .d = 1}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        t = cases[i].t;
        t.resource_id = 30;
        cr_assert_eq(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t),
                     VGD_RESP_ERR_INVALID_PARAMETER, "%s", cases[i].name);
    }
    cr_assert_resp(detach(&b, 30), OK_NODATA); /* the shadow may go */
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_UNSPEC);
    bench_close(&b);
}

/* --- pictures --- */

static struct vgd_cmd_set_scanout_blob good_picture(void)
{
    return (struct vgd_cmd_set_scanout_blob){.rect = {.w_px = 16, .h_px = 8},
                                             .scanout_id = 1,
                                             .resource_id = 5,
                                             .w_px = 16,
                                             .h_px = 8,
                                             .format = VGD_FORMAT_B8G8R8A8_UNORM,
                                             .strides_bytes = {256},
                                             .offsets_bytes = {128}};
}

/* Both B12 and R13: a page holds 7 rows of 256 bytes and a last one of 64, at 128 and well beyond.
 */
DEVICE_TEST(B12_R13_scanout_boundaries)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_guest_blob(&b, 5, LOW_GPA, PAGE), OK_NODATA);
    enum { RECT_W, W, H, FORMAT, STRIDE0, OFFSET0, SCANOUT, RES, STRIDE1 };
    static const struct {
        const char *name;
        int field;
        uint32_t value;
        uint32_t resp;
    } cases[] = {
        {"as it is", STRIDE0, 256, VGD_RESP_OK_NODATA},
        {"stride of exactly a row", STRIDE0, 64, VGD_RESP_OK_NODATA},
        {"stride of less than a row", STRIDE0, 60, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride 0", STRIDE0, 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride unaligned", STRIDE0, 258, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride up to the last byte", STRIDE0, 556, VGD_RESP_OK_NODATA},
        {"stride one pixel more", STRIDE0, 560, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride INT32_MAX + 1", STRIDE0, 0x80000000, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride * 7 wraps 32 bits", STRIDE0, 0x24924928, VGD_RESP_ERR_INVALID_PARAMETER},
        {"stride UINT32_MAX", STRIDE0, UINT32_MAX, VGD_RESP_ERR_INVALID_PARAMETER},
        {"last offset", OFFSET0, PAGE - 7 * 256 - 64, VGD_RESP_OK_NODATA},
        {"one pixel later", OFFSET0, PAGE - 7 * 256 - 60, VGD_RESP_ERR_INVALID_PARAMETER},
        {"offset unaligned", OFFSET0, 126, VGD_RESP_ERR_INVALID_PARAMETER},
        {"offset wraps 32 bits", OFFSET0, UINT32_MAX - 3, VGD_RESP_ERR_INVALID_PARAMETER},
        {"width 0", W, 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"width above the stride", W, 65, VGD_RESP_ERR_INVALID_PARAMETER},
        {"width * 4 wraps", W, 0x40000001, VGD_RESP_ERR_INVALID_PARAMETER},
        {"height 0", H, 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"height that still fits", H, 16, VGD_RESP_OK_NODATA}, /* 128 + 15 * 256 + 64 */
        {"one row more", H, 17, VGD_RESP_ERR_INVALID_PARAMETER},
        {"height UINT32_MAX", H, UINT32_MAX, VGD_RESP_ERR_INVALID_PARAMETER},
        {"rectangle outside", RECT_W, 17, VGD_RESP_ERR_INVALID_PARAMETER},
        {"rectangle empty", RECT_W, 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"format 0", FORMAT, 0, VGD_RESP_ERR_INVALID_PARAMETER},
        {"16 bits a pixel", FORMAT, 5, VGD_RESP_ERR_INVALID_PARAMETER},
        {"format 2^32 - 1", FORMAT, UINT32_MAX, VGD_RESP_ERR_INVALID_PARAMETER},
        {"R8G8B8X8", FORMAT, VGD_FORMAT_R8G8B8X8_UNORM, VGD_RESP_OK_NODATA},
        {"the second plane is nobody's", STRIDE1, 0x80000001, VGD_RESP_OK_NODATA},
        {"scanout 4", SCANOUT, 4, VGD_RESP_ERR_INVALID_SCANOUT_ID},
        {"scanout 2^32 - 1", SCANOUT, UINT32_MAX, VGD_RESP_ERR_INVALID_SCANOUT_ID},
        {"no such resource", RES, 6, VGD_RESP_ERR_INVALID_RESOURCE_ID},
        {"off", RES, 0, VGD_RESP_OK_NODATA},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vgd_cmd_set_scanout_blob args = good_picture();
        uint32_t *const fields[] = {
            [RECT_W] = &args.rect.w_px,
            [W] = &args.w_px,
            [H] = &args.h_px,
            [FORMAT] = &args.format,
            [STRIDE0] = &args.strides_bytes[0],
            [OFFSET0] = &args.offsets_bytes[0],
            [SCANOUT] = &args.scanout_id,
            [RES] = &args.resource_id,
            [STRIDE1] = &args.strides_bytes[1],
        };
        if (cases[i].field == H && cases[i].value > 0 && cases[i].value < 8) {
            args.rect.h_px = cases[i].value;
        }
        *fields[cases[i].field] = cases[i].value;
        events_clear(&b);
        uint32_t resp = set_scanout_blob(&b, &args);
        cr_assert_eq(resp, cases[i].resp, "%s: 0x%x", cases[i].name, resp);
        cr_assert_eq(b.display.events_count, resp == VGD_RESP_OK_NODATA, "%s", cases[i].name);
        if (resp == VGD_RESP_OK_NODATA && args.resource_id != 0) {
            const struct event *e = &b.display.events[0];
            cr_assert(e->is_blob && e->image.w_px == args.w_px && e->image.h_px == args.h_px &&
                      e->image.format == args.format &&
                      e->image.stride_bytes == args.strides_bytes[0] &&
                      e->image.offset_bytes == args.offsets_bytes[0]);
            /* The renderer asserts that every byte of it lies inside. */
            cr_assert_resp(flush(&b, 5, args.rect), OK_NODATA);
            uint8_t pixels[64 * 4 * 16];
            cr_assert_eq(b.render->ops->read_pixels(b.render, 5, &e->image, e->rect, pixels,
                                                    (size_t)e->rect.w_px * 4),
                         VGD_OK);
        }
    }
    bench_close(&b);
}

DEVICE_TEST(B12_R13_one_row_of_any_stride)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_guest_blob(&b, 5, LOW_GPA, PAGE), OK_NODATA);
    struct vgd_cmd_set_scanout_blob args = good_picture();
    args.h_px = args.rect.h_px = 1; /* its stride leads nowhere, and must be sane all the same */
    args.strides_bytes[0] = INT32_MAX - 3;
    cr_assert_resp(set_scanout_blob(&b, &args), OK_NODATA);
    args.strides_bytes[0] = 0x80000000;
    cr_assert_resp(set_scanout_blob(&b, &args), ERR_INVALID_PARAMETER);
    args.strides_bytes[0] = 60;
    cr_assert_resp(set_scanout_blob(&b, &args), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

DEVICE_TEST(B12_only_blobs_are_shown_as_blobs)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct vgd_cmd_set_scanout_blob args = good_picture();
    args.resource_id = RES_2D;
    cr_assert_resp(set_scanout_blob(&b, &args), ERR_INVALID_RESOURCE_ID);
    args.resource_id = RES_3D;
    cr_assert_resp(set_scanout_blob(&b, &args), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(set_scanout(&b, 1, RES_BLOB_GUEST, whole), ERR_INVALID_RESOURCE_ID);
    bench_close(&b);
}

DEVICE_TEST(B12_flush_of_a_picture_in_a_blob)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_guest_blob(&b, 5, LOW_GPA, 2 * PICTURE_BYTES), OK_NODATA);
    cr_assert_resp(flush(&b, 5, whole), OK_NODATA); /* on no scanout */
    cr_assert_eq(b.display.events_count, 0);
    /* Two pictures of one blob: the whole one, and a small part of a smaller one. */
    struct vgd_cmd_set_scanout_blob args = {.rect = whole,
                                            .scanout_id = 0,
                                            .resource_id = 5,
                                            .w_px = SIDE,
                                            .h_px = SIDE,
                                            .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                            .strides_bytes = {STRIDE}};
    cr_assert_resp(set_scanout_blob(&b, &args), OK_NODATA);
    args.scanout_id = 3;
    args.w_px = args.h_px = 32;
    args.rect = (struct vgd_rect){.x_px = 8, .y_px = 8, .w_px = 8, .h_px = 8};
    args.offsets_bytes[0] = PICTURE_BYTES;
    cr_assert_resp(set_scanout_blob(&b, &args), OK_NODATA);
    events_clear(&b);
    cr_assert_resp(flush(&b, 5, (struct vgd_rect){.x_px = 10, .y_px = 4, .w_px = 50, .h_px = 8}),
                   OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 2);
    cr_assert_eq(b.display.events[0].rect.w_px, 50);
    cr_assert_eq(b.display.events[1].scanout_idx, 3);
    cr_assert_eq(b.display.events[1].rect.x_px, 2);
    cr_assert_eq(b.display.events[1].rect.w_px, 6);
    cr_assert_eq(b.display.events[1].rect.h_px, 4);
    static const struct vgd_rect outside[] = {
        {.w_px = SIDE + 1, .h_px = 1},
        {.x_px = UINT32_MAX, .w_px = 2, .h_px = 1},
        {.y_px = 1, .w_px = 1, .h_px = UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        cr_assert_resp(flush(&b, 5, outside[i]), ERR_INVALID_PARAMETER);
    }
    /* Nobody compares blobs: every flush shows, whatever the renderer says of other resources. */
    vgd_fake_set_changed(b.render, &(struct vgd_rect){0});
    events_clear(&b);
    cr_assert_resp(flush(&b, 5, whole), OK_NODATA);
    cr_assert_resp(flush(&b, 5, whole), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 4);
    vgd_gpu_redisplay(b.gpu);
    cr_assert_eq(events_of(&b, EVENT_SET), 2);
    for (uint32_t i = 0; i < b.display.events_count; i++) {
        cr_assert(b.display.events[i].kind != EVENT_SET || b.display.events[i].is_blob);
    }
    bench_close(&b);
}

DEVICE_TEST(B07_unref_while_shown)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct vgd_cmd_set_scanout_blob args = good_picture();
    args.resource_id = RES_BLOB_MAPPED;
    cr_assert_resp(set_scanout_blob(&b, &args), OK_NODATA);
    args.scanout_id = 2;
    cr_assert_resp(set_scanout_blob(&b, &args), OK_NODATA);
    events_clear(&b);
    /* A scanout reads the blob, not the region: unmapping it changes nothing that is shown. */
    cr_assert_resp(unmap_blob(&b, RES_BLOB_MAPPED), OK_NODATA);
    cr_assert_resp(flush(&b, RES_BLOB_MAPPED, args.rect), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 2);
    uint8_t pixels[16 * 4 * 8];
    cr_assert_eq(
        b.render->ops->read_pixels(b.render, RES_BLOB_MAPPED,
                                   &(struct vgd_image){.w_px = 16, .h_px = 8, .stride_bytes = 64},
                                   args.rect, pixels, 64),
        VGD_OK);
    /* And the scanouts go off before the blob does. */
    cr_assert_resp(map_blob(&b, RES_BLOB_MAPPED, 0), OK_MAP_INFO);
    cr_assert_resp(unref(&b, RES_BLOB_MAPPED), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_DISABLE), 2);
    cr_assert_eq(b.window.maps_count, 0);
    vgd_gpu_redisplay(b.gpu);
    bench_close(&b);
}

DEVICE_TEST(R15_cursor_from_a_blob)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, 1, 0), OK_NODATA);
    for (uint32_t i = 0; i < VGD_CURSOR_BYTES; i++) {
        ram_at(&b, LOW_GPA)[i] = (uint8_t)(i * 13);
    }
    cr_assert_resp(create_guest_blob(&b, 5, LOW_GPA, VGD_CURSOR_BYTES), OK_NODATA);
    cr_assert_resp(update_cursor(&b, 0, 5), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_CURSOR), 1);
    cr_assert_arr_eq(b.display.pixels, ram_at(&b, LOW_GPA), VGD_CURSOR_BYTES);
    cr_assert_resp(unref(&b, 5), OK_NODATA);
    cr_assert_resp(move_cursor(&b, 0, 5, 5), OK_NODATA);
    /* Too small for one; memory of the host. */
    cr_assert_resp(create_guest_blob(&b, 5, LOW_GPA, VGD_CURSOR_BYTES - PAGE), OK_NODATA);
    cr_assert_resp(update_cursor(&b, 0, 5), ERR_INVALID_PARAMETER);
    cr_assert_resp(create_host_blob(&b, 6, 1, VGD_CURSOR_BYTES), OK_NODATA);
    cr_assert_resp(update_cursor(&b, 0, 6), OK_NODATA);
    cr_assert_eq(b.display.pixels[77], 0);
    bench_close(&b);
}

/* --- UUIDs --- */

DEVICE_TEST(B13_uuids)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.with_journal = true});
    samples_prepare(&b);
    uint8_t first[16], again[16], other[16];
    cr_assert_resp(assign_uuid(&b, RES_BLOB, first), OK_RESOURCE_UUID);
    cr_assert_eq(first[6] >> 4, 4);
    cr_assert_eq(first[8] >> 6, 2);
    cr_assert_resp(assign_uuid(&b, RES_BLOB, again), OK_RESOURCE_UUID);
    cr_assert_arr_eq(first, again, 16);
    cr_assert_resp(assign_uuid(&b, RES_2D, other), OK_RESOURCE_UUID); /* any resource */
    cr_assert_neq(memcmp(first, other, 16), 0);
    cr_assert_resp(assign_uuid(&b, 99, other), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(assign_uuid(&b, 0, other), ERR_INVALID_RESOURCE_ID);

    for (int life = 0; life < 2; life++) { /* the second from what a compaction wrote */
        bench_replace_worker(&b, false);
        cr_assert_eq(vgd_gpu_restore(b.gpu), VGD_OK);
        cr_assert_resp(assign_uuid(&b, RES_BLOB, again), OK_RESOURCE_UUID);
        cr_assert_arr_eq(first, again, 16);
    }
    cr_assert_resp(unref(&b, RES_BLOB), OK_NODATA); /* another resource, another UUID */
    cr_assert_resp(create_2d(&b, RES_BLOB, VGD_FORMAT_B8G8R8A8_UNORM, 4, 4), OK_NODATA);
    cr_assert_resp(assign_uuid(&b, RES_BLOB, again), OK_RESOURCE_UUID);
    cr_assert_neq(memcmp(first, again, 16), 0);
    bench_close(&b);
}

DEVICE_TEST(B13_a_fenced_uuid_waits_for_its_fence)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct cmd c;
    struct sent s;
    cmd_begin_ring(&c, &b, VGD_CMD_RESOURCE_ASSIGN_UUID, CTX, 5);
    vgd_cmd_resource_assign_uuid_encode(
        &c.w, &(struct vgd_cmd_resource_assign_uuid){.resource_id = RES_2D});
    cmd_send(&b, &s, &c);
    cr_assert_eq(s.completions, 0);
    vgd_fake_signal_all(b.render);
    cr_assert_resp(s.hdr.type, OK_RESOURCE_UUID);
    cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE + VGD_RESP_RESOURCE_UUID_SIZE);
    cr_assert_eq(s.hdr.ring_idx, 5);
    uint8_t uuid[16];
    cr_assert_resp(assign_uuid(&b, RES_2D, uuid), OK_RESOURCE_UUID);
    cr_assert_arr_eq(s.resp + VGD_CTRL_HDR_SIZE, uuid, 16);
    bench_close(&b);
}
