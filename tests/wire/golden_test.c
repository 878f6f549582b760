/* SPDX-License-Identifier: MIT */
/*
 * Byte strings written by hand from the specifications, not by the generator: they tell whether
 * the schemas are right. In the hex, one group is one field; dots are for the reader.
 */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "display_channel.h"
#include "trace_file.h"
#include "vhost_user.h"
#include "virtio_gpu.h"
#include "vtest.h"

#define LARGEST_BYTES 4096u

static uint8_t nibble(char c)
{
    cr_assert(isxdigit((unsigned char)c), "'%c' is not hex", c);
    return (uint8_t)(isdigit((unsigned char)c) ? c - '0' : c - 'a' + 10);
}

/* "2a:3" is three bytes of 2a. Returns the number of bytes. */
static size_t parse(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (const char *p = hex; *p != '\0';) {
        if (*p == ' ' || *p == '.') {
            p++;
            continue;
        }
        uint8_t byte = (uint8_t)(nibble(p[0]) << 4 | nibble(p[1]));
        p += 2;
        size_t times = 1;
        if (*p == ':') {
            times = strtoul(p + 1, (char **)&p, 10);
        }
        cr_assert(n + times <= LARGEST_BYTES);
        memset(out + n, byte, times);
        n += times;
    }
    return n;
}

/* The value gives the bytes, and the bytes decode to what gives the bytes again. */
#define GOLDEN(layout, hex, ...)                                                                   \
    Test(golden, layout)                                                                           \
    {                                                                                              \
        const struct vgd_##layout value = {__VA_ARGS__};                                           \
        struct vgd_##layout decoded;                                                               \
        static uint8_t want[LARGEST_BYTES], got[LARGEST_BYTES];                                    \
        size_t n_bytes = parse(hex, want);                                                         \
        struct vgd_writer w = vgd_writer_of(got, sizeof(got));                                     \
        vgd_##layout##_encode(&w, &value);                                                         \
        cr_assert(vgd_writer_used(&w) == n_bytes, "%zu bytes", vgd_writer_used(&w));               \
        cr_assert_arr_eq(got, want, n_bytes, "encoded otherwise");                                 \
        struct vgd_reader r = vgd_reader_of(want, n_bytes);                                        \
        cr_assert(vgd_##layout##_decode(&r, &decoded) == VGD_OK);                                  \
        memset(got, 0, sizeof(got));                                                               \
        w = vgd_writer_of(got, sizeof(got));                                                       \
        vgd_##layout##_encode(&w, &decoded);                                                       \
        cr_assert_arr_eq(got, want, n_bytes, "decoded otherwise");                                 \
    }

/* virtio-v1.3 5.7.6.7 */
GOLDEN(ctrl_hdr, "07020000 03000000 8877665544332211 05000000 3f 00.00.00", .type = 0x0207,
       .flags = 3, .fence_id = 0x1122334455667788, .ctx_id = 5, .ring_idx = 63)

/* virtio-v1.3 5.7.6.8 */
GOLDEN(cmd_resource_create_2d, "2a000000 01000000 00050000 d0020000", .resource_id = 42,
       .format = VGD_FORMAT_B8G8R8A8_UNORM, .w_px = 1280, .h_px = 720)
GOLDEN(cmd_set_scanout, "01000000 02000000 03000000 04000000 0f000000 2a000000",
       .rect = {1, 2, 3, 4}, .scanout_id = 15, .resource_id = 42)
GOLDEN(cmd_resource_flush, "01000000 02000000 03000000 04000000 efbeadde 00000000",
       .rect = {.x_px = 1, .y_px = 2, .w_px = 3, .h_px = 4}, .resource_id = 0xdeadbeef)
GOLDEN(cmd_transfer_to_host_2d,
       "01000000 02000000 03000000 04000000 0010000002000000 2a000000 00000000",
       .rect = {1, 2, 3, 4}, .offset_bytes = 0x200001000, .resource_id = 42)
GOLDEN(cmd_resource_attach_backing, "2a000000 02000000", .resource_id = 42, .nr_entries = 2)
GOLDEN(mem_entry, "00f0ffff01000000 00100000 00000000", .addr = 0x1fffff000, .len_bytes = 4096)
GOLDEN(cmd_get_capset, "02000000 01000000", .capset_id = VGD_CAPSET_VIRGL2, .capset_version = 1)
GOLDEN(cmd_resource_create_blob,
       "2a000000 03000000 05000000 01000000 0700000000000000 0000100000000000", .resource_id = 42,
       .blob_mem = VGD_BLOB_MEM_HOST3D_GUEST, .blob_flags = 5, .nr_entries = 1, .blob_id = 7,
       .size_bytes = 0x100000)
GOLDEN(cmd_set_scanout_blob,
       "01000000 02000000 03000000 04000000 00000000 2a000000 80070000 38040000 02000000 00000000"
       "001e0000 00000000 00000000 00000000 00100000 00000000 00000000 00000000",
       .rect = {1, 2, 3, 4}, .scanout_id = 0, .resource_id = 42, .w_px = 1920, .h_px = 1080,
       .format = VGD_FORMAT_B8G8R8X8_UNORM, .strides_bytes = {7680}, .offsets_bytes = {4096})
GOLDEN(resp_display_info,
       "00000000 00000000 00050000 20030000 01000000 00000000" /* scanout 0: 1280x800, on */
       "00050000 00000000 80070000 38040000 01000000 00000000" /* scanout 1 right of it */
       "00:336",
       .pmodes = {{.rect = {0, 0, 1280, 800}, .enabled = 1},
                  {.rect = {1280, 0, 1920, 1080}, .enabled = 1}})
GOLDEN(resp_capset_info, "02000000 02000000 5c050000 00000000", .capset_id = 2, .max_version = 2,
       .max_size_bytes = 1372)
GOLDEN(resp_edid, "80000000 00000000 00ffffffffffff00 00:1016", .size_bytes = 128,
       .edid = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00})
