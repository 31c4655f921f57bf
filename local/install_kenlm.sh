#!/usr/bin/env bash
# Builds KenLM's lmplz and build_binary into tools/kenlm/bin: local/install_kenlm.sh VERSION
#
# The wheel of the `kenlm` package holds only the module for Python; the programs are in its source distribution.
# Needs .venv (for pip), a C++ compiler, CMake, and Boost's program_options and thread.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$1
build=tools/kenlm-build
rm -rf "$build"
mkdir -p "$build"

.venv/bin/python -m pip download --disable-pip-version-check --progress-bar off --no-deps --no-binary kenlm \
    --dest "$build" "kenlm==$version"
tar -xzf "$build/kenlm-$version.tar.gz" -C "$build"
source=$build/kenlm-$version

# Of the four Boost libraries asked for, these two serve KenLM's own tests or are empty shells since Boost 1.69.
sed -i.orig -E '/^ +(system|unit_test_framework)$/d' "$source/CMakeLists.txt"
cmake -S "$source" -B "$build/cmake" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF
cmake --build "$build/cmake" --target lmplz build_binary --parallel "$(getconf _NPROCESSORS_ONLN)"

mkdir -p "$build/kenlm/bin"
mv "$build/cmake/bin/lmplz" "$build/cmake/bin/build_binary" "$build/kenlm/bin/"
echo "$version" >"$build/kenlm/version"
rm -rf tools/kenlm
mv "$build/kenlm" tools/kenlm
rm -rf "$build"
