/* SPDX-License-Identifier: MIT */
/* Resources, their memory, and transfers between the two. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fd.h"
#include "vtest_priv.h"

#define WITH_IDS_OF_OURS 3u /* from this version on the server chooses the numbers */

/* Of virglrenderer's interface. */
#define TARGET_BUFFER 0u
#define BIND_CUSTOM (1u << 17)

#define FENCE_BYTES 8u

struct vtest_resource *vtest_resource_find(struct vtest_client *client, uint32_t id)
{
    return vgd_idmap_find(&client->resources, id);
}

/* One more or less that the device knows, or is going to. */
static void count(struct vtest_client *client, bool is_more)
{
    uint32_t step = is_more ? 1 : UINT32_MAX;
    client->n_resources += step;
    client->bridge->n_resources += step;
}

void vtest_resource_unref(struct vtest_resource *res)
{
    if (--res->refs > 0) {
        return;
    }
    struct vgd_vtest_device *dev = res->client->dev;
    if (res->shared != NULL) {
        (void)munmap(res->shared, res->shared_bytes);
    }
    if (res->backing != NULL) {
        vtest_memory_give(res->client, res->backing_gpa, res->shared_bytes);
    }
    vtest_range_release(res, true);
    vgd_vtest_device_give_resource_id(dev, res->dev_id);
    if (!res->is_late) {
        count(res->client, false);
    }
    res->client->n_exports -= res->file >= 0;
    vgd_fd_closep(&res->file);
    vtest_client_unref(res->client);
    free(res);
}

/* May the device be told of another one? If not, the client was dropped. */
static bool may_have_more(struct vtest_client *client)
{
    uint32_t n_left = VGD_VTEST_RESOURCES_ALL - client->bridge->n_resources;
    if (client->n_resources >= VGD_VTEST_RESOURCES_MAX ||
        client->n_resources >= VGD_VTEST_SHARE * n_left) {
        vtest_client_drop(client, "it has too many resources");
        return false;
    }
    return true;
}

struct vtest_resource *vtest_resource_new(struct vtest_client *client, uint32_t id)
{
    if (!may_have_more(client)) {
        return NULL;
    }
    struct vtest_resource *res = calloc(1, sizeof(*res));
    uint32_t dev_id = res == NULL ? 0 : vgd_vtest_device_take_resource_id(client->dev);
    if (dev_id == 0) {
        free(res);
        vtest_client_drop(client, "there are too many resources");
        return NULL;
    }
    *res = (struct vtest_resource){
        .client = client, .id = id == 0 ? dev_id : id, .dev_id = dev_id, .refs = 1, .file = -1};
    client->refs++;
    count(client, true);
    if (vgd_idmap_add(&client->resources, res->id, res) != VGD_OK) {
        vtest_client_drop(client, "it used the number of a resource twice");
        vtest_resource_unref(res);
        return NULL;
    }
    return res;
}

void vtest_resource_release(struct vtest_resource *res)
{
    struct vtest_client *client = res->client;
    if (!client->is_gone) {
        (void)vgd_idmap_remove(&client->resources, res->id);
    }
    client->memory_bytes -= res->shared_bytes;
    if (res->is_late) {
        client->n_late--;
        vtest_resource_unref(res);
        return;
    }
    uint8_t body[VGD_CMD_RESOURCE_UNREF_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_unref cmd = {.resource_id = res->dev_id};
    vgd_cmd_resource_unref_encode(&w, &cmd);
    /* The command keeps the number and the memory until the device has let go of them. */
    vtest_send_simple(client, res, VGD_CMD_RESOURCE_UNREF, body, sizeof(body), NULL);
    vtest_resource_unref(res);
}

/* Shared memory of @n_bytes. *out_fd is the client's end. False: the client was dropped. */
static bool share(struct vtest_resource *res, uint32_t n_bytes, int *out_fd)
{
    struct vtest_client *client = res->client;
    if (n_bytes > VGD_VTEST_MEMORY_MAX - client->memory_bytes) {
        vtest_client_drop(client, "it has too much shared memory");
        return false;
    }
    VGD_AUTO_FD fd = vgd_memfd_create("vtest", n_bytes);
    void *map =
        fd < 0 ? MAP_FAILED : mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        vtest_client_drop(client, "no shared memory is left");
        return false;
    }
    res->shared = map;
    res->shared_bytes = n_bytes;
    client->memory_bytes += n_bytes;
    *out_fd = vgd_fd_take(&fd);
    return true;
}

