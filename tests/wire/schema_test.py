#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mistakes in a schema are refused with one line that names them. Prints TAP."""

import pathlib
import subprocess
import sys
import tempfile

GENERATOR = sys.argv[1]

WIRE = '[wire]\ntitle = "t"\nprefix = "t_"\nbyte_order = "le"\n'
POINT = '[struct.point]\nsize = 4\nfields = [{ name = "x", type = "le32" }]\n'

COMMANDS = (WIRE.replace('"le"', '"native"') + '[[enum]]\nname = "op"\nnames = "op_name"\nlist = ["NEW", "GO"]\n'
            '[[enum]]\nname = "thing"\nprefix = "T_"\nnames = "thing_name"\nlist = ["PEN"]\n'
            '[stream]\nopcodes = "op"\nobjects = "thing"\ncreate = "NEW"\n'
            '[part.dot]\ndwords = 1\nfields = [{ name = "x" }]\n'
            '[command.new_pen]\nopcode = "NEW"\nobject = "PEN"\n')
GO = '[command.go]\nopcode = "GO"\n'

# name, schema, what the line has to say
MISTAKES = [
    ("not TOML", "[wire", "table declaration"),
    ("no wire", POINT, "'wire' is missing"),
    ("no prefix", '[wire]\ntitle = "t"\n', "'prefix' is missing"),
    ("unknown table", WIRE + "[massage.a]\nsize = 0\n", "unknown table 'massage'"),
    ("unknown key of a message", WIRE + "[message.a]\nsize = 0\nlength = 1\n", "unknown key 'length'"),
    ("unknown key of a field", WIRE + POINT.replace("type", "typo = 1, type"), "unknown key 'typo'"),
    ("byte order", WIRE.replace('"le"', '"be"'), "byte_order is le or native"),
    ("no size", WIRE + "[message.a]\n", "'size' is missing"),
    ("wrong size", WIRE + POINT.replace("= 4", "= 8"), "size says 8, the fields make 4"),
    ("unknown type", WIRE + POINT.replace("le32", "le24"), "unknown type 'le24'"),
    ("type of the other byte order", WIRE + POINT.replace("le32", "u32"), "u32 is not of byte order le"),
    ("type before its definition",
     WIRE + '[struct.a]\nsize = 4\nfields = [{ name = "p", type = "point" }]\n' + POINT,
     "unknown type 'point'"),
    ("field without a name", WIRE + POINT.replace('name = "x", ', ""), "'name' is missing"),
    ("padding with a name", WIRE + POINT.replace("le32", "pad32"), "padding has no name"),
    ("bad field name", WIRE + POINT.replace('"x"', '"X y"'), "'X y' is not a valid name"),
    ("two fields of one name",
     WIRE + '[struct.a]\nsize = 2\nfields = [{ name = "x", type = "u8" }, { name = "x", type = "u8" }]\n',
     "two fields have one name"),
    ("count of nothing", WIRE + POINT.replace("}", ", count = 0 }"), "count is not positive"),
    ("count of an unknown constant", WIRE + POINT.replace("}", ', count = "MAX" }'), "no constant 'MAX'"),
    ("char without a count", WIRE + POINT.replace("le32", "char"), "char needs a count"),
    ("unknown constant in of", WIRE + '[message.a]\nsize = 0\nof = ["GO"]\n', "no constant 'GO'"),
    ("tail_count without a tail", WIRE + '[message.a]\nsize = 0\ntail_count = "n"\n', "need tail"),
    ("tail_count of no field",
     WIRE + '[message.a]\nsize = 0\ntail = "d"\ntail_count = "n"\n', "names no field 'n'"),
    ("tail of an unknown type",
     WIRE + '[message.a]\nsize = 0\ntail = "d"\ntail_of = "dot"\n', "unknown tail_of 'dot'"),
    ("tail inside a message",
     WIRE + '[message.a]\nsize = 0\ntail = "d"\n'
     '[message.b]\nsize = 0\nfields = [{ name = "a", type = "a" }]\n', "cannot be nested"),
    ("struct and message of one name", WIRE + POINT + "[message.point]\nsize = 0\n", "name is taken"),
    ("value twice in an enum",
     WIRE + '[[enum]]\nname = "e"\nvalues = [{ name = "A", value = 1 }, { name = "B", value = 1 }]\n',
     "value is taken"),
    ("below for an enum that refuses what it does not know",
     WIRE + '[[enum]]\nname = "e"\nbelow = 9\nvalues = [{ name = "A", value = 1 }]\n', "bounds what is newer"),
    ("value above 32 bits", WIRE + '[[const]]\nname = "A"\nvalue = 4294967296\n', "not a u32"),
    ("constant twice",
     WIRE + '[[const]]\nname = "A"\nvalue = 1\n[[const]]\nname = "A"\nvalue = 2\n', "name is taken"),
    ("constant with the name of a size",
     WIRE + '[[const]]\nname = "POINT_SIZE"\nvalue = 1\n' + POINT, "also a constant"),
    ("not a table", WIRE + "[message]\na = 1\n", "not a table"),
    ("include of no file", WIRE + 'include = ["nobody.toml"]\n', "nobody.toml"),
    ("enum of nothing", WIRE + '[[enum]]\nname = "e"\n', "'values' is missing"),
    ("what to do with unknown values", WIRE + '[[enum]]\nname = "e"\nlist = ["A"]\nunknown = "maybe"\n',
     "refuse, newer or any"),
    ("opcode without a command", COMMANDS, "no command has it"),
    ("unknown opcode", COMMANDS + GO.replace('"GO"', '"STOP"'), "has no value 'STOP'"),
    ("opcode twice", COMMANDS + GO + GO.replace("command.go", "command.come"), "taken by go"),
    ("object without creation", COMMANDS + GO + 'object = "PEN"\n', "goes with NEW"),
    ("unknown key of a command", COMMANDS + GO + "size = 1\n", "unknown key 'size'"),
    ("longest length", COMMANDS + GO + 'lengths = [2]\nfields = [{ name = "x" }]\n', "the fields make 1"),
    ("too many bits", COMMANDS + GO + 'fields = [{ bits = [{ name = "x", width = 33 }] }]\n', "33 bits"),
    ("a float in some bits", COMMANDS + GO + 'fields = [{ bits = [{ name = "x", width = 8, type = "f32" }] }]\n',
     "does not fit"),
    ("unknown ref", COMMANDS + GO + 'fields = [{ name = "x", ref = "thing", role = [] }]\n', "unknown ref 'thing'"),
    ("ref without a role", COMMANDS + GO + 'fields = [{ name = "x", ref = "object" }]\n', "'role' is missing"),
    ("unknown role", COMMANDS + GO + 'fields = [{ name = "x", ref = "object", role = ["eat"] }]\n', "unknown role 'eat'"),
    ("unknown enum", COMMANDS + GO + 'fields = [{ name = "x", enum = "hue" }]\n', "no enum 'hue'"),
    ("unknown part", COMMANDS + GO + 'each = { name = "x", part = "line", max = 1 }\n', "no part 'line'"),
    ("part of another size", COMMANDS.replace("dwords = 1", "dwords = 2") + GO, "dwords says 2, the fields make 1"),
    ("group without a limit", COMMANDS + GO + 'each = { name = "x", part = "dot" }\n', "'max' is missing"),
    ("count of no field of a group", COMMANDS + GO + 'each = { name = "x", part = "dot", max = 1, count = "n" }\n',
     "names no field 'n'"),
    ("slots of nothing", COMMANDS + GO + 'fields = [{ name = "x", slots = 4 }]\n', "slots without a group"),
    ("unknown tail", COMMANDS + GO + 'tail = { type = "bytes" }\n', "unknown tail 'bytes'"),
    ("unknown hand", COMMANDS + GO + 'hand = ["wave"]\n', "unknown hand 'wave'"),
]


def main():
    failed = 0
    print(f"1..{len(MISTAKES)}")
    with tempfile.TemporaryDirectory() as folder:
        schema = pathlib.Path(folder, "schema.toml")
        output = pathlib.Path(folder, "schema.h")
        for i, (name, text, expect) in enumerate(MISTAKES, 1):
            schema.write_text(text)
            run = subprocess.run([sys.executable, GENERATOR, schema, "--header", output],
                                 capture_output=True, text=True, check=False)
            ok = (run.returncode == 1 and expect in run.stderr and run.stderr.count("\n") == 1
                  and not output.exists())
            print(f"{'ok' if ok else 'not ok'} {i} - {name}")
            if not ok:
                failed += 1
                print(f"# exit {run.returncode}, said: {run.stderr.strip()!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
