package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/sdnotify"
)

// badConfig is the exit code of run when the configuration is wrong, EX_CONFIG of
// sysexits.h: to try again helps nobody, and the unit of the package does not.
const badConfig = 78

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
		RunE: func(cmd *cobra.Command, _ []string) error {
			read, broken, err := loadToRun(&in, lastGood, cmd.ErrOrStderr())
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "tributary:", err)
				return exit(badConfig)
			}
			cfg := read.Config
			out := newOutput(cmd.ErrOrStderr(), &cfg.Logging)
			logger := slog.New(out)
			if broken != "" {
				logger.Error("THE CONFIGURATION IS BROKEN; this node runs with the last good one. Correct it and restart", "problem", broken, "last_good", config.LastGoodPath(cfg.Node.DataDir))
			}
			limitMemory(logger)
			return runNode(cmd.Context(), &in, read, broken, out)
		},
	}
	configFlag(c, &in.Path)
	setFlag(c, &in)
	c.Flags().BoolVar(&lastGood, "last-good-on-error", false, "if the configuration is broken, run with the last one that worked, and say so")
	return c
}

// runNode runs a node until ctx ends, and tells systemd how it fares. broken is what is
// wrong with the configuration, if read is the last good one.
func runNode(ctx context.Context, in *config.Input, read *config.Reading, broken string, out *output) error {
	cfg, logger := read.Config, slog.New(out)
	systemd := sdnotify.New(os.Getenv, logger)
	opened := inBackground(ctx, func(ctx context.Context) { systemd.Starting(ctx, "recovering the log") })
	node, err := edge.Open(ctx, cfg, logger)
	opened()
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
		case <-ctx.Done():
		}
	}()
	stopReloading := reloadOnHUP(ctx, node, func() {
		systemd.Reloading()
		c := node.Reconfigure(in.Read())
		out.use(&c.Logging)
		node.Reload()
		systemd.Ready(serving(node, cfg))
	})
	supervised := inBackground(context.WithoutCancel(ctx), func(c context.Context) { supervise(c, ctx, node, cfg, systemd) })
	err = node.Run(ctx)
	supervised()
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

// reloadOnHUP calls reload whenever the process gets SIGHUP, once devices can connect
// and until the function that it returns is called.
func reloadOnHUP(ctx context.Context, node *edge.Node, reload func()) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-node.Ready(): // systemd takes what a reload says for the end of the start
		case <-ctx.Done():
		}
		for {
			select {
			case <-hup:
				reload()
			case <-ctx.Done():
				signal.Stop(hup)
				return
			}
		}
	}()
	return cancel
}