GOLDEN(resp_map_info, "03000000 00000000", .map_info = VGD_MAP_CACHE_WC)
GOLDEN(device_config, "01000000 00000000 10000000 02000000 00100000", .events_read = 1,
       .num_scanouts = 16, .num_capsets = 2, .blob_alignment_bytes = 4096)

/* virtio-v1.3 5.7.6.9; layouts that the specification leaves out are Linux's */
GOLDEN(cmd_ctx_create, "03000000 04000000 66.6f.6f 00:61", .name_len_bytes = 3,
       .context_init = VGD_CAPSET_VENUS, .debug_name = {'f', 'o', 'o'})
GOLDEN(cmd_resource_create_3d,
       "2a000000 02000000 43000000 0a000000 00010000 80000000 01000000 06000000 09000000 04000000"
       "01000000 00000000",
       .resource_id = 42, .target = 2, .format = 67, .bind = 10, .width = 256, .height = 128,
       .depth = 1, .array_size = 6, .last_level = 9, .nr_samples = 4,
       .flags = VGD_RESOURCE_FLAG_Y_0_TOP)
GOLDEN(cmd_transfer_host_3d,
       "01000000 02000000 03000000 04000000 05000000 06000000 0807060504030201 2a000000 07000000"
       "00040000 00000100",
       .box = {.x = 1, .y = 2, .z = 3, .w = 4, .h = 5, .d = 6}, .offset_bytes = 0x0102030405060708,
       .resource_id = 42, .level = 7, .stride_bytes = 1024, .layer_stride_bytes = 65536)
GOLDEN(cmd_submit_3d, "64000000 00000000", .size_bytes = 100)
GOLDEN(cmd_resource_map_blob, "2a000000 00000000 0000100000000000", .resource_id = 42,
       .offset_bytes = 0x100000)

/* virtio-v1.3 5.7.6.10 */
GOLDEN(cmd_update_cursor, "01000000 0a000000 14000000 00000000 2a000000 03000000 04000000 00000000",
       .pos = {.scanout_id = 1, .x_px = 10, .y_px = 20}, .resource_id = 42, .hot_x_px = 3,
       .hot_y_px = 4)

/* vhost-user */
GOLDEN(vu_hdr, "18000000 09000000 20000000", .request = VGD_VU_GET_CONFIG,
       .flags = VGD_VU_FLAG_VERSION | VGD_VU_FLAG_NEED_REPLY, .size_bytes = 32)
