package sitetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/edge/status"
)

// One of two gateways dies for good, with data that Kafka lacks. The devices of the other
// notice nothing. I1, I2, I3.
func TestDiesForGood(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		s.device(b, 1, 100*time.Millisecond)
		s.device(b, 2, 100*time.Millisecond)
		s.noKafka(a)
		d := s.device(a, 1, 100*time.Millisecond)
		s.pass(15 * time.Second)
		a.Burn()
		s.pass(30 * time.Second)
		for _, r := range s.missing() {
			s.want(r.device != d, "%s is not in Kafka 30 s after the death", r.value())
		}
		s.want(s.excused(time.Now()) == 0, "%d messages had no copy", s.excused(time.Now()))
	})
}

// A dead gateway returns after its ledger was drained: nothing is sent twice, and it goes
// on. I1, I2, I3.
func TestReturnsAfterItWasDrained(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		s.noKafka(a)
		s.device(a, 1, 100*time.Millisecond)
		s.device(b, 1, 100*time.Millisecond)
		s.pass(15 * time.Second)
		a.PowerCut()
		s.pass(40 * time.Second)
		for _, c := range s.report(b).Gateways.Copies {
			s.want(c.Waiting == 0, "a copy was not drained: %+v", c)
		}
		s.kafkaAgain(a)
		a.Start()
		s.meet(all...)
		s.pass(20 * time.Second)
	})
}

// A gateway with data that nobody else has spends a month in a drawer. What it brings is
// in Kafka, once, and it learns what it has missed. I1, I2, I3.
func TestMonthInADrawer(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(5 * time.Second)
		s.noKafka(a)
		s.Cut(a.ip, b.ip)
		s.pass(20 * time.Second)
		a.PowerCut()
		s.pass(time.Minute)
		s.silence()
		b.Stop()
		s.pass(31 * 24 * time.Hour)
		b.Start()
		s.device(b, 1, 100*time.Millisecond)
		s.pass(time.Minute)
		s.Heal(a.ip, b.ip)
		s.kafkaAgain(a)
		a.Start()
		s.meet(all...)
		s.pass(10 * time.Second)
	})
}

// A third gateway joins under load, and an old one leaves. I1, I2, I3.
func TestJoinsAndLeaves(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(10 * time.Second)
		c := s.add()
		c.Start()
		s.meet(append(all, c)...)
		s.device(c, 1, 100*time.Millisecond)
		s.pass(10 * time.Second)
		leaves := time.Now() // the oracle takes what is told while it ends for the disk of that one alone
		all[0].Stop()
		s.pass(20 * time.Second)
		all[0].Burn()
		s.pass(10 * time.Second)
		s.want(s.excused(leaves) == 0, "%d messages had no copy", s.excused(leaves))
	})
}

// Three gateways are stopped and started, one after the other, under load. I1, I2, I3.
func TestRollingRestart(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(3)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
			s.device(h, 2, 100*time.Millisecond)
		}
		for range 2 {
			for _, h := range all {
				s.pass(s.rngDuration(8 * time.Second))
				h.Stop()
				s.pass(s.rngDuration(3 * time.Second))
				h.Start()
				s.meet(all...)
			}
		}
	})
}

// Each of three gateways in turn gets a blank disk, once the others have its data. I1, I2.
func TestRollingWipe(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(3)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		for _, h := range all {
			s.pass(10 * time.Second)
			h.Wipe()
			h.Start()
			s.meet(all...)
			s.pass(20 * time.Second)
		}
	})
}

