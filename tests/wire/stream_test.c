/* SPDX-License-Identifier: MIT */
/*
 * Rules that hold for every command of the virgl stream. The table comes from the schema; that
 * the layouts are the right ones is virgl_test.c's business.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "stream_case.h"
#include "virgl_wire.h"

#define LARGEST_BYTES 4096u /* of any command, on the wire or decoded */

extern const struct stream_case virgl_wire_commands[];
extern const size_t virgl_wire_n_commands;

static void for_each_case(void (*rule)(const struct stream_case *c))
{
    for (size_t i = 0; i < virgl_wire_n_commands; i++) {
        rule(&virgl_wire_commands[i]);
    }
}

/* A copy of exactly @n_dwords, so that ASan sees an over-read. The caller frees it. */
static uint32_t *exact_copy(const uint32_t *dwords, size_t n_dwords)
{
    uint32_t *copy = malloc(n_dwords != 0 ? n_dwords * sizeof(*copy) : 1);
    cr_assert(copy != NULL);
    if (n_dwords != 0) {
        memcpy(copy, dwords, n_dwords * sizeof(*copy));
    }
    return copy;
}

static struct vgd_command command_of(const uint32_t *dwords, uint32_t n_dwords)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd = {0};
    cr_assert(vgd_stream_next(&s, &cmd));
    cr_assert(s.at == n_dwords);
    return cmd;
}

/* Everything that a command can be asked, whatever it is. */
static void ask_everything(const struct vgd_command *cmd)
{
    struct vgd_command_fault fault = {0};
    (void)!vgd_command_check(cmd, &fault);
    struct vgd_command_refs refs = vgd_command_refs_of(cmd);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        cr_assert(ref.dword >= 1 && ref.dword <= cmd->n_dwords && ref.id != 0 && ref.role != 0);
        cr_assert(cmd->body[ref.dword - 1] == ref.id);
    }
    char line[VGD_COMMAND_LINE_BYTES_MAX];
    size_t n = vgd_command_print(cmd, line, sizeof(line));
    cr_assert(n < sizeof(line) && line[n] == '\0');
}

static void check_value(const struct stream_case *c)
{
    uint32_t *dwords = exact_copy(c->dwords, c->n_dwords);
    struct vgd_command cmd = command_of(dwords, c->n_dwords);
    cr_assert(cmd.kind == &vgd_virgl_kinds[c->id], "%s: another command", c->name);
    struct vgd_command_fault fault = {.what = "nothing"};
    enum vgd_status st = vgd_command_check(&cmd, &fault);
    cr_assert(st == VGD_OK, "%s: %s (%s)", c->name, vgd_status_text(st), fault.what);
    cr_assert_str_eq(fault.what, "nothing");
    if (c->value != NULL) {
        static _Alignas(16) uint8_t out[LARGEST_BYTES];
        cr_assert(c->value_size_bytes <= sizeof(out));
        cr_assert(c->decode(&cmd, out) == VGD_OK && c->equal(out, c->value), "%s: other value",
                  c->name);
    }
    ask_everything(&cmd);
    free(dwords);
}

Test(stream, decode_gives_the_value_and_the_checks_accept_it)
{
    for_each_case(check_value);
}

static void check_encode(const struct stream_case *c)
{
    static uint8_t bytes[LARGEST_BYTES];
    size_t n_bytes = c->n_dwords * sizeof(uint32_t);
    cr_assert(n_bytes <= sizeof(bytes), "%s", c->name);
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    c->encode(&w, c->value);
    if (vgd_virgl_kinds[c->id].tail == VGD_TAIL_IGNORED) {
        n_bytes = sizeof(uint32_t);
        cr_assert(vgd_writer_used(&w) == n_bytes, "%s", c->name);
        return;
    }
    cr_assert(w.status == VGD_OK && vgd_writer_used(&w) == n_bytes, "%s: %zu bytes", c->name,
              vgd_writer_used(&w));
    cr_assert(memcmp(bytes, c->dwords, n_bytes) == 0, "%s: other dwords", c->name);
}

Test(stream, encode_gives_the_dwords)
{
    for_each_case(check_encode);
}

/* The stream ends inside the command: it is not there. */
static void check_cut_stream(const struct stream_case *c)
{
    for (uint32_t n = 0; n < c->n_dwords; n++) {
        uint32_t *dwords = exact_copy(c->dwords, n);
        struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n);
        struct vgd_command cmd = {.at = 0xdead};
        cr_assert(!vgd_stream_next(&s, &cmd) && cmd.at == 0xdead, "%s at %u", c->name, n);
        cr_assert(s.status == (n == 0 ? VGD_OK : VGD_TRUNCATED) && s.at == 0, "%s", c->name);
        free(dwords);
    }
}

Test(stream, a_cut_stream_has_no_command)
{
    for_each_case(check_cut_stream);
}

