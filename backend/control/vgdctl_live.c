/* SPDX-License-Identifier: MIT */
/* vgdctl counters, contexts, errors: what is counted and listed of a guest, as text or as JSON. */
#include "vgdctl.h"

#include <inttypes.h>
#include <string.h>

#include "fd.h"

#define TEXT_BYTES_MAX 64 /* a number with its unit */
/* Of contexts: no vgd has more, so a list without end is a lie. */
#define PARTS_MAX 64

static uint64_t u64_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) ? json_object_get_uint64(value) : 0;
}

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

/* --- counters --- */

static void put_line(const char *name, const char *text)
{
    int width = (int)strlen(name);
    (void)fputs("  ", stdout);
    vgdctl_put_clean(stdout, name);
    (void)printf("%*s", width < 26 ? 26 - width : 1, "");
    vgdctl_put_clean(stdout, text);
    (void)putchar('\n');
}

static void put_duration(char out[TEXT_BYTES_MAX], uint64_t ns)
{
    static const struct {
        uint64_t ns;
        const char *unit;
    } units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "us"}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (ns >= units[i].ns) {
            (void)snprintf(out, TEXT_BYTES_MAX, "%.3g %s", (double)ns / (double)units[i].ns,
                           units[i].unit);
            return;
        }
    }
    (void)snprintf(out, TEXT_BYTES_MAX, "%" PRIu64 " ns", ns);
}

/* The bound below which @part of the values are, as a histogram knows it. */
static void put_quantile(struct json_object *le_ns, struct json_object *counts, uint64_t total,
                         double part, const char *name)
{
    char text[TEXT_BYTES_MAX + 8] = "more";
    uint64_t sum = 0;
    size_t n = json_object_array_length(counts);
    for (size_t i = 0; i < n; i++) {
        sum += json_object_get_uint64(json_object_array_get_idx(counts, i));
        if ((double)sum >= part * (double)total) {
            char bound[TEXT_BYTES_MAX];
            bool is_last = i >= json_object_array_length(le_ns);
            put_duration(bound, json_object_get_uint64(json_object_array_get_idx(
                                    le_ns, is_last ? json_object_array_length(le_ns) - 1 : i)));
            (void)snprintf(text, sizeof(text), "%s %s", is_last ? ">" : "<=", bound);
            break;
        }
    }
    put_line(name, text);
}

static void print_histogram(struct json_object *h)
{
    struct json_object *le_ns = NULL, *counts = NULL;
    uint64_t total = u64_of(h, "count");
    char text[TEXT_BYTES_MAX];
    (void)snprintf(text, sizeof(text), "%" PRIu64, total);
    put_line("count", text);
    if (total == 0 || !json_object_object_get_ex(h, "le_ns", &le_ns) ||
        !json_object_object_get_ex(h, "counts", &counts) ||
        !json_object_is_type(le_ns, json_type_array) ||
        !json_object_is_type(counts, json_type_array) || json_object_array_length(le_ns) == 0) {
        return;
    }
    put_duration(text, u64_of(h, "sum_ns") / total);
    put_line("mean", text);
    put_quantile(le_ns, counts, total, 0.5, "median");
    put_quantile(le_ns, counts, total, 0.99, "99 of 100");
}

static void print_counters(struct json_object *counters)
{
    json_object_object_foreach(counters, key, part)
    {
        struct json_object *is_histogram = NULL;
        if (!json_object_is_type(part, json_type_object)) {
            continue;
        }
        vgdctl_put_clean(stdout, key);
        (void)puts(json_object_object_length(part) == 0 ? ": none" : ":");
        if (json_object_object_get_ex(part, "le_ns", &is_histogram)) {
            print_histogram(part);
            continue;
        }
        json_object_object_foreach(part, name, value)
        {
            put_line(name, value != NULL ? json_object_get_string(value) : "none");
        }
    }
    (void)puts("all:");
    json_object_object_foreach(counters, name, value)
    {
        if (!json_object_is_type(value, json_type_object)) {
            put_line(name, value != NULL ? json_object_get_string(value) : "none");
        }
    }
}

/* Ask for @request and have @print print what is under @key; true if all went well. */
static bool show(const struct vgdctl_args *args, const char *request, const char *key,
                 enum json_type type, void (*print)(struct json_object *value))
{
    VGD_AUTO_FD fd = vgdctl_connect(args);
    if (fd < 0) {
        return false;
    }
    struct json_object *whole = NULL;
    struct json_object *value = vgdctl_ask(fd, request, -1, key, NULL, &whole);
    bool ok = value != NULL && json_object_is_type(value, type);
    if (value != NULL && !ok) {
        vgdctl_complain("\"%s\" of the reply is something else", key);
    } else if (ok && args->json) {
        (void)puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    } else if (ok) {
        print(value);
    }
    (void)json_object_put(whole);
    return ok && vgdctl_flush();
}

bool vgdctl_counters(const struct vgdctl_args *args)
{
    return show(args, "{\"v\":1,\"cmd\":\"counters\"}\n", "counters", json_type_object,
                print_counters);
}

