package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/segment"
)

// When Kafka is away and the ring fills, the oldest segments are packed: their
// small groups, padded to pages and compressed each by itself, go together into
// large compressed frames. It costs one more write of what is left of them, and
// makes room for several times the records. Not before it is needed: a segment
// that reaches Kafka in time is used again as it is.

const (
	packShare   = 8 // packing begins when less than an eighth of the log can still be had
	fewToPack   = 2 // segments that are packed at least
	mostToPack  = 64
	fewToMerge  = 4 // segments that a packed one is written again for
	packReserve = 2 // segments that must be there for packing to begin: the spare one, and the one to pack into
)

// keepPacking packs segments until ctx ends.
func (l *Log) keepPacking(ctx context.Context) {
	for {
		select {
		case <-l.short:
			l.estimate()
			for ctx.Err() == nil && l.pack() {
			}
		case <-ctx.Done():
			return
		}
	}
}

// pack packs the oldest segments that are not, if room is getting short, and
// reports whether it did.
func (l *Log) pack() bool {
	sources := l.toPack()
	if sources == nil {
		return false
	}
	p := packing{log: l, sources: sources}
	err := p.run()
	_, onDisk, unknown := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sources {
		s.pinned = false
	}
	switch {
	case err != nil:
		l.stats.DiskError = err.Error()
		sources[0].dense = true // not again and again
	case p.done < fewToPack:
		sources[0].dense = true
	}
	l.packed(onDisk, unknown == nil)
	return err == nil && p.done >= fewToPack
}

// packed ends the wait for the packer. Whether there is room now is for the ring to
// say: what it said before does not count.
func (l *Log) packed(onDisk int64, known bool) {
	l.packing, l.full = false, false
	l.packings++
	if l.spare {
		l.more = int64(l.obtainable(onDisk, known)) * l.capacity()
	}
	l.changed.Broadcast()
	signal(l.consumed)
}

// estimate finds out, once, how much packing would save, from the oldest
// segment: what is said of the room in the log goes by it until one is packed.
func (l *Log) estimate() {
	l.mu.Lock()
	var s *seg
	for _, m := range l.segs {
		if l.packRatio == 0 && m.sealed && !m.packed && !m.bad && !m.dense && !l.recyclable(m) {
			s = m
			s.pinned, l.packing = true, true // it cannot be dropped meanwhile
			break
		}
	}
	l.mu.Unlock()
	if s == nil {
		return
	}
	bytes, err := l.packedBytes(s)
	_, onDisk, unknown := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.pinned = false
	if s.dense = err != nil; err == nil {
		l.packRatio = float64(bytes) / float64(l.opt.SegmentBytes)
	}
	l.packed(onDisk, unknown == nil)
}

// samplePacks is how many packs are made to find out what packing would save: with
// a whole segment of large groups it would be a second of a small processor.
const samplePacks = 2

var errSampled = errors.New("enough was packed to know")

// packedBytes returns how large a segment would be, packed.
func (l *Log) packedBytes(s *seg) (bytes int64, err error) {
	enc, err := newPackEncoder()
	if err != nil {
		return 0, err
	}
	var k group.Packer
	var packs, sampled int64 // sampled: records
	seal := func() {
		out, _, h := k.Seal(enc)
		bytes += int64(len(out))
		sampled += int64(h.Count)
	}
	err = eachGroup(l.fs, s, func(g *group.Group) error {
		added, err := k.Add(g)
		if err != nil || added {
			return err
		}
		seal()
		if packs++; packs == samplePacks {
			return errSampled
		}
		_, err = k.Add(g)
		return err
	})
	if errors.Is(err, errSampled) {
		var all int64
		for _, p := range s.sum.Spans {
			all += int64(p.To - p.From)
		}
		return bytes * all / sampled, nil
	}
	seal()
	return bytes, err
}

func newPackEncoder() (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(group.PackBytes), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return enc, nil
}

// toPack chooses segments and pins them, or returns nil when there is nothing to
// do, or not enough to gain.
func (l *Log) toPack() []*seg {
	_, onDisk, err := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.failed != nil {
		return nil
	}
	have := l.obtainable(onDisk, err == nil)
	if l.spare {
		have++
	}
	if total := int(l.opt.MaxBytes / l.opt.SegmentBytes); have < packReserve || have > max(packReserve, total/packShare) {
		return nil
	}
	sources := l.sources(have <= packReserve)
	if len(sources) < fewToPack {
		return nil
	}
	for _, s := range sources {
		s.pinned = true
	}
	l.packing = true
	return sources
}

