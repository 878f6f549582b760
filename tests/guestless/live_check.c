/* SPDX-License-Identifier: MIT */
/* What vgdctl and vgd-exporter say of the guest of "live", against its books. */
#include "live.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fd.h"
#include "prometheus.h"

char control[64], page_socket[64];
const char *vgdctl;
char text[TEXT_BYTES];

/* The output of "vgdctl -c SOCKET @words", in text; false: it failed. */
bool live_ask(const char *words)
{
    char command[1024];
    (void)snprintf(command, sizeof(command), "'%s' -c '%s' %s 2>&1", vgdctl, control, words);
    FILE *from = popen(command, "re");
    size_t n = from != NULL ? fread(text, 1, sizeof(text) - 1, from) : 0;
    text[n] = '\0';
    return from != NULL && pclose(from) == 0;
}

/* The value at @path ("part/key") of @value, or NULL. */
struct json_object *live_at(struct json_object *value, const char *path)
{
    char part[64];
    while (value != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        (void)snprintf(part, sizeof(part), "%.*s", (int)n, path);
        if (!json_object_object_get_ex(value, part, &value)) {
            return NULL;
        }
        path += n + (path[n] == '/');
    }
    return value;
}

bool live_is(struct json_object *counters, const char *path, uint64_t expect)
{
    struct json_object *value = live_at(counters, path);
    bool right =
        json_object_is_type(value, json_type_int) && json_object_get_uint64(value) == expect;
    if (!right) {
        tap_note("%s is %s, not %" PRIu64, path,
                 value != NULL ? json_object_get_string(value) : "not there", expect);
    }
    return right;
}

static bool same(struct json_object *counters, const char *path, struct json_object *expect)
{
    bool right = json_object_equal(live_at(counters, path), expect);
    if (!right) {
        tap_note("%s: %s, not", path, json_object_to_json_string(live_at(counters, path)));
        tap_note("%s", json_object_to_json_string(expect));
    }
    return right;
}

/* What each number has to be. NULL: the end. */
static const struct expectation {
    const char *path;
    const char *series; /* of the exporter */
    const uint64_t *value;
} expectations[] = {
    {"bytes/commands", "vgd_bytes_total{vm=\"c\",direction=\"commands\"}", &books.command_bytes},
    {"bytes/responses", "vgd_bytes_total{vm=\"c\",direction=\"responses\"}", &books.response_bytes},
    {"bytes/to_host", "vgd_bytes_total{vm=\"c\",direction=\"to_host\"}", &books.to_host_bytes},
    {"bytes/from_host", "vgd_bytes_total{vm=\"c\",direction=\"from_host\"}",
     &books.from_host_bytes},
    {"fences/created", "vgd_fences_created_total{vm=\"c\"}", &books.fences},
    {"fences/done", "vgd_fences_done_total{vm=\"c\"}", &books.fences},
    {"fence_latency/count", "vgd_fence_latency_seconds_count{vm=\"c\"}", &books.fences},
    {"submit_time/count", "vgd_submit_time_seconds_count{vm=\"c\"}", &books.timed_submits},
    {"flushes", "vgd_flushes_total{vm=\"c\"}", &books.flushes},
    {"stream/commands", "vgd_stream_commands_total{vm=\"c\"}", &books.stream_commands},
    {"stream/draws", "vgd_stream_draws_total{vm=\"c\"}", &books.stream_draws},
    {"stream/refused", "vgd_stream_refused_total{vm=\"c\"}", &books.stream_refused},
    {"ever/submits", "vgd_submits_total{vm=\"c\"}", &books.submits},
    {"ever/submit_bytes", "vgd_submit_bytes_total{vm=\"c\"}", &books.submit_bytes},
    {"ever/transfers", "vgd_transfers_total{vm=\"c\"}", &books.transfers},
    {"ever/contexts", "vgd_contexts_created_total{vm=\"c\"}", &books.contexts_created},
    {"ever/contexts_lost", "vgd_contexts_lost_total{vm=\"c\"}", &books.contexts_lost_ever},
    {"memory/resources_2d", "vgd_memory_bytes{vm=\"c\",kind=\"resources_2d\"}", &books.memory_2d},
    {"memory/resources_3d", "vgd_memory_bytes{vm=\"c\",kind=\"resources_3d\"}", &books.memory_3d},
    {"memory/backing", "vgd_memory_bytes{vm=\"c\",kind=\"backing\"}", &books.backing},
    {"live/resources", "vgd_resources{vm=\"c\"}", &books.resources},
    {"live/contexts", "vgd_contexts{vm=\"c\"}", &books.contexts},
    {"live/contexts_lost", "vgd_lost_contexts{vm=\"c\"}", &books.contexts_lost},
    {"worker/starts", "vgd_worker_starts_total{vm=\"c\"}", &books.starts},
    {"worker/deaths", "vgd_worker_deaths_total{vm=\"c\"}", &books.deaths},
};
#define EXPECTATIONS_COUNT (sizeof(expectations) / sizeof(expectations[0]))

