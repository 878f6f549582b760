/* SPDX-License-Identifier: MIT */
#include "vgdctl_top.h"

#include <inttypes.h>
#include <stdlib.h>

#define NS_PER_SECOND 1000000000ull
#define MS_PER_SECOND 1000u
#define SECONDS_PER_MINUTE 60u
#define MINUTES_PER_HOUR 60u
#define SHOWN_ERRORS_MAX 5u
#define WORD_BYTES 24

/* A number as a few characters. Returned by value, so that a line can have several. */
struct word {
    char text[WORD_BYTES];
};

static struct word scaled(double value, double step, const char *const *units, unsigned n_units)
{
    struct word w;
    unsigned unit = 0;
    while (value >= step && unit + 1 < n_units) {
        value /= step;
        unit++;
    }
    (void)snprintf(w.text, sizeof(w.text), "%.*f%s", unit == 0 || value >= 100 ? 0 : 1, value,
                   units[unit]);
    return w;
}

static struct word count(double value)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    return scaled(value, 1000, units, sizeof(units) / sizeof(units[0]));
}

static struct word bytes(double value)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    return scaled(value, 1024, units, sizeof(units) / sizeof(units[0]));
}

static struct word duration(uint64_t ns)
{
    static const char *const units[] = {" ns", " us", " ms", " s"};
    return scaled((double)ns, 1000, units, sizeof(units) / sizeof(units[0]));
}

static struct word age(uint64_t seconds)
{
    struct word w;
    uint64_t minutes = seconds / SECONDS_PER_MINUTE;
    uint64_t hours = minutes / MINUTES_PER_HOUR;
    if (hours != 0) {
        (void)snprintf(w.text, sizeof(w.text), "%" PRIu64 "h%02" PRIu64 "m", hours,
                       minutes % MINUTES_PER_HOUR);
    } else if (minutes != 0) {
        (void)snprintf(w.text, sizeof(w.text), "%" PRIu64 "m%02" PRIu64 "s", minutes,
                       seconds % SECONDS_PER_MINUTE);
    } else {
        (void)snprintf(w.text, sizeof(w.text), "%" PRIu64 "s", seconds);
    }
    return w;
}

/* What was counted in between. A counter that began anew, with a guest that did, has counted what
 * it shows. */
static uint64_t since(uint64_t before, uint64_t now)
{
    return now >= before ? now - before : now;
}

static double rate(uint64_t before, uint64_t now, double seconds)
{
    return seconds > 0 ? (double)since(before, now) / seconds : 0;
}

/* @what, how many in a second, and how many since the counting began, to the unit. */
static void put_rate(FILE *to, const char *what, uint64_t before, uint64_t now, double seconds)
{
    (void)fprintf(to, "%s%s/s (%" PRIu64 ")", what, count(rate(before, now, seconds)).text, now);
}

/* The limit below which @per_cent of the durations in between lay. */
static struct word percentile(const struct top_histogram *before, const struct top_histogram *now,
                              unsigned per_cent)
{
    struct word w = {"-"};
    uint64_t all = 0, so_far = 0;
    bool same = before->n_buckets == now->n_buckets;
    uint64_t counts[TOP_BUCKETS_MAX + 1];
    for (unsigned i = 0; i <= now->n_buckets; i++) {
        counts[i] = same ? since(before->counts[i], now->counts[i]) : now->counts[i];
        all += counts[i];
    }
    if (all == 0) {
        return w;
    }
    uint64_t rank = all / 100 * per_cent + (all % 100 * per_cent + 99) / 100; /* rounded up */
    unsigned at = 0;
    while (at < now->n_buckets && (so_far += counts[at]) < rank) {
        at++;
    }
    bool beyond = at == now->n_buckets;
    unsigned limit = beyond && at > 0 ? at - 1 : at;
    struct word ns = duration(now->n_buckets > 0 ? now->le_ns[limit] : 0);
    (void)snprintf(w.text, sizeof(w.text), "%s%.16s", beyond ? ">" : "<=", ns.text);
    return w;
}

