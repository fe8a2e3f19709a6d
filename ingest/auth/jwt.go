package auth

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxTokenBytes is far above any token for devices.
	maxTokenBytes = 8 << 10
	// clockLeeway is how far the clock of who signs may be from ours.
	clockLeeway = 10 * time.Second
)

// A tokenKey is a public key, and the one algorithm it is for: the token does not
// choose (RFC 8725, section 3.1).
type tokenKey struct {
	id        string // kid; "": has none, is tried for every token
	algorithm string // "ES256", "RS256" or "EdDSA"
	key       crypto.PublicKey
}

// isToken reports whether the password of c has to be a token.
func (o *JWTOptions) isToken(c *Credentials) bool {
	if o.Username != "" {
		return c.Username == o.Username
	}
	return bytes.HasPrefix(c.Password, []byte("eyJ")) && bytes.Count(c.Password, []byte(".")) == 2 // {" in base64
}

// identity verifies a token.
func (o *JWTOptions) identity(keys []tokenKey, token []byte) (Identity, error) {
	if len(token) > maxTokenBytes {
		return Identity{}, refuse(BadCredential, "a token of %d bytes; at most %d are read", len(token), maxTokenBytes)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{"ES256", "RS256", "EdDSA"}),
		jwt.WithExpirationRequired(), jwt.WithLeeway(clockLeeway), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		options = append(options, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		options = append(options, jwt.WithAudience(o.Audience))
	}
	claims := jwt.MapClaims{}
	var signed proof
	choose := func(t *jwt.Token) (key any, err error) {
		key, err = keyFor(keys, t)
		signed.key = key
		return key, err
	}
	if _, err := jwt.NewParser(options...).ParseWithClaims(string(token), claims, choose); err != nil {
		return Identity{}, refuse(BadCredential, "token refused: %v", err)
	}
	claim := o.UserClaim
	if claim == "" {
		claim = "sub"
	}
	user, ok := claims[claim].(string)
	if !ok || !isName(user) {
		return Identity{}, refuse(BadCredential, "token refused: its claim %q is not the name of a user", claim)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil { // was checked above
		return Identity{}, refuse(BadCredential, "token refused: no end")
	}
	return Identity{User: user, Expires: expires.Add(clockLeeway), proof: signed}, nil
}

// keyFor returns the key that must have signed t: the one that may have, or, of
// several, the one that has.
func keyFor(keys []tokenKey, t *jwt.Token) (crypto.PublicKey, error) {
	if _, has := t.Header["crit"]; has {
		return nil, errors.New("it wants something understood that we do not know (crit)")
	}
	id, isText := t.Header["kid"].(string)
	if _, has := t.Header["kid"]; has && !isText {
		return nil, errors.New("its kid is no text")
	}
	var may []crypto.PublicKey
	for _, k := range keys {
		if k.algorithm == t.Method.Alg() && (id == "" || k.id == "" || k.id == id) {
			may = append(may, k.key)
		}
	}
	if len(may) == 0 {
		return nil, fmt.Errorf("there is no %s key %q", t.Method.Alg(), id)
	}
	text := t.Raw[:strings.LastIndexByte(t.Raw, '.')]
	for _, key := range may[:len(may)-1] {
		if t.Method.Verify(text, t.Signature, key) == nil {
			return key, nil
		}
	}
	return may[len(may)-1], nil
}