static bool counters_are_right(void)
{
    struct json_object *counters = live_ask("counters --json") ? json_tokener_parse(text) : NULL;
    if (counters == NULL) {
        tap_note("vgdctl counters: %s", text);
        return false;
    }
    bool ok = same(counters, "commands", books.commands);
    ok = same(counters, "responses", books.responses) && ok;
    for (size_t i = 0; i < EXPECTATIONS_COUNT; i++) {
        ok = live_is(counters, expectations[i].path, *expectations[i].value) && ok;
    }
    struct vgd_guest_display_counters screen;
    vgd_guest_display_counters(vgd_guest_gpu_display(scene.gpu), &screen);
    ok = live_is(counters, "bytes/pictures", screen.pixel_bytes) && ok;
    ok = live_is(counters, "fences/outstanding", 0) && ok;
    ok = live_is(counters, "stream/unknown", 0) && live_is(counters, "ever/bad_chains", 0) && ok;
    ok = live_is(counters, "memory/blobs_host", 0) && live_is(counters, "memory/blobs_guest", 0) &&
         ok;
    (void)json_object_put(counters);
    return ok;
}

/* GET /metrics, its body in text. */
static bool fetch(void)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: vgd\r\nConnection: close\r\n\r\n";
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", page_socket);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = false;
    for (uint32_t i = 0; i < 200 && !there; i++) { /* it may just be starting */
        there = connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
        if (!there) {
            sleep_ms(20);
        }
    }
    size_t n = 0;
    ssize_t got = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    while (got > 0 && n < sizeof(text) - 1 &&
           (got = recv(fd, text + n, sizeof(text) - 1 - n, 0)) > 0) {
        n += (size_t)got;
    }
    text[n] = '\0';
    char *body = strstr(text, "\r\n\r\n");
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0 || body == NULL ||
        strstr(text, "Content-Type: text/plain; version=0.0.4") == NULL) {
        return false;
    }
    memmove(text, body + 4, strlen(body + 4) + 1);
    return true;
}

static bool sample_is(const struct prom_page *page, const char *series, uint64_t expect)
{
    char number[32];
    (void)snprintf(number, sizeof(number), "%" PRIu64, expect);
    const char *value = prom_value(page, series);
    bool right = value != NULL && strcmp(value, number) == 0;
    if (!right) {
        tap_note("%s is %s, not %s", series, value != NULL ? value : "not there", number);
    }
    return right;
}

static bool samples_are_right(const struct prom_page *page, const char *family, const char *label,
                              struct json_object *by_name)
{
    bool ok = true;
    char series[256];
    json_object_object_foreach(by_name, name, count)
    {
        (void)snprintf(series, sizeof(series), "%s{vm=\"c\",%s=\"%s\"}", family, label, name);
        ok = sample_is(page, series, json_object_get_uint64(count)) && ok;
    }
    return ok;
}

static bool page_is_right(void)
{
    static struct prom_page page;
    const char *why = NULL;
    sleep_ms(PAGE_MS);
    if (!fetch() || !prom_read(text, &page, &why)) {
        tap_note("the page: %s", why != NULL ? why : text);
        return false;
    }
    bool ok = samples_are_right(&page, "vgd_commands_total", "command", books.commands) &&
              samples_are_right(&page, "vgd_responses_total", "response", books.responses) &&
              sample_is(&page, "vgd_up{vm=\"c\"}", 1) &&
              sample_is(&page, "vgd_worker_running{vm=\"c\"}", 1) &&
              sample_is(&page, "vgd_fences_outstanding{vm=\"c\"}", 0);
    for (size_t i = 0; i < EXPECTATIONS_COUNT; i++) {
        ok = sample_is(&page, expectations[i].series, *expectations[i].value) && ok;
    }
    prom_finish(&page);
    return ok;
}

