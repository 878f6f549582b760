#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn one wire schema (protocol/*.toml) into C codecs, checks, test vectors and tables.

The schema language is described in protocol/README.md. Each output is optional:

    generate.py SCHEMA [--header FILE.h] [--source FILE.c] [--linux-check FILE.c]
                       [--vectors FILE.c] [--docs FILE.md]
    generate.py SCHEMA... --docs-dir DIR      (DIR/protocol-SCHEMA.md for each)

With --check nothing is written: the outputs have to be there already and be equal.
A schema mistake ends with one line on standard error and exit status 1.
"""

import argparse
import difflib
import pathlib
import re
import sys
import textwrap
import tomllib

import generate_stream
import generate_stream_c
import generate_stream_tables
from generate_text import (
    COLUMNS, SchemaError, cell, check_keys, check_name, comment, need, signature)

# type -> (bytes, C type, reader and writer suffix). u16, u32 and u64 are for wires in host order,
# which are read as little-endian: their headers refuse to compile for a big-endian host.
SCALARS = {
    "u8": (1, "uint8_t", "u8"),
    "char": (1, "char", "u8"),
    "le16": (2, "uint16_t", "le16"),
    "le32": (4, "uint32_t", "le32"),
    "le64": (8, "uint64_t", "le64"),
    "u16": (2, "uint16_t", "le16"),
    "u32": (4, "uint32_t", "le32"),
    "u64": (8, "uint64_t", "le64"),
    "i32": (4, "int32_t", "le32"),
}
PADS = {"pad8": 1, "pad16": 2, "pad32": 4, "pad64": 8}
BYTE_ORDER = {"le16": "le", "le32": "le", "le64": "le", "u16": "native", "u32": "native",
              "u64": "native"}

KEYS = {
    "wire": {"title", "doc", "spec", "prefix", "byte_order", "linux_headers", "linux_hdr",
             "file", "include"},
    "const": {"name", "value", "doc", "spec", "linux", "linux_optional"},
    "enum": {"name", "prefix", "names", "doc", "spec", "format", "linux_prefix", "values", "list",
             "first", "unknown", "below"},
    "value": {"name", "value", "doc", "linux", "linux_optional"},
    "struct": {"doc", "spec", "size", "fields", "linux", "linux_hdr"},
    "message": {"doc", "spec", "size", "fields", "linux", "linux_hdr", "of", "tail", "tail_of",
                "tail_count"},
    "field": {"name", "type", "count", "doc", "linux", "linux_if"},
}


class Const:
    """One numeric constant; also one value of an enum."""

    def __init__(self, table, where, c_prefix, style="", linux_prefix=None):
        check_keys(KEYS["value" if linux_prefix is not None else "const"], where, table)
        self.name = check_name(need(table, "name", where), where, r"[A-Z0-9][A-Z0-9_]*")
        self.value = need(table, "value", where)
        if not isinstance(self.value, int) or not 0 <= self.value < 1 << 32:
            raise SchemaError(f"{where}.{self.name}: value is not a u32")
        self.doc = table.get("doc", "")
        self.spec = table.get("spec", "")
        self.macro = c_prefix + self.name
        self.text = f"0x{self.value:04x}u" if style == "hex" else f"{self.value}u"
        self.linux = table.get("linux", linux_prefix + self.name if linux_prefix else "")
        self.linux_optional = table.get("linux_optional", False)


class Enum:
    def __init__(self, table, where, macro_prefix):
        check_keys(KEYS["enum"], where, table)
        self.name = check_name(need(table, "name", where), where)
        self.prefix = table.get("prefix", "")
        self.names = table.get("names", "")
        self.doc = table.get("doc", "")
        self.spec = table.get("spec", "")
        style = table.get("format", "")
        linux_prefix = table.get("linux_prefix", "")
        self.unknown = table.get("unknown", "refuse")
        if self.unknown not in ("refuse", "newer", "any"):
            raise SchemaError(f"{where}.{self.name}: unknown is refuse, newer or any")
        self.below = table.get("below")
        if self.below is not None and self.unknown != "newer":
            raise SchemaError(f"{where}.{self.name}: below bounds what is newer")
        values = list(table.get("values", []))
        for i, name in enumerate(table.get("list", [])):
            if name:
                values.append({"name": name, "value": table.get("first", 0) + i})
        if not values:
            raise SchemaError(f"{where}.{self.name}: 'values' is missing")
        self.values = [Const(v, f"{where}.{self.name}", macro_prefix + self.prefix, style,
                             linux_prefix) for v in values]
        seen = set()
        for v in self.values:
            if v.value in seen:
                raise SchemaError(f"{where}.{self.name}.{v.name}: value is taken")
            seen.add(v.value)


class Field:
    def __init__(self, table, where, wire):
        check_keys(KEYS["field"], where, table)
        self.type = need(table, "type", where)
        self.pad = self.type in PADS
        self.name = table.get("name", "")
        if self.pad and self.name:
            raise SchemaError(f"{where}: padding has no name")
        if not self.pad:
            check_name(need(table, "name", where), where)
        where = f"{where}.{self.name or self.type}"
        self.doc = table.get("doc", "")
        self.linux = table.get("linux", "")
        self.linux_if = table.get("linux_if", "")
        self.nested = None
        if self.pad:
            self.unit = PADS[self.type]
        elif self.type in SCALARS:
            self.unit = SCALARS[self.type][0]
            if BYTE_ORDER.get(self.type, wire.byte_order) != wire.byte_order:
                raise SchemaError(f"{where}: {self.type} is not of byte order {wire.byte_order}")
        elif self.type in wire.layouts:
            self.nested = wire.layouts[self.type]
            if getattr(self.nested, "tail", ""):
                raise SchemaError(f"{where}: {self.type} has a tail, so it cannot be nested")
            self.unit = self.nested.size
        else:
            raise SchemaError(f"{where}: unknown type {self.type!r} (define it first)")
        # count: absent (one), a number, or the name of a constant
        count = table.get("count")
        self.is_array = count is not None
        self.count, self.count_text = 1, ""
        if isinstance(count, str):
            if count not in wire.constants:
                raise SchemaError(f"{where}: no constant {count!r}")
            self.count = wire.constants[count].value
            self.count_text = wire.constants[count].macro
        elif self.is_array:
            self.count, self.count_text = count, str(count)
        if self.count < 1:
            raise SchemaError(f"{where}: count is not positive")
        if self.type == "char" and not self.is_array:
            raise SchemaError(f"{where}: char needs a count")
        self.size = self.unit * self.count

    @property
    def c_type(self):
        return f"struct {self.nested.c_name}" if self.nested else SCALARS[self.type][1]

    @property
    def is_bytes(self):
        return self.is_array and self.type in ("u8", "char")


class Layout:
    """A struct (a part: may be followed by anything) or a message (has an end)."""

    def __init__(self, kind, name, table, wire):
        where = f"{kind}.{name}"
        check_keys(KEYS[kind], where, table)
        self.kind, self.name = kind, check_name(name, where)
        self.c_name = wire.prefix + name
        self.macro = wire.macro + name.upper() + "_SIZE"
        self.doc = table.get("doc", "")
        self.spec = table.get("spec", "")
        self.fields = [Field(f, where, wire) for f in table.get("fields", [])]
        named = [f.name for f in self.fields if f.name]
        if len(named) != len(set(named)):
            raise SchemaError(f"{where}: two fields have one name")
        self.offsets, at = [], 0
        for f in self.fields:
            self.offsets.append(at)
            at += f.size
        self.size = at
        if need(table, "size", where) != at:
            raise SchemaError(f"{where}: size says {table['size']}, the fields make {at}")
        self.linux = table.get("linux", "")
        self.linux_hdr = wire.linux_hdr if kind == "message" else 0
        self.linux_hdr = table.get("linux_hdr", self.linux_hdr)
        self.of = table.get("of", [])
        for c in self.of:
            if c not in wire.constants:
                raise SchemaError(f"{where}: no constant {c!r}")
        self.tail = table.get("tail", "")
        self.tail_count, self.tail_unit, self.tail_nested = None, 1, None
        if self.tail:
            self.read_tail(table, where, wire)
        elif "tail_of" in table or "tail_count" in table:
            raise SchemaError(f"{where}: tail_of and tail_count need tail")

    def read_tail(self, table, where, wire):
        of = table.get("tail_of", "u8")
        if of in wire.layouts:
            self.tail_nested = wire.layouts[of]
            self.tail_unit = self.tail_nested.size
        elif of in SCALARS:
            self.tail_unit = SCALARS[of][0]
        else:
            raise SchemaError(f"{where}: unknown tail_of {of!r}")
        self.tail_of = of
        count = table.get("tail_count")
        if count is None:
            return
        self.tail_count = count if isinstance(count, list) else [count]
        scalars = {f.name for f in self.fields if f.name and not f.nested and not f.is_array}
        for factor in self.tail_count:
            if isinstance(factor, str) and factor not in scalars:
                raise SchemaError(f"{where}: tail_count names no field {factor!r}")

    @property
    def exact(self):
        return self.kind == "message" and not self.tail

    @property
    def has_struct(self):
        return any(not f.pad for f in self.fields)


def include_enums(table, path):
    """Put the constants and enums of another file in front of the schema's own."""
    with open(path, "rb") as f:
        more = tomllib.load(f)
    unknown = set(more) - {"const", "enum"}
    if unknown:
        raise SchemaError(f"{path.name}: unknown table {sorted(unknown)[0]!r}")
    for kind, tables in more.items():
        table[kind] = tables + table.get(kind, [])


