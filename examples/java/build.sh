#!/usr/bin/env bash
# Generates ./generated from the contract and compiles it with the example into ./classes, with Debian's own packages:
#   apt-get install default-jdk-headless protobuf-compiler protobuf-compiler-grpc-java-plugin libgrpc-java \
#     libprotobuf-java libnetty-java libperfmark-java libgeronimo-annotation-1.3-spec-java
# Debian's proto-google-common-protos has no ErrorInfo yet, so google.rpc is generated from ../protos.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf generated classes
mkdir -p generated classes
options='--java_out=generated --grpc-java_out=generated --plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin'
# shellcheck disable=SC2086
protoc -I ../../protos -I ../protos $options ../../protos/fairlead/v1/{types,inference}.proto ../protos/google/rpc/*.proto
find generated -name '*.java' > generated/sources
javac -nowarn -d classes -cp "$(./classpath.sh)" @generated/sources Example.java
