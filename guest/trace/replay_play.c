/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "replay.h"
#include "virgl_wire.h"

#define NAMED_MAX 64u /* resources whose memory the next command reads; more: it is waited for */

static uint32_t named[NAMED_MAX];
static uint32_t n_named;
static bool named_overflow;

bool replay_data(struct replay *r, const struct vgd_trace_item *item)
{
    if (vgd_trace_reader_data(r->tool->reader, &item->data, 0, r->bytes,
                              (size_t)item->data.total_bytes) == VGD_OK) {
        return true;
    }
    return replay_fail(r, "record %llu: its data cannot be had: %s",
                       (unsigned long long)item->number,
                       vgd_trace_reader_fault(r->tool->reader)->text);
}

/* ---- what cannot be played here ---- */

/* Why not, as far as its header and fixed part tell. */
static enum replay_left_out refused(const struct replay *r, const struct vgd_ctrl_hdr *hdr,
                                    const uint8_t *bytes, size_t n_bytes)
{
    if (hdr->type >= VGD_CMD_CTX_CREATE && hdr->type <= VGD_CMD_SUBMIT_3D &&
        !replay_has(r, VGD_F_VIRGL)) {
        return REPLAY_NO_FEATURE;
    }
    const struct model_context *ctx =
        hdr->ctx_id != 0 ? model_context(&r->model, hdr->ctx_id) : NULL;
    bool is_venus = ctx != NULL && ctx->capset == VGD_CAPSET_VENUS;
    uint32_t res_id = model_named_resource(bytes, n_bytes);
    const struct model_resource *res = res_id != 0 ? model_resource(&r->model, res_id) : NULL;
    struct vgd_reader body = vgd_reader_of(bytes + VGD_CTRL_HDR_SIZE, n_bytes - VGD_CTRL_HDR_SIZE);
    switch (hdr->type) {
    case VGD_CMD_CTX_CREATE: {
        struct vgd_cmd_ctx_create cmd = {0};
        if (vgd_cmd_ctx_create_decode(&body, &cmd) == VGD_OK &&
            (cmd.context_init & VGD_CONTEXT_INIT_CAPSET_ID_MASK) == VGD_CAPSET_VENUS) {
            return REPLAY_OF_VENUS;
        }
        return REPLAY_PLAYED;
    }
    case VGD_CMD_RESOURCE_CREATE_BLOB: {
        struct vgd_cmd_resource_create_blob cmd = {0};
        if (!replay_has(r, VGD_F_RESOURCE_BLOB)) {
            return REPLAY_NO_FEATURE;
        }
        if (is_venus && vgd_cmd_resource_create_blob_decode(&body, &cmd) == VGD_OK &&
            cmd.blob_mem != VGD_BLOB_MEM_GUEST) {
            return REPLAY_OF_VENUS;
        }
        return REPLAY_PLAYED;
    }
    case VGD_CMD_RESOURCE_ASSIGN_UUID:
        if (!replay_has(r, VGD_F_RESOURCE_UUID)) {
            return REPLAY_NO_FEATURE;
        }
        break;
    case VGD_CMD_RESOURCE_MAP_BLOB: {
        struct vgd_cmd_resource_map_blob cmd = {0};
        if (r->dry) {
            break;
        }
        if (vgd_guest_window_bytes(r->gpu) == 0 ||
            (vgd_cmd_resource_map_blob_decode(&body, &cmd) == VGD_OK &&
             cmd.offset_bytes >= vgd_guest_window_bytes(r->gpu) &&
             cmd.offset_bytes < r->window_bytes)) {
            return REPLAY_NO_WINDOW;
        }
        break;
    }
    case VGD_CMD_RESOURCE_UNMAP_BLOB:
        if (!r->dry && vgd_guest_window_bytes(r->gpu) == 0) {
            return REPLAY_NO_WINDOW;
        }
        break;
    default:
        break;
    }
    if (is_venus) {
        return REPLAY_OF_VENUS;
    }
    if (ctx != NULL && ctx->left_out) {
        return REPLAY_NO_RESOURCE;
    }
    if (res != NULL && res->left_out) {
        const struct model_context *of = model_context(&r->model, res->ctx_id);
        return of != NULL && of->capset == VGD_CAPSET_VENUS ? REPLAY_OF_VENUS : REPLAY_NO_RESOURCE;
    }
    return REPLAY_PLAYED;
}

