#!/bin/sh
# Regenerates the committed protobuf stubs from proto/ in a throwaway environment.
# The version is pinned because newer generators write code that protobuf 6 refuses to load.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install --quiet "grpcio-tools==1.76.0"
mkdir "$work/out"
"$work/env/bin/python" -m grpc_tools.protoc -I proto \
  --python_out="$work/out" --pyi_out="$work/out" hostler_oip/model_config.proto
cp "$work/out/hostler_oip/model_config_pb2.py" "$work/out/hostler_oip/model_config_pb2.pyi" \
  src/hostler/protocols/oip/model_config/
