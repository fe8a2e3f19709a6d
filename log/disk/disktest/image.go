package disktest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

const (
	sector = 512
	page   = 4096 // what an un-synced write can damage
)

// An image is the content of a file: pages, where nil is one of zeros. A page is
// never changed, only replaced.
type image struct {
	pages [][]byte
	size  int64
}

//nolint:gochecknoglobals // a constant
var zeros [256 << 10]byte

// keep returns b as a write keeps it: a copy, unless it is zeros.
func keep(b []byte) []byte {
	if len(b) <= len(zeros) && bytes.Equal(b, zeros[:len(b)]) {
		return zeros[:len(b):len(b)]
	}
	return slices.Clone(b)
}

func (m *image) clone() image { return image{slices.Clone(m.pages), m.size} }

// grow makes the image at least so large.
func (m *image) grow(size int64) {
	if m.size = max(m.size, size); int((m.size+page-1)/page) > len(m.pages) {
		m.pages = append(m.pages, make([][]byte, int((m.size+page-1)/page)-len(m.pages))...)
	}
}

// write puts b, which nobody changes any more, at a position.
func (m *image) write(b []byte, at int64) {
	m.grow(at + int64(len(b)))
	for len(b) > 0 {
		i, in := at/page, at%page
		n := min(len(b), int(page-in))
		switch {
		case &b[0] == &zeros[0] && n == page:
			m.pages[i] = nil
			b, at = b[n:], at+page
			if len(b) > 0 {
				b = zeros[:len(b):len(b)]
			}
			continue
		case n == page:
			m.pages[i] = b[:page:page]
		default:
			copy(m.own(i)[in:], b[:n])
		}
		b, at = b[n:], at+int64(n)
	}
}

// own returns page i as one that may be changed, which it must not be later.
func (m *image) own(i int64) []byte {
	p := make([]byte, page)
	copy(p, m.pages[i])
	m.pages[i] = p
	return p
}

// take copies from another image the pages that hold [from, to).
func (m *image) take(other *image, from, to int64) {
	m.grow(to)
	for i := from / page; i*page < to; i++ {
		m.pages[i] = other.pages[i]
	}
}

// read copies what there is at a position, and returns how much.
func (m *image) read(b []byte, at int64) (n int) {
	b = b[:max(0, min(int64(len(b)), m.size-at))]
	for n < len(b) {
		i, in := (at+int64(n))/page, (at+int64(n))%page
		end := min(len(b), n+int(page-in))
		if p := m.pages[i]; p != nil {
			copy(b[n:end], p[in:])
		} else {
			clear(b[n:end])
		}
		n = end
	}
	return n
}

// cut makes the image that small.
func (m *image) cut(size int64) {
	m.size = size
	m.pages = m.pages[:(size+page-1)/page]
	if size%page != 0 {
		clear(m.own(size / page)[size%page:])
	}
}

// tear does some sectors of a write. With garble, what it does may come out
// wrong, with the rest of the sector or of the page.
func (m *image) tear(w *write, garble bool, rng *rand.Rand) {
	for at := w.at; at < w.end(); {
		i := at / page
		end := min(w.end(), (i+1)*page)
		var mine []byte
		for done := rng.Uint64(); at < end; done >>= 1 {
			next := min(end, at/sector*sector+sector)
			if done&1 != 0 {
				m.grow(next)
				if mine == nil {
					mine = m.own(i)
				}
				copy(mine[at%page:], w.data[at-w.at:next-w.at])
				if garble && rng.IntN(8) == 0 {
					garblePart(mine, at%page, rng)
				}
			}
			at = next
		}
	}
}

// garblePart damages the sector at a position of a page, or all of the page.
func garblePart(b []byte, at int64, rng *rand.Rand) {
	if rng.IntN(2) == 0 {
		b = b[at/sector*sector:][:sector]
	}
	if rng.IntN(2) == 0 {
		b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		return
	}
	for i := 0; i < len(b); i += 8 {
		binary.NativeEndian.PutUint64(b[i:], rng.Uint64())
	}
}
