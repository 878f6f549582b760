/* SPDX-License-Identifier: MIT */
#include "live_json.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Looks at a slot that the worker changes each time; then it is left out. */
#define LOOKS_MAX 4u
#define NS_PER_MS 1000000u

static void add_u64(struct json_object *to, const char *name, uint64_t value)
{
    (void)json_object_object_add(to, name, json_object_new_uint64(value));
}

static void add(struct json_object *to, const char *name, const uint64_t *counter)
{
    add_u64(to, name, vgd_counter_load(counter));
}

static struct json_object *add_object(struct json_object *to, const char *name)
{
    struct json_object *object = json_object_new_object();
    (void)json_object_object_add(to, name, object);
    return object;
}

/* @n_bytes of a worker's text, as far as its first zero. */
static void add_text(struct json_object *to, const char *name, const void *bytes, size_t n_bytes)
{
    char text[VGD_ERROR_TEXT_BYTES];
    n_bytes = strnlen(bytes, n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        char c = ((const char *)bytes)[i];
        text[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    (void)json_object_object_add(to, name, json_object_new_string_len(text, (int)n_bytes));
}

/* --- counters --- */

/* Counts by name; what has none goes under "unknown". */
static void add_by_name(struct json_object *to, const uint64_t *counts, uint32_t places,
                        uint32_t (*type_at)(uint32_t place), const char *(*name_of)(uint32_t type))
{
    uint64_t unknown = 0;
    for (uint32_t i = 0; i < places; i++) {
        uint64_t count = vgd_counter_load(&counts[i]);
        const char *name = name_of(type_at(i));
        if (strcmp(name, "unknown") == 0) {
            unknown += count;
        } else if (count != 0) {
            add_u64(to, name, count);
        }
    }
    if (unknown != 0) {
        add_u64(to, "unknown", unknown);
    }
}

static void add_histogram(struct json_object *to, const char *name, const struct vgd_histogram *h)
{
    struct json_object *out = add_object(to, name);
    struct json_object *le_ns = json_object_new_array_ext(VGD_HISTOGRAM_LE_COUNT);
    struct json_object *counts = json_object_new_array_ext(VGD_HISTOGRAM_LE_COUNT + 1);
    uint64_t total = 0;
    for (uint32_t i = 0; i <= VGD_HISTOGRAM_LE_COUNT; i++) {
        uint64_t count = vgd_counter_load(&h->counts[i]);
        total += count;
        (void)json_object_array_add(counts, json_object_new_uint64(count));
        if (i < VGD_HISTOGRAM_LE_COUNT) {
            (void)json_object_array_add(
                le_ns, json_object_new_uint64(UINT64_C(1) << (VGD_HISTOGRAM_LE_FIRST_SHIFT + i)));
        }
    }
    (void)json_object_object_add(out, "le_ns", le_ns);
    (void)json_object_object_add(out, "counts", counts);
    add(out, "sum_ns", &h->sum_ns);
    add_u64(out, "count", total);
}

static void add_device(struct json_object *out, const struct vgd_gpu_counters *c)
{
    struct json_object *part = add_object(out, "bytes");
    add(part, "commands", &c->command_bytes);
    add(part, "to_host", &c->to_host_bytes);
    add(part, "from_host", &c->from_host_bytes);
    add(part, "responses", &c->response_bytes);
    add(part, "pictures", &c->picture_bytes);

    part = add_object(out, "stream");
    add(part, "commands", &c->stream_commands);
    add(part, "draws", &c->stream_draws);
    add(part, "unknown", &c->stream_unknown);
    add(part, "refused", &c->stream_refused);

    /* In this order: what is done has been created by then. */
    uint64_t done = vgd_counter_load(&c->fences_done);
    uint64_t created = vgd_counter_load(&c->fences);
    part = add_object(out, "fences");
    add_u64(part, "created", created);
    add_u64(part, "done", done);
    add_u64(part, "outstanding", created > done ? created - done : 0);

    add_histogram(out, "fence_latency", &c->fence_latency);
    add_histogram(out, "submit_time", &c->submit_time);

    static const char *const kinds[VGD_MEMORY_KINDS_COUNT] = {
        [VGD_MEMORY_2D] = "resources_2d",         [VGD_MEMORY_3D] = "resources_3d",
        [VGD_MEMORY_BLOBS_GUEST] = "blobs_guest", [VGD_MEMORY_BLOBS_HOST] = "blobs_host",
        [VGD_MEMORY_BACKING] = "backing",         [VGD_MEMORY_CONTEXT_STATE] = "context_state",
    };
    part = add_object(out, "memory");
    for (uint32_t i = 0; i < VGD_MEMORY_KINDS_COUNT; i++) {
        add(part, kinds[i], &c->memory_bytes[i]);
    }

    part = add_object(out, "live");
    add(part, "resources", &c->resources_live);
    add(part, "contexts", &c->contexts_live);
    add(part, "contexts_lost", &c->contexts_lost_live);
    add(part, "maps", &c->maps_live);

    part = add_object(out, "ever");
    add(part, "submits", &c->submits);
    add(part, "submit_bytes", &c->submit_bytes);
    add(part, "transfers", &c->transfers);
    add(part, "pictures", &c->pictures);
    add(part, "contexts", &c->contexts_created);
    add(part, "contexts_lost", &c->contexts_lost);
    add(part, "bad_chains", &c->bad_chains);
    add(out, "flushes", &c->flushes);
}

struct json_object *vgd_live_counters(const struct vgd_gpu_counters *c,
                                      const struct vgd_live_worker *worker)
{
    struct json_object *out = json_object_new_object();
    add_u64(out, "uptime_ns", worker->uptime_ns);
    add_by_name(add_object(out, "commands"), c->by_command, VGD_COMMAND_PLACES,
                vgd_command_at_place, vgd_cmd_name);
    add_by_name(add_object(out, "responses"), c->by_response, VGD_RESPONSE_PLACES,
                vgd_response_at_place, vgd_resp_name);
    add_device(out, c);
    struct json_object *part = add_object(out, "worker");
    add_u64(part, "starts", worker->starts);
    add_u64(part, "deaths", worker->deaths);
    add_u64(part, "pid", worker->pid);
    return out;
}

/* --- tables --- */

/* One state of a slot of @n_words, whose first word is its sequence number. False: it is changed
 * all the time. */
static bool slot_read(const void *slot, uint64_t *out, size_t n_words)
{
    const uint64_t *words = slot;
    for (uint32_t look = 0; look < LOOKS_MAX; look++) {
        uint64_t before = __atomic_load_n(&words[0], __ATOMIC_ACQUIRE);
        for (size_t i = 0; i < n_words; i++) {
            out[i] = vgd_counter_load(&words[i]);
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((before & 1) == 0 && vgd_counter_load(&words[0]) == before) {
            return true;
        }
    }
    return false;
}

static int by_id(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static struct json_object *context_json(const struct vgd_gpu_context_slot *slot)
{
    struct json_object *out = json_object_new_object();
    add_u64(out, "id", slot->id);
    add_u64(out, "capset", slot->capset_id);
    add_text(out, "name", slot->name, sizeof(slot->name));
    (void)json_object_object_add(out, "lost", json_object_new_boolean(slot->lost != 0));
    add_u64(out, "submits", slot->submits);
    add_u64(out, "submit_bytes", slot->submit_bytes);
    add_u64(out, "draws", slot->draws);
    add_u64(out, "commands", slot->commands);
    add_u64(out, "resources", slot->resources);
    add_u64(out, "objects", slot->objects);
    add_u64(out, "state_bytes", slot->state_bytes);
    add_u64(out, "busy_ns", slot->busy_ns);
    return out;
}

struct json_object *vgd_live_contexts(const struct vgd_gpu_live *live, uint32_t from_id,
                                      int64_t *out_next_id)
{
    /* The id above, the place below: sorts by id. */
    uint64_t found[VGD_CONTEXT_SLOTS_COUNT];
    size_t n_found = 0;
    for (uint32_t i = 0; i < VGD_CONTEXT_SLOTS_COUNT; i++) {
        uint64_t id = vgd_counter_load(&live->contexts[i].id);
        if (id != 0 && id >= from_id && id <= UINT32_MAX) {
            found[n_found++] = id << 32 | i;
        }
    }
    qsort(found, n_found, sizeof(found[0]), by_id);

    struct json_object *out = json_object_new_array();
    size_t n_out = 0;
    size_t i = 0;
    for (; i < n_found && n_out < VGD_LIVE_CONTEXTS_MAX; i++) {
        struct vgd_gpu_context_slot slot;
        if (slot_read(&live->contexts[(uint32_t)found[i]], (uint64_t *)&slot,
                      sizeof(slot) / sizeof(uint64_t)) &&
            slot.id == found[i] >> 32) {
            (void)json_object_array_add(out, context_json(&slot));
            n_out++;
        }
    }
    /* An id is there once, but in a table that lies: then go on behind it all the same. */
    while (i > 0 && i < n_found && found[i] >> 32 == found[i - 1] >> 32) {
        i++;
    }
    *out_next_id = i < n_found ? (int64_t)(found[i] >> 32) : -1;
    return out;
}

static int newest_first(const void *a, const void *b)
{
    const struct vgd_gpu_error_slot *x = a;
    const struct vgd_gpu_error_slot *y = b;
    return x->last_ns < y->last_ns ? 1 : x->last_ns > y->last_ns ? -1 : 0;
}

/* The name of @type; its number where it has none, "none" for 0. */
static void add_type(struct json_object *to, const char *key, uint64_t type,
                     const char *(*name_of)(uint32_t type))
{
    const char *name = type <= UINT32_MAX ? name_of((uint32_t)type) : "unknown";
    char number[24];
    if (type == 0) {
        name = "none";
    } else if (strcmp(name, "unknown") == 0) {
        (void)snprintf(number, sizeof(number), "0x%llx", (unsigned long long)type);
        name = number;
    }
    (void)json_object_object_add(to, key, json_object_new_string(name));
}

struct json_object *vgd_live_errors(const struct vgd_gpu_live *live, uint64_t now_ns)
{
    struct vgd_gpu_error_slot slots[VGD_ERRORS_COUNT];
    size_t n_slots = 0;
    for (uint32_t i = 0; i < VGD_ERRORS_COUNT; i++) {
        struct vgd_gpu_error_slot *slot = &slots[n_slots];
        if (slot_read(&live->errors[i], (uint64_t *)slot, sizeof(*slot) / sizeof(uint64_t)) &&
            slot->count != 0) {
            n_slots++;
        }
    }
    qsort(slots, n_slots, sizeof(slots[0]), newest_first);
    struct json_object *out = json_object_new_array();
    for (size_t i = 0; i < n_slots; i++) {
        const struct vgd_gpu_error_slot *slot = &slots[i];
        struct json_object *error = json_object_new_object();
        add_u64(error, "age_ms", slot->last_ns < now_ns ? (now_ns - slot->last_ns) / NS_PER_MS : 0);
        add_type(error, "command", slot->command, vgd_cmd_name);
        add_type(error, "response", slot->response, vgd_resp_name);
        add_u64(error, "ctx", slot->ctx_id);
        add_u64(error, "count", slot->count);
        add_text(error, "text", slot->text, sizeof(slot->text));
        (void)json_object_array_add(out, error);
    }
    return out;
}
