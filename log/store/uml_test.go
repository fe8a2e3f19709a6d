//go:build powercut

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// D1, D3, L1, L2: the same with a whole machine: ROUNDS times a guest kernel
// boots (User-mode Linux), mounts its ext4, recovers the log and appends, and is
// killed with all it held in memory, perhaps while it boots. After each cut a
// copy of its disk is checked here, and the next guest starts from the disk
// itself: nobody repairs it, no fsck runs, its kernel replays its own journal.
// The guest's disk is an image file; what the guest's kernel has written to it
// survives, flushed or not, so that this rig, too, has no cache in the device
// that could lie. It needs root and the Debian package user-mode-linux.
//
//	make test-uml ROUNDS=100
//	SEED=7 ROUNDS=5 go test -tags powercut -v -run 'TestUML$' ./log/store/
func TestUML(t *testing.T) {
	rounds, seed := number(t, "ROUNDS", 5), number(t, "SEED", rand.Uint64N(1<<32))
	powerCuts(untilLate(t), t, newGuest(t, build(t, "")), rounds, seed)
}

// D1: a guest that never flushes loses what it acknowledged, nearly every time.
func TestUMLWithoutFsync(t *testing.T) {
	losses(untilLate(t), t, newGuest(t, build(t, "break_nosync")), 10)
}

// A guest is a machine of its own: a kernel, a program that is its init, and a disk.
type guest struct {
	kernel string
	root   string  // its root directory, which it only reads
	disk   string  // the image of its disk
	copied *volume // where a copy of the disk is looked at
}

const guestInKafka = "/inkafka" // the file in which a guest reads what is in Kafka

func newGuest(t *testing.T, program string) *guest {
	t.Helper()
	kernel, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Fatal("User-mode Linux is missing (Debian: apt-get install user-mode-linux):", err)
	}
	version, err := run(kernel, "--version")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("guest kernel %s", version)
	g := &guest{kernel: kernel, root: t.TempDir(), copied: newVolume(t, "ext4")}
	g.disk = filepath.Join(t.TempDir(), "disk")
	adoptOrphans(t)
	for _, dir := range []string{"dev", "mnt"} {
		if err := os.Mkdir(filepath.Join(g.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Rename(program, filepath.Join(g.root, "init")), g.wipe()); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) pace() (early, late time.Duration) {
	return 300 * time.Millisecond, 1500 * time.Millisecond
}

func (g *guest) wipe() error {
	empty := volume{kind: "ext4", image: g.disk}
	return empty.format(128<<20, "-b", "4096")
}

// cut boots the guest. Its serial line is the way of the reports, which nothing
// else writes to; its console is what it complains on.
func (g *guest) cut(inKafka string, at moment) (*promise, error) {
	if err := os.WriteFile(filepath.Join(g.root, guestInKafka), []byte(inKafka), 0o600); err != nil {
		return nil, err
	}
	v, err := startVictim(exec.Command(g.kernel, "mem=192M", "quiet", "noreboot", "uml_dir="+filepath.Dir(g.disk),
		"root=/dev/root", "rootfstype=hostfs", "rootflags="+g.root, "ro", "init=/init", "POWERCUT_GUEST=1", "ubd0="+g.disk,
		"con=null", "con0=null,fd:2", "ssl=null", "ssl0=null,fd:1"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(v.await(at), v.kill()); err != nil {
		return nil, fmt.Errorf("guest: %w\n%s", err, &v.complaint)
	}
	return &v.promise, nil // what it wrote to its serial line before it died, it had promised
}

// look looks at a copy, so that the guest's disk stays as the cut left it.
func (g *guest) look(see func(dir string) error) error {
	v := g.copied
	if _, err := run("cp", g.disk, v.image); err != nil {
		return err
	}
	if err := errors.Join(v.attach(), v.mount()); err != nil {
		return err
	}
	err := see(filepath.Join(v.mounted, "log"))
	return errors.Join(err, v.unmount(), v.detach())
}

// guestInit is process 1 of a guest. It ends with the guest.
func guestInit() {
	fmt.Fprintln(os.Stderr, "guest:", guestLife())
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func guestLife() error {
	line, err := unix.Open("/dev/ttyS0", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open the serial line: %w", err)
	}
	raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B38400}
	if err := unix.IoctlSetTermios(line, unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("make the serial line raw: %w", err)
	}
	inKafka, err := os.ReadFile(guestInKafka)
	if err != nil {
		return err
	}
	if err := unix.Mount("/dev/ubda", "/mnt", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return appendForever("/mnt/log", string(inKafka), serial(line))
}

// serial is a serial line whose Write returns when the host has all of it.
type serial int

func (s serial) Write(b []byte) (int, error) {
	n, err := unix.Write(int(s), b)
	if err != nil {
		return n, err
	}
	return n, unix.IoctlSetInt(int(s), unix.TCSBRK, 1) // tcdrain
}
