package uplink

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary/log/record"
)

// countFetches counts the fetches from now on.
func countFetches(c *kfake.Cluster) *atomic.Int64 {
	n := new(atomic.Int64)
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	return n
}

// U1, U3: a fresh ledger does not read what the others have left, but for the
// sake of its position once it has begun a transaction, whatever came of it.
func TestFresh(t *testing.T) {
	for _, applied := range []bool{true, false} {
		c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
		drain(t, config(c), closed(newLedger())) // makes the topic
		for p := range int32(16) {
			fillPositions(t, c, p, 10)
		}
		l, watch := newLedger(), newLog()
		w := &wire{}
		cfg := config(c)
		cfg.Fresh, cfg.Dial = true, w.dial
		fetches := countFetches(c)
		var before atomic.Int64 // fetches before the end of the first transaction
		var ends atomic.Int64   // tries to end a transaction
		c.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			try := ends.Add(1)
			if try == 1 {
				before.Store(fetches.Load())
				if applied {
					w.cut() // the request is done, and its answer finds no connection
					return nil, nil, false
				}
			}
			if try > 2 || try == 2 && !applied {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.EndTxnResponse)
			resp.ErrorCode = kerr.UnknownServerError.Code
			return resp, nil, true
		})
		stop := start(t, quick(t, cfg, l, watch))
		watch.until(t, "forwarding", inState(Forwarding))
		w.cut() // before the first transaction, that must not cost a read either
		l.fill("a", 20, 5)
		watch.until(t, "commit", committed(20))
		_ = stop()
		if before.Load() != 0 || fetches.Load() == 0 {
			t.Errorf("%d fetches before the first transaction and %d in all; want none, and some", before.Load(), fetches.Load())
		}
		checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
	}
}

// U1: fresh and known to be committed is a contradiction.
func TestFreshWithHint(t *testing.T) {
	cfg := Config{Brokers: []string{"x:1"}, Site: "plant", Fresh: true, Hint: 1}
	if err := Forward(t.Context(), cfg, newLedger(), newLog()); err == nil || !strings.Contains(err.Error(), "fresh") {
		t.Errorf("got %v", err)
	}
}

// U1: a closed ledger that ends before its position does not stop those after it;
// nothing is sent, and nobody is told that more of it is committed than was read. Of
// a copy it is no loss, and told.
func TestLedgerEndsBeforePosition(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
	whole := newLedger()
	whole.fill("a", 30, 10)
	whole.close()
	drain(t, config(c), whole)
	short := newLedger()
	short.id, short.groups, short.next = whole.id, whole.groups[:2], whole.groups[1].Next
	short.close()
	var out bytes.Buffer
	cfg := config(c)
	cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
	if watch := drain(t, cfg, short); len(watch.commits) != 0 {
		t.Errorf("reported %+v", watch.commits)
	}
	asCopy := cfg
	asCopy.Copy = true
	if watch := drain(t, asCopy, short); len(watch.commits) != 1 || watch.commits[0].Records != 0 || watch.commits[0].Position.Next != whole.end() {
		t.Errorf("of a copy it reported %+v", watch.commits)
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 1 || !strings.Contains(out.String(), "Kafka has more of a ledger") {
		t.Errorf("%d warnings in %s", n, out.String())
	}
	checkExactlyOnce(t, whole, readCommitted(t, c.ListenAddrs(), "a"))
}

// D1, A1: a clock that jumped ahead and came back does not hold up the ledger,
// and what it said is kept.
func TestTimeAhead(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	began := time.Now().Truncate(time.Millisecond)
	near, far := began.Add(45*time.Minute), began.Add(20*365*24*time.Hour)
	l := newLedger()
	for _, at := range []time.Time{began, near, far} {
		l.add(record.Record{Stream: "a", Millis: at.UnixMilli(), Value: []byte("x"), Headers: []record.Header{{Key: "h", Value: []byte("v")}}})
	}
	l.close()
	drain(t, config(c), l)
	got := readCommitted(t, c.ListenAddrs(), "a")
	checkExactlyOnce(t, l, got)
	for i, want := range []time.Time{began, near} {
		if r := got[i]; !r.Timestamp.Equal(want) || header(r, headerTime) != "" {
			t.Errorf("record %d: time %v, headers %v; want %v as it is", i, r.Timestamp, r.Headers, want)
		}
	}
	millis := strconv.FormatInt(far.UnixMilli(), 10)
	if r := got[2]; r.Timestamp.Before(began) || r.Timestamp.After(time.Now()) || header(r, headerTime) != millis || header(r, "h") != "v" {
		t.Errorf("time %v, headers %v; want now, and %s in %s", r.Timestamp, r.Headers, millis, headerTime)
	}
}
