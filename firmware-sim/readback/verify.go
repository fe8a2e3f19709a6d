package readback

import (
	"context"
	"time"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// pollEvery is the pause between two looks for what is missing.
const pollEvery = 300 * time.Millisecond

// Verify compares what a fleet knows with what Kafka holds. As long as an
// acknowledged message is missing, or Kafka cannot be read, it looks again,
// until wait is over; when everything is there it reads once more, for what
// may be there twice. A report comes with a nil error only. The error is
// ErrNoTopic if a topic did not exist to the end. Open transactions can hold
// it up beyond wait, so bound it by ctx.
func Verify(ctx context.Context, brokers, topics []string, truth *tally.Truth, wait time.Duration) (tally.Report, error) {
	reader, err := Open(brokers, topics)
	if err != nil {
		return tally.Report{}, err
	}
	defer reader.Close()
	checker := tally.NewChecker(truth)
	read := func() error {
		return reader.ReadToEnd(ctx, func(r Record) {
			if id, seq, ok := device.Identify(r.Value); ok {
				checker.Add(tally.Copy{Device: id, Seq: seq, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset})
			}
		})
	}
	over := time.Now().Add(wait)
	for settled := false; ; {
		late := !time.Now().Before(over)
		err := read()
		switch {
		case err == nil && settled:
			return checker.Report(), nil
		case err == nil && (late || checker.Missing() == 0):
			settled = true
			continue
		case err != nil && (late || ctx.Err() != nil):
			return tally.Report{}, err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return tally.Report{}, ctx.Err()
		}
	}
}
