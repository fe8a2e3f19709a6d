package edge_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/segment"
)

// segments returns the files of the log that hold groups, in order.
func (s *site) segments() (all []string) {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "log", "*seg"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		b := make([]byte, 4)
		f, err := os.Open(name)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := f.ReadAt(b, segment.HeaderBytes); err != nil {
			s.t.Fatal(err)
		}
		_ = f.Close()
		if string(b) != "\x00\x00\x00\x00" {
			all = append(all, name)
		}
	}
	return all
}

// D2, A1: after a write that failed, here because somebody has removed the file,
// the device is told to send again, the node goes on with another ledger, and
// all that was acknowledged is in Kafka, once and in order, also after a restart.
func TestGoesOnAfterAFailedWrite(t *testing.T) {
	s := newSite(t, "")
	s.start()
	dev := s.connect("dev", 1)
	id := uint16(0)
	publish := func(payload string) (code byte) {
		t.Helper()
		id++
		dev.publish(1, 0, id, "plant/a/t", payload)
		head, b := dev.packet()
		if head != 0x40 {
			t.Fatalf("got %x, want PUBACK", head)
		}
		if len(b) > 2 {
			return b[2]
		}
		return 0
	}
	all := func(n uint64) func(status.Report) bool {
		return func(r status.Report) bool { return r.Uplink.Sent >= n && r.Uplink.Waiting == 0 }
	}
	for _, payload := range []string{"1", "2"} {
		if code := publish(payload); code != 0 {
			t.Fatalf("refused with %x", code)
		}
	}
	first := s.until("two records in Kafka", all(2)).Log.Ledger
	if err := os.Remove(s.segments()[0]); err != nil {
		t.Fatal(err)
	}
	if code := publish("3"); code != 0x83 {
		t.Fatalf("answered with %x, want 0x83", code)
	}
	for _, payload := range []string{"3", "4"} {
		if code := publish(payload); code != 0 {
			t.Fatalf("refused with %x", code)
		}
	}
	r := s.until("four records in Kafka", all(4))
	if r.Log.Ledger == first || r.Colour != status.Yellow || !strings.Contains(r.Log.LedgerEnded, "removed") {
		t.Errorf("ledger %s, %s: %v", r.Log.Ledger, r.Colour, r.Reasons)
	}
	s.crash()
	s.start()
	dev = s.connect("dev", 1)
	publish("5")
	s.until("the record after the restart", func(r status.Report) bool { return r.Uplink.Sent >= 1 && r.Uplink.Waiting == 0 })
	got := ""
	for _, r := range s.committed("mqtt", 5) {
		got += string(r.Value)
	}
	if got != "12345" {
		t.Errorf("Kafka has %s", got)
	}
}

// U4, D3: what the disk has damaged is named in a gap record in Kafka, once, and
// the rest is there, in order.
func TestDamageReachesKafka(t *testing.T) {
	s := newSite(t, "create_topics = true\n[log]\ncompression = \"none\"\n")
	away := s.addr
	s.addr = "127.0.0.1:1" // nobody there
	s.start()
	dev := s.connect("dev", 1)
	const total = 6
	for i := range total {
		dev.publish(1, 0, uint16(i)+1, "plant/a/t", strconv.Itoa(i))
		if head, _ := dev.packet(); head != 0x40 {
			t.Fatalf("got %x, want PUBACK", head)
		}
	}
	s.end()
	name := s.segments()[0]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := segment.HeaderBytes + 3*4096 + 180 // a group of one record each: the fourth page has record 3
	b[damaged] ^= 0xff
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}

	s.addr = away
	s.start()
	r := s.until("the rest in Kafka", func(r status.Report) bool { return r.Uplink.Gaps == 1 && r.Uplink.Waiting == 0 })
	if len(r.Log.Holes) != 1 || r.Colour != status.Yellow {
		t.Fatalf("%+v", r.Log.Holes)
	}
	hole := r.Log.Holes[0]
	dead := s.committed("tributary.dead-letter", 1)
	var gap struct {
		Kind, Reason, Ledger string
		From, To, Count      uint64
	}
	if err := json.Unmarshal(dead[0].Value, &gap); err != nil || gap.Kind != "gap" || gap.Reason != "damaged" ||
		gap.Ledger != hole.Ledger || gap.From != hole.From || gap.To != hole.To || gap.Count != 1 {
		t.Errorf("the gap record is %s, the hole is %+v", dead[0].Value, hole)
	}
	records := s.committed("mqtt", total-1)
	slices.SortFunc(records, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	last := -1
	for _, r := range records {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil || n <= last {
			t.Errorf("record %s after %d", r.Value, last)
		}
		last = n
	}
}

// D3, U4: what the disk has damaged at the very start of a ledger is a gap in Kafka
// too, whether Kafka had something of the ledger before or not.
func TestDamageAtTheStartReachesKafka(t *testing.T) {
	for _, before := range []int{0, 2} { // so many records are in Kafka
		t.Run(strconv.Itoa(before), func(t *testing.T) {
			s := newSite(t, "create_topics = true\n[log]\ncompression = \"none\"\n")
			there, nobody := s.addr, "127.0.0.1:1"
			publish := func(from, to int) {
				dev := s.connect("dev", 1)
				for i := from; i < to; i++ {
					dev.publish(1, 0, uint16(i)+1, "plant/a/t", strconv.Itoa(i))
					dev.expect(0x40, uint16(i)+1)
				}
			}
			if before > 0 {
				s.start()
				publish(0, before)
				s.until("some in Kafka", func(r status.Report) bool { return r.Uplink.Waiting == 0 && r.Uplink.Sent >= uint64(before) })
				s.end()
			}
			whole := 0 // pages of the ledger that Kafka has something of
			if before > 0 {
				whole = usedPages(t, s.segments()[0])
			}
			s.addr = nobody
			s.start()
			publish(before, 6)
			s.end()
			name := s.segments()[0]
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for page := range whole + 1 {
				b[segment.HeaderBytes+page*4096+180] ^= 0xff
			}
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s.addr = there
			s.start()
			s.until("a gap and the rest in Kafka", func(r status.Report) bool { return r.Uplink.Gaps >= 1 && r.Uplink.Waiting == 0 })
		})
	}
}

// usedPages returns how many pages of a segment hold groups.
func usedPages(t *testing.T, name string) (n int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := segment.HeaderBytes; !bytes.Equal(b[at:at+4], make([]byte, 4)); at += 4096 {
		n++
	}
	return n
}
