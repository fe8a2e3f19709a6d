#!/usr/bin/env bash
# kafka.sh: one real Apache Kafka (KRaft, one broker) for development and tests.
#
#   up                   start in the background; returns when the broker answers
#   down                 stop it; the data stay
#   run                  start in the foreground; this process becomes the JVM
#   status               say whether the broker answers; exit 0 or 1
#   format               make the data directory ready (up and run do it themselves)
#   jars                 fetch the jars only (up, run and the tools do it themselves)
#   consume TOPIC [...]  print headers, key, value, partition and offset, read_committed,
#                        from the beginning; e.g. --max-messages 5, --timeout-ms 3000
#   topics [...]         kafka-topics, e.g. topics --list
#   acls [...]           kafka-acls (with KAFKA_ACL=1)
#
# Environment, with defaults:
#   KAFKA_HOST=127.0.0.1  address to bind and to advertise
#   KAFKA_PORT=9092       clients
#   KAFKA_CTRL_PORT=9093  the controller
#   KAFKA_DIR=${TMPDIR:-/tmp}/tributary-kafka-$KAFKA_PORT   data, log file, pid file
#   KAFKA_HEAP=384m       Java heap
#   KAFKA_ACL=            1: authorizer on. A topic without ACLs is open to all; one with
#                         ACLs only to whom they name (clients here are User:ANONYMOUS)
#   KAFKA_SESSION_MS=3000 how long a broker that was killed counts as alive, and cannot come back
#   KAFKA_FEATURES=       for format, e.g. transaction.version=1 for old transactions
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
host=${KAFKA_HOST:-127.0.0.1}
port=${KAFKA_PORT:-9092}
ctrl_port=${KAFKA_CTRL_PORT:-9093}
dir=${KAFKA_DIR:-${TMPDIR:-/tmp}/tributary-kafka-$port}
lib=$here/target/lib
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")

die() {
	echo "kafka.sh: $*" >&2
	exit 1
}

# need COMMAND PACKAGE: installs a missing command on Debian as root, or says how.
need() {
	command -v "$1" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		die "$1 is missing. Install it (Debian: sudo apt-get install -y $2) and try again."
	fi
	echo "kafka.sh: installing $2" >&2
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}

need_java() {
	need java openjdk-17-jre-headless
	local major
	major=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
	[ "${major:-0}" -ge 17 ] || die "Kafka $version needs Java 17 or newer, but java is version ${major:-unknown}."
}

# jars copies the jars to target/lib, once per pom.xml, however many ask at once.
jars() {
	need_java
	[ "$lib/.complete" -nt "$here/pom.xml" ] && return
	need mvn maven
	mkdir -p "$here/target"
	(
		flock 9
		[ "$lib/.complete" -nt "$here/pom.xml" ] && exit
		echo "kafka.sh: fetching the jars of Kafka $version" >&2
		rm -rf "$lib"
		mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies >&2
		touch "$lib/.complete"
	) 9>"$here/target/lock"
}

# tool CLASS ARGS...: becomes one of Kafka's command line tools.
tool() {
	exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
		-Dlog4j2.configurationFile="$here/log4j2.properties" -cp "$lib/*" "$@"
}

properties() {
	cat <<-END
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@$host:$ctrl_port
		listeners=PLAINTEXT://$host:$port,CONTROLLER://$host:$ctrl_port
		advertised.listeners=PLAINTEXT://$host:$port
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		controller.listener.names=CONTROLLER
		log.dirs=$dir/data
		# A topic nobody made must be missing here as it is where it matters.
		auto.create.topics.enable=false
		num.partitions=4
		default.replication.factor=1
		min.insync.replicas=1
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=4
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=4
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		# Small and quick: two cores, little memory, and back at once after SIGKILL.
		num.network.threads=2
		num.io.threads=4
		log.cleaner.dedupe.buffer.size=8388608
		group.initial.rebalance.delay.ms=0
		broker.heartbeat.interval.ms=500
		broker.session.timeout.ms=${KAFKA_SESSION_MS:-3000}
	END
	if [ "${KAFKA_ACL:-}" = 1 ]; then
		cat <<-END
			authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
			allow.everyone.if.no.acl.found=true
		END
	fi
}

