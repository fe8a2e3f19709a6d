package ingest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary/log/mark"
)

// A fakeHandoff answers what the test says.
type fakeHandoff struct {
	arrival Arrival
	err     error
	wait    chan struct{} // Take waits for it; nil: it does not
	asked   []string
}

func (f *fakeHandoff) Take(ctx context.Context, client string) (Arrival, error) {
	f.asked = append(f.asked, client)
	if f.wait != nil {
		select {
		case <-f.wait:
		case <-ctx.Done():
			return Arrival{}, ctx.Err()
		}
	}
	return f.arrival, f.err
}

func moving(f *fakeHandoff) func(*Options) { return func(o *Options) { o.Handoff = f } }

func stamps(l *fakeLog) (all []mark.Stamp) {
	for _, e := range l.all() {
		if s, ok := mark.StampOf(&e.Record); ok {
			all = append(all, s)
		}
	}
	return all
}

// I3: nothing is said to a client, and nothing taken from it, before the others have let
// go of it; and what it sends carries its session.
func TestWaitsForTheOthers(t *testing.T) {
	f := &fakeHandoff{arrival: Arrival{Epoch: 7, Flags: mark.Unverified}}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		f.wait = make(chan struct{})
		c := pipe(t, d)
		c.v5 = true
		c.send(connectPacket(kept("dev", true))...)
		c.publish(1, 1, "t", "a")
		c.publish(0, 0, "t", "b")
		c.wantNothing()
		if got := l.payloads(); got != "" {
			t.Errorf("the log has %q before the hand-off is over", got)
		}
		close(f.wait)
		synctest.Wait()
		if got := c.next(); len(got) == 0 || got[0] != 0x20 {
			t.Fatalf("% x, should be CONNACK", got)
		}
		want := []mark.Stamp{{Flags: mark.Unverified, Epoch: 7, N: 1}, {Flags: mark.Unverified, Epoch: 7, N: 2}}
		if got := stamps(l); !slices.Equal(got, want) {
			t.Errorf("stamps %v, should be %v", got, want)
		}
		if !slices.Equal(f.asked, []string{"dev"}) {
			t.Errorf("asked for %q", f.asked)
		}
	})
}

// A client that no hand-off lets in is told to come again; one that goes, or that
// another gateway lets in meanwhile, ends the wait.
func TestHandoffEnds(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		bubble(t, moving(&fakeHandoff{err: errors.New("no")}), func(t *testing.T, d *Door, _ *fakeLog) {
			c := pipe(t, d)
			c.send(connectPacket(kept("dev", true))...)
			if got := c.next(); len(got) < 4 || got[0] != 0x20 || got[3] != 0x89 {
				t.Errorf("% x, should be server busy", got)
			}
			c.wantEnd()
		})
	})
	t.Run("elsewhere", func(t *testing.T) {
		f := &fakeHandoff{}
		bubble(t, moving(f), func(t *testing.T, d *Door, _ *fakeLog) {
			f.wait = make(chan struct{})
			c := pipe(t, d)
			c.send(connectPacket(kept("dev", true))...)
			synctest.Wait()
			if err := d.Yield(t.Context(), []string{"dev", "other"}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	})
}

// R41: a client that another gateway lets in is told so, and nothing more is taken from
// it when Yield returns.
func TestYield(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, moving(&fakeHandoff{arrival: Arrival{Epoch: 1}}), func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(kept("dev", v5))
			c.publish(1, 1, "t", "a")
			synctest.Wait()
			if err := d.Yield(t.Context(), []string{"dev"}); err != nil {
				t.Fatal(err)
			}
			n := len(l.records())
			c.publish(1, 2, "t", "b")
			synctest.Wait()
			l.commit(nil)
			if v5 {
				c.want(0xe0, 2, 0x8e, 0)
			}
			c.wantEnd()
			if got := len(l.records()); got != n {
				t.Errorf("%d records more were taken", got-n)
			}
		})
	})
}

// R47, I9: a QoS 2 message that another gateway took is acknowledged and not logged, once
// it is safe there; nothing newer is handled before. What only looks like it is logged.
func TestTakenElsewhere(t *testing.T) {
	var decided chan bool
	f := &fakeHandoff{arrival: Arrival{
		Epoch: 3, Known: []mark.Known{{PacketID: 5, LSN: 9, Sum: mark.Sum([]byte("t"), []byte("m"))}, {PacketID: 6, Sum: 1}, {PacketID: 7, Sum: 2}},
		Decide: func(_ context.Context, k *mark.Known) (bool, error) {
			if k.PacketID != 5 || k.LSN != 9 {
				return false, errors.New("another message")
			}
			return <-decided, nil
		},
	}}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		decided = make(chan bool)
		c := pipe(t, d)
		if ack := c.connect(kept("dev", true)); ack[2] != 1 {
			t.Errorf("CONNACK % x: the session is not present", ack)
		}
		c.send(publishPacket(true, 2<<1|8, 5, "t", "m")...)
		c.publish(1, 1, "t", "newer")
		c.wantNothing()
		if got := l.payloads(); got != "" {
			t.Errorf("log has %q before that is decided", got)
		}
		l.commit(nil) // what is noted of the session
		decided <- false
		c.want(0x50, 2, 0, 5)
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		c.send(publishPacket(true, 2<<1|8, 6, "t", "another")...)
		c.send(0x62, 2, 0, 5) // and this is released here
		c.send(0x62, 2, 0, 7) // this was acknowledged there
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 6)
		c.want(0x70, 2, 0, 5)
		c.want(0x70, 2, 0, 7)
		if got := l.payloads(); got != "newer another [qos2.release] [qos2.release]" {
			t.Errorf("log has %q", got)
		}
		end, err := mark.ParseRelease(l.records()[2].Value)
		if err != nil || end != (mark.Ending{PacketID: 5, Epoch: 3, Client: "dev"}) {
			t.Errorf("released: %+v, %v", end, err)
		}
	})
}

