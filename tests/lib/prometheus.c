/* SPDX-License-Identifier: MIT */
#include "prometheus.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 256u
#define FAMILIES_MAX 256u

struct family {
    char name[NAME_MAX_BYTES];
    bool is_histogram, is_counter;
};

struct state {
    struct prom_page *page;
    struct family families[FAMILIES_MAX];
    size_t n_families;
    bool has_type; /* of the last family */
    /* The histogram whose buckets come now. */
    char labels[4096];
    double le, count;
    bool in_buckets, ended; /* with +Inf */
    const char *why;
};

static bool wrong(struct state *s, const char *why)
{
    s->why = why;
    return false;
}

/* The length of the name at @at; @colons: of a metric. */
static size_t name_bytes(const char *at, bool colons)
{
    size_t n = 0;
    while (isalpha((unsigned char)at[n]) || at[n] == '_' || (colons && at[n] == ':') ||
           (n > 0 && isdigit((unsigned char)at[n]))) {
        n++;
    }
    return n < NAME_MAX_BYTES ? n : 0;
}

/* A HELP or TYPE line. */
static bool comment(struct state *s, const char *line)
{
    bool is_help = strncmp(line, "# HELP ", 7) == 0;
    if (!is_help && strncmp(line, "# TYPE ", 7) != 0) {
        return wrong(s, "a comment that is neither HELP nor TYPE");
    }
    const char *name = line + 7;
    size_t n = name_bytes(name, true);
    if (n == 0 || name[n] != ' ' || name[n + 1] == '\0') {
        return wrong(s, "HELP or TYPE without name or text");
    }
    if (is_help) {
        if (s->n_families > 0 && !s->has_type) {
            return wrong(s, "a HELP without TYPE");
        }
        for (size_t i = 0; i < s->n_families; i++) {
            if (strncmp(s->families[i].name, name, n) == 0 && s->families[i].name[n] == '\0') {
                return wrong(s, "a family in two pieces");
            }
        }
        if (s->n_families == FAMILIES_MAX) {
            return wrong(s, "too many families");
        }
        struct family *f = &s->families[s->n_families++];
        *f = (struct family){0};
        memcpy(f->name, name, n);
        s->has_type = false;
        return true;
    }
    struct family *f = &s->families[s->n_families > 0 ? s->n_families - 1 : 0];
    if (s->n_families == 0 || s->has_type || strncmp(f->name, name, n) != 0 || f->name[n] != '\0') {
        return wrong(s, "a TYPE that does not follow its HELP");
    }
    s->has_type = true;
    f->is_histogram = strcmp(name + n + 1, "histogram") == 0;
    f->is_counter = strcmp(name + n + 1, "counter") == 0;
    if (!f->is_histogram && !f->is_counter && strcmp(name + n + 1, "gauge") != 0) {
        return wrong(s, "an unknown TYPE");
    }
    bool total = n > 6 && strcmp(f->name + n - 6, "_total") == 0;
    return total == f->is_counter || wrong(s, "_total is for counters");
}

/* The end of "{LABELS}" at @at; NULL: it is wrong. *@out_le: the value of le, if there is one. */
static const char *labels_end(const char *at, const char **out_le)
{
    at++;
    for (;;) {
        size_t n = name_bytes(at, false);
        if (n == 0 || at[n] != '=' || at[n + 1] != '"') {
            return NULL;
        }
        bool is_le = n == 2 && strncmp(at, "le", 2) == 0;
        at += n + 2;
        if (is_le) {
            *out_le = at;
        }
        for (; *at != '"'; at++) {
            if (*at == '\0' || (*at == '\\' && at[1] != '\\' && at[1] != '"' && at[1] != 'n')) {
                return NULL;
            }
            at += *at == '\\';
        }
        at++;
        if (*at == '}') {
            return at + 1;
        }
        if (*at++ != ',') {
            return NULL;
        }
    }
}

static bool number_read(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && (*end == '\0' || *end == '"') && !isspace((unsigned char)text[0]) &&
           !isnan(*out);
}

