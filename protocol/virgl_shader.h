/* SPDX-License-Identifier: MIT */
/* The parts of a CREATE_SHADER, whose layout depends on its own numbers. */
#ifndef VGD_PROTOCOL_VIRGL_SHADER_H
#define VGD_PROTOCOL_VIRGL_SHADER_H

#include "virgl_wire.h"

struct vgd_virgl_shader {
    uint32_t n_outputs;          /* of stream output; 0 of a compute shader */
    const uint32_t *strides;     /* 4 of them, in dwords; NULL without outputs */
    const uint32_t *outputs;     /* vgd_virgl_shader_output_of; NULL without outputs */
    const uint32_t *text_dwords; /* this piece of the TGSI text; the whole ends in a 0 */
    uint32_t n_text_dwords;
    uint32_t total_bytes; /* of the text with its 0; 0 in a further piece, which does not say */
    bool more_follows;    /* of a first piece */
};

struct vgd_virgl_shader_output {
    uint8_t reg, first_component, n_components, buffer, stream;
    uint16_t offset_dwords;
};

/**
 * @out  borrows from the stream that @in was decoded from; untouched on failure
 *
 * Returns VGD_OK, VGD_RANGE (too many outputs, more text than announced) or VGD_TRUNCATED.
 */
VGD_MUST_CHECK enum vgd_status vgd_virgl_shader_of(const struct vgd_virgl_create_shader *in,
                                                   struct vgd_virgl_shader *out);

/** @i  below shader->n_outputs */
struct vgd_virgl_shader_output vgd_virgl_shader_output_of(const struct vgd_virgl_shader *shader,
                                                          uint32_t i);

#endif
