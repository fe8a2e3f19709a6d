package main

import (
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary/bench/report"
)

var errTLS = errors.New("the program does not know [mqtt] listen_tls, so there is no TLS to measure")

// report makes tables of the medians, and holds them against the targets.
func (c *contest) report() report.Report {
	r := report.Report{Tables: []report.Table{c.speeds()}, Missing: c.missing}
	if c.does[idle] {
		t := report.Table{
			Title:  fmt.Sprintf("Memory per idle connection: growth of RSS with %d more", c.idle),
			Header: []string{"server", "kB"},
		}
		for _, s := range c.servers {
			if kb, measured := c.idleKB[s.Name]; measured {
				t.Rows = append(t.Rows, []string{s.Name, fmt.Sprintf("%.1f", kb)})
			}
		}
		r.Tables = append(r.Tables, t)
	}
	if c.does[fanout] {
		r.Tables = append(r.Tables, c.fanoutTable())
	}
	if c.does[stall] {
		r.Tables = append(r.Tables, c.stallTable())
	}
	r.Targets = c.targets()
	return r
}

func (c *contest) speeds() report.Table {
	t := report.Table{
		Title: fmt.Sprintf("MQTT 3.1.1, %d B, QoS 1 unless named, connections x window; medians of %d windows of %v, taken in turn; Tributary's log and the limit's: compression = %q",
			payloadBytes, c.windows, c.window, c.compression),
		Header: []string{"load", "server", "ack after sync", "msg/s", "p50 ms", "p99 ms", "CPU-s/million", "generator's"},
	}
	median := func(format string, values []float64) string {
		if len(values) == 0 {
			return "-"
		}
		return fmt.Sprintf(format, report.Median(values))
	}
	for _, l := range c.loads {
		for _, s := range c.servers {
			r := c.results[place{s.Name, l}]
			if r == nil {
				continue
			}
			synced := "no"
			if s.Durable && l.QoS > 0 {
				synced = "yes"
			}
			t.Rows = append(t.Rows, []string{
				l.String(), s.Name, synced, median("%.0f", r.perSecond), median("%.2f", r.p50), median("%.2f", r.p99),
				median("%.2f", r.cpu), median("%.2f", r.ownCPU),
			})
		}
		if len(c.syncs[l]) > 0 {
			t.Rows = append(t.Rows, []string{
				l.String(), "4 KiB write + fdatasync", "", median("%.0f", c.syncs[l]), median("%.2f", c.sync50[l]), "", "", "",
			})
		}
	}
	return t
}

func (c *contest) fanoutTable() report.Table {
	t := report.Table{
		Title:  fmt.Sprintf("One QoS 0 subscriber of everything, %v at %d messages/s: CPU-s of the server per million messages", many, c.rate),
		Header: []string{"server", "without", "with", "more", "msg/s", "delivered %"},
	}
	for _, s := range c.servers {
		r := c.extra[s.Name]
		if r == nil || len(r.more) == 0 {
			continue
		}
		row := []string{s.Name}
		for _, values := range [][]float64{r.without, r.with, r.more} {
			row = append(row, fmt.Sprintf("%.2f", report.Median(values)))
		}
		t.Rows = append(t.Rows, append(row, fmt.Sprintf("%.0f", report.Median(r.perSecond)), fmt.Sprintf("%.1f", report.Median(r.delivered))))
	}
	return t
}

// targets are those of what was measured.
func (c *contest) targets() (all []report.Target) {
	throughput := func(s *series) []float64 { return s.perSecond }
	cpu := func(s *series) []float64 { return s.cpu }
	ratio := func(l load, of func(*series) []float64, peer string, target func(string, float64, float64) report.Target, what string, bound float64) {
		ours, theirs := c.results[place{tributary, l}], c.results[place{peer, l}]
		if ours == nil || theirs == nil {
			return
		}
		name := fmt.Sprintf("%v: %s, tributary / %s", l, what, peer)
		all = append(all, target(name, report.MedianRatio(of(ours), of(theirs)), bound))
	}
	const messages, seconds = "messages/s", "server CPU per message"
	for _, l := range []load{many, secure} {
		ratio(l, throughput, mosquitto, report.AtLeast, messages, 6)
		ratio(l, cpu, mosquitto, report.AtMost, seconds, 0.2)
	}
	ratio(many, throughput, natsAlways, report.AtLeast, messages, 80)
	ratio(many, throughput, limit, report.AtLeast, messages, 0.9)
	ratio(one, throughput, mosquitto, report.AtLeast, messages, 1)
	if r := c.results[place{tributary, slow}]; r != nil {
		all = append(all, report.AtMost("1x1: p50 / p50 of a raw fdatasync", report.MedianRatio(r.p50, c.sync50[slow]), 1.3))
	}
	if kb, measured := c.idleKB[tributary]; measured {
		all = append(all, report.AtMost("memory per idle connection, kB", kb, 12))
	}
	if r := c.extra[tributary]; r != nil && len(r.more) > 0 {
		all = append(all, report.AtMost("one live QoS 0 subscriber: more CPU-s per million", report.Median(r.more), 3))
	}
	if r := c.stalls[tributary]; r != nil && len(r.with) > 0 {
		all = append(all, report.AtLeast("one stalled QoS 1 subscriber: messages/s, with / without", report.MedianRatio(r.with, r.without), 0.9))
	}
	return all
}