/* What this command would have made is not there. */
static void leave_out_made(struct replay *r, const struct vgd_ctrl_hdr *hdr, const uint8_t *bytes,
                           size_t n_bytes)
{
    struct model_context *ctx = model_context(&r->model, hdr->ctx_id);
    struct model_resource *res = model_resource(&r->model, model_named_resource(bytes, n_bytes));
    switch (hdr->type) {
    case VGD_CMD_CTX_CREATE:
        if (ctx != NULL) {
            ctx->left_out = true;
        }
        break;
    case VGD_CMD_RESOURCE_CREATE_2D:
    case VGD_CMD_RESOURCE_CREATE_3D:
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        if (res != NULL) {
            res->left_out = true;
            r->misses = true;
        }
        break;
    default:
        break;
    }
}

/* What is done for a guest even if the worker that took it has died. */
static bool lets_go(uint32_t type)
{
    return type == VGD_CMD_RESOURCE_UNREF || type == VGD_CMD_RESOURCE_DETACH_BACKING ||
           type == VGD_CMD_CTX_DETACH_RESOURCE || type == VGD_CMD_CTX_DESTROY ||
           type == VGD_CMD_RESOURCE_UNMAP_BLOB;
}

/* ---- streams ---- */

/* May commands with this opcode touch guest memory, or is it one that draws? */
static uint8_t opcode_facts[256];
enum { FACT_KNOWN = 1, FACT_BACKING = 2 };

/* By opcode: which memory a command touches does not depend on the kind of object that it makes,
 * since no object is made from a resource's memory. */
static bool touches_backing(const struct vgd_command *cmd)
{
    uint8_t *facts = &opcode_facts[cmd->opcode];
    if (*facts == 0) {
        *facts = FACT_KNOWN;
        for (uint32_t i = 0; i < cmd->kind->n_refs; i++) {
            if ((cmd->kind->refs[i].role & (VGD_ROLE_BACKING_READ | VGD_ROLE_BACKING_WRITE)) != 0 ||
                cmd->kind->adjust != NULL) {
                *facts |= FACT_BACKING;
            }
        }
    }
    return (*facts & FACT_BACKING) != 0;
}

static void name_resource(uint32_t res_id)
{
    for (uint32_t i = 0; i < n_named; i++) {
        if (named[i] == res_id) {
            return;
        }
    }
    if (n_named == NAMED_MAX) {
        named_overflow = true;
        return;
    }
    named[n_named++] = res_id;
}

/* Count what is in a stream, note whose memory it touches. False: it names what is not here. */
static bool look_into(struct replay *r, uint64_t id, const uint8_t *bytes, size_t n_bytes)
{
    size_t at = VGD_CTRL_HDR_SIZE + VGD_CMD_SUBMIT_3D_SIZE;
    if (n_bytes < at) {
        return true;
    }
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, (const uint32_t *)(bytes + at),
                                        (uint32_t)((n_bytes - at) / 4));
    struct vgd_command cmd;
    while (vgd_stream_next(&s, &cmd)) {
        r->n_stream_commands++;
        r->n_draws += tool_is_draw(&cmd);
        if (cmd.opcode == VGD_VIRGL_CMD_COPY_TRANSFER3D) {
            replay_copies_back(r, id, &cmd);
        }
        if (cmd.kind == NULL || !(r->misses || touches_backing(&cmd))) {
            continue;
        }
        struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
        struct vgd_command_ref ref;
        while (vgd_command_refs_next(&refs, &ref)) {
            if (ref.space != VGD_REF_RESOURCE) {
                continue;
            }
            const struct model_resource *res = model_resource(&r->model, ref.id);
            if (res != NULL && res->left_out) {
                return false;
            }
            if ((ref.role & (VGD_ROLE_BACKING_READ | VGD_ROLE_BACKING_WRITE)) != 0) {
                name_resource(ref.id);
            }
        }
    }
    return true;
}

/* ---- commands ---- */

/* What the negotiated features do not have is taken out of a command that works without. */
static void adapt(const struct replay *r, struct vgd_ctrl_hdr *hdr, uint8_t *bytes, size_t n_bytes)
{
    if (replay_has(r, VGD_F_CONTEXT_INIT)) {
        return;
    }
    if ((hdr->flags & VGD_FLAG_INFO_RING_IDX) != 0) {
        hdr->flags &= ~(uint32_t)VGD_FLAG_INFO_RING_IDX;
        hdr->ring_idx = 0;
        struct vgd_writer w = vgd_writer_of(bytes, VGD_CTRL_HDR_SIZE);
        vgd_ctrl_hdr_encode(&w, hdr);
    }
    if (hdr->type == VGD_CMD_CTX_CREATE && n_bytes >= VGD_CTRL_HDR_SIZE + 8) {
        memset(bytes + VGD_CTRL_HDR_SIZE + 4, 0, 4); /* context_init */
    }
}

