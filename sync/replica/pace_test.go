package replica

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// R34: copies take no more than their share of the network; what devices wait for goes
// before what nobody does.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pace{BytesPerSecond: 1000}
		began, urgent, rest := time.Now(), 0, 0
		for time.Since(began) < 10*time.Second {
			if d := p.Delay(); d > 0 {
				time.Sleep(d) //nolint:forbidigo // bubble time
				continue
			}
			p.Spent(p.part())
			rest += p.part()
		}
		if rest < 9500 || rest > 11000 {
			t.Errorf("%d bytes in ten seconds of 1000 each", rest)
		}
		end, rest := time.Now().Add(10*time.Second), 0
		var other sync.WaitGroup
		other.Go(func() {
			for time.Now().Before(end) {
				d := p.Delay()
				time.Sleep(max(d, time.Millisecond)) //nolint:forbidigo // bubble time
				if d == 0 {
					p.Spent(p.part())
					rest += p.part()
				}
			}
		})
		for time.Now().Before(end) {
			if err := p.Urgent(t.Context(), 300); err != nil {
				t.Fatal(err)
			}
			urgent += 300
		}
		other.Wait()
		if urgent+rest > 11000 || urgent < 7000 {
			t.Errorf("%d bytes that were waited for and %d others in ten seconds of 1000 each", urgent, rest)
		}
		time.Sleep(time.Second) //nolint:forbidigo // bubble time
		var none Pace
		began = time.Now()
		for range 1000 {
			if err := none.Urgent(t.Context(), 1<<30); err != nil || none.Delay() > 0 {
				t.Fatal(err)
			}
		}
		if time.Since(began) > 0 {
			t.Error("without a bound it waits")
		}
	})
}
