// Package device simulates fleets of MQTT devices that publish through bad
// radios: connections are cut in the middle of a packet or go half open,
// devices reboot and send things twice, and yet each keeps MQTT's rules for
// delivery (MQTT 5.0 sections 4.3, 4.4, 4.6, 4.9).
//
// Every payload says which device made it and which of its messages it is, see
// Identify. What was sent and what the broker acknowledged goes to a Recorder,
// so that somebody can later count what arrived.
//
// The package has its own small MQTT client: a well-behaved library could not
// cut a packet in half.
package device

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Fleet is a number of simulated devices.
type Fleet struct {
	opt     Options
	kinds   map[string]*Options // by profile, if there are any
	counts  counters
	latency [3]histogram // by QoS

	producing atomic.Int64 // devices that still make messages
	quiet     chan struct{}

	mu        sync.Mutex // guards what follows
	abandoned map[net.Conn]*time.Timer
	closed    bool
}

// counters hold what the devices report.
type counters struct {
	sent, acked, outstanding, transmissions, refused, forgotten, strays atomic.Int64
	commands, skipped                                                   atomic.Int64
	connected, reconnects, sessions                                     atomic.Int64
	cuts, halfOpen, reboots, duplicates                                 atomic.Int64
	lastError                                                           atomic.Pointer[string]
}

// New checks the options, all of them, and returns a fleet that is switched off.
func New(opt Options) (*Fleet, error) {
	kinds, err := opt.kinds()
	if err != nil {
		return nil, err
	}
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	return &Fleet{opt: opt, kinds: kinds, quiet: make(chan struct{}), abandoned: map[net.Conn]*time.Timer{}}, nil
}

// optionsOf returns the options of device n.
func (f *Fleet) optionsOf(n int) *Options {
	if len(f.kinds) == 0 {
		return &f.opt
	}
	return f.kinds[f.opt.Profiles.spread(n, profileStep)]
}

// Run switches the devices on. They make messages until ctx ends or each has
// made Options.Count; then Run waits until everything outstanding has been
// acknowledged, or for Options.Drain, disconnects the devices and returns.
// It returns nil whatever the broker did, and an error when the recorder
// failed: then nothing that was not recorded has been sent. A fleet runs once.
func (f *Fleet) Run(ctx context.Context) error {
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	f.producing.Store(int64(f.opt.Devices))
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-f.quiet:
		case <-hard.Done():
			return
		}
		expired := time.AfterFunc(f.opt.Drain, func() { cancel(nil) })
		defer expired.Stop()
		<-hard.Done()
	}()
	var devices sync.WaitGroup
	var failure atomic.Pointer[error]
	for n := range f.opt.Devices {
		devices.Go(func() {
			if err := newFirmware(f, n).live(ctx, hard); err != nil {
				failure.CompareAndSwap(nil, &err)
				cancel(err)
			}
		})
	}
	devices.Wait()
	cancel(nil)
	<-watched
	f.closeAbandoned()
	if err := failure.Load(); err != nil {
		return *err
	}
	if err := f.opt.Recorder.Flush(); err != nil {
		return fmt.Errorf("record the last acknowledgements: %w", err)
	}
	return nil
}

// stopped notes that a device makes no more messages.
func (f *Fleet) stopped() {
	if f.producing.Add(-1) == 0 {
		close(f.quiet)
	}
}

// abandon keeps a half-open socket for a while.
func (f *Fleet) abandon(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_ = conn.Close()
		return
	}
	f.abandoned[conn] = time.AfterFunc(f.opt.HalfOpenFor, func() {
		_ = conn.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.abandoned, conn)
	})
}

func (f *Fleet) closeAbandoned() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for conn, timer := range f.abandoned {
		timer.Stop()
		_ = conn.Close()
	}
}

// failed keeps the latest trouble for whoever watches.
func (f *Fleet) failed(device string, err error) {
	text := device + ": " + err.Error()
	f.counts.lastError.Store(&text)
}

// Stats are figures of a fleet since Run began, except where they say "now".
type Stats struct {
	Sent          int64 // messages handed to a socket for the first time
	Acked         int64 // messages of QoS 1 and 2 the broker took responsibility for
	Outstanding   int64 // messages of QoS 1 and 2 that wait for that, now; of earlier runs as well
	Transmissions int64 // PUBLISHes, repetitions included
	Refused       int64 // answers with a reason code of failure
	Forgotten     int64 // messages lost with the memory of a device that rebooted
	Strays        int64 // answers that MQTT does not allow
	Commands      int64 // messages that came to devices
	Skipped       int64 // messages to devices that were too long for them
	Connected     int64 // devices online now
	Reconnects    int64 // connections after each device's first
	Sessions      int64 // sessions that began without state at the broker
	Cuts          int64 // connections cut inside a PUBLISH
	HalfOpen      int64 // connections left half open
	Reboots       int64 // with and without memory
	Duplicates    int64 // PUBLISHes repeated on a live connection
	LastError     string
	QoS1, QoS2    Latency
}

// Stats returns the figures as they are now. It may be called at any time.
func (f *Fleet) Stats() Stats {
	c := &f.counts
	s := Stats{
		Sent: c.sent.Load(), Acked: c.acked.Load(), Outstanding: c.outstanding.Load(),
		Transmissions: c.transmissions.Load(), Refused: c.refused.Load(), Forgotten: c.forgotten.Load(),
		Strays: c.strays.Load(), Commands: c.commands.Load(), Skipped: c.skipped.Load(), Connected: c.connected.Load(), Sessions: c.sessions.Load(),
		Cuts: c.cuts.Load(), HalfOpen: c.halfOpen.Load(), Reboots: c.reboots.Load(), Duplicates: c.duplicates.Load(),
		QoS1: f.latency[1].latency(), QoS2: f.latency[2].latency(),
		Reconnects: c.reconnects.Load(),
	}
	if e := c.lastError.Load(); e != nil {
		s.LastError = *e
	}
	return s
}