// T17: three gateways hold a dead ledger up to different records, and the one with the
// longest copy is apart. Kafka gets what the others have, and the rest once it is back. I2.
func TestThreeHolders(t *testing.T) {
	scenario(t, func(s *site) {
		s.extra = "[ack]\ncopies = 3\n"
		s.copies = 3
		all := s.gateways(4)
		a, b, c, d := all[0], all[1], all[2], all[3]
		s.noKafka(all...)
		s.device(a, 1, 50*time.Millisecond)
		s.pass(10 * time.Second)
		b.PowerCut()
		s.pass(10 * time.Second)
		c.PowerCut()
		s.pass(10 * time.Second)
		s.rest()
		s.pass(5 * time.Second)
		ledger := s.report(a).Log.Ledger
		a.Burn()
		s.Cut(d.ip, b.ip)
		s.Cut(d.ip, c.ip)
		b.Start()
		c.Start()
		s.pass(10 * time.Second)
		held := func(h *host) uint64 {
			for _, k := range s.report(h).Gateways.Copies {
				if k.Ledger == ledger {
					return k.To
				}
			}
			return 0
		}
		shorter, longer := max(held(b), held(c)), held(d)
		s.want(0 < shorter && shorter < longer, "the copies end at %d, %d and %d", held(b), held(c), longer)
		s.kafkaAgain(b, c)
		s.pass(45 * time.Second)
		s.want(s.position(ledger) == shorter, "with the longest copy apart Kafka is at %d, should be at %d", s.position(ledger), shorter)
		s.kafkaAgain(d)
		s.Heal(d.ip, b.ip)
		s.Heal(d.ip, c.ip)
		s.pass(60 * time.Second)
		s.want(s.position(ledger) == longer, "with all copies Kafka is at %d, should be at %d", s.position(ledger), longer)
	})
}

// position returns how far a ledger is in Kafka.
func (s *site) position(ledger string) uint64 {
	all := s.kafka.positions()[ledger]
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1]
}

// T18, R27: the position in Kafka is lower than it was. Forwarding stops, and says so;
// nothing is sent twice. I2.
func TestPositionIsLower(t *testing.T) {
	bubble(t, 1, func(s *site) {
		a := s.add()
		a.Start()
		s.device(a, 1, 50*time.Millisecond)
		s.pass(30 * time.Second) // the node notes how far Kafka is
		s.noKafka(a)
		s.pass(10 * time.Second)
		s.rest()
		ledger := s.report(a).Log.Ledger
		at := s.position(ledger)
		s.want(at > 100, "only %d records are in Kafka", at)
		a.Crash()
		s.rewind(ledger)
		s.kafkaAgain(a)
		a.Start()
		s.until(a, "the uplink to stop", time.Minute, func(r *status.Report) bool { return r.Uplink.State == "stopped" })
		s.pass(3 * time.Minute)
		s.checkOnce(s.kafka.read(dataTopic))
	})
}

// rewind writes a position of a ledger that is lower than the one before.
func (s *site) rewind(ledger string) {
	var last map[string]any
	key := siteName + "/" + ledger
	partition := int32(0)
	for _, r := range s.kafka.read(positionsTopic) {
		if r.key == key {
			s.must(json.Unmarshal([]byte(r.value), &last))
			partition = r.partition
		}
	}
	last["next"], last["chain"] = 0, fmt.Sprintf("%016x", 0)
	value, err := json.Marshal(last)
	s.must(err)
	cl, err := kgo.NewClient(s.kafka.options(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	s.must(err)
	defer cl.Close()
	s.must(cl.ProduceSync(context.Background(), &kgo.Record{Topic: positionsTopic, Partition: partition, Key: []byte(key), Value: value}).FirstErr())
}

// T20, R25: somebody fences the forwarder again and again. It goes on all the same. I2.
func TestFight(t *testing.T) {
	scenario(t, func(s *site) {
		a := s.add()
		a.Start()
		s.device(a, 1, 100*time.Millisecond)
		s.until(a, "the uplink", time.Minute, func(r *status.Report) bool { return r.Uplink.Sent > 0 })
		ledger := s.report(a).Log.Ledger
		for range 40 {
			s.pass(s.rngDuration(6 * time.Second))
			s.fence(ledger)
		}
		r := s.report(a)
		s.want(r.Uplink.Fenced >= 10, "it was fenced %d times", r.Uplink.Fenced)
		s.want(s.position(ledger) > r.Log.Durable/2, "Kafka is at %d of %d", s.position(ledger), r.Log.Durable)
	})
}

// fence is what a forwarder of a ledger does first.
func (s *site) fence(ledger string) {
	cl, err := kgo.NewClient(s.kafka.options(kgo.TransactionalID("tributary." + siteName + "." + ledger))...)
	s.must(err)
	defer cl.Close()
	_, _, err = cl.ProducerID(context.Background())
	s.must(err)
}