class Wire:
    def __init__(self, path):
        with open(path, "rb") as f:
            table = tomllib.load(f)
        unknown = set(table) - {"wire", "const", "enum", "struct", "message", "stream", "part",
                                "command"}
        if unknown:
            raise SchemaError(f"unknown table {sorted(unknown)[0]!r}")
        w = need(table, "wire", "schema")
        check_keys(KEYS["wire"], "wire", w)
        for name in w.get("include", []):
            include_enums(table, pathlib.Path(path).parent / name)
        self.file = pathlib.Path(path).name
        self.title = need(w, "title", "wire")
        self.doc = w.get("doc", "")
        self.spec = w.get("spec", "")
        self.prefix = check_name(need(w, "prefix", "wire"), "wire")
        self.macro = self.prefix.upper()
        self.byte_order = need(w, "byte_order", "wire")
        if self.byte_order not in ("le", "native"):
            raise SchemaError("wire: byte_order is le or native")
        self.linux_headers = w.get("linux_headers", [])
        self.linux_hdr = w.get("linux_hdr", 0)
        self.consts = [Const(c, "const", self.macro) for c in table.get("const", [])]
        self.enums = [Enum(e, "enum", self.macro) for e in table.get("enum", [])]
        self.constants = {}
        for c in self.consts:
            self.add_constant(c.name, c)
        for e in self.enums:
            for v in e.values:
                self.add_constant(e.prefix + v.name, v)
        self.layouts = {}
        for kind in ("struct", "message"):
            for name, body in table.get(kind, {}).items():
                if name in self.layouts:
                    raise SchemaError(f"{kind}.{name}: name is taken")
                self.layouts[name] = Layout(kind, name, body, self)
        for e in self.enums:
            e.names_function = self.prefix + e.names
        self.stream = generate_stream.Stream(table, self) if "stream" in table else None
        self.file_name = w.get("file", "")
        for layout in self.layouts.values():
            if layout.macro in {c.macro for c in self.constants.values()}:
                raise SchemaError(f"{layout.name}: {layout.macro} is also a constant")

    def add_constant(self, key, const):
        if key in self.constants:
            raise SchemaError(f"constant {key}: name is taken")
        self.constants[key] = const

    def bodies_of(self, key):
        return [m for m in self.layouts.values() if key in m.of]


