package uplink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

// dialTimeout bounds TCP, proxy and TLS together. A broker that cannot be
// reached within it cannot carry a transaction either.
const dialTimeout = 10 * time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// DialContext makes a dialFunc a proxy.ContextDialer.
func (d dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// Dial is there for proxy.Dialer, which asks for it; nothing calls it.
func (d dialFunc) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

// newDialer returns what opens every connection to Kafka: TCP, through the
// proxy if there is one (RFC 1928; the proxy resolves the names), then TLS.
// Each step ends with ctx or after dialTimeout.
func newDialer(c Config) (dialFunc, error) {
	dial := dialFunc(c.Dial)
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	dial = c.Link.dial(dial)
	if c.Proxy != "" {
		d, err := throughProxy(c.Proxy, dial)
		if err != nil {
			return nil, err
		}
		dial = d
	}
	if c.TLS != nil {
		dial = overTLS(c.TLS, dial)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}, nil
}

func throughProxy(raw string, dial dialFunc) (dialFunc, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("kafka proxy: not a URL") // err may quote the password
	}
	if u.Scheme != "socks5" || u.Hostname() == "" {
		return nil, fmt.Errorf("kafka proxy: must be socks5://[user:password@]host:port")
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "1080")
	}
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", address, auth, dial)
	if err != nil {
		return nil, fmt.Errorf("kafka proxy %s: %w", address, err)
	}
	return d.(proxy.ContextDialer).DialContext, nil // x/net promises it
}

func overTLS(config *tls.Config, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		own := config.Clone()
		if own.ServerName == "" {
			own.ServerName, _, _ = net.SplitHostPort(address)
		}
		conn := tls.Client(raw, own)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // the handshake's error says more
			return nil, fmt.Errorf("TLS with %s: %w", address, err)
		}
		return conn, nil
	}
}
