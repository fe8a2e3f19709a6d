package config

import (
	"fmt"
	"io"
	"strings"
)

// The exit codes of Check.
const (
	ExitGood     = 0
	ExitErrors   = 1
	ExitWarnings = 3
)

// Check prints every problem of the configuration at path for a person, then one
// line with their number, and returns the exit code of `tributary check`. It opens
// nothing but that file and writes nothing but w.
func Check(w io.Writer, path string) (exitCode int) {
	_, problems, err := Load(path)
	var b strings.Builder
	errors, warnings := 0, 0
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
		errors++
	}
	for _, p := range problems {
		b.WriteString(p.String())
		if p.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	fmt.Fprintf(&b, "%s, %s. Nothing was changed.\n", counted(errors, "error"), counted(warnings, "warning"))
	_, _ = io.WriteString(w, b.String()) // the exit code says it as well
	switch {
	case errors > 0:
		return ExitErrors
	case warnings > 0:
		return ExitWarnings
	}
	return ExitGood
}

// counted returns "1 error" or "2 errors".
func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
