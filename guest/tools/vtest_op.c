/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "vtest_priv.h"

uint8_t *vtest_memory_take(struct vtest_client *client, uint64_t n_bytes, bool is_raw,
                           uint64_t *out_gpa)
{
    struct vgd_vtest_bridge *bridge = client->bridge;
    uint64_t left_bytes = vgd_vtest_device_memory_bytes(client->dev) - bridge->device_bytes;
    uint8_t *memory = NULL;
    if (n_bytes <= left_bytes &&
        client->device_bytes + n_bytes <= VGD_VTEST_SHARE * (left_bytes - n_bytes)) {
        memory = is_raw ? vgd_vtest_device_alloc_raw(client->dev, n_bytes, out_gpa)
                        : vgd_vtest_device_alloc(client->dev, n_bytes, out_gpa);
    }
    if (memory == NULL) {
        vtest_client_drop(client, "no device memory is left for it");
        return NULL;
    }
    client->device_bytes += n_bytes;
    bridge->device_bytes += n_bytes;
    return memory;
}

void vtest_memory_give(struct vtest_client *client, uint64_t gpa, uint64_t n_bytes)
{
    vgd_vtest_device_free(client->dev, gpa, n_bytes);
    client->device_bytes -= n_bytes;
    client->bridge->device_bytes -= n_bytes;
}

struct vtest_memory *vtest_memory_new(struct vtest_client *client, uint64_t gpa, uint64_t n_bytes)
{
    struct vtest_memory *memory = malloc(sizeof(*memory));
    if (memory == NULL) {
        vtest_memory_give(client, gpa, n_bytes);
        vtest_client_drop(client, "out of memory");
        return NULL;
    }
    *memory = (struct vtest_memory){.client = client, .refs = 1, .gpa = gpa, .n_bytes = n_bytes};
    client->refs++;
    return memory;
}

struct vtest_memory *vtest_memory_ref(struct vtest_memory *memory)
{
    memory->refs++;
    return memory;
}

void vtest_memory_unref(struct vtest_memory *memory)
{
    if (memory != NULL && --memory->refs == 0) {
        vtest_memory_give(memory->client, memory->gpa, memory->n_bytes);
        vtest_client_unref(memory->client);
        free(memory);
    }
}

struct vtest_op *vtest_op_new(struct vtest_client *client, struct vtest_resource *res)
{
    struct vtest_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        vtest_client_drop(client, "out of memory");
        return NULL;
    }
    op->client = client;
    client->refs++;
    op->res = res;
    if (res != NULL) {
        res->refs++;
    }
    return op;
}

void vtest_op_expect(struct vtest_op *op, struct vtest_resource *res,
                     const struct vgd_vtest_span *span)
{
    if (!vtest_grow((void **)&op->copies, &op->copies_room, op->n_copies + 1,
                    sizeof(*op->copies))) {
        vtest_client_drop(op->client, "out of memory");
        return;
    }
    op->copies[op->n_copies++] = (struct vtest_copy){.res = res, .span = *span};
    res->refs++;
    uint64_t n_bytes = span->row_bytes * span->rows * span->layers;
    op->coming_bytes += n_bytes;
    op->client->coming_bytes += n_bytes;
}

void vtest_op_free(struct vtest_op *op)
{
    struct vtest_client *client = op->client;
    vtest_memory_unref(op->memory);
    client->coming_bytes -= op->coming_bytes;
    for (uint32_t i = 0; i < op->n_copies; i++) {
        vtest_resource_unref(op->copies[i].res);
    }
    for (uint32_t i = 0; i < op->n_signals; i++) {
        vtest_sync_unref(op->signals[i].sync);
    }
    free(op->copies);
    free(op->asked);
    free(op->signals);
    if (op->res != NULL) {
        vtest_resource_unref(op->res);
    }
    free(op);
    vtest_client_unref(client);
}

