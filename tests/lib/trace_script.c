/* SPDX-License-Identifier: MIT */
#include "trace_script.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "trace_hash.h"

#define STEP_NS 100000u
#define BYTES_MAX (1u << 20)

static bool from_memory(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    memcpy(out, (const uint8_t *)user + offset_bytes, n_bytes);
    return true;
}

void script_put(struct script *s, struct vgd_trace_record record, const void *data, size_t n_bytes)
{
    s->time_ns += STEP_NS;
    record.time_ns = s->time_ns;
    enum vgd_status st =
        vgd_trace_out_put(s->out, &record, from_memory, (void *)(uintptr_t)data, n_bytes);
    assert(st == VGD_OK);
    s->n_records++;
}

void script_begin(struct script *s, const char *path, uint64_t features, uint64_t window_bytes,
                  uint32_t w_px, uint32_t h_px)
{
    *s = (struct script){.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    assert(s->fd >= 0);
    struct vgd_trace_out_config config = {.dedup_count = 64};
    s->out = vgd_trace_out_create(&config);
    assert(s->out != NULL);
    enum vgd_status st = vgd_trace_out_begin(s->out, s->fd, 1, 1);
    assert(st == VGD_OK);
    script_put(
        s,
        (struct vgd_trace_record){
            .kind = VGD_TRACE_KIND_DEVICE,
            .as.device = {.features = features, .window_bytes = window_bytes, .n_scanouts = 1}},
        NULL, 0);
    script_put(s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_SCANOUT,
                                         .as.scanout = {.enabled = 1, .w_px = w_px, .h_px = h_px}},
               NULL, 0);
}

void script_end(struct script *s)
{
    enum vgd_status st = vgd_trace_out_finish(s->out);
    assert(st == VGD_OK);
    vgd_trace_out_destroy(s->out);
    (void)close(s->fd);
}

void script_command(struct script *s, const struct vgd_ctrl_hdr *hdr, const void *body,
                    size_t body_bytes, const void *tail, size_t tail_bytes)
{
    static uint8_t bytes[BYTES_MAX];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, hdr);
    vgd_write_bytes(&w, body, body_bytes);
    vgd_write_bytes(&w, tail, tail_bytes);
    assert(w.status == VGD_OK);
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_COMMAND,
        .as.command = {.command_id = s->in_state ? 0 : ++s->last_id,
                       .flags = s->in_state ? VGD_TRACE_COMMAND_MADE_UP : 0,
                       .response_room_bytes = VGD_CTRL_HDR_SIZE}};
    script_put(s, record, bytes, vgd_writer_used(&w));
    if (!s->in_state) {
        struct vgd_ctrl_hdr response = *hdr;
        response.type = s->response != 0 ? s->response : VGD_RESP_OK_NODATA;
        w = vgd_writer_of(bytes, sizeof(bytes));
        vgd_ctrl_hdr_encode(&w, &response);
        record = (struct vgd_trace_record){.kind = VGD_TRACE_KIND_RESPONSE,
                                           .as.response = {.command_id = s->last_id}};
        script_put(s, record, bytes, VGD_CTRL_HDR_SIZE);
    }
    s->response = 0;
}

/* One with a fixed part only. */
#define SEND(s, code, ctx, name, ...)                                                              \
    do {                                                                                           \
        uint8_t body_[128];                                                                        \
        struct vgd_writer w_ = vgd_writer_of(body_, sizeof(body_));                                \
        name##_encode(&w_, &(struct name){__VA_ARGS__});                                           \
        script_command((s), &(struct vgd_ctrl_hdr){.type = (code), .ctx_id = (ctx)}, body_,        \
                       vgd_writer_used(&w_), NULL, 0);                                             \
    } while (0)

void script_create_2d(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px)
{
    SEND(s, VGD_CMD_RESOURCE_CREATE_2D, 0, vgd_cmd_resource_create_2d, .resource_id = res_id,
         .format = VGD_FORMAT_B8G8R8X8_UNORM, .w_px = w_px, .h_px = h_px);
}

void script_create_3d(struct script *s, const struct vgd_cmd_resource_create_3d *create)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_resource_create_3d_encode(&w, create);
    script_command(s, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_CREATE_3D}, body,
                   sizeof(body), NULL, 0);
}

/* Pages of a guest that had them all over the place, the last ones first. */
static size_t entries_of(uint8_t *out, size_t room, uint64_t n_bytes, uint32_t n_entries)
{
    struct vgd_writer w = vgd_writer_of(out, room);
    uint64_t each = n_entries == 0 ? 0 : (n_bytes / n_entries + 4095) / 4096 * 4096;
    for (uint32_t i = 0; i < n_entries; i++) {
        uint64_t len = n_bytes < each || i + 1 == n_entries ? n_bytes : each;
        vgd_mem_entry_encode(
            &w, &(struct vgd_mem_entry){.addr = UINT64_C(0x7f0000000) - i * UINT64_C(0x100000),
                                        .len_bytes = (uint32_t)len});
        n_bytes -= len;
    }
    assert(w.status == VGD_OK && n_bytes == 0);
    return vgd_writer_used(&w);
}

