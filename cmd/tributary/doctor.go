package main

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/doctor"
	"github.com/tributary-edge/tributary/edge/status"
)

func doctorCommand() *cobra.Command {
	var a admin
	var asJSON, offline bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this machine and the way to Kafka; each finding with what to do",
		Long: "Looks at the machine with the eyes of the configured node, at the node if it runs, and at Kafka as \"tributary uplink\n" +
			"probe\" does: one line for each finding, with what it means and what to do. It writes to the disk only to time its\n" +
			"flushes: one page, at most 200 times in 3 s, in a file that is gone afterwards; and to Kafka nothing that a reader of\n" +
			"committed records sees. Exit code 0: good, 1: errors, 3: warnings only.",
		Example: "  tributary doctor -c tributary.toml\n  tributary doctor --offline\n  tributary doctor --json | jq '.findings[] | select(.level != \"good\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(a.config, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if a.socket == "" {
				a.socket = cfg.Status.Socket
			}
			cfg.Status.Socket = a.socket
			node, nodeErr := a.report(cmd.Context()) // that none answers is a finding
			r := doctor.Examine(cmd.Context(), cfg, edge.LogDir(cfg.Node.DataDir), edge.ReadFiles(cfg), node, nodeErr)
			if !offline {
				probeKafka(cmd.Context(), r, cfg)
			}
			return printFindings(cmd.OutOrStdout(), r, asJSON)
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&offline, "offline", false, "leave Kafka alone")
	return c
}

func printFindings(w io.Writer, r *doctor.Report, asJSON bool) (err error) {
	if asJSON {
		err = json.NewEncoder(w).Encode(r)
	} else {
		err = r.Text(w)
	}
	if err == nil && r.ExitCode() != 0 {
		return exit(r.ExitCode())
	}
	return err
}

// report asks the node how it is.
func (a *admin) report(ctx context.Context) (*status.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	body, err := a.get(ctx, "/api/status")
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	var r status.Report
	if err := json.NewDecoder(body).Decode(&r); err != nil {
		return nil, err
	}
	return &r, nil
}