format() {
	jars
	mkdir -p "$dir"
	properties >"$dir/server.properties"
	[ -e "$dir/data/meta.properties" ] && return
	local id feature features=()
	id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d = | sed 's/^-/A/')
	for feature in ${KAFKA_FEATURES:-}; do features+=(--feature "$feature"); done
	(tool kafka.tools.StorageTool format --cluster-id "$id" --config "$dir/server.properties" "${features[@]}") \
		>"$dir/format.log" 2>&1 || die "cannot format $dir/data: $(cat "$dir/format.log")"
}

run() {
	format
	exec java -Xmx"${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -Xshare:auto -Djava.awt.headless=true \
		-Dkafka.log.level=INFO -Dlog4j2.configurationFile="$here/log4j2.properties" \
		-cp "$lib/*" kafka.Kafka "$dir/server.properties"
}

# answers: a broker on host:port answers an ApiVersions request (key 18, version 0,
# correlation id 1) within a second.
answers() {
	local reply
	reply=$(timeout 1 bash -c '
		exec 3<>"/dev/tcp/$0/$1" || exit
		printf "\0\0\0\016\0\022\0\0\0\0\0\001\0\004ping" >&3
		head -c 8 <&3 | tail -c 4 | od -An -tx1' "$host" "$port" 2>/dev/null | tr -d ' \n') || true
	[ "$reply" = 00000001 ]
}

# running PID: that process is this Kafka, not a stranger that got an old number.
running() {
	[ -n "$1" ] && tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qxF "$dir/server.properties"
}

pid() {
	cat "$dir/kafka.pid" 2>/dev/null || true
}

up() {
	if running "$(pid)"; then
		answers || die "process $(pid) runs but does not answer on $host:$port; see $dir/kafka.log"
		echo "Kafka $version on $host:$port"
		return
	fi
	answers && die "$host:$port is taken by another Kafka; choose a KAFKA_PORT."
	format
	setsid "$here/kafka.sh" run >"$dir/kafka.log" 2>&1 </dev/null &
	local started=$! deadline=$((SECONDS + 60))
	echo $started >"$dir/kafka.pid"
	until answers && grep -q 'Kafka Server started' "$dir/kafka.log"; do
		kill -0 $started 2>/dev/null || die "Kafka stopped at once: $(tail -n 5 "$dir/kafka.log")"
		[ $SECONDS -lt $deadline ] || die "no answer from $host:$port in 60 s; see $dir/kafka.log"
		sleep 0.1
	done
	echo "Kafka $version on $host:$port"
}

down() {
	local pid deadline=$((SECONDS + 20))
	pid=$(pid)
	running "$pid" || {
		rm -f "$dir/kafka.pid"
		echo "Kafka is not running"
		return
	}
	kill "$pid"
	while running "$pid"; do
		[ $SECONDS -lt $deadline ] || kill -KILL "$pid"
		sleep 0.1
	done
	rm -f "$dir/kafka.pid"
	echo "Kafka stopped; its data are in $dir"
}

status() {
	if ! answers; then
		echo "no Kafka answers on $host:$port"
		return 1
	fi
	echo "Kafka answers on $host:$port"
}

consume() {
	[ $# -ge 1 ] || die "consume TOPIC [arguments of the console consumer]"
	local topic=$1
	shift
	jars
	tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$host:$port" \
		--topic "$topic" --from-beginning --isolation-level read_committed \
		--formatter-property print.partition=true --formatter-property print.offset=true \
		--formatter-property print.headers=true --formatter-property print.key=true "$@"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
up | down | run | status | format | jars) "$command" ;;
consume) consume "$@" ;;
topics) jars && tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$host:$port" "$@" ;;
acls) jars && tool org.apache.kafka.tools.AclCommand --bootstrap-server "$host:$port" "$@" ;;
*)
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$here/kafka.sh"
	[ "$command" = help ] || exit 2
	;;
esac
