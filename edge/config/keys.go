package config

import (
	"log/slog"
	"time"

	"github.com/tributary-edge/tributary/ingest/route"
)

// A section is one [name] or, if it repeats, [[name]], with all the keys it has.
type section struct {
	name    string
	repeats bool
	fields  []field
}

// A field is one key.
type field struct {
	key  string
	read decoder
}

// title is how people see the section in the file.
func (s *section) title() string {
	if s.repeats {
		return "[[" + s.name + "]]"
	}
	return "[" + s.name + "]"
}

// field returns the field called key, or nil.
func (s *section) field(key string) *field {
	for i := range s.fields {
		if s.fields[i].key == key {
			return &s.fields[i]
		}
	}
	return nil
}

func (s *section) keys() []string {
	keys := make([]string, len(s.fields))
	for i := range s.fields {
		keys[i] = s.fields[i].key
	}
	return keys
}

// sectionsOf lists every key there is, and where in c its value goes. in is where
// files lie that are named without theirs.
func sectionsOf(c *Config, in folder) []section {
	return []section{
		{name: "node", fields: []field{
			{"name", text(&c.Node.Name, nodeName)},
			{"data_dir", dataDir(&c.Node.DataDir)},
			{"site", text(&c.Node.Site, siteName)},
		}},
		{name: "site", fields: []field{
			{"listen", text(&c.Site.Listen, optional(siteAddress("0.0.0.0:7882")))},
			{"gossip", text(&c.Site.Gossip, optional(siteAddress("0.0.0.0:7883")))},
			{"advertise", text(&c.Site.Advertise, optional(ipAddress))},
			{"seeds", listOrNone(&c.Site.Seeds, siteAddress("10.0.0.6:7883"), `seeds = ["10.0.0.6:7883"]`)},
			{"max_bandwidth", sizeOrNone(&c.Site.MaxBandwidth, 1<<10, 1<<30)},
			{"handoff", choice(&c.Site.Strict, []option[bool]{{"hold", false}, {"strict", true}})},
		}},
		{name: "mqtt", fields: mqttFields(&c.MQTT, in)},
		{name: "ack", fields: []field{
			{"level", choice(new(string), []option[string]{{word: "disk"}}, "memory", "replicated")},
			{"window", ackWindow(&c.Ack)},
			{"copies", integer(&c.Ack.Copies, 0, 3)},
			{"if_peers_missing", choice(&c.Ack.RefuseAlone, []option[bool]{{"accept", false}, {"refuse", true}})},
		}},
		{name: "log", fields: []field{
			{"max_size", maxSize(&c.Log)},
			{"max_age", maxAge(&c.Log.MaxAge)},
			{"segment", segment(&c.Log.SegmentBytes)},
			{"on_full", onFull(&c.Log.DropOldest)},
			{"alarm_reserve", alarmReserve(&c.Log.AlarmReserve)},
			{"compression", choice(&c.Log.Compression, []option[Compression]{{"auto", CompressAuto}, {"zstd", CompressAlways}, {"none", CompressNever}})},
			{"endurance", endurance(&c.Log.EnduranceBytes)},
		}},
		{name: "kafka", fields: kafkaFields(&c.Kafka, in)},
		{name: "route", repeats: true, fields: []field{
			{"match", func(v value) []fault { return text(&lastRoute(c).Match, nil)(v) }},
			{"topic", func(v value) []fault { return text(&lastRoute(c).Topic, nil)(v) }},
			{"key", func(v value) []fault { return text(&lastRoute(c).Key, recordKey)(v) }},
			{"priority", func(v value) []fault {
				return choice(&lastRoute(c).Alarm, []option[bool]{{"normal", false}, {"alarm", true}})(v)
			}},
			{"urgent", func(v value) []fault { return boolean(&lastRoute(c).Urgent)(v) }},
		}},
		{name: "default_route", fields: []field{
			{"topic", text(&c.DefaultRoute.Topic, nil)},
			{"key", text(&c.DefaultRoute.Key, recordKey)},
			{"dead_letter", text(&c.DefaultRoute.DeadLetter, nil)},
		}},
		{name: "status", fields: []field{
			{"listen", statusListen(&c.Status.Listen)},
			{"token_file", file(&c.Status.TokenFile, in)},
			{"socket", text(&c.Status.Socket, nil)},
		}},
		{name: "logging", fields: []field{
			{"level", choice(&c.Logging.Level, []option[slog.Level]{
				{"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warn", slog.LevelWarn}, {"error", slog.LevelError},
			})},
			{"format", choice(&c.Logging.Format, []option[LogFormat]{{"auto", Auto}, {"text", Text}, {"json", JSON}})},
		}},
	}
}

