/* SPDX-License-Identifier: MIT */
/* The page: a family of samples after the other, in each the VMs. docs/guide-metrics.md lists
 * them. */
#include "exporter.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdint.h>
#include <string.h>

#define NS_PER_S 1000000000u

enum shape {
    VALUE,     /* a number */
    SECONDS,   /* of nanoseconds */
    PRESENT,   /* 1 if the number is not 0 */
    MEMBERS,   /* an object: each member with its name as the label */
    HISTOGRAM, /* le_ns, counts, sum_ns */
    UP,        /* has it answered? */
};

struct family {
    const char *name, *type, *help;
    enum shape shape;
    const char *part, *key; /* where it stands: @key of the object @part; either may be NULL */
    const char *label;      /* MEMBERS */
};

static const struct family families[] = {
    {"vgd_up", "gauge", "Whether this vgd answered within a second.", UP, NULL, NULL, NULL},
    {"vgd_uptime_seconds", "gauge", "Since this vgd started.", SECONDS, NULL, "uptime_ns", NULL},
    {"vgd_worker_running", "gauge", "Whether there is a worker process now.", PRESENT, "worker",
     "pid", NULL},
    {"vgd_worker_starts_total", "counter", "Worker processes started.", VALUE, "worker", "starts",
     NULL},
    {"vgd_worker_deaths_total", "counter", "Worker processes that died.", VALUE, "worker", "deaths",
     NULL},
    {"vgd_commands_total", "counter", "Commands of the guest that were answered.", MEMBERS,
     "commands", NULL, "command"},
    {"vgd_responses_total", "counter", "Answers to commands of the guest; ERR_* are errors.",
     MEMBERS, "responses", NULL, "response"},
    {"vgd_bad_chains_total", "counter", "Descriptor chains that hold no command.", VALUE, "ever",
     "bad_chains", NULL},
    {"vgd_bytes_total", "counter",
     "Bytes of commands, transfers to and from the host, responses and pictures for the display.",
     MEMBERS, "bytes", NULL, "direction"},
    {"vgd_submits_total", "counter", "Command streams given to the renderer.", VALUE, "ever",
     "submits", NULL},
    {"vgd_submit_bytes_total", "counter", "Bytes of these command streams.", VALUE, "ever",
     "submit_bytes", NULL},
    {"vgd_submit_time_seconds", "histogram", "How long the renderer had a command stream.",
     HISTOGRAM, NULL, "submit_time", NULL},
    {"vgd_stream_commands_total", "counter", "Commands in OpenGL streams.", VALUE, "stream",
     "commands", NULL},
    {"vgd_stream_draws_total", "counter", "Draws, clears, blits and compute grids of these.", VALUE,
     "stream", "draws", NULL},
    {"vgd_stream_unknown_total", "counter", "Of these commands, newer ones that were passed on.",
     VALUE, "stream", "unknown", NULL},
    {"vgd_stream_refused_total", "counter", "OpenGL streams that were cut at a wrong command.",
     VALUE, "stream", "refused", NULL},
    {"vgd_transfers_total", "counter", "Transfers by a command of their own.", VALUE, "ever",
     "transfers", NULL},
    {"vgd_flushes_total", "counter", "Flushes of resources to scanouts.", VALUE, NULL, "flushes",
     NULL},
    {"vgd_pictures_total", "counter", "Pictures read back for the display.", VALUE, "ever",
     "pictures", NULL},
    {"vgd_fences_created_total", "counter", "Commands that had to wait for a fence.", VALUE,
     "fences", "created", NULL},
    {"vgd_fences_done_total", "counter", "Of these, those that do not wait any more.", VALUE,
     "fences", "done", NULL},
    {"vgd_fences_outstanding", "gauge", "Commands that wait for a fence now.", VALUE, "fences",
     "outstanding", NULL},
    {"vgd_fence_latency_seconds", "histogram", "From a command's execution to its fenced answer.",
     HISTOGRAM, NULL, "fence_latency", NULL},
    {"vgd_memory_bytes", "gauge", "Memory of the guest's objects, by kind.", MEMBERS, "memory",
     NULL, "kind"},
    {"vgd_resources", "gauge", "Resources there are.", VALUE, "live", "resources", NULL},
    {"vgd_contexts", "gauge", "Contexts there are, lost ones too.", VALUE, "live", "contexts",
     NULL},
    {"vgd_lost_contexts", "gauge", "Contexts that are lost and not destroyed yet.", VALUE, "live",
     "contexts_lost", NULL},
    {"vgd_maps", "gauge", "Blobs in the host-visible region.", VALUE, "live", "maps", NULL},
    {"vgd_contexts_created_total", "counter", "Contexts that were created.", VALUE, "ever",
     "contexts", NULL},
    {"vgd_contexts_lost_total", "counter", "Contexts that were lost.", VALUE, "ever",
     "contexts_lost", NULL},
};

