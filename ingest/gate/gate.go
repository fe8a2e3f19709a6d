// Package gate lets newcomers have a processor a few at a time, so that those who
// are connected need not wait for one behind ten thousand of them.
//
// Whoever is to compute for somebody that is not connected yet (a TLS handshake,
// the check of a token or password) takes a place first, and gives it back before
// it waits for anything: a peer that stalls has none. The package knows nothing of
// sockets.
package gate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Work is what a place is for.
type Work int

// The kinds of work. Short work and long work, while both wait, get the same time.
const (
	Connect   Work = iota // read a CONNECT; short
	Token                 // verify a token of somebody whose CONNECT was read; short
	Handshake             // begin a TLS handshake; long
	Finish                // go on with one; long, and before any other begins
	Password              // check a password; long
)

// LongestWait is how long anybody waits for a place. Few clients have the patience.
const LongestWait = time.Minute

// A place rests for as long as it worked, between these limits. With one processor
// nobody would look at the network before the line has ended. And a machine that is
// busy with other things gives the processor sooner to a process that does not
// always want it: what the others take makes the work longer, and so the rest. Less
// work is rested for later; to read a CONNECT needs no rest.
const (
	shortestRest  = time.Millisecond // timers are no finer
	longestRest   = 50 * time.Millisecond
	afterPassword = 5 * time.Millisecond // or devices with passwords, which take so long anyway, would come in at half the rate
)

// ErrBusy is why somebody got no place.
var ErrBusy = errors.New("too many clients connect to this node at once")

// Places returns how many places leave room for those who are connected on this
// machine: half of the processors, and one where there is only one.
func Places() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// A Gate has a number of places. Its methods may be called from many goroutines at
// once.
type Gate struct {
	mu    sync.Mutex // guards what follows
	free  int        // places; above 0 nobody waits
	short line
	long  line
	owed  time.Duration // to long work: how much more time short work had while both waited
	tired time.Duration // work that nobody has rested for
}

// New returns a gate with as many places.
func New(places int) *Gate { return &Gate{free: places} }

// A Place is one that was taken; the zero value is none. It is for one goroutine.
type Place struct {
	gate  *Gate
	work  Work
	since time.Time
}

// Enter waits for a place: for LongestWait at most, and not longer than ctx. The
// error then wraps ErrBusy, or the cause of ctx. The hosts that those who wait come
// from take turns, so that nobody waits behind the crowd of another; those of one
// host go in their order.
func (g *Gate) Enter(ctx context.Context, w Work, host string) (Place, error) {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return Place{g, w, time.Now()}, nil
	}
	me := &waiter{turn: make(chan struct{})}
	g.lineOf(w).add(me, w, host)
	g.mu.Unlock()

	timer := time.NewTimer(LongestWait)
	defer timer.Stop()
	var err error
	select {
	case <-me.turn:
		return Place{g, w, time.Now()}, nil
	case <-timer.C:
		err = fmt.Errorf("%w: waited %v", ErrBusy, LongestWait)
	case <-ctx.Done():
		err = fmt.Errorf("waited for other clients: %w", context.Cause(ctx))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if me.called { // just now
		g.callNext()
	}
	me.left = true
	return Place{}, err
}

// Leave gives the place back, if it is one.
func (p *Place) Leave() {
	g := p.gate
	if g == nil {
		return
	}
	p.gate = nil
	took := time.Since(p.since)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.short.waiting == 0 || g.long.waiting == 0:
		g.owed = 0
	case g.lineOf(p.work) == &g.short:
		g.owed += took
	default:
		g.owed -= took
	}
	switch p.work {
	case Connect:
	case Password:
		g.tired += min(took, afterPassword)
	case Token, Handshake, Finish:
		g.tired += took
	}
	if g.tired < shortestRest {
		g.callNext()
		return
	}
	rest := min(g.tired, longestRest)
	g.tired = 0
	time.AfterFunc(rest, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.callNext()
	})
}

// Taken reports whether it is a place.
func (p *Place) Taken() bool { return p.gate != nil }

func (g *Gate) lineOf(w Work) *line {
	if w == Connect || w == Token {
		return &g.short
	}
	return &g.long
}

// callNext passes on a place that nobody has. Called with mu held.
func (g *Gate) callNext() {
	first, then := &g.short, &g.long
	if g.owed > 0 {
		first, then = then, first
	}
	next := first.take()
	if next == nil {
		next = then.take()
	}
	if next == nil {
		g.free++
		return
	}
	next.called = true
	close(next.turn)
}
