package main

import (
	"testing"

	pressure "github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/report"
)

func TestParseLoad(t *testing.T) {
	shape := func(conns, window, qos int) pressure.Shape {
		return pressure.Shape{Conns: conns, Window: window, Size: payloadBytes, QoS: qos}
	}
	for text, want := range map[string]load{
		"1x1":        slow,
		"1000x5":     {Shape: shape(1000, 5, 1)},
		"100x20/0":   {Shape: shape(100, 20, 0)},
		"100x20/2":   {Shape: shape(100, 20, 2)},
		"100x20/tls": secure,
	} {
		if got, err := parseLoad(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "100", "0x5", "5x0", "1x70000", "1x1x1", "1x1/3", "1x1 2", "x"} {
		if got, err := parseLoad(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// Each target compares what was taken in the same turn, the right way round.
func TestTargets(t *testing.T) {
	c := contest{
		results: map[place]*series{
			{tributary, many}:  {perSecond: []float64{600, 60}, cpu: []float64{1, 3}},
			{mosquitto, many}:  {perSecond: []float64{100, 10}, cpu: []float64{5, 15}},
			{natsAlways, many}: {perSecond: []float64{10, 1}, cpu: []float64{5, 15}},
			{tributary, slow}:  {p50: []float64{0.2, 2}},
		},
		sync50: map[load][]float64{slow: {0.2, 2}},
		idleKB: map[string]float64{tributary: 13},
		extra:  map[string]*fanouts{tributary: {more: []float64{2}}},
		stalls: map[string]*stalls{tributary: {with: []float64{89, 8.9}, without: []float64{100, 10}}},
	}
	met := map[string]bool{}
	for _, target := range c.targets() {
		met[target.Name] = target.Met
	}
	want := map[string]bool{
		"100x20: messages/s, tributary / mosquitto":                true,
		"100x20: messages/s, tributary / nats-always":              false,
		"100x20: server CPU per message, tributary / mosquitto":    true,
		"1x1: p50 / p50 of a raw fdatasync":                        true,
		"memory per idle connection, kB":                           false,
		"one live QoS 0 subscriber: more CPU-s per million":        true,
		"one stalled QoS 1 subscriber: messages/s, with / without": false,
	}
	for name, ok := range want {
		if got, there := met[name]; !there || got != ok {
			t.Errorf("%s: met %v, there %v; want met %v", name, got, there, ok)
		}
	}
	if len(met) != len(want) {
		t.Errorf("targets are %v, want %v", met, want)
	}
	if (report.Report{Missing: []string{"x"}}).Met() {
		t.Error("a report counts as met with something that was not measured")
	}
}