// sources returns the oldest segments that can be packed, side by side: so many
// that they fill a packed one, because a file that two of them end in is half a
// file lost. When room is wanted now, whatever there is must do. The packed one before
// them goes along if they fit into what it has left: but not for a few, each of
// which would have it written again, unless room is wanted now.
func (l *Log) sources(now bool) (all []*seg) {
	var before *seg
	enough := l.enoughToPack(now)
	worth := func(n int, before *seg) bool { return n >= enough && (n >= fewToPack || before != nil) }
	for _, s := range l.segs {
		if s.dense || !s.sealed || s.bad || s.opaque || s.packed || l.recyclable(s) {
			if worth(len(all), before) {
				break
			}
			all, before = all[:0], nil
			if s.packed && !s.dense && s.sealed && !s.bad && !s.opaque && !l.recyclable(s) {
				before = s
			}
			continue
		}
		if all = append(all, s); len(all) == mostToPack {
			break
		}
	}
	switch {
	case !worth(len(all), before):
		return nil
	case before == nil || len(all) < fewToMerge && !now:
		return all
	}
	if left := l.opt.SegmentBytes - segment.FooterBytes - before.sum.End; l.packRatio == 0 || float64(left) < 1.25*l.packRatio*float64(l.opt.SegmentBytes) {
		return all
	}
	return slices.Insert(all, 0, before)
}

// enoughToPack returns how many segments side by side are worth packing.
func (l *Log) enoughToPack(now bool) int {
	if now || l.packRatio == 0 {
		return 1
	}
	return min(mostToPack, max(fewToMerge, int(1/l.packRatio)))
}

// A packing turns the first of its sources into one packed segment: as many as
// fit, whole.
type packing struct {
	log     *Log
	sources []*seg
	done    int // how many

	out     *segment.Segment
	name    string
	sum     segment.Summary // of what is in out
	written int64           // the end of what was written to out: a source that did not fit left something
	enc     *zstd.Encoder
	packers map[tributary.LedgerID]*group.Packer
	order   []*group.Packer
}

// run does it all. The packed segment gets its name only when it is whole and
// durable; until then, and for ever if something goes wrong, its file is free,
// and the sources are what counts.
func (p *packing) run() (err error) {
	if err := p.begin(); err != nil || p.out == nil {
		return err
	}
	defer func() { err = p.end(err) }()
	if p.enc, err = newPackEncoder(); err != nil {
		return err
	}
	p.sum = segment.NewSummary()
	p.sum.MinMillis = p.sources[0].sum.MinMillis
	for _, s := range p.sources {
		if p.log.stopping() {
			p.done = 0 // nobody waits for the rest
			break
		}
		before := p.sum.Clone()
		err := p.take(s)
		if errors.Is(err, errNoRoom) || errors.As(err, new(*group.CorruptError)) { // a damaged segment stays as it is
			p.sum = before
			break
		}
		if err != nil {
			return err
		}
		p.done++
	}
	if p.done < fewToPack {
		return nil
	}
	return p.finish()
}

func (l *Log) stopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.failed != nil
}

// end frees the file if it did not become a segment.
func (p *packing) end(err error) error {
	p.log.giveBack()
	if p.done >= fewToPack && err == nil {
		return nil
	}
	if err = errors.Join(err, p.out.File.Close()); err != nil {
		p.log.spoil(p.name)
	}
	p.log.pushFree(p.name)
	return err
}

var errNoRoom = errors.New("the packed segment is full")

// begin makes a file to pack into; out stays nil if there is none.
func (p *packing) begin() error {
	l := p.log
	s, err := l.prepare()
	if s == nil || err != nil {
		return err
	}
	l.mu.Lock()
	l.borrowed++
	l.mu.Unlock()
	p.name, p.packers = segment.Name(s.Seq, false), map[tributary.LedgerID]*group.Packer{}
	first := p.sources[slices.IndexFunc(p.sources, func(s *seg) bool { return !s.packed })]
	seq, _, _ := segment.ParseName(first.name) // no packed segment has this number yet
	p.out, err = segment.StartPacked(s.File, seq, l.opt.SegmentBytes)
	if err != nil {
		p.out = nil
		l.giveBack()
		return l.abandon(s.File, p.name, err)
	}
	return nil
}