/* One of a list: the object in which each of the @n @keys is the number beside it. */
static struct json_object *find(struct json_object *list, const char *key, const char *value)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct json_object *member = live_at(one, key);
        if (member != NULL && strcmp(json_object_get_string(member), value) == 0) {
            return one;
        }
    }
    return NULL;
}

static bool context_is_right(struct json_object *list, const char *id, const char *name, bool lost,
                             uint64_t submits, uint64_t bytes, uint64_t commands, uint64_t draws,
                             uint64_t resources, uint64_t objects)
{
    struct json_object *ctx = find(list, "id", id);
    if (ctx == NULL || strcmp(json_object_get_string(live_at(ctx, "name")), name) != 0 ||
        json_object_get_boolean(live_at(ctx, "lost")) != lost) {
        tap_note("context %s: %s", id, json_object_to_json_string(ctx));
        return false;
    }
    bool ok = live_is(ctx, "submits", submits) && live_is(ctx, "submit_bytes", bytes) &&
              live_is(ctx, "commands", commands) && live_is(ctx, "draws", draws) &&
              live_is(ctx, "resources", resources) && live_is(ctx, "objects", objects);
    return ok && (json_object_get_uint64(live_at(ctx, "state_bytes")) != 0) == (objects != 0) &&
           json_object_get_uint64(live_at(ctx, "busy_ns")) != 0;
}

bool live_contexts_are_right(bool lost)
{
    struct json_object *list = live_ask("contexts --json") ? json_tokener_parse(text) : NULL;
    bool ok =
        list != NULL && json_object_array_length(list) == 2 &&
        context_is_right(list, "3", "glmark2", lost, 1 + SUBMITS,
                         setup_bytes + SUBMITS * draw_bytes, 18 + 2 * SUBMITS, 2 * SUBMITS, 3,
                         lost ? 0 : 7) &&
        (lost || live_is(find(list, "id", "11"), "submits", 1)) &&
        strcmp(json_object_get_string(live_at(find(list, "id", "11"), "name")), "e?vil?\"") == 0;
    if (!ok) {
        tap_note("contexts: %s", text);
    }
    (void)json_object_put(list);
    return ok;
}

static bool error_is(struct json_object *list, const char *command, const char *response,
                     uint64_t ctx, uint64_t count, const char *last)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        if (strcmp(json_object_get_string(live_at(one, "command")), command) == 0 &&
            strcmp(json_object_get_string(live_at(one, "response")), response) == 0 &&
            json_object_get_uint64(live_at(one, "ctx")) == ctx) {
            const char *said = json_object_get_string(live_at(one, "text"));
            bool right = json_object_get_uint64(live_at(one, "count")) == count &&
                         strstr(said, last) != NULL;
            if (!right) {
                tap_note("%s", json_object_to_json_string(one));
            }
            return right;
        }
    }
    tap_note("no %s %s", command, response);
    return false;
}

/* @stopped: submits whose context was lost with its worker. */
bool live_errors_are_right(uint64_t stopped)
{
    struct json_object *list = live_ask("errors --json") ? json_tokener_parse(text) : NULL;
    size_t n = 5;
    bool ok = error_is(list, "RESOURCE_CREATE_2D", "ERR_INVALID_PARAMETER", 0, 1, "res=4") &&
              error_is(list, "RESOURCE_CREATE_2D", "ERR_INVALID_RESOURCE_ID", 0, 1, "in use") &&
              error_is(list, "TRANSFER_TO_HOST_2D", "ERR_INVALID_PARAMETER", 0, 1, "outside") &&
              error_is(list, "RESOURCE_UNREF", "ERR_INVALID_RESOURCE_ID", 0, UNREFS, "res=906") &&
              error_is(list, "0x999", "ERR_UNSPEC", 0, 2, "type 0x999");
    if (has_3d) {
        n += 2;
        ok = error_is(list, "SUBMIT_3D", "ERR_INVALID_CONTEXT_ID", 99, 2, "ctx=99") &&
             error_is(list, "SUBMIT_3D", "ERR_INVALID_PARAMETER", BETA, 1, "12345") && ok;
    }
    if (stopped != 0) {
        n++;
        ok = error_is(list, "SUBMIT_3D", "ERR_UNSPEC", ALPHA, stopped, "is lost") && ok;
    }
    ok = ok && json_object_array_length(list) == n;
    if (!ok) {
        tap_note("errors: %s", text);
    }
    (void)json_object_put(list);
    return ok;
}

