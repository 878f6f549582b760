# SPDX-License-Identifier: MIT
"""Test vectors and tables for people, of the commands of a dword stream (generate_stream.py)."""

import struct
import textwrap

from generate_text import COLUMNS, cell


class Filler:
    """Values that the checks accept, all different where they can be, and their dwords."""

    def __init__(self, n_elements=0):
        self.n_elements = n_elements
        self.next = 0

    def number(self, f):
        self.next += 1
        k = self.next
        mask = (1 << f.width) - 1
        if f.example is not None:
            return f.example
        if f.type == "bool":
            return 1
        if f.enum is not None:
            values = [v.value for v in f.enum.values if v.value <= mask]
            return values[k * 7 % len(values)]
        if f.flags is not None:
            values = [v.value for v in f.flags.values if v.value <= mask]
            return values[0] | values[-1]
        if f.max is not None:
            return k % (f.max + 1)
        if f.slots is not None:
            return 1 if self.n_elements < f.slots else 0
        if f.width < 32:
            return (k & mask) or 1
        return 1000 + k

    def fields(self, fields, n_dwords):
        """(dwords, C initialisers) of those that fit @n_dwords."""
        dwords, parts = [0] * n_dwords, []
        for f in fields:
            if f.dword + f.size > n_dwords:
                continue
            texts = []
            for i in range(f.count):
                at = f.dword + i * f.unit
                if f.part is not None:
                    inner, text = self.fields(f.part.fields, f.part.n_dwords)
                    dwords[at:at + f.unit] = inner
                    texts.append(text)
                    continue
                value = self.number(f)
                if f.type == "f32":
                    dwords[at] = struct.unpack("<I", struct.pack("<f", value + 0.5))[0]
                    texts.append(f"{value}.5f")
                elif f.type == "f64":
                    dwords[at:at + 2] = struct.unpack("<II", struct.pack("<d", value + 0.5))
                    texts.append(f"{value}.5")
                elif f.type == "u64":
                    value |= (value + 1) << 32
                    dwords[at:at + 2] = [value & 0xffffffff, value >> 32]
                    texts.append(f"0x{value:x}ull")
                elif f.type == "i32":
                    dwords[at] = -value & 0xffffffff
                    texts.append(f"-{value}")
                else:
                    dwords[at] |= value << f.shift
                    texts.append(str(bool(value)).lower() if f.type == "bool" else f"{value}u")
            parts.append(f".{f.name} = " + ("{" + ", ".join(texts) + "}" if f.is_array
                                            else texts[0]))
        return dwords, "{" + ", ".join(parts) + "}"


def equal_lines(fields, a="a->", b="b->"):
    out = []
    for f in fields:
        index = "[i]" if f.is_array else ""
        one = f"{a}{f.name}{index}", f"{b}{f.name}{index}"
        line = f"same = same && {f.part.name}_same(&{one[0]}, &{one[1]});" if f.part is not None \
            else f"same = same && !({one[0]} < {one[1]}) && !({one[0]} > {one[1]});" \
            if f.type in ("f32", "f64") else f"same = same && {one[0]} == {one[1]};"
        out += [f"    for (size_t i = 0; i < {f.count}; i++) {{", "        " + line, "    }"] \
            if f.is_array else ["    " + line]
    return out


def variants(c):
    """(name, dwords of the fields, dwords behind them, elements)."""
    if c.each:
        least = c.each.get("min", 0)
        for n in sorted({least, min(least + 2, c.n_most), c.n_most}):
            yield f"{c.name}_{n}", c.n_fixed, n * c.group.n_dwords, n
    elif c.tail:
        least = c.tail.get("min", 0)
        for n in (least, least + 3):
            yield f"{c.name}_{n}", c.n_fixed, n, 0
    else:
        for n in c.lengths:
            yield f"{c.name}_{n}", n, 0, 0


