package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
)

// admin is how a command reaches the running node.
type admin struct{ config, socket string }

func (a *admin) flags(c *cobra.Command) {
	configFlag(c, &a.config)
	c.Flags().StringVar(&a.socket, "socket", "", "unix socket of the node (default: as the configuration says)")
}

// get is ask for what changes nothing.
func (a *admin) get(ctx context.Context, path string) (io.ReadCloser, error) {
	return a.ask(ctx, http.MethodGet, path)
}

// ask asks the node; the caller closes what it answers.
func (a *admin) ask(ctx context.Context, method, path string) (io.ReadCloser, error) {
	socket, hint := a.socket, ""
	if socket == "" {
		in := config.Input{Path: a.config, Environ: os.Environ()}
		read, err := in.Read()
		if err != nil {
			return nil, fmt.Errorf("%w; or name the node's socket with --socket", err)
		}
		// Errors need not matter here: the node may run with the last good configuration,
		// or have variables that this shell has not.
		if socket = read.Socket; read.Config == nil {
			hint = fmt.Sprintf(" %s has errors, see \"tributary check\"; or name the node's socket with --socket", a.config)
		}
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w%s", noAnswer(socket, err), hint)
	}
	if answer.StatusCode == http.StatusNotFound {
		return nil, errors.Join(errors.New("the node that is running does not know this command: it is of another version, or is not set up for it; nothing was changed"), answer.Body.Close())
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return nil, errors.Join(errors.New(strings.TrimSpace(string(text))), answer.Body.Close())
	}
	return answer.Body, nil
}

// noAnswer says why the node cannot be asked, without the URL that no person
// knows.
func noAnswer(socket string, err error) error {
	var number syscall.Errno
	var inURL *url.Error
	switch {
	case errors.As(err, &number):
		err = number
	case errors.As(err, &inURL):
		err = inURL.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w on %s: run as the user of the node, for example sudo -u USER", err, socket)
	}
	return fmt.Errorf("no node answers on %s: %w; is \"tributary run\" running?", socket, err)
}

func statusCommand() *cobra.Command {
	var a admin
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the state of the running node",
		Long:    "Shows the state of the running node. Exit code 0: green, 1: yellow, or no node answers; 2: red.",
		Example: "  tributary status\n  tributary status --json | jq .uplink.waiting",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := a.get(cmd.Context(), "/api/status")
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			text, err := io.ReadAll(body)
			if err != nil {
				return err
			}
			var r status.Report
			if err := json.Unmarshal(text, &r); err != nil {
				return fmt.Errorf("the node's answer cannot be read: %w", err)
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(text)
			} else {
				err = r.Text(cmd.OutOrStdout(), time.Now())
			}
			switch {
			case err != nil:
				return err
			case r.Colour == status.Yellow:
				return exit(1)
			case r.Colour == status.Red:
				return exit(2)
			}
			return nil
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func tailCommand() *cobra.Command {
	var a admin
	var asJSON bool
	var from string
	c := &cobra.Command{
		Use:   "tail FILTER",
		Short: "Follow the node's log: the messages whose MQTT topic matches FILTER",
		Long: "Prints what the log of the running node holds and what arrives, as soon as it is durable, until interrupted.\n" +
			"FILTER is an MQTT topic filter; --from goes back in time (-1h) or to a record of the running ledger (its LSN).",
		Example: "  tributary tail 'plant/+/tele'\n  tributary tail '#' --from -1h --json",
		Args:    oneArg("name an MQTT topic filter; '#' is all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"filter": {args[0]}, "from": {from}}
			body, err := a.get(cmd.Context(), "/api/tail?"+query.Encode())
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			err = printTail(cmd.OutOrStdout(), body, asJSON)
			if cmd.Context().Err() != nil {
				return nil // interrupted: that is how it ends
			}
			return err
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line; the value is base64")
	c.Flags().StringVar(&from, "from", "", "start in the past: a time ago such as -1h, or the LSN of a record")
	return c
}

func printTail(w io.Writer, body io.Reader, asJSON bool) error {
	in := json.NewDecoder(body)
	for {
		var raw json.RawMessage
		if err := in.Decode(&raw); errors.Is(err, io.EOF) {
			return errors.New("the node has stopped")
		} else if err != nil {
			return err
		}
		if asJSON {
			if _, err := fmt.Fprintf(w, "%s\n", raw); err != nil {
				return err
			}
			continue
		}
		var l edge.Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		to := l.Stream
		if to == "" {
			to = "(stays here)"
		}
		if _, err := fmt.Fprintf(w, "%s %8d %s -> %s [%s] %s\n", l.Time.Format("15:04:05.000"), l.LSN, l.Topic, to, l.Key, printable(l.Value)); err != nil {
			return err
		}
	}
}

// printable shows a payload on one line: as text if it is text.
func printable(b []byte) string {
	if !utf8.Valid(b) || strings.ContainsFunc(string(b), func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%x", b)
	}
	return string(b)
}
