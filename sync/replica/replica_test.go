package replica

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
)

// node is a gateway with a log and nothing else.
type node struct {
	*store.Log

	id   tributary.NodeID
	disk *disktest.Disk
	acks *Acks
	stop func()

	mu        sync.Mutex
	delivered tributary.LSN
	failed    []error
}

// Read implements Log.
func (n *node) Read(id tributary.LedgerID) (Reader, error) { return n.Reader(id) }

func one() int { return 1 }

func classify(err error) peer.Reason {
	var full *store.FullError
	switch {
	case errors.Is(err, store.ErrNotNext):
		return peer.Gap
	case errors.Is(err, store.ErrDiverged), errors.Is(err, store.ErrLive):
		return peer.Diverged
	case errors.As(err, &full):
		return peer.Full
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrClosed):
		return peer.Failed
	}
	return 0
}

func newNode(t *testing.T, id byte, d *disktest.Disk, opt store.Options, policy *Acks) *node {
	t.Helper()
	opt.SegmentBytes = 64 << 10
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 8 << 20
	}
	l, _, err := store.Open(d, opt)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Log: l, id: tributary.NodeID{id}, disk: d, acks: policy}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if n.acks != nil {
		n.acks.Deliver = n.deliver
		l.OnCommit(n.acks.Committed)
		running.Go(func() { n.acks.Run(ctx) })
	}
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Log("run:", err)
		}
	})
	n.stop = func() {
		cancel()
		running.Wait()
	}
	return n
}

// deliver checks that groups come in order.
func (n *node) deliver(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if base != n.delivered {
		n.failed = append(n.failed, fmt.Errorf("record %d is acknowledged, should be %d", base, n.delivered))
	}
	if err != nil {
		n.failed = append(n.failed, err)
	}
	n.delivered = base + tributary.LSN(len(tickets))
}

func (n *node) acknowledged() tributary.LSN {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.delivered
}

func (n *node) append(t *testing.T, records int) {
	t.Helper()
	for range records {
		r := &record.Record{Stream: "s", Key: []byte("device"), Value: fmt.Appendf(nil, "value %d of %v", n.Next(), n.id)}
		if _, err := n.Append(r, tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
	}
}

// link is a connection from one node to another: what the first writes is copied
// by the second.
type link struct {
	cut  func()
	sent chan error
	kept chan error
}

func connect(t *testing.T, s *site, from, to *node) *link {
	t.Helper()
	return connectWith(t, s, from, to, func(*Sender) {})
}

func connectWith(t *testing.T, s *site, from, to *node, change func(*Sender)) *link {
	t.Helper()
	a, b := net.Pipe()
	l := &link{sent: make(chan error, 1), kept: make(chan error, 1), cut: func() { _, _ = a.Close(), b.Close() }}
	go func() {
		c, err := peer.Accept(context.Background(), b, s.conf(t, to.id), peer.Hello{Site: "plant", Node: to.id}, nil)
		if err == nil {
			err = (&Keeper{Log: to, Classify: classify, Own: func(id tributary.LedgerID) bool { return id == to.Ledger() }}).Serve(context.Background(), c)
		}
		l.kept <- err
	}()
	c, err := peer.Client(context.Background(), a, s.conf(t, from.id), peer.Hello{Site: "plant", Node: from.id}, to.id)
	if err != nil {
		t.Fatal(err)
	}
	sender := Sender{
		Log: from, Wanted: func(tributary.LedgerID) bool { return true }, Acked: func(tributary.LedgerID) tributary.LSN { return 0 },
		Copied: func(id tributary.LedgerID, at tributary.LSN) {
			if from.acks != nil {
				from.acks.Copied(to.id, id, at)
			}
		},
		Diverged: func(id tributary.LedgerID, at tributary.LSN) { t.Errorf("ledger %v diverges at %d", id, at) },
		Status:   func() *peer.Status { return &peer.Status{} },
		Answer:   func(*peer.Hello, peer.Message) {},
	}
	if from.acks != nil {
		sender.Waits = from.acks.Waits
	}
	change(&sender)
	go func() { l.sent <- sender.Run(context.Background(), c) }()
	return l
}

func (l *link) end(t *testing.T) {
	t.Helper()
	l.cut()
	<-l.sent //nolint:errcheck // it was cut: they may say anything
	<-l.kept //nolint:errcheck // the same
}

type site struct{ *peer.Authority }

func (s *site) conf(t *testing.T, id tributary.NodeID) *tls.Config {
	t.Helper()
	cert, err := s.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	return s.Config(cert)
}

func newSite(t *testing.T) *site {
	t.Helper()
	a, err := peer.NewAuthority("plant")
	if err != nil {
		t.Fatal(err)
	}
	return &site{a}
}

// same checks that the copy that b holds of a's live ledger is the same as far as
// it goes, and goes to the end.
func same(t *testing.T, a, b *node) {
	t.Helper()
	id := a.Ledger()
	from, to, chain, held := b.Held(id)
	_, wantTo, wantChain, _ := a.Held(id)
	if !held || to != wantTo || chain != wantChain {
		t.Fatalf("the copy ends at %d with %016x, should at %d with %016x", to, chain, wantTo, wantChain)
	}
	read := func(n *node) (all []byte) {
		r, err := n.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for at := from; at < to; {
			c, err := r.Read(t.Context(), at, 1<<20)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || c.Gap != nil {
				t.Fatalf("from %d: %v, gap %v", at, err, c.Gap)
			}
			for i := range c.Entries {
				all = fmt.Appendf(all, "%d %s\n", c.Entries[i].LSN, c.Entries[i].Value)
			}
			at = c.Next
		}
		return all
	}
	if !bytes.Equal(read(a), read(b)) {
		t.Error("the copy has other records")
	}
}

// R2, D1: nothing is acknowledged before it is durable on the peer too; when the
// connection breaks, the copy goes on where it was.
func TestAcknowledgedMeansCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, &Acks{Copies: one})
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{}, nil)
		for round := range 5 {
			a.append(t, 40)
			synctest.Wait()
			if got := a.acknowledged(); got != tributary.LSN(100*round) {
				t.Fatalf("%d records are acknowledged without a peer, should be %d", got, 100*round)
			}
			l := connect(t, s, a, b)
			for range 6 {
				a.append(t, 10)
				b.append(t, 3)
				synctest.Wait()
				if _, to, _, _ := b.Held(a.Ledger()); to < a.acknowledged() {
					t.Fatalf("%d are acknowledged, the copy has %d", a.acknowledged(), to)
				}
			}
			synctest.Wait()
			if got := a.acknowledged(); got != tributary.LSN(100*(round+1)) {
				t.Fatalf("%d records are acknowledged, should be %d", got, 100*(round+1))
			}
			same(t, a, b)
			l.end(t)
		}
		if len(a.failed) > 0 {
			t.Error(errors.Join(a.failed...))
		}
		a.stop()
		b.stop()
	})
}

