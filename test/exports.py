#!/usr/bin/env python3
"""exports.py ROOT LIBRARY.so LIBRARY.a: both export what the public headers declare, and nothing
else; and nothing else of ours is left undefined in the archive."""

import glob
import re
import subprocess
import sys

DECLARED = re.compile(r"\bPQR_API\b[^;]*?\b(pqr_\w+)\s*[(\[]")


def declared(root):
    names = set()
    for path in glob.glob(root + "/include/pqrouter/*.h"):
        with open(path, encoding="utf-8") as f:
            names |= set(DECLARED.findall(re.sub(r"(?sm)/\*.*?\*/|^#[^\n]*", "", f.read())))
    return names


def symbols(*nm):
    """The names that nm prints, without their versions; a version itself is not a symbol."""
    lines = subprocess.run(["nm", "-P", *nm], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in lines.splitlines() if not line.endswith(":")]
    return {row[0].split("@")[0] for row in rows if row and row[1] != "A"}


def main():
    root, shared, static = sys.argv[1:]
    public = declared(root)
    wrong = [] if public else ["no public function is declared"]
    for library, names in [(shared, symbols("-D", "--defined-only", shared)),
                           (static, symbols("-g", "--defined-only", static))]:
        wrong += [f"{library}: exports {n}, which no public header declares" for n in names - public]
        wrong += [f"{library}: lacks {n}, which a public header declares" for n in public - names]
    wrong += [f"{static}: needs {n} from elsewhere" for n in symbols("-u", static)
              if n.startswith(("pqr_", "pqi_"))]
    for line in sorted(wrong):
        print(line)
    print(f"exports: {len(public)} public names, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
