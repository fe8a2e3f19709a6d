package ingest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/record"
)

// A node is a door whose process may be killed: what the next one has is the log,
// as far as it is durable, and the checkpoint that was saved last.
type node struct {
	t      *testing.T
	change func(*Options)
	saved  State

	*Door
	log  *fakeLog
	stop func() error
}

func startNode(t *testing.T, change func(*Options)) *node {
	t.Helper()
	n := &node{t: t, change: change, log: newFakeLog()}
	n.saved.Sessions, n.saved.Retained = map[string][]byte{}, map[string][]byte{}
	n.start()
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.Door = newTestDoor(n.t, n.log, n.change)
	if n.saved.PacketIDs != nil {
		if damaged, err := n.Restore(n.saved); err != nil {
			n.t.Fatal(damaged, err)
		}
	}
	for _, old := range n.log.before {
		if old.ledger != elsewhere {
			n.Begin(old.ledger)
		}
	}
	n.Begin(n.log.ledger)
	known := n.saved.Next == 0
	for _, old := range n.log.before {
		from := tributary.LSN(0)
		if old.ledger == n.saved.Ledger {
			known, from = true, n.saved.Next
		}
		for i := from; known && old.ledger != elsewhere && i < tributary.LSN(old.readable); i++ {
			if err := n.Replay(old.ledger, &old.entries[i]); err != nil {
				n.t.Fatal(err)
			}
		}
	}
	n.stop = runDoor(n.t, n.Door)
}

// save makes a checkpoint.
func (n *node) save() {
	s := n.Snapshot()
	if s.Next > 0 {
		n.saved.Ledger, n.saved.Next = s.Ledger, s.Next
	}
	n.saved.PacketIDs, n.saved.Others = s.PacketIDs, s.Others
	for _, one := range []struct{ from, to map[string][]byte }{{s.Sessions, n.saved.Sessions}, {s.Retained, n.saved.Retained}} {
		maps.Copy(one.to, one.from)
		maps.DeleteFunc(one.to, func(_ string, v []byte) bool { return v == nil })
	}
}

// kill ends the process without a word, and starts the next one.
func (n *node) kill() {
	n.t.Helper()
	old := newFakeLog()
	n.log.mu.Lock()
	old.ledger, old.entries = n.log.ledger, slices.Clone(n.log.entries[:n.log.readable])
	old.readable, old.durable = n.log.readable, n.log.readable
	for _, i := range n.log.failed {
		if i < old.readable { // the log went on: what it kept of the failed group counts for nothing
			old.entries[i] = record.Entry{LSN: tributary.LSN(i)}
		}
	}
	n.log.mu.Unlock()
	next := newFakeLog()
	next.ledger[1] = old.ledger[1] + 1
	next.before = append(slices.Clone(n.log.before), old)
	n.log.setFail(errDead)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = n.stop() // what it says and does now counts for nothing
	}()
	n.log.commit(errDead)
	<-stopped
	n.log = next
	n.start()
}