static void put_percentiles(FILE *to, const char *what, const struct top_histogram *before,
                            const struct top_histogram *now)
{
    (void)fprintf(to, "%s: 50 %% %s, 95 %% %s, 99 %% %s", what, percentile(before, now, 50).text,
                  percentile(before, now, 95).text, percentile(before, now, 99).text);
}

/* ---- the table of contexts --------------------------------------------------------------------
 */

struct row {
    const struct top_context *context;
    double draws, submits, busy_percent;
};

static int busiest_first(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->busy_percent != y->busy_percent) {
        return x->busy_percent < y->busy_percent ? 1 : -1;
    }
    if (x->submits != y->submits) {
        return x->submits < y->submits ? 1 : -1;
    }
    return x->context->id < y->context->id ? -1 : 1;
}

static const struct top_context *context_of(const struct top_sample *sample, uint64_t id,
                                            unsigned guess)
{
    if (guess < sample->n_contexts && sample->context[guess].id == id) {
        return &sample->context[guess]; /* as a rule: nothing came or went */
    }
    for (unsigned i = 0; i < sample->n_contexts; i++) {
        if (sample->context[i].id == id) {
            return &sample->context[i];
        }
    }
    return NULL;
}

static unsigned put_contexts(FILE *to, const struct top_sample *before,
                             const struct top_sample *now, double seconds, unsigned rows)
{
    static struct row row[TOP_CONTEXTS_MAX];
    static const struct top_context none;
    for (unsigned i = 0; i < now->n_contexts; i++) {
        const struct top_context *c = &now->context[i], *b = context_of(before, c->id, i);
        b = b != NULL ? b : &none;
        row[i] = (struct row){.context = c,
                              .draws = rate(b->draws, c->draws, seconds),
                              .submits = rate(b->submits, c->submits, seconds),
                              .busy_percent = rate(b->busy_ns, c->busy_ns, seconds) * 100 /
                                              (double)NS_PER_SECOND};
    }
    qsort(row, now->n_contexts, sizeof(row[0]), busiest_first);
    (void)fprintf(to, "%6s %-20s %-8s %8s %9s %6s %9s %8s %10s\n", "ID", "NAME", "KIND", "DRAWS/s",
                  "SUBMITS/s", "BUSY%", "RESOURCES", "OBJECTS", "STATE");
    unsigned n = now->n_contexts < rows ? now->n_contexts : rows;
    for (unsigned i = 0; i < n; i++) {
        const struct top_context *c = row[i].context;
        (void)fprintf(to, "%6" PRIu64 " %-20.20s %-8.8s %8s %9s %6.1f %9s %8s %10s%s\n", c->id,
                      c->name, c->capset, count(row[i].draws).text, count(row[i].submits).text,
                      row[i].busy_percent, count((double)c->resources).text,
                      count((double)c->objects).text, bytes((double)c->state_bytes).text,
                      c->lost ? " lost" : "");
    }
    return n;
}

static void put_errors(FILE *to, const struct top_sample *now, unsigned rows)
{
    for (unsigned i = 0; i < now->n_errors && i < rows; i++) {
        const struct top_error *e = &now->error[i];
        (void)fprintf(to, "%6s ago %6s x %s -> %s", age(e->age_ms / MS_PER_SECOND).text,
                      count((double)e->count).text, e->command, e->response);
        if (e->ctx != 0) {
            (void)fprintf(to, ", context %" PRIu64, e->ctx);
        }
        (void)fprintf(to, "%s%s\n", e->text[0] != '\0' ? ": " : "", e->text);
    }
}

/* ---- all of it --------------------------------------------------------------------------------
 */

