/* SPDX-License-Identifier: MIT */
/* Blobs: the device makes them, the host-visible region brings their file here, and the client gets
 * that file. It is mapped only as long as that takes, so the region cannot fill up. */
#include <fcntl.h>

#include "fd.h"
#include "vtest_priv.h"

#define PAGE_BYTES 4096u

void vtest_range_release(struct vtest_resource *res, bool is_free)
{
    if (res->window_bytes == 0) {
        return;
    }
    struct vtest_client *client = res->client;
    if (is_free) {
        vgd_vtest_device_window_free(client->dev, res->window_offset, res->window_bytes);
    }
    res->window_bytes = 0;
    client->bridge->n_ranges--;
    if (client->bridge->n_range_waiters > 0) {
        vgd_timer_start(client->bridge->turn_timer, 0);
    }
}

static void then_free_range(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    /* A range that the device did not give back stays taken: something may be mapped there. */
    vtest_range_release(op->res, !vtest_is_error(answer));
}

static void unmap(struct vtest_resource *res)
{
    struct vtest_op *op = vtest_op_new(res->client, res);
    if (op == NULL) {
        return;
    }
    op->then = then_free_range;
    uint8_t body[VGD_CMD_RESOURCE_UNMAP_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_unmap_blob cmd = {.resource_id = res->dev_id};
    vgd_cmd_resource_unmap_blob_encode(&w, &cmd);
    struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_RESOURCE_UNMAP_BLOB};
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
}

static void then_hand_over(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    struct vtest_client *client = op->client;
    struct vtest_resource *res = op->res;
    VGD_AUTO_FD file = -1;
    if (vtest_is_error(answer)) {
        /* Nothing was mapped, or it is not known: then the device keeps the range to itself. */
        vtest_range_release(res, true);
    } else {
        file = vgd_vtest_device_window_file(client->dev, res->window_offset);
    }
    if (!client->is_gone && file < 0) {
        vtest_client_drop(client, "the device cannot share a blob");
    }
    if (client->is_gone) {
        return; /* the UNREF that was sent ends the mapping; the range is free when it is answered
                 */
    }
    unmap(res);
    if (res->is_shareable) { /* RESOURCE_EXPORT_FD may come */
        res->file = fcntl(file, F_DUPFD_CLOEXEC, 0);
        client->n_exports += res->file >= 0;
    }
    vtest_client_reply(client, VGD_VTEST_RESOURCE_CREATE_BLOB, &res->id, sizeof(res->id), &file);
    vtest_client_go(client);
}

void vtest_range_forget(struct vtest_client *client)
{
    client->bridge->n_range_waiters -= client->wants_range != NULL;
    client->wants_range = NULL;
}

void vtest_range_take(struct vtest_client *client)
{
    struct vtest_resource *res = client->wants_range;
    if (res == NULL) {
        return;
    }
    res->window_offset = vgd_vtest_device_window_alloc(client->dev, res->blob_bytes);
    if (res->window_offset == UINT64_MAX) {
        if (client->bridge->n_ranges == 0) { /* nobody is going to give one back */
            vtest_client_drop(client, "there is no room for a blob in the host-visible region");
        }
        return;
    }
    vtest_range_forget(client);
    res->window_bytes = res->blob_bytes;
    client->bridge->n_ranges++;
    struct vtest_op *op = vtest_op_new(client, res);
    if (op == NULL) {
        return;
    }
    op->then = then_hand_over;
    op->is_awaited = true;
    uint8_t body[VGD_CMD_RESOURCE_MAP_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_map_blob cmd = {.resource_id = res->dev_id,
                                            .offset_bytes = res->window_offset};
    vgd_cmd_resource_map_blob_encode(&w, &cmd);
    struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_RESOURCE_MAP_BLOB};
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, VGD_RESP_MAP_INFO_SIZE);
}

/* Bring the file of @res here and answer the client then. Others may have to give a range back
 * first: the region is not so large that each client could have the largest of blobs at once. */
static void map(struct vtest_resource *res)
{
    struct vtest_client *client = res->client;
    vtest_client_stall(client);
    client->wants_range = res;
    client->bridge->n_range_waiters++;
    vtest_range_take(client);
}

void vtest_resource_create_blob(struct vtest_client *client,
                                const struct vgd_vtest_resource_create_blob *blob)
{
    if (blob->type != VGD_VTEST_BLOB_TYPE_HOST3D) {
        /* The client's file would have to be guest memory. No Mesa driver asks for one. */
        vtest_client_drop(client, "blobs in guest memory are not served here");
        return;
    }
    if (blob->size_bytes == 0 || blob->size_bytes > VGD_VTEST_BLOB_MAX) {
        vtest_client_drop(client, "a blob has no sensible size");
        return;
    }
    if ((blob->flags & VGD_VTEST_BLOB_FLAG_SHAREABLE) != 0 &&
        client->n_exports >= VGD_VTEST_EXPORTS_MAX) {
        vtest_client_drop(client, "it has too many shareable blobs");
        return;
    }
    struct vtest_resource *res = vtest_resource_new(client, 0);
    if (res == NULL) {
        return;
    }
    bool is_mappable = (blob->flags & VGD_VTEST_BLOB_FLAG_MAPPABLE) != 0;
    res->is_blob = true;
    res->is_shareable = (blob->flags & VGD_VTEST_BLOB_FLAG_SHAREABLE) != 0;
    res->blob_bytes = (blob->size_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    uint8_t body[VGD_CMD_RESOURCE_CREATE_BLOB_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_create_blob cmd = {
        .resource_id = res->dev_id,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = blob->flags,
        .blob_id = blob->blob_id,
        .size_bytes = res->blob_bytes,
    };
    vgd_cmd_resource_create_blob_encode(&w, &cmd);
    vtest_send_simple(client, res, VGD_CMD_RESOURCE_CREATE_BLOB, body, sizeof(body),
                      "the device refuses a blob");
    vtest_resource_attach_to_context(res);
    if (client->is_gone) {
        return;
    }
    if (is_mappable) {
        map(res);
        return;
    }
    /* Nobody maps this one, but the client wants a descriptor: an empty file. */
    VGD_AUTO_FD nothing = vgd_memfd_create("vtest-nothing", 0);
    if (nothing < 0) {
        vtest_client_drop(client, "no descriptors are left");
        return;
    }
    vtest_client_reply(client, VGD_VTEST_RESOURCE_CREATE_BLOB, &res->id, sizeof(res->id), &nothing);
}

void vtest_resource_export(struct vtest_client *client, uint32_t id)
{
    const struct vtest_resource *res = vtest_resource_find(client, id);
    VGD_AUTO_FD file = res == NULL || res->file < 0 ? -1 : fcntl(res->file, F_DUPFD_CLOEXEC, 0);
    if (file < 0) {
        vtest_client_drop(client, "it wants the file of something that has none");
        return;
    }
    vtest_client_reply(client, VGD_VTEST_RESOURCE_EXPORT_FD, NULL, 0, &file);
}
