#!/usr/bin/python3
"""Fuzzes one parser over its kept corpus for so many seconds.

    run.py PROGRAM CORPUS SECONDS [--keep]

The corpus is a text file, one input a line, written as a Python literal (b"…" or "…"). What breaks
the program is printed as such a line: put it into the corpus, it is then the first thing that is
tried. --keep writes back the inputs that reach something that no shorter one reaches."""

import ast
import hashlib
import os
import subprocess
import sys
import tempfile

KEPT_MOST = 300
LENGTH_MOST = 300


def read_corpus(path):
    with open(path, encoding="utf-8") as f:
        values = [ast.literal_eval(line) for line in f if line.strip() and line[0] != "#"]
    return [v if isinstance(v, bytes) else v.encode() for v in values]


def literal(data):
    try:
        text = data.decode()
        return repr(text) if text.isprintable() or text.isascii() else repr(data)
    except UnicodeDecodeError:
        return repr(data)


def spread(inputs, folder):
    os.mkdir(folder)
    for data in inputs:
        with open(os.path.join(folder, hashlib.sha1(data).hexdigest()), "wb") as f:
            f.write(data)


def collect(folder):
    found = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            found.append(f.read())
    return found


def fuzz(program, folder, *options):
    return subprocess.run([program, "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1",
                           f"-artifact_prefix={folder}/broken/", *options],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False)


def keep(program, corpus, folder):
    os.mkdir(f"{folder}/kept")
    fuzz(program, folder, "-merge=1", f"{folder}/kept", f"{folder}/corpus")
    kept = [d for d in collect(f"{folder}/kept") if len(d) <= LENGTH_MOST]
    kept = sorted(kept, key=lambda d: (len(d), d))[:KEPT_MOST]
    with open(corpus, "w", encoding="utf-8") as f:
        f.writelines(literal(d) + "\n" for d in kept)
    print(f"{len(kept)} inputs kept in {corpus}")


def main():
    program, corpus, seconds, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        inputs = read_corpus(corpus)
        os.mkdir(f"{folder}/broken")
        spread(inputs, f"{folder}/corpus")
        done = fuzz(program, folder, f"-max_total_time={seconds}", "-dict=" + corpus[:-4] + ".dict"
                    if os.path.exists(corpus[:-4] + ".dict") else "-seed=0", f"{folder}/corpus")
        for data in collect(f"{folder}/broken"):
            print(f"this breaks it:\n{literal(data)}")
        if done.returncode != 0:
            print(done.stdout[-6000:])
            return 1
        runs = [line for line in done.stdout.splitlines() if "number_of_executed_units" in line]
        print(f"{len(inputs)} kept inputs, {runs[0].split()[-1]} tried in {seconds} s")
        if "--keep" in options:
            keep(program, corpus, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
