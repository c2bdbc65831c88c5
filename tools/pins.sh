#!/bin/sh
# Writes requirements/*.txt again from pyproject.toml: exact versions, every file's hash, no index address.
set -eu
cd "$(dirname "$0")/.."
for extra in demo dev bench; do
  uv pip compile pyproject.toml requirements/build.in --extra "$extra" --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make pins" --quiet \
    --output-file "requirements/$extra.txt" "$@"
done
