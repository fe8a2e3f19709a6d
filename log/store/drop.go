package store

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// dropOldest takes the oldest segment out of the log if that is the policy. What
// was in it and is not in Kafka is remembered first, durably: nothing goes in
// silence (U4).
func (l *Log) dropOldest() (name string, ok bool, err error) {
	l.mu.Lock()
	if !l.opt.DropOldest || l.packing || len(l.segs) == 0 || !l.segs[0].sealed || l.segs[0].pinned {
		l.mu.Unlock()
		return "", false, nil
	}
	s := l.segs[0]
	s.pinned = true
	l.mu.Unlock()

	gone, records, err := l.census(s)
	if unreadable(err) { // once may be chance
		if gone, records, err = l.census(s); unreadable(err) {
			err = nil
		}
	}
	var all []gap
	if err == nil {
		all = l.gapsWith(gone)
		err = l.gaps.save(l.fs, all)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pinned = false
	if err != nil {
		return "", false, err
	}
	l.gaps.all = all
	l.stats.DroppedRecords += records
	return l.popOldest(), true, nil
}

// gapsWith returns the gaps that there will be, with those that are new.
func (l *Log) gapsWith(gone []gap) []gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gaps.with(gone, l.inKafka)
}

// inKafka returns how far Kafka is known to be with a ledger.
func (l *Log) inKafka(id tributary.LedgerID) tributary.LSN { return l.forwarded[id] }

// forgetGaps drops the gaps that Kafka has been told of, and those that a failed
// write may have left. It comes before any segment is used again: with its records
// gone too, a gap that is still written down would be one with a hole behind it.
func (l *Log) forgetGaps() error {
	l.mu.Lock()
	told := l.gaps.told(l.inKafka)
	l.mu.Unlock()
	if !told && !l.gaps.torn {
		return nil
	}
	all := l.gapsWith(nil)
	if err := l.gaps.save(l.fs, all); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps.all = all
	return nil
}

// census returns what a segment holds that is not in Kafka, as gaps, and how
// many records that is.
func (l *Log) census(s *seg) (gone []gap, records int64, err error) {
	l.mu.Lock()
	for _, p := range s.sum.Spans {
		from := l.unsaid(&p)
		if from >= p.To {
			continue
		}
		g := gap{
			Ledger: p.Ledger, From: from, To: p.To, ToChain: p.ToChain,
			FirstMillis: s.sum.MinMillis, LastMillis: s.sum.MaxMillis, Streams: map[string]int64{},
		}
		if from == p.From {
			g.FromChain = p.FromChain
		}
		gone = append(gone, g)
		records += int64(p.To - from)
	}
	l.mu.Unlock()
	if len(gone) == 0 {
		return nil, 0, nil
	}
	err = eachGroup(l.fs, s, func(g *group.Group) error {
		i := slices.IndexFunc(gone, func(p gap) bool { return p.Ledger == g.Ledger && p.From < g.Next() && g.Base < p.To })
		if i < 0 {
			return nil
		}
		if g.Base == gone[i].From {
			gone[i].FromChain = g.PrevChain
		}
		entries, err := g.Entries(nil)
		if err != nil {
			return err
		}
		for j := range entries {
			if entries[j].LSN < gone[i].From {
				continue
			}
			name := entries[j].Stream
			if _, known := gone[i].Streams[name]; !known && len(gone[i].Streams) >= maxStreams {
				name = record.OtherStreams
			}
			gone[i].Streams[name]++
		}
		return nil
	})
	if errors.As(err, new(*group.CorruptError)) || l.empty(err) {
		err = nil // what is damaged is not counted by stream
	}
	return gone, records, err
}

// unsaid returns from where on records of a span would go in silence if it went.
func (l *Log) unsaid(p *segment.Span) tributary.LSN {
	if p.Copy {
		return p.To // who forwards a ledger says what is gone of it, and others may hold it
	}
	from := max(p.From, l.forwarded[p.Ledger])
	if known := l.gaps.at(p.Ledger, from); known != nil { // it was dropped before, and the power was cut
		from = known.To
	}
	return from
}

// unreadable says whether err, of opening a segment, is the disk's.
func unreadable(err error) bool {
	return errors.Is(err, segment.ErrUnreadable) || errors.Is(err, syscall.EIO)
}

// empty says whether err, of opening a segment, means that there is nothing in
// its file, or no file: somebody has removed it, or cut it, or overwritten it. A
// directory that is gone as a whole may come back.
func (l *Log) empty(err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return errors.Is(err, segment.ErrNoHeader)
	}
	names, err := l.fs.List()
	return err == nil && slices.ContainsFunc(names, l.has)
}

// eachGroup calls f for every group of a sealed segment, in order. It ends at
// the first that is damaged, with a *group.CorruptError.
func eachGroup(fsys disk.FS, m *seg, f func(*group.Group) error) (err error) {
	file, err := fsys.Open(m.name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	s, err := openSegment(file, m.name)
	if err != nil {
		return err
	}
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	var buf []byte
	for at := int64(segment.HeaderBytes); at < m.sum.End; {
		frame, h, b, err := s.ReadGroup(at, buf)
		if err != nil {
			return damaged(err)
		}
		buf = b
		groups, err := group.Open(&frame, &h, slices.Clone(b), dec)
		if err != nil {
			return err
		}
		for i := range groups {
			if err := f(&groups[i]); err != nil {
				return err
			}
		}
		at += int64(group.PaddedBytes(frame.Bytes))
	}
	return nil
}

// damaged makes a *group.CorruptError of what Segment.ReadGroup says of a place
// where a group was.
func damaged(err error) error {
	if errors.Is(err, segment.ErrNoGroup) || errors.Is(err, segment.ErrUnreadable) {
		return &group.CorruptError{Reason: err.Error()}
	}
	return err
}
