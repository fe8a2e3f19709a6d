//go:build !nodemo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/readback"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

type demoFlags struct {
	span    time.Duration
	devices int
	rate    float64
	cut     time.Duration
	kill    bool
	kafka   string
	asJSON  bool
}

func demoCommand() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work: simulated devices, a node, a Kafka, and a count at the end",
		Long: "Starts a node on loopback with its data in a temporary folder, simulated devices that publish with QoS 0, 1\n" +
			"and 2, and a Kafka inside this program (or yours, with --kafka). It can cut the uplink and kill the node while\n" +
			"messages flow. At the end it reads Kafka back and counts: exit code 1 if an acknowledged message is missing,\n" +
			"one is there twice that was sent once, or a device is out of order.",
		Example: "  tributary demo\n  tributary demo --for 20s --cut-uplink 5s --kill\n  tributary demo --kafka 127.0.0.1:9092 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{demoFlags: f, out: cmd.OutOrStdout(), people: cmd.OutOrStdout()}
			if f.asJSON {
				d.people = cmd.ErrOrStderr()
			}
			return d.run(cmd.Context())
		},
	}
	c.Flags().DurationVar(&f.span, "for", 30*time.Second, "how long the devices publish")
	c.Flags().IntVar(&f.devices, "devices", 20, "number of devices")
	c.Flags().Float64Var(&f.rate, "rate", 50, "messages per second and device")
	c.Flags().DurationVar(&f.cut, "cut-uplink", 0, "cut the way to Kafka for this long")
	c.Flags().BoolVar(&f.kill, "kill", false, "kill the node with SIGKILL in the middle, and start it again")
	c.Flags().StringVar(&f.kafka, "kafka", "", "`HOST:PORT` of a Kafka of yours: creates a topic tributary-demo-*, and notes positions in tributary.positions")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the count as one line of JSON; the rest goes to stderr")
	return c
}

// exitInterrupted is what shells expect of a program that Ctrl-C ended.
const exitInterrupted = 130

// A demo is one run of the command.
type demo struct {
	demoFlags

	out, people io.Writer
	dir, topic  string
	link        *link
	node        *demoNode
	fleet       *device.Fleet
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.cut >= d.span && d.cut > 0 {
		return fmt.Errorf("--cut-uplink %v must be shorter than --for %v", d.cut, d.span)
	}
	if d.dir, err = os.MkdirTemp("", demoTopicPrefix); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	var linkDone sync.WaitGroup
	defer linkDone.Wait()
	defer stopLink()
	kafka, stopKafka, err := d.openKafka(ctx)
	if err != nil {
		return err
	}
	defer stopKafka()
	if d.link, err = listenLink(ctx); err != nil {
		return err
	}
	linkDone.Go(func() { d.link.run(linkCtx) })

	d.topic = fmt.Sprintf("%s-%08x", demoTopicPrefix, rand.Uint32())
	if d.node, err = newDemoNode(ctx, d.dir, kafka, d.link.listener.Addr().String(), d.topic); err != nil {
		return err
	}
	defer func() { _ = d.node.kill() }() // when all went well it has stopped already
	d.say("starting a node and %d devices; Kafka is %s, the topic %s", d.devices, kafkaName(d.kafka), d.topic)
	if err := d.node.start(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, d.node.log())
	}
	d.say("its status page, while it runs: http://%s/", d.node.page)
	report, err := d.play(ctx, kafka)
	if ctx.Err() != nil {
		d.say("interrupted: nothing was counted")
		return exit(exitInterrupted)
	}
	if err != nil {
		return fmt.Errorf("%w\nThe node's last words:\n%s", err, d.node.log())
	}
	if err := d.print(report); err != nil {
		return err
	}
	if !report.OK() {
		return exit(1)
	}
	return nil
}

// openKafka returns the address of the user's Kafka, or of one in this process.
func (d *demo) openKafka(ctx context.Context) (address string, stop func(), err error) {
	if d.kafka != "" {
		var dialer net.Dialer
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		c, err := dialer.DialContext(ctx, "tcp", d.kafka)
		if err != nil {
			return "", nil, fmt.Errorf("no Kafka answers on --kafka %s: %w", d.kafka, err)
		}
		return d.kafka, func() {}, c.Close()
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return "", nil, fmt.Errorf("start the demo's Kafka: %w", err)
	}
	return cluster.ListenAddrs()[0], cluster.Close, nil
}

