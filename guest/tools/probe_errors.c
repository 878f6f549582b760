/* SPDX-License-Identifier: MIT */
/* Bad commands: the right error comes back, nothing changes, and the device goes on. */
#include <stdlib.h>
#include <string.h>

#include "probe.h"

#define B8G8R8X8 VGD_FORMAT_B8G8R8X8_UNORM
#define BAD_ID 0x7fffff00u

static struct vgd_rect rect_at(uint32_t x_px, uint32_t y_px, uint32_t w_px, uint32_t h_px)
{
    return (struct vgd_rect){.x_px = x_px, .y_px = y_px, .w_px = w_px, .h_px = h_px};
}

static void create(struct probe *p)
{
    uint32_t id = probe_id(p);
    probe_resp(p, "CREATE_2D with id 0", vgd_guest_create_2d(p->gpu, 0, B8G8R8X8, 16, 16),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 16, 16));
    probe_resp(p, "CREATE_2D with an id that is taken",
               vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 16, 16), VGD_RESP_ERR_INVALID_RESOURCE_ID);
    static const uint32_t formats[] = {0, 5, 66, 255, 0x10001, 0xffffffff};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (!probe_err(p, "CREATE_2D with an unknown format",
                       vgd_guest_create_2d(p->gpu, probe_id(p), formats[i], 16, 16))) {
            probe_note(p, "format %u", formats[i]);
        }
    }
    static const uint32_t sizes[][2] = {
        {0, 16},
        {16, 0},
        {0, 0},
        {0xffffffff, 1},
        {1, 0xffffffff},
        {0xffffffff, 0xffffffff},
        {0x10000, 0x10000},
        {0x40000000, 4},
        {0x80000001, 0x80000001},
    };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (!probe_err(
                p, "CREATE_2D with an impossible size",
                vgd_guest_create_2d(p->gpu, probe_id(p), B8G8R8X8, sizes[i][0], sizes[i][1]))) {
            probe_note(p, "size %ux%u", sizes[i][0], sizes[i][1]);
        }
    }
    /* The one that was there still is, once. */
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    probe_resp(p, "UNREF twice", vgd_guest_unref(p->gpu, id), VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "UNREF of an unknown id", vgd_guest_unref(p->gpu, BAD_ID),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "UNREF of id 0", vgd_guest_unref(p->gpu, 0), VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_goes_on(p);
}

/* ATTACH_BACKING that announces @announced entries and sends @sent. */
static uint32_t attach_lying(struct probe *p, uint32_t res_id, uint32_t announced,
                             const struct vgd_mem_entry *entries, uint32_t sent)
{
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE];
    uint8_t data[64 * VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res_id, .nr_entries = announced};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    w = vgd_writer_of(data, sizeof(data));
    for (uint32_t i = 0; i < sent; i++) {
        vgd_mem_entry_encode(&w, &entries[i]);
    }
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_RESOURCE_ATTACH_BACKING},
        .body = body,
        .body_bytes = sizeof(body),
        .data = data,
        .data_bytes = (uint32_t)vgd_writer_used(&w),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    return vgd_guest_gpu_call(p->gpu, &req, NULL, 0);
}

