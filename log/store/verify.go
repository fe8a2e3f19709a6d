package store

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// A Report says what Verify read.
type Report struct {
	Files       int            `json:"files"`    // segment files, empty ones too
	Segments    int            `json:"segments"` // that hold groups
	Groups      int            `json:"groups"`
	Records     int64          `json:"records"`
	StoredBytes int64          `json:"stored_bytes"`
	Ledgers     []LedgerReport `json:"ledgers"` // in the order in which they begin
	Torn        bool           `json:"torn"`    // the newest group was cut short; it was never acknowledged
	Took        time.Duration  `json:"took_ns"`
}

// A LedgerReport says what the log holds of one ledger.
type LedgerReport struct {
	ID     tributary.LedgerID `json:"id"`
	From   tributary.LSN      `json:"from"`
	To     tributary.LSN      `json:"to"` // after the last
	Groups int                `json:"groups"`
}

// A FaultError is the first thing that is not as it should be.
type FaultError struct {
	Segment string `json:"segment"`
	At      int64  `json:"at"` // file position
	What    string `json:"what"`
}

// Error implements error.
func (f *FaultError) Error() string {
	return fmt.Sprintf("segment %s, byte %d: %s", f.Segment, f.At, f.What)
}

// Verify reads every group of the log in fs and checks checksums, chains, that
// the LSNs of each ledger (L1), the offsets of each partition (L2) and the
// commits have no gap. It changes nothing and may run beside the daemon; a
// group that is being written may then look like a torn tail. The error is a
// *FaultError, or one of the disk.
//
// A segment that is used again or packed while it is read looks damaged, but not
// twice at the same place: a fault counts when it is found again.
func Verify(fs disk.FS) (r Report, err error) {
	start := time.Now()
	found := ""
	for look := range maxLooks {
		r, err = verify(fs)
		moved := errors.Is(err, iofs.ErrNotExist) // a file was listed, and has another name by now
		if err == nil || err.Error() == found && !moved {
			break
		}
		if found = err.Error(); moved {
			<-time.After(time.Duration(look) * time.Millisecond)
		}
	}
	r.Took = time.Since(start)
	return r, err
}

// maxLooks is how often Verify reads a log that changes all the time.
const maxLooks = 50

func verify(fs disk.FS) (Report, error) {
	dec, err := newDecoder()
	if err != nil {
		return Report{}, err
	}
	defer dec.Close()
	v := &verifier{dec: dec, ledgers: map[tributary.LedgerID]*state{}}
	files, err := v.list(fs)
	defer func() {
		for i := range files {
			_ = files[i].s.File.Close() // nothing was written
		}
	}()
	if err != nil {
		return v.report, err
	}
	for i := range files {
		if err := v.file(&files[i]); err != nil {
			return v.report, err
		}
	}
	for _, id := range v.order {
		v.report.Ledgers = append(v.report.Ledgers, v.ledgers[id].LedgerReport)
	}
	return v.report, nil
}

// A listed is a segment that Verify looks at.
type listed struct {
	name  string
	s     *segment.Segment
	sum   segment.Summary
	limit uint64 // commits from there on are in a later segment
}

// list opens the segments that count: what a failed write left, and what has
// been packed, does not.
func (v *verifier) list(fs disk.FS) (files []listed, err error) {
	names, err := fs.List()
	if err != nil {
		return nil, fmt.Errorf("list data directory: %w", err)
	}
	var packs, plain []segment.Extent
	for _, name := range names {
		seq, packed, ok := segment.ParseName(name)
		if !ok {
			continue
		}
		v.report.Files++
		f, err := v.open(fs, name, seq, packed)
		if err != nil {
			return files, err
		}
		if f != nil {
			files = append(files, *f)
			if e := f.s.Pack; e != nil {
				packs = append(packs, segment.Extent{FirstCommit: e.FirstCommit, LastCommit: e.LastCommit})
			} else {
				plain = append(plain, segment.Extent{FirstCommit: f.sum.FirstCommit, LastCommit: f.sum.LastCommit})
			}
		}
	}
	packs = withoutFailed(packs, plain)
	var kept []listed
	var limit uint64
	for _, f := range slices.Backward(files) {
		if f.sum.FirstCommit == 0 || limit != 0 && f.sum.FirstCommit >= limit || replaced(f.sum.FirstCommit, f.s.Pack != nil, packs) {
			_ = f.s.File.Close() // nothing was written
			continue
		}
		f.limit = limit
		limit = f.sum.FirstCommit
		kept = append(kept, f)
	}
	slices.Reverse(kept)
	return kept, nil
}

// open opens one file; it returns nil for one that holds nothing.
func (v *verifier) open(fs disk.FS, name string, seq uint64, packed bool) (f *listed, err error) {
	file, err := fs.Open(name, false)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	defer func() {
		if f == nil {
			err = errors.Join(err, file.Close())
		}
	}()
	s, err := segment.Open(file, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		size, err := file.Size()
		if err != nil {
			return nil, err
		}
		if s, err = segment.Salvage(file, seq, packed, size); s != nil {
			return nil, &FaultError{Segment: name, What: "the header is damaged; the groups behind it are there"}
		}
		return nil, err // a free file: nothing is in it
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", name, err)
	}
	if s.Short > 0 {
		return nil, &FaultError{Segment: name, At: s.Bytes - s.Short, What: fmt.Sprintf("the file is %d bytes shorter than it was", s.Short)}
	}
	sum, sealed, err := s.Footer()
	if errors.Is(err, segment.ErrUnreadable) {
		return nil, &FaultError{Segment: name, At: s.End(), What: err.Error()}
	}
	if err == nil && !sealed {
		var sc segment.Scan
		sc, err = s.Scan(0, nil)
		sum = sc.Summary
	}
	if err != nil {
		return nil, err
	}
	return &listed{name: name, s: s, sum: sum}, nil
}

