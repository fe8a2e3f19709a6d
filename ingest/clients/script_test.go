package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a client may take for anything; the machine may be busy.
const patience = 60 * time.Second

// A client connects to the node. Its methods fail the test if it does not go so.
type client interface {
	// connected returns when the server has let it in.
	connected()
	// refused returns when the server has not, because of its name or password.
	refused()
	// subscribe returns when the server has granted it.
	subscribe(filter string, qos byte)
	// publish returns when all are acknowledged, or those of QoS 0 are sent.
	publish(messages ...message)
	// receive returns the next n messages.
	receive(n int) []message
	// disconnect ends in good order; a message that receive has not returned fails
	// the test.
	disconnect()
	// kill ends the process, and with it the connection, in none.
	kill()
}

// A stream is the events of a process.
type stream struct {
	t        *testing.T
	name     string
	cmd      *exec.Cmd
	messages chan message
	events   chan event // the others
	stderr   lines
	ended    chan struct{}
}

// lines keeps what a process says for people.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// launch starts a process whose lines parse turns into events, those it returns
// true for. It is killed at the end of the test, at the latest.
func launch(t *testing.T, name string, cmd *exec.Cmd, parse func(line []byte) (event, bool)) *stream {
	t.Helper()
	s := &stream{
		t: t, name: name, cmd: cmd, ended: make(chan struct{}),
		messages: make(chan message, 4096), events: make(chan event, 4096), // more than any test asks for
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &s.stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s does not start: %v", name, err)
	}
	go s.read(out, parse)
	t.Cleanup(s.kill)
	return s
}

func (s *stream) read(out io.Reader, parse func([]byte) (event, bool)) {
	defer close(s.ended)
	in := bufio.NewScanner(out)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		e, ok := parse(in.Bytes())
		switch {
		case !ok:
		case e.Event == "message":
			if len(e.User) == 0 {
				e.User = nil
			}
			s.messages <- e.message
		default:
			s.events <- e
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(&s.stderr, "its output:", err)
	}
	if err := s.cmd.Wait(); err != nil {
		fmt.Fprintln(&s.stderr, "it ended:", err)
	}
}

// next returns the next event, which has to be of a kind.
func (s *stream) next(want string) event {
	s.t.Helper()
	select {
	case e := <-s.events:
		if e.Event != want {
			s.fatalf("got %q (%s), want %q", e.Event, e.Why, want)
		}
		return e
	case <-s.ended:
		select {
		case e := <-s.events:
			if e.Event == want {
				return e
			}
			s.fatalf("got %q (%s), want %q", e.Event, e.Why, want)
		default:
		}
		s.fatalf("it ended before %q", want)
	case <-time.After(patience):
		s.fatalf("no %q in %v", want, patience)
	}
	return event{}
}

func (s *stream) receive(n int) (got []message) {
	s.t.Helper()
	limit := time.After(patience)
	for len(got) < n {
		select {
		case m := <-s.messages:
			got = append(got, m)
		case e := <-s.events:
			s.fatalf("got %q (%s) after %d of %d messages: %v", e.Event, e.Why, len(got), n, got)
		case <-limit:
			s.fatalf("%d of %d messages came in %v: %v", len(got), n, patience, got)
		}
	}
	return got
}

// drained waits for the end of the process, which has been told to end.
func (s *stream) drained() {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.fatalf("it does not end")
	}
	for {
		select {
		case m := <-s.messages:
			s.t.Errorf("%s: one more message: %v", s.name, m)
		case e := <-s.events:
			s.t.Errorf("%s: at the end: %s %s", s.name, e.Event, e.Why)
		default:
			return
		}
	}
}

func (s *stream) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
}

func (s *stream) fatalf(format string, args ...any) {
	s.t.Helper()
	text := s.stderr.String()
	s.t.Fatalf("%s: %s\n%s", s.name, fmt.Sprintf(format, args...), text[max(0, len(text)-2000):])
}

// A script is a client that reads options and commands from its standard input, a
// line of JSON each, and prints events.
type script struct {
	*stream

	in io.WriteCloser
	o  *options
}

// refusal is in what clients say when the server does not know them.
var refusal = regexp.MustCompile(`(?i)authori[sz]ed|user ?name or password|reason: 13[45]`)

// startScript starts a script and gives it its options.
func startScript(t *testing.T, name string, cmd *exec.Cmd, o *options) *script {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &script{in: in, o: o}
	s.stream = launch(t, name, cmd, func(line []byte) (event, bool) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			e = event{Event: "error", Why: fmt.Sprintf("%v: %.200q", err, line)}
		}
		return e, true
	})
	s.write(o)
	return s
}

func (s *script) connected() {
	s.t.Helper()
	if e := s.next("connected"); s.o.Clean && e.Present {
		s.fatalf("asked for a new session, and was told that there is an old one")
	}
}

func (s *script) refused() {
	s.t.Helper()
	if e := s.next("refused"); !refusal.MatchString(e.Why) {
		s.fatalf("was refused because of its password, and says: %s", e.Why)
	}
	s.kill()
}

func (s *script) write(v any) {
	s.t.Helper()
	line, err := json.Marshal(v)
	if err != nil {
		s.fatalf("%v", err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.fatalf("it does not read: %v", err)
	}
}

func (s *script) subscribe(filter string, qos byte) {
	s.t.Helper()
	s.write(&command{Do: "subscribe", message: message{Topic: filter, QoS: qos}})
	if e := s.next("subscribed"); e.QoS != qos {
		s.fatalf("asked for %s with QoS %d, was granted %d", filter, qos, e.QoS)
	}
}

func (s *script) publish(messages ...message) {
	s.t.Helper()
	for _, m := range messages {
		s.write(&command{Do: "publish", message: m})
	}
	for range messages {
		s.next("published")
	}
}

func (s *script) disconnect() {
	s.t.Helper()
	s.write(&command{Do: "disconnect"})
	s.drained()
}
