#!/usr/bin/env bash
# Prints the class path: Debian's jars and ./classes.
set -euo pipefail
cd "$(dirname "$0")"
path=$PWD/classes
for jar in grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub protobuf \
  guava perfmark-api \
  netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler netty-handler-proxy \
  netty-codec-socks netty-resolver netty-transport geronimo-annotation-1.3-spec; do
  [[ -e /usr/share/java/$jar.jar ]] && path+=:/usr/share/java/$jar.jar
done
printf '%s\n' "$path"
