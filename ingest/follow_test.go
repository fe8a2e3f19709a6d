package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A slowReader reads a few records of another gateway's ledger at a time, and nothing
// before it is told to begin.
type slowReader struct {
	Reader

	begin chan struct{}

	mu    sync.Mutex
	order []tributary.LedgerID // which ledgers were read
}

func (r *slowReader) Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	if ledger == elsewhere {
		<-r.begin
	}
	c, err := r.Reader.Read(ctx, ledger, from, maxBytes)
	if n := min(len(c.Entries), 10); ledger == elsewhere {
		c.Entries = c.Entries[:n]
		c.Next = c.From + tributary.LSN(n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = append(r.order, ledger)
	return c, err
}

// readsBeyond returns how often the other gateway's ledger was read after this node's.
func (r *slowReader) readsBeyond() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(r.order, fakeLedger)
	if at < 0 {
		return -1
	}
	return len(r.order) - at - 1
}

// M1: however much another gateway has taken, subscribers here get at once what clients
// here publish, and a new subscription is answered. What is theirs stays in its order.
func TestFollowGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &slowReader{begin: make(chan struct{})}
		n := startNode(t, func(o *Options) { r.Reader, o.Reader = o.Reader, r })
		n.log.auto(t)
		far := pipe(t, n.Door).enter(dialled{id: "far"}).subscribe("far", 0)
		near := pipe(t, n.Door).enter(dialled{id: "near"}).subscribe("near", 0)
		var all []record.Record
		for i := range 1000 {
			all = append(all, published("far", fmt.Sprint(i), 0))
		}
		n.take(all...)
		synctest.Wait()
		pub := pipe(t, n.Door).enter(dialled{id: "pub"})
		pub.publish(1, 1, "near", "x")
		pub.want(0x40, 2, 0, 1)
		late := pipe(t, n.Door).enter(dialled{id: "late"})
		late.send(subscribePacket(false, 1, "far", 0)...)
		synctest.Wait()
		close(r.begin)
		near.wantMessage(delivered{topic: "near", payload: "x"})
		for i := range all {
			far.wantMessage(delivered{topic: "far", payload: fmt.Sprint(i)})
		}
		late.want(0x90, 3, 0, 1, 0)
		synctest.Wait()
		if got := r.readsBeyond(); got < 90 {
			t.Errorf("the other gateway's ledger was read %d times behind this node's", got)
		}
		if got := len(late.in); got < 900 {
			t.Errorf("a new subscriber got %d of what came behind its subscription", got)
		}
	})
}

// What other gateways take is bounded here in memory, whether subscribers read or not, or
// are away; and no publisher waits for them.
func TestFollowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, turns, size = 100, 50, 2000
		n := startNode(t, func(o *Options) { o.Sessions.MaxQueued = most })
		n.log.auto(t)
		for qos := range byte(3) {
			pipe(t, n.Door).enter(kept(fmt.Sprint("away", qos), true)).subscribe("t", qos).vanish()
			near, far := bufferedPipe()
			far.out.limit = 4096
			go n.EstablishConnection(far)
			_, _ = near.Write(append(connectPacket(dialled{id: fmt.Sprint("stalled", qos)}), subscribePacket(false, 1, "t", qos)...))
			defer func() { _ = near.Close() }()
		}
		synctest.Wait()
		pub := pipe(t, n.Door).enter(dialled{id: "pub"})
		turn := make([]record.Record, 100)
		for i := range turn {
			turn[i] = published("t", strings.Repeat("x", size), i%3)
		}
		before, start := heap(), time.Now()
		for i := range turns {
			n.take(turn...)
			pub.publish(1, uint16(i+1), "u", "")
			pub.want(0x40, 2, 0, byte(i+1))
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v: somebody waited", took)
		}
		synctest.Wait()
		if grown := heap() - before; grown > 16<<20 { // the records themselves are shared
			t.Errorf("%d MiB more", grown>>20)
		}
		n.out.mu.Lock()
		jobs := len(n.out.jobs)
		n.out.mu.Unlock()
		if s := n.Stats().Refused; jobs > 0 || s.QueueLost < 10_000 || s.FanoutLost == 0 {
			t.Errorf("%d jobs are left; %+v, want messages lost", jobs, s)
		}
		if owed := n.Owed()[elsewhere]; owed == 0 {
			t.Errorf("sessions are owed all since record %d", owed)
		}
	})
}

// BenchmarkFollow measures what a group of another gateway costs here while nobody
// subscribes to anything.
func BenchmarkFollow(b *testing.B) {
	l := &nullLog{}
	d, stop := benchDoor(b, l, l)
	defer stop()
	b.ReportAllocs()
	to := tributary.LSN(0)
	for b.Loop() {
		to += 100
		d.Follow(otherNode, elsewhere, 0, to)
	}
}
