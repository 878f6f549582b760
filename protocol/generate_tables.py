# SPDX-License-Identifier: MIT
"""Test vectors of a wire, and its tables for people."""

import re
import textwrap

import generate_stream_tables
from generate_c import banner, looped, tail_text
from generate_text import COLUMNS, cell


class Filler:
    """Distinct bytes for a layout, and the C initialiser of the value they stand for."""

    def __init__(self, pad_byte):
        self.pad_byte = pad_byte
        self.data = bytearray()
        self.next = 1

    def take(self, n):
        out = bytearray()
        for _ in range(n):
            out.append(self.next)
            self.next = self.next % 250 + 1  # never 0; 250 does not line up with any field size
        self.data += out
        return bytes(out)

    def init(self, m):
        parts = []
        for f in m.fields:
            if f.pad:
                self.data += bytes([self.pad_byte]) * f.size
                continue
            values = []
            for _ in range(f.count):
                if f.nested:
                    values.append(self.init(f.nested))
                else:
                    raw = int.from_bytes(self.take(f.unit), "little")
                    values.append(self.literal(f, raw))
            text = "{" + ", ".join(values) + "}" if f.is_array else values[0]
            parts.append(f".{f.name} = {text}")
        return "{" + ", ".join(parts) + "}"

    @staticmethod
    def literal(f, raw):
        if f.type == "i32":
            return str(raw - (1 << 32) if raw >> 31 else raw)
        if f.type == "char":
            return f"(char){raw}"
        return f"0x{raw:0{2 * f.unit}x}" + ("u" if f.unit >= 4 else "") + ("ll" if f.unit == 8
                                                                          else "")


def equal_lines(m):
    out = [f"static bool {m.c_name}_equal(const void *left, const void *right)", "{",
           f"    const struct {m.c_name} *a = left, *b = right;", "    bool same = true;"]
    for f in m.fields:
        if f.pad:
            continue
        index = "[i]" if f.is_array else ""
        a, b = f"a->{f.name}{index}", f"b->{f.name}{index}"
        line = f"same = same && {f.nested.c_name}_equal(&{a}, &{b});" if f.nested \
            else f"same = same && {a} == {b};"
        out += looped(f, line)
    return out + ["    return same;", "}", ""]


def byte_lines(name, data):
    text = ", ".join(f"0x{b:02x}" for b in data)
    return ([f"static const uint8_t {name}[] = {{"]
            + ["    " + l for l in textwrap.wrap(text, COLUMNS - 5)] + ["};"])


def vectors(wire, header_name):
    """A table of struct wire_case (tests/wire/wire_case.h), one for each layout."""
    stem = re.sub(r"\W", "_", header_name.removesuffix(".h"))
    out = banner(wire, f"{wire.title}: test vectors")
    out += ['#include <stdbool.h>', "", f'#include "{header_name}"', '#include "wire_case.h"', ""]
    rows = []
    for m in wire.layouts.values():
        if not (m.has_struct or m.exact):
            continue
        call = [f"static enum vgd_status {m.c_name}_decode_any(struct vgd_reader *r, void *out)",
                "{"]
        if not m.has_struct:
            out += call + ["    (void)out;", f"    return {m.c_name}_decode(r);", "}", ""]
            rows.append(f'    {{.name = "{m.c_name}", .exact = true, .size_bytes = {m.size}, '
                        f".decode = {m.c_name}_decode_any}},")
            continue
        plain, dirty = Filler(0), Filler(0xa5)
        init = plain.init(m)
        dirty.init(m)
        out += equal_lines(m)
        out += call + [f"    return {m.c_name}_decode(r, out);", "}", ""]
        out += [f"static void {m.c_name}_encode_any(struct vgd_writer *w, const void *in)", "{",
                f"    {m.c_name}_encode(w, in);", "}", ""]
        out += byte_lines(f"{m.c_name}_bytes", plain.data)
        out += byte_lines(f"{m.c_name}_padded", dirty.data)
        out += [f"static const struct {m.c_name} {m.c_name}_value = {init};"]
        tail = "NULL"
        if m.tail_count is not None:
            tail = f"{m.c_name}_tail_any"
            out += ["", f"static enum vgd_status {tail}(const struct vgd_reader *r, const void *in)",
                    "{", f"    return {m.c_name}_tail_check(r, in);", "}"]
        out.append("")
        rows += [f'    {{.name = "{m.c_name}",', f"     .exact = {str(m.exact).lower()},",
                 f"     .size_bytes = {m.macro},", f"     .bytes = {m.c_name}_bytes,",
                 f"     .padded = {m.c_name}_padded,", f"     .value = &{m.c_name}_value,",
                 f"     .value_size_bytes = sizeof(struct {m.c_name}),",
                 f"     .decode = {m.c_name}_decode_any,", f"     .encode = {m.c_name}_encode_any,",
                 f"     .equal = {m.c_name}_equal,", f"     .tail_check = {tail}}},"]
    if rows:
        out += [f"const struct wire_case {stem}_cases[] = {{"] + rows + ["};",
                f"const size_t {stem}_n_cases = sizeof({stem}_cases) / sizeof({stem}_cases[0]);"]
    out.append("")
    named = []
    for e in wire.enums:
        if e.names:
            named += [f'    {{{wire.prefix}{e.names}, {v.value}u, "{v.name}"}},' for v in e.values]
    out += [f"const struct wire_name {stem}_names[] = {{"] + named + ["    {NULL, 0, NULL},", "};"]
    if wire.stream:
        out += [""] + generate_stream_tables.vectors(wire.stream, stem)
    return out


