package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// What Kafka takes as the name of a topic (org.apache.kafka.common.internals.Topic).
const (
	maxNameBytes   = 249
	internalPrefix = "__"
)

// CheckTopic returns nil when name is a Kafka topic that records can be sent to,
// and otherwise an error that says why not. Names that start with "__" are
// refused although Kafka's grammar has them: they are Kafka's own, and a broker
// refuses records for them.
func CheckTopic(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case name == "." || name == "..":
		return fmt.Errorf("%q is not a name that Kafka takes", name)
	case len(name) > maxNameBytes:
		return errTooLong(len(name))
	case strings.HasPrefix(name, internalPrefix):
		return errInternal()
	}
	for i := range len(name) {
		if !legalByte(name[i]) {
			return errIllegal(name, i)
		}
	}
	return nil
}

func legalByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

func errTooLong(n int) error {
	return fmt.Errorf("has %d characters; Kafka allows %d", n, maxNameBytes)
}

func errInternal() error {
	return fmt.Errorf("starts with %q; those topics are Kafka's own", internalPrefix)
}

func errIllegal(name string, at int) error {
	char, _ := utf8.DecodeRuneInString(name[at:])
	return fmt.Errorf("has %q in it; a Kafka topic is made of letters, digits, '.', '_' and '-'", char)
}
