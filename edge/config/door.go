package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// MQTT is [mqtt]: the door for devices. A path is "" when the key is not used.
type MQTT struct {
	Listen    []string // listen: HOST:PORT each, plain TCP; default 127.0.0.1:1883
	ListenTLS []string // listen_tls: HOST:PORT each; default none
	ListenWS  []string // listen_ws: HOST:PORT each, WebSocket without TLS; default none
	ListenWSS []string // listen_wss: HOST:PORT each, WebSocket with TLS; default none
	MDNS      bool     // mdns: the local network is told of Listen and ListenTLS; default false

	TLSCertFile, TLSKeyFile string // tls_cert_file, tls_key_file: our certificate, for ListenTLS and ListenWSS
	TLSClientCAFile         string // tls_client_ca_file: who may sign the certificates that clients of these must have
	TLSCRLFile              string // tls_crl_file: certificates that are revoked
	CertificateUser         string // certificate_user: the name in a certificate that is the user, "cn" or "san"; "" none. "auto", the default, is cn with TLSClientCAFile

	PasswordFile string // password_file: Mosquitto's, and argon2id
	ACLFile      string // acl_file: Mosquitto's
	JWTKeysFile  string // jwt_keys_file: public keys of those who may sign tokens, JWKS or PEM
	JWTIssuer    string // jwt_issuer: what iss must be; "" anything
	JWTAudience  string // jwt_audience: what aud must have; "" anything
	ClientIDIs   string // client_id_is: "" anything, "username", or "prefix": the user name, or that and ":..."

	AllowAnonymous bool // allow_anonymous: clients without a user name may connect, from beyond loopback too; default false

	MaxClients     int    // max_clients: 1 to 100000; default 1000
	MaxPacketBytes int    // max_packet: 1KiB to 960KiB, so that a record fits Kafka's default limit; default 256KiB
	ReceiveMaximum uint16 // receive_maximum: unacknowledged QoS 1 and 2 messages per device, at least 1; default 1024
	MaxTopicLevels int    // max_topic_levels: 1 to 128; default 32

	MaxConnectionsPerAddress int // max_connections_per_address: 0 to 100000; default 0, no limit but MaxClients
	MaxMessagesPerSecond     int // max_messages_per_second of one client, 0 to 1000000; default 0, no limit
	MaxBytesPerSecond        int // max_bytes_per_second of one client, 1KiB to 1GiB; default 0, no limit

	MaxSlowed        time.Duration // max_slowed: how long these two may slow a client without a break before it is disconnected, up to 1d; default 0, no limit
	MaxRetained      int           // max_retained: retained messages kept, 1 to 1000000; default 100000
	MaxRetainedBytes int           // max_retained_bytes: of them, in memory, 64KiB to 1GiB; default 64MiB

	ServerReference string // server_reference: where MQTT 5 clients are told to go when the node stops: HOST or HOST:PORT, several with spaces between; default "", nowhere
}

// Authenticates reports whether clients have any way to prove who they are.
func (m *MQTT) Authenticates() bool {
	return m.PasswordFile != "" || m.JWTKeysFile != "" || m.CertificateUser != ""
}

// AnonymousMayConnect reports whether clients without a user name may connect: when
// the file says so, or when it says nothing of authentication, because then it
// listens on loopback alone.
func (m *MQTT) AnonymousMayConnect() bool { return m.AllowAnonymous || !m.Authenticates() }

// listeners returns what each key listens on, in the order of the keys.
func (m *MQTT) listeners() []listener {
	var all []listener
	for _, l := range []struct {
		key       string
		addresses []string
	}{{"listen", m.Listen}, {"listen_tls", m.ListenTLS}, {"listen_ws", m.ListenWS}, {"listen_wss", m.ListenWSS}} {
		for i, address := range l.addresses {
			all = append(all, listener{l.key, i, address})
		}
	}
	return all
}

