package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// A gap is a stretch of a ledger whose records were dropped before they were in
// Kafka. It is remembered until Kafka has been told.
type gap struct {
	Ledger      tributary.LedgerID `json:"ledger"`
	From        tributary.LSN      `json:"from"`
	To          tributary.LSN      `json:"to"` // after the last
	FromChain   uint64             `json:"from_chain"`
	ToChain     uint64             `json:"to_chain"`
	FirstMillis int64              `json:"first_ms"`
	LastMillis  int64              `json:"last_ms"`
	Streams     map[string]int64   `json:"streams"`
}

// gaps are all gaps that Kafka has not been told of, oldest first. They are kept
// in a file with two slots, written in turn: a write that is cut short leaves
// the other.
type gaps struct {
	all []gap // guarded by Log.mu

	file disk.File // nil: there is none, or it could not be written to; touched under Log.making alone
	seq  uint64    // of the slot written last; the same
	torn bool      // a write failed, and may be there all the same: the file says what is not so; the same
}

const (
	gapsFile   = "gaps"
	slotBytes  = 64 << 10
	slotHeader = 24
	gapsMagic  = 0x54524258 // "TRBX"
	maxStreams = 64         // of one gap; the rest is counted together
)

// cover says whether the records [from, to) of a ledger, but for those below
// forwarded, are in a gap.
func (g *gaps) cover(id tributary.LedgerID, from, to, forwarded tributary.LSN) bool {
	at := g.at(id, max(from, forwarded))
	return at != nil && to <= at.To
}

// at returns the gap that record lsn of a ledger is in, or nil.
func (g *gaps) at(id tributary.LedgerID, lsn tributary.LSN) *gap {
	for i := range g.all {
		if p := &g.all[i]; p.Ledger == id && p.From <= lsn && lsn < p.To {
			return p
		}
	}
	return nil
}

// told says whether Kafka has been told of one of the gaps.
func (g *gaps) told(done func(tributary.LedgerID) tributary.LSN) bool {
	return slices.ContainsFunc(g.all, func(p gap) bool { return p.To <= done(p.Ledger) })
}

// with returns the gaps with more added, without those that done says Kafka has
// been told of. A stretch that follows another of its ledger becomes one with it:
// what lay between is gone as well.
func (g *gaps) with(more []gap, done func(tributary.LedgerID) tributary.LSN) []gap {
	var all []gap
	for _, p := range slices.Concat(g.all, more) {
		if p.To <= done(p.Ledger) {
			continue
		}
		if n := len(all) - 1; n >= 0 && all[n].Ledger == p.Ledger {
			all[n].join(p)
			continue
		}
		p.Streams = countStreams(p.Streams, nil)
		all = append(all, p)
	}
	return all
}

func (g *gap) join(next gap) {
	g.To, g.ToChain = next.To, next.ToChain
	g.FirstMillis, g.LastMillis = min(g.FirstMillis, next.FirstMillis), max(g.LastMillis, next.LastMillis)
	g.Streams = countStreams(g.Streams, next.Streams)
}

// countStreams adds up two counts.
func countStreams(a, b map[string]int64) map[string]int64 {
	sum := map[string]int64{}
	for _, m := range []map[string]int64{a, b} {
		for name, n := range m {
			if _, known := sum[name]; !known && len(sum) >= maxStreams {
				name = record.OtherStreams
			}
			sum[name] += n
		}
	}
	return sum
}

// errTooManyGaps says that the file has no room for more.
var errTooManyGaps = errors.New("too many gaps wait to be told to Kafka: nothing more is dropped until it has been")

// encodeGaps returns a slot.
func encodeGaps(all []gap, seq uint64) ([]byte, error) {
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode gaps: %w", err)
	}
	if slotHeader+len(text) > slotBytes {
		return nil, errTooManyGaps
	}
	b := make([]byte, slotHeader, slotBytes)
	be := binary.BigEndian
	be.PutUint32(b[0:], gapsMagic)
	be.PutUint16(b[8:], group.Version)
	be.PutUint32(b[12:], uint32(len(text)))
	be.PutUint64(b[16:], seq)
	b = append(b, text...)
	be.PutUint32(b[4:], group.Checksum(b[8:]))
	return b, nil
}

// decodeGaps reads a slot. seq is 0 when there is nothing in it; whole is false
// when it is damaged or was cut short.
func decodeGaps(b []byte) (all []gap, seq uint64, whole bool, err error) {
	be := binary.BigEndian
	if len(b) < slotHeader || be.Uint32(b) == 0 {
		return nil, 0, true, nil
	}
	n := uint64(be.Uint32(b[12:]))
	if be.Uint32(b) != gapsMagic || n > uint64(len(b)-slotHeader) || be.Uint32(b[4:]) != group.Checksum(b[8:slotHeader+n]) {
		return nil, 0, false, nil
	}
	if v := be.Uint16(b[8:]); v != group.Version {
		return nil, 0, false, &group.VersionError{Version: v}
	}
	if err := json.Unmarshal(b[slotHeader:slotHeader+n], &all); err != nil {
		return nil, 0, false, nil //nolint:nilerr // the checksum fits and the content does not: damaged
	}
	return all, be.Uint64(b[16:]), true, nil
}

// load reads what an earlier process left. damaged says that gaps may have been
// there that are forgotten.
func (g *gaps) load(fsys disk.FS) (damaged bool, err error) {
	f, err := fsys.Open(gapsFile, true)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the file of gaps: %w", err)
	}
	g.file = f
	broken := 0
	for slot := range int64(2) {
		b := make([]byte, slotBytes)
		n, _ := f.ReadAt(b, slot*slotBytes) // what cannot be read is damaged
		all, seq, whole, err := decodeGaps(b[:n])
		if err != nil {
			return false, errors.Join(err, f.Close())
		}
		if !whole {
			broken++
		}
		if seq > g.seq {
			g.all, g.seq = all, seq
		}
	}
	return broken == 2, nil
}

// save makes all durable, and leaves g.all to the caller. After a failure the
// file is never written again: the next save makes another one in its place (D2).
func (g *gaps) save(fsys disk.FS, all []gap) error {
	b, err := encodeGaps(all, g.seq+1)
	if err != nil {
		return err
	}
	slot := int64(g.seq%2) * slotBytes
	if g.file == nil {
		g.file, err = newGapsFile(fsys, b, slot)
	} else if _, err = g.file.WriteAt(b, slot); err == nil {
		err = g.file.Sync()
	}
	if err != nil {
		if g.file != nil {
			_ = g.file.Close() // it is given up
			g.file = nil
		}
		g.torn = true
		return fmt.Errorf("write the file of gaps: %w", err)
	}
	g.torn = false
	g.seq++
	return nil
}

// newGapsFile makes the file, with one slot. It gets its name when it is whole.
func newGapsFile(fsys disk.FS, slot []byte, at int64) (f disk.File, err error) {
	const unfinished = gapsFile + ".new"
	if err := fsys.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err = fsys.Create(unfinished); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
			f = nil
		}
	}()
	if err := segment.Fill(f, 2*slotBytes); err != nil {
		return f, err
	}
	if _, err := f.WriteAt(slot, at); err != nil {
		return f, err
	}
	if err := f.Sync(); err != nil {
		return f, err
	}
	if err := fsys.Rename(unfinished, gapsFile); err != nil {
		return f, err
	}
	return f, fsys.Sync()
}
