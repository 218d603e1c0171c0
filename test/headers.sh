#!/bin/sh
# headers.sh ROOT: each public header alone, and twice, and programs that use them, compiled
# without a single warning as strict C11 and as C++17, by every compiler that is there.
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

for pair in "gcc g++" "clang clang++"; do
    cc=${pair% *} cxx=${pair#* }
    command -v "$cc" > /dev/null && command -v "$cxx" > /dev/null || continue
    pairs=$((pairs + 1))
    for header in "$root"/include/pqrouter/*.h; do
        name=$(basename "$header")
        twice "$name" | compile "$cc" -std=c11 $strict -x c -
        twice "$name" | compile "$cxx" -std=c++17 $strict -x c++ -
    done
    compile "$cc" -std=c11 $strict "$root/test/header.c"
    compile "$cxx" -std=c++17 $strict "$root/test/header.cc"
done
[ "$pairs" -gt 0 ] || { echo "headers: neither gcc with g++ nor clang with clang++ is here"; exit 77; }
