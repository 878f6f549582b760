/* SPDX-License-Identifier: MIT */
/* 2D resources, backing, scanouts, cursor: cases R01-R16 of the security list. */
#include <criterion/criterion.h>
#include <string.h>

#include "limits.h"
#include "samples.h"

#define BGRA VGD_FORMAT_B8G8R8A8_UNORM

static struct vgd_rect rect(uint32_t x_px, uint32_t y_px, uint32_t w_px, uint32_t h_px)
{
    return (struct vgd_rect){.x_px = x_px, .y_px = y_px, .w_px = w_px, .h_px = h_px};
}

DEVICE_TEST(R01_sizes_that_overflow)
{
    static const struct {
        const char *name;
        uint32_t w_px, h_px;
    } cases[] = {
        {"32 bits", 0x8000, 0x8001},
        {"64 bits", 0xffffffff, 0xffffffff},
        {"bytes wrap to 4", 0x40000001, 1},
        {"wide", VGD_RESOURCE_2D_SIDE_PX_MAX + 1, 1},
        {"high", 1, VGD_RESOURCE_2D_SIDE_PX_MAX + 1},
        {"negative", 1, 0x80000000},
    };
    struct bench b;
    bench_open(&b, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(create_2d(&b, 1, BGRA, cases[i].w_px, cases[i].h_px),
                     VGD_RESP_ERR_INVALID_PARAMETER, "%s", cases[i].name);
    }
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CREATE_2D), 0);
    cr_assert_resp(create_2d(&b, 1, BGRA, VGD_RESOURCE_2D_SIDE_PX_MAX, 1), OK_NODATA);
    cr_assert_resp(create_2d(&b, 2, BGRA, 1, VGD_RESOURCE_2D_SIDE_PX_MAX), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R02_bad_creates)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 0, 1), ERR_INVALID_PARAMETER);
    cr_assert_resp(create_2d(&b, 1, BGRA, 1, 0), ERR_INVALID_PARAMETER);
    cr_assert_resp(create_2d(&b, 0, BGRA, 1, 1), ERR_INVALID_RESOURCE_ID);
    static const uint32_t known[] = {1, 2, 3, 4, 67, 68, 121, 134};
    for (uint32_t format = 0, n = 0; format < 300; format++) {
        bool ok = n < sizeof(known) / sizeof(known[0]) && known[n] == format;
        n += ok;
        uint32_t resp = create_2d(&b, 1000 + format, format, 1, 1);
        cr_assert_eq(resp, ok ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER, "format %u",
                     format);
    }
    cr_assert_resp(create_2d(&b, 5, BGRA, 2, 2), OK_NODATA);
    cr_assert_resp(create_2d(&b, 5, BGRA, 2, 2), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_texture(&b, 5, 2, 2), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_texture(&b, 6, 2, 2), OK_NODATA);
    cr_assert_resp(create_2d(&b, 6, BGRA, 2, 2), ERR_INVALID_RESOURCE_ID);
    cr_assert_eq(b.counters.resources_live, 10);
    bench_close(&b);
}

DEVICE_TEST(R03_create_until_the_limit)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){
                       .limits = {.resources_max = 100, .resource_bytes_max = 100 * 16 + 15}});
    for (int round = 0; round < 3; round++) {
        for (uint32_t id = 1; id <= 100; id++) {
            cr_assert_resp(create_2d(&b, id, BGRA, 2, 2), OK_NODATA);
        }
        cr_assert_resp(create_2d(&b, 101, BGRA, 1, 1), ERR_OUT_OF_MEMORY);
        cr_assert_resp(create_texture(&b, 101, 1, 1), ERR_OUT_OF_MEMORY);
        for (uint32_t id = 1; id <= 100; id++) {
            cr_assert_resp(unref(&b, id), OK_NODATA);
        }
        cr_assert_eq(b.counters.resource_bytes_live, 0);
        cr_assert_resp(create_2d(&b, 1, BGRA, 20, 20), OK_NODATA); /* 1600 bytes */
        cr_assert_resp(create_2d(&b, 2, BGRA, 2, 2), ERR_OUT_OF_MEMORY);
        cr_assert_resp(unref(&b, 1), OK_NODATA);
    }
    bench_close(&b);
}

