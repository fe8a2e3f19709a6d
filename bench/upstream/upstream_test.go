package upstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sent is n records as a node would send them.
func sent(n int) (records []*kgo.Record) {
	for i := range n {
		records = append(records, &kgo.Record{
			Key: fmt.Appendf(nil, "device-%d", i%10), Value: fmt.Appendf(nil, "%0200d", i), Timestamp: time.UnixMilli(1),
			Headers: []kgo.RecordHeader{
				{Key: "tributary.ledger", Value: []byte("a1")}, {Key: "tributary.lsn", Value: fmt.Appendf(nil, "%d", i)},
			},
		})
	}
	return records
}

// kafka starts a broker in memory and makes a topic.
func kafka(t *testing.T) (brokers, topic string) {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	brokers = k.ListenAddrs()[0]
	if err := CreateTopic(t.Context(), brokers, "t", 3); err != nil {
		t.Fatal(err)
	}
	return brokers, "t"
}

func TestProduceAndReadBack(t *testing.T) {
	brokers, topic := kafka(t)
	const n = 3000
	produced := make(chan error, 1)
	go func() { produced <- Produce(t.Context(), brokers, topic, sent(n), 64<<10) }()
	perSecond, err := Watch(t.Context(), brokers, topic, n)
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	if err != nil || perSecond <= 0 {
		t.Errorf("watched %v records/s, %v", perSecond, err)
	}
	got, err := ReadAll(t.Context(), brokers, topic, n)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if want := fmt.Sprintf("%0200d", i); string(r.Value) != want {
			t.Fatalf("record %d is %s, want the order of the LSNs", i, r.Value)
		}
	}
}

func TestReadAllNoticesADuplicateAndALoss(t *testing.T) {
	brokers, topic := kafka(t)
	records := sent(10)
	if err := Produce(t.Context(), brokers, topic, append(records, records[4]), 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAll(t.Context(), brokers, topic, 10); err == nil || !strings.Contains(err.Error(), "record 4 of ledger a1 twice") {
		t.Errorf("error %v, want one about record 4", err)
	}
	if err := CreateTopic(t.Context(), brokers, "u", 3); err != nil {
		t.Fatal(err)
	}
	if err := Produce(t.Context(), brokers, "u", records[1:], 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAll(t.Context(), brokers, "u", 10); err == nil || !strings.Contains(err.Error(), "9 committed records instead of 10") {
		t.Errorf("error %v, want one about 9 records", err)
	}
}
