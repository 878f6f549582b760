/* SPDX-License-Identifier: MIT */
#include "vtest_stream.h"

#include <stddef.h>

enum {
    CMD_CREATE_OBJECT = 1,
    CMD_DESTROY_OBJECT = 3,
    CMD_SET_VERTEX_BUFFERS = 6,
    CMD_DRAW_VBO = 8,
    CMD_RESOURCE_INLINE_WRITE = 9,
    CMD_SET_INDEX_BUFFER = 11,
    CMD_BLIT = 16,
    CMD_RESOURCE_COPY_REGION = 17,
    CMD_GET_QUERY_RESULT = 21,
    CMD_SET_UNIFORM_BUFFER = 27,
    CMD_SET_SHADER_BUFFERS = 34,
    CMD_SET_SHADER_IMAGES = 35,
    CMD_LAUNCH_GRID = 37,
    CMD_SET_ATOMIC_BUFFERS = 40,
    CMD_GET_QUERY_RESULT_QBO = 42,
    CMD_TRANSFER3D = 43,
    CMD_COPY_TRANSFER3D = 45,
    CMD_CLEAR_TEXTURE = 47,
    CMD_PIPE_RESOURCE_SET_TYPE = 49,
    CMD_GET_MEMORY_INFO = 50,
    CMD_GET_PIPE_RESOURCE_LAYOUT = 63,
};

enum {
    OBJECT_SAMPLER_VIEW = 6,
    OBJECT_SURFACE = 8,
    OBJECT_QUERY = 9,
    OBJECT_STREAMOUT_TARGET = 10,
    OBJECT_MSAA_SURFACE = 11,
};

#define ANY_OBJECT UINT8_MAX
#define TRANSFER3D_DWORDS 13u
#define COPY_TRANSFER3D_DWORDS 14u
#define COPY_FLAG_FROM_HOST 2u

/* Where commands name resources: dword @first of the payload (1 is the first), then every @step
 * dwords to the end of the payload; 0: only there. */
static const struct {
    uint8_t cmd, object, first, step;
} names[] = {
    {CMD_CREATE_OBJECT, OBJECT_SAMPLER_VIEW, 2, 0},
    {CMD_CREATE_OBJECT, OBJECT_SURFACE, 2, 0},
    {CMD_CREATE_OBJECT, OBJECT_QUERY, 4, 0},
    {CMD_CREATE_OBJECT, OBJECT_STREAMOUT_TARGET, 2, 0},
    {CMD_CREATE_OBJECT, OBJECT_MSAA_SURFACE, 2, 0},
    {CMD_SET_VERTEX_BUFFERS, ANY_OBJECT, 3, 3},
    {CMD_DRAW_VBO, ANY_OBJECT, 15, 5}, /* indirect arguments, their count */
    {CMD_RESOURCE_INLINE_WRITE, ANY_OBJECT, 1, 0},
    {CMD_SET_INDEX_BUFFER, ANY_OBJECT, 1, 0},
    {CMD_BLIT, ANY_OBJECT, 4, 0},
    {CMD_BLIT, ANY_OBJECT, 13, 0},
    {CMD_RESOURCE_COPY_REGION, ANY_OBJECT, 1, 0},
    {CMD_RESOURCE_COPY_REGION, ANY_OBJECT, 6, 0},
    {CMD_SET_UNIFORM_BUFFER, ANY_OBJECT, 5, 0},
    {CMD_SET_SHADER_BUFFERS, ANY_OBJECT, 5, 3},
    {CMD_SET_SHADER_IMAGES, ANY_OBJECT, 7, 5},
    {CMD_LAUNCH_GRID, ANY_OBJECT, 7, 0},
    {CMD_SET_ATOMIC_BUFFERS, ANY_OBJECT, 4, 3},
    {CMD_GET_QUERY_RESULT_QBO, ANY_OBJECT, 2, 0},
    {CMD_TRANSFER3D, ANY_OBJECT, 1, 0},
    {CMD_COPY_TRANSFER3D, ANY_OBJECT, 1, 0},
    {CMD_COPY_TRANSFER3D, ANY_OBJECT, 12, 0},
    {CMD_CLEAR_TEXTURE, ANY_OBJECT, 1, 0},
    {CMD_PIPE_RESOURCE_SET_TYPE, ANY_OBJECT, 1, 0},
    {CMD_GET_MEMORY_INFO, ANY_OBJECT, 1, 0},
    {CMD_GET_PIPE_RESOURCE_LAYOUT, ANY_OBJECT, 1, 0},
    {CMD_GET_PIPE_RESOURCE_LAYOUT, ANY_OBJECT, 2, 0},
};