GOLDEN(vu_vring_state, "01000000 40000000", .idx = 1, .num = 64)
GOLDEN(vu_vring_addr,
       "01000000 00000000 0010000000000000 0020000000000000 0030000000000000 0040000000000000",
       .idx = 1, .desc_user_addr = 0x1000, .used_user_addr = 0x2000, .avail_user_addr = 0x3000,
       .log_guest_addr = 0x4000)
GOLDEN(vu_mem_table, "02000000 00000000", .nregions = 2)
GOLDEN(vu_mem_slot,
       "0000000000000000 0000000001000000 0000008000000000 0000203f557f0000 0010000000000000",
       .region = {.gpa = 0x100000000,
                  .size_bytes = 0x80000000,
                  .user_addr = 0x7f553f200000,
                  .mmap_offset_bytes = 0x1000})
GOLDEN(vu_config, "08000000 04000000 00000000", .offset_bytes = 8, .size_bytes = 4)
GOLDEN(vu_inflight, "0010000000000000 0020000000000000 0200 0001", .mmap_size_bytes = 4096,
       .mmap_offset_bytes = 8192, .num_queues = 2, .queue_size = 256)
GOLDEN(vu_shmem_config, "01000000 00000000 0000000000000000 0000000001000000 00:2032",
       .nregions = 1, .sizes_bytes = {0, 0x100000000})
GOLDEN(vu_shmem_map,
       "01 00.00.00.00.00.00.00 0010000000000000 0020000000000000 0030000000000000 "
       "0100000000000000",
       .shmid = 1, .fd_offset_bytes = 0x1000, .shm_offset_bytes = 0x2000, .len_bytes = 0x3000,
       .flags = VGD_VU_SHMEM_FLAG_RW)

/* vhost-user-gpu's display channel */
GOLDEN(disp_hdr, "08000000 00000000 14010000", .request = VGD_DISP_UPDATE, .size_bytes = 276)
GOLDEN(disp_cursor_update, "01000000 0a000000 14000000 03000000 04000000",
       .pos = {.scanout_id = 1, .x_px = 10, .y_px = 20}, .hot_x_px = 3, .hot_y_px = 4)
GOLDEN(disp_update, "01000000 0a000000 14000000 08000000 08000000", .scanout_id = 1, .x_px = 10,
       .y_px = 20, .w_px = 8, .h_px = 8)
GOLDEN(disp_dmabuf_scanout2,
       "01000000 00000000 00000000 00050000 d0020000 00050000 d0020000 00140000 01000000 58523234"
       "ffffffffffffff00",
       .scanout = {.scanout_id = 1,
                   .w_px = 1280,
                   .h_px = 720,
                   .fd_w_px = 1280,
                   .fd_h_px = 720,
                   .fd_stride_bytes = 5120,
                   .fd_flags = VGD_DISP_DMABUF_Y_0_TOP,
                   .fd_fourcc = 0x34325258}, /* "XR24" */
       .modifier = 0x00ffffffffffffff)
GOLDEN(disp_edid_request, "02000000", .scanout_id = 2)

/* vtest */
GOLDEN(vtest_hdr, "0b000000 0c000000", .length = 11, .cmd = VGD_VTEST_RESOURCE_CREATE2)
GOLDEN(vtest_resource_create2,
       "00000000 02000000 43000000 0a000000 00010000 80000000 01000000 06000000 09000000 04000000"
       "00000200",
       .texture = {.target = 2,
                   .format = 67,
                   .bind = 10,
                   .w_px = 256,
                   .h_px = 128,
                   .depth = 1,
                   .array_size = 6,
                   .last_level = 9,
                   .nr_samples = 4},
       .data_bytes = 0x20000)
GOLDEN(vtest_transfer,
       "2a000000 07000000 00040000 00000100 01000000 02000000 03000000 04000000 05000000 06000000"
       "00100000",
       .res_id = 42, .level = 7, .stride_bytes = 1024, .layer_stride_bytes = 65536,
       .box = {1, 2, 3, 4, 5, 6}, .data_bytes = 4096)
GOLDEN(vtest_transfer2,
       "2a000000 07000000 01000000 02000000 03000000 04000000 05000000 06000000 00100000 40000000",
       .res_id = 42, .level = 7, .box = {1, 2, 3, 4, 5, 6}, .data_bytes = 4096, .offset_bytes = 64)
