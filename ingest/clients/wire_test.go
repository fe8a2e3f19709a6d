package clients

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// The ways to a server.
const (
	tcp       = "tcp"
	secure    = "tls"
	webSocket = "ws"
	secureWeb = "wss"
)

// A message is what was or is to be published. As a command to subscribe, its
// topic is a filter.
type message struct {
	Topic   string      `json:"topic"`
	Payload []byte      `json:"payload"` // base64
	QoS     byte        `json:"qos"`
	Retain  bool        `json:"retain"`
	User    [][2]string `json:"user,omitempty"` // MQTT 5's user properties
}

func (m message) String() string {
	s := fmt.Sprintf("%s %.40q QoS %d", m.Topic, m.Payload, m.QoS)
	if len(m.Payload) > 40 {
		s += fmt.Sprintf(" (%d bytes)", len(m.Payload))
	}
	if m.Retain {
		s += " retained"
	}
	if len(m.User) > 0 {
		s += fmt.Sprintf(" %q", m.User)
	}
	return s
}

// Options are the first line that a script reads: whom it is to connect to, and as
// who.
type options struct {
	Transport string   `json:"transport"`
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	CA        string   `json:"ca"`      // file of the certificate to trust
	Version   int      `json:"version"` // protocol level: 3, 4 or 5
	ID        string   `json:"id"`
	Clean     bool     `json:"clean"`  // Clean Session or Clean Start
	Expiry    uint32   `json:"expiry"` // of the session, in seconds; MQTT 5
	User      string   `json:"user"`
	Password  string   `json:"password"`
	Will      *message `json:"will,omitempty"`
}

func (o *options) url(scheme string) string {
	u := fmt.Sprintf("%s://%s:%d", scheme, o.Host, o.Port)
	if o.Transport == webSocket || o.Transport == secureWeb {
		u += "/mqtt"
	}
	return u
}

// withTLS says whether the way to the server is in TLS.
func (o *options) withTLS() bool { return o.Transport == secure || o.Transport == secureWeb }

func (o *options) roots() (*x509.CertPool, error) {
	text, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", o.CA)
	}
	return roots, nil
}

// A command is a further line: do is subscribe, publish or disconnect. A publish
// does not wait for the one before.
type command struct {
	message

	Do string `json:"do"`
}

// An event is a line that a script prints: connected, refused, subscribed with the
// QoS that was granted, published once per publish when it is acknowledged or, at
// QoS 0, sent, message, or error.
type event struct {
	message

	Event   string `json:"event"`
	Present bool   `json:"present"` // with connected: the server had a session
	Why     string `json:"why"`     // with refused and error
}

// A wire is the other end, for the clients in Go: they are this test's program,
// started once more.
type wire struct {
	commands chan command

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// beClient runs a client until its commands end.
func beClient(client func(*wire, *options) error) error {
	in := bufio.NewReader(os.Stdin)
	w := &wire{commands: make(chan command), out: json.NewEncoder(os.Stdout)}
	decoder := json.NewDecoder(in)
	var o options
	if err := decoder.Decode(&o); err != nil {
		return err
	}
	go func() {
		defer close(w.commands)
		for {
			var c command
			if err := decoder.Decode(&c); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				w.fail("error", err)
				return
			}
			w.commands <- c
		}
	}()
	return client(w, &o)
}

func (w *wire) say(e *event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.out.Encode(e); err != nil {
		os.Exit(1) // nobody is there
	}
}

func (w *wire) message(m message) { w.say(&event{Event: "message", message: m}) }

func (w *wire) fail(what string, err error) { w.say(&event{Event: what, Why: err.Error()}) }

func (w *wire) done(what string, err error) {
	if err != nil {
		w.fail("error", err)
		return
	}
	w.say(&event{Event: what})
}
