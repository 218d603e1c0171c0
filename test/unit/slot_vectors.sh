#!/bin/bash
# Makes slot_vectors.txt anew: tenants and their slots, hashed by xxhsum (Debian: xxhash), which is
# not our code. Usage: test/unit/slot_vectors.sh > test/unit/slot_vectors.txt
set -eu

# xxhsum prints the hash of seed 0 as a big-endian number; its first 14 bits are the slot.
# Arguments: the tenant as printf writes it (\0 and \x.. are bytes).
vector() {
    local hex hash
    hex=$(printf '%b' "$1" | od -An -v -tx1 | tr -d ' \n')
    hash=$(printf '%b' "$1" | xxhsum -H3 - | grep -oE '[0-9a-f]{16}')
    printf '%s %s %d\n' "${hex:--}" "$hash" $((16#${hash:0:4} >> 2))
}

# The first $1 bytes of 0, 1, 2 … 250, 0, 1 …
counting() {
    local i text=
    for ((i = 0; i < $1; i++)); do
        text+=$(printf '\\x%02x' $((i % 251)))
    done
    vector "$text"
}

echo '# tenant in hex ("-": empty), XXH3-64 with seed 0, slot = its top 14 bits'
echo '# made by slot_vectors.sh'
for length in 0 1 2 3 4 5 7 8 9 15 16 17 32 64 127 128 129 192 239 240 241 255 256 512 1000 1024 \
    1025 4096; do
    counting "$length"
done
for tenant in a acme acme-corp 'Acme Corp' tenant_42 42 1000000 -1 customer:7781 \
    018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4d6e 018F4E2A-7C3B-7B52-9D0E-5F2C3A1B4D6E \
    www.example.com user@example.com 'müller' '東京' '😀' 'a\0b' 'a\0' '\0' '\0\0' ' ' '%' '_' \
    '\xff\xfe'; do
    vector "$tenant"
done
