package clients

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// mosquitto is mosquitto_sub, and for what it publishes one mosquitto_pub after the
// other, each with a client id of its own.
type mosquitto struct {
	*stream // of mosquitto_sub, once there is one

	t    *testing.T
	o    *options
	pubs int

	last   []byte      // its last line; touched by the reader of its lines alone
	ending atomic.Bool // it has been told to end
}

func newMosquitto(t *testing.T, o *options) client {
	t.Helper()
	return &mosquitto{t: t, o: o}
}

// connected starts nothing, but for a client with a will: that needs a connection.
func (c *mosquitto) connected() {
	c.t.Helper()
	if c.o.Will != nil {
		c.subscribe("clients/nothing", 0)
	}
}

func (c *mosquitto) refused() {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "mosquitto_pub", append(c.arguments(c.o.ID), "-t", "clients/nothing", "-q", "1", "-n")...)
	if out, err := cmd.CombinedOutput(); err == nil || !refusal.Match(out) {
		c.t.Errorf("mosquitto_pub was to be refused: %v\n%s", err, out)
	}
}

// arguments are what both commands take.
func (c *mosquitto) arguments(id string) []string {
	o := c.o
	args := []string{
		"-h", o.Host, "-p", strconv.Itoa(o.Port), "-i", id,
		"-V", map[int]string{3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}[o.Version],
	}
	if o.Transport == secure {
		args = append(args, "--cafile", o.CA)
	}
	if o.User != "" {
		args = append(args, "-u", o.User, "-P", o.Password)
	}
	return args
}

// What mosquitto_sub prints for a message, and with -d for an acknowledged
// subscription. %x is the payload in hexadecimal, %P the user properties.
const mosquittoFormat = `{"topic":"%t","qos":%q,"retain":%r,"hex":"%x","pairs":"%P"}`

var subscribedLine = regexp.MustCompile(`^Subscribed \(mid: \d+\): (\d+)`)

// parse takes a line that mosquitto_sub has printed. What it prints twice at its end
// has not come twice: its handler of SIGTERM prints too, and when it interrupts the
// printing of a line, the C library writes that line again.
func (c *mosquitto) parse(line []byte) (event, bool) {
	if c.ending.Load() && bytes.Equal(line, c.last) {
		return event{}, false
	}
	c.last = append(c.last[:0], line...)
	return parseMosquitto(line)
}

func parseMosquitto(line []byte) (event, bool) {
	if m := subscribedLine.FindSubmatch(line); m != nil {
		return event{Event: "subscribed", message: message{QoS: m[1][0] - '0'}}, true
	}
	if !bytes.HasPrefix(line, []byte("{")) {
		return event{}, false
	}
	var said struct {
		Topic, Hex, Pairs string
		QoS               byte
		Retain            int
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return event{Event: "error", Why: err.Error()}, true
	}
	payload, err := hex.DecodeString(said.Hex)
	if err != nil {
		return event{Event: "error", Why: err.Error()}, true
	}
	m := message{Topic: said.Topic, Payload: payload, QoS: said.QoS, Retain: said.Retain == 1}
	for pair := range strings.FieldsSeq(said.Pairs) {
		name, value, _ := strings.Cut(pair, ":")
		m.User = append(m.User, [2]string{name, value})
	}
	return event{Event: "message", message: m}, true
}

func (c *mosquitto) subscribe(filter string, qos byte) {
	c.t.Helper()
	args := append(c.arguments(c.o.ID), "-d", "-F", mosquittoFormat, "-t", filter, "-q", strconv.Itoa(int(qos)))
	switch {
	case c.o.Clean:
	case c.o.Version == 5:
		args = append(args, "-c", "-x", strconv.FormatUint(uint64(c.o.Expiry), 10))
	default:
		args = append(args, "-c")
	}
	if will := c.o.Will; will != nil {
		args = append(args, "--will-topic", will.Topic, "--will-payload", string(will.Payload), "--will-qos", strconv.Itoa(int(will.QoS)))
		if will.Retain {
			args = append(args, "--will-retain")
		}
	}
	c.stream = launch(c.t, "mosquitto_sub", exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...), c.parse)
	if e := c.next("subscribed"); e.QoS != qos {
		c.fatalf("asked for %s with QoS %d, was granted %d", filter, qos, e.QoS)
	}
}

// publish publishes lines by one mosquitto_pub if it can, otherwise each message by
// one.
func (c *mosquitto) publish(messages ...message) {
	c.t.Helper()
	for len(messages) > 0 {
		first := messages[0]
		n := slices.IndexFunc(messages, func(m message) bool {
			return m.Topic != first.Topic || m.QoS != first.QoS || m.Retain != first.Retain || len(m.User) > 0 ||
				len(m.Payload) == 0 || bytes.ContainsAny(m.Payload, "\r\n\x00")
		})
		if n < 0 {
			n = len(messages)
		}
		if n < 2 {
			c.pub(&first, "-s", first.Payload)
			messages = messages[1:]
			continue
		}
		var lines []byte
		for _, m := range messages[:n] {
			lines = append(append(lines, m.Payload...), '\n')
		}
		c.pub(&first, "-l", lines)
		messages = messages[n:]
	}
}

func (c *mosquitto) pub(m *message, how string, in []byte) {
	c.t.Helper()
	c.pubs++
	args := append(c.arguments(fmt.Sprintf("%s-pub%d", c.o.ID, c.pubs)), "-t", m.Topic, "-q", strconv.Itoa(int(m.QoS)))
	if m.Retain {
		args = append(args, "-r")
	}
	for _, pair := range m.User {
		args = append(args, "-D", "publish", "user-property", pair[0], pair[1])
	}
	if len(in) == 0 {
		how = "-n"
	}
	cmd := exec.CommandContext(c.t.Context(), "mosquitto_pub", append(args, how)...)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}

// disconnect ends mosquitto_sub by SIGTERM, at which it says DISCONNECT.
func (c *mosquitto) disconnect() {
	c.t.Helper()
	if c.stream == nil {
		return // each mosquitto_pub has ended already
	}
	c.ending.Store(true)
	if err := c.cmd.Process.Signal(terminate); err != nil {
		c.fatalf("%v", err)
	}
	c.drained()
}

func (c *mosquitto) receive(n int) []message {
	c.t.Helper()
	return c.stream.receive(n)
}

func (c *mosquitto) kill() {
	if c.stream != nil {
		c.stream.kill()
	}
}
