package ingest

import (
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary/ingest/gate"
	"github.com/tributary-edge/tributary/ingest/packet"
)

const (
	readBytes       = 16 << 10 // read at once
	firstBytes      = 1 << 10  // the same, before the CONNECT: ten thousand may come at once
	idleBytes       = 2 << 10  // what a connection holds while it waits, where it must hold something
	maxConnectBytes = 64 << 10 // a CONNECT, from somebody not known yet
)

// readBuffers are for connections that have something to read: one that waits
// holds none.
//
//nolint:gochecknoglobals // a pool is global by nature
var readBuffers = sync.Pool{New: func() any { return new([readBytes]byte) }}

// firstBuffers are the same, before the CONNECT.
//
//nolint:gochecknoglobals // a pool is global by nature
var firstBuffers = sync.Pool{New: func() any { return new([firstBytes]byte) }}

// An input cuts what comes from a socket into packets. It is for one goroutine.
type input struct {
	nc    net.Conn
	max   int    // bytes of the largest packet
	known bool   // the CONNECT has been read
	buf   []byte // buf[at:] is read and not taken; nil while nothing is
	at    int

	raw    syscall.RawConn            // nil: nc is not a plain socket
	pooled *[readBytes]byte           // what buf is of; nil: not of this pool
	first  *[firstBytes]byte          // the same
	enter  func() (gate.Place, error) // waits for a place to read and check the CONNECT; see endTurn
	place  gate.Place
	room   *room // for packets that are not whole yet
	held   int   // bytes taken from room
	try    func(fd uintptr) bool
	n      int // what try has read
	err    error
}

func newInput(nc net.Conn, r *room, enter func() (gate.Place, error)) *input {
	in := &input{nc: nc, max: maxConnectBytes, room: r, enter: enter}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			in.raw, in.try = raw, in.tryRead
		}
	}
	return in
}

// errNoRoom ends a connection with a large packet when there are too many of them.
var errNoRoom = &packet.Error{Code: packet.CodeQuotaExceeded, What: "too many large packets are on their way to this node; it has no memory for another"}

// boundary says whether nothing of the next packet is here.
func (in *input) boundary() bool { return in.at == len(in.buf) }

// next returns the next packet if it is here, good until the next call of fill;
// nil when it is not, and fill is due. An error is *packet.Error.
func (in *input) next() ([]byte, error) {
	have := in.buf[in.at:]
	if len(have) == 0 {
		return nil, nil
	}
	_, size, err := packet.Header(have)
	switch {
	case err != nil:
		return nil, err
	case size > in.max:
		return nil, errPacketTooLarge
	case size == 0 || size > len(have):
		return nil, nil
	}
	in.at += size
	return have[:size:size], nil
}

// fill waits until there is more to read, and reads some of it.
func (in *input) fill() error {
	if err := in.makeRoom(); err != nil {
		return err
	}
	if in.raw == nil {
		n, err := in.nc.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+n]
		if n > 0 {
			return nil
		}
		return err
	}
	in.n, in.err = 0, nil
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	switch {
	case in.err != nil:
		return in.err
	case in.n == 0:
		return io.EOF
	}
	in.buf = in.buf[:len(in.buf)+in.n]
	return nil
}

// tryRead reads without waiting. When there is nothing to read, a buffer from
// the pool goes back before the wait.
func (in *input) tryRead(fd uintptr) bool {
	if !in.known && !in.place.Taken() {
		if in.place, in.err = in.enter(); in.err != nil {
			return true
		}
	}
	switch {
	case in.buf != nil:
	case !in.known:
		in.first = firstBuffers.Get().(*[firstBytes]byte)
		in.buf = in.first[:0]
	default:
		in.pooled = readBuffers.Get().(*[readBytes]byte)
		in.buf = in.pooled[:0]
	}
	for {
		n, err := unix.Read(int(fd), in.buf[len(in.buf):cap(in.buf)])
		switch err {
		case nil:
			in.n = n
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			in.rest()
			in.endTurn()
			return false
		default:
			in.err = err
		}
		return true
	}
}

// endTurn lets the next newcomer go on. When ten thousand connect at once, all but a
// few wait for their turn, holding nothing: in the queue for a processor they would
// be in the way of those who accept, and of the messages of those who are connected.
// Whoever has the turn calls this before it waits for anything.
func (in *input) endTurn() { in.place.Leave() }

// rest is called before a wait: nobody holds a large buffer for a few bytes.
func (in *input) rest() {
	switch have := in.buf[in.at:]; {
	case len(have) == 0:
		in.release()
	case in.pooled != nil && len(have) <= idleBytes/2:
		own := append(make([]byte, 0, idleBytes), have...)
		in.release()
		in.buf = own
	}
}

// release gives the buffer back. Nothing of it is needed any more.
func (in *input) release() {
	in.endTurn()
	if in.pooled != nil {
		readBuffers.Put(in.pooled)
	}
	if in.first != nil {
		firstBuffers.Put(in.first)
	}
	in.room.give(in.held)
	in.buf, in.pooled, in.first, in.at, in.held = nil, nil, nil, 0, 0
}

// makeRoom sees to it that there is room behind what was not taken. The buffer
// grows with what has come, not with what a header announces.
func (in *input) makeRoom() error {
	rest := in.buf[in.at:]
	switch {
	case len(rest) == 0 && in.raw != nil:
		if cap(in.buf) > 0 && in.pooled == nil {
			in.release() // it had grown for one large packet, or was for the first
		}
		if in.buf != nil {
			in.buf, in.at = in.buf[:0], 0
		}
	case len(rest) == 0:
		if in.buf == nil || cap(in.buf) > readBytes {
			in.release()
			in.buf = make([]byte, 0, idleBytes)
		} else if len(in.buf) == cap(in.buf) && cap(in.buf) < readBytes {
			in.buf = make([]byte, 0, readBytes) // it sends more than that at once
		}
		in.buf, in.at = in.buf[:0], 0
	case in.at > 0:
		in.buf = in.buf[:copy(in.buf[:cap(in.buf)], rest)]
		in.at = 0
	case len(in.buf) == cap(in.buf):
		return in.grow()
	}
	return nil
}

// grow makes the buffer larger for a packet that is larger than it.
func (in *input) grow() error {
	size := min(2*cap(in.buf), in.max+5)
	held := 0
	if size > readBytes {
		held = size
	}
	if !in.room.take(held - in.held) {
		return errNoRoom
	}
	grown := append(make([]byte, 0, size), in.buf...)
	in.held = 0 // what it held is a part of held
	in.release()
	in.buf, in.held = grown, held
	return nil
}

// A room is memory that all connections share, for packets larger than readBytes
// that are not whole yet. There is little of it on a small machine; without it,
// clients that send all of a large packet but its end could use up all that there
// is. Those who send small packets need none of it.
type room struct{ left atomic.Int64 }

const (
	minRoomBytes = 8 << 20
	maxRoomBytes = 256 << 20
)

// newRoom returns an eighth of what the memory limit of this process is.
func newRoom() *room {
	r := &room{}
	r.left.Store(min(max(debug.SetMemoryLimit(-1)/8, minRoomBytes), maxRoomBytes))
	return r
}

// take takes n bytes, or none and returns false.
func (r *room) take(n int) bool {
	if r.left.Add(int64(-n)) >= 0 || n <= 0 {
		return true
	}
	r.left.Add(int64(n))
	return false
}

func (r *room) give(n int) { r.left.Add(int64(n)) }
