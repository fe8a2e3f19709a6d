package topic

import (
	"slices"
	"strings"
	"sync"
)

// Retained holds the retained messages V by topic (MQTT 5, 3.3.1.3). Its methods
// may be called at once. Topics are ones that MQTT allows to publish to: they have
// no wildcards.
type Retained[V any] struct {
	mu   sync.RWMutex
	root level[message[V]]
	n    int
}

// A message is never changed once it is in the tree, so that Match may read it
// without the lock.
type message[V any] struct {
	topic string
	value V
}

// NewRetained returns one without messages.
func NewRetained[V any]() *Retained[V] {
	return &Retained[V]{}
}

// Set makes v the message of a topic, and returns the one that was, if one existed.
func (r *Retained[V]) Set(topic string, v V) (was V, existed bool) {
	m := &message[V]{strings.Clone(topic), v}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.root.grow(topic)
	if l.value == nil {
		r.n++
	} else {
		was, existed = l.value.value, true
	}
	l.value = m
	return was, existed
}

// Delete removes the message of a topic and returns it, if one existed.
func (r *Retained[V]) Delete(topic string) (was V, existed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.root.at(topic)
	if l == nil || l.value == nil {
		return was, false
	}
	was = l.value.value
	l.value = nil
	l.prune()
	r.n--
	return was, true
}

// Get returns the message of a topic, if there is one.
func (r *Retained[V]) Get(topic string) (v V, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l := r.root.at(topic)
	if l == nil || l.value == nil {
		return v, false
	}
	return l.value.value, true
}

// Len returns how many topics have a message.
func (r *Retained[V]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.n
}

// Match calls each for the messages that filter means, in ascending order of
// topics, until it returns false. They are those of the moment of the call: each
// runs without a lock and may change them. A filter with `$share/group/` means
// none, for a shared subscription gets no retained messages (MQTT 5, 4.8.2).
func (r *Retained[V]) Match(filter string, each func(topic string, v V) bool) {
	if _, _, shared := SplitShare(filter); shared {
		return
	}
	r.mu.RLock()
	found := r.root.meant(filter, nil)
	r.mu.RUnlock()
	slices.SortFunc(found, func(a, b *message[V]) int { return strings.Compare(a.topic, b.topic) })
	for _, m := range found {
		if !each(m.topic, m.value) {
			return
		}
	}
}
