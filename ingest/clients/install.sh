#!/usr/bin/env bash
# install.sh: the MQTT clients that the tests of this directory use, in exact versions.
#
# mosquitto's clients and the languages are Debian's, installed as root. The libraries go into
# the directory cache beside this file: Python's as testdata/python/requirements.txt says,
# JavaScript's as testdata/js/package-lock.json, Java's as testdata/java/pom.xml; Go's are in
# go.mod. What is there and not older than its list is not fetched again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$here/cache

die() {
	echo "install.sh: $*" >&2
	exit 1
}

# need PACKAGE COMMAND...: installs a package if the command fails, or says how.
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		die "'$*' fails. Install it (Debian: sudo apt-get install -y $package) and try again."
	fi
	echo "install.sh: installing $package" >&2
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >&2
	"$@" >/dev/null || die "$package is installed, and yet '$*' fails."
}

# fresh STAMP FILE...: the stamp is there, and no file is newer.
fresh() {
	local stamp=$1 file
	shift
	[ -e "$stamp" ] || return 1
	for file in "$@"; do [ "$file" -nt "$stamp" ] && return 1; done
	return 0
}

python() {
	local list=$here/testdata/python/requirements.txt
	need python3 command -v python3
	fresh "$cache/python.complete" "$list" && return
	need python3-pip python3 -m pip --version
	rm -rf "$cache/python"
	python3 -m pip install --quiet --root-user-action=ignore --no-deps --target "$cache/python" -r "$list" >&2
	touch "$cache/python.complete"
}

javascript() {
	local list=("$here"/testdata/js/package.json "$here"/testdata/js/package-lock.json)
	need nodejs command -v node
	fresh "$cache/js.complete" "${list[@]}" && return
	need npm command -v npm
	rm -rf "$cache/js"
	mkdir -p "$cache/js"
	cp "${list[@]}" "$cache/js"
	npm ci --prefix "$cache/js" --silent --no-audit --no-fund --ignore-scripts >&2
	touch "$cache/js.complete"
}

java() {
	local list=$here/testdata/java/pom.xml
	need openjdk-17-jdk-headless command -v javac
	if ! fresh "$cache/java.complete" "$list"; then
		need maven command -v mvn
		rm -rf "$cache/java"
		mvn -B -q -f "$list" dependency:copy-dependencies "-DoutputDirectory=$cache/java/lib" >&2
		touch "$cache/java.complete"
	fi
	javac -Xlint:all -Werror -cp "$cache/java/lib/*" -d "$cache/java/classes" "$here"/testdata/java/*.java
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
need mosquitto-clients command -v mosquitto_sub
python
javascript
java
