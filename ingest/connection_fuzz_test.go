package ingest

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// S1: whatever comes over a real connection, the node stays, and a bystander is
// answered. The first byte says whether a CONNECT comes before the rest, and of
// which version.
func FuzzConnection(f *testing.F) {
	for _, v5 := range []bool{false, true} {
		head := byte(1)
		if v5 {
			head = 2
		}
		for _, p := range sweepSeeds(v5) {
			f.Add(append([]byte{0}, p...))
			f.Add(append([]byte{head}, p...))
		}
	}
	l := newFakeLog()
	d, err := New(Options{
		Listen: []string{"127.0.0.1:0"}, Log: l, Reader: l, Router: routeFunc(routeAll), Guard: openDoor{}, DeadLetter: "dead",
		IsFull: func(error) bool { return false }, MaxPacketBytes: 128 << 10, ReceiveMaximum: 8, ConnectTimeout: time.Second,
	})
	if err != nil {
		f.Fatal(err)
	}
	l.committed = d.Committed
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	<-d.Ready()
	l.auto(f)
	f.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	bystander := dialRaw(f, d, dialled{id: "bystander"})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		nc, err := net.Dial("tcp", d.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		if v := data[0] % 3; v > 0 {
			data = append(connectPacket(dialled{id: "fuzz", v5: v == 2}), data[1:]...)
		} else {
			data = data[1:]
		}
		_, _ = nc.Write(data)
		_ = nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Error("the connection was not ended")
		}
		if _, err := bystander.Write([]byte{0xc0, 0}); err != nil {
			t.Fatal(err)
		}
		var pong [2]byte
		if _, err := io.ReadFull(bystander, pong[:]); err != nil || pong[0] != 0xd0 {
			t.Fatalf("the bystander got % x, %v", pong, err)
		}
		if n := d.Stats().Refused.Panics; n > 0 {
			t.Errorf("%d panics", n)
		}
	})
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error) //nolint:errorlint // io.Copy does not wrap
	return ok && timeout.Timeout()
}

// dialRaw connects a client that says CONNECT.
func dialRaw(f *testing.F, d *Door, s dialled) net.Conn {
	f.Helper()
	nc, err := net.Dial("tcp", d.Addrs()[0].String())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = nc.Close() })
	if _, err := nc.Write(connectPacket(s)); err != nil {
		f.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
		f.Fatal(err)
	}
	return nc
}
