package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge/status"
)

func skipCommand() *cobra.Command {
	var a admin
	c := &cobra.Command{
		Use:   "skip LEDGER",
		Short: "Give up records that are damaged in all copies, so that what is behind them goes on",
		Long: "Records of a gateway that is gone, of which the copy on this gateway is damaged, are taken from another copy as soon as one\n" +
			"is there. If there is none and never will be, this gives them up: the dead-letter topic gets a record that names them,\n" +
			"and what is behind them goes to Kafka. \"tributary status\" says what is stuck, and since when.",
		Example: "  tributary skip 0123456789abcdef0123456789abcdef",
		Args:    oneArg("name the ledger, as \"tributary status\" has it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := a.ask(cmd.Context(), http.MethodPost, "/api/skip?"+url.Values{"ledger": {args[0]}}.Encode())
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			text, err := io.ReadAll(body)
			if err != nil {
				return err
			}
			var k status.Stuck
			if err := json.Unmarshal(text, &k); err != nil {
				return fmt.Errorf("the node's answer cannot be read: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "records %d to %d of ledger %s are given up: a record in the dead-letter topic will name them\n", k.From, k.To-1, k.Ledger)
			return err
		},
	}
	a.flags(c)
	return c
}