# --- C ------------------------------------------------------------------------------------------


def banner(wire, what):
    return ["/* SPDX-License-Identifier: MIT */",
            f"/* {what}.", f" * Generated from protocol/{wire.file}; edit the schema. */"]


def decode_head(m, end):
    params = ["struct vgd_reader *r"]
    if m.has_struct:
        params.append(f"struct {m.c_name} *out")
    return signature(f"enum vgd_status {m.c_name}_decode", params, end)


def encode_head(m, end):
    return signature(f"void {m.c_name}_encode",
                     ["struct vgd_writer *w", f"const struct {m.c_name} *in"], end)


def tail_head(m, end):
    return signature(f"enum vgd_status {m.c_name}_tail_check",
                     ["const struct vgd_reader *r", f"const struct {m.c_name} *in"], end)


def name_head(wire, e, end):
    return signature(f"const char *{wire.prefix}{e.names}", ["uint32_t value"], end)


def tail_text(m):
    if m.tail_count is None:
        return f"tail: {m.tail}"
    factors = [str(f) for f in m.tail_count] + ([str(m.tail_unit)] if m.tail_unit > 1 else [])
    return f"tail: {m.tail}, {' * '.join(factors)} bytes"


def header(wire, guard):
    out = banner(wire, f"{wire.title}: constants and decoded forms")
    out += comment(wire.doc)
    out += [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "",
            '#include "bytes.h"', '#include "status.h"']
    out += ['#include "stream.h"', ""] if wire.stream else [""]
    if wire.byte_order == "native":
        out += static_assert("__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__",
                             "this wire is in host byte order, which has to be little-endian")
        out.append("")
    for c in wire.consts:
        out += constant(c)
    if wire.consts:
        out.append("")
    for e in wire.enums:
        out += comment(e.doc, e.spec and f"Spec: {e.spec}.")
        for v in e.values:
            out += constant(v)
        if e.names:
            first = e.values[0]
            out += comment(f'"{first.name}" for {first.macro} and so on; "unknown" for others.',
                           doc=True)
            out += name_head(wire, e, ";")
        out.append("")
    for m in wire.layouts.values():
        out += layout_header(wire, m)
    if wire.stream:
        out += generate_stream_c.header(wire.stream)
    out += ["#endif"]
    return out