static void backing(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 64, 64, 1, 1));
    probe_err(p, "ATTACH_BACKING twice",
              vgd_guest_attach(p->gpu, img.res_id, img.backing.entries, 1));
    probe_resp(p, "ATTACH_BACKING to an unknown id",
               vgd_guest_attach(p->gpu, BAD_ID, img.backing.entries, 1),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    probe_resp(p, "DETACH_BACKING of an unknown id", vgd_guest_detach(p->gpu, BAD_ID),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    PROBE_OK(p, vgd_guest_detach(p->gpu, img.res_id));
    probe_err(p, "DETACH_BACKING without one", vgd_guest_detach(p->gpu, img.res_id));

    uint64_t end = vgd_guest_ram_end(vgd_guest_gpu_ram(p->gpu));
    struct vgd_mem_entry good = img.backing.entries[0];
    const struct {
        const char *what;
        struct vgd_mem_entry entries[2];
        uint32_t sent, announced;
    } table[] = {
        {"behind the end of RAM", {{end, 4096}}, 1, 1},
        {"across the end of RAM", {{end - 4096, 8192}}, 1, 1},
        {"one byte across the end of RAM", {{end - 4096, 4097}}, 1, 1},
        {"wrapping 2^64", {{UINT64_MAX - 4095, 8192}}, 1, 1},
        {"at 2^64 - 1", {{UINT64_MAX, 1}}, 1, 1},
        {"of 4 GiB - 1", {{good.addr, UINT32_MAX}}, 1, 1},
        {"second entry outside", {good, {end, 16}}, 2, 2},
        {"more entries announced than sent", {good}, 1, 2},
        {"1000 announced, 1 sent", {good}, 1, 1000},
        {"0xffffffff announced, 1 sent", {good}, 1, 0xffffffff},
        {"0x10000001 announced (x 16 wraps), 1 sent", {good}, 1, 0x10000001},
        {"none announced, one sent", {good}, 1, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint32_t got =
            attach_lying(p, img.res_id, table[i].announced, table[i].entries, table[i].sent);
        if (!probe_err(p, "ATTACH_BACKING with bad entries", got)) {
            probe_note(p, "entry %s", table[i].what);
            (void)vgd_guest_detach(p->gpu, img.res_id);
        }
    }
    /* None of them left a backing behind. */
    probe_err(p, "transfer after refused backings",
              vgd_guest_transfer_2d(p->gpu, img.res_id, probe_whole(&img), 0));
    PROBE_OK(p, vgd_guest_attach(p->gpu, img.res_id, img.backing.entries, 1));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void transfer(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 100, 50, 1, 2));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    const struct {
        const char *what;
        struct vgd_rect rect;
        uint64_t offset;
    } table[] = {
        {"one pixel too wide", rect_at(0, 0, 101, 50), 0},
        {"one pixel too high", rect_at(0, 0, 100, 51), 0},
        {"moved out by one", rect_at(1, 0, 100, 50), 0},
        {"x + w wraps", rect_at(UINT32_MAX, 0, 2, 1), 0},
        {"y + h wraps", rect_at(0, UINT32_MAX, 1, 2), 0},
        {"x + w wraps to the size", rect_at(0x80000000, 0, 0x80000064, 1), 0},
        {"all ones", rect_at(UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX), 0},
        {"offset at the end", rect_at(0, 0, 1, 1), 100 * 50 * 4},
        {"offset one byte too far", rect_at(0, 0, 100, 50), 1},
        {"offset that wraps", rect_at(0, 0, 100, 50), UINT64_MAX - 100},
        {"offset of 2^63", rect_at(0, 0, 1, 1), UINT64_C(1) << 63},
        {"offset + stride * h wraps", rect_at(0, 0, 100, 50), UINT64_MAX - 100 * 50 * 4 + 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (!probe_err(p, "TRANSFER_TO_HOST_2D",
                       vgd_guest_transfer_2d(p->gpu, img.res_id, table[i].rect, table[i].offset))) {
            probe_note(p, "%s", table[i].what);
        }
    }
    probe_resp(p, "TRANSFER_TO_HOST_2D of an unknown id",
               vgd_guest_transfer_2d(p->gpu, BAD_ID, probe_whole(&img), 0),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    /* Nothing was moved, and the next one works. */
    PROBE_OK(p, vgd_guest_flush(p->gpu, img.res_id, probe_whole(&img)));
    vgd_guest_gpu_settle(p->gpu, 20);
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    probe_image_paint(p, &img, 3);
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void short_backing(struct probe *p)
{
    /* Backing that ends before the picture does. */
    uint32_t id = probe_id(p);
    struct vgd_guest_backing half;
    PROBE_REQUIRE(p, vgd_guest_backing_create(p->gpu, 64 * 32 * 4, 1, &half));
    PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 64, 64));
    struct vgd_mem_entry entries[3] = {
        half.entries[0], {half.entries[0].addr, 0}, {half.entries[0].addr, 0}};
    uint32_t attached = vgd_guest_attach(p->gpu, id, entries, 1);
    if (attached == VGD_RESP_OK_NODATA) {
        probe_err(p, "transfer of more than the backing",
                  vgd_guest_transfer_2d(p->gpu, id, rect_at(0, 0, 64, 64), 0));
        PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, id, rect_at(0, 0, 64, 32), 0));
        PROBE_OK(p, vgd_guest_detach(p->gpu, id));
    }
    /* Entries of length 0: refused or taken, never followed to somewhere else. */
    attached = vgd_guest_attach(p->gpu, id, entries, 3);
    if (attached == VGD_RESP_OK_NODATA) {
        probe_err(p, "transfer of more than the backing (entries of length 0)",
                  vgd_guest_transfer_2d(p->gpu, id, rect_at(0, 0, 64, 64), 0));
    }
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    vgd_guest_backing_destroy(p->gpu, &half);
    probe_goes_on(p);
}

