/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "stream.h"
#include "stream_line.h"

struct vgd_line vgd_line_of(char *out, size_t n_bytes)
{
    return (struct vgd_line){.start = out, .pos = out, .end = out + n_bytes - 1};
}

size_t vgd_line_finish(struct vgd_line *line)
{
    if (line->cut) {
        for (uint32_t i = 1; i <= 3 && line->pos - line->start >= (ptrdiff_t)i; i++) {
            line->pos[-(ptrdiff_t)i] = '.';
        }
    }
    *line->pos = '\0';
    return (size_t)(line->pos - line->start);
}

void vgd_line_char(struct vgd_line *line, char c)
{
    if (line->pos < line->end) {
        *line->pos++ = c;
    } else {
        line->cut = true;
    }
}

void vgd_line_text(struct vgd_line *line, const char *text)
{
    for (; *text != '\0'; text++) {
        vgd_line_char(line, *text);
    }
}

static void number(struct vgd_line *line, uint64_t value, uint32_t base)
{
    char digits[20];
    uint32_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    while (n > 0) {
        vgd_line_char(line, digits[--n]);
    }
}

void vgd_line_u64(struct vgd_line *line, uint64_t value)
{
    number(line, value, 10);
}

void vgd_line_i32(struct vgd_line *line, int32_t value)
{
    if (value < 0) {
        vgd_line_char(line, '-');
    }
    number(line, value < 0 ? -(uint64_t)(int64_t)value : (uint64_t)value, 10);
}

void vgd_line_hex(struct vgd_line *line, uint64_t value)
{
    vgd_line_text(line, "0x");
    number(line, value, 16);
}

void vgd_line_real(struct vgd_line *line, double value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.6g", value);
    vgd_line_text(line, text);
}

void vgd_line_quoted(struct vgd_line *line, const void *text, size_t n_bytes)
{
    const uint8_t *bytes = text;
    vgd_line_char(line, '"');
    size_t i = 0;
    for (; i < n_bytes && bytes[i] != 0 && i < VGD_COMMAND_TEXT_BYTES_MAX; i++) {
        uint8_t c = bytes[i];
        if (c == '"' || c == '\\') {
            vgd_line_char(line, '\\');
            vgd_line_char(line, (char)c);
        } else if (c == '\n') {
            vgd_line_text(line, "\\n");
        } else if (c >= 0x20 && c < 0x7f) {
            vgd_line_char(line, (char)c);
        } else {
            vgd_line_text(line, "\\x");
            vgd_line_char(line, "0123456789abcdef"[c >> 4]);
            vgd_line_char(line, "0123456789abcdef"[c & 15]);
        }
    }
    vgd_line_text(line, i < n_bytes && bytes[i] != 0 ? "\"..." : "\"");
}

void vgd_line_dwords(struct vgd_line *line, const uint32_t *dwords, uint32_t n_dwords)
{
    vgd_line_char(line, '[');
    uint32_t n = n_dwords < VGD_COMMAND_DATA_DWORDS_MAX ? n_dwords : VGD_COMMAND_DATA_DWORDS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0) {
            vgd_line_char(line, ' ');
        }
        vgd_line_hex(line, dwords[i]);
    }
    vgd_line_text(line, n < n_dwords ? " ...] (" : "] (");
    vgd_line_u64(line, n_dwords);
    vgd_line_text(line, " dwords)");
}

void vgd_line_field(struct vgd_line *line, const char *name)
{
    vgd_line_char(line, ' ');
    vgd_line_text(line, name);
    vgd_line_char(line, '=');
}

static void print_flags(struct vgd_line *line, const struct vgd_field_flag *flags, uint32_t value)
{
    bool first = true;
    for (; flags->name != NULL; flags++) {
        if ((value & flags->bit) != 0) {
            vgd_line_text(line, first ? "" : "|");
            vgd_line_text(line, flags->name);
            value &= ~flags->bit;
            first = false;
        }
    }
    if (value != 0 || first) {
        vgd_line_text(line, first ? "" : "|");
        if (value == 0) {
            vgd_line_char(line, '0');
        } else {
            vgd_line_hex(line, value);
        }
    }
}

static void print_enum(struct vgd_line *line, const char *(*name_of)(uint32_t), uint32_t value)
{
    const char *name = name_of(value);
    if (strcmp(name, "unknown") != 0) {
        vgd_line_text(line, name);
    } else {
        vgd_line_text(line, "unknown-");
        vgd_line_u64(line, value);
    }
}

/* How many dwords one value takes. */
static uint32_t step_of(const struct vgd_command_field *f)
{
    switch (f->type) {
    case VGD_FIELD_F64:
    case VGD_FIELD_U64:
        return 2;
    case VGD_FIELD_PART:
        return f->part->n_dwords;
    default:
        return 1;
    }
}

static void print_scalar(struct vgd_line *line, const struct vgd_command_field *f,
                         const uint32_t *d)
{
    uint32_t value = d[0] >> f->shift;
    if (f->width < 32) {
        value &= (UINT32_C(1) << f->width) - 1;
    }
    switch (f->type) {
    case VGD_FIELD_HEX:
        vgd_line_hex(line, value);
        break;
    case VGD_FIELD_I32:
        vgd_line_i32(line, (int32_t)value);
        break;
    case VGD_FIELD_F32:
        vgd_line_real(line, (double)vgd_dword_f32(value));
        break;
    case VGD_FIELD_F64:
        vgd_line_real(line, vgd_dwords_f64(d));
        break;
    case VGD_FIELD_U64:
        vgd_line_hex(line, vgd_dwords_u64(d));
        break;
    case VGD_FIELD_ENUM:
        print_enum(line, f->name_of, value);
        break;
    case VGD_FIELD_FLAGS:
        print_flags(line, f->flags, value);
        break;
    default:
        vgd_line_u64(line, value);
        break;
    }
}

