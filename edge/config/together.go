package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// place returns where the first of the keys that is set stands, else the header
// of the first one's section, else the start of the file.
func (r *reader) place(keys ...string) span {
	for _, key := range keys {
		if at, ok := r.seen[key]; ok {
			return at
		}
	}
	title, _, _ := strings.Cut(keys[0], ".")
	return r.seen["["+title+"]"]
}

func (r *reader) isSet(key string) bool {
	_, ok := r.seen[key]
	return ok
}

// fillNodeName names a node that has no name after its host.
func (r *reader) fillNodeName() {
	if r.config.Node.Name != "" || r.failedAt("node.name") {
		return
	}
	host, err := os.Hostname()
	reason, _ := nodeName(host)
	if err != nil || host == "" || reason != "" {
		r.errorAt(r.place("node.name"), fmt.Sprintf("[node] name: the host name %q cannot be the node's name", host),
			`name = "gateway-1"`)
		return
	}
	r.config.Node.Name = host
}

// failedAt reports whether the value of key has an error already, so that it says
// nothing about others.
func (r *reader) failedAt(key string) bool { return r.wrong[key] }

// checkTogether checks what no key can know alone.
func (r *reader) checkTogether() {
	if !r.isSet("kafka.brokers") && !r.failedAt("kafka.brokers") && !r.partial {
		r.errorAt(r.place("kafka.brokers"), "[kafka] brokers is missing: it is the one key without a default",
			`brokers = ["broker1.example.com:9092"] under [kafka]`)
	}
	r.checkSite()
	r.checkDoor()
	r.checkTLS()
	r.checkLogin()
	r.checkTopicCreation()
	r.checkLog()
	r.checkAlarmsKept()
	r.checkStatus()
	r.checkSocket()
}

// checkStatus finds a status that everyone could read.
func (r *reader) checkStatus() {
	s := &r.config.Status
	switch {
	case s.Listen == "" && s.TokenFile != "" && !r.failedAt("status.listen"):
		r.warnAt(r.place("status.token_file"), "[status] token_file does nothing, because listen is not set", `listen = "127.0.0.1:9880"`)
	case s.Listen != "" && s.TokenFile == "" && !isLoopback(s.Listen) && !r.failedAt("status.token_file"):
		r.errorAt(r.place("status.listen"), fmt.Sprintf("[status] listen: everyone who reaches %s could read the status", s.Listen),
			`token_file = "status.token", a file with a secret of 16 characters or more; or "127.0.0.1:9880", for this machine alone`)
	}
}

// checkSite fills in where gossip listens, and finds keys that mean nothing to a
// gateway that is alone.
func (r *reader) checkSite() {
	s := &r.config.Site
	if s.Listen != "" {
		if host, _, err := net.SplitHostPort(s.Listen); err == nil && s.Gossip == "" {
			s.Gossip = net.JoinHostPort(host, strconv.Itoa(GossipPort))
		}
		r.checkSitePorts()
		return
	}
	if r.failedAt("site.listen") {
		return
	}
	for key, set := range map[string]bool{
		"site.gossip": s.Gossip != "", "site.advertise": s.Advertise != "", "site.seeds": len(s.Seeds) > 0, "site.max_bandwidth": s.MaxBandwidth > 0, "site.handoff": s.Strict,
	} {
		if set {
			r.errorAt(r.place(key), fmt.Sprintf("[site] %s is set, but listen is not: this gateway is alone", strings.TrimPrefix(key, "site.")), `listen = "0.0.0.0:7882"`)
		}
	}
	if r.isSet("ack.if_peers_missing") && r.config.Ack.RefuseAlone {
		r.errorAt(r.place("ack.if_peers_missing"), `[ack] if_peers_missing is "refuse", but [site] listen is not set: no device would ever be answered`, `listen = "0.0.0.0:7882" under [site]`)
	}
}

// checkSitePorts finds addresses of [site] that are taken.
func (r *reader) checkSitePorts() {
	s := &r.config.Site
	taken := map[string]string{}
	for _, l := range r.config.MQTT.listeners() {
		taken[l.address] = "[mqtt] " + l.key
	}
	taken[r.config.Status.Listen] = "[status] listen"
	for _, l := range []struct{ key, address string }{{"listen", s.Listen}, {"gossip", s.Gossip}} {
		if by, is := taken[l.address]; is && !strings.HasSuffix(l.address, ":0") {
			r.errorAt(r.place("site."+l.key, "site.listen"), fmt.Sprintf("[site] %s: %q is taken by %s", l.key, l.address, by), "")
		}
		taken[l.address] = "[site] " + l.key
	}
}

func (r *reader) checkTLS() {
	k := &r.config.Kafka
	for _, f := range []struct{ key, value string }{{"ca_file", k.CAFile}, {"cert_file", k.CertFile}, {"key_file", k.KeyFile}} {
		if f.value != "" && !k.TLS && !r.failedAt("kafka.tls") {
			r.errorAt(r.place("kafka."+f.key), fmt.Sprintf("[kafka] %s is set, but tls is not", f.key), "tls = true")
		}
	}
	switch {
	case k.CertFile != "" && k.KeyFile == "" && !r.failedAt("kafka.key_file"):
		r.errorAt(r.place("kafka.cert_file"), "[kafka] cert_file needs key_file as well", `key_file = "client.key"`)
	case k.KeyFile != "" && k.CertFile == "" && !r.failedAt("kafka.cert_file"):
		r.errorAt(r.place("kafka.key_file"), "[kafka] key_file needs cert_file as well", `cert_file = "client.crt"`)
	}
}