/* Returns how many lines it wrote. */
static unsigned put_summary(FILE *to, const struct top_sample *b, const struct top_sample *n,
                            double s)
{
    unsigned lines = 8;
    (void)fprintf(to,
                  "vgd %s, process %" PRIu64 ", up %s; worker %" PRIu64 " is %s, %" PRIu64
                  " started, %" PRIu64 " died; %s%s%s\n",
                  n->version, n->pid, age(n->uptime_ns / NS_PER_SECOND).text, n->worker_pid,
                  n->worker_state, n->worker_starts, n->worker_deaths, n->renderer,
                  n->gpu[0] != '\0' ? " on " : "", n->gpu);
    if (n->trace_state[0] != '\0') {
        (void)fprintf(to, "recording  %s, %s records, %s, %s gaps\n", n->trace_state,
                      count((double)n->trace_records).text, bytes((double)n->trace_bytes).text,
                      count((double)n->trace_gaps).text);
        lines++;
    }
    put_rate(to, "commands   ", b->commands, n->commands, s);
    put_rate(to, ", errors ", b->errors, n->errors, s);
    put_rate(to, ", flushes ", b->flushes, n->flushes, s);
    put_rate(to, "\nstreams    draws ", b->draws, n->draws, s);
    put_rate(to, ", submits ", b->submits, n->submits, s);
    (void)fprintf(to, ", unknown %" PRIu64 ", refused %" PRIu64, n->stream_unknown,
                  n->stream_refused);
    put_rate(to, ", commands ", b->stream_commands, n->stream_commands, s);
    (void)fputc('\n', to);
    (void)fprintf(to,
                  "bytes/s    to host %s, from host %s, commands %s, responses %s, pictures %s\n",
                  bytes(rate(b->bytes_to_host, n->bytes_to_host, s)).text,
                  bytes(rate(b->bytes_from_host, n->bytes_from_host, s)).text,
                  bytes(rate(b->bytes_commands, n->bytes_commands, s)).text,
                  bytes(rate(b->bytes_responses, n->bytes_responses, s)).text,
                  bytes(rate(b->bytes_pictures, n->bytes_pictures, s)).text);
    put_rate(to, "fences     ", b->fences_done, n->fences_done, s);
    (void)fprintf(to, ", %" PRIu64 " outstanding; ", n->fences_outstanding);
    put_percentiles(to, "latency", &b->fence_latency, &n->fence_latency);
    (void)fputs("\nsubmits    ", to);
    put_percentiles(to, "time", &b->submit_time, &n->submit_time);
    (void)fprintf(to,
                  "\nmemory     2D %s, 3D %s, guest blobs %s, host blobs %s, backing %s, "
                  "context state %s\n",
                  bytes((double)n->memory_2d).text, bytes((double)n->memory_3d).text,
                  bytes((double)n->memory_guest).text, bytes((double)n->memory_host).text,
                  bytes((double)n->memory_backing).text, bytes((double)n->memory_state).text);
    (void)fprintf(to,
                  "live       resources %" PRIu64 ", contexts %" PRIu64 " (%" PRIu64
                  " lost), maps %" PRIu64 "\n",
                  n->resources, n->contexts, n->contexts_lost, n->maps);
    return lines;
}

void vgdctl_top_screen(FILE *to, const struct top_sample *before, const struct top_sample *now,
                       unsigned rows)
{
    /* By its own clock: how long a reply took does not matter then. */
    bool same_vgd = now->uptime_ns > before->uptime_ns && before->uptime_ns != 0;
    uint64_t ns = same_vgd ? now->uptime_ns - before->uptime_ns : now->time_ns - before->time_ns;
    double seconds = (double)ns / (double)NS_PER_SECOND;
    unsigned used = put_summary(to, before, now, seconds);
    unsigned room = rows == 0 ? UINT32_MAX : rows > used ? rows - used : 0;
    unsigned n_errors = now->n_errors < SHOWN_ERRORS_MAX ? now->n_errors : SHOWN_ERRORS_MAX;
    unsigned for_errors = rows == 0 ? now->n_errors : n_errors;
    if (room > 2 + for_errors) { /* an empty line and a heading */
        (void)fputc('\n', to);
        room -= 2 + for_errors;
        room -= put_contexts(to, before, now, seconds, room);
        room += for_errors;
    }
    if (room > 1 && now->n_errors > 0) {
        (void)fputs("recent errors\n", to);
        put_errors(to, now, room - 1 < for_errors ? room - 1 : for_errors);
    }
}
