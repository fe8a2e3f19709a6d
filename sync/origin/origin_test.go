package origin

import (
	"testing"

	"github.com/tributary-edge/tributary"
)

// U2: who wrote a ledger, and in which of its lives, is read from what it has written.
func TestOpening(t *testing.T) {
	id := tributary.NodeID{0xab, 15: 1}
	value := Opening{Node: "n\x011 <ü>", NodeID: id.String(), Site: "plant", Boots: 7, Version: "1"}.Value()
	if got, want := Parse(value), (Origin{Node: id, Boots: 7}); got != want || !got.Known() {
		t.Errorf("%s: %+v, should be %+v", value, got, want)
	}
	// As the first releases wrote it.
	old := []byte(`{"v":1,"node":"n1","node_id":"` + id.String() + `","site":"default","boots":3,"version":"0.1.0-dev"}`)
	if got, want := Parse(old), (Origin{Node: id, Boots: 3}); got != want {
		t.Errorf("%s: %+v, should be %+v", old, got, want)
	}
	for _, bad := range []string{"", "{", `{"node_id":"ab"}`, `{"node_id":"zz000000000000000000000000000001","boots":3}`, `[]`, `{"node_id":5}`} {
		if got := Parse([]byte(bad)); got.Known() {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Opening{NodeID: tributary.NodeID{1}.String(), Boots: 1}.Value())
	f.Fuzz(func(t *testing.T, value []byte) {
		if o := Parse(value); o.Known() && o != Parse(Opening{NodeID: o.Node.String(), Boots: o.Boots}.Value()) {
			t.Errorf("%q is %+v, and that is another one", value, o)
		}
	})
}
