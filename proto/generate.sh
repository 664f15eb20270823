#!/usr/bin/env bash
# Regenerates the committed stubs in proto/homeward/v1. Run it after editing a .proto file.
#
# The generator is pinned to an old release on purpose: its stubs import on protobuf 6.31 and newer and on grpcio 1.73 and
# newer, while stubs of a newer generator refuse every older runtime.
set -euo pipefail
cd "$(dirname "$0")"
tools=${PROTOC_VENV:-../.venv-protoc}
if ! [ -e "$tools/.ready" ]; then
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --quiet --disable-pip-version-check grpcio-tools==1.73.1 'setuptools<81'
    touch "$tools/.ready"
fi
out=${1:-.}
"$tools/bin/python" -m grpc_tools.protoc -I . --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" homeward/v1/*.proto