/* The header says less than the command is: only another form of it is accepted. */
static void check_short_body(const struct stream_case *c)
{
    const struct vgd_command_kind *k = &vgd_virgl_kinds[c->id];
    for (uint32_t n = 0; n + 1 < c->n_dwords; n++) {
        uint32_t *dwords = exact_copy(c->dwords, n + 1);
        dwords[0] = (dwords[0] & 0xffff) | n << 16;
        struct vgd_command cmd = command_of(dwords, n + 1);
        struct vgd_command_fault fault;
        enum vgd_status st = vgd_command_check(&cmd, &fault);
        static _Alignas(16) uint8_t out[LARGEST_BYTES];
        memset(out, 0x5a, sizeof(out));
        enum vgd_status decoded = c->decode != NULL ? c->decode(&cmd, out) : VGD_OK;
        if (n < k->min_dwords) {
            cr_assert(st == VGD_TRUNCATED, "%s of %u: %s", c->name, n, vgd_status_text(st));
            cr_assert(c->decode == NULL || decoded == VGD_TRUNCATED, "%s of %u", c->name, n);
            cr_assert_str_eq(fault.what, "length");
        } else if (k->group == NULL && k->tail == VGD_TAIL_NONE) {
            bool form = (k->forms >> n & 1) != 0;
            cr_assert(st == (form ? VGD_OK : VGD_RANGE), "%s of %u", c->name, n);
            cr_assert(decoded == (form ? VGD_OK : VGD_RANGE), "%s of %u", c->name, n);
        }
        if (decoded != VGD_OK) {
            for (size_t i = 0; i < sizeof(out); i++) {
                cr_assert(out[i] == 0x5a, "%s of %u: output written", c->name, n);
            }
        }
        ask_everything(&cmd);
        free(dwords);
    }
}

Test(stream, a_body_that_is_too_short_is_refused)
{
    for_each_case(check_short_body);
}

static void check_long_body(const struct stream_case *c)
{
    const struct vgd_command_kind *k = &vgd_virgl_kinds[c->id];
    uint32_t longer[LARGEST_BYTES / 4 + 1] = {0};
    memcpy(longer, c->dwords, c->n_dwords * sizeof(longer[0]));
    longer[0] += UINT32_C(1) << 16;
    struct vgd_command cmd = command_of(longer, c->n_dwords + 1);
    struct vgd_command_fault fault;
    enum vgd_status st = vgd_command_check(&cmd, &fault), want;
    if (k->group != NULL) {
        want = cmd.n_dwords > k->max_dwords ? k->longer_ignored ? VGD_OK : VGD_RANGE
               : k->group->n_dwords == 1    ? st
               : k->slack                   ? VGD_UNSUPPORTED
                                            : VGD_RANGE;
    } else if (k->tail != VGD_TAIL_NONE || k->longer_ignored) {
        want = VGD_OK;
    } else {
        want = cmd.n_dwords > k->max_dwords          ? VGD_UNSUPPORTED
               : (k->forms >> cmd.n_dwords & 1) != 0 ? VGD_OK
                                                     : VGD_RANGE;
    }
    cr_assert(st == want, "%s: %s", c->name, vgd_status_text(st));
    ask_everything(&cmd);
}

Test(stream, a_body_that_is_too_long_is_not_taken_for_ours)
{
    for_each_case(check_long_body);
}

/* Each dword in turn becomes a number that is nobody's: nothing is read beyond, whatever it was. */
static void check_lies(const struct stream_case *c)
{
    static const uint32_t lies[] = {0, 1, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (uint32_t i = 1; i < c->n_dwords && i < 64; i++) {
        for (size_t k = 0; k < sizeof(lies) / sizeof(lies[0]); k++) {
            uint32_t *dwords = exact_copy(c->dwords, c->n_dwords);
            dwords[i] = lies[k];
            struct vgd_command cmd = command_of(dwords, c->n_dwords);
            ask_everything(&cmd);
            free(dwords);
        }
    }
}

Test(stream, numbers_that_lie_do_no_harm)
{
    for_each_case(check_lies);
}

static void check_print(const struct stream_case *c)
{
    struct vgd_command cmd = command_of(c->dwords, c->n_dwords);
    char whole[VGD_COMMAND_LINE_BYTES_MAX];
    size_t n_whole = vgd_command_print(&cmd, whole, sizeof(whole));
    cr_assert(strncmp(whole, vgd_command_name(&cmd), strlen(vgd_command_name(&cmd))) == 0);
    for (size_t room = 0; room <= n_whole + 1; room++) {
        char *line = malloc(room != 0 ? room : 1);
        size_t n = vgd_command_print(&cmd, line, room);
        cr_assert(n == (room == 0        ? 0
                        : room > n_whole ? n_whole
                                         : room - 1),
                  "%s in %zu", c->name, room);
        cr_assert(room == 0 || line[n] == '\0');
        cr_assert(room < 4 || room > n_whole || strcmp(line + n - 3, "...") == 0, "%s", line);
        for (size_t i = 0; i < n; i++) {
            cr_assert(line[i] >= ' ' && line[i] < 0x7f);
        }
        free(line);
    }
}

Test(stream, a_line_never_leaves_its_room)
{
    for_each_case(check_print);
}

Test(stream, every_command_and_object_is_here)
{
    bool seen[VGD_VIRGL_IDS] = {true};
    for (size_t i = 0; i < virgl_wire_n_commands; i++) {
        seen[virgl_wire_commands[i].id] = true;
    }
    for (uint32_t id = 0; id < VGD_VIRGL_IDS; id++) {
        cr_assert(seen[id], "no vector for %s", vgd_virgl_kinds[id].name);
    }
    cr_assert(vgd_virgl_stream.n_opcodes == 64);
    for (uint32_t op = 0; op < 64; op++) {
        bool create = op == vgd_virgl_stream.create_opcode;
        cr_assert((vgd_virgl_stream.by_opcode[op] != NULL) != create, "opcode %u", op);
    }
    cr_assert(vgd_virgl_stream.n_objects == 12 && vgd_virgl_stream.by_object[0] == NULL);
    for (uint32_t type = 1; type < 12; type++) {
        cr_assert(vgd_virgl_stream.by_object[type] != NULL, "object %u", type);
    }
}
