#!/usr/bin/env bash
# Takes promtool out of Debian's package of Prometheus, without installing that: get_promtool.sh FOLDER
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get update -qq
apt-get download -qq prometheus
dpkg -x prometheus_*.deb .
cp usr/bin/promtool "$folder/"
