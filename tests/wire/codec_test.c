/* SPDX-License-Identifier: MIT */
/*
 * Rules that hold for every layout of every wire. The tables come from the schemas, so a new
 * message is tested the day it is added. That the layouts are the right ones is golden_test.c's
 * business, and the kernel's headers'.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wire_case.h"

#define LARGEST_BYTES 4096u /* of any fixed part, on the wire or decoded */

extern const struct wire_case virtio_gpu_cases[], vhost_user_cases[], display_channel_cases[],
    vtest_cases[], virgl_wire_cases[], venus_wire_cases[], trace_file_cases[];
extern const size_t virtio_gpu_n_cases, vhost_user_n_cases, display_channel_n_cases, vtest_n_cases,
    virgl_wire_n_cases, venus_wire_n_cases, trace_file_n_cases;
extern const struct wire_name virtio_gpu_names[], vhost_user_names[], display_channel_names[],
    vtest_names[], virgl_wire_names[], venus_wire_names[], trace_file_names[];

static void for_each_case(void (*rule)(const struct wire_case *c))
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
    size_t n_seen = 0;
    for (size_t w = 0; w < sizeof(wires) / sizeof(wires[0]); w++) {
        for (size_t i = 0; i < wires[w].n; i++) {
            const struct wire_case *c = &wires[w].cases[i];
            cr_assert(c->size_bytes < LARGEST_BYTES && c->value_size_bytes < LARGEST_BYTES,
                      "%s: raise LARGEST_BYTES", c->name);
            rule(c);
            n_seen++;
        }
    }
    cr_assert(n_seen > 60, "only %zu layouts: are the tables empty?", n_seen);
}

/* A copy of exactly @n_bytes, so that ASan sees an over-read of one byte. */
static uint8_t *exact_copy(const void *data, size_t n_bytes)
{
    uint8_t *copy = malloc(n_bytes != 0 ? n_bytes : 1);
    cr_assert(copy != NULL);
    if (n_bytes != 0) {
        memcpy(copy, data, n_bytes);
    }
    return copy;
}

static bool untouched(const uint8_t *out, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (out[i] != 0x5a) {
            return false;
        }
    }
    return true;
}

/* Decode @n_bytes of a copy of @data that starts @shift bytes off alignment. */
static enum vgd_status decode(const struct wire_case *c, const void *data, size_t n_bytes,
                              size_t shift, uint8_t *out, size_t *left_bytes)
{
    uint8_t *copy = malloc(n_bytes + shift + 1);
    cr_assert(copy != NULL);
    if (n_bytes != 0) {
        memcpy(copy + shift, data, n_bytes);
    }
    uint8_t *exact = exact_copy(copy, n_bytes + shift);
    free(copy);
    struct vgd_reader r = vgd_reader_of(exact + shift, n_bytes);
    memset(out, 0x5a, LARGEST_BYTES);
    enum vgd_status st = c->decode(&r, out);
    if (left_bytes != NULL) {
        *left_bytes = vgd_reader_left(&r);
    }
    free(exact);
    return st;
}

static void check_encode(const struct wire_case *c)
{
    if (c->value == NULL) {
        return;
    }
    uint8_t *bytes = exact_copy(c->bytes, c->size_bytes);
    memset(bytes, 0x5a, c->size_bytes);
    struct vgd_writer w = vgd_writer_of(bytes, c->size_bytes);
    c->encode(&w, c->value);
    cr_assert(w.status == VGD_OK && vgd_writer_used(&w) == c->size_bytes, "%s", c->name);
    cr_assert_arr_eq(bytes, c->bytes, c->size_bytes, "%s: other bytes", c->name);
    free(bytes);
}

Test(codec, encode_gives_the_bytes)
{
    for_each_case(check_encode);
}

static void check_no_room(const struct wire_case *c)
{
    for (size_t room = 0; c->value != NULL && room < c->size_bytes; room++) {
        uint8_t *bytes = exact_copy(c->bytes, room);
        struct vgd_writer w = vgd_writer_of(bytes, room);
        c->encode(&w, c->value);
        cr_assert(w.status == VGD_RANGE, "%s: %zu bytes of room", c->name, room);
        free(bytes);
    }
}

Test(codec, encode_says_when_there_is_no_room)
{
    for_each_case(check_no_room);
}

