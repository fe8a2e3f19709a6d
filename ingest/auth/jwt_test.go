package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signers are private keys of each kind, with the kid of the test's key sets.
type signers struct {
	ec, otherEC *ecdsa.PrivateKey
	rsa         *rsa.PrivateKey
	ed          ed25519.PrivateKey
}

func newSigners(t *testing.T) *signers {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err3 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err4 := ed25519.GenerateKey(rand.Reader)
	if err != nil || err2 != nil || err3 != nil || err4 != nil {
		t.Fatal(err, err2, err3, err4)
	}
	return &signers{ec, other, rs, ed}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ecJWK(t *testing.T, kid string, key *ecdsa.PublicKey) map[string]any {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
}

func jwksOf(t *testing.T, keys ...map[string]any) []byte {
	t.Helper()
	src, err := json.MarshalIndent(map[string]any{"keys": keys}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func (s *signers) jwks(t *testing.T) []byte {
	t.Helper()
	return jwksOf(
		t, ecJWK(t, "ec", &s.ec.PublicKey),
		map[string]any{"kty": "RSA", "kid": "rs", "use": "sig", "alg": "RS256", "n": b64(s.rsa.N.Bytes()), "e": "AQAB"},
		map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(s.ed.Public().(ed25519.PublicKey))},
		map[string]any{"kty": "RSA", "kid": "enc", "use": "enc", "alg": "RSA-OAEP"},
	)
}

func pemOf(t *testing.T, keys ...crypto.PublicKey) []byte {
	t.Helper()
	var all []byte
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return all
}

func write(t testing.TB, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sign(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func cut(token string) string { return token[:len(token)-10] }

func TestTokens(t *testing.T) {
	s := newSigners(t)
	g, err := Open(Options{
		AllowAnonymous: true,
		JWT:            JWTOptions{KeysFile: write(t, "jwks", s.jwks(t)), Issuer: "us", Audience: "door"},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	good := jwt.MapClaims{"sub": "pump-1", "iss": "us", "aud": "door", "exp": now.Add(time.Hour).Unix()}
	but := func(key string, value any) jwt.MapClaims {
		c := maps.Clone(good)
		c[key] = value
		if value == nil {
			delete(c, key)
		}
		return c
	}
	es, kid := jwt.SigningMethodES256, func(id any) map[string]any { return map[string]any{"kid": id} }
	for name, c := range map[string]struct {
		token string
		want  byte
	}{
		"ES256":                   {sign(t, es, s.ec, kid("ec"), good), 0},
		"RS256":                   {sign(t, jwt.SigningMethodRS256, s.rsa, kid("rs"), good), 0},
		"EdDSA":                   {sign(t, jwt.SigningMethodEdDSA, s.ed, kid("ed"), good), 0},
		"no kid":                  {sign(t, es, s.ec, nil, good), 0},
		"several audiences":       {sign(t, es, s.ec, nil, but("aud", []string{"x", "door"})), 0},
		"begins soon":             {sign(t, es, s.ec, nil, but("nbf", now.Add(3*time.Second).Unix())), 0},
		"other kid":               {sign(t, es, s.ec, kid("rs"), good), BadCredential},
		"unknown kid":             {sign(t, es, s.ec, kid("x"), good), BadCredential},
		"kid is a number":         {sign(t, es, s.ec, kid(1), good), BadCredential},
		"other key":               {sign(t, es, s.otherEC, kid("ec"), good), BadCredential},
		"crit":                    {sign(t, es, s.ec, map[string]any{"crit": []string{"x"}}, good), BadCredential},
		"RS512":                   {sign(t, jwt.SigningMethodRS512, s.rsa, kid("rs"), good), BadCredential},
		"PS256":                   {sign(t, jwt.SigningMethodPS256, s.rsa, kid("rs"), good), BadCredential},
		"none":                    {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid("ec"), good), BadCredential},
		"HS256 by the public key": {sign(t, jwt.SigningMethodHS256, pemOf(t, s.ec.Public()), kid("ec"), good), BadCredential},
		"over":                    {sign(t, es, s.ec, nil, but("exp", now.Add(-time.Minute).Unix())), BadCredential},
		"no end":                  {sign(t, es, s.ec, nil, but("exp", nil)), BadCredential},
		"end is a text":           {sign(t, es, s.ec, nil, but("exp", "never")), BadCredential},
		"not yet":                 {sign(t, es, s.ec, nil, but("nbf", now.Add(time.Minute).Unix())), BadCredential},
		"other issuer":            {sign(t, es, s.ec, nil, but("iss", "them")), BadCredential},
		"no issuer":               {sign(t, es, s.ec, nil, but("iss", nil)), BadCredential},
		"other audience":          {sign(t, es, s.ec, nil, but("aud", "window")), BadCredential},
		"no user":                 {sign(t, es, s.ec, nil, but("sub", nil)), BadCredential},
		"empty user":              {sign(t, es, s.ec, nil, but("sub", "")), BadCredential},
		"user is a number":        {sign(t, es, s.ec, nil, but("sub", 5)), BadCredential},
		"user is not text":        {sign(t, es, s.ec, nil, but("sub", "a\x00")), BadCredential},
		"too long":                {sign(t, es, s.ec, nil, but("x", strings.Repeat("x", maxTokenBytes))), BadCredential},
		"cut":                     {cut(sign(t, es, s.ec, nil, good)), BadCredential},
		"garbage":                 {"eyJ..", BadCredential},
	} {
		for _, user := range []string{"", "somebody"} {
			id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: user, Password: []byte(c.token)})
			if got := refusalCode(t, err); got != c.want {
				t.Errorf("%s: %#x, want %#x: %v", name, got, c.want, err)
			}
			if err == nil && (id.User != "pump-1" || !id.Expires.Equal(now.Add(time.Hour+clockLeeway))) {
				t.Errorf("%s: %+v", name, id)
			}
		}
	}
	// What is no token is no proof, and nothing to be anonymous with.
	_, err = g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: "u", Password: []byte("password")})
	if got := refusalCode(t, err); got != BadCredential {
		t.Errorf("a password: %#x", got)
	}
	if id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c"}); err != nil || id.User != "" {
		t.Errorf("an anonymous client: %+v, %v", id, err)
	}
}

