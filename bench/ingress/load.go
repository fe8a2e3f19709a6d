package main

import (
	"fmt"
	"strings"

	pressure "github.com/tributary-edge/tributary/bench/load"
)

const payloadBytes = 256

// What -loads takes beside loads.
const (
	idle   = "idle"   // memory per idle connection
	fanout = "fanout" // what a live subscriber costs
	stall  = "stall"  // what a subscriber costs that does not read
)

// allLoads are those of the acceptance of the front door.
var allLoads = []string{idle, "1x1", "1x100", "100x20", "1000x5", "100x20/0", "100x20/2", "100x20/tls", fanout, stall}

// A load is how servers are pressed.
type load struct {
	pressure.Shape

	tls bool
}

// The loads that targets are about.
var (
	slow   = load{Shape: pressure.Shape{Conns: 1, Window: 1, Size: payloadBytes, QoS: 1}}
	one    = load{Shape: pressure.Shape{Conns: 1, Window: 100, Size: payloadBytes, QoS: 1}}
	many   = load{Shape: pressure.Shape{Conns: 100, Window: 20, Size: payloadBytes, QoS: 1}}
	secure = load{Shape: many.Shape, tls: true}
)

// String returns connections x window, and what is special.
func (l load) String() string {
	s := l.Shape.String()
	if l.QoS != 1 {
		s += fmt.Sprintf(" QoS %d", l.QoS)
	}
	if l.tls {
		s += " TLS"
	}
	return s
}

// parseLoad reads 100x20, 100x20/0 or 100x20/tls.
func parseLoad(text string) (load, error) {
	l := load{Shape: pressure.Shape{Size: payloadBytes, QoS: 1}}
	shape, special, _ := strings.Cut(text, "/")
	switch special {
	case "":
	case "0", "2":
		l.QoS = int(special[0] - '0')
	case "tls":
		l.tls = true
	default:
		return load{}, fmt.Errorf("load %q: /%s is not /0, /2 or /tls", text, special)
	}
	conns, window, _ := strings.Cut(shape, "x")
	var rest string
	n, _ := fmt.Sscanf(conns+" "+window+" ", "%d %d%s", &l.Conns, &l.Window, &rest)
	if n != 2 || l.Conns < 1 || l.Conns > 20_000 || l.Window < 1 || l.Window > 65_535 {
		return load{}, fmt.Errorf("load %q is not CONNECTIONSxWINDOW, %q, %q or %q", text, idle, fanout, stall)
	}
	return l, nil
}