void script_create_blob(struct script *s, uint32_t ctx_id, uint32_t res_id, uint32_t mem,
                        uint64_t blob_id, uint64_t size_bytes, uint32_t n_entries)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_BLOB_SIZE], entries[64 * VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_create_blob cmd = {.resource_id = res_id,
                                               .blob_mem = mem,
                                               .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
                                               .nr_entries = n_entries,
                                               .blob_id = blob_id,
                                               .size_bytes = size_bytes};
    vgd_cmd_resource_create_blob_encode(&w, &cmd);
    size_t n_bytes =
        entries_of(entries, sizeof(entries), n_entries == 0 ? 0 : size_bytes, n_entries);
    script_command(s,
                   &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_CREATE_BLOB, .ctx_id = ctx_id},
                   body, sizeof(body), entries, n_bytes);
}

void script_unref(struct script *s, uint32_t res_id)
{
    SEND(s, VGD_CMD_RESOURCE_UNREF, 0, vgd_cmd_resource_unref, .resource_id = res_id);
}

void script_attach(struct script *s, uint32_t res_id, uint32_t n_bytes, uint32_t n_entries)
{
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE], entries[64 * VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res_id, .nr_entries = n_entries};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    size_t entries_bytes = entries_of(entries, sizeof(entries), n_bytes, n_entries);
    script_command(s, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_ATTACH_BACKING}, body,
                   sizeof(body), entries, entries_bytes);
}

void script_scanout(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px)
{
    SEND(s, VGD_CMD_SET_SCANOUT, 0, vgd_cmd_set_scanout, .rect = {0, 0, w_px, h_px},
         .resource_id = res_id);
}

void script_flush(struct script *s, uint32_t res_id, uint32_t w_px, uint32_t h_px)
{
    SEND(s, VGD_CMD_RESOURCE_FLUSH, 0, vgd_cmd_resource_flush, .rect = {0, 0, w_px, h_px},
         .resource_id = res_id);
}

void script_show_2d(struct script *s, uint32_t res_id, const uint32_t *pixels, uint32_t w_px,
                    uint32_t h_px)
{
    script_put(s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_BACKING,
                                         .as.backing = {.command_id = s->last_id + 1,
                                                        .resource_id = res_id,
                                                        .reason = VGD_TRACE_BACKING_READ}},
               pixels, (size_t)w_px * h_px * 4);
    SEND(s, VGD_CMD_TRANSFER_TO_HOST_2D, 0, vgd_cmd_transfer_to_host_2d, .rect = {0, 0, w_px, h_px},
         .resource_id = res_id);
    script_flush(s, res_id, w_px, h_px);
}

void script_ctx_create(struct script *s, uint32_t ctx_id, uint32_t capset)
{
    SEND(s, VGD_CMD_CTX_CREATE, ctx_id, vgd_cmd_ctx_create, .name_len_bytes = 6,
         .context_init = capset, .debug_name = "script");
}

void script_ctx_attach(struct script *s, uint32_t ctx_id, uint32_t res_id)
{
    SEND(s, VGD_CMD_CTX_ATTACH_RESOURCE, ctx_id, vgd_cmd_ctx_resource, .resource_id = res_id);
}

void script_submit(struct script *s, uint32_t ctx_id, const uint32_t *dwords, uint32_t n_dwords,
                   uint64_t fence_id)
{
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n_dwords * 4});
    script_command(s,
                   &(struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D,
                                          .flags = fence_id != 0 ? VGD_FLAG_FENCE : 0,
                                          .fence_id = fence_id,
                                          .ctx_id = ctx_id},
                   body, sizeof(body), dwords, (size_t)n_dwords * 4);
}

void script_picture(struct script *s, uint32_t res_id, const uint32_t *pixels, uint32_t w_px,
                    uint32_t h_px, bool with_pixels)
{
    size_t n_bytes = (size_t)w_px * h_px * 4;
    struct vgd_trace_picture picture = {.resource_id = res_id,
                                        .flags = VGD_TRACE_PICTURE_HASHED,
                                        .format = VGD_FORMAT_B8G8R8X8_UNORM,
                                        .w_px = w_px,
                                        .h_px = h_px,
                                        .stride_bytes = w_px * 4};
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(pixels, n_bytes));
    memcpy(picture.hash, &hash, sizeof(picture.hash));
    script_put(s, (struct vgd_trace_record){.kind = VGD_TRACE_KIND_PICTURE, .as.picture = picture},
               pixels, with_pixels ? n_bytes : 0);
}

void script_state(struct script *s, uint32_t reason)
{
    s->in_state = true;
    script_put(s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_STATE_BEGIN,
                                         .as.state_begin = {.reason = reason}},
               NULL, 0);
}

void script_state_end(struct script *s)
{
    s->in_state = false;
    script_put(s, (struct vgd_trace_record){.kind = VGD_TRACE_KIND_STATE_END}, NULL, 0);
}

void script_content(struct script *s, uint32_t res_id, uint32_t w, uint32_t h, const void *texels,
                    uint32_t stride_bytes)
{
    script_put(s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_CONTENT,
                                         .as.content = {.resource_id = res_id,
                                                        .w = w,
                                                        .h = h,
                                                        .d = 1,
                                                        .stride_bytes = stride_bytes}},
               texels, (size_t)stride_bytes * h);
}