/* --- errors --- */

static void print_errors(struct json_object *errors)
{
    size_t n = json_object_array_length(errors);
    if (n == 0) {
        (void)puts("no errors");
        return;
    }
    (void)printf("%10s %9s  %-24s %-26s %10s  %s\n", "AGE", "COUNT", "COMMAND", "ANSWER", "CONTEXT",
                 "LAST");
    for (size_t i = 0; i < n; i++) {
        struct json_object *error = json_object_array_get_idx(errors, i);
        char age[TEXT_BYTES_MAX];
        (void)snprintf(age, sizeof(age), "%.1f s", (double)u64_of(error, "age_ms") / 1000);
        (void)printf("%10s %9" PRIu64 "  ", age, u64_of(error, "count"));
        const char *command = text_of(error, "command");
        const char *response = text_of(error, "response");
        vgdctl_put_clean(stdout, command);
        (void)printf("%*s", strlen(command) < 24 ? 25 - (int)strlen(command) : 1, "");
        vgdctl_put_clean(stdout, response);
        (void)printf("%*s", strlen(response) < 26 ? 27 - (int)strlen(response) : 1, "");
        (void)printf("%10" PRIu64 "  ", u64_of(error, "ctx"));
        vgdctl_put_clean(stdout, text_of(error, "text"));
        (void)putchar('\n');
    }
}

bool vgdctl_errors(const struct vgdctl_args *args)
{
    return show(args, "{\"v\":1,\"cmd\":\"errors\"}\n", "errors", json_type_array, print_errors);
}

/* --- contexts --- */

static void print_context(struct json_object *ctx)
{
    char busy[TEXT_BYTES_MAX];
    char other[TEXT_BYTES_MAX];
    put_duration(busy, u64_of(ctx, "busy_ns"));
    struct json_object *lost = NULL;
    bool is_lost = json_object_object_get_ex(ctx, "lost", &lost) && json_object_get_boolean(lost);
    (void)printf("%10" PRIu64 " %-8s %-4s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %9" PRIu64
                 " %9" PRIu64 " %9s  ",
                 u64_of(ctx, "id"), vgdctl_kind(u64_of(ctx, "capset"), other, sizeof(other)),
                 is_lost ? "lost" : "live", u64_of(ctx, "submits"), u64_of(ctx, "commands"),
                 u64_of(ctx, "draws"), u64_of(ctx, "resources"), u64_of(ctx, "objects"), busy);
    vgdctl_put_clean(stdout, text_of(ctx, "name"));
    (void)putchar('\n');
}

/* Move what @from has to the end of @to. */
static void append(struct json_object *to, struct json_object *from)
{
    for (size_t i = 0; i < json_object_array_length(from); i++) {
        (void)json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
    }
}

/* All parts of the list into @out. */
static bool ask_contexts(const struct vgdctl_args *args, struct json_object *out)
{
    VGD_AUTO_FD fd = vgdctl_connect(args);
    int64_t from_id = 0;
    for (uint32_t n = 0; fd >= 0 && n < PARTS_MAX; n++) {
        char request[96];
        struct json_object *whole = NULL;
        (void)snprintf(request, sizeof(request),
                       "{\"v\":1,\"cmd\":\"contexts\",\"from\":%" PRId64 "}\n", from_id);
        struct json_object *part = vgdctl_ask(fd, request, -1, "contexts", NULL, &whole);
        if (part == NULL || !json_object_is_type(part, json_type_array)) {
            if (part != NULL) {
                vgdctl_complain("\"contexts\" of the reply is something else");
            }
            (void)json_object_put(whole);
            return false;
        }
        append(out, part);
        int64_t next_id = vgdctl_number(whole, "next");
        (void)json_object_put(whole);
        if (next_id < 0) {
            return true;
        }
        if (next_id <= from_id) {
            break;
        }
        from_id = next_id;
    }
    if (fd >= 0) {
        vgdctl_complain("the list of contexts has no end");
    }
    return false;
}

bool vgdctl_contexts(const struct vgdctl_args *args)
{
    struct json_object *contexts = json_object_new_array();
    bool ok = ask_contexts(args, contexts);
    if (ok && args->json) {
        (void)puts(json_object_to_json_string_ext(contexts, JSON_C_TO_STRING_PLAIN));
    } else if (ok && json_object_array_length(contexts) == 0) {
        (void)puts("no contexts");
    } else if (ok) {
        (void)printf("%10s %-8s %-4s %10s %10s %10s %9s %9s %9s  %s\n", "ID", "KIND", "IS",
                     "SUBMITS", "COMMANDS", "DRAWS", "RESOURCES", "OBJECTS", "BUSY", "NAME");
        for (size_t i = 0; i < json_object_array_length(contexts); i++) {
            print_context(json_object_array_get_idx(contexts, i));
        }
    }
    (void)json_object_put(contexts);
    return ok && vgdctl_flush();
}