static void scanout(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 320, 200, 1, 4));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    static const uint32_t ids[] = {16, 17, 255, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        probe_resp(p, "SET_SCANOUT of a scanout outside the device",
                   vgd_guest_set_scanout(p->gpu, ids[i], img.res_id, probe_whole(&img)),
                   VGD_RESP_ERR_INVALID_SCANOUT_ID);
        probe_resp(p, "SET_SCANOUT off of a scanout outside the device",
                   vgd_guest_set_scanout(p->gpu, ids[i], 0, probe_whole(&img)),
                   VGD_RESP_ERR_INVALID_SCANOUT_ID);
    }
    probe_resp(p, "SET_SCANOUT to an unknown id",
               vgd_guest_set_scanout(p->gpu, 0, BAD_ID, probe_whole(&img)),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    const struct vgd_rect rects[] = {
        rect_at(0, 0, 321, 200), rect_at(0, 0, 320, 201),
        rect_at(1, 0, 320, 200), rect_at(0, 0, 0, 200),
        rect_at(0, 0, 320, 0),   rect_at(UINT32_MAX, 0, 2, 1),
        rect_at(320, 200, 0, 0), rect_at(0, UINT32_MAX - 10, 16, 16),
    };
    for (size_t i = 0; i < sizeof(rects) / sizeof(rects[0]); i++) {
        if (!probe_err(p, "SET_SCANOUT with a bad rectangle",
                       vgd_guest_set_scanout(p->gpu, 0, img.res_id, rects[i]))) {
            probe_note(p, "rectangle %ux%u+%u+%u", rects[i].w_px, rects[i].h_px, rects[i].x_px,
                       rects[i].y_px);
        }
    }
    /* The scanout is as it was. */
    probe_image_paint(p, &img, 5);
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void flush(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 100, 50, 1, 6));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    const struct vgd_rect rects[] = {
        rect_at(0, 0, 101, 50),       rect_at(0, 0, 100, 51),
        rect_at(100, 0, 1, 1),        rect_at(UINT32_MAX, 0, 2, 1),
        rect_at(0, UINT32_MAX, 1, 2), rect_at(0x80000000, 0, 0x80000064, 1),
    };
    for (size_t i = 0; i < sizeof(rects) / sizeof(rects[0]); i++) {
        if (!probe_err(p, "RESOURCE_FLUSH with a bad rectangle",
                       vgd_guest_flush(p->gpu, img.res_id, rects[i]))) {
            probe_note(p, "rectangle %ux%u+%u+%u", rects[i].w_px, rects[i].h_px, rects[i].x_px,
                       rects[i].y_px);
        }
    }
    probe_resp(p, "RESOURCE_FLUSH of an unknown id",
               vgd_guest_flush(p->gpu, BAD_ID, probe_whole(&img)),
               VGD_RESP_ERR_INVALID_RESOURCE_ID);
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void capsets(struct probe *p)
{
    uint32_t n = vgd_guest_frontend_num_capsets(vgd_guest_gpu_frontend(p->gpu));
    struct vgd_resp_capset_info info;
    probe_err(p, "GET_CAPSET_INFO with index = count", vgd_guest_get_capset_info(p->gpu, n, &info));
    probe_err(p, "GET_CAPSET_INFO with index 0xffffffff",
              vgd_guest_get_capset_info(p->gpu, 0xffffffff, &info));
    uint8_t data[2048];
    uint32_t n_bytes;
    static const uint32_t ids[] = {0, 3, 63, 64, 0xffffffff};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        probe_err(p, "GET_CAPSET of an unknown id",
                  vgd_guest_get_capset(p->gpu, ids[i], 0, data, sizeof(data), &n_bytes));
    }
    if (n > 0 && probe_resp(p, "GET_CAPSET_INFO", vgd_guest_get_capset_info(p->gpu, 0, &info),
                            VGD_RESP_OK_CAPSET_INFO)) {
        probe_err(p, "GET_CAPSET with a higher version",
                  vgd_guest_get_capset(p->gpu, info.capset_id, info.max_version + 1, data,
                                       sizeof(data), &n_bytes));
        /* Room for less than the capset: an error, or no more than there is room for. */
        uint32_t type =
            vgd_guest_get_capset(p->gpu, info.capset_id, info.max_version, data, 16, &n_bytes);
        PROBE_CHECK(p, type != 0 && n_bytes <= 16);
    }
    probe_goes_on(p);
}

