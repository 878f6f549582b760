/* SPDX-License-Identifier: MIT */
/* What the generator knows of one layout, for the rules in codec_test.c that hold for all. */
#ifndef VGD_TESTS_WIRE_CASE_H
#define VGD_TESTS_WIRE_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "status.h"

struct wire_case {
    const char *name;
    bool exact;            /* a message with an end: one more byte is an error */
    size_t size_bytes;     /* of the fixed part on the wire */
    const uint8_t *bytes;  /* @value on the wire; every byte that is not padding differs from 0 */
    const uint8_t *padded; /* the same with padding that is not 0 */
    const void *value;     /* NULL when there is no field; then so are the functions below */
    size_t value_size_bytes;
    enum vgd_status (*decode)(struct vgd_reader *r, void *out); /* never NULL */
    void (*encode)(struct vgd_writer *w, const void *in);
    bool (*equal)(const void *left, const void *right);
    enum vgd_status (*tail_check)(const struct vgd_reader *r, const void *in); /* or NULL */
};

struct wire_name {
    const char *(*name_of)(uint32_t value); /* NULL ends the table */
    uint32_t value;
    const char *name;
};

#endif
