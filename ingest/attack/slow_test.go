//go:build attack

package attack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// How long a connection may take to say CONNECT, and one with TLS.
const (
	connectDeadline = 5 * time.Second
	tlsDeadline     = 3 * connectDeadline
)

// TestSlowloris has connections say nothing, or say it very slowly, to each of the
// listeners. They are gone after the deadline for CONNECT, and not before.
func TestSlowloris(t *testing.T) {
	p := newPKI(t)
	n := startNode(t, setup{mqtt: p.serverLines(), tls: true})
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	files := n.files(t)
	handshake := "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	connect := hello{id: "slow-client-with-a-long-name", user: "a user", password: "a password"}.packet()
	var work sync.WaitGroup
	for _, slow := range []struct {
		name, address string
		at            string // sent at once
		drip          []byte // then a byte each second
		latest        time.Duration
	}{
		{"silent", n.plain, "", nil, connectDeadline},
		{"half a CONNECT", n.plain, string(connect[:20]), nil, connectDeadline},
		{"a byte a second", n.plain, "", connect, connectDeadline},
		{"silent with TLS", n.tls, "", nil, tlsDeadline},
		{"a byte a second of a ClientHello", n.tls, "", []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4}, tlsDeadline},
		{"silent at the WebSocket", n.webSocket, "", nil, connectDeadline},
		{"a byte a second of a request", n.webSocket, "", []byte(handshake), connectDeadline},
		{"silent after a request", n.webSocket, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", nil, 2 * connectDeadline},
		{"silent on a WebSocket", n.webSocket, handshake, nil, 2 * connectDeadline},
		// After CONNECT it is the keep-alive that counts, one and a half times.
		{"a byte a second of a PUBLISH", n.plain, string(hello{keepAliveSeconds: 2}.packet()), publish(4, 1, 1, "slow", "payload"), connectDeadline},
	} {
		for range 20 {
			work.Go(func() {
				lived, err := drip(slow.address, slow.at, slow.drip)
				if err != nil || lived > slow.latest+2*time.Second || lived < connectDeadline/2 {
					t.Errorf("%s: lived %v, want %v: %v", slow.name, lived, slow.latest, orNothing(err))
				}
			})
		}
	}
	work.Wait()
	// What the node opens for itself does not count: 8 more at most.
	await(t, 5*time.Second, "the node to have closed them all", func() bool { return n.files(t) <= files+8 })
	t.Logf("file descriptors: %d before, %d after", files, n.files(t))
	b.leave(t, stormLimit)
}

// drip sends a packet byte by byte, and returns how long the connection lived.
func drip(address, at string, packet []byte) (time.Duration, error) {
	nc, err := dialFrom(source(), address)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	start := time.Now()
	if _, err := nc.Write([]byte(at)); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	for time.Since(start) < 4*connectDeadline {
		if len(packet) > 0 {
			_, _ = nc.Write(packet[:1])
			packet = packet[1:]
		}
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		for err = nil; err == nil; {
			_, err = nc.Read(answer)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return time.Since(start), nil
		}
	}
	return time.Since(start), errors.New("it is still there")
}

// TestPerAddress has one address open more connections than it may.
func TestPerAddress(t *testing.T) {
	const most = 10
	n := startNode(t, setup{mqtt: fmt.Sprintf("max_connections_per_address = %d", most)})
	greedy := &net.TCPAddr{IP: net.IPv4(127, 0, 9, 9)}
	var open []net.Conn
	refused := 0
	for i := range 3 * most {
		nc, err := dialFrom(greedy, n.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := &client{Conn: nc}
		switch answer, err := c.ask(hello{id: fmt.Sprintf("greedy-%d", i)}.packet(), 4); {
		case err == nil && answer[3] == 0:
			open = append(open, nc)
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("connection %d is neither answered nor closed", i)
		default:
			refused++
		}
	}
	if len(open) != most || refused != 2*most {
		t.Errorf("%d connections from one address, %d refused; want %d and %d", len(open), refused, most, 2*most)
	}
	mustEnter(t, n.plain, hello{id: "other"}) // from another address
	open[0].Close()
	await(t, patience, "a place to be free again", func() bool {
		nc, err := dialFrom(greedy, n.plain)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		c := &client{Conn: nc}
		answer, err := c.ask(hello{id: "again"}.packet(), 4)
		return err == nil && answer[3] == 0
	})
}

// TestSilentCrowd fills the node with connections that say nothing: a client that
// behaves gets in as soon as the deadline has passed.
func TestSilentCrowd(t *testing.T) {
	const most = 100
	n := startNode(t, setup{mqtt: fmt.Sprintf("max_clients = %d", most)})
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	for range 2 * most {
		nc, err := dialFrom(source(), n.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	start := time.Now()
	await(t, 2*connectDeadline, "a client to get in", func() bool {
		c, err := enter(n.plain, hello{id: "good"}, nil)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	t.Logf("a client got in after %v", time.Since(start).Round(time.Millisecond))
	b.leave(t, stormLimit)
}
