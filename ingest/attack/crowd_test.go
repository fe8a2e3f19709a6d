//go:build attack

package attack

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A crowd is very many MQTT clients, as cheap as they can be: raw sockets and one
// epoll loop, which is all that happens in them. It is for one goroutine.
type crowd struct {
	hello   func(device int) []byte // its CONNECT
	devices int
	atOnce  int // connections being made; 0: all

	to    unix.SockaddrInet4
	epoll int
	fds   []int  // by device; -1: not connected
	said  []bool // by device: the CONNECT is sent

	// How often a connection failed on the way, and was tried again.
	retries int
	lastErr error
}

func newCrowd(t *testing.T, address string, devices int, helloOf func(int) []byte) *crowd {
	t.Helper()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{
		hello: helloOf, devices: devices, fds: make([]int, devices), said: make([]bool, devices),
		to: unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())},
	}
	for i := range c.fds {
		c.fds[i] = -1
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.drop()
		_ = unix.Close(c.epoll)
	})
	return c
}

// connect connects all devices that are not, and returns when each has its
// CONNACK, or with an error after stormPatience.
func (c *crowd) connect() (time.Duration, error) {
	start := time.Now()
	atOnce := c.atOnce
	if atOnce == 0 {
		atOnce = c.devices
	}
	var due []int
	for i, fd := range c.fds {
		if fd < 0 {
			due = append(due, i)
		}
	}
	missing, open := len(due), 0
	events := make([]unix.EpollEvent, 512)
	for missing > 0 {
		for begun := 0; len(due) > 0 && begun < 128 && open < atOnce; begun++ {
			if err := c.begin(due[0]); err != nil {
				return 0, err
			}
			due, open = due[1:], open+1
		}
		wait := 100 // milliseconds
		if len(due) > 0 && open < atOnce {
			wait = 0
		}
		n, err := unix.EpollWait(c.epoll, events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		for _, e := range events[:max(0, n)] {
			i := int(e.Fd)
			switch done, err := c.step(i, e.Events); {
			case err != nil:
				c.lastErr = err
				c.retries++
				_ = unix.Close(c.fds[i])
				c.fds[i] = -1
				due, open = append(due, i), open-1
			case done:
				missing, open = missing-1, open-1
			}
		}
		if time.Since(start) > stormPatience {
			return 0, fmt.Errorf("%d of %d are not back after %v; %d retries, the last for: %w", missing, c.devices, stormPatience, c.retries, orNothing(c.lastErr))
		}
	}
	return time.Since(start), nil
}

// begin starts to connect one device. Each address has 500 of them.
func (c *crowd) begin(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fds[i], c.said[i] = fd, false
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 2, byte(1 + i/500%250)}}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(i),
	})
}

// step does what can be done for one device, and says whether it has its CONNACK.
func (c *crowd) step(i int, events uint32) (done bool, err error) {
	fd := c.fds[i]
	if events&unix.EPOLLERR != 0 {
		code, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return false, fmt.Errorf("connect: %w", unix.Errno(code))
	}
	if !c.said[i] && events&unix.EPOLLOUT != 0 {
		c.said[i] = true
		if _, err := unix.Write(fd, c.hello(i)); err != nil {
			return false, err
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP) == 0 {
		return false, nil
	}
	var answer [16]byte
	n, err := unix.Read(fd, answer[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, err
	case n != 4 || answer[0] != 0x20 || answer[3] != 0:
		return false, fmt.Errorf("CONNECT was answered with % x", answer[:max(0, n)])
	}
	return true, unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// drop ends all connections at once, without a word: each sends a reset, as when
// a router that kept them for its devices was restarted.
func (c *crowd) drop() {
	for i, fd := range c.fds {
		if fd >= 0 {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(fd)
			c.fds[i] = -1
		}
	}
}

// forgetAll takes the connections from the devices, and leaves them open: the
// devices were switched off, and come back as if there had been nothing. The
// function that it returns closes them.
func (c *crowd) forgetAll() (closeThem func()) {
	old := make([]int, 0, len(c.fds))
	for i, fd := range c.fds {
		if fd >= 0 {
			old = append(old, fd)
			c.fds[i] = -1
		}
	}
	return func() {
		for _, fd := range old {
			_ = unix.Close(fd)
		}
	}
}

// connected returns how many connections are still open, and silent.
func (c *crowd) connected() (n int) {
	var b [1]byte
	for _, fd := range c.fds {
		if fd < 0 {
			continue
		}
		if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT); errors.Is(err, unix.EAGAIN) {
			n++
		}
	}
	return n
}