DEVICE_TEST(R04_create_failing_in_the_renderer)
{
    struct bench b;
    bench_open(&b, NULL);
    vgd_fake_fail_nth(b.render, 1, VGD_NO_MEMORY);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), ERR_OUT_OF_MEMORY);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(create_texture(&b, 1, 4, 4), ERR_UNSPEC);
    cr_assert_eq(b.counters.resources_live, 0);
    cr_assert_eq(b.counters.resource_bytes_live, 0);
    cr_assert_resp(unref(&b, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), ERR_UNSPEC);
    cr_assert_eq(b.counters.backing_entries_live, 0);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R05_transfer_boundaries)
{
    /* An 8x8 resource, 256 bytes, with a backing of exactly that. */
    static const struct {
        const char *name;
        struct vgd_rect rect;
        uint64_t offset_bytes;
        bool ok;
    } cases[] = {
        {"whole", {0, 0, 8, 8}, 0, true},
        {"last pixel", {7, 7, 1, 1}, 252, true},
        {"last pixel, one byte on", {7, 7, 1, 1}, 253, false},
        {"last row", {0, 7, 8, 1}, 224, true},
        {"two rows from the last but one", {0, 6, 8, 2}, 192, true},
        {"two rows one byte on", {0, 6, 8, 2}, 193, false},
        {"whole, one byte on", {0, 0, 8, 8}, 1, false},
        {"one past the right", {1, 0, 8, 1}, 0, false},
        {"one past the bottom", {0, 1, 8, 8}, 0, false},
        {"empty at the edge", {8, 8, 0, 0}, 0, true},
        {"empty past the edge", {9, 8, 0, 0}, 0, false},
        {"empty, wild offset", {0, 0, 0, 8}, UINT64_MAX, true},
        {"x + w wraps", {UINT32_MAX, 0, 2, 1}, 0, false},
        {"y + h wraps", {0, UINT32_MAX, 1, 2}, 0, false},
        {"w is huge", {0, 0, UINT32_MAX, 1}, 0, false},
        {"offset at the end", {0, 0, 1, 1}, 256, false},
        {"offset + stride * h wraps", {0, 0, 8, 8}, UINT64_MAX - 255, false},
        {"offset wraps to 0", {0, 0, 1, 1}, UINT64_MAX - 3, false},
        {"offset 2^63", {0, 0, 1, 1}, UINT64_C(1) << 63, false},
    };
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 8, 8), OK_NODATA);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 256), OK_NODATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(transfer_2d(&b, 1, cases[i].rect, cases[i].offset_bytes),
                     cases[i].ok ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER, "%s",
                     cases[i].name);
    }
    bench_close(&b);
}

DEVICE_TEST(R05_transfer_moves_the_right_bytes)
{
    struct bench b;
    bench_open(&b, NULL);
    uint32_t *ram = (uint32_t *)ram_at(&b, LOW_GPA);
    for (uint32_t i = 0; i < 64; i++) {
        ram[i] = 0xff000000 + i;
    }
    cr_assert_resp(create_2d(&b, 1, BGRA, 8, 8), OK_NODATA);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 256), OK_NODATA);
    /* 2x3 pixels from byte 40 (pixel 10) on, to 5,4. */
    cr_assert_resp(transfer_2d(&b, 1, rect(5, 4, 2, 3), 40), OK_NODATA);
    for (uint32_t y = 0; y < 8; y++) {
        for (uint32_t x = 0; x < 8; x++) {
            bool in = x >= 5 && x < 7 && y >= 4 && y < 7;
            uint32_t expect = in ? 0xff000000 + 10 + (x - 5) + (y - 4) * 8 : 0;
            cr_assert_eq(pixel_at(&b, 1, x, y), expect, "%u,%u", x, y);
        }
    }
    bench_close(&b);
}

DEVICE_TEST(R06_transfer_without_enough_backing)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 8, 8), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), 0), ERR_UNSPEC); /* none */
    cr_assert_resp(attach(&b, 1, LOW_GPA, 255), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), 0), ERR_INVALID_PARAMETER); /* short */
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 7), 0), OK_NODATA);
    cr_assert_resp(detach(&b, 1), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), 0), ERR_UNSPEC);
    struct vgd_mem_entry entries[] = {{.addr = LOW_GPA, .len_bytes = 256}, {.addr = LOW_GPA}};
    cr_assert_resp(attach_entries(&b, 1, 2, entries, 2), ERR_INVALID_PARAMETER);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), 0), ERR_UNSPEC);
    cr_assert_resp(transfer_2d(&b, 2, rect(0, 0, 8, 8), 0), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_texture(&b, 2, 8, 8), OK_NODATA);
    cr_assert_resp(attach(&b, 2, LOW_GPA, 256), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 2, rect(0, 0, 8, 8), 0), ERR_INVALID_RESOURCE_ID);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_TRANSFER_2D), 1);
    bench_close(&b);
}

