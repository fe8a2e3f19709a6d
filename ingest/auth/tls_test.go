package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A signer is a CA of the tests.
type signer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	next        int64 // serial number
}

func newSigner(t testing.TB, name string) *signer {
	t.Helper()
	s := &signer{}
	s.certificate, s.key = s.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return s
}

// issue signs a certificate; the first one signs itself.
func (s *signer) issue(t testing.TB, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.next++
	c.SerialNumber, c.NotBefore = big.NewInt(s.next), time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour).Truncate(time.Second)
	}
	parent, parentKey := s.certificate, s.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

func (s *signer) client(t testing.TB, name string) (*x509.Certificate, tls.Certificate) {
	t.Helper()
	c, key := s.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return c, tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func (s *signer) crl(t *testing.T, next time.Time, revoked ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, s.certificate, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// A tlsSite is a server's files, and who signs for it.
type tlsSite struct {
	signer  *signer
	options Options
	roots   *x509.CertPool
}

func newTLSSite(t testing.TB) *tlsSite {
	t.Helper()
	s := newSigner(t, "site")
	c, key := s.issue(t, &x509.Certificate{DNSNames: []string{"door"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	site := &tlsSite{signer: s, roots: x509.NewCertPool(), options: Options{
		CertFile:        write(t, "crt", certPEM(c)),
		KeyFile:         write(t, "key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		ClientCAFile:    write(t, "ca", certPEM(s.certificate)),
		CertificateUser: "cn",
	}}
	site.roots.AddCert(s.certificate)
	return site
}

func (s *tlsSite) clientConfig(pair tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: s.roots, ServerName: "door", Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(4),
	}
}

// handshake connects, and returns the server's side of it.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		d := tls.Dialer{Config: client}
		c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 1)) // takes the session ticket
		_ = c.Close()
	}()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := tls.Server(a, server)
	if err = s.HandshakeContext(t.Context()); err == nil {
		_, err = s.Write([]byte{1})
	}
	_ = a.Close()
	<-seen
	return s.ConnectionState(), err
}

func TestClientCertificates(t *testing.T) {
	site := newTLSSite(t)
	g, err := Open(site.options)
	if err != nil {
		t.Fatal(err)
	}
	_, pump := site.signer.client(t, "pump")
	_, stranger := newSigner(t, "site").client(t, "pump") // a CA of the same name, with another key
	_, other := site.signer.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	server := g.TLS()
	state, err := handshake(t, server, site.clientConfig(pump))
	if err != nil {
		t.Fatal(err)
	}
	leaf := state.VerifiedChains[0][0]
	for _, name := range []string{"", "somebody"} { // what the CONNECT says besides does not count
		id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: name, Certificate: leaf})
		if err != nil || id.User != "pump" || !id.Expires.Equal(leaf.NotAfter) {
			t.Errorf("%+v, %v", id, err)
		}
	}
	for name, pair := range map[string]tls.Certificate{
		"none": {}, "of a stranger": stranger, "of a server": {Certificate: [][]byte{site.signer.certificate.Raw}, PrivateKey: other},
	} {
		if _, err := handshake(t, server, site.clientConfig(pair)); err == nil {
			t.Errorf("a certificate is needed; %s does", name)
		}
	}
	// Who comes another way has nothing that proves it.
	_, err = g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: "pump"})
	if got := refusalCode(t, err); got != BadCredential {
		t.Errorf("a name without a certificate: %#x", got)
	}
}