static void put_label_value(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"') {
            (void)fputc('\\', to);
        }
        (void)fputc(*text >= ' ' && *text <= '~' ? *text : '?', to);
    }
}

/* "NAME{vm="..." */
static void put_head(FILE *to, const char *name, const char *suffix, const struct exporter_vm *vm)
{
    (void)fprintf(to, "%s%s{vm=\"", name, suffix);
    put_label_value(to, vm->name);
    (void)fputc('"', to);
}

static void put_seconds(FILE *to, uint64_t ns)
{
    (void)fprintf(to, "%" PRIu64 ".%09" PRIu64, ns / NS_PER_S, ns % NS_PER_S);
}

static bool is_number(struct json_object *value)
{
    return json_object_is_type(value, json_type_int);
}

static void put_value(FILE *to, const struct family *f, const struct exporter_vm *vm,
                      struct json_object *value)
{
    if (!is_number(value)) {
        return;
    }
    put_head(to, f->name, "", vm);
    (void)fputs("} ", to);
    uint64_t number = json_object_get_uint64(value);
    if (f->shape == SECONDS) {
        put_seconds(to, number);
    } else {
        (void)fprintf(to, "%" PRIu64, f->shape == PRESENT ? number != 0 : number);
    }
    (void)fputc('\n', to);
}

static void put_members(FILE *to, const struct family *f, const struct exporter_vm *vm,
                        struct json_object *object)
{
    if (!json_object_is_type(object, json_type_object)) {
        return;
    }
    json_object_object_foreach(object, key, value)
    {
        if (is_number(value)) {
            put_head(to, f->name, "", vm);
            (void)fprintf(to, ",%s=\"", f->label);
            put_label_value(to, key);
            (void)fprintf(to, "\"} %" PRIu64 "\n", json_object_get_uint64(value));
        }
    }
}

static void put_histogram(FILE *to, const struct family *f, const struct exporter_vm *vm,
                          struct json_object *h)
{
    struct json_object *le_ns = NULL, *counts = NULL, *sum_ns = NULL;
    if (!json_object_is_type(h, json_type_object) ||
        !json_object_object_get_ex(h, "le_ns", &le_ns) ||
        !json_object_object_get_ex(h, "counts", &counts) ||
        !json_object_object_get_ex(h, "sum_ns", &sum_ns) ||
        !json_object_is_type(le_ns, json_type_array) ||
        !json_object_is_type(counts, json_type_array) || !is_number(sum_ns) ||
        json_object_array_length(counts) != json_object_array_length(le_ns) + 1) {
        return;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < json_object_array_length(counts); i++) {
        total += json_object_get_uint64(json_object_array_get_idx(counts, i));
        put_head(to, f->name, "_bucket", vm);
        (void)fputs(",le=\"", to);
        if (i < json_object_array_length(le_ns)) {
            put_seconds(to, json_object_get_uint64(json_object_array_get_idx(le_ns, i)));
        } else {
            (void)fputs("+Inf", to);
        }
        (void)fprintf(to, "\"} %" PRIu64 "\n", total);
    }
    put_head(to, f->name, "_sum", vm);
    (void)fputs("} ", to);
    put_seconds(to, json_object_get_uint64(sum_ns));
    (void)fputc('\n', to);
    put_head(to, f->name, "_count", vm);
    (void)fprintf(to, "} %" PRIu64 "\n", total);
}

static void put_samples(FILE *to, const struct family *f, const struct exporter_vm *vm)
{
    if (f->shape == UP) {
        put_head(to, f->name, "", vm);
        (void)fprintf(to, "} %d\n", vm->counters != NULL);
        return;
    }
    struct json_object *at = vm->counters;
    if (at != NULL && f->part != NULL && !json_object_object_get_ex(at, f->part, &at)) {
        return;
    }
    if (at == NULL || (f->key != NULL && (!json_object_is_type(at, json_type_object) ||
                                          !json_object_object_get_ex(at, f->key, &at)))) {
        return;
    }
    switch (f->shape) {
    case MEMBERS:
        put_members(to, f, vm, at);
        break;
    case HISTOGRAM:
        put_histogram(to, f, vm, at);
        break;
    default:
        put_value(to, f, vm, at);
        break;
    }
}

void exporter_text(FILE *to, const struct exporter_vm *vms, size_t n_vms)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        const struct family *f = &families[i];
        (void)fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
        for (size_t vm = 0; vm < n_vms; vm++) {
            put_samples(to, f, &vms[vm]);
        }
    }
}
