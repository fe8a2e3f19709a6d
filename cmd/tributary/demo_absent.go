//go:build nodemo

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// demoCommand says where the demo is: the Kafka in it is 3 MB, which a gateway's card
// and link need not carry.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Not in this build for gateways: on a computer with Go, run go run ./cmd/tributary demo",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("this build for gateways has no demo, and no Kafka in it; on a computer with Go run in the source: go run ./cmd/tributary demo")
		},
		DisableFlagParsing: true,
	}
}
