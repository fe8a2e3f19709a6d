//go:build conformance

package conformance

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// statements311 and statements5 have the number of statements in each section, as
// Appendix B of the standards lists them. They are numbered from 1; from2 is a
// section of MQTT 5 that begins with 2.
var statements311 = []section{
	{"1.5.3", 3},
	{"2.2.2", 2},
	{"2.3.1", 7},
	{"3.1.0", 2},
	{"3.1.2", 24},
	{"3.1.3", 11},
	{"3.1.4", 5},
	{"3.2.0", 1},
	{"3.2.2", 6},
	{"3.3.1", 12},
	{"3.3.2", 3},
	{"3.3.4", 1},
	{"3.3.5", 2},
	{"3.6.1", 1},
	{"3.8.1", 1},
	{"3.8.3", 4},
	{"3.8.4", 6},
	{"3.9.3", 2},
	{"3.10.1", 1},
	{"3.10.3", 2},
	{"3.10.4", 6},
	{"3.12.4", 1},
	{"3.14.1", 1},
	{"3.14.4", 3},
	{"4.1.0", 2},
	{"4.3.1", 1},
	{"4.3.2", 2},
	{"4.3.3", 2},
	{"4.4.0", 1},
	{"4.5.0", 2},
	{"4.6.0", 6},
	{"4.7.1", 3},
	{"4.7.2", 1},
	{"4.7.3", 4},
	{"4.8.0", 2},
	{"6.0.0", 4},
	{"7.0.0", 2},
	{"7.1.1", 1},
	{"7.1.2", 1},
}

var statements5 = []section{
	{"1.5.4", 3},
	{"1.5.5", 1},
	{"1.5.7", 1},
	{"2.1.3", 1},
	{from2, 6},
	{"2.2.2", 1},
	{"3.1.0", 2},
	{"3.1.2", 30},
	{"3.1.3", 12},
	{"3.1.4", 6},
	{"3.2.0", 2},
	{"3.2.2", 22},
	{"3.3.1", 13},
	{"3.3.2", 20},
	{"3.3.4", 10},
	{"3.4.2", 3},
	{"3.5.2", 3},
	{"3.6.1", 1},
	{"3.6.2", 3},
	{"3.7.2", 3},
	{"3.8.1", 1},
	{"3.8.3", 5},
	{"3.8.4", 8},
	{"3.9.2", 2},
	{"3.9.3", 2},
	{"3.10.1", 1},
	{"3.10.3", 2},
	{"3.10.4", 6},
	{"3.11.2", 2},
	{"3.11.3", 2},
	{"3.12.4", 1},
	{"3.14.0", 1},
	{"3.14.1", 1},
	{"3.14.2", 4},
	{"3.14.4", 3},
	{"3.15.1", 1},
	{"3.15.2", 3},
	{"4.1.0", 2},
	{"4.2.0", 1},
	{"4.3.1", 1},
	{"4.3.2", 5},
	{"4.3.3", 13},
	{"4.4.0", 2},
	{"4.5.0", 2},
	{"4.6.0", 6},
	{"4.7.0", 1},
	{"4.7.1", 2},
	{"4.7.2", 1},
	{"4.7.3", 4},
	{"4.8.2", 6},
	{"4.9.0", 3},
	{"4.12.0", 7},
	{"4.12.1", 2},
	{"4.13.1", 1},
	{"4.13.2", 1},
	{"6.0.0", 4},
}

const from2 = "2.2.1"

// A section is one of a standard, with the last number of its statements.
type section struct {
	number string
	last   int
}

// numbers returns the statements of a standard, MQTT-1.5.3-1 and so on.
func numbers(sections []section, begin map[string]int) (all []string) {
	for _, sec := range sections {
		for i := max(1, begin[sec.number]); i <= sec.last; i++ {
			all = append(all, fmt.Sprintf("MQTT-%s-%d", sec.number, i))
		}
	}
	return all
}

// Why a statement is no case.
const (
	ofClient  = "it binds the client alone; a server cannot be seen to keep it or break it"
	webSocket = "it is about WebSocket; this suite speaks TCP"
	noAuth    = "it is about enhanced authentication, which needs a method that both sides know; a server that knows none refuses all (MQTT-4.12.0-1)"
)

var uncovered311 = map[string]string{
	"MQTT-2.3.1-2":  ofClient,
	"MQTT-2.3.1-3":  ofClient,
	"MQTT-3.1.2-23": ofClient,
	"MQTT-3.14.4-1": ofClient,
	"MQTT-4.5.0-2":  ofClient,
	"MQTT-4.6.0-2":  ofClient,
	"MQTT-4.6.0-3":  ofClient,
	"MQTT-4.6.0-4":  ofClient,
	"MQTT-4.8.0-2":  "a transient error cannot be made from outside; the tests of the disk's errors close connections",
	"MQTT-6.0.0-1":  webSocket,
	"MQTT-6.0.0-2":  webSocket,
	"MQTT-6.0.0-3":  webSocket,
	"MQTT-6.0.0-4":  webSocket,
	"MQTT-7.0.0-1":  "it is about servers that connect to servers by MQTT; this one does not",
	"MQTT-7.1.2-1":  ofClient,
}

