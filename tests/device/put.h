/* SPDX-License-Identifier: MIT */
/* Streams of OpenGL commands, as a test writes them: PUT(&s, SET_STENCIL_REF, 1). */
#ifndef DEVICE_PUT_H
#define DEVICE_PUT_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "virgl_wire.h"

#define STREAM_DWORDS 65536u
#define VGD_VIRGL_OBJECT_NONE VGD_VIRGL_OBJECT_NULL /* NULL is a macro */

struct stream {
    uint32_t dwords[STREAM_DWORDS];
    uint32_t n;
};

static inline void put(struct stream *s, uint8_t opcode, uint8_t object, const uint32_t *body,
                       size_t n)
{
    assert(s->n + 1 + n <= STREAM_DWORDS);
    s->dwords[s->n++] = (uint32_t)n << 16 | (uint32_t)object << 8 | opcode;
    memcpy(s->dwords + s->n, body, n * sizeof(*body));
    s->n += (uint32_t)n;
}
#define BODY(...) ((const uint32_t[]){__VA_ARGS__})
#define PUT_OBJECT(s, opcode, object, ...)                                                         \
    put((s), VGD_VIRGL_CMD_##opcode, VGD_VIRGL_OBJECT_##object, BODY(__VA_ARGS__),                 \
        sizeof(BODY(__VA_ARGS__)) / sizeof(uint32_t))
#define PUT(s, opcode, ...) PUT_OBJECT(s, opcode, NULL, __VA_ARGS__)
#define CREATE(s, object, ...) PUT_OBJECT(s, CREATE_OBJECT, object, __VA_ARGS__)
#define DESTROY(s, object, handle) PUT_OBJECT(s, DESTROY_OBJECT, object, handle)
#define STREAM(name)                                                                               \
    static struct stream name;                                                                     \
    name.n = 0

#endif
