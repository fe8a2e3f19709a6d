package ingest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// What a member of a shared subscription has not acknowledged goes to another one
// when its session ends, before what is newer; but for QoS 2 that it may have a part
// of (MQTT 5, 4.8.2).
func TestSharedLeft(t *testing.T) {
	for name, end := range map[string]struct {
		who dialled
		end func(t *testing.T, d *Door, a *client)
	}{
		"breaks":     {dialled{id: "a", v5: true, receive: 3}, func(_ *testing.T, _ *Door, a *client) { a.vanish() }},
		"disconnect": {dialled{id: "a", v5: true, receive: 3}, func(_ *testing.T, _ *Door, a *client) { a.send(0xe0, 0) }},
		"expires": {dialled{id: "a", v5: true, receive: 3, expiry: 5}, func(_ *testing.T, _ *Door, a *client) {
			a.vanish()
			<-time.After(8 * time.Second)
		}},
		"clean start": {dialled{id: "a", v5: true, receive: 3, expiry: 500}, func(t *testing.T, d *Door, _ *client) {
			t.Helper()
			pipe(t, d).enter(dialled{id: "a", v5: true})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			autoBubble(t, nil, func(t *testing.T, d *Door) {
				t.Helper()
				a := pipe(t, d).enter(end.who).subscribe("$share/g/t", 2)
				a.subscribe("own", 1)
				b := pipe(t, d).enter(dialled{id: "b", v5: true}).subscribe("$share/g/t", 2)
				other := pipe(t, d).enter(dialled{id: "other", v5: true}).subscribe("$share/h/t", 0)
				pub := pipe(t, d).enter(dialled{id: "pub"})
				pub.publish(1, 100, "own", "for a alone")
				a.ack(packet.TypePuback, a.wantMessage(delivered{topic: "own", payload: "for a alone", qos: 1}))
				mine := map[string]delivered{}
				for i := range 12 {
					qos := byte(1)
					if i == 4 || i == 5 || i == 8 || i == 9 { // whoever is first gets one of QoS 2 as its third, which is the last in its window, and its fifth
						qos = 2
					}
					pub.publish(qos, uint16(i+1), "t", fmt.Sprint(i))
				}
				synctest.Wait()
				for range 3 {
					m := a.message()
					mine[m.payload] = m
				}
				var left []string
				for i := range 12 {
					if m, there := mine[fmt.Sprint(i)]; there && m.qos == 1 {
						left = append(left, m.payload)
					}
				}
				for len(b.in) > 0 {
					m := b.message()
					mine[m.payload] = m
					if m.qos == 1 {
						b.ack(packet.TypePuback, m.pid)
					}
				}
				for i := range 12 {
					if _, seen := mine[fmt.Sprint(i)]; !seen { // it waits for a
						left = append(left, fmt.Sprint(i))
					}
				}
				if len(left) != 5 {
					t.Fatalf("%v are left of %v", left, mine)
				}
				end.end(t, d, a)
				synctest.Wait()
				var got []string
				for len(b.in) > 0 {
					m := b.message()
					if m.dup {
						t.Errorf("%+v has DUP", m)
					}
					got = append(got, m.payload)
				}
				if !slices.Equal(got, left) {
					t.Errorf("got %v, want %v", got, left)
				}
				if n := len(other.in); n != 12 {
					t.Errorf("another group has %d messages", n)
				}
			})
		})
	}
}

// The end of the last member is the end of a shared subscription, and of what it
// had (MQTT 5, 4.8.2).
func TestSharedLastMember(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		a := pipe(t, d).enter(dialled{id: "a"}).subscribe("$share/g/t", 1)
		pub := pipe(t, d).enter(dialled{id: "pub"})
		pub.publish(1, 1, "t", "x")
		a.wantMessage(delivered{topic: "t", payload: "x", qos: 1})
		a.vanish()
		pipe(t, d).enter(dialled{id: "b"}).subscribe("$share/g/t", 1).wantNothing()
	})
}

// What is passed on survives a kill, in its place before what is newer; and what
// was not passed on because of the kill is passed on then.
func TestSharedLeftOverRestart(t *testing.T) {
	for _, save := range []string{"never", "before", "after"} {
		synctest.Test(t, func(t *testing.T) {
			n := startNode(t, nil)
			n.log.auto(t)
			who := dialled{id: "a", v5: true, expiry: 5}
			a := pipe(t, n.Door).enter(who).subscribe("$share/g/t", 1)
			pipe(t, n.Door).enter(kept("b", true)).subscribe("$share/g/t", 1).subscribe("u", 1).vanish()
			pub := pipe(t, n.Door).enter(dialled{id: "pub"})
			for i := range byte(4) {
				pub.publish(1, uint16(i+1), "t", fmt.Sprint(i)) // a is there, b is not
				pub.want(0x40, 2, 0, i+1)
				a.wantMessage(delivered{topic: "t", payload: fmt.Sprint(i), qos: 1})
			}
			pub.publish(1, 5, "u", "4")
			pub.want(0x40, 2, 0, 5)
			if save == "before" {
				n.save()
			}
			a.vanish()
			<-time.After(8 * time.Second)
			synctest.Wait()
			if save == "after" {
				n.save()
			}
			for range 2 {
				n.kill()
				n.log.auto(t)
			}
			b := pipe(t, n.Door).enter(kept("b", true))
			for i := range 5 {
				if m := b.message(); m.payload != fmt.Sprint(i) {
					t.Errorf("saved %s: got %+v, want %d", save, m, i)
				}
			}
			b.wantNothing()
		})
	}
}
