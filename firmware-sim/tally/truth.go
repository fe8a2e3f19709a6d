package tally

import (
	"fmt"
	"os"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// A Truth is what a ledger says in the end about every message.
type Truth struct {
	names    map[string]int
	messages [][]sending // by device and sequence number, from 1
}

// sending is what a device knows of one message.
type sending struct {
	transmissions uint32
	sessions      uint16 // in how many it was transmitted
	last          uint16 // the lowest bits of the last of them
	qos           byte
	acked         bool
	refused       bool // at least once
}

// Load reads a ledger that no simulator is writing: otherwise it returns
// ErrInUse, since what is under way would look lost. A last line without its
// end is ignored.
func Load(path string) (*Truth, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := lock(file, false); err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	t := &Truth{names: map[string]int{}}
	if _, err := read(file, t); err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	return t, nil
}

func (t *Truth) declare(name string) {
	t.names[name] = len(t.messages)
	t.messages = append(t.messages, nil)
}

func (t *Truth) event(n int, e device.Event) error {
	switch e.Kind {
	case device.NewSession, device.Forgotten, device.Released:
		return nil
	case device.Sent, device.Acked, device.Refused:
	}
	known := uint64(len(t.messages[n]))
	if e.Kind == device.Sent && e.Seq == known+1 {
		t.messages[n] = append(t.messages[n], sending{qos: e.QoS})
		known++
	}
	if e.Seq == 0 || e.Seq > known {
		return fmt.Errorf("message %d was never sent: %w", e.Seq, errHistory)
	}
	m := &t.messages[n][e.Seq-1]
	switch e.Kind {
	case device.Sent:
		m.transmissions++
		if m.sessions == 0 || m.last != uint16(e.Session) {
			m.sessions++
			m.last = uint16(e.Session)
		}
	case device.Acked:
		m.acked = true
	case device.Refused:
		m.refused = true
	case device.NewSession, device.Forgotten, device.Released:
	}
	return nil
}

// Acked says whether a message was acknowledged.
func (t *Truth) Acked(name string, seq uint64) bool {
	m, _ := t.find(name, seq)
	return m != nil && m.acked
}

// find returns a message, or nil if it was never sent, and the number of the
// device, or -1.
func (t *Truth) find(name string, seq uint64) (*sending, int) {
	n, known := t.names[name]
	if !known {
		return nil, -1
	}
	if seq == 0 || seq > uint64(len(t.messages[n])) {
		return nil, n
	}
	return &t.messages[n][seq-1], n
}
