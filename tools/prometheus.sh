#!/usr/bin/env bash
# Puts Debian's Prometheus and promtool under .venv/prometheus, for the test that scrapes a live suite. Nothing is
# installed or started on the machine; where `prometheus` is on the PATH, that one is used and this does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v prometheus promtool >/dev/null && exit 0
[[ -x .venv/prometheus/usr/bin/prometheus ]] && exit 0
say() { printf 'prometheus: %s\n' "$*" >&2; }
command -v apt-get dpkg >/dev/null || { say "needs apt-get and dpkg; install Prometheus 2.42 or newer yourself"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fetch() { (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1); }
fetch || { apt-get update -qq >/dev/null 2>&1 && fetch; } || { say "apt-get can't download the package prometheus"; exit 1; }
mkdir -p .venv/prometheus
dpkg -x "$folder"/prometheus_*.deb .venv/prometheus
say "$(.venv/prometheus/usr/bin/promtool --version 2>&1 | head -n 1)"
