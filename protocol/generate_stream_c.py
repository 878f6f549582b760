# SPDX-License-Identifier: MIT
"""C of the commands of a dword stream (generate_stream.py): structs, codecs, checks, tables."""

import textwrap

from generate_stream import SPACES, TAILS
from generate_text import COLUMNS, comment, signature

# --- C: header ----------------------------------------------------------------------------------


def member_lines(fields):
    out = []
    for f in fields:
        decl = f"    {f.c_type} {f.name}" + (f"[{f.count}]" if f.is_array else "") + ";"
        if f.doc and len(decl) + len(f.doc) + 7 <= COLUMNS:
            decl += f" /* {f.doc} */"
        elif f.doc:
            out += comment(f.doc, indent="    ")
        out.append(decl)
    return out


def part_head(p, end):
    return signature(f"void {p.c_name}_decode",
                     ["const uint32_t *dwords", f"struct {p.c_name} *out"], end)


def part_encode_head(p, end):
    return signature(f"void {p.c_name}_encode",
                     ["struct vgd_writer *w", f"const struct {p.c_name} *in"], end)


def decode_head(c, end):
    return signature(f"enum vgd_status {c.c_name}_decode",
                     ["const struct vgd_command *cmd", f"struct {c.c_name} *out"], end)


def encode_head(c, end):
    params = ["struct vgd_writer *w"]
    if c.members:
        params.append(f"const struct {c.c_name} *in")
    return signature(f"void {c.c_name}_encode", params, end)


def header(s):
    wire = s.wire
    out = ["/* vgd_command_kind.id; 0 is nobody's. */", "enum {"]
    for i, c in enumerate(s.commands):
        out.append(f"    {c.id_macro} = {i + 1},")
    out += [f"    {wire.macro}IDS = {len(s.commands) + 1},", "};", "",
            f"extern const struct vgd_stream_wire {wire.prefix}stream;",
            comment("By id; the first has no name")[0],
            f"extern const struct vgd_command_kind {wire.prefix}kinds[{wire.macro}IDS];", ""]
    for p in s.parts.values():
        out += comment(p.doc, f"{p.n_dwords} dword{'s' if p.n_dwords > 1 else ''} of a body.")
        out += [f"struct {p.c_name} {{"] + member_lines(p.fields) + ["};"]
        out += part_head(p, ";") + part_encode_head(p, ";") + [""]
    for c in s.commands:
        out += comment(c.doc)
        if c.members:
            out.append(f"struct {c.c_name} {{")
            if c.objects:
                out.append("    uint32_t object; /* from the header */")
            if len(c.lengths) > 1:
                forms = ", ".join(str(n) for n in c.lengths)
                out.append(f"    uint32_t form_dwords; /* {forms}; fields beyond are 0 */")
            out += member_lines(c.fields)
            if c.each:
                out += [f"    uint32_t n_{c.rest_name};",
                        f"    const uint32_t *{c.rest_name}; /* borrowed; "
                        f"{c.group.c_name}_decode */"]
            elif c.has_rest:
                out += [f"    uint32_t n_{c.rest_name}_dwords;",
                        f"    const uint32_t *{c.rest_name}; /* borrowed */"]
            out += ["};", "VGD_MUST_CHECK"] + decode_head(c, ";")
        out += encode_head(c, ";")
        for hand in sorted(c.hand):
            out += hand_head(c, hand, ";")
        out.append("")
    return out


def hand_head(c, hand, end):
    if hand == "check":
        return ["VGD_MUST_CHECK"] + signature(f"enum vgd_status {c.c_name}_check",
                                              ["const struct vgd_command *cmd",
                                               "struct vgd_command_fault *fault"], end)
    if hand == "print":
        return signature(f"void {c.c_name}_print",
                         ["const struct vgd_command *cmd", "struct vgd_line *line"], end)
    return signature(f"void {c.c_name}_adjust",
                     ["const struct vgd_command *cmd", "struct vgd_command_ref *ref"], end)


# --- C: source ----------------------------------------------------------------------------------


