package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A compiler collects what is wrong with the rules while it reads them.
type compiler struct {
	facts  Facts
	rule   int // the one being read
	faults []Fault
}

func (c *compiler) fault(field string, err error) {
	c.faults = append(c.faults, Fault{Rule: c.rule, Field: field, Reason: err.Error()})
}

// filter returns the compiled filter, or one that only serves to go on looking
// for mistakes.
func (c *compiler) filter(s string) filter {
	f, err := parseFilter(s)
	if err != nil {
		c.fault("match", err)
	}
	return f
}

// compile reads topic and key of r. They are left alone when the filter is bad
// (nil), because nobody can tell which names they may use.
func (c *compiler) compile(r Rule, match filter) rule {
	out := rule{index: c.rule, match: match, local: r.Topic == "", alarm: r.Alarm, urgent: r.Urgent}
	if match == nil {
		return out
	}
	topic, err := parseTemplate(r.Topic, match, c.facts)
	if err == nil && !out.local {
		err = checkTopicTemplate(topic, c.facts.Reserved)
	}
	if err != nil {
		c.fault("topic", err)
	}
	if r.Key == "" {
		r.Key = DefaultKey
	}
	key, err := parseTemplate(r.Key, match, c.facts)
	if err != nil {
		c.fault("key", err)
	}
	out.topic, out.key = topic, key
	return out
}

// deadLetter reads the dead-letter topic, which must be the same for every
// record: it is the place of last resort.
func (c *compiler) deadLetter() string {
	t, err := parseTemplate(c.facts.DeadLetter, filter{{kind: multi}}, c.facts)
	name, constant := t.constant()
	switch {
	case err != nil:
	case !constant:
		err = errors.New("may use {node} and {site} only: it must be able to take every record")
	default:
		err = CheckTopic(name)
	}
	if err == nil && slices.Contains(c.facts.Reserved, name) {
		err = errReserved(name)
	}
	if err != nil {
		c.fault("dead_letter", err)
	}
	return name
}

// checkTopicTemplate refuses a template for a Kafka topic that can never give a
// legal name.
func checkTopicTemplate(t template, reserved []string) error {
	if name, ok := t.constant(); ok {
		if slices.Contains(reserved, name) {
			return errReserved(name)
		}
		return CheckTopic(name)
	}
	size := 0
	for i := range t {
		if t[i].kind != text {
			continue
		}
		if at := strings.IndexFunc(t[i].text, illegalRune); at >= 0 {
			return errIllegal(t[i].text, at)
		}
		size += len(t[i].text)
	}
	if size > maxNameBytes {
		return errTooLong(size)
	}
	if t[0].kind == text && strings.HasPrefix(t[0].text, internalPrefix) {
		return errInternal()
	}
	return nil
}

func illegalRune(r rune) bool { return r >= 0x80 || !legalByte(byte(r)) }

func errReserved(name string) error {
	return fmt.Errorf("%q is where the gateway keeps its own positions; no record may go there", name)
}
