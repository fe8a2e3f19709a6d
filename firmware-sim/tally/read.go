package tally

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// A history takes the lines of a ledger, in order.
type history interface {
	// declare names the next device; they are numbered from 0.
	declare(name string)
	// event is what happened to device n.
	event(n int, e device.Event) error
}

// read passes the whole lines of a ledger on to h and returns their length in
// bytes. The end of the last whole line is where writing goes on.
func read(r io.Reader, h history) (whole int64, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	names := map[string]bool{}
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return whole, nil // line has no end: it was not finished
		case err != nil:
			return whole, fmt.Errorf("line %d: %w", number, err)
		case number == 1:
			if string(line) != versionLine {
				return 0, fmt.Errorf("it begins with %.40q instead of %q: another file, or of another version", line, versionLine)
			}
		default:
			if err := readLine(line[:len(line)-1], names, h); err != nil {
				return whole, fmt.Errorf("line %d, %.80q: %w", number, line, err)
			}
		}
		whole += int64(len(line))
	}
}

// lineNumbers says how many numbers follow the letter of a line.
var lineNumbers = map[byte]int{'d': 1, 'n': 2, 's': 6, 'a': 2, 'c': 2, 'x': 2, 'f': 1}

var errLine = errors.New("not a line of a ledger")

func readLine(line []byte, names map[string]bool, h history) error {
	if len(line) < 2 {
		return errLine
	}
	want, known := lineNumbers[line[0]]
	if !known {
		return errLine
	}
	var n [6]uint64
	rest := line[1:]
	for i := range want {
		var ok bool
		if n[i], rest, ok = readNumber(rest); !ok {
			return errLine
		}
	}
	if line[0] == 'd' {
		name := string(bytes.TrimPrefix(rest, []byte(" ")))
		if n[0] != uint64(len(names)) || len(rest) < 2 || !device.ValidID(name) || names[name] {
			return errLine
		}
		names[name] = true
		h.declare(name)
		return nil
	}
	if len(rest) > 0 || n[0] >= uint64(len(names)) {
		return errLine
	}
	e := device.Event{Seq: n[1]}
	switch line[0] {
	case 'n':
		e = device.Event{Kind: device.NewSession, Session: n[1]}
	case 's':
		if n[2] > 2 || n[4] > 65535 {
			return errLine
		}
		e.Kind, e.QoS, e.Session, e.PacketID, e.Millis = device.Sent, byte(n[2]), n[3], uint16(n[4]), int64(n[5])
	case 'a':
		e.Kind = device.Acked
	case 'c':
		e.Kind = device.Released
	case 'x':
		e.Kind = device.Refused
	case 'f':
		e.Kind = device.Forgotten
	}
	return h.event(int(n[0]), e)
}

// readNumber reads a space and a decimal number.
func readNumber(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != ' ' {
		return 0, nil, false
	}
	at := 1
	for at < len(b) && b[at] >= '0' && b[at] <= '9' {
		if n > (1<<64-10)/10 {
			return 0, nil, false
		}
		n = n*10 + uint64(b[at]-'0')
		at++
	}
	return n, b[at:], at > 1
}
