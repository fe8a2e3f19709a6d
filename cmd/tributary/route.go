package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge/config"
)

// A routed is where a message of an MQTT topic goes.
type routed struct {
	Route  int    `json:"route"`           // which [[route]], from 1; 0: [default_route]
	Where  string `json:"where,omitempty"` // where its match stands; "" for the default
	Match  string `json:"match,omitempty"`
	Topic  string `json:"topic"` // in Kafka; "": it stays on this node
	Key    string `json:"key"`
	Alarm  bool   `json:"alarm"`
	Urgent bool   `json:"urgent"`
	Refuse string `json:"impossible,omitempty"` // why the topic of the route is impossible, so that Topic is dead_letter
}

func routeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "route",
		Short: "Look at what the routes do",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(routeTestCommand())
	return c
}

func routeTestCommand() *cobra.Command {
	in := config.Input{Environ: os.Environ()}
	var client, user string
	var asJSON bool
	c := &cobra.Command{
		Use:   "test TOPIC",
		Short: "Say which route a message of an MQTT topic takes, and its topic and key in Kafka",
		Long: "Says which route of the configuration a message would take, and which topic and key it would have in Kafka. It\n" +
			"only reads the configuration: no node and no Kafka is asked. Exit code 1: the message would go to dead_letter.",
		Example: "  tributary route test plant/7/dev3/tele --client dev3\n  tributary route test alarm/fire -c new.toml --json | jq -r .topic",
		Args:    oneArg("name an MQTT topic, such as plant/7/dev3/tele"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" || strings.ContainsAny(args[0], "+#\x00") {
				return errors.New("devices publish to topics, not to filters: write one without '+' and '#'")
			}
			read, err := loadInput(&in, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			r := resolve(read, args[0], client, user)
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			} else {
				err = r.text(cmd.OutOrStdout())
			}
			if err == nil && r.Refuse != "" {
				return exit(1)
			}
			return err
		},
	}
	configFlag(c, &in.Path)
	setFlag(c, &in)
	c.Flags().StringVar(&client, "client", "client-id", "client id of the device, for {client_id}")
	c.Flags().StringVar(&user, "username", "", "its user name, for {username}")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func resolve(read *config.Reading, topic, client, user string) routed {
	target, err := read.Config.Table.Resolve(topic, client, user)
	r := routed{Topic: target.Topic, Key: string(target.Key), Alarm: target.Alarm, Urgent: target.Urgent}
	if target.Rule >= 0 {
		r.Route, r.Match = target.Rule+1, read.Config.Routes[target.Rule].Match
		r.Where = read.Origin(fmt.Sprintf("route[%d].match", target.Rule))
	}
	if err != nil {
		r.Refuse = err.Error()
	}
	return r
}

func (r *routed) text(w io.Writer) error {
	by, to := "[default_route], because no route takes it", fmt.Sprintf("topic %s", r.Topic)
	if r.Route > 0 {
		by = fmt.Sprintf("[[route]] %d, match = %q (%s)", r.Route, r.Match, r.Where)
	}
	switch {
	case r.Refuse != "":
		to = fmt.Sprintf("dead letter %s, because %s", r.Topic, r.Refuse)
	case r.Topic == "":
		to = "this node alone, not Kafka"
	}
	kind := ""
	if r.Alarm {
		kind += ", as an alarm"
	}
	if r.Urgent {
		kind += ", urgent"
	}
	_, err := fmt.Fprintf(w, "by  %s\nto  %s%s\nkey %q\n", by, to, kind, r.Key)
	return err
}
