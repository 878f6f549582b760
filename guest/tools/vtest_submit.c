/* SPDX-License-Identifier: MIT */
/* Command streams: what they move between the client's memory and the device's, the queries in
 * them, and fences behind them. */
#include <stdlib.h>
#include <string.h>

#include "vtest_priv.h"
#include "vtest_stream.h"

#define WITH_IDS_OF_OURS 3u
#define WITH_SYNCOBJS 4u
#define HOST_WRITES_MAX_BYTES 4096u /* of what the host writes by itself */

/* A query's result in memory: state, size of the result, the result. */
#define QUERY_BYTES 16u
#define QUERY_STATE_DONE 1u

struct walk {
    struct vtest_client *client;
    struct vtest_op *op;
};

static uint32_t on_device_id(void *user, uint32_t res_id)
{
    const struct walk *walk = user;
    const struct vtest_resource *res = vtest_resource_use(walk->client, res_id);
    if (res == NULL) {
        return walk->client->version < WITH_IDS_OF_OURS ? 0 : res_id;
    }
    return res->dev_id;
}

static void on_transfer(void *user, const struct vgd_vtest_stream_transfer *transfer)
{
    struct walk *walk = user;
    const struct vtest_resource *pixels = vtest_resource_use(walk->client, transfer->res_id);
    struct vtest_resource *res = vtest_resource_use(walk->client, transfer->memory_id);
    struct vgd_vtest_span span;
    if (walk->client->is_gone || pixels == NULL || res == NULL || res->shared == NULL ||
        !vtest_resource_back(res) ||
        !vgd_vtest_span_of(&pixels->picture, &transfer->move, res->shared_bytes, &span) ||
        !vtest_client_may_copy(walk->client, &span)) {
        return; /* the device is going to say what it thinks of it */
    }
    if (transfer->to_host) {
        vtest_resource_to_device(res, &span);
    } else {
        vtest_op_expect(walk->op, res, &span);
    }
}

static void on_host_writes(void *user, uint32_t res_id)
{
    const struct walk *walk = user;
    struct vtest_resource *res = vtest_resource_use(walk->client, res_id);
    if (walk->client->is_gone || res == NULL || res->shared == NULL || !vtest_resource_back(res)) {
        return;
    }
    uint64_t n =
        res->shared_bytes < HOST_WRITES_MAX_BYTES ? res->shared_bytes : HOST_WRITES_MAX_BYTES;
    struct vgd_vtest_span span = {.row_bytes = n, .rows = 1, .layers = 1};
    if (vtest_client_may_copy(walk->client, &span)) {
        vtest_resource_to_device(res, &span);
        vtest_op_expect(walk->op, res, &span);
    }
}

static void on_query_gone(void *user, uint32_t handle)
{
    const struct walk *walk = user;
    free(vgd_idmap_remove(&walk->client->queries, handle));
}

static void on_query_made(void *user, uint32_t handle, uint32_t res_id, uint32_t offset_bytes)
{
    const struct walk *walk = user;
    struct vtest_client *client = walk->client;
    if (client->is_gone) {
        return; /* nobody would free it */
    }
    on_query_gone(user, handle);
    struct vtest_query *query = calloc(1, sizeof(*query));
    if (query == NULL || client->queries.used_count >= VGD_VTEST_QUERIES_MAX ||
        vgd_idmap_add(&client->queries, handle, query) != VGD_OK) {
        free(query);
        vtest_client_drop(client, "it has too many queries");
        return;
    }
    *query = (struct vtest_query){.res_id = res_id, .offset_bytes = offset_bytes};
    /* The device takes the memory of a query when it is made. */
    struct vtest_resource *res = vtest_resource_use(client, res_id);
    if (res != NULL && res->shared != NULL) {
        (void)vtest_resource_back(res);
    }
}