func mqttFields(m *MQTT, in folder) []field {
	return []field{
		{"listen", listOrNone(&m.Listen, listenAddress, `listen = ["127.0.0.1:1883"]`)},
		{"listen_tls", listOrNone(&m.ListenTLS, listenAddress, `listen_tls = ["0.0.0.0:8883"]`)},
		{"listen_ws", listOrNone(&m.ListenWS, listenAddress, `listen_ws = ["127.0.0.1:9001"]`)},
		{"listen_wss", listOrNone(&m.ListenWSS, listenAddress, `listen_wss = ["0.0.0.0:8884"]`)},
		{"mdns", boolean(&m.MDNS)},
		{"tls_cert_file", file(&m.TLSCertFile, in)},
		{"tls_key_file", file(&m.TLSKeyFile, in)},
		{"tls_client_ca_file", file(&m.TLSClientCAFile, in)},
		{"tls_crl_file", file(&m.TLSCRLFile, in)},
		{"certificate_user", choice(&m.CertificateUser, []option[string]{{"auto", ""}, {"cn", "cn"}, {"san", "san"}, {"none", "none"}})},
		{"password_file", file(&m.PasswordFile, in)},
		{"acl_file", file(&m.ACLFile, in)},
		{"jwt_keys_file", file(&m.JWTKeysFile, in)},
		{"jwt_issuer", text(&m.JWTIssuer, nil)},
		{"jwt_audience", text(&m.JWTAudience, nil)},
		{"client_id_is", choice(&m.ClientIDIs, []option[string]{{"any", ""}, {"username", "username"}, {"prefix", "prefix"}})},
		{"allow_anonymous", boolean(&m.AllowAnonymous)},
		{"max_clients", integer(&m.MaxClients, 1, 100_000)},
		{"max_connections_per_address", integer(&m.MaxConnectionsPerAddress, 0, 100_000)},
		{"max_messages_per_second", integer(&m.MaxMessagesPerSecond, 0, 1_000_000)},
		{"max_bytes_per_second", sizeOrNone(&m.MaxBytesPerSecond, 1<<10, 1<<30)},
		{"max_slowed", duration(&m.MaxSlowed, 0, day)},
		{"max_retained", integer(&m.MaxRetained, 1, 1_000_000)},
		{"max_retained_bytes", size(&m.MaxRetainedBytes, 64<<10, 1<<30)},
		{"server_reference", text(&m.ServerReference, serverReference)},
		{"max_packet", maxPacket(&m.MaxPacketBytes)},
		{"receive_maximum", integer(&m.ReceiveMaximum, 1, 65535)},
		{"max_topic_levels", integer(&m.MaxTopicLevels, 1, 128)},
	}
}

func kafkaFields(k *Kafka, in folder) []field {
	return []field{
		{"brokers", list(&k.Brokers, broker, `brokers = ["broker1.example.com:9092"]`)},
		{"client_id", text(&k.ClientID, notEmpty)},
		{"linger", duration(&k.Linger, 0, time.Hour)},
		{"batch", size(&k.BatchBytes, 16<<10, 64<<20)},
		{"create_topics", boolean(&k.CreateTopics)},
		{"partitions", integer(&k.Partitions, 1, 10_000)},
		{"replication_factor", replicationFactor(&k.ReplicationFactor)},
		{"positions_topic", text(&k.PositionsTopic, kafkaTopic)},
		{"transaction_timeout", duration(&k.TransactionTimeout, 5*time.Second, 15*time.Minute)},
		{"max_bandwidth", sizeOrNone(&k.MaxBandwidth, 16<<10, 1<<30)},
		{"socks5", text(&k.SOCKS5, optional(remoteAddress))},
		{"tls", boolean(&k.TLS)},
		{"ca_file", file(&k.CAFile, in)},
		{"cert_file", file(&k.CertFile, in)},
		{"key_file", file(&k.KeyFile, in)},
		{"sasl", choice(&k.SASL, []option[SASL]{
			{"none", NoSASL}, {"plain", Plain}, {"scram-sha-256", ScramSHA256}, {"scram-sha-512", ScramSHA512},
		}, "oauthbearer")},
		{"username", text(&k.Username, nil)},
		{"password_file", file(&k.PasswordFile, in)},
	}
}

// lastRoute is the route that is being read.
func lastRoute(c *Config) *route.Rule { return &c.Routes[len(c.Routes)-1] }