type listener struct {
	key     string
	i       int
	address string
}

func (r *reader) listenerPlace(l listener) span {
	return r.place(itemPath("mqtt."+l.key, l.i), "mqtt."+l.key)
}

// checkDoor checks [mqtt] as a whole.
func (r *reader) checkDoor() {
	r.checkDoorTLS()
	r.fillCertificateUser()
	r.checkAddresses()
	r.checkAuthentication()
	r.checkOpen()
	r.checkIdle()
}

// checkAddresses finds addresses that stand twice, and a node without a door.
func (r *reader) checkAddresses() {
	m := &r.config.MQTT
	taken := map[string]string{}
	for _, l := range m.listeners() {
		if other, again := taken[l.address]; again && other != l.key && !strings.HasSuffix(l.address, ":0") {
			r.errorAt(r.listenerPlace(l), fmt.Sprintf("[mqtt] %s: %q is taken by %s", l.key, l.address, other), "")
		}
		taken[l.address] = l.key
	}
	if len(taken) == 0 && !r.failedAtListener() {
		r.errorAt(r.place("mqtt.listen"), "[mqtt] listen: is empty, and so are the other listeners: no device could connect", `listen = ["127.0.0.1:1883"]`)
	}
	status := r.config.Status.Listen
	if key, isTaken := taken[status]; isTaken && !strings.HasSuffix(status, ":0") {
		r.errorAt(r.place("status.listen"), fmt.Sprintf("[status] listen: %q is taken by [mqtt] %s", status, key), `listen = "127.0.0.1:9880"`)
	}
}

func (r *reader) failedAtListener() bool {
	return r.failedAt("mqtt.listen") || r.failedAt("mqtt.listen_tls") || r.failedAt("mqtt.listen_ws") || r.failedAt("mqtt.listen_wss")
}

// checkDoorTLS checks that what TLS needs is there, and nothing that needs TLS
// without it.
func (r *reader) checkDoorTLS() {
	m := &r.config.MQTT
	needs := func(key, value, other, otherValue, hint string) {
		if value != "" && otherValue == "" && !r.failedAt("mqtt."+other) {
			r.errorAt(r.place("mqtt."+key), fmt.Sprintf("[mqtt] %s needs %s as well", key, other), hint)
		}
	}
	const crt, key, ca = `tls_cert_file = "/etc/tributary/door.crt"`, `tls_key_file = "/etc/tributary/door.key"`, `tls_client_ca_file = "/etc/tributary/devices-ca.crt"`
	listens := strings.Join(append(slices.Clip(m.ListenTLS), m.ListenWSS...), " ")
	for _, l := range []struct{ key, value string }{{"listen_tls", strings.Join(m.ListenTLS, " ")}, {"listen_wss", strings.Join(m.ListenWSS, " ")}} {
		needs(l.key, l.value, "tls_cert_file", m.TLSCertFile, crt)
		needs(l.key, l.value, "tls_key_file", m.TLSKeyFile, key)
	}
	for _, f := range []struct{ key, value string }{
		{"tls_cert_file", m.TLSCertFile}, {"tls_key_file", m.TLSKeyFile}, {"tls_client_ca_file", m.TLSClientCAFile},
	} {
		needs(f.key, f.value, "listen_tls", listens, `listen_tls = ["0.0.0.0:8883"]`)
	}
	needs("tls_crl_file", m.TLSCRLFile, "tls_client_ca_file", m.TLSClientCAFile, ca)
	needs("certificate_user", strings.TrimPrefix(m.CertificateUser, "none"), "tls_client_ca_file", m.TLSClientCAFile, ca)
}

// fillCertificateUser makes of the word in the file what Config promises.
func (r *reader) fillCertificateUser() {
	m := &r.config.MQTT
	switch {
	case m.CertificateUser == "none":
		m.CertificateUser = ""
	case m.CertificateUser == "" && m.TLSClientCAFile != "":
		m.CertificateUser = "cn"
	}
}

