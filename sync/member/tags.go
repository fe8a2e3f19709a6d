package member

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"

	"github.com/tributary-edge/tributary"
)

// maxName bounds a node's name. All that a node says of itself must fit into 512
// bytes, of which the rest of it takes less than 100.
const maxName = 255

// What a node says of itself, as serf's tags. The names are short because they
// go over the wire; what is not here is said by sync/peer, where it can be believed.
const (
	tagBoot     = "b" // decimal
	tagNonce    = "n" // hexadecimal
	tagPeerPort = "p" // decimal
	tagProtocol = "v" // decimal
	tagName     = "name"
)

func tagsOf(m Member, peerPort uint16) map[string]string {
	return map[string]string{
		tagBoot:     strconv.FormatUint(m.Boot, 10),
		tagNonce:    strconv.FormatUint(m.Nonce, 16),
		tagPeerPort: strconv.FormatUint(uint64(peerPort), 10),
		tagProtocol: strconv.FormatUint(uint64(m.Protocol), 10),
		tagName:     m.Name,
	}
}

// read reads what serf says of a node. A tag that it does not know is of a later
// version, and is left alone.
func read(s *serf.Member) (m Member, err error) {
	n, err := hex.Decode(m.Node[:], []byte(s.Name)[:min(len(s.Name), 2*len(m.Node))])
	if err != nil || n != len(m.Node) || len(s.Name) != 2*len(m.Node) || m.Node == (tributary.NodeID{}) {
		return Member{}, fmt.Errorf("node name %.64q is not 32 hexadecimal digits", s.Name)
	}
	ip, ok := netip.AddrFromSlice(s.Addr)
	if !ok || s.Port == 0 {
		return Member{}, fmt.Errorf("node %v has no address", m.Node)
	}
	number := func(tag string, base, bits int) uint64 {
		v, bad := strconv.ParseUint(s.Tags[tag], base, bits)
		if bad != nil && err == nil {
			err = fmt.Errorf("node %v: tag %q is %.64q", m.Node, tag, s.Tags[tag])
		}
		return v
	}
	m.Boot = number(tagBoot, 10, 64)
	m.Nonce = number(tagNonce, 16, 64)
	peerPort := uint16(number(tagPeerPort, 10, 16))
	m.Protocol = uint16(number(tagProtocol, 10, 16))
	if err == nil && (m.Boot == 0 || m.Nonce == 0 || peerPort == 0) {
		err = fmt.Errorf("node %v: boot %d, nonce %x, port %d: none is ever zero", m.Node, m.Boot, m.Nonce, peerPort)
	}
	if err != nil {
		return Member{}, err
	}
	m.Name = strings.ToValidUTF8(s.Tags[tagName], "\uFFFD")
	m.GossipAddress = netip.AddrPortFrom(ip.Unmap(), s.Port)
	m.PeerAddress = netip.AddrPortFrom(ip.Unmap(), peerPort)
	m.State = stateOf(s.Status)
	return m, nil
}

func stateOf(s serf.MemberStatus) State {
	switch s {
	case serf.StatusAlive:
		return Alive
	case serf.StatusLeaving, serf.StatusLeft:
		return Left
	case serf.StatusFailed, serf.StatusNone:
	}
	return Failed
}