static bool leave_out(struct replay *r, enum replay_left_out why)
{
    r->left_out[why]++;
    n_named = 0;
    named_overflow = false;
    return true;
}

/* The memory that the command just sent touches is its until it is answered. */
static void mark_touched(struct replay *r, const uint8_t *bytes, size_t n_bytes, uint64_t flight)
{
    uint32_t res_id = model_named_resource(bytes, n_bytes);
    if (res_id != 0) {
        name_resource(res_id);
    }
    for (uint32_t i = 0; i < n_named; i++) {
        struct model_resource *res = model_resource(&r->model, named[i]);
        if (res != NULL) {
            replay_touches(r, res, flight);
        }
    }
    n_named = 0;
}

static bool play_command(struct replay *r, const struct vgd_trace_item *item)
{
    const struct vgd_trace_command *record = &item->record.as.command;
    struct vgd_ctrl_hdr hdr;
    size_t n_bytes = (size_t)item->data.total_bytes;
    if ((record->flags & VGD_TRACE_COMMAND_CUT) != 0 || n_bytes < VGD_CTRL_HDR_SIZE) {
        return leave_out(r, REPLAY_CUT);
    }
    if (!replay_data(r, item)) {
        return false;
    }
    uint8_t *bytes = r->bytes;
    struct vgd_reader reader = vgd_reader_of(bytes, VGD_CTRL_HDR_SIZE);
    if (vgd_ctrl_hdr_decode(&reader, &hdr) != VGD_OK) {
        return leave_out(r, REPLAY_CUT);
    }
    if (!replay_ready(r)) {
        return false;
    }
    bool is_state = (record->flags & VGD_TRACE_COMMAND_MADE_UP) != 0;
    uint64_t id = is_state ? 0 : record->command_id;
    enum replay_left_out why = refused(r, &hdr, bytes, n_bytes);
    if ((record->flags & VGD_TRACE_COMMAND_LOST) != 0) {
        uint32_t named_id = model_named_resource(bytes, n_bytes);
        bool is_there = named_id != 0 ? model_resource(&r->model, named_id) != NULL
                                      : model_context(&r->model, hdr.ctx_id) != NULL;
        if (!lets_go(hdr.type) || !is_there) {
            return leave_out(r, REPLAY_LOST);
        }
        id = 0; /* done if it was not: the answer is no lesson */
    }
    if (why == REPLAY_PLAYED && hdr.type == VGD_CMD_SUBMIT_3D &&
        !look_into(r, id, bytes, n_bytes)) {
        why = REPLAY_NO_RESOURCE;
    }
    model_take(&r->model, id, bytes, n_bytes);
    if (why != REPLAY_PLAYED) {
        leave_out_made(r, &hdr, bytes, n_bytes);
        return leave_out(r, why);
    }
    if (r->follows) {
        replay_follow(r, &hdr, bytes, n_bytes);
    }
    adapt(r, &hdr, bytes, n_bytes);
    uint32_t res_id = model_named_resource(bytes, n_bytes);
    struct model_resource *res = res_id != 0 ? model_resource(&r->model, res_id) : NULL;
    if (res != NULL && !replay_place_entries(r, res, bytes, n_bytes)) {
        return false;
    }
    /* The cursor's picture is read when it is set, from a queue of its own. */
    bool alone = hdr.type == VGD_CMD_UPDATE_CURSOR;
    if (alone && !replay_wait_all(r)) {
        return false;
    }
    uint32_t room = record->response_room_bytes;
    room = is_state && record->queue_idx == VGD_GUEST_CONTROL ? VGD_CTRL_HDR_SIZE : room;
    uint64_t flight;
    if (!replay_send(r, record->queue_idx == 1 ? VGD_GUEST_CURSOR : VGD_GUEST_CONTROL, bytes,
                     n_bytes, room, id, item->number, &flight)) {
        return false;
    }
    r->n_commands++;
    r->played = true;
    if (hdr.type == VGD_CMD_TRANSFER_FROM_HOST_3D && id != 0) {
        replay_reads_back(r, id, bytes, n_bytes);
    }
    /* What a blob's failure leaves out has to be known before it is named. */
    bool waits = alone || named_overflow || hdr.type == VGD_CMD_RESOURCE_CREATE_BLOB;
    named_overflow = false;
    mark_touched(r, bytes, n_bytes, flight);
    if (waits && !replay_wait(r, flight)) {
        return false;
    }
    if (hdr.type == VGD_CMD_RESOURCE_FLUSH && r->config->png_every_flush) {
        return replay_picture_of_flush(r, item->number, res_id);
    }
    return true;
}

