package replica

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
)

// endless is a node with a ledger of another one that has no end.
type endless struct{ *node }

type endlessReader struct {
	Reader

	all []group.Sealed
}

func (e endless) Read(tributary.LedgerID) (Reader, error) {
	r, err := e.Reader(e.Ledger())
	return &endlessReader{Reader: r}, err
}

func (r *endlessReader) Sealed(ctx context.Context, _ tributary.LSN, most int) (all []group.Sealed, err error) {
	if len(r.all) == 0 {
		r.all, err = r.Reader.Sealed(ctx, 0, most)
	}
	return r.all, err
}

// A1: while a peer is given a long ledger that it has asked for, it is answered, or the
// devices of both would wait. That it asks for it again and again makes no difference.
func TestPullHoldsNothingUp(t *testing.T) {
	s := newSite(t)
	n := newNode(t, 1, disktest.New(16<<20), store.Options{}, nil)
	defer n.stop()
	n.append(t, 10)
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() {
		c, err := peer.Accept(t.Context(), b, s.conf(t, n.id), peer.Hello{Site: "plant", Node: n.id}, nil)
		if err == nil {
			err = (&Keeper{Log: endless{n}, Classify: classify}).Serve(t.Context(), c)
		}
		done <- err
	}()
	two := tributary.NodeID{2}
	c, err := peer.Client(t.Context(), a, s.conf(t, two), peer.Hello{Site: "plant", Node: two}, n.id)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range maxPulls + 10 {
			_ = c.Send(&peer.Pull{Ledger: tributary.LedgerID{7}}) // the answers show it
		}
		_ = c.Send(&peer.Status{SentMillis: 5})
		_ = c.Flush()
	}()
	for pulled := 0; ; {
		m, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, is := m.(*peer.Pulled); is {
			pulled++
		}
		if _, is := m.(*peer.Echo); is {
			break
		}
		if pulled > 100_000 {
			t.Fatal("there is no answer to a Status")
		}
	}
	_ = c.Close()
	<-done //nolint:errcheck // the connection was cut: it may say anything
}

// A1, D2: a write fails while a peer is away that devices wait for. When it is back it
// gets the rest of the ledger that has ended, and then the next one: nobody waits for
// ever.
func TestLedgerEndsWithoutPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, &Acks{Copies: one})
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{}, nil)
		a.append(t, 10)
		synctest.Wait()
		var once sync.Once
		a.disk.Fail(func(op disktest.Op) (err error) {
			if op.Kind == "sync" {
				once.Do(func() { err = errors.New("flash is worn") })
			}
			return err
		})
		a.append(t, 1)
		synctest.Wait()
		a.append(t, 10)
		synctest.Wait()
		l := connect(t, s, a, b)
		time.Sleep(5 * time.Second) //nolint:forbidigo // bubble time
		if id, waits := a.acks.Waits(); waits {
			t.Errorf("devices wait for copies of ledger %v; the live one is %v", id, a.Ledger())
		}
		l.end(t)
		a.stop()
		b.stop()
	})
}

// R34: a peer that has no room for copies goes on to speak; when it has room again, the
// copy goes on.
func TestPeerIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, &Acks{Copies: one})
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{MaxBytes: 256 << 10, CopyReserve: 64 << 10}, nil)
		full := 0
		l := connectWith(t, s, a, b, func(sender *Sender) { sender.Full = func(tributary.LedgerID) { full++ } })
		for range 300 {
			a.append(t, 20)
			synctest.Wait()
		}
		time.Sleep(time.Minute) //nolint:forbidigo // bubble time
		_, to, _, _ := b.Held(a.Ledger())
		if to == a.Durable() || full == 0 || full > 10 {
			t.Fatalf("the copy has %d of %d records; it was full %d times", to, a.Durable(), full)
		}
		for to < a.Durable() {
			b.Forwarded(a.Ledger(), to)
			time.Sleep(time.Minute) //nolint:forbidigo // bubble time
			_, more, _, _ := b.Held(a.Ledger())
			if more == to {
				t.Fatalf("the copy does not go on behind record %d", to)
			}
			to = more
		}
		select {
		case err := <-l.sent:
			t.Fatal("the connection has ended:", err)
		default:
		}
		l.end(t)
		a.stop()
		b.stop()
	})
}

// R26: it is noticed at once that a process has ended, by its connection: not that this node
// has closed one, nor that one of two has ended.
func TestLeft(t *testing.T) {
	s := newSite(t)
	one, two := tributary.NodeID{1}, tributary.NodeID{2}
	left := make(chan tributary.NodeID, 10)
	k := &Keeper{Log: nil, Status: func(*peer.Hello, *peer.Status) {}, Left: func(n tributary.NodeID) { left <- n }}
	ended := make(chan bool, 1)
	connect := func() *peer.Conn {
		a, b := net.Pipe()
		go func() {
			if c, err := peer.Accept(t.Context(), b, s.conf(t, one), peer.Hello{Site: "plant", Node: one}, nil); err == nil {
				_ = k.Serve(t.Context(), c) // how it ends is not what this is about
			}
			ended <- true
		}()
		c, err := peer.Client(t.Context(), a, s.conf(t, two), peer.Hello{Site: "plant", Node: two}, one)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := connect(), connect()
	for k.count() < 2 {
		runtime.Gosched()
	}
	_ = first.Close()
	<-ended
	if len(left) > 0 {
		t.Error("it has another connection")
	}
	_ = second.Close()
	<-ended
	if got := <-left; got != two {
		t.Errorf("%v has left", got)
	}
	third := connect()
	go func() { _, _ = third.Receive() }() // hears that it is closed
	for k.count() < 1 {
		runtime.Gosched()
	}
	if err := k.Cut(t.Context(), func(*peer.Hello) bool { return true }); err != nil {
		t.Fatal(err)
	}
	<-ended
	if len(left) > 0 {
		t.Error("this node has closed the connection")
	}
	_ = third.Close()
}

func (k *Keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}
