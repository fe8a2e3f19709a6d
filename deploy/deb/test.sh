#!/usr/bin/env bash
# test.sh: what a person does with the package, in a Debian 12 of its own (root). It is
# installed by apt; the node runs as its user; a message goes through to a Kafka, and is
# counted there; a purge deletes data that are all in Kafka, and keeps those that are
# not. The base system is kept in the cache, so only the first run fetches it.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=${ARCH:-amd64}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tributary
base=$cache/bookworm-$arch.tar
root=$(mktemp -d)
node=
kafka=

say() { printf '\n--- %s\n' "$*"; }
die() { echo "FAILED: $*"; exit 1; }
stop() { # stop PID: as systemd stops it
	kill -TERM "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}
finish() {
	code=$?
	[ -z "$node" ] || stop "$node"
	[ -z "$kafka" ] || stop "$kafka"
	umount "$root/proc" 2>/dev/null || true
	rm -rf --one-file-system "$root"
	exit $code
}
trap finish EXIT

[ "$(id -u)" = 0 ] || die "this test needs root: it makes a system of its own"
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } \
		|| die "$1 is missing; install it: apt-get install $2"
}
need debootstrap debootstrap
need mosquitto_pub mosquitto-clients
need systemd-analyze systemd
[ "$arch" = amd64 ] || need qemu-aarch64-static qemu-user-static

if [ ! -e "$base" ]; then
	say "a Debian 12 for $arch, into $base"
	mirror=$(apt-cache policy base-files | sed -n 's/^ *[0-9]* \(http[^ ]*\) bookworm\/main .*/\1/p' | head -1)
	[ -n "$mirror" ] || die "apt knows no Debian 12 archive on this machine"
	mkdir -p "$cache"
	debootstrap --arch="$arch" --variant=minbase --include=systemd,procps bookworm "$root" "$mirror" >"$cache/debootstrap.log" 2>&1 \
		|| { tail -20 "$cache/debootstrap.log"; die "no base system for $arch"; }
	chroot "$root" apt-get clean
	umount "$root/proc" 2>/dev/null || true
	tar -C "$root" --one-file-system -cf "$base.part" . && mv "$base.part" "$base"
else
	tar -C "$root" -xf "$base"
fi
chmod 755 "$root" # whoever the node runs as must get in
mount -t proc proc "$root/proc"
inside() { chroot "$root" "$@"; }
unset NOTIFY_SOCKET

