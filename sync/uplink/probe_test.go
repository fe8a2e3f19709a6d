package uplink

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// about returns what was found of one thing.
func about(t *testing.T, found []Probed, thing string) Probed {
	t.Helper()
	for _, f := range found {
		if f.About == thing {
			return f
		}
	}
	t.Fatalf("nothing about %s in %+v", thing, found)
	return Probed{}
}

// A probe finds all that is there, says what is not there yet, makes nothing, and leaves
// no record that anybody reads.
func TestProbe(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(3, "telemetry", "dead"))
	cfg := config(c)
	found := Probe(t.Context(), cfg, []string{"telemetry", "alarms", "telemetry"})
	for _, thing := range []string{"connection", "transactions", "topic telemetry", "topic dead"} {
		if f := about(t, found, thing); f.Bad || f.Later {
			t.Errorf("%+v, should be good", f)
		}
	}
	for _, thing := range []string{"topic alarms", "topic tributary.positions"} {
		if f := about(t, found, thing); f.Bad || !f.Later {
			t.Errorf("%+v, should come later", f)
		}
	}
	if len(found) != 6 {
		t.Errorf("%d findings, should be 6: %+v", len(found), found)
	}
	if got := readCommitted(t, c.ListenAddrs(), "telemetry", "dead"); len(got) > 0 {
		t.Errorf("readers see %d records of a probe", len(got))
	}
	if c.TopicInfo("alarms") != nil {
		t.Error("the probe has made a topic")
	}
}

// A probe beside a forwarder does not fence it.
func TestProbeBesideAForwarder(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, cfg, l, watch))
	l.fill("a", 100, 10)
	watch.until(t, "commit", committed(100))
	for _, f := range Probe(t.Context(), cfg, []string{"a"}) {
		if f.Bad || f.Later && f.About != "topic dead" {
			t.Errorf("%+v, should be good", f)
		}
	}
	l.fill("a", 100, 10)
	watch.until(t, "commit", committed(200))
	if n := watch.last(t).Counters.Failed; n > 0 {
		t.Errorf("%d tries of the forwarder have failed", n)
	}
	_ = stop()
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
}

// What is wrong is said in the same words as by the uplink.
func TestProbeFindsTrouble(t *testing.T) {
	cfg := Config{Brokers: []string{"127.0.0.1:1"}, Site: "plant", Node: "n1"}
	if f := about(t, Probe(t.Context(), cfg, []string{"a"}), "connection"); !f.Bad || !strings.Contains(f.What, "cannot be reached") || f.Do == "" {
		t.Errorf("%+v", f)
	}
	c := cluster(t)
	cfg = config(c)
	cfg.CreateTopics = false
	found := Probe(t.Context(), cfg, []string{"a"})
	for _, thing := range []string{"topic a", "topic tributary.positions"} {
		if f := about(t, found, thing); !f.Bad || !strings.Contains(f.Do, "kafka-topics") {
			t.Errorf("%+v, should be bad and name kafka-topics", f)
		}
	}
	cfg.Site = ""
	if f := about(t, Probe(t.Context(), cfg, nil), "configuration"); !f.Bad {
		t.Errorf("%+v", f)
	}
}
