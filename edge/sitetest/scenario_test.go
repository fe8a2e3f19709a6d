package sitetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// T1: one gateway, killed under load again and again. I1, I2, I3.
func TestKilledAgainAndAgain(t *testing.T) {
	scenario(t, func(s *site) {
		a := s.add()
		a.Start()
		s.device(a, 1, 50*time.Millisecond)
		s.device(a, 2, 50*time.Millisecond)
		for range 20 {
			s.pass(s.rngDuration(4 * time.Second))
			a.Crash()
			a.Start()
		}
	})
}

// T2: the same with power cuts. I1, I2, I3.
func TestPowerCutAgainAndAgain(t *testing.T) {
	scenario(t, func(s *site) {
		a := s.add()
		a.sync = 30 * time.Millisecond
		a.Start()
		s.device(a, 1, 50*time.Millisecond)
		s.device(a, 2, 50*time.Millisecond)
		for range 20 {
			s.pass(s.rngDuration(4 * time.Second))
			a.PowerCut()
			a.Start()
		}
	})
}

// T3: two gateways on one socket. I1, I2, I3.
func TestOneSocket(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			h.sync = 30 * time.Millisecond
			s.device(h, 1, 50*time.Millisecond)
		}
		for range 10 {
			s.pass(s.rngDuration(8 * time.Second))
			for _, h := range all {
				h.PowerCut()
			}
			for _, h := range all {
				h.Start()
			}
		}
	})
}

// T5: the owner burns with data that is not in Kafka, and was never short: its peer
// forwards all of it, within 25 s. I1, I2.
func TestOwnerBurns(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		s.noKafka(all...)
		s.device(a, 1, 50*time.Millisecond)
		s.pass(20 * time.Second)
		s.rest()
		s.want(!s.report(a).Gateways.Short, "the owner is short of copies")
		s.want(len(s.missing()) > 100, "only %d messages were taken", len(s.missing()))
		s.kafkaAgain(b)
		a.Burn()
		took := s.stored(40 * time.Second)
		s.want(took <= 25*time.Second, "it took %v until the peer had forwarded all", took)
		for _, r := range s.oracle.readings {
			s.want(r.acked.IsZero() || len(r.claims) == 2, "%s was acknowledged without a copy", r.value())
		}
	})
}

// T6: two gateways apart for a minute, both with a way to Kafka: nobody takes over, both
// are short, and no longer when they are together again. QoS 2 has to wait for a copy (R22);
// QoS 1 is acknowledged when Kafka has it (R11), and nobody would be short. I1, I2, I4.
func TestApart(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 2, 100*time.Millisecond)
		}
		s.pass(5 * time.Second)
		s.Cut(all[0].ip, all[1].ip)
		for _, h := range all {
			took := s.until(h, "it to be short", 30*time.Second, func(r *status.Report) bool { return r.Gateways.Short })
			s.want(took <= 7*time.Second, "%s is short after %v", h.name, took)
		}
		for range 55 {
			s.pass(time.Second)
			for _, h := range all {
				for _, c := range s.report(h).Gateways.Copies {
					s.want(!c.Forwarding, "%s forwards the ledger of a gateway that does so itself", h.name)
				}
			}
		}
		s.Heal(all[0].ip, all[1].ip)
		for _, h := range all {
			s.want(s.report(h).Gateways.Unprotected > 0, "%s does not count what it acknowledged alone", h.name)
			took := s.until(h, "its copies", time.Minute, func(r *status.Report) bool { return !r.Gateways.Short })
			s.want(took <= 20*time.Second, "%s is short for %v after the heal", h.name, took)
		}
	})
}

// T7: the same, and they refuse: nothing is acknowledged from what is on one disk alone,
// and all of it afterwards. One message may be acknowledged for each device: the peer has it,
// could not say so, and brought it to Kafka when its writer was silent. I1, I2.
func TestApartRefusing(t *testing.T) {
	scenario(t, func(s *site) {
		s.extra = "[ack]\nif_peers_missing = \"refuse\"\n"
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 2, 100*time.Millisecond)
		}
		s.pass(5 * time.Second)
		s.Cut(all[0].ip, all[1].ip)
		cut, before := time.Now(), s.acked()
		s.pass(time.Minute)
		alone := s.ackedOf(func(r *reading) bool { return r.sent[0].at.After(cut) })
		s.want(alone == 0 && s.acked() <= before+len(all), "%d acknowledgements, %d of them of what can have no copy", s.acked()-before, alone)
		s.Heal(all[0].ip, all[1].ip)
		s.pass(30 * time.Second)
		s.want(s.acked() > before+50, "only %d acknowledgements after the heal", s.acked()-before)
	})
}

// R47, I1: a gateway apart from its peer has logged a message and not acknowledged it, and
// is killed. That its log has the message is no reason to acknowledge it when it is sent
// again and the peer is back: the peer has what this process writes, and no more yet.
func TestResentHasNoCopy(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			scenario(t, func(s *site) {
				s.extra = "[ack]\nif_peers_missing = \"refuse\"\n"
				all := s.gateways(2)
				a, b := all[0], all[1]
				s.noKafka(a)
				s.Cut(a.ip, b.ip)
				s.device(a, qos, time.Second)
				s.pass(5 * time.Second)
				a.Crash()
				a.Start()
				s.pass(6 * time.Second)
				s.want(s.acked() == 0, "%d messages are acknowledged that one disk alone has", s.acked())
				s.Heal(a.ip, b.ip)
				for range 10 {
					if a.awaitAck(); s.acked() > 0 {
						break
					}
				}
				s.want(s.acked() == 1, "%d messages are acknowledged", s.acked())
				a.Burn()
				s.want(s.excused(time.Now()) == 0, "%d messages had no copy", s.excused(time.Now()))
			})
		})
	}
}

