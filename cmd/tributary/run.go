package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
)

func runCommand() *cobra.Command {
	in := config.Input{Environ: os.Environ()}
	var lastGood bool
	c := &cobra.Command{
		Use:     "run",
		Short:   "Run the node until SIGTERM or SIGINT",
		Example: "  tributary run -c tributary.toml",
		Long: "Runs the node. On SIGHUP it reads the configuration again, and the files that say who may connect: passwords, rights,\n" +
			"keys and certificates; whoever would not be let in again is disconnected. What of the configuration needs a\n" +
			"restart is said, and stays as it was; if it has an error, all of it stays as it was.\n" +
			"On SIGTERM or SIGINT it takes nothing more from devices, makes what it has taken durable,\n" +
			"acknowledges it and exits with code 0. Records that are not in Kafka yet wait on the disk for the next start.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			read, broken, err := loadToRun(&in, lastGood, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := read.Config
			out := newOutput(cmd.ErrOrStderr(), &cfg.Logging)
			logger := slog.New(out)
			if broken != "" {
				logger.Error("THE CONFIGURATION IS BROKEN; this node runs with the last good one. Correct it and restart", "problem", broken, "last_good", config.LastGoodPath(cfg.Node.DataDir))
			}
			limitMemory(logger)
			node, err := edge.Open(cmd.Context(), cfg, logger)
			if err != nil {
				return err
			}
			node.Adopt(read, broken)
			go func() {
				select {
				case <-node.Ready():
					for _, a := range node.Door().Addrs() {
						logger.Info("devices can connect", "address", a.String(), "site", cfg.Node.Site, "kafka", cfg.Kafka.Brokers)
					}
				case <-cmd.Context().Done():
				}
			}()
			stopReloading := reloadOnHUP(cmd.Context(), node, &in, out)
			err = node.Run(cmd.Context())
			stopReloading()
			if closeErr := node.Close(); err == nil {
				err = closeErr
			}
			switch {
			case err == nil && cfg.Log.DropOldest:
				logger.Info("stopped; everything acknowledged is on the disk or in Kafka, but for what a full log has dropped, as on_full says")
			case err == nil:
				logger.Info("stopped; everything acknowledged is on the disk or in Kafka")
			}
			return err
		},
	}
	configFlag(c, &in.Path)
	setFlag(c, &in)
	c.Flags().BoolVar(&lastGood, "last-good-on-error", false, "if the configuration is broken, run with the last one that worked, and say so")
	return c
}

// memoryShare is what part of the memory that there is the garbage collector aims
// to stay below.
const memoryShare = 0.8

// limitMemory has the garbage collector work harder as the memory of the cgroup, or
// of the machine, runs short. GOMEMLIMIT in the environment comes first.
func limitMemory(logger *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if err != nil {
		logger.Warn("it is not known how much memory there is; set GOMEMLIMIT if it is little", "error", err)
		return
	}
	logger.Debug("memory limit", "bytes", limit)
}

// reloadOnHUP reloads the configuration and who may connect whenever the process gets
// SIGHUP, until the function that it returns is called.
func reloadOnHUP(ctx context.Context, node *edge.Node, in *config.Input, out *output) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-hup:
				c := node.Reconfigure(in.Read())
				out.use(&c.Logging)
				node.Reload()
			case <-ctx.Done():
				signal.Stop(hup)
				return
			}
		}
	}()
	return cancel
}
