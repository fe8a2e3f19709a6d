package tally

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// progress is the history that a fleet goes on from: the state of each device.
type progress struct {
	names  []string
	states []device.State
}

var errHistory = errors.New("it does not follow from the lines before")

func (p *progress) declare(name string) {
	p.names = append(p.names, name)
	p.states = append(p.states, device.State{Discard: true})
}

func (p *progress) event(n int, e device.Event) error {
	st := &p.states[n]
	switch e.Kind {
	case device.NewSession:
		st.Session, st.Discard = e.Session, false
		st.Flights = slices.DeleteFunc(st.Flights, func(f device.Flight) bool { return f.Acked })
		return nil
	case device.Forgotten:
		st.Flights, st.Discard = nil, true
		return nil
	case device.Sent:
		if e.Session != st.Session || e.Seq > st.LastSeq+1 {
			return errHistory
		}
	case device.Acked, device.Released, device.Refused:
	}
	if e.Kind == device.Sent && e.Seq == st.LastSeq+1 {
		st.LastSeq++
		if e.QoS > 0 {
			st.Flights = append(st.Flights, flightOf(e))
		}
		return nil
	}
	at := slices.IndexFunc(st.Flights, func(f device.Flight) bool { return f.Seq == e.Seq })
	if at < 0 {
		return fmt.Errorf("message %d is not under way: %w", e.Seq, errHistory)
	}
	f := st.Flights[at]
	toEnd := false
	switch e.Kind {
	case device.Sent:
		toEnd = f.Refused
		f = flightOf(e)
	case device.Acked:
		toEnd = f.QoS == 2 // the order of the PUBRECs
		f.Acked = true
	case device.Refused:
		toEnd = true // the order of the refusals
		f.Refused = true
	case device.Released, device.NewSession, device.Forgotten:
	}
	switch {
	case toEnd:
		st.Flights = append(slices.Delete(st.Flights, at, at+1), f)
	case e.Kind == device.Sent:
		st.Flights[at] = f
	default:
		st.Flights = slices.Delete(st.Flights, at, at+1)
	}
	return nil
}

func flightOf(e device.Event) device.Flight {
	return device.Flight{Seq: e.Seq, QoS: e.QoS, PacketID: e.PacketID, Session: e.Session, Millis: e.Millis}
}