def decode_lines(f, indent, target, at):
    """Read @f at dword @at of d into @target."""
    pad = " " * indent
    if f.part is not None:
        if not f.is_array:
            return [f"{pad}{f.part.c_name}_decode(d + {at}, &{target});"]
        return [f"{pad}for (size_t i = 0; i < {f.count}; i++) {{",
                f"{pad}    {f.part.c_name}_decode(d + {at} + i * {f.unit}, &{target}[i]);",
                f"{pad}}}"]
    if f.is_array:
        index = f"{at} + i" if f.unit == 1 else f"{at} + i * {f.unit}"
        return [f"{pad}for (size_t i = 0; i < {f.count}; i++) {{",
                f"{pad}    {target}[i] = {f.read('d', index)};", f"{pad}}}"]
    return [f"{pad}{target} = {f.read('d', at)};"]


def encode_fields(fields, source, indent=4):
    """Write all @fields, those that share a dword together."""
    pad = " " * indent
    out, i = [], 0
    while i < len(fields):
        f = fields[i]
        same = [g for g in fields[i:] if g.dword == f.dword]
        i += len(same)
        src = f"{source}{f.name}"
        if f.width < 32:
            terms = []
            for g in same:
                cast = "(uint32_t)" if g.type == "bool" else ""
                value = f"{cast}{source}{g.name}"
                if g.width < 32 and g.type != "bool":
                    value = f"({value} & 0x{(1 << g.width) - 1:x}u)"
                terms.append(f"{value} << {g.shift}" if g.shift else value)
            text = " | ".join(terms)
            out += wrapped(pad, f"vgd_write_le32(w, {text});")
        elif f.part is not None:
            if f.is_array:
                out += [f"{pad}for (size_t i = 0; i < {f.count}; i++) {{",
                        f"{pad}    {f.part.c_name}_encode(w, &{src}[i]);", f"{pad}}}"]
            else:
                out.append(f"{pad}{f.part.c_name}_encode(w, &{src});")
        elif f.is_array:
            out += [f"{pad}for (size_t i = 0; i < {f.count}; i++) {{",
                    f"{pad}    {f.write(src + '[i]')}", f"{pad}}}"]
        else:
            out.append(pad + f.write(src))
    return out


def wrapped(pad, text):
    lines = textwrap.wrap(text, COLUMNS - len(pad) - 4, break_long_words=False,
                          break_on_hyphens=False)
    return [pad + lines[0]] + [f"{pad}    {l}" for l in lines[1:]]


def elements(c):
    """How many there are, once the length is known to be right; divided by a constant."""
    n = f"cmd->n_dwords - {c.n_fixed}u" if c.n_fixed else "(uint32_t)cmd->n_dwords"
    return f"({n}) / {c.group.n_dwords}u" if c.group.n_dwords > 1 else n


def check_lines(f, d, base, dword_text, indent, c=None):
    """Check @f. @base: text of the dword in @d; @dword_text: of the dword in the command."""
    pad = " " * indent
    if f.part is not None:
        if not f.part.checked:
            return []
        at = f"{base} + i * {f.unit}" if f.is_array else base
        dword = f"{dword_text} + i * {f.unit}" if f.is_array else dword_text
        call = [f"st = check_{f.part.name}({d} + {at}, {dword}, st, fault);",
                "if (st != VGD_OK && st != VGD_UNSUPPORTED) {", "    return st;", "}"]
        if f.is_array:
            call = [f"for (uint32_t i = 0; i < {f.count}; i++) {{"] \
                + ["    " + l for l in call] + ["}"]
        return [pad + l for l in call]
    out = []
    value = f"{d}[{base}]"
    if f.width < 32:
        value = f"({f.read(d, base)})" if f.type != "bool" else value
    wrong = [f"    return vgd_command_wrong(fault, {dword_text}, \"{f.name}\", {value});", "}"]
    if f.ref and not f.null:
        out += [f"if ({value} == 0) {{"] + wrong
    if f.max is not None:
        out += [f"if ({value} > {f.max}u) {{"] + wrong
    if f.slots is not None:
        out += [f"if ({value} > {f.slots}u || {elements(c)} > {f.slots}u - {value}) {{"] + wrong
    if f.enum is not None and f.enum_check(value):
        out.append(f"if ({f.enum_check(value)}) {{")
        if f.enum.unknown == "newer":
            if f.enum.below is not None:
                out += [f"    if ({value} >= {f.enum.below}u) {{"] + ["    " + line for line in wrong[:1]] + ["    }"]
            out += [f"    st = vgd_command_newer(fault, st, {dword_text}, \"{f.name}\", {value});",
                    "}"]
        else:
            out += wrong
    return [pad + l for l in out]


