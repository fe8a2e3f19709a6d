package store

import (
	"cmp"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/segment"
)

// Behind returns how many records from LSN at on are held, or were: gone is how many
// of them were dropped.
func (i *LedgerInfo) Behind(at tributary.LSN) (held, gone tributary.LSN) {
	at = max(at, i.From)
	if at >= i.To {
		return 0, 0
	}
	if from := max(at, i.GapFrom); from < i.GapTo {
		gone = i.GapTo - from
	}
	return i.To - at - gone, gone
}

// LedgerInfo says what the log holds of one ledger: the records [From, To),
// perhaps with holes where a segment is damaged, and gaps of what was dropped.
type LedgerInfo struct {
	ID       tributary.LedgerID
	From, To tributary.LSN
	ToChain  uint64
	Live     bool // this process appends to it
	Copy     bool // another node wrote what is held, or has added to it in this process's time
	// The records [GapFrom, GapTo) were dropped, and Kafka has not been told, as far
	// as is known. Both are 0 when none were.
	GapFrom, GapTo tributary.LSN
}

// Ledgers returns the ledgers that have records here, or that Kafka has to be
// told of, oldest first. The live one is the last, once it has a durable record.
func (l *Log) Ledgers() []LedgerInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []LedgerInfo
	place := map[tributary.LedgerID]int{}
	note := func(id tributary.LedgerID, from, to tributary.LSN, chain uint64, foreign bool) {
		i, ok := place[id]
		if !ok {
			i = len(all)
			place[id] = i
			all = append(all, LedgerInfo{ID: id, From: from, Live: id == l.ledger, Copy: true})
		}
		all[i].From = min(all[i].From, from)
		all[i].Copy = all[i].Copy && (foreign || l.disowned[id])
		if to > all[i].To {
			all[i].To, all[i].ToChain = to, chain
		}
	}
	for i := range l.gaps.all {
		if g := &l.gaps.all[i]; l.forwarded[g.Ledger] < g.To {
			note(g.Ledger, g.From, g.To, g.ToChain, false)
			i := &all[place[g.Ledger]]
			if i.GapTo == 0 {
				i.GapFrom = g.From
			}
			i.GapTo = g.To
		}
	}
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			note(p.Ledger, p.From, p.To, p.ToChain, p.Copy)
		}
	}
	return all
}

// Wrote says whether this node has written a ledger: one of this process, or one that
// was here at Open and is no copy. It looks at no segment.
func (l *Log) Wrote(id tributary.LedgerID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, wrote := l.wrote[id]
	return wrote
}

// Writes says whether this process has written a ledger. It looks at no segment.
func (l *Log) Writes(id tributary.LedgerID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrote[id]
}

// base returns the oldest LSN that is held of a ledger, or known to be gone
// without Kafka having been told; held is false when there is none. Nothing is
// given up before Forwarded was told of it: what lies between that and the first
// record that is there is a hole.
func (l *Log) base(id tributary.LedgerID) (lsn tributary.LSN, held bool) {
	for _, i := range l.Ledgers() {
		if i.ID != id {
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if next, known := l.forwarded[id]; known && next < i.From {
			return next, true
		}
		return i.From, true
	}
	return 0, false
}

// where is the place of a record: in a segment, between two positions, or in a
// hole.
type where struct {
	name    string
	at      int64
	end     int64         // of the groups in the segment, now
	from    tributary.LSN // the span that has the record begins there
	to      tributary.LSN // the segment has the ledger's records up to there, or the hole ends there
	chain   uint64        // the ledger's chain at to
	first   int64         // log times of the segment, or of what was in the hole
	last    int64
	hole    bool
	dropped *gap
}

// find says where record lsn of a ledger is, or whether it is in a hole, was
// trimmed, or is not there yet.
func (l *Log) find(id tributary.LedgerID, lsn tributary.LSN) (w where, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.findLocked(id, lsn)
}

func (l *Log) findLocked(id tributary.LedgerID, lsn tributary.LSN) (w where, err error) {
	if g := l.gaps.at(id, lsn); g != nil && l.forwarded[id] < g.To {
		p := *g
		return where{hole: true, to: g.To, chain: g.ToChain, first: g.FirstMillis, last: g.LastMillis, dropped: &p}, nil
	}
	has, next := spot{}, spot{} // the span added last that has the record, and the nearest behind it
	first := true
	for _, s := range l.segs {
		for i := range s.sum.Spans {
			switch p := &s.sum.Spans[i]; {
			case p.Ledger != id:
			case p.To <= lsn:
				first = false
			case p.From <= lsn:
				has = spot{s, i}
			case next.seg == nil || p.From < next.span().From:
				next = spot{s, i}
			}
		}
	}
	switch {
	case has.seg != nil:
		s, p := has.seg, has.span()
		return where{
			name: s.name, at: s.sum.Seek(has.index, lsn), end: s.sum.End, from: p.From, to: p.To, chain: p.ToChain,
			first: s.sum.MinMillis, last: s.sum.MaxMillis,
		}, nil
	case next.seg != nil && first && lsn < l.forwarded[id]:
		return w, ErrTrimmed
	case next.seg != nil:
		s, p := next.seg, next.span()
		return where{hole: true, to: p.From, chain: p.FromChain, first: s.sum.MinMillis, last: s.sum.MaxMillis}, nil
	}
	if first && lsn < l.forwarded[id] {
		return w, ErrTrimmed
	}
	for i := range l.gaps.all { // damaged before the rest was dropped
		if g := &l.gaps.all[i]; first && g.Ledger == id && lsn < g.From {
			return where{hole: true, to: g.From, chain: g.FromChain, first: g.FirstMillis, last: g.LastMillis}, nil
		}
	}
	return w, errNotYet
}

// A spot is a span of a segment.
type spot struct {
	seg   *seg
	index int
}

func (s spot) span() *segment.Span { return &s.seg.sum.Spans[s.index] }

// A Hole is a stretch of a ledger that the disk has damaged: the records
// [From, To) can no longer be read.
type Hole struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN
}

