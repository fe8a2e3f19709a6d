// Package mdns tells the local network which services this node has: it answers
// those who ask by multicast (RFC 6762, RFC 6763), over IPv4.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	port           = 5353
	maxPacketBytes = 9000 // RFC 6762, section 17

	lookEvery     = 10 * time.Second // for networks that have come or changed
	announceTimes = 2                // a second apart, on a new network: section 8.3
	announceEvery = time.Second
	notTwiceIn    = time.Second // the same record by multicast: section 6
)

// A Service is what others can find.
type Service struct {
	Type    string         // such as "_mqtt._tcp"
	Address netip.AddrPort // that is listened on; found on the networks where this machine has it, if it is not unspecified
}

// Options say what is announced. All but Links are required.
type Options struct {
	Name     string // of this node, for people; at most 54 bytes of it are shown
	ID       string // tells it from all others: hexadecimal, the first 8 digits count
	Services []Service
	Logger   *slog.Logger
	// Links returns the networks to announce them on; default: all that are up and
	// have an IPv4 address, but for loopback. It is called every few seconds.
	Links func() ([]Link, error)
}

// A Link is an interface of this machine, and its IPv4 addresses.
type Link struct {
	Index     int
	Addresses []netip.Prefix
}

// Announce announces the services until ctx is done, then takes them back. Networks
// that come, or get another address, are announced on as well. An error means that
// it cannot listen, and nothing was announced.
func Announce(ctx context.Context, o *Options) error {
	z, err := newZone(o.Name, o.ID, o.Services)
	if err != nil {
		return err
	}
	pc, err := listen()
	if err != nil {
		return fmt.Errorf("listen for multicast DNS on port %d: %w", port, err)
	}
	defer func() { _ = pc.Close() }()
	r := &responder{zone: z, pc: pc, logger: o.Logger, links: o.Links, on: map[int]*link{}}
	if r.links == nil {
		r.links = Links
	}
	r.run(ctx)
	return nil
}

// group is where everybody listens.
func group() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: port} }

// listen opens a socket for the group alone, which package net has no way for: what
// is sent to an address of this machine, from anywhere, goes to others who listen on
// the port, or to nobody.
func listen() (*ipv4.PacketConn, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "mdns")
	defer func() { _ = f.Close() }()                                                              // c is a copy
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil { // Avahi may be there as well
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte(group().IP.To4())}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	pc := ipv4.NewPacketConn(c)
	err = errors.Join(pc.SetControlMessage(ipv4.FlagInterface, true), pc.SetMulticastTTL(255), pc.SetTTL(255)) // section 11
	if err != nil {
		_ = pc.Close()
		return nil, err
	}
	return pc, nil
}

// Links returns the networks that this machine is on: interfaces that are up, can do
// multicast and have an IPv4 address, but for loopback.
func Links() ([]Link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []Link
	for i := range interfaces {
		if f := interfaces[i].Flags; f&net.FlagUp == 0 || f&net.FlagMulticast == 0 || f&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := interfaces[i].Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		l := Link{Index: interfaces[i].Index}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				l.Addresses = append(l.Addresses, p)
			}
		}
		if len(l.Addresses) > 0 {
			all = append(all, l)
		}
	}
	return all, nil
}

// A responder is all of it; one goroutine has it.
type responder struct {
	zone   *zone
	pc     *ipv4.PacketConn
	logger *slog.Logger
	links  func() ([]Link, error)

	on     map[int]*link // by index
	looked time.Time
}

// A link is a network that we are on.
type link struct {
	Link

	records    []rr
	sent       []time.Time // when each was last sent by multicast
	toAnnounce int         // how many times more
	announced  time.Time
}

func (r *responder) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = r.pc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, maxPacketBytes)
	for {
		next := r.tick(time.Now())
		_ = r.pc.SetReadDeadline(next)
		if ctx.Err() != nil { // and not before: it must not be slept over
			break
		}
		n, from, source, err := r.pc.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			pause(ctx, time.Second) // whatever it is, it passes or not; nobody else is kept from anything
		case from != nil:
			r.take(ctx, buf[:n], from.IfIndex, source)
		}
	}
	for _, l := range r.on {
		for i := range l.records {
			l.records[i].Header.TTL = 0 // good-bye: section 10.1
		}
		r.multicast(l, every(l.records), nil)
	}
}

