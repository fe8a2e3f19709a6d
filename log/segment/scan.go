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
// one after another, so a bad group that is followed by one of a later commit
// was durable before it went bad: that is rot, and the scan goes on behind it.
// A bad group that nothing of a later commit follows is a torn tail. expect is
// the commit that the first frame should be of, or 0 if that is not known. each,
// if not nil, is called for every group that is whole; the bytes are its own only
// until it returns. The errors are those of the disk and *group.VersionError.
func (s *Segment) Scan(expect uint64, each func(at int64, f group.Frame, h *group.Header, b []byte) error) (Scan, error) {
	sc := Scan{Summary: NewSummary()}
	var buf []byte
	for at := int64(HeaderBytes); ; {
		f, h, b, err := s.ReadGroup(at, buf)
		buf = b
		switch {
		case err == nil:
			if each != nil {
				if err := each(at, f, &h, b); err != nil {
					return sc, err
				}
			}
			sc.End = at
			sc.Add(f, &h)
			at, expect = sc.End, f.After()
			continue
		case !bad(err):
			return sc, fmt.Errorf("segment %s at %d: %w", Name(s.Seq), at, err)
		}
		var corrupt *group.CorruptError
		sc.Torn = errors.As(err, &corrupt)
		next, later, err := s.resync(at, expect)
		if err != nil {
			return sc, err
		}
		if later < 0 {
			sc.Stray = next
			sc.Torn = sc.Torn || len(next) > 0
			return sc, nil
		}
		sc.Rot = append(sc.Rot, Rot{From: at, To: later})
		sc.Torn = false
		at = later
	}
}

// resync looks behind a bad group at bad, which belongs to the given commit.
// It returns the position of the first whole group of a later commit, or -1
// and the positions of all frames that the torn commit left.
func (s *Segment) resync(bad int64, commit uint64) (stray []int64, later int64, err error) {
	var buf []byte
	for at := bad + group.PageBytes; at < s.End(); at += group.PageBytes {
		var f group.Frame
		f, buf, err = s.ReadFrame(at, buf)
		if errors.Is(err, ErrNoGroup) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if commit != 0 && f.Commit > commit {
			if _, _, _, err := s.ReadGroup(at, nil); err == nil {
				return nil, at, nil
			}
		}
		stray = append(stray, at)
	}
	return stray, -1, nil
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
	var corrupt *group.CorruptError
	return errors.Is(err, ErrNoGroup) || errors.As(err, &corrupt)
}
