// Package clock reads what the kernel knows of time besides the time of day:
// which boot this is, how long it has lasted, whether the clock is synchronised.
package clock

import (
	"encoding/hex"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Boot returns the random id of this boot, or zeros where there is none.
func Boot() (id [16]byte) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	digits := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	if b, err := hex.DecodeString(digits); err == nil {
		copy(id[:], b)
	}
	return id
}

// UptimeMillis returns the milliseconds since the boot, sleep included. It is
// not touched by anybody setting the clock.
func UptimeMillis() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return t.Nano() / 1e6
}

// Synced says whether the kernel holds the wall clock for synchronised. A
// gateway without a battery-backed clock starts in 1970 and says no.
func Synced() bool {
	const staUnsync, timeError = 0x40, 5
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != timeError && t.Status&staUnsync == 0
}
