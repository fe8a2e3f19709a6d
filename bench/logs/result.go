package main

import (
	"fmt"

	"github.com/tributary-edge/tributary/bench/logs/ours"
	"github.com/tributary-edge/tributary/bench/report"
)

// result makes a table of the contest, and holds Tributary's log against the
// goals. Ratios to the bare disk are taken between neighbouring windows, those to
// a rival between windows of the same round, and then their median.
func result(o options, all []*contestant) report.Report {
	t := report.Table{
		Title: fmt.Sprintf("Records of %d B, each appender waits for its fdatasync; medians of %d windows of %v, the order drawn with seed %d;\n"+
			"\"of raw\" is the ratio to a 4 KiB overwrite + fdatasync in the window before",
			ours.Bytes, o.rounds, o.window, o.seed),
		Header: []string{
			"store", "groups made by", "1: records/s", "p50 µs", "p50 of raw", "device B per B",
			"100: records/s", "of raw", "p50 µs", "p50 of raw", "device B per B", "flushes per record", "tributary is ahead",
		},
	}
	us, rivals := all[0], all[1:len(all)-1] // the last is the bare disk
	for _, c := range all {
		ahead := fmt.Sprintf("%.2f / %.2f times", us.ahead(c, 0), us.ahead(c, 1))
		t.Rows = append(t.Rows, append(c.row(), ahead))
	}
	targets := []report.Target{
		report.AtMost("1 appender: p50 / raw p50", us.results[0].slower(), 1.15),
		report.AtLeast("100 appenders: rate / raw rate", us.results[1].faster(), 40),
		report.AtMost("100 appenders: p50 / raw p50", us.results[1].slower(), 3.1),
	}
	best := rivals[0]
	for _, c := range rivals {
		if us.ahead(c, 1) < us.ahead(best, 1) {
			best = c
		}
	}
	targets = append(targets, report.AtLeast("100 appenders: rate / that of the fastest rival, "+best.Name, us.ahead(best, 1), 1))
	return report.Report{Tables: []report.Table{t}, Targets: targets}
}

func (c *contestant) row() []string {
	one, many := &c.results[0], &c.results[1]
	return []string{
		c.Name, c.Groups,
		fmt.Sprintf("%.0f", report.Median(one.perSecond)), fmt.Sprintf("%.0f", report.Median(one.p50)),
		fmt.Sprintf("%.2f", one.slower()), fmt.Sprintf("%.1f", report.Median(one.deviceBytes)),
		fmt.Sprintf("%.0f", report.Median(many.perSecond)), fmt.Sprintf("%.1f", many.faster()),
		fmt.Sprintf("%.0f", report.Median(many.p50)), fmt.Sprintf("%.2f", many.slower()),
		fmt.Sprintf("%.2f", report.Median(many.deviceBytes)), fmt.Sprintf("%.3f", report.Median(many.flushes)),
	}
}

// faster and slower are how a store compares with the bare disk: in records per
// second, and in the time that half of them take at most.
func (s *series) faster() float64 { return report.MedianRatio(s.perSecond, s.rawPerSecond) }
func (s *series) slower() float64 { return report.MedianRatio(s.p50, s.rawP50) }

// ahead is how many times the rate of a rival c has.
func (c *contestant) ahead(of *contestant, i int) float64 {
	return report.MedianRatio(c.results[i].perSecond, of.results[i].perSecond)
}
