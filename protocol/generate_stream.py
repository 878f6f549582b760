# SPDX-License-Identifier: MIT
"""The commands of a dword stream: [stream], [part.*] and [command.*] of a schema.

Used by generate.py, which has the rest of the language. What the C uses is in stream.h.
"""

from generate_text import SchemaError, check_keys, check_name, need

KEYS = {
    "stream": {"opcodes", "objects", "create"},
    "part": {"doc", "dwords", "fields"},
    "command": {"opcode", "object", "objects", "doc", "lengths", "fields", "each", "tail", "longer",
                "hand"},
    "field": {"name", "type", "enum", "flags", "ref", "of", "role", "null", "count", "part", "max",
              "slots", "bits", "example", "doc"},
    "bit": {"name", "width", "type", "enum", "flags", "example", "doc"},
    "each": {"name", "part", "min", "max", "count", "slack"},
    "tail": {"name", "type", "min", "doc"},
}

# type -> (dwords, C type, VGD_FIELD_*)
TYPES = {
    "u32": (1, "uint32_t", "U32"),
    "hex": (1, "uint32_t", "HEX"),
    "i32": (1, "int32_t", "I32"),
    "bool": (1, "bool", "BOOL"),
    "f32": (1, "float", "F32"),
    "f64": (2, "double", "F64"),
    "u64": (2, "uint64_t", "U64"),
}
SPACES = {"resource": "RESOURCE", "object": "OBJECT", "sub_ctx": "SUB_CTX",
          "video_codec": "VIDEO_CODEC", "video_buffer": "VIDEO_BUFFER", "blob": "BLOB"}
ROLES = ["create", "destroy", "bind", "use", "read", "write", "backing_read", "backing_write"]
TAILS = {"dwords": "DWORDS", "text": "TEXT", "ignored": "IGNORED"}
HANDS = {"check", "print", "adjust"}
LENGTH_MAX = 65535
FORM_MAX = 63  # forms are bits of a uint64_t


class Field:
    """One value, or an array of them, at a dword; or some bits of one."""

    def __init__(self, table, where, stream, dword, shift=0, width=32):
        self.name = check_name(need(table, "name", where), where)
        where = f"{where}.{self.name}"
        self.doc = table.get("doc", "")
        self.dword, self.shift, self.width = dword, shift, width
        self.enum = self.flags = self.part = self.ref = None
        for key in ("enum", "flags"):
            if key in table:
                setattr(self, key, stream.enum(table[key], f"{where}.{key}"))
        self.type = table.get("type", "u32")
        if self.type not in TYPES:
            raise SchemaError(f"{where}: unknown type {self.type!r}")
        self.unit, self.c_type, self.field_type = TYPES[self.type]
        if width < 32 and self.unit + (self.type in ("f32", "i32")) > 1:
            raise SchemaError(f"{where}: {self.type} does not fit some bits")
        if self.enum is not None:
            self.field_type = "ENUM"
        if self.flags is not None:
            self.field_type = "FLAGS"
        if "part" in table:
            self.part = stream.part(table["part"], where)
            self.unit, self.field_type = self.part.n_dwords, "PART"
            self.c_type = f"struct {self.part.c_name}"
        self.is_array = "count" in table
        self.count = stream.number(table.get("count", 1), where)
        self.max = stream.number(table["max"], where) if "max" in table else None
        self.slots = stream.number(table["slots"], where) if "slots" in table else None
        self.example = table.get("example")
        self.null = table.get("null", False)
        if "ref" in table:
            if table["ref"] not in SPACES:
                raise SchemaError(f"{where}: unknown ref {table['ref']!r}")
            self.ref = table["ref"]
            self.ref_object = stream.object_value(table["of"], where) if "of" in table else None
            self.roles = need(table, "role", where)
            for r in self.roles:
                if r not in ROLES:
                    raise SchemaError(f"{where}: unknown role {r!r}")
        self.size = self.unit * self.count

    @property
    def role_mask(self):
        return sum(1 << ROLES.index(r) for r in self.roles)

    @property
    def checked(self):
        return (self.max is not None or self.slots is not None or (self.ref and not self.null)
                or (self.enum is not None and self.enum_check("v"))
                or (self.part is not None and self.part.checked))

    def enum_check(self, v):
        """A C condition that is true for values that the enum has not; empty if there is none."""
        e = self.enum
        if e.unknown == "any":
            return ""
        values = sorted(x.value for x in e.values)
        if self.width < 32 and values == list(range(1 << self.width)):
            return ""
        if values == list(range(len(values))):
            return f"{v} >= {len(values)}u"
        if values == list(range(1, len(values) + 1)):
            return f"{v} - 1u >= {len(values)}u"
        return f"!known_{e.name}({v})"

    # C expressions

    def read(self, d, at):
        """The value at dword @at (text) of @d."""
        dword = f"{d}[{at}]"
        if self.part is not None:
            raise AssertionError
        if self.type == "f64":
            return f"vgd_dwords_f64({d} + {at})"
        if self.type == "u64":
            return f"vgd_dwords_u64({d} + {at})"
        if self.type == "f32":
            return f"vgd_dword_f32({dword})"
        value = dword
        if self.width < 32:
            value = f"{dword} >> {self.shift}" if self.shift else dword
            if self.shift + self.width < 32:
                value = f"{value} & 0x{(1 << self.width) - 1:x}u"
        if self.type == "bool":
            return f"({value}) != 0" if value != dword else f"{value} != 0"
        if self.type == "i32":
            return f"(int32_t){value}"
        return value

    def write(self, source):
        """The statements that write it, without those of other bits of its dword."""
        if self.type == "f64":
            return f"vgd_write_le64(w, vgd_f64_bits({source}));"
        if self.type == "u64":
            return f"vgd_write_le64(w, {source});"
        if self.type == "f32":
            return f"vgd_write_le32(w, vgd_f32_dword({source}));"
        cast = "(uint32_t)" if self.type in ("i32", "bool") else ""
        return f"vgd_write_le32(w, {cast}{source});"


