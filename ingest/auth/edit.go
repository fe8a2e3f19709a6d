package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SetPassword gives user a new password in the password file at path, whether it
// is there or not, hashed with argon2id. All other lines stay as they are. A file
// that is wrong, or is not there, is an error and stays as it is; with create it
// may be missing. The file is replaced at once, with its old owner and mode, or not
// at all. Two edits at the same time are not kept apart.
func SetPassword(path, user string, password []byte, create bool) (isNew bool, err error) {
	if err := checkUser(user); err != nil {
		return false, err
	}
	switch {
	case len(password) == 0:
		return false, errors.New("the password is empty; a client with it could not connect")
	case len(password) > maxNameBytes:
		return false, fmt.Errorf("the password is longer than MQTT's %d bytes", maxNameBytes)
	}
	src, err := readFile(path, maxFileBytes)
	if err != nil && !(create && errors.Is(err, fs.ErrNotExist)) {
		return false, err
	}
	if _, err := parsePasswords(path, src); err != nil {
		return false, err
	}
	line := user + ":" + newSecret(password).String() + "\n"
	edited, found := replaceUser(src, user, line)
	if !found {
		if len(edited) > 0 && !bytes.HasSuffix(edited, []byte("\n")) {
			edited = append(edited, '\n')
		}
		edited = append(edited, line...)
	}
	return !found, replaceFile(path, edited)
}

// DeleteUser takes user out of the password file at path, like SetPassword. That
// there is no such user is an error.
func DeleteUser(path, user string) error {
	src, err := readFile(path, maxFileBytes)
	if err != nil {
		return err
	}
	if _, err := parsePasswords(path, src); err != nil {
		return err
	}
	edited, found := replaceUser(src, user, "")
	if !found {
		return fmt.Errorf("%s: there is no user %q in it", path, user)
	}
	return replaceFile(path, edited)
}

// replaceUser puts line where the line of user is.
func replaceUser(src []byte, user, line string) (edited []byte, found bool) {
	for old := range bytes.Lines(src) {
		name, s, err := parsePasswordLine(strings.TrimRight(string(old), "\r\n"))
		if err != nil || s == nil || name != user {
			edited = append(edited, old...)
			continue
		}
		edited, found = append(edited, line...), true
	}
	return edited, found
}

// replaceFile writes a file so that at every moment, and after a power cut, there
// is the old or the new one.
func replaceFile(path string, content []byte) (err error) {
	owner, group, mode := os.Geteuid(), os.Getegid(), fs.FileMode(0o600)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			owner, group = int(s.Uid), int(s.Gid)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".passwd-*") // only its owner may read it
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chown(owner, group); err != nil {
		return fmt.Errorf("the file was not changed, because its owner could not be kept: %w", err)
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