// R47: what nobody has any more is logged again, and says that it may be there twice; so
// does what is sent again while a gateway is silent.
func TestTakenAndLost(t *testing.T) {
	f := &fakeHandoff{arrival: Arrival{
		Epoch: 3, Doubtful: true, Known: []mark.Known{{PacketID: 5, Sum: mark.Sum([]byte("t"), []byte("m"))}},
		Decide: func(context.Context, *mark.Known) (bool, error) { return true, nil },
	}}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		c.send(publishPacket(true, 2<<1|8, 5, "t", "m")...)
		c.send(publishPacket(true, 2<<1|8, 6, "t", "n")...)
		c.publish(2, 7, "t", "o")
		synctest.Wait()
		l.commit(nil)
		for id := byte(5); id < 8; id++ {
			c.want(0x50, 2, 0, id)
		}
		want := []mark.Stamp{{Flags: mark.TwicePossible, Epoch: 3, N: 1}, {Flags: mark.TwicePossible, Epoch: 3, N: 2}, {Epoch: 3, N: 3}}
		if got := stamps(l); !slices.Equal(got, want) {
			t.Errorf("stamps %v, should be %v", got, want)
		}
	})
}

// U1: a packet id that was used anew at another gateway is not taken for the old one when
// the client is back: its next message is logged.
func TestReleasedElsewhere(t *testing.T) {
	f := &fakeHandoff{arrival: Arrival{Epoch: 1}}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "m")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 5)
		_ = c.nc.Close()
		synctest.Wait()
		f.arrival = Arrival{Epoch: 9, Gone: []mark.Gone{{PacketID: 5, Epoch: 1}, {PacketID: 6, Epoch: 1}}}
		c = pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "n")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 5)
		if got := l.payloads(); got != "m [qos2.release] n" {
			t.Errorf("log has %q", got)
		}
		if end, err := mark.ParseRelease(l.records()[1].Value); err != nil || end.Epoch != 1 {
			t.Errorf("%+v, %v: over is what the first session took", end, err)
		}
	})
}

// I1 (R11): what was logged before a start, and perhaps has no copy, is acknowledged when it
// is sent again, but not before that is known; and it is not logged again.
func TestResentAfterAStartWaitsForCopies(t *testing.T) {
	decided := make(chan struct{})
	f := &fakeHandoff{}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		decided = make(chan struct{})
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "m")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 5)
		f.arrival = Arrival{Epoch: 2, Known: []mark.Known{{PacketID: 5, Here: true}}, Decide: func(ctx context.Context, _ *mark.Known) (bool, error) {
			select {
			case <-decided:
				return false, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}}
		again := pipe(t, d).enter(kept("dev", true)) // as after a start: the door knows the packet id
		again.send(publishPacket(true, 2<<1|8, 5, "t", "m")...)
		again.wantNothing()
		l.commit(nil) // what is noted of the session
		again.wantNothing()
		close(decided)
		again.want(0x50, 2, 0, 5)
		again.send(publishPacket(true, 2<<1|8, 5, "t", "m")...)
		again.want(0x50, 2, 0, 5)
		synctest.Wait()
		if got := l.payloads(); got != "m" {
			t.Errorf("log has %q", got)
		}
	})
}

// A clean start ends what was taken before it: its packet ids are free, and what is new under
// one waits for nothing.
func TestCleanStartForgetsWhatWasTaken(t *testing.T) {
	f := &fakeHandoff{arrival: Arrival{Epoch: 2, Known: []mark.Known{{PacketID: 5, Here: true}}, Decide: func(context.Context, *mark.Known) (bool, error) {
		return false, errors.New("it is asked for what is over")
	}}}
	bubble(t, moving(f), func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", v5: true, expiry: 3600})
		for range 2 { // the second is the same once more
			c.send(publishPacket(true, 2<<1|8, 5, "t", "m")...)
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
		}
		if got := l.payloads(); got != "[qos2.clean] m" {
			t.Errorf("log has %q", got)
		}
	})
}
