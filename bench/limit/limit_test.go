package main

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"

	"github.com/tributary-edge/tributary/bench/load"
)

// It would be no limit if it acknowledged what is not in the log.
func TestAcknowledgesWhatIsDurable(t *testing.T) {
	fs, err := disk.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := store.Open(fs, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go s.accept(l)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()

	var want tributary.LSN
	for qos, records := range []tributary.LSN{1: 1, 2: 2} { // QoS 2: a message, and its release
		if qos == 0 {
			continue
		}
		f, err := load.Open(t.Context(), load.Broker{Addr: l.Addr().String()}, "t", load.Shape{Conns: 7, Window: 5, Size: 256, QoS: qos})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Feed(t.Context(), 503); err != nil {
			t.Fatal(err)
		}
		want += 503 * records
		if got := log.Durable(); got != want {
			t.Errorf("QoS %d: %d records are durable when all is acknowledged, want %d", qos, got, want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A counter is a log that keeps nothing.
type counter tributary.LSN

func (c *counter) Append(*record.Record, tributary.Ticket) (tributary.LSN, error) {
	*c++
	return tributary.LSN(*c), nil
}

// What is refused is not logged, whatever it is.
func FuzzTake(f *testing.F) {
	connect := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1}, 'c')
	f.Add(byte(0x32), append([]byte{0, 1, 't', 0, 7}, "value"...))
	f.Add(byte(0x34), []byte{0xff, 0xff})
	f.Add(byte(0x62), []byte{0, 7})
	f.Fuzz(func(t *testing.T, header byte, body []byte) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		var logged counter
		c := &conn{server: &server{log: &logged}, net: ours}
		if err := c.take(0x10, connect); err != nil {
			t.Fatal(err)
		}
		if err := c.take(header, body); err != nil && logged > 0 {
			t.Errorf("packet %#x % x was refused (%v), and logged", header, body, err)
		}
	})
}
