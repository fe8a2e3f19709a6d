package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/tributary-edge/tributary/ingest/route"
)

func notEmpty(s string) (reason, hint string) {
	if s == "" {
		return "is empty", "leave the key out for its default"
	}
	return "", ""
}

// optional makes "" a good value.
func optional(judge check) check {
	return func(s string) (reason, hint string) {
		if s == "" {
			return "", ""
		}
		return judge(s)
	}
}

// nodeName judges [node] name; "" is the host name.
func nodeName(s string) (reason, hint string) {
	if legalWord(strings.ToLower(s)) || s == "" {
		return "", ""
	}
	return fmt.Sprintf("%q is not a name for a node", s), "use up to 64 letters, digits, '.', '_' and '-'"
}

func siteName(s string) (reason, hint string) {
	if legalWord(s) {
		return "", ""
	}
	return fmt.Sprintf("%q is not a name for a site", s), "use up to 64 small letters, digits, '.', '_' and '-'"
}

// legalWord is what may become part of a Kafka topic or transactional.id.
func legalWord(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func kafkaTopic(s string) (reason, hint string) {
	if err := route.CheckTopic(s); err != nil {
		return err.Error(), ""
	}
	return "", ""
}

// recordKey judges the key template of a route. Its variables are checked with
// the route.
func recordKey(s string) (reason, hint string) {
	if s == "" {
		return "is empty: records without a key have no order in Kafka", `key = "` + route.DefaultKey + `" keeps each device in order`
	}
	return "", ""
}

// splitAddress takes HOST:PORT apart. PORT is a number.
func splitAddress(s, example string) (host string, port int, reason, hint string) {
	if scheme, rest, found := strings.Cut(s, "://"); found {
		return "", 0, fmt.Sprintf("%q starts with %q", s, scheme+"://"), fmt.Sprintf("write %q", rest)
	}
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Sprintf("%q is not HOST:PORT", s), fmt.Sprintf("for example %q", example)
	}
	port, err = strconv.Atoi(service)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Sprintf("%q is not a port", service), "a port is a number from 1 to 65535"
	}
	if strings.ContainsAny(host, " /\t,") {
		return "", 0, fmt.Sprintf("%q is not a host", host), fmt.Sprintf("for example %q", example)
	}
	return host, port, "", ""
}

// remoteAddress judges an address that we connect to.
func remoteAddress(s string) (reason, hint string) {
	const example = "broker1.example.com:9092"
	host, port, reason, hint := splitAddress(s, example)
	switch {
	case reason != "":
		return reason, hint
	case host == "":
		return fmt.Sprintf("%q has no host", s), fmt.Sprintf("for example %q", example)
	case port == 0:
		return fmt.Sprintf("%q has port 0", s), "a port is a number from 1 to 65535"
	}
	return "", ""
}

// broker judges one of [kafka] brokers.
func broker(s string) (reason, hint string) {
	if strings.Contains(s, ",") {
		return fmt.Sprintf("%q is more than one broker", s), `quotes around each: ["broker1:9092", "broker2:9092"]`
	}
	return remoteAddress(s)
}

// listenAddress judges an address that we listen on. Port 0 is any free one.
func listenAddress(s string) (reason, hint string) {
	_, _, reason, hint = splitAddress(s, "127.0.0.1:1883")
	return reason, hint
}

// siteAddress returns what judges an address of [site], of which example is one.
func siteAddress(example string) check {
	return func(s string) (reason, hint string) {
		_, _, reason, hint = splitAddress(s, example)
		return reason, hint
	}
}

// ipAddress judges an address without a port.
func ipAddress(s string) (reason, hint string) {
	if ip, err := netip.ParseAddr(s); err != nil || ip.IsUnspecified() {
		return fmt.Sprintf("%q is not an IP address of this machine", s), `for example "10.0.0.5"`
	}
	return "", ""
}

// isLoopback reports whether only this machine reaches address. A name other than
// localhost is not looked up: it counts as reachable.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// serverReference judges a Server Reference: MQTT 5, 4.11. "" is none.
func serverReference(s string) (reason, hint string) {
	const example = "gateway-2.example.com:8883"
	if len(s) > 1<<10 {
		return "is longer than 1024 bytes", "name one or two servers"
	}
	for server := range strings.FieldsSeq(s) {
		address := server
		if _, _, err := net.SplitHostPort(server); err != nil { // the port may be left out
			address = net.JoinHostPort(strings.Trim(server, "[]"), "1883")
		}
		host, port, reason, _ := splitAddress(address, example)
		if reason != "" || host == "" || port == 0 || strings.Contains(server, "://") {
			return fmt.Sprintf("%q is not HOST or HOST:PORT", server), fmt.Sprintf("for example %q", example)
		}
	}
	return "", ""
}

func dataDir(dst *string) decoder {
	return func(v value) []fault {
		var dir string
		if faults := text(&dir, notEmpty)(v); faults != nil {
			return faults
		}
		*dst = dir
		if !filepath.IsAbs(dir) {
			return v.doubtful(`a path that starts with "/"`,
				"%q depends on where the node is started; started elsewhere it would not find its records", dir)
		}
		return nil
	}
}