// What was queued for a subscriber who is away, its subscriptions, and retained
// messages are there after the process was killed, with a checkpoint made at any
// moment or never. mochi, with its store: nothing arrives, and the client is
// disconnected each time it comes.
func TestQueueOverRestart(t *testing.T) {
	const queued = 20
	for save := range queued + 3 {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t, nil)
			commit := func() {
				synctest.Wait()
				n.log.commit(nil)
				synctest.Wait()
			}
			sub := pipe(t, n.Door).enter(kept("sub", true))
			sub.send(subscribePacket(true, 1, "t/#", 2)...)
			commit()
			sub.want(0x90, 4, 0, 1, 0, 2)
			sub.vanish()
			pub := pipe(t, n.Door).enter(dialled{id: "pub"})
			for i := range queued {
				if i == save {
					n.save()
				}
				pub.send(publishPacket(false, byte(i%2)|2, uint16(i+1), "t/"+fmt.Sprint(i%4), fmt.Sprint(i))...)
				commit()
				pub.want(0x40, 2, 0, byte(i+1))
			}
			pub.publish(1, 99, "t", "not durable")
			synctest.Wait()
			if save == queued {
				n.save()
			}
			n.kill()
			if save == queued+1 {
				n.save()
				n.kill()
			}
			n.log.auto(t)
			sub = pipe(t, n.Door)
			sub.v5 = true
			if ack := sub.connect(kept("sub", true)); ack[2] != 1 || ack[3] != 0 {
				t.Fatalf("CONNACK % x, want a session", ack)
			}
			for i := range queued {
				sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: "t/" + fmt.Sprint(i%4), payload: fmt.Sprint(i), qos: 1}))
			}
			sub.wantNothing()
			late := pipe(t, n.Door).enter(dialled{id: "late"}).subscribe("t/+", 0)
			late.wantMessage(delivered{topic: "t/1", payload: "17", retain: true})
			late.wantMessage(delivered{topic: "t/3", payload: "19", retain: true})
			late.wantNothing()
			late.publish(0, 0, "t/x", "live")
			sub.wantMessage(delivered{topic: "t/x", payload: "live"})
		})
	}
}

// The will of a client that was connected when the process was killed is sent by
// the next one, once; not that of one who had said goodbye, or was back.
func TestWillOverRestart(t *testing.T) {
	for _, save := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t, nil)
			plain := dialled{id: "plain", will: "w/plain"}
			slow := dialled{id: "slow", v5: true, resume: true, expiry: 100, will: "w/slow", willDelay: 30}
			pipe(t, n.Door).enter(plain)
			polite := pipe(t, n.Door).enter(dialled{id: "polite", v5: true, will: "w/polite"})
			polite.send(0xe0, 0)
			polite.wantEnd()
			pipe(t, n.Door).enter(slow).vanish() // its delay runs
			back := slow
			back.id, back.will = "back", "w/back"
			pipe(t, n.Door).enter(back).vanish()
			back.will = ""
			pipe(t, n.Door).enter(back)
			ended := slow
			ended.id, ended.will = "ended", "w/ended"
			pipe(t, n.Door).enter(ended).vanish()
			if save {
				n.log.commit(nil)
				synctest.Wait()
				n.save()
			}
			<-time.After(10 * time.Second)
			ended.will, ended.resume = "", false
			pipe(t, n.Door).enter(ended) // a clean start: the will is sent now
			synctest.Wait()
			n.log.commit(nil)
			synctest.Wait()
			want := func(when string, topics ...string) {
				t.Helper()
				synctest.Wait()
				n.log.commit(nil)
				var got []string
				for _, l := range append(slices.Clone(n.log.before), n.log) {
					for _, e := range l.all() {
						if name := string(e.Header(headerTopic)); name != "" {
							got = append(got, name)
						}
					}
				}
				if !slices.Equal(got, topics) {
					t.Fatalf("%s, saved %t: wills %q, want %q", when, save, got, topics)
				}
			}
			want("before", "w/ended")
			n.kill()
			<-time.After(time.Second)
			want("after the restart", "w/ended", "w/plain")
			<-time.After(40 * time.Second)
			want("after the delay", "w/ended", "w/plain", "w/slow")
			if save {
				n.save()
			}
			n.kill()
			<-time.After(200 * time.Second)
			want("after another restart", "w/ended", "w/plain", "w/slow")
			n.kill()
			<-time.After(200 * time.Second)
			want("after a third one", "w/ended", "w/plain", "w/slow")
		})
	}
}

// A reader2 is a subscriber's half of QoS 2 (MQTT 5, 4.3.3), and of QoS 1.
type reader2 struct {
	*client
	got  []string
	held map[uint16]bool // packet ids with PUBREC and no PUBREL
}

