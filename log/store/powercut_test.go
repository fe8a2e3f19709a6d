//go:build powercut

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// D1, D3, L1, L2: ROUNDS power cuts, half of them on a real ext4 and half on a
// real XFS, one after another on the same image: a process appends from several
// goroutines and reports what is acknowledged; at a random moment, perhaps while
// it still recovers, the file system is shut down without another byte reaching
// the device. Nothing that was reported before is lost, nothing that was not
// appended is there, and the log starts again by itself, every time. It needs
// root, losetup, mkfs.ext4 and mkfs.xfs; on a kernel without XFS it fails unless
// FS=ext4 is asked for.
//
//	make test-powercut ROUNDS=200
//	FS=xfs SEED=7 ROUNDS=20 go test -tags powercut -v -run 'TestPowerCut$' ./log/store/
func TestPowerCut(t *testing.T) {
	rounds, seed := number(t, "ROUNDS", 20), number(t, "SEED", rand.Uint64N(1<<32))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, kinds := untilLate(t), fileSystems(t)
	each := (rounds + uint64(len(kinds)) - 1) / uint64(len(kinds))
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			powerCuts(ctx, t, newMachine(t, kind, self), each, seed)
		})
	}
}

// D1: the checker has teeth. With a victim that acknowledges before the flush,
// the same rounds lose records and say so.
func TestPowerCutHasTeeth(t *testing.T) {
	if ackBeforeSync {
		t.Skip("this is the broken build")
	}
	rig, seed := newMachine(t, fileSystems(t)[0], build(t, "break_fsync")), number(t, "SEED", rand.Uint64N(1<<32))
	ctx, rng := untilLate(t), rand.New(rand.NewPCG(seed, 0))
	var known promises
	for n := range 60 {
		err := powerCut(ctx, rig, &known, draw(rng, rig))
		if errors.As(err, new(*lostError)) {
			t.Logf("caught in round %d, seed %d: %v", n+1, seed, err)
			return
		}
		if err != nil {
			t.Fatalf("round %d, seed %d: %v", n+1, seed, err)
		}
	}
	t.Errorf("seed %d: an acknowledgement before the flush was not caught", seed)
}

// D1: the rig really cuts the power. With a victim that never flushes, nearly
// every round loses what it acknowledged.
func TestPowerCutWithoutFsync(t *testing.T) {
	ctx, program := untilLate(t), build(t, "break_nosync")
	for _, kind := range fileSystems(t) {
		t.Run(kind, func(t *testing.T) {
			losses(ctx, t, newMachine(t, kind, program), 20)
		})
	}
}

// A rig has a disk whose power can be cut.
type rig interface {
	// pace returns how long, at most, the power lasts after the victim has begun,
	// and after its log is open.
	pace() (early, late time.Duration)
	// cut runs a victim until the moment at which the power is cut, and returns
	// what it had promised by then. Nobody uses the disk on return.
	cut(inKafka string, at moment) (*promise, error)
	// look shows the log as the cut left it.
	look(see func(dir string) error) error
	// wipe empties the disk.
	wipe() error
}

// powerCut is one round.
func powerCut(ctx context.Context, r rig, known *promises, at moment) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no time is left for a round: %w", context.Cause(ctx))
	}
	p, err := r.cut(known.forwarded(), at)
	if err != nil {
		return err
	}
	known.add(p)
	return r.look(known.check)
}

// draw returns the moment of a cut: one of four comes while the victim recovers.
func draw(rng *rand.Rand, r rig) moment {
	early, late := r.pace()
	if rng.IntN(4) == 0 {
		return moment{reportBegun, time.Duration(rng.Int64N(int64(early)))}
	}
	return moment{reportLedger, time.Duration(rng.Int64N(int64(late)))}
}

// powerCuts fails at the first round that breaks a promise.
func powerCuts(ctx context.Context, t *testing.T, r rig, rounds, seed uint64) {
	t.Helper()
	t.Logf("seed %d (the script; when exactly the cut hits is the machine's)", seed)
	rng, from := rand.New(rand.NewPCG(seed, 0)), time.Now()
	var known promises
	for n := range rounds {
		if err := powerCut(ctx, r, &known, draw(rng, r)); err != nil {
			t.Fatalf("round %d, seed %d: %v", n+1, seed, err)
		}
		if (n+1)%20 == 0 && n+1 < rounds {
			t.Log(known.tally(n + 1))
		}
	}
	t.Logf("%s; seed %d, %v", known.tally(rounds), seed, time.Since(from).Round(time.Second))
}

// losses wants a loss in nine of ten rounds, each of them on a fresh log.
func losses(ctx context.Context, t *testing.T, r rig, rounds int) {
	t.Helper()
	seed := number(t, "SEED", rand.Uint64N(1<<32))
	rng, from := rand.New(rand.NewPCG(seed, 0)), time.Now()
	_, late := r.pace()
	with, acked, lost := 0, 0, uint64(0)
	for n := range rounds {
		var known promises
		err := powerCut(ctx, r, &known, moment{reportAcked, time.Duration(rng.Int64N(int64(late)))})
		if ctx.Err() != nil {
			t.Fatalf("round %d, seed %d: %v", n+1, seed, context.Cause(ctx))
		}
		acked += known.acked
		var loss *lostError
		switch {
		case errors.As(err, &loss):
			with++
			lost += loss.acked - loss.found
		case err != nil:
			t.Logf("round %d: %v", n+1, err)
		}
		if err := r.wipe(); err != nil {
			t.Fatalf("round %d, seed %d: %v", n+1, seed, err)
		}
	}
	t.Logf("never flushed: %d of %d rounds lost records, %d of %d acknowledged; seed %d, %v",
		with, rounds, lost, acked, seed, time.Since(from).Round(time.Second))
	if with*10 < rounds*9 {
		t.Errorf("only %d of %d rounds lost records: the rig does not cut the power", with, rounds)
	}
}

// untilLate ends a minute before the test's own time is up, or when somebody
// interrupts it: early enough to unmount, detach and kill.
func untilLate(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := ossignal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	if late, ok := t.Deadline(); ok {
		ctx, stop = context.WithDeadline(ctx, late.Add(-time.Minute))
		t.Cleanup(stop)
	}
	return ctx
}

// build makes a victim with a fault in it, as a static program.
func build(t *testing.T, fault string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "victim")
	c := exec.Command("go", "test", "-c", "-tags", "powercut "+fault, "-o", program, ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

func fileSystems(t *testing.T) []string {
	t.Helper()
	all := []string{"ext4", "xfs"}
	asked, ok := os.LookupEnv("FS")
	if !ok || asked == "" {
		return all
	}
	kinds := strings.Fields(asked)
	for _, kind := range kinds {
		if kind != "ext4" && kind != "xfs" {
			t.Fatalf("FS=%s: it is tested on %v", asked, all)
		}
	}
	return kinds
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
