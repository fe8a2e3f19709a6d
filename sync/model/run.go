package model

import (
	"fmt"
	"strings"
)

// healWithin is how long a site may take to come to rest.
const healWithin = 90 * sec

// A Result is what became of one run.
type Result struct {
	Violations []Violation
	Counts     Counts
	trace      *trace
}

// Run is one run of a scenario, or of a broken variant of the protocol. The
// same arguments give the same run. It may be called from any goroutine.
func Run(s Scenario, seed uint64) Result { return run(s, seed, false) }

func run(s Scenario, seed uint64, watched bool) Result {
	c := ordinary(seed)
	s.Set(&c, seed)
	w := newWorld(c, seed, watched)
	w.runUntil(c.RunFor)
	w.heal()
	for end := w.now + healWithin; w.now < end && !w.settled(); {
		w.runUntil(w.now + sec)
	}
	w.counts.HealMillis = int((w.now - c.RunFor).Milliseconds())
	w.check()
	return Result{Violations: w.oracle.violations, Counts: w.counts, trace: w.trace}
}

// Explain repeats a run that violated something, and says what, with the last
// events that concern it and the command that repeats it.
func Explain(s Scenario, seed uint64) string {
	const lines = 36
	r := run(s, seed, true)
	if len(r.Violations) == 0 {
		return fmt.Sprintf("%s, seed %d: nothing is violated", s.Name, seed)
	}
	v := r.Violations[0]
	events := strings.Join(r.trace.about(&v, lines), "\n    ")
	kind := "SCENARIO"
	if s.Within > 0 {
		kind = "VARIANT"
	}
	return fmt.Sprintf("%s, seed %d: %v violated: %s\n    %s\nagain: %s=%s SEED=%d go test -v -run 'TestModel|TestExact|TestVariants' ./sync/model/",
		s.Name, seed, v.Invariant, v.Text, events, kind, s.Name, seed)
}
