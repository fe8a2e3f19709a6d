package uplink

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/log/record"
)

// U1, U2, U3: a ledger with control records, local headers and two topics.
func TestForward(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	l.fill("a", 100, 7)
	l.add(record.Record{Key: []byte("control")})
	l.add(record.Record{Stream: "b", Millis: 1700000000123, Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{
		{Key: "mqtt.topic", Value: []byte("x/y")}, {Key: "_pid", Value: []byte("7")},
	}})
	l.fill("a", 20, 20)
	l.close()
	watch := drain(t, config(c), l)

	got := readCommitted(t, c.ListenAddrs(), "a", "b")
	checkExactlyOnce(t, l, got)
	for _, r := range got {
		if r.Topic != "b" {
			continue
		}
		if r.Timestamp.UnixMilli() != 1700000000123 {
			t.Errorf("timestamp %v", r.Timestamp)
		}
		if h := header(r, "mqtt.topic"); h != "x/y" || header(r, "_pid") != "" || len(r.Headers) != 3 {
			t.Errorf("headers %v; want mqtt.topic, ledger and lsn", r.Headers)
		}
	}
	if n := watch.commits[len(watch.commits)-1].Position; n.Next != l.end() || n.Ledger != l.id {
		t.Errorf("committed %v, the ledger ends at %d", n, l.end())
	}
	// Again, and again with what is known now: there is nothing to do.
	if again := drain(t, config(c), l); len(again.commits) != 1 || again.commits[0].Records != 0 || again.commits[0].Position.Next != l.end() {
		t.Errorf("commits %+v; want the position that was found", again.commits)
	}
	cfg := config(c)
	cfg.Hint = l.end()
	if again := drain(t, cfg, l); len(again.commits) != 0 {
		t.Errorf("%d commits of nothing", len(again.commits))
	}
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "b"))
}

// U3: a ledger that only has control records moves its position when it ends.
func TestForwardControlRecordsOnly(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	for range 5 {
		l.add(record.Record{Key: []byte("control")})
	}
	l.close()
	if watch := drain(t, config(c), l); len(watch.commits) != 1 || watch.commits[0].Position.Next != 5 {
		t.Errorf("commits %+v; want one, at 5", watch.commits)
	}
}

// A record is sent soon, and an orderly stop leaves no open transaction.
func TestForwardLive(t *testing.T) {
	c := cluster(t)
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, config(c), l, watch))
	for range 20 {
		l.fill("a", 3, 1)
		watch.until(t, "commit", committed(l.end()))
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Forward returned %v", err)
	}
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
}

// The pieces of a backlog that comes in small groups go out in large
// transactions, and what lingers goes out together.
func TestForwardLinger(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Linger = 100 * time.Millisecond
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "forwarding", inState(Forwarding))
	for range 50 {
		l.fill("a", 1, 1)
	}
	watch.until(t, "commit", committed(50))
	_ = stop()
	if n := len(watch.commits); n != 1 {
		t.Errorf("%d transactions for 50 records within the linger", n)
	}
}

func TestForwardRefusesBadConfig(t *testing.T) {
	for _, bad := range []Config{
		{},
		{Brokers: []string{"x:1"}},
		{Brokers: []string{"x:1"}, Site: "a/b"},
		{Brokers: []string{"x:1"}, Site: "a", Proxy: "http://x"},
		{Brokers: []string{"x:1"}, Site: "a", SASL: SASL{Mechanism: "kerberos"}},
		{Brokers: []string{"x:1"}, Site: "a", DeadLetter: "not a topic"},
		{Brokers: []string{"x:1"}, Site: "a", TransactionTimeout: 1},
	} {
		if err := Forward(t.Context(), bad, newLedger(), newLog()); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
