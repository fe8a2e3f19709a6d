//go:build attack

package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A pki is a CA, a certificate of the node, and keys for devices and tokens.
type pki struct {
	dir   string
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey // of everybody: what is tested is not that keys differ
	pool  *x509.CertPool
	token *ecdsa.PrivateKey // signs tokens
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{dir: t.TempDir(), key: newKey(t), token: newKey(t), pool: x509.NewCertPool()}
	p.ca = p.issue(t, "ca", true)
	p.pool.AddCert(p.ca)
	p.write(t, "ca.crt", "CERTIFICATE", p.ca.Raw)
	p.write(t, "door.crt", "CERTIFICATE", p.issue(t, "localhost", false).Raw)
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "door.key", "EC PRIVATE KEY", der)
	if der, err = x509.MarshalPKIXPublicKey(&p.token.PublicKey); err != nil {
		t.Fatal(err)
	}
	p.write(t, "token.pub", "PUBLIC KEY", der)
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p *pki) issue(t *testing.T, name string, isCA bool) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent := p.ca
	if isCA {
		c.KeyUsage, parent = x509.KeyUsageCertSign, c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &p.key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (p *pki) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	writeFile(t, p.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

// serverLines are the lines of [mqtt] for TLS without client certificates.
func (p *pki) serverLines() string {
	return fmt.Sprintf("tls_cert_file = %q\ntls_key_file = %q", p.path("door.crt"), p.path("door.key"))
}

// tokens signs one token for each device.
func (p *pki) tokens(t *testing.T, devices int) []string {
	t.Helper()
	all := make([]string, devices)
	for i := range all {
		claims := jwt.MapClaims{"sub": fmt.Sprintf("device-%05d", i), "exp": time.Now().Add(time.Hour).Unix()}
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(p.token)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = text
	}
	return all
}

// TestPasswordStorm has many clients come with passwords at once: two are checked
// at a time, of 19 MiB each, and the rest wait or are told to come back. A node with
// 128 MB bears it.
func TestPasswordStorm(t *testing.T) {
	long(t)
	const users, clients = 20, 300
	file := filepath.Join(t.TempDir(), "passwd")
	for i := range users {
		out, err := exec.Command(program, "passwd", "-f", file, "-c", "-b", fmt.Sprintf("user-%d", i), "secret").CombinedOutput()
		if err != nil {
			t.Fatalf("passwd: %v\n%s", err, out)
		}
	}
	g := newCgroup(t, smallMemory) // 300 at once would take 5.7 GB
	n := startNode(t, setup{cgroup: g.dir, mqtt: fmt.Sprintf("password_file = %q\nallow_anonymous = true", file)})
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	for _, password := range []string{"wrong", "secret", "secret"} {
		before := n.rss(t)
		stop := n.watch(t)
		start := time.Now()
		var let, refused atomic.Int64
		var work sync.WaitGroup
		for i := range clients {
			work.Go(func() {
				c, err := enter(n.plain, hello{id: fmt.Sprintf("client-%d", i), user: fmt.Sprintf("user-%d", i%users), password: password}, nil)
				switch {
				case err == nil:
					let.Add(1)
					_ = c.Close()
				case strings.Contains(err.Error(), "20 02 00"):
					refused.Add(1)
				default:
					t.Errorf("no answer: %v", err)
				}
			})
		}
		work.Wait()
		peak := stop()
		t.Logf("%d clients with a password that is %s: %d let in, %d refused, in %v; RSS %s before, at most %s; load %s",
			clients, password, let.Load(), refused.Load(), time.Since(start).Round(time.Millisecond), mb(before), mb(peak), load())
		n.mustRun(t)
		if password == "wrong" && let.Load() > 0 {
			t.Errorf("%d clients were let in with a wrong password", let.Load())
		}
	}
	b.leave(t, stormLimit)
}
