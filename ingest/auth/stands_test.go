package auth

import (
	"crypto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// identify returns who a client is that must be let in.
func identify(t *testing.T, g *Guard, user, password string) *Identity {
	t.Helper()
	id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: user, Password: []byte(password)})
	if err != nil {
		t.Fatal(err)
	}
	return &id
}

// reloaded writes a file and reads all of them again.
func reloaded(t *testing.T, g *Guard, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
}

// S2: who is in the password file no more, or has another password there, does
// not stand; all others do, also when lines move and others come.
func TestPasswordStands(t *testing.T) {
	src, err := os.ReadFile("testdata/passwd")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "passwd", src)
	g, err := Open(Options{PasswordFile: path, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	alice, nobody := identify(t, g, "alice", "alice-secret"), identify(t, g, "", "")
	again := identify(t, g, "alice", "alice-secret") // from the cache
	judge := func(when, want string) {
		t.Helper()
		for _, id := range []*Identity{alice, again} {
			if err := g.Stands(id, nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", when, err, want)
			}
		}
		if err := g.Stands(nobody, nil); err != nil {
			t.Errorf("%s: the anonymous client: %v", when, err)
		}
	}
	judge("at first", "")
	lines := strings.SplitAfter(string(src), "\n")
	var of, others string
	for _, line := range lines {
		if strings.HasPrefix(line, "alice:") {
			of = line
		} else {
			others += line
		}
	}
	reloaded(t, g, path, []byte(others+of))
	judge("moved", "")
	reloaded(t, g, path, []byte(others))
	judge("gone", "not in the password file")
	reloaded(t, g, path, []byte(others+of))
	judge("back", "")
	if _, err := SetPassword(path, "alice", []byte("another"), false); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	judge("another password", "another password")
}

// S2: a token stands as long as the key that signed it is used, whichever others are.
func TestTokenStands(t *testing.T) {
	s := newSigners(t)
	both := pemOf(t, s.otherEC.Public(), s.ec.Public()) // without a kid, so either may have signed
	path := write(t, "keys", both)
	g, err := Open(Options{JWT: JWTOptions{KeysFile: path}})
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "pump", "exp": time.Now().Add(time.Hour).Unix()}
	first := identify(t, g, "", sign(t, jwt.SigningMethodES256, s.otherEC, nil, claims))
	second := identify(t, g, "", sign(t, jwt.SigningMethodES256, s.ec, nil, claims))
	for _, c := range []struct {
		keys          []crypto.PublicKey
		first, second bool
	}{
		{[]crypto.PublicKey{s.ec.Public(), s.otherEC.Public()}, true, true},
		{[]crypto.PublicKey{s.ec.Public()}, false, true},
		{[]crypto.PublicKey{s.otherEC.Public(), s.rsa.Public()}, true, false},
		{[]crypto.PublicKey{s.rsa.Public(), s.ed.Public()}, false, false},
	} {
		reloaded(t, g, path, pemOf(t, c.keys...))
		if one, two := g.Stands(first, nil), g.Stands(second, nil); (one == nil) != c.first || (two == nil) != c.second {
			t.Errorf("%d keys: %v and %v, want %t and %t", len(c.keys), one, two, c.first, c.second)
		}
	}
}

// S2: a connection whose certificate was revoked does not stand, whoever its user is.
func TestCertificateStands(t *testing.T) {
	site := newTLSSite(t)
	_, goodPair := site.signer.client(t, "good")
	lost, lostPair := site.signer.client(t, "lost")
	site.options.CRLFile = write(t, "crl", site.signer.crl(t, time.Now().Add(time.Hour)))
	g, err := Open(site.options)
	if err != nil {
		t.Fatal(err)
	}
	good, err := handshake(t, g.TLS(), site.clientConfig(goodPair))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := handshake(t, g.TLS(), site.clientConfig(lostPair))
	if err != nil {
		t.Fatal(err)
	}
	if one, two := g.Stands(&Identity{User: "good"}, &good), g.Stands(&Identity{}, &gone); one != nil || two != nil {
		t.Error(one, two)
	}
	reloaded(t, g, site.options.CRLFile, site.signer.crl(t, time.Now().Add(time.Hour), lost))
	if one, two := g.Stands(&Identity{User: "good"}, &good), g.Stands(&Identity{}, &gone); one != nil || refusalCode(t, two) != NotAuthorized {
		t.Error(one, two)
	}
}
