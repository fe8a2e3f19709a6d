package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0B": 0, "1B": 1, "256KiB": 256 << 10, "16MiB": 16 << 20, "8GiB": 8 << 30, "1TiB": 1 << 40, "16 MiB": 16 << 20, "1024TiB": 1 << 50,
		"": -1, "5": -1, "B": -1, "KiB": -1, "-1KiB": -1, "1.5MiB": -1, "256KB": -1, "256k": -1, "1025TiB": -1, "1 2B": -1,
		"99999999999999999999B": -1, "16mib": -1, "+1B": -1, "1_000B": -1,
	} {
		got, ok := parseSize(s)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q is %d, %v; want %d", s, got, ok, want)
		}
		if again, ok2 := parseSize(formatSize(got)); ok && (!ok2 || again != got) {
			t.Errorf("%q prints as %q", s, formatSize(got))
		}
	}
}

func TestParseDuration(t *testing.T) {
	const no = time.Duration(-1 << 63)
	for s, want := range map[string]time.Duration{
		"0": 0, "500ms": 500 * time.Millisecond, "1s": time.Second, "1h30m": 90 * time.Minute, "30d": 30 * day, "1d12h": 36 * time.Hour,
		"0d": 0, "-1s": -time.Second,
		"": no, "5": no, "d": no, "-1d": no, "1d-1h": no, "1.5d": no, "30 d": no, "1dd": no, "1d1": no, "99999999d": no, "1y": no,
		"65535d2000000h": no, // would overflow
	} {
		got, ok := parseDuration(s)
		if ok != (want != no) || ok && got != want {
			t.Errorf("%q is %v, %v; want %v", s, got, ok, want)
		}
		if again, ok2 := parseDuration(formatDuration(got)); ok && (!ok2 || again != got) {
			t.Errorf("%q prints as %q", s, formatDuration(got))
		}
	}
}

func TestClosest(t *testing.T) {
	candidates := []string{"listen", "linger", "max_packet", "match", "topic", "key"}
	for word, want := range map[string]string{
		"lsten": "listen", "listne": "listen", "Listen": "listen", "lingr": "linger", "maxpacket": "max_packet", "max-packet": "max_packet",
		"mach": "match", "kye": "key", "filter": "", "zzz": "", "": "", "x": "", strings.Repeat("a", 100): "",
	} {
		if got := closest(word, candidates); got != want {
			t.Errorf("%q is close to %q, want %q", word, got, want)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.com:1": false, "127.0.0.1": false,
		"[::ffff:127.0.0.1]:1": true, "localhost.example.com:1": false,
	} {
		if got := isLoopback(address); got != want {
			t.Errorf("%q: %v, want %v", address, got, want)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	for line, want := range map[string]string{
		`password = "hunter2"`:               `password = ...`,
		`kafka = { sasl_password="hunter2"}`: `kafka = { sasl_password= ...`,
		`Secret: hunter2`:                    `Secret: ...`,
		`password_file = "/etc/pw"`:          `password_file = "/etc/pw"`,
		`topic = "tokens"`:                   `topic = "tokens"`,
	} {
		if got := withoutSecret(line); got != want {
			t.Errorf("%q is shown as %q, want %q", line, got, want)
		}
	}
}
