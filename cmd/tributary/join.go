package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/sync/join"
	"github.com/tributary-edge/tributary/sync/roster"
)

func inviteCommand() *cobra.Command {
	var a admin
	var asJSON bool
	c := &cobra.Command{
		Use:   "invite",
		Short: "Make a code that lets one node into the site of the running node",
		Long: "Asks the running node for a code and prints the command to type on the new node. The code is good once, for\n" +
			"15 minutes, and only until the node that made it stops. Whoever has it can join, so do not send it where\n" +
			"others read.",
		Example: "  tributary invite",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := a.ask(cmd.Context(), http.MethodPost, "/api/invite")
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
			var i edge.Invited
			if err := json.Unmarshal(text, &i); err != nil {
				return fmt.Errorf("the node's answer cannot be read: %w", err)
			}
			return printInvited(cmd.OutOrStdout(), &i)
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printInvited(w io.Writer, i *edge.Invited) error {
	address, others := "ADDR", ""
	if len(i.Addresses) > 0 {
		address = i.Addresses[0]
	}
	if len(i.Addresses) > 1 {
		others = "\nIf it cannot reach that address: " + strings.Join(i.Addresses[1:], ", ") + "\n"
	}
	_, err := fmt.Fprintf(w, "Type this on the new node, while no tributary runs there (with -c FILE, if its configuration is not in the usual place); it is good once, until %s:\n\n  tributary join %s %s\n%s",
		i.Until.Local().Format(time.TimeOnly), address, i.Code, others)
	return err
}

func joinCommand() *cobra.Command {
	var path string
	var force bool
	c := &cobra.Command{
		Use:   "join ADDR CODE",
		Short: "Make this node one of the site of a running node",
		Long: "Asks the running node at ADDR (HOST:PORT) to let this node into its site, with the CODE that \"tributary invite\"\n" +
			"has printed there, and notes in the data directory what a node of the site needs. The node of this data\n" +
			"directory must not be running. The code is sent only to a node that proves to be of the site.",
		Example: "  tributary join 192.168.1.20:7882 TRIB-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return fmt.Errorf("%d arguments: type what \"tributary invite\" has printed on a node of the site\n\n%s", len(args), strings.TrimRight(cmd.UsageString(), "\n"))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := join.ParseCode(args[1])
			if err != nil {
				return err
			}
			if host, port, err := net.SplitHostPort(args[0]); err != nil || host == "" || port == "" {
				return fmt.Errorf("%q is not HOST:PORT: type the address as \"tributary invite\" has printed it; the code was not sent", args[0])
			}
			cfg, err := loadConfig(path, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if cfg.Site.Listen == "" {
				return fmt.Errorf("[site] listen is not set in %s: this node would keep no copies, and nobody would keep any for it. Set it, for example to \"0.0.0.0:7882\"; the code was not sent", path)
			}
			return joinSite(cmd.Context(), cmd.OutOrStdout(), &cfg.Node, args[0], code, force)
		},
	}
	configFlag(c, &path)
	c.Flags().BoolVar(&force, "force", false, "leave the site that this node is of, with other nodes")
	return c
}

// joinSite makes the node one of the site of the code. Nothing that another node
// sees happens before everything here is known to be in order.
func joinSite(ctx context.Context, w io.Writer, cfg *config.Node, address string, code join.Code, force bool) (err error) {
	if err := ours(cfg.DataDir); err != nil {
		return err
	}
	lock, err := disk.Lock(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("%w. If it is the node that is to join, stop it, join, and start it again; the code was not sent", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	id, err := identity(w, cfg.DataDir)
	if err != nil {
		return err
	}
	before, isOfOne, err := join.Open(cfg.DataDir, id.Node)
	if err != nil {
		return err
	}
	removed := false
	if isOfOne {
		who, _, err := roster.Open(before.Path(), id.Node)
		if err != nil {
			return err
		}
		removed = who.Self() != roster.Member
	}
	switch shared := isOfOne && before.Shared() && !(removed && code.For(before)); {
	case shared && !force && code.For(before):
		_, err = fmt.Fprintf(w, "this node is of that site already, %q; nothing was changed, and the code was not sent\n", before.Name)
		return err
	case shared && !force:
		return fmt.Errorf("this node is of site %q already, with other nodes; nothing was changed, and the code was not sent. With --force it leaves that site: "+
			"its log stays as it is, but the nodes there keep no copies for it any more, nor it for them. Do that when \"tributary status\" has shown "+
			"that nothing waits for Kafka: what waits may otherwise be forwarded by both sites, and so twice", before.Name)
	}
	b, err := join.Join(ctx, address, code, join.Guest{Node: id.Node, Name: cfg.Name, Site: cfg.Site})
	if err != nil {
		return err
	}
	if _, err := b.Adopt(cfg.DataDir, id.Node); err != nil {
		return fmt.Errorf("%w; the log is as it was. The code is used: when the disk can be written to, join again with another one", err)
	}
	fmt.Fprintf(w, "this node is of site %q now: what it needs for that is in %s\n", b.Site, filepath.Join(cfg.DataDir, "site"))
	if isOfOne {
		fmt.Fprintf(w, "what it had as a node of site %q is kept in %s\n", before.Name, filepath.Join(cfg.DataDir, "site.old"))
	}
	_, err = fmt.Fprintln(w, "start it now: tributary run, with the configuration that you joined with")
	return err
}

// identity returns who the node is. A new data directory gets an id.
func identity(w io.Writer, dir string) (id meta.Identity, err error) {
	db, aside, err := meta.Open(dir)
	if err != nil {
		return id, err
	}
	if aside != "" {
		fmt.Fprintf(w, "the meta file was damaged and is set aside as %s; the node has a new id, no record is lost\n", aside)
	}
	id, err = db.Start() // counted as a start: the number only has to grow
	return id, errors.Join(err, db.Close())
}

// ours returns an error if the data directory is of another user, who could not
// read what we would write.
func ours(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("the data directory %s is of another user (number %d), who runs the node and could not read what this command writes; nothing was changed: run as that user, for example sudo -u '#%d'", dir, s.Uid, s.Uid)
	}
	return nil
}