// With a user name that marks tokens, all others have passwords. PEM keys have no
// kid, and so fit every token.
func TestTokensBesidePasswords(t *testing.T) {
	s := newSigners(t)
	g, err := Open(Options{
		PasswordFile: "testdata/passwd",
		JWT:          JWTOptions{KeysFile: write(t, "pem", pemOf(t, s.rsa.Public(), s.ec.Public())), UserClaim: "dev", Username: "jwt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, jwt.SigningMethodES256, s.ec, map[string]any{"kid": "any"}, jwt.MapClaims{"dev": "d", "exp": time.Now().Add(time.Hour).Unix()})
	for _, c := range []struct {
		user, password string
		want           byte
	}{{"jwt", token, 0}, {"jwt", "alice-secret", BadCredential}, {"alice", "alice-secret", 0}, {"alice", token, BadCredential}} {
		_, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: c.user, Password: []byte(c.password)})
		if got := refusalCode(t, err); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.user, got, c.want)
		}
	}
}

func TestKeyFaults(t *testing.T) {
	s := newSigners(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(s.ec)
	if err != nil {
		t.Fatal(err)
	}
	with := func(key string, value any) []byte {
		j := ecJWK(t, "k", &s.ec.PublicKey)
		j[key] = value
		return jwksOf(t, j)
	}
	many := make([]map[string]any, maxKeys+1)
	for i := range many {
		many[i] = ecJWK(t, fmt.Sprint(i), &s.ec.PublicKey)
	}
	for name, c := range map[string]struct {
		src  []byte
		want string
	}{
		"empty":           {nil, "no key in it"},
		"empty set":       {[]byte(`{"keys":[]}`), "no key in it"},
		"no JSON":         {[]byte("{\n\n\"keys\": x}"), "k:3: this is not a JWKS"},
		"rest":            {[]byte(`{"keys":[]} x`), "not a JWKS"},
		"only encryption": {jwksOf(t, map[string]any{"kty": "RSA", "use": "enc"}), "no key in it"},
		"symmetric":       {jwksOf(t, map[string]any{"kty": "oct", "k": "AAAA"}), "holds a secret"},
		"private":         {with("d", "AAAA"), "holds a secret"},
		"other alg":       {with("alg", "ES384"), "ES256 alone"},
		"other curve":     {with("crv", "P-384"), "P-256"},
		"not on curve":    {with("x", b64(make([]byte, 32))), "not on the curve"},
		"short":           {with("y", "AAAA"), "32 bytes"},
		"kid twice":       {jwksOf(t, ecJWK(t, "k", &s.ec.PublicKey), ecJWK(t, "k", &s.otherEC.PublicKey)), "two keys"},
		"many":            {jwksOf(t, many...), "at most 32"},
		"small RSA":       {jwksOf(t, map[string]any{"kty": "RSA", "n": b64(make([]byte, 128)), "e": "AQAB"}), "2048"},
		"RSA of e=1":      {jwksOf(t, map[string]any{"kty": "RSA", "n": b64(s.rsa.N.Bytes()), "e": "AQ"}), "exponent"},
		"huge RSA":        {jwksOf(t, map[string]any{"kty": "RSA", "n": b64(make([]byte, 2000)), "e": "AQAB"}), "8192"},
		"Ed25519 short":   {jwksOf(t, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), "32 bytes"},
		"X25519":          {jwksOf(t, map[string]any{"kty": "OKP", "crv": "X25519", "x": b64(make([]byte, 32))}), "Ed25519"},
		"PEM, then rest":  {append(pemOf(t, s.ec.Public()), "x"...), "k:5: what follows is not PEM"},
		"PEM of P-384":    {append([]byte("\n"), pemOf(t, p384.Public())...), "k:2: the curve is P-384"},
		"private PEM":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "k:1: \"PRIVATE KEY\" is not"},
		"broken PEM":      {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), "k:1:"},
	} {
		keys, err := parseKeys("k", c.src)
		if keys != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig","alg":"ES256",` +
		`"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`)) // RFC 7517, A.1
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)) // RFC 8037, A.2
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},null,{}]}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A\n" +
		"iTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		keys, err := parseKeys("k", src)
		if (len(keys) == 0) == (err == nil) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if again, err := keyOf(k.key); err != nil || again.algorithm != k.algorithm {
				t.Fatalf("%+v: %v", k, err)
			}
			o := JWTOptions{}
			if _, err := o.identity(keys, src[:min(len(src), 100)]); err == nil {
				t.Fatal("bytes that are no token are taken for one")
			}
		}
	})
}