def source(s):
    known, flags = s.used_enums()
    out = []
    for e in known.values():
        words = [0] * (max(v.value for v in e.values) // 32 + 1)
        for v in e.values:
            words[v.value // 32] |= 1 << v.value % 32
        out += [f"static bool known_{e.name}(uint32_t value)", "{",
                f"    static const uint32_t known[{len(words)}] = {{"]
        text = ", ".join(f"0x{w:08x}u" for w in words)
        out += ["        " + l for l in textwrap.wrap(text, COLUMNS - 9)]
        out += ["    };", f"    return value < {32 * len(words)}u && (known[value / 32] >> value % 32 "
                "& 1) != 0;", "}", ""]
    for e in flags.values():
        out.append(f"static const struct vgd_field_flag {e.name}_bits[] = {{")
        out += [f'    {{{v.macro}, "{v.name}"}},' for v in e.values] + ["    {0, NULL},", "};", ""]
    for p in s.parts.values():
        out += part_source(p)
    for c in s.commands:
        out += command_source(s, c)
    return "\n".join(out + tables(s)).split("\n")  # rows of several lines


def part_source(p):
    out = part_head(p, "") + ["{", "    const uint32_t *d = dwords;",
                              f"    *out = (struct {p.c_name}){{0}};"]
    for f in p.fields:
        out += decode_lines(f, 4, f"out->{f.name}", f.dword)
    out += ["}", ""]
    out += part_encode_head(p, "") + ["{"]
    out += encode_fields(p.fields, "in->") + ["}", ""]
    if p.checked:
        out += signature(f"static enum vgd_status check_{p.name}",
                         ["const uint32_t *d", "uint32_t dword", "enum vgd_status st",
                          "struct vgd_command_fault *fault"], "") + ["{"]
        for f in p.fields:
            dword = f"dword + {f.dword}" if f.dword else "dword"
            out += check_lines(f, "d", str(f.dword), dword, 4)
        out += ["    return st;", "}", ""]
    out.append(f"static const struct vgd_command_field {p.name}_fields[] = {{")
    out += [field_row(f) for f in p.fields] + ["};"]
    out += [f"static const struct vgd_command_part {p.name}_part = {{",
            f"    .fields = {p.name}_fields,", f"    .n_fields = {len(p.fields)},",
            f"    .n_dwords = {p.n_dwords},", "};", ""]
    return out


def field_row(f):
    parts = [f'.name = "{f.name}"', f".type = VGD_FIELD_{f.field_type}", f".dword = {f.dword}",
             f".shift = {f.shift}", f".width = {f.width}", f".count = {f.count}"]
    if f.enum is not None:
        parts.append(f".name_of = {f.enum.names_function}")
    if f.flags is not None:
        parts.append(f".flags = {f.flags.name}_bits")
    if f.part is not None:
        parts.append(f".part = &{f.part.name}_part")
    lines = textwrap.wrap("{" + ", ".join(parts) + "},", COLUMNS - 6, break_on_hyphens=False)
    return "\n".join("    " + ("" if i == 0 else " ") + l for i, l in enumerate(lines))


def command_source(s, c):
    out = []
    if c.checked:
        out += check_source(c)
    if c.members:
        out += decode_head(c, "") + ["{"]
        out += [f"    enum vgd_status st = vgd_command_fits(cmd, &{s.wire.prefix}kinds"
                f"[{c.id_macro}]);",
                "    if (st != VGD_OK) {", "        return st;", "    }"]
        if c.fields or c.has_rest:
            out.append("    const uint32_t *d = cmd->body;")
        out.append(f"    struct {c.c_name} v = {{0}};")
        if c.objects:
            out.append("    v.object = cmd->object;")
        if len(c.lengths) > 1:
            longest = c.lengths[-1]
            out.append(f"    v.form_dwords = cmd->n_dwords < {longest} ? cmd->n_dwords : {longest};")
        form = 0
        for f in c.fields:
            if c.form_of(f) != form:
                out += (["    }"] if form else []) \
                    + [f"    if (cmd->n_dwords >= {c.form_of(f)}) {{"]
                form = c.form_of(f)
            out += decode_lines(f, 8 if form else 4, f"v.{f.name}", f.dword)
        out += ["    }"] if form else []
        if c.each:
            out += [f"    v.n_{c.rest_name} = {elements(c)};",
                    f"    if (v.n_{c.rest_name} > {c.n_most}) {{",
                    f"        v.n_{c.rest_name} = {c.n_most}; /* the others are ignored */",
                    "    }"] if c.longer_ignored else \
                [f"    v.n_{c.rest_name} = {elements(c)};"]
            out.append(f"    v.{c.rest_name} = d + {c.n_fixed};")
        elif c.has_rest:
            out += [f"    v.n_{c.rest_name}_dwords = cmd->n_dwords - {c.n_fixed}u;",
                    f"    v.{c.rest_name} = d + {c.n_fixed};"]
        out += ["    *out = v;", "    return VGD_OK;", "}", ""]
    out += encode_head(c, "") + ["{"]
    base = c.opcode.value | (c.object.value << 8 if c.object else 0)
    terms = [f"0x{base:04x}u"]
    if c.objects:
        terms.append("in->object << 8")
    if c.each:
        terms.append(f"({c.n_fixed}u + in->n_{c.rest_name} * {c.group.n_dwords}u) << 16")
    elif c.has_rest:
        terms.append(f"({c.n_fixed}u + in->n_{c.rest_name}_dwords) << 16")
    elif len(c.lengths) > 1:
        terms.append("in->form_dwords << 16")
    else:
        terms.append(f"{c.n_fixed}u << 16")
    out += wrapped("    ", f"vgd_write_le32(w, {' | '.join(terms)});")
    form = 0
    groups = {}
    for f in c.fields:
        groups.setdefault(c.form_of(f), []).append(f)
    for form, fields in groups.items():
        if form:
            out += [f"    if (in->form_dwords >= {form}) {{"] + encode_fields(fields, "in->", 8) \
                + ["    }"]
        else:
            out += encode_fields(fields, "in->")
    if c.each:
        out.append(f"    vgd_write_bytes(w, in->{c.rest_name}, "
                   f"(size_t)in->n_{c.rest_name} * {4 * c.group.n_dwords}u);")
    elif c.has_rest:
        out.append(f"    vgd_write_bytes(w, in->{c.rest_name}, "
                   f"(size_t)in->n_{c.rest_name}_dwords * 4u);")
    return out + ["}", ""]


def check_source(c):
    out = signature(f"static enum vgd_status check_{c.name}",
                    ["const struct vgd_command *cmd", "struct vgd_command_fault *fault"], "")
    out += ["{", "    enum vgd_status st = VGD_OK;"]
    body, form = [], 0
    for f in c.fields:
        lines = check_lines(f, "d", str(f.dword), str(f.dword + 1), 8 if c.form_of(f) else 4,
                            c)
        if not lines:
            continue
        if c.form_of(f) != form:
            body += (["    }"] if form else []) + [f"    if (cmd->n_dwords >= {c.form_of(f)}) {{"]
            form = c.form_of(f)
        body += lines
    body += ["    }"] if form else []
    if c.each and "count" in c.each:
        f = next(x for x in c.fields if x.name == c.each["count"])
        body += [f"    if (d[{f.dword}] != {elements(c)}) {{",
                 f"        return vgd_command_wrong(fault, {f.dword + 1}, \"{f.name}\", "
                 f"d[{f.dword}]);", "    }"]
    if c.each and c.group.checked:
        most = [f"    n = n > {c.n_most} ? {c.n_most} : n; /* the others are ignored */"] \
            if c.longer_ignored else []
        body += [f"    uint32_t n = {elements(c)};"] + most \
            + ["    for (uint32_t i = 0; i < n; i++) {",
               f"        uint32_t at = {c.n_fixed} + i * {c.group.n_dwords};",
               f"        st = check_{c.group.name}(d + at, at + 1, st, fault);",
               "        if (st != VGD_OK && st != VGD_UNSUPPORTED) {", "            return st;",
               "        }", "    }"]
    if body:
        out.append("    const uint32_t *d = cmd->body;")
    out += body
    if "check" in c.hand:
        if body:
            out += ["    struct vgd_command_fault more;",
                    f"    enum vgd_status hand = {c.c_name}_check(cmd, &more);",
                    "    if (hand != VGD_OK && (st == VGD_OK || hand != VGD_UNSUPPORTED)) {",
                    "        *fault = more;", "        st = hand;", "    }", "    return st;"]
        else:
            out.remove("    enum vgd_status st = VGD_OK;")
            out += [f"    return {c.c_name}_check(cmd, fault);"]
    else:
        out += ["    return st;"]
    return out + ["}", ""]


def refs_of(c, s):
    """Rows of the table of what a command names."""
    rows = []

    def add(fields, base, in_group):
        for f in fields:
            for i in range(f.count):
                at = base + f.dword + i * f.unit
                if f.part is not None:
                    add(f.part.fields, at, in_group)
                elif f.ref:
                    obj = f.ref_object.value if f.ref_object else 0
                    rows.append(f"    {{.space = VGD_REF_{SPACES[f.ref]}, .role = {role_text(f)}, "
                                f".object = {obj}, .dword = {at}, "
                                f".in_group = {1 if in_group else 0}}},")
    add(c.fields, 0, False)
    if c.each:
        add(c.group.fields, 0, True)
    return ["\n     ".join(textwrap.wrap(r, COLUMNS - 6, initial_indent="", break_on_hyphens=False))
            for r in rows]


def role_text(f):
    return " | ".join(f"VGD_ROLE_{r.upper()}" for r in f.roles)


def tables(s):
    wire, out = s.wire, []
    for c in s.commands:
        c.rows = refs_of(c, s)
        if c.fields:
            out.append(f"static const struct vgd_command_field {c.name}_fields[] = {{")
            out += [field_row(f) for f in c.fields] + ["};"]
        if c.rows:
            out.append(f"static const struct vgd_command_ref_at {c.name}_refs[] = {{")
            out += ["    " + r.strip() for r in c.rows] + ["};"]
    out += ["", f"const struct vgd_command_kind {wire.prefix}kinds[{wire.macro}IDS] = {{"]
    for c in s.commands:
        out += kind_row(c)
    out += ["};", ""]
    by_opcode = {c.opcode.value: c for c in s.commands if c.object is None}
    by_object = {c.object.value: c for c in s.commands if c.object is not None}
    n_opcodes = max(v.value for v in s.opcodes.values) + 1
    n_objects = max(v.value for v in s.objects.values) + 1
    for name, table, n in (("by_opcode", by_opcode, n_opcodes), ("by_object", by_object, n_objects)):
        out.append(f"static const struct vgd_command_kind *const {name}[{n}] = {{")
        out += [f"    [{i}] = &{wire.prefix}kinds[{c.id_macro}]," for i, c in sorted(table.items())]
        out.append("};")
    out += [f"const struct vgd_stream_wire {wire.prefix}stream = {{",
            "    .by_opcode = by_opcode,", f"    .n_opcodes = {n_opcodes},",
            "    .by_object = by_object,", f"    .n_objects = {n_objects},",
            f"    .create_opcode = {s.create.value},",
            f"    .opcode_name = {s.opcodes.names_function},",
            f"    .object_name = {s.objects.names_function},", "};"]
    return out


def kind_row(c):
    forms = 0 if c.each or c.tail else sum(1 << n for n in c.lengths)
    objects = sum(1 << o.value for o in c.objects)
    rows = [f'.name = "{c.name.upper()}"', f".id = {c.id_macro}",
            f".fixed_dwords = {c.n_fixed}", f".min_dwords = {c.min}", f".max_dwords = {c.max}"]
    if forms:
        rows.append(f".forms = UINT64_C(0x{forms:x})")
    if objects:
        rows.append(f".objects = 0x{objects:x}u")
    if c.fields:
        rows += [f".fields = {c.name}_fields", f".n_fields = {len(c.fields)}"]
    if c.rows:
        rows += [f".refs = {c.name}_refs", f".n_refs = {len(c.rows)}"]
    if c.each:
        rows += [f".group = &{c.group.name}_part"]
    if c.rest_name:
        rows.append(f'.rest_name = "{c.rest_name}"')
    if c.tail:
        rows.append(f".tail = VGD_TAIL_{TAILS[c.tail['type']]}")
    if c.longer_ignored:
        rows.append(".longer_ignored = true")
    if c.each and c.each.get("slack"):
        rows.append(".slack = true")
    if c.checked:
        rows.append(f".check = check_{c.name}")
    if "print" in c.hand:
        rows.append(f".print = {c.c_name}_print")
    if "adjust" in c.hand:
        rows.append(f".adjust = {c.c_name}_adjust")
    return [f"    [{c.id_macro}] = {{"] + [f"        {r}," for r in rows] + ["    },"]