# --- Markdown -----------------------------------------------------------------------------------


def docs(wire):
    out = [f"# {wire.title}", "",
           f"<!-- generated from protocol/{wire.file}; edit the schema, then run "
           "`meson compile docs` -->", ""]
    if wire.doc:
        out += textwrap.wrap(wire.doc, COLUMNS) + [""]
    order = {"le": "little-endian", "native": "the host's (little-endian hosts only)"}
    out += [f"Byte order: {order[wire.byte_order]}. Spec: {wire.spec}.", ""]
    if wire.consts:
        out += ["## Constants", "", "| constant | value | meaning |", "| --- | --- | --- |"]
        out += [f"| `{c.macro}` | {c.text[:-1]} | {cell(c.doc)} |" for c in wire.consts] + [""]
    for e in wire.enums:
        out += [f"## {e.name.replace('_', ' ').capitalize()}", ""]
        if e.doc or e.spec:
            out += textwrap.wrap(" ".join(filter(None, [e.doc, e.spec and f"Spec: {e.spec}."])),
                                 COLUMNS, break_on_hyphens=False) + [""]
        bodies = any(wire.bodies_of(e.prefix + v.name) for v in e.values)
        out += ["| constant | value |" + (" body |" if bodies else "") + " meaning |",
                "| --- | --- |" + (" --- |" if bodies else "") + " --- |"]
        for v in e.values:
            links = ", ".join(f"[{m.name}](#{m.name})" for m in wire.bodies_of(e.prefix + v.name))
            out.append(f"| `{v.macro}` | {v.text[:-1]} |" + (f" {links} |" if bodies else "")
                       + f" {cell(v.doc)} |")
        out.append("")
    if wire.stream:
        out += generate_stream_tables.docs(wire.stream)
    if not wire.layouts:
        return out[:-1]
    out += ["## Layouts", "",
            "Sizes are those of the fixed part, without any header that precedes it.", ""]
    for m in wire.layouts.values():
        out += [f"### {m.name}", ""]
        text = [m.doc]
        carried = ", ".join(f"`{wire.constants[c].macro}`" for c in m.of)
        text.append(carried and f"Body of {carried}.")
        text.append(f"{m.size} byte{'' if m.size == 1 else 's'}" + (", exactly." if m.exact else "."))
        text.append(m.tail and f"{tail_text(m)[0].upper()}{tail_text(m)[1:]}.")
        text.append(m.spec and f"Spec: {m.spec}.")
        text.append(m.linux and f"Linux: `struct {m.linux}`.")
        out += textwrap.wrap(" ".join(filter(None, text)), COLUMNS, break_on_hyphens=False) + [""]
        if not m.fields:
            continue
        out += ["| offset | field | type | meaning |", "| --- | --- | --- | --- |"]
        for f, at in zip(m.fields, m.offsets):
            name = f"`{f.name}`" if f.name else "(padding)"
            kind = f"[{f.type}](#{f.type})" if f.nested else f.type
            if f.is_array:
                kind += f" × {f.count}"
            out.append(f"| {at} | {name} | {kind} | {cell(f.doc)} |")
        out.append("")
    return out[:-1]
