/* SPDX-License-Identifier: MIT */
/* Capsets, contexts, 3D resources and submits: cases G01-G19 of the security list, as far as they
 * are the device's and not the stream's. */
#include <criterion/criterion.h>
#include <string.h>

#include "limits.h"
#include "samples.h"

static struct vgd_resp_capset_info capset_info(struct bench *b, uint32_t idx, uint32_t *out_type)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_GET_CAPSET_INFO, 0);
    vgd_write_le32(&c.w, idx);
    vgd_write_le32(&c.w, 0);
    struct sent s;
    cmd_send(b, &s, &c);
    cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE + VGD_RESP_CAPSET_INFO_SIZE);
    struct vgd_reader r = vgd_reader_of(s.resp + VGD_CTRL_HDR_SIZE, VGD_RESP_CAPSET_INFO_SIZE);
    struct vgd_resp_capset_info info;
    cr_assert_eq(vgd_resp_capset_info_decode(&r, &info), VGD_OK);
    *out_type = s.hdr.type;
    return info;
}

static uint32_t capset(struct bench *b, struct sent *s, uint32_t id, uint32_t version,
                       size_t capacity)
{
    struct cmd c;
    cmd_begin(&c, VGD_CMD_GET_CAPSET, 0);
    vgd_write_le32(&c.w, id);
    vgd_write_le32(&c.w, version);
    send_bytes(b, s, c.bytes, vgd_writer_used(&c.w), capacity, VGD_QUEUE_CONTROL);
    return s->hdr.type;
}

/* Peers' case 4. */
DEVICE_TEST(G01_capset_indices)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_eq(vgd_gpu_num_capsets(b.gpu), 2);
    uint32_t type;
    struct vgd_resp_capset_info info = capset_info(&b, 0, &type);
    cr_assert_resp(type, OK_CAPSET_INFO);
    cr_assert_eq(info.capset_id, VGD_CAPSET_VIRGL); /* index 0, id 1 */
    info = capset_info(&b, 1, &type);
    cr_assert_resp(type, OK_CAPSET_INFO);
    cr_assert_eq(info.capset_id, VGD_CAPSET_VIRGL2);
    cr_assert_eq(info.max_version, 2);
    cr_assert_eq(info.max_size_bytes, CAPSET_VIRGL2_BYTES);
    static const uint32_t bad[] = {2, 3, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        info = capset_info(&b, bad[i], &type);
        cr_assert_resp(type, ERR_INVALID_PARAMETER);
        cr_assert_eq(info.capset_id, UINT32_MAX); /* or Linux waits 5 s for it */
        cr_assert_eq(info.max_size_bytes, 0);
    }
    bench_close(&b);
}

DEVICE_TEST(G02_capset_requests)
{
    struct bench b;
    bench_open(&b, NULL);
    struct sent s;
    size_t whole = VGD_CTRL_HDR_SIZE + CAPSET_VIRGL2_BYTES;
    cr_assert_resp(capset(&b, &s, 0, 0, RESP_BYTES_MAX), ERR_INVALID_PARAMETER);
    cr_assert_resp(capset(&b, &s, 3, 0, RESP_BYTES_MAX), ERR_INVALID_PARAMETER);
    cr_assert_resp(capset(&b, &s, 0xffffffff, 0, RESP_BYTES_MAX), ERR_INVALID_PARAMETER);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL2, 3, RESP_BYTES_MAX), ERR_INVALID_PARAMETER);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL, 2, RESP_BYTES_MAX), ERR_INVALID_PARAMETER);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL2, 2, whole - 1), ERR_UNSPEC);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL2, 2, VGD_CTRL_HDR_SIZE), ERR_UNSPEC);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CAPSET_FILL), 0);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL2, 2, whole), OK_CAPSET);
    cr_assert_eq(s.resp_bytes, whole);
    cr_assert_eq(s.resp[24], 0x22);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL, 0, RESP_BYTES_MAX), OK_CAPSET);
    cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE + CAPSET_VIRGL_BYTES);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL, 1, RESP_BYTES_MAX), ERR_UNSPEC);
    cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE);
    bench_close(&b);
}