static void rename_all(uint32_t *p, uint32_t cmd, uint32_t object, uint32_t n_payload,
                       const struct vgd_vtest_stream_ops *ops, void *user)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].cmd != cmd || (names[i].object != ANY_OBJECT && names[i].object != object)) {
            continue;
        }
        for (uint32_t at = names[i].first; at <= n_payload; at += names[i].step) {
            if (p[at] != 0) {
                p[at] = ops->device_id(user, p[at]);
            }
            if (names[i].step == 0) {
                break;
            }
        }
    }
}

/* Both transfers begin alike: resource, level, usage, stride, layer stride, box. */
static struct vgd_vtest_stream_transfer transfer_of(const uint32_t *p)
{
    return (struct vgd_vtest_stream_transfer){
        .res_id = p[1],
        .x = p[6],
        .move = {.level = p[2],
                 .stride_bytes = p[4],
                 .layer_stride_bytes = p[5],
                 .w_px = p[9],
                 .h_px = p[10],
                 .depth = p[11]},
    };
}

static void look(const uint32_t *p, uint32_t cmd, uint32_t object, uint32_t n_payload,
                 const struct vgd_vtest_stream_ops *ops, void *user)
{
    if (cmd == CMD_TRANSFER3D && n_payload >= TRANSFER3D_DWORDS && ops->transfer != NULL) {
        struct vgd_vtest_stream_transfer t = transfer_of(p);
        t.memory_id = t.res_id;
        t.move.offset_bytes = p[12];
        t.to_host = p[13] == 1;
        ops->transfer(user, &t);
    } else if (cmd == CMD_COPY_TRANSFER3D && n_payload == COPY_TRANSFER3D_DWORDS &&
               ops->transfer != NULL) {
        struct vgd_vtest_stream_transfer t = transfer_of(p);
        t.memory_id = p[12];
        t.move.offset_bytes = p[13];
        t.to_host = (p[14] & COPY_FLAG_FROM_HOST) == 0;
        ops->transfer(user, &t);
    } else if (cmd == CMD_CREATE_OBJECT && object == OBJECT_QUERY && n_payload >= 4 &&
               ops->query_made != NULL) {
        ops->query_made(user, p[1], p[4], p[3]);
    } else if (cmd == CMD_DESTROY_OBJECT && object == OBJECT_QUERY && n_payload >= 1 &&
               ops->query_gone != NULL) {
        ops->query_gone(user, p[1]);
    } else if (cmd == CMD_GET_QUERY_RESULT && n_payload >= 1 && ops->query_asked != NULL) {
        ops->query_asked(user, p[1]);
    } else if ((cmd == CMD_GET_MEMORY_INFO || cmd == CMD_GET_PIPE_RESOURCE_LAYOUT) &&
               n_payload >= 1 && ops->host_writes != NULL) {
        ops->host_writes(user, p[1]);
    }
}

/* The commands that name any, as bits: all numbers are below 64. */
static uint64_t naming_commands(void)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bits |= 1ull << names[i].cmd;
    }
    return bits;
}

void vgd_vtest_stream_walk(uint32_t *dwords, uint32_t n_dwords,
                           const struct vgd_vtest_stream_ops *ops, void *user)
{
    uint64_t naming = ops->device_id != NULL ? naming_commands() : 0;
    uint32_t at = 0;
    while (at < n_dwords) {
        uint32_t *p = dwords + at; /* the header; p[1] is the payload's first dword */
        uint32_t n_payload = p[0] >> 16;
        if (n_payload > n_dwords - at - 1) {
            return; /* the device is going to refuse it */
        }
        uint32_t cmd = p[0] & 0xff;
        uint32_t object = p[0] >> 8 & 0xff;
        look(p, cmd, object, n_payload, ops, user);
        if (cmd < 64 && (naming >> cmd & 1) != 0) {
            rename_all(p, cmd, object, n_payload, ops, user);
        }
        at += 1 + n_payload;
    }
}
