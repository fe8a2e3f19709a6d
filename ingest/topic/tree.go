package topic

import (
	"sync"
	"sync/atomic"
)

// A Subscription is one filter of one subscriber (MQTT 5, 3.8.3.1).
type Subscription struct {
	Filter            string // as the client gave it, with `$share/group/` if it is shared
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // of no meaning here
	ID                uint32 // the Subscription Identifier; 0 is none
}

// A Tree holds the subscriptions of subscribers S. Its methods may be called at
// once. Filters are ones that MQTT allows; any other means no topic.
type Tree[S comparable] struct {
	generation atomic.Uint64

	mu          sync.Mutex
	root        level[place[S]]
	subscribers map[S]*subscriber[S]
	n           atomic.Int64 // subscriptions
	round       uint64
	nobody      *Result[S]
	lastPlace   uint64

	known      map[string]*Result[S] // by topic, of this generation
	merges     map[string]*Result[S] // by the ids of two or more places, of this generation
	knownBytes int                   // of both, at most maxKnownBytes
}

// A subscriber has at least one filter.
type subscriber[S comparable] struct {
	name    S
	filters map[string]*entry[S]

	round uint64 // the last merge that had it, and
	at    int    // where it is in the Matches of that
}

// A place holds the subscriptions of one filter, and is the value of its level. It
// is never empty.
type place[S comparable] struct {
	id     uint64 // never used again
	filter string // without `$share/group/`
	plain  []*entry[S]
	groups map[string][]*entry[S] // by name; never with an empty one
	alone  *Result[S]             // what a topic gets that only this filter means; nil if not known
}

// An entry is one subscription. Only its place in its list ever changes, for
// results have slices of id.
type entry[S comparable] struct {
	subscriber *subscriber[S]
	sub        Subscription
	id         [1]uint32
	level      *level[place[S]]
	group      string // empty if it is not shared
	at         int    // its index in plain or in the list of its group
}

// NewTree returns a tree without subscriptions.
func NewTree[S comparable]() *Tree[S] {
	return &Tree[S]{
		subscribers: map[S]*subscriber[S]{},
		nobody:      &Result[S]{},
		known:       map[string]*Result[S]{},
		merges:      map[string]*Result[S]{},
	}
}

// Subscribe adds a subscription of s. If s had one with the same filter, `$share`
// included, sub takes its place, and existed is true. On return Match goes by it.
func (t *Tree[S]) Subscribe(s S, sub Subscription) (existed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	holder := t.subscribers[s]
	if holder == nil {
		holder = &subscriber[S]{name: s, filters: map[string]*entry[S]{}}
		t.subscribers[s] = holder
	}
	e := &entry[S]{subscriber: holder, sub: sub, id: [1]uint32{sub.ID}}
	old, existed := holder.filters[sub.Filter]
	holder.filters[sub.Filter] = e
	if existed {
		e.level, e.group, e.at = old.level, old.group, old.at
		e.list()[e.at] = e
	} else {
		t.insert(e)
	}
	t.changed(e.level.value)
	return existed
}

// Unsubscribe removes the subscription of s with this filter, `$share` included,
// and says whether it existed. On return Match goes by it.
func (t *Tree[S]) Unsubscribe(s S, filter string) (existed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	holder := t.subscribers[s]
	if holder == nil {
		return false
	}
	e, existed := holder.filters[filter]
	if !existed {
		return false
	}
	delete(holder.filters, filter)
	if len(holder.filters) == 0 {
		delete(t.subscribers, s)
	}
	t.changed(e.level.value)
	t.remove(e)
	return true
}

// Len returns how many subscriptions there are. It takes no lock.
func (t *Tree[S]) Len() int { return int(t.n.Load()) }

// Generation returns a number that changes with every Subscribe, and with every
// Unsubscribe of what existed. It takes no lock. A Result stays true at least as
// long as the generation that was read before it.
func (t *Tree[S]) Generation() uint64 {
	return t.generation.Load()
}

// changed is called by whoever changes the subscriptions of p.
func (t *Tree[S]) changed(p *place[S]) {
	p.alone = nil
	t.forget()
	t.generation.Add(1)
}

func (t *Tree[S]) insert(e *entry[S]) {
	group, filter, _ := SplitShare(e.sub.Filter)
	e.group, e.level = group, t.root.grow(filter)
	if e.level.value == nil {
		t.lastPlace++
		e.level.value = &place[S]{id: t.lastPlace, filter: filter}
	}
	list := e.list()
	e.at = len(list)
	e.level.value.put(group, append(list, e))
	t.n.Add(1)
}

// remove puts the last of the list where e was, so that it costs the same however
// many have the filter.
func (t *Tree[S]) remove(e *entry[S]) {
	list, p := e.list(), e.level.value
	last := len(list) - 1
	list[e.at] = list[last]
	list[e.at].at = e.at
	list[last] = nil
	p.put(e.group, list[:last])
	if p.plain == nil && p.groups == nil {
		e.level.value = nil
		e.level.prune()
	}
	t.n.Add(-1)
}

func (e *entry[S]) list() []*entry[S] {
	if e.group != "" {
		return e.level.value.groups[e.group]
	}
	return e.level.value.plain
}

// put makes list the list of a group, or the plain one.
func (p *place[S]) put(group string, list []*entry[S]) {
	switch {
	case group == "" && len(list) == 0:
		p.plain = nil
	case group == "":
		p.plain = list
	case len(list) > 0:
		if p.groups == nil {
			p.groups = map[string][]*entry[S]{}
		}
		p.groups[group] = list
	default:
		delete(p.groups, group)
		if len(p.groups) == 0 {
			p.groups = nil
		}
	}
}
