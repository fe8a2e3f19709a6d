package sitetest

import (
	"context"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// scenario runs f some times, each with a seed of its own.
func scenario(t *testing.T, f func(s *site)) {
	t.Helper()
	from, n := uint64(setting(t, "FROM", 1)), uint64(setting(t, "EACH", 1))
	if seed := setting(t, "SEED", 0); seed > 0 {
		from, n = uint64(seed), 1
	}
	for seed := from; seed < from+n; seed++ {
		bubble(t, seed, func(s *site) {
			f(s)
			s.CheckNoLoss()
		})
	}
}

// gateways starts so many gateways, and waits until they see each other.
func (s *site) gateways(n int) (all []*host) {
	for range n {
		all = append(all, s.add())
	}
	for _, h := range all {
		h.Start()
	}
	s.meet(all...)
	return all
}

// meet waits until all see each other, and have copies.
func (s *site) meet(all ...*host) {
	for _, h := range all {
		s.until(h, "its peers", time.Minute, func(r *status.Report) bool {
			there := 0
			for _, p := range r.Gateways.Peers {
				if p.State == "alive" {
					there++
				}
			}
			return there >= len(all)-1 && !r.Gateways.Short
		})
	}
}

// until waits until the report of a gateway is as wanted, and returns how long that took.
func (s *site) until(h *host, what string, limit time.Duration, ok func(*status.Report) bool) time.Duration {
	s.t.Helper()
	for began := time.Now(); ; s.pass(250 * time.Millisecond) {
		if n := h.opened(); n != nil {
			r := n.Report()
			if ok(&r) {
				return time.Since(began)
			}
			if time.Since(began) > limit {
				s.fail("%s waits for %s for %v: %+v", h.name, what, limit, r)
			}
		} else if time.Since(began) > limit {
			s.fail("%s does not run", h.name)
		}
		if s.hasFailed() {
			return 0
		}
	}
}

// stored waits until Kafka has all that was acknowledged, and returns how long it took.
func (s *site) stored(limit time.Duration) time.Duration {
	s.t.Helper()
	for began := time.Now(); ; s.pass(time.Second) {
		missing := s.missing()
		if len(missing) == 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			s.fail("after %v Kafka lacks %d messages that were acknowledged: %s", limit, len(missing), missing[0].value())
		}
		if s.hasFailed() {
			return 0
		}
	}
}

// missing returns what was acknowledged and is not in Kafka.
func (s *site) missing() (all []*reading) {
	there := map[string]bool{}
	for _, r := range s.kafka.read(dataTopic) {
		there[r.value] = true
	}
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	for value, r := range s.oracle.readings {
		if !r.acked.IsZero() && !there[value] {
			all = append(all, r)
		}
	}
	return all
}

// rest lets devices finish what they have begun, and no more.
func (s *site) rest() {
	s.stop()
	s.publish.Wait()
}

// silence ends all devices, whatever they have begun. Others may come.
func (s *site) silence() {
	s.stop()
	s.hard()
	s.publish.Wait()
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.hardCtx, s.hard = context.WithCancel(context.Background())
}

// want fails the test unless ok.
func (s *site) want(ok bool, format string, args ...any) {
	s.t.Helper()
	if !ok {
		s.fail(format, args...)
	}
}

func (s *site) noKafka(all ...*host) {
	for _, h := range all {
		s.say("cut %s from Kafka", h.name)
		s.Cut(h.ip, kafkaHost)
	}
}

func (s *site) kafkaAgain(all ...*host) {
	for _, h := range all {
		s.say("heal %s and Kafka", h.name)
		s.Heal(h.ip, kafkaHost)
	}
}

func (s *site) report(h *host) (r status.Report) {
	if n := h.opened(); n != nil {
		return n.Report()
	}
	s.fail("%s does not run", h.name)
	return r
}

func (s *site) acked() int {
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	return s.oracle.acked
}

func forwards(r *status.Report) bool {
	for _, c := range r.Gateways.Copies {
		if c.Forwarding {
			return true
		}
	}
	return false
}

// ackedOf returns how many of some messages are acknowledged.
func (s *site) ackedOf(some func(*reading) bool) (n int) {
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	for _, r := range s.oracle.readings {
		if !r.acked.IsZero() && some(r) {
			n++
		}
	}
	return n
}

// excused returns how many messages may be lost of those acknowledged before some time.
func (s *site) excused(before time.Time) int {
	return s.ackedOf(func(r *reading) bool { return r.acked.Before(before) && r.claims.excused(r.acked) })
}
