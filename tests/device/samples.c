/* SPDX-License-Identifier: MIT */
#include "samples.h"

#include <assert.h>

#include "virgl_wire.h"

static const struct vgd_rect whole = {.w_px = SAMPLE_SIDE_PX, .h_px = SAMPLE_SIDE_PX};

static void nothing(struct vgd_writer *w)
{
    (void)w;
}

static void body_create_2d(struct vgd_writer *w)
{
    vgd_cmd_resource_create_2d_encode(
        w, &(struct vgd_cmd_resource_create_2d){
               .resource_id = 20, .format = VGD_FORMAT_B8G8R8X8_UNORM, .w_px = 8, .h_px = 8});
}

static void body_unref(struct vgd_writer *w)
{
    vgd_cmd_resource_unref_encode(w, &(struct vgd_cmd_resource_unref){.resource_id = RES_2D});
}

static void body_set_scanout(struct vgd_writer *w)
{
    vgd_cmd_set_scanout_encode(
        w, &(struct vgd_cmd_set_scanout){.rect = whole, .scanout_id = 1, .resource_id = RES_2D});
}

static void body_flush(struct vgd_writer *w)
{
    vgd_cmd_resource_flush_encode(
        w, &(struct vgd_cmd_resource_flush){.rect = whole, .resource_id = RES_2D});
}

static void body_transfer_2d(struct vgd_writer *w)
{
    vgd_cmd_transfer_to_host_2d_encode(
        w, &(struct vgd_cmd_transfer_to_host_2d){.rect = whole, .resource_id = RES_2D});
}

static void body_attach(struct vgd_writer *w)
{
    vgd_cmd_resource_attach_backing_encode(
        w, &(struct vgd_cmd_resource_attach_backing){.resource_id = RES_2D_BARE, .nr_entries = 2});
    vgd_mem_entry_encode(w, &(struct vgd_mem_entry){.addr = LOW_GPA, .len_bytes = 0x1000});
    vgd_mem_entry_encode(w, &(struct vgd_mem_entry){.addr = HIGH_GPA, .len_bytes = 0x3000});
}

static void body_detach(struct vgd_writer *w)
{
    vgd_cmd_resource_detach_backing_encode(
        w, &(struct vgd_cmd_resource_detach_backing){.resource_id = RES_2D});
}

static void body_capset_info(struct vgd_writer *w)
{
    vgd_cmd_get_capset_info_encode(w, &(struct vgd_cmd_get_capset_info){.capset_idx = 1});
}

static void body_capset(struct vgd_writer *w)
{
    vgd_cmd_get_capset_encode(
        w, &(struct vgd_cmd_get_capset){.capset_id = VGD_CAPSET_VIRGL2, .capset_version = 2});
}

static void body_edid(struct vgd_writer *w)
{
    vgd_cmd_get_edid_encode(w, &(struct vgd_cmd_get_edid){.scanout_id = 0});
}

static void body_ctx_create(struct vgd_writer *w)
{
    vgd_cmd_ctx_create_encode(w, &(struct vgd_cmd_ctx_create){.name_len_bytes = 64});
}

static void body_ctx_attach(struct vgd_writer *w)
{
    vgd_cmd_ctx_resource_encode(w, &(struct vgd_cmd_ctx_resource){.resource_id = RES_3D_OUTSIDE});
}

static void body_ctx_detach(struct vgd_writer *w)
{
    vgd_cmd_ctx_resource_encode(w, &(struct vgd_cmd_ctx_resource){.resource_id = RES_3D});
}

static void body_create_3d(struct vgd_writer *w)
{
    vgd_cmd_resource_create_3d_encode(w, &(struct vgd_cmd_resource_create_3d){.resource_id = 21,
                                                                              .target = 2,
                                                                              .format = 1,
                                                                              .width = 8,
                                                                              .height = 8,
                                                                              .depth = 1,
                                                                              .array_size = 1});
}

static void body_transfer_3d(struct vgd_writer *w)
{
    vgd_cmd_transfer_host_3d_encode(
        w, &(struct vgd_cmd_transfer_host_3d){
               .box = {.w = SAMPLE_SIDE_PX, .h = SAMPLE_SIDE_PX, .d = 1}, .resource_id = RES_3D});
}

static void body_submit(struct vgd_writer *w)
{
    vgd_cmd_submit_3d_encode(w, &(struct vgd_cmd_submit_3d){.size_bytes = 24});
    vgd_virgl_create_surface_encode(
        w, &(struct vgd_virgl_create_surface){
               .handle = 1, .resource = RES_3D, .format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM});
}

