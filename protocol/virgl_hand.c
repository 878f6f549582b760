/* SPDX-License-Identifier: MIT */
/* What of the virgl stream is not regular: the schema names these functions. */
#include "stream_line.h"
#include "virgl_shader.h"
#include "virgl_wire.h"

#define STRIDE_DWORDS 4u /* of stream output, in front of the outputs */
#define OUTPUT_DWORDS 2u

enum vgd_status vgd_virgl_shader_of(const struct vgd_virgl_create_shader *in,
                                    struct vgd_virgl_shader *out)
{
    struct vgd_virgl_shader v = {.text_dwords = in->rest, .n_text_dwords = in->n_rest_dwords};
    if (in->stage != VGD_VIRGL_STAGE_COMPUTE && in->n_outputs != 0) {
        if (in->n_outputs > VGD_VIRGL_MAX_STREAMOUT_OUTPUTS) {
            return VGD_RANGE;
        }
        uint32_t n = STRIDE_DWORDS + in->n_outputs * OUTPUT_DWORDS;
        if (n > in->n_rest_dwords) {
            return VGD_TRUNCATED;
        }
        v.n_outputs = in->n_outputs;
        v.strides = in->rest;
        v.outputs = in->rest + STRIDE_DWORDS;
        v.text_dwords += n;
        v.n_text_dwords -= n;
    }
    uint32_t total_dwords = in->offset_bytes / 4 + (in->offset_bytes % 4 != 0);
    if (!in->continued) {
        if (total_dwords < v.n_text_dwords) {
            return VGD_RANGE; /* more text than was announced */
        }
        v.total_bytes = in->offset_bytes;
        v.more_follows = total_dwords > v.n_text_dwords;
    }
    *out = v;
    return VGD_OK;
}

struct vgd_virgl_shader_output vgd_virgl_shader_output_of(const struct vgd_virgl_shader *shader,
                                                          uint32_t i)
{
    const uint32_t *d = shader->outputs + (size_t)i * OUTPUT_DWORDS;
    return (struct vgd_virgl_shader_output){.reg = d[0] & 0xff,
                                            .first_component = d[0] >> 8 & 3,
                                            .n_components = d[0] >> 10 & 7,
                                            .buffer = d[0] >> 13 & 7,
                                            .offset_dwords = (uint16_t)(d[0] >> 16),
                                            .stream = d[1] & 3};
}

enum vgd_status vgd_virgl_create_shader_check(const struct vgd_command *cmd,
                                              struct vgd_command_fault *fault)
{
    struct vgd_virgl_create_shader shader = {0};
    struct vgd_virgl_shader parts;
    enum vgd_status st = vgd_virgl_create_shader_decode(cmd, &shader);
    if (st == VGD_OK) {
        st = vgd_virgl_shader_of(&shader, &parts);
    }
    if (st != VGD_OK) {
        bool count = shader.stage != VGD_VIRGL_STAGE_COMPUTE &&
                     (st == VGD_TRUNCATED || shader.n_outputs > VGD_VIRGL_MAX_STREAMOUT_OUTPUTS);
        *fault =
            (struct vgd_command_fault){.what = count ? "n_outputs" : "offset_bytes",
                                       .dword = count ? 5 : 3,
                                       .value = count ? shader.n_outputs : shader.offset_bytes};
    }
    return st;
}

