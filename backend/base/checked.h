/* SPDX-License-Identifier: MIT */
/* Arithmetic on untrusted numbers: true and *out set, or false and *out untouched. */
#ifndef VGD_BASE_CHECKED_H
#define VGD_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

VGD_MUST_CHECK static inline bool vgd_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *out = product;
    return true;
}

VGD_MUST_CHECK static inline bool vgd_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *out = sum;
    return true;
}

/** Is [start, start + len) inside [0, size)? Never overflows; an empty span fits anywhere up to
 * @size. */
static inline bool vgd_span_fits(uint64_t start, uint64_t len, uint64_t size)
{
    return start <= size && len <= size - start;
}

#endif
