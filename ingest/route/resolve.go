package route

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// A Target is where a record goes. Topic is a Kafka topic; it is empty when the
// record is for this gateway alone. Key is the record key, never nil, and may
// share its memory with what Resolve was given: it is to be read, not written,
// and lives as long as that. Rule is the index of the rule that won, or Fallback;
// Alarm and Urgent are what it says.
type Target struct {
	Topic string
	Key   []byte
	Rule  int

	Alarm, Urgent bool
}

// LocalOnly reports whether the record stays on this gateway.
func (t Target) LocalOnly() bool { return t.Topic == "" }

// A TopicError says why the topic that a rule gave for one message is
// impossible.
type TopicError struct {
	Rule   int    // index of the rule, or Fallback
	Topic  string // what the rule gave
	Reason string
}

// Error is one sentence for a log line or a header of the dead letter.
func (e *TopicError) Error() string {
	return fmt.Sprintf("kafka topic %.80q %s", e.Topic, e.Reason) // a device may make it 64 KiB long
}

// Resolve returns where a message on topic goes. topic must be the name of an
// MQTT topic, without wildcards.
//
// A '/' that a variable brings into a Kafka topic becomes a '.'; other characters
// that Kafka does not take stay and make the topic impossible. Then the error is
// a *TopicError and the Target is the dead-letter topic with all else that the
// record has anyway, so a record is never without a place to go (U4), and an
// alarm stays one.
// Otherwise Target.Topic is empty or legal for Kafka.
//
// Nothing is allocated when the rule's topic has no variable and its key is a
// single variable or none; otherwise one piece of memory is.
func (t *Table) Resolve(topic, clientID, username string) (Target, error) {
	m := message{topic: topic, clientID: clientID, username: username}
	r := t.find(topic)
	name, isConstant := r.topic.constant()
	if r.local || isConstant {
		return r.target(name, r.key.keyFor(&m)), nil
	}
	name, key := r.build(&m)
	err := CheckTopic(name)
	if err == nil && slices.Contains(t.reserved, name) {
		err = errReserved(name)
	}
	if err != nil {
		return r.target(t.deadLetter, key), &TopicError{r.index, name, err.Error()}
	}
	return r.target(name, key), nil
}

func (r *rule) target(topic string, key []byte) Target {
	return Target{Topic: topic, Key: key, Rule: r.index, Alarm: r.alarm, Urgent: r.urgent}
}

// find returns the first rule that matches topic.
func (t *Table) find(topic string) *rule {
	last := len(t.rules) - 1
	for i := range last {
		if t.rules[i].match.matches(topic) {
			return &t.rules[i]
		}
	}
	return &t.rules[last] // also for '$' topics
}

// keyFor returns the key for m, without memory of its own if it is only one part.
func (t template) keyFor(m *message) []byte {
	switch len(t) {
	case 0:
		return []byte{}
	case 1:
		return bytesOf(t[0].value(m))
	}
	key := make([]byte, 0, t.size(m))
	for i := range t {
		key = append(key, t[i].value(m)...)
	}
	return key
}

// build returns topic and key for m in one piece of memory, or with a key that
// needs none.
func (r *rule) build(m *message) (topic string, key []byte) {
	var b strings.Builder
	size := r.topic.size(m)
	if len(r.key) > 1 {
		b.Grow(size + r.key.size(m))
	} else {
		b.Grow(size)
	}
	for i := range r.topic {
		appendDotted(&b, r.topic[i].value(m))
	}
	if len(r.key) <= 1 {
		return b.String(), r.key.keyFor(m)
	}
	for i := range r.key {
		b.WriteString(r.key[i].value(m))
	}
	whole := b.String()
	return whole[:size], bytesOf(whole[size:])
}

// appendDotted writes s with '.' for '/'. The texts of a topic template have no
// '/' (checkTopicTemplate), so only variables are changed.
func appendDotted(b *strings.Builder, s string) {
	for {
		before, after, found := strings.Cut(s, "/")
		b.WriteString(before)
		if !found {
			return
		}
		b.WriteByte('.')
		s = after
	}
}

// bytesOf returns the bytes of s in place. Nobody may write to them: Target.Key
// passes that rule on.
func bytesOf(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
