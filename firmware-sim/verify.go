package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tributary-edge/tributary/firmware-sim/readback"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

func verifyCommand(ctx context.Context, args []string, stdout, _ io.Writer) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	kafka := flags.String("kafka", "", "`host:port` of a Kafka broker; several with commas")
	topics := flags.String("topics", "", "the `topics` the messages should be in, with commas")
	ledger := flags.String("ledger", "", "the `file` that run wrote")
	wait := flags.Duration("wait", 0, "how long to wait for what is acknowledged and not there yet")
	asJSON := flags.Bool("json", false, "print the report as one line of JSON")
	if err := parse(flags, args, stdout); err != nil {
		return err
	}
	if *kafka == "" || *topics == "" || *ledger == "" {
		return fmt.Errorf("%w: --kafka, --topics and --ledger are needed", errUsage)
	}
	truth, err := tally.Load(*ledger)
	if errors.Is(err, tally.ErrInUse) {
		return fmt.Errorf("%w; stop it first: what is under way would look lost", err)
	}
	if err != nil {
		return err
	}
	// An open transaction holds the reader up, for Kafka's transaction timeout
	// at most, which is 15 minutes at most.
	ctx, cancel := context.WithTimeout(ctx, *wait+15*time.Minute)
	defer cancel()
	report, err := readback.Verify(ctx, split(*kafka), split(*topics), truth, *wait)
	if err != nil {
		return fmt.Errorf("%w; nothing was verified", err)
	}
	if report.Sent == 0 {
		return fmt.Errorf("the ledger %s holds no message; nothing was verified", *ledger)
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(report)
	} else {
		_, err = fmt.Fprint(stdout, report)
	}
	if err == nil && !report.OK() {
		err = errFound
	}
	return err
}

func split(list string) []string {
	var parts []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
