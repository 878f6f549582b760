# SPDX-License-Identifier: MIT
"""A wire schema as objects: constants, enums, layouts. What is wrong in it is found here."""

import pathlib
import tomllib

import generate_stream
from generate_text import SchemaError, check_keys, check_name, need

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
             "first", "unknown"},
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
