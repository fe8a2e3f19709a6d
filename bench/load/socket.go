package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Broker is where a server speaks MQTT.
type Broker struct {
	Addr  string         // IPv4 address and port
	Roots *x509.CertPool // TLS, with a certificate that one of these signed; nil: plain TCP
}

// A socket is a TCP connection without Go's poller around it, which would cost
// a read that finds nothing, and two switches of goroutines, for every
// acknowledgement that is waited for. Write keeps what the kernel has no room
// for, and flush tries again; so it can be used below crypto/tls, whose
// connections do not survive a short write.
type socket struct {
	fd     int
	unsent []byte
}

// dialTimeout is how long a broker may take to answer while a connection is
// opened.
const dialTimeout = 10 * time.Second

// dialSocket connects from an address of its own per hundred connections, as
// devices have them: brokers limit what one address may do.
func dialSocket(addr string, nth int) (*socket, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	patience := unix.NsecToTimeval(int64(dialTimeout))
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience),
	)
	if to.Addr().IsLoopback() {
		err = errors.Join(err, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + nth/100%250)}}))
	}
	if err == nil {
		err = os.NewSyscallError("connect", connectTo(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &socket{fd: fd}, nil
}

// connectTo goes on when a signal interrupts it: Go's runtime sends itself some.
func connectTo(fd int, to unix.Sockaddr) error {
	for {
		switch err := unix.Connect(fd, to); err {
		case unix.EINTR:
		case unix.EISCONN: // the one that was interrupted has succeeded
			return nil
		default:
			return err
		}
	}
}

// Read returns EAGAIN when there is nothing to read.
func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write takes all of p.
func (s *socket) Write(p []byte) (int, error) {
	if len(s.unsent) > 0 {
		s.unsent = append(s.unsent, p...)
		return len(p), s.flush()
	}
	n, err := s.write(p)
	s.unsent = append(s.unsent, p[n:]...)
	return len(p), err
}

// flush writes what did not fit before.
func (s *socket) flush() error {
	n, err := s.write(s.unsent)
	s.unsent = s.unsent[:copy(s.unsent, s.unsent[n:])]
	return err
}

func (s *socket) write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Write(s.fd, p[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}

// Close may be called once.
func (s *socket) Close() error { return unix.Close(s.fd) }

// The rest of net.Conn, which crypto/tls does not call.

func (s *socket) LocalAddr() net.Addr              { return nil }
func (s *socket) RemoteAddr() net.Addr             { return nil }
func (s *socket) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (s *socket) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (s *socket) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// secure speaks TLS over s. It returns after the handshake.
func secure(ctx context.Context, s *socket, roots *x509.CertPool) (*tls.Conn, error) {
	t := tls.Client(s, &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return t, nil
}