func kafkaName(address string) string {
	if address == "" {
		return "inside this program"
	}
	return address
}

// play lets the devices publish while the accidents happen, waits until all is
// in Kafka, and counts.
func (d *demo) play(ctx context.Context, kafka string) (report tally.Report, err error) {
	path := filepath.Join(d.dir, "ledger")
	ledger, err := tally.Open(path)
	if err != nil {
		return report, err
	}
	mix, err := device.ParseMix("0:10,1:60,2:30", "0", "1", "2")
	if err != nil {
		return report, err
	}
	d.fleet, err = device.New(device.Options{
		Broker: d.node.address, Devices: d.devices, Rate: d.rate, QoS: mix, Recorder: ledger, Seed: rand.Uint64(),
		Prefix: "demo-", Topic: "demo/{device}/tele", Window: 20, BackoffMax: time.Second,
		Expiry: time.Hour, KeepAlive: 30 * time.Second, AckTimeout: 10 * time.Second, Drain: 30 * time.Second,
	})
	if err != nil {
		return report, errors.Join(err, ledger.Close())
	}
	err = d.perform(ctx)
	if err := errors.Join(err, ledger.Close()); err != nil {
		return report, err
	}
	d.say("devices are done; waiting until the last record is in Kafka")
	err = poll(ctx, 2*time.Minute, "the last record to be in Kafka", func() (bool, error) {
		r, err := d.node.report(ctx)
		return err == nil && r.Uplink.Waiting == 0, nil
	})
	if err != nil {
		return report, err
	}
	if err := d.node.stop(); err != nil {
		return report, fmt.Errorf("the node did not stop well: %w", err)
	}
	truth, err := tally.Load(path)
	if err != nil {
		return report, err
	}
	return readback.Verify(ctx, []string{kafka}, []string{d.topic}, truth, 10*time.Second)
}

// perform runs the fleet and, meanwhile, the accidents.
func (d *demo) perform(ctx context.Context) error {
	span, cancel := context.WithTimeout(ctx, d.span)
	defer cancel()
	fleet := make(chan error, 1)
	go func() { fleet <- d.fleet.Run(span) }()
	accidents := make(chan error, 1)
	go func() { accidents <- d.accidents(ctx) }()
	view := newDemoView(d)
	tick := time.NewTicker(view.every())
	defer tick.Stop()
	defer view.end()
	var fleetErr error
	for running := 2; running > 0; {
		select {
		case <-tick.C:
			view.show(ctx)
		case fleetErr = <-fleet:
			running--
		case err := <-accidents:
			if err != nil {
				return err
			}
			running--
		case <-ctx.Done():
			return ctx.Err() // interrupted: nobody waits for what the devices still expect
		}
	}
	return fleetErr
}

// accidents cuts the uplink from a quarter of the time on, and kills the node in
// the middle.
func (d *demo) accidents(ctx context.Context) error {
	start := time.Now()
	until := func(part float64) bool {
		select {
		case <-time.After(time.Until(start.Add(time.Duration(float64(d.span) * part)))):
			return true
		case <-ctx.Done():
			return false
		}
	}
	var cutting sync.WaitGroup
	defer cutting.Wait()
	if d.cut > 0 && until(0.25) {
		d.say("cutting the uplink for %v: nothing is refused, packets just vanish", d.cut)
		cutting.Go(func() {
			d.link.cut(ctx, d.cut)
			d.say("the uplink is back")
		})
	}
	if !d.kill || !until(0.5) {
		return ctx.Err()
	}
	d.say("killing the node with SIGKILL and starting it again")
	if err := d.node.kill(); err != nil {
		return err
	}
	return d.node.start(ctx)
}

func (d *demo) say(format string, args ...any) {
	if isTerminal(d.people) {
		format = clearLine + format
	}
	fmt.Fprintf(d.people, format+"\n", args...)
}

func (d *demo) print(r tally.Report) error {
	if d.asJSON {
		return json.NewEncoder(d.out).Encode(struct {
			Sent       int `json:"sent"`
			Acked      int `json:"acked"`
			InKafka    int `json:"in_kafka"`
			Lost       int `json:"lost"`
			Twice      int `json:"twice"`
			OutOfOrder int `json:"out_of_order"`
		}{r.Sent, r.Acked, r.InKafka, r.Lost, r.Twice, r.OutOfOrder})
	}
	_, err := fmt.Fprint(d.out, r)
	return err
}
