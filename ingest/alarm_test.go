package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// routeAlarms makes alarms of the topics under "alarm/", and urgent messages of
// those under "alarm/now" and "now"; "alarm/now/bad" has no route.
func routeAlarms(topic, clientID, _ string) (Destination, error) {
	d := Destination{
		Stream: "s", Key: []byte(clientID),
		Alarm: strings.HasPrefix(topic, "alarm/"), Urgent: strings.Contains(topic, "now"),
	}
	if topic == "alarm/now/bad" {
		return d, errors.New("no device level")
	}
	return d, nil
}

// How the log is to treat a message is what its route says, each time, and for
// dead letters, wills and what stays here as well.
func TestAlarmAndUrgentReachTheLog(t *testing.T) {
	bubble(t, func(o *Options) { o.Router = routeFunc(routeAlarms) }, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", will: "alarm/now/will"})
		for range 2 { // the second time from what the connection remembers
			for qos, topic := range []string{"t", "now", "alarm/x"} {
				c.publish(byte(qos), uint16(qos), topic, topic)
			}
			c.publish(0, 0, "alarm/now/bad", "bad")
			synctest.Wait()
			l.commit(nil)
			c.want(0x40, 2, 0, 1)
			c.want(0x50, 2, 0, 2)
			c.send(0x62, 2, 0, 2)
			c.want(0x70, 2, 0, 2)
		}
		_ = c.nc.Close() // without DISCONNECT
		synctest.Wait()
		var got []string
		for _, e := range l.records() {
			got = append(got, fmt.Sprintf("%s %s alarm %t urgent %t", e.Stream, e.Value, e.Alarm, e.Urgent))
		}
		round := []string{
			"s t alarm false urgent false", "s now alarm false urgent true",
			"s alarm/x alarm true urgent false", "dead bad alarm true urgent true",
		}
		if want := slices.Concat(round, round, []string{"s gone alarm true urgent true"}); !slices.Equal(got, want) {
			t.Errorf("log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A full log refuses a message and takes the alarm behind it, on the same
// connection, which MQTT 5 keeps open. The answers keep their order.
func TestFullLogTakesAlarms(t *testing.T) {
	bubble(t, func(o *Options) { o.Router = routeFunc(routeAlarms) }, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "five", v5: true})
		l.setFull()
		c.publish(1, 1, "t", "x")
		c.want(0x40, 3, 0, 1, 0x97) // at once: nothing is before it
		c.publish(0, 0, "t", "x")
		c.publish(1, 2, "alarm/x", "one")
		c.publish(2, 3, "alarm/x", "two")
		c.publish(0, 0, "alarm/x", "zero")
		c.publish(2, 4, "t", "x")
		c.wantNothing()
		if got, want := l.payloads(), "one two zero"; got != want {
			t.Fatalf("log has %q, want %q", got, want)
		}
		l.commit(nil)
		c.want(0x40, 2, 0, 2)
		c.want(0x50, 2, 0, 3)
		c.want(0x50, 3, 0, 4, 0x97)
		c.publish(1, 1, "alarm/x", "three") // the packet ids are free
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		if s := d.Stats(); s.Refused.Full != 3 || s.Logged != [3]uint64{1, 2, 1} {
			t.Errorf("stats: %+v", s)
		}
	})
}

// A full log refuses MQTT 3.1.1 by ending the connection. The device may come
// back and send its alarm.
func TestFullLogTakesAlarmsAfterReconnect(t *testing.T) {
	bubble(t, func(o *Options) { o.Router = routeFunc(routeAlarms) }, func(t *testing.T, d *Door, l *fakeLog) {
		l.setFull()
		c := pipe(t, d).enter(dialled{id: "old"})
		c.publish(1, 1, "t", "x")
		c.wantEnd()
		c = pipe(t, d).enter(dialled{id: "old"})
		c.publish(1, 1, "alarm/x", "one")
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
	})
}

// A device that was in the middle of a QoS 2 exchange when the log became full
// can end it, or start anew, and so send its alarm.
func TestFullLogEndsQoS2(t *testing.T) {
	bubble(t, func(o *Options) { o.Router = routeFunc(routeAlarms) }, func(t *testing.T, d *Door, l *fakeLog) {
		lasting := dialled{id: "dev", v5: true, resume: true, expiry: 60}
		c := pipe(t, d).enter(lasting)
		for pid := uint16(1); pid <= 2; pid++ {
			c.publish(2, pid, "t", fmt.Sprint(pid))
		}
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 1)
		c.want(0x50, 2, 0, 2)
		l.setFull()
		c.send(0x62, 2, 0, 1)
		synctest.Wait()
		l.commit(nil)
		c.want(0x70, 2, 0, 1)
		c.publish(2, 3, "alarm/x", "alarm")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 3)
		c = pipe(t, d).enter(dialled{id: "dev", v5: true}) // forgets 2 and 3
		c.publish(1, 1, "alarm/x", "anew")
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		if got, want := l.payloads(), "1 2 [qos2.release] alarm [qos2.clean] anew"; got != want {
			t.Errorf("log has %q, want %q", got, want)
		}
	})
}
