package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// acceptWebSockets serves MQTT over WebSocket (MQTT 5, 6) on what comes in until
// ctx is done and all its connections have ended.
func (d *Door) acceptWebSockets(ctx context.Context, l net.Listener) {
	d.serveWebSockets(ctx, l, d.opt.ConnectTimeout)
}

// acceptSecureWebSockets is acceptWebSockets for TLS. The HTTP server lets the
// handshake, and then the request, take as long as a CONNECT with TLS may.
func (d *Door) acceptSecureWebSockets(ctx context.Context, l net.Listener) {
	d.serveWebSockets(ctx, tls.NewListener(l, d.opt.TLS), handshakes*d.opt.ConnectTimeout)
}

func (d *Door) serveWebSockets(ctx context.Context, l net.Listener, patience time.Duration) {
	srv := &http.Server{
		Handler:           http.HandlerFunc(d.upgrade),
		ReadHeaderTimeout: patience,
		IdleTimeout:       d.opt.ConnectTimeout, // after a request that was no upgrade
		ConnState:         d.countSockets,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(d.opt.Logger.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		d.opt.Logger.Error("no more WebSocket connections are accepted; everything else goes on", "address", l.Addr().String(), "error", err)
	}
}

// countSockets counts the connections that are no WebSocket yet, and closes one
// too many.
func (d *Door) countSockets(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !d.takeSocket() {
			_ = nc.Close()
		}
	case http.StateHijacked, http.StateClosed: // EstablishConnection counts for itself
		d.sockets.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// upgrade makes a WebSocket of a request, and serves MQTT on it. Browsers may
// come from any page: who may do what is for the guard to say.
func (d *Door) upgrade(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt", "mqttv3.1"}, InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	if ws.Subprotocol() == "" {
		_ = ws.Close(websocket.StatusPolicyViolation, `the subprotocol must be "mqtt"`) // MQTT-6.0.0-3
		return
	}
	ws.SetReadLimit(int64(d.opt.MaxPacketBytes) + 16<<10)
	c, pump := newWebConn(context.WithoutCancel(r.Context()), ws, r.RemoteAddr)
	var pumping sync.WaitGroup
	pumping.Go(pump)
	if r.TLS == nil {
		d.EstablishConnection(c)
	} else {
		d.EstablishConnection(&secureWebConn{c, r.TLS})
	}
	pumping.Wait()
}

// webReadBytes is what is read from a WebSocket at once.
const webReadBytes = 4 << 10

// A webConn is a WebSocket as a stream of bytes. A read deadline that passes would
// close the WebSocket itself, and nothing could be said to the client any more: so
// what comes goes through a pipe, whose deadlines end the wait alone.
type webConn struct {
	net.Conn // for writes

	ws     *websocket.Conn
	in     net.Conn
	remote string
}

// newWebConn returns a WebSocket as a stream, and what must run until it is closed.
func newWebConn(ctx context.Context, ws *websocket.Conn, remote string) (c *webConn, pump func()) {
	near, far := net.Pipe()
	c = &webConn{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), ws: ws, in: near, remote: remote}
	return c, func() {
		_, _ = io.CopyBuffer(far, struct{ io.Reader }{c.Conn}, make([]byte, webReadBytes)) // an error is an end as any other
		_ = far.Close()
	}
}

// RemoteAddr returns the client's address.
func (c *webConn) RemoteAddr() net.Addr { return webAddr(c.remote) }

func (c *webConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *webConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

func (c *webConn) SetDeadline(t time.Time) error {
	_ = c.in.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// Close says good-bye as WebSockets do, and waits for the answer for some seconds.
func (c *webConn) Close() error {
	_ = c.in.Close()
	return c.ws.Close(websocket.StatusNormalClosure, "")
}

// A secureWebConn is one in TLS.
type secureWebConn struct {
	*webConn

	state *tls.ConnectionState
}

// ConnectionState returns what the handshake has come to, as tls.Conn does.
func (c *secureWebConn) ConnectionState() tls.ConnectionState { return *c.state }

type webAddr string

func (a webAddr) Network() string { return "tcp" }
func (a webAddr) String() string  { return string(a) }
