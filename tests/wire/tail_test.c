/* SPDX-License-Identifier: MIT */
/* Messages that announce how much follows: the announcement is believed only if it is true. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "display_channel.h"
#include "vhost_user.h"
#include "virtio_gpu.h"

static const uint8_t *zeros; /* enough for the largest honest tail below */

static void setup(void)
{
    zeros = calloc(1, 1 << 20);
    cr_assert(zeros != NULL);
}

static void teardown(void)
{
    free((void *)(uintptr_t)zeros);
}

struct tail_case {
    const char *name;
    uint64_t a, b; /* what is announced */
    size_t n_bytes;
    enum vgd_status expect;
};

static void run(const struct tail_case *cases, size_t n,
                enum vgd_status (*check)(const struct vgd_reader *r, const struct tail_case *c))
{
    for (size_t i = 0; i < n; i++) {
        struct vgd_reader r = vgd_reader_of(zeros, cases[i].n_bytes);
        enum vgd_status st = check(&r, &cases[i]);
        cr_assert(st == cases[i].expect, "%s: %s", cases[i].name, vgd_status_text(st));
    }
}

#define N(array) (sizeof(array) / sizeof((array)[0]))

TestSuite(tail, .init = setup, .fini = teardown);

static const struct tail_case entry_cases[] = {
    {"none", .a = 0, .n_bytes = 0, .expect = VGD_OK},
    {"none, one byte", .a = 0, .n_bytes = 1, .expect = VGD_TRAILING},
    {"one, nothing", .a = 1, .n_bytes = 0, .expect = VGD_TRUNCATED},
    {"two, a byte short", .a = 2, .n_bytes = 31, .expect = VGD_TRUNCATED},
    {"two", .a = 2, .n_bytes = 32, .expect = VGD_OK},
    {"two, a byte over", .a = 2, .n_bytes = 33, .expect = VGD_TRAILING},
    {"times 16 wraps 32 bits to 0", .a = 0x10000000, .n_bytes = 0, .expect = VGD_TRUNCATED},
    {"times 16 wraps 32 bits to 16", .a = 0x10000001, .n_bytes = 16, .expect = VGD_TRUNCATED},
    {"largest", .a = UINT32_MAX, .n_bytes = 1 << 20, .expect = VGD_TRUNCATED},
};

static enum vgd_status check_attach(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_cmd_resource_attach_backing cmd = {.nr_entries = (uint32_t)c->a};
    return vgd_cmd_resource_attach_backing_tail_check(r, &cmd);
}

Test(tail, attach_backing_entries)
{
    run(entry_cases, N(entry_cases), check_attach);
}

static enum vgd_status check_blob(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_cmd_resource_create_blob cmd = {.nr_entries = (uint32_t)c->a};
    return vgd_cmd_resource_create_blob_tail_check(r, &cmd);
}

Test(tail, create_blob_entries)
{
    run(entry_cases, N(entry_cases), check_blob);
}

Test(tail, entries_end_where_the_bytes_end)
{
    /* A loop that trusts nr_entries stops at the first entry that is not there. */
    uint8_t *exact = calloc(1, VGD_MEM_ENTRY_SIZE * 2 + 15);
    cr_assert(exact != NULL);
    struct vgd_reader r = vgd_reader_of(exact, VGD_MEM_ENTRY_SIZE * 2 + 15);
    struct vgd_mem_entry entry = {.addr = 0xdead};
    cr_assert(vgd_mem_entry_decode(&r, &entry) == VGD_OK);
    cr_assert(vgd_mem_entry_decode(&r, &entry) == VGD_OK);
    entry.addr = 0xdead;
    cr_assert(vgd_mem_entry_decode(&r, &entry) == VGD_TRUNCATED);
    cr_assert(vgd_mem_entry_decode(&r, &entry) == VGD_TRUNCATED);
    cr_assert(entry.addr == 0xdead);
    free(exact);
}

static const struct tail_case byte_cases[] = {
    {"none", .a = 0, .n_bytes = 0, .expect = VGD_OK},
    {"a byte short", .a = 20, .n_bytes = 19, .expect = VGD_TRUNCATED},
    {"exact", .a = 20, .n_bytes = 20, .expect = VGD_OK},
    {"a byte over", .a = 20, .n_bytes = 21, .expect = VGD_TRAILING},
    {"largest", .a = UINT32_MAX, .n_bytes = 4096, .expect = VGD_TRUNCATED},
};

