package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tributary-edge/tributary/ingest/auth"
)

// A passwordEdit is what one call of passwd is to do.
type passwordEdit struct {
	file                   string
	create, remove, inArgs bool
}

func passwdCommand() *cobra.Command {
	var e passwordEdit
	c := &cobra.Command{
		Use:   "passwd -f FILE USER",
		Short: "Set or delete the password of an MQTT user",
		Long: "Sets the password of a user in a password file, which may be Mosquitto's: its lines stay as they are. The\n" +
			"password is asked for twice on a terminal; otherwise it is the first line of the input. It is hashed with\n" +
			"argon2id. The file is replaced at once, with its old owner and mode.",
		Example: "  tributary passwd -f /etc/tributary/passwd pump-17\n" +
			"  tributary passwd -f /etc/tributary/passwd pump-17 < password.txt\n" +
			"  tributary passwd -f /etc/tributary/passwd --delete pump-17",
		Args: func(cmd *cobra.Command, args []string) error {
			if e.inArgs && e.remove {
				return errors.New("--batch and --delete do not go together")
			}
			if len(args) == 2 && !e.inArgs {
				return errors.New("a password in the command line can be read by every user of this machine, and stays in the history; " +
					"leave it out to be asked for it, or say --batch if that is meant")
			}
			if e.inArgs && len(args) != 2 {
				return errors.New("--batch needs the user and the password")
			}
			if !e.inArgs {
				return oneArg("which user?")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return e.do(cmd, args) },
	}
	c.Flags().StringVarP(&e.file, "file", "f", "", "password file")
	c.Flags().BoolVarP(&e.create, "create", "c", false, "make the file if there is none")
	c.Flags().BoolVarP(&e.remove, "delete", "D", false, "delete the user")
	c.Flags().BoolVarP(&e.inArgs, "batch", "b", false, "the password follows the user in the command line, for all to see")
	_ = c.MarkFlagRequired("file") // fails for a flag that does not exist
	return c
}

func (e *passwordEdit) do(cmd *cobra.Command, args []string) error {
	user := args[0]
	if e.remove {
		if err := auth.DeleteUser(e.file, user); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "deleted user %q\n", user)
		return nil
	}
	if _, err := os.Stat(e.file); err != nil && !e.create {
		return fmt.Errorf("%w; --create makes it", err) // before somebody has typed a password
	}
	var password []byte
	var err error
	if e.inArgs {
		password = []byte(args[1])
	} else if password, err = askPassword(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
		return err
	}
	isNew, err := auth.SetPassword(e.file, user, password, e.create)
	if err != nil {
		return err
	}
	what := "changed the password of user %q in %s\n"
	if isNew {
		what = "added user %q to %s\n"
	}
	fmt.Fprintf(cmd.OutOrStdout(), what, user, filepath.Clean(e.file))
	return nil
}

// askPassword reads a password: twice from a terminal, without showing it, or the
// first line of anything else. When ctx ends on a terminal, the terminal is as it
// was, and its reader is left behind: the program ends then.
func askPassword(ctx context.Context, in io.Reader, prompt io.Writer) ([]byte, error) {
	f, isFile := in.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 1<<20)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	type answer struct {
		password []byte
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		password, err := readTwice(int(f.Fd()), prompt)
		done <- answer{password, err}
	}()
	select {
	case a := <-done:
		return a.password, a.err
	case <-ctx.Done():
		return nil, errors.Join(errors.New("nothing was changed"), term.Restore(int(f.Fd()), before))
	}
}

func readTwice(terminal int, prompt io.Writer) ([]byte, error) {
	var typed [2][]byte
	for i, text := range []string{"Password: ", "Again: "} {
		fmt.Fprint(prompt, text)
		password, err := term.ReadPassword(terminal)
		fmt.Fprintln(prompt)
		if err != nil {
			return nil, err
		}
		typed[i] = password
	}
	if !bytes.Equal(typed[0], typed[1]) {
		return nil, errors.New("the two are not the same; nothing was changed")
	}
	return typed[0], nil
}
