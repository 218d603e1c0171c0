#!/bin/sh
# archive.sh INTERNALS OUT FOLDER OBJCOPY AR -- CC…: makes one object of all in the archive
# INTERNALS, hides every symbol of it but pqr_*, and puts it into the archive OUT.
set -eu
internals=$1 out=$2 folder=$3 objcopy=$4 ar=$5
shift 6

mkdir -p "$folder"
"$@" -r -nostdlib -o "$folder/pqrouter.o" \
    -Wl,--whole-archive "$internals" -Wl,--no-whole-archive
"$objcopy" --wildcard --keep-global-symbol='pqr_*' "$folder/pqrouter.o"
rm -f "$out"
"$ar" rcs "$out" "$folder/pqrouter.o"