static void check_decode(const struct wire_case *c)
{
    static _Alignas(16) uint8_t out[LARGEST_BYTES];
    for (size_t shift = 0; shift < 8; shift++) {
        size_t left_bytes = 1;
        enum vgd_status st = decode(c, c->bytes, c->size_bytes, shift, out, &left_bytes);
        cr_assert(st == VGD_OK && left_bytes == 0, "%s at +%zu: %s", c->name, shift,
                  vgd_status_text(st));
        cr_assert(c->value == NULL || c->equal(out, c->value), "%s at +%zu: other value", c->name,
                  shift);
    }
}

Test(codec, decode_gives_the_value_at_any_alignment)
{
    for_each_case(check_decode);
}

static void check_padding(const struct wire_case *c)
{
    static _Alignas(16) uint8_t out[LARGEST_BYTES];
    if (c->value != NULL) {
        cr_assert(decode(c, c->padded, c->size_bytes, 0, out, NULL) == VGD_OK, "%s", c->name);
        cr_assert(c->equal(out, c->value), "%s: padding changed the value", c->name);
    }
}

Test(codec, decode_ignores_padding)
{
    for_each_case(check_padding);
}

static void check_prefixes(const struct wire_case *c)
{
    static _Alignas(16) uint8_t out[LARGEST_BYTES];
    for (size_t len = 0; len < c->size_bytes; len++) {
        enum vgd_status st = decode(c, c->bytes, len, 0, out, NULL);
        cr_assert(st == VGD_TRUNCATED, "%s, %zu of %zu bytes: %s", c->name, len, c->size_bytes,
                  vgd_status_text(st));
        cr_assert(untouched(out, LARGEST_BYTES), "%s, %zu bytes: output written", c->name, len);
    }
}

Test(codec, decode_refuses_every_prefix)
{
    for_each_case(check_prefixes);
}

static void check_trailing(const struct wire_case *c)
{
    static _Alignas(16) uint8_t out[LARGEST_BYTES];
    uint8_t longer[LARGEST_BYTES + 1] = {0};
    if (c->size_bytes != 0) {
        memcpy(longer, c->bytes, c->size_bytes);
    }
    size_t left_bytes = 0;
    enum vgd_status st = decode(c, longer, c->size_bytes + 1, 0, out, &left_bytes);
    if (c->exact) {
        cr_assert(st == VGD_TRAILING, "%s: %s", c->name, vgd_status_text(st));
        cr_assert(untouched(out, LARGEST_BYTES), "%s: output written", c->name);
    } else {
        cr_assert(st == VGD_OK && left_bytes == 1, "%s: not left at its tail", c->name);
    }
}

Test(codec, decode_refuses_one_byte_more_unless_a_tail_follows)
{
    for_each_case(check_trailing);
}

static void check_sticky(const struct wire_case *c)
{
    static _Alignas(16) uint8_t out[LARGEST_BYTES];
    struct vgd_reader r = vgd_reader_of(c->bytes, c->size_bytes);
    r.status = VGD_RANGE;
    memset(out, 0x5a, sizeof(out));
    cr_assert(c->decode(&r, out) == VGD_RANGE, "%s", c->name);
    cr_assert(untouched(out, LARGEST_BYTES), "%s: output written", c->name);
}

Test(codec, decode_keeps_an_earlier_failure)
{
    for_each_case(check_sticky);
}

/* Every number of a vector is large, so whatever its lengths say, no tail of 64 KiB is that long.
 */
static void check_lying_tail(const struct wire_case *c)
{
    static const uint8_t zeros[1 << 16];
    if (c->tail_check == NULL || strcmp(c->name, "vgd_disp_cursor_update") == 0) {
        return; /* a cursor's size is constant: tail_test.c */
    }
    for (size_t len = 0; len <= sizeof(zeros); len = len == 0 ? 1 : len * 2) {
        struct vgd_reader r = vgd_reader_of(zeros, len);
        cr_assert(c->tail_check(&r, c->value) == VGD_TRUNCATED, "%s with %zu bytes", c->name, len);
    }
}

Test(codec, tail_check_sees_lengths_that_lie)
{
    for_each_case(check_lying_tail);
}

Test(codec, every_value_has_its_name)
{
    const struct wire_name *const tables[] = {
        virtio_gpu_names, vhost_user_names, display_channel_names, vtest_names,
        virgl_wire_names, venus_wire_names, trace_file_names,
    };
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct wire_name *n = tables[t]; n->name_of != NULL; n++) {
            cr_assert_str_eq(n->name_of(n->value), n->name);
            cr_assert_str_eq(n->name_of(0xdeadbeef), "unknown");
        }
    }
}
