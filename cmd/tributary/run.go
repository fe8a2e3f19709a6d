package main

import (
	"context"
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
)

func runCommand() *cobra.Command {
	in := config.Input{Environ: os.Environ()}
	c := &cobra.Command{
		Use:     "run",
		Short:   "Run the node until SIGTERM or SIGINT",
		Example: "  tributary run -c tributary.toml",
		Long: "Runs the node. On SIGHUP it reads the files again that say who may connect: passwords, rights, keys and certificates;\n" +
			"whoever would not be let in again is disconnected.\n" +
			"On SIGTERM or SIGINT it takes nothing more from devices, makes what it has taken durable,\n" +
			"acknowledges it and exits with code 0. Records that are not in Kafka yet wait on the disk for the next start.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := loadInput(&in, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			logger := newLogger(cmd.ErrOrStderr(), &cfg.Logging)
			limitMemory(logger)
			node, err := edge.Open(cmd.Context(), cfg, logger)
			if err != nil {
				return err
			}
			go func() {
				select {
				case <-node.Ready():
					for _, a := range node.Door().Addrs() {
						logger.Info("devices can connect", "address", a.String(), "site", cfg.Node.Site, "kafka", cfg.Kafka.Brokers)
					}
				case <-cmd.Context().Done():
				}
			}()
			stopReloading := reloadOnHUP(cmd.Context(), node)
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

// reloadOnHUP reloads who may connect whenever the process gets SIGHUP, until the
// function that it returns is called.
func reloadOnHUP(ctx context.Context, node *edge.Node) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-hup:
				node.Reload()
			case <-ctx.Done():
				signal.Stop(hup)
				return
			}
		}
	}()
	return cancel
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
