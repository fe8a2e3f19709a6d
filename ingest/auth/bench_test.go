package auth

import (
	"crypto/tls"
	"net"
	"testing"
)

// BenchmarkHandshake is both sides of a TLS handshake with a client certificate,
// anew and resumed.
func BenchmarkHandshake(b *testing.B) {
	site := newTLSSite(b)
	g, err := Open(site.options)
	if err != nil {
		b.Fatal(err)
	}
	_, pair := site.signer.client(b, "pump")
	anew, resumed := site.clientConfig(pair), site.clientConfig(pair)
	anew.ClientSessionCache = nil
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	server := g.TLS()
	for name, client := range map[string]*tls.Config{"anew": anew, "resumed": resumed} {
		b.Run(name, func(b *testing.B) {
			var last tls.ConnectionState
			for b.Loop() {
				go func() {
					d := tls.Dialer{Config: client}
					if c, err := d.DialContext(b.Context(), "tcp", l.Addr().String()); err == nil {
						_, _ = c.Read(make([]byte, 1)) // takes the session ticket
						_ = c.Close()
					}
				}()
				nc, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				s := tls.Server(nc, server)
				if _, err := s.Write([]byte{1}); err != nil {
					b.Fatal(err)
				}
				_, _ = s.Read(make([]byte, 1))
				last = s.ConnectionState()
				_ = s.Close()
			}
			if last.DidResume != (name == "resumed") {
				b.Errorf("the last session was resumed: %v", last.DidResume)
			}
		})
	}
}
