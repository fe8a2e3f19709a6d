package ingest

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// A client that is slowed without a break for too long is disconnected, with a
// reason in MQTT 5. One that pauses now and then is not.
func TestMaxSlowed(t *testing.T) {
	limited := func(o *Options) { o.MaxMessagesPerSecond, o.MaxSlowed = 10, time.Minute }
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, limited, func(t *testing.T, d *Door, l *fakeLog) {
			l.auto(t)
			begun := time.Now()
			fast := pipe(t, d).enter(dialled{id: "fast", v5: v5})
			fine := pipe(t, d).enter(dialled{id: "fine", v5: v5})
			go func() { // it is slowed for half a second in two
				for time.Since(begun) < 3*time.Minute {
					for range 15 {
						fine.publish(0, 0, "t", "x")
					}
					<-time.After(2 * time.Second)
				}
			}()
			taken := 0
			var last []byte
			for ; ; taken++ {
				fast.publish(1, 1, "t", "x")
				if last = fast.next(); !bytes.Equal(last, []byte{0x40, 2, 0, 1}) {
					break
				}
			}
			if v5 && !bytes.Equal(last, []byte{0xe0, 2, packet.CodeMessageRate, 0}) || !v5 && last != nil {
				t.Errorf("the last packet is % x", last)
			}
			if took := time.Since(begun); took < time.Minute || took > 62*time.Second {
				t.Errorf("disconnected after %v", took)
			}
			if taken < 600 || taken > 620 {
				t.Errorf("%d messages were taken in a minute, want 10 a second", taken)
			}
			<-time.After(2 * time.Minute)
			synctest.Wait()
			if s := d.Stats(); s.Refused.TooFast != 1 || s.Connections != 1 || s.Received[0] < 1000 {
				t.Errorf("%d disconnected, %d connected, which sent %d", s.Refused.TooFast, s.Connections, s.Received[0])
			}
		})
	})
}

// MQTT 5, 4.11: at the end clients are told where to go, if that is known. One whose
// Maximum Packet Size is too small for it is told the reason alone.
func TestServerReference(t *testing.T) {
	const other = "gateway-2:8883"
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, func(o *Options) { o.ServerReference = other })
		stop := runDoor(t, d)
		old := pipe(t, d).enter(dialled{id: "old"})
		small := dialled{id: "small", v5: true}
		p := connectPacket(small)
		p = bytes.Replace(p, []byte{5, 0x11, 0, 0, 0, 0}, []byte{5, 0x27, 0, 0, 0, 20}, 1) // Maximum Packet Size instead of an expiry
		little := pipe(t, d)
		little.send(p...)
		little.next()
		five := pipe(t, d).enter(dialled{id: "five", v5: true})
		five.publish(1, 1, "t", "x")
		synctest.Wait()
		done := make(chan error)
		go func() { done <- stop() }()
		synctest.Wait()
		l.commit(nil)
		five.want(0x40, 2, 0, 1) // what was taken is acknowledged first
		five.want(frame(0xe0, append([]byte{packet.CodeUseAnotherServer, byte(len(other) + 3)}, text([]byte{0x1c}, other)...))...)
		five.wantEnd()
		old.wantEnd()
		little.want(0xe0, 2, packet.CodeUseAnotherServer, 0)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Beyond the bounds a retained message of a new topic is refused; the others are
// replaced, and make room when they are emptied.
func TestRetainedBounds(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"messages": func(o *Options) { o.MaxRetained = 3 },
		"bytes":    func(o *Options) { o.MaxRetainedBytes = 4000 }, // three of 1,000 and what each costs besides
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, change, func(t *testing.T, d *Door, l *fakeLog) {
				l.auto(t)
				c := pipe(t, d).enter(dialled{id: "c", v5: true})
				retain := func(topic, payload string) []byte {
					c.send(publishPacket(true, 3, 1, topic, payload)...)
					defer synctest.Wait()
					return c.next()
				}
				full := strings.Repeat("x", 1000)
				n := 0
				for ; n < 10; n++ {
					if ack := retain(string(rune('a'+n)), full); len(ack) > 4 {
						if ack[4] != packet.CodeQuotaExceeded {
							t.Errorf("PUBACK % x", ack)
						}
						break
					}
				}
				if kept := int(d.Stats().Retained); n != kept || n < 2 || n > 4 {
					t.Errorf("%d taken, %d kept, want 3 or so", n, kept)
				}
				if ack := retain("a", ""); len(ack) > 4 {
					t.Errorf("emptying: PUBACK % x", ack)
				}
				if ack := retain("new", full); len(ack) > 4 {
					t.Errorf("in the room of another: PUBACK % x", ack)
				}
				c.publish(1, 1, "other", full) // not to be retained
				c.want(0x40, 2, 0, 1)
			})
		})
	}
}
