#!/bin/sh
# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Holds a kernel image to what every host relies on: check-image.sh IMAGE
#
# No undefined symbol, no library, no thread-local storage, no indirect
# function, no relocation but relative ones, and the entry points in .dynsym.
set -eu

image=$1
readelf=${READELF:-readelf}
status=0

wrong() {
	echo "$image: $*" >&2
	status=1
}

symbols=$($readelf --dyn-syms -W "$image" | awk '$1 ~ /^[0-9]+:$/ && $1 != "0:"')
[ -z "$(echo "$symbols" | awk '$7 == "UND"')" ] || wrong "undefined symbols"
[ -z "$(echo "$symbols" | awk '$4 == "TLS" || $4 == "IFUNC"')" ] ||
	wrong "thread-local or indirect symbols"
entries=$(echo "$symbols" | awk '{ print $8 }' | sort | tr '\n' ' ')
expected=$(grep -o 'ENTRY([a-z0-9_]*, lkl_image_[a-z_]*' shared/lkl_image.h |
	sed 's/.*, //' | { cat; echo lkl_image_info; } | sort | tr '\n' ' ')
[ "$entries" = "$expected" ] || wrong "entry points $entries, not $expected"
$readelf -dW "$image" | grep -q '(NEEDED)' && wrong "needs libraries"
$readelf -dW "$image" | grep -q '(TEXTREL)' && wrong "relocations in code"
$readelf -lW "$image" | grep -qE '^ +(TLS|INTERP)' && wrong "TLS or interpreter"
others=$($readelf -rW "$image" | awk '$3 ~ /^R_/ && $3 !~ /_RELATIVE$/ { print $3 }' |
	sort -u | tr '\n' ' ')
[ -z "$others" ] || wrong "relocations of other kinds: $others"
exit $status