// A1: with peers missing, a node that accepts takes records after its grace, says
// that it is short, and is no longer once the copy has caught up; one that
// refuses waits.
func TestShortOfPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		var told []bool
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, &Acks{Copies: one, Accept: true, Short: func(short bool) { told = append(told, short) }})
		refuses := newNode(t, 0xc, disktest.New(1<<30), store.Options{}, &Acks{Copies: one})
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{}, nil)
		a.append(t, 10)
		refuses.append(t, 10)
		time.Sleep(4 * time.Second) //nolint:forbidigo // bubble time
		if a.acknowledged() != 0 {
			t.Error("acknowledged within the grace")
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // bubble time
		a.append(t, 5)
		synctest.Wait()
		if short, n := a.acks.State(); a.acknowledged() != 15 || !short || n != 15 {
			t.Errorf("%d acknowledged, short %v with %d", a.acknowledged(), short, n)
		}
		l := connect(t, s, a, b)
		synctest.Wait()
		a.append(t, 5)
		synctest.Wait()
		if short, n := a.acks.State(); a.acknowledged() != 20 || short || n != 15 {
			t.Errorf("%d acknowledged, short %v with %d", a.acknowledged(), short, n)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // bubble time
		if refuses.acknowledged() != 0 {
			t.Error("one that refuses has acknowledged without a copy")
		}
		if !slices.Equal(told, []bool{true, false}) {
			t.Errorf("told %v", told)
		}
		l.end(t)
		for _, n := range []*node{a, b, refuses} {
			n.stop()
		}
	})
}

// D2, R2: when a write fails here, what waits of the old ledger still needs its
// copy, and the new ledger is copied behind it.
func TestLedgerEndsWhileCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{}, nil)
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{}, nil)
		l := connect(t, s, a, b)
		a.append(t, 10)
		synctest.Wait()
		old := a.Ledger()
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
		if a.Ledger() == old {
			t.Fatal("the ledger goes on")
		}
		same(t, a, b)
		if _, to, _, _ := b.Held(old); to != 10 {
			t.Errorf("the copy of the old ledger ends at %d", to)
		}
		l.end(t)
		a.stop()
		b.stop()
	})
}

// R7, R13: a peer that comes late gets what is not in Kafka.
func TestPeerComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{MaxBytes: 256 << 10}, nil)
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{}, nil)
		var trimmed tributary.LSN
		for range 400 {
			a.append(t, 20)
			synctest.Wait()
			a.Forwarded(a.Ledger(), a.Durable()-5)
			r, _ := a.Reader(a.Ledger())
			trimmed = r.Base()
			r.Close()
		}
		if trimmed == 0 {
			t.Fatal("nothing was trimmed: the test is too short")
		}
		l := connect(t, s, a, b)
		synctest.Wait()
		same(t, a, b)
		if from, _, _, _ := b.Held(a.Ledger()); from < trimmed {
			t.Errorf("the copy begins at %d, the log at %d", from, trimmed)
		}
		l.end(t)
		a.stop()
		b.stop()
	})
}

// R12 (weakness 1 of the model's): devices that never rest do not keep a node short
// once its peer is back.
func TestShortUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := newNode(t, 0xa, disktest.New(1<<30), store.Options{MaxBytes: 64 << 20}, &Acks{Copies: one, Accept: true})
		b := newNode(t, 0xb, disktest.New(1<<30), store.Options{MaxBytes: 64 << 20}, nil)
		load := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				a.append(t, 1)
				time.Sleep(time.Millisecond) //nolint:forbidigo // bubble time
			}
		}
		load(6 * time.Second)
		if short, _ := a.acks.State(); !short {
			t.Fatal("it is not short without a peer")
		}
		l := connect(t, s, a, b)
		load(4 * time.Second)
		short, n := a.acks.State()
		load(time.Second)
		if _, now := a.acks.State(); short || now != n {
			t.Errorf("short %v, with a peer; unprotected %d, then %d", short, n, now)
		}
		l.end(t)
		a.stop()
		b.stop()
	})
}
