#!/usr/bin/env bash
# Makes ./gopath/src/fairlead/v1 from the contract. On Debian 12:
#   apt-get install golang-go protobuf-compiler protoc-gen-go protoc-gen-go-grpc \
#     golang-google-grpc-dev golang-google-genproto-dev golang-google-protobuf-dev
set -euo pipefail
cd "$(dirname "$0")"
options=()
for file in ../../protos/fairlead/v1/{types,inference}.proto; do
  name=fairlead/v1/$(basename "$file")
  options+=("--go_opt=M$name=fairlead/v1;fairlead" "--go-grpc_opt=M$name=fairlead/v1;fairlead")
done
rm -rf gopath
mkdir -p gopath/src
protoc -I ../../protos --go_out=gopath/src --go-grpc_out=gopath/src "${options[@]}" ../../protos/fairlead/v1/{types,inference}.proto
