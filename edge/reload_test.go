package edge_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/ingest/auth"
)

// on makes a client out of a socket, and sends its CONNECT of MQTT 5.
func on(t *testing.T, c net.Conn, id, user, password string) *wire {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	w := &wire{t: t, Conn: c, r: bufio.NewReader(c)}
	flags := byte(2)
	if user != "" {
		flags |= 0x80
	}
	if password != "" {
		flags |= 0x40
	}
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s)>>8), byte(len(s))), s...) }
	body := text(append([]byte("\x00\x04MQTT\x05"), flags, 0, 60, 0), id)
	if user != "" {
		body = text(body, user)
	}
	if password != "" {
		body = text(body, password)
	}
	w.send(0x10, body)
	return w
}

// entered takes a CONNACK that says yes.
func (w *wire) entered() *wire {
	w.t.Helper()
	if head, body := w.packet(); head != 0x20 || body[1] != 0 {
		w.t.Fatalf("CONNACK %x %x", head, body)
	}
	return w
}

// login connects a client over TCP.
func (s *site) login(id, user, password string) *wire {
	s.t.Helper()
	c, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.Door().Addrs()[0].String())
	if err != nil {
		s.t.Fatal(err)
	}
	return on(s.t, c, id, user, password).entered()
}

// wantWithdrawn takes a DISCONNECT for an administrative action, and the end.
func (w *wire) wantWithdrawn(who string) {
	w.t.Helper()
	if head, body := w.packet(); head != 0xe0 || body[0] != 0x98 {
		w.t.Fatalf("%s got %02x %x, want DISCONNECT 0x98", who, head, body)
	}
	if _, _, err := w.next(); err == nil {
		w.t.Errorf("the connection of %s goes on", who)
	}
}

// wantLife checks that a client is still served: it publishes, and a record has come.
func (w *wire) wantLife(topic string) {
	w.t.Helper()
	w.publish(1, 0, 1, topic, "alive")
	w.expect(0x40, 1)
}

func (s *site) file(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func publicKey(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// S2: a reload disconnects the clients whose user, password or token key was
// withdrawn, and no others; what a subscription may no longer deliver stops. A
// reload that fails disconnects nobody.
func TestReloadWithdraws(t *testing.T) {
	s := newSite(t, "")
	_, kept, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, lost, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	passwd, acl := filepath.Join(s.dir, "passwd"), s.file("acl", "pattern readwrite #\n")
	keys := s.file("keys", publicKey(t, kept)+publicKey(t, lost))
	for _, user := range []string{"stays", "gone", "changed"} {
		if _, err := auth.SetPassword(passwd, user, []byte("secret"), true); err != nil {
			t.Fatal(err)
		}
	}
	s.mqtt = fmt.Sprintf("allow_anonymous = true\npassword_file = %q\nacl_file = %q\njwt_keys_file = %q\n", passwd, acl, keys)
	s.start()
	token := func(key ed25519.PrivateKey, user string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	clients := map[string]*wire{
		"stays": s.login("a", "stays", "secret"), "nobody": s.login("b", "", ""), "kept": s.login("c", "", token(kept, "kept")),
		"gone": s.login("d", "gone", "secret"), "changed": s.login("e", "changed", "secret"), "lost": s.login("f", "", token(lost, "lost")),
	}
	stays := clients["stays"]
	stays.follow("all/#", 1)

	s.file("acl", "nonsense\n")
	s.Reload()
	s.until("yellow", func(r status.Report) bool { return r.MQTT.BadReload != "" })
	for _, c := range clients {
		c.wantLife("other/x")
	}
	if err := auth.DeleteUser(passwd, "gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.SetPassword(passwd, "changed", []byte("another"), false); err != nil {
		t.Fatal(err)
	}
	s.file("keys", publicKey(t, kept))
	s.file("acl", "pattern readwrite #\nuser stays\ntopic deny all/secret\n")
	s.Reload()
	for _, who := range []string{"gone", "changed", "lost"} {
		clients[who].wantWithdrawn(who)
	}
	for _, who := range []string{"nobody", "kept", "stays"} {
		clients[who].wantLife("other/x")
	}
	clients["nobody"].publish(1, 0, 2, "all/secret", "not for stays")
	clients["nobody"].publish(1, 0, 3, "all/fine", "for stays")
	stays.wantMessage("2 all/fine for stays")
	s.until("three to be withdrawn, and three to stay", func(r status.Report) bool { return r.MQTT.Withdrawn == 3 && r.MQTT.Connections == 3 })
}

// An authority signs certificates for a test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.certificate, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, "ca")
	return a
}

// issue signs a certificate; the first one signs itself.
func (a *authority) issue(c *x509.Certificate, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	c.Subject, c.SerialNumber = pkix.Name{CommonName: name}, big.NewInt(a.serial)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.certificate, a.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

// server returns the certificate and key of a server on loopback, in PEM.
func (a *authority) server() (crt, key string) {
	a.t.Helper()
	c, k := a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, "door")
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificatePEM(c), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (a *authority) client(name string) (*x509.Certificate, *tls.Config) {
	c, key := a.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, name)
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return c, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}},
	}
}

func (a *authority) revoke(all ...*x509.Certificate) string {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range all {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func certificatePEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// S2: a reload disconnects the clients whose certificate was revoked, over TLS and
// over WebSocket in TLS, where a certificate is who the client is as well.
func TestReloadRevokes(t *testing.T) {
	s, a := newSite(t, ""), newAuthority(t)
	crt, key := a.server()
	s.mqtt = fmt.Sprintf("listen_tls = [\"127.0.0.1:0\"]\nlisten_wss = [\"127.0.0.1:0\"]\ntls_cert_file = %q\ntls_key_file = %q\ntls_client_ca_file = %q\ntls_crl_file = %q\n",
		s.file("crt", crt), s.file("key", key),
		s.file("ca", certificatePEM(a.certificate)), s.file("crl", a.revoke()))
	s.mqtt += fmt.Sprintf("acl_file = %q\n", s.file("acl", "pattern write %u/#\n"))
	s.start()
	secure := func(id string, c *tls.Config) net.Conn {
		nc, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", s.Door().Addrs()[1].String())
		if err != nil {
			t.Fatal(id, err)
		}
		return nc
	}
	web := func(id string, c *tls.Config) net.Conn {
		browser := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		ws, answer, err := websocket.Dial(t.Context(), "wss://"+s.Door().Addrs()[2].String(), &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: browser})
		if err != nil {
			t.Fatal(id, err)
		}
		if answer.Body != nil {
			_ = answer.Body.Close()
		}
		return websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	}
	_, good := a.client("good")
	lostCertificate, lost := a.client("lost")
	for name, dial := range map[string]func(string, *tls.Config) net.Conn{"TLS": secure, "WebSocket in TLS": web} {
		s.file("crl", a.revoke())
		s.Reload()
		stays, leaves := on(t, dial("good", good), "good", "", "").entered(), on(t, dial("lost", lost), "lost", "", "").entered()
		stays.wantLife("good/x")
		leaves.wantLife("lost/x")
		s.file("crl", a.revoke(lostCertificate))
		s.Reload()
		leaves.wantWithdrawn("lost over " + name)
		stays.wantLife("good/x")
		_ = stays.Close()
	}
}
