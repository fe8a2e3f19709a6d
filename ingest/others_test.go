package ingest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/record"
)

// elsewhere is the ledger of another gateway, of which there is a copy here.
var elsewhere = tributary.LedgerID{0xee}

var otherNode = tributary.NodeID{0x0e}

// take adds messages to the copy of another gateway's ledger, and has them given.
func (n *node) take(messages ...record.Record) {
	n.t.Helper()
	if len(n.log.before) == 0 || n.log.before[0].ledger != elsewhere {
		n.log.before = append([]*fakeLog{newFakeLog()}, n.log.before...)
		n.log.before[0].ledger = elsewhere
	}
	l := n.log.before[0]
	l.mu.Lock()
	for i := range messages {
		l.entries = append(l.entries, record.Entry{LSN: tributary.LSN(len(l.entries)), Record: messages[i]})
	}
	l.readable, l.durable = len(l.entries), len(l.entries)
	to := tributary.LSN(l.readable)
	l.mu.Unlock()
	n.Follow(otherNode, elsewhere, 0, to)
}

// published is what another gateway's log has of a message.
func published(topic, payload string, qos int) record.Record {
	return record.Record{Stream: "telemetry", Key: []byte("k"), Value: []byte(payload), Headers: []record.Header{
		{Key: headerTopic, Value: []byte(topic)}, {Key: headerClientID, Value: []byte("far")}, {Key: headerQoS, Value: qosValue[qos]},
	}}
}

// messages returns what devices have published to this node.
func (n *node) messages() (count int) {
	for _, e := range n.log.all() {
		if e.Header(headerTopic) != nil {
			count++
		}
	}
	return count
}

// M1, D1: what another gateway took is given here once to each subscription, with the
// lower of the two QoS, in its order, and is nowhere taken for a message of this node.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, nil)
		n.log.auto(t)
		n.take(published("t/early", "nobody is there", 1))
		var subs [3]*client
		for qos := range subs {
			subs[qos] = pipe(t, n.Door).enter(dialled{id: fmt.Sprint("sub", qos), v5: true}).subscribe("t/#", byte(qos))
		}
		var all []record.Record
		for i := range 30 {
			all = append(all, published("t/x", fmt.Sprint(i), 2))
		}
		n.take(all[:10]...)
		n.Follow(otherNode, elsewhere, 0, 5) // again
		n.take(all[10:]...)
		for i := range all {
			for qos, sub := range subs {
				p := sub.next()
				for ; p[0] == 0x62; p = sub.next() {
					sub.ack(packet.TypePubcomp, uint16(p[2])<<8|uint16(p[3]))
				}
				m := parseDelivered(t, p, true)
				if m.payload != fmt.Sprint(i) || int(m.qos) != qos {
					t.Fatalf("the subscriber of QoS %d got %+v, want message %d", qos, m, i)
				}
				switch m.qos {
				case 1:
					sub.ack(packet.TypePuback, m.pid)
				case 2:
					sub.ack(packet.TypePubrec, m.pid)
				}
			}
		}
		for _, sub := range subs {
			synctest.Wait()
			for range len(sub.in) {
				if p := sub.next(); p[0] != 0x62 {
					t.Errorf("got % x at the end", p)
				}
			}
		}
		if got := n.messages(); got > 0 {
			t.Errorf("%d messages of another gateway went into the log of this one", got)
		}
		if got := n.Followed()[elsewhere]; got != (Followed{otherNode, 31}) {
			t.Errorf("followed to %+v", got)
		}
	})
}

// A node whose clients subscribe to nothing does not read what others take, and
// writes nothing.
func TestFollowCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, nil)
		n.log.auto(t)
		for range 100 {
			n.take(published("t", "x", 2))
		}
		synctest.Wait()
		if reads, written := n.log.before[0].reads, len(n.log.all()); reads+written > 0 {
			t.Errorf("%d reads, %d records", reads, written)
		}
		sub := pipe(t, n.Door).enter(dialled{id: "sub", v5: true}).subscribe("t", 0)
		sub.wantNothing() // that was before
		if n.Followed()[elsewhere].Next != 100 {
			t.Errorf("followed to %+v", n.Followed())
		}
	})
}

