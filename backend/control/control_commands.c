/* SPDX-License-Identifier: MIT */
/* What the requests to the control socket mean. */
#include <assert.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "control_priv.h"
#include "fd.h"

#define JSON_DEPTH_MAX 8
#define ERROR_BYTES_MAX 256
#define SCANOUT_IDX_MAX 15
#define PIXEL_BYTES 4u

static void do_status(struct vgd_control_client *client, struct json_object *request)
{
    (void)request;
    struct json_object *out = json_object_new_object();
    client->owner->ops.status(client->owner->user, out);
    vgd_control_set_reply(client, "status", out);
}

static void do_counters(struct vgd_control_client *client, struct json_object *request)
{
    (void)request;
    vgd_control_set_reply(client, "counters", client->owner->ops.counters(client->owner->user));
}

static void do_contexts(struct vgd_control_client *client, struct json_object *request)
{
    struct json_object *from = NULL;
    int64_t from_id = 0;
    if (json_object_object_get_ex(request, "from", &from)) {
        from_id = json_object_is_type(from, json_type_int) ? json_object_get_int64(from) : -1;
    }
    if (from_id < 0 || from_id > UINT32_MAX) {
        vgd_control_set_error(client, "\"from\" has to be the id of a context");
        return;
    }
    int64_t next_id = -1;
    struct json_object *reply = vgd_control_new_reply();
    struct json_object *contexts =
        client->owner->ops.contexts(client->owner->user, (uint32_t)from_id, &next_id);
    (void)json_object_object_add(reply, "contexts", contexts);
    (void)json_object_object_add(reply, "next",
                                 next_id < 0 ? NULL : json_object_new_int64(next_id));
    vgd_control_set_whole(client, reply);
}

static void do_errors(struct vgd_control_client *client, struct json_object *request)
{
    (void)request;
    vgd_control_set_reply(client, "errors", client->owner->ops.errors(client->owner->user));
}

static void do_screenshot(struct vgd_control_client *client, struct json_object *request)
{
    struct vgd_control *c = client->owner;
    struct json_object *scanout = NULL;
    if (!json_object_object_get_ex(request, "scanout", &scanout) ||
        !json_object_is_type(scanout, json_type_int) || json_object_get_int64(scanout) < 0 ||
        json_object_get_int64(scanout) > SCANOUT_IDX_MAX) {
        vgd_control_set_error(client, "\"scanout\" has to be a number from 0 to 15");
        return;
    }
    vgd_control_wait(client, c->screenshot_ms, "the screenshot took too long");
    /* The reply may come from inside, and may be all that this client wanted: look at nothing of
     * the client unless it says no. */
    enum vgd_status st =
        c->ops.screenshot(c->user, (uint32_t)json_object_get_int64(scanout), client->token);
    if (st != VGD_OK) {
        client->waiting = false;
        vgd_control_set_error(client, vgd_status_text(st));
    }
}

void vgd_control_screenshot_reply(struct vgd_control *c, uint64_t token, enum vgd_status status,
                                  uint32_t w_px, uint32_t h_px, int *fd)
{
    VGD_AUTO_FD pixels_fd = vgd_fd_take(fd);
    struct vgd_control_client *client = vgd_control_waiting(c, token);
    if (client == NULL) {
        return;
    }
    if (status == VGD_OK) {
        struct stat info;
        int seals = pixels_fd >= 0 ? fcntl(pixels_fd, F_GET_SEALS) : -1;
        uint64_t n_bytes = (uint64_t)w_px * h_px; /* two u32: cannot overflow */
        if (n_bytes == 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
            fstat(pixels_fd, &info) != 0 || n_bytes > (uint64_t)info.st_size / PIXEL_BYTES) {
            status = VGD_RANGE;
        }
    }
    if (status == VGD_OK) {
        struct json_object *shot = json_object_new_object();
        (void)json_object_object_add(shot, "w", json_object_new_int64(w_px));
        (void)json_object_object_add(shot, "h", json_object_new_int64(h_px));
        (void)json_object_object_add(shot, "stride",
                                     json_object_new_int64((int64_t)w_px * PIXEL_BYTES));
        (void)json_object_object_add(shot, "format", json_object_new_string("x8r8g8b8"));
        vgd_control_set_reply(client, "screenshot", shot);
        client->reply_fd = vgd_fd_take(&pixels_fd);
    } else {
        vgd_control_set_error(client, status == VGD_NO_SCANOUT ? "the scanout is off"
                                                               : vgd_status_text(status));
    }
    vgd_control_wait_over(client);
}

/* --- Recordings. --- */

/* Who waits for a recording's end, or its beginning, has no token of its own: all have the same
 * news. */
#define TRACE_STOP_TOKEN 0u
#define TRACE_START_TOKEN UINT64_MAX

static void reply_trace(struct vgd_control_client *client)
{
    struct json_object *out = json_object_new_object();
    client->owner->ops.trace(client->owner->user, out);
    vgd_control_set_reply(client, "trace", out);
}

