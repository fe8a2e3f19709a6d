// Bench compares Tributary with what people use today, side by side in one
// run: every figure is taken in short windows in turn, so that a machine that
// is slow for a while is slow for all, and what counts are ratios.
//
//	go run . [flags] mqtt      PUBACKs per second against mosquitto, nats-server and the bare disk
//	go run . [flags] size      the size of the binary for arm64, and the memory of an idle node
//	go run . [flags] forward   a backlog into a real Kafka, against a plain transactional producer
//
// Several may be named at once. It exits with 1 when a target is missed and
// with 3 when something could not be measured. It is a module of its own, so
// that the libraries of others stay out of Tributary's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
)

// options are the flags.
type options struct {
	windows int
	window  time.Duration
	records int64
	kafka   string
	json    bool
	dir     string // what the servers write goes below it
	log     io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	met, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(3)
	case !met:
		stop()
		os.Exit(1)
	}
}

// run does what the arguments name and prints it. It returns whether all
// targets were met.
func run(ctx context.Context, args []string, out, log io.Writer) (met bool, err error) {
	o := options{log: log}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.windows, "windows", 5, "how often each figure is taken; medians are printed")
	flags.DurationVar(&o.window, "window", 3*time.Second, "mqtt: how long each takes")
	flags.Int64Var(&o.records, "records", 500_000, "forward: records in the backlog")
	flags.StringVar(&o.kafka, "kafka", "", "forward: HOST:PORT of a Kafka that runs; without it, one is started")
	flags.BoolVar(&o.json, "json", false, "print JSON, on one line")
	parent := flags.String("dir", ".", "a directory on the file system to measure; a new one is made in it, and removed")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if o.dir, err = peer.MakeDir(*parent); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	var all report.Report
	for _, name := range flags.Args() {
		measure, known := map[string]func(context.Context, options) (report.Report, error){
			"mqtt": measureMQTT, "size": measureSize, "forward": measureForward,
		}[name]
		if !known {
			return false, fmt.Errorf("%q is not mqtt, size or forward", name)
		}
		r, err := measure(ctx, o)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		all.Tables = append(all.Tables, r.Tables...)
		all.Targets = append(all.Targets, r.Targets...)
	}
	return all.Met(), all.Print(out, o.json)
}
