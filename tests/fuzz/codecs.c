/* SPDX-License-Identifier: MIT */
/*
 * Every layout of every wire, as the generator made it: the first two bytes choose one, the rest is
 * what is decoded.
 *
 * Properties: what fails leaves its output alone; what decodes is as long as the layout says and
 * encodes to bytes that decode to the same; a tail's check says the same twice. Memory is of
 * exactly the size it has to have.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "wire_case.h"

#define VALUE_BYTES 4096u /* of any fixed part, on the wire or decoded */
#define UNTOUCHED 0x5a

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

extern const struct wire_case virtio_gpu_cases[], vhost_user_cases[], display_channel_cases[],
    vtest_cases[], virgl_wire_cases[], venus_wire_cases[], trace_file_cases[];
extern const size_t virtio_gpu_n_cases, vhost_user_n_cases, display_channel_n_cases, vtest_n_cases,
    virgl_wire_n_cases, venus_wire_n_cases, trace_file_n_cases;

static const struct wire_case *case_at(size_t idx)
{
    const struct {
        const struct wire_case *cases;
        size_t n;
    } wires[] = {
        {virtio_gpu_cases, virtio_gpu_n_cases},           {vhost_user_cases, vhost_user_n_cases},
        {display_channel_cases, display_channel_n_cases}, {vtest_cases, vtest_n_cases},
        {virgl_wire_cases, virgl_wire_n_cases},           {venus_wire_cases, venus_wire_n_cases},
        {trace_file_cases, trace_file_n_cases},
    };
    size_t n_all = 0;
    for (size_t w = 0; w < sizeof(wires) / sizeof(wires[0]); w++) {
        n_all += wires[w].n;
    }
    idx %= n_all;
    size_t w = 0;
    while (idx >= wires[w].n) {
        idx -= wires[w++].n;
    }
    return &wires[w].cases[idx];
}

static bool untouched(const uint8_t *out, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (out[i] != UNTOUCHED) {
            return false;
        }
    }
    return true;
}

static void look_at_value(const struct wire_case *c, const void *value)
{
    static _Alignas(16) uint8_t again[VALUE_BYTES];
    uint8_t *bytes = malloc(c->size_bytes != 0 ? c->size_bytes : 1);
    assert(bytes != NULL);
    struct vgd_writer w = vgd_writer_of(bytes, c->size_bytes);
    c->encode(&w, value);
    assert(w.status == VGD_OK && vgd_writer_used(&w) == c->size_bytes);
    struct vgd_reader r = vgd_reader_of(bytes, c->size_bytes);
    enum vgd_status st = c->decode(&r, again);
    assert(st == VGD_OK && c->equal(value, again));
    (void)st;
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static _Alignas(16) uint8_t value[VALUE_BYTES];
    if (len_bytes < 2) {
        return 0;
    }
    const struct wire_case *c = case_at((size_t)data[0] | (size_t)data[1] << 8);
    assert(c->size_bytes < VALUE_BYTES && c->value_size_bytes < VALUE_BYTES);
    size_t n_bytes = len_bytes - 2;
    uint8_t *exact = malloc(n_bytes != 0 ? n_bytes : 1);
    assert(exact != NULL);
    memcpy(exact, data + 2, n_bytes);

    struct vgd_reader r = vgd_reader_of(exact, n_bytes);
    memset(value, UNTOUCHED, c->value_size_bytes + 1);
    enum vgd_status st = c->decode(&r, value);
    assert(value[c->value_size_bytes] == UNTOUCHED);
    if (st != VGD_OK) {
        assert(st == VGD_TRUNCATED || st == VGD_TRAILING || st == VGD_RANGE);
        assert(untouched(value, c->value_size_bytes));
    } else {
        assert(n_bytes >= c->size_bytes && vgd_reader_left(&r) == n_bytes - c->size_bytes);
        assert(!c->exact || n_bytes == c->size_bytes);
        if (c->value != NULL) {
            look_at_value(c, value);
        }
        if (c->tail_check != NULL) {
            enum vgd_status tail = c->tail_check(&r, value);
            enum vgd_status twice = c->tail_check(&r, value);
            assert(tail == twice && vgd_reader_left(&r) == n_bytes - c->size_bytes);
            (void)tail;
            (void)twice;
        }
    }
    free(exact);
    return 0;
}
