package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

// slowReads is a disk whose reads take a while: so Verify sees segments being used
// again, and packed.
type slowReads struct{ disk.FS }

type slowFile struct{ disk.File }

func (d slowReads) Open(name string, write bool) (disk.File, error) {
	f, err := d.FS.Open(name, write)
	return slowFile{f}, err
}

func (f slowFile) ReadAt(b []byte, at int64) (int, error) {
	time.Sleep(200 * time.Microsecond) //nolint:forbidigo // bubble time
	return f.File.ReadAt(b, at)
}

// D3: Verify may run beside the daemon: segments that are used again or packed
// meanwhile are no fault.
func TestVerifyBeside(t *testing.T) {
	for _, forward := range []bool{true, false} {
		t.Run(fmt.Sprint("forward ", forward), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := disktest.New(1 << 30)
				l := start(t, d, Options{MaxBytes: 16 * (64 << 10), Compress: true, DropOldest: !forward})
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n := range 1500 {
						lsn, err := l.Append(rec("telemetry", 0, n), tributary.Ticket{})
						time.Sleep(100 * time.Microsecond) //nolint:forbidigo // bubble time
						if err == nil && forward {
							l.Forwarded(l.Ledger(), lsn)
						}
					}
				}()
				runs, faults := 0, 0
				for running := true; running; runs++ {
					if _, err := Verify(slowReads{d}); err != nil {
						faults++
						t.Logf("run %d: %v", runs, err)
					}
					select {
					case <-done:
						running = false
					default:
					}
				}
				if faults > 0 || runs < 3 {
					t.Errorf("%d of %d runs found a fault", faults, runs)
				}
				l.close(t)
			})
		})
	}
}
