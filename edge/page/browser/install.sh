#!/usr/bin/env bash
# install.sh: what the test of the status page needs, in exact versions: Playwright and axe as
# package-lock.json says, and a Chromium: Debian's, or the one that Playwright would download.
# Node.js and Chromium are installed as root on Debian. What is there is not fetched again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# need COMMAND PACKAGE...: installs what is missing, or says how.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "install.sh: $command is missing. Install it (Debian: sudo apt-get install -y $*) and try again." >&2
		exit 1
	fi
	echo "install.sh: installing $*" >&2
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

need node nodejs npm
need npm npm
if [ ! -e node_modules/.stamp ] || [ package-lock.json -nt node_modules/.stamp ]; then
	PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --ignore-scripts --no-audit --no-fund >&2
	touch node_modules/.stamp
fi
[ -n "${CHROMIUM:-}" ] || need chromium chromium fonts-dejavu-core