/* Fields that are in @n_dwords at @d; the first without a space in front if @tight. */
static void print_fields(struct vgd_line *line, const struct vgd_command_field *fields,
                         uint32_t n_fields, const uint32_t *d, uint32_t n_dwords, bool tight);

static void print_part(struct vgd_line *line, const struct vgd_command_part *part,
                       const uint32_t *d)
{
    if (part->n_fields == 1 && part->n_dwords == 1) {
        print_scalar(line, &part->fields[0], d);
        return;
    }
    vgd_line_char(line, '{');
    print_fields(line, part->fields, part->n_fields, d, part->n_dwords, true);
    vgd_line_char(line, '}');
}

static void print_field(struct vgd_line *line, const struct vgd_command_field *f, const uint32_t *d)
{
    if (f->count > 1) {
        vgd_line_char(line, '[');
    }
    for (uint32_t i = 0; i < f->count && !line->cut; i++) {
        if (i > 0) {
            vgd_line_char(line, ' ');
        }
        if (f->type == VGD_FIELD_PART) {
            print_part(line, f->part, d + i * step_of(f));
        } else {
            print_scalar(line, f, d + i * step_of(f));
        }
    }
    if (f->count > 1) {
        vgd_line_char(line, ']');
    }
}

static void print_fields(struct vgd_line *line, const struct vgd_command_field *fields,
                         uint32_t n_fields, const uint32_t *d, uint32_t n_dwords, bool tight)
{
    bool first = true;
    for (uint32_t i = 0; i < n_fields && !line->cut; i++) {
        const struct vgd_command_field *f = &fields[i];
        if (f->dword + f->count * step_of(f) > n_dwords) {
            continue; /* a shorter form, or cut short */
        }
        /* Of the switches in a dword only those that are on. */
        if (f->type == VGD_FIELD_BOOL && f->width < 32 && (d[f->dword] >> f->shift & 1) == 0) {
            continue;
        }
        if (tight && first) {
            vgd_line_text(line, f->name);
            vgd_line_char(line, '=');
        } else {
            vgd_line_field(line, f->name);
        }
        first = false;
        print_field(line, f, d + f->dword);
    }
}

static void print_group(struct vgd_line *line, const struct vgd_command *cmd)
{
    const struct vgd_command_kind *k = cmd->kind;
    vgd_line_field(line, k->rest_name);
    vgd_line_char(line, '[');
    uint32_t n = vgd_command_elements(cmd);
    for (uint32_t i = 0; i < n && !line->cut; i++) {
        if (i > 0) {
            vgd_line_char(line, ' ');
        }
        print_part(line, k->group, cmd->body + k->fixed_dwords + i * k->group->n_dwords);
    }
    vgd_line_char(line, ']');
}

static void print_rest(struct vgd_line *line, const struct vgd_command *cmd)
{
    const struct vgd_command_kind *k = cmd->kind;
    uint32_t n_rest =
        cmd->n_dwords > k->fixed_dwords ? cmd->n_dwords - (uint32_t)k->fixed_dwords : 0;
    const uint32_t *rest = n_rest > 0 ? cmd->body + k->fixed_dwords : NULL;
    if (k->group != NULL) {
        print_group(line, cmd);
    } else if (k->tail == VGD_TAIL_DWORDS && n_rest > 0) {
        vgd_line_field(line, k->rest_name);
        vgd_line_dwords(line, rest, n_rest);
    } else if (k->tail == VGD_TAIL_TEXT && n_rest > 0) {
        vgd_line_field(line, k->rest_name);
        vgd_line_quoted(line, rest, n_rest * sizeof(rest[0]));
    } else if (n_rest > 0) {
        vgd_line_text(line, " (");
        vgd_line_u64(line, n_rest);
        vgd_line_text(line, k->tail == VGD_TAIL_IGNORED ? " dwords, ignored)" : " dwords more)");
    }
}

size_t vgd_command_print(const struct vgd_command *cmd, char *out, size_t n_bytes)
{
    if (n_bytes == 0) {
        return 0;
    }
    if (n_bytes > VGD_COMMAND_LINE_BYTES_MAX) {
        n_bytes = VGD_COMMAND_LINE_BYTES_MAX;
    }
    struct vgd_line line = vgd_line_of(out, n_bytes);
    const struct vgd_command_kind *k = cmd->kind;
    if (k == NULL) {
        vgd_line_text(&line, "unknown");
        vgd_line_field(&line, "opcode");
        print_enum(&line, cmd->wire->opcode_name, cmd->opcode);
        vgd_line_field(&line, "object");
        print_enum(&line, cmd->wire->object_name, cmd->object);
        vgd_line_field(&line, "body");
        vgd_line_dwords(&line, cmd->body, cmd->n_dwords);
        return vgd_line_finish(&line);
    }
    vgd_line_text(&line, k->name);
    if (k->objects != 0) {
        vgd_line_char(&line, ' ');
        print_enum(&line, cmd->wire->object_name, cmd->object);
    }
    print_fields(&line, k->fields, k->n_fields, cmd->body, cmd->n_dwords, false);
    if (cmd->n_dwords < k->min_dwords) {
        vgd_line_text(&line, " (cut short)");
    } else if (k->print != NULL) {
        k->print(cmd, &line);
    } else {
        print_rest(&line, cmd);
    }
    return vgd_line_finish(&line);
}