/* Peers' cases 5 and 6. */
DEVICE_TEST(G03_capsets_that_are_not_there)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.no_3d = true});
    cr_assert_eq(vgd_gpu_num_capsets(b.gpu), 0);
    cr_assert_eq(vgd_gpu_features(b.gpu),
                 UINT64_C(1) << VGD_F_EDID | UINT64_C(1) << VGD_F_RESOURCE_BLOB |
                     UINT64_C(1) << VGD_F_RESOURCE_UUID | UINT64_C(1) << VGD_F_BLOB_ALIGNMENT);
    vgd_gpu_set_features(b.gpu, UINT64_MAX);
    uint32_t type;
    cr_assert_eq(capset_info(&b, 0, &type).capset_id, UINT32_MAX);
    cr_assert_resp(type, ERR_INVALID_PARAMETER);
    cr_assert_resp(ctx_create(&b, 1, 0), ERR_UNSPEC);
    cr_assert_resp(create_texture(&b, 1, 4, 4), ERR_UNSPEC);
    bench_close(&b);

    struct sent s;
    bench_open(&b, &(struct bench_setup){.capsets_are_zero = true});
    cr_assert_resp(capset(&b, &s, VGD_CAPSET_VIRGL, 1, RESP_BYTES_MAX), ERR_UNSPEC);
    bench_close(&b);

    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, 1, VGD_CAPSET_VENUS), ERR_INVALID_PARAMETER);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CONTEXT_CREATE), 0);
    cr_assert_resp(ctx_create(&b, 1, VGD_CAPSET_VIRGL2), OK_NODATA);
    cr_assert_eq(vgd_fake_context_capset(b.render, 1), VGD_CAPSET_VIRGL2);
    cr_assert_resp(ctx_create(&b, 2, 0x100 | VGD_CAPSET_VIRGL2), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

DEVICE_TEST(G04_submit_sizes)
{
    static const struct {
        const char *name;
        uint32_t says_bytes, has_bytes;
        uint32_t resp;
    } cases[] = {
        {"only a fence", 0, 0, VGD_RESP_OK_NODATA},
        {"one word", 4, 4, VGD_RESP_OK_NODATA},
        {"at the limit", 64, 64, VGD_RESP_OK_NODATA},
        {"above the limit", 68, 68, VGD_RESP_ERR_OUT_OF_MEMORY},
        {"not words", 6, 6, VGD_RESP_ERR_INVALID_PARAMETER},
        {"one byte", 1, 1, VGD_RESP_ERR_INVALID_PARAMETER},
        {"more than there is", 8, 4, VGD_RESP_ERR_INVALID_PARAMETER},
        {"less than there is", 4, 8, VGD_RESP_ERR_INVALID_PARAMETER},
        {"all", 0xffffffff, 4, VGD_RESP_ERR_INVALID_PARAMETER},
        {"all words", 0xfffffffc, 64, VGD_RESP_ERR_INVALID_PARAMETER},
    };
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.submit_bytes_max = 64}});
    samples_prepare(&b);
    uint32_t ok_count = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(submit(&b, CTX, cases[i].says_bytes, cases[i].has_bytes), cases[i].resp, "%s",
                     cases[i].name);
        ok_count += cases[i].resp == VGD_RESP_OK_NODATA && cases[i].says_bytes != 0;
    }
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_SUBMIT), ok_count);
    cr_assert_eq(b.counters.submits, ok_count + 1);
    cr_assert_eq(b.counters.submit_bytes, 68);
    /* What crosvm reads as a count of fences to wait for is padding. */
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, CTX);
    vgd_write_le32(&c.w, 4);
    vgd_write_le32(&c.w, 0xffffffff);
    vgd_write_le32(&c.w, 0xabcd);
    cr_assert_resp(cmd_run(&b, &c), OK_NODATA);
    uint32_t word;
    cr_assert_eq(vgd_fake_last_submit(b.render, &word), 4);
    cr_assert_eq(word, 0xabcd);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(submit(&b, CTX, 4, 4), ERR_UNSPEC);
    cr_assert_resp(submit(&b, CTX, 4, 4), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(G08_create_3d_boundaries)
{
    const struct vgd_cmd_resource_create_3d good = {.resource_id = 1,
                                                    .target = 2,
                                                    .format = 1,
                                                    .width = 4,
                                                    .height = 4,
                                                    .depth = 1,
                                                    .array_size = 1};
    struct bench b;
    bench_open(&b, NULL);
#define FIELD(field, value, is_ok)                                                                 \
    {                                                                                              \
#field " " #value, &args.field, value, is_ok                                               \
    }
    struct vgd_cmd_resource_create_3d args;
    const struct {
        const char *name;
        uint32_t *field;
        uint32_t value;
        bool ok;
    } cases[] = {
        FIELD(target, 8, true),
        FIELD(target, 9, false),
        FIELD(target, 0xffffffff, false),
        FIELD(format, 0, false),
        FIELD(width, 0, false),
        FIELD(width, VGD_TEXTURE_SIDE_PX_MAX, true),
        FIELD(width, VGD_TEXTURE_SIDE_PX_MAX + 1, false),
        FIELD(width, 0x80000000, false),
        FIELD(height, 0, false),
        FIELD(height, VGD_TEXTURE_SIDE_PX_MAX, true),
        FIELD(height, VGD_TEXTURE_SIDE_PX_MAX + 1, false),
        FIELD(depth, 0, false),
        FIELD(depth, VGD_TEXTURE_DEPTH_MAX, true),
        FIELD(depth, VGD_TEXTURE_DEPTH_MAX + 1, false),
        FIELD(array_size, 0, true), /* the renderer's to judge: no size follows from it */
        FIELD(array_size, VGD_TEXTURE_LAYERS_MAX, true),
        FIELD(array_size, VGD_TEXTURE_LAYERS_MAX + 1, false),
        FIELD(last_level, VGD_TEXTURE_LEVEL_MAX, true),
        FIELD(last_level, VGD_TEXTURE_LEVEL_MAX + 1, false),
        FIELD(last_level, 0xffffffff, false),
        FIELD(nr_samples, VGD_TEXTURE_SAMPLES_MAX, true),
        FIELD(nr_samples, VGD_TEXTURE_SAMPLES_MAX + 1, false),
        FIELD(resource_id, 0, false),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        args = good;
        *cases[i].field = cases[i].value;
        uint32_t resp = create_3d(&b, &args);
        cr_assert_eq(resp == VGD_RESP_OK_NODATA, cases[i].ok, "%s: 0x%x", cases[i].name, resp);
        if (cases[i].ok) {
            cr_assert_resp(unref(&b, 1), OK_NODATA);
        }
    }
    /* Everything at its maximum: far more than a guest may have, and no wrap. */
    args = (struct vgd_cmd_resource_create_3d){.resource_id = 1,
                                               .target = 8,
                                               .format = 1,
                                               .width = VGD_TEXTURE_SIDE_PX_MAX,
                                               .height = VGD_TEXTURE_SIDE_PX_MAX,
                                               .depth = VGD_TEXTURE_DEPTH_MAX,
                                               .array_size = VGD_TEXTURE_LAYERS_MAX,
                                               .last_level = VGD_TEXTURE_LEVEL_MAX,
                                               .nr_samples = VGD_TEXTURE_SAMPLES_MAX};
    cr_assert_resp(create_3d(&b, &args), ERR_OUT_OF_MEMORY);
    /* Buffers: bytes along x, nothing along y and z. */
    args = good;
    args.target = 0;
    cr_assert_resp(create_3d(&b, &args), ERR_INVALID_PARAMETER);
    args.height = 1;
    args.width = VGD_BUFFER_BYTES_MAX + 1;
    cr_assert_resp(create_3d(&b, &args), ERR_INVALID_PARAMETER);
    args.width = VGD_TEXTURE_SIDE_PX_MAX + 1;
    cr_assert_resp(create_3d(&b, &args), OK_NODATA);
    cr_assert_eq(b.counters.resource_bytes_live, VGD_TEXTURE_SIDE_PX_MAX + 1);
    bench_close(&b);
}

DEVICE_TEST(G09_transfer_boxes)
{
    static const struct {
        const char *name;
        uint32_t level;
        struct vgd_box box; /* of a 16x8 texture with 3 layers and levels 0..2 */
        uint64_t offset_bytes;
        bool ok;
    } cases[] = {
        {"whole", 0, {0, 0, 0, 16, 8, 3}, 0, true},
        {"last texel", 0, {15, 7, 2, 1, 1, 1}, 0, true},
        {"level 1", 1, {0, 0, 0, 8, 4, 3}, 0, true},
        {"level 1, width of level 0", 1, {0, 0, 0, 16, 4, 1}, 0, false},
        {"level 2", 2, {0, 0, 0, 4, 2, 1}, 0, true},
        {"level 3", 3, {0, 0, 0, 1, 1, 1}, 0, false},
        {"level 2^31", 0x80000000, {0, 0, 0, 1, 1, 1}, 0, false},
        {"x + w past", 0, {1, 0, 0, 16, 8, 1}, 0, false},
        {"y + h past", 0, {0, 1, 0, 16, 8, 1}, 0, false},
        {"z + d past", 0, {0, 0, 1, 16, 8, 3}, 0, false},
        {"x 2^31", 0, {0x80000000, 0, 0, 1, 1, 1}, 0, false},
        {"w 2^31", 0, {0, 0, 0, 0x80000000, 1, 1}, 0, false},
        {"x + w wraps", 0, {0xffffffff, 0, 0, 2, 1, 1}, 0, false},
        {"y + h wraps", 0, {0, 0xffffffff, 0, 1, 2, 1}, 0, false},
        {"z + d wraps", 0, {0, 0, 0xffffffff, 1, 1, 2}, 0, false},
        {"empty", 0, {0, 0, 0, 0, 8, 1}, 0, true},
        {"offset at the end", 0, {0, 0, 0, 1, 1, 1}, 2048, true}, /* the renderer knows sizes */
        {"offset past the end", 0, {0, 0, 0, 1, 1, 1}, 2049, false},
        {"offset 2^64 - 1", 0, {0, 0, 0, 1, 1, 1}, UINT64_MAX, false},
    };
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    struct vgd_cmd_resource_create_3d args = {.resource_id = 1,
                                              .target = 7,
                                              .format = 1,
                                              .width = 16,
                                              .height = 8,
                                              .depth = 1,
                                              .array_size = 3,
                                              .last_level = 2};
    cr_assert_resp(create_3d(&b, &args), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, 1), OK_NODATA);
    struct vgd_cmd_transfer_host_3d transfer = {.box = {.w = 1, .h = 1, .d = 1}, .resource_id = 1};
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &transfer), ERR_UNSPEC);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 2048), OK_NODATA);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint32_t type = VGD_CMD_TRANSFER_TO_HOST_3D; type <= VGD_CMD_TRANSFER_FROM_HOST_3D;
             type++) {
            static const uint32_t strides[] = {0, 64, 0x80000000, 0xffffffff};
            for (size_t k = 0; k < 4; k++) {
                transfer.level = cases[i].level;
                transfer.box = cases[i].box;
                transfer.offset_bytes = cases[i].offset_bytes;
                transfer.stride_bytes = strides[k];
                transfer.layer_stride_bytes = strides[3 - k];
                uint32_t resp = transfer_3d(&b, type, CTX, &transfer);
                cr_assert_eq(resp,
                             cases[i].ok ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_PARAMETER,
                             "%s: 0x%x", cases[i].name, resp);
            }
        }
    }
    bench_close(&b);
}

