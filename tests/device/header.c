/* SPDX-License-Identifier: MIT */
/* Headers and whole commands: cases H01-H09 of the security list. H08 is in allocations.c. */
#include <criterion/criterion.h>
#include <string.h>

#include "samples.h"

#define BLOB_FEATURES                                                                              \
    (1u << VGD_F_RESOURCE_BLOB | 1u << VGD_F_RESOURCE_UUID | 1u << VGD_F_BLOB_ALIGNMENT)

static void device_goes_on(struct bench *b)
{
    cr_assert_resp(create_2d(b, 999, VGD_FORMAT_B8G8R8A8_UNORM, 4, 4), OK_NODATA);
    cr_assert_resp(unref(b, 999), OK_NODATA);
}

DEVICE_TEST(H01_shorter_than_the_header)
{
    struct bench b;
    bench_open(&b, NULL);
    static const uint8_t zeros[VGD_CTRL_HDR_SIZE];
    for (size_t n = 0; n < VGD_CTRL_HDR_SIZE; n++) {
        struct sent s;
        send_bytes(&b, &s, zeros, n, 64, VGD_QUEUE_CONTROL);
        cr_assert_eq(s.completions, 1);
        cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
    }
    cr_assert_eq(b.counters.errors, VGD_CTRL_HDR_SIZE);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(H02_every_command_cut_at_each_byte)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        size_t n_bytes = vgd_writer_used(&c.w);
        struct sent s;
        for (size_t n = 0; n < n_bytes; n++) {
            send_bytes(&b, &s, c.bytes, n, RESP_BYTES_MAX, samples[i].queue);
            cr_assert_eq(s.completions, 1);
            cr_assert_geq(s.hdr.type, VGD_RESP_ERR_UNSPEC, "%s of %zu bytes", samples[i].name, n);
        }
        cmd_send(&b, &s, &c); /* and none of them had an effect */
        cr_assert_eq(s.hdr.type, samples[i].resp_type, "%s: 0x%x", samples[i].name, s.hdr.type);
        cr_assert_eq(s.resp_bytes, samples[i].resp_bytes);
        bench_close(&b);
    }
}

DEVICE_TEST(H03_room_for_the_response)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        size_t n_bytes = vgd_writer_used(&c.w);
        struct sent s;
        if (samples[i].queue == VGD_QUEUE_CURSOR) {
            /* Linux gives these none, and wants them executed. */
            events_clear(&b);
            send_bytes(&b, &s, c.bytes, n_bytes, 0, VGD_QUEUE_CURSOR);
            cr_assert_eq(s.completions, 1);
            cr_assert_eq(s.resp_bytes, 0);
            cr_assert_eq(b.display.events_count, 1);
            bench_close(&b);
            continue;
        }
        static const size_t too_small[] = {0, 1, 23};
        for (size_t k = 0; k < sizeof(too_small) / sizeof(too_small[0]); k++) {
            send_bytes(&b, &s, c.bytes, n_bytes, too_small[k], VGD_QUEUE_CONTROL);
            cr_assert_eq(s.completions, 1);
            cr_assert_eq(s.resp_bytes, 0);
        }
        if (samples[i].resp_bytes > VGD_CTRL_HDR_SIZE) {
            send_bytes(&b, &s, c.bytes, n_bytes, samples[i].resp_bytes - 1, VGD_QUEUE_CONTROL);
            cr_assert_eq(s.resp_bytes, VGD_CTRL_HDR_SIZE);
            cr_assert_resp(s.hdr.type, ERR_UNSPEC);
        }
        send_bytes(&b, &s, c.bytes, n_bytes, samples[i].resp_bytes, VGD_QUEUE_CONTROL);
        cr_assert_eq(s.hdr.type, samples[i].resp_type, "%s", samples[i].name);
        cr_assert_eq(s.resp_bytes, samples[i].resp_bytes);
        bench_close(&b);
    }
}

