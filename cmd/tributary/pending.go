package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

func pendingCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pending DIR",
		Short: "Count the records of a stopped node that are not known to be in Kafka",
		Long: "Counts the records in the data directory DIR of a node that does not run that are not known to be in Kafka.\n" +
			"Exit code 0: there are none, and the directory can be deleted; 1: there are some, or it cannot be said.",
		Example: "  tributary pending /var/lib/tributary",
		Args:    oneArg("name the data directory, data_dir of the configuration"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := pending(args[0])
			if err != nil {
				return fmt.Errorf("it cannot be said what of %s is in Kafka, so keep it: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d records are not known to be in Kafka\n", n)
			if n > 0 {
				return exit(1)
			}
			return nil
		},
	}
}

// pending counts the records in a data directory, copies of other nodes included, that
// lie behind the positions noted there. Positions are lower bounds, so it may count too
// many, and never too few. A directory without a log has none.
func pending(dir string) (n uint64, err error) {
	if used, err := disk.Used(edge.LogDir(dir), ".seg", ".zseg"); errors.Is(err, os.ErrNotExist) || err == nil && used == 0 {
		return 0, nil
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.db")); err != nil {
		return 0, err // to open it would make one
	}
	lock, err := disk.Lock(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(filepath.Join(edge.LogDir(dir), "gaps")); err == nil {
		return 0, errors.New("it has dropped records, and Kafka may not know of them")
	}
	db, _, err := meta.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	positions, err := db.Positions()
	if err != nil {
		return 0, err
	}
	fs, err := disk.Dir(edge.LogDir(dir))
	if err != nil {
		return 0, err
	}
	found, err := store.Verify(fs)
	if err != nil {
		return 0, err
	}
	for _, l := range found.Ledgers {
		from := l.From
		for _, p := range positions {
			if p.Ledger == l.ID {
				from = max(from, p.Next)
			}
		}
		n += uint64(max(from, l.To) - from)
	}
	return n, nil
}
