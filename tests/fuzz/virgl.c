/* SPDX-License-Identifier: MIT */
/*
 * Command streams as a hostile guest makes them: the input is 4 bytes of our own and then dwords.
 *
 * Properties: the walk ends and steps over every dword once; whatever is said of a command is said
 * again the same; what decodes can be encoded and decodes to the same; ids lie where they are said
 * to lie; a line stays in its room and is printable. Memory is of exactly the size it has to have,
 * so a sanitizer sees a step beyond it.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "stream_case.h"
#include "virgl_wire.h"

#define OWN_BYTES 4u
#define VALUE_BYTES 4096u
#define ENCODED_BYTES ((size_t)4 * (1 + 65535))

extern const struct stream_case virgl_wire_commands[];
extern const size_t virgl_wire_n_commands;

static const struct stream_case *case_of(uint32_t id)
{
    for (size_t i = 0; i < virgl_wire_n_commands; i++) {
        if (virgl_wire_commands[i].id == id) {
            return &virgl_wire_commands[i];
        }
    }
    return NULL;
}

static void look_at_codec(const struct vgd_command *cmd, enum vgd_status checked)
{
    static _Alignas(16) uint8_t value[VALUE_BYTES], again[VALUE_BYTES];
    static uint32_t encoded[ENCODED_BYTES / 4];
    const struct stream_case *c = case_of(cmd->kind->id);
    assert(c != NULL && c->value_size_bytes <= VALUE_BYTES);
    if (c->decode == NULL) {
        return;
    }
    enum vgd_status st = c->decode(cmd, value);
    assert(st == VGD_OK || st == VGD_TRUNCATED || st == VGD_RANGE);
    if (st != VGD_OK) {
        assert(checked == st); /* both go by the length */
        return;
    }
    struct vgd_writer w = vgd_writer_of(encoded, sizeof(encoded));
    c->encode(&w, value);
    assert(w.status == VGD_OK && vgd_writer_used(&w) <= 4 + (size_t)cmd->n_dwords * 4);
    struct vgd_stream s =
        vgd_stream_of(&vgd_virgl_stream, encoded, (uint32_t)(vgd_writer_used(&w) / 4));
    struct vgd_command cmd2;
    bool there = vgd_stream_next(&s, &cmd2);
    assert(there && s.at == s.n_dwords && cmd2.kind == cmd->kind);
    st = c->decode(&cmd2, again);
    assert(st == VGD_OK && c->equal(value, again));
    struct vgd_command_fault fault;
    enum vgd_status checked2 = vgd_command_check(&cmd2, &fault);
    assert(checked2 == checked || checked == VGD_UNSUPPORTED); /* what was too long is cut off */
    (void)there;
    (void)checked2;
}

static void look_at_line(const struct vgd_command *cmd, size_t room)
{
    char *line = malloc(room != 0 ? room : 1);
    assert(line != NULL);
    size_t n = vgd_command_print(cmd, line, room);
    assert(room == 0 ? n == 0 : n < room && line[n] == '\0');
    assert(n < VGD_COMMAND_LINE_BYTES_MAX);
    for (size_t i = 0; i < n; i++) {
        assert(line[i] >= ' ' && line[i] < 0x7f);
    }
    free(line);
}

static void look_at(const struct vgd_command *cmd, size_t room)
{
    struct vgd_command_fault fault = {.what = NULL}, again = {.what = NULL};
    enum vgd_status st = vgd_command_check(cmd, &fault);
    assert(st == VGD_OK || st == VGD_UNSUPPORTED || st == VGD_TRUNCATED || st == VGD_RANGE);
    assert((st == VGD_OK) == (fault.what == NULL));
    assert(fault.what == NULL || fault.dword <= cmd->n_dwords);
    enum vgd_status st2 = vgd_command_check(cmd, &again);
    assert(st2 == st && again.what == fault.what && again.dword == fault.dword);
    (void)st2;
    assert(cmd->kind != NULL || st != VGD_OK);

    struct vgd_command_refs refs = vgd_command_refs_of(cmd);
    struct vgd_command_ref ref;
    uint32_t n_refs = 0;
    while (vgd_command_refs_next(&refs, &ref)) {
        assert(ref.id != 0 && ref.role != 0 && ref.space <= VGD_REF_BLOB);
        assert(ref.dword >= 1 && ref.dword <= cmd->n_dwords && cmd->body[ref.dword - 1] == ref.id);
        n_refs++;
    }
    assert(n_refs <= cmd->n_dwords);
    if (cmd->kind != NULL) {
        look_at_codec(cmd, st);
    }
    look_at_line(cmd, room);
    look_at_line(cmd, 2 * VGD_COMMAND_LINE_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes < OWN_BYTES) {
        return 0;
    }
    size_t room = (size_t)(data[0] | data[1] << 8) % (VGD_COMMAND_LINE_BYTES_MAX + 2);
    uint32_t n_dwords = (uint32_t)((len_bytes - OWN_BYTES) / sizeof(uint32_t));
    uint32_t *dwords = malloc(n_dwords != 0 ? n_dwords * sizeof(*dwords) : 1);
    assert(dwords != NULL);
    if (n_dwords != 0) {
        memcpy(dwords, data + OWN_BYTES, n_dwords * sizeof(*dwords));
    }
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    uint32_t at = 0;
    while (vgd_stream_next(&s, &cmd)) {
        assert(cmd.at == at && cmd.body == dwords + at + 1);
        at += 1 + cmd.n_dwords;
        assert(s.at == at && at <= n_dwords);
        look_at(&cmd, room);
    }
    assert(s.at == at && (s.status == VGD_OK) == (at == n_dwords));
    free(dwords);
    return 0;
}
