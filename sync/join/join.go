// Package join lets a node into a site: the code that one person carries from a
// running node to a new one, the conversation that the two have then, and the
// folder that makes a node one of a site.
//
// Nobody tells the two nodes who the other is, and the network may be a
// stranger's. So the code carries a sum of the certificate of the site's
// authority: the new node sends its secret to nobody who cannot prove to be of
// that site. The secret, which is good once, proves to the running node that its
// owner wants the new one. docs/format/site.md has the folder, the code and the
// bytes.
package join

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
)

// Protocol is what the two sides speak, as ALPN has it.
const Protocol = "tributary-join/1"

// Version is the version of the messages. Two nodes speak the lower of theirs.
const Version = 1

const (
	patience       = 10 * time.Second // for the whole conversation
	maxRequest     = 4 << 10          // of a stranger
	maxAnswer      = 64 << 10
	maxNameBytes   = 255
	maxReasonBytes = 512
	maxPeers       = 64
	maxPeerBytes   = 255 + len(":65535")
)

// A Guest is a node that joins.
type Guest struct {
	Node tributary.NodeID
	Name string // for people
	Site string // what it calls its site; empty: any is right
}

// A Bundle is what a node needs to be one of a site.
type Bundle struct {
	Site      string
	Authority *peer.Authority
	GossipKey []byte   // 32 bytes
	Peers     []string // HOST:PORT of nodes of the site

	inviter tributary.NodeID // the node that has let this one in
}

// request is what the joiner says. What a newer version adds is passed over.
type request struct {
	Version int    `json:"version"`
	Secret  []byte `json:"secret"`
	Node    string `json:"node"`
	Name    string `json:"name"`

	node tributary.NodeID
}

// answer is what it is told: Refused alone, or all the others.
type answer struct {
	Version   int      `json:"version"`
	Refused   string   `json:"refused,omitempty"`
	Site      string   `json:"site,omitempty"`
	Authority string   `json:"authority,omitempty"` // as peer.Authority.PEM has it
	GossipKey string   `json:"gossip_key,omitempty"`
	Peers     []string `json:"peers,omitempty"`
}

func decodeRequest(b []byte) (r request, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("what the joiner says cannot be read: %w", err)
	}
	id, err := hex.DecodeString(r.Node)
	switch {
	case r.Version < 1:
		return r, fmt.Errorf("the joiner speaks version %d", r.Version)
	case len(r.Secret) != secretBytes:
		return r, fmt.Errorf("a secret has %d bytes, not %d", secretBytes, len(r.Secret))
	case err != nil || len(id) != len(r.node):
		return r, errors.New("the joiner does not say which node it is")
	case len(r.Name) > maxNameBytes:
		return r, errors.New("the name of the joiner is too long")
	}
	r.node = tributary.NodeID(id)
	return r, nil
}

// A RefusedError says that the running node does not let this one in.
type RefusedError struct{ Reason string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason }

// decodeAnswer returns a *RefusedError for a refusal. Peers that are no addresses
// are passed over.
func decodeAnswer(b []byte) (*Bundle, error) {
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	switch {
	case a.Version < 1 || a.Version > Version:
		return nil, fmt.Errorf("the answer is of version %d, and this program reads %d", a.Version, Version)
	case a.Refused != "":
		return nil, &RefusedError{Reason: printable(a.Refused, maxReasonBytes)}
	}
	authority, err := peer.ParseAuthority([]byte(a.Authority))
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	if a.Site == "" || len(a.Site) > maxNameBytes || authority.Site() != a.Site {
		return nil, errors.New("the answer: the authority is not that of the site")
	}
	key, err := parseGossipKey(a.GossipKey)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	return &Bundle{Site: a.Site, Authority: authority, GossipKey: key, Peers: addresses(a.Peers)}, nil
}

// addresses returns what can be dialed, each once.
func addresses(all []string) (good []string) {
	seen := map[string]bool{}
	for _, a := range all {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || port == "" || len(a) > maxPeerBytes || seen[a] || len(good) == maxPeers {
			continue
		}
		seen[a] = true
		good = append(good, a)
	}
	return good
}

// printable keeps what another node says from driving the terminal.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// Each message is four bytes, its length, big-endian, and JSON.
func writeMessage(w io.Writer, m any) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	_, err = w.Write(append(b, text...))
	return err
}

// readMessage reads a message of at most limit bytes.
func readMessage(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return nil, fmt.Errorf("a message of %d bytes; the limit is %d", n, limit)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
