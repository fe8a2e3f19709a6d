package topic

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestRetained(t *testing.T) {
	r := NewRetained[int]()
	if _, existed := r.Set("a/b", 1); existed {
		t.Error("the first existed")
	}
	if was, existed := r.Set("a/b", 2); was != 1 || !existed {
		t.Errorf("before the second was %d, %v", was, existed)
	}
	if v, ok := r.Get("a/b"); v != 2 || !ok {
		t.Errorf("got %d, %v", v, ok)
	}
	for _, topic := range []string{"a", "a/b/c", "", "b", "a/"} {
		if v, ok := r.Get(topic); ok {
			t.Errorf("%q has %d", topic, v)
		}
		if _, existed := r.Delete(topic); existed {
			t.Errorf("%q existed", topic)
		}
	}
	if was, existed := r.Delete("a/b"); was != 2 || !existed || r.Len() != 0 || !r.root.leaf() {
		t.Errorf("deleted %d, %v; %d are left", was, existed, r.Len())
	}
}

func TestRetainedAgainstMap(t *testing.T) {
	for seed := range uint64(200) {
		retainedAgainstMap(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d; the run is the same each time", seed)
		}
	}
}

func retainedAgainstMap(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	r, list := NewRetained[int](), map[string]int{}
	for i := range 300 {
		topic := randomPath(rng, "a", "b", "", "$x", "a-")
		had, existed := list[topic]
		switch rng.IntN(5) {
		case 0, 1:
			if was, ok := r.Set(topic, i); was != had || ok != existed {
				t.Errorf("Set of %q: was %d, %v", topic, was, ok)
			}
			list[topic] = i
		case 2:
			if was, ok := r.Delete(topic); was != had || ok != existed {
				t.Errorf("Delete of %q: was %d, %v", topic, was, ok)
			}
			delete(list, topic)
		case 3:
			if v, ok := r.Get(topic); v != had || ok != existed {
				t.Errorf("Get of %q: %d, %v", topic, v, ok)
			}
		default:
			_, filter, _ := SplitShare(randomFilter(rng))
			var got, want []string
			r.Match(filter, func(topic string, v int) bool { got = append(got, fmt.Sprint(topic, " ", v)); return true })
			for _, topic := range slices.Sorted(maps.Keys(list)) {
				if naive(filter, topic) {
					want = append(want, fmt.Sprint(topic, " ", list[topic]))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q: got %q, want %q", filter, got, want)
			}
		}
		if r.Len() != len(list) {
			t.Errorf("%d messages, not %d", r.Len(), len(list))
		}
	}
	for topic := range list {
		r.Delete(topic)
	}
	if r.Len() != 0 || !r.root.leaf() || r.root.value != nil {
		t.Errorf("%d messages are left, levels %+v", r.Len(), r.root)
	}
}

// Whoever is called by Match may change the messages, and stop it.
func TestRetainedMatchHoldsNoLock(t *testing.T) {
	r := NewRetained[int]()
	for i := range 5 {
		r.Set(fmt.Sprint("a/", i), i)
	}
	var got []string
	r.Match("a/+", func(topic string, v int) bool {
		r.Delete("a/1")
		r.Set("a/2", 99)
		got = append(got, fmt.Sprint(topic, " ", v))
		return v < 3
	})
	if want := []string{"a/0 0", "a/1 1", "a/2 2", "a/3 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Match("$share/g/a/+", func(topic string, _ int) bool {
		t.Errorf("a shared subscription gets %s", topic)
		return true
	})
}

func TestRetainedAtOnce(t *testing.T) {
	r := NewRetained[int]()
	r.Set("w", 7)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			mine := fmt.Sprint("w/", w)
			for i := range 500 {
				r.Set(mine, i)
				if v, ok := r.Get(mine); v != i || !ok {
					t.Errorf("worker %d gets %d, %v in round %d", w, v, ok, i)
				}
				seen := false
				r.Match("w/#", func(topic string, v int) bool {
					seen = seen || topic == mine && v == i
					return true
				})
				if !seen {
					t.Errorf("worker %d does not get its message", w)
				}
				r.Delete(mine)
			}
		})
	}
	wg.Wait()
	if r.Len() != 1 {
		t.Errorf("%d messages", r.Len())
	}
}
