package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// runFlags are the flags of run that are not the fleet's own options.
type runFlags struct {
	ledger string
	span   time.Duration
	asJSON bool
}

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var opt device.Options
	var rf runFlags
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	rf.define(flags)
	fleetFlags(flags, &opt)
	faultFlags(flags, &opt.Faults)
	profile := flags.String("profile", "", "firmware whose habits the devices have; a `mix`, as tasmota=3,shelly=1; list: show them all")
	if err := parse(flags, args, stdout); err != nil {
		return err
	}
	if err := readProfile(flags, *profile, &opt.Profiles, stdout); err != nil {
		return err
	}
	if opt.Seed == 0 {
		opt.Seed = rand.Uint64()
	}
	if rf.ledger != "" {
		ledger, err := tally.Open(rf.ledger)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ledger.Close()) }()
		opt.Recorder = ledger
	}
	fleet, err := device.New(opt)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if rf.span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rf.span)
		defer cancel()
	}
	// With --json the last line is for a program; the rest is for people.
	people := stdout
	if rf.asJSON {
		people = stderr
	}
	return play(ctx, fleet, newScreen(people, opt, rf.span), stdout, rf.asJSON, opt.Seed)
}

// decided are the flags that a profile leaves no choice about.
var decided = []string{"topic", "qos", "versions", "payload", "size", "clean", "keep-alive"}

// readProfile reads --profile, and refuses flags that would contradict it.
func readProfile(flags *flag.FlagSet, text string, mix *device.Mix, stdout io.Writer) (err error) {
	switch text {
	case "":
		return nil
	case "list":
		for _, p := range device.Profiles() {
			_, _ = fmt.Fprintf(stdout, "%-14s %s\n", p.Name, p.About)
		}
		return errListed
	}
	if *mix, err = device.ParseMix(text, device.ProfileNames()...); err != nil {
		return fmt.Errorf("%w: --profile: %w", errUsage, err)
	}
	flags.Visit(func(f *flag.Flag) {
		if slices.Contains(decided, f.Name) {
			err = errors.Join(err, fmt.Errorf("%w: --%s: the profile decides on that", errUsage, f.Name))
		}
	})
	return err
}

// play runs the fleet, shows how it goes, and sums up.
func play(ctx context.Context, fleet *device.Fleet, show *screen, stdout io.Writer, asJSON bool, seed uint64) error {
	done := make(chan error, 1)
	go func() { done <- fleet.Run(ctx) }()
	tick := time.NewTicker(show.every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			show.progress(fleet.Stats(), ctx.Err() != nil)
		case err := <-done:
			show.end()
			took := show.elapsed()
			if asJSON {
				return errors.Join(err, printJSON(stdout, fleet.Stats(), took, seed))
			}
			return errors.Join(err, printSummary(stdout, fleet.Stats(), took, seed))
		}
	}
}

func (rf *runFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&rf.ledger, "ledger", "", "`file` to record every message and acknowledgement in; a fleet goes on where its ledger ends")
	flags.DurationVar(&rf.span, "for", 0, "how long messages are made (default: until a signal, or --count)")
	flags.BoolVar(&rf.asJSON, "json", false, "print the summary as one line of JSON, and the progress to stderr")
}

func fleetFlags(flags *flag.FlagSet, opt *device.Options) {
	flags.StringVar(&opt.Broker, "broker", "127.0.0.1:1883", "`host:port` of the MQTT broker")
	flags.IntVar(&opt.Devices, "devices", 20, "number of devices")
	flags.StringVar(&opt.Prefix, "prefix", "sim-", "what device ids and client ids begin with")
	flags.StringVar(&opt.Topic, "topic", "site/sim/{device}/tele", "topic; {device} stands for the id")
	flags.Float64Var(&opt.Rate, "rate", 1, "messages per second and device; 0: as many as the window allows")
	flags.Uint64Var(&opt.Count, "count", 0, "messages per device; 0: no end")
	flags.IntVar(&opt.Window, "window", 20, "messages in flight per device")
	flags.Var(&mixFlag{&opt.QoS, []string{"0", "1", "2"}}, "qos", "`mix` of QoS, as 0:10,1:60,2:30 (default 1)")
	flags.Var(&mixFlag{&opt.Versions, []string{device.Version311, device.Version5}}, "versions", "`mix` of MQTT versions (default 3.1.1:1,5:1)")
	flags.Var(&mixFlag{&opt.Payloads, []string{device.ShapeJSON, device.ShapeSparkplug, device.ShapeCBOR, device.ShapeRandom, device.ShapeShort}},
		"payload", "`mix` of json, sparkplug, cbor, random and short (default json)")
	flags.IntVar(&opt.RandomBytes, "size", 256, "bytes of a random payload")
	flags.BoolVar(&opt.Clean, "clean", false, "every connection begins a new session")
	flags.DurationVar(&opt.Expiry, "session-expiry", 24*time.Hour, "how long the broker keeps a session (MQTT 5)")
	flags.StringVar(&opt.Username, "username", "", "user name; {device} stands for the id")
	flags.StringVar(&opt.Password, "password", "", "password")
	flags.Var((*propertyFlag)(&opt.UserProperties), "user-property", "`name=value` to send along with MQTT 5; may be repeated")
	flags.DurationVar(&opt.KeepAlive, "keep-alive", 30*time.Second, "MQTT keep-alive")
	flags.DurationVar(&opt.AckTimeout, "ack-timeout", 30*time.Second, "reconnect after so long without an answer")
	flags.DurationVar(&opt.BackoffMax, "backoff", 0, "longest pause between attempts to connect (default what the profile does, else 5s)")
	flags.DurationVar(&opt.Drain, "drain", 30*time.Second, "how long to wait for outstanding acknowledgements at the end")
	flags.Uint64Var(&opt.Seed, "seed", 0, "seed of all chances; 0: another one each time")
}

func faultFlags(flags *flag.FlagSet, f *device.Faults) {
	flags.Float64Var(&f.Cut, "cut", 0, "chance per PUBLISH that the connection is cut within it")
	flags.Float64Var(&f.HalfOpen, "half-open", 0, "chance per PUBLISH that the device goes and leaves the socket open")
	flags.Float64Var(&f.Reboot, "reboot", 0, "chance per PUBLISH of a reboot that keeps the session")
	flags.Float64Var(&f.RebootLost, "reboot-lost", 0, "chance per PUBLISH of a reboot that loses the session and what was not acknowledged")
	flags.Float64Var(&f.Duplicate, "duplicate", 0, "chance per message that an unanswered one is sent again with DUP")
	flags.DurationVar(&f.ClockOff, "clock-off", 0, "how far off a device's clock may be")
}

// A mixFlag is a flag.Value for a mix.
type mixFlag struct {
	mix   *device.Mix
	known []string
}

func (m *mixFlag) String() string { return "" }

func (m *mixFlag) Set(text string) (err error) {
	*m.mix, err = device.ParseMix(text, m.known...)
	return err
}

// A propertyFlag is a flag.Value that gathers user properties.
type propertyFlag []device.Property

func (p *propertyFlag) String() string { return "" }

func (p *propertyFlag) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return errors.New("a user property is name=value")
	}
	*p = append(*p, device.Property{Key: key, Value: value})
	return nil
}
