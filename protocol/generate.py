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
import sys
import tomllib

from generate_c import header, linux_check, source
from generate_tables import docs, vectors
from generate_text import SchemaError
from generate_wire import Wire


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