static void body_cursor(struct vgd_writer *w)
{
    vgd_cmd_update_cursor_encode(
        w, &(struct vgd_cmd_update_cursor){.pos = {.scanout_id = 0}, .resource_id = RES_2D});
}

static void body_create_blob(struct vgd_writer *w)
{
    vgd_cmd_resource_create_blob_encode(
        w, &(struct vgd_cmd_resource_create_blob){.resource_id = 22,
                                                  .blob_mem = VGD_BLOB_MEM_HOST3D_GUEST,
                                                  .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                                  .nr_entries = 2,
                                                  .size_bytes = 0x2000});
    vgd_mem_entry_encode(w, &(struct vgd_mem_entry){.addr = HIGH_GPA, .len_bytes = 0x1000});
    vgd_mem_entry_encode(w, &(struct vgd_mem_entry){.addr = LOW_GPA, .len_bytes = 0x1000});
}

static void body_create_guest_blob(struct vgd_writer *w)
{
    vgd_cmd_resource_create_blob_encode(
        w, &(struct vgd_cmd_resource_create_blob){.resource_id = 23,
                                                  .blob_mem = VGD_BLOB_MEM_GUEST,
                                                  .nr_entries = 1,
                                                  .size_bytes = 0x1000});
    vgd_mem_entry_encode(w, &(struct vgd_mem_entry){.addr = HIGH_GPA, .len_bytes = 0x1000});
}

static void body_map_blob(struct vgd_writer *w)
{
    vgd_cmd_resource_map_blob_encode(
        w, &(struct vgd_cmd_resource_map_blob){.resource_id = RES_BLOB, .offset_bytes = 0x10000});
}

static void body_unmap_blob(struct vgd_writer *w)
{
    vgd_cmd_resource_unmap_blob_encode(
        w, &(struct vgd_cmd_resource_unmap_blob){.resource_id = RES_BLOB_MAPPED});
}

static void body_unref_mapped(struct vgd_writer *w)
{
    vgd_cmd_resource_unref_encode(w,
                                  &(struct vgd_cmd_resource_unref){.resource_id = RES_BLOB_MAPPED});
}

static void body_assign_uuid(struct vgd_writer *w)
{
    vgd_cmd_resource_assign_uuid_encode(
        w, &(struct vgd_cmd_resource_assign_uuid){.resource_id = RES_BLOB});
}

static void body_set_scanout_blob(struct vgd_writer *w)
{
    vgd_cmd_set_scanout_blob_encode(
        w, &(struct vgd_cmd_set_scanout_blob){.rect = whole,
                                              .scanout_id = 2,
                                              .resource_id = RES_BLOB_GUEST,
                                              .w_px = SAMPLE_SIDE_PX,
                                              .h_px = SAMPLE_SIDE_PX,
                                              .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                              .strides_bytes = {SAMPLE_SIDE_PX * 4}});
}