/* False: it is none of the values that it may have. */
static bool picture_ms_of(struct json_object *request, uint32_t *out)
{
    struct json_object *value = NULL;
    *out = VGD_CONTROL_PICTURE_MS;
    if (!json_object_object_get_ex(request, "picture_ms", &value)) {
        return true;
    }
    if (json_object_is_type(value, json_type_string)) {
        *out = VGD_CONTROL_NO_PICTURES;
        return strcmp(json_object_get_string(value), "none") == 0;
    }
    if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0 ||
        json_object_get_int64(value) > VGD_CONTROL_PICTURE_MS_MAX) {
        return false;
    }
    *out = (uint32_t)json_object_get_int64(value);
    return true;
}

static void do_trace_start(struct vgd_control_client *client, struct json_object *request)
{
    struct vgd_control *c = client->owner;
    uint32_t picture_ms;
    const char *why = NULL;
    if (client->passed_fd < 0 || client->passed_excess) {
        vgd_control_set_error(client, "one descriptor has to come with it, of the file");
    } else if (!picture_ms_of(request, &picture_ms)) {
        vgd_control_set_error(client,
                              "\"picture_ms\" has to be a number from 0 to 3600000, or \"none\"");
    } else {
        enum vgd_status st = c->ops.trace_start(c->user, &client->passed_fd, picture_ms, &why);
        if (st == VGD_OK) {
            reply_trace(client);
        } else if (st == VGD_AGAIN) {
            vgd_control_wait(client, c->trace_start_ms, "the recording does not begin");
            client->token = TRACE_START_TOKEN;
        } else {
            vgd_control_set_error(client, why);
        }
    }
}

static void do_trace_stop(struct vgd_control_client *client, struct json_object *request)
{
    (void)request;
    struct vgd_control *c = client->owner;
    enum vgd_status st = c->ops.trace_stop(c->user);
    if (st == VGD_OK) {
        reply_trace(client);
    } else if (st == VGD_AGAIN) {
        vgd_control_wait(client, c->trace_stop_ms, "the recording does not end");
        client->token = TRACE_STOP_TOKEN;
    } else {
        vgd_control_set_error(client, "nothing is recorded");
    }
}

static void reply_to_all(struct vgd_control *c, uint64_t token)
{
    struct vgd_control_client *client;
    while ((client = vgd_control_waiting(c, token)) != NULL) {
        reply_trace(client);
        vgd_control_wait_over(client);
    }
}

void vgd_control_trace_started(struct vgd_control *c)
{
    reply_to_all(c, TRACE_START_TOKEN);
}

void vgd_control_trace_stopped(struct vgd_control *c)
{
    reply_to_all(c, TRACE_STOP_TOKEN);
}

/* --- The log. --- */

static void do_log_level(struct vgd_control_client *client, struct json_object *request)
{
    struct vgd_control *c = client->owner;
    struct json_object *value = NULL;
    enum vgd_log_level level;
    if (!json_object_object_get_ex(request, "level", &value) ||
        !json_object_is_type(value, json_type_string) ||
        !vgd_log_level_parse(json_object_get_string(value), &level)) {
        vgd_control_set_error(client,
                              "\"level\" has to be \"error\", \"warning\", \"info\" or \"debug\"");
        return;
    }
    c->ops.log_level(c->user, level);
    vgd_control_set_reply(client, "log_level", json_object_new_string(vgd_log_level_name(level)));
}

/* --- Requests. --- */

/* What can be asked. */
static const struct {
    const char *name;
    /** Sets a reply, or has the client wait for one. */
    void (*act)(struct vgd_control_client *client, struct json_object *request);
} commands[] = {
    {"status", do_status},         {"screenshot", do_screenshot}, {"trace-start", do_trace_start},
    {"trace-stop", do_trace_stop}, {"log-level", do_log_level},   {"counters", do_counters},
    {"contexts", do_contexts},     {"errors", do_errors},
};

static void unknown_command(struct vgd_control_client *client)
{
    char text[ERROR_BYTES_MAX];
    int n = snprintf(text, sizeof(text), "\"cmd\" has to be one of");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s %s", i == 0 ? "" : ",",
                      commands[i].name);
        assert(n < (int)sizeof(text)); /* our own words: the table is too long */
    }
    vgd_control_set_error(client, text);
}

static void do_request(struct vgd_control_client *client, struct json_object *request)
{
    struct json_object *version = NULL, *cmd = NULL;
    if (!json_object_is_type(request, json_type_object)) {
        vgd_control_set_error(client, "a request is a JSON object");
        return;
    }
    if (!json_object_object_get_ex(request, "v", &version) ||
        !json_object_is_type(version, json_type_int) ||
        json_object_get_int64(version) != VGD_CONTROL_VERSION) {
        vgd_control_set_error(client, "\"v\" has to be 1");
        return;
    }
    const char *word = "";
    if (json_object_object_get_ex(request, "cmd", &cmd) &&
        json_object_is_type(cmd, json_type_string)) {
        word = json_object_get_string(cmd);
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(word, commands[i].name) == 0) {
            commands[i].act(client, request);
            return;
        }
    }
    unknown_command(client);
}

void vgd_control_do_line(struct vgd_control_client *client, const char *text, size_t n_bytes)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (tokener == NULL) {
        vgd_control_set_error(client, "out of memory");
        return;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    /* The newline goes in too: only with it is a bare number known to have ended. */
    struct json_object *request = json_tokener_parse_ex(tokener, text, (int)n_bytes);
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        vgd_control_set_error(client, "not JSON");
    } else {
        do_request(client, request);
    }
    (void)json_object_put(request);
    json_tokener_free(tokener);
}
