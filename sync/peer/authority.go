package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/tributary-edge/tributary"
)

// An Authority says who is a node of a site: it is the site's own, made when the
// first node makes the site, and every node has it, so that any of them can let
// another one in.
type Authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

const (
	// serverName is in every node's certificate. Which node it is, the subject says.
	serverName = "node.tributary"
	protocol   = "tributary-peer/1"
)

// always returns when certificates are good. A gateway may have no battery for its
// clock: they are good for ever, and looked at as if it were some day within.
func always() (from, to time.Time) {
	return time.Unix(0, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // RFC 5280, 4.1.2.5: no end
}

func someDay() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// NewAuthority makes the authority of a new site.
func NewAuthority(site string) (*Authority, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(pkix.Name{CommonName: site, Organization: []string{"Tributary site"}})
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	if err != nil {
		return nil, fmt.Errorf("make the authority of site %q: %w", site, err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert: cert, key: key}, err
}

func template(subject pkix.Name) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // never: crypto/rand.Read
	}
	from, to := always()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: from, NotAfter: to, BasicConstraintsValid: true,
	}
}

// Issue returns a new certificate of a node of the site, with its key.
func (a *Authority) Issue(node tributary.NodeID) (tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := template(pkix.Name{CommonName: node.String(), Organization: []string{"Tributary node"}})
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	t.DNSNames = []string{serverName}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate of node %v: %w", node, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Certificate returns the certificate of the authority, which is no secret. It is
// not to be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Site returns the name of the site.
func (a *Authority) Site() string { return a.cert.Subject.CommonName }

// PEM returns the certificate and the key of the authority. Whoever has the key
// can make nodes.
func (a *Authority) PEM() (text []byte, err error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// ParseAuthority reads what PEM returned.
func ParseAuthority(text []byte) (*Authority, error) {
	var a Authority
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		var err error
		switch block.Type {
		case "CERTIFICATE":
			a.cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			var key any
			if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				a.key, _ = key.(ed25519.PrivateKey)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read the authority of the site: %w", err)
		}
	}
	switch pub, _ := a.public(); {
	case a.cert == nil, a.key == nil:
		return nil, errors.New("read the authority of the site: it has a certificate and an Ed25519 key, and one of them is not there")
	case !a.key.Public().(ed25519.PublicKey).Equal(pub):
		return nil, errors.New("read the authority of the site: the key is not that of the certificate")
	}
	return &a, nil
}

func (a *Authority) public() (pub ed25519.PublicKey, ok bool) {
	if a.cert != nil {
		pub, ok = a.cert.PublicKey.(ed25519.PublicKey)
	}
	return pub, ok
}

// Config returns what a node with the given certificate needs to speak with
// others, whoever dials. Both sides show that they are of the site.
func (a *Authority) Config(node tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{node}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, ServerName: serverName,
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		SessionTicketsDisabled: true, // a removed node comes back as often as it is asked
		Time:                   someDay,
	}
}

// nodeOf returns the node that the certificate of the other side is of.
func nodeOf(s tls.ConnectionState) (id tributary.NodeID, err error) {
	if s.NegotiatedProtocol != protocol {
		return id, fmt.Errorf("the other side does not speak %s", protocol)
	}
	if len(s.VerifiedChains) == 0 {
		return id, errors.New("the other side has no certificate of this site")
	}
	return subject(s.PeerCertificates[0])
}

// VerifyNode returns the node that cert is of, or an error if the authority with
// the given certificate has not issued it.
func VerifyNode(authority, cert *x509.Certificate) (id tributary.NodeID, err error) {
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: serverName, CurrentTime: someDay()}); err != nil {
		return id, err
	}
	return subject(cert)
}

func subject(cert *x509.Certificate) (id tributary.NodeID, err error) {
	name := cert.Subject.CommonName
	if len(name) != 2*len(id) {
		return id, fmt.Errorf("the certificate is of %q, which is no node", name)
	}
	if _, err := hex.Decode(id[:], []byte(name)); err != nil {
		return id, fmt.Errorf("the certificate is of %q, which is no node", name)
	}
	return id, nil
}