void vtest_resource_attach_to_context(struct vtest_resource *res)
{
    uint8_t body[VGD_CMD_CTX_RESOURCE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_cmd_ctx_resource_encode(&w, &(struct vgd_cmd_ctx_resource){.resource_id = res->dev_id});
    vtest_send_simple(res->client, NULL, VGD_CMD_CTX_ATTACH_RESOURCE, body, sizeof(body), NULL);
}

static void send_create(struct vtest_resource *res, const struct vgd_vtest_texture *texture)
{
    uint8_t body[VGD_CMD_RESOURCE_CREATE_3D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_create_3d create = {
        .resource_id = res->dev_id,
        .target = texture->target,
        .format = texture->format,
        .bind = texture->bind,
        .width = texture->w_px,
        .height = texture->h_px,
        .depth = texture->depth,
        .array_size = texture->array_size,
        .last_level = texture->last_level,
        .nr_samples = texture->nr_samples,
    };
    vgd_cmd_resource_create_3d_encode(&w, &create);
    vtest_send_simple(res->client, res, VGD_CMD_RESOURCE_CREATE_3D, body, sizeof(body),
                      "the device refuses a resource");
    vtest_resource_attach_to_context(res);
}

/* Mesa makes such a buffer for each of its fences and asks whether it is busy, nothing else: some
 * 10,000 in a second, each kept for a second. So the device is told of one when something is done
 * with it, which does not happen, and all of a client have the same memory. */
static bool is_fence(const struct vgd_vtest_texture *texture, uint32_t data_bytes)
{
    return texture->target == TARGET_BUFFER && texture->bind == BIND_CUSTOM &&
           texture->w_px == FENCE_BYTES && texture->h_px == 1 && texture->depth == 1 &&
           texture->array_size == 0 && texture->last_level == 0 && texture->nr_samples == 0 &&
           data_bytes == FENCE_BYTES;
}

/* False: the client was dropped. */
static bool share_fence(struct vtest_resource *res, int *out_fd)
{
    struct vtest_client *client = res->client;
    if (client->n_late >= VGD_VTEST_FENCES_MAX) {
        vtest_client_drop(client, "it has too many fences");
        return false;
    }
    if (client->fence_file < 0) {
        client->fence_file = vgd_memfd_create("vtest-fences", FENCE_BYTES);
    }
    *out_fd = client->fence_file < 0 ? -1 : fcntl(client->fence_file, F_DUPFD_CLOEXEC, 0);
    if (*out_fd < 0) {
        vtest_client_drop(client, "no descriptors are left");
        return false;
    }
    res->is_late = true;
    client->n_late++;
    count(client, false);
    return true;
}

static void tell(struct vtest_resource *res)
{
    struct vtest_client *client = res->client;
    if (!may_have_more(client)) {
        return;
    }
    void *map = mmap(NULL, FENCE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, client->fence_file, 0);
    if (map == MAP_FAILED) {
        vtest_client_drop(client, "no shared memory is left");
        return;
    }
    res->is_late = false;
    client->n_late--;
    count(client, true);
    res->shared = map;
    res->shared_bytes = FENCE_BYTES;
    client->memory_bytes += FENCE_BYTES;
    struct vgd_vtest_texture texture = {.target = TARGET_BUFFER,
                                        .format = res->picture.format,
                                        .bind = BIND_CUSTOM,
                                        .w_px = FENCE_BYTES,
                                        .h_px = 1,
                                        .depth = 1};
    send_create(res, &texture);
}

struct vtest_resource *vtest_resource_use(struct vtest_client *client, uint32_t id)
{
    struct vtest_resource *res = vtest_resource_find(client, id);
    if (res != NULL && res->is_late) {
        tell(res);
        return client->is_gone ? NULL : res;
    }
    return res;
}

void vtest_resource_create(struct vtest_client *client, uint32_t cmd,
                           const struct vgd_vtest_texture *texture, uint32_t data_bytes)
{
    bool ids_of_ours = client->version >= WITH_IDS_OF_OURS;
    if (ids_of_ours == (texture->res_id != 0)) {
        vtest_client_drop(client, "it has the wrong idea who numbers resources");
        return;
    }
    struct vtest_resource *res = vtest_resource_new(client, texture->res_id);
    if (res == NULL) {
        return;
    }
    res->picture = (struct vgd_vtest_picture){.target = texture->target,
                                              .format = texture->format,
                                              .w_px = texture->w_px,
                                              .h_px = texture->h_px};
    VGD_AUTO_FD fd = -1;
    if (is_fence(texture, data_bytes)) {
        if (!share_fence(res, &fd)) {
            return;
        }
    } else {
        send_create(res, texture);
        if (client->is_gone || (data_bytes > 0 && !share(res, data_bytes, &fd))) {
            return;
        }
    }
    /* The reply does not wait for the device: should it refuse, the client is dropped then. */
    if (ids_of_ours) {
        vtest_client_reply(client, cmd, &res->id, sizeof(res->id), data_bytes > 0 ? &fd : NULL);
    } else if (data_bytes > 0) {
        vtest_client_send(client, NULL, 0, &fd);
    }
}

bool vtest_resource_back(struct vtest_resource *res)
{
    struct vtest_client *client = res->client;
    if (res->backing != NULL) {
        return true;
    }
    if (res->shared == NULL) {
        return false;
    }
    res->backing = vtest_memory_take(client, res->shared_bytes, false, &res->backing_gpa);
    if (res->backing == NULL) {
        return false;
    }
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE + VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res->dev_id, .nr_entries = 1};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    struct vgd_mem_entry entry = {.addr = res->backing_gpa,
                                  .len_bytes = (uint32_t)res->shared_bytes};
    vgd_mem_entry_encode(&w, &entry);
    vtest_send_simple(client, res, VGD_CMD_RESOURCE_ATTACH_BACKING, body, sizeof(body),
                      "the device refuses memory for a resource");
    return !client->is_gone;
}

void vtest_resource_to_device(struct vtest_resource *res, const struct vgd_vtest_span *span)
{
    vgd_vtest_span_copy(span, res->backing, res->shared);
}

static void encode_transfer(uint8_t body[VGD_CMD_TRANSFER_HOST_3D_SIZE], uint32_t dev_id,
                            const struct vgd_vtest_texture_box *box,
                            const struct vgd_vtest_move *move)
{
    struct vgd_writer w = vgd_writer_of(body, VGD_CMD_TRANSFER_HOST_3D_SIZE);
    struct vgd_cmd_transfer_host_3d cmd = {
        .box = {.x = box->x_px,
                .y = box->y_px,
                .z = box->z,
                .w = box->w_px,
                .h = box->h_px,
                .d = box->depth},
        .offset_bytes = move->offset_bytes,
        .resource_id = dev_id,
        .level = move->level,
        .stride_bytes = move->stride_bytes,
        .layer_stride_bytes = move->layer_stride_bytes,
    };
    vgd_cmd_transfer_host_3d_encode(&w, &cmd);
}

/* A fence that the client will ask for with RESOURCE_BUSY_WAIT can ride on this command. */
static struct vgd_ctrl_hdr header_of(struct vtest_client *client, uint32_t type, bool fenced)
{
    struct vgd_ctrl_hdr hdr = {.type = type, .ctx_id = client->ctx_id};
    if (fenced) {
        hdr.flags = VGD_FLAG_FENCE;
        client->is_unfenced = false;
        if (vgd_vtest_device_has_context_init(client->dev)) {
            hdr.flags |= VGD_FLAG_INFO_RING_IDX;
        }
    }
    return hdr;
}

static void then_log(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    struct vtest_client *client = op->client;
    if (vtest_is_error(answer) && !client->is_gone) {
        vgd_log_guest(&client->log_limit, "client", "%u (%s): a transfer failed: %s",
                      client->number, client->name, vgd_resp_name(answer->type));
    }
}

void vtest_transfer(struct vtest_client *client, const struct vgd_vtest_transfer2 *transfer,
                    bool to_host)
{
    struct vtest_resource *res = vtest_resource_use(client, transfer->res_id);
    if (res == NULL || res->shared == NULL) {
        vtest_client_drop(client, "a transfer of a resource that it does not share");
        return;
    }
    struct vgd_vtest_move move = {.level = transfer->level,
                                  .w_px = transfer->box.w_px,
                                  .h_px = transfer->box.h_px,
                                  .depth = transfer->box.depth,
                                  .offset_bytes = transfer->offset_bytes};
    struct vgd_vtest_span span;
    bool fits = vgd_vtest_span_of(&res->picture, &move, res->shared_bytes, &span);
    if ((fits && !vtest_client_may_copy(client, &span)) || !vtest_resource_back(res)) {
        return;
    }
    struct vtest_op *op = vtest_op_new(client, res);
    if (op == NULL) {
        return;
    }
    op->then = then_log;
    op->is_busy = true;
    uint8_t body[VGD_CMD_TRANSFER_HOST_3D_SIZE];
    encode_transfer(body, res->dev_id, &transfer->box, &move);
    if (to_host) {
        if (fits) {
            vtest_resource_to_device(res, &span);
        }
        struct vgd_ctrl_hdr hdr = header_of(client, VGD_CMD_TRANSFER_TO_HOST_3D, false);
        vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
        client->is_unfenced = true;
        return;
    }
    if (fits) {
        vtest_op_expect(op, res, &span);
    }
    struct vgd_ctrl_hdr hdr = header_of(client, VGD_CMD_TRANSFER_FROM_HOST_3D, client->is_unfenced);
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
}

/* Versions 0 and 1 send the bytes along: they are a backing for this one transfer. The command has
 * the memory, too: with a fence it is answered after the one that ends the lending. */
static struct vtest_op *lend_backing(struct vtest_resource *res, struct vtest_memory *memory)
{
    struct vtest_client *client = res->client;
    uint8_t body[VGD_CMD_RESOURCE_ATTACH_BACKING_SIZE + VGD_MEM_ENTRY_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_attach_backing cmd = {.resource_id = res->dev_id, .nr_entries = 1};
    vgd_cmd_resource_attach_backing_encode(&w, &cmd);
    struct vgd_mem_entry entry = {.addr = memory->gpa, .len_bytes = (uint32_t)memory->n_bytes};
    vgd_mem_entry_encode(&w, &entry);
    vtest_send_simple(client, res, VGD_CMD_RESOURCE_ATTACH_BACKING, body, sizeof(body),
                      "the device refuses memory for a resource");
    struct vtest_op *op = client->is_gone ? NULL : vtest_op_new(client, res);
    if (op != NULL) {
        op->then = then_log;
        op->is_busy = true;
        op->memory = vtest_memory_ref(memory);
    }
    return op;
}

static void end_lending(struct vtest_resource *res, struct vtest_memory *memory)
{
    struct vtest_op *op = vtest_op_new(res->client, res);
    if (op == NULL) {
        (void)vtest_memory_ref(memory); /* it is lost: the device goes on having it */
        return;
    }
    op->memory = vtest_memory_ref(memory);
    uint8_t body[VGD_CMD_RESOURCE_DETACH_BACKING_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_detach_backing cmd = {.resource_id = res->dev_id};
    vgd_cmd_resource_detach_backing_encode(&w, &cmd);
    struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_RESOURCE_DETACH_BACKING};
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
}

/* May @transfer of versions 0 and 1 be made on @res? */
static bool may_lend(struct vtest_client *client, const struct vtest_resource *res)
{
    if (res == NULL || res->shared != NULL || res->is_blob) {
        vtest_client_drop(client, "a transfer of a resource that it does not have");
        return false;
    }
    return true;
}

static struct vgd_vtest_move move_of(const struct vgd_vtest_transfer *transfer)
{
    return (struct vgd_vtest_move){.level = transfer->level,
                                   .stride_bytes = transfer->stride_bytes,
                                   .layer_stride_bytes = transfer->layer_stride_bytes};
}

void vtest_transfer_put(struct vtest_client *client, const struct vgd_vtest_transfer *transfer,
                        uint64_t gpa)
{
    struct vtest_resource *res = vtest_resource_use(client, transfer->res_id);
    struct vtest_memory *memory = vtest_memory_new(client, gpa, transfer->data_bytes);
    struct vtest_op *op =
        memory != NULL && may_lend(client, res) ? lend_backing(res, memory) : NULL;
    if (op == NULL) {
        vtest_memory_unref(memory);
        return;
    }
    uint8_t body[VGD_CMD_TRANSFER_HOST_3D_SIZE];
    struct vgd_vtest_move move = move_of(transfer);
    encode_transfer(body, res->dev_id, &transfer->box, &move);
    struct vgd_ctrl_hdr hdr = header_of(client, VGD_CMD_TRANSFER_TO_HOST_3D, false);
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
    client->is_unfenced = true;
    end_lending(res, memory);
    vtest_memory_unref(memory);
}

static void then_send_bytes(struct vtest_op *op, const struct vgd_vtest_answer *answer)
{
    struct vtest_client *client = op->client;
    then_log(op, answer);
    if (client->is_gone) {
        return;
    }
    vtest_client_spend(client, op->number_bytes);
    vtest_client_send(client, (const uint8_t *)(uintptr_t)op->number, op->number_bytes, NULL);
    vtest_client_go(client);
}

void vtest_transfer_get(struct vtest_client *client, const struct vgd_vtest_transfer *transfer)
{
    struct vtest_resource *res = vtest_resource_use(client, transfer->res_id);
    if (!may_lend(client, res)) {
        return;
    }
    if (transfer->data_bytes > VGD_VTEST_GET_MAX) {
        vtest_client_drop(client, "it asked for too many bytes");
        return;
    }
    uint64_t gpa;
    uint8_t *bytes = vtest_memory_take(client, transfer->data_bytes, false, &gpa);
    if (bytes == NULL) {
        return;
    }
    struct vtest_memory *memory = vtest_memory_new(client, gpa, transfer->data_bytes);
    struct vtest_op *op = memory == NULL ? NULL : lend_backing(res, memory);
    if (op == NULL) {
        vtest_memory_unref(memory);
        return;
    }
    op->then = then_send_bytes;
    op->number = (uintptr_t)bytes;
    op->is_awaited = true;
    op->number_bytes = transfer->data_bytes;
    uint8_t body[VGD_CMD_TRANSFER_HOST_3D_SIZE];
    struct vgd_vtest_move move = move_of(transfer);
    encode_transfer(body, res->dev_id, &transfer->box, &move);
    vtest_client_stall(client);
    struct vgd_ctrl_hdr hdr = header_of(client, VGD_CMD_TRANSFER_FROM_HOST_3D, client->is_unfenced);
    vtest_op_send(op, hdr, body, sizeof(body), 0, 0, 0);
    end_lending(res, memory);
    vtest_memory_unref(memory);
}
