package auth

import (
	"crypto"
	"crypto/subtle"
	"crypto/tls"
)

// A proof is what an Identity was proven with. At most one of its fields is set.
type proof struct {
	secret *secret          // the password's
	key    crypto.PublicKey // the token's
}

// Stands reports whether a client that was let in as id would be let in again, by
// what has been read since: nil, or a *Refusal. It would not when its user is no
// longer in the password file, or has another password there; when the key that
// its token was signed with is gone; or when its certificate would be refused now,
// see VerifyConnection. cs is of its connection, nil without TLS. It costs no check
// of a password. Whoever was proven by nothing stands.
func (g *Guard) Stands(id *Identity, cs *tls.ConnectionState) error {
	s := g.state.Load()
	if was := id.proof.secret; was != nil {
		now, isUser := s.passwords.find(id.User)
		switch {
		case !isUser:
			return refuse(NotAuthorized, "user %q is not in the password file any more", id.User)
		case !now.equal(was):
			return refuse(NotAuthorized, "user %q has another password now", id.User)
		}
	}
	if was := id.proof.key; was != nil && !holds(s.keys, was) {
		return refuse(NotAuthorized, "the key that signed the token of user %q is not used any more", id.User)
	}
	if cs == nil {
		return nil
	}
	if err := g.VerifyConnection(*cs); err != nil {
		return refuse(NotAuthorized, "the certificate does not count any more: %v", err)
	}
	return nil
}

// equal reports whether two secrets are of one line of a password file.
func (s *secret) equal(other *secret) bool {
	return s.algorithm == other.algorithm && s.rounds == other.rounds && s.memoryKiB == other.memoryKiB && s.threads == other.threads &&
		subtle.ConstantTimeCompare(s.salt, other.salt) == 1 && subtle.ConstantTimeCompare(s.sum, other.sum) == 1
}

// holds reports whether a public key is among keys.
func holds(keys []tokenKey, key crypto.PublicKey) bool {
	was, ok := key.(interface{ Equal(x crypto.PublicKey) bool })
	if !ok {
		return false
	}
	for i := range keys {
		if was.Equal(keys[i].key) {
			return true
		}
	}
	return false
}
