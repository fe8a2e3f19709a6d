package ingest

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A stamp says when something was written that all gateways of a site know alike: by
// a hybrid logical clock, so that what was written by somebody who knew of another
// write is later than that, however wrong the clocks are. Of two writes the later one
// counts, everywhere (R52, M2).
type stamp struct {
	time uint64 // milliseconds since 1970, and then 16 bits that count
	node tributary.NodeID
}

const stampCountBits = 16

func (s stamp) before(o stamp) bool {
	if s.time != o.time {
		return s.time < o.time
	}
	return slices.Compare(s.node[:], o.node[:]) < 0
}

// A hybridClock gives stamps their times.
type hybridClock struct{ last atomic.Uint64 }

// now returns a time later than all that this clock has given or seen.
func (c *hybridClock) now() uint64 {
	for {
		last := c.last.Load()
		t := max(uint64(time.Now().UnixMilli())<<stampCountBits, last+1)
		if c.last.CompareAndSwap(last, t) {
			return t
		}
	}
}

// saw notes a time that another clock has given.
func (c *hybridClock) saw(t uint64) {
	for {
		last := c.last.Load()
		if t <= last || c.last.CompareAndSwap(last, t) {
			return
		}
	}
}

// headerWritten has the time of a stamp: of retained messages, where there are other
// gateways. 8 bytes, big endian. It stays on the gateways.
const headerWritten = "_written"

// stampOf returns the stamp of a message that a node took.
func stampOf(e *record.Entry, node tributary.NodeID) stamp {
	s := stamp{uint64(max(0, e.Millis)) << stampCountBits, node}
	if b := e.Header(headerWritten); len(b) == 8 {
		s.time = binary.BigEndian.Uint64(b)
	}
	return s
}

// hashBuckets is into how many parts the topics are divided, to find out what two
// gateways do not know alike.
const hashBuckets = 1024

// written is the stamps of all topics that were ever written, the cleared ones
// included, and hashes over them.
type written struct {
	clock hybridClock

	mu      sync.Mutex // guards what follows
	stamps  map[string]stamp
	cleared []clearing // in the order in which they were; some have been written since
	gone    int        // of stamps, those of topics that are cleared
	hashes  [hashBuckets]uint64
}

// A clearing is a topic that was cleared.
type clearing struct {
	name string
	stamp
}

// set notes that a topic was written, or cleared. It returns false, and does nothing, if
// it was written later. keep is how many cleared topics are remembered: a gateway that
// was away for longer may bring others back. forgotten are those that are not any more.
func (w *written) set(name string, s stamp, cleared, was bool, keep int) (later bool, forgotten []string) {
	w.clock.saw(s.time)
	w.mu.Lock()
	defer w.mu.Unlock()
	old, known := w.stamps[name]
	if known && !old.before(s) {
		return false, nil
	}
	h := &w.hashes[bucketOf(name)]
	if known {
		*h ^= hashOf(name, old)
		if !was {
			w.gone--
		}
	}
	*h ^= hashOf(name, s)
	w.stamps[name] = s
	if !cleared {
		return true, nil
	}
	w.gone++
	w.cleared = append(w.cleared, clearing{name, s})
	return true, w.forget(keep)
}

// forget gives up the stamps of the topics that were cleared first.
func (w *written) forget(keep int) (forgotten []string) {
	stale := func(c clearing) bool { return w.stamps[c.name] != c.stamp }
	if len(w.cleared) > 2*w.gone+hashBuckets {
		w.cleared = slices.DeleteFunc(w.cleared, stale)
	}
	for w.gone > keep && len(w.cleared) > 0 {
		c := w.cleared[0]
		w.cleared = w.cleared[1:]
		if !stale(c) {
			w.hashes[bucketOf(c.name)] ^= hashOf(c.name, c.stamp)
			delete(w.stamps, c.name)
			w.gone--
			forgotten = append(forgotten, c.name)
		}
	}
	return forgotten
}

// of returns the stamp of a topic.
func (w *written) of(name string) (s stamp, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, known = w.stamps[name]
	return s, known
}

// differing returns the topics of those parts whose hashes are not the given ones, in any order.
func (w *written) differing(hashes []uint64) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.stamps {
		if b := bucketOf(name); b >= len(hashes) || w.hashes[b] != hashes[b] {
			names = append(names, name)
		}
	}
	return names
}

func bucketOf(name string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails: hash.Hash
	return int(h.Sum64() % hashBuckets)
}

func hashOf(name string, s stamp) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint64(s.node[:], s.time)) // never fails: hash.Hash
	_, _ = h.Write([]byte(name))
	x := h.Sum64() // FNV mixes its last bytes little: SplitMix64 finishes it
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
