package auth

import (
	"context"
	"strings"

	"github.com/tributary-edge/tributary/ingest/gate"
)

// Authenticate finds out who a client is. Its error is a *Refusal, and says why
// not. A password takes tens of milliseconds to check; at most two are checked at
// once, the others wait for some seconds and are then refused with Busy, and when
// ctx ends. Passwords and tokens are checked when the Gate has a place.
//
// A certificate that names a user comes first: what else the client says then does
// not count. Then comes a token, then a password. A user name that nothing can
// prove is no identity: such a client is anonymous.
func (g *Guard) Authenticate(ctx context.Context, c *Credentials) (Identity, error) {
	s := g.state.Load()
	id, err := g.identify(ctx, s, c)
	if err != nil {
		return Identity{}, err
	}
	if err := g.options.checkClientID(id.User, c.ClientID); err != nil {
		return Identity{}, err
	}
	return id, nil
}

func (g *Guard) identify(ctx context.Context, s *state, c *Credentials) (Identity, error) {
	o := &g.options
	switch {
	case o.CertificateUser != "" && c.Certificate != nil:
		return certificateIdentity(o.CertificateUser, c.Certificate)
	case s.keys != nil && o.JWT.isToken(c):
		return g.checkToken(ctx, s, c)
	case s.passwords != nil && c.Username != "":
		if err := g.checkPassword(ctx, s, c); err != nil {
			return Identity{}, err
		}
		secret, _ := s.passwords.find(c.Username)
		return Identity{User: c.Username, proof: proof{secret: secret}}, nil
	case c.Username != "" && g.Configured():
		return Identity{}, refuse(BadCredential, "user %q gave nothing that proves it", c.Username)
	case !o.AllowAnonymous:
		return Identity{}, refuse(NotAuthorized, "no user name, and anonymous clients are not allowed")
	}
	return Identity{}, nil
}

// checkToken verifies a token, when the gate has a place for it.
func (g *Guard) checkToken(ctx context.Context, s *state, c *Credentials) (Identity, error) {
	place, err := g.options.Gate.Enter(ctx, gate.Token, c.Remote)
	if err != nil {
		return Identity{}, refuse(Busy, "a token waited for its check: %v", err)
	}
	defer place.Leave()
	return g.options.JWT.identity(s.keys, c.Password)
}

// checkPassword returns nil if the password is that of the user. That a user is
// not known takes as long as that a password is wrong.
func (g *Guard) checkPassword(ctx context.Context, s *state, c *Credentials) error {
	known := s.verified.key(c.Username, c.Password)
	if s.verified.has(known) {
		return nil
	}
	if err := g.checks.enter(ctx, c.Remote); err != nil {
		return err
	}
	defer g.checks.leave()
	ctx, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	place, err := g.options.Gate.Enter(ctx, gate.Password, c.Remote)
	if err != nil {
		return refuse(Busy, "a password waited for its check: %v", err)
	}
	defer place.Leave()
	secret, isUser := s.passwords.find(c.Username)
	isRight := secret.matches(c.Password)
	switch {
	case !isUser:
		return refuse(BadCredential, "there is no user %q", c.Username)
	case !isRight || len(c.Password) == 0:
		return refuse(BadCredential, "wrong password for user %q", c.Username)
	}
	s.verified.add(known)
	return nil
}

// prefixSeparator ends the user in a client id. It cannot be in a user name of a
// password file, so no user's client ids begin like another's.
const prefixSeparator = ":"

func (o *Options) checkClientID(user, clientID string) error {
	if o.ClientIDBinding == "" || clientID == "" {
		return nil
	}
	if user == "" {
		return refuse(BadClientID, "an anonymous client chose the client id %q", clientID)
	}
	if o.ClientIDBinding == "prefix" {
		if strings.Contains(user, prefixSeparator) {
			return refuse(BadClientID, "user %q has a %q in its name, which ends the user in a client id", user, prefixSeparator)
		}
		if strings.HasPrefix(clientID, user+prefixSeparator) {
			return nil
		}
	}
	if clientID != user {
		return refuse(BadClientID, "user %q chose the client id %q", user, clientID)
	}
	return nil
}
