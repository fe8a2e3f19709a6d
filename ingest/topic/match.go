package topic

import (
	"encoding/binary"
	"slices"
	"strings"
)

// What a tree remembers of topics that were asked for.
const (
	maxKnown      = 4096
	maxKnownBytes = 4 << 20
	matchBytes    = 64 // of one Match, about
	overheadBytes = 64 // of one topic or result, besides what it holds
)

// A Match is what one subscriber gets of a message: once, however many of its
// filters match (MQTT 5, 3.3.4).
type Match[S comparable] struct {
	Subscriber        S
	QoS               byte     // the highest of its matching filters
	NoLocal           bool     // every matching filter has No Local
	RetainAsPublished bool     // one of them has it
	IDs               []uint32 // of all that have one, ascending, and twice what two of them have; read only
}

// A Group is a shared subscription that matched: exactly one of its members gets
// the message (MQTT 5, 4.8.2).
type Group[S comparable] struct {
	Name, Filter string     // of `$share/Name/Filter`
	Members      []Match[S] // at least one
}

// A Result is who gets a message. It is in no particular order.
type Result[S comparable] struct {
	Matches []Match[S] // each subscriber once
	Groups  []Group[S] // each name with each filter once
}

// Match returns who gets a message of a topic. The result is shared and read only;
// it stays what it was when the tree changes, and is never nil.
//
// It is remembered until the tree changes or too many others are, so that a topic
// that comes again costs one look-up and no allocation. Otherwise the time is that
// of the levels of the topic times the filters that match so far, and of the
// subscribers found.
func (t *Tree[S]) Match(topic string) *Result[S] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n.Load() == 0 {
		return t.nobody
	}
	if r, ok := t.known[topic]; ok {
		return r
	}
	return t.find(strings.Clone(topic))
}

// MatchBytes is Match for a topic in a buffer, which it does not keep.
func (t *Tree[S]) MatchBytes(topic []byte) *Result[S] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n.Load() == 0 {
		return t.nobody
	}
	if r, ok := t.known[string(topic)]; ok {
		return r
	}
	return t.find(string(topic))
}

// find looks a topic up, and remembers topic and result.
func (t *Tree[S]) find(topic string) *Result[S] {
	var buf [16]*place[S]
	places := t.root.meaning(topic, buf[:0])
	var r *Result[S]
	switch len(places) {
	case 0:
		r = t.nobody
	case 1:
		if places[0].alone == nil {
			places[0].alone = t.merge(places)
		}
		r = places[0].alone
	default:
		r = t.merged(places)
	}
	if t.reserve(len(topic) + overheadBytes) {
		t.known[topic] = r
	}
	return r
}

// merged returns the result of the filters at places. It is remembered by them,
// for many topics have the same few filters.
func (t *Tree[S]) merged(places []*place[S]) *Result[S] {
	var buf [128]byte
	key := buf[:0]
	for _, p := range places { // the walk finds them in the same order each time
		key = binary.NativeEndian.AppendUint64(key, p.id)
	}
	if r, ok := t.merges[string(key)]; ok {
		return r
	}
	r := t.merge(places)
	if t.reserve(len(key) + overheadBytes + r.size()) {
		t.merges[string(key)] = r
	}
	return r
}

// reserve makes room for something of this size to be remembered, and says whether
// there is any.
func (t *Tree[S]) reserve(size int) bool {
	if size > maxKnownBytes {
		return false
	}
	if len(t.known) == maxKnown || t.knownBytes+size > maxKnownBytes {
		t.forget()
	}
	t.knownBytes += size
	return true
}

func (t *Tree[S]) forget() {
	if t.knownBytes > 0 {
		clear(t.known)
		clear(t.merges)
		t.knownBytes = 0
	}
}

// merge makes the result of the filters at places.
func (t *Tree[S]) merge(places []*place[S]) *Result[S] {
	t.round++
	plain, groups := 0, 0
	for _, p := range places {
		plain += len(p.plain)
		groups += len(p.groups)
	}
	r := &Result[S]{Matches: make([]Match[S], 0, plain), Groups: make([]Group[S], 0, groups)}
	for _, p := range places {
		for _, e := range p.plain {
			s := e.subscriber
			if s.round == t.round {
				r.Matches[s.at].add(e)
				continue
			}
			s.round, s.at = t.round, len(r.Matches)
			r.Matches = append(r.Matches, e.match())
		}
		for name, members := range p.groups {
			g := Group[S]{Name: name, Filter: p.filter, Members: make([]Match[S], len(members))}
			for i, e := range members {
				g.Members[i] = e.match()
			}
			r.Groups = append(r.Groups, g)
		}
	}
	for i := range r.Matches {
		if ids := r.Matches[i].IDs; len(ids) > 1 {
			slices.Sort(ids)
		}
	}
	return r
}

// match returns what the subscriber gets by this filter alone.
func (e *entry[S]) match() Match[S] {
	m := Match[S]{
		Subscriber:        e.subscriber.name,
		QoS:               e.sub.QoS,
		NoLocal:           e.sub.NoLocal,
		RetainAsPublished: e.sub.RetainAsPublished,
	}
	if e.id[0] != 0 {
		m.IDs = e.id[:] // full: what is added goes into another array
	}
	return m
}

// add adds another filter of the same subscriber.
func (m *Match[S]) add(e *entry[S]) {
	m.QoS = max(m.QoS, e.sub.QoS)
	m.NoLocal = m.NoLocal && e.sub.NoLocal
	m.RetainAsPublished = m.RetainAsPublished || e.sub.RetainAsPublished
	if e.id[0] != 0 {
		m.IDs = append(m.IDs, e.id[0])
	}
}

// size returns about how many bytes a result takes.
func (r *Result[S]) size() int {
	n := len(r.Matches)
	ids := 0
	for i := range r.Matches {
		ids += len(r.Matches[i].IDs)
	}
	for i := range r.Groups {
		n += 1 + len(r.Groups[i].Members)
	}
	return n*matchBytes + ids*4
}