static void unknown_commands(struct probe *p)
{
    static const uint32_t types[] = {
        0, 1, 0xff, 0x10e, 0x10f, 0x1ff, 0x20a, 0x2ff, 0x300, 0x301, 0x302, 0x1100, 0xffffffff,
    };
    uint8_t body[64] = {0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct vgd_guest_request req = {
            .hdr = {.type = types[i],
                    .flags = VGD_FLAG_FENCE,
                    .fence_id = 0x100000000 + i,
                    .ctx_id = 3},
            .body = body,
            .body_bytes = sizeof(body),
            .resp_bytes = VGD_CTRL_HDR_SIZE,
        };
        struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
        PROBE_REQUIRE(p, cmd != NULL);
        if (!vgd_guest_gpu_wait(p->gpu, cmd, (int)vgd_guest_gpu_timeout_ms(p->gpu))) {
            probe_fail(p, "command 0x%x is never answered", types[i]);
            vgd_guest_gpu_end(p->gpu, cmd);
            return;
        }
        if (!probe_err(p, "an unknown command", cmd->resp.type)) {
            probe_note(p, "type 0x%x", types[i]);
        }
        if (cmd->resp.fence_id != 0x100000000 + i || cmd->resp.ctx_id != 3 ||
            (cmd->resp.flags & VGD_FLAG_FENCE) == 0) {
            probe_fail(p, "the error to command 0x%x does not echo its fence", types[i]);
        }
        vgd_guest_gpu_end(p->gpu, cmd);
    }
    probe_goes_on(p);
}