func (r *reader) checkLogin() {
	k := &r.config.Kafka
	if r.failedAt("kafka.sasl") {
		return
	}
	for _, f := range []struct{ key, value, hint string }{
		{"username", k.Username, `username = "edge1"`},
		{"password_file", k.PasswordFile, `password_file = "/etc/tributary/kafka.password"`},
	} {
		switch {
		case r.failedAt("kafka." + f.key):
		case k.SASL == NoSASL && f.value != "":
			r.errorAt(r.place("kafka."+f.key), fmt.Sprintf("[kafka] %s is set, but sasl is not", f.key),
				`sasl = "scram-sha-512", or "plain" or "scram-sha-256"`)
		case k.SASL != NoSASL && f.value == "" && !r.partial:
			r.errorAt(r.place("kafka.sasl"), fmt.Sprintf("[kafka] sasl needs %s as well", f.key), f.hint)
		}
	}
	if k.SASL == Plain && !k.TLS && !r.failedAt("kafka.tls") {
		r.warnAt(r.place("kafka.sasl"), `[kafka] sasl: "plain" without tls shows the password to everyone on the way`, "tls = true")
	}
}

func (r *reader) checkTopicCreation() {
	if r.config.Kafka.CreateTopics {
		return
	}
	for _, key := range []string{"kafka.partitions", "kafka.replication_factor"} {
		if r.isSet(key) && !r.failedAt(key) {
			r.warnAt(r.place(key), fmt.Sprintf("[kafka] %s does nothing, because create_topics is false", strings.TrimPrefix(key, "kafka.")), "")
		}
	}
}

// minSegments is how many segments a log needs to turn over.
const minSegments = 4

func (r *reader) checkLog() {
	l := &r.config.Log
	if least := minSegments * l.SegmentBytes; l.MaxPercent == 0 && l.MaxBytes < least && !r.failedAt("log.segment") {
		r.errorAt(r.place("log.max_size"), fmt.Sprintf("[log] max_size is %s; with segments of %s it must be at least %s",
			formatSize(l.MaxBytes), formatSize(l.SegmentBytes), formatSize(least)), "")
	}
	if l.MaxPercent == 0 && 2*l.AlarmReserve >= l.MaxBytes {
		r.errorAt(r.place("log.alarm_reserve"), fmt.Sprintf("[log] alarm_reserve is %s; it must be less than half of max_size, which is %s",
			formatSize(l.AlarmReserve), formatSize(l.MaxBytes)), `"auto" is 2% of max_size`)
	}
	if l.AlarmReserve > 0 && !r.config.HasAlarms() && !r.partial && !r.failedAtAnyRoute("priority") {
		r.warnAt(r.place("log.alarm_reserve"), "[log] alarm_reserve does nothing, because no route is for alarms",
			`priority = "alarm" in the [[route]] of the alarms`)
	}
}

// checkAlarmsKept warns that alarms are not kept where the oldest records go.
func (r *reader) checkAlarmsKept() {
	const because = `, because [log] on_full is "drop-oldest": alarms are dropped like the rest when they are the oldest`
	const hint = `on_full = "refuse" keeps what is not in Kafka`
	if !r.config.Log.DropOldest || !r.config.HasAlarms() {
		return
	}
	if r.config.Log.AlarmReserve > 0 {
		r.warnAt(r.place("log.alarm_reserve"), "[log] alarm_reserve protects nothing"+because, hint)
		return
	}
	for i, read := range r.routes {
		if r.config.Routes[i].Alarm {
			r.warnAt(read.place("priority"), `[[route]] priority: "alarm" protects nothing`+because, hint)
			return // once is enough
		}
	}
}

func (r *reader) failedAtAnyRoute(key string) bool {
	for i := range r.routes {
		if r.failedAt(routePath(i, key)) {
			return true
		}
	}
	return false
}

// maxSocketBytes is the longest path of a unix socket on Linux: sun_path less its
// final zero.
const maxSocketBytes = 107

func (r *reader) checkSocket() {
	c := r.config
	if c.Status.Socket == "" {
		c.Status.Socket = socketIn(c.Node.DataDir)
	}
	if n := len(c.Status.Socket); n > maxSocketBytes {
		r.errorAt(r.place("status.socket", "node.data_dir"),
			fmt.Sprintf("[status] socket has %d characters in its path; the system allows %d", n, maxSocketBytes),
			`socket = "/run/tributary/admin.sock"`)
	}
}

// socketIn is where the commands reach the node of a data directory by default.
func socketIn(dataDir string) string { return filepath.Join(dataDir, "admin.sock") }

// checkStrictly finds what our own reading is too lenient for, such as a section
// that is opened in two ways. It only runs on a file without other errors.
func (r *reader) checkStrictly() {
	if r.failed() {
		return
	}
	for i := range r.doc.parts {
		if p := &r.doc.parts[i]; p.file {
			r.checkPart(p)
		}
	}
}

func (r *reader) checkPart(p *part) {
	var all map[string]any
	var wrong *toml.DecodeError
	switch err := toml.Unmarshal(r.doc.src[p.at.from:p.at.to], &all); {
	case err == nil:
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		r.errorAt(p.span(r.doc.src, line, column), "this is not TOML: "+plain(strings.TrimPrefix(wrong.Error(), "toml: ")), "write each section once: its header, and its keys below")
	default:
		r.errorAt(span{p.at.from, p.at.from}, "this is not TOML: "+plain(strings.TrimPrefix(err.Error(), "toml: ")), "")
	}
}
