package readback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

func kafka(t *testing.T, topics ...string) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

// producer writes records in transactions.
type producer struct {
	t  *testing.T
	cl *kgo.Client
}

func newProducer(t *testing.T, brokers []string, id string) producer {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return producer{t, cl}
}

func (p producer) begin() {
	p.t.Helper()
	if err := p.cl.BeginTransaction(); err != nil {
		p.t.Fatal(err)
	}
}

func (p producer) add(topic string, partition int32, values ...string) {
	p.t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}
		if err := p.cl.ProduceSync(p.t.Context(), r).FirstErr(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p producer) end(how kgo.TransactionEndTry) {
	p.t.Helper()
	if err := p.cl.EndTransaction(p.t.Context(), how); err != nil {
		p.t.Fatal(err)
	}
}

// Only what was committed is seen, in order; and a topic whose last entry is a
// marker, or was aborted, comes to an end (U1).
func TestCommitted(t *testing.T) {
	brokers := kafka(t, "a", "b", "empty")
	p := newProducer(t, brokers, "x")
	for round := range 3 {
		p.begin()
		p.add("a", 0, fmt.Sprint("one-", round), fmt.Sprint("two-", round))
		p.add("b", 1, fmt.Sprint("three-", round))
		p.end(kgo.TryCommit)
		p.begin()
		p.add("a", 0, "aborted")
		p.add("a", 1, "aborted")
		p.end(kgo.TryAbort)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	last := map[string]int64{}
	err := Committed(ctx, brokers, []string{"a", "b", "empty"}, func(r Record) {
		place := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
		if at, seen := last[place]; seen && r.Offset <= at {
			t.Errorf("%s: %d after %d", place, r.Offset, at)
		}
		last[place] = r.Offset
		got = append(got, place+" "+string(r.Value))
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"a/0 one-0", "a/0 one-1", "a/0 one-2", "a/0 two-0", "a/0 two-1", "a/0 two-2",
		"b/1 three-0", "b/1 three-1", "b/1 three-2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestOpenTransactionHoldsTheReaderUp(t *testing.T) {
	brokers := kafka(t, "a")
	p := newProducer(t, brokers, "x")
	p.begin()
	p.add("a", 0, "pending")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := Committed(ctx, brokers, []string{"a"}, func(r Record) { t.Errorf("sees %q", r.Value) })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a/0 at 0 of 1") {
		t.Errorf("err %v", err)
	}
	done := make(chan error)
	var seen []string
	go func() {
		done <- Committed(t.Context(), brokers, []string{"a"}, func(r Record) { seen = append(seen, string(r.Value)) })
	}()
	p.end(kgo.TryCommit)
	if err := <-done; err != nil || !slices.Equal(seen, []string{"pending"}) {
		t.Errorf("%v, %q", err, seen)
	}
}

func TestNoTopic(t *testing.T) {
	brokers := kafka(t, "a")
	if err := Committed(t.Context(), brokers, []string{"a", "nowhere"}, nil); !errors.Is(err, ErrNoTopic) {
		t.Errorf("err %v", err)
	}
}

// Verify waits for what is late, and then looks for what is there twice.
func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	lines := "firmware-sim ledger 1\nd 0 sim-1\nn 0 1\ns 0 1 1 1 1 5\na 0 1\ns 0 2 2 1 2 5\na 0 2\n"
	if err := os.WriteFile(path, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	truth, err := tally.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	message := func(seq int) string { return fmt.Sprintf(`{"device":"sim-1","seq":%d}`, seq) }
	brokers := kafka(t, "a")
	p := newProducer(t, brokers, "x")
	p.begin()
	p.add("a", 0, message(1), "a stranger's")
	p.end(kgo.TryCommit)

	r, err := Verify(t.Context(), brokers, []string{"a"}, truth, 0)
	if err != nil || r.Lost != 1 || r.InKafka != 1 || r.Unknown != 0 {
		t.Errorf("message 2 is late: %v, %v", err, r)
	}
	late := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() {
		defer close(late)
		p.begin()
		p.add("a", 0, message(2))
		p.end(kgo.TryCommit)
	})
	r, err = Verify(t.Context(), brokers, []string{"a"}, truth, time.Minute)
	if err != nil || !r.OK() || r.InKafka != 2 {
		t.Errorf("message 2 came: %v, %v", err, r)
	}
	<-late
	p.begin()
	p.add("a", 0, message(2), message(3))
	p.end(kgo.TryCommit)
	r, err = Verify(t.Context(), brokers, []string{"a"}, truth, time.Minute)
	if err != nil || r.Twice != 1 || r.Unknown != 1 || r.Lost != 0 {
		t.Errorf("message 2 came twice: %v, %v", err, r)
	}
	if _, err := Verify(t.Context(), brokers, []string{"b"}, truth, time.Second); !errors.Is(err, ErrNoTopic) {
		t.Errorf("err %v", err)
	}
}
