package replica

import (
	"net"
	"net/netip"
)

// Connections that have not said who they are, at a time. Strangers must not use up
// the room of peers: those have their own.
const (
	mostStrangers      = 256
	mostKnown          = 64
	mostWaitingAddress = 4
)

// waiting counts connections that have not said who they are.
type waiting struct {
	strangers, known int
	from             map[string]int
}

// begin counts one more from a host, where a node of the site is known to be or
// not. It returns false, and counts nothing, if there are too many.
func (w *waiting) begin(from string, known bool) bool {
	count, most := w.count(known)
	if *count >= most || w.from[from] >= mostWaitingAddress {
		return false
	}
	if w.from == nil {
		w.from = map[string]int{}
	}
	*count++
	w.from[from]++
	return true
}

// end counts one less.
func (w *waiting) end(from string, known bool) {
	count, _ := w.count(known)
	*count--
	if w.from[from]--; w.from[from] == 0 {
		delete(w.from, from)
	}
}

func (w *waiting) count(known bool) (count *int, most int) {
	if known {
		return &w.known, mostKnown
	}
	return &w.strangers, mostStrangers
}

// host returns an address without its port, as netip writes it.
func host(a net.Addr) string {
	if p, err := netip.ParseAddrPort(a.String()); err == nil {
		return p.Addr().Unmap().WithZone("").String()
	}
	return a.String()
}
