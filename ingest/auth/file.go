package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFileBytes is far above any real file of users or rights; it keeps a wrong path
// from filling the memory.
const maxFileBytes = 16 << 20

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(src)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, so it is something else", path, limit)
	}
	return src, nil
}

// lines splits a text; a line may end with "\r\n".
func lines(src []byte) []string {
	all := strings.Split(string(src), "\n")
	for i := range all {
		all[i] = strings.TrimSuffix(all[i], "\r")
	}
	return all
}

// trim takes off at both ends what Mosquitto takes for space.
func trim(s string) string { return strings.Trim(s, " \t\n\v\f\r") }

// maxFaults is how many faults of one file are worth telling.
const maxFaults = 20

// faults gathers what is wrong with a file, by line.
type faults []error

func (f *faults) add(path string, line int, err error) {
	switch n := len(*f); {
	case n < maxFaults:
		*f = append(*f, fmt.Errorf("%s:%d: %w", path, line, err))
	case n == maxFaults:
		*f = append(*f, fmt.Errorf("%s:%d: and more; is it the right file?", path, line))
	}
}

func (f *faults) err() error { return errors.Join(*f...) }