#define HEADER VGD_CTRL_HDR_SIZE
#define CONTROL VGD_QUEUE_CONTROL, VGD_RESP_OK_NODATA, HEADER
#define CURSOR VGD_QUEUE_CURSOR, VGD_RESP_OK_NODATA, HEADER
const struct sample samples[] = {
    {"get_display_info", VGD_CMD_GET_DISPLAY_INFO, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_DISPLAY_INFO,
     HEADER + VGD_RESP_DISPLAY_INFO_SIZE, nothing},
    {"create_2d", VGD_CMD_RESOURCE_CREATE_2D, 0, CONTROL, body_create_2d},
    {"unref", VGD_CMD_RESOURCE_UNREF, 0, CONTROL, body_unref},
    {"set_scanout", VGD_CMD_SET_SCANOUT, 0, CONTROL, body_set_scanout},
    {"flush", VGD_CMD_RESOURCE_FLUSH, 0, CONTROL, body_flush},
    {"transfer_2d", VGD_CMD_TRANSFER_TO_HOST_2D, 0, CONTROL, body_transfer_2d},
    {"attach", VGD_CMD_RESOURCE_ATTACH_BACKING, 0, CONTROL, body_attach},
    {"detach", VGD_CMD_RESOURCE_DETACH_BACKING, 0, CONTROL, body_detach},
    {"get_capset_info", VGD_CMD_GET_CAPSET_INFO, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_CAPSET_INFO,
     HEADER + VGD_RESP_CAPSET_INFO_SIZE, body_capset_info},
    {"get_capset", VGD_CMD_GET_CAPSET, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_CAPSET,
     HEADER + CAPSET_VIRGL2_BYTES, body_capset},
    {"get_edid", VGD_CMD_GET_EDID, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_EDID,
     HEADER + VGD_RESP_EDID_SIZE, body_edid},
    {"ctx_create", VGD_CMD_CTX_CREATE, 9, CONTROL, body_ctx_create},
    {"ctx_destroy", VGD_CMD_CTX_DESTROY, CTX, CONTROL, nothing},
    {"ctx_attach", VGD_CMD_CTX_ATTACH_RESOURCE, CTX, CONTROL, body_ctx_attach},
    {"ctx_detach", VGD_CMD_CTX_DETACH_RESOURCE, CTX, CONTROL, body_ctx_detach},
    {"create_3d", VGD_CMD_RESOURCE_CREATE_3D, 0, CONTROL, body_create_3d},
    {"to_host_3d", VGD_CMD_TRANSFER_TO_HOST_3D, CTX, CONTROL, body_transfer_3d},
    {"from_host_3d", VGD_CMD_TRANSFER_FROM_HOST_3D, CTX, CONTROL, body_transfer_3d},
    {"submit", VGD_CMD_SUBMIT_3D, CTX, CONTROL, body_submit},
    {"create_blob", VGD_CMD_RESOURCE_CREATE_BLOB, CTX, CONTROL, body_create_blob},
    {"create_guest_blob", VGD_CMD_RESOURCE_CREATE_BLOB, 0, CONTROL, body_create_guest_blob},
    {"map_blob", VGD_CMD_RESOURCE_MAP_BLOB, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_MAP_INFO,
     HEADER + VGD_RESP_MAP_INFO_SIZE, body_map_blob},
    {"unmap_blob", VGD_CMD_RESOURCE_UNMAP_BLOB, 0, CONTROL, body_unmap_blob},
    {"unref_mapped", VGD_CMD_RESOURCE_UNREF, 0, CONTROL, body_unref_mapped},
    {"set_scanout_blob", VGD_CMD_SET_SCANOUT_BLOB, 0, CONTROL, body_set_scanout_blob},
    {"assign_uuid", VGD_CMD_RESOURCE_ASSIGN_UUID, 0, VGD_QUEUE_CONTROL, VGD_RESP_OK_RESOURCE_UUID,
     HEADER + VGD_RESP_RESOURCE_UUID_SIZE, body_assign_uuid},
    {"update_cursor", VGD_CMD_UPDATE_CURSOR, 0, CURSOR, body_cursor},
    {"move_cursor", VGD_CMD_MOVE_CURSOR, 0, CURSOR, body_cursor},
};
const size_t samples_count = sizeof(samples) / sizeof(samples[0]);

static void must(uint32_t resp_type)
{
    assert(resp_type == VGD_RESP_OK_NODATA);
}

void samples_prepare(struct bench *b)
{
    must(create_2d(b, RES_2D, VGD_FORMAT_B8G8R8X8_UNORM, SAMPLE_SIDE_PX, SAMPLE_SIDE_PX));
    must(attach(b, RES_2D, MIDDLE_GPA, SAMPLE_BYTES));
    must(create_2d(b, RES_2D_BARE, VGD_FORMAT_B8G8R8A8_UNORM, SAMPLE_SIDE_PX, SAMPLE_SIDE_PX));
    must(create_texture(b, RES_3D, SAMPLE_SIDE_PX, SAMPLE_SIDE_PX));
    must(attach(b, RES_3D, HIGH_GPA, SAMPLE_BYTES));
    must(create_texture(b, RES_3D_OUTSIDE, SAMPLE_SIDE_PX, SAMPLE_SIDE_PX));
    must(ctx_create(b, CTX, 0));
    must(ctx_attach(b, CTX, RES_3D));
    must(set_scanout(b, 0, RES_2D, whole));
    must(create_guest_blob(b, RES_BLOB_GUEST, MIDDLE_GPA + 0x10000, SAMPLE_BYTES));
    must(create_host_blob(b, RES_BLOB, CTX, SAMPLE_BYTES));
    must(create_host_blob(b, RES_BLOB_MAPPED, CTX, SAMPLE_BYTES));
    uint32_t mapped = map_blob(b, RES_BLOB_MAPPED, 0);
    assert(mapped == VGD_RESP_OK_MAP_INFO);
}

void sample_build(const struct sample *sample, struct bench *b, struct cmd *c, bool fenced)
{
    if (fenced) {
        cmd_begin_fenced(c, b, sample->type, sample->ctx_id);
    } else {
        cmd_begin(c, sample->type, sample->ctx_id);
    }
    sample->body(&c->w);
}
