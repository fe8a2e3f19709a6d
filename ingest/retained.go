package ingest

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// retained holds the retained messages. The delivery changes it, in the order of
// the log; anybody may ask. They are in memory and in the checkpoint, so they are
// bounded.
type retained struct {
	all      *topic.Retained[*record.Entry]
	bytes    atomic.Int64
	max      int
	maxBytes int64

	mu    sync.Mutex
	dirty map[string]struct{} // topics that have changed since the last checkpoint
}

func newRetained(o *Options) *retained {
	return &retained{
		all: topic.NewRetained[*record.Entry](), max: o.MaxRetained, maxBytes: int64(o.MaxRetainedBytes), dirty: map[string]struct{}{},
	}
}

// set keeps a copy of e as the retained message of its topic, or forgets the one
// that is there if e is empty (MQTT 5, 3.3.1.3).
func (r *retained) set(name string, e *record.Entry) {
	if len(e.Value) == 0 {
		if was, existed := r.all.Delete(name); existed {
			r.bytes.Add(-cost(was))
			r.mark(name)
		}
		return
	}
	kept := clone(e)
	if was, existed := r.all.Set(name, kept); existed {
		r.bytes.Add(-cost(was))
	}
	r.bytes.Add(cost(kept))
	r.mark(name)
}

func (r *retained) mark(name string) {
	r.mu.Lock()
	r.dirty[name] = struct{}{}
	r.mu.Unlock()
}

// fullFor says whether a retained message of that topic must be refused.
func (r *retained) fullFor(name []byte) bool {
	if r.all.Len() < r.max && r.bytes.Load() < r.maxBytes {
		return false
	}
	_, there := r.all.Get(string(name))
	return !there || r.bytes.Load() >= r.maxBytes
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
		all[name] = nil
		if e, ok := r.all.Get(name); ok {
			all[name] = appendEntry(nil, e)
		}
	}
	return all
}

// again undoes changes: they could not be saved.
func (r *retained) again(changed map[string][]byte) {
	for name := range changed {
		r.mark(name)
	}
}

// restore takes up what an earlier process got from changes.
func (r *retained) restore(state []byte) error {
	e, err := parseEntry(state)
	if err != nil {
		return err
	}
	name := e.Header(headerTopic)
	if name == nil {
		return errRetained
	}
	if was, existed := r.all.Set(string(name), e); existed {
		r.bytes.Add(-cost(was))
	}
	r.bytes.Add(cost(e))
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
