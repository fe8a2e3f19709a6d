package config

import (
	"encoding/json"
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

// CheckOptions say what Check prints.
type CheckOptions struct {
	JSON      bool // for programs
	Effective bool // every value in force as well, with where it comes from
}

// checked is what check says to programs.
type checked struct {
	Error     string    `json:"error,omitzero"` // why there is nothing to check
	Problems  []Problem `json:"problems"`
	Errors    int       `json:"errors"`
	Warnings  int       `json:"warnings"`
	Replaced  []Setting `json:"replaced"` // that hide a value which stands elsewhere
	Effective []Setting `json:"effective,omitzero"`
}

// Check prints every problem of a configuration, for a person or a program, which
// values replace others, and the number of problems, and returns the exit code of
// `tributary check`. It opens what Input.Read does and writes nothing but w.
func Check(w io.Writer, in Input, o CheckOptions) (exitCode int) {
	c := checked{Problems: []Problem{}, Replaced: []Setting{}}
	read, err := in.Read()
	if err != nil {
		c.Error, c.Errors = err.Error(), 1
	} else {
		c.Problems = append(c.Problems, read.Problems...)
		for _, s := range read.Settings() {
			if len(s.Hidden) > 0 {
				c.Replaced = append(c.Replaced, s)
			}
		}
		if o.Effective && read.Config != nil {
			c.Effective = read.Settings()
		}
	}
	for _, p := range c.Problems {
		if p.Severity == Error {
			c.Errors++
		} else {
			c.Warnings++
		}
	}
	c.print(w, o.JSON)
	switch {
	case c.Errors > 0:
		return ExitErrors
	case c.Warnings > 0:
		return ExitWarnings
	}
	return ExitGood
}

// print writes what was found. That it cannot is no result: the exit code says it as
// well.
func (c *checked) print(w io.Writer, asJSON bool) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(c)
		return
	}
	var b strings.Builder
	if c.Effective != nil {
		b.WriteString(written(c.Effective, true) + "\n")
	}
	if c.Error != "" {
		b.WriteString(c.Error + "\n")
	}
	for _, p := range c.Problems {
		b.WriteString(p.String())
	}
	for _, s := range c.Replaced {
		fmt.Fprintf(&b, "note: %s is %s, from %s instead of %s\n", s.Key, printable(s.Value, maxSourceChars), s.From, strings.Join(s.Hidden, " and "))
	}
	fmt.Fprintf(&b, "%s, %s. Nothing was changed.\n", counted(c.Errors, "error"), counted(c.Warnings, "warning"))
	_, _ = io.WriteString(w, b.String())
}

// counted returns "1 error" or "2 errors".
func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
