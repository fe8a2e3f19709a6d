package replica

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
)

// A1, I4, R12: what has waited too long when Run begins, because this node became another
// one meanwhile, is acknowledged, once, and the node is short: not short and well by turns.
func TestWaitedBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		shorts, delivered := 0, 0
		a := &Acks{
			Copies: one, Accept: true,
			Deliver: func(_ tributary.LedgerID, _ tributary.LSN, tickets []tributary.Ticket, _ error) {
				delivered += len(tickets)
			},
			Short: func(bool) {
				if shorts++; shorts > 10 {
					stop()
				}
			},
		}
		a.Committed(tributary.LedgerID{1}, 0, make([]tributary.Ticket, 3), nil)
		<-time.After(time.Minute)
		done := make(chan struct{})
		go func() {
			a.Run(ctx)
			close(done)
		}()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-done:
		}
		if delivered != 3 || shorts != 1 {
			t.Errorf("%d of 3 are acknowledged, and it was told %d times whether the node is short", delivered, shorts)
		}
		stop()
		<-done
	})
}
