#!/bin/sh
# Regenerates the committed protobuf stubs from proto/ in a throwaway environment.
# The version is pinned because newer generators write code that protobuf 6 refuses to load.
# PROTOC: a Python that has grpcio-tools already, in place of that environment. OUT: another root
# to write under, for the test that compares.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${PROTOC:-}" ]; then
  "${PYTHON:-python3}" -m venv "$work/env"
  "$work/env/bin/pip" install --quiet "grpcio-tools==1.76.0"
  PROTOC="$work/env/bin/python"
fi
mkdir "$work/out"
"$PROTOC" -m grpc_tools.protoc -I proto --python_out="$work/out" --pyi_out="$work/out" \
  hostler_oip/model_config.proto hostler_oip/grpc_service.proto hostler_oip/health.proto
# protoc imports one module from another by the files' own folder, which is not where they live.
sed -i.before 's/^from hostler_oip import model_config_pb2/from hostler.protocols.oip.model_config import model_config_pb2/' \
  "$work"/out/hostler_oip/grpc_service_pb2.py "$work"/out/hostler_oip/grpc_service_pb2.pyi

# place NAME FOLDER: put the stubs of NAME.proto into a folder of protocols/oip/.
place() {
  folder="${OUT:-src}/hostler/protocols/oip/$2"
  mkdir -p "$folder"
  cp "$work/out/hostler_oip/$1_pb2.py" "$work/out/hostler_oip/$1_pb2.pyi" "$folder/"
}
place model_config model_config
place grpc_service grpc
place health grpc
