package segment

import (
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary/log/group"
)

// A Scan is what reading all groups of a segment found.
type Scan struct {
	Summary

	Rot   []Rot   // places where groups that were once durable cannot be read
	Stray []int64 // positions of valid frames after End: parts of a torn commit
	Torn  bool    // the last commit was cut short: it was never acknowledged
}

// A Rot is a stretch of a segment whose groups are damaged. They were durable
// once: a commit that came later is there.
type Rot struct{ From, To int64 }

// Scan reads every group from the start of the segment. Commits are strictly
// one after another, so a bad group that is followed by the frame of a later
// commit was durable before it went bad: that is rot, and the scan goes on
// behind it. A bad group that nothing of a later commit follows is a torn tail.
// expect is the commit that the first frame should be of, or 0 if that is not
// known. each, if not nil, is called for every group that is whole; the bytes
// are its own only until it returns. The errors are those of the disk, of each,
// and *group.VersionError.
func (s *Segment) Scan(expect uint64, each func(at int64, f group.Frame, h *group.Header, b []byte) error) (Scan, error) {
	sc := Scan{Summary: NewSummary()}
	var buf []byte
	for {
		f, h, b, err := s.ReadGroup(sc.End, buf)
		buf = b
		switch {
		case err == nil:
			if each != nil {
				if err := each(sc.End, f, &h, b); err != nil {
					return sc, err
				}
			}
			sc.Add(f, &h)
			expect = f.After()
			continue
		case !bad(err):
			return sc, fmt.Errorf("segment %s at %d: %w", Name(s.Seq), sc.End, err)
		}
		if errors.As(err, new(*group.CorruptError)) {
			sc.Torn, expect = true, f.Commit
		}
		stray, later, err := s.resync(sc.End, expect)
		if err != nil {
			return sc, err
		}
		if later.at < 0 {
			sc.Stray = stray
			sc.Torn = sc.Torn || len(stray) > 0
			return sc, nil
		}
		sc.Rot = append(sc.Rot, Rot{From: sc.End, To: later.at})
		sc.Torn = false
		sc.End, sc.LastCommit, expect = later.at, later.commit-1, later.commit
	}
}

// found is a frame of a later commit; at is -1 when there is none.
type found struct {
	at     int64
	commit uint64
}

// resync looks behind a bad group at bad, which belongs to the given commit, or
// to one that is not known: 0. It returns the first frame of a later commit, or
// else the positions of all frames that the torn commit left.
func (s *Segment) resync(bad int64, commit uint64) (stray []int64, later found, err error) {
	var buf []byte
	for at := bad + group.PageBytes; at < s.End(); at += group.PageBytes {
		var f group.Frame
		f, buf, err = s.ReadFrame(at, buf)
		if errors.Is(err, ErrNoGroup) {
			continue
		}
		if err != nil {
			return nil, later, err
		}
		// A commit begins with its frame 0: what stands before was another one.
		if commit != 0 && f.Commit > commit || commit == 0 && f.Index == 0 {
			return nil, found{at, f.Commit}, nil
		}
		stray = append(stray, at)
	}
	return stray, found{at: -1}, nil
}

// Cut overwrites the frames that a torn commit left after the end of the log,
// so that no later scan takes them for groups, and makes that durable,
// together with everything before.
func (s *Segment) Cut(stray []int64) error {
	page := make([]byte, group.PageBytes)
	for _, at := range stray {
		if _, err := s.File.WriteAt(page, at); err != nil {
			return fmt.Errorf("cut torn tail: %w", err)
		}
	}
	if err := s.File.Sync(); err != nil {
		return fmt.Errorf("sync recovered segment: %w", err)
	}
	return nil
}

func bad(err error) bool {
	return errors.Is(err, ErrNoGroup) || errors.As(err, new(*group.CorruptError))
}
