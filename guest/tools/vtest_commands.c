/* SPDX-License-Identifier: MIT */
/* Requests: how long each is, and what those do that are not about resources, streams or syncs. */
#include <stdlib.h>
#include <string.h>

#include "vtest_priv.h"

#define UNBOUNDED UINT32_MAX
#define CAPSET_V1_BYTES 308u /* virgl_caps_v1: clients read exactly so many */

static const uint32_t body_bytes[] = {
    [VGD_VTEST_GET_CAPS] = 0,
    [VGD_VTEST_RESOURCE_CREATE] = VGD_VTEST_RESOURCE_CREATE_SIZE,
    [VGD_VTEST_RESOURCE_UNREF] = VGD_VTEST_RESOURCE_ID_SIZE,
    [VGD_VTEST_TRANSFER_GET] = VGD_VTEST_TRANSFER_SIZE,
    [VGD_VTEST_TRANSFER_PUT] = VGD_VTEST_TRANSFER_SIZE,
    [VGD_VTEST_SUBMIT_CMD] = UNBOUNDED,
    [VGD_VTEST_RESOURCE_BUSY_WAIT] = VGD_VTEST_RESOURCE_BUSY_WAIT_SIZE,
    [VGD_VTEST_CREATE_RENDERER] = UNBOUNDED,
    [VGD_VTEST_GET_CAPS2] = 0,
    [VGD_VTEST_PING_PROTOCOL_VERSION] = 0,
    [VGD_VTEST_PROTOCOL_VERSION] = VGD_VTEST_PROTOCOL_VERSION_SIZE,
    [VGD_VTEST_RESOURCE_CREATE2] = VGD_VTEST_RESOURCE_CREATE2_SIZE,
    [VGD_VTEST_TRANSFER_GET2] = VGD_VTEST_TRANSFER2_SIZE,
    [VGD_VTEST_TRANSFER_PUT2] = VGD_VTEST_TRANSFER2_SIZE,
    [VGD_VTEST_GET_PARAM] = VGD_VTEST_GET_PARAM_SIZE,
    [VGD_VTEST_GET_CAPSET] = VGD_VTEST_GET_CAPSET_SIZE,
    [VGD_VTEST_CONTEXT_INIT] = VGD_VTEST_CONTEXT_INIT_SIZE,
    [VGD_VTEST_RESOURCE_CREATE_BLOB] = VGD_VTEST_RESOURCE_CREATE_BLOB_SIZE,
    [VGD_VTEST_SYNC_CREATE] = VGD_VTEST_SYNC_CREATE_SIZE,
    [VGD_VTEST_SYNC_UNREF] = VGD_VTEST_SYNC_ID_SIZE,
    [VGD_VTEST_SYNC_READ] = VGD_VTEST_SYNC_ID_SIZE,
    [VGD_VTEST_SYNC_WRITE] = VGD_VTEST_SYNC_WRITE_SIZE,
    [VGD_VTEST_SYNC_WAIT] = UNBOUNDED,
    [VGD_VTEST_SUBMIT_CMD2] = UNBOUNDED,
    /* Those of DRM syncobjs are refused whatever is in them. */
    [VGD_VTEST_DRM_SYNC_CREATE] = 0,
    [VGD_VTEST_RESOURCE_EXPORT_FD] = VGD_VTEST_RESOURCE_ID_SIZE,
};

bool vtest_command_size(const struct vgd_vtest_hdr *hdr, uint32_t *out_bytes)
{
    if (hdr->cmd == 0 || hdr->cmd >= sizeof(body_bytes) / sizeof(body_bytes[0])) {
        return false;
    }
    *out_bytes = body_bytes[hdr->cmd];
    if (*out_bytes == UNBOUNDED) {
        uint32_t unit = hdr->cmd == VGD_VTEST_CREATE_RENDERER ? 1 : 4;
        if (__builtin_mul_overflow(hdr->length, unit, out_bytes)) {
            *out_bytes = UINT32_MAX; /* over every limit */
        }
    }
    return true;
}

bool vtest_command_is_long(uint32_t cmd)
{
    return cmd == VGD_VTEST_SUBMIT_CMD || cmd == VGD_VTEST_SUBMIT_CMD2 ||
           cmd == VGD_VTEST_TRANSFER_PUT;
}

bool vtest_is_virgl(const struct vtest_client *client)
{
    return client->capset_id == 0 || client->capset_id == VGD_CAPSET_VIRGL ||
           client->capset_id == VGD_CAPSET_VIRGL2;
}

