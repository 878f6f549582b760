# SPDX-License-Identifier: MIT
"""What the parts of the generator share."""

import re
import textwrap

COLUMNS = 100


class SchemaError(Exception):
    pass


def need(table, key, where):
    if key not in table:
        raise SchemaError(f"{where}: {key!r} is missing")
    return table[key]


def check_keys(known, where, table):
    if not isinstance(table, dict):
        raise SchemaError(f"{where}: not a table")
    unknown = set(table) - known
    if unknown:
        raise SchemaError(f"{where}: unknown key {sorted(unknown)[0]!r}")


def check_name(name, where, pattern=r"[a-z][a-z0-9_]*"):
    if not re.fullmatch(pattern, name):
        raise SchemaError(f"{where}: {name!r} is not a valid name")
    return name


def comment(*parts, indent="", doc=False):
    """A block comment of the non-empty @parts, one line where it fits."""
    parts = [p for p in parts if p]
    if not parts:
        return []
    head = "/** " if doc else "/* "
    text = " ".join(p if p.endswith((".", ":")) else p + "." for p in parts) if doc \
        else " ".join(parts)
    if len(indent + head + text + " */") <= COLUMNS:
        return [f"{indent}{head}{text} */"]
    lines = textwrap.wrap(text, COLUMNS - len(indent) - 3, break_on_hyphens=False)
    return [indent + head.rstrip()] + [f"{indent} * {l}" for l in lines] + [f"{indent} */"]


def signature(start, params, end):
    """A function head, wrapped below its opening bracket like clang-format does."""
    one = f"{start}({', '.join(params)}){end}"
    if len(one) <= COLUMNS:
        return [one]
    pad = " " * (len(start) + 1)
    if any(len(pad + p) + 1 > COLUMNS for p in params):
        pad = " " * 4
        return [f"{start}("] + [f"{pad}{p}{',' if p is not params[-1] else ')' + end}"
                                for p in params]
    lines, current = [], start + "("
    for i, p in enumerate(params):
        piece = p + (", " if i + 1 < len(params) else ")" + end)
        if len(current + piece.rstrip()) > COLUMNS:
            lines.append(current.rstrip())
            current = pad
        current += piece
    return lines + [current]


def cell(text):
    return str(text).replace("|", "\\|")
