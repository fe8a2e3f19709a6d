package uplink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/log/record"
)

// window is how far the time of a record may be from Kafka's own. Kafka refuses
// a whole batch for one record outside.
type window struct{ before, after time.Duration }

// usual is the window of a topic that has refused none so far: Kafka's defaults
// since 4.0.
var usual = window{before: math.MaxInt64, after: time.Hour}

// holds reports whether t is inside w, now and for as long as a transaction
// takes: a sixth of w is left for that, and for clocks that differ. No time before
// 1970 is: Kafka's clients take negative ones for none at all.
func (w window) holds(t, now time.Time) bool {
	return t.UnixMilli() >= 0 && now.Sub(t) <= w.before/6*5 && t.Sub(now) <= w.after/6*5
}

// window returns what is known of a topic's.
func (f *forwarder) window(topic string) window {
	if w, ok := f.windows[topic]; ok {
		return w
	}
	return usual
}

// stamp makes now the time of r, which is e, if r.Topic does not take its own:
// else a clock that was wrong while records were logged would hold up the ledger.
// Where the time of r is not the one that was logged, a header keeps that. It may
// be called again when r goes to another topic.
func (s *session) stamp(r *kgo.Record, e *record.Entry, now time.Time) {
	logged := e.Millis
	if e.Logged != 0 {
		logged = e.Logged
	}
	if !s.window(r.Topic).holds(r.Timestamp, now) {
		r.Timestamp = now
	}
	if r.Timestamp.UnixMilli() == logged || r.Headers[len(r.Headers)-1].Key == headerTime {
		return
	}
	r.Headers = append(r.Headers, // a copy: its capacity is its length
		kgo.RecordHeader{Key: headerTime, Value: strconv.AppendInt(nil, logged, 10)})
}

// retime decides what to do about topics that refused the times of records. Its
// error wraps errRemedy when the next session sends other times. If it cannot, the
// clocks of Kafka and of this gateway differ, and the topics are in trouble.
func (s *session) retime(ctx context.Context, topics []string) error {
	var trouble, remedy error
	for _, name := range topics {
		narrowed, err := s.narrow(ctx, name)
		switch {
		case err != nil:
			return err
		case narrowed:
			remedy = fmt.Errorf("topic %s: %w: %w", name, kerr.InvalidTimestamp, errRemedy)
		default:
			trouble = &topicError{name, kerr.InvalidTimestamp}
			s.troubled(name, trouble)
		}
	}
	if remedy != nil {
		return remedy
	}
	return trouble
}

// narrow asks Kafka for the window of a topic and reports whether it is narrower
// than was known. Where Kafka does not tell, only the present is sent.
func (s *session) narrow(ctx context.Context, topic string) (bool, error) {
	configs, err := s.topicConfigs(ctx, topic)
	if err != nil && !isUntold(err) {
		return false, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	known := s.window(topic)
	w, told := known.within(configs)
	if !told {
		w = window{}
	}
	if !told && w != known {
		s.cfg.Logger.Warn("Kafka refuses the times of records and does not let us see which ones it takes; they are sent with the present time, and their own in a header",
			"topic", topic, "header", headerTime, "error", err)
	}
	s.windows[topic] = w
	return w != known, nil
}

// within narrows w to what a topic's configuration says; told is false if it says
// nothing of times.
func (w window) within(configs map[string]string) (narrowed window, told bool) {
	for key, bounds := range map[string][]*time.Duration{
		"message.timestamp.before.max.ms":     {&w.before},
		"message.timestamp.after.max.ms":      {&w.after},
		"message.timestamp.difference.max.ms": {&w.before, &w.after}, // before 4.0
	} {
		millis, err := strconv.ParseInt(configs[key], 10, 64)
		if err != nil || millis < 0 {
			continue // this Kafka does not have it
		}
		told = true
		for _, b := range bounds {
			*b = min(*b, time.Duration(min(millis, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond)
		}
	}
	return w, told
}

// isUntold reports whether err says that Kafka does not tell how a topic is
// configured, now or later.
func isUntold(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) ||
		errors.Is(err, kerr.InvalidRequest) || errors.Is(err, kerr.UnsupportedVersion)
}