bool vtest_context_make(struct vtest_client *client)
{
    if (client->has_context) {
        return true;
    }
    client->ctx_id = vgd_vtest_device_take_context_id(client->dev);
    if (client->ctx_id == 0) {
        vtest_client_drop(client, "there are too many contexts");
        return false;
    }
    client->has_context = true;
    uint8_t body[VGD_CMD_CTX_CREATE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_ctx_create cmd = {
        .name_len_bytes = (uint32_t)strlen(client->name),
        .context_init = vgd_vtest_device_has_context_init(client->dev) ? client->capset_id : 0,
    };
    memcpy(cmd.debug_name, client->name, cmd.name_len_bytes);
    vgd_cmd_ctx_create_encode(&w, &cmd);
    vtest_send_simple(client, NULL, VGD_CMD_CTX_CREATE, body, sizeof(body),
                      "the device refuses a context");
    return !client->is_gone;
}

static void create_renderer(struct vtest_client *client, const uint8_t *body, uint32_t n_bytes)
{
    client->is_named = true;
    uint32_t n = n_bytes < sizeof(client->name) - 1 ? n_bytes : sizeof(client->name) - 1;
    for (uint32_t i = 0; i < n && body[i] != 0; i++) {
        bool is_plain = body[i] >= 0x20 && body[i] < 0x7f; /* it goes to the log */
        client->name[i] = is_plain ? (char)body[i] : '?';
    }
    vgd_log(VGD_LOG_INFO, "client", "%u (%s) is here", client->number, client->name);
}

/* @id 1 or 2. The length in the header is in bytes here, and one too many: so it is. */
static void get_caps(struct vtest_client *client, uint32_t id)
{
    const struct vgd_vtest_capset *capset = vgd_vtest_device_capset(client->dev, id);
    if (capset == NULL && id == VGD_CAPSET_VIRGL2) {
        return; /* it asks for the first one next, and takes the answer to that */
    }
    if (capset == NULL) {
        vtest_client_drop(client, "the device has no OpenGL");
        return;
    }
    uint32_t n_bytes = capset->n_bytes;
    if (id == VGD_CAPSET_VIRGL && n_bytes > CAPSET_V1_BYTES) {
        n_bytes = CAPSET_V1_BYTES;
    }
    uint8_t *whole = calloc(1, VGD_VTEST_HDR_SIZE + n_bytes);
    if (whole == NULL) {
        vtest_client_drop(client, "out of memory");
        return;
    }
    struct vgd_writer w = vgd_writer_of(whole, VGD_VTEST_HDR_SIZE + n_bytes);
    vgd_vtest_hdr_encode(&w, &(struct vgd_vtest_hdr){.length = n_bytes + 1, .cmd = id});
    vgd_write_bytes(&w, capset->bytes, n_bytes);
    vtest_client_send(client, whole, VGD_VTEST_HDR_SIZE + n_bytes, NULL);
    free(whole);
}

static void get_capset(struct vtest_client *client, const struct vgd_vtest_get_capset *get)
{
    const struct vgd_vtest_capset *capset = vgd_vtest_device_capset(client->dev, get->capset_id);
    uint32_t valid = capset != NULL && get->version <= capset->max_version;
    if (!valid) {
        vtest_client_reply(client, VGD_VTEST_GET_CAPSET, &valid, sizeof(valid), NULL);
        return;
    }
    uint32_t n_bytes = VGD_VTEST_HDR_SIZE + VGD_VTEST_RESP_CAPSET_SIZE + capset->n_bytes / 4 * 4;
    uint8_t *whole = calloc(1, n_bytes);
    if (whole == NULL) {
        vtest_client_drop(client, "out of memory");
        return;
    }
    struct vgd_writer w = vgd_writer_of(whole, n_bytes);
    struct vgd_vtest_hdr hdr = {.length = (n_bytes - VGD_VTEST_HDR_SIZE) / 4,
                                .cmd = VGD_VTEST_GET_CAPSET};
    vgd_vtest_hdr_encode(&w, &hdr);
    vgd_vtest_resp_capset_encode(&w, &(struct vgd_vtest_resp_capset){.valid = 1});
    vgd_write_bytes(&w, capset->bytes, capset->n_bytes / 4 * 4);
    vtest_client_send(client, whole, n_bytes, NULL);
    free(whole);
}

static void get_param(struct vtest_client *client, uint32_t param)
{
    /* No DRM device here, so no timeline syncobjs. */
    bool is_known = param == VGD_VTEST_PARAM_MAX_TIMELINE_COUNT;
    uint8_t body[VGD_VTEST_RESP_PARAM_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_vtest_resp_param resp = {.valid = is_known,
                                        .value = is_known ? VGD_VTEST_TIMELINES : 0};
    vgd_vtest_resp_param_encode(&w, &resp);
    vtest_client_reply(client, VGD_VTEST_GET_PARAM, body, sizeof(body), NULL);
}

static void protocol_version(struct vtest_client *client, uint32_t version)
{
    client->version = version < VGD_VTEST_VERSION ? version : VGD_VTEST_VERSION;
    if (client->version == 1) {
        client->version = 0; /* 1 was never finished */
    }
    vtest_client_reply(client, VGD_VTEST_PROTOCOL_VERSION, &client->version,
                       sizeof(client->version), NULL);
}

static void context_init(struct vtest_client *client, uint32_t capset_id)
{
    if (client->has_context ? client->capset_id != capset_id : capset_id == 0) {
        vtest_client_drop(client, "it cannot change what its context is for");
        return;
    }
    if (capset_id > VGD_CONTEXT_INIT_CAPSET_ID_MASK ||
        vgd_vtest_device_capset(client->dev, capset_id) == NULL) {
        vtest_client_drop(client, "the device does not have that capset");
        return;
    }
    client->capset_id = capset_id;
    (void)vtest_context_make(client);
}

static void busy_wait(struct vtest_client *client, const struct vgd_vtest_resource_busy_wait *wait)
{
    if (client->is_unfenced) {
        vtest_fence(client);
    }
    if (client->is_gone) {
        return;
    }
    vtest_look_at_queries(client);
    if (client->n_busy > 0 && (wait->flags & VGD_VTEST_BUSY_WAIT_WAIT) != 0) {
        client->waits_idle = true;
        vgd_vtest_device_await(client->dev, client->last_busy, true);
        vtest_client_stall(client);
        return;
    }
    uint32_t busy = client->n_busy > 0;
    vtest_client_reply(client, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, sizeof(busy), NULL);
}

static void sync_read(struct vtest_client *client, uint32_t id)
{
    const struct vtest_sync *sync = vtest_sync_find(client, id);
    if (sync == NULL) {
        vtest_client_drop(client, "it named a sync that it does not have");
        return;
    }
    uint8_t body[VGD_VTEST_RESP_SYNC_VALUE_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_vtest_resp_sync_value resp = {.value = sync->value};
    vgd_vtest_resp_sync_value_encode(&w, &resp);
    vtest_client_reply(client, VGD_VTEST_SYNC_READ, body, sizeof(body), NULL);
}

static void sync_write(struct vtest_client *client, const struct vgd_vtest_sync_value *value)
{
    struct vtest_sync *sync = vtest_sync_find(client, value->sync_id);
    if (sync == NULL) {
        vtest_client_drop(client, "it named a sync that it does not have");
        return;
    }
    vtest_sync_signal(client, sync, value->value);
}

/* Does it need the client's context on the device? */
static bool needs_context(uint32_t cmd)
{
    switch (cmd) {
    case VGD_VTEST_RESOURCE_CREATE:
    case VGD_VTEST_RESOURCE_CREATE2:
    case VGD_VTEST_RESOURCE_CREATE_BLOB:
    case VGD_VTEST_TRANSFER_GET:
    case VGD_VTEST_TRANSFER_PUT:
    case VGD_VTEST_TRANSFER_GET2:
    case VGD_VTEST_TRANSFER_PUT2:
    case VGD_VTEST_SUBMIT_CMD:
    case VGD_VTEST_SUBMIT_CMD2:
        return true;
    default:
        return false;
    }
}

/* The sizes are right, so decoding cannot fail: the last word on it stands in body_bytes. */
#define DECODED(layout)                                                                            \
    struct vgd_vtest_##layout cmd_body = {0};                                                      \
    if (vgd_vtest_##layout##_decode(&r, &cmd_body) != VGD_OK) {                                    \
        break;                                                                                     \
    }

static void early_command(struct vtest_client *client, uint32_t cmd, const uint8_t *body,
                          uint32_t n_bytes)
{
    struct vgd_reader r = vgd_reader_of(body, n_bytes);
    switch (cmd) {
    case VGD_VTEST_CREATE_RENDERER:
        create_renderer(client, body, n_bytes);
        return;
    case VGD_VTEST_GET_CAPS:
        get_caps(client, VGD_CAPSET_VIRGL);
        return;
    case VGD_VTEST_GET_CAPS2:
        get_caps(client, VGD_CAPSET_VIRGL2);
        return;
    case VGD_VTEST_PING_PROTOCOL_VERSION:
        vtest_client_reply(client, cmd, NULL, 0, NULL);
        return;
    case VGD_VTEST_PROTOCOL_VERSION: {
        DECODED(protocol_version)
        protocol_version(client, cmd_body.version);
        return;
    }
    case VGD_VTEST_GET_PARAM: {
        DECODED(get_param)
        get_param(client, cmd_body.param);
        return;
    }
    case VGD_VTEST_GET_CAPSET: {
        DECODED(get_capset)
        get_capset(client, &cmd_body);
        return;
    }
    case VGD_VTEST_CONTEXT_INIT: {
        DECODED(context_init)
        context_init(client, cmd_body.capset_id);
        return;
    }
    case VGD_VTEST_RESOURCE_BUSY_WAIT: {
        DECODED(resource_busy_wait)
        busy_wait(client, &cmd_body);
        return;
    }
    default:
        break;
    }
    vtest_client_drop(client, "it sent a request that is not served here");
}

static void sync_command(struct vtest_client *client, uint32_t cmd, const uint8_t *body,
                         uint32_t n_bytes)
{
    struct vgd_reader r = vgd_reader_of(body, n_bytes);
    switch (cmd) {
    case VGD_VTEST_SYNC_CREATE: {
        DECODED(sync_create)
        vtest_sync_create(client, cmd_body.value);
        return;
    }
    case VGD_VTEST_SYNC_UNREF: {
        DECODED(sync_id)
        vtest_sync_unref_id(client, cmd_body.sync_id);
        return;
    }
    case VGD_VTEST_SYNC_READ: {
        DECODED(sync_id)
        sync_read(client, cmd_body.sync_id);
        return;
    }
    case VGD_VTEST_SYNC_WRITE: {
        DECODED(sync_write)
        sync_write(client, &cmd_body.sync);
        return;
    }
    default:
        vtest_sync_wait(client, body, n_bytes);
        return;
    }
    vtest_client_drop(client, "it sent a request that is not served here");
}

void vtest_command(struct vtest_client *client, uint32_t cmd, const uint8_t *body, uint32_t n_bytes)
{
    if (needs_context(cmd) && !vtest_context_make(client)) {
        return;
    }
    struct vgd_reader r = vgd_reader_of(body, n_bytes);
    switch (cmd) {
    case VGD_VTEST_RESOURCE_CREATE: {
        DECODED(resource_create)
        vtest_resource_create(client, cmd, &cmd_body.texture, 0);
        return;
    }
    case VGD_VTEST_RESOURCE_CREATE2: {
        DECODED(resource_create2)
        vtest_resource_create(client, cmd, &cmd_body.texture, cmd_body.data_bytes);
        return;
    }
    case VGD_VTEST_RESOURCE_UNREF: {
        DECODED(resource_id)
        struct vtest_resource *res = vtest_resource_find(client, cmd_body.res_id);
        if (res != NULL) {
            vtest_resource_release(res);
        }
        return;
    }
    case VGD_VTEST_TRANSFER_GET: {
        DECODED(transfer)
        vtest_transfer_get(client, &cmd_body);
        return;
    }
    case VGD_VTEST_TRANSFER_GET2:
    case VGD_VTEST_TRANSFER_PUT2: {
        DECODED(transfer2)
        vtest_transfer(client, &cmd_body, cmd == VGD_VTEST_TRANSFER_PUT2);
        return;
    }
    case VGD_VTEST_RESOURCE_CREATE_BLOB: {
        DECODED(resource_create_blob)
        vtest_resource_create_blob(client, &cmd_body);
        return;
    }
    case VGD_VTEST_RESOURCE_EXPORT_FD: {
        DECODED(resource_id)
        vtest_resource_export(client, cmd_body.res_id);
        return;
    }
    case VGD_VTEST_SYNC_CREATE:
    case VGD_VTEST_SYNC_UNREF:
    case VGD_VTEST_SYNC_READ:
    case VGD_VTEST_SYNC_WRITE:
    case VGD_VTEST_SYNC_WAIT:
        sync_command(client, cmd, body, n_bytes);
        return;
    default:
        early_command(client, cmd, body, n_bytes);
        return;
    }
    vtest_client_drop(client, "it sent a request that is not served here");
}

void vtest_command_long(struct vtest_client *client)
{
    uint8_t *memory = client->body.memory;
    uint64_t gpa = client->body.gpa;
    uint32_t n_bytes = client->body.got_bytes;
    uint32_t cmd = client->body.cmd;
    if (!vtest_context_make(client)) {
        return; /* the memory went with the client */
    }
    client->body.memory = NULL;
    if (cmd == VGD_VTEST_SUBMIT_CMD) {
        vtest_submit(client, memory, gpa, n_bytes);
    } else if (cmd == VGD_VTEST_SUBMIT_CMD2) {
        vtest_submit2(client, memory, gpa, n_bytes);
    } else {
        vtest_transfer_put(client, &client->body.transfer, gpa);
    }
}
