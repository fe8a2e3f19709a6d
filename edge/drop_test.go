package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/firmware-sim/readback"
)

// U1, U2, U4: a node that drops its oldest records while Kafka comes and goes, and
// is killed now and then: each acknowledged message is in Kafka once, in order, or
// in the range of one gap record.
func TestDropOldestOverCrashes(t *testing.T) {
	const seed = 0
	rng := rand.New(rand.NewPCG(seed, 3))
	noise := rand.NewChaCha8([32]byte{seed})
	s := newSite(t, "create_topics = true\n[log]\nmax_size = \"16MiB\"\nsegment = \"4MiB\"\non_full = \"drop-oldest\"\n"+
		"[[route]]\nmatch = \"alarm/#\"\ntopic = \"mqtt\"\npriority = \"alarm\"\n")
	there, nobody := s.addr, "127.0.0.1:1"
	body := make([]byte, 150_000)
	sent := 0
	for life, addr := range []string{nobody, nobody, there, nobody, there} {
		s.addr = addr
		if life > 0 && rng.IntN(2) == 0 {
			s.crash()
		} else {
			s.end()
		}
		s.start()
		dev := s.connect("dev", 1)
		for range 50 + rng.IntN(80) {
			_, _ = noise.Read(body) // nothing compresses
			sent++
			dev.publish(1, 0, uint16(sent), "plant/a/t", fmt.Sprintf("%08d%s", sent, body))
			dev.expect(0x40, uint16(sent))
		}
	}
	s.until("all in Kafka", func(r status.Report) bool { return r.Uplink.Ledgers == 0 && r.Uplink.Sent > 0 })

	last, missing := 0, sent
	s.read("mqtt", func(value []byte) {
		n, err := strconv.Atoi(string(value[:8]))
		if err != nil || n <= last {
			t.Errorf("%q comes after %d", value[:8], last)
		}
		last = n
		missing--
	})
	told, gaps := 0, 0
	s.read("tributary.dead-letter", func(value []byte) {
		var gap struct {
			Count  int
			Reason string
		}
		if err := json.Unmarshal(value, &gap); err != nil || gap.Reason != "dropped" {
			t.Errorf("the dead-letter stream has %s, %v", value, err)
		}
		told += gap.Count
		gaps++
	})
	t.Logf("%d sent, %d missing, %d gaps have %d records", sent, missing, gaps, told)
	if missing == 0 || missing > told || told > missing+3*gaps { // a gap may have the records that open its ledger, end a session and open the next
		t.Errorf("seed %d: of %d messages %d are missing; %d gaps have %d records", seed, sent, missing, gaps, told)
	}
}

// A session that is younger than the last checkpoint is not forgotten with the
// records that a log drops.
func TestDropOldestKeepsSessions(t *testing.T) {
	s := newSite(t, "[log]\nmax_size = \"16MiB\"\nsegment = \"4MiB\"\non_full = \"drop-oldest\"\n")
	s.addr = "127.0.0.1:1"
	s.start()
	sub := s.connect("sub", 0)
	sub.follow("cmd", 1)
	_ = sub.Close()
	noise, body := rand.NewChaCha8([32]byte{}), make([]byte, 150_000)
	dev := s.connect("dev", 1)
	for i := range uint16(160) { // more than the log holds, within the ten seconds to the next checkpoint
		_, _ = noise.Read(body)
		dev.publish(1, 0, i+1, "t", string(body))
		dev.expect(0x40, i+1)
	}
	if r := s.Report(); r.Log.DroppedRecords == 0 {
		t.Fatal("nothing was dropped")
	}
	s = s.killed()
	sub = s.connect("sub", 0)
	s.connect("pub", 1).publish(1, 0, 1, "cmd", "x")
	sub.wantMessage("2 cmd x")
}

// read reads all that a topic holds by now, as a read_committed reader sees it.
func (s *site) read(topic string, each func(value []byte)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	err := readback.Committed(ctx, []string{s.addr}, []string{topic}, func(r readback.Record) { each(r.Value) })
	if err != nil {
		s.t.Fatal(err)
	}
}