def initialiser(c, n_fixed, text, rest, n_elements, rest_at):
    parts = [text[1:-1]] if text != "{}" else []
    if len(c.lengths) > 1:
        parts.append(f".form_dwords = {n_fixed}")
    if c.objects:
        parts.append(f".object = {c.objects[0].value}")
    if c.each:
        parts += [f".n_{c.rest_name} = {n_elements}", f".{c.rest_name} = {rest_at}"]
    elif c.has_rest:
        parts += [f".n_{c.rest_name}_dwords = {rest}", f".{c.rest_name} = {rest_at}"]
    return "{" + ", ".join(p for p in parts if p) + "}"


def one_vector(c, name, n_fixed, n_rest, n_elements):
    """(dwords with their header, text of the value)"""
    filler = Filler(n_elements)
    dwords, text = filler.fields(c.fields, n_fixed)
    if c.each and "count" in c.each:
        f = next(x for x in c.fields if x.name == c.each["count"])
        old = f".{f.name} = {dwords[f.dword]}u"
        dwords[f.dword] = n_elements
        text = text.replace(old, f".{f.name} = {n_elements}u")
    rest = []
    if c.each:
        for _ in range(n_elements):
            rest += filler.fields(c.group.fields, c.group.n_dwords)[0]
    else:
        rest = [0x61626364 + i for i in range(n_rest)]
    obj = c.object or (c.objects[0] if c.objects else None)
    head = c.opcode.value | (obj.value << 8 if obj else 0) | len(dwords + rest) << 16
    value = initialiser(c, n_fixed, text, n_rest, n_elements, f"{name}_dwords + {1 + n_fixed}")
    return [head] + dwords + rest, value


