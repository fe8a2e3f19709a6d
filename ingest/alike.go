package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Retained messages are alike on all gateways of a site (R52). Each tells the others at
// once what its clients retain and clear (Options.Share), they take that (TakeShared),
// and now and then two of them compare (Hashes) and give each other what differs
// (Differing): one that was away, or is new.

// Hashes returns what this gateway knows of retained messages, in short: two gateways
// that know the same have the same. sum is a hash of the others. It is for a door with
// Options.Share, and may be called at any time.
func (d *Door) Hashes() (sum uint64, hashes []uint64) {
	w := d.out.kept.stamps
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, h := range w.hashes {
		sum ^= h * uint64(2*i+1)
	}
	return sum, slices.Clone(w.hashes[:])
}

// Differing returns what this gateway knows and one with the given hashes may not, as
// much as fits maxBytes; more says that there is more. It may be called at any time.
func (d *Door) Differing(hashes []uint64, maxBytes int) (items [][]byte, more bool) {
	for _, name := range d.out.kept.stamps.differing(hashes) {
		item := d.out.kept.saved(name)
		if item == nil {
			continue
		}
		if maxBytes -= len(item); maxBytes < 0 && len(items) > 0 {
			return items, true
		}
		items = append(items, item)
	}
	return items, false
}

// TakeShared takes up what another gateway knows, and calls done, which does not wait,
// with how much of it was news. Nothing of it is told on. What cannot be read is left out, and
// an error says so. It keeps nothing of items.
func (d *Door) TakeShared(items [][]byte, done func(news int)) error {
	type shared struct {
		name string
		e    *record.Entry
		s    stamp
	}
	all := make([]shared, 0, len(items))
	var err error
	for _, item := range items {
		e, s, bad := parseEntry(slices.Clone(item))
		if name := e.Header(headerTopic); bad == nil && name != nil && s != (stamp{}) {
			all = append(all, shared{string(name), e, s})
		} else {
			err = errShared
		}
	}
	d.out.do(func() {
		news := 0
		for i := range all {
			if d.out.kept.set(all[i].name, all[i].e, all[i].s) {
				news++
			}
		}
		done(news)
	})
	return err
}

var errShared = errors.New("what another gateway knows of a retained message is damaged, or of a newer version; it is left out")

// retain keeps a message that this gateway took, or clears its topic, and lets the
// others know.
func (o *delivery) retain(name string, e *record.Entry) {
	s := stamp{}
	if o.kept.stamps != nil {
		s = stampOf(e, o.kept.self)
	}
	if o.kept.set(name, e, s) && o.kept.stamps != nil {
		if item := o.kept.saved(name); item != nil {
			o.door.opt.Share(item)
		}
	}
}

// The saved form of a retained message is also what gateways tell one another. Version 1:
// the version (1 byte), its time (8 bytes, big endian, Unix milliseconds), and the
// record as Kafka's format v2 has it. Version 2, where there are other gateways: the
// version, the time of its stamp (8 bytes) and the node (16 bytes), and then as version 1
// has it; without a value, the topic was cleared.
const (
	retainedVersion = 1
	stampedVersion  = 2
)

var errRetained = errors.New("a retained message of the checkpoint is damaged, or of a newer version; it is left out")

func appendEntry(dst []byte, e *record.Entry) []byte {
	dst = append(dst, retainedVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Millis))
	return record.Append(dst, &e.Record, 0, 0)
}

func stamped(e *record.Entry, s stamp) []byte {
	dst := binary.BigEndian.AppendUint64([]byte{stampedVersion}, s.time)
	dst = append(dst, s.node[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Millis))
	return record.Append(dst, &e.Record, 0, 0)
}

// parseEntry reads either; the stamp of version 1 is zero. The entry is never nil, and
// points into b.
func parseEntry(b []byte) (e *record.Entry, s stamp, err error) {
	e = &record.Entry{}
	switch {
	case len(b) < 9:
		return e, s, errRetained
	case b[0] == retainedVersion:
		b = b[1:]
	case b[0] == stampedVersion && len(b) > 1+8+16+8:
		s = stamp{binary.BigEndian.Uint64(b[1:]), tributary.NodeID(b[9:25])}
		b = b[25:]
	default:
		return e, s, fmt.Errorf("version %d: %w", b[0], errRetained)
	}
	if _, rest, err := record.Decode(b[8:], &e.Record); err != nil || len(rest) > 0 {
		return &record.Entry{}, s, errRetained
	}
	e.Millis = int64(binary.BigEndian.Uint64(b))
	return e, s, nil
}
