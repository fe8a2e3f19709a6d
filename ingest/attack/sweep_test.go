//go:build attack

package attack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An input is what one connection sends.
type input struct {
	name  string
	bytes []byte
}

// senders is how many connections are open at once.
const senders = 32

// exchange sends bytes to the node, ends its half of the connection, and reads
// until the node has ended the other. It returns the answer.
func exchange(address string, b []byte) ([]byte, error) {
	nc, err := dialFrom(source(), address)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	// The node may close as soon as it has seen enough: then the rest is not sent.
	if _, err := nc.Write(b); err == nil {
		_ = nc.(interface{ CloseWrite() error }).CloseWrite()
	}
	answer, err := io.ReadAll(nc)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answer, fmt.Errorf("the node has not closed the connection after %v", patience)
	}
	return answer, nil // a reset is an end too
}

// attackWith sends all inputs that next returns, over many connections at once.
func attackWith(t *testing.T, n *node, next func() (input, bool)) (sent int) {
	t.Helper()
	var work sync.WaitGroup
	var count, failed atomic.Int64
	inputs := make(chan input, senders)
	for range senders {
		work.Go(func() {
			for in := range inputs {
				count.Add(1)
				if _, err := exchange(n.plain, in.bytes); err != nil && failed.Add(1) < 10 {
					t.Errorf("%s: % x: %v", in.name, in.bytes, err)
				}
			}
		})
	}
	for in, more := next(); more && n.running() && failed.Load() < 10; in, more = next() {
		inputs <- in
	}
	close(inputs)
	work.Wait()
	n.mustRun(t)
	return int(count.Load())
}

// cutsAndBoundaries returns a packet cut at each byte, as it is and with a length
// that fits, and with each byte replaced by those that sit on boundaries.
func cutsAndBoundaries(s seed) []input {
	p := s.bytes
	all := []input{{s.name + " whole", p}}
	for cut := 1; cut < len(p); cut++ {
		all = append(all, input{fmt.Sprintf("%s cut at %d", s.name, cut), p[:cut]})
		if cut >= 2 {
			short := slices.Clone(p[:cut])
			short[1] = byte(cut - 2)
			all = append(all, input{fmt.Sprintf("%s cut at %d, with a length that fits", s.name, cut), short})
		}
	}
	for i := range p {
		values := []byte{0, 1, 2, 4, 0x7f, 0x80, 0xc0, 0xfe, 0xff, p[i] + 1, p[i] - 1}
		for bit := range 8 {
			values = append(values, p[i]^1<<bit)
		}
		slices.Sort(values)
		for _, b := range slices.Compact(values) {
			if b == p[i] {
				continue
			}
			changed := slices.Clone(p)
			changed[i] = b
			all = append(all, input{fmt.Sprintf("%s with byte %d = %#02x", s.name, i, b), changed})
		}
	}
	for i := range p { // and a byte more or less in the middle
		more := slices.Insert(slices.Clone(p), i, 0xff)
		all = append(all, input{fmt.Sprintf("%s with a byte before %d", s.name, i), more})
		if i >= 2 && p[1] > 0 && p[1] < 0x7f {
			fewer := slices.Delete(slices.Clone(p), i, i+1)
			fewer[1]--
			all = append(all, input{fmt.Sprintf("%s without byte %d", s.name, i), fewer})
		}
	}
	return all
}

// sweep returns every input, before CONNECT and after it.
func sweep() []input {
	var all []input
	for _, v := range []byte{3, 4, 5} {
		for _, s := range seeds(v) {
			for _, in := range cutsAndBoundaries(s) {
				name := fmt.Sprintf("version %d: %s", v, in.name)
				first := hello{id: "sweep", version: v}.packet()
				if v == 3 {
					first = pack(0x10, "MQIsdp", 3, 2, uint16(0), "sweep")
				}
				all = append(all, input{name, in.bytes},
					input{name + " after CONNECT", append(first, in.bytes...)},
					input{name + " after CONNECT, before PINGREQ", append(slices.Clone(append(first, in.bytes...)), 0xc0, 0)})
			}
		}
	}
	return all
}

