#!/usr/bin/env bash
# Generates and builds ./example with Debian's own Go packages, which lie in /usr/share/gocode: no network is used.
set -euo pipefail
cd "$(dirname "$0")"
./generate.sh
GO111MODULE=off GOPATH="$PWD/gopath:/usr/share/gocode" go build -o example .