def constant(c):
    one = f"#define {c.macro} {c.text}"
    if not c.doc:
        return [one]
    if len(one) + len(c.doc) + 7 <= COLUMNS and not c.spec:
        return [f"{one} /* {c.doc} */"]
    return comment(c.doc, c.spec and f"({c.spec})") + [one]


def layout_header(wire, m):
    carried = ", ".join(wire.constants[c].macro for c in m.of)
    out = comment(m.doc, carried and f"Body of {carried}.",
                  m.tail and f"{tail_text(m)[0].upper()}{tail_text(m)[1:]}.",
                  m.spec and f"Spec: {m.spec}.")
    out.append(f"#define {m.macro} {m.size}u")
    if m.has_struct:
        out.append(f"struct {m.c_name} {{")
        for f in m.fields:
            if f.pad:
                continue
            decl = f"    {f.c_type} {f.name}" + (f"[{f.count_text}]" if f.is_array else "") + ";"
            if f.doc and len(decl) + len(f.doc) + 7 <= COLUMNS:
                decl += f" /* {f.doc} */"
            elif f.doc:
                out += comment(f.doc, indent="    ")
            out.append(decl)
        out.append("};")
    if m.has_struct or m.exact:
        must = ["VGD_MUST_CHECK"]
        out += must + decode_head(m, ";")
    if m.has_struct:
        out += encode_head(m, ";")
    if m.tail_count is not None:
        out += comment(f"Do exactly the {m.tail} that @in announces remain in @r? VGD_TRUNCATED if "
                       "fewer bytes remain, VGD_TRAILING if more", doc=True)
        out += ["VGD_MUST_CHECK"] + tail_head(m, ";")
    return out + [""]


