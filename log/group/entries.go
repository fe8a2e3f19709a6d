package group

import (
	"encoding/binary"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Entries decodes the records of a group that Open returned, in the order of
// their LSNs, and appends them to dst. What it appends points into g.Body. The
// error is a *CorruptError.
func (g *Group) Entries(dst []record.Entry) ([]record.Entry, error) {
	h, body := &g.Header, g.Body
	if uint64(h.Count) > uint64(len(body)/record.MinBytes) {
		return dst, corrupt("%d records do not fit %d bytes", h.Count, len(body))
	}
	start := len(dst)
	dst = slices.Grow(dst, int(h.Count))[:start+int(h.Count)]
	d := decoder{b: body, to: dst[start:], base: h.Base}
	for i := range d.to {
		d.to[i] = record.Entry{Offset: vacant}
	}
	for len(d.b) > 0 {
		if !d.run() {
			return dst[:start], corrupt("run at body byte %d", len(body)-len(d.b))
		}
	}
	if d.done != int(h.Count) {
		return dst[:start], corrupt("%d records, should be %d", d.done, h.Count)
	}
	return dst, nil
}

// vacant is the Offset of an entry that no record has filled yet.
const vacant = -1

type decoder struct {
	b       []byte
	to      []record.Entry // by LSN - base
	base    tributary.LSN
	done    int
	headers []record.Header // room that the entries share
}

// keep moves the shared room past the headers that were decoded into it.
func (d *decoder) keep(e *record.Entry) {
	n := len(d.headers) + len(e.Headers)
	e.Headers = slices.Clip(e.Headers)
	if n+8 > cap(d.headers) {
		d.headers = make([]record.Header, 0, min(512, 8*(1+len(d.to)-d.done)))
		return
	}
	d.headers = d.headers[:n]
}

// run decodes the run at the start of d.b, and says whether it could.
func (d *decoder) run() bool {
	stream, ok := d.bytes()
	partition, ok1 := d.uvarint()
	offset, ok2 := d.uvarint()
	millis, n := binary.Varint(d.b)
	if !ok || !ok1 || !ok2 || n <= 0 || partition > 1<<32-1 || offset > 1<<62 {
		return false
	}
	d.b = d.b[n:]
	count, ok := d.uvarint()
	index, ok1 := d.uvarint()
	gaps, ok2 := d.bytes()
	records, ok3 := d.bytes()
	if !ok || !ok1 || !ok2 || !ok3 || count > uint64(len(d.to)) {
		return false
	}
	name, gapped := string(stream), len(gaps) > 0
	for i := range count {
		if gapped && i > 0 {
			gap, n := binary.Uvarint(gaps)
			if n <= 0 || gap > uint64(len(d.to)) {
				return false
			}
			gaps = gaps[n:]
			index += gap
		}
		if index >= uint64(len(d.to)) || d.to[index].Offset != vacant {
			return false
		}
		e := &d.to[index]
		e.LSN, e.Offset = d.base+tributary.LSN(index), int64(offset+i)
		e.Headers = d.headers[len(d.headers):]
		delta, rest, err := record.Decode(records, &e.Record)
		if err != nil || delta != int64(i) {
			return false
		}
		d.keep(e)
		e.Stream, e.Partition, e.Millis = name, int32(uint32(partition)), e.Millis+millis
		records = rest
		index++
		d.done++
	}
	return len(gaps) == 0 && len(records) == 0
}

func (d *decoder) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		return 0, false
	}
	d.b = d.b[n:]
	return v, true
}

func (d *decoder) bytes() ([]byte, bool) {
	n, ok := d.uvarint()
	if !ok || n > uint64(len(d.b)) {
		return nil, false
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b, true
}