DEVICE_TEST(R07_attach_twice_and_to_nothing)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA);
    cr_assert_not(vgd_fake_has_backing(b.render, 1)); /* nothing of the refused entries */
    memset(ram_at(&b, LOW_GPA), 0x11, 64);
    memset(ram_at(&b, HIGH_GPA), 0x22, 64);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), OK_NODATA);
    cr_assert_resp(attach(&b, 1, HIGH_GPA, 64), ERR_UNSPEC);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 4, 4), 0), OK_NODATA);
    cr_assert_eq(pixel_at(&b, 1, 0, 0), 0x11111111); /* the first one stays */
    cr_assert_eq(b.counters.backing_entries_live, 1);
    bench_close(&b);
}

DEVICE_TEST(R08_entries_that_lie)
{
    static const struct vgd_mem_entry good[2] = {{.addr = LOW_GPA, .len_bytes = 0x1000},
                                                 {.addr = HIGH_GPA, .len_bytes = 0x1000}};
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA);
    static const uint32_t counts[] = {0, 1, 3, 0x10000000, 0x10000002, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        cr_assert_resp(attach_entries(&b, 1, counts[i], good, 2), ERR_INVALID_PARAMETER);
    }
    cr_assert_resp(attach_entries(&b, 1, 0, good, 0), ERR_INVALID_PARAMETER);
    static const struct {
        const char *name;
        struct vgd_mem_entry entry;
    } outside[] = {
        {"in a hole", {.addr = HOLE_GPA, .len_bytes = 1}},
        {"begins in RAM, ends outside", {.addr = HIGH_GPA + REGION_BYTES - 1, .len_bytes = 2}},
        {"ends where RAM begins", {.addr = HIGH_GPA - 16, .len_bytes = 16}},
        {"wraps 2^64", {.addr = UINT64_MAX, .len_bytes = 2}},
        {"longest", {.addr = LOW_GPA, .len_bytes = 0xffffffff}},
        {"empty", {.addr = LOW_GPA, .len_bytes = 0}},
    };
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        struct vgd_mem_entry entries[2] = {good[0], outside[i].entry};
        cr_assert_eq(attach_entries(&b, 1, 2, entries, 2), VGD_RESP_ERR_INVALID_PARAMETER, "%s",
                     outside[i].name);
        cr_assert_not(vgd_fake_has_backing(b.render, 1));
    }
    cr_assert_eq(b.counters.backing_entries_live, 0);
    cr_assert_resp(attach_entries(&b, 1, 2, good, 2), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R08_lengths_beyond_32_bits)
{
    /* The same whole region, so often that the sum passes 2^32. */
    enum { N = 4099 };
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 8, 8), OK_NODATA);
    size_t n_bytes = VGD_CTRL_HDR_SIZE + 8 + N * 16;
    uint8_t *cmd = malloc(n_bytes);
    struct vgd_writer w = vgd_writer_of(cmd, n_bytes);
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_ATTACH_BACKING});
    vgd_write_le32(&w, 1);
    vgd_write_le32(&w, N);
    for (int i = 0; i < N; i++) {
        vgd_mem_entry_encode(&w,
                             &(struct vgd_mem_entry){.addr = HIGH_GPA, .len_bytes = REGION_BYTES});
    }
    struct sent s;
    send_bytes(&b, &s, cmd, n_bytes, 64, VGD_QUEUE_CONTROL);
    free(cmd);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    memset(ram_at(&b, HIGH_GPA), 0x33, REGION_BYTES);
    uint64_t size_bytes = (uint64_t)N * REGION_BYTES;
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), size_bytes - 256), OK_NODATA);
    cr_assert_eq(pixel_at(&b, 1, 7, 7), 0x33333333);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 8, 8), size_bytes - 255), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

DEVICE_TEST(R08_entries_across_regions_that_touch)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 1), OK_NODATA);
    memset(ram_at(&b, MIDDLE_GPA - 8), 1, 8);
    memset(ram_at(&b, MIDDLE_GPA), 2, 8);
    cr_assert_resp(attach(&b, 1, MIDDLE_GPA - 8, 16), OK_NODATA);
    cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 4, 1), 0), OK_NODATA);
    cr_assert_eq(pixel_at(&b, 1, 1, 0), 0x01010101);
    cr_assert_eq(pixel_at(&b, 1, 2, 0), 0x02020202);
    bench_close(&b);
}

