/* SPDX-License-Identifier: MIT */
/*
 * The two hashes of a trace file, both libxxhash's XXH3. The check (64 bits) finds damage; the name
 * (128 bits) finds equal pieces. Neither is a signature: their seeds are random for each file, so a
 * guest cannot aim at a collision, but who can write the file can make both fit.
 */
#ifndef VGD_TRACE_HASH_H
#define VGD_TRACE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

static inline uint64_t vgd_trace_check(const void *data, size_t n_bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, n_bytes, seed);
}

#endif
