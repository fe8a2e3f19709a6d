package edge_test

import (
	"testing"

	"github.com/tributary-edge/tributary/edge/status"
)

// R54: a gateway is not heard of any more. Another one publishes the wills of its clients,
// to its own subscribers as well; not of those that have come to it.
func TestWillOfADeadGateway(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	sub := b.listen("sub", 1, "wills/#", 1)
	for _, id := range []string{"dead", "here"} {
		w := a.dial()
		w.send(0x10, []byte("\x00\x04MQTT\x05\x0e\x00\x3c\x00\x00\x04"+id+"\x00\x00\x0awills/"+id+"\x00\x04gone"))
		if head, body := w.packet(); head != 0x20 || body[1] != 0 {
			t.Fatalf("CONNACK %02x %x", head, body)
		}
	}
	a.connect("a", 1).keep("t/1", "told") // behind the wills
	b.untilKept("t/1=told ")
	b.connect("here", 1)
	a.Hush()
	sub.want("gone")
	b.until("one record", func(r status.Report) bool { return r.MQTT.Durable[0] == 1 })
}