// giveBack ends what begin began.
func (l *Log) giveBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.borrowed--
}

// take adds all groups of s to what is packed.
func (p *packing) take(s *seg) error {
	err := eachGroup(p.log.fs, s, func(g *group.Group) error {
		k := p.packers[g.Ledger]
		if k == nil {
			k = &group.Packer{}
			p.packers[g.Ledger] = k
			p.order = append(p.order, k)
		}
		added, err := k.Add(g)
		if err != nil || added {
			return err
		}
		for _, one := range p.order { // a ledger that began earlier stays before this one: that is how their order is known
			if err := p.write(one, s.sum.FirstCommit); err != nil {
				return err
			}
			if one == k {
				break
			}
		}
		_, err = k.Add(g)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range p.order {
		if err := p.write(k, s.sum.FirstCommit); err != nil {
			return err
		}
	}
	clear(p.packers)
	p.order = p.order[:0]
	if p.done == 0 {
		p.sum.FirstCommit = s.sum.FirstCommit
	}
	p.sum.LastCommit, p.sum.Trusted = s.sum.LastCommit, s.sum.Trusted
	for _, c := range s.sum.Clocks {
		p.sum.Learn(c)
	}
	return nil
}

// write appends the pack that k has gathered to the packed segment.
func (p *packing) write(k *group.Packer, commit uint64) error {
	out, f, h := k.Seal(p.enc)
	if out == nil {
		return nil
	}
	if p.sum.End+int64(len(out)) > p.out.End() {
		return errNoRoom
	}
	f.Segment, f.Salt, f.Commit = p.out.Seq, p.out.Salt, commit
	f.Encode(out)
	if _, err := p.out.File.WriteAt(out, p.sum.End); err != nil {
		return fmt.Errorf("write packed segment: %w", err)
	}
	p.sum.Add(&f, &h)
	p.written = max(p.written, p.sum.End)
	return nil
}

// finish makes the packed segment durable and puts it in the place of its
// sources, whose files are free from then on.
func (p *packing) finish() error {
	if rest := p.written - p.sum.End; rest > 0 { // if the header is lost, it would speak for a source that is not in here
		if _, err := p.out.File.WriteAt(make([]byte, rest), p.sum.End); err != nil {
			return fmt.Errorf("write packed segment: %w", err)
		}
	}
	if err := p.out.Finish(&p.sum); err != nil {
		return err
	}
	l := p.log
	name := segment.Name(p.out.Seq, true)
	err := l.fs.Rename(p.name, name)
	if err == nil {
		p.name = name
		err = l.fs.Sync()
	}
	if err != nil { // the name may be there all the same, and would count once the sources are used again
		if undone := l.fs.Remove(name); !errors.Is(undone, fs.ErrNotExist) {
			err = errors.Join(err, undone)
		}
		return fmt.Errorf("rename packed segment: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := 0
	for l.segs[at] != p.sources[0] {
		at++
	}
	for _, s := range p.sources[:p.done] {
		l.free = append(l.free, s.name)
	}
	l.countPacked(p)
	rest := l.segs[at+p.done:]
	l.segs = append(append(l.segs[:at:at], &seg{name: name, sum: p.sum, bytes: l.opt.SegmentBytes, sealed: true, packed: true}), rest...)
	_ = p.out.File.Close() // all of it is durable
	return nil
}

// countPacked notes what p has saved.
func (l *Log) countPacked(p *packing) {
	used, made, of := p.sum.End, int64(1), int64(0) // of plain segments
	for _, s := range p.sources[:p.done] {
		if s.packed {
			used, made = used-s.sum.End, made-1
		} else {
			of++
		}
	}
	l.stats.PackedFrom += of * l.opt.SegmentBytes
	l.stats.PackedTo += made * l.opt.SegmentBytes
	l.packedUsed += used
	l.packRatio = float64(l.packedUsed) / float64(l.stats.PackedFrom)
}
