// Firmware-sim plays a fleet of MQTT devices with bad radios against any
// broker, keeps a ledger of what was acknowledged to them, and compares it
// with what is in Kafka.
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
)

const usage = `Firmware-sim plays a fleet of MQTT devices, and counts what became of their messages.

  firmware-sim [run] --broker HOST:PORT --ledger FILE [flags]
  firmware-sim [run] --profile list | --profile tasmota=3,shelly=1 [flags]
  firmware-sim verify --kafka HOST:PORT --topics a,b --ledger FILE [flags]

A profile is the habits of real firmware: topics, birth and will, QoS, client
ids, buffers, keep-alive, commands. docs/DEVICES.md says what the node does with
each.

"firmware-sim run -h" and "firmware-sim verify -h" list the flags.
Exit status: 0 all is well; 1 verify found something lost, twice or out of
order; 2 wrong usage; 3 it could not be done.
`

// Exit statuses.
const (
	exitOK = iota
	exitFound
	exitUsage
	exitFailed
)

// errFound is verify's bad news, which it has already printed.
var errFound = errors.New("something is lost, twice or out of order")

// errListed ends a command line that asked for a list, which it has got.
var errListed = errors.New("listed")

// errUsage is a mistake on the command line.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal kills
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs one command line and returns its exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	name := "run"
	switch {
	case len(args) == 0:
	case args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		_, _ = fmt.Fprint(stdout, usage, "\n")
	case args[0] != "" && args[0][0] != '-':
		name, args = args[0], args[1:]
	}
	var err error
	switch name {
	case "run":
		err = runCommand(ctx, args, stdout, stderr)
	case "verify":
		err = verifyCommand(ctx, args, stdout, stderr)
	case "help":
		_, err = fmt.Fprint(stdout, usage)
	default:
		err = fmt.Errorf("%w: there is no command %q; try \"firmware-sim help\"", errUsage, name)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp), errors.Is(err, errListed):
		return exitOK
	case errors.Is(err, errFound):
		return exitFound
	}
	_, _ = fmt.Fprintln(stderr, "firmware-sim:", err)
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitFailed
}

// parse reads the flags of a command. Nothing but flags may follow it.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		_, _ = fmt.Fprintf(stdout, "Flags of firmware-sim %s:\n", flags.Name())
		flags.PrintDefaults()
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUsage, err)
	case flags.NArg() > 0:
		return fmt.Errorf("%w: %q is not a flag", errUsage, flags.Arg(0))
	}
	return nil
}
