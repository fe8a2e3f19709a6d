package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

const (
	maxKeys        = 32
	maxKeysBytes   = 1 << 20
	minRSABits     = 2048
	maxRSABits     = 8192
	coordinateSize = 32 // of P-256
)

func loadKeys(path string) ([]tokenKey, error) {
	src, err := readFile(path, maxKeysBytes)
	if err != nil {
		return nil, err
	}
	return parseKeys(path, src)
}

// parseKeys reads a JWKS (RFC 7517) or public keys in PEM. Keys that the set itself
// says are not for signatures are passed over; any other that cannot be used is an
// error. There is at least one key, and none has the kid of another.
func parseKeys(path string, src []byte) (keys []tokenKey, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(src), []byte("{")) {
		keys, err = parseJWKS(path, src)
	} else {
		keys, err = parsePEMKeys(path, src)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, fmt.Errorf("%s: there is no key in it; it must be a JWKS or public keys in PEM", path)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("%s: %d keys; at most %d are read", path, len(keys), maxKeys)
	}
	seen := map[string]bool{}
	for _, k := range keys {
		if k.id != "" && seen[k.id] {
			return nil, fmt.Errorf("%s: two keys have the kid %q", path, k.id)
		}
		seen[k.id] = true
	}
	return keys, nil
}

// A jwk is one key of a JWKS (RFC 7518, section 6; RFC 8037 for OKP).
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
	N   string `json:"n"`
	E   string `json:"e"`
	D   string `json:"d"` // the private part
	K   string `json:"k"` // a shared secret
}

func parseJWKS(path string, src []byte) (keys []tokenKey, err error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(src, &set); err != nil {
		line := 1
		if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
			line += bytes.Count(src[:min(wrong.Offset, int64(len(src)))], []byte("\n"))
		}
		return nil, fmt.Errorf("%s:%d: this is not a JWKS: %w", path, line, err)
	}
	for i := range set.Keys {
		j := &set.Keys[i]
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		k, err := j.tokenKey()
		if err != nil {
			return nil, fmt.Errorf("%s: key %d (kid %q): %w", path, i+1, j.Kid, err)
		}
		k.id = j.Kid
		keys = append(keys, k)
	}
	return keys, nil
}

func (j *jwk) tokenKey() (k tokenKey, err error) {
	if j.D != "" || j.K != "" {
		return tokenKey{}, errors.New("it holds a secret; put the public key alone into this file, and make a new secret")
	}
	switch j.Kty {
	case "EC":
		k, err = j.ec()
	case "RSA":
		k, err = j.rsa()
	case "OKP":
		k, err = j.okp()
	default:
		return tokenKey{}, fmt.Errorf("kty is %q; known are EC, RSA and OKP", j.Kty)
	}
	if err == nil && j.Alg != "" && j.Alg != k.algorithm {
		return tokenKey{}, fmt.Errorf("alg is %q; a key of this kind is used for %s alone", j.Alg, k.algorithm)
	}
	return k, err
}

func (j *jwk) ec() (tokenKey, error) {
	x, errX := decodeExactly(j.X, coordinateSize)
	y, errY := decodeExactly(j.Y, coordinateSize)
	if j.Crv != "P-256" || errX != nil || errY != nil {
		return tokenKey{}, errors.New("an EC key needs crv P-256, and x and y of 32 bytes each in base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return tokenKey{}, errors.New("x and y are not on the curve")
	}
	return keyOf(key)
}

func (j *jwk) rsa() (tokenKey, error) {
	n, errN := base64.RawURLEncoding.DecodeString(j.N)
	e, errE := base64.RawURLEncoding.DecodeString(j.E)
	if errN != nil || errE != nil || len(n) > maxRSABits/8 || len(e) > 4 {
		return tokenKey{}, fmt.Errorf("an RSA key needs n, of at most %d bits, and e, of at most 32, in base64url", maxRSABits)
	}
	return keyOf(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())})
}

func (j *jwk) okp() (tokenKey, error) {
	x, err := decodeExactly(j.X, ed25519.PublicKeySize)
	if j.Crv != "Ed25519" || err != nil {
		return tokenKey{}, errors.New("an OKP key needs crv Ed25519, and x of 32 bytes in base64url")
	}
	return keyOf(ed25519.PublicKey(x))
}

func decodeExactly(s string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(b) != size {
		err = errors.New("wrong length")
	}
	return b, err
}

// keyOf ties a key to the algorithm of its kind.
func keyOf(key crypto.PublicKey) (tokenKey, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return tokenKey{}, fmt.Errorf("the curve is %s; only P-256 is used, for ES256", key.Curve.Params().Name)
		}
		return tokenKey{algorithm: "ES256", key: key}, nil
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits || key.N.Bit(0) == 0 || key.E < 3 || key.E&1 == 0 {
			return tokenKey{}, fmt.Errorf("an RSA key must have %d to %d bits, and an odd exponent of at least 3", minRSABits, maxRSABits)
		}
		return tokenKey{algorithm: "RS256", key: key}, nil
	case ed25519.PublicKey:
		return tokenKey{algorithm: "EdDSA", key: key}, nil
	}
	return tokenKey{}, fmt.Errorf("a key of kind %T cannot be used; RSA, P-256 and Ed25519 can", key)
}

// parsePEMKeys reads public keys and certificates. Of a certificate only the key
// counts.
func parsePEMKeys(path string, src []byte) (keys []tokenKey, err error) {
	for rest := src; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return nil, fmt.Errorf("%s:%d: what follows is not PEM", path, lineAt(src, rest))
			}
			return keys, nil
		}
		var key crypto.PublicKey
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = c.PublicKey
			}
		default:
			err = fmt.Errorf("%.40q is not a public key", block.Type)
		}
		var k tokenKey
		if err == nil {
			k, err = keyOf(key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, lineAt(src, rest), err)
		}
		keys, rest = append(keys, k), after
	}
}

// lineAt returns the line of src on which rest, its end, has its first text.
func lineAt(src, rest []byte) int {
	text := bytes.TrimLeft(rest, " \t\r\n")
	return 1 + bytes.Count(src[:len(src)-len(text)], []byte("\n"))
}
