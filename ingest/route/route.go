// Package route decides which Kafka topic and key an MQTT message gets.
//
// Rules are tried in order and the first whose filter matches wins; what no
// rule matches goes to the fallback. A filter is an MQTT topic filter in which
// a level may have a name instead of '+':
//
//	match = "plant/{line}/{device}/tele/#"
//	topic = "telemetry.{line}"
//	key   = "{client_id}"
//
// Topic and key are templates of variables and nothing else: {name} is the
// level that the filter names, {client_id}, {username} and {topic} come with
// the message, {node} and {site} are the gateway's own. There are no functions.
//
// The package is pure: no files, no goroutines, no clock.
package route

import (
	"fmt"
	"slices"
	"strings"
)

// Fallback stands in Target.Rule and Fault.Rule for the fallback, which has no
// index.
const Fallback = -1

// DefaultKey is the key of a rule that names none. It keeps the messages of one
// device in order in Kafka.
const DefaultKey = "{client_id}"

// A Rule sends the MQTT topics that Match takes to the Kafka topic Topic with
// the record key Key. An empty Topic keeps the records on this gateway; an empty
// Key is DefaultKey. The Match of a fallback is not looked at. Alarm and Urgent
// say how the log is to treat the messages; they are passed on as they are, and
// neither follows from the other here.
type Rule struct {
	Match, Topic, Key string

	Alarm  bool // a full log has room kept for them
	Urgent bool // their acknowledgement does not wait for the ack window
}

// Facts are what all rules share and no message changes.
type Facts struct {
	Node, Site string // {node} and {site}
	DeadLetter string // the Kafka topic for records whose own topic is impossible; may use {node} and {site}
	// Reserved are Kafka topics that no rule may reach, because the gateway
	// keeps its own positions there: a device must not be able to write them.
	Reserved []string
}

// A Fault is one mistake in the rules. Rule is its index or Fallback; Field is
// "match", "topic", "key" or "dead_letter".
type Fault struct {
	Rule   int
	Field  string
	Reason string
}

// A CompileError holds every mistake that Compile found, in the order of the
// rules.
type CompileError struct {
	Faults []Fault
}

// Error joins the faults with semicolons.
func (e *CompileError) Error() string {
	texts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		place := fmt.Sprintf("route %d", f.Rule+1)
		if f.Rule == Fallback {
			place = "default route"
		}
		texts[i] = fmt.Sprintf("%s %s: %s", place, f.Field, f.Reason)
	}
	return strings.Join(texts, "; ")
}

// A Table is a compiled list of rules. It never changes, so any number of
// goroutines may use it at once.
type Table struct {
	rules      []rule // the last one is the fallback
	deadLetter string
	reserved   []string
}

// A rule is one compiled Rule.
type rule struct {
	index int // Fallback for the fallback
	match filter
	local bool // keep the records here; topic is not used
	topic template
	key   template

	alarm, urgent bool
}

// Compile checks rules and fallback and returns their table. The error is a
// *CompileError with everything that is wrong. It keeps no reference to rules.
func Compile(rules []Rule, fallback Rule, facts Facts) (*Table, error) {
	c := compiler{facts: facts}
	t := &Table{reserved: slices.Clone(facts.Reserved)}
	for i, r := range rules {
		c.rule = i
		t.rules = append(t.rules, c.compile(r, c.filter(r.Match)))
	}
	c.rule = Fallback
	t.rules = append(t.rules, c.compile(fallback, filter{{kind: multi}}))
	t.deadLetter = c.deadLetter()
	if len(c.faults) > 0 {
		return nil, &CompileError{c.faults}
	}
	return t, nil
}

// DeadLetter returns the Kafka topic for records whose own topic is impossible.
// It is a name that Kafka takes.
func (t *Table) DeadLetter() string { return t.deadLetter }

// Topics returns the Kafka topics that rules name without a variable, each once; the
// dead-letter topic is not among them.
func (t *Table) Topics() []string {
	var all []string
	for i := range t.rules {
		r := &t.rules[i]
		if name, ok := r.topic.constant(); ok && !r.local && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// Covered reports whether rule number i can never win because a single earlier
// rule, by, matches every topic that i matches.
func (t *Table) Covered(i int) (by int, ok bool) {
	for j := range i {
		if t.rules[j].match.covers(t.rules[i].match) {
			return j, true
		}
	}
	return 0, false
}
