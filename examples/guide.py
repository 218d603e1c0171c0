#!/usr/bin/env python3
"""Compiles every block of C and C++ in docs/guide.md, and README's program: guide.py ROOT CC…

README's is whole. In the guide a block that holds functions stands as it is; any other is statements, and becomes the inside of a
function in which the guide's first block has declared what all of them use."""

import re
import subprocess
import sys

PRELUDE = """\
#include <pqrouter/admin.h>
#include <pqrouter/pqrouter.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
"""
FLAGS = {"c": ["-std=gnu11"], "c++": ["-std=gnu++17"]}
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function",
          "-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-value"]


def blocks(path, language):
    """[(line, text), …]; each begins at that line of the file."""
    with open(path) as f:
        text = f.read()
    found = re.finditer(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.M | re.S)
    return [(text.count("\n", 0, m.start(1)) + 1, m.group(1)) for m in found]


def program(path, declared, parts):
    out = [PRELUDE]
    for line, text in parts:
        here = f'#line {line} "{path}"\n{text}'
        if re.search(r"^(static|struct \w+ {)", text, re.M) and not text.startswith("struct pg_"):
            out.append(here)
        else:
            out.append(f"void block_{line}(void);\nvoid block_{line}(void)\n{{\n{declared}{here}}}\n")
    return "\n".join(out)


def compiles(source, language, cc, flags):
    done = subprocess.run([*cc, "-x", language, *FLAGS[language], *STRICT, *flags, "-fsyntax-only", "-"],
                          input=source, text=True)
    return done.returncode == 0


def main(root, *cc):
    path = f"{root}/docs/guide.md"
    flags = ["-I", f"{root}/include", *subprocess.run(
        ["pkg-config", "--cflags", "libpq"], capture_output=True, text=True, check=True).stdout.split()]
    (_, declared), *parts = blocks(path, "c")
    good = compiles(program(path, declared, parts), "c", cc, flags)
    for line, text in blocks(f"{root}/README.md", "c"):
        good = compiles(f'#line {line} "{root}/README.md"\n{text}', "c", cc, flags) and good
    cpp = blocks(path, "cpp")
    if compiles("", "c++", cc, flags):
        good = compiles(program(path, declared, cpp), "c++", cc, flags) and good
    else:
        print("guide: this compiler knows no C++: left out")
    print(f"guide: {len(parts)} blocks of C, {len(cpp)} of C++")
    return 0 if good and parts and cpp else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