DEVICE_TEST(R08_total_of_entries)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.backing_entries_max = 3}});
    static const struct vgd_mem_entry entries[4] = {{.addr = LOW_GPA, .len_bytes = 16},
                                                    {.addr = LOW_GPA + 32, .len_bytes = 16},
                                                    {.addr = LOW_GPA + 64, .len_bytes = 16},
                                                    {.addr = LOW_GPA + 96, .len_bytes = 16}};
    for (uint32_t id = 1; id <= 3; id++) {
        cr_assert_resp(create_2d(&b, id, BGRA, 1, 1), OK_NODATA);
    }
    cr_assert_resp(attach_entries(&b, 1, 4, entries, 4), ERR_OUT_OF_MEMORY);
    cr_assert_resp(attach_entries(&b, 1, 2, entries, 2), OK_NODATA);
    cr_assert_resp(attach_entries(&b, 2, 2, entries, 2), ERR_OUT_OF_MEMORY);
    cr_assert_resp(attach_entries(&b, 2, 1, entries, 1), OK_NODATA);
    cr_assert_resp(attach_entries(&b, 3, 1, entries, 1), ERR_OUT_OF_MEMORY);
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    cr_assert_resp(attach_entries(&b, 3, 2, entries, 2), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R09_unmatched_detach_and_unref)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(detach(&b, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(unref(&b, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(unref(&b, 0), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA);
    cr_assert_resp(detach(&b, 1), ERR_UNSPEC);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), OK_NODATA);
    cr_assert_resp(unref(&b, 1), OK_NODATA); /* with its backing */
    cr_assert_eq(b.counters.backing_entries_live, 0);
    cr_assert_resp(unref(&b, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(detach(&b, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 64), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R10_unref_while_shown)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    cr_assert_resp(create_2d(&b, 2, BGRA, 64, 64), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 0, 1, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 2, 1, rect(0, 0, 32, 64)), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 1, 2, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_resp(update_cursor(&b, 0, 1), OK_NODATA);
    events_clear(&b);
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    cr_assert_eq(b.display.events_count, 2); /* the cursor stays: its pixels were copied */
    cr_assert_eq(b.display.events[0].kind, EVENT_DISABLE);
    cr_assert_eq(b.display.events[0].scanout_idx, 0);
    cr_assert_eq(b.display.events[1].kind, EVENT_DISABLE);
    cr_assert_eq(b.display.events[1].scanout_idx, 2);
    events_clear(&b);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 64)), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(flush(&b, 2, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 1);
    vgd_gpu_redisplay(b.gpu);
    cr_assert_eq(events_of(&b, EVENT_SET), 1);
    cr_assert_eq(events_of(&b, EVENT_CURSOR), 1);
    bench_close(&b);
}

DEVICE_TEST(R11_scanout_ids)
{
    struct bench b;
    bench_open(&b, NULL); /* has 4 */
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    static const uint32_t bad[] = {4, 15, 16, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_resp(set_scanout(&b, bad[i], 1, rect(0, 0, 64, 64)), ERR_INVALID_SCANOUT_ID);
        cr_assert_resp(set_scanout(&b, bad[i], 0, rect(0, 0, 0, 0)), ERR_INVALID_SCANOUT_ID);
        cr_assert_resp(update_cursor(&b, bad[i], 1), ERR_INVALID_SCANOUT_ID);
        cr_assert_resp(update_cursor(&b, bad[i], 0), ERR_INVALID_SCANOUT_ID);
        cr_assert_resp(move_cursor(&b, bad[i], 1, 1), ERR_INVALID_SCANOUT_ID);
        struct cmd c;
        cmd_begin(&c, VGD_CMD_GET_EDID, 0);
        vgd_write_le32(&c.w, bad[i]);
        vgd_write_le32(&c.w, 0);
        cr_assert_resp(cmd_run(&b, &c), ERR_INVALID_SCANOUT_ID);
    }
    cr_assert_eq(b.display.events_count, 0);
    cr_assert_resp(set_scanout(&b, 3, 1, rect(0, 0, 64, 64)), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R12_scanout_rectangles)
{
    static const struct {
        const char *name;
        struct vgd_rect rect;
        bool ok;
    } cases[] = {
        {"whole", {0, 0, 64, 32}, true},
        {"one pixel", {63, 31, 1, 1}, true},
        {"no width", {0, 0, 0, 32}, false},
        {"no height", {0, 0, 64, 0}, false},
        {"too wide", {0, 0, 65, 32}, false},
        {"too low", {0, 1, 64, 32}, false},
        {"x + w wraps", {1, 0, UINT32_MAX, 1}, false},
        {"y + h wraps", {0, UINT32_MAX, 1, 1}, false},
    };
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 32), OK_NODATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        events_clear(&b);
        cr_assert_eq(set_scanout(&b, 0, 1, cases[i].rect),
                     cases[i].ok ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER, "%s",
                     cases[i].name);
        cr_assert_eq(b.display.events_count, cases[i].ok);
    }
    cr_assert_resp(set_scanout(&b, 0, 9, rect(0, 0, 1, 1)), ERR_INVALID_RESOURCE_ID);
    events_clear(&b);
    cr_assert_resp(set_scanout(&b, 0, 0, rect(7, 7, 0, 9)), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_DISABLE), 1);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 32)), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 0);
    bench_close(&b);
}

