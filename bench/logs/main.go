// Logs compares Tributary's log with other logs and embedded databases and with
// the bare disk, on an ext4 with a journal that is made for it on a loop device.
//
//	go run ./logs [flags]      as root, Linux
//
// It prints tables and the goals. It exits with 3 when something could not be
// measured and, with -strict, with 1 when a goal is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/log/disk/loopdisk"

	"github.com/tributary-edge/tributary/bench/report"
)

// options are the flags, and what the measurements share.
type options struct {
	rounds int
	window time.Duration
	seed   uint64
	json   bool
	strict bool
	parent string

	log  io.Writer
	disk *loopdisk.Disk
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	met, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "logs:", err)
		os.Exit(3)
	case !met:
		os.Exit(1)
	}
}

// run measures and prints. It returns false if a goal was missed and that is to
// be an error.
func run(ctx context.Context, args []string, out, log io.Writer) (met bool, err error) {
	o := options{log: log}
	flags := flag.NewFlagSet("logs", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 12, "how often each contestant has its turn; medians are printed")
	flags.DurationVar(&o.window, "window", 250*time.Millisecond, "how long a turn takes")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1e6), "of the order of the turns")
	flags.BoolVar(&o.json, "json", false, "print JSON, on one line")
	flags.BoolVar(&o.strict, "strict", false, "exit with 1 when a goal is missed")
	flags.StringVar(&o.parent, "dir", ".", "a directory on a disk, for an image of 4 GiB; it is removed")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp(o.parent, "run-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(log, "seed %d; writing the image of the disk\n", o.seed)
	if o.disk, err = loopdisk.New(dir, 3<<30+int64(o.rounds)<<26); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, o.disk.Close()) }()
	if err := o.disk.Mount(""); err != nil {
		return false, err
	}
	if !o.disk.Direct {
		fmt.Fprintln(log, "the loop device goes through the page cache of the host: flushes cost more than they should")
	}
	var all report.Report
	for _, measure := range []func(context.Context, options) (report.Report, error){measureCosts, measureLarge, measureContest} {
		r, err := measure(ctx, o)
		if err != nil {
			return false, err
		}
		all.Tables = append(all.Tables, r.Tables...)
		all.Targets = append(all.Targets, r.Targets...)
	}
	return all.Met() || !o.strict, all.Print(out, o.json)
}
