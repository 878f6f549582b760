/* SPDX-License-Identifier: MIT */
#include "vgdctl_top.h"

#include <inttypes.h>
#include <string.h>

#include "log.h"

/* The member under @path ("a/b"), or NULL. */
static struct json_object *member(struct json_object *object, const char *path)
{
    char key[TOP_NAME_BYTES];
    for (;;) {
        size_t n = strcspn(path, "/");
        struct json_object *next = NULL;
        (void)snprintf(key, sizeof(key), "%.*s", (int)n, path);
        if (!json_object_object_get_ex(object, key, &next) || path[n] == '\0') {
            return next;
        }
        object = next;
        path += n + 1;
    }
}

/* 0: it is not there, or no such number. */
static uint64_t number(struct json_object *object, const char *path)
{
    struct json_object *value = member(object, path);
    return json_object_is_type(value, json_type_int) ? json_object_get_uint64(value) : 0;
}

static void text(struct json_object *object, const char *path, char *out, size_t out_bytes)
{
    struct json_object *value = member(object, path);
    const char *from =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
    size_t n = 0;
    for (; from[n] != '\0' && n < out_bytes - 1; n++) {
        out[n] = from[n] < ' ' || from[n] > '~' ? '?' : from[n];
    }
    out[n] = '\0';
}

static void histogram(struct json_object *object, struct top_histogram *out)
{
    struct json_object *limits = member(object, "le_ns"), *counts = member(object, "counts");
    if (!json_object_is_type(limits, json_type_array) ||
        !json_object_is_type(counts, json_type_array)) {
        return;
    }
    size_t n = json_object_array_length(limits);
    out->n_buckets = n < TOP_BUCKETS_MAX ? (unsigned)n : TOP_BUCKETS_MAX;
    for (unsigned i = 0; i < out->n_buckets; i++) {
        out->le_ns[i] = json_object_get_uint64(json_object_array_get_idx(limits, i));
    }
    for (size_t i = 0; i < json_object_array_length(counts); i++) {
        size_t at = i < out->n_buckets ? i : out->n_buckets;
        out->counts[at] += json_object_get_uint64(json_object_array_get_idx(counts, i));
    }
}

/* The sum of all members, and of those whose name does not begin with @but. */
static uint64_t sum(struct json_object *object, const char *but, uint64_t *out_others)
{
    uint64_t all = 0;
    *out_others = 0;
    if (!json_object_is_type(object, json_type_object)) {
        return 0;
    }
    json_object_object_foreach(object, name, value)
    {
        uint64_t n = json_object_get_uint64(value);
        all += n;
        *out_others += strncmp(name, but, strlen(but)) != 0 ? n : 0;
    }
    return all;
}

static bool status(int fd, struct top_sample *out)
{
    struct json_object *whole = NULL;
    struct json_object *s =
        vgdctl_ask(fd, "{\"v\":1,\"cmd\":\"status\"}\n", -1, "status", NULL, &whole);
    if (s != NULL) {
        text(s, "version", out->version, sizeof(out->version));
        text(s, "worker/renderer", out->renderer, sizeof(out->renderer));
        text(s, "worker/gpu", out->gpu, sizeof(out->gpu));
        text(s, "worker/state", out->worker_state, sizeof(out->worker_state));
        text(s, "trace/state", out->trace_state, sizeof(out->trace_state));
        out->pid = number(s, "pid");
        out->trace_records = number(s, "trace/records");
        out->trace_bytes = number(s, "trace/bytes_out");
        out->trace_gaps = number(s, "trace/gaps");
    }
    (void)json_object_put(whole);
    return s != NULL;
}

