// Package store is the log of one node: a ring of segments in one directory.
//
// The process that opens it appends to one new ledger; the ledgers of earlier
// processes are there to be read. What arrives while one group is being made
// durable gathers in the next, so that one flush serves everybody who waits.
// Readers follow without polling. A segment is used again only when every
// record in it is in Kafka.
package store

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// Options of a log. The zero value of a field means its default.
type Options struct {
	SegmentBytes int64         // default 12 MiB; at least segment.MinBytes, a multiple of 4 KiB
	MaxBytes     int64         // of all segments together; default 4 segments, which is also the least
	MaxAge       time.Duration // forwarded segments older than this are freed; 0 keeps them while there is room
	Window       time.Duration // how long a group waits for company; ends early at 64 KiB
	Compress     bool          // zstd-1, where it saves a page
	DropOldest   bool          // a full log drops its oldest segment, and remembers what was in it; or else it refuses
	AlarmReserve int64         // bytes of MaxBytes that are kept for records with Alarm; default 0
	CopyReserve  int64         // bytes of MaxBytes that copies leave to own records; default 0

	// Opening is appended before the first record of each ledger, if not nil.
	Opening *record.Record

	Clock clock.Source // default: the time of day, trusted
}

const (
	maxGroupBytes = 1 << 20  // a group of several records is closed before it grows beyond this
	maxRecordSize = 3 << 20  // the largest MQTT packet, its client id as key and header, longer property names
	windowBytes   = 64 << 10 // a group this large does not wait for company
	minSegments   = 4
	maxSpans      = 256 // a start seals a segment with so many ledgers: its footer has room for few more
)

// ErrFailed says that writes or flushes have failed: nothing is accepted or
// acknowledged any more by this process, and what was acknowledged is safe (D2).
var ErrFailed = errors.New("the log has failed and takes no more records; what was acknowledged is as safe as its files: as long as they can be read it is forwarded")

// ErrLedgerEnded comes with the records that were under way when a write or
// flush failed: they are not acknowledged and not kept. The log takes records
// again, in a new ledger (D2).
var ErrLedgerEnded = errors.New("a write to the disk failed: the record is not kept; what is sent again is")

// ErrClosed says that the log was told to stop.
var ErrClosed = errors.New("the log is closed")

// ErrTrimmed says that records were asked for that are in Kafka and no longer here.
var ErrTrimmed = errors.New("records are in Kafka and no longer in the log")

// A FullError says that every segment holds records that are not in Kafka yet.
// Nothing was appended and nothing is lost.
type FullError struct{ MaxBytes int64 }

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("the log is full: all of its %d MiB hold records that are not in Kafka yet", e.MaxBytes>>20)
}

// Full marks the error for consumers that do not import this package.
func (e *FullError) Full() bool { return true }

// TooLargeError says that one record is larger than a group may be.
type TooLargeError struct{ Bytes, Limit int }

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("record of %d bytes is larger than a group may be (%d bytes); it was not appended", e.Bytes, e.Limit)
}

