// Command tributary is the edge broker: MQTT in, a durable log, exactly once
// into Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// An exit is an error that only sets the exit code: what there is to say was said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// oneArg wants one argument, and says which with the usage of the command.
func oneArg(missing string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%d arguments: %s\n\n%s", len(args), missing, strings.TrimRight(cmd.UsageString(), "\n"))
	}
}

// run executes one command and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "tributary",
		Short: "Edge broker: MQTT in, a durable log, exactly once into Kafka",
		Long: "Tributary takes what devices publish over MQTT, acknowledges it when it is on this disk, and forwards\n" +
			"it to Kafka: every acknowledged message exactly once, each device in order.\n\n" +
			"Try it with nothing installed:  tributary demo --cut-uplink 5s --kill",
		Version:       edge.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(runCommand(), checkCommand(), statusCommand(), doctorCommand(), tailCommand(), verifyCommand(), demoCommand(), passwdCommand())     //nolint:contextcheck // cmd.Context() is ctx
	root.AddCommand(inviteCommand(), joinCommand(), nodesCommand(), skipCommand(), uplinkCommand(), routeCommand(), pendingCommand(), versionCommand()) //nolint:contextcheck // the same
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "tributary:", err)
	return 1
}
