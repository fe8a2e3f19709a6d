package ingest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
)

// M1: what a full queue has dropped does not come after a kill, behind what is
// newer; not in the next process either, which may have a longer queue.
func TestDroppedStaysDropped(t *testing.T) {
	for _, save := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			most := 3
			n := startNode(t, func(o *Options) { o.Sessions.MaxQueued = most })
			n.log.auto(t)
			who := kept("sub", true)
			who.receive = 1
			sub := pipe(t, n.Door).enter(who).subscribe("t", 1)
			pub := pipe(t, n.Door).enter(dialled{id: "pub"})
			publish := func(from, to int) {
				for i := from; i <= to; i++ {
					pub.publish(1, uint16(i), "t", fmt.Sprint(i))
					pub.want(0x40, 2, 0, byte(i))
					synctest.Wait() // it is offered
				}
			}
			publish(1, 2)
			synctest.Wait() // the first is in flight
			if save {
				n.save()
			}
			publish(3, 9)
			synctest.Wait() // all are in the queue, or dropped
			sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: "t", payload: "1", qos: 1}))
			sub.wantMessage(delivered{topic: "t", payload: "8", qos: 1}) // 2 to 7 were dropped
			synctest.Wait()
			for range 2 {
				most += 3
				n.kill()
				n.log.auto(t)
				sub = pipe(t, n.Door).enter(who)
				if first := sub.message(); first.payload != "8" && (first.payload != "1" || !save) {
					t.Fatalf("saved %t: got %+v after 8", save, first)
				} else if first.payload == "1" {
					sub.ack(packet.TypePuback, first.pid) // was in flight when the checkpoint was made
					first = sub.message()
					if first.payload != "8" {
						t.Fatalf("saved %t: got %+v after 8", save, first)
					}
				}
			}
		})
	}
}

// A full log does not keep from a subscriber what its full queue has left.
func TestDroppedInAFullLog(t *testing.T) {
	bubble(t, func(o *Options) { o.Sessions.MaxQueued = 2 }, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		pipe(t, d).enter(kept("sub", true)).subscribe("t", 1).vanish()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for i := range byte(4) {
			pub.publish(1, uint16(i+1), "t", fmt.Sprint(i))
			pub.want(0x40, 2, 0, i+1)
		}
		synctest.Wait() // all are in the queue, or dropped
		l.mu.Lock()
		l.eventless = true
		l.mu.Unlock()
		sub := pipe(t, d).enter(kept("sub", true))
		for _, payload := range []string{"2", "3"} {
			sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: "t", payload: payload, qos: 1}))
		}
		sub.wantNothing()
	})
}

// An exchange of QoS 2 that goes on is in the log once for each step, however
// often its client comes back, also to the next process.
func TestRedeliveryCostsNoRecord(t *testing.T) {
	for _, step := range []string{"sent", "received"} {
		for _, save := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				n := startNode(t, nil)
				n.log.auto(t)
				sub := pipe(t, n.Door).enter(kept("sub", true)).subscribe("t", 2)
				pub := pipe(t, n.Door).enter(dialled{id: "pub"})
				pub.publish(2, 1, "t", "x")
				pub.want(0x50, 2, 0, 1)
				pid := sub.wantMessage(delivered{topic: "t", payload: "x", qos: 2})
				if step == "received" {
					sub.ack(packet.TypePubrec, pid)
					sub.want(0x62, 2, byte(pid>>8), byte(pid))
				}
				synctest.Wait()
				if save {
					n.save()
				}
				for range 2 {
					before := exchanges(n)
					for range 3 {
						sub.vanish()
						if sub = pipe(t, n.Door).enter(kept("sub", true)); step == "received" {
							sub.want(0x62, 2, byte(pid>>8), byte(pid))
						} else {
							sub.wantMessage(delivered{topic: "t", payload: "x", qos: 2, dup: true})
						}
					}
					if now := exchanges(n); now != before {
						t.Errorf("%s, saved %t: %d events for the same step", step, save, now-before)
					}
					n.kill()
					n.log.auto(t)
				}
			})
		}
	}
}

// exchanges counts the events of QoS 2 in the live log.
func exchanges(n *node) (count int) {
	synctest.Wait()
	for _, e := range n.log.all() {
		if string(e.Key) == session.EventKey && (e.Value[1] == 5 || e.Value[1] == 6) {
			count++
		}
	}
	return count
}

// A session that ends with its connection is not there after a kill, and its will
// is sent.
func TestSeveredByAKill(t *testing.T) {
	for _, save := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t, nil)
			n.log.auto(t)
			who := dialled{id: "dev", v5: true, resume: true, will: "w", willDelay: 100}
			pipe(t, n.Door).enter(who).subscribe("t", 1)
			pipe(t, n.Door).enter(kept("watch", true)).subscribe("w", 1)
			synctest.Wait()
			if save {
				n.save()
			}
			n.kill()
			n.log.auto(t)
			dev := pipe(t, n.Door)
			if ack := dev.connect(who); ack[2] != 0 || ack[3] != 0 {
				t.Errorf("saved %t: CONNACK % x, want no session", save, ack)
			}
			watch := pipe(t, n.Door).enter(kept("watch", true))
			watch.ack(packet.TypePuback, watch.wantMessage(delivered{topic: "w", payload: "gone", qos: 1}))
			watch.publish(0, 0, "t", "for nobody")
			dev.wantNothing()
			<-time.After(200 * time.Second)
			watch.wantNothing() // the will came once
		})
	}
}