bool vtest_is_error(const struct vgd_vtest_answer *answer)
{
    return answer->type < VGD_RESP_OK_NODATA || answer->type >= VGD_RESP_ERR_UNSPEC;
}

static void take_copies(struct vtest_op *op)
{
    for (uint32_t i = 0; i < op->n_copies; i++) {
        struct vtest_resource *res = op->copies[i].res;
        vgd_vtest_span_copy(&op->copies[i].span, res->shared, res->backing);
    }
}

/* Queries beyond the limit push the oldest out: nobody has that many outstanding. */
static void note_asked(struct vtest_op *op)
{
    struct vtest_client *client = op->client;
    uint32_t n = op->n_asked;
    const struct vtest_asked *asked = op->asked;
    if (n > VGD_VTEST_ASKED_MAX) {
        asked += n - VGD_VTEST_ASKED_MAX;
        n = VGD_VTEST_ASKED_MAX;
    }
    if (n == 0 || !vtest_grow((void **)&client->asked, &client->asked_room, VGD_VTEST_ASKED_MAX,
                              sizeof(*client->asked))) {
        return;
    }
    uint32_t kept = client->n_asked;
    if (kept > VGD_VTEST_ASKED_MAX - n) {
        kept = VGD_VTEST_ASKED_MAX - n;
        memmove(client->asked, client->asked + (client->n_asked - kept),
                kept * sizeof(*client->asked));
    }
    memcpy(client->asked + kept, asked, n * sizeof(*asked));
    client->n_asked = kept + n;
    vtest_expect_results(client->bridge);
}

static void op_done(void *user, const struct vgd_vtest_answer *answer)
{
    struct vtest_op *op = user;
    struct vtest_client *client = op->client;
    client->n_in_flight--;
    client->n_busy -= op->is_busy;
    if (client->last_busy == op->sent) {
        client->last_busy = 0;
    }
    if (!client->is_gone) {
        if (!vtest_is_error(answer)) {
            take_copies(op);
            note_asked(op);
        }
        for (uint32_t i = 0; i < op->n_signals; i++) {
            vtest_sync_signal(client, op->signals[i].sync, op->signals[i].value);
        }
    }
    if (op->then != NULL) {
        op->then(op, answer);
    }
    client->refs++;
    vtest_op_free(op);
    vtest_client_progress(client);
    vtest_client_unref(client);
}

void vtest_op_send(struct vtest_op *op, struct vgd_ctrl_hdr hdr, const void *body,
                   uint32_t body_bytes, uint64_t data_gpa, uint32_t data_bytes, uint32_t resp_bytes)
{
    op->client->n_in_flight++;
    op->client->n_busy += op->is_busy;
    struct vgd_vtest_send send = {
        .hdr = hdr,
        .body = body,
        .body_bytes = body_bytes,
        .data_gpa = data_gpa,
        .data_bytes = data_bytes,
        .resp_bytes = resp_bytes,
        .done = op_done,
        .user = op,
    };
    struct vtest_client *client = op->client;
    op->sent = vgd_vtest_device_send(client->dev, &send);
    if (op->is_busy) {
        client->last_busy = op->sent;
    }
    if (op->is_awaited) {
        vgd_vtest_device_await(client->dev, op->sent, client->is_stalled);
    }
}

static void then_drop(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    const char *why = (const char *)(uintptr_t)op->number;
    if (why != NULL && vtest_is_error(answer)) {
        vtest_client_drop(op->client, why);
    }
}

void vtest_send_simple(struct vtest_client *client, struct vtest_resource *res, uint32_t type,
                       const void *body, uint32_t body_bytes, const char *why)
{
    struct vtest_op *op = vtest_op_new(client, res);
    if (op == NULL) {
        return;
    }
    op->then = then_drop;
    op->number = (uintptr_t)why;
    vtest_op_send(op, (struct vgd_ctrl_hdr){.type = type, .ctx_id = client->ctx_id}, body,
                  body_bytes, 0, 0, 0);
}