/* Commands with bodies of this size, all zeros: every one is invalid, whole or cut. */
static const struct {
    uint32_t type;
    uint32_t body_bytes;
} command_sizes[] = {
    {VGD_CMD_RESOURCE_CREATE_2D, VGD_CMD_RESOURCE_CREATE_2D_SIZE},
    {VGD_CMD_RESOURCE_UNREF, VGD_CMD_RESOURCE_UNREF_SIZE},
    {VGD_CMD_SET_SCANOUT, VGD_CMD_SET_SCANOUT_SIZE},
    {VGD_CMD_RESOURCE_FLUSH, VGD_CMD_RESOURCE_FLUSH_SIZE},
    {VGD_CMD_TRANSFER_TO_HOST_2D, VGD_CMD_TRANSFER_TO_HOST_2D_SIZE},
    {VGD_CMD_RESOURCE_ATTACH_BACKING, VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE},
    {VGD_CMD_RESOURCE_DETACH_BACKING, VGD_CMD_RESOURCE_DETACH_BACKING_SIZE},
    {VGD_CMD_GET_CAPSET_INFO, VGD_CMD_GET_CAPSET_INFO_SIZE},
    {VGD_CMD_GET_CAPSET, VGD_CMD_GET_CAPSET_SIZE},
    {VGD_CMD_GET_EDID, VGD_CMD_GET_EDID_SIZE},
    {VGD_CMD_RESOURCE_ASSIGN_UUID, VGD_CMD_RESOURCE_ASSIGN_UUID_SIZE},
    {VGD_CMD_RESOURCE_CREATE_BLOB, VGD_CMD_RESOURCE_CREATE_BLOB_SIZE},
    {VGD_CMD_SET_SCANOUT_BLOB, VGD_CMD_SET_SCANOUT_BLOB_SIZE},
    {VGD_CMD_CTX_CREATE, VGD_CMD_CTX_CREATE_SIZE},
    {VGD_CMD_CTX_ATTACH_RESOURCE, VGD_CMD_CTX_RESOURCE_SIZE},
    {VGD_CMD_CTX_DETACH_RESOURCE, VGD_CMD_CTX_RESOURCE_SIZE},
    {VGD_CMD_RESOURCE_CREATE_3D, VGD_CMD_RESOURCE_CREATE_3D_SIZE},
    {VGD_CMD_TRANSFER_TO_HOST_3D, VGD_CMD_TRANSFER_HOST_3D_SIZE},
    {VGD_CMD_TRANSFER_FROM_HOST_3D, VGD_CMD_TRANSFER_HOST_3D_SIZE},
    {VGD_CMD_SUBMIT_3D, VGD_CMD_SUBMIT_3D_SIZE},
    {VGD_CMD_RESOURCE_MAP_BLOB, VGD_CMD_RESOURCE_MAP_BLOB_SIZE},
    {VGD_CMD_RESOURCE_UNMAP_BLOB, VGD_CMD_RESOURCE_UNMAP_BLOB_SIZE},
};

static void cut_commands(struct probe *p)
{
    uint8_t body[128] = {0};
    for (size_t i = 0; i < sizeof(command_sizes) / sizeof(command_sizes[0]); i++) {
        uint32_t whole = VGD_CTRL_HDR_SIZE + command_sizes[i].body_bytes;
        for (uint32_t len = 0; len < whole; len++) {
            struct vgd_guest_request req = {
                .hdr = {.type = command_sizes[i].type, .ctx_id = 1},
                .body = body,
                .body_bytes = command_sizes[i].body_bytes,
                .cut_bytes = whole - len,
                .resp_bytes = 1200,
            };
            uint32_t got = vgd_guest_gpu_call(p->gpu, &req, NULL, 0);
            if (!probe_err(p, "a command cut short", got)) {
                probe_note(p, "%s of %u of %u bytes", vgd_cmd_name(command_sizes[i].type), len,
                           whole);
                if (got == 0) {
                    return;
                }
                break;
            }
        }
    }
    probe_goes_on(p);
}

static void response_space(struct probe *p)
{
    /* The device has less room than its answer needs: it writes no more than there is, and the
     * chain comes back. */
    static const uint32_t rooms[] = {0, 1, 8, 23, 24, 25, 100, 407, 1055};
    static const struct {
        uint32_t type, body_bytes;
    } commands[] = {
        {VGD_CMD_GET_DISPLAY_INFO, 0},
        {VGD_CMD_GET_EDID, VGD_CMD_GET_EDID_SIZE},
        {VGD_CMD_GET_CAPSET_INFO, VGD_CMD_GET_CAPSET_INFO_SIZE},
        {VGD_CMD_RESOURCE_UNREF, VGD_CMD_RESOURCE_UNREF_SIZE},
        {0x777, 0},
    };
    uint8_t body[64] = {0};
    for (size_t c = 0; c < sizeof(commands) / sizeof(commands[0]); c++) {
        for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
            struct vgd_guest_request req = {
                .hdr = {.type = commands[c].type},
                .body = body,
                .body_bytes = commands[c].body_bytes,
                .resp_bytes = rooms[i],
            };
            struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
            PROBE_REQUIRE(p, cmd != NULL);
            if (!vgd_guest_gpu_wait(p->gpu, cmd, (int)vgd_guest_gpu_timeout_ms(p->gpu))) {
                probe_fail(p, "%s with room for %u bytes is never answered",
                           vgd_cmd_name(commands[c].type), rooms[i]);
                vgd_guest_gpu_end(p->gpu, cmd);
                return;
            }
            if (cmd->used_bytes > rooms[i]) {
                probe_fail(p, "%s with room for %u bytes: the device says it wrote %u",
                           vgd_cmd_name(commands[c].type), rooms[i], cmd->used_bytes);
            }
            vgd_guest_gpu_end(p->gpu, cmd);
        }
    }
    probe_goes_on(p);
}