// Log is an open log. Append, Reader and the questions may be called from many
// goroutines at once, from Open on; nothing becomes durable before Run runs.
type Log struct {
	fs  disk.FS
	opt Options

	maxGroup  int // bytes: maxGroupBytes, or what a small segment can take
	maxRecord int // bytes: of one record, so that a group can take it and the opening record

	wake     chan struct{} // one slot: there is something to commit
	company  chan struct{} // one slot: the gathering group need not wait longer
	consumed chan struct{} // one slot: the ring should look whether it has work
	short    chan struct{} // one slot: the packer should look whether it has work
	prepared chan *segment.Segment
	probes   chan struct{} // the committer takes what Probe sends
	ended    chan struct{} // closed when Run has returned

	w      writer     // touched by Run's committer alone, after Open
	making sync.Mutex // held by whoever prepares a segment; before mu

	mu        sync.Mutex // guards what follows
	changed   *sync.Cond // room, fullness, failure: those who wait in Append
	gather    *group.Builder
	idle      *group.Builder
	tickets   []tributary.Ticket
	spareTix  []tributary.Ticket
	ledger    tributary.LedgerID // the live one; another after a failure
	next      tributary.LSN      // of the next record
	offsets   map[partition]*int64
	lastPart  partition // the partition of the latest record, and its counter
	lastOff   *int64
	expected  int                         // the group need not wait once it has this many records; 0: no such number
	hurry     bool                        // the group has an urgent record
	left      int64                       // bytes of the current segment that no group has claimed
	more      int64                       // bytes of segments that could be had after the spare one, when the ring last looked
	spare     bool                        // a prepared segment waits
	full      bool                        // no spare, and none can be had until more is forwarded
	packing   bool                        // segments are being packed, and room may come of it
	packings  int                         // how often that has ended
	copies    []copying                   // those that wait to be made durable,
	copyBytes int64                       // and how long they are
	copiesIn  uint64                      // that were ever given,
	copiesOut uint64                      // and those that are durable, or failed
	ends      map[tributary.LedgerID]end  // of the copies, with those
	healing   map[healing]bool            // those among them that fill holes
	wrote     map[tributary.LedgerID]bool // ledgers of this node: those that were here at Open, and, true, those of this process
	disowned  map[tributary.LedgerID]bool // those that another node has added to
	closed    bool
	failed    error // not nil after the last failure, for good (D2)

	clock   *clock.Clock
	reading clock.Reading // at the start of the gathering group, whose records it times
	read    time.Time     // when that was, for the time since
	boots   map[[16]byte]int64

	lastSeq    uint64 // the highest segment number ever given
	segs       []*seg // oldest first
	gaps       gaps
	holes      []Hole  // that readers have found in spans
	packedUsed int64   // bytes of packed segments that are not empty
	packRatio  float64 // what becomes of a segment that is packed; 0: not known yet
	free       []string
	spoiled    map[string]bool // free files that could not be written to
	borrowed   int             // files that the packer writes
	durable    tributary.LSN   // next of the live ledger's last durable group
	forwarded  map[tributary.LedgerID]tributary.LSN
	tail       chan struct{} // closed at the next commit; nil when nobody waits
	committed  CommitFunc
	stats      Stats
	flushes    spread // how long those of commits took
	commits    spread // how long records waited for theirs, at most
}

// A CommitFunc is told of a group: tickets[i] came with record base+i of the
// ledger. The slice is only valid during the call.
type CommitFunc func(ledger tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error)

type partition struct {
	stream string
	number int32
}

// seg is one segment that holds records. The summary of the last one grows.
type seg struct {
	name   string
	sum    segment.Summary
	bytes  int64 // of its file
	sealed bool  // the committer is done with it
	packed bool
	pinned bool // the packer reads it
	dense  bool // packing it would gain nothing, or cannot be done
	bad    bool // a write to it failed: it is never written again (D2)
	opaque bool // a part of it could not be read: its file stays as it is
}

// writer is what the committer owns.
type writer struct {
	cur    *segment.Segment // nil before the first group of an empty log, and after a failure
	seg    *seg             // cur's place in Log.segs
	retire bool             // the group taken starts a new segment
	commit uint64           // of the last commit
	number uint64           // of the next group in the ledger
	chain  uint64
	millis int64 // of the last group
	enc    *zstd.Encoder
	out    []byte // a commit that has copies
	pace   pace
}