def read_lines(f):
    if f.pad:
        return [f"    vgd_read_skip(r, {f.size}); /* padding */"]
    if f.is_bytes:
        return [f"    vgd_read_bytes(r, out->{f.name}, sizeof(out->{f.name}));"]
    target = f"out->{f.name}" + ("[i]" if f.is_array else "")
    if f.nested:
        line = f"read_{f.nested.name}(r, &{target});"
    else:
        cast = "(int32_t)" if f.type == "i32" else ""
        line = f"{target} = {cast}vgd_read_{SCALARS[f.type][2]}(r);"
    return looped(f, line)


def write_lines(f):
    if f.pad:
        return [f"    vgd_write_zeros(w, {f.size}); /* padding */"]
    if f.is_bytes:
        return [f"    vgd_write_bytes(w, in->{f.name}, sizeof(in->{f.name}));"]
    source = f"in->{f.name}" + ("[i]" if f.is_array else "")
    if f.nested:
        line = f"{f.nested.c_name}_encode(w, &{source});"
    else:
        cast = "(uint32_t)" if f.type == "i32" else ""
        line = f"vgd_write_{SCALARS[f.type][2]}(w, {cast}{source});"
    return looped(f, line)


def looped(f, line):
    if not f.is_array:
        return ["    " + line]
    return [f"    for (size_t i = 0; i < {f.count_text}; i++) {{", "        " + line, "    }"]


def source(wire, header_name):
    out = banner(wire, f"{wire.title}: codecs and names") + [f'#include "{header_name}"', ""]
    for e in wire.enums:
        if not e.names:
            continue
        out += name_head(wire, e, "") + ["{", "    switch (value) {"]
        for v in e.values:
            out += [f"    case {v.macro}:", f'        return "{v.name}";']
        out += ["    default:", '        return "unknown";', "    }", "}", ""]
    for m in wire.layouts.values():
        out += layout_source(m)
    if wire.stream:
        out += generate_stream_c.source(wire.stream)
    return out[:-1] if out and not out[-1] else out


def layout_source(m):
    out = []
    if m.has_struct:
        out += signature(f"static void read_{m.name}",
                         ["struct vgd_reader *r", f"struct {m.c_name} *out"], "") + ["{"]
        for f in m.fields:
            out += read_lines(f)
        out += ["}", ""]
    if m.has_struct or m.exact:
        out += decode_head(m, "") + ["{"]
        check = "vgd_reader_finish(r)" if m.exact else "r->status"
        if m.has_struct:
            out += [f"    struct {m.c_name} decoded = {{0}};", f"    read_{m.name}(r, &decoded);",
                    f"    enum vgd_status st = {check};", "    if (st == VGD_OK) {",
                    "        *out = decoded;", "    }", "    return st;"]
        else:
            out += [f"    vgd_read_skip(r, {f.size}); /* padding */" for f in m.fields]
            out += [f"    return {check};"]
        out += ["}", ""]
    if m.has_struct:
        out += encode_head(m, "") + ["{"]
        for f in m.fields:
            out += write_lines(f)
        out += ["}", ""]
    if m.tail_count is not None:
        out += tail_source(m)
    return out


def tail_source(m):
    unused = not any(isinstance(f, str) for f in m.tail_count)
    out = tail_head(m, "") + ["{"]
    if unused:
        out.append("    (void)in; /* the announced size is constant */")
    out.append(f"    uint64_t need_bytes = {m.tail_unit};")
    for f in m.tail_count:
        factor = f"in->{f}" if isinstance(f, str) else f"UINT64_C({f})"
        out += [f"    if (__builtin_mul_overflow(need_bytes, {factor}, &need_bytes)) {{",
                "        return VGD_TRUNCATED; /* more than any memory holds */", "    }"]
    out += ["    size_t left_bytes = vgd_reader_left(r);", "    if (need_bytes > left_bytes) {",
            "        return VGD_TRUNCATED;", "    }",
            "    return need_bytes == left_bytes ? VGD_OK : VGD_TRAILING;", "}", ""]
    return out


