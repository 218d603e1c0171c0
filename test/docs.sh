#!/bin/sh
# The reference pages are printed from the library's own lists: what stands in docs/ must be that.
# Usage: docs.sh ROOT PQROUTER
set -eu
for page in options errors; do
    "$2" docs $page | diff -u "$1/docs/$page.md" - || {
        echo "docs/$page.md is not what the library prints: pqrouter docs $page > docs/$page.md" >&2
        exit 1
    }
done
