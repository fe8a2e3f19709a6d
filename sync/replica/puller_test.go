package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/view"
)

// holes is a log in which ranges are missing.
type holes []Range

func (h holes) Missing() []Range { return h }

func (h holes) Heal(*group.Sealed, func(error)) error { return nil }

// R14, R15: of peers is asked what too few hold, and by range what is damaged here; less
// and less often while nothing comes; and what they do not hold any more is forgotten.
func TestPuller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, 1, disktest.New(1<<30), store.Options{}, nil)
		defer n.stop()
		v := view.New(n.id, view.Default)
		other, third := tributary.NodeID{2}, tributary.NodeID{3}
		few, enough, damaged := tributary.LedgerID{1}, tributary.LedgerID{2}, tributary.LedgerID{3}
		heals := holes{{damaged, 5, 7}}
		p := &Puller{
			Log: n, View: v, Heals: &heals, Copies: func() int { return 1 },
			Keepers: func() []tributary.NodeID { return []tributary.NodeID{other, third} },
		}
		hear := func(holds ...view.Holding) {
			_, _ = v.Heard(other, tributary.LedgerID{}, holds, time.Now())
			_, _ = v.Heard(third, tributary.LedgerID{}, []view.Holding{{Ledger: enough, Durable: 10}}, time.Now())
		}
		asked := map[peer.Pull]int{}
		for range 60 {
			hear(view.Holding{Ledger: few, Durable: 10}, view.Holding{Ledger: enough, Durable: 10}, view.Holding{Ledger: damaged, Base: 2, Durable: 9})
			for _, pull := range p.Pulls(other) {
				asked[pull]++
			}
			time.Sleep(time.Second) //nolint:forbidigo // bubble time
		}
		adopts := v.Adopts(few, p.Keepers(), 1, time.Now())
		if got := asked[peer.Pull{Ledger: few}]; adopts != (got > 0) || got > 10 {
			t.Errorf("it is asked %d times for what too few hold, and is to have it: %v", got, adopts)
		}
		if got := asked[peer.Pull{Ledger: damaged, From: 5, To: 7}]; got < 3 || got > 10 {
			t.Errorf("it is asked %d times for what is damaged", got)
		}
		for pull := range asked {
			if pull.Ledger == enough {
				t.Error("it is asked for what enough hold")
			}
		}
		for i := range 1000 {
			hear(view.Holding{Ledger: tributary.LedgerID{9, byte(i), byte(i >> 8)}, Durable: 10})
			p.Pulls(other)
		}
		if len(p.asked) > 1 {
			t.Errorf("%d ledgers are remembered that nobody holds", len(p.asked))
		}
	})
}