# --- the kernel's headers -----------------------------------------------------------------------


def static_assert(expr, message):
    one = f'_Static_assert({expr}, "{message}");'
    return [one] if len(one) <= COLUMNS else [f"_Static_assert({expr},",
                                              f'               "{message}");']


def linux_check(wire, header_name):
    """Static assertions that numbers, offsets and sizes are those of the kernel's headers."""
    out = banner(wire, f"{wire.title}: checks against the kernel's headers")
    out += ["#include <stddef.h>"] + [f"#include <{h}>" for h in wire.linux_headers]
    out += ["", f'#include "{header_name}"', ""]
    for c in wire.constants.values():
        if not c.linux:
            continue
        lines = static_assert(f"{c.macro} == {c.linux}", f"{c.macro} is not {c.linux}")
        if c.linux_optional:
            lines = [f"#ifdef {c.linux}"] + lines + ["#endif"]
        out += lines
    for m in wire.layouts.values():
        if not m.linux:
            continue
        out += ["", f"/* {m.c_name} */"]
        optional = [f for f in m.fields if f.linux_if]
        size = m.linux_hdr + m.size
        lines = static_assert(f"sizeof(struct {m.linux}) == {size}", f"{m.name}: size")
        if optional:
            # fields that newer kernels appended, each group known by one macro
            less = size - sum(f.size for f in optional)
            lines = ([f"#ifdef {optional[0].linux_if}"] + lines + ["#else"]
                     + static_assert(f"sizeof(struct {m.linux}) == {less}", f"{m.name}: size")
                     + ["#endif"])
        out += lines
        for f, at in zip(m.fields, m.offsets):
            if not f.linux:
                continue
            lines = static_assert(f"offsetof(struct {m.linux}, {f.linux}) == {m.linux_hdr + at}",
                                  f"{m.name}.{f.name or 'padding'}: offset")
            lines += static_assert(f"sizeof(((struct {m.linux} *)0)->{f.linux}) == {f.size}",
                                   f"{m.name}.{f.name or 'padding'}: size")
            if f.linux_if:
                lines = [f"#ifdef {f.linux_if}"] + lines + ["#endif"]
            out += lines
    return out


# --- test vectors -------------------------------------------------------------------------------


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


def write(path, lines):
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return True


def compare(path, lines):
    """Is the file what we would write? Prints the difference if not."""
    try:
        have = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        have = []
    diff = list(difflib.unified_diff(have, lines, str(path), "generated now", lineterm=""))
    if diff:
        print("\n".join(diff), file=sys.stderr)
    return not diff


def generate(schema, args, put):
    """Make the outputs asked for; false when --check finds one that differs."""
    wire = Wire(schema)
    stem = pathlib.Path(schema).stem
    # The header's name follows the schema's, virtio-gpu.toml gives virtio_gpu.h, unless it says.
    name = (wire.file_name or stem.replace("-", "_")) + ".h"
    guard = "VGD_PROTOCOL_" + name.upper().replace(".", "_")
    outputs = [(args.header, lambda: header(wire, guard)),
               (args.source, lambda: source(wire, name)),
               (args.linux_check, lambda: linux_check(wire, name)),
               (args.vectors, lambda: vectors(wire, name)),
               (args.docs, lambda: docs(wire)),
               (args.docs_dir and f"{args.docs_dir}/protocol-{stem}.md", lambda: docs(wire))]
    return all([put(path, make()) for path, make in outputs if path])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("schemas", nargs="+", metavar="SCHEMA")
    for option in ("header", "source", "linux-check", "vectors", "docs", "docs-dir"):
        parser.add_argument("--" + option)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    put = compare if args.check else write
    same = True
    for schema in args.schemas:
        try:
            same = generate(schema, args, put) and same
        except (SchemaError, tomllib.TOMLDecodeError, OSError) as e:
            print(f"{schema}: {e}", file=sys.stderr)
            return 1
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