// TestSweep attacks S1: packets of every type and version, cut and changed at
// every byte, before and after CONNECT.
func TestSweep(t *testing.T) {
	inputs := sweep()
	total := len(inputs)
	if total < 60_000 {
		t.Errorf("the sweep has %d inputs, fewer than 60,000", total)
	}
	rng := seeded(t)
	rng.Shuffle(total, func(i, k int) { inputs[i], inputs[k] = inputs[k], inputs[i] })
	if testing.Short() {
		inputs = inputs[:total/20]
	}
	n := startNode(t, setup{mqtt: "max_clients = 10000"})
	warm, rest := inputs[:len(inputs)/4], inputs[len(inputs)/4:]
	b := stand(t, n, hello{id: "bystander"}, 5*time.Millisecond)
	start := time.Now()
	sent := attackWith(t, n, each(warm))
	before := n.rss(t)
	sent += attackWith(t, n, each(rest))
	took := time.Since(start)
	t.Logf("%d of %d inputs in %v (%.0f/s); RSS %s after a quarter, %s in the end; load %s",
		sent, total, took.Round(time.Millisecond), float64(sent)/took.Seconds(), mb(before), mb(n.rss(t)), load())
	if grown := n.rss(t) - before; grown > 32<<20 {
		t.Errorf("the node has grown by %s", mb(grown))
	}
	b.leave(t, stormLimit)
}

func each(inputs []input) func() (input, bool) {
	return func() (in input, more bool) {
		if len(inputs) == 0 {
			return input{}, false
		}
		in, inputs = inputs[0], inputs[1:]
		return in, true
	}
}

// TestKnownCrashes attacks S1 with what has crashed other servers: the SUBSCRIBE
// of MQTT 5 that ends before its options byte took mochi 2.7.9 down, with all of
// its clients.
func TestKnownCrashes(t *testing.T) {
	n := startNode(t, setup{})
	b := stand(t, n, hello{id: "bystander"}, 5*time.Millisecond)
	five := hello{id: "evil", version: 5}.packet()
	subscribe := pack(0x82, uint16(2), 0, "b/#", 0)
	subscribe[1]--
	cut := subscribe[:len(subscribe)-1]
	malformed := []byte{0xe0, 2, 0x81, 0}
	for _, in := range []struct {
		name  string
		bytes []byte
		want  []byte // what the answer ends with
	}{
		{"mochi: SUBSCRIBE without its options", append(slices.Clone(five), cut...), malformed},
		{"CVE-2021-28166: CONNECT, then a CONNACK", slices.Concat(five, pack(0x20, 0, 0, 0)), nil},
		{"CVE-2017-7651: CONNECT of 256 MiB", []byte{0x10, 0xff, 0xff, 0xff, 0x7f}, nil},
		{"CVE-2023-0809: a first packet that is no CONNECT", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, nil},
		{"CVE-2018-12543: a topic of $", slices.Concat(five, publish(5, 0, 0, "$", "x")), nil},
		{"CVE-2019-11779: a filter of 65,535 levels", slices.Concat(five, pack(0x82, uint16(2), 0, strings.Repeat("/", 65535), 0)), []byte{0x90, 4, 0, 2, 0, 0x8f}},
		{"a length of five bytes", append(slices.Clone(five), 0x30, 0xff, 0xff, 0xff, 0xff, 1), malformed},
		{"a second CONNECT", slices.Concat(five, five), []byte{0xe0, 2, 0x82, 0}},
	} {
		answer, err := exchange(n.plain, in.bytes)
		if err != nil || !bytes.HasSuffix(answer, in.want) {
			t.Errorf("%s: answered % x, want % x: %v", in.name, answer, in.want, orNothing(err))
		}
		n.mustRun(t)
	}
	b.leave(t, stormLimit)
}
