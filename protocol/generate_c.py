# SPDX-License-Identifier: MIT
"""C of a wire: header, codecs, and assertions against the kernel's header."""

import generate_stream_c
from generate_text import COLUMNS, comment, signature
from generate_wire import SCALARS


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
