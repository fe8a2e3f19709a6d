// Package sdnotify tells systemd how the service fares: the datagrams of
// sd_notify(3), without its library.
package sdnotify

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sendTimeout  = 5 * time.Second  // systemd reads at once, or something is very wrong
	extendBy     = 60 * time.Second // what a start asks for,
	extendEvery  = 20 * time.Second // and how often
	statusPeriod = 30 * time.Second // where there is no watchdog
)

// A Service is this process as systemd sees it. Where systemd has not started it,
// everything that is said goes nowhere. What cannot be said is logged.
type Service struct {
	socket   string
	watchdog time.Duration // 0: none
	logger   *slog.Logger
}

// New takes from the environment what systemd gives to its services.
func New(environ func(string) string, logger *slog.Logger) *Service {
	s := &Service{socket: environ("NOTIFY_SOCKET"), logger: logger}
	pid := environ("WATCHDOG_PID")
	micros, err := strconv.ParseInt(environ("WATCHDOG_USEC"), 10, 64)
	if err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(micros) * time.Microsecond
	}
	return s
}

// Ready says that the service serves, after a start or a reload; status is one line.
func (s *Service) Ready(status string) { s.send("READY=1", "STATUS="+line(status)) }

// Reloading says that the service reads its files again; Ready ends that.
func (s *Service) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		s.logger.Warn("systemd was not told of the reload", "error", err)
		return
	}
	s.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that the service ends, in good order.
func (s *Service) Stopping() { s.send("STOPPING=1", "STATUS=making durable what was taken") }

// Starting asks for more time again and again, until ctx ends: how long a start takes
// is up to the disk.
func (s *Service) Starting(ctx context.Context, status string) {
	s.every(ctx, extendEvery, func() {
		s.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()), "STATUS="+line(status))
	})
}

// Watch feeds the watchdog, twice in each of its periods, until ctx ends. Before each
// ping works is called, and it is sent only if that returned nil: works hangs while the
// service does. Then status is said.
func (s *Service) Watch(ctx context.Context, works func(context.Context) error, status func() string) {
	period := statusPeriod
	if s.watchdog > 0 {
		period = s.watchdog / 2
	}
	s.every(ctx, period, func() {
		if s.watchdog > 0 {
			if works(ctx) != nil {
				return
			}
			s.send("WATCHDOG=1")
		}
		s.send("STATUS=" + line(status()))
	})
}

// every calls f now and once in each period, until ctx ends. Nobody listens: it does
// nothing.
func (s *Service) every(ctx context.Context, period time.Duration, f func()) {
	if s.socket == "" {
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// send sends one datagram. A socket whose name begins with '@' is abstract; package net
// knows that.
func (s *Service) send(state ...string) {
	if s.socket == "" {
		return
	}
	if err := s.write(strings.Join(state, "\n")); err != nil {
		s.logger.Warn("systemd was not told", "what", state[0], "error", err)
	}
}

func (s *Service) write(text string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err = c.Write([]byte(text))
	return err
}

// line makes one line of text.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }
