// Package report prints what was measured, and holds it against its targets.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Report is what was measured and what was asked for.
type Report struct {
	Tables  []Table  `json:"tables"`
	Targets []Target `json:"targets"`
	Missing []string `json:"missing,omitempty"` // what could not be measured, and why
}

// A Table is printed as it is.
type Table struct {
	Title  string     `json:"title"`
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// A Target is one figure with the bound it must keep.
type Target struct {
	Name  string  `json:"name"`
	Got   float64 `json:"got"`
	Bound float64 `json:"bound"`
	Most  bool    `json:"at_most"` // the bound is an upper one
	Met   bool    `json:"met"`
}

// AtLeast is a target with a lower bound.
func AtLeast(name string, got, bound float64) Target {
	return Target{Name: name, Got: got, Bound: bound, Met: got >= bound}
}

// AtMost is a target with an upper bound.
func AtMost(name string, got, bound float64) Target {
	return Target{Name: name, Got: got, Bound: bound, Most: true, Met: got <= bound}
}

// Met says whether everything was measured, and every target met.
func (r Report) Met() bool {
	return len(r.Missing) == 0 && !slices.ContainsFunc(r.Targets, func(t Target) bool { return !t.Met })
}

// Print writes the tables and the targets, for a reader or for a program.
func (r Report) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, t := range r.Tables {
		fmt.Fprintf(tw, "\n%s\n\n%s\n", t.Title, strings.Join(t.Header, "\t"))
		for _, row := range t.Rows {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil { // columns are as wide as their own table needs
			return err
		}
	}
	fmt.Fprintf(tw, "\ntarget\twanted\tgot\t\n")
	for _, t := range r.Targets {
		sign, verdict := ">=", "ok"
		if t.Most {
			sign = "<="
		}
		if !t.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(tw, "%s\t%s %v\t%.3g\t%s\n", t.Name, sign, t.Bound, t.Got, verdict)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(tw, "\nNOT MEASURED: %s\n", m)
	}
	return tw.Flush()
}

// Median returns the middle one, or the mean of the two in the middle; 0 of
// none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// MedianRatio is the median of a[i]/b[i]: what was measured side by side is
// compared first.
func MedianRatio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, a[i]/b[i])
	}
	return Median(ratios)
}
