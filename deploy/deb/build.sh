#!/usr/bin/env bash
# build.sh ARCH...: Debian packages into dist/, with their checksums. Built twice
# from one commit they are the same byte for byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
max_bytes=7000000
: "${SOURCE_DATE_EPOCH:?make deb sets it}" "${DEB_VERSION:?make deb sets it}"
command -v ar >/dev/null && command -v xz >/dev/null || { echo "ar or xz is missing; install them (Debian: sudo apt-get install binutils xz-utils) and try again"; exit 1; }

shrink() { # shrink DEB: compresses what is in it, in one thread, so that the bytes do not depend on the machine
	local tmp
	tmp=$(mktemp -d)
	(cd "$tmp" && ar x "$OLDPWD/$1" && xz -T1 -6 data.tar && ar rcD new.deb debian-binary control.tar.gz data.tar.xz)
	cp "$tmp/new.deb" "$1"
	rm -r "$tmp"
}

mkdir -p dist bin
rm -f dist/*.deb dist/SHA256SUMS
(cd deploy/deb && go build -o ../../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm)
export DEB_ARCH DEB_BINARY
for DEB_ARCH in "$@"; do
	case $DEB_ARCH in
	amd64) go=(GOARCH=amd64) ;;
	arm64) go=(GOARCH=arm64) ;;
	armhf) go=(GOARCH=arm GOARM=6) ;; # Raspberry Pi Zero and 1
	*) echo "no package is built for $DEB_ARCH: name amd64, arm64 or armhf"; exit 1 ;;
	esac
	DEB_BINARY=dist/tributary-deb-$DEB_ARCH
	env CGO_ENABLED=0 GOOS=linux "${go[@]}" go build -tags nodemo -trimpath -buildvcs=false \
		-ldflags="-s -w -buildid= -X github.com/tributary-edge/tributary/edge.Version=$DEB_VERSION" -o "$DEB_BINARY" ./cmd/tributary
	file=dist/tributary_${DEB_VERSION}_$DEB_ARCH.deb
	bin/nfpm package -f deploy/deb/nfpm.yaml -p deb -t "$file" >/dev/null
	shrink "$file"
	rm "$DEB_BINARY"
	bytes=$(stat -c %s "$file")
	echo "$file $bytes bytes"
	[ "$bytes" -le $max_bytes ] || { echo "$file is larger than $max_bytes bytes"; exit 1; }
done
cd dist && sha256sum -- *.deb | tee SHA256SUMS