var uncovered5 = map[string]string{
	"MQTT-3.1.2-20": ofClient,
	"MQTT-3.1.2-21": ofClient,
	"MQTT-3.1.2-30": ofClient,
	"MQTT-3.2.2-4":  ofClient,
	"MQTT-3.2.2-5":  ofClient,
	"MQTT-3.2.2-11": ofClient + "; for one that takes QoS 2 there is nothing to exceed",
	"MQTT-3.2.2-14": ofClient + "; for one that retains there is nothing to exceed",
	"MQTT-3.2.2-21": ofClient,
	"MQTT-3.3.2-10": ofClient,
	"MQTT-3.3.4-8":  ofClient,
	"MQTT-3.6.2-2":  "a PUBREL of a server has nothing to explain: no occasion for a Reason String is known",
	"MQTT-3.6.2-3":  "a PUBREL of a server has nothing to explain: no occasion for a User Property is known",
	"MQTT-3.15.2-1": noAuth,
	"MQTT-3.15.2-2": noAuth,
	"MQTT-3.15.2-3": noAuth,
	"MQTT-4.5.0-2":  ofClient,
	"MQTT-4.6.0-2":  ofClient,
	"MQTT-4.6.0-3":  ofClient,
	"MQTT-4.6.0-4":  ofClient,
	"MQTT-4.12.0-2": noAuth,
	"MQTT-4.12.0-3": noAuth,
	"MQTT-4.12.0-4": noAuth,
	"MQTT-4.12.0-5": noAuth,
	"MQTT-4.12.1-1": noAuth,
	"MQTT-4.12.1-2": noAuth,
	"MQTT-6.0.0-1":  webSocket,
	"MQTT-6.0.0-2":  webSocket,
	"MQTT-6.0.0-3":  webSocket,
	"MQTT-6.0.0-4":  webSocket,
}

// A standard is what one of the two asks for, and what this suite asks.
type standard struct {
	title     string
	all       []string
	cases     []entry
	uncovered map[string]string
}

func standards() []standard {
	return []standard{
		{"MQTT 3.1.1", numbers(statements311, nil), mqtt311(), uncovered311},
		{"MQTT 5.0", numbers(statements5, map[string]int{from2: 2}), mqtt5(), uncovered5},
	}
}

// TestEveryStatement keeps a statement from being forgotten: each is a case, or
// there is a reason why not, and never both.
func TestEveryStatement(t *testing.T) {
	for i, std := range standards() {
		if want := []int{141, 251}[i]; len(std.all) != want {
			t.Errorf("%s has %d statements here; Appendix B has %d", std.title, len(std.all), want)
		}
		var covered []string
		for _, e := range std.cases {
			if slices.Contains(covered, e.name) {
				t.Errorf("%s: two cases are called %s", std.title, e.name)
			}
			covered = append(covered, e.name)
			if !slices.Contains(std.all, e.name) {
				t.Errorf("%s has no statement %s", std.title, e.name)
			}
		}
		for number := range std.uncovered {
			if !slices.Contains(std.all, number) {
				t.Errorf("%s has no statement %s", std.title, number)
			}
		}
		for _, number := range std.all {
			reason, excused := std.uncovered[number]
			if covered := slices.Contains(covered, number); covered == excused || excused && reason == "" {
				t.Errorf("%s: %s is a case: %v; is left out: %v", std.title, number, covered, excused)
			}
		}
	}
}

const document = "../../docs/CONFORMANCE.md"

// TestDocument keeps the figures of docs/CONFORMANCE.md true. With UPDATE=1 it
// writes them.
func TestDocument(t *testing.T) {
	const begin, end = "<!-- figures: written by UPDATE=1 make test-conformance -->\n", "<!-- end of figures -->\n"
	var b strings.Builder
	b.WriteString("| | statements | cases | left out |\n|---|---|---|---|\n")
	for _, std := range standards() {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", std.title, len(std.all), len(std.cases), len(std.uncovered))
	}
	fmt.Fprintf(&b, "| known defects | | %d | |\n", len(defects311())+len(defects5()))
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the figures: %q and %q", document, begin, end)
	}
	want := head + begin + b.String() + end + tail
	if want == string(text) {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("the figures of %s are not those of the suite; UPDATE=1 writes them:\n%s", document, b.String())
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
