#!/bin/sh
# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the kernel image: build-kernel.sh SOURCE BUILD IMAGE CONFIG...
#
# SOURCE is a tree of Linux, which is read and never written.  BUILD/kernel
# holds the tree of links, kbuild's objects in it, and the log of the last build.
# Called by the Makefile, in the folder liblkl.
set -eu
# The caller's make is another one.
unset MAKEFLAGS MAKELEVEL || true

source=$1 build=$2 image=$3
shift 3
work=$build/kernel
tree=$work/tree
# Inside the tree: kbuild then uses relative paths only, and neither the image
# nor what ccache knows depends on where the checkout stands.
objects=$tree/objects
log=$work/build.log
mkdir -p "$work"
# Two builds in one folder would spoil each other: the second waits and finds
# its work done.
exec 9>"$work/lock"
flock 9

stage() {
	printf '  %-8s %s\n' "$1" "$2"
}

fail() {
	echo "kernel: $*" >&2
	exit 1
}

: "${CC:=cc}"
compiler=$CC
if command -v ccache >/dev/null; then
	compiler="ccache $CC"
	export CCACHE_NOHASHDIR=1
fi

# Everything that the image depends on; the source by its version, for it is
# as released.
version=$(make -s --no-print-directory -C "$source" kernelversion)
[ -n "$version" ] || fail "$source: not a source tree of Linux"
key=$(
	{
		echo "$version"
		$CC --version
		sha256sum build-kernel.sh "$@"
		find arch shared -type f -exec sha256sum {} + | sort -k 2
	} | sha256sum | cut -c 1-16
)
if [ -f "$image" ] && [ "$(cat "$work/key" 2>/dev/null)" = "$key" ]; then
	touch "$image"
	exit 0
fi

stage TREE "Linux $version with arch/lkl"
mkdir -p "$tree/arch" "$objects"
find "$tree" "$tree/arch" -maxdepth 1 -type l -delete
for entry in "$source"/* "$source"/arch/*; do
	name=${entry#"$source"/}
	[ "$name" = arch ] || ln -s "$(realpath "$entry")" "$tree/$name"
done
[ ! -e "$tree/arch/lkl" ] || fail "$source: has an arch/lkl of its own"
ln -s "$(realpath arch/lkl)" "$tree/arch/lkl"

run_make() {
	make -C "$tree" O="$objects" ARCH=lkl CC="$compiler" \
		KBUILD_BUILD_USER=lkl KBUILD_BUILD_HOST=explorer \
		KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_VERSION=1 "$@"
}

stage CONFIG "$(cat "$@" | grep -c '^CONFIG_') options"
cat "$@" >"$objects/lkl.config"
run_make -s KCONFIG_ALLCONFIG="$objects/lkl.config" allnoconfig >"$log" 2>&1 ||
	{ tail -n 20 "$log" >&2; fail "the configuration failed, see $log"; }
# Kconfig drops what it does not know or whose dependencies are off.
lost=$(grep '^CONFIG_' "$objects/lkl.config" | grep -vxF -f "$objects/.config" || true)
[ -z "$lost" ] || fail "Linux $version does not take these options:" $lost

stage KERNEL "$(nproc) jobs, log in $log"
: >"$log"
{
	run_make -j"$(nproc)" vmlinux 2>&1 && touch "$work/linked"
} | tee -a "$log" | awk '
	/^  (CC|AS|LD|AR) / { count++ }
	/^  (CC|AS|LD|AR) / && count % 100 == 0 { printf "           %d objects\n", count; fflush() }
	/error:|Error [0-9]|undefined reference/ { print }'
[ -f "$work/linked" ] || fail "the build failed, see $log"
rm "$work/linked"

stage STRIP "$(basename "$image")"
"${OBJCOPY:-objcopy}" --strip-all "$objects/vmlinux" "$image.new"
./check-image.sh "$image.new"
mv "$image.new" "$image"
echo "$key" >"$work/key"
stage IMAGE "$(stat -c %s "$image") bytes, sha256 $(sha256sum "$image" | cut -c 1-16)"
