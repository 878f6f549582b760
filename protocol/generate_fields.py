#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn the bodies of a wire schema into the tables of wire_fields.h: generate_fields.py SCHEMA FILE.c"""

import pathlib
import re
import sys

from generate import write
from generate_c import banner
from generate_wire import Wire


def names_of(wire, field):
    """The function that names the field's values: its doc says VGD_FORMAT_*, and that enum has names."""
    found = re.search(re.escape(wire.macro) + r"([A-Z0-9_]+_)\*", field.doc)
    for e in wire.enums:
        if found and e.prefix == found.group(1) and e.names:
            return wire.prefix + e.names
    return "NULL"


def rows(wire, layout, at, before):
    out = []
    for f, offset in zip(layout.fields, layout.offsets):
        if f.pad:
            continue
        if f.nested:
            for i in range(f.count):
                name = before + f.name + (f"[{i}]" if f.is_array else "")
                out += rows(wire, f.nested, at + offset + i * f.unit, name + ".")
            continue
        out.append(f'    {{"{before}{f.name}", {at + offset}, {f.count}, {f.unit}, '
                   f'{str(f.type == "char").lower()}, {names_of(wire, f)}}},')
    return out


def main():
    schema, target = sys.argv[1:]
    wire = Wire(schema)
    stem = pathlib.Path(schema).stem.replace("-", "_")
    out = banner(wire, f"{wire.title}: layouts as tables")
    out += ['#include "wire_fields.h"', "", f'#include "{stem}.h"', ""]
    bodies = []
    for m in wire.layouts.values():
        if not m.of:
            continue
        fields = rows(wire, m, 0, "")
        if fields:
            out += [f"static const struct vgd_wire_field {m.name}_fields[] = {{"] + fields + ["};"]
        table = f"{m.name}_fields" if fields else "NULL"
        bodies += [f"    {{{wire.constants[c].macro}, {m.size}, {len(fields)}, {table}}}," for c in m.of]
    out += ["", f"const struct vgd_wire_body vgd_{stem}_bodies[] = {{"] + bodies + ["};"]
    out += [f"const size_t vgd_{stem}_n_bodies =",
            f"    sizeof(vgd_{stem}_bodies) / sizeof(vgd_{stem}_bodies[0]);"]
    write(target, out)


if __name__ == "__main__":
    main()