DEVICE_TEST(G09_volumes_shrink_in_depth)
{
    struct bench b;
    bench_open(&b, NULL);
    struct vgd_cmd_resource_create_3d args = {.resource_id = 1,
                                              .target = 3,
                                              .format = 1,
                                              .width = 8,
                                              .height = 8,
                                              .depth = 8,
                                              .array_size = 1,
                                              .last_level = 3};
    cr_assert_resp(create_3d(&b, &args), OK_NODATA);
    cr_assert_resp(attach(&b, 1, LOW_GPA, 4096), OK_NODATA);
    struct vgd_cmd_transfer_host_3d t = {
        .box = {.w = 4, .h = 4, .d = 4}, .level = 1, .resource_id = 1};
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), OK_NODATA);
    t.box.d = 5;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, 0, &t), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

DEVICE_TEST(G10_a_2d_resource_in_a_3d_transfer)
{
    /* Mesa does this to dumb buffers that it imports. */
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    cr_assert_resp(ctx_attach(&b, CTX, RES_2D), OK_NODATA);
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 64, .h = 64, .d = 1}, .resource_id = RES_2D};
    memset(ram_at(&b, MIDDLE_GPA), 0x44, SAMPLE_BYTES);
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), OK_NODATA);
    cr_assert_eq(pixel_at(&b, RES_2D, 63, 63), 0xff444444);
    t.level = 1;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_INVALID_PARAMETER);
    t.level = 0;
    t.box.d = 2;
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_INVALID_PARAMETER);
    bench_close(&b);
}