/* Buckets of one series, then its sum and count. */
static bool histogram_sample(struct state *s, const char *suffix, const char *series,
                             const char *le, double value)
{
    if (strcmp(suffix, "_bucket") == 0) {
        char labels[sizeof(s->labels)];
        size_t n = le != NULL ? (size_t)(le - strchr(series, '{')) : 0;
        double bound;
        if (n == 0 || n >= sizeof(labels) || !number_read(le, &bound)) {
            return wrong(s, "a bucket without le");
        }
        memcpy(labels, strchr(series, '{'), n); /* le is the last label */
        labels[n] = '\0';
        if (s->in_buckets && strcmp(labels, s->labels) == 0) {
            if (s->ended || !(bound > s->le) || value < s->count) {
                return wrong(s, "buckets that do not grow");
            }
        } else if (s->in_buckets) {
            return wrong(s, "a histogram without its sum and count");
        }
        (void)strcpy(s->labels, labels);
        s->in_buckets = true;
        s->le = bound;
        s->count = value;
        s->ended = isinf(bound);
        return true;
    }
    if (!s->in_buckets || !s->ended) {
        return wrong(s, "a histogram without its +Inf");
    }
    if (strcmp(suffix, "_count") == 0) {
        s->in_buckets = false;
        return value == s->count || wrong(s, "a histogram whose count is another");
    }
    return strcmp(suffix, "_sum") == 0 || wrong(s, "what is this of a histogram?");
}

static bool sample(struct state *s, char *line)
{
    if (s->n_families == 0 || !s->has_type) {
        return wrong(s, "a sample without HELP and TYPE");
    }
    const struct family *f = &s->families[s->n_families - 1];
    const char *le = NULL;
    size_t n = name_bytes(line, true);
    const char *end = line[n] == '{' ? labels_end(line + n, &le) : line + n;
    if (n == 0 || end == NULL || *end != ' ') {
        return wrong(s, "a sample whose name or labels are wrong");
    }
    line[end - line] = '\0';
    const char *value = end + 1;
    double number;
    if (!number_read(value, &number) || value[strcspn(value, "\"")] != '\0') {
        return wrong(s, "a sample without a number");
    }
    size_t family_bytes = strlen(f->name);
    if (n < family_bytes || strncmp(line, f->name, family_bytes) != 0) {
        return wrong(s, "a sample of another family");
    }
    char suffix[NAME_MAX_BYTES];
    (void)snprintf(suffix, sizeof(suffix), "%.*s", (int)(n - family_bytes), line + family_bytes);
    if (f->is_histogram ? !histogram_sample(s, suffix, line, le, number) : suffix[0] != '\0') {
        return s->why != NULL ? false : wrong(s, "a sample of another family");
    }
    if (f->is_counter && number < 0) {
        return wrong(s, "a counter below 0");
    }
    struct prom_page *page = s->page;
    for (size_t i = 0; i < page->n_samples; i++) {
        if (strcmp(page->samples[i].series, line) == 0) {
            return wrong(s, "a series twice");
        }
    }
    if (page->n_samples == PROM_SAMPLES_MAX) {
        return wrong(s, "too many samples");
    }
    page->samples[page->n_samples].series = line;
    page->samples[page->n_samples++].value = value;
    return true;
}

bool prom_read(const char *text, struct prom_page *out, const char **out_why)
{
    static struct state s;
    s = (struct state){.page = out};
    out->n_samples = 0;
    out->text = strdup(text);
    size_t n_bytes = out->text != NULL ? strlen(out->text) : 0;
    bool ok = n_bytes > 0 && out->text[n_bytes - 1] == '\n';
    s.why = ok ? NULL : "no newline at the end";
    for (char *line = out->text; ok && *line != '\0';) {
        char *end = strchr(line, '\n');
        *end = '\0';
        ok = line[0] == '#' ? comment(&s, line) : sample(&s, line);
        line = end + 1;
    }
    if (ok && (s.in_buckets || (s.n_families > 0 && !s.has_type))) {
        ok = wrong(&s, "the last family is not whole");
    }
    *out_why = s.why;
    if (!ok) {
        prom_finish(out);
    }
    return ok;
}

void prom_finish(struct prom_page *page)
{
    free(page->text);
    page->text = NULL;
    page->n_samples = 0;
}

const char *prom_value(const struct prom_page *page, const char *series)
{
    for (size_t i = 0; i < page->n_samples; i++) {
        if (strcmp(page->samples[i].series, series) == 0) {
            return page->samples[i].value;
        }
    }
    return NULL;
}