// maxPacket reads [mqtt] max_packet. Kafka takes batches of 1 MiB unless told
// otherwise, and a record is a packet and its key, headers and batch.
func maxPacket(dst *int) decoder {
	const low, high = 1 << 10, 960 << 10
	return func(v value) []fault {
		faults := size(dst, low, high)(v)
		if n, ok := parseSize(v.text); ok && n > high {
			return v.bad(`"960KiB" is the most`,
				"is %s; Kafka takes 1MiB per record, key and headers included", v.text)
		}
		return faults
	}
}

func ackWindow(a *Ack) decoder {
	return func(v value) []fault {
		if v.kind == unstable.String && v.text == "auto" {
			a.WindowAuto, a.Window = true, 0
			return nil
		}
		window := time.Duration(0)
		faults := duration(&window, 0, 500*time.Millisecond)(v)
		if faults == nil {
			a.WindowAuto, a.Window = false, window
		}
		for i := range faults {
			faults[i].hint = `"auto", or a duration such as "100ms"`
		}
		return faults
	}
}

func maxSize(l *Log) decoder {
	return func(v value) []fault {
		digits, isPercent := strings.CutSuffix(v.text, "%")
		if v.kind != unstable.String || !isPercent {
			n := int64(0)
			faults := size(&n, 16<<20, 1<<50)(v)
			if faults == nil {
				l.MaxBytes, l.MaxPercent = n, 0
			}
			return usually(`a part of the file system such as "75%", or a size such as "8GiB"`, faults)
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 || n > 95 {
			return v.bad("", "is %q; it must be from 1%% to 95%%", v.text)
		}
		l.MaxBytes, l.MaxPercent = 0, n
		return nil
	}
}

func maxAge(dst *time.Duration) decoder {
	return func(v value) []fault {
		if faults := duration(dst, 0, 3650*day)(v); faults != nil {
			return faults
		}
		if *dst > 0 && *dst < day {
			return v.doubtful(`"0" keeps them while there is room`,
				"records that are in Kafka are deleted here after %s already; what Kafka loses later is then gone", v.text)
		}
		return nil
	}
}

func segment(dst *int64) decoder {
	const page = 4 << 10
	return func(v value) []fault {
		n := int64(0)
		if faults := size(&n, 4<<20, 64<<20)(v); faults != nil {
			return faults
		}
		if n%page != 0 {
			return v.bad(fmt.Sprintf("%q", formatSize(n/page*page)), "is %s, which is not a multiple of 4KiB", v.text)
		}
		*dst = n
		return nil
	}
}

func onFull(dropOldest *bool) decoder {
	return func(v value) []fault {
		if faults := choice(dropOldest, []option[bool]{{"refuse", false}, {"drop-oldest", true}})(v); faults != nil {
			return faults
		}
		if *dropOldest {
			return v.doubtful(`"refuse" tells devices to wait, and loses nothing`,
				"%q loses acknowledged records by design: a full log deletes the oldest, which are not in Kafka", v.text)
		}
		return nil
	}
}

// alarmReserve reads [log] alarm_reserve; "auto" is 0.
func alarmReserve(dst *int64) decoder {
	return func(v value) []fault {
		if v.kind == unstable.String && v.text == "auto" {
			*dst = 0
			return nil
		}
		return usually(`"auto", or a size such as "64MiB"`, size(dst, 1<<20, 1<<40)(v))
	}
}

func replicationFactor(dst *int16) decoder {
	return func(v value) []fault {
		const hint = "-1 is what the brokers are set to; 3 is usual"
		faults := integer(dst, -1, 100)(v)
		switch {
		case faults != nil:
		case *dst == 0:
			faults = v.bad(hint, "is 0; a topic needs at least one replica")
		case *dst == 1:
			faults = v.doubtful(hint, "with one replica, a broken disk in Kafka loses what was delivered")
		}
		return faults
	}
}

func statusListen(dst *string) decoder {
	return func(v value) []fault {
		address := func(s string) (reason, hint string) {
			_, _, reason, hint = splitAddress(s, "127.0.0.1:9880")
			return reason, hint
		}
		return text(dst, optional(address))(v)
	}
}

const enduranceHint = `the maker's figure (TBW) of how much may be written in the life of the card, such as "120TB"; "" if it is not known`

// endurance reads how much may be written to a card in its life, in the decimal
// units in which cards are sold.
func endurance(dst *int64) decoder {
	return func(v value) []fault {
		s, faults := v.asText(enduranceHint)
		if faults != nil {
			return faults
		}
		if s == "" {
			*dst = 0
			return nil
		}
		for _, unit := range []option[int64]{{"GB", 1}, {"TB", 1e3}, {"PB", 1e6}} {
			digits, found := strings.CutSuffix(s, unit.word)
			if !found {
				continue
			}
			count, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 20)
			if err != nil {
				break
			}
			n := int64(count) * unit.value // GB
			if n < 1 || n > 1e9 {
				return v.bad("", "is %s; it must be from 1GB to 1000PB", s)
			}
			*dst = n * 1e9
			return nil
		}
		return v.bad(enduranceHint, "%q is not an endurance", s)
	}
}
