package device

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// perform runs one device against a script, in a bubble, until both are done.
func perform(t *testing.T, opt Options, play func(*script, *Fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		opt.Devices, opt.Dial = 1, s.dial
		if opt.Drain == 0 {
			opt.Drain = time.Hour
		}
		fleet, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- fleet.Run(t.Context()) }()
		play(s, fleet)
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func only(kind string) Mix { return Mix{{kind, 1}} }

func publishOf(seq uint64, qos byte, id uint16, dup bool) heard {
	return heard{kind: 3, seq: seq, qos: qos, packetID: id, dup: dup}
}

// What was not answered comes again on the next connection, PUBRELs in the
// order of the PUBRECs, PUBLISHes in their own order, with DUP, and before
// anything new (U2).
func TestResendsInOrder(t *testing.T) {
	for _, v := range []string{Version311, Version5} {
		opt := Options{QoS: only("2"), Versions: only(v), Count: 5, Window: 4, Recorder: &notes{state: State{Discard: true}}}
		perform(t, opt, func(s *script, _ *Fleet) {
			s.discard()
			p, hello := s.accept(false)
			if hello.clean {
				t.Error("the session is not to be kept")
			}
			p.expect(publishOf(1, 2, 1, false), publishOf(2, 2, 2, false), publishOf(3, 2, 3, false), publishOf(4, 2, 4, false))
			p.ack(typePubrec, 3, 0)
			p.expect(heard{kind: 6, packetID: 3})
			p.ack(typePubrec, 1, 0)
			p.expect(heard{kind: 6, packetID: 1})
			p.close()

			p, _ = s.accept(true)
			p.expect(heard{kind: 6, packetID: 3}, heard{kind: 6, packetID: 1})
			p.expect(publishOf(2, 2, 2, true), publishOf(4, 2, 4, true))
			p.ack(typePubcomp, 3, 0)
			p.expect(publishOf(5, 2, 5, false))
			p.ack(typePubcomp, 1, 0)
			for _, id := range []uint16{2, 4, 5} {
				p.ack(typePubrec, id, 0)
				p.expect(heard{kind: 6, packetID: id})
				p.ack(typePubcomp, id, 0)
			}
			p.expect(heard{kind: typeDisconnect})
			p.close()
		})
	}
}

// A broker without the session gets what was not acknowledged as new, and the
// recorder is told.
func TestSessionLostByTheBroker(t *testing.T) {
	log := &notes{state: State{Discard: true}}
	opt := Options{QoS: only("2"), Versions: only(Version5), Count: 2, Recorder: log}
	perform(t, opt, func(s *script, _ *Fleet) {
		s.discard()
		p, _ := s.accept(false)
		p.expect(publishOf(1, 2, 1, false), publishOf(2, 2, 2, false))
		p.ack(typePubrec, 1, 0)
		p.expect(heard{kind: 6, packetID: 1})
		p.close()
		p, _ = s.accept(false)
		p.expect(publishOf(2, 2, 2, false))
		p.ack(typePubrec, 2, 0)
		p.expect(heard{kind: 6, packetID: 2})
		p.ack(typePubcomp, 2, 0)
		p.expect(heard{kind: typeDisconnect})
		p.close()
	})
	if log.count(NewSession) != 2 || log.count(Sent) != 3 || log.count(Acked) != 2 {
		t.Errorf("recorded %+v", log.events)
	}
}

// A device that starts from a recorded state repeats what that holds.
func TestResumes(t *testing.T) {
	log := &notes{state: State{LastSeq: 9, Session: 3, Flights: []Flight{
		{Seq: 6, QoS: 2, PacketID: 60, Session: 3, Acked: true},
		{Seq: 7, QoS: 1, PacketID: 61, Session: 2},
		{Seq: 8, QoS: 1, PacketID: 62, Session: 3},
		{Seq: 9, QoS: 1, PacketID: 63, Session: 3, Refused: true},
	}}}
	perform(t, Options{Versions: only(Version5), Count: 1, Recorder: log}, func(s *script, _ *Fleet) {
		p, _ := s.accept(true)
		p.expect(heard{kind: 6, packetID: 60})
		p.expect(publishOf(7, 1, 61, false)) // not yet in this session
		p.expect(publishOf(8, 1, 62, true), publishOf(9, 1, 63, false), publishOf(10, 1, 64, false))
		p.ack(typePubcomp, 60, 0)
		for id := uint16(61); id <= 64; id++ {
			p.ack(typePuback, id, 0)
		}
		p.expect(heard{kind: typeDisconnect})
		p.close()
	})
}

func TestReceiveMaximum(t *testing.T) {
	perform(t, Options{Versions: only(Version5), Count: 4, Window: 10}, func(s *script, f *Fleet) {
		s.discard()
		p, _ := s.accept(false, propReceiveMaximum, 0, 2)
		p.expect(publishOf(1, 1, 1, false), publishOf(2, 1, 2, false))
		synctest.Wait()
		if sent := f.Stats().Sent; sent != 2 {
			t.Errorf("%d messages sent with a receive maximum of 2", sent)
		}
		p.ack(typePuback, 2, 0)
		p.expect(publishOf(3, 1, 3, false))
		p.ack(typePuback, 1, 0)
		p.expect(publishOf(4, 1, 4, false))
		p.ack(typePuback, 3, 0)
		p.ack(typePuback, 4, 0)
		p.expect(heard{kind: typeDisconnect})
		p.close()
	})
}

// A refused message comes again later, and holds back what is new.
func TestRefusedIsSentAgain(t *testing.T) {
	log := &notes{state: State{Discard: true}}
	opt := Options{Versions: only(Version5), Count: 2, Window: 1, Recorder: log}
	perform(t, opt, func(s *script, f *Fleet) {
		s.discard()
		p, _ := s.accept(false)
		p.expect(publishOf(1, 1, 1, false))
		begun := time.Now()
		p.ack(typePuback, 1, 0x97)
		p.expect(publishOf(1, 1, 2, false))
		p.ack(typePuback, 2, 0x97)
		p.expect(publishOf(1, 1, 3, false))
		if waited := time.Since(begun); waited != 300*time.Millisecond {
			t.Errorf("refused twice and sent again after %v; want 100 + 200 ms", waited)
		}
		p.ack(typePuback, 3, 0)
		p.expect(publishOf(2, 1, 4, false))
		p.ack(typePuback, 4, 0)
		p.expect(heard{kind: typeDisconnect})
		p.close()
		synctest.Wait()
		if st := f.Stats(); st.Refused != 2 || st.Acked != 2 || st.Outstanding != 0 {
			t.Errorf("%+v", st)
		}
	})
	if log.count(Refused) != 2 || log.count(Sent) != 4 {
		t.Errorf("recorded %+v", log.events)
	}
}

func TestSilentBroker(t *testing.T) {
	perform(t, Options{Versions: only(Version311), Count: 1, AckTimeout: 20 * time.Second}, func(s *script, f *Fleet) {
		s.discard()
		p, _ := s.accept(false)
		p.expect(publishOf(1, 1, 1, false))
		begun := time.Now()
		p.expect(heard{}) // gone
		if waited := time.Since(begun); waited != 20*time.Second {
			t.Errorf("reconnected after %v without an answer", waited)
		}
		p, _ = s.accept(true)
		p.expect(publishOf(1, 1, 1, true))
		p.ack(typePuback, 1, 0)
		p.expect(heard{kind: typeDisconnect})
		p.close()
		synctest.Wait()
		if l := f.Stats().QoS1; l.Count != 1 || l.Max < 20*time.Second {
			t.Errorf("latency %+v does not count the time without a connection", l)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	opt := Options{Versions: only(Version5), Rate: 0.001, Count: 1, KeepAlive: 40 * time.Second, Seed: 1}
	perform(t, opt, func(s *script, _ *Fleet) {
		s.discard()
		p, _ := s.accept(false, propServerKeepAlive, 0, 20)
		begun := time.Now()
		p.expect(heard{kind: 12})
		if waited := time.Since(begun); waited != 15*time.Second {
			t.Errorf("PINGREQ after %v; want 3/4 of the server's 20 s", waited)
		}
		p.write(typePingresp<<4, 0)
		p.expect(heard{kind: 12}, heard{}) // no PINGRESP: gone
		p, _ = s.accept(true)
		for h := p.next(); h.kind != typeDisconnect; h = p.next() {
			switch h.kind {
			case 12:
				p.write(typePingresp<<4, 0)
			case 3:
				p.ack(typePuback, h.packetID, 0)
			default:
				t.Fatalf("%+v", h)
			}
		}
		p.close()
	})
}

// A fleet never gives up, and asks no more often than every BackoffMax / 2.
func TestBacksOffForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []time.Time
		fleet, err := New(Options{BackoffMax: 4 * time.Second, Dial: func(context.Context) (net.Conn, error) {
			calls = append(calls, time.Now())
			return nil, errors.New("no route")
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := fleet.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := len(calls); n < 900 || n > 1900 {
			t.Errorf("%d attempts in an hour; want one every 2 to 4 s", n)
		}
		if st := fleet.Stats(); !strings.Contains(st.LastError, "no route") || !strings.HasPrefix(st.LastError, "sim-0001: ") {
			t.Errorf("last error %q", st.LastError)
		}
	})
}

// Run waits for answers as long as Drain allows, and no longer.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		fleet, err := New(Options{Dial: s.dial, Versions: only(Version5), Drain: 7 * time.Second, Window: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- fleet.Run(ctx) }()
		s.discard()
		p, _ := s.accept(false)
		p.expect(publishOf(1, 1, 1, false), publishOf(2, 1, 2, false))
		cancel()
		begun := time.Now()
		p.ack(typePuback, 1, 0) // room, but nothing new is made
		p.expect(heard{})
		if err := <-done; err != nil || time.Since(begun) != 7*time.Second {
			t.Errorf("Run returned %v after %v", err, time.Since(begun))
		}
		if st := fleet.Stats(); st.Sent != 2 || st.Acked != 1 || st.Outstanding != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Nothing reaches the broker that is not in the record.
func TestNothingUnrecordedIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		full := errors.New("disk full")
		log := &notes{state: State{Session: 1, LastSeq: 5}}
		fleet, err := New(Options{Dial: s.dial, Recorder: log, Rate: 0.1, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- fleet.Run(t.Context()) }()
		p, _ := s.accept(true)
		log.mu.Lock()
		log.fail = full
		log.mu.Unlock()
		p.expect(heard{})
		if err := <-done; !errors.Is(err, full) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestBrokerGoesOnWithADiscardedSession(t *testing.T) {
	perform(t, Options{Versions: only(Version5), Count: 1}, func(s *script, f *Fleet) {
		s.discard()
		p, _ := s.accept(true)
		p.expect(heard{})
		s.discard()
		p, _ = s.accept(false)
		p.expect(publishOf(1, 1, 1, false))
		p.ack(typePuback, 1, 0)
		p.expect(heard{kind: typeDisconnect})
		p.close()
		if st := f.Stats(); st.Strays != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestOptionsAreCheckedAllAtOnce(t *testing.T) {
	_, err := New(Options{
		Devices: -1, Prefix: "a b", Topic: "x/#", Rate: -1, Window: -1, QoS: Mix{{"3", 1}},
		Faults: Faults{Cut: 0.9, Reboot: 0.2, Duplicate: 2},
	})
	for _, word := range []string{"no broker", "devices", "a b", "x/#", "rate", "window", "qos", "1.1", "duplicate"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("nothing about %q in: %v", word, err)
		}
	}
}
