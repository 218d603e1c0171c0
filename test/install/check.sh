#!/bin/bash
# check.sh ROOT CC: builds and installs the tree into an empty prefix, then a program outside the
# tree with what pkg-config says: shared and static, as C and as C++, by CC's family. Runs each.
set -euo pipefail
root=$(cd "$1" && pwd)
cc=$2
case $cc in
    *clang*) cxx=clang++ ;;
    *) cxx=g++ ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() { echo "install: $*" >&2; exit 1; }

env -u DESTDIR CC="$cc" meson setup "$work/build" "$root" --prefix "$prefix" --buildtype plain \
    -Dunit=disabled -Dlive=disabled -Dnotes=disabled -Dadapters=disabled > "$work/log" 2>&1 || { cat "$work/log"; fail "meson setup"; }
meson introspect --installed "$work/build" > "$work/installed"
mapfile -t targets < <(python3 -c '
import json, os, sys
for made in json.load(open(sys.argv[1])):
    if made.startswith(sys.argv[2] + "/"):
        print(os.path.relpath(made, sys.argv[2]))' "$work/installed" "$work/build" | grep -v '\.pc$')
ninja -C "$work/build" "${targets[@]}" > "$work/log" 2>&1 || { cat "$work/log"; fail "ninja"; }
env -u DESTDIR meson install --no-rebuild -C "$work/build" > "$work/log" 2>&1 || { cat "$work/log"; fail "meson install"; }
rm -rf "$work/build"

pc=$(find "$prefix" -name pqrouter.pc)
[ -n "$pc" ] || fail "no pqrouter.pc"
export PKG_CONFIG_PATH=${pc%/*}
libdir=$(pkg-config --variable=libdir pqrouter)
version=$(pkg-config --modversion pqrouter)

# Exactly what belongs there.
want=$(cd "$root/include" && find pqrouter -name '*.h' | sed 's,^,include/,')
for file in libpqrouter.a libpqrouter.so libpqrouter.so.0 "libpqrouter.so.$version" pkgconfig/pqrouter.pc; do
    want+=$'\n'${libdir#"$prefix/"}/$file
done
want+=$'\n'bin/pqrouter
diff <(sort <<< "$want") <(cd "$prefix" && find . ! -type d | sed 's,^\./,,' | sort) ||
    fail "what is installed differs from what should be"
soname=$(readelf -d "$libdir/libpqrouter.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libpqrouter.so.0 ] || fail "SONAME is $soname"

# Static: our archive, and libpq as pkg-config finds it (a static libpq would need half of Debian).
shared=$(pkg-config --cflags --libs pqrouter)
static="$(pkg-config --cflags pqrouter) -L$libdir -Wl,-Bstatic -lpqrouter -Wl,-Bdynamic $(pkg-config --libs $(pkg-config --print-requires-private pqrouter))"
strict="-Wall -Wextra -Wpedantic -Werror"
cp "$root/test/install/program.c" "$work/program.c"
cp "$root/test/install/program.c" "$work/program.cc"
cd "$work"
for kind in shared static; do
    for language in c c++; do
        case $language in
            c) build=("$cc" -std=c11 $strict program.c) ;;
            c++) build=("$cxx" -std=c++17 $strict program.cc) ;;
        esac
        command -v "${build[0]}" > /dev/null || { echo "install: no ${build[0]}: left out"; continue; }
        "${build[@]}" -o program ${!kind}
        needed=$(readelf -d program | grep -c 'NEEDED.*libpqrouter\.so\.0' || true)
        case $kind$needed in
            shared1 | static0) ;;
            *) fail "$kind $language: needs libpqrouter.so.0 $needed times" ;;
        esac
        answer=$(LD_LIBRARY_PATH=$libdir ./program) || fail "$kind $language: the program failed"
        [ "$answer" = "$version" ] || fail "$kind $language: says it is version $answer, not $version"
        echo "install: $kind $language: version $answer"
    done
done
env -u LD_LIBRARY_PATH "$prefix/bin/pqrouter" --help > /dev/null || fail "pqrouter --help failed"