// Holes returns the holes that are known: recovery finds those of unsealed
// segments, readers find the others. What a copy lacks because Kafka had it when more
// came is no damage, as far as Kafka is known to be.
func (l *Log) Holes() []Hole {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holesLocked(false)
}

// Missing returns what can be taken from another node's copy: the holes above what
// Kafka is known to have, and what lies between that and the first record that is
// here of a ledger.
func (l *Log) Missing() []Hole {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missingLocked()
}

func (l *Log) missingLocked() []Hole {
	all := l.holesLocked(true)
	for i := range all {
		all[i].From = max(all[i].From, l.forwarded[all[i].Ledger])
	}
	return slices.DeleteFunc(all, func(h Hole) bool { return h.From >= h.To })
}

// holesLocked returns the holes that are known, and on request what is not here of
// the beginnings of ledgers.
func (l *Log) holesLocked(beginnings bool) []Hole {
	all := slices.Clone(l.holes)
	spans := map[tributary.LedgerID][]*segment.Span{}
	var order []tributary.LedgerID
	for _, s := range l.segs {
		for i := range s.sum.Spans {
			p := &s.sum.Spans[i]
			if spans[p.Ledger] == nil {
				order = append(order, p.Ledger)
			}
			spans[p.Ledger] = append(spans[p.Ledger], p)
		}
	}
	for _, id := range order {
		slices.SortStableFunc(spans[id], func(a, b *segment.Span) int { return cmp.Compare(a.From, b.From) })
		to := spans[id][0].From
		if beginnings {
			to = 0
		}
		for _, p := range spans[id] {
			skipped := p.Copy && p.From <= l.forwarded[id]
			if h := (Hole{id, to, p.From}); to < p.From && !skipped && !slices.Contains(all, h) {
				all = append(all, h)
			}
			to = max(to, p.To)
		}
	}
	return all
}

// maxHoles bounds what readers note.
const maxHoles = 1000

// noteHole remembers what a reader has found.
func (l *Log) noteHole(h Hole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.holes) < maxHoles && !slices.Contains(l.holes, h) {
		l.holes = append(l.holes, h)
	}
}

// filled takes the records [from, to) of a ledger out of the holes that readers have
// noted. The caller has mu.
func (l *Log) filled(id tributary.LedgerID, from, to tributary.LSN) {
	var rest []Hole
	for _, h := range l.holes {
		if h.Ledger != id || to <= h.From || h.To <= from {
			rest = append(rest, h)
			continue
		}
		if h.From < from {
			rest = append(rest, Hole{id, h.From, from})
		}
		if to < h.To {
			rest = append(rest, Hole{id, to, h.To})
		}
	}
	l.holes = rest
}

// Newest returns the log time, in Unix milliseconds, of the newest segment
// that holds records of a ledger: none of its groups is younger.
func (l *Log) Newest(id tributary.LedgerID) (millis int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			if p.Ledger == id {
				millis = s.sum.MaxMillis
			}
		}
	}
	return millis
}
