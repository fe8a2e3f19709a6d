// Package ours runs Tributary's log alone, without a node around it. It imports
// nothing of the logs that it is compared with.
package ours

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
)

// A Log is an open log whose committer runs. Its methods may be called from
// many goroutines at once, Together and Close from one.
type Log struct {
	*store.Log

	told  func(tickets []tributary.Ticket, err error)
	keep  bool
	stop  context.CancelFunc
	ended chan struct{} // closed when the committer has ended
	err   error         // of the committer, once it has

	value        func(i int) []byte // what Together appends
	sent         int
	size, groups int // so many more groups of that many records are to follow
}

// Start opens the log in fs, which is closed when ctx ends, or by Close. told, if not nil, is called for every group as
// store.Log.OnCommit says. With keep, nothing counts as forwarded: segments are
// not used again.
func Start(ctx context.Context, fs disk.FS, opt store.Options, keep bool, told func(tickets []tributary.Ticket, err error)) (*Log, error) {
	opened, _, err := store.Open(fs, opt)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Log{Log: opened, told: told, keep: keep, stop: stop, ended: make(chan struct{})}
	l.OnCommit(func(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
		l.committed(base, tickets, err)
	})
	go func() {
		defer close(l.ended)
		l.err = l.Run(ctx)
	}()
	return l, nil
}

func (l *Log) committed(base tributary.LSN, tickets []tributary.Ticket, err error) {
	if !l.keep {
		l.Forwarded(l.Ledger(), base+tributary.LSN(len(tickets)))
	}
	if l.groups > 0 && err == nil {
		l.groups--
		for range l.size {
			if l.Put(l.value(l.sent), tributary.Ticket{}) != nil {
				break // Run says why
			}
			l.sent++
		}
	}
	if l.told != nil {
		l.told(tickets, err)
	}
}

// Put appends one record.
func (l *Log) Put(value []byte, t tributary.Ticket) error {
	_, err := l.Append(&record.Record{Stream: "telemetry", Millis: 1_760_000_000_000, Value: value}, t)
	return err
}

// Together appends a record, and then groups of exactly size records: those of
// a group are appended while the committer tells of the one before. It returns
// the bytes of all values when they are durable.
func (l *Log) Together(size, groups int, value func(i int) []byte) (payload int64, err error) {
	l.size, l.groups, l.sent = size, groups, 1
	l.value = func(i int) []byte {
		v := value(i)
		payload += int64(len(v))
		return v
	}
	if err := l.Put(l.value(0), tributary.Ticket{}); err != nil {
		return 0, err
	}
	return payload, l.Drain(int64(l.Next()) + int64(size*groups))
}

// Drain returns when the first n records of the ledger are durable.
func (l *Log) Drain(n int64) error {
	poll := time.NewTicker(200 * time.Microsecond)
	defer poll.Stop()
	for int64(l.Durable()) < n {
		select {
		case <-poll.C:
		case <-l.ended:
			return errors.Join(errors.New("the log was closed before all was durable"), l.err)
		}
	}
	return nil
}

// Close commits what was appended and closes the log.
func (l *Log) Close() error {
	l.stop()
	<-l.ended
	return l.err
}

// Bytes is the size of the values that all contestants store.
const Bytes = 256

// Values returns n different values of Bytes bytes.
func Values(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, Bytes)
		copy(all[i], Telemetry(i))
	}
	return all
}

// Telemetry returns the i-th reading of 50 sensors in turn, some 210 bytes:
// names and leading digits repeat, as they do in practice, and the rest is
// noise. It is the same every time.
func Telemetry(i int) []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 0))
	return fmt.Appendf(nil, `{"device":"plant7-line3-sensor-%04d","ts":%d,"seq":%d,"temperature":%.2f,"humidity":%.1f,`+
		`"pressure":%.2f,"vibration":{"x":%.4f,"y":%.4f,"z":%.4f},"battery":%.2f,"rssi":-%d,"status":"OK"}`,
		i%50, 1_760_000_000_000+int64(i)*1000+rng.Int64N(20), i/50, 21.5+rng.Float64()/10, 45+rng.Float64()*3,
		1013.2+rng.Float64()/5, rng.Float64()/50, rng.Float64()/50, 0.98+rng.Float64()/50, 3.65-rng.Float64()/5, 60+rng.IntN(8))
}
