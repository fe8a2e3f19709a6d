package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// certified returns the TLS of a server on loopback, and who signed for it.
func certified(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: s.TLS.Certificates}, pool
}

// MQTT over WebSocket, without and with TLS: MQTT 5, 6.
func TestWebSocket(t *testing.T) {
	config, pool := certified(t)
	l := newFakeLog()
	d := newTestDoor(t, l, func(o *Options) {
		o.ListenWS, o.ListenWSS, o.TLS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, config
	})
	l.auto(t)
	runDoor(t, d)
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
	for i, scheme := range []string{"ws", "wss"} {
		dial := func(protocols ...string) *websocket.Conn {
			ws, answer, err := websocket.Dial(t.Context(), scheme+"://"+d.Addrs()[i].String()+"/mqtt",
				&websocket.DialOptions{Subprotocols: protocols, HTTPClient: browser})
			if err != nil {
				t.Fatal(scheme, err)
			}
			if answer.Body != nil {
				_ = answer.Body.Close()
			}
			return ws
		}
		c := speak(t, websocket.NetConn(t.Context(), dial("mqtt"), websocket.MessageBinary)).enter(dialled{id: scheme, v5: true})
		c.subscribe("t", 1)
		c.publish(1, 1, "t", scheme)
		for range 2 { // PUBACK and PUBLISH, in either order
			if p := c.next(); p[0] == 0x40 {
				continue
			} else if m := parseDelivered(t, p, true); m.topic != "t" || m.payload != scheme {
				t.Errorf("%s: got %+v", scheme, m)
			}
		}
		again := speak(t, websocket.NetConn(t.Context(), dial("mqtt"), websocket.MessageBinary)).enter(dialled{id: scheme, v5: true})
		c.want(0xe0, 2, packet.CodeTakenOver, 0) // it is told why
		c.wantEnd()
		again.send(0x32, 0x80, 0x80, 0x10) // the head of a packet that is too large
		again.want(0xe0, 2, packet.CodePacketTooLarge, 0)
		again.wantEnd()
		idle := speak(t, websocket.NetConn(t.Context(), dial("mqtt"), websocket.MessageBinary)).enter(dialled{id: scheme, v5: true, keepAlive: 1})
		idle.want(0xe0, 2, packet.CodeKeepAlive, 0)
		idle.wantEnd()
		if _, _, err := dial("chat").Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("%s: another subprotocol: %v", scheme, err)
		}
	}
}

// S1: who connects for WebSocket in TLS and then says nothing, or no TLS, is gone
// after a while.
func TestSecureWebSocketWithoutHandshake(t *testing.T) {
	config, _ := certified(t)
	d := newTestDoor(t, newFakeLog(), func(o *Options) {
		o.ListenWSS, o.TLS, o.ConnectTimeout = []string{"127.0.0.1:0"}, config, 100*time.Millisecond
	})
	runDoor(t, d)
	for _, says := range []string{"", "\x16\x03\x01\x02\x00\x01", "GET / HTTP/1.1\r\n\r\n"} {
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(nc, says); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Errorf("%q: the connection stays", says)
		}
	}
}
