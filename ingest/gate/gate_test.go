package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A crowd notes who gets a place, in which order.
type crowd struct {
	t     *testing.T
	gate  *Gate
	order []string
}

// wait has somebody wait for a place, and keep it for as long as its work takes.
func (c *crowd) wait(name string, w Work, host string, takes time.Duration) {
	go func() {
		p, err := c.gate.Enter(c.t.Context(), w, host)
		if err != nil {
			c.t.Error(err)
			return
		}
		c.order = append(c.order, name) // there is one place
		pass(takes)
		p.Leave()
	}()
	synctest.Wait()
}

// pass lets the time of a bubble go by.
func pass(d time.Duration) { <-time.After(d) }

// bubble runs a test with a gate whose only place is taken until the crowd is there.
func bubble(t *testing.T, come func(c *crowd)) []string {
	t.Helper()
	var order []string
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{t: t, gate: New(1)}
		first, err := c.gate.Enter(t.Context(), Connect, "")
		if err != nil {
			t.Fatal(err)
		}
		come(c)
		if len(c.order) > 0 {
			t.Errorf("%v have a place that is taken", c.order)
		}
		first.Leave()
		pass(LongestWait)
		synctest.Wait()
		if c.gate.free != 1 || c.gate.short.waiting+c.gate.long.waiting != 0 || len(c.gate.long.byName)+len(c.gate.short.byName) != 0 {
			t.Errorf("afterwards: %+v", c.gate)
		}
		order = c.order
	})
	return order
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		come func(c *crowd)
		want string
	}{
		{"one after the other", func(c *crowd) {
			for _, name := range []string{"a", "b", "c"} {
				c.wait(name, Handshake, "host", 0)
			}
		}, "a b c"},
		{"hosts in turn", func(c *crowd) {
			for i := range 4 {
				c.wait(fmt.Sprintf("crowd%d", i), Handshake, "1", 0)
			}
			c.wait("alone", Handshake, "2", 0)
			c.wait("pair0", Handshake, "3", 0)
			c.wait("pair1", Handshake, "3", 0)
		}, "crowd0 alone pair0 crowd1 pair1 crowd2 crowd3"},
		{"who has begun goes on first", func(c *crowd) {
			c.wait("begins", Handshake, "1", 0)
			c.wait("connects", Connect, "2", 0)
			c.wait("finishes", Finish, "3", 0)
			c.wait("token", Token, "4", 0)
		}, "token connects finishes begins"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(bubble(t, c.come), " "); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// While both wait, short and long work get the same time: neither makes the other
// wait for all of its own.
func TestSameTime(t *testing.T) {
	order := bubble(t, func(c *crowd) {
		for i := range 200 {
			c.wait("short", Connect, fmt.Sprint(i), time.Millisecond)
		}
		for range 20 {
			c.wait("long", Password, "host", 10*time.Millisecond)
		}
	})
	long, shortAtLast := 0, 0
	for i, name := range order {
		if name == "long" {
			long++
			shortAtLast = i + 1 - long
		}
		if short := i + 1 - long; short/10-long > 1 || long-short/10 > 2 {
			t.Fatalf("after %d short ones there were %d long ones", short, long)
		}
	}
	if long != 20 || shortAtLast < 180 {
		t.Errorf("%d long ones, the last after %d short ones", long, shortAtLast)
	}
	// Alone, short work leaves no debt behind.
	order = bubble(t, func(c *crowd) {
		for i := range 100 {
			c.wait("short", Connect, fmt.Sprint(i), time.Millisecond)
		}
		go func() {
			pass(50 * time.Millisecond)
			for range 10 {
				c.wait("long", Handshake, "host", 5*time.Millisecond)
			}
		}()
	})
	if first := slices.Index(order, "long"); first < 50 || order[first+1] == "long" && order[first+2] == "long" {
		t.Errorf("long work came at %d: %v", first, order[first:])
	}
}

// A place rests after its work, and after little work only now and then.
func TestRest(t *testing.T) {
	for _, c := range []struct {
		work         Work
		times        int
		takes, wants time.Duration
	}{
		{Handshake, 1, 2 * time.Millisecond, 2 * time.Millisecond},
		{Handshake, 1, 80 * time.Millisecond, longestRest},
		{Password, 1, 65 * time.Millisecond, afterPassword},
		{Token, 1, shortestRest / 4, 0},
		{Token, 8, shortestRest / 4, 2 * shortestRest},
		{Connect, 8, 2 * time.Millisecond, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := New(1)
			start := time.Now()
			for range c.times {
				p, err := g.Enter(t.Context(), c.work, "")
				if err != nil {
					t.Fatal(err)
				}
				pass(c.takes)
				p.Leave()
				p.Leave() // it is none any more
			}
			if _, err := g.Enter(t.Context(), c.work, ""); err != nil {
				t.Fatal(err)
			}
			if rested := time.Since(start) - time.Duration(c.times)*c.takes; rested != c.wants {
				t.Errorf("%d times %v of work %d: rested %v, want %v", c.times, c.takes, c.work, rested, c.wants)
			}
		})
	}
}

// Nobody waits for ever, and who has stopped waiting takes no place with it.
func TestLongestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		holder, err := g.Enter(t.Context(), Handshake, "holder")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := g.Enter(t.Context(), Handshake, "patient"); !errors.Is(err, ErrBusy) || time.Since(start) != LongestWait {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			pass(time.Second)
			cancel()
		}()
		start = time.Now()
		if _, err := g.Enter(ctx, Connect, "gone"); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		got := make(chan error)
		go func() {
			_, err := g.Enter(t.Context(), Finish, "next")
			got <- err
		}()
		synctest.Wait()
		holder.Leave()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// A turn that comes to somebody in the moment in which it stops waiting goes on to
// the next.
func TestTurnTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 { // select chooses either way
			g := New(1)
			holder, err := g.Enter(t.Context(), Connect, "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{}, 2)
			for _, ctx := range []context.Context{ctx, t.Context()} {
				go func() {
					p, err := g.Enter(ctx, Connect, "")
					if err == nil {
						p.Leave()
					}
					done <- struct{}{}
				}()
				synctest.Wait()
			}
			g.mu.Lock()
			cancel()
			g.mu.Unlock()
			holder.Leave()
			<-done
			<-done
			if g.free != 1 {
				t.Fatalf("%d places are free", g.free)
			}
		}
	})
}
