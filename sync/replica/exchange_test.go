package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
)

// S1: strangers at many addresses, who connect and say nothing, do not shut a node of
// the site out.
func TestStrangersTakeNoPlace(t *testing.T) {
	s := newSite(t)
	n := newNode(t, 1, disktest.New(16<<20), store.Options{}, nil)
	defer n.stop()
	const at = "127.0.1.2" // of the peer
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &Exchange{
		Self: peer.Hello{Site: "plant", Node: n.id}, Config: s.conf(t, n.id), Listener: listener,
		Nodes: func() []Node { return nil }, Known: func(host string) bool { return host == at },
		Admit:  func(*peer.Hello) (bool, error) { return true, nil },
		Keeper: &Keeper{Log: n, Classify: classify, Own: func(tributary.LedgerID) bool { return false }},
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- x.Run(ctx) }()
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for host := range 80 {
		for range mostWaitingAddress {
			dial(fmt.Sprintf("127.0.2.%d", 1+host))
		}
	}
	turnedAway := dial("127.0.3.1")
	if err := turnedAway.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := turnedAway.Read(make([]byte, 1)); n > 0 || err == nil || isTimeout(err) {
		t.Fatalf("a stranger more is let in: %v", err)
	}
	two := tributary.NodeID{2}
	c, err := peer.Client(ctx, dial(at), s.conf(t, two), peer.Hello{Site: "plant", Node: two}, n.id)
	if err != nil {
		t.Fatalf("a node of the site is shut out: %v", err)
	}
	_ = c.Close()
	_ = listener.Close()
}

// A node that was away for long is dialed at once when it dials: without that it stays
// silent for a hand-off while this node waits to try again.
func TestWhoDialsIsDialedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := newNode(t, 1, disktest.New(16<<20), store.Options{}, nil)
		defer n.stop()
		two := tributary.NodeID{2}
		incoming, dialed := make(pipes), make(chan time.Time)
		x := &Exchange{
			Self: peer.Hello{Site: "plant", Node: n.id}, Config: s.conf(t, n.id), Listener: incoming,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				dialed <- time.Now()
				return nil, errors.New("the cable is out")
			},
			Nodes:  func() []Node { return []Node{{ID: two, Address: "two"}} },
			Admit:  func(*peer.Hello) (bool, error) { return true, nil },
			Keeper: &Keeper{Log: n, Classify: classify, Own: func(tributary.LedgerID) bool { return false }},
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go func() { _ = x.Run(ctx) }()
		for range 10 { // until this node tries but rarely
			<-dialed
		}
		near, far := net.Pipe()
		incoming <- far
		c, err := peer.Client(ctx, near, s.conf(t, two), peer.Hello{Site: "plant", Node: two}, n.id)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		came := time.Now()
		if waited := (<-dialed).Sub(came); waited > 0 {
			t.Errorf("who has dialed was dialed back after %v, should be at once", waited)
		}
	})
}

// pipes is a listener that hands out what it is sent.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c := <-p; c != nil {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func isTimeout(err error) bool {
	n, is := err.(net.Error) //nolint:errorlint // of a read
	return is && n.Timeout()
}
