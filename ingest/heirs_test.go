package ingest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/log/record"
)

// hear gives a gateway what another one has told since the last time.
func (g *gateway) hear(of *gateway) {
	g.t.Helper()
	synctest.Wait()
	if err := g.TakeShared(of.told, func(int) {}); err != nil {
		g.t.Fatal(err)
	}
	of.told = nil
	synctest.Wait()
}

// R54: the will of a client is known elsewhere as long as it may have to be published there,
// and is published there once.
func TestWillElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startSite(t, 3)
		home, heir, other := all[0], all[1], all[2]
		of := tributary.NodeID{1}
		left := func(g *gateway) string { return fmt.Sprint(g.Heirlooms(of)) }
		tell := func() {
			heir.hear(home)
			other.compare(home)
		}
		sub := pipe(t, heir.Door).enter(dialled{id: "sub", v5: true}).subscribe("w", 0)

		c := pipe(t, home.Door).enter(dialled{id: "dev", v5: true, will: "w", willDelay: 7, expiry: 100})
		tell()
		if left(heir) != "[{dev 7}]" || left(other) != "[{dev 7}]" || len(heir.Testators()) != 1 || len(home.Testators()) != 0 {
			t.Errorf("known are %v and %v, of %v", left(heir), left(other), heir.Testators())
		}
		c.send(0xe0, 0) // it leaves in good order
		tell()
		if left(heir)+left(other) != "[][]" {
			t.Errorf("after DISCONNECT known are %v and %v", left(heir), left(other))
		}

		c = pipe(t, home.Door).enter(dialled{id: "dev", v5: true, will: "w"})
		tell()
		c.vanish() // it is published at home
		tell()
		if left(heir)+left(other) != "[][]" || home.messages() != 1 {
			t.Errorf("after it was published known are %v and %v", left(heir), left(other))
		}

		pipe(t, home.Door).enter(dialled{id: "dev", v5: true, will: "w", willDelay: 7})
		tell()
		if left(heir) != "[{dev 0}]" { // the session ends with its connection, and so does the delay
			t.Errorf("known are %v", left(heir))
		}
		heir.Inherit(of, "dev")
		heir.Inherit(of, "dev")
		sub.wantMessage(delivered{topic: "w", payload: "gone"})
		sub.wantNothing()
		other.hear(heir)
		other.Inherit(of, "dev")
		synctest.Wait()
		if heir.messages() != 1 || other.messages() != 0 || left(other) != "[]" {
			t.Errorf("published %d and %d times, known are %v", heir.messages(), other.messages(), left(other))
		}
	})
}

// R54: a client that has come to another gateway has not died, and who was its home does
// not take away what it says there.
func TestWillOfOneWhoMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startSite(t, 3)
		old, home, heir := all[0], all[1], all[2]
		c := pipe(t, old.Door).enter(dialled{id: "dev", v5: true, will: "w"})
		home.hear(old)
		heir.compare(old)
		pipe(t, home.Door).enter(dialled{id: "dev", v5: true, will: "w"})
		synctest.Wait()
		old.compare(home)
		heir.compare(home)
		c.vanish()
		heir.hear(old)
		if heir.Inherit(tributary.NodeID{1}, "dev"); heir.messages() != 0 {
			t.Error("the will of a client that is there was published")
		}
		if n := len(heir.Heirlooms(tributary.NodeID{2})); n != 1 {
			t.Errorf("%d wills are known of its new home", n)
		}
		pipe(t, heir.Door).enter(dialled{id: "dev", v5: true}) // without a will
		synctest.Wait()
		if n := len(heir.Testators()); n != 0 {
			t.Errorf("there are wills of %d gateways", n)
		}
	})
}

// S1, S2: the rules are asked for the wills of others, and what another version has told
// does not hurt.
func TestWillElsewhereAsksTheRules(t *testing.T) {
	denied := rules{fmt.Sprint(auth.Write, " no"): true}
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, func(o *Options) {
			o.Guard, o.Node, o.Share = denied, tributary.NodeID{1}, func([]byte) {}
		})
		n.log.auto(t)
		of := tributary.NodeID{9}
		var items [][]byte
		for i, topic := range []string{"no", "", "a/+", "$SYS/x", "a\x00", "yes"} {
			e := willEntry(fmt.Sprint("dev", i))
			e.Value = []byte{1}
			e.Headers = append(e.Headers, record.Header{Key: headerWillTopic, Value: []byte(topic)},
				record.Header{Key: headerWillProps, Value: []byte{0xff, 0xff}},
				record.Header{Key: headerWillDelay, Value: binary.BigEndian.AppendUint32(nil, 1)})
			items = append(items, stamped(e, stamp{1, of}))
		}
		if err := n.TakeShared(items, func(int) {}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, will := range n.Heirlooms(of) {
			n.Inherit(of, will.Client)
		}
		synctest.Wait()
		if n.messages() != 1 {
			t.Errorf("%d were published", n.messages())
		}
		if s := n.Snapshot(); len(s.Retained) != 0 {
			t.Error("wills are in the checkpoint")
		}
	})
}