static void not_negotiated(struct probe *p)
{
    /* What QEMU 11.1 never offers to a guest is refused, whatever the body says. */
    static const uint32_t types[] = {
        VGD_CMD_RESOURCE_CREATE_BLOB,
        VGD_CMD_SET_SCANOUT_BLOB,
        VGD_CMD_RESOURCE_MAP_BLOB,
        VGD_CMD_RESOURCE_UNMAP_BLOB,
    };
    uint8_t body[96];
    memset(body, 1, sizeof(body));
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (size_t i = 0; i < sizeof(command_sizes) / sizeof(command_sizes[0]); i++) {
            if (command_sizes[i].type != types[t]) {
                continue;
            }
            struct vgd_guest_request req = {
                .hdr = {.type = types[t]},
                .body = body,
                .body_bytes = command_sizes[i].body_bytes,
                .resp_bytes = 64,
            };
            if (!probe_err(p, "a command of a feature that was not negotiated",
                           vgd_guest_gpu_call(p->gpu, &req, NULL, 0))) {
                probe_note(p, "%s", vgd_cmd_name(types[t]));
            }
        }
    }
    probe_goes_on(p);
}

static void flood(struct probe *p)
{
    /* Bad commands at full speed, many in flight; good ones between them are not lost. */
    enum { ROUNDS = 100, BATCH = 32 };
    struct vgd_guest_command *batch[BATCH];
    uint8_t unref[VGD_CMD_RESOURCE_UNREF_SIZE] = {0x00, 0xff, 0xff, 0x7f};
    uint8_t off[VGD_CMD_SET_SCANOUT_SIZE] = {0};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            bool good = i % 8 == 7;
            struct vgd_guest_request req = {
                .hdr = {.type = good ? VGD_CMD_SET_SCANOUT : VGD_CMD_RESOURCE_UNREF},
                .body = good ? off : unref,
                .body_bytes = good ? sizeof(off) : sizeof(unref),
                .resp_bytes = VGD_CTRL_HDR_SIZE,
            };
            batch[i] = vgd_guest_gpu_begin(p->gpu, &req, i + 1 == BATCH);
            PROBE_REQUIRE(p, batch[i] != NULL);
        }
        for (uint32_t i = 0; i < BATCH; i++) {
            bool good = i % 8 == 7;
            if (!vgd_guest_gpu_wait(p->gpu, batch[i], 10000)) {
                probe_fail(p, "command %u of round %u is never answered", i, round);
                return;
            }
            if ((batch[i]->resp.type == VGD_RESP_OK_NODATA) != good) {
                probe_fail(p, "%s command answered %s", good ? "a good" : "a bad",
                           vgd_resp_name(batch[i]->resp.type));
                return;
            }
            vgd_guest_gpu_end(p->gpu, batch[i]);
        }
    }
}

static const struct probe_test tests[] = {
    {"errors/create", create, PROBE_ANY},
    {"errors/backing", backing, PROBE_ANY},
    {"errors/transfer", transfer, PROBE_ANY},
    {"errors/short-backing", short_backing, PROBE_ANY},
    {"errors/scanout", scanout, PROBE_ANY},
    {"errors/flush", flush, PROBE_ANY},
    {"errors/capsets", capsets, PROBE_ANY},
    {"errors/unknown-commands", unknown_commands, PROBE_ANY},
    {"errors/cut-commands", cut_commands, PROBE_ANY},
    {"errors/response-space", response_space, PROBE_ANY},
    {"errors/not-negotiated", not_negotiated, PROBE_ANY},
    {"errors/flood", flood, PROBE_ANY},
};

const struct probe_suite probe_errors = {tests, sizeof(tests) / sizeof(tests[0])};