DEVICE_TEST(R12_only_pictures_are_shown)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_query(&b, 1), OK_NODATA); /* a buffer of 16x1 */
    cr_assert_resp(set_scanout(&b, 0, 1, rect(0, 0, 16, 1)), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(update_cursor(&b, 0, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_texture(&b, 2, 16, 16), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 0, 2, rect(0, 0, 16, 16)), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(R14_flush)
{
    static const struct {
        const char *name;
        struct vgd_rect flushed, damage; /* the scanout shows 32x32 at 16,16 of 64x64 */
        uint32_t resp;
        bool shown;
    } cases[] = {
        {"whole", {0, 0, 64, 64}, {0, 0, 32, 32}, VGD_RESP_OK_NODATA, true},
        {"small, inside", {20, 24, 4, 5}, {4, 8, 4, 5}, VGD_RESP_OK_NODATA, true},
        {"over the top left", {0, 0, 17, 18}, {0, 0, 1, 2}, VGD_RESP_OK_NODATA, true},
        {"over the bottom right", {47, 46, 17, 18}, {31, 30, 1, 2}, VGD_RESP_OK_NODATA, true},
        {"beside", {0, 0, 16, 64}, {0}, VGD_RESP_OK_NODATA, false},
        {"below", {0, 48, 64, 16}, {0}, VGD_RESP_OK_NODATA, false},
        {"empty", {20, 20, 0, 0}, {0}, VGD_RESP_OK_NODATA, false},
        {"too wide", {1, 0, 64, 1}, {0}, VGD_RESP_ERR_INVALID_PARAMETER, false},
        {"x + w wraps", {UINT32_MAX, 0, 2, 1}, {0}, VGD_RESP_ERR_INVALID_PARAMETER, false},
    };
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 64)), OK_NODATA); /* on no scanout */
    cr_assert_eq(b.display.events_count, 0);
    cr_assert_resp(set_scanout(&b, 0, 1, rect(16, 16, 32, 32)), OK_NODATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        events_clear(&b);
        cr_assert_eq(flush(&b, 1, cases[i].flushed), cases[i].resp, "%s", cases[i].name);
        cr_assert_eq(b.display.events_count, cases[i].shown, "%s", cases[i].name);
        if (cases[i].shown) {
            cr_assert_eq(memcmp(&b.display.events[0].rect, &cases[i].damage, 16), 0, "%s",
                         cases[i].name);
        }
    }
    cr_assert_resp(flush(&b, 2, rect(0, 0, 1, 1)), ERR_INVALID_RESOURCE_ID);
    bench_close(&b);
}

/* Peers' cases 14 and 17. */
DEVICE_TEST(R14_two_scanouts_of_one_resource)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 0, 1, rect(0, 0, 32, 64)), OK_NODATA);
    cr_assert_resp(set_scanout(&b, 3, 1, rect(32, 0, 32, 64)), OK_NODATA);
    events_clear(&b);
    cr_assert_resp(flush(&b, 1, rect(30, 10, 4, 2)), OK_NODATA);
    cr_assert_eq(b.display.events_count, 2);
    cr_assert_eq(b.display.events[0].rect.x_px, 30);
    cr_assert_eq(b.display.events[0].rect.w_px, 2);
    cr_assert_eq(b.display.events[1].scanout_idx, 3);
    cr_assert_eq(b.display.events[1].rect.x_px, 0);
    cr_assert_eq(b.display.events[1].rect.y_px, 10);
    cr_assert_eq(b.display.events[1].rect.w_px, 2);
    cr_assert_eq(b.display.events[1].rect.h_px, 2);
    bench_close(&b);
}