static bool counters(int fd, struct top_sample *out)
{
    struct json_object *whole = NULL;
    struct json_object *c =
        vgdctl_ask(fd, "{\"v\":1,\"cmd\":\"counters\"}\n", -1, "counters", NULL, &whole);
    if (c != NULL) {
        uint64_t others;
        out->uptime_ns = number(c, "uptime_ns");
        out->worker_pid = number(c, "worker/pid");
        out->worker_starts = number(c, "worker/starts");
        out->worker_deaths = number(c, "worker/deaths");
        out->commands = sum(member(c, "commands"), "", &others);
        (void)sum(member(c, "responses"), "OK", &out->errors);
        out->submits = number(c, "commands/SUBMIT_3D");
        out->flushes = number(c, "flushes");
        out->bytes_commands = number(c, "bytes/commands");
        out->bytes_to_host = number(c, "bytes/to_host");
        out->bytes_from_host = number(c, "bytes/from_host");
        out->bytes_responses = number(c, "bytes/responses");
        out->bytes_pictures = number(c, "bytes/pictures");
        out->stream_commands = number(c, "stream/commands");
        out->draws = number(c, "stream/draws");
        out->stream_unknown = number(c, "stream/unknown");
        out->stream_refused = number(c, "stream/refused");
        out->fences_done = number(c, "fences/done");
        out->fences_outstanding = number(c, "fences/outstanding");
        histogram(member(c, "fence_latency"), &out->fence_latency);
        histogram(member(c, "submit_time"), &out->submit_time);
        out->memory_2d = number(c, "memory/resources_2d");
        out->memory_3d = number(c, "memory/resources_3d");
        out->memory_guest = number(c, "memory/blobs_guest");
        out->memory_host = number(c, "memory/blobs_host");
        out->memory_backing = number(c, "memory/backing");
        out->memory_state = number(c, "memory/context_state");
        out->resources = number(c, "live/resources");
        out->contexts = number(c, "live/contexts");
        out->contexts_lost = number(c, "live/contexts_lost");
        out->maps = number(c, "live/maps");
    }
    (void)json_object_put(whole);
    return c != NULL;
}

static void add_context(struct json_object *from, struct top_sample *out)
{
    struct top_context *c = &out->context[out->n_contexts++];
    c->id = number(from, "id");
    c->submits = number(from, "submits");
    c->draws = number(from, "draws");
    c->resources = number(from, "resources");
    c->objects = number(from, "objects");
    c->state_bytes = number(from, "state_bytes");
    c->busy_ns = number(from, "busy_ns");
    c->lost = json_object_get_boolean(member(from, "lost"));
    text(from, "name", c->name, sizeof(c->name));
    char other[sizeof(c->capset)];
    (void)snprintf(c->capset, sizeof(c->capset), "%s",
                   vgdctl_kind(number(from, "capset"), other, sizeof(other)));
}

static bool contexts(int fd, struct top_sample *out)
{
    uint64_t from = 0;
    for (bool more = true; more;) {
        char request[96];
        (void)snprintf(request, sizeof(request),
                       "{\"v\":1,\"cmd\":\"contexts\",\"from\":%" PRIu64 "}\n", from);
        struct json_object *whole = NULL;
        struct json_object *list = vgdctl_ask(fd, request, -1, "contexts", NULL, &whole);
        if (list == NULL) {
            (void)json_object_put(whole);
            return false;
        }
        size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
        for (size_t i = 0; i < n && out->n_contexts < TOP_CONTEXTS_MAX; i++) {
            add_context(json_object_array_get_idx(list, i), out);
        }
        uint64_t next = number(whole, "next"); /* it grows, or we would ask for ever */
        more = next > from && out->n_contexts < TOP_CONTEXTS_MAX;
        from = next;
        (void)json_object_put(whole);
    }
    return true;
}

static bool errors(int fd, struct top_sample *out)
{
    struct json_object *whole = NULL;
    struct json_object *list =
        vgdctl_ask(fd, "{\"v\":1,\"cmd\":\"errors\"}\n", -1, "errors", NULL, &whole);
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < n && out->n_errors < TOP_ERRORS_MAX; i++) {
        struct json_object *from = json_object_array_get_idx(list, i);
        struct top_error *e = &out->error[out->n_errors++];
        e->age_ms = number(from, "age_ms");
        e->ctx = number(from, "ctx");
        e->count = number(from, "count");
        text(from, "command", e->command, sizeof(e->command));
        text(from, "response", e->response, sizeof(e->response));
        text(from, "text", e->text, sizeof(e->text));
    }
    (void)json_object_put(whole);
    return list != NULL;
}

bool vgdctl_top_sample(int fd, struct top_sample *out)
{
    memset(out, 0, sizeof(*out));
    out->time_ns = vgd_now_ns();
    return counters(fd, out) && contexts(fd, out) && errors(fd, out) && status(fd, out);
}
