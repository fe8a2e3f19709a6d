package join

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
)

// maxJoins is how many strangers may speak at once: each has patience and
// maxRequest, so together they hold next to nothing.
const maxJoins = 8

// A Server is the side of the running node. Its methods may be called at once.
type Server struct {
	// Joined is told of each node that was let in, before it hears of it; an error
	// keeps it out. nil: nobody wants to know. It is set before the first connection.
	Joined func(node tributary.NodeID) error

	site        *Site
	invitations *Invitations
	peers       func() []string
	logger      *slog.Logger
	slots       chan struct{}
}

// NewServer returns the server of a node of the site. peers is asked for the
// HOST:PORT of the nodes of the site, this one's first, when a node joins; it may
// be nil.
func NewServer(site *Site, invitations *Invitations, peers func() []string, logger *slog.Logger) *Server {
	return &Server{site: site, invitations: invitations, peers: peers, logger: logger, slots: make(chan struct{}, maxJoins)}
}

// Config returns the configuration of one listener for both: for who wants to
// join, and has no certificate yet, and for everybody else, to whom peers
// applies. After the handshake NegotiatedProtocol is Protocol, or it is a peer. A
// connection that joins never gets to speak as a peer: each has only its own
// protocol to agree on.
func (s *Server) Config(peers *tls.Config) *tls.Config {
	joiners := s.config()
	both := peers.Clone()
	both.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, Protocol) {
			return joiners, nil
		}
		return nil, nil // peers
	}
	return both
}

// config shows joiners the certificate of the authority too: they know only its
// sum.
func (s *Server) config() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{{
			Certificate: [][]byte{s.site.Cert.Certificate[0], s.site.Authority.Certificate().Raw},
			PrivateKey:  s.site.Cert.PrivateKey,
		}},
		MinVersion: tls.VersionTLS13, NextProtos: []string{Protocol}, SessionTicketsDisabled: true,
	}
}

// Serve speaks with one stranger on a connection of a listener with Config, whose
// handshake may be done already, logs what came of it and closes the connection.
// It returns after ten seconds at the latest. Eight are served at once; who comes
// then is sent away.
func (s *Server) Serve(ctx context.Context, conn *tls.Conn) {
	log := s.logger.With("from", conn.RemoteAddr().String())
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		_ = conn.NetConn().Close() // a word would take the time that there is not
		log.Debug("a node that wants to join is sent away: too many at once")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	defer func() { _ = conn.Close() }() // everything is said
	err := s.serve(ctx, conn, log)
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		if refused.cause != nil {
			log = log.With("error", refused.cause)
		}
		log.Log(ctx, refused.level, "a node may not join", "reason", refused.reason)
		if refused.voided {
			log.Warn("too many wrong codes within 15 minutes: all open invitations are void; find out who tries, then invite again")
		}
	case err != nil:
		log.Debug("somebody who may have wanted to join was not understood", "error", err)
	}
}

func (s *Server) serve(ctx context.Context, conn *tls.Conn, log *slog.Logger) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != Protocol {
		return fmt.Errorf("it speaks %q, not %s", p, Protocol)
	}
	b, err := readMessage(conn, maxRequest)
	if err != nil {
		return err
	}
	r, err := decodeRequest(b)
	if err != nil {
		return err
	}
	log = log.With("node", r.Node, "name", r.Name)
	a, refused := s.answer(&r)
	if refused != nil {
		// That it hears why is a courtesy.
		_ = writeMessage(conn, &answer{Version: min(r.Version, Version), Refused: refused.reason})
		return refused
	}
	if err := writeMessage(conn, a); err != nil {
		log.Warn("a node was let into the site, but the answer did not reach it: its code is used, so give it another one", "error", err)
		return nil
	}
	log.Info("a node has joined the site", "site", s.site.Name)
	return nil
}

// answer uses up the code and returns what the node is to have.
func (s *Server) answer(r *request) (*answer, *refusal) {
	if r.node == s.site.node {
		return nil, &refusal{
			reason: "the node has the id of the one that it asks: its data directory is a copy of this one's. Give it an empty data directory and join again; the code was not used",
			level:  slog.LevelDebug, // who has shown no code does not fill the log
		}
	}
	if refused := s.invitations.take(r.Secret, time.Now()); refused != nil {
		return nil, refused
	}
	authority, err := s.site.Authority.PEM()
	if err == nil && s.Joined != nil {
		err = s.Joined(r.node)
	}
	if err == nil {
		err = s.site.share() // before: then this node knows that it is not alone, whatever happens
	}
	if err != nil {
		return nil, &refusal{
			reason: "the running node cannot note on its disk that another node is of its site: see its log. The code is used",
			level:  slog.LevelError, cause: err,
		}
	}
	a := &answer{
		Version: min(r.Version, Version), Site: s.site.Name, Authority: string(authority),
		GossipKey: hex.EncodeToString(s.site.GossipKey),
	}
	if s.peers != nil {
		a.Peers = addresses(s.peers())
	}
	return a, nil
}