// S1: a certificate that is revoked is refused from the next Reload on: in new
// connections, in resumed sessions, and when asked about old ones.
func TestRevocation(t *testing.T) {
	site := newTLSSite(t)
	good, goodPair := site.signer.client(t, "good")
	lost, lostPair := site.signer.client(t, "lost")
	site.options.CRLFile = write(t, "crl", site.signer.crl(t, time.Now().Add(time.Hour)))
	g, err := Open(site.options)
	if err != nil {
		t.Fatal(err)
	}
	server := g.TLS()
	goodClient, lostClient := site.clientConfig(goodPair), site.clientConfig(lostPair)
	var before tls.ConnectionState
	for _, c := range []*tls.Config{goodClient, lostClient, lostClient} {
		if before, err = handshake(t, server, c); err != nil {
			t.Fatal(err)
		}
	}
	if !before.DidResume || g.VerifyConnection(before) != nil {
		t.Errorf("resumed: %v, %v", before.DidResume, g.VerifyConnection(before))
	}

	if err := os.WriteFile(site.options.CRLFile, site.signer.crl(t, time.Now().Add(-time.Hour), lost), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := g.VerifyConnection(before); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the connection from before: %v", err)
	}
	for range 2 {
		if _, err := handshake(t, server, lostClient); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("the certificate that is revoked: %v", err)
		}
		if state, err := handshake(t, server, goodClient); err != nil || !state.DidResume {
			t.Errorf("the good one: %v, resumed %v", err, state.DidResume)
		}
	}
	if doubts := strings.Join(g.Doubts(time.Now()), "\n"); !strings.Contains(doubts, "newer revocation list was due") {
		t.Errorf("doubts: %s", doubts)
	}

	// Another CA signs now: sessions of the old one end too.
	next := newSigner(t, "next")
	if err := os.WriteFile(site.options.ClientCAFile, certPEM(next.certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(site.options.CRLFile, next.crl(t, time.Now().Add(time.Hour), good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, server, goodClient); err == nil {
		t.Error("a certificate of the old CA is good for a resumed session")
	}
}

func TestTrustFaults(t *testing.T) {
	site := newTLSSite(t)
	leaf, _ := site.signer.client(t, "leaf")
	stranger := newSigner(t, "site")
	delta := &x509.RevocationList{
		Number: big.NewInt(2), NextUpdate: time.Now(),
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}},
	}
	der, err := x509.CreateRevocationList(rand.Reader, delta, site.signer.certificate, site.signer.key)
	if err != nil {
		t.Fatal(err)
	}
	o := &site.options
	for name, c := range map[string]struct {
		file    *string
		content []byte
		want    string
	}{
		"no key":            {&o.KeyFile, nil, "key"},
		"no certificate":    {&o.CertFile, []byte("x"), "crt"},
		"empty CA":          {&o.ClientCAFile, nil, "no certificate in it"},
		"leaf as CA":        {&o.ClientCAFile, append(certPEM(site.signer.certificate), certPEM(leaf)...), "is no CA"},
		"broken CA":         {&o.ClientCAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), ":1:"},
		"list as CA":        {&o.ClientCAFile, site.signer.crl(t, time.Now()), "is not a certificate"},
		"empty CRL":         {&o.CRLFile, nil, "crl: "},
		"certificate":       {&o.CRLFile, certPEM(leaf), "is not a revocation list"},
		"list of a strange": {&o.CRLFile, newSigner(t, "x").crl(t, time.Now()), "nobody in the client CA"},
		"forged list":       {&o.CRLFile, stranger.crl(t, time.Now()), "who signed the list is not known"},
		"list of changes":   {&o.CRLFile, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), "not a plain one"},
	} {
		old := *c.file
		*c.file = filepath.Join(t.TempDir(), map[*string]string{&o.KeyFile: "key", &o.CertFile: "crt", &o.ClientCAFile: "ca", &o.CRLFile: "crl"}[c.file])
		if err := os.WriteFile(*c.file, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(*o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		*c.file = old
	}
	o.CRLFile = write(t, "crl", func() []byte { b, _ := pem.Decode(site.signer.crl(t, time.Now(), leaf)); return b.Bytes }())
	if _, err := Open(*o); err != nil {
		t.Errorf("a list in DER: %v", err)
	}
}

func TestCertificateNames(t *testing.T) {
	uri := &url.URL{Scheme: "spiffe", Host: "site", Path: "/pump"}
	cn := func(names ...string) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(1)}
		for _, n := range names {
			c.Subject.Names = append(c.Subject.Names, pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: n})
		}
		return c
	}
	for _, c := range []struct {
		which       string
		certificate *x509.Certificate
		want        string // "": refused
	}{
		{"cn", cn("pump"), "pump"},
		{"cn", cn(), ""},
		{"cn", cn(""), ""},
		{"cn", cn("a", "b"), ""},
		{"cn", cn("a\x00"), ""},
		{"cn", &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"pump"}}, ""},
		{"san", cn("pump"), ""},
		{"san", &x509.Certificate{DNSNames: []string{"pump"}, EmailAddresses: []string{"a@b"}}, "pump"},
		{"san", &x509.Certificate{URIs: []*url.URL{uri}, EmailAddresses: []string{"a@b"}}, "spiffe://site/pump"},
		{"san", &x509.Certificate{EmailAddresses: []string{"a@b"}}, "a@b"},
		{"san", &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a", "b"}}, ""},
	} {
		id, err := certificateIdentity(c.which, c.certificate)
		if id.User != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s of %v: %+v, %v, want %q", c.which, c.certificate.Subject.Names, id, err, c.want)
		}
	}
}