/* Where the result is, in the client's memory and the device's; false: nowhere. */
static bool find_result(struct vtest_client *client, uint32_t res_id, uint32_t offset_bytes,
                        uint8_t **out_shared, uint8_t **out_backing)
{
    struct vtest_resource *res = vtest_resource_use(client, res_id);
    if (res == NULL || res->shared == NULL || !vtest_resource_back(res) ||
        res->shared_bytes < QUERY_BYTES || offset_bytes > res->shared_bytes - QUERY_BYTES ||
        offset_bytes % 4 != 0) {
        return false;
    }
    *out_shared = res->shared + offset_bytes;
    *out_backing = res->backing + offset_bytes;
    return true;
}

static void on_query_asked(void *user, uint32_t handle)
{
    const struct walk *walk = user;
    struct vtest_op *op = walk->op;
    const struct vtest_query *query = vgd_idmap_find(&walk->client->queries, handle);
    uint8_t *shared;
    uint8_t *backing;
    if (walk->client->is_gone || query == NULL ||
        !find_result(walk->client, query->res_id, query->offset_bytes, &shared, &backing)) {
        return;
    }
    vtest_client_spend(walk->client, QUERY_BYTES);
    memcpy(backing, shared, QUERY_BYTES); /* not the state of its last result */
    if (vtest_grow((void **)&op->asked, &op->asked_room, op->n_asked + 1, sizeof(*op->asked))) {
        op->asked[op->n_asked++] =
            (struct vtest_asked){.res_id = query->res_id, .offset_bytes = query->offset_bytes};
    }
}

void vtest_look_at_queries(struct vtest_client *client)
{
    uint32_t n_left = 0;
    vtest_client_spend(client, (uint64_t)client->n_asked * QUERY_BYTES);
    for (uint32_t i = 0; i < client->n_asked; i++) {
        struct vtest_asked asked = client->asked[i];
        uint8_t *shared;
        uint8_t *backing;
        if (!find_result(client, asked.res_id, asked.offset_bytes, &shared, &backing)) {
            continue;
        }
        uint32_t state = __atomic_load_n((uint32_t *)(void *)backing, __ATOMIC_ACQUIRE);
        if (state != QUERY_STATE_DONE) {
            client->asked[n_left++] = asked;
            continue;
        }
        /* The state last: the client may be looking at it. */
        memcpy(shared + 4, backing + 4, QUERY_BYTES - 4);
        __atomic_store_n((uint32_t *)(void *)shared, state, __ATOMIC_RELEASE);
    }
    client->n_asked = n_left;
}

void vtest_forget_queries(struct vtest_client *client)
{
    void *query;
    uint32_t cursor = 0;
    while ((query = vgd_idmap_next(&client->queries, &cursor, NULL)) != NULL) {
        free(query);
    }
    vgd_idmap_finish(&client->queries);
    client->queries = (struct vgd_idmap){0};
    client->n_asked = 0;
}

static void walk_stream(struct vtest_client *client, struct vtest_op *op, uint8_t *stream,
                        uint32_t n_dwords)
{
    struct vgd_vtest_stream_ops ops = {
        .device_id = client->version < WITH_IDS_OF_OURS || client->n_late > 0 ? on_device_id : NULL,
        .transfer = on_transfer,
        .query_made = on_query_made,
        .query_gone = on_query_gone,
        .query_asked = on_query_asked,
        .host_writes = on_host_writes,
    };
    struct walk walk = {.client = client, .op = op};
    vgd_vtest_stream_walk((uint32_t *)(void *)stream, n_dwords, &ops, &walk);
}

static void then_check(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    if (vtest_is_error(answer)) {
        vtest_client_drop(op->client, "the device refuses a command stream");
    }
}

