/* SPDX-License-Identifier: MIT */
/* The scripted guest of "live", which books what it does. */
#include "live.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "virgl_stream.h"

struct books books;
struct scene scene;
bool has_3d;
uint32_t setup_bytes, draw_bytes;

static void book(struct json_object *by_name, const char *name)
{
    struct json_object *count = NULL;
    int64_t n = json_object_object_get_ex(by_name, name, &count) ? json_object_get_int64(count) : 0;
    (void)json_object_object_add(by_name, name, json_object_new_int64(n + 1));
}

/* @cmd is answered, with @n_bytes as the guest sees it. @type 0: no room for an answer. */
void live_book_answer(const struct vgd_guest_request *req, uint32_t type, uint64_t n_bytes)
{
    book(books.commands, vgd_cmd_name(req->hdr.type));
    book(books.responses, vgd_resp_name(type != 0 ? type : VGD_RESP_OK_NODATA));
    books.command_bytes += VGD_CTRL_HDR_SIZE + req->body_bytes + req->data_bytes - req->cut_bytes;
    books.response_bytes += n_bytes;
    bool is_error = type >= VGD_RESP_ERR_UNSPEC;
    books.fences += (req->hdr.flags & VGD_FLAG_FENCE) != 0 && !is_error;
}

/* Begin, wait, book. Returns the answer's type. */
static uint32_t send_request(const struct vgd_guest_request *req)
{
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(scene.gpu, req, true);
    if (cmd == NULL || !vgd_guest_gpu_wait(scene.gpu, cmd, 10000)) {
        tap_note("%s is not answered", vgd_cmd_name(req->hdr.type));
        vgd_guest_gpu_end(scene.gpu, cmd);
        return 0;
    }
    uint32_t type = cmd->resp.type;
    live_book_answer(req, type, cmd->used_bytes);
    vgd_guest_gpu_end(scene.gpu, cmd);
    return type;
}