// tick does what is due, and returns when there is more.
func (r *responder) tick(now time.Time) time.Time {
	if r.looked.IsZero() || now.Sub(r.looked) >= lookEvery {
		r.looked = now
		r.look()
	}
	next := r.looked.Add(lookEvery)
	for _, l := range r.on {
		if l.toAnnounce > 0 && now.Sub(l.announced) >= announceEvery {
			l.toAnnounce--
			l.announced = now
			r.multicast(l, every(l.records), nil)
		}
		if again := l.announced.Add(announceEvery); l.toAnnounce > 0 && again.Before(next) {
			next = again
		}
	}
	return next
}

// look finds networks that have come, gone or changed.
func (r *responder) look() {
	links, err := r.links()
	if err != nil {
		r.logger.Debug("the interfaces of this machine cannot be listed; they are tried again", "error", err)
		return
	}
	there := map[int]bool{}
	for _, now := range links {
		there[now.Index] = true
		if was := r.on[now.Index]; was != nil && slices.Equal(was.Addresses, now.Addresses) {
			continue
		}
		records := r.zone.records(now.Addresses)
		_ = r.pc.JoinGroup(&net.Interface{Index: now.Index}, group()) // it may be joined already; if it cannot be, nobody asks us there
		r.on[now.Index] = &link{Link: now, records: records, sent: make([]time.Time, len(records)), toAnnounce: announceTimes}
		if len(records) > 0 {
			r.logger.Info("announced on the local network (mDNS)", "host", r.zone.host.String(), "addresses", fmt.Sprint(now.Addresses))
		}
	}
	for index := range r.on {
		if !there[index] {
			delete(r.on, index)
		}
	}
}

// take answers a packet, if it is a question to us from the network it came in on.
func (r *responder) take(ctx context.Context, packet []byte, index int, source net.Addr) {
	l, from := r.on[index], addrPort(source)
	if l == nil || l.own(from.Addr()) < 0 { // section 11
		return
	}
	q, err := parseQuery(packet)
	if err != nil {
		return // whoever likes may send nonsense to a multicast address
	}
	answers, additional := q.answer(l.records)
	switch {
	case len(answers) == 0:
	case from.Port() != port:
		r.send(pack(l.records, answers, additional, q), l, source)
	case q.wantsUnicast():
		r.send(pack(l.records, answers, additional, nil), l, source)
	default:
		now := time.Now()
		answers = slices.DeleteFunc(answers, func(i int) bool { return now.Sub(l.sent[i]) < notTwiceIn })
		if slices.ContainsFunc(answers, func(i int) bool { return l.records[i].isShared() }) {
			pause(ctx, 20*time.Millisecond+rand.N(100*time.Millisecond)) // others answer as well: section 6
		}
		r.multicast(l, answers, additional)
	}
}

func (r *responder) multicast(l *link, answers, additional []int) {
	now := time.Now()
	for _, i := range answers {
		l.sent[i] = now
	}
	r.send(pack(l.records, answers, additional, nil), l, group())
}

// send sends a packet, if there is one. That it cannot be sent is as if it were lost
// on the way.
func (r *responder) send(packet []byte, l *link, to net.Addr) {
	if packet == nil {
		return
	}
	own := l.Addresses[max(0, l.own(addrPort(to).Addr()))].Addr()
	_, _ = r.pc.WriteTo(packet, &ipv4.ControlMessage{IfIndex: l.Index, Src: own.AsSlice()}, to)
}

// own returns which of our addresses is in the same network as another, or -1.
func (l *link) own(other netip.Addr) int {
	return slices.IndexFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(other) })
}

// every returns the numbers of all records.
func every(records []rr) []int {
	all := make([]int, len(records))
	for i := range all {
		all[i] = i
	}
	return all
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := u.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// pause waits, but not longer than ctx.
func pause(ctx context.Context, long time.Duration) {
	t := time.NewTimer(long)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