/* SUBMIT_3D of @n_bytes at @gpa; @op knows the rest. @ring_idx < 0: without a fence. */
static void send_stream(struct vtest_op *op, uint64_t gpa, uint32_t n_bytes, int ring_idx)
{
    uint8_t body[VGD_CMD_SUBMIT_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_submit_3d_encode(&w, &(struct vgd_cmd_submit_3d){.size_bytes = n_bytes});
    struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_SUBMIT_3D, .ctx_id = op->client->ctx_id};
    if (ring_idx >= 0) {
        hdr.flags = VGD_FLAG_FENCE;
        if (vgd_vtest_device_has_context_init(op->client->dev)) {
            hdr.flags |= VGD_FLAG_INFO_RING_IDX;
            hdr.ring_idx = (uint8_t)ring_idx;
        }
    }
    op->then = then_check;
    op->is_busy = true;
    vtest_op_send(op, hdr, body, sizeof(body), gpa, n_bytes, 0);
}

void vtest_submit(struct vtest_client *client, uint8_t *bytes, uint64_t gpa, uint32_t n_bytes)
{
    struct vtest_op *op = vtest_op_new(client, NULL);
    if (op == NULL) {
        vtest_memory_give(client, gpa, n_bytes);
        return;
    }
    op->memory = vtest_memory_new(client, gpa, n_bytes);
    if (vtest_is_virgl(client)) {
        walk_stream(client, op, bytes, n_bytes / 4);
    }
    if (client->is_gone) {
        vtest_op_free(op);
        return;
    }
    /* With a fence at once: the client asks for one soon, and a renderer that puts work off until
     * then loses the time in between. */
    client->is_unfenced = false;
    send_stream(op, gpa, n_bytes, 0);
}

void vtest_fence(struct vtest_client *client)
{
    struct vtest_op *op = vtest_op_new(client, NULL);
    if (op != NULL) {
        client->is_unfenced = false;
        send_stream(op, 0, 0, 0);
    }
}

/* A batch's syncs, to be signalled by @op. False: the client was dropped. */
static bool take_signals(struct vtest_op *op, const uint8_t *at, uint32_t n)
{
    if (n == 0) {
        return true;
    }
    op->signals = calloc(n, sizeof(*op->signals));
    if (op->signals == NULL) {
        vtest_client_drop(op->client, "out of memory");
        return false;
    }
    struct vgd_reader r = vgd_reader_of(at, (size_t)n * VGD_VTEST_SYNC_VALUE_SIZE);
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_vtest_sync_value value = {0};
        struct vtest_sync *sync = NULL;
        if (vgd_vtest_sync_value_decode(&r, &value) == VGD_OK) {
            sync = vtest_sync_find(op->client, value.sync_id);
        }
        if (sync == NULL) {
            vtest_client_drop(op->client, "it named a sync that it does not have");
            return false;
        }
        sync->refs++;
        op->signals[op->n_signals++] = (struct vtest_signal){.sync = sync, .value = value.value};
    }
    return true;
}

/* A SUBMIT_CMD2. */
struct request {
    uint8_t *bytes;
    struct vtest_memory *memory;
    uint32_t n_dwords;
    /* What its batches may still name. Each has its own, so together they name no more than there
     * is; or a few bytes would make work without end. */
    uint64_t cmds_left, syncs_left;
};

static bool take_range(uint32_t offset, uint64_t n, uint32_t n_dwords, uint64_t *left)
{
    if (offset > n_dwords || n > n_dwords - offset || n > *left) {
        return false;
    }
    *left -= n;
    return true;
}

/* False: the client was dropped. */
static bool submit_batch(struct vtest_client *client, const struct vgd_vtest_batch *batch,
                         struct request *req)
{
    uint8_t *bytes = req->bytes;
    struct vtest_memory *memory = req->memory;
    if (!take_range(batch->cmd_offset, batch->cmd_size, req->n_dwords, &req->cmds_left) ||
        !take_range(batch->sync_offset, (uint64_t)batch->sync_count * 3, req->n_dwords,
                    &req->syncs_left) ||
        batch->ring_idx >= VGD_VTEST_TIMELINES) {
        vtest_client_drop(client, "a batch reaches outside its request");
        return false;
    }
    bool wants_device =
        (batch->flags & (VGD_VTEST_BATCH_FLAG_IN_FENCE_FD | VGD_VTEST_BATCH_FLAG_OUT_FENCE_FD)) !=
        0;
    if (client->version >= WITH_SYNCOBJS &&
        (wants_device || batch->in_syncobj_count != 0 || batch->out_syncobj_count != 0)) {
        vtest_client_drop(client, "there is no DRM device for its fences");
        return false;
    }
    struct vtest_op *op = vtest_op_new(client, NULL);
    if (op == NULL) {
        return false;
    }
    op->memory = vtest_memory_ref(memory);
    uint8_t *stream = bytes + (size_t)batch->cmd_offset * 4;
    if (vtest_is_virgl(client)) {
        walk_stream(client, op, stream, batch->cmd_size);
    }
    if (client->is_gone ||
        !take_signals(op, bytes + (size_t)batch->sync_offset * 4, batch->sync_count)) {
        vtest_op_free(op);
        return false;
    }
    bool has_ring = (batch->flags & VGD_VTEST_BATCH_FLAG_RING_IDX) != 0;
    if (!has_ring) {
        for (uint32_t i = 0; i < op->n_signals; i++) {
            vtest_sync_signal(client, op->signals[i].sync, op->signals[i].value);
        }
    }
    if (batch->cmd_size == 0 && (!has_ring || batch->sync_count == 0)) {
        vtest_op_free(op); /* nothing to do */
        return true;
    }
    bool is_fenced = has_ring && batch->sync_count > 0;
    client->is_unfenced = client->is_unfenced || !is_fenced;
    op->is_awaited = is_fenced;
    send_stream(op, memory->gpa + (uint64_t)batch->cmd_offset * 4, batch->cmd_size * 4,
                is_fenced ? (int)batch->ring_idx : -1);
    return true;
}

void vtest_submit2(struct vtest_client *client, uint8_t *bytes, uint64_t gpa, uint32_t n_bytes)
{
    uint32_t n_dwords = n_bytes / 4;
    struct vgd_reader r = vgd_reader_of(bytes, n_bytes);
    struct vgd_vtest_submit_cmd2 cmd = {0};
    bool is_whole = vgd_vtest_submit_cmd2_decode(&r, &cmd) == VGD_OK &&
                    cmd.batch_count <= VGD_VTEST_BATCHES_MAX;
    /* A client of version 3 may send a last batch that lacks what version 4 added. */
    bool fits =
        is_whole && (cmd.batch_count == 0 || (uint64_t)cmd.batch_count * 8 + 1 - 2 <= n_dwords);
    if (!fits) {
        vtest_memory_give(client, gpa, n_bytes);
        vtest_client_drop(client, "SUBMIT_CMD2 has the wrong length");
        return;
    }
    struct request req = {
        .bytes = bytes,
        .memory = vtest_memory_new(client, gpa, n_bytes),
        .n_dwords = n_dwords,
        .cmds_left = n_dwords,
        .syncs_left = n_dwords < 3 * VGD_VTEST_SIGNALS_MAX ? n_dwords : 3 * VGD_VTEST_SIGNALS_MAX,
    };
    client->refs++;
    for (uint32_t i = 0; i < cmd.batch_count && req.memory != NULL; i++) {
        uint8_t fields[VGD_VTEST_BATCH_SIZE] = {0};
        size_t left = vgd_reader_left(&r);
        vgd_read_bytes(&r, fields, left < sizeof(fields) ? left : sizeof(fields));
        struct vgd_reader batch_r = vgd_reader_of(fields, sizeof(fields));
        struct vgd_vtest_batch batch = {0};
        if (vgd_vtest_batch_decode(&batch_r, &batch) != VGD_OK ||
            !submit_batch(client, &batch, &req)) {
            break;
        }
    }
    vtest_memory_unref(req.memory);
    vtest_client_unref(client);
}
