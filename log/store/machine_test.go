//go:build powercut

package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A volume is a file system in an image, on a loop device.
type volume struct {
	kind    string // ext4 or xfs
	image   string
	mounted string // where it is mounted
	device  string // the loop device; empty while there is none
}

// newVolume returns a volume that has neither an image nor a device yet, and
// leaves no mount and no device behind when the test has ended in whatever way.
func newVolume(t *testing.T, kind string) *volume {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root can mount a file system: run as root")
	}
	dir := t.TempDir()
	v := &volume{kind: kind, image: filepath.Join(dir, "image"), mounted: filepath.Join(dir, "mounted")}
	if err := os.Mkdir(v.mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	// A process with mounts of its own, as "ip netns exec" starts, has a copy of ours,
	// and would keep a file system that was shut down from ever going away. It follows
	// when we unmount if the place is shared.
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(v.mounted, unix.MNT_DETACH) // after a failure it may still be mounted
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		if err := v.detach(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// format makes an image with an empty file system.
func (v *volume) format(bytes int64, options ...string) error {
	if err := os.WriteFile(v.image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(v.image, bytes); err != nil {
		return err
	}
	_, err := run("mkfs."+v.kind, append(options, "-q", v.image)...)
	return err
}

func (v *volume) attach() error {
	out, err := run("losetup", "--find", "--show", v.image)
	v.device = strings.TrimSpace(out)
	return err
}

func (v *volume) detach() error {
	if v.device == "" {
		return nil
	}
	_, err := run("losetup", "--detach", v.device)
	v.device = ""
	return err
}

// mount has the file system replay its journal, which is all the repair that a
// power cut may need.
func (v *volume) mount() error {
	err := unix.Mount(v.device, v.mounted, v.kind, 0, "")
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("THIS KERNEL HAS NO %s: nothing was tested on it; FS=ext4 asks for ext4 alone", strings.ToUpper(v.kind))
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", v.kind, v.device, err)
	}
	return v.alive()
}

// alive returns an error if the file system that was mounted is the one that was
// shut down: nothing can be told from it.
func (v *volume) alive() error {
	root, err := os.Open(v.mounted)
	if err != nil {
		return fmt.Errorf("%s on %s is still mounted elsewhere, shut down: %w", v.kind, v.device, err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		return fmt.Errorf("%s on %s is still mounted elsewhere, shut down: %w", v.kind, v.device, err)
	}
	return nil
}

func (v *volume) unmount() error {
	if err := unix.Unmount(v.mounted, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", v.device, err)
	}
	return nil
}

func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return string(out), nil
}

// A machine is a process on a file system that is shut down under it: nothing
// more reaches the device, not even the file system's own journal.
type machine struct {
	*volume

	program string // its victim
}

func newMachine(t *testing.T, kind, program string) *machine {
	t.Helper()
	m := &machine{volume: newVolume(t, kind), program: program}
	adoptOrphans(t)
	if err := errors.Join(m.format(600<<20), m.attach(), m.mount()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) dir() string { return filepath.Join(m.mounted, "log") }

func (m *machine) pace() (early, late time.Duration) {
	return 30 * time.Millisecond, 120 * time.Millisecond
}

func (m *machine) cut(inKafka string, at moment) (*promise, error) {
	root, err := unix.Open(m.mounted, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(root) }()
	c := exec.Command(m.program)
	c.Env = append(os.Environ(), "POWERCUT_DIR="+m.dir(), "POWERCUT_FORWARDED="+inKafka)
	v, err := startVictim(c)
	if err != nil {
		return nil, err
	}
	err = v.await(at)
	// Only what was reported before the cut counts: ext4 may let a flush succeed
	// that is under way while it is shut down.
	acked := v.promise.acked.Load()
	const shutdown, withoutLogFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN is XFS_IOC_GOINGDOWN, with the same flags
	if err == nil {
		err = unix.IoctlSetPointerInt(root, shutdown, withoutLogFlush)
	}
	if err := errors.Join(err, v.kill()); err != nil {
		return nil, fmt.Errorf("cut: %w\n%s", err, &v.complaint)
	}
	v.promise.acked.Store(acked)
	return &v.promise, nil
}

func (m *machine) look(see func(dir string) error) error {
	if err := errors.Join(m.unmount(), m.mount()); err != nil {
		return err
	}
	return see(m.dir())
}

func (m *machine) wipe() error {
	return errors.Join(os.RemoveAll(m.dir()), m.unmount(), m.mount())
}