def read_fields(table, where, stream):
    """The fields of a part or command, in order; those of one dword behind each other."""
    out, dword = [], 0
    for item in table.get("fields", []):
        if "bits" in item:
            check_keys(KEYS["field"], where, item)
            shift = 0
            for bit in item["bits"]:
                check_keys(KEYS["bit"], where, bit)
                width = need(bit, "width", where)
                if "name" in bit:
                    out.append(Field(bit, where, stream, dword, shift, width))
                shift += width
            if shift > 32:
                raise SchemaError(f"{where}: {shift} bits in a dword")
            dword += 1
            continue
        check_keys(KEYS["field"], where, item)
        f = Field(item, where, stream, dword)
        out.append(f)
        dword += f.size
    names = [f.name for f in out]
    if len(names) != len(set(names)):
        raise SchemaError(f"{where}: two fields have one name")
    return out, dword


class Part:
    def __init__(self, name, table, stream):
        where = f"part.{name}"
        check_keys(KEYS["part"], where, table)
        self.name = check_name(name, where)
        self.c_name = stream.wire.prefix + name
        self.doc = table.get("doc", "")
        self.fields, self.n_dwords = read_fields(table, where, stream)
        if need(table, "dwords", where) != self.n_dwords:
            raise SchemaError(f"{where}: dwords says {table['dwords']}, the fields make "
                              f"{self.n_dwords}")

    @property
    def checked(self):
        return any(f.checked for f in self.fields)


