// Ingress presses MQTT servers side by side in one run: Tributary, which syncs
// before every acknowledgement, Debian's mosquitto, nats-server, the library
// mochi, and the least that a durable server over Tributary's log can be.
// Windows are taken in turn, so that a machine that is slow for a while is slow
// for all, and what counts are ratios.
//
//	ingress [flags]
//
// It prints tables and targets, and exits with 0 whatever they are; with
// -strict it exits with 1 when a target is missed or something was not
// measured. 3 means that it could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
)

// options are the flags.
type options struct {
	windows     int
	window      time.Duration
	idle        int    // connections
	rate        int    // messages a second while there is a subscriber
	compression string // compression of Tributary's log, and of the limit's
	json        bool
	strict      bool
	loads       []load
	does        map[string]bool // "idle", "fanout" and "stall"
	servers     string          // names, or ""
	before      string          // a program, or ""
	dir         string          // what the servers write goes below it
	log         io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	met, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "ingress:", err)
		stop()
		os.Exit(3)
	case !met:
		stop()
		os.Exit(1)
	}
}

// run does it and prints it. met is false when the run is strict and a target
// was missed.
func run(ctx context.Context, args []string, out, log io.Writer) (met bool, err error) {
	o, parent, err := parse(args, log)
	if err != nil {
		return false, err
	}
	if err := raiseFileLimit(); err != nil {
		return false, err
	}
	if o.dir, err = peer.MakeDir(parent); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	r, err := measure(ctx, o)
	if err != nil {
		return false, err
	}
	return r.Met() || !o.strict, r.Print(out, o.json)
}

func parse(args []string, log io.Writer) (o options, parent string, err error) {
	o = options{log: log, does: map[string]bool{}}
	flags := flag.NewFlagSet("ingress", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.IntVar(&o.windows, "windows", 3, "how often each figure is taken; medians are printed")
	seconds := flags.Float64("seconds", 1, "how long each takes")
	flags.IntVar(&o.idle, "idle", 5000, "how many idle connections")
	flags.IntVar(&o.rate, "rate", 20_000, "messages a second, for what a subscriber costs")
	loads := flags.String("loads", strings.Join(allLoads, ","), "which; CONNECTIONSxWINDOW with /0 or /2 for another QoS than 1, or /tls")
	flags.StringVar(&o.servers, "servers", "", "which; all that are known without it")
	flags.StringVar(&o.before, "before", "", "another build of tributary, measured in the same turns: what a change brings")
	flags.StringVar(&o.compression, "compression", "none", "of Tributary's log and the limit's: none, which a node chooses on a disk, or zstd, which it chooses on a card")
	flags.BoolVar(&o.json, "json", false, "print JSON, on one line")
	flags.BoolVar(&o.strict, "strict", false, "exit with 1 when a target is missed")
	flags.StringVar(&parent, "dir", ".", "a directory on the file system to measure; a new one is made in it, and removed")
	if err := flags.Parse(args); err != nil {
		return o, "", err
	}
	o.window = time.Duration(*seconds * float64(time.Second))
	for name := range strings.SplitSeq(*loads, ",") {
		if name == idle || name == fanout || name == stall {
			o.does[name] = true
			continue
		}
		l, err := parseLoad(name)
		if err != nil {
			return o, "", err
		}
		o.loads = append(o.loads, l)
	}
	if o.compression != "zstd" && o.compression != "none" {
		return o, "", fmt.Errorf("compression %q is not zstd or none", o.compression)
	}
	if o.windows < 1 || o.window <= 0 || o.idle < 1 || o.rate < 1 || flags.NArg() > 0 {
		return o, "", errors.New("every number must be more than 0, and nothing but flags is taken")
	}
	return o, parent, nil
}

// raiseFileLimit lets this process, and the servers that it starts, have as
// many files as they may.
func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("ask for the limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// measure starts the servers and does all that is asked for.
func measure(ctx context.Context, o options) (report.Report, error) {
	c, err := startAll(ctx, o)
	defer c.stop()
	if err != nil {
		return report.Report{}, err
	}
	if o.does[idle] { // first: a server that was busy has memory to spare
		for _, s := range c.servers {
			fmt.Fprintf(o.log, "idle connections, %s\n", s.Name)
			c.countIdle(ctx, s)
		}
	}
	if err := c.rounds(ctx); err != nil {
		return report.Report{}, err
	}
	return c.report(), nil
}

// rounds takes all windows.
func (c *contest) rounds(ctx context.Context) error {
	extras := map[string]func(context.Context, int){fanout: c.fanoutRound, stall: c.stallRound}
	for w := range c.windows {
		for _, l := range c.loads {
			fmt.Fprintf(c.log, "window %d of %d, %v\n", w+1, c.windows, l)
			if err := errors.Join(c.renew(ctx), c.round(ctx, w, l)); err != nil {
				return err
			}
		}
		for _, name := range []string{fanout, stall} {
			if !c.does[name] {
				continue
			}
			fmt.Fprintf(c.log, "window %d of %d, %s\n", w+1, c.windows, name)
			if err := c.renew(ctx); err != nil {
				return err
			}
			extras[name](ctx, w)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
