package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

const (
	fanoutReadBytes = 256 << 10
	maxSpans        = 1024
)

// A span is a stretch of a ledger, half-open.
type span struct {
	ledger   tributary.LedgerID
	from, to tributary.LSN
}

// A fanout gives durable messages to local subscribers. It reads them back
// from the log, so that it holds no memory for those it has not come to, and
// publishers never wait for it.
type fanout struct {
	reader Reader
	srv    *mqtt.Server
	voice  *mqtt.Client // in whose name the engine delivers; touched by run alone
	stat   *counters
	logger *slog.Logger
	wake   chan struct{} // one slot: there are spans

	mu    sync.Mutex // guards what follows
	spans []span     // ascending, with gaps between them
}

func newFanout(r Reader, srv *mqtt.Server, stat *counters, logger *slog.Logger) *fanout {
	voice := srv.NewClient(nil, mqtt.LocalListener, "", true)
	voice.Properties.ProtocolVersion = 5 // or message expiry is ignored
	return &fanout{reader: r, srv: srv, voice: voice, stat: stat, logger: logger, wake: make(chan struct{}, 1)}
}

// want asks for the records from (included) to (excluded) of a ledger to be
// given to subscribers. Calls come in the order of ledgers and LSNs. It does not
// wait.
func (f *fanout) want(ledger tributary.LedgerID, from, to tributary.LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.spans); n > 0 && f.spans[n-1].ledger == ledger && (f.spans[n-1].to == from || n >= maxSpans) {
		f.spans[n-1].to = to // when there are too many, what lies between is delivered as well
	} else {
		f.spans = append(f.spans, span{ledger, from, to})
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fanout) next() (span, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.spans) == 0 {
		return span{}, false
	}
	s := f.spans[0]
	f.spans = append(f.spans[:0], f.spans[1:]...)
	return s, true
}

// run delivers until ctx is done.
func (f *fanout) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		for {
			s, ok := f.next()
			if !ok {
				break
			}
			if err := f.deliver(ctx, s); err != nil {
				if ctx.Err() != nil {
					return
				}
				f.stat.fanoutError.Add(1)
				f.logger.Warn("local subscribers miss messages that could not be read back; what goes to Kafka is not touched by this",
					"from", s.from, "to", s.to, "error", err)
			}
		}
	}
}

func (f *fanout) deliver(ctx context.Context, s span) error {
	for at := s.from; at < s.to; {
		chunk, err := f.reader.Read(ctx, s.ledger, at, fanoutReadBytes)
		if err != nil {
			return fmt.Errorf("read record %d: %w", at, err)
		}
		if chunk.Next <= at {
			return fmt.Errorf("read record %d: got records %d to %d", at, chunk.From, chunk.Next)
		}
		now := time.Now()
		for i := range chunk.Entries {
			if e := &chunk.Entries[i]; e.LSN >= at && e.LSN < s.to {
				f.inject(e, now)
			}
		}
		at = chunk.Next
	}
	return nil
}

// inject gives one record to the engine as if its client had published it
// just now.
func (f *fanout) inject(e *record.Entry, now time.Time) {
	if e.Header(headerRetain) == nil && atomic.LoadInt64(&f.srv.Info.Subscriptions) == 0 {
		return
	}
	pk, ok := packetOf(e, now)
	if !ok {
		return
	}
	defer func() {
		if p := recover(); p != nil { // S1: whatever a device sends, the node stays
			f.stat.panics.Add(1)
			f.logger.Error("the MQTT engine panicked over a message for local subscribers; they miss it, nothing else is touched",
				"record", e.LSN, "panic", p)
		}
	}()
	f.voice.ID = pk.Origin // a subscriber that asked for No Local is left out by this
	if err := f.srv.InjectPacket(f.voice, pk); err != nil {
		f.logger.Debug("a message was not delivered to local subscribers", "record", e.LSN, "error", err)
		return
	}
	f.stat.fannedOut.Add(1)
}
