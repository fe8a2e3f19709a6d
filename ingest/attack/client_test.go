//go:build attack

package attack

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a client waits for an answer before a test has failed.
const patience = 10 * time.Second

// sources counts connections, so that each comes from another address: one pair
// of addresses has 28,000 ports.
var sources atomic.Uint32

// source returns one of 200 addresses of this machine.
func source() *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(1+sources.Add(1)%200))}
}

func dialFrom(local *net.TCPAddr, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: local, Timeout: patience}
	return d.Dial("tcp", address)
}

// A client is one connection of MQTT 3.1.1.
type client struct {
	net.Conn

	next uint16 // packet id
}

// enter connects, and says CONNECT. With a config it does so over TLS.
func enter(address string, h hello, config *tls.Config) (*client, error) {
	nc, err := dialFrom(source(), address)
	if err != nil {
		return nil, err
	}
	if config != nil {
		nc = tls.Client(nc, config)
	}
	c := &client{Conn: nc}
	answer, err := c.ask(h.packet(), 4)
	if err != nil || !bytes.Equal(answer, []byte{0x20, 2, 0, 0}) {
		nc.Close()
		return nil, fmt.Errorf("CONNECT was answered with % x: %w", answer, orNothing(err))
	}
	return c, nil
}

type nothingError struct{}

func (nothingError) Error() string { return "no error" }

func orNothing(err error) error {
	if err == nil {
		return nothingError{}
	}
	return err
}

func mustEnter(t *testing.T, address string, h hello) *client {
	t.Helper()
	c, err := enter(address, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a packet and returns the n bytes of its answer.
func (c *client) ask(packet []byte, n int) ([]byte, error) {
	return c.askWithin(patience, packet, n)
}

func (c *client) askWithin(limit time.Duration, packet []byte, n int) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	if _, err := c.Write(packet); err != nil {
		return nil, err
	}
	answer := make([]byte, n)
	n, err := io.ReadFull(c, answer)
	return answer[:n], err
}

// publish sends a message with QoS 1 and waits for its PUBACK.
func (c *client) publish(topic, payload string) error {
	c.next = max(1, c.next+1)
	answer, err := c.ask(publish(4, 1, c.next, topic, payload), 4)
	if err == nil && !bytes.Equal(answer, pack(0x40, c.next)) {
		err = fmt.Errorf("PUBLISH was answered with % x", answer)
	}
	return err
}

func (c *client) ping() error {
	answer, err := c.ask(pack(0xc0), 2)
	if err == nil && !bytes.Equal(answer, pack(0xd0)) {
		err = fmt.Errorf("PINGREQ was answered with % x", answer)
	}
	return err
}

// A bystander is a client that behaves: it publishes with QoS 1 and pings, the
// whole time, and notes how long each answer took.
type bystander struct {
	c     *client
	end   chan struct{}
	done  chan struct{}
	acks  latencies
	pings latencies
	err   error
}

// stand connects a bystander that publishes after each pause, and pings after
// every tenth message.
func stand(t *testing.T, n *node, h hello, every time.Duration) *bystander {
	t.Helper()
	c := mustEnter(t, n.plain, h)
	b := &bystander{c: c, end: make(chan struct{}), done: make(chan struct{})}
	go b.run(every)
	return b
}

func (b *bystander) run(every time.Duration) {
	defer close(b.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		start := time.Now()
		if b.err = b.c.publish("bystander/t", "all is well"); b.err != nil {
			return
		}
		b.acks = append(b.acks, time.Since(start))
		if i%10 == 0 {
			start = time.Now()
			if b.err = b.c.ping(); b.err != nil {
				return
			}
			b.pings = append(b.pings, time.Since(start))
		}
		select {
		case <-tick.C:
		case <-b.end:
			return
		}
	}
}

// leave ends the bystander, prints what it has seen, and fails the test if it was
// not answered, or if an answer took longer than limit.
func (b *bystander) leave(t *testing.T, limit time.Duration) {
	t.Helper()
	close(b.end)
	<-b.done
	_ = b.c.Close()
	t.Logf("the bystander: acks %v; pings %v; load %s", b.acks, b.pings, load())
	if b.err != nil {
		t.Errorf("the bystander was not answered after %d messages: %v", len(b.acks), b.err)
	}
	if most := max(b.acks.at(1), b.pings.at(1)); most > limit {
		t.Errorf("the bystander waited %v for an answer, more than %v", most, limit)
	}
}

type latencies []time.Duration

// at returns a quantile, 1 for the greatest.
func (l latencies) at(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return sorted[min(len(l)-1, int(q*float64(len(l))))]
}

func (l latencies) String() string {
	round := func(q float64) time.Duration { return l.at(q).Round(10 * time.Microsecond) }
	return fmt.Sprintf("n %d p50 %v p99 %v max %v", len(l), round(0.5), round(0.99), round(1))
}
