/* SPDX-License-Identifier: MIT */
/* A strict reader of a page for Prometheus, text format 0.0.4, for the tests. */
#ifndef VGD_TESTS_PROMETHEUS_H
#define VGD_TESTS_PROMETHEUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROM_SAMPLES_MAX 16384u

struct prom_page {
    char *text; /* owned: the page, cut into strings */
    size_t n_samples;
    struct {
        const char *series; /* NAME{LABELS} */
        const char *value;
    } samples[PROM_SAMPLES_MAX];
};

/**
 * Read @text. Each family has one HELP and one TYPE and is in one piece, names and labels are as
 * the format wants them, no series is there twice, counters end in _total, and histograms are whole
 * and grow. False: *out_why, static.
 */
bool prom_read(const char *text, struct prom_page *out, const char **out_why);
void prom_finish(struct prom_page *page);
/** The value of a series, "NAME{LABELS}" as it stands there; NULL: it is not there. */
const char *prom_value(const struct prom_page *page, const char *series);

#endif
