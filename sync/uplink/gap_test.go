package uplink

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// notes returns what the gap records among got say, in the order of LSNs.
func notes(t *testing.T, got []*kgo.Record) (all []gapNote) {
	t.Helper()
	for _, r := range got {
		if note, ok := readGap(t, r); ok {
			all = append(all, note)
		}
	}
	slices.SortFunc(all, func(a, b gapNote) int { return cmp.Compare(a.From, b.From) })
	return all
}

// ranges returns the ranges of notes.
func ranges(notes []gapNote) string {
	var b strings.Builder
	for _, n := range notes {
		fmt.Fprintf(&b, "[%d,%d)", n.From, n.To)
	}
	return b.String()
}

// The bytes are fixed for ever: docs/format/gaps.md.
func TestGapBytes(t *testing.T) {
	n := gapNote{
		Version: 1, Kind: "gap", Reason: record.Damaged, Site: "plant", Node: "n1", Ledger: "00ff",
		From: 100, To: 1<<64 - 1, Count: 1<<64 - 101, FirstTime: rfc3339(1700000000123), Streams: map[string]int64{"telemetry": 120, "": 3, "*": 7},
	}
	const want = `{"v":1,"kind":"gap","reason":"damaged","site":"plant","node":"n1","ledger":"00ff","from":100,"to":18446744073709551615,` +
		`"count":18446744073709551515,"first_time":"2023-11-14T22:13:20.123Z","last_time":null,"streams":{"":3,"*":7,"telemetry":120}}`
	if got := string(n.encode()); got != want {
		t.Errorf("encoded\n%s, want\n%s", got, want)
	}
	n.Streams = nil
	if got := string(n.encode()); !strings.HasSuffix(got, `"streams":null}`) {
		t.Errorf("streams that are not known: %s", got)
	}
	for _, millis := range []int64{0, -1 << 63, 1<<63 - 1} {
		if got := rfc3339(millis); got != nil {
			t.Errorf("%d ms is %s, want null", millis, *got)
		}
	}
}

// U1, U3, U4: gaps in the middle, at the start and at the very end of a ledger
// are in the dead-letter topic, once each, and nothing around them is missing.
func TestGap(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	l.fill("a", 100, 10)
	l.add(record.Record{Key: []byte("control")})
	l.fill("b", 9, 3)
	l.add(record.Record{Stream: "a", Millis: 1700000000123, Value: []byte("x")})
	l.drop(0, 20, record.Dropped)
	l.drop(50, 60, record.Damaged)
	l.drop(60, 70, record.Dropped) // a second one right behind it
	l.drop(100, 111, record.Damaged)
	l.close()
	watch := drain(t, config(c), l)

	got := readCommitted(t, c.ListenAddrs(), "a", "dead")
	checkExactlyOnce(t, l, got)
	for _, r := range got {
		if note, ok := readGap(t, r); ok && note.From == 100 {
			const want = `"reason":"damaged","site":"plant","node":"n1"`
			if r.Topic != "dead" || string(r.Key) != "plant/"+l.id.String() || !strings.Contains(string(r.Value), want) || len(r.Headers) != 3 ||
				note.Streams[""] != 1 || note.Streams["b"] != 9 || note.Streams["a"] != 1 || *note.LastTime != "2023-11-14T22:13:20.123Z" {
				t.Errorf("in %s: key %s, value %s, headers %v", r.Topic, r.Key, r.Value, r.Headers)
			}
		}
	}
	if got := ranges(notes(t, got)); got != "[0,20)[50,60)[60,70)[100,111)" {
		t.Errorf("gaps %s", got)
	}
	end, _ := l.ChainAt(111)
	commit := watch.commits[len(watch.commits)-1]
	if len(watch.commits) != 1 || commit.Gaps != 4 || commit.GapRecords != 51 || commit.Records != 60 || commit.DeadLetters != 0 || commit.Position != (tributary.Position{Ledger: l.id, Next: 111, Chain: end}) {
		t.Errorf("commits %+v", watch.commits)
	}
	// Again: it is all said, and the end of a gap is a position like any other.
	if again := drain(t, config(c), l); len(again.commits) != 1 || again.commits[0].Records+again.commits[0].Gaps != 0 || again.commits[0].Position.Next != 111 {
		t.Errorf("commits %+v; want the position that was found", again.commits)
	}
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "dead"))
}

// U1, U4: the answer to the commit of a gap does not come, after Kafka has done
// it or before: the record of the gap is there once.
func TestGapWithUnknownOutcome(t *testing.T) {
	for _, applied := range []bool{true, false} {
		t.Run(fmt.Sprintf("applied %t", applied), func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "a", "dead"))
			w := &wire{}
			cfg := config(c)
			cfg.Dial = w.dial
			c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
				if applied {
					w.cut() // the request is done, and its answer finds no connection
					return nil, nil, false
				}
				return nil, errKilled, true // the connection is cut instead of doing it
			})
			l := newLedger()
			l.fill("a", 40, 10)
			l.drop(10, 20, record.Damaged)
			l.close()
			drain(t, cfg, l)
			got := readCommitted(t, c.ListenAddrs(), "a", "dead")
			checkExactlyOnce(t, l, got)
			if got := ranges(notes(t, got)); got != "[10,20)" {
				t.Errorf("gaps %s", got)
			}
		})
	}
}

