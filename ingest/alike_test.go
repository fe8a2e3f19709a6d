package ingest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A gateway is a node of a site whose others it hears of what the test lets through.
type gateway struct {
	*node

	told [][]byte // to be told to the others
	seen map[int]int
}

func startSite(t *testing.T, n int) (all []*gateway) {
	t.Helper()
	for i := range n {
		g := &gateway{seen: map[int]int{}}
		g.node = startNode(t, func(o *Options) {
			o.Node = tributary.NodeID{byte(i + 1)}
			o.Share = func(item []byte) { g.told = append(g.told, item) }
			o.MaxRetained = 100
		})
		g.log.auto(t)
		all = append(all, g)
	}
	return all
}

// compare has g ask another gateway for what differs.
func (g *gateway) compare(with *gateway) (news int) {
	g.t.Helper()
	_, hashes := g.Hashes()
	items, more := with.Differing(hashes, 1<<20)
	if err := g.TakeShared(items, func(n int) { news = n }); err != nil || more {
		g.t.Fatal(err, more)
	}
	synctest.Wait()
	return news
}

// kept returns what a gateway retains.
func (g *gateway) kept() map[string]string {
	all := map[string]string{}
	g.out.kept.all.Match("#", func(name string, e *record.Entry) bool {
		all[name] = string(e.Value)
		return true
	})
	return all
}

// T30, R52, M2: whatever is retained and cleared on which gateway, told or not, over kills: when
// all have compared, all have the same, and of each topic what was written last by
// somebody who knew of the others.
func TestRetainedAlike(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 52))
			all := startSite(t, 3)
			last := map[string]string{}
			publish := func(g *gateway, topic, payload string) {
				pub := pipe(t, g.Door).enter(dialled{id: "pub", v5: true})
				pub.send(publishPacket(true, 2|1, 1, topic, payload)...)
				pub.want(0x40, 2, 0, 1)
				synctest.Wait()
				pub.vanish()
			}
			for i := range 150 {
				g, other := all[rng.IntN(3)], all[rng.IntN(3)]
				topic := fmt.Sprint("t/", rng.IntN(12))
				switch rng.IntN(12) {
				case 0:
					g.save()
				case 1:
					g.kill()
					g.log.auto(t)
					synctest.Wait()
				case 2:
					g.compare(other)
				case 3:
					_ = other.TakeShared(g.told, func(int) {})
					synctest.Wait()
					g.told = nil
				case 4, 5:
					publish(g, topic, "")
				default:
					<-time.After(time.Duration(rng.IntN(3)) * time.Millisecond)
					publish(g, topic, fmt.Sprint(i))
				}
			}
			settle := func() {
				for range 2 {
					for _, g := range all {
						for _, with := range all {
							g.compare(with)
						}
					}
				}
			}
			settle()
			for i := range 12 { // everybody knows of all: what is written now is the last
				topic := fmt.Sprint("t/", i)
				if last[topic] = fmt.Sprint("last ", i); i%3 == 0 {
					last[topic] = ""
				}
				publish(all[rng.IntN(3)], topic, last[topic])
			}
			settle()
			maps.DeleteFunc(last, func(_, payload string) bool { return payload == "" })
			for i, g := range all {
				sum, _ := g.Hashes()
				if first, _ := all[0].Hashes(); !maps.Equal(g.kept(), last) || sum != first {
					t.Errorf("seed %d: gateway %d has %v, want %v", seed, i, g.kept(), last)
				}
				if news := g.compare(all[0]); news != 0 {
					t.Errorf("seed %d: %d are news to gateway %d", seed, news, i)
				}
				g.save()
				g.kill()
				if again, _ := g.Hashes(); again != sum || !maps.Equal(g.kept(), last) {
					t.Errorf("seed %d: after a kill gateway %d has %v", seed, i, g.kept())
				}
			}
		})
	}
}

// R52, M2: a clock that is behind does not make a gateway's writes old, and what a gateway
// was told is not told on.
func TestRetainedByASlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startSite(t, 2)
		far := record.Entry{Record: record.Record{Value: []byte("from the future"), Headers: []record.Header{{Key: headerTopic, Value: []byte("t")}}}}
		ahead := stamp{uint64(time.Now().Add(10*365*24*time.Hour).UnixMilli()) << stampCountBits, tributary.NodeID{9}}
		if err := all[0].TakeShared([][]byte{stamped(&far, ahead)}, func(int) {}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(all[0].told) > 0 || all[0].kept()["t"] != "from the future" {
			t.Errorf("told %d, kept %v", len(all[0].told), all[0].kept())
		}
		pub := pipe(t, all[0].Door).enter(dialled{id: "pub", v5: true})
		pub.send(publishPacket(true, 2|1, 1, "t", "now")...)
		pub.want(0x40, 2, 0, 1)
		synctest.Wait()
		all[1].compare(all[0])
		if got := all[1].kept()["t"]; got != "now" {
			t.Errorf("kept %q", got)
		}
		if e := all[0].records()[0]; len(e.Header(headerWritten)) != 8 {
			t.Error("the record has no stamp")
		}
		sub := pipe(t, all[1].Door).enter(dialled{id: "sub", v5: true}).subscribe("t", 0)
		sub.wantMessage(delivered{topic: "t", payload: "now", retain: true})
	})
}

// S1: what others retain is bounded as what clients here do; cleared topics are
// remembered in a bounded number.
func TestRetainedAlikeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startSite(t, 1)
		var items [][]byte
		for i := range 500 {
			e := record.Entry{Record: record.Record{Headers: []record.Header{{Key: headerTopic, Value: fmt.Append(nil, "t/", i)}}}}
			if i < 300 {
				e.Value = []byte("x")
			}
			items = append(items, stamped(&e, stamp{uint64(i + 1), tributary.NodeID{9}}))
		}
		if err := all[0].TakeShared(slices.Concat(items, items), func(int) {}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w := all[0].out.kept.stamps
		if len(all[0].kept()) != 100 || len(w.stamps) > 200 || len(w.cleared) > 2*200+hashBuckets {
			t.Errorf("%d are kept, of %d it is known when they were written", len(all[0].kept()), len(w.stamps))
		}
	})
}

// A node that is alone keeps no stamps, and writes none.
func TestAloneHasNoStamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, nil)
		n.log.auto(t)
		pub := pipe(t, n.Door).enter(dialled{id: "pub", v5: true})
		pub.send(publishPacket(true, 2|1, 1, "t", "x")...)
		pub.want(0x40, 2, 0, 1)
		synctest.Wait()
		if n.out.kept.stamps != nil || n.records()[0].Header(headerWritten) != nil {
			t.Error("it has stamps")
		}
		if s := n.Snapshot(); s.Others != nil || s.Retained["t"][0] != retainedVersion {
			t.Errorf("saved %+v", s)
		}
	})
}

func (n *node) records() []record.Entry { return n.log.records() }

// S1: bytes of another gateway, or of a damaged checkpoint.
func FuzzRetained(f *testing.F) {
	e := record.Entry{Record: record.Record{Millis: 5, Value: []byte("v"), Headers: []record.Header{{Key: headerTopic, Value: []byte("t")}}}}
	f.Add(appendEntry(nil, &e))
	f.Add(stamped(&e, stamp{1 << 50, tributary.NodeID{1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, s, err := parseEntry(b)
		if err != nil || s == (stamp{}) {
			return
		}
		again, s2, err := parseEntry(stamped(e, s))
		if err != nil || s2 != s || !bytes.Equal(again.Value, e.Value) || len(again.Headers) != len(e.Headers) {
			t.Fatalf("%+v %+v %v", again, s2, err)
		}
	})
}
