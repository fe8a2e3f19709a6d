package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
	"github.com/tributary-edge/tributary/bench/upstream"
)

// What a node does unless its configuration says otherwise.
const (
	nodeBatchBytes = 1 << 20
	nodePartitions = 3
)

// largeBatchBytes is for information: what a producer can do that has nobody
// waiting for its records.
const largeBatchBytes = 8 << 20

// forwardTimeout is how long one backlog may take.
const forwardTimeout = 5 * time.Minute

// warmUp is how many records the broker gets before anything is measured.
const warmUp = 100_000

// measureForward fills a node while its Kafka is away, lets it forward, and
// has a plain producer send the very same records.
func measureForward(ctx context.Context, o options) (r report.Report, err error) {
	program := filepath.Join(o.dir, "tributary-program")
	if err := peer.BuildTributary(ctx, program); err != nil {
		return report.Report{}, err
	}
	if o.kafka == "" {
		k, err := peer.StartKafka(ctx, o.dir)
		if err != nil {
			return report.Report{}, err
		}
		defer func() { err = errors.Join(err, k.Stop(context.WithoutCancel(ctx))) }()
		o.kafka = k.Addr
	}
	var node, small, large []float64
	for w := range o.windows {
		topic := fmt.Sprintf("bench.%d.%d", time.Now().Unix(), w)
		fmt.Fprintf(o.log, "backlog %d of %d: %d records\n", w+1, o.windows, o.records)
		n, err := forwardBacklog(ctx, o, program, topic)
		if err != nil {
			return report.Report{}, err
		}
		s, l, err := compare(ctx, o, topic, w == 0)
		if err != nil {
			return report.Report{}, err
		}
		fmt.Fprintf(o.log, "  node %.0f records/s, plain producer %.0f, in large transactions %.0f\n", n, s, l)
		node, small, large = append(node, n), append(small, s), append(large, l)
	}
	return report.Report{
		Tables: []report.Table{{
			Title:  fmt.Sprintf("A backlog of %d records of %d B into Kafka; medians of %d", o.records, forwardBytes, o.windows),
			Header: []string{"producer", "transactions of", "records/s", "read back"},
			Rows: [][]string{
				{"tributary, from its log, with its position", "1 MiB", fmt.Sprintf("%.0f", report.Median(node)), "each record exactly once"},
				{"plain transactional producer, from memory", "1 MiB", fmt.Sprintf("%.0f", report.Median(small)), ""},
				{"plain transactional producer, from memory", "8 MiB", fmt.Sprintf("%.0f", report.Median(large)), ""},
			},
		}},
		Targets: []report.Target{report.AtLeast("backlog: tributary / plain producer, 1 MiB each", report.MedianRatio(node, small), 0.6)},
	}, nil
}

// compare reads back what the node has committed to topic, each record once,
// and sends it again in small and in large transactions. The broker's first
// steps are nobody's fault: cold makes it warm up first.
func compare(ctx context.Context, o options, topic string, cold bool) (small, large float64, err error) {
	records, err := readBack(ctx, o, topic)
	if err != nil {
		return 0, 0, err
	}
	if cold {
		if _, err := producePlain(ctx, o.kafka, topic+".warm", records[:min(warmUp, len(records))], nodeBatchBytes); err != nil {
			return 0, 0, err
		}
	}
	if small, err = producePlain(ctx, o.kafka, topic+".small", records, nodeBatchBytes); err != nil {
		return 0, 0, err
	}
	large, err = producePlain(ctx, o.kafka, topic+".large", records, largeBatchBytes)
	return small, large, err
}

// forwardBytes is the size of the payloads in a backlog.
const forwardBytes = 200

// forwardBacklog fills a new node while its Kafka is away, starts it again with
// its Kafka there, and returns how many records a second it commits.
func forwardBacklog(ctx context.Context, o options, program, topic string) (perSecond float64, err error) {
	away, err := peer.FreePort()
	if err != nil {
		return 0, err
	}
	n := peer.Node{Program: program, Dir: filepath.Join(o.dir, topic), Topic: topic, Brokers: fmt.Sprintf("127.0.0.1:%d", away)}
	s, err := peer.Tributary(ctx, n)
	if err != nil {
		return 0, err
	}
	fleet, err := load.Open(ctx, s.Plain, "fwd", load.Shape{Conns: 100, Window: 20, Size: forwardBytes, QoS: 1})
	if err == nil {
		err = fleet.Feed(ctx, o.records)
	}
	s.Stop()
	if err != nil {
		return 0, fmt.Errorf("fill the node: %w\n%s", err, s.Tail())
	}
	n.Brokers = o.kafka
	if s, err = peer.Tributary(ctx, n); err != nil {
		return 0, err
	}
	defer s.Stop()
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	perSecond, err = upstream.Watch(ctx, o.kafka, topic, o.records)
	if err != nil {
		return 0, fmt.Errorf("the node forwards: %w\n%s", err, s.Tail())
	}
	return perSecond, nil
}

// readBack returns what the node has committed, each record once.
func readBack(ctx context.Context, o options, topic string) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	return upstream.ReadAll(ctx, o.kafka, topic, o.records)
}

// producePlain returns how many records a second the plain producer commits to
// a new topic.
func producePlain(ctx context.Context, brokers, topic string, records []*kgo.Record, batchBytes int) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	if err := upstream.CreateTopic(ctx, brokers, topic, nodePartitions); err != nil {
		return 0, err
	}
	produced := make(chan error, 1)
	go func() {
		err := upstream.Produce(ctx, brokers, topic, records, batchBytes)
		if err != nil {
			cancel() // there is nothing to watch any more
		}
		produced <- err
	}()
	perSecond, err = upstream.Watch(ctx, brokers, topic, int64(len(records)))
	if err != nil {
		cancel()
	}
	if err = errors.Join(<-produced, err); err != nil {
		return 0, fmt.Errorf("plain producer: %w", err)
	}
	return perSecond, nil
}
