/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "log.h"
#include "replay.h"

#define NS_PER_MS UINT64_C(1000000)
#define TURN_MS 20

/* Is @type a question whose answer says something about the host, which is another one here? */
static bool asks_about_host(uint32_t type)
{
    return type == VGD_CMD_GET_CAPSET_INFO || type == VGD_CMD_GET_CAPSET ||
           type == VGD_CMD_GET_EDID || type == VGD_CMD_GET_DISPLAY_INFO;
}

static bool is_error(uint32_t type)
{
    return type >= VGD_RESP_ERR_UNSPEC;
}

/* Both answers are known. */
static void compare(struct replay *r, struct replay_answer *answer)
{
    if (answer->want == 0 || answer->got == 0) {
        return;
    }
    /* What a worker's death lost was refused then, and is not there now. */
    bool both_errors = r->died_at != 0 && is_error(answer->want) && is_error(answer->got);
    if (answer->number < r->died_at || asks_about_host(answer->type)) {
        /* answered by a worker that did not execute it, or about another host */
    } else if (answer->want == answer->got || both_errors) {
        r->n_answers_same++;
    } else {
        r->n_answers_differ++;
        replay_differs(r, "record %llu: %s: %s here, %s when recorded",
                       (unsigned long long)answer->number, vgd_cmd_name(answer->type),
                       vgd_resp_name(answer->got), vgd_resp_name(answer->want));
    }
    answer->command_id = 0;
}

/* Addresses are ours, so what was refused for its addresses is not here: it is undone. */
static bool undo(struct replay *r, struct replay_answer *answer)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_UNREF_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w,
                        &(struct vgd_ctrl_hdr){.type = answer->type == VGD_CMD_RESOURCE_CREATE_BLOB
                                                           ? VGD_CMD_RESOURCE_UNREF
                                                           : VGD_CMD_RESOURCE_DETACH_BACKING});
    vgd_cmd_resource_unref_encode(&w,
                                  &(struct vgd_cmd_resource_unref){.resource_id = answer->res_id});
    model_take(&r->model, 0, bytes, sizeof(bytes));
    answer->command_id = 0;
    r->n_undone++;
    return replay_call(r, bytes, sizeof(bytes)) != 0;
}

bool replay_expect(struct replay *r, uint64_t command_id, uint32_t type)
{
    struct replay_answer *answer = &r->answers[command_id % TOOL_IDS];
    if (command_id == 0 || answer->command_id != command_id) {
        return true;
    }
    if (r->dry) {
        if (is_error(type)) {
            model_take_back(&r->model, command_id, answer->type, answer->res_id, answer->ctx_id);
        }
        return true;
    }
    if (is_error(type) && (answer->type == VGD_CMD_RESOURCE_ATTACH_BACKING ||
                           answer->type == VGD_CMD_RESOURCE_CREATE_BLOB)) {
        if (!replay_wait_all(r)) {
            return false;
        }
        if (answer->command_id == command_id && answer->got == VGD_RESP_OK_NODATA) {
            return undo(r, answer);
        }
    }
    if (answer->command_id == command_id) {
        answer->want = type;
        compare(r, answer);
    }
    return true;
}

/* What a command should have made is not there. */
static void not_made(struct replay *r, const struct replay_flight *flight)
{
    if (flight->type == VGD_CMD_CTX_CREATE) {
        struct model_context *ctx = model_context(&r->model, flight->named_id);
        if (ctx != NULL && ctx->create.id == flight->command_id) {
            ctx->left_out = true;
        }
    } else {
        struct model_resource *res = model_resource(&r->model, flight->named_id);
        if (res != NULL && res->create.id == flight->command_id) {
            res->left_out = true;
            r->misses = true;
        }
    }
}

static void landed(struct replay *r, struct replay_flight *flight)
{
    const struct vgd_guest_command *command = flight->command;
    uint32_t got = command->resp.type;
    if (is_error(got) && flight->named_id != 0) {
        not_made(r, flight);
    } else if (is_error(got) &&
               (flight->type == VGD_CMD_SET_SCANOUT || flight->type == VGD_CMD_SET_SCANOUT_BLOB)) {
        model_take_back(&r->model, flight->command_id, flight->type, 0, 0);
    }
    if (flight->command_id == 0) {
        if (is_error(got)) {
            r->n_state_refused++;
            replay_differs(r, "record %llu: %s, which restores state: %s",
                           (unsigned long long)flight->number, vgd_cmd_name(flight->type),
                           vgd_resp_name(got));
        }
    } else if (got != 0) {
        struct replay_answer *answer = &r->answers[flight->command_id % TOOL_IDS];
        if (answer->command_id == flight->command_id) {
            answer->got = got;
            compare(r, answer);
        }
    }
    vgd_guest_gpu_end(r->gpu, flight->command);
    flight->command = NULL;
}

static struct replay_flight *flight_at(struct replay *r, uint64_t number)
{
    return &r->flights[number % REPLAY_FLIGHTS_MAX];
}

/* Take what is answered, from the oldest on. */
static void land(struct replay *r)
{
    while (r->first_flight < r->next_flight && flight_at(r, r->first_flight)->command->done) {
        landed(r, flight_at(r, r->first_flight));
        r->first_flight++;
        r->progress_ns = vgd_now_ns();
    }
}

