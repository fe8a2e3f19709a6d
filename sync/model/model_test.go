package model

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// seeds returns the seeds to run: SEED alone, or as many as SEEDS says.
func seeds(t *testing.T, n uint64) (from, to uint64) {
	t.Helper()
	number := func(name string) (uint64, bool) {
		v, is := os.LookupEnv(name)
		if !is || v == "" {
			return 0, false
		}
		i, err := strconv.ParseUint(v, 10, 63)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return i, true
	}
	if one, is := number("SEED"); is {
		return one, one + 1
	}
	if many, is := number("SEEDS"); is {
		n = many
	}
	return 1, 1 + n
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
//	SCENARIO=all SEED=7 go test -v -run 'TestModel$' ./sync/model/   that seed again, the same run
//	make test-model SEEDS=1000000
func TestModel(t *testing.T) {
	each(t, "SCENARIO", Random, 15)
}

// I1 to I9 with the faults of a script, and its exact outcome.
func TestExact(t *testing.T) {
	each(t, "SCENARIO", Exact(), 3)
}

// each runs the scenarios, or the one that the environment names, and
// explains the first violation of each.
func each(t *testing.T, variable string, scenarios []Scenario, n uint64) {
	t.Helper()
	from, to := seeds(t, n)
	only := os.Getenv(variable)
	for _, s := range scenarios {
		if only != "" && only != s.Name {
			continue
		}
		a := search(s, from, to, 0)
		t.Logf("%-14s %v", s.Name, a)
		if len(a.bad) > 0 {
			t.Errorf("%d of %d seeds: %s", len(a.bad), a.runs, Explain(s, a.bad[0]))
		}
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
		a := search(s, 1, 1+uint64(s.Within), 1)
		t.Logf("%-22s found after %d runs (at most %d): %s", s.Name, a.runs, s.Within, s.About)
		switch {
		case len(a.bad) == 0:
			t.Errorf("%s (%s) breaks a rule, and %d seeds have not shown it", s.Name, s.About, s.Within)
		case only != "":
			t.Log(Explain(s, a.bad[0]))
		}
	}
}
