/* SPDX-License-Identifier: MIT */
/*
 * A wire's layouts as tables, for programs that show messages to people: which fields a body has,
 * where, and what their values are called. Made by generate_fields.py from the same schema as the
 * codecs. Little-endian wires only.
 */
#ifndef VGD_WIRE_FIELDS_H
#define VGD_WIRE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vgd_wire_field {
    const char *name; /* of a nested struct's: "rect.x_px" */
    uint16_t offset_bytes, count;
    uint8_t unit_bytes;                   /* 1, 2, 4 or 8 */
    bool is_text;                         /* char: not ended by 0 */
    const char *(*names)(uint32_t value); /* what the value is called; NULL: it is a number */
};

struct vgd_wire_body {
    uint32_t code;       /* of the header in front of it */
    uint32_t size_bytes; /* of the fixed part */
    uint32_t n_fields;
    const struct vgd_wire_field *fields;
};

/* By code of cmd_* in virtio-gpu.toml; by record.kind in trace-file.toml. */
extern const struct vgd_wire_body vgd_virtio_gpu_bodies[], vgd_trace_file_bodies[];
extern const size_t vgd_virtio_gpu_n_bodies, vgd_trace_file_n_bodies;

#endif
