package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// passwords is a password file.
type passwords struct {
	users map[string]*secret
	all   []*secret // never empty: those of users, or one that nothing matches
	salt  [sha256.Size]byte
}

func loadPasswords(path string) (*passwords, error) {
	src, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	return parsePasswords(path, src)
}

// parsePasswords reads a password file. A line that is not wholly right is an
// error, with its place: it must never become a user without a password
// (CVE-2018-12551), nor a user that is missing.
func parsePasswords(path string, src []byte) (*passwords, error) {
	p := &passwords{users: map[string]*secret{}}
	var errs faults
	first := map[string]int{}
	for i, line := range lines(src) {
		user, s, err := parsePasswordLine(line)
		switch again := first[user]; {
		case err != nil:
			errs.add(path, i+1, err)
		case s == nil:
		case again != 0:
			errs.add(path, i+1, fmt.Errorf("user %q stands on line %d already", user, again))
		default:
			first[user] = i + 1
			p.users[user] = s
			p.all = append(p.all, s)
		}
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	if len(p.all) == 0 {
		p.all = []*secret{newDecoy()}
	}
	_, _ = rand.Read(p.salt[:]) // never fails
	return p, nil
}

// parsePasswordLine returns the user and secret of a line, or neither for a
// comment or an empty line.
func parsePasswordLine(line string) (user string, s *secret, err error) {
	if trim(line) == "" || line[0] == '#' {
		return "", nil, nil
	}
	user, hash, found := strings.Cut(line, ":")
	user, hash = trim(user), trim(hash)
	if !found {
		return "", nil, errors.New("this is not user:hash")
	}
	if err := checkUser(user); err != nil {
		return "", nil, err
	}
	s, err = parseSecret(hash)
	if err != nil {
		return "", nil, fmt.Errorf("user %q: %w", user, err)
	}
	return user, s, nil
}

// checkUser judges the name of a user in a password file.
func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("the user has no name")
	case len(user) > maxNameBytes:
		return fmt.Errorf("the name of the user is longer than MQTT's %d bytes", maxNameBytes)
	case user[0] == '#':
		return errors.New("the name of the user begins with '#', so its line would be a comment")
	case !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl):
		return fmt.Errorf("the name of the user, %q, is not text", user)
	case trim(user) != user || strings.Contains(user, ":"):
		return fmt.Errorf("the name of the user, %q, has a ':' in it or a space at an end", user)
	}
	return nil
}

// maxNameBytes is the longest text in MQTT.
const maxNameBytes = 65535

// find returns the secret of user. For one that is not there it returns that of
// another, always the same, so that the time of a check tells nothing.
func (p *passwords) find(user string) (s *secret, isUser bool) {
	sum := sha256.Sum256(append(p.salt[:], user...))
	other := p.all[binary.BigEndian.Uint64(sum[:])%uint64(len(p.all))]
	if s, isUser = p.users[user]; isUser {
		return s, true
	}
	return other, false
}

// newDecoy returns a secret that no password has, for its time alone.
func newDecoy() *secret {
	s := newArgon2()
	_, _ = rand.Read(s.sum) // never fails
	return s
}

// openToAll returns a doubt if every user of this machine can read the file.
func openToAll(path string) []string {
	info, err := os.Stat(path)
	if err != nil || info.Mode()&0o004 == 0 {
		return nil // what cannot be read is an error elsewhere
	}
	return []string{fmt.Sprintf("%s can be read by every user of this machine: chmod o= %s", path, path)}
}
