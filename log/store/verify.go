package store

import (
	"errors"
	"fmt"
	"io"
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
func Verify(fs disk.FS) (Report, error) {
	start := time.Now()
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(group.MaxBody))
	if err != nil {
		return Report{}, fmt.Errorf("start zstd: %w", err)
	}
	defer dec.Close()
	v := &verifier{dec: dec, ledgers: map[tributary.LedgerID]*state{}}
	names, err := fs.List()
	if err != nil {
		return Report{}, fmt.Errorf("list data directory: %w", err)
	}
	for _, name := range names {
		if seq, ok := segment.ParseName(name); ok {
			v.report.Files++
			if err := v.file(fs, name, seq); err != nil {
				return v.report, err
			}
		}
	}
	for _, id := range v.order {
		v.report.Ledgers = append(v.report.Ledgers, v.ledgers[id].LedgerReport)
	}
	v.report.Took = time.Since(start)
	return v.report, nil
}

type verifier struct {
	dec     *zstd.Decoder
	report  Report
	order   []tributary.LedgerID
	ledgers map[tributary.LedgerID]*state
	commit  uint64
	name    string
	entries []record.Entry
}

type state struct {
	LedgerReport

	chain   uint64
	number  uint64
	millis  int64
	offsets map[partition]int64
}

func (v *verifier) file(fs disk.FS, name string, seq uint64) (err error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := segment.Open(f, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		if s, err = segment.Salvage(f, seq); s != nil {
			return &FaultError{Segment: name, What: "the header is damaged; the groups behind it are there"}
		}
		if err == nil {
			return nil // a free file: nothing is in it
		}
	}
	if err != nil {
		return fmt.Errorf("segment %s: %w", name, err)
	}
	v.name = name
	var expect uint64
	if v.commit != 0 {
		expect = v.commit + 1
	}
	sc, err := s.Scan(expect, v.group)
	if err != nil {
		return err
	}
	if len(sc.Rot) > 0 {
		return &FaultError{Segment: name, At: sc.Rot[0].From, What: fmt.Sprintf("damaged up to byte %d: groups there were stored and cannot be read", sc.Rot[0].To)}
	}
	footer, sealed, err := s.Footer()
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("segment %s: %w", name, err)
	}
	if sealed && footer.End != sc.End {
		return &FaultError{Segment: name, At: sc.End, What: fmt.Sprintf("the groups end here, the footer says at byte %d", footer.End)}
	}
	if len(sc.Spans) > 0 {
		v.report.Segments++
		v.report.Torn = sc.Torn
	}
	return nil
}

// group checks one group that is whole in itself against those before it.
func (v *verifier) group(at int64, f group.Frame, h *group.Header, b []byte) error {
	fault := func(format string, args ...any) error {
		return &FaultError{Segment: v.name, At: at, What: fmt.Sprintf(format, args...)}
	}
	if v.commit != 0 && f.Commit != v.commit && f.Commit != v.commit+1 {
		return fault("commit %d follows commit %d: groups are missing", f.Commit, v.commit)
	}
	v.commit = f.Commit
	s := v.ledgers[h.Ledger]
	if s == nil {
		s = &state{LedgerReport: LedgerReport{ID: h.Ledger, From: h.Base, To: h.Base}, chain: h.PrevChain, number: h.Number, offsets: map[partition]int64{}}
		v.ledgers[h.Ledger] = s
		v.order = append(v.order, h.Ledger)
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
	if v.entries, err = group.Entries(v.entries[:0], h, b, v.dec); err != nil {
		return fault("%v", err)
	}
	for i := range v.entries {
		e := &v.entries[i]
		p := partition{e.Stream, e.Partition}
		if want, seen := s.offsets[p]; (seen || s.From == 0) && e.Offset != want {
			return fault("record %d of ledger %v has offset %d in %s/%d, should be %d", e.LSN, h.Ledger, e.Offset, p.stream, p.number, want)
		}
		s.offsets[p] = e.Offset + 1
	}
	s.To, s.chain, s.number, s.millis = h.Next(), h.Chain(), h.Number+1, h.Millis
	s.Groups++
	v.report.Groups++
	v.report.Records += int64(h.Count)
	v.report.StoredBytes += int64(group.PaddedBytes(f.Bytes))
	return nil
}
