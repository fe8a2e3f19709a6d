package edge_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// A burst is messages of QoS 2 that a device sends as fast as it can, and again from the
// first that has no PUBREC when its connection ends.
type burst struct {
	total int
	acked map[uint16]bool
	at    int    // so many PUBRECs are waited for
	then  func() // before this is called, once
}

// send sends what is not acknowledged, and returns when all is, or the connection ends.
func (b *burst) send(w *wire, dup byte) {
	var all []byte
	for pid := uint16(1); int(pid) <= b.total; pid++ {
		if !b.acked[pid] {
			payload := fmt.Sprintf("%06d", pid) + strings.Repeat("x", 8000)
			body := append([]byte{0, 7}, "plant/1"...)
			body = append(append(binary.BigEndian.AppendUint16(body, pid), 0), payload...)
			all = append(append(all, 0x34|dup<<3, byte(len(body)&127|128), byte(len(body)>>7)), body...)
		}
	}
	written := make(chan bool)
	go func() {
		defer close(written)
		_, _ = w.Write(all) // the node may end the connection
	}()
	_ = w.SetReadDeadline(time.Now().Add(20 * time.Second))
	for len(b.acked) < b.total {
		if len(b.acked) >= b.at && b.then != nil {
			b.then()
			b.then = nil
		}
		head, p, err := w.next()
		if err != nil {
			break
		}
		if head == 0x50 && (len(p) == 2 || p[2] < 0x80) {
			b.acked[binary.BigEndian.Uint16(p)] = true
		}
	}
	_ = w.Close()
	<-written
}

// U2, D2: the live segment goes away under a burst. What is sent again after the failed
// write is in Kafka before what came later, whether that was already on its way or not.
func TestOrderOverAFailedWrite(t *testing.T) {
	for trial := range 10 {
		t.Run(fmt.Sprint(trial), func(t *testing.T) {
			s := newSite(t, "")
			s.start()
			b := &burst{total: 1000, acked: map[uint16]bool{}, at: trial * 60, then: func() {
				if all := s.segments(); len(all) > 0 {
					_ = os.Remove(all[len(all)-1])
				}
			}}
			b.send(s.connect("dev", 0), 0)
			for tries := 0; len(b.acked) < b.total; tries++ {
				if tries == 3 {
					t.Fatalf("%d of %d are acknowledged", len(b.acked), b.total)
				}
				b.send(s.connect("dev", 0), 1)
			}
			s.until("all to be in Kafka", func(r status.Report) bool { return r.Uplink.Sent >= uint64(b.total) && r.Uplink.Waiting == 0 })
			for i, r := range s.committed("mqtt", b.total) {
				if got := string(r.Value[:6]); got != fmt.Sprintf("%06d", i+1) {
					t.Fatalf("record %d is message %s", i+1, got)
				}
			}
		})
	}
}
