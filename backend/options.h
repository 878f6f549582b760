/* SPDX-License-Identifier: MIT */
/* vgd's command line. */
#ifndef VGD_OPTIONS_H
#define VGD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

/* The host-visible region, unless --hostmem says otherwise: address space, not memory. */
#define VGD_HOSTMEM_DEFAULT_BYTES (8ull << 30)
#define VGD_HOSTMEM_MAX_BYTES (1ull << 40)

struct vgd_options {
    const char *socket_path; /* NULL: none; strings are argv's */
    int fd;                  /* -1: none */
    const char *render_node; /* NULL: choose */
    const char *control_path;
    bool no_control;
    const char *record_path;    /* NULL: none */
    uint32_t record_picture_ms; /* as in struct vgd_link_trace_start */
    bool virgl, venus;
    bool require_hardware;
    bool strict;               /* about streams: what is newer than the decoder is refused */
    uint64_t hostmem_bytes;    /* a power of two; meant with venus only */
    const char *render_server; /* NULL: where it usually is */
    bool probe, json;
    uint32_t restart_window_ms;
    enum vgd_log_level log_level;
};

/** Fills @o, which holds the defaults. -1: go on; else the exit status, and all is said. */
int vgd_options_parse(int argc, char **argv, struct vgd_options *o);

#endif
