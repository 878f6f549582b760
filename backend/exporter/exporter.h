/* SPDX-License-Identifier: MIT */
/*
 * vgd-exporter: what vgd counts, as a page for Prometheus. A program of its own, because it speaks
 * HTTP with whoever may connect, and vgd holds the sockets on which a VM's life hangs: it asks each
 * vgd over its control socket, like vgdctl.
 *
 *   exporter.c       the command line, listening, HTTP (libmicrohttpd)
 *   exporter_ask.c   all control sockets at once, within a second
 *   exporter_text.c  the page
 *
 * Thread: the one of libmicrohttpd makes pages; the main one only waits for a signal.
 */
#ifndef VGD_EXPORTER_H
#define VGD_EXPORTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define EXPORTER_VMS_MAX 64u
#define EXPORTER_ANSWER_MS 1000u /* for all of them together */
#define EXPORTER_NAME_BYTES 128u

struct json_object;

/* Which vgd to ask. */
struct exporter_targets {
    const char *const *paths; /* argv's; none: all sockets of the control folder, each time anew */
    size_t n_paths;
};

struct exporter_vm {
    char name[EXPORTER_NAME_BYTES]; /* printable ASCII; of no two VMs the same */
    struct json_object *counters;   /* owned; NULL: it did not answer in time */
};

/** Ask all. Returns how many are in @out, which has EXPORTER_VMS_MAX; exporter_ask_end frees them.
 *  What nobody listens on is left out, unless it was named. */
size_t exporter_ask(const struct exporter_targets *targets, struct exporter_vm *out);
void exporter_ask_end(struct exporter_vm *vms, size_t n_vms);

/** The page, text format 0.0.4. The counters are read like any input. */
void exporter_text(FILE *to, const struct exporter_vm *vms, size_t n_vms);

#endif
