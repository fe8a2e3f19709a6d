package ingest

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// sysEvery is how often $SYS is told: Mosquitto's default.
const sysEvery = 10 * time.Second

// A sysTopic is one of the topics below $SYS/broker, with the names that
// Mosquitto gives them.
type sysTopic struct {
	name  string
	value func(s *Stats) uint64
}

//nolint:gochecknoglobals // a table
var sysTopics = []sysTopic{
	{"clients/total", func(s *Stats) uint64 { return uint64(s.Sessions) }},
	{"clients/connected", func(s *Stats) uint64 { return uint64(s.Connections) }},
	{"clients/disconnected", func(s *Stats) uint64 { return uint64(max(0, s.Sessions-s.Connections)) }},
	{"clients/expired", func(s *Stats) uint64 { return s.Expired }},
	{"clients/maximum", func(s *Stats) uint64 { return uint64(s.MaxConnections) }},
	{"publish/messages/received", func(s *Stats) uint64 { return s.Received[0] + s.Received[1] + s.Received[2] }},
	{"publish/messages/sent", func(s *Stats) uint64 { return s.Sent }},
	{"publish/messages/dropped", func(s *Stats) uint64 { return s.Refused.FanoutLost + s.Refused.QueueLost }},
	{"publish/bytes/received", func(s *Stats) uint64 { return s.Bytes }},
	{"subscriptions/count", func(s *Stats) uint64 { return uint64(s.Subscribers) }},
	{"retained messages/count", func(s *Stats) uint64 { return uint64(s.Retained) }},
}

// A sys tells subscribers of $SYS how the node is. The delivery calls it.
type sys struct {
	door    *Door
	started time.Time
	told    map[string]string
}

// tell publishes what has changed.
func (y *sys) tell(now time.Time) {
	s := y.door.Stats()
	y.topic(now, "version", "tributary version "+y.door.opt.Version)
	y.topic(now, "uptime", fmt.Sprintf("%d seconds", int(now.Sub(y.started).Seconds())))
	for i := range sysTopics {
		y.topic(now, sysTopics[i].name, strconv.FormatUint(sysTopics[i].value(&s), 10))
	}
}

// topic publishes one value, retained and with QoS 0. It goes to local subscribers
// alone: it is neither logged nor forwarded, and not there after a restart until
// it is told again.
func (y *sys) topic(now time.Time, name, value string) {
	if y.told[name] == value {
		return
	}
	y.told[name] = value
	topic := "$SYS/broker/" + name
	e := &record.Entry{Record: record.Record{Millis: now.UnixMilli(), Value: []byte(value), Headers: []record.Header{
		{Key: headerTopic, Value: []byte(topic)},
		{Key: headerQoS, Value: qosValue[0]},
		{Key: headerRetain, Value: qosValue[1]},
	}}}
	o := y.door.out
	o.kept.all.Set(topic, e)
	o.spread(tributary.LedgerID{}, []byte(topic), e, now)
}
