#!/usr/bin/env bash
# Installs Debian's Chromium, in which the operator's page is tested. Needs root and apt.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "only root can install it" >&2; exit 1; }
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