DEVICE_TEST(R14_a_flush_shows_what_changed)
{
    struct bench b;
    bench_open(&b, NULL);
    const struct vgd_rect nothing = {0};
    const struct vgd_rect some = rect(8, 8, 4, 4);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    vgd_fake_set_changed(b.render, &nothing);
    cr_assert_resp(set_scanout(&b, 0, 1, rect(0, 0, 64, 64)), OK_NODATA);
    events_clear(&b);
    /* The display has never seen this scanout: as the guest says, until all of it was flushed. */
    cr_assert_resp(flush(&b, 1, rect(0, 0, 32, 32)), OK_NODATA);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_eq(events_of(&b, EVENT_FLUSH), 2);
    cr_assert_eq(b.display.events[1].rect.w_px, 64);
    events_clear(&b);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_eq(b.display.events_count, 0);
    vgd_fake_set_changed(b.render, &some);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 10, 64)), OK_NODATA);
    cr_assert_eq(b.display.events_count, 1);
    cr_assert_eq(b.display.events[0].rect.x_px, 8);
    cr_assert_eq(b.display.events[0].rect.w_px, 2);
    cr_assert_eq(b.display.events[0].rect.h_px, 4);
    events_clear(&b);
    vgd_fake_set_changed(b.render, &nothing);
    cr_assert_resp(set_scanout(&b, 1, 1, rect(0, 0, 64, 64)), OK_NODATA); /* one more */
    events_clear(&b);
    cr_assert_resp(flush(&b, 1, rect(0, 0, 64, 64)), OK_NODATA);
    cr_assert_eq(b.display.events_count, 1); /* only the new one */
    cr_assert_eq(b.display.events[0].scanout_idx, 1);
    bench_close(&b);
}

/* Peers' case 16. */
DEVICE_TEST(R15_cursor_sizes)
{
    static const uint32_t sides[] = {1, 32, 64, 65, 100};
    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
        struct bench b;
        bench_open(&b, NULL);
        uint32_t side = sides[i];
        cr_assert_resp(create_2d(&b, 1, BGRA, side, side), OK_NODATA);
        cr_assert_resp(attach(&b, 1, LOW_GPA, side * side * 4), OK_NODATA);
        memset(ram_at(&b, LOW_GPA), 0x77, side * side * 4);
        cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, side, side), 0), OK_NODATA);
        cr_assert_resp(update_cursor(&b, 0, 1), OK_NODATA);
        cr_assert_eq(b.display.events[0].kind, EVENT_CURSOR);
        cr_assert_eq(b.display.events[0].pos.x_px, 10);
        cr_assert_eq(b.display.events[0].pos.y_px, 20);
        cr_assert_eq(b.display.events[0].hot_x_px, 1);
        cr_assert_eq(b.display.events[0].hot_y_px, 2);
        for (uint32_t y = 0; y < 64; y++) {
            for (uint32_t x = 0; x < 64; x++) {
                uint8_t expect = x < side && y < side ? 0x77 : 0;
                cr_assert_eq(b.display.pixels[(y * 64 + x) * 4], expect, "side %u: %u,%u", side, x,
                             y);
            }
        }
        bench_close(&b);
    }
}