// T8: the owner has no way to Kafka: its peer forwards what it writes, after a minute, and
// it goes on itself when it can. I1, I2, I3.
func TestNoUplink(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		s.device(a, 1, 200*time.Millisecond)
		s.pass(5 * time.Second)
		s.noKafka(a)
		took := s.until(b, "a take-over", 90*time.Second, func(r *status.Report) bool { return forwards(r) })
		s.want(took >= 55*time.Second && took <= 80*time.Second, "the peer forwards after %v", took)
		s.pass(20 * time.Second)
		s.kafkaAgain(a)
		took = s.until(a, "its own way to Kafka", time.Minute, func(r *status.Report) bool { return r.Uplink.State == "forwarding" && r.Uplink.Waiting < 20 })
		s.want(took <= 45*time.Second, "it forwards itself again after %v", took)
	})
}

// T9: what a forwarder has sent is held up in a transaction, its peer takes over, and then
// it arrives: it is fenced. I2, I8.
func TestStandsStill(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		a, b := all[0], all[1]
		s.net.slow(a.ip, kafkaHost, 150*time.Millisecond) // it is nearly always in a transaction
		s.device(a, 1, 50*time.Millisecond)
		s.device(a, 1, 50*time.Millisecond)
		for range 2 {
			s.pass(5*time.Second + s.rngDuration(time.Second))
			s.say("what %s says to Kafka is held up", a.name)
			s.net.cut(a.ip, kafkaHost)
			s.until(b, "a take-over", 2*time.Minute, func(r *status.Report) bool { return forwards(r) })
			s.pass(s.rngDuration(3 * time.Second))
			s.kafkaAgain(a)
			s.pass(20 * time.Second)
		}
	})
}

// T10: what is sent to Kafka, and what it answers, comes late, again and again: requests
// that end a transaction meet the next one. I2, I8.
func TestLateRequests(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.net.slow(h.ip, kafkaHost, 50*time.Millisecond)
			s.device(h, 1, 50*time.Millisecond)
		}
		for range 5 {
			s.pass(s.rngDuration(10 * time.Second))
			h := all[s.rng.IntN(2)]
			from, to := h.ip, kafkaHost
			if s.rng.IntN(2) == 0 {
				from, to = to, from
			}
			s.say("cut the way from %s to %s", from, to)
			s.net.cut(from, to)
			s.pass(s.rngDuration(25 * time.Second))
			s.net.heal(from, to)
		}
	})
}

// T11: Kafka is down for ten minutes, the owner dies, its peer takes what devices send,
// Kafka returns, and then the owner. I1, I2, I3.
func TestKafkaDown(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 1, time.Second)
		}
		s.pass(3 * time.Second)
		s.noKafka(all...)
		s.pass(2 * time.Minute)
		all[0].PowerCut()
		s.pass(8 * time.Minute)
		s.kafkaAgain(all...)
		s.pass(time.Minute)
		all[0].Start()
		s.pass(10 * time.Second)
	})
}

// T12: a gateway comes back with yesterday's image of its disk. I1, I2, I7.
func TestOldImage(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(5 * time.Second)
		i := all[0].Image()
		s.pass(5 * time.Second)
		all[0].Crash()
		all[0].Start()
		s.meet(all...)
		s.noKafka(all[0])
		s.pass(10 * time.Second)
		all[0].Rollback(i)
		all[0].Start()
		s.pass(20 * time.Second)
		s.want(s.excused(time.Now()) == 0, "%d messages had no copy", s.excused(time.Now()))
	})
}

// T13: a card is cloned, and both run. I1, I2, I7.
func TestClonedCard(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(5 * time.Second)
		s.noKafka(all[0])
		s.pass(5 * time.Second)
		c := all[0].Clone()
		all[0].Start()
		s.pass(s.rngDuration(5 * time.Second))
		c.Start()
		s.device(c, 1, 100*time.Millisecond)
		s.pass(time.Minute)
	})
}

// T14: the owner's disk is replaced by a blank one, while Kafka is away, and joins. I1, I2.
func TestBlankDisk(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(2)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(4 * time.Second)
		s.noKafka(all...)
		s.pass(10 * time.Second)
		all[0].Wipe()
		all[0].Start()
		s.pass(20 * time.Second)
		s.kafkaAgain(all...)
		s.pass(20 * time.Second)
	})
}

// T33, U4: Kafka is away: nothing above the position is given up. And everything that was
// acknowledged is in Kafka afterwards, in the order of each device.
func TestNothingIsTrimmed(t *testing.T) {
	scenario(t, func(s *site) {
		all := s.gateways(3)
		for _, h := range all {
			s.device(h, 1, 100*time.Millisecond)
		}
		s.pass(3 * time.Second)
		s.noKafka(all...)
		for range 6 {
			s.pass(10 * time.Second)
			h := all[s.rng.IntN(3)]
			h.Crash()
			h.Start()
		}
	})
}