type verifier struct {
	dec     *zstd.Decoder
	report  Report
	order   []tributary.LedgerID
	ledgers map[tributary.LedgerID]*state
	commit  uint64
	name    string
	packed  bool
	entries []record.Entry
}

type state struct {
	LedgerReport

	chain   uint64
	number  uint64
	millis  int64
	offsets map[partition]int64
	healed  bool // what was missing lies behind the rest
}

func (v *verifier) file(f *listed) error {
	v.name = f.name
	v.packed = f.s.Pack != nil
	if v.packed {
		if err := v.follow(segment.HeaderBytes, f.s.Pack.FirstCommit); err != nil {
			return err
		}
		v.commit = f.s.Pack.LastCommit
	}
	sc, err := f.s.Scan(f.limit, v.frame)
	if err != nil {
		return err
	}
	if len(sc.Rot) > 0 {
		return &FaultError{Segment: f.name, At: sc.Rot[0].From, What: fmt.Sprintf("damaged up to byte %d: groups there were stored and cannot be read", sc.Rot[0].To)}
	}
	footer, sealed, err := f.s.Footer()
	if err != nil {
		return err
	}
	if sealed && footer.End != sc.End {
		return &FaultError{Segment: f.name, At: sc.End, What: fmt.Sprintf("the groups end here, the footer says at byte %d", footer.End)}
	}
	if len(sc.Spans) > 0 {
		v.report.Segments++
		v.report.Torn = sc.Torn
	}
	return nil
}

func (v *verifier) fault(at int64, format string, args ...any) error {
	return &FaultError{Segment: v.name, At: at, What: fmt.Sprintf(format, args...)}
}

// follow checks that a commit is the next one, or one that has several frames.
func (v *verifier) follow(at int64, commit uint64) error {
	if v.commit != 0 && commit != v.commit && commit != v.commit+1 && !jumped(commit) {
		return v.fault(at, "commit %d follows commit %d: groups are missing", commit, v.commit)
	}
	return nil
}

// frame checks one frame that is whole in itself against those before it.
func (v *verifier) frame(at int64, f group.Frame, h *group.Header, b []byte) error {
	if !v.packed {
		if err := v.follow(at, f.Commit); err != nil {
			return err
		}
		v.commit = f.Commit
	}
	groups, err := group.Open(&f, h, b, v.dec)
	if err != nil {
		return v.fault(at, "%v", err)
	}
	v.report.StoredBytes += int64(group.PaddedBytes(f.Bytes))
	for i := range groups {
		if err := v.group(at, &groups[i]); err != nil {
			return err
		}
	}
	return nil
}

// group checks one group against those before it.
func (v *verifier) group(at int64, g *group.Group) error {
	h := &g.Header
	s := v.ledgers[h.Ledger]
	if s == nil {
		s = &state{healed: g.Copy, LedgerReport: LedgerReport{ID: h.Ledger, From: h.Base, To: h.Base}, chain: h.PrevChain, number: h.Number, offsets: map[partition]int64{}}
		v.ledgers[h.Ledger] = s
		v.order = append(v.order, h.Ledger)
	}
	fault := func(format string, args ...any) error { return v.fault(at, format, args...) }
	if g.Copy && h.Base < s.To { // it was missing, and came from another node: see Heal
		s.healed = true
		v.report.Groups++
		v.report.Records += int64(h.Count)
		return nil
	}
	if (g.Copy || s.healed) && h.Base > s.To { // all that lies between was in Kafka when it was copied
		s.To, s.chain, s.number = h.Base, h.PrevChain, h.Number
		clear(s.offsets)
	}
	switch {
	case h.Base != s.To:
		return fault("ledger %v goes on at record %d, should be %d", h.Ledger, h.Base, s.To)
	case h.PrevChain != s.chain:
		return fault("ledger %v: the chain at record %d is %016x, should be %016x", h.Ledger, h.Base, h.PrevChain, s.chain)
	case h.Number != s.number:
		return fault("ledger %v goes on with group %d, should be %d", h.Ledger, h.Number, s.number)
	case h.Millis < s.millis:
		return fault("ledger %v: log time goes back at record %d", h.Ledger, h.Base)
	}
	var err error
	if v.entries, err = g.Entries(v.entries[:0]); err != nil {
		return fault("%v", err)
	}
	for i := range v.entries {
		e := &v.entries[i]
		p := partition{e.Stream, e.Partition}
		if want, seen := s.offsets[p]; (seen || s.From == 0 && !g.Copy) && e.Offset != want {
			return fault("record %d of ledger %v has offset %d in %s/%d, should be %d", e.LSN, h.Ledger, e.Offset, p.stream, p.number, want)
		}
		s.offsets[p] = e.Offset + 1
	}
	s.To, s.chain, s.number, s.millis = h.Next(), h.Chain(), h.Number+1, h.Millis
	s.Groups++
	v.report.Groups++
	v.report.Records += int64(h.Count)
	return nil
}