// take deals with up to n packets that have arrived, and answers a part of them.
func (r *reader2) take(rng *rand.Rand, n int) {
	for range n {
		var p []byte
		select {
		case p = <-r.in:
		default:
			return
		}
		switch {
		case p == nil:
			return
		case p[0]>>4 == packet.TypePubrel:
			delete(r.held, uint16(p[2])<<8|uint16(p[3]))
			r.ack(packet.TypePubcomp, uint16(p[2])<<8|uint16(p[3]))
		case p[0]>>4 == packet.TypePublish:
			m := parseDelivered(r.t, p, true)
			if !r.held[m.pid] {
				r.got = append(r.got, m.payload)
			}
			r.held[m.pid] = true
			if rng.IntN(8) > 0 { // or it forgets to: then the connection will end some day
				r.ack(packet.TypePubrec, m.pid)
			}
		}
	}
}

// M1: each QoS 2 message reaches a subscriber exactly once and in order, whatever
// happens: commits that are late or fail, connections that break, checkpoints at
// any moment, processes that are killed.
func TestExactlyOnceToSubscribers(t *testing.T) {
	for range 12 {
		seed := rand.Uint64()
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { exactlyOnce(t, rand.New(rand.NewPCG(seed, 0))) })
		})
		if !ok {
			t.Fatalf("to repeat it, put the seed %d in place of rand.Uint64()", seed)
		}
	}
}

func exactlyOnce(t *testing.T, rng *rand.Rand) {
	t.Helper()
	n := startNode(t, func(o *Options) { o.Sessions.MaxQueued = 10_000 })
	who := kept("sub", true)
	who.receive = uint16(1 + rng.IntN(5))
	sub := &reader2{held: map[uint16]bool{}}
	var pub *client
	settle := func() {
		synctest.Wait()
		n.log.commit(nil)
		synctest.Wait()
	}
	connect := func() {
		if sub.client != nil {
			sub.vanish()
		}
		for { // a failed commit, a moment ago, may end it at once
			sub.client = pipe(t, n.Door)
			if ack := sub.connect(who); ack[3] == 0 {
				return
			}
		}
	}
	connect()
	sub.send(subscribePacket(true, 1, "t", 2)...)
	settle()
	sub.want(0x90, 4, 0, 1, 0, 2)
	acked := map[string]bool{}
	sent := 0
	publish := func() {
		if pub == nil {
			pub = pipe(t, n.Door).enter(dialled{id: "pub"})
		}
		pub.send(publishPacket(false, 4, uint16(sent+1), "t", fmt.Sprint(sent))...)
		sent++
		synctest.Wait()
	}
	take := func() { // PUBRECs
		for pub != nil {
			select {
			case p := <-pub.in:
				if p == nil {
					pub = nil
					return
				}
				if p[0]>>4 == packet.TypePubrec {
					pid := uint16(p[2])<<8 | uint16(p[3])
					acked[fmt.Sprint(pid-1)] = true
					pub.ack(packet.TypePubrel, pid)
				}
			default:
				return
			}
		}
	}
	for range 300 {
		switch what := rng.IntN(40); {
		case what < 10:
			publish()
		case what < 20:
			n.log.commit(nil)
		case what < 32:
			sub.take(rng, 1+rng.IntN(6))
		case what < 35:
			connect()
		case what < 37:
			n.save()
		case what == 37:
			n.log.commit(errDead)
			synctest.Wait()
			if pub != nil {
				take()
				pub = nil
			}
			connect()
		case what == 38:
			settle()
			take()
			n.kill()
			pub = nil
			connect()
		}
		synctest.Wait()
		take()
	}
	for range 100 {
		connect()
		for range 50 {
			settle()
			take()
			sub.take(rng, 100)
		}
	}
	last := -1
	for _, payload := range sub.got {
		var i int
		_, _ = fmt.Sscan(payload, &i)
		if i <= last {
			t.Errorf("%d comes after %d: %s", i, last, strings.Join(sub.got, " "))
		}
		last = i
		delete(acked, payload)
	}
	if len(acked) > 0 {
		t.Errorf("of %d messages, acknowledged and never delivered: %v; delivered %s", sent, slices.Sorted(maps.Keys(acked)), strings.Join(sub.got, " "))
	}
}
