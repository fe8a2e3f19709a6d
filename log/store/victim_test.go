//go:build powercut

package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// TestMain lets the test's own program be what loses its power: a process, or
// the only process of a guest.
func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv("POWERCUT_GUEST"); ok {
		guestInit()
	}
	if dir, ok := os.LookupEnv("POWERCUT_DIR"); ok {
		inKafka, _ := os.LookupEnv("POWERCUT_FORWARDED")
		// A report is shorter than a pipe's atomic write, so that none is cut in two.
		fmt.Fprintln(os.Stderr, "victim:", appendForever(dir, inKafka, os.Stdout))
		return
	}
	m.Run()
}

// A report is one kind byte and 16 more: a ledger's id, or an LSN and zeros.
const (
	reportBytes     = 17
	reportBegun     = 'B' // nothing is open yet
	reportLedger    = 'L' // the log is open, and this is its ledger
	reportAcked     = 'A'
	reportForwarded = 'F'
)

func cutOptions() Options {
	return Options{SegmentBytes: segment.MinBytes, MaxBytes: 8 * segment.MinBytes, Compress: true}
}

// appendForever is what a victim does: some goroutines wait for every
// acknowledgement, others keep many records under way. What is in Kafka of
// earlier ledgers is told in inKafka, as promises.forwarded writes it. It
// returns only when the log has failed.
func appendForever(dir, inKafka string, to io.Writer) error {
	report := func(kind byte, what []byte) {
		b := [reportBytes]byte{kind}
		copy(b[1:], what)
		_, _ = to.Write(b[:]) // if nobody hears it, nothing was promised
	}
	report(reportBegun, nil)
	fs, err := disk.Dir(dir)
	if err != nil {
		return err
	}
	l, _, err := Open(fs, cutOptions())
	if err != nil {
		return err
	}
	for text := range strings.FieldsSeq(inKafka) {
		digits, next, _ := strings.Cut(text, ":")
		id, err1 := tributary.ParseLedgerID(digits)
		n, err2 := strconv.ParseUint(next, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		l.Forwarded(id, tributary.LSN(n))
	}
	id := l.Ledger()
	report(reportLedger, id[:])
	const keep = 1000
	l.OnCommit(func(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
		if err != nil {
			return
		}
		next := base + tributary.LSN(len(tickets))
		report(reportAcked, binary.BigEndian.AppendUint64(nil, uint64(next)))
		if next > keep {
			report(reportForwarded, binary.BigEndian.AppendUint64(nil, uint64(next-keep)))
			l.Forwarded(id, next-keep)
		}
		for _, t := range tickets {
			<-t.Owner.(chan struct{})
		}
	})
	for g, window := range []int{1, 2, 10, 100} {
		room := make(chan struct{}, window)
		go func() {
			for seq := uint64(0); ; {
				room <- struct{}{}
				switch _, err := l.Append(cutRecord(id, byte(g), seq), tributary.Ticket{Owner: room}); {
				case err == nil:
					seq++
				case errors.As(err, new(*FullError)):
					<-room
					<-time.After(time.Millisecond)
				default:
					return
				}
			}
		}()
	}
	return l.Run(context.Background())
}

// cutRecord makes record seq of goroutine g: the same every time it is asked for.
func cutRecord(id tributary.LedgerID, g byte, seq uint64) *record.Record {
	rng := rand.New(rand.NewPCG(binary.BigEndian.Uint64(id[:])^uint64(g), seq))
	value := make([]byte, 9+rng.IntN(300))
	if rng.IntN(20) == 0 {
		value = make([]byte, 9+rng.IntN(40_000))
	}
	if seq%2 == 0 { // or else zeros, which compress
		for i := range value {
			value[i] = byte(rng.Uint32())
		}
	}
	value[0] = g
	binary.BigEndian.PutUint64(value[1:], seq)
	return &record.Record{Stream: "s", Partition: int32(g % 2), Millis: 1, Key: []byte{g}, Value: value}
}

// Whoever is slower than this is stuck.
const (
	startsWithin = time.Minute
	diesWithin   = 10 * time.Second
)

// A victim is a process group that appends until its power is cut, and what it
// has reported.
type victim struct {
	promise   promise
	cmd       *exec.Cmd
	news      chan byte // every kind of report, when it first comes; closed with the pipe
	complaint bytes.Buffer
}

// startVictim starts c, which reports on its standard output. The caller has to
// kill it.
func startVictim(c *exec.Cmd) (*victim, error) {
	v := &victim{cmd: c, news: make(chan byte, 4)}
	c.Stderr = &v.complaint
	c.WaitDelay = diesWithin
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	go v.listen(pipe)
	return v, nil
}

// listen notes what is reported until the last process has closed its end.
func (v *victim) listen(pipe io.Reader) {
	defer close(v.news)
	heard := map[byte]bool{}
	var b [reportBytes]byte
	for {
		if _, err := io.ReadFull(pipe, b[:]); err != nil {
			return
		}
		switch b[0] {
		case reportLedger:
			v.promise.id = tributary.LedgerID(b[1:])
		case reportAcked:
			v.promise.acked.Store(binary.BigEndian.Uint64(b[1:]))
		case reportForwarded:
			v.promise.forwarded.Store(binary.BigEndian.Uint64(b[1:]))
		case reportBegun:
		default:
			continue
		}
		if !heard[b[0]] {
			heard[b[0]] = true
			v.news <- b[0]
		}
	}
}

// A moment is when the power is cut: a while after the first report of a kind.
type moment struct {
	after byte
	wait  time.Duration
}

// await returns at the moment.
func (v *victim) await(at moment) error {
	stuck := time.After(startsWithin)
	for {
		select {
		case kind, more := <-v.news:
			if !more {
				return errors.New("D3: did not start by itself")
			}
			if kind == at.after {
				<-time.After(at.wait)
				return nil
			}
		case <-stuck:
			return fmt.Errorf("no report %q in %v", at.after, startsWithin)
		}
	}
}

// kill ends the whole group and returns when none of it is left, so that nobody
// writes any more and the promise is final.
func (v *victim) kill() error {
	group := v.cmd.Process.Pid
	if err := unix.Kill(-group, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill group %d: %w", group, err)
	}
	stuck := time.After(diesWithin)
	for open := true; open; {
		select {
		case _, open = <-v.news:
		case <-stuck:
			return fmt.Errorf("a process outlives its group %d by %v", group, diesWithin)
		}
	}
	_ = v.cmd.Wait() // killed
	for {
		switch pid, err := unix.Wait4(-group, nil, unix.WNOHANG, nil); {
		case errors.Is(err, unix.ECHILD): // reaped, all of them: see adoptOrphans
			return nil
		case pid > 0 || errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for group %d: %w", group, err)
		default:
			select {
			case <-time.After(time.Millisecond):
			case <-stuck:
				return fmt.Errorf("group %d is not dead after %v", group, diesWithin)
			}
		}
	}
}

// adoptOrphans makes this process the parent of those that its children leave
// behind, so that kill can wait for them.
func adoptOrphans(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal("become the parent of orphans:", err)
	}
}
