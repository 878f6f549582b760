/* SPDX-License-Identifier: MIT */
/* What the generator knows of one command, for the rules in stream_test.c that hold for all. */
#ifndef VGD_TESTS_STREAM_CASE_H
#define VGD_TESTS_STREAM_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "stream.h"

struct stream_case {
    const char *name;
    uint32_t id;
    const uint32_t *dwords; /* header and body of a command that the checks accept */
    uint32_t n_dwords;
    const void *value; /* NULL when there is none; then so are decode and equal */
    size_t value_size_bytes;
    enum vgd_status (*decode)(const struct vgd_command *cmd, void *out);
    void (*encode)(struct vgd_writer *w, const void *in);
    bool (*equal)(const void *left, const void *right);
};

#endif