static bool play_backing(struct replay *r, const struct vgd_trace_item *item)
{
    const struct vgd_trace_backing *backing = &item->record.as.backing;
    if (backing->reason == VGD_TRACE_BACKING_WRITTEN) {
        return replay_readback(r, item);
    }
    if (backing->reason != VGD_TRACE_BACKING_READ && backing->reason != VGD_TRACE_BACKING_STATE) {
        return true; /* newer than ours */
    }
    struct model_resource *res = model_resource(&r->model, backing->resource_id);
    if (res == NULL) {
        r->n_unplayable += !r->after_gap;
        return true;
    }
    if (res->left_out) {
        return true;
    }
    name_resource(res->id);
    return replay_fill(r, res, item);
}

static bool play_response(struct replay *r, const struct vgd_trace_item *item)
{
    uint8_t header[VGD_CTRL_HDR_SIZE];
    struct vgd_ctrl_hdr hdr;
    if (item->data.total_bytes < sizeof(header) ||
        vgd_trace_reader_data(r->tool->reader, &item->data, 0, header, sizeof(header)) != VGD_OK) {
        return true;
    }
    struct vgd_reader reader = vgd_reader_of(header, sizeof(header));
    if (vgd_ctrl_hdr_decode(&reader, &hdr) == VGD_OK) {
        return replay_expect(r, item->record.as.response.command_id, hdr.type);
    }
    return true;
}

static void play_device(struct replay *r, const struct vgd_trace_device *device)
{
    r->ack_features = device->features;
    r->window_bytes = device->window_bytes;
}

static void play_scanout(struct replay *r, const struct vgd_trace_scanout *scanout)
{
    uint32_t at = scanout->scanout_id;
    if (at >= VGD_MAX_SCANOUTS || scanout->w_px > REPLAY_PICTURE_SIDE_MAX ||
        scanout->h_px > REPLAY_PICTURE_SIDE_MAX) {
        return;
    }
    r->scanouts[at] = (struct vgd_rect){.w_px = scanout->w_px, .h_px = scanout->h_px};
    if (scanout->enabled != 0 && at >= r->n_scanouts) {
        r->n_scanouts = at + 1; /* our display has all up to the last one */
    }
    if (r->gpu != NULL && scanout->w_px != 0) {
        vgd_guest_display_resize(vgd_guest_gpu_display(r->gpu), at, scanout->w_px, scanout->h_px);
    }
}

bool replay_record(struct replay *r, const struct vgd_trace_item *item)
{
    switch (item->record.kind) {
    case VGD_TRACE_KIND_DEVICE:
        play_device(r, &item->record.as.device);
        return true;
    case VGD_TRACE_KIND_SCANOUT:
        play_scanout(r, &item->record.as.scanout);
        return true;
    case VGD_TRACE_KIND_COMMAND:
        return play_command(r, item);
    case VGD_TRACE_KIND_RESPONSE:
        return play_response(r, item);
    case VGD_TRACE_KIND_BACKING:
        return play_backing(r, item);
    case VGD_TRACE_KIND_CONTENT:
        return replay_content(r, item);
    case VGD_TRACE_KIND_PICTURE:
        return replay_picture(r, item);
    case VGD_TRACE_KIND_WORKER_DEATH:
        /* What was in flight then was answered by nobody who had executed it. */
        r->died_at = item->number;
        return true;
    case VGD_TRACE_KIND_RESET:
        r->needs_fresh = true;
        return replay_wait_all(r);
    case VGD_TRACE_KIND_GAP:
        r->n_gaps++;
        r->after_gap = true;
        if (r->n_gaps <= REPLAY_TOLD_MAX) {
            tool_complain("record %llu: a gap: %llu records are missing; what refers to them fails "
                          "up to the next state",
                          (unsigned long long)item->number,
                          (unsigned long long)item->record.as.gap.lost_records);
        }
        return true;
    case VGD_TRACE_KIND_STATE_BEGIN:
        r->state_number = item->number;
        r->after_gap = false;
        r->needs_fresh = r->needs_fresh || r->played;
        return !r->needs_fresh || (replay_wait_all(r) && replay_fresh(r));
    case VGD_TRACE_KIND_STATE_END:
        r->state_number = 0;
        return replay_wait_all(r);
    default:
        return true;
    }
}