GOLDEN(vtest_resource_create_blob, "02000000 01000000 0010000000000000 0500000001000000",
       .type = VGD_VTEST_BLOB_TYPE_HOST3D, .flags = VGD_VTEST_BLOB_FLAG_MAPPABLE,
       .size_bytes = 4096, .blob_id = 0x100000005)
GOLDEN(vtest_sync_write, "03000000 0100000002000000", .sync = {.sync_id = 3, .value = 0x200000001})
GOLDEN(vtest_batch, "01000000 09000000 04000000 0d000000 01000000 3f000000 00000000 00000000",
       .flags = VGD_VTEST_BATCH_FLAG_RING_IDX, .cmd_offset = 9, .cmd_size = 4, .sync_offset = 13,
       .sync_count = 1, .ring_idx = 63)

/* trace file */
GOLDEN(trace_record_header, "40000000 06000000 00ca9a3b00000000", .size_bytes = 64,
       .kind = VGD_TRACE_KIND_COMMAND, .time_ns = 1000000000)
GOLDEN(trace_command, "0100000002000000 00000000 01000000 18000000 00000000",
       .command_id = 0x200000001, .queue_idx = 0, .flags = VGD_TRACE_COMMAND_MADE_UP,
       .response_room_bytes = 24)
GOLDEN(trace_data_header, "6000010000000000 60000000 01000000", .total_bytes = 0x10060,
       .head_bytes = 96, .n_pieces = 1)
GOLDEN(trace_piece_ref, "4800000000000000 8877665544332211 10000000 00000100",
       .frame_offset_bytes = 72, .check = 0x1122334455667788, .at_bytes = 16,
       .size_bytes = VGD_TRACE_PIECE_MAX)
GOLDEN(trace_file_frame,
       "56474466 01000000 00020000 00100000 4800000000000000 0500000000000000 0100000000000000"
       "0200000000000000 07000000 00000000 0a00000000000000 0b00000000000000",
       .magic = VGD_TRACE_FRAME_MAGIC, .kind = VGD_TRACE_FRAME_RECORDS, .stored_bytes = 512,
       .raw_bytes = 4096, .offset_bytes = 72, .first_record = 5, .first_time_ns = 1,
       .last_time_ns = 2, .n_records = 7, .payload_check = 10, .check = 11)

Test(golden, numbers)
{
    /* One of each group, from the specifications' tables. */
    cr_assert(VGD_CMD_GET_DISPLAY_INFO == 0x0100 && VGD_CMD_SET_SCANOUT_BLOB == 0x010d);
    cr_assert(VGD_CMD_CTX_CREATE == 0x0200 && VGD_CMD_RESOURCE_UNMAP_BLOB == 0x0209);
    cr_assert(VGD_CMD_UPDATE_CURSOR == 0x0300 && VGD_CMD_MOVE_CURSOR == 0x0301);
    cr_assert(VGD_RESP_OK_NODATA == 0x1100 && VGD_RESP_OK_MAP_INFO == 0x1106);
    cr_assert(VGD_RESP_ERR_UNSPEC == 0x1200 && VGD_RESP_ERR_INVALID_PARAMETER == 0x1205);
    cr_assert(VGD_F_VIRGL == 0 && VGD_F_BLOB_ALIGNMENT == 5);
    cr_assert(VGD_VU_GPU_SET_SOCKET == 33 && VGD_VU_GET_SHMEM_CONFIG == 44);
    cr_assert(VGD_VU_BACKEND_SHMEM_MAP == 9 && VGD_VU_BACKEND_SHMEM_UNMAP == 10);
    cr_assert(VGD_VU_F_PROTOCOL_FEATURES == 30 && VGD_VU_F_SHMEM == 22);
    cr_assert(VGD_DISP_GET_PROTOCOL_FEATURES == 1 && VGD_DISP_DMABUF_SCANOUT2 == 12);
    cr_assert(VGD_VTEST_GET_CAPS == 1 && VGD_VTEST_RESOURCE_CREATE2 == 12);
    cr_assert(VGD_VTEST_SUBMIT_CMD2 == 24 && VGD_VTEST_RESOURCE_EXPORT_FD == 38);
    cr_assert(VGD_TRACE_KIND_PIECE == 1 && VGD_TRACE_KIND_COMMAND == 6 && VGD_TRACE_KIND_END == 17);
}