DEVICE_TEST(G17_contexts)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.contexts_max = 2}});
    cr_assert_resp(ctx_create(&b, 0, 0), ERR_INVALID_CONTEXT_ID);
    struct cmd c;
    static const uint32_t lengths[] = {65, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < 3; i++) {
        cmd_begin(&c, VGD_CMD_CTX_CREATE, 1);
        vgd_cmd_ctx_create_encode(&c.w, &(struct vgd_cmd_ctx_create){.name_len_bytes = lengths[i]});
        cr_assert_resp(cmd_run(&b, &c), ERR_INVALID_PARAMETER);
    }
    struct vgd_cmd_ctx_create full = {.name_len_bytes = 64};
    memset(full.debug_name, 'x', sizeof(full.debug_name)); /* no terminator */
    cmd_begin(&c, VGD_CMD_CTX_CREATE, 1);
    vgd_cmd_ctx_create_encode(&c.w, &full);
    cr_assert_resp(cmd_run(&b, &c), OK_NODATA);
    cr_assert_resp(ctx_create(&b, 1, 0), ERR_INVALID_CONTEXT_ID);
    cr_assert_resp(ctx_create(&b, 0xffffffff, 0), OK_NODATA);
    cr_assert_resp(ctx_create(&b, 3, 0), ERR_OUT_OF_MEMORY);
    cr_assert_eq(b.counters.contexts_live, 2);
    cr_assert_resp(ctx_destroy(&b, 1), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, 1), ERR_INVALID_CONTEXT_ID);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(ctx_create(&b, 3, 0), ERR_UNSPEC);
    cr_assert_eq(b.counters.contexts_live, 1);
    cr_assert_resp(ctx_create(&b, 3, 0), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(G18_destroy_with_fences_and_resources)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    vgd_fake_hold_fences(b.render, true);
    struct sent ring, device;
    struct cmd c;
    cmd_begin_ring(&c, &b, VGD_CMD_SUBMIT_3D, CTX, 5);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(&b, &ring, &c);
    cmd_begin_fenced(&c, &b, VGD_CMD_SUBMIT_3D, CTX);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(&b, &device, &c);
    cr_assert_eq(ring.completions + device.completions, 0);
    cr_assert_resp(ctx_destroy(&b, CTX), OK_NODATA);
    cr_assert_eq(ring.completions, 1); /* its timeline is gone */
    cr_assert_eq(device.completions, 0);
    cr_assert_resp(unref(&b, RES_3D), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    struct sent again;
    cmd_begin_ring(&c, &b, VGD_CMD_SUBMIT_3D, CTX, 5);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(&b, &again, &c);
    vgd_fake_signal(b.render, 0); /* of the old context: not this one's */
    cr_assert_eq(again.completions, 0);
    vgd_fake_signal_all(b.render);
    cr_assert_eq(again.completions + device.completions, 2);
    bench_close(&b);
}

DEVICE_TEST(G19_attachments)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.limits = {.attachments_max = 2}});
    samples_prepare(&b);
    struct vgd_cmd_transfer_host_3d t = {.box = {.w = 1, .h = 1, .d = 1},
                                         .resource_id = RES_3D_OUTSIDE};
    cr_assert_resp(attach(&b, RES_3D_OUTSIDE, LOW_GPA, 4096), OK_NODATA);
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_attach(&b, CTX, 99), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_detach(&b, CTX, 99), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA); /* as Linux does */
    for (int i = 0; i < 3; i++) {
        cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    }
    cr_assert(vgd_fake_is_attached(b.render, CTX, RES_3D_OUTSIDE));
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), OK_NODATA);
    cr_assert_resp(ctx_attach(&b, CTX, RES_2D), ERR_OUT_OF_MEMORY); /* the limit */
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    cr_assert_not(vgd_fake_is_attached(b.render, CTX, RES_3D_OUTSIDE));
    cr_assert_resp(transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, CTX, &t), ERR_INVALID_RESOURCE_ID);
    vgd_fake_fail_nth(b.render, 1, VGD_HOST_FAILED);
    cr_assert_resp(ctx_attach(&b, CTX, RES_2D), ERR_UNSPEC);
    cr_assert_resp(ctx_attach(&b, CTX, RES_2D), OK_NODATA);
    /* Peers' case 8: unref while attached. The fake asserts that it was detached before. */
    cr_assert_resp(unref(&b, RES_2D), OK_NODATA);
    cr_assert_resp(unref(&b, RES_3D), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, CTX, RES_3D), ERR_INVALID_RESOURCE_ID);
    cr_assert_resp(ctx_attach(&b, CTX, RES_3D_OUTSIDE), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(resources_in_several_contexts)
{
    struct bench b;
    bench_open(&b, NULL);
    cr_assert_resp(create_texture(&b, 1, 4, 4), OK_NODATA);
    for (uint32_t ctx = 1; ctx <= 5; ctx++) {
        cr_assert_resp(ctx_create(&b, ctx, 0), OK_NODATA);
        cr_assert_resp(ctx_attach(&b, ctx, 1), OK_NODATA);
    }
    cr_assert_resp(ctx_destroy(&b, 3), OK_NODATA);
    cr_assert_resp(ctx_detach(&b, 5, 1), OK_NODATA);
    cr_assert_resp(ctx_destroy(&b, 1), OK_NODATA);
    cr_assert_resp(unref(&b, 1), OK_NODATA);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CONTEXT_DETACH), 3);
    bench_close(&b);
}