void vgd_virgl_create_shader_print(const struct vgd_command *cmd, struct vgd_line *line)
{
    struct vgd_virgl_create_shader shader;
    struct vgd_virgl_shader parts;
    if (vgd_virgl_create_shader_decode(cmd, &shader) != VGD_OK ||
        vgd_virgl_shader_of(&shader, &parts) != VGD_OK) {
        vgd_line_text(line, " (lengths do not fit)");
        return;
    }
    if (parts.n_outputs > 0) {
        vgd_line_field(line, "strides");
        vgd_line_dwords(line, parts.strides, STRIDE_DWORDS);
        vgd_line_field(line, "outputs");
        vgd_line_char(line, '[');
        for (uint32_t i = 0; i < parts.n_outputs; i++) {
            struct vgd_virgl_shader_output o = vgd_virgl_shader_output_of(&parts, i);
            vgd_line_text(line, i > 0 ? " {reg=" : "{reg=");
            vgd_line_u64(line, o.reg);
            vgd_line_field(line, "components");
            vgd_line_u64(line, o.first_component);
            vgd_line_char(line, '+');
            vgd_line_u64(line, o.n_components);
            vgd_line_field(line, "buffer");
            vgd_line_u64(line, o.buffer);
            vgd_line_field(line, "offset_dwords");
            vgd_line_u64(line, o.offset_dwords);
            vgd_line_field(line, "stream");
            vgd_line_u64(line, o.stream);
            vgd_line_char(line, '}');
        }
        vgd_line_char(line, ']');
    }
    vgd_line_field(line, "text");
    vgd_line_quoted(line, parts.text_dwords, (size_t)parts.n_text_dwords * 4);
}

/* A further piece needs what the first one made. */
void vgd_virgl_create_shader_adjust(const struct vgd_command *cmd, struct vgd_command_ref *ref)
{
    struct vgd_virgl_create_shader shader;
    if (vgd_virgl_create_shader_decode(cmd, &shader) == VGD_OK && shader.continued) {
        ref->role = VGD_ROLE_USE | VGD_ROLE_WRITE;
    }
}

enum vgd_status vgd_virgl_create_sampler_view_check(const struct vgd_command *cmd,
                                                    struct vgd_command_fault *fault)
{
    return (cmd->body[2] & 0xffffff) == VGD_VIRGL_FORMAT_NONE
               ? vgd_command_wrong(fault, 3, "format", 0)
               : VGD_OK;
}

static enum vgd_status layers_check(const struct vgd_command *cmd, struct vgd_command_fault *fault)
{
    uint32_t first = cmd->body[4] & 0xffff, last = cmd->body[4] >> 16;
    return last < first ? vgd_command_wrong(fault, 5, "last_layer", last) : VGD_OK;
}

enum vgd_status vgd_virgl_create_surface_check(const struct vgd_command *cmd,
                                               struct vgd_command_fault *fault)
{
    return layers_check(cmd, fault);
}

enum vgd_status vgd_virgl_create_msaa_surface_check(const struct vgd_command *cmd,
                                                    struct vgd_command_fault *fault)
{
    return layers_check(cmd, fault);
}

enum vgd_status vgd_virgl_send_string_marker_check(const struct vgd_command *cmd,
                                                   struct vgd_command_fault *fault)
{
    return cmd->body[0] > (cmd->n_dwords - 1u) * 4u
               ? vgd_command_wrong(fault, 1, "n_bytes", cmd->body[0])
               : VGD_OK;
}

/* Who is read and who is written depends on a field; an unknown direction leaves USE. */
void vgd_virgl_transfer3d_adjust(const struct vgd_command *cmd, struct vgd_command_ref *ref)
{
    struct vgd_virgl_transfer3d t;
    if (vgd_virgl_transfer3d_decode(cmd, &t) != VGD_OK) {
        return;
    }
    if (t.direction == VGD_VIRGL_TRANSFER_TO_HOST) {
        ref->role = VGD_ROLE_WRITE | VGD_ROLE_BACKING_READ;
    } else if (t.direction == VGD_VIRGL_TRANSFER_FROM_HOST) {
        ref->role = VGD_ROLE_READ | VGD_ROLE_BACKING_WRITE;
    }
}

void vgd_virgl_copy_transfer3d_adjust(const struct vgd_command *cmd, struct vgd_command_ref *ref)
{
    struct vgd_virgl_copy_transfer3d t;
    if (vgd_virgl_copy_transfer3d_decode(cmd, &t) != VGD_OK) {
        return;
    }
    bool from_host = (t.flags & VGD_VIRGL_COPY_READ_FROM_HOST) != 0;
    bool staging = ref->dword == 12;
    if (staging) {
        ref->role = from_host ? VGD_ROLE_BACKING_WRITE : VGD_ROLE_BACKING_READ;
    } else {
        ref->role = from_host ? VGD_ROLE_READ : VGD_ROLE_WRITE;
    }
}
