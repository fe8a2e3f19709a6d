// Press publishes to one MQTT broker over many connections, with a window of
// unacknowledged messages on each, and prints one line of JSON.
//
//	press -broker 10.0.0.5:1883 -conns 100 -window 20 -for 5s   how fast and how soon it acknowledges
//	press -broker 10.0.0.5:1883 -size 65536 -total 16384        that many messages, and no more
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/bench/load"
)

// figures are what is printed.
type figures struct {
	PerSecond float64 `json:"per_second"`
	P50Ms     float64 `json:"p50_ms"`
	P99Ms     float64 `json:"p99_ms"`
	Seconds   float64 `json:"seconds"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "press:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var s load.Shape
	flags := flag.NewFlagSet("press", flag.ContinueOnError)
	broker := flags.String("broker", "127.0.0.1:1883", "`address` of the broker: IPv4 and port")
	flags.IntVar(&s.Conns, "conns", 100, "connections")
	flags.IntVar(&s.Window, "window", 20, "messages without an acknowledgement on each")
	flags.IntVar(&s.Size, "size", 256, "bytes of each")
	flags.IntVar(&s.QoS, "qos", 1, "0, 1 or 2")
	span := flags.Duration("for", 5*time.Second, "how long is measured, after a warm-up of two seconds")
	total := flags.Int64("total", 0, "send so many messages instead, and measure how long that takes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fleet, err := load.Open(ctx, load.Broker{Addr: *broker}, "press", s)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if *total > 0 {
		began := time.Now()
		if err := fleet.Feed(ctx, *total); err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		return out.Encode(figures{Seconds: took, PerSecond: float64(*total) / took})
	}
	r, err := fleet.Measure(ctx, 2*time.Second, *span, nil, nil)
	if err != nil {
		return err
	}
	return out.Encode(figures{
		Seconds: r.Elapsed.Seconds(), PerSecond: r.PerSecond(),
		P50Ms: milliseconds(r.Latency.Quantile(0.5)), P99Ms: milliseconds(r.Latency.Quantile(0.99)),
	})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