class Command:
    def __init__(self, name, table, stream):
        where = f"command.{name}"
        check_keys(KEYS["command"], where, table)
        wire = stream.wire
        self.name = check_name(name, where)
        self.c_name = wire.prefix + name
        self.id_macro = f"{wire.macro}ID_{name.upper()}"
        self.doc = table.get("doc", "")
        self.opcode = stream.value_of(stream.opcodes, need(table, "opcode", where), where)
        self.object = stream.object_value(table["object"], where) if "object" in table else None
        self.objects = [stream.object_value(o, where) for o in table.get("objects", [])]
        self.fields, self.n_fixed = read_fields(table, where, stream)
        self.hand = set(table.get("hand", []))
        if not self.hand <= HANDS:
            raise SchemaError(f"{where}: unknown hand {sorted(self.hand - HANDS)[0]!r}")
        self.longer_ignored = table.get("longer") == "ignored"
        self.lengths = sorted(table.get("lengths", [self.n_fixed]))
        if self.lengths[-1] != self.n_fixed:
            raise SchemaError(f"{where}: the longest length is {self.lengths[-1]}, the fields make "
                              f"{self.n_fixed}")
        self.each = table.get("each")
        self.tail = table.get("tail")
        if (self.each or self.tail) and len(self.lengths) > 1:
            raise SchemaError(f"{where}: several lengths and more behind them")
        self.min, self.max = self.lengths[0], self.lengths[-1]
        if self.max > FORM_MAX and not (self.each or self.tail):
            raise SchemaError(f"{where}: longer than {FORM_MAX}")
        if any(f.slots is not None for f in self.fields) and not self.each:
            raise SchemaError(f"{where}: slots without a group")
        if self.each:
            check_keys(KEYS["each"], where, self.each)
            self.group = stream.part(need(self.each, "part", where), where)
            self.min += self.each.get("min", 0) * self.group.n_dwords
            most = stream.number(need(self.each, "max", where), where)
            self.max = min(LENGTH_MAX, self.n_fixed + most * self.group.n_dwords)
            if "count" in self.each and self.each["count"] not in [f.name for f in self.fields]:
                raise SchemaError(f"{where}: count names no field {self.each['count']!r}")
            self.n_most = (self.max - self.n_fixed) // self.group.n_dwords
        if self.tail:
            check_keys(KEYS["tail"], where, self.tail)
            if need(self.tail, "type", where) not in TAILS:
                raise SchemaError(f"{where}: unknown tail {self.tail['type']!r}")
            self.min += self.tail.get("min", 0)
            self.max = LENGTH_MAX

    @property
    def rest_name(self):
        return (self.each or self.tail or {}).get("name", "")

    @property
    def has_rest(self):
        return bool(self.each or (self.tail and self.tail["type"] != "ignored"))

    @property
    def members(self):
        """Anything in its struct?"""
        return bool(self.fields or self.has_rest or self.objects)

    @property
    def checked(self):
        return bool(any(f.checked for f in self.fields) or "check" in self.hand
                    or (self.each and (self.group.checked or "count" in self.each)))

    def form_of(self, f):
        """The shortest form that has the field; 0 if all have it."""
        end = f.dword + f.size
        if end <= self.lengths[0]:
            return 0
        return next(n for n in self.lengths if n >= end)


class Stream:
    def __init__(self, table, wire):
        self.wire = wire
        head = table["stream"]
        check_keys(KEYS["stream"], "stream", head)
        self.opcodes = self.enum(need(head, "opcodes", "stream"), "stream")
        self.objects = self.enum(need(head, "objects", "stream"), "stream")
        self.create = self.value_of(self.opcodes, need(head, "create", "stream"), "stream")
        for e in (self.opcodes, self.objects):
            if not e.names:
                raise SchemaError(f"enum.{e.name}: needs names")
        self.parts = {}
        for name, body in table.get("part", {}).items():
            self.parts[name] = Part(name, body, self)
        self.commands = [Command(n, b, self) for n, b in table.get("command", {}).items()]
        seen = {}
        for c in self.commands:
            key = (c.opcode.value, c.object.value if c.object else None)
            if key in seen:
                raise SchemaError(f"command.{c.name}: opcode is taken by {seen[key]}")
            seen[key] = c.name
            if (c.object is not None) != (c.opcode.value == self.create.value):
                raise SchemaError(f"command.{c.name}: object goes with {self.create.name}, and only "
                                  "with it")
        for v in self.opcodes.values:
            if not any(c.opcode.value == v.value for c in self.commands):
                raise SchemaError(f"enum.{self.opcodes.name}.{v.name}: no command has it")

    def enum(self, name, where):
        for e in self.wire.enums:
            if e.name == name:
                return e
        raise SchemaError(f"{where}: no enum {name!r}")

    def part(self, name, where):
        if name not in self.parts:
            raise SchemaError(f"{where}: no part {name!r} (define it first)")
        return self.parts[name]

    def value_of(self, enum, name, where):
        for v in enum.values:
            if v.name == name:
                return v
        raise SchemaError(f"{where}: {enum.name} has no value {name!r}")

    def object_value(self, name, where):
        return self.value_of(self.objects, name, where)

    def number(self, value, where):
        if isinstance(value, str):
            if value not in self.wire.constants:
                raise SchemaError(f"{where}: no constant {value!r}")
            value = self.wire.constants[value].value
        if not isinstance(value, int) or value < 0:
            raise SchemaError(f"{where}: not a number")
        return value

    def used_enums(self):
        """Those whose values are checked against a set; those whose bits are printed."""
        fields = [f for p in self.parts.values() for f in p.fields]
        fields += [f for c in self.commands for f in c.fields]
        known = {f.enum.name: f.enum for f in fields
                 if f.enum is not None and "known_" in f.enum_check("v")}
        flags = {f.flags.name: f.flags for f in fields if f.flags is not None}
        for f in fields:
            if f.enum is not None and not f.enum.names:
                raise SchemaError(f"enum.{f.enum.name}: needs names")
        return known, flags
