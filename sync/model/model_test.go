package model

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// number returns what the environment says, or not.
func number(t *testing.T, name string) (n uint64, is bool) {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// A tally is what many runs of a scenario came to.
type tally struct {
	runs   int
	bad    []uint64
	kinds  [exact + 1]int
	counts Counts
	took   time.Duration
}

func (a *tally) String() string {
	kinds := ""
	for i, n := range a.kinds {
		if n > 0 {
			kinds += fmt.Sprintf(" %v in %d", Invariant(i), n)
		}
	}
	return fmt.Sprintf("%7d seeds, %d violating%s, %.0f seeds/s\n     %v", a.runs, len(a.bad), kinds, float64(a.runs)/a.took.Seconds(), &a.counts)
}

// search runs a scenario with the seeds [from, to) on all cores. It stops
// early once it has as many violating seeds as enough.
func search(s Scenario, from, to uint64, enough int) *tally {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // a world is small, and soon gone
	a := &tally{}
	began := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := from
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				stop := seed >= to || enough > 0 && len(a.bad) >= enough
				mu.Unlock()
				if stop {
					return
				}
				r := Run(s, seed)
				mu.Lock()
				a.runs++
				a.counts.Add(&r.Counts)
				if len(r.Violations) > 0 {
					a.bad = append(a.bad, seed)
					var seen [exact + 1]bool
					for _, v := range r.Violations {
						if !seen[v.Invariant] {
							seen[v.Invariant] = true
							a.kinds[v.Invariant]++
						}
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	a.took = time.Since(began)
	return a
}

// I1, I2, I3, I4, I5, I6, I7, I8, I9: whatever fails, and however it is timed,
// none of them is violated.
//
//	SCENARIO=all SEED=7 go test -v -run TestModel ./sync/model/   that seed again, the same run
//	make test-model SEEDS=1000000                                 so many runs, over all scenarios
func TestModel(t *testing.T) {
	each(t, Random, 15, 1)
}

// I1 to I9 with the faults of a script, and its exact outcome.
func TestExact(t *testing.T) {
	const part = 20 // of the runs of TestModel
	each(t, Exact(), 2, part)
}

// each runs the scenarios, or the one that SCENARIO names, and explains the
// first violation of each: with some seeds each, or SEED alone, or one part of
// as many as SEEDS says, over all of them.
func each(t *testing.T, scenarios []Scenario, n, part uint64) {
	t.Helper()
	if only := os.Getenv("SCENARIO"); only != "" {
		scenarios = slices.DeleteFunc(slices.Clone(scenarios), func(s Scenario) bool { return s.Name != only })
		part = 1
	}
	if len(scenarios) == 0 {
		return // it is one of the others
	}
	if many, is := number(t, "SEEDS"); is {
		n = max(many/part/uint64(len(scenarios)), 1)
	}
	from, to := uint64(1), 1+n
	if one, is := number(t, "SEED"); is {
		from, to = one, one+1
	}
	var sum tally
	for _, s := range scenarios {
		a := search(s, from, to, 0)
		t.Logf("%-15s %v", s.Name, a)
		if len(a.bad) > 0 {
			t.Errorf("%d of %d seeds: %s", len(a.bad), a.runs, Explain(s, a.bad[0]))
		}
		sum.runs += a.runs
		sum.took += a.took
		sum.counts.Add(&a.counts)
		sum.bad = append(sum.bad, a.bad...)
	}
	t.Logf("in all %v", &sum)
}

// The same seed gives the same run, to the last event.
func TestDeterministic(t *testing.T) {
	for _, s := range Random {
		a, b := run(s, 1, true), run(s, 1, true)
		if a.Counts != b.Counts {
			t.Errorf("%s: two runs of one seed differ:\n%v\n%v", s.Name, &a.Counts, &b.Counts)
		}
		for i, line := range a.trace.lines {
			if i >= len(b.trace.lines) || line != b.trace.lines[i] {
				t.Errorf("%s: two runs of one seed differ at event %d: %v %s", s.Name, i, line.at, line.text)
				break
			}
		}
	}
}

// C14: to take over on silence alone, and not to back off, violates nothing at
// first, but nodes then fight.
func TestTakeOverOnSilenceIsDear(t *testing.T) {
	const seeds = 30
	quiet := search(Scenario{Set: func(*Config, uint64) {}}, 1, 1+seeds, 0)
	loud := search(Scenario{Set: breaking(TakeOverOnSilence | NoBackoff)}, 1, 1+seeds, 0)
	t.Logf("take-overs %d and %d, fenced %d and %d", quiet.counts.TakeOvers, loud.counts.TakeOvers, quiet.counts.Fenced, loud.counts.Fenced)
	if loud.counts.TakeOvers < 2*quiet.counts.TakeOvers || loud.counts.Fenced < 5*quiet.counts.Fenced {
		t.Error("on silence alone there are not many more take-overs")
	}
}

// Each rule that is broken on purpose is found: a search that finds nothing
// proves something.
//
//	VARIANT=no_reinit go test -v -run TestVariants ./sync/model/   explains what it finds
func TestVariants(t *testing.T) {
	only := os.Getenv("VARIANT")
	for _, s := range Variants {
		if only != "" && only != s.Name {
			continue
		}
		from, to := uint64(1), 1+uint64(s.Within)
		if one, is := number(t, "SEED"); is && only != "" {
			from, to = one, one+1
		}
		a := search(s, from, to, 1)
		t.Logf("%-22s found after %d runs (at most %d): %s", s.Name, a.runs, s.Within, s.About)
		switch {
		case len(a.bad) == 0:
			t.Errorf("%s (%s) breaks a rule, and %d seeds have not shown it", s.Name, s.About, s.Within)
		case only != "":
			t.Log(Explain(s, a.bad[0]))
		}
	}
}
