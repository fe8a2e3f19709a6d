package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge/status"
)

func nodesCommand() *cobra.Command {
	var a admin
	var asJSON bool
	c := &cobra.Command{
		Use:   "nodes",
		Short: "Show the gateways of the site: who is there, holds what, and forwards what",
		Long: "Asks the running node which gateways its site has, and prints what it knows of each: whether it is there, how many\n" +
			"records it holds that Kafka lacks, how far its copy of what this node writes is, and which ledgers it forwards.",
		Example: "  tributary nodes\n  tributary nodes --json | jq '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printNodes(cmd, &a, http.MethodGet, "/api/nodes", asJSON)
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(removeCommand())
	return c
}

func removeCommand() *cobra.Command {
	var a admin
	var asJSON, lost bool
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "Remove a gateway from the site",
		Long: "Tells the running node, and through it all others, that the gateway NODE (its name, or its id) is no longer one of the\n" +
			"site: nobody gives it copies to keep any more, and it takes no devices. What it holds and Kafka lacks is forwarded, by\n" +
			"itself or by those who have copies; \"tributary nodes\" says \"gone\" when that is done. To take it back, invite it and\n" +
			"join again. With --lost it will never return: what only it held is given up, and nobody waits for it.",
		Example: "  tributary nodes remove gateway-3\n  tributary nodes remove gateway-3 --lost",
		Args:    oneArg("name the gateway, as \"tributary nodes\" has it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"node": {args[0]}}
			if lost {
				query.Set("lost", "true")
			}
			return printNodes(cmd, &a, http.MethodPost, "/api/nodes/remove?"+query.Encode(), asJSON)
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&lost, "lost", false, "it never returns, and what only it held is gone")
	return c
}

// printNodes asks for the nodes and prints them.
func printNodes(cmd *cobra.Command, a *admin, method, path string, asJSON bool) error {
	body, err := a.ask(cmd.Context(), method, path)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if asJSON {
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	var all []status.Node
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("the node's answer cannot be read: %w", err)
	}
	for i := range all {
		all[i].Name = strings.TrimSpace(printable([]byte(all[i].Name))) // other nodes say what they are called
	}
	return status.WriteNodes(cmd.OutOrStdout(), all)
}
