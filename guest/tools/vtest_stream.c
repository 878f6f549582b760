/* SPDX-License-Identifier: MIT */
#include "vtest_stream.h"

#include <stddef.h>

#include "stream.h"
#include "virgl_wire.h"

static struct vgd_vtest_move move_of(const struct vgd_virgl_box *box, uint32_t level)
{
    return (struct vgd_vtest_move){.level = level, .w_px = box->w, .h_px = box->h, .depth = box->d};
}

static void look_at_transfer(const struct vgd_command *cmd, const struct vgd_vtest_stream_ops *ops,
                             void *user)
{
    struct vgd_virgl_transfer3d t;
    if (ops->transfer == NULL || vgd_virgl_transfer3d_decode(cmd, &t) != VGD_OK) {
        return;
    }
    struct vgd_vtest_stream_transfer seen = {
        .res_id = t.resource,
        .memory_id = t.resource,
        .to_host = t.direction == VGD_VIRGL_TRANSFER_TO_HOST,
        .x = t.box.x,
        .move = move_of(&t.box, t.level),
    };
    seen.move.stride_bytes = t.stride_bytes;
    seen.move.layer_stride_bytes = t.layer_stride_bytes;
    seen.move.offset_bytes = t.offset_bytes;
    ops->transfer(user, &seen);
}

static void look_at_copy(const struct vgd_command *cmd, const struct vgd_vtest_stream_ops *ops,
                         void *user)
{
    struct vgd_virgl_copy_transfer3d t;
    if (ops->transfer == NULL || vgd_virgl_copy_transfer3d_decode(cmd, &t) != VGD_OK) {
        return;
    }
    struct vgd_vtest_stream_transfer seen = {
        .res_id = t.resource,
        .memory_id = t.staging,
        .to_host = (t.flags & VGD_VIRGL_COPY_READ_FROM_HOST) == 0,
        .x = t.box.x,
        .move = move_of(&t.box, t.level),
    };
    seen.move.stride_bytes = t.stride_bytes;
    seen.move.layer_stride_bytes = t.layer_stride_bytes;
    seen.move.offset_bytes = t.staging_offset_bytes;
    ops->transfer(user, &seen);
}

/* What the bridge has to know beside the names. */
static void look(const struct vgd_command *cmd, const struct vgd_vtest_stream_ops *ops, void *user)
{
    switch (cmd->opcode) {
    case VGD_VIRGL_CMD_TRANSFER3D:
        look_at_transfer(cmd, ops, user);
        break;
    case VGD_VIRGL_CMD_COPY_TRANSFER3D:
        look_at_copy(cmd, ops, user);
        break;
    case VGD_VIRGL_CMD_CREATE_OBJECT: {
        struct vgd_virgl_create_query query;
        if (cmd->object == VGD_VIRGL_OBJECT_QUERY && ops->query_made != NULL &&
            vgd_virgl_create_query_decode(cmd, &query) == VGD_OK) {
            ops->query_made(user, query.handle, query.resource, query.offset_bytes);
        }
        break;
    }
    case VGD_VIRGL_CMD_DESTROY_OBJECT: {
        struct vgd_virgl_destroy_object object;
        if (cmd->object == VGD_VIRGL_OBJECT_QUERY && ops->query_gone != NULL &&
            vgd_virgl_destroy_object_decode(cmd, &object) == VGD_OK) {
            ops->query_gone(user, object.handle);
        }
        break;
    }
    case VGD_VIRGL_CMD_GET_QUERY_RESULT: {
        struct vgd_virgl_get_query_result asked;
        if (ops->query_asked != NULL && vgd_virgl_get_query_result_decode(cmd, &asked) == VGD_OK) {
            ops->query_asked(user, asked.handle);
        }
        break;
    }
    case VGD_VIRGL_CMD_GET_MEMORY_INFO: {
        struct vgd_virgl_get_memory_info info;
        if (ops->host_writes != NULL && vgd_virgl_get_memory_info_decode(cmd, &info) == VGD_OK) {
            ops->host_writes(user, info.resource);
        }
        break;
    }
    case VGD_VIRGL_CMD_GET_PIPE_RESOURCE_LAYOUT: {
        struct vgd_virgl_get_pipe_resource_layout layout;
        if (ops->host_writes != NULL &&
            vgd_virgl_get_pipe_resource_layout_decode(cmd, &layout) == VGD_OK) {
            ops->host_writes(user, layout.out);
        }
        break;
    }
    default:
        break;
    }
}

void vgd_vtest_stream_walk(uint32_t *dwords, uint32_t n_dwords,
                           const struct vgd_vtest_stream_ops *ops, void *user)
{
    struct vgd_stream stream = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    while (vgd_stream_next(&stream, &cmd)) { /* a cut one is refused by the device */
        look(&cmd, ops, user);
        if (ops->device_id == NULL) {
            continue;
        }
        struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
        struct vgd_command_ref ref;
        while (vgd_command_refs_next(&refs, &ref)) {
            if (ref.space == VGD_REF_RESOURCE) {
                dwords[cmd.at + ref.dword] = ops->device_id(user, ref.id);
            }
        }
    }
}