void live_all_are_right(const char *when, bool has_exporter)
{
    char name[128];
    vgd_guest_gpu_settle(scene.gpu, 50);
    (void)snprintf(name, sizeof(name), "counters %s", when);
    (void)tap_ok(counters_are_right(), name, NULL);
    (void)snprintf(name, sizeof(name), "the exporter's page %s", when);
    if (has_exporter) {
        (void)tap_ok(page_is_right(), name, NULL);
    } else {
        tap_skip(name, "no libmicrohttpd: vgd-exporter was not built");
    }
}

static bool top_says(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Is that in the text of top? */
static bool top_says(const char *format, ...)
{
    char expect[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(expect, sizeof(expect), format, args);
    va_end(args);
    bool right = strstr(text, expect) != NULL;
    if (!right) {
        tap_note("top does not say: %s", expect);
    }
    return right;
}

/* The sum of all counts in @by_name but of what begins with @but. */
static uint64_t sum_but(struct json_object *by_name, const char *but)
{
    uint64_t sum = 0;
    json_object_object_foreach(by_name, name, count)
    {
        sum += strncmp(name, but, strlen(but)) != 0 ? json_object_get_uint64(count) : 0;
    }
    return sum;
}

/* All counts here are below 1 MiB, and no part of a KiB. */
static void kib(char out[32], uint64_t n_bytes)
{
    if (n_bytes == 0) {
        (void)snprintf(out, 32, "0 B");
    } else {
        (void)snprintf(out, 32, "%" PRIu64 ".0 KiB", n_bytes / 1024);
    }
}

/* "top" tells the same, for people. */
bool live_top_is_right(void)
{
    char sizes[3][32];
    kib(sizes[0], books.memory_2d);
    kib(sizes[1], books.memory_3d);
    kib(sizes[2], books.backing);
    bool ok =
        live_ask("top --once --interval 0.1") &&
        top_says("%" PRIu64 " started, %" PRIu64 " died", books.starts, books.deaths) &&
        top_says("\ncommands   0/s (%" PRIu64 "), errors 0/s (%" PRIu64 "), flushes 0/s (%" PRIu64
                 ")\n",
                 sum_but(books.commands, "-"), sum_but(books.responses, "OK_"), books.flushes) &&
        top_says("\nstreams    draws 0/s (%" PRIu64 "), submits 0/s (%" PRIu64
                 "), unknown 0, refused %" PRIu64 ", commands 0/s (%" PRIu64 ")\n",
                 books.stream_draws, json_object_get_uint64(live_at(books.commands, "SUBMIT_3D")),
                 books.stream_refused, books.stream_commands) &&
        top_says("\nfences     0/s (%" PRIu64 "), 0 outstanding; ", books.fences) &&
        top_says("memory     2D %s, 3D %s, guest blobs 0 B, host blobs 0 B, backing %s,", sizes[0],
                 sizes[1], sizes[2]) &&
        top_says("resources %" PRIu64 ", contexts %" PRIu64 " (%" PRIu64 " lost), maps 0\n",
                 books.resources, books.contexts, books.contexts_lost) &&
        top_says(" %u x RESOURCE_UNREF -> ERR_INVALID_RESOURCE_ID: res=906\n", UNREFS) &&
        top_says(" 2 x 0x999 -> ERR_UNSPEC: type 0x999\n");
    if (has_3d) {
        ok = ok && top_says(" 2 x SUBMIT_3D -> ERR_INVALID_CONTEXT_ID, context 99: ctx=99\n") &&
             top_says("\n    11 e?vil?\"") && top_says("\n     3 glmark2");
        const char *row = ok ? strstr(text, "\n     3 glmark2") + 15 : text;
        const char *busy = ok ? strstr(row, " 0.0 ") : NULL;
        unsigned resources = 0;
        unsigned objects = 0;
        ok = busy != NULL && sscanf(busy + 5, "%u %u", &resources, &objects) == 2 &&
             resources == 3 && objects == (books.contexts_lost != 0 ? 0 : 7);
    }
    if (!ok) {
        tap_note("%s", text);
    }
    return ok;
}
