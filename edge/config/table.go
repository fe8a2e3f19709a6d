package config

import "strings"

// A Key is one key of the configuration.
type Key struct {
	Path string // section.key, such as "kafka.linger"
	// Live says that a reload applies a change of it while the node runs; else the
	// change needs a restart.
	Live    bool
	Default string // as it would be written; of what has none, an empty one of its kind
}

func (k *Key) isList() bool { return strings.HasPrefix(k.Default, "[") }
func (k *Key) isBool() bool { return k.Default == "true" || k.Default == "false" }
func (k *Key) isInteger() bool {
	return !k.isList() && !k.isBool() && !strings.HasPrefix(k.Default, `"`)
}

// Keys returns every key that there is, in the order of the documented example. Of
// [[route]] each stands once.
func Keys() []Key { return append([]Key(nil), keys...) }

// keyOf returns the key at a path such as "kafka.linger" or "route[0].match", or nil.
func keyOf(path string) *Key {
	if rest, isRoute := strings.CutPrefix(path, "route["); isRoute {
		_, key, _ := strings.Cut(rest, "].")
		path = "route." + key
	}
	for i := range keys {
		if keys[i].Path == path {
			return &keys[i]
		}
	}
	return nil
}

// The words of the table's second column.
const (
	live    = true
	restart = false
)

// keys is the one place that says what a reload does with each key.
var keys = []Key{
	{"node.name", restart, `""`},
	{"node.data_dir", restart, `"/var/lib/tributary"`},
	{"node.site", restart, `"default"`},

	{"site.listen", restart, `""`},
	{"site.gossip", restart, `""`},
	{"site.advertise", restart, `""`},
	{"site.seeds", restart, `[]`},
	{"site.max_bandwidth", restart, `""`},
	{"site.handoff", restart, `"hold"`},

	{"mqtt.listen", restart, `["127.0.0.1:1883"]`},
	{"mqtt.listen_tls", restart, `[]`},
	{"mqtt.listen_ws", restart, `[]`},
	{"mqtt.listen_wss", restart, `[]`},
	{"mqtt.mdns", restart, `false`},
	{"mqtt.allow_anonymous", restart, `false`},
	{"mqtt.max_clients", restart, `1000`},
	{"mqtt.max_packet", restart, `"256KiB"`},
	{"mqtt.receive_maximum", restart, `1024`},
	{"mqtt.max_topic_levels", restart, `32`},
	{"mqtt.max_connections_per_address", live, `0`},
	{"mqtt.max_messages_per_second", live, `0`},
	{"mqtt.max_bytes_per_second", live, `""`},
	{"mqtt.max_slowed", live, `"0"`},
	{"mqtt.max_retained", live, `100000`},
	{"mqtt.max_retained_bytes", live, `"64MiB"`},
	{"mqtt.server_reference", restart, `""`},
	{"mqtt.password_file", restart, `""`}, // another name; what the file says is read again
	{"mqtt.acl_file", restart, `""`},
	{"mqtt.tls_cert_file", restart, `""`},
	{"mqtt.tls_key_file", restart, `""`},
	{"mqtt.tls_client_ca_file", restart, `""`},
	{"mqtt.tls_crl_file", restart, `""`},
	{"mqtt.certificate_user", restart, `"auto"`},
	{"mqtt.jwt_keys_file", restart, `""`},
	{"mqtt.jwt_issuer", restart, `""`},
	{"mqtt.jwt_audience", restart, `""`},
	{"mqtt.client_id_is", restart, `"any"`},

	{"ack.level", restart, `"disk"`},
	{"ack.copies", restart, `1`},
	{"ack.if_peers_missing", restart, `"accept"`},
	{"ack.window", restart, `"auto"`},

	{"log.max_size", restart, `"75%"`},
	{"log.max_age", restart, `"30d"`},
	{"log.segment", restart, `"12MiB"`},
	{"log.on_full", restart, `"refuse"`},
	{"log.alarm_reserve", restart, `"auto"`},
	{"log.compression", restart, `"auto"`},
	{"log.endurance", restart, `""`},

	{"kafka.brokers", restart, `[]`},
	{"kafka.client_id", restart, `"tributary"`},
	{"kafka.linger", live, `"1s"`},
	{"kafka.batch", live, `"2MiB"`},
	{"kafka.create_topics", restart, `true`},
	{"kafka.partitions", restart, `3`},
	{"kafka.replication_factor", restart, `-1`},
	{"kafka.positions_topic", restart, `"tributary.positions"`},
	{"kafka.transaction_timeout", restart, `"15s"`},
	{"kafka.max_bandwidth", restart, `""`},
	{"kafka.socks5", restart, `""`},
	{"kafka.tls", restart, `false`},
	{"kafka.ca_file", restart, `""`},
	{"kafka.cert_file", restart, `""`},
	{"kafka.key_file", restart, `""`},
	{"kafka.sasl", restart, `"none"`},
	{"kafka.username", restart, `""`},
	{"kafka.password_file", restart, `""`},

	{"route.match", live, `""`},
	{"route.topic", live, `""`},
	{"route.key", live, `"{client_id}"`},
	{"route.priority", live, `"normal"`},
	{"route.urgent", live, `false`},

	{"default_route.topic", live, `"mqtt"`},
	{"default_route.key", live, `"{client_id}"`},
	{"default_route.dead_letter", restart, `"tributary.dead-letter"`},

	{"status.listen", restart, `""`},
	{"status.token_file", restart, `""`}, // another name; what the file says is read again
	{"status.socket", restart, `""`},

	{"logging.level", live, `"info"`},
	{"logging.format", live, `"auto"`},
}
