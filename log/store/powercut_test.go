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
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// TestMain lets the test's own program be the process that loses its power.
func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv("POWERCUT_DIR"); ok {
		fmt.Fprintln(os.Stderr, "victim:", victim(dir))
		return
	}
	m.Run()
}

// D1, D3, L1, L2: ROUNDS power cuts on a real ext4, one after another on the same
// image: a process appends from several goroutines and reports what is
// acknowledged; at a random moment, perhaps while it still recovers, the file
// system is shut down without another byte reaching the device. Nothing that was
// reported before is lost, nothing that was not appended is there, and the log
// starts again by itself, every time. It needs root, losetup and mkfs.ext4.
//
//	make test-powercut ROUNDS=200
//	SEED=7 ROUNDS=20 go test -tags powercut -v -run 'TestPowerCut$' ./log/store/
func TestPowerCut(t *testing.T) {
	rounds, seed := number(t, "ROUNDS", 20), number(t, "SEED", rand.Uint64N(1<<32))
	t.Logf("seed %d (the script; when exactly the cut hits is the machine's)", seed)
	m := newMachine(t, seed)
	from := time.Now()
	for round := range rounds {
		if err := m.round(); err != nil {
			t.Fatalf("round %d, seed %d: %v", round+1, seed, err)
		}
		if (round+1)%20 == 0 {
			t.Log(m.tally(round + 1))
		}
	}
	t.Logf("%s; seed %d, %v", m.tally(rounds), seed, time.Since(from).Round(time.Second))
}

// D1: the checker has teeth. Built with an acknowledgement before the flush, the
// same rounds lose records and say so.
func TestPowerCutHasTeeth(t *testing.T) {
	if ackBeforeSync {
		t.Skip("this is the broken build")
	}
	broken := filepath.Join(t.TempDir(), "broken.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "powercut break_fsync", "-o", broken, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c := exec.Command(broken, "-test.v", "-test.run", "^TestPowerCut$")
	c.Env = append(os.Environ(), "ROUNDS=60")
	out, err := c.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("D1: ")) {
		t.Fatalf("the broken build was not caught: %v\n%s", err, out)
	}
	t.Logf("caught: %s", out)
}

func number(t *testing.T, name string, value uint64) uint64 {
	t.Helper()
	if text, ok := os.LookupEnv(name); ok {
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}
	return value
}

// A machine has a disk whose power can be cut, and remembers what was promised.
type machine struct {
	t       *testing.T
	rng     *rand.Rand
	device  string // a loop device
	mounted string // where its ext4 is mounted
	ledgers []*promise

	acked, unacked, torn, trimmed int
}

// A promise is what is known of one ledger.
type promise struct {
	id        tributary.LedgerID
	acked     atomic.Uint64 // below: acknowledged, as far as anybody heard
	forwarded atomic.Uint64 // below: may be gone
}

func newMachine(t *testing.T, seed uint64) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can mount a file system: run as root")
	}
	m := &machine{t: t, rng: rand.New(rand.NewPCG(seed, 0)), mounted: filepath.Join(t.TempDir(), "mounted")}
	image := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 600<<20), os.Mkdir(m.mounted, 0o700)); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", image)
	m.device = strings.TrimSpace(run(t, "losetup", "--find", "--show", image))
	t.Cleanup(func() {
		_ = unix.Unmount(m.mounted, unix.MNT_DETACH) // after a failure it may still be mounted
		run(t, "losetup", "--detach", m.device)
	})
	m.mount()
	return m
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (m *machine) mount() {
	m.t.Helper()
	if err := unix.Mount(m.device, m.mounted, "ext4", 0, ""); err != nil {
		m.t.Fatalf("mount %s: %v", m.device, err)
	}
}

func (m *machine) unmount() {
	m.t.Helper()
	if err := unix.Unmount(m.mounted, 0); err != nil {
		m.t.Fatalf("unmount %s: %v", m.device, err)
	}
}

func (m *machine) tally(rounds uint64) string {
	return fmt.Sprintf("%d power cuts: %d records acknowledged, %d more found, 0 lost, 0 invented; %d torn tails, %d ledgers trimmed, %d ledgers",
		rounds, m.acked, m.unacked, m.torn, m.trimmed, len(m.ledgers))
}

// round runs a process until the power is cut, and checks what is left.
func (m *machine) round() error {
	p, err := m.cut()
	if err != nil {
		return err
	}
	m.unmount()
	m.mount()
	if p != nil {
		m.ledgers = append(m.ledgers, p)
		m.acked += int(p.acked.Load())
	}
	return m.check()
}

// cut starts a process, cuts the power at some moment, and returns what the
// process reported of its ledger; nil if it had none yet.
func (m *machine) cut() (*promise, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "POWERCUT_DIR="+filepath.Join(m.mounted, "log"), "POWERCUT_FORWARDED="+m.forwarded())
	var complaint bytes.Buffer
	c.Stderr = &complaint
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(m.mounted, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	var p promise
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		listen(pipe, &p, started)
	}()
	if m.rng.IntN(4) > 0 { // or else the cut comes while it recovers
		select {
		case <-started:
		case <-ended:
			return nil, fmt.Errorf("D3: did not start by itself: %s", &complaint)
		}
	}
	<-time.After(time.Duration(1+m.rng.IntN(120)) * time.Millisecond)

	const shutdown, withoutLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	acked := p.acked.Load()
	if err := unix.IoctlSetPointerInt(root, shutdown, withoutLogFlush); err != nil {
		return nil, fmt.Errorf("shut the file system down: %w", err)
	}
	_ = c.Process.Kill()
	<-ended
	_ = c.Wait() // killed
	p.acked.Store(acked)
	if p.id == (tributary.LedgerID{}) {
		return nil, unix.Close(root)
	}
	return &p, unix.Close(root)
}