struct vgd_guest_request live_request_of(uint32_t type, uint32_t ctx_id, bool fenced,
                                         const uint8_t *body, const struct vgd_writer *w)
{
    return (struct vgd_guest_request){
        .hdr = {.type = type,
                .ctx_id = ctx_id,
                .flags = fenced ? VGD_FLAG_FENCE : 0,
                .fence_id = fenced ? 77 : 0},
        .body = body,
        .body_bytes = (uint32_t)vgd_writer_used(w),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
}

static uint32_t create_2d(uint32_t id, uint32_t format)
{
    BODY_OF(resource_create_2d, .resource_id = id, .format = format, .w_px = W_PX, .h_px = H_PX);
    struct vgd_guest_request req = live_request_of(VGD_CMD_RESOURCE_CREATE_2D, 0, false, body, &w);
    uint32_t got = send_request(&req);
    if (got == VGD_RESP_OK_NODATA) {
        books.memory_2d += PICTURE_BYTES;
        books.resources++;
    }
    return got;
}

static uint32_t attach(uint32_t id, const struct vgd_guest_backing *backing)
{
    BODY_OF(resource_attach_backing, .resource_id = id, .nr_entries = 1);
    vgd_mem_entry_encode(&w, &backing->entries[0]);
    struct vgd_guest_request req =
        live_request_of(VGD_CMD_RESOURCE_ATTACH_BACKING, 0, false, body, &w);
    books.backing += backing->size_bytes;
    return send_request(&req);
}

struct vgd_rect live_whole(void)
{
    return (struct vgd_rect){.w_px = W_PX, .h_px = H_PX};
}

static uint32_t transfer_2d(uint32_t id, struct vgd_rect rect, bool fenced)
{
    BODY_OF(transfer_to_host_2d, .rect = rect, .resource_id = id);
    struct vgd_guest_request req =
        live_request_of(VGD_CMD_TRANSFER_TO_HOST_2D, 0, fenced, body, &w);
    uint32_t got = send_request(&req);
    if (got == VGD_RESP_OK_NODATA) {
        books.to_host_bytes += (uint64_t)rect.w_px * rect.h_px * 4;
        books.transfers++;
    }
    return got;
}

uint32_t live_unref(uint32_t id)
{
    BODY_OF(resource_unref, .resource_id = id);
    struct vgd_guest_request req = live_request_of(VGD_CMD_RESOURCE_UNREF, 0, false, body, &w);
    return send_request(&req);
}

static uint32_t cursor(uint32_t type)
{
    BODY_OF(update_cursor, .pos = {.x_px = 5, .y_px = 6});
    struct vgd_guest_request req = live_request_of(type, 0, false, body, &w);
    req.queue = VGD_GUEST_CURSOR;
    req.resp_bytes = 0;
    return send_request(&req);
}

static uint32_t set_scanout(void)
{
    BODY_OF(set_scanout, .rect = live_whole(), .scanout_id = 0, .resource_id = 1);
    struct vgd_guest_request req = live_request_of(VGD_CMD_SET_SCANOUT, 0, false, body, &w);
    return send_request(&req);
}

static uint32_t flush(void)
{
    BODY_OF(resource_flush, .rect = live_whole(), .resource_id = 1);
    struct vgd_guest_request req = live_request_of(VGD_CMD_RESOURCE_FLUSH, 0, false, body, &w);
    books.flushes++;
    return send_request(&req);
}

/* Pictures, each seen to arrive before the next: how many pixels, the guest's screen counts. */
static bool show_pictures(const struct vgd_guest_backing *backing)
{
    struct vgd_guest_display *display = vgd_guest_gpu_display(scene.gpu);
    bool ok = set_scanout() == VGD_RESP_OK_NODATA;
    for (uint32_t n = 0; n < PICTURES; n++) {
        uint32_t pixels[W_PX * H_PX];
        for (uint32_t i = 0; i < W_PX * H_PX; i++) {
            pixels[i] = (i + n * 1000003) & 0xffffff;
        }
        vgd_guest_backing_write(scene.gpu, backing, 0, pixels, sizeof(pixels));
        ok = transfer_2d(1, live_whole(), false) == VGD_RESP_OK_NODATA && ok;
        ok = flush() == VGD_RESP_OK_NODATA && ok;
        uint64_t end_ns = vgd_now_ns() + UINT64_C(5000000000);
        while (vgd_guest_display_compare(display, 0, live_whole(), pixels, W_PX, 0) != 0 &&
               vgd_now_ns() < end_ns) {
            vgd_guest_gpu_turn(scene.gpu, 5);
        }
        ok = vgd_now_ns() < end_ns && ok;
    }
    return ok;
}

uint32_t live_get_display_info(void)
{
    struct vgd_guest_request req = {.hdr = {.type = VGD_CMD_GET_DISPLAY_INFO},
                                    .resp_bytes = VGD_CTRL_HDR_SIZE + VGD_RESP_DISPLAY_INFO_SIZE};
    return send_request(&req);
}

bool live_do_2d(void)
{
    struct vgd_guest_backing one, two;
    bool ok = vgd_guest_backing_create(scene.gpu, PICTURE_BYTES, 1, &one) &&
              vgd_guest_backing_create(scene.gpu, PICTURE_BYTES, 1, &two);
    for (uint32_t id = 1; id <= 3; id++) {
        ok = create_2d(id, VGD_FORMAT_B8G8R8X8_UNORM) == VGD_RESP_OK_NODATA && ok;
    }
    ok = create_2d(4, 77) == VGD_RESP_ERR_INVALID_PARAMETER && ok;
    ok = create_2d(1, VGD_FORMAT_B8G8R8X8_UNORM) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    ok = attach(1, &one) == VGD_RESP_OK_NODATA && ok;
    ok = attach(2, &two) == VGD_RESP_OK_NODATA && ok;
    ok = show_pictures(&one) && ok;
    for (uint32_t i = 0; i < FENCED; i++) {
        struct vgd_rect rect = {.w_px = W_PX / 2, .h_px = 3};
        ok = transfer_2d(2, rect, true) == VGD_RESP_OK_NODATA && ok;
    }
    struct vgd_rect wide = {.w_px = W_PX + 1, .h_px = 1};
    ok = transfer_2d(2, wide, false) == VGD_RESP_ERR_INVALID_PARAMETER && ok;
    for (uint32_t i = 0; i < UNREFS; i++) {
        ok = live_unref(900 + i) == VGD_RESP_ERR_INVALID_RESOURCE_ID && ok;
    }
    (void)cursor(VGD_CMD_UPDATE_CURSOR);
    (void)cursor(VGD_CMD_MOVE_CURSOR);
    (void)cursor(VGD_CMD_MOVE_CURSOR);
    uint8_t nothing[8] = {0};
    struct vgd_guest_request req = {.hdr = {.type = 0x999},
                                    .body = nothing,
                                    .body_bytes = sizeof(nothing),
                                    .resp_bytes = VGD_CTRL_HDR_SIZE};
    ok = send_request(&req) == VGD_RESP_ERR_UNSPEC && ok;
    ok = send_request(&req) == VGD_RESP_ERR_UNSPEC && ok;
    ok = live_get_display_info() == VGD_RESP_OK_DISPLAY_INFO && ok;
    free(one.entries);
    free(two.entries);
    return ok;
}

/* --- 3D --- */

static uint32_t ctx_create(uint32_t id, const char *name, uint32_t n_bytes)
{
    struct vgd_cmd_ctx_create create = {.name_len_bytes = n_bytes};
    memcpy(create.debug_name, name, n_bytes);
    uint8_t body[VGD_CMD_MAX_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_ctx_create_encode(&w, &create);
    struct vgd_guest_request req = live_request_of(VGD_CMD_CTX_CREATE, id, false, body, &w);
    books.contexts++;
    books.contexts_created++;
    return send_request(&req);
}

static uint32_t create_3d(uint32_t id, uint32_t target, uint32_t format, uint32_t bind,
                          uint32_t w_px, uint32_t h_px)
{
    BODY_OF(resource_create_3d, .resource_id = id, .target = target, .format = format, .bind = bind,
            .width = w_px, .height = h_px, .depth = 1, .array_size = 1);
    struct vgd_guest_request req = live_request_of(VGD_CMD_RESOURCE_CREATE_3D, 0, false, body, &w);
    books.resources++;
    books.memory_3d += target == VGD_VIRGL_TARGET_BUFFER ? w_px : (uint64_t)w_px * h_px * 4;
    return send_request(&req);
}

static uint32_t ctx_attach(uint32_t ctx_id, uint32_t res_id)
{
    BODY_OF(ctx_resource, .resource_id = res_id);
    struct vgd_guest_request req =
        live_request_of(VGD_CMD_CTX_ATTACH_RESOURCE, ctx_id, false, body, &w);
    return send_request(&req);
}

static uint32_t transfer_3d(uint32_t type, uint32_t res_id, uint32_t w_px, uint32_t h_px,
                            uint32_t texel_bytes)
{
    BODY_OF(transfer_host_3d, .box = {.w = w_px, .h = h_px, .d = 1}, .resource_id = res_id);
    struct vgd_guest_request req = live_request_of(type, ALPHA, false, body, &w);
    uint64_t n_bytes = (uint64_t)w_px * h_px * texel_bytes;
    *(type == VGD_CMD_TRANSFER_TO_HOST_3D ? &books.to_host_bytes : &books.from_host_bytes) +=
        n_bytes;
    books.transfers++;
    return send_request(&req);
}

static uint32_t submit(uint32_t ctx_id, const struct vgd_virgl_stream *s, bool fenced)
{
    BODY_OF(submit_3d, .size_bytes = s->n_dwords * 4);
    struct vgd_guest_request req = live_request_of(VGD_CMD_SUBMIT_3D, ctx_id, fenced, body, &w);
    req.data = s->dwords;
    req.data_bytes = s->n_dwords * 4;
    return send_request(&req);
}

static void book_submit(const struct vgd_virgl_stream *s, uint64_t commands, uint64_t draws)
{
    books.submits++;
    books.timed_submits++;
    books.submit_bytes += s->n_dwords * 4;
    books.stream_commands += commands;
    books.stream_draws += draws;
}

static bool do_streams(void)
{
    static const float black[4] = {0, 0, 0, 1};
    struct vgd_virgl_stream s = {0};
    /* 18 commands, which make 7 objects. */
    vgd_virgl_triangle_setup(&s, TARGET_RES, VGD_VIRGL_FORMAT_B8G8R8X8_UNORM, 64, 64, VERTEX_RES,
                             false);
    setup_bytes = s.n_dwords * 4;
    bool ok = submit(ALPHA, &s, false) == VGD_RESP_OK_NODATA;
    book_submit(&s, 18, 0);
    vgd_virgl_stream_clear(&s);
    vgd_virgl_clear_color(&s, black);
    vgd_virgl_draw_triangles(&s, 0, 3);
    draw_bytes = s.n_dwords * 4;
    for (uint32_t i = 0; i < SUBMITS; i++) {
        ok = submit(ALPHA, &s, true) == VGD_RESP_OK_NODATA && ok;
        book_submit(&s, 2, 2);
    }
    ok = submit(99, &s, false) == VGD_RESP_ERR_INVALID_CONTEXT_ID && ok;
    ok = submit(99, &s, true) == VGD_RESP_ERR_INVALID_CONTEXT_ID && ok;
    /* A stream of which the second command is wrong: the first one counts. */
    vgd_virgl_stream_clear(&s);
    vgd_virgl_create_sub_ctx(&s, 1);
    vgd_virgl_bind_object(&s, VGD_VIRGL_OBJECT_BLEND, 12345);
    ok = submit(BETA, &s, false) >= VGD_RESP_ERR_UNSPEC && ok;
    book_submit(&s, 1, 0);
    books.stream_refused++;
    vgd_virgl_stream_finish(&s);
    return ok;
}

bool live_do_3d(void)
{
    struct vgd_guest_backing target, small, vertices;
    bool ok = vgd_guest_backing_create(scene.gpu, 64 * 64 * 4, 1, &target) &&
              vgd_guest_backing_create(scene.gpu, 64 * 64, 1, &small) &&
              vgd_guest_backing_create(scene.gpu, 4096, 1, &vertices);
    ok = ctx_create(ALPHA, "glmark2", 7) == VGD_RESP_OK_NODATA && ok;
    ok = ctx_create(BETA, "e\x1bvil\n\"", 7) == VGD_RESP_OK_NODATA && ok;
    ok = create_3d(TARGET_RES, VGD_VIRGL_TARGET_TEXTURE_2D, VGD_VIRGL_FORMAT_B8G8R8X8_UNORM,
                   VGD_VIRGL_BIND_RENDER_TARGET, 64, 64) == VGD_RESP_OK_NODATA &&
         create_3d(VERTEX_RES, VGD_VIRGL_TARGET_BUFFER, VGD_VIRGL_FORMAT_R8_UNORM,
                   VGD_VIRGL_BIND_VERTEX_BUFFER, 4096, 1) == VGD_RESP_OK_NODATA &&
         create_3d(SMALL_RES, VGD_VIRGL_TARGET_TEXTURE_2D, VGD_VIRGL_FORMAT_R8_UNORM,
                   VGD_VIRGL_BIND_SAMPLER_VIEW, 64, 64) == VGD_RESP_OK_NODATA &&
         ok;
    ok = attach(TARGET_RES, &target) == VGD_RESP_OK_NODATA && ok;
    ok = attach(VERTEX_RES, &vertices) == VGD_RESP_OK_NODATA && ok;
    ok = attach(SMALL_RES, &small) == VGD_RESP_OK_NODATA && ok;
    for (uint32_t id = TARGET_RES; id <= SMALL_RES; id++) {
        ok = ctx_attach(ALPHA, id) == VGD_RESP_OK_NODATA && ok;
    }
    ok = do_streams() && ok;
    for (int i = 0; i < 2; i++) {
        ok = transfer_3d(VGD_CMD_TRANSFER_TO_HOST_3D, SMALL_RES, 64, 10, 1) == VGD_RESP_OK_NODATA &&
             ok;
    }
    ok =
        transfer_3d(VGD_CMD_TRANSFER_TO_HOST_3D, VERTEX_RES, 100, 1, 1) == VGD_RESP_OK_NODATA && ok;
    ok = transfer_3d(VGD_CMD_TRANSFER_FROM_HOST_3D, TARGET_RES, 16, 16, 4) == VGD_RESP_OK_NODATA &&
         ok;
    free(target.entries);
    free(small.entries);
    free(vertices.entries);
    return ok;
}
