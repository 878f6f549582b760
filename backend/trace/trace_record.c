/* SPDX-License-Identifier: MIT */
#include "trace_record.h"

/* Of a command: its header and the longest fixed part, so that a list of commands needs no pieces.
 */
#define COMMAND_HEAD_BYTES 96u

bool vgd_trace_kind_known(uint32_t kind)
{
    return kind > VGD_TRACE_KIND_PIECE && kind <= VGD_TRACE_KIND_END;
}

bool vgd_trace_kind_has_data(uint32_t kind)
{
    switch (kind) {
    case VGD_TRACE_KIND_FACT:
    case VGD_TRACE_KIND_CAPSET:
    case VGD_TRACE_KIND_COMMAND:
    case VGD_TRACE_KIND_RESPONSE:
    case VGD_TRACE_KIND_BACKING:
    case VGD_TRACE_KIND_CONTENT:
    case VGD_TRACE_KIND_PICTURE:
        return true;
    default:
        return false;
    }
}

uint32_t vgd_trace_kind_head_bytes(uint32_t kind)
{
    switch (kind) {
    case VGD_TRACE_KIND_FACT:
        return VGD_TRACE_INLINE_MAX;
    case VGD_TRACE_KIND_COMMAND:
    case VGD_TRACE_KIND_RESPONSE:
        return COMMAND_HEAD_BYTES;
    default:
        return 0; /* pieces from the first byte on: equal contents then have equal pieces */
    }
}

void vgd_trace_record_encode(struct vgd_writer *w, const struct vgd_trace_record *record)
{
    switch (record->kind) {
    case VGD_TRACE_KIND_FACT:
        vgd_trace_fact_encode(w, &record->as.fact);
        break;
    case VGD_TRACE_KIND_DEVICE:
        vgd_trace_device_encode(w, &record->as.device);
        break;
    case VGD_TRACE_KIND_CAPSET:
        vgd_trace_capset_encode(w, &record->as.capset);
        break;
    case VGD_TRACE_KIND_SCANOUT:
        vgd_trace_scanout_encode(w, &record->as.scanout);
        break;
    case VGD_TRACE_KIND_COMMAND:
        vgd_trace_command_encode(w, &record->as.command);
        break;
    case VGD_TRACE_KIND_RESPONSE:
        vgd_trace_response_encode(w, &record->as.response);
        break;
    case VGD_TRACE_KIND_BACKING:
        vgd_trace_backing_encode(w, &record->as.backing);
        break;
    case VGD_TRACE_KIND_CONTENT:
        vgd_trace_content_encode(w, &record->as.content);
        break;
    case VGD_TRACE_KIND_FENCE:
        vgd_trace_fence_encode(w, &record->as.fence);
        break;
    case VGD_TRACE_KIND_PICTURE:
        vgd_trace_picture_encode(w, &record->as.picture);
        break;
    case VGD_TRACE_KIND_RESET:
        vgd_trace_reset_encode(w, &record->as.reset);
        break;
    case VGD_TRACE_KIND_WORKER_DEATH:
        vgd_trace_worker_death_encode(w, &record->as.worker_death);
        break;
    case VGD_TRACE_KIND_GAP:
        vgd_trace_gap_encode(w, &record->as.gap);
        break;
    case VGD_TRACE_KIND_STATE_BEGIN:
        vgd_trace_state_begin_encode(w, &record->as.state_begin);
        break;
    case VGD_TRACE_KIND_END:
        vgd_trace_end_encode(w, &record->as.end);
        break;
    default:
        break; /* STATE_END has no fields */
    }
}

enum vgd_status vgd_trace_record_decode(struct vgd_reader *r, uint32_t kind,
                                        struct vgd_trace_record *out)
{
    out->kind = kind;
    switch (kind) {
    case VGD_TRACE_KIND_FACT:
        return vgd_trace_fact_decode(r, &out->as.fact);
    case VGD_TRACE_KIND_DEVICE:
        return vgd_trace_device_decode(r, &out->as.device);
    case VGD_TRACE_KIND_CAPSET:
        return vgd_trace_capset_decode(r, &out->as.capset);
    case VGD_TRACE_KIND_SCANOUT:
        return vgd_trace_scanout_decode(r, &out->as.scanout);
    case VGD_TRACE_KIND_COMMAND:
        return vgd_trace_command_decode(r, &out->as.command);
    case VGD_TRACE_KIND_RESPONSE:
        return vgd_trace_response_decode(r, &out->as.response);
    case VGD_TRACE_KIND_BACKING:
        return vgd_trace_backing_decode(r, &out->as.backing);
    case VGD_TRACE_KIND_CONTENT:
        return vgd_trace_content_decode(r, &out->as.content);
    case VGD_TRACE_KIND_FENCE:
        return vgd_trace_fence_decode(r, &out->as.fence);
    case VGD_TRACE_KIND_PICTURE:
        return vgd_trace_picture_decode(r, &out->as.picture);
    case VGD_TRACE_KIND_RESET:
        return vgd_trace_reset_decode(r, &out->as.reset);
    case VGD_TRACE_KIND_WORKER_DEATH:
        return vgd_trace_worker_death_decode(r, &out->as.worker_death);
    case VGD_TRACE_KIND_GAP:
        return vgd_trace_gap_decode(r, &out->as.gap);
    case VGD_TRACE_KIND_STATE_BEGIN:
        return vgd_trace_state_begin_decode(r, &out->as.state_begin);
    case VGD_TRACE_KIND_STATE_END:
        return vgd_trace_state_end_decode(r);
    case VGD_TRACE_KIND_END:
        return vgd_trace_end_decode(r, &out->as.end);
    default:
        return VGD_UNSUPPORTED;
    }
}