// A report is one kind byte and 16 more: a ledger's id, or an LSN and zeros.
const (
	reportBytes     = 17
	reportLedger    = 'L'
	reportAcked     = 'A'
	reportForwarded = 'F'
)

// listen notes what the process reports until its end of the pipe is closed.
func listen(pipe io.Reader, p *promise, started chan struct{}) {
	var b [reportBytes]byte
	for {
		if _, err := io.ReadFull(pipe, b[:]); err != nil {
			return
		}
		switch b[0] {
		case reportLedger:
			p.id = tributary.LedgerID(b[1:])
			close(started)
		case reportAcked:
			p.acked.Store(binary.BigEndian.Uint64(b[1:]))
		case reportForwarded:
			p.forwarded.Store(binary.BigEndian.Uint64(b[1:]))
		}
	}
}

// forwarded says, in the words of the environment, that all earlier ledgers are
// in Kafka.
func (m *machine) forwarded() string {
	var all []string
	for _, p := range m.ledgers {
		p.forwarded.Store(p.acked.Load())
		all = append(all, fmt.Sprintf("%v:%d", p.id, p.acked.Load()))
	}
	return strings.Join(all, " ")
}

func cutOptions() Options {
	return Options{SegmentBytes: segment.MinBytes, MaxBytes: 8 * segment.MinBytes, Compress: true}
}

// check opens the log as the next process would and reads all of it.
func (m *machine) check() error {
	fs, err := disk.Dir(filepath.Join(m.mounted, "log"))
	if err != nil {
		return err
	}
	l, found, err := Open(fs, cutOptions())
	if err != nil {
		return fmt.Errorf("D3: does not start again by itself: %w", err)
	}
	if len(found.Rot) > 0 {
		return fmt.Errorf("calls a power cut rot: %w", &found.Rot[0])
	}
	if found.Torn {
		m.torn++
	}
	left := m.ledgers[:0]
	for _, p := range m.ledgers {
		if from, held := l.base(p.id); !held && p.acked.Load() <= p.forwarded.Load() {
			continue // in Kafka and gone
		} else if from > 0 {
			m.trimmed++
		}
		n, err := p.check(l)
		if err != nil {
			return fmt.Errorf("ledger %v: %w", p.id, err)
		}
		m.unacked += n
		left = append(left, p)
	}
	m.ledgers = left
	if held := l.Ledgers(); len(held) > len(left) {
		return fmt.Errorf("D3: holds %d ledgers, %d are known", len(held), len(left))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil { // closes its files
		return err
	}
	if _, err := Verify(fs); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

// check reads a ledger and returns how many records it has that nobody had heard
// of. From now on they are promised too.
func (p *promise) check(l *Log) (more int, err error) {
	r, err := l.Reader(p.id)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	at := r.Base()
	if uint64(at) > p.forwarded.Load() {
		return 0, fmt.Errorf("D3: starts at record %d, forwarded were %d", at, p.forwarded.Load())
	}
	seen := map[byte]uint64{} // of each goroutine, the sequence number that comes next
	whole := at == 0
	for {
		c, err := r.Read(context.Background(), at, 1<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("D3: read from record %d: %w", at, err)
		}
		for i := range c.Entries {
			e := &c.Entries[i]
			g, seq := e.Value[0], binary.BigEndian.Uint64(e.Value[1:])
			want, known := seen[g]
			if e.LSN != at+tributary.LSN(i) || (known || whole) && seq != want || !bytes.Equal(e.Value, cutRecord(p.id, g, seq).Value) {
				return 0, fmt.Errorf("D3: record %d (%d) is number %d of goroutine %d, %d comes next", at+tributary.LSN(i), e.LSN, seq, g, want)
			}
			seen[g] = seq + 1
		}
		at = c.Next
	}
	acked := p.acked.Load()
	if uint64(at) < acked {
		return 0, fmt.Errorf("D1: ends at record %d; %d were acknowledged: %d lost", at, acked, acked-uint64(at))
	}
	p.acked.Store(uint64(at))
	return int(uint64(at) - acked), nil
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

// victim appends for as long as it lives: some goroutines wait for every
// acknowledgement, others keep many records under way.
func victim(dir string) error {
	fs, err := disk.Dir(dir)
	if err != nil {
		return err
	}
	l, _, err := Open(fs, cutOptions())
	if err != nil {
		return err
	}
	inKafka, _ := os.LookupEnv("POWERCUT_FORWARDED")
	for text := range strings.FieldsSeq(inKafka) {
		digits, next, _ := strings.Cut(text, ":")
		id, err1 := tributary.ParseLedgerID(digits)
		n, err2 := strconv.ParseUint(next, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		l.Forwarded(id, tributary.LSN(n))
	}
	report := func(kind byte, what []byte) {
		b := [reportBytes]byte{kind}
		copy(b[1:], what)
		_, _ = os.Stdout.Write(b[:]) // whole: it is shorter than a pipe's atomic write
	}
	id := l.Ledger()
	report(reportLedger, id[:])
	const keep = 1000
	l.OnCommit(func(base tributary.LSN, tickets []tributary.Ticket, err error) {
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
