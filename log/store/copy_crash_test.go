package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// D1, D2, D3, L1, R1: TestCrash, with copies of what other nodes write in the same
// segments: what was said to be durable of a copy is there, the same, and nothing
// else is.
//
//	SEED=7 go test -run TestCrashWithCopies ./log/store/
func TestCrashWithCopies(t *testing.T) {
	eachSeed(t, 1000, func(seed uint64) (figures, error) { return crashWithCopies(seed, byHand) })
}

// D1, D2, D3, L1, R1: the same with the log's own goroutines.
func TestCrashWithCopiesWhileRunning(t *testing.T) {
	for seed := range seeds(t, 30) {
		synctest.Test(t, func(t *testing.T) {
			if _, err := crashWithCopies(seed, byRun); err != nil {
				t.Errorf("%v\n%s", err, again(t, seed))
			}
		})
	}
}

func crashWithCopies(seed uint64, by driving) (figures, error) {
	w := newWorld(rand.New(rand.NewPCG(seed, 1)))
	w.opt.CopyReserve = w.rng.Int64N(3) * w.opt.SegmentBytes / 2
	for range 1 + w.rng.IntN(2) {
		w.peers = append(w.peers, w.newPeer())
	}
	for life := range 2 + w.rng.IntN(2) {
		if err := w.live(by); err != nil {
			return w.did, fmt.Errorf("process %d: %w", life+1, err)
		}
	}
	_, err := w.open()
	return w.did, err
}

// A peer is another node, as far as its ledger goes.
type peer struct {
	*history

	groups []group.Group
	next   group.Header // of what it will write
}

func (w *world) newPeer() *peer {
	var id tributary.LedgerID
	for i := range id {
		id[i] = byte(w.rng.Uint32())
	}
	p := &peer{history: w.begin(id), next: group.Header{Ledger: id}}
	p.peer = true
	return p
}

// write has the peer write another group.
func (p *peer) write(w *world) {
	var b group.Builder
	b.Reset(p.next.Base)
	for range 1 + w.rng.IntN(4) {
		r := w.record()
		r.Value = r.Value[:min(len(r.Value), 500)]
		b.Add(r, r.Millis, p.offsets[partition{r.Stream, r.Partition}])
		p.add(r)
	}
	h := p.next
	h.Millis += w.rng.Int64N(1 << 40)
	h.Trusted = w.rng.IntN(2) == 0
	out, f := b.Seal(&h, nil)
	s, err := group.Prove(f.Codec, slices.Clone(out[group.FrameBytes:][:f.Bytes]), nil)
	if err != nil {
		panic(err)
	}
	p.groups = append(p.groups, group.Group{Header: s.Header, Body: s.Bytes[group.HeaderBytes:]})
	p.next = group.Header{Ledger: h.Ledger, Number: h.Number + 1, Base: h.Next(), PrevChain: h.Chain(), Millis: h.Millis}
}

// send returns the group at n, or now and then a pack of it and those behind it.
func (p *peer) send(w *world, n int) group.Sealed {
	if w.rng.IntN(3) > 0 {
		return p.groups[n].Raw()
	}
	enc, err := newPackEncoder()
	if err != nil {
		panic(err)
	}
	var k group.Packer
	for i := range p.groups[n:min(len(p.groups), n+3)] {
		if added, err := k.Add(&p.groups[n+i]); err != nil || !added {
			panic(fmt.Sprint("a group cannot be packed: ", err))
		}
	}
	out, f, h := k.Seal(enc)
	return group.Sealed{Header: h, Codec: f.Codec, Bytes: slices.Clone(out[group.FrameBytes:][:f.Bytes])}
}

// replicate has a peer send some of its ledger.
func (w *world) replicate(p *process) {
	o := w.peers[w.rng.IntN(len(w.peers))]
	for range 1 + w.rng.IntN(3) {
		o.write(w)
	}
	if w.rng.IntN(6) == 0 { // it forwards its ledger itself
		o.forwarded = max(o.forwarded, o.groups[w.rng.IntN(len(o.groups))].Base)
		p.Forwarded(o.id, o.forwarded)
	}
	for range 1 + w.rng.IntN(4) {
		if p.ended() {
			return
		}
		from, _, held := p.CopyEnd(o.id)
		n := slices.IndexFunc(o.groups, func(g group.Group) bool { return g.Base == from })
		if behind := slices.IndexFunc(o.groups, func(g group.Group) bool { return g.Next() > o.forwarded }); !held || n >= 0 && n < behind && w.rng.IntN(2) == 0 {
			n = max(n, behind) // all before it is in Kafka
		}
		if n < 0 || o.groups[n].Base > o.forwarded && (!held || o.groups[n].Base > from) {
			return
		}
		s := o.send(w, n)
		if p.by == byHand {
			p.makeRoomForCopy(&s)
		}
		err := p.AppendCopy(&s, func(err error) {
			if err == nil {
				o.promise(s.Next())
			}
		})
		switch {
		case err == nil:
		case errors.As(err, new(*FullError)), errors.As(err, new(*TooLargeError)):
			return
		case errors.Is(err, ErrNotNext) && from != p.copyEnd(o.id): // a write has failed meanwhile
			return
		case !p.ended():
			p.report(fmt.Errorf("R1: append to a copy that ends at %d what begins at %d: %w", from, s.Base, err))
			return
		}
	}
}

func (p *process) copyEnd(id tributary.LedgerID) tributary.LSN {
	next, _, _ := p.CopyEnd(id)
	return next
}

// makeRoomForCopy does what AppendCopy would otherwise wait for.
func (p *process) makeRoomForCopy(s *group.Sealed) {
	if len(p.copies) > 0 && p.copyBytes+int64(group.PaddedBytes(p.gather.Bytes())+group.PaddedBytes(len(s.Bytes))) > p.capacity() {
		p.commit()
	}
	if p.failed == nil {
		p.stock()
	}
}
