package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/sdnotify"
)

// defaultConfig is where the packages put the configuration.
const defaultConfig = "/etc/tributary/tributary.toml"

// badConfig is the exit code of run when the configuration is wrong, EX_CONFIG of
// sysexits.h: to try again helps nobody, and the unit of the package does not.
const badConfig = 78

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration file")
}

func runCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "run",
		Short:   "Run the node until SIGTERM or SIGINT",
		Example: "  tributary run -c tributary.toml",
		Long: "Runs the node. On SIGHUP it reads the files again that say who may connect: passwords, rights, keys and certificates;\n" +
			"whoever would not be let in again is disconnected.\n" +
			"On SIGTERM or SIGINT it takes nothing more from devices, makes what it has taken durable,\n" +
			"acknowledges it and exits with code 0. Records that are not in Kafka yet wait on the disk for the next start.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path, cmd.ErrOrStderr())
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "tributary:", err)
				return exit(badConfig)
			}
			logger := newLogger(cmd.ErrOrStderr(), &cfg.Logging)
			limitMemory(logger)
			return runNode(cmd.Context(), cfg, logger)
		},
	}
	configFlag(c, &path)
	return c
}

// runNode runs a node until ctx ends, and tells systemd how it fares.
func runNode(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	systemd := sdnotify.New(os.Getenv, logger)
	opened := inBackground(ctx, func(ctx context.Context) { systemd.Starting(ctx, "recovering the log") })
	node, err := edge.Open(ctx, cfg, logger)
	opened()
	if err != nil {
		return err
	}
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

func checkCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "check [FILE]",
		Short:   "Find every mistake in a configuration file; reads only that file, changes nothing",
		Long:    "Finds every mistake in a configuration file at once. Exit code 0: good, 1: errors, 3: warnings only.",
		Example: "  tributary check -c tributary.toml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				path = args[0]
			}
			if code := config.Check(cmd.OutOrStdout(), path); code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	configFlag(c, &path)
	return c
}

// loadConfig reads the configuration and prints what is wrong with it.
func loadConfig(path string, stderr io.Writer) (*config.Config, error) {
	cfg, problems, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		fmt.Fprintln(stderr, p)
	}
	if cfg == nil {
		return nil, fmt.Errorf("the configuration %s has errors; nothing was started or changed", path)
	}
	return cfg, nil
}

func newLogger(w io.Writer, c *config.Logging) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	f, isFile := w.(*os.File)
	if c.Format == config.Auto && !(isFile && term.IsTerminal(int(f.Fd()))) {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 && os.Getenv("JOURNAL_STREAM") != "" {
				return slog.Attr{} // the journal adds its own
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(w, o))
}