DEVICE_TEST(H04_unknown_types)
{
    struct bench b;
    bench_open(&b, NULL);
    static const uint32_t types[] = {0,     1,     0xff,   0x100 - 1, 0x10e,      0x1ff,     0x20a,
                                     0x2ff, 0x302, 0x1100, 0x1200,    0xffff0300, 0xffffffff};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct cmd c;
        cmd_begin(&c, types[i], 0);
        vgd_write_zeros(&c.w, 64);
        struct sent s;
        send_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), 64, VGD_QUEUE_CONTROL);
        cr_assert_eq(s.completions, 1);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
    }
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(H04_wrong_queue)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, false);
        struct sent s;
        events_clear(&b);
        send_bytes(&b, &s, c.bytes, vgd_writer_used(&c.w), RESP_BYTES_MAX,
                   samples[i].queue == VGD_QUEUE_CONTROL ? VGD_QUEUE_CURSOR : VGD_QUEUE_CONTROL);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
        cr_assert_eq(b.display.events_count, 0);
        bench_close(&b);
    }
}

DEVICE_TEST(H05_features_not_negotiated)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.without_features = true});
    for (size_t i = 0; i < samples_count; i++) {
        uint32_t type = samples[i].type;
        if ((type >> 8) != 2 && type != VGD_CMD_GET_CAPSET && type != VGD_CMD_GET_EDID &&
            type != VGD_CMD_GET_CAPSET_INFO) {
            continue;
        }
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        struct sent s;
        cmd_send(&b, &s, &c);
        cr_assert_resp(s.hdr.type, ERR_UNSPEC);
        cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE);
    }
    for (int op = 0; op < VGD_FAKE_OPS_COUNT; op++) {
        cr_assert_eq(vgd_fake_calls(b.render, op), 0);
    }
    device_goes_on(&b);
    bench_close(&b);
}

/* Peers' case 7: a renderer without blobs offers nothing of them, and a guest that acks them all
 * the same gets errors; so does one that acked nothing of what was offered. */
static void blob_commands_are_refused(const struct bench_setup *setup)
{
    struct bench b;
    bench_open(&b, setup);
    cr_assert_eq((vgd_gpu_features(b.gpu) & BLOB_FEATURES) != 0, !setup->no_blobs);
    cr_assert_resp(create_2d(&b, RES_2D, VGD_FORMAT_B8G8R8A8_UNORM, 4, 4), OK_NODATA);
    cr_assert_resp(ctx_create(&b, CTX, 0), OK_NODATA);
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    if (!setup->no_blobs) {
        cr_assert_resp(assign_uuid(&b, RES_2D, uuid), ERR_UNSPEC);
    }
    static const uint32_t types[] = {VGD_CMD_RESOURCE_ASSIGN_UUID, VGD_CMD_RESOURCE_CREATE_BLOB,
                                     VGD_CMD_SET_SCANOUT_BLOB, VGD_CMD_RESOURCE_MAP_BLOB,
                                     VGD_CMD_RESOURCE_UNMAP_BLOB};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        for (size_t n = 0; n <= 96; n += 8) {
            if (n == VGD_CMD_SET_SCANOUT_BLOB_SIZE && setup->no_blobs &&
                types[i] == VGD_CMD_SET_SCANOUT_BLOB) {
                continue; /* turns scanout 0 off, which is always well */
            }
            struct cmd c;
            cmd_begin_fenced(&c, &b, types[i], CTX);
            vgd_write_zeros(&c.w, n);
            struct sent s;
            cmd_send(&b, &s, &c);
            cr_assert_eq(s.completions, 1);
            cr_assert_geq(s.hdr.type, VGD_RESP_ERR_UNSPEC);
            cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE);
        }
    }
    for (size_t i = 0; i < samples_count; i++) {
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        if (samples[i].type >= VGD_CMD_RESOURCE_CREATE_BLOB &&
            samples[i].type <= VGD_CMD_SET_SCANOUT_BLOB) {
            cr_assert_geq(cmd_run(&b, &c), VGD_RESP_ERR_UNSPEC, "%s", samples[i].name);
        }
    }
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_CREATE_BLOB), 0);
    cr_assert_eq(b.window.asked_maps + b.window.asked_unmaps, 0);
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(H05_blob_and_uuid_commands)
{
    blob_commands_are_refused(&(struct bench_setup){.features = UINT64_MAX, .no_blobs = true});
    blob_commands_are_refused(&(struct bench_setup){.features = ~(uint64_t)BLOB_FEATURES});
}

