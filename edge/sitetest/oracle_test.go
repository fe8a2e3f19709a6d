package sitetest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/log/store"
)

// An oracle knows what devices have sent and been told.
type oracle struct {
	mu       sync.Mutex
	readings map[string]*reading // by value
	acked    int
}

// claims are the media that counted for an acknowledgement.
type claims []*medium

// excused says whether all of them are lost.
func (c claims) excused(acked time.Time) bool {
	return !slices.ContainsFunc(c, func(m *medium) bool { return !m.lost || acked.Before(m.from) })
}

func (o *oracle) begin(r *reading) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readings[r.value()] = r
}

// A moment is what an acknowledgement would be worth at some time.
type moment struct {
	process *process
	media   claims // of the host, and of the others
	shorts  int
	short   bool
	ending  bool
}

// has says whether all of some media are there; there may be more, of a gateway that has joined.
func (m *moment) has(all claims) bool {
	return !slices.ContainsFunc(all, func(c *medium) bool { return !slices.Contains(m.media, c) })
}

// moment returns that of now.
func (h *host) moment() (m moment) {
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	m.media = claims{h.medium}
	for _, o := range h.site.hosts {
		if o != h && !o.gone && o.id != h.id {
			m.media = append(m.media, o.medium)
		}
	}
	if m.process = h.process; m.process != nil {
		m.process.mu.Lock()
		defer m.process.mu.Unlock()
		m.shorts, m.short, m.ending = m.process.shorts, m.process.short, m.process.ending
	}
	return m
}

// acknowledged notes that a device was told that a host has its message. began is
// from before it was sent.
func (o *oracle) acknowledged(r *reading, h *host, began moment) {
	now := h.moment()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked++
	r.acked = time.Now()
	select {
	case h.acked <- struct{}{}:
	default:
	}
	r.claims = claims{began.media[0]}
	steady := began.process == now.process && !now.short && !now.ending && began.shorts == now.shorts && !began.short && now.has(began.media)
	switch {
	case !steady || h.site.copies == 0:
	case len(now.media) == h.site.copies+1:
		r.claims = now.media
	default:
		r.claims = append(r.claims, h.counted()...)
	}
}

// counted returns the media of the peers whose copies count, as the node says.
func (h *host) counted() (all claims) {
	n := h.opened()
	if n == nil {
		return nil
	}
	r := n.Report()
	peers := r.Gateways.Peers
	slices.SortStableFunc(peers, func(a, b statusPeer) int { return int(b.Copied) - int(a.Copied) })
	for _, p := range peers[:min(h.site.copies, len(peers))] {
		if m := h.site.mediumOf(p.Node); m != nil {
			all = append(all, m)
		}
	}
	return all
}

// mediumOf returns the disk of a node, or nil if it was wiped, or there are two of it.
func (s *site) mediumOf(id string) (m *medium) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, o := range s.hosts {
		if o.id.String() == id {
			m = o.medium
			n++
		}
	}
	if n > 1 {
		return nil
	}
	return m
}

// check looks at Kafka and at all disks, when everything has come to its end.
func (s *site) check() {
	all := s.kafka.read(dataTopic)
	s.checkOnce(all)
	s.checkReadings(all)
	for ledger, positions := range s.kafka.positions() {
		if !slices.IsSorted(positions) {
			s.fail("I8: the positions of ledger %s were %v", ledger, positions)
		}
	}
	s.checkCopies(all)
}

// checkOnce checks I2: each record is there once, and nothing that nobody sent.
func (s *site) checkOnce(all []stored) {
	seen := map[string]stored{}
	for _, r := range all {
		if s.oracle.readings[r.value] == nil {
			s.fail("I7: %q is in Kafka, and no device has sent it", r.value)
		}
		id := r.ledger + "/" + r.lsn
		if was, twice := seen[id]; twice {
			s.fail("I2: record %s is in Kafka twice: %+v and %+v", id, was, r)
		}
		seen[id] = r
	}
}

// checkReadings checks I1, that nothing is lost, I3, that devices that stay are in
// order, and I9, for them too.
func (s *site) checkReadings(all []stored) {
	times := map[*reading]int{}
	last := map[*device]*reading{}
	for _, at := range all {
		r := s.oracle.readings[at.value]
		if r == nil {
			continue
		}
		if times[r]++; times[r] > 1 {
			continue
		}
		if was := last[r.device]; was != nil && was.seq > r.seq && r.device.isSteady() {
			s.fail("I3: %s comes after %s", r.value(), was.value())
		}
		last[r.device] = r
	}
	for _, r := range s.oracle.readings {
		n := times[r]
		switch {
		case n == 0 && !r.acked.IsZero() && !r.claims.excused(r.acked):
			s.fail("I1: %q was acknowledged at %v by %s and is not in Kafka", r.value(), r.acked.Sub(s.began), r.sent[len(r.sent)-1].to.name)
		case n == 0 && !r.acked.IsZero():
			s.did.excused++
		case n > max(1, len(r.sent)):
			s.fail("I2: %q is in Kafka %d times, and was sent %d times", r.value(), n, len(r.sent))
		case n > 1 && r.device.qos == 2 && r.device.isSteady():
			s.fail("I9: %q, of QoS 2, is in Kafka %d times", r.value(), n)
		case n > 1:
			s.did.twice++
		}
	}
}

// isSteady says whether a device has always been at one gateway, which has kept its disk.
func (d *device) isSteady() bool { return d.home != nil && !d.home.mixed }

// checkCopies checks I7: whatever is held of a ledger is the same everywhere, in Kafka too.
func (s *site) checkCopies(all []stored) {
	sums := map[string]uint64{}
	for _, h := range s.hosts {
		if h.gone {
			continue
		}
		l, _, err := store.Open(h.disk.Kill(), store.Options{SegmentBytes: segmentBytes, MaxBytes: logBytes})
		if err != nil {
			s.fail("the log of %s cannot be opened: %v", h.name, err)
			continue
		}
		for _, i := range l.Ledgers() {
			s.must(s.compare(l, i, sums))
		}
	}
	for _, r := range all {
		if sum, held := sums[r.ledger+"/"+r.lsn]; held && sum != sumOf(r.key, r.value) {
			s.fail("I7: record %s/%s in Kafka is not the one that a gateway holds", r.ledger, r.lsn)
		}
	}
}

func sumOf(key, value string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, key+"\x00"+value) // never fails
	return h.Sum64()
}

// compare adds what a log holds of a ledger to sums, or finds that it is another.
func (s *site) compare(l *store.Log, i store.LedgerInfo, sums map[string]uint64) error {
	r, err := l.Reader(i.ID)
	if err != nil {
		return err
	}
	defer r.Close()
	for at := max(i.From, r.Base()); at < i.To; {
		c, err := r.Read(context.Background(), at, 1<<20)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ledger %v from %d: %w", i.ID, at, err)
		}
		chain := fmt.Sprintf("%v#%d", i.ID, c.Next)
		if was, seen := sums[chain]; seen && was != c.Chain {
			s.fail("I7: the chain of ledger %v at %d is %x and %x", i.ID, c.Next, was, c.Chain)
		}
		sums[chain] = c.Chain
		for n := range c.Entries {
			e := &c.Entries[n]
			id, sum := fmt.Sprintf("%v/%d", i.ID, e.LSN), sumOf(string(e.Key), string(e.Value))
			if was, seen := sums[id]; seen && was != sum {
				s.fail("I7: record %s differs between two gateways", id)
			}
			sums[id] = sum
		}
		at = c.Next
	}
	return nil
}
