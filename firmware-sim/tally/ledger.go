// Package tally counts to zero: it keeps a ledger of what simulated devices
// sent and what was acknowledged to them, and compares it with what arrived.
//
// The ledger is a text file that only grows. What a device sends is in the
// file before it is on a socket, so that no crash of the simulator can hide a
// transmission; docs of the lines are at [Ledger].
package tally

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// versionLine is the first line of a ledger.
const versionLine = "firmware-sim ledger 1\n"

// ErrInUse means that a simulator writes to the ledger at this moment.
var ErrInUse = errors.New("a simulator is running with this ledger")

// A Ledger is the file a fleet writes. It implements device.Recorder, and its
// methods may be called at once. After its version line each line is one of
//
//	d DEVICE NAME                        the name behind a number, from 0
//	n DEVICE SESSION                     device.NewSession
//	s DEVICE SEQ QOS SESSION ID MILLIS   device.Sent
//	a DEVICE SEQ                         device.Acked
//	c DEVICE SEQ                         device.Released
//	x DEVICE SEQ                         device.Refused
//	f DEVICE                             device.Forgotten
//
// A last line without its end was never reported as written, and is dropped.
type Ledger struct {
	file *os.File

	mu      sync.Mutex // guards what follows
	numbers map[string]int
	states  []device.State // as the file was when it was opened
	buf     []byte
	failed  error
}

// Open opens a ledger, or makes a new one, and drops a last line that was not
// finished. It returns ErrInUse when another process, or another Ledger of
// this one, has it open.
func Open(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l, err := open(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	return l, nil
}

func open(file *os.File) (*Ledger, error) {
	if err := lock(file, true); err != nil {
		return nil, err
	}
	p := progress{}
	whole, err := read(file, &p)
	if err != nil {
		return nil, err
	}
	l := &Ledger{file: file, numbers: map[string]int{}, states: p.states}
	for n, name := range p.names {
		l.numbers[name] = n
	}
	if whole == 0 {
		l.buf = append(l.buf, versionLine...)
	}
	if err := file.Truncate(whole); err != nil {
		return nil, err
	}
	if _, err := file.Seek(whole, io.SeekStart); err != nil {
		return nil, err
	}
	return l, nil
}

// Resume returns the state in which the ledger, as it was opened, left a device.
func (l *Ledger) Resume(name string) device.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, known := l.numbers[name]; known && n < len(l.states) {
		return l.states[n]
	}
	return device.State{Discard: true}
}

// Record adds a line. It is in the file after the next Flush.
func (l *Ledger) Record(name string, e device.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, known := l.numbers[name]
	if !known {
		n = len(l.numbers)
		l.numbers[name] = n
		l.line('d', uint64(n))
		l.buf = append(append(append(l.buf[:len(l.buf)-1], ' '), name...), '\n')
	}
	switch e.Kind {
	case device.NewSession:
		l.line('n', uint64(n), e.Session)
	case device.Sent:
		l.line('s', uint64(n), e.Seq, uint64(e.QoS), e.Session, uint64(e.PacketID), uint64(e.Millis))
	case device.Acked:
		l.line('a', uint64(n), e.Seq)
	case device.Released:
		l.line('c', uint64(n), e.Seq)
	case device.Refused:
		l.line('x', uint64(n), e.Seq)
	case device.Forgotten:
		l.line('f', uint64(n))
	default:
		panic(fmt.Sprintf("tally: event of kind %d", e.Kind))
	}
}

func (l *Ledger) line(kind byte, numbers ...uint64) {
	l.buf = append(l.buf, kind)
	for _, n := range numbers {
		l.buf = strconv.AppendUint(append(l.buf, ' '), n, 10)
	}
	l.buf = append(l.buf, '\n')
}

// Flush hands all lines to the operating system: they survive the end of this
// process, though not of the machine. After a failure it fails for ever.
func (l *Ledger) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

func (l *Ledger) flush() error {
	if l.failed != nil || len(l.buf) == 0 {
		return l.failed
	}
	if _, err := l.file.Write(l.buf); err != nil {
		l.failed = fmt.Errorf("write ledger: %w", err)
	}
	l.buf = l.buf[:0]
	return l.failed
}

// Close flushes and closes the file. No other method may be called after it.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.flush(), l.file.Close())
}