/* Each feature by itself: BLOB does not bring UUID, nor the reverse. */
DEVICE_TEST(H05_one_blob_feature_alone)
{
    struct bench b;
    uint8_t uuid[VGD_RESP_RESOURCE_UUID_SIZE];
    bench_open(&b, &(struct bench_setup){.features = 1u << VGD_F_RESOURCE_BLOB});
    cr_assert_resp(create_guest_blob(&b, 1, LOW_GPA, 4096), OK_NODATA);
    cr_assert_resp(assign_uuid(&b, 1, uuid), ERR_UNSPEC);
    bench_close(&b);
    bench_open(&b, &(struct bench_setup){.features = 1u << VGD_F_RESOURCE_UUID});
    cr_assert_resp(create_guest_blob(&b, 1, LOW_GPA, 4096), ERR_UNSPEC);
    cr_assert_resp(create_2d(&b, 1, VGD_FORMAT_B8G8R8A8_UNORM, 4, 4), OK_NODATA);
    cr_assert_resp(assign_uuid(&b, 1, uuid), OK_RESOURCE_UUID);
    bench_close(&b);
}

DEVICE_TEST(H05_context_init_is_padding_without_the_feature)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.features = 1u << VGD_F_VIRGL});
    cr_assert_resp(ctx_create(&b, 1, 0xffffffff), OK_NODATA);
    cr_assert_eq(vgd_fake_context_capset(b.render, 1), 0);
    struct cmd c;
    cmd_begin_ring(&c, &b, VGD_CMD_SUBMIT_3D, 1, 0);
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cr_assert_resp(cmd_run(&b, &c), ERR_UNSPEC);
    bench_close(&b);
}

DEVICE_TEST(H06_unknown_contexts)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    static const uint32_t ids[] = {0, 1, 8, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        cr_assert_resp(ctx_destroy(&b, ids[i]), ERR_INVALID_CONTEXT_ID);
        cr_assert_resp(ctx_attach(&b, ids[i], RES_3D), ERR_INVALID_CONTEXT_ID);
        cr_assert_resp(ctx_detach(&b, ids[i], RES_3D), ERR_INVALID_CONTEXT_ID);
        cr_assert_resp(submit(&b, ids[i], 4, 4), ERR_INVALID_CONTEXT_ID);
        struct vgd_cmd_transfer_host_3d args = {.box = {.w = 1, .h = 1, .d = 1},
                                                .resource_id = RES_3D};
        uint32_t resp = transfer_3d(&b, VGD_CMD_TRANSFER_TO_HOST_3D, ids[i], &args);
        if (ids[i] == 0) { /* transfers need no context */
            cr_assert_resp(resp, OK_NODATA);
        } else {
            cr_assert_resp(resp, ERR_INVALID_CONTEXT_ID);
        }
    }
    cr_assert_resp(ctx_create(&b, 0, 0), ERR_INVALID_CONTEXT_ID);
    bench_close(&b);
}

