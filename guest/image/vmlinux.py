#!/usr/bin/env python3
"""Cuts the compressed kernel out of a bzImage: vmlinux.py BZIMAGE OUT (x86 boot protocol 2.08, payload fields)."""
import struct
import sys

with open(sys.argv[1], "rb") as f:
    image = f.read()
if image[0x202:0x206] != b"HdrS":
    sys.exit("vmlinux.py: %s is not a bzImage" % sys.argv[1])
setup_sectors = image[0x1F1] or 4
offset, length = struct.unpack_from("<II", image, 0x248)
start = (setup_sectors + 1) * 512 + offset
payload = image[start:start + length]
if payload[:4] in (b"\x28\xb5\x2f\xfd", b"\xfd7zX"):
    payload = payload[:-4]  # the kernel's build appends the uncompressed size, which zstd and xz refuse
with open(sys.argv[2], "wb") as f:
    f.write(payload)
