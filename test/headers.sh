#!/bin/sh
# headers.sh ROOT: each public header alone, and twice, and programs that use them, compiled
# without a single warning as strict C11 and as C++17, by every compiler that is there. An adapter
# where its event loop is.
set -eu
root=$1
strict="-fsyntax-only -pedantic-errors -Wall -Wextra -Wpedantic -Werror -I$root/include"
pairs=0

compile()
{
    echo "+ $*"
    "$@" || { echo "headers: this failed: $*" >&2; exit 1; }
}

twice()
{
    printf '#include <pqrouter/%s>\n#include <pqrouter/%s>\n' "$1" "$1"
}

# The library's own headers are not ours to judge.
flags_of()
{
    case $1 in
        glib) pkg-config --cflags glib-2.0 ;;
        libevent) pkg-config --cflags libevent_core ;;
        libuv) flags=$(pkg-config --cflags libuv) && echo "-D_GNU_SOURCE $flags" ;; # for its -std=c11
    esac 2> /dev/null
}

for pair in "gcc g++" "clang clang++"; do
    cc=${pair% *} cxx=${pair#* }
    command -v "$cc" > /dev/null && command -v "$cxx" > /dev/null || continue
    pairs=$((pairs + 1))
    for header in "$root"/include/pqrouter/*.h; do
        name=$(basename "$header")
        twice "$name" | compile "$cc" -std=c11 $strict -x c -
        twice "$name" | compile "$cxx" -std=c++17 $strict -x c++ -
    done
    for header in "$root"/include/pqrouter/adapters/*.h; do
        name=$(basename "$header" .h)
        if ! flags=$(flags_of "$name"); then
            echo "headers: adapters/$name.h: its event loop is not here: left out"
            continue
        fi
        flags=$(printf ' %s' "$flags" | sed 's/ -I/ -isystem /g')
        twice "adapters/$name.h" | compile "$cc" -std=c11 $strict $flags -x c -
        twice "adapters/$name.h" | compile "$cxx" -std=c++17 $strict $flags -x c++ -
    done
    compile "$cc" -std=c11 $strict "$root/test/header.c"
    compile "$cxx" -std=c++17 $strict "$root/test/header.cc"
done
[ "$pairs" -gt 0 ] || { echo "headers: neither gcc with g++ nor clang with clang++ is here"; exit 77; }