// U1, U4: Kafka has more of what is gone than was known when it was given up. Only
// the rest of it is told of, though nobody knows the chain there any more.
func TestGapAroundThePosition(t *testing.T) {
	for _, at := range []struct {
		next tributary.LSN
		want string
	}{{0, "[0,80)"}, {10, "[10,80)"}, {40, "[40,80)"}, {80, ""}, {90, ""}} {
		t.Run(fmt.Sprint(at.next), func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "a", "dead"))
			l, watch := newLedger(), newLog()
			if at.next > 0 {
				stop := start(t, quick(t, config(c), l, watch))
				l.fill("a", int(at.next), 10)
				watch.until(t, "commit", committed(at.next))
				_ = stop()
			}
			l.fill("a", int(100-at.next), 10)
			l.drop(0, 80, record.Dropped)
			l.close()
			drain(t, config(c), l)
			got := readCommitted(t, c.ListenAddrs(), "a", "dead")
			checkExactlyOnce(t, l, got)
			if got := ranges(notes(t, got)); got != at.want {
				t.Errorf("gaps %q, want %q", got, at.want)
			}
		})
	}
}

// U1, U3, U4: the position was inside the gap of a ledger that ends with it.
func TestGapToTheEndAroundThePosition(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a", "dead"))
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, config(c), l, watch))
	l.fill("a", 30, 10)
	watch.until(t, "commit", committed(30))
	_ = stop()
	l.fill("a", 30, 10)
	l.drop(20, 60, record.Damaged)
	l.close()
	for range 2 {
		drain(t, config(c), l)
		got := readCommitted(t, c.ListenAddrs(), "a", "dead")
		checkExactlyOnce(t, l, got)
		if got := ranges(notes(t, got)); got != "[30,60)" {
			t.Errorf("gaps %q, want [30,60)", got)
		}
	}
}

// U4: without a dead-letter topic a gap is waited for, with a sentence; what is
// before it goes on. With one, all goes on.
func TestGapWithoutDeadLetter(t *testing.T) {
	c := cluster(t)
	l, watch := newLedger(), newLog()
	l.fill("a", 100, 10)
	l.drop(50, 60, record.Damaged)
	cfg := config(c)
	cfg.DeadLetter = ""
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", says("Records 50 to 59 are gone (damaged)", "Set dead_letter"))
	_ = stop()
	if got := watch.commits[len(watch.commits)-1].Position.Next; got != 50 {
		t.Errorf("committed up to %d, want what is before the gap", got)
	}
	l.close()
	drain(t, config(c), l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "dead"))
}

// U4: a gap is something to send: it does not wait like control records do, and
// goes with what is before it.
func TestGapGoesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		b.ledger.fill("a", 20, 10)
		b.ledger.drop(10, 20, record.Dropped)
		b.start(time.Minute)
		b.waitFor("commit", time.Second, committed(20))
		got := readCommittedOver(t, b.wire, b.cluster, "a", "dead")
		checkExactlyOnce(t, b.ledger, got)
		if len(notes(t, got)) != 1 || len(b.watch.commits) != 1 {
			t.Errorf("%d gap records in %d transactions, want one", len(notes(t, got)), len(b.watch.commits))
		}
	})
}

// U4: a gap record fits a dead-letter topic of small messages; what is left out
// is counted together.
func TestGapFitsTheDeadLetterTopic(t *testing.T) {
	for name, limit := range map[string]string{"told": "1000", "config": ""} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1))
			cfg := config(c)
			if limit != "" {
				seedTopic(t, c, "dead", "max.message.bytes", limit)
				cfg.Compression = "none"
			} else {
				cfg.MaxMessageBytes = 1024
			}
			l := newLedger()
			var group []record.Record
			for i := range 100 {
				group = append(group, record.Record{Stream: fmt.Sprintf("stream-%d-of-a-hundred", i), Value: []byte("v")})
			}
			l.fill("a", 10, 10)
			l.add(append(group, record.Record{})...)
			l.fill("a", 10, 10)
			l.drop(10, 111, record.Damaged)
			l.close()
			drain(t, cfg, l)
			got := readCommitted(t, c.ListenAddrs(), "a", "dead")
			checkExactlyOnce(t, l, got)
			if n := notes(t, got); len(n) != 1 || fmt.Sprint(n[0].Streams) != "map[:1 *:100]" {
				t.Errorf("gaps %+v", n)
			}
		})
	}
}

// U4: a dead-letter topic that refuses a gap record is waited for, with a
// sentence.
func TestGapRefused(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	seedTopic(t, c, "dead", "max.message.bytes", "300")
	l, watch := newLedger(), newLog()
	l.fill("a", 20, 10)
	l.drop(10, 20, record.Damaged)
	cfg := config(c)
	cfg.Compression = "none"
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", says("refuses record 10 for topic dead for good: MESSAGE_TOO_LARGE", "Change the dead-letter topic dead"))
	_ = stop()
	if n := len(watch.commits); n != 0 {
		t.Errorf("%d commits", n)
	}
}