static enum vgd_status check_submit(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_cmd_submit_3d cmd = {.size_bytes = (uint32_t)c->a};
    return vgd_cmd_submit_3d_tail_check(r, &cmd);
}

Test(tail, submit_3d_size)
{
    run(byte_cases, N(byte_cases), check_submit);
}

static enum vgd_status check_config(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_vu_config cfg = {.size_bytes = (uint32_t)c->a};
    return vgd_vu_config_tail_check(r, &cfg);
}

Test(tail, config_size)
{
    run(byte_cases, N(byte_cases), check_config);
}

static enum vgd_status check_mem_table(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_vu_mem_table table = {.nregions = (uint32_t)c->a};
    return vgd_vu_mem_table_tail_check(r, &table);
}

Test(tail, mem_table_regions)
{
    static const struct tail_case cases[] = {
        {"none", .a = 0, .n_bytes = 0, .expect = VGD_OK},
        {"eight, a byte short", .a = 8, .n_bytes = 255, .expect = VGD_TRUNCATED},
        {"eight", .a = 8, .n_bytes = 256, .expect = VGD_OK},
        {"eight, a byte over", .a = 8, .n_bytes = 257, .expect = VGD_TRAILING},
        {"times 32 wraps 32 bits to 0", .a = 0x08000000, .n_bytes = 0, .expect = VGD_TRUNCATED},
        {"largest", .a = UINT32_MAX, .n_bytes = 256, .expect = VGD_TRUNCATED},
    };
    run(cases, N(cases), check_mem_table);
}

static enum vgd_status check_update(const struct vgd_reader *r, const struct tail_case *c)
{
    const struct vgd_disp_update update = {.w_px = (uint32_t)c->a, .h_px = (uint32_t)c->b};
    return vgd_disp_update_tail_check(r, &update);
}

Test(tail, update_pixels)
{
    static const struct tail_case cases[] = {
        {"empty", .a = 0, .b = 7, .n_bytes = 0, .expect = VGD_OK},
        {"3x2, a byte short", .a = 3, .b = 2, .n_bytes = 23, .expect = VGD_TRUNCATED},
        {"3x2", .a = 3, .b = 2, .n_bytes = 24, .expect = VGD_OK},
        {"3x2, a byte over", .a = 3, .b = 2, .n_bytes = 25, .expect = VGD_TRAILING},
        {"wraps 32 bits to 0", .a = 0x8000, .b = 0x8000, .n_bytes = 0, .expect = VGD_TRUNCATED},
        {"wraps 64 bits to 0", .a = UINT32_C(1) << 31, .b = UINT32_C(1) << 31, .n_bytes = 0,
         .expect = VGD_TRUNCATED},
        {"largest", .a = UINT32_MAX, .b = UINT32_MAX, .n_bytes = 64, .expect = VGD_TRUNCATED},
    };
    run(cases, N(cases), check_update);
}

static enum vgd_status check_cursor(const struct vgd_reader *r, const struct tail_case *c)
{
    (void)c;
    const struct vgd_disp_cursor_update update = {0};
    return vgd_disp_cursor_update_tail_check(r, &update);
}

Test(tail, cursor_pixels)
{
    static const struct tail_case cases[] = {
        {"nothing", .n_bytes = 0, .expect = VGD_TRUNCATED},
        {"a byte short", .n_bytes = VGD_DISP_CURSOR_BYTES - 1, .expect = VGD_TRUNCATED},
        {"exact", .n_bytes = VGD_DISP_CURSOR_BYTES, .expect = VGD_OK},
        {"a byte over", .n_bytes = VGD_DISP_CURSOR_BYTES + 1, .expect = VGD_TRAILING},
    };
    run(cases, N(cases), check_cursor);
}

/* The reply to GET_DISPLAY_INFO is a whole virtio-gpu response: header, then body. */
Test(tail, header_then_body_from_one_reader)
{
    struct vgd_reader r = vgd_reader_of(zeros, VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE);
    struct vgd_ctrl_hdr hdr;
    struct vgd_resp_display_info info;
    cr_assert(vgd_ctrl_hdr_decode(&r, &hdr) == VGD_OK);
    cr_assert(vgd_resp_display_info_decode(&r, &info) == VGD_OK);
    cr_assert(VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE == 408);
    cr_assert(VGD_CTRL_HDR_SIZE + VGD_RESP_EDID_SIZE == 1056);
}
