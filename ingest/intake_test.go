package ingest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A fussyLog has no room for a message of a topic that ends in "no".
type fussyLog struct{ *fakeLog }

func (l *fussyLog) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	if bytes.HasSuffix(r.Header(headerTopic), []byte("no")) {
		return 0, errFull
	}
	return l.fakeLog.Append(r, t)
}

func (l *fussyLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

// What one read brings is logged and answered as if it had come packet by packet, in
// its order, with what the log has no room for in between.
func TestTakenTogether(t *testing.T) {
	bubble(t, func(o *Options) { o.Log, o.ReceiveMaximum = &fussyLog{o.Log.(*fakeLog)}, 1024 }, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		var all []byte
		add := func(qos byte, pid int, topic string) {
			all = append(all, publishPacket(true, qos<<1, uint16(pid), topic, fmt.Sprint(pid))...)
		}
		const most = 3*intakeRecords + 1
		for pid := 1; pid <= most; pid++ {
			topic := "t"
			switch {
			case pid%14 == 0:
				topic = "$t"
			case pid%5 == 0:
				topic = "no"
			}
			add(byte(1+pid%2), pid, topic)
		}
		add(0, 0, "no")
		all = append(all, 0xc0, 0) // PINGREQ
		add(1, 999, "t")
		c.send(all...)
		pings := 0
		wantAck := func(ack ...byte) {
			t.Helper()
			got := c.next()
			for ; bytes.Equal(got, []byte{0xd0, 0}); got = c.next() {
				pings++ // it waits for nothing
			}
			if !bytes.Equal(got, ack) {
				t.Fatalf("got packet % x, want % x", got, ack)
			}
		}
		var want []string
		for pid := 1; pid <= most; pid++ {
			ack := []byte{0x40, 2, 0, byte(pid)}
			if pid%2 == 1 {
				ack[0] = 0x50
			}
			switch {
			case pid%14 == 0:
				ack = []byte{ack[0], 3, 0, byte(pid), 0x87}
			case pid%5 == 0:
				ack = []byte{ack[0], 3, 0, byte(pid), 0x97}
			default:
				want = append(want, fmt.Sprint(pid))
			}
			wantAck(ack...)
		}
		want = append(want, "999")
		wantAck(0x40, 2, 0x03, 0xe7)
		c.wantNothing()
		if got := l.payloads(); got != strings.Join(want, " ") {
			t.Errorf("the log has %q", got)
		}
		if s := d.Stats(); s.Received != [3]uint64{1, most/2 + 1, most/2 + 1} || s.Refused.Full != most/5-most/70+1 || s.Refused.Topic != most/14 || pings != 1 {
			t.Errorf("received %v, refused %d, %d answers to PINGREQ", s.Received, s.Refused.Full, pings)
		}
	})
}

// A packet that comes with messages in one read counts behind those before it.
func TestTakenInOrder(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		c := pipe(t, d).enter(dialled{id: "dev"})
		all := publishPacket(false, 0, 0, "t", "1")
		all = append(all, subscribePacket(false, 7, "t", 0)...)
		all = append(all, publishPacket(false, 0, 0, "t", "2")...)
		c.send(all...)
		c.want(0x90, 3, 0, 7, 0)
		c.wantMessage(delivered{topic: "t", payload: "2"})
		c.send(append(publishPacket(false, 0, 0, "t", "3"), 0xe0, 0)...) // and DISCONNECT
		synctest.Wait()
		if got := l.payloads(); got != "1 2 3" {
			t.Errorf("the log has %q", got)
		}
	})
}
