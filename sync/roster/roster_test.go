package roster

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/tributary-edge/tributary"
)

var self, other, third = tributary.NodeID{1}, tributary.NodeID{2}, tributary.NodeID{3}

func open(t *testing.T, dir string, id tributary.NodeID) *Roster {
	t.Helper()
	r, damaged, err := Open(dir, id)
	if err != nil || damaged {
		t.Fatal(damaged, err)
	}
	return r
}

// R3: of the processes of one node the latest counts, over restarts too, and of two
// that were started equally often the one that was there first.
func TestImpostors(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, self)
	admit := func(boot, nonce uint64, want bool) {
		t.Helper()
		_, err := r.Admit(other, "two", boot, nonce)
		if impostor := errors.As(err, new(*ImpostorError)); impostor == want {
			t.Errorf("boot %d, nonce %d: %v", boot, nonce, err)
		}
	}
	admit(5, 50, true)
	admit(5, 50, true) // it dials again
	admit(5, 49, false)
	admit(5, 51, false)
	admit(5, 50, true)
	admit(4, 99, false)
	admit(6, 1, true)
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir, self)
	admit(5, 51, false)
	admit(6, 1, true)
}

// R70: what an operator says of a node is the same on all nodes in the end, in
// whatever order they hear of it, and survives restarts.
func TestStandingsAgree(t *testing.T) {
	r := open(t, t.TempDir(), self)
	for _, id := range []tributary.NodeID{other, third} {
		if _, err := r.Admit(id, "n", 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	told := [][]Standing{r.Standings()}
	for _, step := range []func() error{
		func() error { return r.Remove(other, false) },
		func() error { return r.Remove(other, true) },
		func() error { return r.Remove(other, false) }, // again
		func() error { return r.Add(other) },
		func() error { return r.Add(other) },
		func() error { return r.Remove(other, false) },
		func() error { return r.Remove(third, false) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		told = append(told, r.Standings())
	}
	if got := r.State(other); got != Removed {
		t.Errorf("the node is %v", got)
	}
	if err := r.Remove(tributary.NodeID{9}, false); err == nil {
		t.Error("a node that nobody knows was removed")
	}
	for first := range told {
		dir := t.TempDir()
		late := open(t, dir, self)
		for n := range told {
			late.Merge(told[(first+n*3)%len(told)])
		}
		if late.Merge(r.Standings()) {
			t.Error("what all have told is news")
		}
		if err := late.Save(); err != nil {
			t.Fatal(err)
		}
		if got := open(t, dir, self).Standings(); !reflect.DeepEqual(got, r.Standings()) {
			t.Errorf("%v, should be %v", got, r.Standings())
		}
	}
}

// R70: a removed node is asked in hand-offs until it has left, or is said to be lost;
// added again, it is a member.
func TestMembers(t *testing.T) {
	r := open(t, t.TempDir(), self)
	members := func(want ...tributary.NodeID) {
		t.Helper()
		if got := r.Members(); !slices.Equal(got, want) {
			t.Errorf("members %v, should be %v", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Merge([]Standing{{Node: other, State: Member}, {Node: third, State: Member}, {Node: tributary.NodeID{9}, State: 77}})
	members(other, third)
	must(r.Remove(other, false))
	members(other, third)
	must(r.Remove(third, true))
	members(other)

	left := open(t, t.TempDir(), other) // it hears of it, and leaves
	must(left.Leave())
	if left.Self() != Member {
		t.Error("a member has left")
	}
	left.Merge(r.Standings())
	must(left.Leave())
	r.Merge(left.Standings())
	members()
	if r.State(other) != Gone {
		t.Errorf("it is %v", r.State(other))
	}
	must(r.Add(other))
	members(other)
	left.Merge(r.Standings())
	if left.Self() != Member {
		t.Errorf("added again, it is %v", left.Self())
	}
	for n := range 2 * Most {
		_, _ = r.Admit(tributary.NodeID{100, byte(n)}, "n", 1, 1) // there is no room for all
	}
	if n := len(r.Nodes()); n > Most {
		t.Errorf("%d nodes", n)
	}
}

// A file that is damaged is no reason not to start; one of a newer program is.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	for text, wants := range map[string]struct{ damaged, refused bool }{
		"":                                     {damaged: true},
		`{"version":1,"nodes":[{"node":"x"}]}`: {damaged: true},
		`{"version":2}`:                        {refused: true},
		`{"version":1}`:                        {},
	} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, damaged, err := Open(dir, self)
		if damaged != wants.damaged || (err != nil) != wants.refused || err == nil && len(r.Nodes()) != 1 {
			t.Errorf("%q: damaged %v, %v", text, damaged, err)
		}
	}
}