// Stats are counts since Open, and sizes now.
type Stats struct {
	Records, Groups int64 // of the live ledger
	PayloadBytes    int64 // of records as encoded
	CopiedRecords   int64 // of other ledgers
	CopiedBytes     int64 // given to the device for those, padding included
	WrittenBytes    int64 // given to the device by commits, padding included
	Flushes         int64 // by commits
	RefusedFull     int64
	Refusing        bool   // there is no room for ordinary records
	RefusingAlarms  bool   // nor for alarms: their reserve is full too
	NoSegment       string // why a segment could not be prepared; "" when it was, or the log is full
	DiskError       string // the last error of the disk that ended nothing
	LedgerEnded     string // why this process had to begin another ledger; "" when it had not
	UsedBytes       int64  // segments that hold records
	FreeBytes       int64  // what may still be used, of MaxBytes
	MaxBytes        int64
	UnpackedBytes   int64         // of sealed segments not in Kafka, those that could be packed
	RoomBytes       int64         // what commits can still write before the log is full, with all packed that can be; near enough
	PackedFrom      int64         // bytes of segments that were packed,
	PackedTo        int64         // and what became of them
	DroppedRecords  int64         // by the policy to drop the oldest
	UntoldRecords   int64         // dropped, by this process or earlier ones, of which Kafka does not know yet
	FlushMean       time.Duration // moving
	FlushMax        time.Duration

	// Of the last half minute to minute, 0 if nothing was written: what half of all and
	// 99 in 100 did not exceed. CommitP50 and CommitP99 are from the first record of a
	// group to when the group is durable here: the longest that any of it has waited.
	FlushP50, FlushP99   time.Duration
	CommitP50, CommitP99 time.Duration
}

// Ledger returns the id of the ledger that this process appends to.
// After a failed write that is another one (D2).
func (l *Log) Ledger() tributary.LedgerID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger
}

// OnCommit sets the function that is told of every group, in the order of the
// ledgers and LSNs, from one goroutine: after the group is durable (D1), or with
// an error if it will never be. Call OnCommit before Run.
func (l *Log) OnCommit(f CommitFunc) { l.committed = f }

// Append gives r the next LSN of the live ledger and returns before r is
// durable: t is handed to the OnCommit function when it is. Append keeps
// nothing of r. It waits while a whole group is pending. Errors: *FullError,
// *TooLargeError: nothing was appended, later appends may succeed; ErrClosed
// and what wraps ErrFailed: nothing will be appended any more.
func (l *Log) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	size := group.MaxBytes(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(tributary.LedgerID{}, r, t, size)
}

// AppendAll is Append for each of rs with its place in ts, in order, to one ledger, and
// costs less. That is the ledger named, or the live one if none is; it returns which,
// and how many it appended. With less than all, the error says why not the next one, and
// it has not tried those behind: besides the errors of Append, what wraps ErrLedgerEnded
// if the ledger is not the live one any more.
func (l *Log) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	var size int
	var reserve int64
	for i := range rs {
		size += group.MaxBytes(&rs[i])
		reserve = max(reserve, l.reserve(&rs[i]))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if to == (tributary.LedgerID{}) {
		to = l.ledger
	}
	if to == l.ledger && l.takes(size, reserve) {
		now := l.begun()
		for i := range rs {
			l.add(&rs[i], ts[i], now)
		}
		return to, len(rs), nil
	}
	for i := range rs {
		if _, err := l.append(to, &rs[i], ts[i], group.MaxBytes(&rs[i])); err != nil {
			return to, i, err
		}
	}
	return to, len(rs), nil
}

// append is Append with mu held, to the ledger named, or to any if none is.
func (l *Log) append(to tributary.LedgerID, r *record.Record, t tributary.Ticket, size int) (tributary.LSN, error) {
	if size > l.maxRecord {
		return 0, &TooLargeError{Bytes: size, Limit: l.maxRecord}
	}
	if err := l.waitForRoom(size, l.reserve(r)); err != nil {
		return 0, err
	}
	if to != l.ledger && to != (tributary.LedgerID{}) {
		return 0, ErrLedgerEnded
	}
	if l.next == 0 && l.opt.Opening != nil {
		l.add(l.opt.Opening, tributary.Ticket{}, l.begun())
	}
	return l.add(r, t, l.begun()), nil
}

// reserve returns how much room must be left behind r.
func (l *Log) reserve(r *record.Record) int64 {
	control := l.controlReserve()
	switch {
	case r.Stream == "" && len(r.Headers) == 0:
		return 0 // a control record: a full log still lets devices finish what it has taken
	case r.Alarm, l.opt.DropOldest: // room comes from what is dropped, so nothing is kept back
		return control
	default:
		return control + l.opt.AlarmReserve
	}
}

