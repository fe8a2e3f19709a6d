package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// socks is a SOCKS5 proxy (RFC 1928, 1929) that asks for u/p.
type socks struct {
	net.Listener
	conns atomic.Int64
	mute  atomic.Bool // says nothing any more
	wg    sync.WaitGroup
}

func newSocks(t *testing.T) *socks {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socks{Listener: l}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.wg.Go(func() {
				defer conn.Close()
				if s.mute.Load() {
					_, _ = io.Copy(io.Discard, conn)
					return
				}
				_ = s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); s.wg.Wait() })
	return s
}

func (s *socks) serve(conn net.Conn) error {
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(conn, b)
		return b
	}
	read(int(read(2)[1])) // methods
	_, _ = conn.Write([]byte{5, 2})
	user := read(int(read(2)[1]))
	password := read(int(read(1)[0]))
	if string(user) != "u" || string(password) != "p" {
		_, err := conn.Write([]byte{1, 1})
		return err
	}
	_, _ = conn.Write([]byte{1, 0})
	head := read(4)
	var host string
	switch head[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	default:
		return errors.New("address type")
	}
	port := binary.BigEndian.Uint16(read(2))
	out, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	defer out.Close()
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() { _, _ = io.Copy(out, conn); _ = out.Close() }()
	_, _ = io.Copy(conn, out)
	return nil
}

// selfSigned returns a server's and a client's TLS config for 127.0.0.1.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// Every connection goes through the proxy, with TLS and a login inside.
func TestProxyTLSAndLogin(t *testing.T) {
	server, client := selfSigned(t)
	c := cluster(t, kfake.TLS(server), kfake.EnableSASL(), kfake.Superuser("PLAIN", "edge1", "secret"))
	proxy := newSocks(t)
	var direct atomic.Int64
	cfg := config(c)
	cfg.TLS, cfg.SASL = client, SASL{Mechanism: "plain", User: "edge1", Password: "secret"}
	cfg.Proxy = "socks5://u:p@" + proxy.Addr().String()
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != proxy.Addr().String() {
			direct.Add(1)
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	l := newLedger()
	l.fill("a", 10, 10)
	l.close()
	watch := drain(t, cfg, l)
	if len(watch.commits) == 0 || watch.commits[len(watch.commits)-1].Position.Next != 10 {
		t.Errorf("commits %+v", watch.commits)
	}
	if direct.Load() != 0 || proxy.conns.Load() == 0 {
		t.Errorf("%d connections past the proxy, %d through it", direct.Load(), proxy.conns.Load())
	}

	// Without the certificate's authority it says so.
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	watch = newLog()
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", says("certificate of Kafka is not trusted", "ca_file"))
	_ = stop()
}

// A proxy that takes the connection and says nothing does not hold up the end.
func TestProxyDialEndsWithContext(t *testing.T) {
	proxy := newSocks(t)
	proxy.mute.Store(true)
	dial, err := newDialer(Config{Proxy: "socks5://" + proxy.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := dial(ctx, "tcp", "127.0.0.1:1")
		done <- err
	}()
	for proxy.conns.Load() == 0 {
		<-time.After(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("dialed nothing")
		}
	case <-time.After(5 * time.Second):
		t.Error("the dial goes on")
	}
}

// A dead network is reported with the addresses.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	watch := newLog()
	cfg := Config{Brokers: []string{l.Addr().String()}, Site: "plant"}
	stop := start(t, quick(t, cfg, newLedger(), watch))
	watch.until(t, "sentence", says("Kafka at "+l.Addr().String()+" cannot be reached", "network"))
	_ = stop()
}
