package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// A screen shows how a run goes: a line that is drawn over and over on a
// terminal, otherwise a new line now and then.
type screen struct {
	out      io.Writer
	terminal int           // its file descriptor, or -1
	goal     int64         // messages; 0: none
	span     time.Duration // 0: no end
	start    time.Time
	last     device.Stats
	lastAt   time.Time
}

func newScreen(out io.Writer, opt device.Options, span time.Duration) *screen {
	s := &screen{out: out, terminal: -1, goal: int64(opt.Count) * int64(opt.Devices), span: span, start: time.Now()}
	s.lastAt = s.start
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.terminal = int(f.Fd())
	}
	return s
}

func (s *screen) elapsed() time.Duration { return time.Since(s.start) }

// every returns how often progress is to be called.
func (s *screen) every() time.Duration {
	if s.terminal >= 0 {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

func (s *screen) progress(st device.Stats, ending bool) {
	now := time.Now()
	rate := float64(st.Sent-s.last.Sent) / now.Sub(s.lastAt).Seconds()
	s.last, s.lastAt = st, now
	text := fmt.Sprintf("%d online, %d sent (%.0f/s), %d acked, %d outstanding, %d reconnects",
		st.Connected, st.Sent, rate, st.Acked, st.Outstanding, st.Reconnects)
	if st.Refused > 0 {
		text += fmt.Sprintf(", %d refused", st.Refused)
	}
	if ending {
		text += ", waiting for acknowledgements"
	}
	if st.Connected == 0 && st.LastError != "" {
		text += "; " + st.LastError
	}
	if s.terminal < 0 {
		_, _ = fmt.Fprintf(s.out, "%6.0fs  %s\n", s.elapsed().Seconds(), text)
		return
	}
	width, _, err := term.GetSize(s.terminal)
	if err != nil || width < 20 {
		width = 80
	}
	line := fmt.Sprintf("%s %4.0fs  %s", bar(s.share(st), 20), s.elapsed().Seconds(), text)
	_, _ = fmt.Fprintf(s.out, "\r\x1b[K%s", cutTo(line, width-1))
}

// share returns how much of the run is done, from 0 to 1; less than 0 if
// nobody knows.
func (s *screen) share(st device.Stats) float64 {
	share := -1.0
	if s.span > 0 {
		share = s.elapsed().Seconds() / s.span.Seconds()
	}
	if s.goal > 0 {
		share = max(share, float64(st.Sent)/float64(s.goal))
	}
	return min(share, 1)
}

func bar(share float64, width int) string {
	if share < 0 {
		return "[" + strings.Repeat("·", width) + "]"
	}
	full := int(math.Round(share * float64(width)))
	return "[" + strings.Repeat("█", full) + strings.Repeat("·", width-full) + "]"
}

func cutTo(line string, width int) string {
	runes := []rune(line)
	return string(runes[:min(len(runes), width)])
}

// end leaves the line as it is.
func (s *screen) end() {
	if s.terminal >= 0 {
		_, _ = fmt.Fprintln(s.out)
	}
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d.Microseconds())) / 1000
}

// A summary is the last line with --json. Times are of QoS 1 and, where they
// say so, of QoS 2.
type summary struct {
	Sent          int64   `json:"sent"`
	Acked         int64   `json:"acked"`
	Outstanding   int64   `json:"outstanding"`
	Transmissions int64   `json:"transmissions"`
	Refused       int64   `json:"refused"`
	Forgotten     int64   `json:"forgotten"`
	Strays        int64   `json:"strays"`
	Commands      int64   `json:"commands"`
	Skipped       int64   `json:"skipped"`
	Reconnects    int64   `json:"reconnects"`
	Sessions      int64   `json:"sessions"`
	Cuts          int64   `json:"cuts"`
	HalfOpen      int64   `json:"half_open"`
	Reboots       int64   `json:"reboots"`
	Duplicates    int64   `json:"duplicates"`
	P50           float64 `json:"p50_ms"`
	P90           float64 `json:"p90_ms"`
	P99           float64 `json:"p99_ms"`
	Max           float64 `json:"max_ms"`
	QoS2P50       float64 `json:"qos2_p50_ms"`
	QoS2P99       float64 `json:"qos2_p99_ms"`
	QoS2Max       float64 `json:"qos2_max_ms"`
	Seconds       float64 `json:"seconds"`
	PerSecond     float64 `json:"per_second"`
	Seed          uint64  `json:"seed"`
	LastError     string  `json:"last_error,omitempty"`
}

func printJSON(out io.Writer, st device.Stats, took time.Duration, seed uint64) error {
	return json.NewEncoder(out).Encode(summary{
		Sent: st.Sent, Acked: st.Acked, Outstanding: st.Outstanding, Transmissions: st.Transmissions,
		Refused: st.Refused, Forgotten: st.Forgotten, Strays: st.Strays, Commands: st.Commands, Skipped: st.Skipped, Reconnects: st.Reconnects,
		Sessions: st.Sessions, Cuts: st.Cuts, HalfOpen: st.HalfOpen, Reboots: st.Reboots, Duplicates: st.Duplicates,
		P50: milliseconds(st.QoS1.P50), P90: milliseconds(st.QoS1.P90),
		P99: milliseconds(st.QoS1.P99), Max: milliseconds(st.QoS1.Max),
		QoS2P50: milliseconds(st.QoS2.P50), QoS2P99: milliseconds(st.QoS2.P99), QoS2Max: milliseconds(st.QoS2.Max),
		Seconds: math.Round(took.Seconds()*1000) / 1000, PerSecond: math.Round(float64(st.Sent) / took.Seconds()),
		Seed: seed, LastError: st.LastError,
	})
}

func printSummary(out io.Writer, st device.Stats, took time.Duration, seed uint64) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages sent in %.1f s (%.0f/s), %d acknowledged, %d outstanding\n",
		st.Sent, took.Seconds(), float64(st.Sent)/took.Seconds(), st.Acked, st.Outstanding)
	fmt.Fprintf(&b, "%d PUBLISH in all, %d refused, %d forgotten in reboots, %d repeated on a live connection\n",
		st.Transmissions, st.Refused, st.Forgotten, st.Duplicates)
	fmt.Fprintf(&b, "%d reconnects, %d new sessions, %d cuts inside a packet, %d half open, %d reboots\n",
		st.Reconnects, st.Sessions, st.Cuts, st.HalfOpen, st.Reboots)
	for _, l := range []struct {
		name string
		device.Latency
	}{{"PUBLISH to PUBACK ", st.QoS1}, {"PUBLISH to PUBCOMP", st.QoS2}} {
		if l.Count > 0 {
			fmt.Fprintf(&b, "%s  p50 %v  p90 %v  p99 %v  max %v\n", l.name, l.P50, l.P90, l.P99, l.Max)
		}
	}
	if st.Commands+st.Skipped > 0 {
		fmt.Fprintf(&b, "%d messages came to devices, and %d that were too long for them\n", st.Commands, st.Skipped)
	}
	if st.Strays > 0 {
		fmt.Fprintf(&b, "%d answers of the broker that MQTT does not allow\n", st.Strays)
	}
	if st.LastError != "" {
		fmt.Fprintf(&b, "last error: %s\n", st.LastError)
	}
	fmt.Fprintf(&b, "seed %d\n", seed)
	_, err := io.WriteString(out, b.String())
	return err
}
