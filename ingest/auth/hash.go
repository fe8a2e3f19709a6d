package auth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// What a hash may cost. A file is the administrator's, but a slip in it must not
// take all memory or minutes for each device.
const (
	maxIterations   = 1_000_000 // of PBKDF2: about 2 s
	maxArgonKiB     = 128 << 10
	maxArgonTime    = 16
	maxArgonThreads = 16
	minSaltBytes    = 8
	maxSaltBytes    = 64
	minSumBytes     = 16
)

// New passwords: RFC 9106's way with what OWASP gives as the least, because two of
// them have to fit beside the log on a small Raspberry Pi.
const (
	argonKiB     = 19 << 10
	argonTime    = 2
	argonThreads = 1
	saltBytes    = 16
	sumBytes     = 32
)

type algorithm byte

const (
	saltedSHA512 algorithm = iota + 1 // $6$ of Mosquitto: one round over password and salt
	pbkdf2SHA512                      // $7$ of Mosquitto
	argon2id                          // $argon2id$v=19$ in the PHC string format
)

// A secret is the hash of a password, with what is needed to make it again.
type secret struct {
	algorithm algorithm
	rounds    int // iterations of PBKDF2, or time of argon2id
	memoryKiB uint32
	threads   uint8
	salt, sum []byte
}

// matches reports whether password makes the hash. How long it takes depends on
// the secret's parameters and the length of password alone.
func (s *secret) matches(password []byte) bool {
	return subtle.ConstantTimeCompare(s.hash(password), s.sum) == 1
}

func (s *secret) hash(password []byte) []byte {
	switch s.algorithm {
	case saltedSHA512:
		sum := sha512.Sum512(append(append([]byte{}, password...), s.salt...))
		return sum[:]
	case pbkdf2SHA512:
		sum, err := pbkdf2.Key(sha512.New, string(password), s.salt, s.rounds, len(s.sum))
		if err != nil {
			return nil // only for lengths that parseSecret refuses; matches nothing
		}
		return sum
	case argon2id:
		return argon2.IDKey(password, s.salt, uint32(s.rounds), s.memoryKiB, s.threads, uint32(len(s.sum)))
	}
	return nil
}

// newSecret hashes a password with a random salt.
func newSecret(password []byte) *secret {
	s := newArgon2()
	s.sum = s.hash(password)
	return s
}

// newArgon2 returns how new passwords are hashed, with a random salt.
func newArgon2() *secret {
	s := &secret{
		algorithm: argon2id, rounds: argonTime, memoryKiB: argonKiB, threads: argonThreads,
		salt: make([]byte, saltBytes), sum: make([]byte, sumBytes),
	}
	_, _ = rand.Read(s.salt) // never fails
	return s
}

// String writes an argon2id secret as a line of a password file has it.
func (s *secret) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, s.memoryKiB, s.rounds, s.threads, b64(s.salt), b64(s.sum))
}

// parseSecret reads what stands behind the user in a password file. The error does
// not show it.
func parseSecret(text string) (*secret, error) {
	fields := strings.Split(text, "$")
	if len(fields) < 2 || fields[0] != "" {
		return nil, errors.New("the password is not hashed; set it anew with: tributary passwd")
	}
	switch fields[1] {
	case "6":
		return parseSHA512(fields[2:])
	case "7":
		return parsePBKDF2(fields[2:])
	case "argon2id":
		return parseArgon2(fields[2:])
	}
	return nil, errors.New("the hash is of no known kind; known are $6$, $7$ and $argon2id$")
}

func parseSHA512(fields []string) (*secret, error) {
	if len(fields) != 2 {
		return nil, errors.New("a $6$ hash is $6$salt$hash")
	}
	s := &secret{algorithm: saltedSHA512}
	return s, s.decode(base64.StdEncoding.Strict(), fields[0], fields[1], sha512.Size)
}

func parsePBKDF2(fields []string) (*secret, error) {
	if len(fields) != 3 {
		return nil, errors.New("a $7$ hash is $7$iterations$salt$hash")
	}
	n, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil || n < 1 || n > maxIterations {
		return nil, fmt.Errorf("the iterations of a $7$ hash must be from 1 to %d", maxIterations)
	}
	s := &secret{algorithm: pbkdf2SHA512, rounds: int(n)}
	return s, s.decode(base64.StdEncoding.Strict(), fields[1], fields[2], sha512.Size)
}

func parseArgon2(fields []string) (*secret, error) {
	if len(fields) != 4 {
		return nil, errors.New("an argon2id hash is $argon2id$v=19$m=KiB,t=rounds,p=threads$salt$hash")
	}
	if fields[0] != "v=19" {
		return nil, errors.New("only version 19 of argon2id is known")
	}
	var values [3]uint64
	parts := strings.Split(fields[1], ",")
	for i, limit := range [3]uint64{maxArgonKiB, maxArgonTime, maxArgonThreads} {
		name := "mtp"[i:i+1] + "="
		if len(parts) != len(values) || !strings.HasPrefix(parts[i], name) {
			return nil, errors.New("the parameters of argon2id are m=KiB,t=rounds,p=threads")
		}
		n, err := strconv.ParseUint(parts[i][len(name):], 10, 32)
		if err != nil || n < 1 || n > limit {
			return nil, fmt.Errorf("argon2id's %smust be from 1 to %d", name, limit)
		}
		values[i] = n
	}
	if values[0] < 8*values[2] {
		return nil, errors.New("argon2id's m= must be at least 8 times its p=")
	}
	s := &secret{algorithm: argon2id, rounds: int(values[1]), memoryKiB: uint32(values[0]), threads: uint8(values[2])}
	return s, s.decode(base64.RawStdEncoding.Strict(), fields[2], fields[3], 0)
}

// decode reads salt and sum. wantSum is the length of the sum; 0: from minSumBytes
// to that of SHA-512.
func (s *secret) decode(encoding *base64.Encoding, salt, sum string, wantSum int) (err error) {
	if strings.ContainsAny(salt+sum, "\r\n") { // which the decoder would skip
		return errors.New("the hash has a line end in it")
	}
	if s.salt, err = encoding.DecodeString(salt); err != nil || len(s.salt) < minSaltBytes || len(s.salt) > maxSaltBytes {
		return fmt.Errorf("the salt must be %d to %d bytes in base64", minSaltBytes, maxSaltBytes)
	}
	s.sum, err = encoding.DecodeString(sum)
	n := len(s.sum)
	if err != nil || wantSum != 0 && n != wantSum || n < minSumBytes || n > sha512.Size {
		return errors.New("the hash has not the length of its kind in base64; is the line cut?")
	}
	return nil
}
