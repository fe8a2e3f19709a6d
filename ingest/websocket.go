package ingest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

// acceptWebSockets serves MQTT over WebSocket (MQTT 5, 6) on what comes in until
// ctx is done and all its connections have ended.
func (d *Door) acceptWebSockets(ctx context.Context, l net.Listener) {
	srv := &http.Server{
		Handler:           http.HandlerFunc(d.upgrade),
		ReadHeaderTimeout: d.opt.ConnectTimeout,
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
	d.EstablishConnection(&webConn{Conn: websocket.NetConn(context.WithoutCancel(r.Context()), ws, websocket.MessageBinary), remote: r.RemoteAddr})
}

// A webConn is a WebSocket as a stream of bytes.
type webConn struct {
	net.Conn

	remote string
}

// RemoteAddr returns the client's address.
func (c *webConn) RemoteAddr() net.Addr { return webAddr(c.remote) }

// Read reads on over empty messages.
func (c *webConn) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = c.Conn.Read(p)
	}
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

type webAddr string

func (a webAddr) Network() string { return "tcp" }
func (a webAddr) String() string  { return string(a) }
