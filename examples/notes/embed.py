#!/usr/bin/env python3
"""embed.py IN OUT: a file as an array of C, so that the program carries it: NAME.sql → NAME_sql."""

import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:])
values = [str(byte) for byte in source.read_bytes()] + ["0"]
lines = [", ".join(values[i:i + 20]) for i in range(0, len(values), 20)]
out.write_text(f"static const unsigned char {source.name.replace('.', '_')}[] = {{\n    "
               + ",\n    ".join(lines) + "};\n")
