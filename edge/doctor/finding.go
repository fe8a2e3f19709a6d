// Package doctor looks at the machine that a node runs on, or is to run on, and
// says of each thing what it means and what to do. It changes nothing.
package doctor

import (
	"fmt"
	"io"
	"strings"
)

// A Level says how bad a finding is.
type Level string

// The levels.
const (
	Good  Level = "good"
	Note  Level = "note"  // something to know; nothing is wrong
	Warn  Level = "warn"  // it works, and something will suffer
	Error Level = "error" // a node cannot do its work here
)

// A Finding is one thing that was looked at.
type Finding struct {
	Level Level  `json:"level"`
	About string `json:"about"`
	What  string `json:"what"`
	Means string `json:"means,omitempty"`
	Do    string `json:"do,omitempty"`
}

// String returns the finding on one line.
func (f *Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-5s  %s: %s", f.Level, f.About, strings.TrimSuffix(f.What, "."))
	if f.Means != "" {
		b.WriteString(". " + strings.TrimSuffix(f.Means, "."))
	}
	if f.Do != "" {
		b.WriteString(". Do: " + f.Do)
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// A Report is all that was found. Its JSON is the answer of "tributary doctor
// --json".
type Report struct {
	Findings []Finding `json:"findings"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
}

// Add puts a finding behind the others.
func (r *Report) Add(f Finding) {
	r.Findings = append(r.Findings, f)
	switch f.Level {
	case Warn:
		r.Warnings++
	case Error:
		r.Errors++
	case Good, Note:
	}
}

// ExitCode is 0: good, 1: errors, 3: warnings only; as of "tributary check".
func (r *Report) ExitCode() int {
	switch {
	case r.Errors > 0:
		return 1
	case r.Warnings > 0:
		return 3
	}
	return 0
}

// Text writes one line for each finding, and one with their number.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	for i := range r.Findings {
		b.WriteString(r.Findings[i].String() + "\n")
	}
	fmt.Fprintf(&b, "errors: %d, warnings: %d. Nothing was changed.\n", r.Errors, r.Warnings)
	_, err := io.WriteString(w, b.String())
	return err
}
