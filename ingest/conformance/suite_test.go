//go:build conformance

// Package conformance asks a server, over TCP and knowing nothing of how it is
// made, for each normative statement of MQTT 3.1.1 and MQTT 5.0 that concerns a
// server whether it keeps it. `make test-conformance` runs it.
//
// A case is named as its statement is: TestMQTT5/MQTT-3.1.2-4. statements_test.go
// has the numbers of all statements, and the reason for each that is no case; a
// statement which is neither fails TestEveryStatement. TestDefects has what went
// wrong in servers that we know, where no statement says it in so many words.
//
// The server is the one at MQTT_ADDR or, without it, a node of our own in this
// process. It has to let clients in without a user name. TestBeside runs all cases
// against mosquitto too, and says where the two differ; without a mosquitto on the
// machine it is skipped.
//
// Where the standard leaves a choice, a case passes with each. A case does not wait
// for nothing to happen: it sends itself a message behind what must not come, and
// takes that for the end (client.collect). Only what the standard counts in seconds
// takes seconds. The client, in client_test.go and wire_test.go, shares no code with
// the product; it checks every packet it reads, so each case also asks for what
// section 2 and the tables of section 3 say about packets of a server.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
)

// An entry is a case: what it is called, and the check.
type entry struct {
	name  string
	check func(*suite)
}

// A table is the cases of a test function, all in one version of MQTT.
type table struct {
	name    string
	version byte // the protocol level: 4 is MQTT 3.1.1
	entries []entry
}

// tables returns all cases.
func tables() []table {
	return []table{
		{"TestMQTT311", 4, mqtt311()},
		{"TestMQTT5", 5, mqtt5()},
		{"TestDefects/MQTT311", 4, defects311()},
		{"TestDefects/MQTT5", 5, defects5()},
	}
}

// A suite is one run of one case against one server.
type suite struct {
	addr  string
	v     byte // protocol level
	run   string
	names int
	dials int
	open  []net.Conn
	trace []string
	err   error
}

// errSkipped is the end of a case that this server gives no occasion for.
var errSkipped = errors.New("not applicable")

// runs tells the runs of cases of this process from each other, and from those of
// earlier ones: a server remembers sessions and retained messages.
var (
	runs    atomic.Int64
	process = fmt.Sprintf("%05x", rand.Uint32N(1<<20))
)

// try runs a case and returns why it failed, with what was said on the wire.
func try(addr string, version byte, check func(*suite)) error {
	s := &suite{addr: addr, v: version, run: fmt.Sprintf("%sx%d", process, runs.Add(1))}
	var done sync.WaitGroup
	done.Go(func() { check(s) }) // fatalf ends this goroutine
	done.Wait()
	for _, conn := range s.open {
		conn.Close()
	}
	if s.err == nil || errors.Is(s.err, errSkipped) {
		return s.err
	}
	return fmt.Errorf("%w\n\t%s", s.err, strings.Join(s.trace, "\n\t"))
}

// fatalf ends the case, which has failed.
func (s *suite) fatalf(format string, args ...any) {
	s.err = fmt.Errorf(format, args...)
	runtime.Goexit()
}

// skipf ends the case because the server gives no occasion for it.
func (s *suite) skipf(format string, args ...any) {
	s.err = fmt.Errorf("%w: %s", errSkipped, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// note adds a line to what is shown when the case fails.
func (s *suite) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
	if n := len(s.trace); n > 40 {
		s.trace = s.trace[n-40:]
	}
}

// id returns a client identifier that ends in what, and topic a topic that does.
// In one run the same what gives another name each time.
func (s *suite) id(what string) string {
	s.names++
	return fmt.Sprintf("%sx%d%s", s.run, s.names, what)
}

func (s *suite) topic(what string) string {
	s.names++
	return fmt.Sprintf("conformance/%s/%d/%s", s.run, s.names, what)
}

// pass lets time go by, which only what the standard counts in seconds needs.
func (s *suite) pass(d time.Duration) { <-time.After(d) }

// equal fails the case unless got is want.
func equal[T comparable](s *suite, what string, got, want T) {
	if got != want {
		s.fatalf("%s: got %v, want %v", what, got, want)
	}
}

// subject is the address of the server under test, once TestMain has it.
var subject string

func TestMain(m *testing.M) {
	stop := func() {}
	subject = os.Getenv("MQTT_ADDR")
	if subject == "" {
		addr, end, err := startProduct()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the node does not start:", err)
			os.Exit(1)
		}
		subject, stop = addr, end
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

// startProduct starts a node of our own, without a Kafka, and returns where it
// listens and what ends it.
func startProduct() (addr string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf("[node]\nname = \"conformance\"\ndata_dir = %q\n[mqtt]\nlisten = [\"127.0.0.1:0\"]\n"+
		"[log]\nmax_size = \"256MiB\"\n[status]\nsocket = %q\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n", dir, dir+"/sock")
	cfg, problems := config.Parse("conformance.toml", []byte(text))
	if cfg == nil {
		return "", nil, fmt.Errorf("the configuration: %v", problems)
	}
	node, err := edge.Open(context.Background(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Run(ctx) }()
	select {
	case <-node.Ready():
	case err := <-done:
		cancel()
		return "", nil, err
	}
	return node.Door().Addrs()[0].String(), func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "the node:", err)
		}
		_ = node.Close()
		_ = os.RemoveAll(dir)
	}, nil
}

func TestMQTT311(t *testing.T) { runTable(t, 0) }

func TestMQTT5(t *testing.T) { runTable(t, 1) }

func TestDefects(t *testing.T) {
	t.Run("MQTT311", func(t *testing.T) { runTable(t, 2) })
	t.Run("MQTT5", func(t *testing.T) { runTable(t, 3) })
}

// outcomes has what became of each case, for TestBeside.
var outcomes sync.Map // "TestMQTT5/MQTT-3.1.0-1" to error

// runTable runs the cases of a table against the subject.
func runTable(t *testing.T, number int) {
	t.Helper()
	tab := tables()[number]
	for _, e := range tab.entries {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			err := try(subject, tab.version, e.check)
			outcomes.Store(tab.name+"/"+e.name, err)
			switch {
			case errors.Is(err, errSkipped):
				t.Skip(err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}