// checkAuthentication finds keys that do nothing without another.
func (r *reader) checkAuthentication() {
	m := &r.config.MQTT
	for _, f := range []struct{ key, value string }{{"jwt_issuer", m.JWTIssuer}, {"jwt_audience", m.JWTAudience}} {
		if f.value != "" && m.JWTKeysFile == "" && !r.failedAt("mqtt.jwt_keys_file") {
			r.errorAt(r.place("mqtt."+f.key), fmt.Sprintf("[mqtt] %s needs jwt_keys_file as well", f.key), `jwt_keys_file = "/etc/tributary/jwks.json"`)
		}
	}
	if m.Authenticates() || r.failedAtAuthentication() {
		return
	}
	const hint = `password_file = "/etc/tributary/passwd"`
	if m.ClientIDIs != "" {
		r.errorAt(r.place("mqtt.client_id_is"), "[mqtt] client_id_is needs users, and there is no authentication", hint)
	}
	if m.ACLFile != "" {
		r.warnAt(r.place("mqtt.acl_file"), "[mqtt] acl_file: its user lines do nothing, because nobody can prove to be one", hint)
	}
}

func (r *reader) failedAtAuthentication() bool {
	for _, key := range []string{"password_file", "jwt_keys_file", "tls_client_ca_file", "certificate_user"} {
		if r.failedAt("mqtt." + key) {
			return true
		}
	}
	return false
}

// checkOpen keeps an open door closed, unless the file says that it is meant.
func (r *reader) checkOpen() {
	m := &r.config.MQTT
	if r.failedAt("mqtt.allow_anonymous") || r.failedAtAuthentication() {
		return
	}
	certificatesOnly := m.CertificateUser != "" && m.PasswordFile == "" && m.JWTKeysFile == ""
	for _, l := range m.listeners() {
		switch {
		case isLoopback(l.address):
		case m.AllowAnonymous && m.ACLFile == "":
			r.warnAt(r.place("mqtt.allow_anonymous"), fmt.Sprintf("[mqtt] allow_anonymous: everybody who reaches %q may publish and subscribe", l.address),
				`password_file = "/etc/tributary/passwd", or acl_file to say what they may`)
			return // once is enough
		case m.AllowAnonymous:
		case !m.Authenticates():
			r.errorAt(r.listenerPlace(l), fmt.Sprintf("[mqtt] %s: %q is open to the network, and there is no authentication", l.key, l.address),
				`add password_file = "/etc/tributary/passwd", or allow_anonymous = true if every device there may publish`)
		case certificatesOnly && l.key != "listen_tls" && l.key != "listen_wss":
			r.warnAt(r.listenerPlace(l), fmt.Sprintf("[mqtt] %s: nobody can connect to %q, because certificates are the only authentication", l.key, l.address),
				"leave it out, or add password_file")
		}
	}
}

// checkIdle finds keys that do nothing as things are.
func (r *reader) checkIdle() {
	m := &r.config.MQTT
	if m.MaxSlowed > 0 && m.MaxMessagesPerSecond == 0 && m.MaxBytesPerSecond == 0 &&
		!r.failedAt("mqtt.max_messages_per_second") && !r.failedAt("mqtt.max_bytes_per_second") {
		r.warnAt(r.place("mqtt.max_slowed"), "[mqtt] max_slowed does nothing, because nobody is slowed", "max_messages_per_second = 100")
	}
	reachable := slices.ContainsFunc(append(slices.Clip(m.Listen), m.ListenTLS...), func(a string) bool { return !isLoopback(a) })
	if m.MDNS && !reachable && !r.failedAtListener() {
		r.warnAt(r.place("mqtt.mdns"), "[mqtt] mdns does nothing, because neither listen nor listen_tls is open to the network", `listen = ["0.0.0.0:1883"]`)
	}
}
