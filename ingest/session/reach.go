package session

import (
	"encoding/binary"
	"slices"
)

// A reach is how far something has come, in each course: in what this node has
// written, and in each ledger of another node.
type reach struct {
	own    position
	others []position // of different ledgers, none of them this node's
}

// mostOthers bounds the ledgers of other nodes that a reach has: those that were
// begun last. One that is left out has been given long ago.
const mostOthers = 64

// in returns how far that is in the course that a ledger is of.
func (r *reach) in(l *ledger) position {
	if l == nil || !l.other.Load() {
		return r.own
	}
	if i := r.find(l); i >= 0 {
		return r.others[i]
	}
	return position{}
}

// raise makes p how far that is in its course.
func (r *reach) raise(p position) {
	course := p.course()
	if course == nil {
		r.own = p
		return
	}
	if i := r.find(course); i >= 0 {
		r.others[i] = p
		return
	}
	if len(r.others) >= mostOthers {
		r.others = slices.Delete(r.others, 0, 1)
	}
	r.others = append(r.others, p)
}

// lower makes p how far that is in its course, if it is older.
func (r *reach) lower(p position) {
	course := p.course()
	if course == nil {
		if r.own.ledger == nil || p.before(r.own) {
			r.own = p
		}
		return
	}
	if i := r.find(course); i < 0 {
		r.others = append(r.others, p)
	} else if p.before(r.others[i]) {
		r.others[i] = p
	}
}

func (r *reach) find(l *ledger) int {
	return slices.IndexFunc(r.others, func(p position) bool { return p.ledger == l })
}

func (e *encoder) reach(r *reach) {
	e.position(r.own)
	e.b = binary.AppendUvarint(e.b, uint64(len(r.others)))
	for _, p := range r.others {
		e.position(p)
	}
}

// minPosition is the least that a position takes.
const minPosition = 2

// reach reads one; before version 3 there was but one course.
func (d *decoder) reach(version byte) (r reach) {
	r.own = d.position()
	if version < 3 {
		return r
	}
	n := d.count(minPosition)
	if n > mostOthers+1 {
		d.fail()
		return r
	}
	for range n {
		p := d.position()
		if p.ledger == nil || r.find(p.ledger) >= 0 {
			d.fail()
			return r
		}
		r.others = append(r.others, p)
	}
	return r
}
