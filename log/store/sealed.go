package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// A HoleError says that records were asked for that this log held and has lost.
type HoleError struct{ Hole }

// Error implements error.
func (e *HoleError) Error() string {
	return fmt.Sprintf("records %d to %d of ledger %v are damaged or were dropped here", e.From, e.To, e.Ledger)
}

// Sealed returns what the log stores of the ledger from record from on, which
// must be where a group starts, for another node to keep: at least one group or
// pack, and as many as fit maxBytes. It waits as Read does, and its errors are
// those of Read, and a *HoleError where Read gives a gap. What it returns belongs
// to the caller, who does not change it.
func (r *Reader) Sealed(ctx context.Context, from tributary.LSN, maxBytes int) (all []group.Sealed, err error) {
	next := from
	for size := 0; ; {
		w, err := r.log.find(r.id, next)
		if errors.Is(err, errNotYet) && next == from {
			if err := r.wait(ctx, from); err != nil {
				return nil, err
			}
			continue
		}
		var more []group.Sealed
		if err == nil {
			more, err = r.sealed(w, next)
		}
		if errors.Is(err, errMoved) {
			continue // look again
		}
		for i := range more {
			size += len(more[i].Bytes)
		}
		switch {
		case len(all) > 0 && (err != nil || size > maxBytes):
			return all, nil //nolint:nilerr // the next call meets the error
		case err != nil:
			return nil, err
		}
		all = append(all, more...)
		next = all[len(all)-1].Next()
	}
}

// sealed returns the frame that begins with record lsn, or the groups of it from
// lsn on: a pack that another node has a part of.
func (r *Reader) sealed(w where, lsn tributary.LSN) (all []group.Sealed, err error) {
	g, w, err := r.seek(w, lsn)
	switch {
	case err != nil:
		return nil, err
	case w.hole:
		return nil, &HoleError{Hole{r.id, lsn, w.to}}
	case g.Base != lsn:
		return nil, fmt.Errorf("record %d of ledger %v is inside a group: reads start where a group starts", lsn, r.id)
	case r.stored.Base == lsn:
		r.lsn = r.stored.Next()
		return []group.Sealed{r.stored}, nil
	}
	for i := range r.groups {
		if g := &r.groups[i]; g.Base >= lsn {
			all = append(all, g.Raw())
			r.lsn = g.Next()
		}
	}
	return all, nil
}