DEVICE_TEST(R15_cursor_formats)
{
    /* Bytes 1 2 3 4 in memory, as each format's B G R A. */
    static const struct {
        uint32_t format;
        uint8_t bgra[4];
    } cases[] = {
        {VGD_FORMAT_B8G8R8A8_UNORM, {1, 2, 3, 4}}, {VGD_FORMAT_B8G8R8X8_UNORM, {1, 2, 3, 255}},
        {VGD_FORMAT_A8R8G8B8_UNORM, {4, 3, 2, 1}}, {VGD_FORMAT_X8R8G8B8_UNORM, {4, 3, 2, 255}},
        {VGD_FORMAT_R8G8B8A8_UNORM, {3, 2, 1, 4}}, {VGD_FORMAT_X8B8G8R8_UNORM, {2, 3, 4, 255}},
        {VGD_FORMAT_A8B8G8R8_UNORM, {2, 3, 4, 1}}, {VGD_FORMAT_R8G8B8X8_UNORM, {3, 2, 1, 255}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        bench_open(&b, NULL);
        memcpy(ram_at(&b, LOW_GPA), "\1\2\3\4", 4);
        cr_assert_resp(create_2d(&b, 1, cases[i].format, 1, 1), OK_NODATA);
        cr_assert_resp(attach(&b, 1, LOW_GPA, 4), OK_NODATA);
        cr_assert_resp(transfer_2d(&b, 1, rect(0, 0, 1, 1), 0), OK_NODATA);
        cr_assert_resp(update_cursor(&b, 0, 1), OK_NODATA);
        cr_assert_eq(memcmp(b.display.pixels, cases[i].bgra, 4), 0, "format %u", cases[i].format);
        bench_close(&b);
    }
}

DEVICE_TEST(R15_cursor_freed_between_update_and_move)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(move_cursor(&b, 0, 5, 6), OK_NODATA); /* before there is one */
    cr_assert_resp(update_cursor(&b, 0, 1), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    cr_assert_resp(update_cursor(&b, 0, 1), OK_NODATA);
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    events_clear(&b);
    cr_assert_resp(move_cursor(&b, 0, 7, 8), OK_NODATA);
    cr_assert_eq(b.display.events[0].kind, EVENT_CURSOR_MOVE);
    cr_assert_eq(b.display.events[0].pos.x_px, 7);
    vgd_gpu_redisplay(b.gpu);
    cr_assert_eq(b.display.events[1].kind, EVENT_CURSOR);
    cr_assert_eq(b.display.events[1].pos.x_px, 7);
    events_clear(&b);
    cr_assert_resp(update_cursor(&b, 0, 0), OK_NODATA);
    cr_assert_eq(b.display.events[0].kind, EVENT_CURSOR_HIDDEN);
    events_clear(&b);
    vgd_gpu_redisplay(b.gpu);
    cr_assert_eq(b.display.events_count, 0);
    bench_close(&b);
}

DEVICE_TEST(R15_cursor_that_cannot_be_read)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 64, 64), OK_NODATA);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(update_cursor(&b, 0, 1), ERR_UNSPEC);
    cr_assert_eq(b.display.events_count, 0);
    bench_close(&b);
}

DEVICE_TEST(R16_new_resources_read_as_zeros)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_2d(&b, 1, BGRA, 8, 8), OK_NODATA);
    for (uint32_t i = 0; i < 64; i++) {
        cr_assert_eq(pixel_at(&b, 1, i % 8, i / 8), 0);
    }
    bench_close(&b);
}

DEVICE_TEST(display_questions_are_answered_later)
{
    struct bench b;
    bench_open(&b, NULL);
    b.display.defer = true;
    struct sent s[3];
    struct cmd c;
    cmd_begin(&c, VGD_CMD_GET_DISPLAY_INFO, 0);
    cmd_send(&b, &s[0], &c);
    cmd_begin_fenced(&c, &b, VGD_CMD_GET_EDID, 0);
    vgd_write_zeros(&c.w, 8);
    cmd_send(&b, &s[1], &c);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 2);
    cr_assert_eq(s[0].completions + s[1].completions, 0);
    cr_assert_resp(create_2d(&b, 1, BGRA, 4, 4), OK_NODATA); /* the queue goes on */
    recorder_answer(&b.display);
    cr_assert_eq(vgd_gpu_pending_count(b.gpu), 0);
    cr_assert_resp(s[0].hdr.type, OK_DISPLAY_INFO);
    cr_assert_eq(s[0].resp_bytes, 24 + 384);
    struct vgd_reader r = vgd_reader_of(s[0].resp + 24, 384);
    struct vgd_resp_display_info info;
    cr_assert_eq(vgd_resp_display_info_decode(&r, &info), VGD_OK);
    cr_assert_eq(info.pmodes[0].rect.w_px, 1280);
    cr_assert_resp(s[1].hdr.type, OK_EDID);
    cr_assert_eq(s[1].hdr.flags, VGD_FLAG_FENCE);
    b.display.no_edid = true;
    cmd_send(&b, &s[2], &c);
    recorder_answer(&b.display);
    cr_assert_resp(s[2].hdr.type, ERR_UNSPEC);
    bench_close(&b);
}
