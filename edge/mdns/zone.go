package mdns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// How long others may remember, in seconds: RFC 6762, section 10.
const (
	hostTTL   = 120  // what has the name or the address of this machine
	otherTTL  = 4500 // all else
	legacyTTL = 10   // what is told to those who are no mDNS clients: section 6.7
)

// topBit is in a class: of a question it asks for an answer to whoever asks alone,
// of a record it says that there are no others with its name and type.
const topBit = 1 << 15

// enumeration is what is asked to see which kinds of service there are (RFC 6763,
// section 9).
const enumeration = "_services._dns-sd._udp.local."

// A zone is the names of this node.
type zone struct {
	host     dnsmessage.Name
	services []announced
}

type announced struct {
	Service

	kind, instance dnsmessage.Name
}

// newZone makes names that no other node has, because id is in them: so nothing has
// to be probed before they are used (RFC 6762, section 8.1).
func newZone(name, id string, services []Service) (*zone, error) {
	id = id[:min(len(id), 8)]
	label := strings.ReplaceAll(name, ".", "-")
	label = strings.TrimSpace(label[:min(len(label), maxLabel-1-len(id))] + " " + id)
	z := &zone{}
	var err error
	if z.host, err = dnsmessage.NewName("tributary-" + id + ".local."); err != nil {
		return nil, fmt.Errorf("a name for node id %q: %w", id, err)
	}
	for _, s := range services {
		a := announced{Service: s}
		if a.kind, err = dnsmessage.NewName(s.Type + ".local."); err == nil {
			a.instance, err = dnsmessage.NewName(label + "." + a.kind.String())
		}
		if err != nil {
			return nil, fmt.Errorf("a name for %q of %q: %w", s.Type, label, err)
		}
		z.services = append(z.services, a)
	}
	return z, nil
}

// maxLabel is how many bytes may be between two dots.
const maxLabel = 63

// A rr is a record that may be sent.
type rr struct {
	dnsmessage.Resource

	needs []int // the records that whoever asks for this one needs next
}

// records returns all that is to be known on a network where this machine has the
// addresses; none if no service can be reached there.
func (z *zone) records(addresses []netip.Prefix) (all []rr) {
	var services []announced
	var reachable []netip.Addr
	for _, s := range z.services {
		here := s.reachable(addresses)
		if len(here) > 0 {
			services = append(services, s)
		}
		for _, a := range here {
			if !slices.Contains(reachable, a) {
				reachable = append(reachable, a)
			}
		}
	}
	if len(services) == 0 {
		return nil
	}
	var hosts []int
	for _, a := range reachable {
		hosts = append(hosts, len(all))
		all = append(all, unique(z.host, dnsmessage.TypeA, hostTTL, &dnsmessage.AResource{A: a.As4()}))
	}
	for _, s := range services {
		at := len(all)
		srv := unique(s.instance, dnsmessage.TypeSRV, hostTTL, &dnsmessage.SRVResource{Port: s.Address.Port(), Target: z.host})
		srv.needs = hosts
		all = append(all, srv)
		all = append(all, unique(s.instance, dnsmessage.TypeTXT, otherTTL, &dnsmessage.TXTResource{TXT: []string{""}})) // RFC 6763, 6.1
		ptr := shared(s.kind, s.instance)
		ptr.needs = append([]int{at, at + 1}, hosts...)
		all = append(all, ptr)
		all = append(all, shared(dnsmessage.MustNewName(enumeration), s.kind))
	}
	return all
}

// reachable returns those of the addresses at which the service can be reached.
func (s *Service) reachable(addresses []netip.Prefix) (all []netip.Addr) {
	for _, p := range addresses {
		if own := s.Address.Addr().Unmap(); own.IsUnspecified() || own == p.Addr() {
			all = append(all, p.Addr())
		}
	}
	return all
}

// unique returns a record of which there is one set alone.
func unique(name dnsmessage.Name, kind dnsmessage.Type, ttl uint32, body dnsmessage.ResourceBody) rr {
	h := dnsmessage.ResourceHeader{Name: name, Type: kind, Class: dnsmessage.ClassINET | topBit, TTL: ttl}
	return rr{Resource: dnsmessage.Resource{Header: h, Body: body}}
}

// shared returns a record that others may have as well.
func shared(name, target dnsmessage.Name) rr {
	h := dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: otherTTL}
	return rr{Resource: dnsmessage.Resource{Header: h, Body: &dnsmessage.PTRResource{PTR: target}}}
}

// isShared reports whether a record is one that others may have as well.
func (r *rr) isShared() bool { return r.Header.Class&topBit == 0 }

// answers reports whether a record is an answer to a question.
func (r *rr) answers(q *dnsmessage.Question) bool {
	class := q.Class &^ topBit
	return (q.Type == r.Header.Type || q.Type == dnsmessage.TypeALL) &&
		(class == dnsmessage.ClassINET || class == dnsmessage.ClassANY) && same(q.Name, r.Header.Name)
}

// same compares names as DNS does.
func same(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }
