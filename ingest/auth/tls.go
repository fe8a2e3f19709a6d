package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// trust is all that TLS needs, as the files had it.
type trust struct {
	config   *tls.Config
	clients  *x509.CertPool         // nil: no client certificates
	revoked  map[string]revocations // by the raw subject of the issuer; nil: no CRL
	ends     time.Time              // of our own certificate
	certFile string
	crlFile  string
}

// revocations is the list of one issuer.
type revocations struct {
	serials map[string]struct{}
	next    time.Time // when a newer list should be there
}

// TLS returns the configuration of a TLS listener, or nil without a certificate of
// ours. It follows each Reload; the handshakes that are under way and the sessions
// that are resumed follow too. With a ClientCAFile each client must have a
// certificate that was signed, and not revoked, by one of those in it.
func (g *Guard) TLS() *tls.Config {
	if g.options.CertFile == "" {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return g.state.Load().tls.config, nil
		},
	}
}

// VerifyConnection reports whether a TLS connection would be accepted now, by the
// certificate it came with: nil when it would, or when no certificates are asked
// for. Ask it of the connections that are there when Generation has moved, to end
// those whose certificate was revoked.
func (g *Guard) VerifyConnection(cs tls.ConnectionState) error {
	t := g.state.Load().tls
	if t == nil || t.clients == nil {
		return nil
	}
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the client has no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	chains, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: t.clients, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	return t.checkAnyRevoked(chains)
}

// verifyHandshake is VerifyConnection at the end of a handshake that began when t
// was in force. TLS has verified the chains of a new session; those of one that is
// resumed may be as old as its ticket.
func (g *Guard) verifyHandshake(t *trust, cs tls.ConnectionState) error {
	if cs.DidResume || t.clients == nil || g.state.Load().tls != t {
		return g.VerifyConnection(cs)
	}
	return t.checkAnyRevoked(cs.VerifiedChains)
}

// checkAnyRevoked returns nil if one of the chains is good.
func (t *trust) checkAnyRevoked(chains [][]*x509.Certificate) error {
	err := errors.New("the client has no certificate that was verified")
	for _, chain := range chains {
		if err = t.checkRevoked(chain); err == nil {
			return nil
		}
	}
	return err
}

// checkRevoked looks for the certificates of a chain in the lists of their issuers.
// A client whose issuer has no list is refused, as with Mosquitto.
func (t *trust) checkRevoked(chain []*x509.Certificate) error {
	if t.revoked == nil {
		return nil
	}
	for i, c := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		list, has := t.revoked[string(issuer.RawSubject)]
		if !has && i == 0 {
			return fmt.Errorf("there is no revocation list of %s", issuer.Subject)
		}
		if _, gone := list.serials[string(c.SerialNumber.Bytes())]; gone {
			return fmt.Errorf("the certificate of %s with serial number %x is revoked", c.Subject, c.SerialNumber)
		}
	}
	return nil
}

func loadTrust(o *Options) (*trust, error) {
	pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", o.CertFile, o.KeyFile, err)
	}
	t := &trust{
		config:   &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
		ends:     pair.Leaf.NotAfter,
		certFile: o.CertFile, crlFile: o.CRLFile,
	}
	if o.ClientCAFile == "" {
		return t, nil
	}
	issuers, err := loadCertificates(o.ClientCAFile)
	if err != nil {
		return nil, err
	}
	t.clients = x509.NewCertPool()
	for _, c := range issuers {
		t.clients.AddCert(c)
	}
	t.config.ClientCAs, t.config.ClientAuth = t.clients, tls.RequireAndVerifyClientCert
	if o.CRLFile != "" {
		t.revoked, err = loadRevoked(o.CRLFile, issuers)
	}
	return t, err
}

// loadCertificates reads the certificates of those who may sign.
func loadCertificates(path string) (all []*x509.Certificate, err error) {
	src, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	for rest := src; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" {
			err = fmt.Errorf("%.40q is not a certificate", block.Type)
		} else if err == nil && !c.IsCA {
			err = fmt.Errorf("%s may not sign certificates: it is no CA", c.Subject)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, lineAt(src, rest), err)
		}
		all, rest = append(all, c), after
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: there is no certificate in it", path)
	}
	return all, nil
}

func loadRevoked(path string, issuers []*x509.Certificate) (map[string]revocations, error) {
	src, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	return parseRevoked(path, src, issuers)
}

// parseRevoked reads revocation lists and checks who signed them. A list that is
// out of date counts: what it revokes stays revoked, and a node that is cut off
// goes on (A1).
func parseRevoked(path string, src []byte, issuers []*x509.Certificate) (map[string]revocations, error) {
	all := map[string]revocations{}
	add := func(der []byte) error {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		return addRevoked(all, list, issuers)
	}
	if !bytes.Contains(src, []byte("-----BEGIN")) {
		if err := add(src); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return all, nil
	}
	for rest := src; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		err := fmt.Errorf("%.40q is not a revocation list", block.Type)
		if block.Type == "X509 CRL" {
			err = add(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, lineAt(src, rest), err)
		}
		rest = after
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: there is no revocation list in it", path)
	}
	return all, nil
}

func addRevoked(all map[string]revocations, list *x509.RevocationList, issuers []*x509.Certificate) error {
	for _, e := range list.Extensions {
		if e.Critical { // a list of changes, or of others' certificates
			return fmt.Errorf("the list of %s is not a plain one (critical extension %v)", list.Issuer, e.Id)
		}
	}
	err := fmt.Errorf("nobody in the client CA file is called %s", list.Issuer)
	for _, issuer := range issuers {
		if !bytes.Equal(issuer.RawSubject, list.RawIssuer) {
			continue
		}
		if err = list.CheckSignatureFrom(issuer); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("who signed the list is not known: %w", err)
	}
	r, has := all[string(list.RawIssuer)]
	if !has {
		r.serials = map[string]struct{}{}
	}
	if list.NextUpdate.After(r.next) {
		r.next = list.NextUpdate
	}
	for _, e := range list.RevokedCertificateEntries {
		r.serials[string(e.SerialNumber.Bytes())] = struct{}{}
	}
	all[string(list.RawIssuer)] = r
	return nil
}

// outdated says which of the files should have been renewed. t may be nil.
func (t *trust) outdated(now time.Time) (doubts []string) {
	if t == nil {
		return nil
	}
	const day = "2006-01-02"
	if now.After(t.ends) {
		doubts = append(doubts, fmt.Sprintf("%s: the certificate ended on %s, so careful clients do not connect", t.certFile, t.ends.Format(day)))
	}
	for _, r := range t.revoked {
		if !r.next.IsZero() && now.After(r.next) {
			doubts = append(doubts, fmt.Sprintf("%s: a newer revocation list was due on %s; the old one stays in force", t.crlFile, r.next.Format(day)))
		}
	}
	return doubts
}

// certificateIdentity returns whom a verified certificate names. There must be one
// name to choose from: with several, whoever signs and whoever reads may disagree.
func certificateIdentity(which string, c *x509.Certificate) (Identity, error) {
	names := certificateNames(which, c)
	if len(names) != 1 || !isName(names[0]) {
		return Identity{}, refuse(NotAuthorized, "the certificate with serial number %x has %d names in its %s; one is needed, of plain text",
			c.SerialNumber, len(names), which)
	}
	return Identity{User: names[0], Expires: c.NotAfter}, nil
}

// certificateNames returns the common names of the subject for "cn"; else the DNS
// names, without any the URIs, without any the e-mail addresses.
func certificateNames(which string, c *x509.Certificate) (names []string) {
	if which == "cn" {
		for _, a := range c.Subject.Names {
			if name, ok := a.Value.(string); ok && a.Type.String() == "2.5.4.3" {
				names = append(names, name)
			}
		}
		return names
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if len(names) > 0 {
		return names
	}
	return c.EmailAddresses
}

// isName reports whether a name from a certificate or token can be that of a user.
func isName(s string) bool {
	return s != "" && len(s) <= maxNameBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
