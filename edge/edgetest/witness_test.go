//go:build lab

package edgetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/readback"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// A witness reads Kafka with isolation level read_committed, and remembers all.
type witness struct {
	reader  *readback.Reader
	sights  []sight
	lsns    map[string][]uint64 // by ledger: a bit for each LSN that was seen
	twice   []string            // sentences about records with the ledger and LSN of another (I2)
	flagged map[string]int      // records by their flags
}

// A sight is a record that carries a message.
type sight struct {
	tally.Copy

	ledger string
	qos    string
	flags  string // of a session whose order is not promised; "" mostly
	at     time.Time
}

// flagsHeader says of a record that its order, or that it is there once, is not
// promised, and why: unverified, late-possible, twice-possible.
const flagsHeader = "tributary.flags"

func newWitness(t *testing.T, topic string) *witness {
	t.Helper()
	r, err := readback.Open([]string{kafkaAddr}, []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return &witness{reader: r, lsns: map[string][]uint64{}, flagged: map[string]int{}}
}

// look reads what has come, and tells the crowd. It returns an error if Kafka did not
// let it read to the end within a minute; then the next look goes on.
func (w *witness) look(ctx context.Context, c *crowd) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := w.reader.ReadToEnd(ctx, func(r readback.Record) { w.see(c, &r) })
	if errors.Is(err, readback.ErrNoTopic) {
		return nil
	}
	return err
}

func (w *witness) see(c *crowd, r *readback.Record) {
	s := sight{at: time.Now()}
	lsn, hasLSN := uint64(0), false
	for _, h := range r.Headers {
		switch h.Key {
		case "tributary.ledger":
			s.ledger = string(h.Value)
		case "tributary.lsn":
			n, err := strconv.ParseUint(string(h.Value), 10, 64)
			lsn, hasLSN = n, err == nil
		case "mqtt.qos":
			s.qos = string(h.Value)
		case flagsHeader:
			s.flags = string(h.Value)
		}
	}
	id, seq, ok := device.Identify(r.Value)
	s.Copy = tally.Copy{Device: id, Seq: seq, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
	if !hasLSN || s.ledger == "" || !ok {
		w.twice = append(w.twice, fmt.Sprintf("a record of nobody: %s/%d@%d, %v", r.Topic, r.Partition, r.Offset, r.Headers))
		return
	}
	for uint64(len(w.lsns[s.ledger])) <= lsn/64 {
		w.lsns[s.ledger] = append(w.lsns[s.ledger], 0)
	}
	if bit := &w.lsns[s.ledger][lsn/64]; *bit&(1<<(lsn%64)) != 0 {
		w.twice = append(w.twice, fmt.Sprintf("ledger %s record %d is there again at %s/%d@%d", s.ledger, lsn, r.Topic, r.Partition, r.Offset))
	} else {
		*bit |= 1 << (lsn % 64)
	}
	if s.flags != "" {
		w.flagged[s.flags]++
	}
	w.sights = append(w.sights, s)
	c.mark(message{id, seq}, seen)
}

// A verdict is what the devices find in Kafka of what they said.
type verdict struct {
	tally.Report

	// What hand-off prevents (R42, R43), counted where it is not asked for.
	late   int // messages that are out of order over the ledgers of one gateway
	redone int // messages of QoS 2 that are there again, from a gateway whose disk had been rolled back; flagged, with hand-off
}

// judge compares all that was seen with the ledger of the devices. With hand-off all
// that a device has an acknowledgement for is in order, but in sessions that are flagged:
// what was not acknowledged, as QoS 0 never is, may come from a gateway that nobody could
// ask. Without it, what is in one ledger is.
func (w *witness) judge(t *testing.T, c *crowd, writers map[string]string, handOff bool) (v verdict) {
	t.Helper()
	truth, err := tally.Load(c.path)
	if err != nil {
		t.Fatal(err)
	}
	strict, loose := tally.NewChecker(truth), tally.NewChecker(truth)
	firsts := map[message]string{} // who wrote the first record of a message
	flagged := map[message]bool{}  // one of its sessions is (I9)
	for _, s := range w.sights {
		if s.flags != "" {
			flagged[message{s.Device, s.Seq}] = true
		}
	}
	for _, s := range w.sights {
		writer, known := writers[s.ledger]
		if !known {
			t.Fatalf("no gateway has said that it writes ledger %s, which is at %s/%d@%d", s.ledger, s.Topic, s.Partition, s.Offset)
		}
		id := message{s.Device, s.Seq}
		first, again := firsts[id]
		firsts[id] = cmp.Or(first, writer)
		excused := flagged[id] || first != writer && !handOff
		if s.qos == "2" && again && excused {
			v.redone++
			continue
		}
		// The checker judges the order by topic.
		whole, byWriter := s.Copy, s.Copy
		if s.flags != "" || !handOff || !truth.Acked(s.Device, s.Seq) {
			whole.Topic += " of ledger " + s.ledger
		}
		byWriter.Topic += " by " + writer
		strict.Add(whole)
		loose.Add(byWriter)
	}
	v.Report = strict.Report()
	if !handOff {
		v.late = loose.Report().OutOfOrder
	}
	return v
}
