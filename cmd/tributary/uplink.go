package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/doctor"
)

func uplinkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "uplink",
		Short: "The way to Kafka",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(probeCommand())
	return c
}

func probeCommand() *cobra.Command {
	var path string
	var asJSON bool
	c := &cobra.Command{
		Use:   "probe",
		Short: "Try the way to Kafka: login, transactions, each topic; nobody sees a record of it",
		Long: "Does what the node does with Kafka, once: connects and logs in, has a transaction for each topic that the configuration\n" +
			"names, sends it a record, and aborts the transaction. Who reads committed records sees none of it; no topic is made, and\n" +
			"a node that runs is not disturbed. Each finding says what to do, if need be the exact kafka-acls or kafka-topics command\n" +
			"for the Kafka team. Topics that a route makes up from variables cannot be tried. Exit code 0: good, 1: errors.",
		Example: "  tributary uplink probe -c tributary.toml\n  tributary uplink probe --json | jq -r '.findings[] | select(.level == \"error\") | .do'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			r := &doctor.Report{}
			probeKafka(cmd.Context(), r, cfg)
			return printFindings(cmd.OutOrStdout(), r, asJSON)
		},
	}
	configFlag(c, &path)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// probeKafka adds what there is to say of the way to Kafka.
func probeKafka(ctx context.Context, r *doctor.Report, cfg *config.Config) {
	const means = "Nothing is lost: records wait on this node as long as there is room"
	found, err := edge.ProbeKafka(ctx, cfg)
	if err != nil {
		r.Add(doctor.Finding{Level: doctor.Error, About: "Kafka", What: err.Error(), Means: means, Do: "correct [kafka], or the file"})
	}
	for _, f := range found {
		switch about := "Kafka, " + f.About; {
		case f.Bad:
			r.Add(doctor.Finding{Level: doctor.Error, About: about, What: f.What, Means: means, Do: f.Do})
		case f.Later:
			r.Add(doctor.Finding{Level: doctor.Note, About: about, What: f.What})
		default:
			r.Add(doctor.Finding{Level: doctor.Good, About: about, What: f.What})
		}
	}
}