DEVICE_TEST(H07_ring_indices)
{
    struct bench b;
    bench_open(&b, &(struct bench_setup){.rings_count = 1}); /* as virgl: ring 0 alone */
    samples_prepare(&b);
    static const struct {
        uint8_t ring;
        bool ok;
    } cases[] = {{0, true}, {1, false}, {63, false}, {64, false}, {255, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cmd c;
        cmd_begin_ring(&c, &b, VGD_CMD_SUBMIT_3D, CTX, cases[i].ring);
        vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
        struct sent s;
        cmd_send(&b, &s, &c);
        cr_assert_eq(s.completions, 1);
        if (cases[i].ok) {
            cr_assert_resp(s.hdr.type, OK_NODATA);
        } else {
            cr_assert_geq(s.hdr.type, VGD_RESP_ERR_UNSPEC);
        }
        cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX);
        cr_assert_eq(s.hdr.ring_idx, cases[i].ring);
        cr_assert_eq(s.hdr.ctx_id, CTX);
    }
    device_goes_on(&b);
    bench_close(&b);
}

DEVICE_TEST(H09_trailing_bytes)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        sample_build(&samples[i], &b, &c, true);
        size_t n_bytes = vgd_writer_used(&c.w);
        vgd_write_zeros(&c.w, 16);
        struct sent s;
        for (size_t more = 1; more <= 16; more++) {
            send_bytes(&b, &s, c.bytes, n_bytes + more, RESP_BYTES_MAX, samples[i].queue);
            cr_assert_geq(s.hdr.type, VGD_RESP_ERR_UNSPEC, "%s", samples[i].name);
        }
        send_bytes(&b, &s, c.bytes, n_bytes, RESP_BYTES_MAX, samples[i].queue);
        cr_assert_eq(s.hdr.type, samples[i].resp_type, "%s", samples[i].name);
        bench_close(&b);
    }
}

DEVICE_TEST(H09_padding_is_ignored)
{
    struct bench b;
    bench_open(&b, NULL);
    struct cmd c;
    cmd_begin(&c, VGD_CMD_RESOURCE_UNREF, 0);
    c.bytes[21] = c.bytes[22] = c.bytes[23] = 0xff;
    vgd_write_le32(&c.w, 5);
    vgd_write_le32(&c.w, 0xffffffff);
    cr_assert_resp(create_2d(&b, 5, VGD_FORMAT_R8G8B8A8_UNORM, 1, 1), OK_NODATA);
    cr_assert_resp(cmd_run(&b, &c), OK_NODATA);
    bench_close(&b);
}

DEVICE_TEST(headers_are_echoed_by_every_command)
{
    for (size_t i = 0; i < samples_count; i++) {
        struct bench b;
        bench_open(&b, NULL);
        samples_prepare(&b);
        struct cmd c;
        struct sent s;
        b.fence_id = UINT64_C(0x1122334455667788);
        sample_build(&samples[i], &b, &c, true);
        cmd_send(&b, &s, &c);
        cr_assert_eq(s.hdr.type, samples[i].resp_type);
        cr_assert_eq(s.hdr.flags, VGD_FLAG_FENCE);
        cr_assert_eq(s.hdr.fence_id, UINT64_C(0x1122334455667788));
        cr_assert_eq(s.hdr.ctx_id, samples[i].ctx_id);
        cr_assert_eq(s.hdr.ring_idx, 0);
        bench_close(&b);
    }
}

DEVICE_TEST(without_a_fence_nothing_is_echoed)
{
    struct bench b;
    bench_open(&b, NULL);
    samples_prepare(&b);
    struct sent s;
    struct cmd c;
    cmd_begin(&c, VGD_CMD_SUBMIT_3D, CTX);
    memset(c.bytes + 8, 0x77, 8); /* a fence id, but no flag */
    vgd_cmd_submit_3d_encode(&c.w, &(struct vgd_cmd_submit_3d){0});
    cmd_send(&b, &s, &c);
    cr_assert_resp(s.hdr.type, OK_NODATA);
    cr_assert_eq(s.hdr.flags, 0);
    cr_assert_eq(s.hdr.fence_id, 0);
    cr_assert_eq(vgd_fake_calls(b.render, VGD_FAKE_FENCE), 0);
    bench_close(&b);
}