// S2: what a subscriber may not read does not come from another gateway either.
func TestFollowAsksTheRules(t *testing.T) {
	denied := rules{fmt.Sprint(auth.Read, " t/secret"): true}
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, func(o *Options) { o.Guard = denied })
		n.log.auto(t)
		sub := pipe(t, n.Door).enter(dialled{id: "sub"}).subscribe("t/+", 0)
		n.take(published("t/secret", "x", 1), published("t/open", "y", 1))
		sub.wantMessage(delivered{topic: "t/open", payload: "y"})
		sub.wantNothing()
	})
}

// M1: a session that is away is owed what other gateways take as well, over kills, with
// a checkpoint made at any moment or never: QoS 1 at least once and in order, QoS 2
// exactly once.
func TestFollowOverKills(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d of TestFollowOverKills", seed)
				}
			}()
			rng := rand.New(rand.NewPCG(seed, 8))
			n := startNode(t, nil)
			n.log.auto(t)
			who := kept("sub", true)
			who.receive = 3
			sub := pipe(t, n.Door).enter(who).subscribe("t", 2)
			r := reading{t: t, latest: [3]int{0, -2, -1}, once: map[string]bool{}, held: map[uint16]string{}}
			const total = 40
			taken := 0
			for r.seen < total {
				switch rng.IntN(10) {
				case 0:
					n.save()
				case 1:
					sub.vanish()
					if n.kill(); rng.IntN(2) == 0 {
						n.save()
					}
					n.log.auto(t)
					n.take()
					sub = pipe(t, n.Door).enter(who)
				case 2, 3, 4:
					for range rng.IntN(4) {
						if taken < total {
							n.take(published("t", fmt.Sprint(taken), 1+taken%2))
							taken++
						}
					}
				default:
					synctest.Wait()
					for range min(1+rng.IntN(3), len(sub.in)) {
						r.read(sub, rng)
					}
				}
			}
		})
	}
}

// A reading is what a subscriber has had.
type reading struct {
	t      *testing.T
	seen   int               // messages that came for the first time
	latest [3]int            // by QoS; every other one is of QoS 1
	once   map[string]bool   // QoS 2
	held   map[uint16]string // QoS 2, not released
}

// read takes the next packet, and mostly answers.
func (r *reading) read(sub *client, rng *rand.Rand) {
	p := sub.next()
	if p == nil {
		r.t.Fatal("the connection has ended")
	}
	if p[0] == 0x62 {
		pid := uint16(p[2])<<8 | uint16(p[3])
		delete(r.held, pid)
		sub.ack(packet.TypePubcomp, pid)
		return
	}
	m := parseDelivered(r.t, p, true)
	var number int
	if _, err := fmt.Sscan(m.payload, &number); err != nil || number > r.latest[m.qos]+2 {
		r.t.Fatalf("got %+v after %v", m, r.latest)
	}
	if number > r.latest[m.qos] {
		r.latest[m.qos] = number
		r.seen++
	}
	if m.qos == 2 {
		if held, holds := r.held[m.pid]; holds && held != m.payload || !holds && r.once[m.payload] {
			r.t.Fatalf("%+v came twice; the client holds %v", m, r.held)
		}
		r.held[m.pid], r.once[m.payload] = m.payload, true
	}
	switch {
	case rng.IntN(8) == 0: // it goes away before
	case m.qos == 1:
		sub.ack(packet.TypePuback, m.pid)
	default:
		sub.ack(packet.TypePubrec, m.pid)
	}
}

// sealOthers makes the checksum right.
func sealOthers(b []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// S1: bytes from a damaged checkpoint.
func FuzzOthers(f *testing.F) {
	d := &delivery{others: map[tributary.LedgerID]*other{elsewhere: {writer: otherNode, given: 7}, {1}: {}}}
	f.Add(d.appendOthers(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealOthers(b)} {
			all, err := parseOthers(b)
			if err != nil {
				continue
			}
			d := &delivery{others: map[tributary.LedgerID]*other{}}
			for id, one := range all {
				d.others[id] = &one
			}
			if again, err := parseOthers(d.appendOthers(nil)); len(all) > 0 && (err != nil || len(again) != len(all)) {
				t.Fatalf("%v became %v, %v", all, again, err)
			}
		}
	})
}
