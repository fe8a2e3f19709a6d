package join

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	codePrefix  = "TRIB"
	codeVersion = 1
	sumBytes    = 12 // of the authority: it is guessed at leisure, so it is the longer one
	secretBytes = 10 // is guessed at a running node, which takes ten wrong ones
	codeBytes   = 1 + sumBytes + secretBytes + 2
	codeChars   = codeBytes * 8 / 5
	groupChars  = 5
)

// A Code lets one node into a site. It is a secret until it is used: who knows it
// can join. docs/format/site.md has its form.
type Code struct {
	authority [sumBytes]byte // the first bytes of the SHA-256 of its certificate
	secret    [secretBytes]byte
}

// newCode draws a code for the site of the authority.
func newCode(authority *x509.Certificate) (c Code) {
	c.authority = sum(authority)
	_, _ = rand.Read(c.secret[:]) // never fails: crypto/rand.Read
	return c
}

func sum(cert *x509.Certificate) (s [sumBytes]byte) {
	all := sha256.Sum256(cert.Raw)
	copy(s[:], all[:])
	return s
}

// isOf says whether the code is for the site with the given authority.
func (c Code) isOf(authority *x509.Certificate) bool {
	s := sum(authority)
	return subtle.ConstantTimeCompare(s[:], c.authority[:]) == 1
}

// For says whether the code is for the site.
func (c Code) For(s *Site) bool { return c.isOf(s.Authority.Certificate()) }

// crockford is base32 without the letters that are taken for others.
func crockford() *base32.Encoding {
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)
}

// String returns the code as people type it.
func (c Code) String() string {
	b := append(make([]byte, 0, codeBytes), codeVersion)
	b = append(b, c.authority[:]...)
	b = append(b, c.secret[:]...)
	text := crockford().EncodeToString(binary.BigEndian.AppendUint16(b, crc16(b)))
	out := []string{codePrefix}
	for ; len(text) > 0; text = text[groupChars:] {
		out = append(out, text[:groupChars])
	}
	return strings.Join(out, "-")
}

// ParseCode reads what String wrote, with or without TRIB and dashes, in small
// letters, and with O for 0, I and L for 1. One wrong character, or two that have
// changed places, are always noticed.
func ParseCode(text string) (c Code, err error) {
	if len(text) > 4*codeChars {
		return c, errors.New("that is no code: it is far too long; a code looks like TRIB-XXXXX-XXXXX-…")
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ' || r == '\t' || r == '\n' || r == '\r':
			return -1
		case r == 'o' || r == 'O':
			return '0'
		case r == 'i' || r == 'I' || r == 'l' || r == 'L':
			return '1'
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, text)
	if len(text) > codeChars {
		text = strings.TrimPrefix(text, "TR1B") // what becomes of TRIB
	}
	if len(text) != codeChars {
		return c, fmt.Errorf("the code has %d characters after %s, and %d are right: is a part of it missing? It was not sent", len(text), codePrefix, codeChars)
	}
	b, err := crockford().DecodeString(text)
	if err != nil {
		return c, errors.New("the code has a character that is in no code: look at it again. It was not sent")
	}
	end := len(b) - 2
	if binary.BigEndian.Uint16(b[end:]) != crc16(b[:end]) {
		return c, errors.New("the code has a typing mistake: look at it again. It was not sent")
	}
	if b[0] != codeVersion {
		return c, fmt.Errorf("the code is of version %d, and this program reads %d: the two nodes need the same version of Tributary. It was not sent", b[0], codeVersion)
	}
	copy(c.authority[:], b[1:])
	copy(c.secret[:], b[1+sumBytes:])
	return c, nil
}

// crc16 is CRC-16/CCITT-FALSE: it notices every change within 16 bits in a row,
// which is three characters.
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, v := range b {
		crc ^= uint16(v) << 8
		for range 8 {
			high := crc&0x8000 != 0
			crc <<= 1
			if high {
				crc ^= 0x1021
			}
		}
	}
	return crc
}
