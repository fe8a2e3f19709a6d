package join

import (
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/sync/peer"
)

const (
	validFor  = 15 * time.Minute
	maxOpen   = 8
	maxWrong  = 10
	maxClosed = 16 // are remembered, to say what became of them
)

// Invitations are the codes that a running node has given out. They are only in
// memory: after a restart none is good. All methods may be called at once.
type Invitations struct {
	authority *x509.Certificate

	mu     sync.Mutex // guards what follows
	open   []invitation
	closed []invitation
	wrong  []time.Time // when there were wrong tries, within validFor
}

type invitation struct {
	code Code
	made time.Time
	end  string // what became of it
}

// An Invitation is a code for one node, and how long it is good.
type Invitation struct {
	Code  string    `json:"code"`
	Until time.Time `json:"until"`
}

// NewInvitations returns none yet, to the site of the authority.
func NewInvitations(a *peer.Authority) *Invitations {
	return &Invitations{authority: a.Certificate()}
}

// New makes an invitation that is good for 15 minutes and for one node. There are
// at most eight at once; a ninth is an error that says until when.
func (v *Invitations) New(now time.Time) (Invitation, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire(now)
	if len(v.open) == maxOpen {
		return Invitation{}, fmt.Errorf("%d codes are open, and there are never more; use one of them, or wait until %s, when the oldest ends",
			maxOpen, v.open[0].made.Add(validFor).Format(time.TimeOnly))
	}
	c := newCode(v.authority)
	v.open = append(v.open, invitation{code: c, made: now})
	return Invitation{Code: c.String(), Until: now.Add(validFor)}, nil
}

// A refusal is why a node is not let in, and how loud the log says so.
type refusal struct {
	reason string
	level  slog.Level
	cause  error // for the log; may be nil
	voided bool  // all open invitations are void now
}

func (r *refusal) Error() string { return r.reason }

// take uses up the invitation with the secret, or says why there is none.
func (v *Invitations) take(secret []byte, now time.Time) *refusal {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expire(now)
	// All are looked at: how long it takes does not say which it is.
	found, end := -1, ""
	for i := range v.open {
		if subtle.ConstantTimeCompare(v.open[i].code.secret[:], secret) == 1 {
			found = i
		}
	}
	for i := range v.closed {
		if subtle.ConstantTimeCompare(v.closed[i].code.secret[:], secret) == 1 {
			end = v.closed[i].end
		}
	}
	switch {
	case found >= 0:
		v.end(found, "the code was used already: each is good for one node, once")
		return nil
	case end != "":
		return &refusal{reason: end, level: slog.LevelInfo}
	}
	return v.miss(now)
}

// miss notes a wrong try.
func (v *Invitations) miss(now time.Time) *refusal {
	r := &refusal{
		reason: "the code is not one of this node: it was given out by another node, or this one has been restarted since",
		level:  slog.LevelDebug, // nothing can be guessed, and strangers do not fill the log
	}
	if len(v.open) == 0 {
		return r
	}
	r.level = slog.LevelWarn
	v.wrong = append(v.wrong, now)
	if len(v.wrong) < maxWrong {
		return r
	}
	r.voided = true
	for len(v.open) > 0 {
		v.end(0, "the code is void: somebody has tried too many wrong ones")
	}
	v.wrong = v.wrong[:0]
	return r
}

// expire ends what is over. The invitations are in the order of their times.
func (v *Invitations) expire(now time.Time) {
	for len(v.open) > 0 && now.Sub(v.open[0].made) >= validFor {
		v.end(0, "the code has expired: each is good for 15 minutes")
	}
	for len(v.wrong) > 0 && now.Sub(v.wrong[0]) >= validFor {
		v.wrong = v.wrong[1:]
	}
}

// end closes an invitation.
func (v *Invitations) end(i int, how string) {
	closed := v.open[i]
	closed.end = how
	v.open = append(v.open[:i], v.open[i+1:]...)
	if len(v.closed) == maxClosed {
		v.closed = v.closed[1:]
	}
	v.closed = append(v.closed, closed)
}