/* Wait for any answer. False: failed. */
static bool turn(struct replay *r)
{
    vgd_guest_gpu_turn(r->gpu, TURN_MS);
    uint64_t before = r->first_flight;
    land(r);
    if (r->first_flight != before) {
        return true;
    }
    const struct replay_flight *oldest = flight_at(r, r->first_flight);
    if (vgd_guest_frontend_is_closed(vgd_guest_gpu_frontend(r->gpu))) {
        return replay_fail(r, "the backend closed the connection; not answered: record %llu, %s",
                           (unsigned long long)oldest->number, vgd_cmd_name(oldest->type));
    }
    if (vgd_now_ns() - r->progress_ns < (uint64_t)r->config->timeout_ms * NS_PER_MS) {
        return true;
    }
    (void)vgd_guest_gpu_poll(r->gpu);
    land(r);
    return r->first_flight != before ||
           replay_fail(r, "record %llu: %s was not answered in %u ms",
                       (unsigned long long)oldest->number, vgd_cmd_name(oldest->type),
                       r->config->timeout_ms);
}

bool replay_wait(struct replay *r, uint64_t flight)
{
    while (r->first_flight <= flight && r->first_flight < r->next_flight) {
        land(r);
        if (r->first_flight <= flight && r->first_flight < r->next_flight && !turn(r)) {
            return false;
        }
    }
    return true;
}

bool replay_wait_all(struct replay *r)
{
    return r->next_flight == 0 || replay_wait(r, r->next_flight - 1);
}

void replay_drop_flights(struct replay *r)
{
    for (; r->first_flight < r->next_flight; r->first_flight++) {
        struct replay_flight *flight = flight_at(r, r->first_flight);
        if (r->gpu != NULL) {
            vgd_guest_gpu_end(r->gpu, flight->command);
        }
        flight->command = NULL;
    }
}

/* The id of what the command makes, if it makes something that others name. */
static uint32_t made_id(const struct vgd_ctrl_hdr *hdr, const uint8_t *bytes, size_t n_bytes)
{
    switch (hdr->type) {
    case VGD_CMD_RESOURCE_CREATE_2D:
    case VGD_CMD_RESOURCE_CREATE_3D:
    case VGD_CMD_RESOURCE_CREATE_BLOB:
        return model_named_resource(bytes, n_bytes);
    case VGD_CMD_CTX_CREATE:
        return hdr->ctx_id;
    default:
        return 0;
    }
}

bool replay_send(struct replay *r, uint32_t queue, const uint8_t *bytes, size_t n_bytes,
                 uint32_t response_bytes, uint64_t command_id, uint64_t number,
                 uint64_t *out_flight)
{
    struct vgd_reader reader = vgd_reader_of(bytes, n_bytes);
    struct vgd_guest_request req = {.queue = queue};
    if (vgd_ctrl_hdr_decode(&reader, &req.hdr) != VGD_OK) {
        return replay_fail(r, "record %llu: a command without a header",
                           (unsigned long long)number);
    }
    if (command_id != 0 && !r->after_gap) {
        r->answers[command_id % TOOL_IDS] = (struct replay_answer){
            .command_id = command_id,
            .number = number,
            .type = req.hdr.type,
            .res_id = model_named_resource(bytes, n_bytes),
            .ctx_id = req.hdr.ctx_id,
        };
    }
    if (r->dry) {
        *out_flight = 0;
        return true;
    }
    size_t left = n_bytes - VGD_CTRL_HDR_SIZE;
    bool in_one = left <= VGD_GUEST_BODY_MAX;
    req.body = bytes + VGD_CTRL_HDR_SIZE;
    req.body_bytes = (uint32_t)(in_one ? left : VGD_CTRL_HDR_SIZE);
    req.data = bytes + VGD_CTRL_HDR_SIZE + req.body_bytes;
    req.data_bytes = (uint32_t)(left - req.body_bytes);
    req.resp_bytes = response_bytes < VGD_GUEST_RESP_MAX ? response_bytes : VGD_GUEST_RESP_MAX;
    struct vgd_guest_command *command;
    for (;;) {
        command = r->next_flight - r->first_flight < REPLAY_FLIGHTS_MAX
                      ? vgd_guest_gpu_begin(r->gpu, &req, true)
                      : NULL;
        if (command != NULL) {
            break;
        }
        if (r->first_flight == r->next_flight) {
            return replay_fail(r, "record %llu: a command of %llu bytes finds no room",
                               (unsigned long long)number, (unsigned long long)n_bytes);
        }
        if (!turn(r)) {
            return false;
        }
    }
    if (r->first_flight == r->next_flight) {
        r->progress_ns = vgd_now_ns();
    }
    *out_flight = r->next_flight;
    *flight_at(r, r->next_flight++) = (struct replay_flight){
        .command = command,
        .command_id = command_id,
        .number = number,
        .type = req.hdr.type,
        .named_id = made_id(&req.hdr, bytes, n_bytes),
    };
    return true;
}

uint32_t replay_call(struct replay *r, const uint8_t *bytes, size_t n_bytes)
{
    struct vgd_reader reader = vgd_reader_of(bytes, n_bytes);
    struct vgd_guest_request req = {
        .body = bytes + VGD_CTRL_HDR_SIZE,
        .body_bytes = (uint32_t)(n_bytes - VGD_CTRL_HDR_SIZE),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    if (vgd_ctrl_hdr_decode(&reader, &req.hdr) != VGD_OK || !replay_wait_all(r)) {
        return 0;
    }
    if (req.body_bytes > VGD_GUEST_BODY_MAX) {
        req.data = bytes + 2 * VGD_CTRL_HDR_SIZE;
        req.data_bytes = req.body_bytes - VGD_CTRL_HDR_SIZE;
        req.body_bytes = VGD_CTRL_HDR_SIZE;
    }
    if (req.hdr.type == VGD_CMD_GET_DISPLAY_INFO) {
        req.resp_bytes += VGD_RESP_DISPLAY_INFO_SIZE;
    }
    uint32_t type = vgd_guest_gpu_call(r->gpu, &req, NULL, 0);
    if (type == 0) {
        (void)replay_fail(r, "%s was not answered", vgd_cmd_name(req.hdr.type));
    }
    return type;
}
