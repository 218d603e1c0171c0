#!/bin/sh
# handover.sh SPIN CC MODEL holds|fails ends|circles DEFINE...
# Has Spin look at every state of the model. "ends": each run comes to its end, and every assertion
# holds on the way; "circles": no run goes round for ever. "fails" is for a mistake planted by a
# define: it must be found, so that the model is known to see.
#
# The circles of three callers with two calls each are some minutes' and a gigabyte's work:
#   test/model/handover.sh spin gcc test/model/handover.pml holds circles -DWELL
set -eu
spin=$1 cc=$2 model=$3 verdict=$4 about=$5
shift 5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cp "$model" "$work/handover.pml"
cd "$work"

optimize=-O2
[ "$verdict" = holds ] || optimize=-O0
case $about in
    ends) flags=-DSAFETY run= ;;
    circles) flags=-DNP run=-l ;;
    *) echo "ends, or circles" >&2; exit 2 ;;
esac
"$spin" -a "$@" handover.pml > said || { cat said; exit 1; }
"$cc" $optimize -w -DCOLLAPSE -DMEMLIM=2000 $flags -o pan pan.c
./pan -w24 -m100000 $run > said 2>&1 || true
grep -E '^pan:1|errors:|states, stored|total actual memory|elapsed' said || true

case $verdict in
    holds)
        # A search that was cut short has not seen everything.
        [ ! -e handover.pml.trail ] || { "$spin" -t -p "$@" handover.pml | tail -n 60; exit 1; }
        ! grep -E 'Search not completed|max search depth too small|MEMLIM' said || exit 1
        grep -q 'errors: 0' said || { cat said; exit 1; }
        # What is never reached is not checked either.
        [ $about = circles ] || awk '
            /^unreached in proctype caller/ { seen = 1; getline; whole = /\(0 of / }
            END { exit !(seen && whole) }' said || { grep -A 20 '^unreached' said; exit 1; }
        ;;
    fails)
        grep -Eq '^pan:1: (invalid end state|assertion violated|non-progress cycle)' said ||
            { echo "the mistake was not found: $*"; cat said; exit 1; }
        ;;
    *) echo "holds, or fails" >&2; exit 2 ;;
esac
