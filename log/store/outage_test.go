//go:build outage

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/flash"
	"github.com/tributary-edge/tributary/log/record"
)

// How long an outage of Kafka does a quota bear? Devices send 200 records a
// second of 200 bytes of JSON, the window is 100 ms, and the time is scaled: a
// group of 20 records every 100 ms by the log's clock, one after the other in
// fact. All of it is the real log on the real file system, but for the flushes,
// which would take the days that they stand for.
//
//	make test-outage                QUOTA=8000000000 DAYS=14: about half an hour
//	make test-outage QUOTA=268435456 DAYS=0.3
func TestOutage(t *testing.T) {
	quota, days := 256<<20, 0.3
	if text, ok := os.LookupEnv("QUOTA"); ok {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		quota = n
	}
	if text, ok := os.LookupEnv("DAYS"); ok {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		days = n
	}
	const each, window = 20, 100 // records of a group; milliseconds between groups
	fs, err := disk.Dir(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	start := now
	l, _, err := Open(unflushed{fs}, Options{MaxBytes: int64(quota), Compress: true, Clock: clock.Source{
		Wall: func() int64 { return now }, Uptime: func() int64 { return now - start }, Synced: func() bool { return true },
	}})
	if err != nil {
		t.Fatal(err)
	}
	plant := newPlant(50)
	began := time.Now()

	var announced float64
	for day := 0; ; {
		for range each {
			l.makeReady()
			_, err := l.Append(plant.next(now), tributary.Ticket{})
			if errors.As(err, new(*FullError)) {
				s := l.Stats()
				held := float64(now-start) / 86_400_000
				ahead := held - announced
				t.Logf("announced %.3f days ahead", ahead)
				if days >= 14 && (announced == 0 || ahead < 1 || ahead > 2) { // in a small log a few segments are most of a day
					t.Errorf("the refusal was announced %.3f days ahead, should be a day", ahead)
				}
				t.Logf("full after %.2f days and %d records: %.1f bytes of the quota each; packed %d MiB into %d MiB; %v",
					held, s.Records, float64(quota)/float64(s.Records), s.PackedFrom>>20, s.PackedTo>>20, time.Since(began).Round(time.Second))
				if held < days {
					t.Errorf("the first refusal came after %.2f days, should be %.2f", held, days)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := l.commit(); err != nil {
			t.Fatal(err)
		}
		now += window
		if now%60_000 < window {
			s := l.Stats() // as status does
			perDay := float64(s.WrittenBytes) / float64(now-start) * 86_400_000
			days, filling := flash.RoomDays(s.RoomBytes, perDay)
			switch {
			case !filling || days >= 1:
				announced = 0 // it was taken back: before anything is packed nobody knows what that saves
			case announced == 0:
				announced = float64(now-start) / 86_400_000
			}
		}
		if d := int((now - start) / 86_400_000); d > day {
			day = d
			s := l.Stats()
			t.Logf("day %d: %d records, %d MiB free, %d MiB could be packed", day, s.Records, s.FreeBytes>>20, s.UnpackedBytes>>20)
		}
	}
}

// makeReady does what the ring and the packer do beside the committer.
func (l *Log) makeReady() {
	if spare, _ := l.hasSpare(); spare {
		return
	}
	l.stock()
	l.estimate()
	for l.pack() {
	}
	l.stock()
}

// unflushed is a directory whose flushes do nothing.
type unflushed struct{ disk.FS }

func (u unflushed) Create(name string) (disk.File, error) {
	f, err := u.FS.Create(name)
	return unflushedFile{f}, err
}

func (u unflushed) Open(name string, write bool) (disk.File, error) {
	f, err := u.FS.Open(name, write)
	return unflushedFile{f}, err
}

func (unflushed) Sync() error { return nil }

type unflushedFile struct{ disk.File }

func (unflushedFile) Sync() error { return nil }

// A plant has machines that each report now and then.
type plant struct {
	rng      *rand.Rand
	machines []machineState
	at       int
	payload  []byte
}

type machineState struct {
	id, topic string
	seq       int
	value     [5]float64
}

func newPlant(n int) *plant {
	p := &plant{rng: rand.New(rand.NewPCG(1, 2))}
	for i := range n {
		id := fmt.Sprintf("press-%02d", i)
		p.machines = append(p.machines, machineState{id: id, topic: fmt.Sprintf("plant/line%d/%s/tele", i%4, id), value: [5]float64{21.5, 4.2, 0.0132, 1483, 3.2}})
	}
	return p
}

// next returns the next record: 200 bytes of JSON, with readings that wander.
func (p *plant) next(millis int64) *record.Record {
	m := &p.machines[p.at%len(p.machines)]
	p.at++
	m.seq++
	for i := range m.value {
		m.value[i] *= 1 + (p.rng.Float64()-0.5)/100
	}
	p.payload = fmt.Appendf(p.payload[:0], `{"device":"%s","seq":%d,"ts":"%s","temperature":%.2f,"pressure":%.3f,"vibration":%.4f,"rpm":%.0f,"current":%.2f,"state":"running","alarm":false,"firmware":"2.4.1","unit":"C"}`,
		m.id, m.seq, time.UnixMilli(millis).UTC().Format("2006-01-02T15:04:05.000Z"), m.value[0], m.value[1], m.value[2], m.value[3], m.value[4])
	for len(p.payload) < 200 {
		p.payload = append(p.payload, ' ')
	}
	return &record.Record{Stream: "telemetry", Key: []byte(m.id), Value: p.payload, Headers: []record.Header{
		{Key: "mqtt.topic", Value: []byte(m.topic)}, {Key: "mqtt.client_id", Value: []byte(m.id)}, {Key: "mqtt.qos", Value: []byte("1")},
	}}
}