say "the package and a Kafka stand-in"
make -s deb DEB_ARCHS="$arch"
deb=$(ls dist/*_"$arch".deb)
go build -o "$root/kafka" ./firmware-sim/kafka
"$root/kafka" -addr-file "$root/kafka.addr" >"$root/kafka.out" 2>&1 &
kafka=$!
for _ in $(seq 100); do [ -s "$root/kafka.addr" ] && break; sleep 0.1; done
[ -s "$root/kafka.addr" ] || die "the Kafka stand-in did not start: $(cat "$root/kafka.out")"

installed() { # apt, as a person does it; the configuration is wrong until brokers are set
	cp "$deb" "$root/tributary.deb"
	inside apt-get install -y -qq --no-install-recommends /tributary.deb >"$root/apt.out" 2>&1 || { cat "$root/apt.out"; die "apt could not install the package"; }
}
configure() { # configure BROKER
	sed -i "s/^# brokers = .*/brokers = [\"$1\"]\nlinger = \"10ms\"/; s/^brokers = .*/brokers = [\"$1\"]/" "$root/etc/tributary/tributary.toml"
	sed -i "s/^\[mqtt\]/[mqtt]\nlisten = [\"127.0.0.1:$port\"]/" "$root/etc/tributary/tributary.toml"
	printf '[log]\nmax_size = "64MiB"\n' >>"$root/etc/tributary/tributary.toml"
	inside tributary check || [ $? = 3 ] || die "the configuration is wrong"
}
start() {
	inside install -d -o tributary -g tributary -m 0750 /run/tributary # RuntimeDirectory of the unit
	chroot --userspec=tributary:tributary "$root" tributary run >"$root/node.out" 2>&1 & # no function: its PID would be that of a shell
	node=$!
	for _ in $(seq 300); do inside tributary status >/dev/null 2>&1 && return; sleep 0.1; done
	cat "$root/node.out"
	die "the node did not start"
}
waiting() { inside tributary status --json | sed 's/.*"waiting":\([0-9]*\).*/\1/'; }
port=$((20000 + RANDOM % 20000))

say "installed: no Kafka is named yet, which is said, and run ends with 78"
installed
grep -q 'set \[kafka\] brokers' "$root/apt.out" || { cat "$root/apt.out"; die "the package did not say what to do"; }
code=0; chroot --userspec=tributary:tributary "$root" tributary run >"$root/node.out" 2>&1 || code=$?
[ $code = 78 ] || { cat "$root/node.out"; die "run without brokers ends with $code, want 78"; }

say "the unit"
inside systemd-analyze verify --man=no tributary.service >"$root/verify.out" 2>&1 || { cat "$root/verify.out"; die "systemd-analyze verify"; }
[ ! -s "$root/verify.out" ] || { cat "$root/verify.out"; die "systemd-analyze verify says something"; }
inside systemd-analyze security --offline=true --threshold=15 /lib/systemd/system/tributary.service | tail -1
grep -q '^SystemCallFilter=adjtimex$' "$root/lib/systemd/system/tributary.service" && ! grep -q '^ProtectClock=yes' "$root/lib/systemd/system/tributary.service" \
	|| die "the node must be able to ask whether the clock is synchronised"

say "a message, through to Kafka"
configure "$(cat "$root/kafka.addr")"
start
mosquitto_pub -h 127.0.0.1 -p $port -q 1 -i pump7 -t plant/a/pump7 -m 'through-and-through'
for _ in $(seq 200); do grep -q through-and-through "$root/kafka.out" && break; sleep 0.1; done
grep through-and-through "$root/kafka.out" || { cat "$root/node.out"; die "the message is not in Kafka"; }
[ "$(grep -c through-and-through "$root/kafka.out")" = 1 ] || die "the message is there more than once"
inside tributary status || true

say "purged when all is in Kafka: the data are gone"
for _ in $(seq 200); do [ "$(waiting)" = 0 ] && break; sleep 0.1; done
stop "$node"; node=
inside tributary pending /var/lib/tributary || true
inside apt-get purge -y -qq tributary >"$root/apt.out" 2>&1 || { cat "$root/apt.out"; die "purge"; }
[ ! -e "$root/var/lib/tributary" ] || { cat "$root/apt.out"; ls -la "$root/var/lib/tributary"; die "the data are still there"; }
[ ! -e "$root/etc/tributary" ] || die "the configuration is still there"

say "purged with records that are not in Kafka: the data stay"
installed
configure 127.0.0.1:1
start
mosquitto_pub -h 127.0.0.1 -p $port -q 1 -i pump7 -t plant/a/pump7 -m 'kept'
stop "$node"; node=
inside apt-get purge -y -qq tributary >"$root/apt.out" 2>&1 || { cat "$root/apt.out"; die "purge"; }
ls "$root"/var/lib/tributary/log/*.seg >/dev/null || die "the records are gone"
grep -q 'not known to be in Kafka' "$root/apt.out" || { cat "$root/apt.out"; die "the purge did not say that data stay"; }

say "installed again: what was kept goes to Kafka"
installed
configure "$(cat "$root/kafka.addr")"
start
for _ in $(seq 200); do grep -q kept "$root/kafka.out" && break; sleep 0.1; done
[ "$(grep -c kept "$root/kafka.out")" = 1 ] || { cat "$root/node.out"; die "what was kept is not in Kafka once"; }

printf '\ngood: %s, %d s\n' "$deb" $SECONDS