def vectors(s, stem):
    """A table of struct stream_case (tests/wire/stream_case.h)."""
    out, rows = ['#include <string.h>', "", '#include "stream_case.h"', ""], []
    for p in s.parts.values():
        if not any(f.part is p for q in list(s.parts.values()) + s.commands for f in q.fields):
            continue
        out += [f"static bool {p.name}_same(const struct {p.c_name} *a, const struct {p.c_name} *b)",
                "{", "    bool same = true;"] + equal_lines(p.fields) + ["    return same;", "}", ""]
    for c in s.commands:
        out += functions(c)
        for name, n_fixed, n_rest, n_elements in variants(c):
            dwords, value = one_vector(c, name, n_fixed, n_rest, n_elements)
            out.append(f"static const uint32_t {name}_dwords[] = {{")
            text = ", ".join(f"0x{d:08x}" for d in dwords)
            out += ["    " + l for l in textwrap.wrap(text, COLUMNS - 5)] + ["};"]
            row = [f'.name = "{name}"', f".id = {c.id_macro}", f".dwords = {name}_dwords",
                   f".n_dwords = {len(dwords)}", f".encode = {c.name}_encode_any"]
            if c.members:
                out += textwrap.wrap(f"static const struct {c.c_name} {name}_value = {value};",
                                     COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
                row += [f".value = &{name}_value", f".value_size_bytes = sizeof({name}_value)",
                        f".decode = {c.name}_decode_any", f".equal = {c.name}_equal_any"]
            rows += ["    {" + ",\n     ".join(row) + "},"]
    out += [f"const struct stream_case {stem}_commands[] = {{"] + rows + ["};",
            f"const size_t {stem}_n_commands =",
            f"    sizeof({stem}_commands) / sizeof({stem}_commands[0]);"]
    return "\n".join(out).split("\n")  # rows of several lines


def functions(c):
    if not c.members:
        return [f"static void {c.name}_encode_any(struct vgd_writer *w, const void *in)", "{",
                "    (void)in;", f"    {c.c_name}_encode(w);", "}", ""]
    out = [f"static enum vgd_status {c.name}_decode_any(const struct vgd_command *cmd, void *out)",
           "{", f"    return {c.c_name}_decode(cmd, out);", "}",
           f"static void {c.name}_encode_any(struct vgd_writer *w, const void *in)", "{",
           f"    {c.c_name}_encode(w, in);", "}",
           f"static bool {c.name}_equal_any(const void *left, const void *right)", "{",
           f"    const struct {c.c_name} *a = left, *b = right;", "    bool same = true;"]
    if len(c.lengths) > 1:
        out.append("    same = same && a->form_dwords == b->form_dwords;")
    if c.objects:
        out.append("    same = same && a->object == b->object;")
    out += equal_lines(c.fields)
    if c.has_rest:
        n = f"n_{c.rest_name}" + ("" if c.each else "_dwords")
        size = 4 * c.group.n_dwords if c.each else 4
        out += [f"    same = same && a->{n} == b->{n} &&",
                f"           memcmp(a->{c.rest_name}, b->{c.rest_name}, a->{n} * {size}u) == 0;"]
    return out + ["    return same;", "}", ""]


# --- Markdown -----------------------------------------------------------------------------------


def field_rows(fields, base):
    out = []
    for f in fields:
        kind = f.type
        if f.enum is not None:
            kind = f"[{f.enum.name}](#{f.enum.name.replace('_', '-')})"
        if f.flags is not None:
            kind = f"bits of [{f.flags.name}](#{f.flags.name.replace('_', '-')})"
        if f.part is not None:
            kind = f"[{f.part.name}](#{f.part.name})"
        if f.ref:
            of = f" {f.ref_object.name}" if f.ref_object else ""
            kind = f"{f.ref}{of}: {', '.join(f.roles)}" + ("; or 0" if f.null else "")
        if f.is_array:
            kind += f" × {f.count}"
        where = str(f.dword + base)
        if f.width < 32:
            last = f.shift + f.width - 1
            where += f", bit {f.shift}" + (f" to {last}" if f.width > 1 else "")
        limits = [f"at most {f.max}"] if f.max is not None else []
        limits += [f"with those behind it at most {f.slots}"] if f.slots is not None else []
        out.append(f"| {where} | `{f.name}` | {kind} | {cell('; '.join(filter(None, [f.doc] + limits)))} |")
    return out


HEAD = ["| dword | field | type | meaning |", "| --- | --- | --- | --- |"]


def length_text(c):
    if c.each:
        n = c.each.get("min", 0)
        text = f"{c.n_fixed} dwords, then `{c.rest_name}`: {n} to {c.n_most} × " \
               f"[{c.group.name}](#{c.group.name})."
    elif c.tail:
        least = c.tail.get("min", 0)
        text = f"{c.n_fixed} dwords, then " + (f"`{c.rest_name}`, " if c.rest_name else "") \
            + f"{c.tail['type']}" + (f", at least {least}" if least else "") + "." \
            + (f" {c.tail['doc']}." if "doc" in c.tail else "")
    else:
        text = " or ".join(str(n) for n in c.lengths) + " dwords."
    return text + (" More is ignored." if c.longer_ignored else "")


def docs(s):
    out = ["## Commands", "",
           "A command is a header and its body. The header: opcode in the low byte, object type in "
           "the next, dwords in the body in the", "upper half. Dword 1 is the first of the body. "
           "`or 0` says that no id is fine.", ""]
    for c in s.commands:
        out += [f"### {c.name}", ""]
        of = f"`{c.opcode.macro}`" + (f" of `{c.object.macro}`" if c.object else "")
        if c.objects:
            of += " of " + ", ".join(f"`{o.macro}`" for o in c.objects)
        text = " ".join(filter(None, [c.doc, f"{of}.", length_text(c)]))
        out += textwrap.wrap(text, COLUMNS, break_on_hyphens=False) + [""]
        if c.fields:
            out += HEAD + field_rows(c.fields, 1) + [""]
    out += ["## Parts of commands", ""]
    for p in s.parts.values():
        out += [f"### {p.name}", ""]
        dwords = f"{p.n_dwords} dword{'s' if p.n_dwords > 1 else ''}."
        out += textwrap.wrap(" ".join(filter(None, [p.doc, dwords])), COLUMNS) + [""]
        out += HEAD + field_rows(p.fields, 0) + [""]
    return out
