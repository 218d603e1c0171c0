#!/usr/bin/env python3
"""layers.py [ROOT]: the rules of the house, read from the sources. Exit status 1 if one is broken.

  1. Includes point down: base < plan < wire < run < ops < api. Public headers include none of them.
  2. cli, examples, bench, test/live and test/chaos see only <pqrouter/…>, also by way of test/lib.
  3. Modules (a .c and its .h) do not include each other in a circle.
  4. Of the library and the command, only wire includes the headers of libpq and hiredis.
  5. In lib, only base/mem.c allocates and frees, only wire/world.c reads the clock or chance.
  6. Every source is named in the meson.build above it, so that none is forgotten.
"""

import os
import re
import sys

LAYERS = ["base", "plan", "wire", "run", "ops", "api"]
OUTSIDERS = ["cli", "examples", "bench", "test/live", "test/chaos"]
BUILT = ["lib", "cli", "examples", "bench", "test/lib", "test/unit", "test/fuzz",
         "test/sim", "test/live", "test/chaos"]

CLIENTS = re.compile(r"(libpq-fe|libpq-events|postgres_ext|pg_config\w*)\.h$"
                     r"|(libpq|internal|hiredis|valkey)/")
MEMORY = ("malloc calloc realloc reallocarray aligned_alloc posix_memalign memalign free strdup "
          "strndup asprintf vasprintf getline getdelim open_memstream").split()
CHANCE = ("time clock clock_gettime gettimeofday ftime times timespec_get rand rand_r srand random "
          "random_r srandom drand48 erand48 lrand48 nrand48 mrand48 jrand48 getrandom getentropy "
          "arc4random arc4random_uniform arc4random_buf").split()
CALLS = [(MEMORY, "lib/base/mem.c", "only base/mem.c allocates and frees"),
         (CHANCE, "lib/wire/world.c", "only wire/world.c reads the clock or chance")]

COMMENT_OR_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', re.M)


class Source:
    """One file: where it is, what it includes, and its code without comments and texts."""

    def __init__(self, root, path):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = f.read()
        self.path = path
        self.includes = []          # (line, quoted, name)
        whole = COMMENT_OR_TEXT.sub(lambda m: blank(m) if m[0][0] == "/" else m[0], text)
        for m in INCLUDE.finditer(whole):
            self.includes.append((line_of(whole, m.start()), m[1] == '"', m[2]))
        self.code = COMMENT_OR_TEXT.sub(blank, text)

    def folder(self):
        return os.path.dirname(self.path)

    def module(self):
        return os.path.splitext(self.path)[0]

    def layer(self):
        """Its number from the bottom; None outside the layers."""
        parts = self.path.split("/")
        return LAYERS.index(parts[1]) if parts[0] == "lib" and parts[1] in LAYERS else None

    def outsider(self):
        return next((d for d in OUTSIDERS if self.path.startswith(d + "/")), None)


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def find(root, folders, endings):
    for top in folders:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.relpath(os.path.join(folder, name), root)


def resolve(sources, source, name):
    """The file of ours that an include means; None: not ours."""
    for start in [source.folder(), "include", "lib", "test/lib"]:
        path = os.path.normpath(os.path.join(start, name))
        if path in sources:
            return sources[path]
    return None


def reach(edges, start):
    """All that `start` includes, directly or not."""
    seen, todo = set(), [start]
    while todo:
        for after in edges.get(todo.pop(), ()):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return seen


def knots(edges):
    """The sets of modules that include each other in a circle."""
    reached = {m: reach(edges, m) for m in edges}
    return sorted({tuple(sorted(n for n in edges if n in reached[m] and m in reached[n]))
                   for m in edges if m in reached[m]})


def check_direction(s, line, t):
    """Rules 1 and 2 for one include, of `t` by `s`."""
    def wrong(rule):
        return [f"{s.path}:{line}: includes {t.path}: {rule}"]
    if s.path.startswith("include/") and not t.path.startswith("include/"):
        return wrong("a public header includes only public headers")
    if t.path.startswith("include/"):
        return []
    if s.layer() is not None and t.layer() is None:
        return wrong("the library includes only itself")
    if s.layer() is not None and t.layer() > s.layer():
        return wrong(f"{LAYERS[s.layer()]} is below {LAYERS[t.layer()]}")
    if s.outsider() and t.path.startswith("lib/"):
        return wrong(f"{s.outsider()} sees only <pqrouter/…>")
    return []


def check_includes(sources):
    found, files, modules = [], {}, {}
    for s in sources.values():
        files.setdefault(s.path, set())
        modules.setdefault(s.module(), set())
        for line, quoted, name in s.includes:
            t = resolve(sources, s, name)
            if t:
                files[s.path].add(t.path)
                if t.module() != s.module():
                    modules[s.module()].add(t.module())
                found += check_direction(s, line, t)
            elif quoted:
                found.append(f'{s.path}:{line}: includes "{name}", which is not there')
            elif CLIENTS.match(name) and not s.path.startswith(
                    ("lib/wire/", "examples/", "bench/", "test/")):
                found.append(f"{s.path}:{line}: includes <{name}>: only wire does")
    for path in files:
        if path.startswith("test/live/"):
            words = [f for f in files[path] if f.startswith("test/")]
            seen = set().union(*(reach(files, f) for f in words))
            found += [f"{path}: sees {inner} by way of test/lib: test/live sees only <pqrouter/…>"
                      for inner in sorted(seen) if inner.startswith("lib/")]
    for knot in knots(modules):
        steps = [f"{m} > {n}" for m in knot for n in sorted(modules[m]) if n in knot]
        found.append(f"a circle of includes: {', '.join(knot)} ({', '.join(steps)})")
    return found


def check_calls(sources):
    found = []
    for names, home, rule in CALLS:
        call = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
        for s in sources.values():
            if s.path.startswith("lib/") and s.path != home:
                found += [f"{s.path}:{line_of(s.code, m.start())}: calls {m[1]}: {rule}"
                          for m in call.finditer(s.code)]
    return found


def check_listed(root):
    """Rule 6. A source is named by its path from the meson.build; a program also by its name."""
    found = []
    programs = [*find(root, BUILT, (".c", ".cc")), *find(root, ["test/live"], ".py")]
    for path in programs:
        folder = os.path.dirname(path)
        while not os.path.exists(os.path.join(root, folder, "meson.build")) and folder:
            folder = os.path.dirname(folder)
        listing = os.path.join(folder, "meson.build")
        try:
            with open(os.path.join(root, listing), encoding="utf-8") as f:
                named = set(re.findall(r"'([^']*)'", re.sub(r"#.*", "", f.read())))
        except FileNotFoundError:
            named = set()
        inside = os.path.relpath(path, folder or ".")
        names = {inside}
        if path.startswith(("test/", "examples/", "bench/")):
            names.add(os.path.splitext(os.path.basename(path))[0])
        if not named & names:
            found.append(f"{path}: not named in {listing}: it would never be built")
    return found


def check(root):
    """Every violation in the tree, one line each; and how many files were read."""
    paths = find(root, ["include", *BUILT], (".c", ".h", ".cc", ".def"))
    sources = {path: Source(root, path) for path in sorted(paths)}
    return check_includes(sources) + check_calls(sources) + check_listed(root), len(sources)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..")
    found, files = check(root)
    for line in found:
        print(line)
    print(f"layers: {files} files, {len(found)} against the rules")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
