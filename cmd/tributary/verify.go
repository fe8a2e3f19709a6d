package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/store"
)

func verifyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read every group of a log and check it; changes nothing",
		Long: "Walks the log in the data directory DIR: checksums, chains, and that record numbers and partition offsets\n" +
			"have no gap. Exit code 1 and the place of the first fault if there is one. It may run beside the node.",
		Example: "  tributary verify /var/lib/tributary",
		Args:    oneArg("name the data directory, data_dir of the configuration"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := edge.LogDir(args[0])
			if _, err := os.Stat(dir); err != nil {
				return noLog(args[0], err)
			}
			fs, err := disk.Dir(dir)
			if err != nil {
				return err
			}
			r, err := store.Verify(fs)
			var fault *store.FaultError
			if errors.Is(err, os.ErrPermission) {
				return noLog(args[0], err)
			}
			if err != nil && !errors.As(err, &fault) {
				return err
			}
			if err == nil && r.Files == 0 {
				return noLog(args[0], nil)
			}
			if asJSON {
				return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
					store.Report

					Fault *store.FaultError `json:"fault,omitempty"`
				}{r, fault}), failed(fault))
			}
			if fault != nil {
				return fmt.Errorf("%w\nthe log was good up to there: %d records in %d groups; nothing was changed", fault, r.Records, r.Groups)
			}
			w := cmd.OutOrStdout()
			for _, l := range r.Ledgers {
				fmt.Fprintf(w, "ledger %v  records %d to %d  in %d groups\n", l.ID, l.From, l.To-1, l.Groups)
			}
			if r.Torn {
				fmt.Fprintln(w, "the newest group was cut short or is being written; it was never acknowledged")
			}
			fmt.Fprintf(w, "good: %d records in %d groups, %d segments, %.1f MiB, in %v\n", r.Records, r.Groups, r.Segments,
				float64(r.StoredBytes)/(1<<20), r.Took.Round(time.Millisecond))
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// noLog says that there is no log in dir, or why it cannot be read, err.
func noLog(dir string, err error) error {
	dir = filepath.Clean(dir)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the log in %s cannot be read: %w; run as the user of the node, for example sudo -u USER", dir, err)
	}
	if used, err := disk.Used(dir, ".seg", ".zseg"); err == nil && used > 0 {
		if whole, err := filepath.Abs(dir); err == nil {
			return fmt.Errorf("there is no log in %s, but it has segments of one: did you mean the directory above, %s?", dir, filepath.Dir(whole))
		}
	}
	return fmt.Errorf("there is no log in %s: name the data directory, data_dir of the configuration", dir)
}

func failed(fault *store.FaultError) error {
	if fault != nil {
		return exit(1)
	}
	return nil
}
