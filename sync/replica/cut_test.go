package replica

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
)

// serve has a Keeper serve a peer, which the test plays.
func serve(t *testing.T, s *site, k *Keeper, self tributary.NodeID, nonce uint64) (c *peer.Conn, done chan error) {
	t.Helper()
	a, b := net.Pipe()
	done = make(chan error, 1)
	go func() {
		c, err := peer.Accept(context.Background(), b, s.conf(t, self), peer.Hello{Site: "plant", Node: self}, nil)
		if err == nil {
			err = k.Serve(context.Background(), c)
		}
		done <- err
	}()
	id := tributary.NodeID{0xb}
	c, err := peer.Client(context.Background(), a, s.conf(t, id), peer.Hello{Site: "plant", Node: id, Nonce: nonce}, self)
	if err != nil {
		t.Fatal(err)
	}
	return c, done
}

// R17, R42: after Cut nothing is taken any more of what the peer had under way, and who
// is not meant speaks on.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, nil)
		var heard [3]atomic.Int32 // by nonce
		k := &Keeper{Log: n, Classify: classify, Status: func(from *peer.Hello, _ *peer.Status) { heard[from.Nonce].Add(1) }}
		old, oldDone := serve(t, s, k, n.id, 1)
		other, otherDone := serve(t, s, k, n.id, 2)
		say := func(c *peer.Conn) error { return errors.Join(c.Send(&peer.Status{SentMillis: 1}), c.Flush()) }
		if err := errors.Join(say(old), say(other)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*peer.Conn{old, other} {
			if _, err := c.Receive(); err != nil {
				t.Fatal(err)
			}
		}
		if err := k.Cut(t.Context(), func(h *peer.Hello) bool { return h.Nonce == 1 }); err != nil {
			t.Fatal(err)
		}
		if err := say(old); err == nil {
			t.Error("the peer still speaks")
		}
		if err := say(other); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if old, other := heard[1].Load(), heard[2].Load(); old != 1 || other != 2 {
			t.Errorf("heard %d and %d", old, other)
		}
		if err := <-oldDone; err == nil {
			t.Error("it ended as if the peer had left")
		}
		_ = other.Close()
		if err := <-otherDone; err != nil {
			t.Error(err)
		}
		n.stop()
	})
}

// R42: what a peer asks is answered while it says other things, once for each try, and
// no more at a time than there may be.
func TestAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		n := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, nil)
		var asked atomic.Int32
		free := make(chan struct{})
		k := &Keeper{
			Log: n, Classify: classify,
			Asked: func(_ context.Context, from *peer.Hello, m peer.Message) peer.Message {
				asked.Add(1)
				<-free
				if c, is := m.(*peer.Close); is && from.Nonce == 7 {
					return &peer.Closed{Try: c.Try}
				}
				return nil
			},
			Promise: func(e *peer.Echo) { e.SlackMillis, e.Copies = 3000, 1 },
		}
		c, done := serve(t, s, k, n.id, 7)
		for range 3 {
			for try := range uint64(mostAsked + 5) {
				if err := c.Send(&peer.Close{Try: try}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(c.Send(&peer.Status{SentMillis: 9}), c.Flush()); err != nil {
			t.Fatal(err)
		}
		m, err := c.Receive()
		if e, is := m.(*peer.Echo); err != nil || !is || *e != (peer.Echo{SentMillis: 9, SlackMillis: 3000, Copies: 1}) {
			t.Fatalf("%+v, %v", m, err)
		}
		synctest.Wait()
		if n := asked.Load(); n != mostAsked {
			t.Errorf("%d questions at a time, should be %d", n, mostAsked)
		}
		close(free)
		tries := map[uint64]bool{}
		for range mostAsked {
			m, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if m, is := m.(*peer.Closed); is {
				tries[m.Try] = true
			}
		}
		if len(tries) != mostAsked {
			t.Errorf("answers to %d tries", len(tries))
		}
		_ = c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		n.stop()
	})
}

// R44: a node promises for how long it waits for copies. After it has acknowledged alone
// it promises nothing until that is safe.
func TestSlack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := tributary.LedgerID{1}, tributary.NodeID{0xb}
		position := tributary.LSN(0)
		a := &Acks{Copies: one, Accept: true, Deliver: func(tributary.LedgerID, tributary.LSN, []tributary.Ticket, error) {}}
		slack := func() time.Duration { return a.Slack(func(tributary.LedgerID) tributary.LSN { return position }) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.Run(ctx) }()
		want := func(what string, d time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := slack(); got != d {
				t.Errorf("%s: %v, should be %v", what, got, d)
			}
		}
		want("nothing waits", defaultGrace)
		a.Committed(l, 0, make([]tributary.Ticket, 2), nil)
		time.Sleep(2 * time.Second) //nolint:forbidigo // bubble time
		want("for two seconds", defaultGrace-2*time.Second)
		a.Copied(b, l, 2)
		want("it has a copy", defaultGrace)
		a.Committed(l, 2, make([]tributary.Ticket, 2), nil)
		time.Sleep(6 * time.Second) //nolint:forbidigo // bubble time
		want("short", 0)
		a.Copied(b, l, 3)           // as far as it needs not to be short any more, perhaps
		time.Sleep(3 * time.Second) //nolint:forbidigo // bubble time
		want("one is in danger", 0)
		a.Copied(b, l, 4)
		want("all is safe", defaultGrace)
		a.Committed(l, 4, make([]tributary.Ticket, 1), nil)
		time.Sleep(6 * time.Second) //nolint:forbidigo // bubble time
		a.Committed(l, 5, make([]tributary.Ticket, 1), nil)
		a.Copied(b, l, 4)
		position = 6
		want("short still", 0)
		cancel()
		<-done
	})
}