// controlReserve is what is kept for control records.
func (l *Log) controlReserve() int64 { return l.opt.SegmentBytes / 16 }

// begun makes the gathering group one that has begun, and returns the time for its
// next records.
func (l *Log) begun() (millis int64) {
	if l.gather.Count() == 0 {
		l.gather.Reset(l.next)
		l.reading, l.read = l.clock.Look(), time.Now()
		return l.reading.Millis
	}
	return l.reading.Millis + time.Since(l.read).Milliseconds()
}

// add puts r into the gathering group, which has begun and has room for it. now is
// the time for it if it has none.
func (l *Log) add(r *record.Record, t tributary.Ticket, now int64) tributary.LSN {
	if l.lastOff == nil || l.lastPart.number != r.Partition || l.lastPart.stream != r.Stream {
		l.lastPart = partition{r.Stream, r.Partition}
		l.lastOff = l.offsets[l.lastPart]
		if l.lastOff == nil {
			l.lastOff = new(int64)
			l.offsets[l.lastPart] = l.lastOff
		}
	}
	l.gather.Add(r, cmp.Or(r.Millis, now), *l.lastOff)
	*l.lastOff++
	l.tickets = append(l.tickets, t)
	lsn := l.next
	l.next++
	n := l.gather.Count()
	if n == 1 {
		signal(l.wake)
	}
	if l.hurry = l.hurry || r.Urgent; l.hurry || n == l.expected || l.gather.Bytes() >= windowBytes {
		signal(l.company)
	}
	return lsn
}

// takes says whether the gathering group takes records of at most size bytes
// together, as they are, and leaves reserve bytes behind them.
func (l *Log) takes(size int, reserve int64) bool {
	grown := l.gather.Bytes() + size
	rest, fits := l.behind(int64(group.PaddedBytes(grown)))
	opened := l.next > 0 || l.opt.Opening == nil
	return fits && rest >= reserve && grown <= l.maxGroup && size <= l.maxRecord && opened && !l.closed && l.failed == nil
}

// waitForRoom returns nil when a record of at most size bytes fits into the
// gathering group and the group into a segment that is there, with reserve
// bytes to spare in all that the log may still use. "Full" is known here, before
// anything is written, and has one meaning: no segment is left.
func (l *Log) waitForRoom(size int, reserve int64) error {
	if l.opt.Opening != nil && l.next == 0 {
		size += group.MaxBytes(l.opt.Opening)
	}
	for {
		grown := l.gather.Bytes() + size
		rest, fits := l.behind(int64(group.PaddedBytes(grown)))
		switch {
		case l.failed != nil:
			return l.failed
		case l.closed:
			return ErrClosed
		case l.gather.Count() > 0 && grown > l.maxGroup:
			l.changed.Wait() // the committer is busy with the group before
		case fits && rest >= reserve:
			return nil
		case (l.full || fits && l.spare) && !l.packing: // the ring has looked, and there is no more
			l.stats.RefusedFull++
			l.stats.Refusing = true
			return &FullError{MaxBytes: l.opt.MaxBytes}
		default:
			l.changed.Wait() // a segment is being prepared
		}
	}
}

// behind returns how much room is left behind a group of so many bytes, in all
// segments that can be had; fits is false if there is none for the group itself.
func (l *Log) behind(bytes int64) (rest int64, fits bool) {
	switch {
	case bytes <= l.left && l.spare:
		return l.left - bytes + l.capacity() + l.more, true
	case bytes <= l.left:
		return l.left - bytes + l.more, true
	case l.spare:
		return l.capacity() - bytes + l.more, true
	default:
		return 0, false
	}
}

// capacity returns how many bytes of groups a segment takes.
func (l *Log) capacity() int64 {
	return l.opt.SegmentBytes - segment.HeaderBytes - segment.FooterBytes
}

// Next returns the LSN that the next record will get.
func (l *Log) Next() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Durable returns the LSN below which every record of the live ledger is durable.
func (l *Log) Durable() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Err returns what ended the log, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
