package segment

import (
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary/log/group"
)

// A Scan is what reading all frames of a segment found.
type Scan struct {
	Summary

	Rot    []Rot   // places where groups that were once durable cannot be read
	Stray  []int64 // positions of valid frames after End: parts of a torn commit
	Torn   bool    // the last commit was cut short: it was never acknowledged
	Opaque bool    // nobody can tell whether there is more after End: the disk does not give it back
	Unread bool    // some place could not be read: what is rot now may be whole another time
}

// A Rot is a stretch of a segment whose groups are damaged. They were durable
// once: a commit that came later is there.
type Rot struct{ From, To int64 }

// Scan reads every group from the start of the segment. Commits are strictly
// one after another, so a bad group that is followed by the frame of a later
// commit was durable before it went bad: that is rot, and the scan goes on
// behind it. A bad group that nothing of a later commit follows is a torn tail;
// in a packed segment, which was whole from the first, it is rot as well.
//
// Frames of commit limit and later do not count, unless limit is 0: a later
// segment has those commits. each, if not nil, is called for every frame that is
// whole; the bytes are its own only until it returns. The errors are those of
// the system, of each, and *group.VersionError.
func (s *Segment) Scan(limit uint64, each func(at int64, f group.Frame, h *group.Header, b []byte) error) (Scan, error) {
	sc := Scan{Summary: NewSummary()}
	var buf []byte
	var p probe
	var expect uint64 // the commit that the next frame is of; 0: not known
	for s.Pack == nil || sc.End < s.used() {
		f, h, b, err := s.ReadGroup(sc.End, buf)
		buf = b
		switch {
		case err == nil && limit != 0 && f.Commit >= limit:
			return sc, nil
		case err == nil && each != nil:
			err = each(sc.End, f, &h, b)
			if err != nil {
				return sc, err
			}
			fallthrough
		case err == nil:
			sc.Add(&f, &h)
			expect = f.After()
			continue
		case !bad(err):
			return sc, err
		case endAtDamage:
			sc.Torn = true
			return sc, nil
		}
		_ = p.saw(err)
		if f.Of > 0 {
			expect = f.Commit // the frame is there, and what is behind it is not as it should be
		}
		unreadable := errors.Is(err, ErrUnreadable)
		sc.Torn = errors.As(err, new(*group.CorruptError))
		rest, err := s.resync(sc.End, expect, &p)
		if err != nil {
			return sc, err
		}
		rest.unreadable = rest.unreadable || unreadable
		sc.Unread = sc.Unread || rest.unreadable
		if rest.later < 0 || limit != 0 && rest.commit >= limit {
			s.finish(&sc, rest)
			return sc, nil
		}
		sc.Rot = append(sc.Rot, Rot{From: sc.End, To: rest.later})
		sc.Torn = false
		sc.End, sc.LastCommit, expect = rest.later, rest.commit-1, rest.commit
	}
	s.finish(&sc, remains{})
	return sc, nil
}

// finish judges what is behind the last good frame.
func (s *Segment) finish(sc *Scan, rest remains) {
	switch {
	case s.Pack != nil:
		sc.Torn = false
		if sc.End < s.Pack.End {
			sc.Rot = append(sc.Rot, Rot{From: sc.End, To: s.Pack.End})
		}
		if sc.FirstCommit == 0 { // no frame is left: it must not seem to have replaced everything before
			sc.FirstCommit = s.Pack.FirstCommit
		}
		sc.LastCommit = max(sc.LastCommit, s.Pack.LastCommit)
	case rest.unreadable || s.Short > 0:
		sc.Torn, sc.Opaque = false, true
		sc.Rot = append(sc.Rot, Rot{From: sc.End, To: s.End()})
	default:
		sc.Stray = rest.stray
		sc.Torn = sc.Torn || len(rest.stray) > 0
	}
}

// remains is what resync found behind a bad group.
type remains struct {
	later      int64 // where a later commit starts; -1: nowhere
	commit     uint64
	stray      []int64 // frames of the bad commit
	unreadable bool    // places that the device does not give back
}

// maxUnreadable is how many pages of a segment are tried that the device does
// not give back: each may take it seconds.
const maxUnreadable = 64

// A probe goes through the pages of a segment, one by one. Where many in a row
// cannot be read it takes longer and longer steps, so that it comes to the other
// end of any bad stretch in a few tries, and passes over no more than its length.
type probe struct {
	failures int // all
	row      int // the last ones, without a success between
}

// saw notes how the read of a page went, and returns err unless it only says
// that the page cannot be read.
func (p *probe) saw(err error) error {
	switch {
	case err == nil:
		p.row = 0
	case errors.Is(err, ErrUnreadable):
		p.failures++
		p.row++
	default:
		return err
	}
	return nil
}

// step returns how far it is to the page to be looked at next.
func (p *probe) step() int64 { return group.Align << max(0, min(p.row-nearPages, maxStep)) }

const (
	nearPages = 16 // are tried one by one
	maxStep   = 16 // 256 MiB: more than a segment is large
)

func (p *probe) exhausted() bool { return p.failures >= maxUnreadable }

// resync looks behind a bad group at bad, which belongs to the given commit, or
// to one that is not known: 0.
func (s *Segment) resync(bad int64, commit uint64, p *probe) (rest remains, err error) {
	rest.later = -1
	var buf []byte
	for at := bad + p.step(); at < s.used(); at += p.step() {
		if p.exhausted() {
			rest.unreadable = true
			return rest, nil
		}
		var f group.Frame
		f, buf, err = s.ReadFrame(at, buf)
		switch {
		case errors.Is(err, ErrUnreadable):
			rest.unreadable = true
			_ = p.saw(err)
			continue
		case errors.Is(err, ErrNoGroup):
			_ = p.saw(nil)
			continue
		case err != nil:
			return rest, err
		}
		_ = p.saw(nil)
		// A commit begins with its frame 0: what stands before was another one.
		if commit != 0 && f.Commit > commit || f.Index == 0 {
			rest.later, rest.commit = at, f.Commit
			return rest, nil
		}
		rest.stray = append(rest.stray, at)
	}
	return rest, nil
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
	return errors.Is(err, ErrNoGroup) || errors.Is(err, ErrUnreadable) || errors.As(err, new(*group.CorruptError))
}
