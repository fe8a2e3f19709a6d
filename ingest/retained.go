package ingest

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// retained holds the retained messages. The delivery changes it, in the order of
// the log; anybody may ask. They are in memory and in the checkpoint, so they are
// bounded. Where there are other gateways they are the site's: whoever wrote last
// counts (R52).
type retained struct {
	all      *topic.Retained[*record.Entry]
	bytes    atomic.Int64
	max      atomic.Int64
	maxBytes atomic.Int64
	self     tributary.NodeID
	stamps   *written // nil: this node is alone

	mu    sync.Mutex
	dirty map[string]struct{}      // topics that have changed since the last checkpoint
	wills map[string]*record.Entry // of clients of all gateways; see heirs.go
}

func newRetained(o *Options) *retained {
	r := &retained{
		all: topic.NewRetained[*record.Entry](), dirty: map[string]struct{}{}, self: o.Node,
	}
	r.max.Store(int64(o.MaxRetained))
	r.maxBytes.Store(int64(o.MaxRetainedBytes))
	if o.Share != nil {
		r.stamps, r.wills = &written{stamps: map[string]stamp{}}, map[string]*record.Entry{}
	}
	return r
}

// set keeps a copy of e as the retained message of its topic, or forgets the one
// that is there if e is empty (MQTT 5, 3.3.1.3). It returns false, and does nothing, if
// that was written later by somebody else, or if this was written elsewhere and there
// is no room for it.
func (r *retained) set(name string, e *record.Entry, s stamp) bool {
	was := r.entry(name) != nil
	if r.stamps != nil {
		if s.node != r.self && len(e.Value) > 0 && !was && r.full() {
			return false
		}
		later, forgotten := r.stamps.set(name, s, len(e.Value) == 0, was, int(r.max.Load()))
		if !later {
			return false
		}
		for _, name := range forgotten {
			r.mark(name)
		}
	}
	r.put(name, e)
	r.mark(name)
	return true
}

// entry returns what is kept under a name, or nil.
func (r *retained) entry(name string) *record.Entry {
	if isWill(name) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.wills[name]
	}
	e, _ := r.all.Get(name)
	return e
}

// put is set without asking.
func (r *retained) put(name string, e *record.Entry) {
	if isWill(name) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if delete(r.wills, name); len(e.Value) > 0 && len(r.wills) < int(r.max.Load()) {
			r.wills[name] = clone(e)
		}
		return
	}
	if len(e.Value) == 0 {
		if was, existed := r.all.Delete(name); existed {
			r.bytes.Add(-cost(was))
		}
		return
	}
	kept := clone(e)
	if was, existed := r.all.Set(name, kept); existed {
		r.bytes.Add(-cost(was))
	}
	r.bytes.Add(cost(kept))
}

// mark notes that the checkpoint has to be told. It has no wills.
func (r *retained) mark(name string) {
	if isWill(name) {
		return
	}
	r.mu.Lock()
	r.dirty[name] = struct{}{}
	r.mu.Unlock()
}

// fullFor says whether a retained message of that topic must be refused.
func (r *retained) fullFor(name []byte) bool {
	if !r.full() {
		return false
	}
	_, there := r.all.Get(string(name))
	return !there || r.bytes.Load() >= r.maxBytes.Load()
}

func (r *retained) full() bool {
	return r.all.Len() >= int(r.max.Load()) || r.bytes.Load() >= r.maxBytes.Load()
}

// changes returns what has changed since it was last called: nil for a topic
// that has no retained message any more.
func (r *retained) changes() map[string][]byte {
	r.mu.Lock()
	names := r.dirty
	r.dirty = map[string]struct{}{}
	r.mu.Unlock()
	all := make(map[string][]byte, len(names))
	for name := range names {
		all[name] = r.saved(name)
	}
	return all
}

// saved returns the saved form of what is known of a topic; nil: nothing is.
func (r *retained) saved(name string) []byte {
	e := r.entry(name)
	if r.stamps == nil {
		if e == nil {
			return nil
		}
		return appendEntry(nil, e)
	}
	s, known := r.stamps.of(name)
	switch {
	case !known:
		return nil
	case e == nil:
		e = &record.Entry{Record: record.Record{Headers: []record.Header{{Key: headerTopic, Value: []byte(name)}}}}
	}
	return stamped(e, s)
}

// again undoes changes: they could not be saved.
func (r *retained) again(changed map[string][]byte) {
	for name := range changed {
		r.mark(name)
	}
}

// restore takes up what an earlier process got from changes.
func (r *retained) restore(state []byte) error {
	e, s, err := parseEntry(state)
	if err != nil {
		return err
	}
	name := e.Header(headerTopic)
	if name == nil {
		return errRetained
	}
	if s == (stamp{}) { // of a node that was alone
		s = stampOf(e, r.self)
	}
	if r.stamps != nil {
		r.stamps.set(string(name), s, len(e.Value) == 0, false, int(r.max.Load()))
	}
	r.put(string(name), e)
	return nil
}

func cost(e *record.Entry) int64 { return int64(record.MaxBytes(&e.Record)) + 200 }

// clone returns a copy of e that shares nothing with it.
func clone(e *record.Entry) *record.Entry {
	c := *e
	c.Key, c.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	c.Headers = slices.Clone(e.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return &c
}
