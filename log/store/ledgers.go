package store

import "github.com/tributary-edge/tributary"

// LedgerInfo says what the log holds of one ledger: the records [From, To),
// perhaps with holes where a segment is damaged.
type LedgerInfo struct {
	ID       tributary.LedgerID
	From, To tributary.LSN
	ToChain  uint64
	Live     bool // this process appends to it
}

// Ledgers returns the ledgers that have records here, oldest first. The live
// one is the last, once it has a durable record.
func (l *Log) Ledgers() []LedgerInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []LedgerInfo
	place := map[tributary.LedgerID]int{}
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			i, ok := place[p.Ledger]
			if !ok {
				i = len(all)
				place[p.Ledger] = i
				all = append(all, LedgerInfo{ID: p.Ledger, From: p.From, Live: p.Ledger == l.ledger})
			}
			all[i].To, all[i].ToChain = p.To, p.ToChain
		}
	}
	return all
}

// base returns the oldest LSN that is held of a ledger; held is false when none is.
func (l *Log) base(id tributary.LedgerID) (lsn tributary.LSN, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			if p.Ledger == id {
				return p.From, true
			}
		}
	}
	return 0, false
}

// where is the place of a record: in a segment, between two positions.
type where struct {
	seq uint64
	at  int64
	end int64         // of the groups in the segment, now
	to  tributary.LSN // the segment has the ledger's records up to there, without a hole
}

// find says where record lsn of a ledger is, or whether it is in a hole, was
// trimmed, or is not there yet.
func (l *Log) find(id tributary.LedgerID, lsn tributary.LSN) (w where, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := true
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			switch {
			case p.Ledger != id:
				continue
			case lsn < p.From && first && lsn < l.forwarded[id]:
				return w, ErrTrimmed
			case lsn < p.From:
				return w, &HoleError{Ledger: id, From: lsn, To: p.From}
			case lsn < p.To:
				return where{seq: s.seq, at: s.sum.Seek(id, lsn), end: s.sum.End, to: p.To}, nil
			}
			first = false
		}
	}
	if first && lsn < l.forwarded[id] {
		return w, ErrTrimmed
	}
	return w, errNotYet
}

// Newest returns the wall clock, in Unix milliseconds, of the newest segment
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
