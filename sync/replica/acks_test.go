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
		synctest.Wait()
		if delivered != 3 || shorts != 1 {
			t.Errorf("%d of 3 are acknowledged, and it was told %d times whether the node is short", delivered, shorts)
		}
		stop()
		<-done
	})
}

// R12, I4: a node whose peer is away stays short when Kafka has what it acknowledged
// alone: the next record that waits for a copy does not wait for its grace anew. It is
// short no longer when the copies are back.
func TestShortThoughKafkaHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		delivered := 0
		a := &Acks{
			Copies: one, Accept: true,
			Deliver: func(_ tributary.LedgerID, _ tributary.LSN, tickets []tributary.Ticket, _ error) {
				delivered += len(tickets)
			},
		}
		done := make(chan struct{})
		go func() {
			a.Run(ctx)
			close(done)
		}()
		id := tributary.LedgerID{1}
		a.Committed(id, 0, make([]tributary.Ticket, 1), nil)
		<-time.After(defaultGrace + 2*tickEvery)
		for lsn := range tributary.LSN(5) {
			a.InKafka(id, lsn+1)
			<-time.After(2 * tickEvery)
			a.Committed(id, lsn+1, make([]tributary.Ticket, 1), nil)
			synctest.Wait()
			if short, _ := a.State(); !short || delivered != int(lsn)+2 {
				t.Errorf("record %d: %d acknowledged, short is %t", lsn+1, delivered, short)
			}
		}
		a.Copied(tributary.NodeID{2}, id, 6)
		if short, _ := a.State(); short {
			t.Error("the copy has all of it, and the node is short")
		}
		stop()
		<-done
	})
}
