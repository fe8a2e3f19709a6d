package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
)

// Join asks the node at address, which has given out the code, to let self into
// its site. It sends the secret of the code only to a node that has proven to be
// of the site of the code. It writes nothing: see Bundle.Adopt. A *RefusedError
// is what the node says; each other error says whether the code was sent.
// Join returns after ten seconds at the latest.
func Join(ctx context.Context, address string, code Code, self Guest) (*Bundle, error) {
	timed, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(timed, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w; the code was not sent", address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	b, err := ask(timed, raw, code, self)
	if err != nil {
		if errors.As(err, new(*RefusedError)) {
			return nil, fmt.Errorf("the node at %s does not let this one in: %w", address, err)
		}
		return nil, fmt.Errorf("join through %s: %w", address, err)
	}
	if !slices.Contains(b.Peers, address) { // it is known to be reachable
		b.Peers = append([]string{address}, b.Peers[:min(len(b.Peers), maxPeers-1)]...)
	}
	return b, nil
}

// ask has the conversation on raw, until the deadline of ctx, and closes it.
func ask(ctx context.Context, raw net.Conn, code Code, self Guest) (*Bundle, error) {
	var inviter tributary.NodeID
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it: there is no root to verify against yet
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			inviter, err = prove(&s, &code, &self)
			return err
		},
	})
	defer func() { _ = conn.Close() }() // everything is said
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w; the code was not sent", err)
	}
	const used = "%w; the code was sent and may count as used: ask for another one with \"tributary invite\" there. Nothing was changed here"
	if err := writeMessage(conn, &request{Version: Version, Secret: code.secret[:], Node: self.Node.String(), Name: self.Name}); err != nil {
		return nil, fmt.Errorf(used, err)
	}
	answered, err := readMessage(conn, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf(used, err)
	}
	b, err := decodeAnswer(answered)
	switch {
	case errors.As(err, new(*RefusedError)):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf(used, err)
	case !code.isOf(b.Authority.Certificate()):
		return nil, fmt.Errorf(used, errors.New("the answer has the authority of another site"))
	}
	b.inviter = inviter
	return b, nil
}

// prove returns which node the other side is, and an error if that is none of the site of
// the code. It is called before anything but the greeting is said.
func prove(s *tls.ConnectionState, code *Code, self *Guest) (inviter tributary.NodeID, err error) {
	if s.NegotiatedProtocol != Protocol {
		return inviter, fmt.Errorf("it does not speak %s: is that the address of a node of the site?", Protocol)
	}
	var authority *x509.Certificate
	for _, c := range s.PeerCertificates[1:] {
		if code.isOf(c) {
			authority = c
		}
	}
	if authority == nil {
		return inviter, errors.New("it cannot prove that it is of the site of the code: the code is of another site, the address of another node, or somebody is in between")
	}
	if inviter, err = peer.VerifyNode(authority, s.PeerCertificates[0]); err != nil {
		return inviter, fmt.Errorf("it cannot prove that it is of the site of the code; somebody may be in between: %w", err)
	}
	if name := authority.Subject.CommonName; self.Site != "" && name != self.Site {
		return inviter, fmt.Errorf("its site is called %q, and this node is configured for %q: set site = %q under [node] in the configuration, then join again", name, self.Site, name)
	}
	return inviter, nil
}
