package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A fault is what is wrong with one value. message goes on after "[section] key: ".
type fault struct {
	at       span
	severity Severity
	message  string
	hint     string
}

// A decoder checks a value and stores it. A value with an Error is not stored.
type decoder func(v value) []fault

// bad is the usual result of a decoder that does not like a value.
func (v value) bad(hint, format string, args ...any) []fault {
	return []fault{{at: v.at, message: fmt.Sprintf(format, args...), hint: hint}}
}

// doubtful is the result of a decoder that takes a value and warns.
func (v value) doubtful(hint, format string, args ...any) []fault {
	return []fault{{at: v.at, severity: Warning, message: fmt.Sprintf(format, args...), hint: hint}}
}

// kindWords says what a value is to a person.
func kindWords(kind unstable.Kind) string {
	switch kind {
	case unstable.String:
		return "text"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer:
		return "a whole number"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	case unstable.LocalDate, unstable.LocalTime, unstable.LocalDateTime, unstable.DateTime:
		return "a date or time"
	case unstable.Invalid, unstable.Comment, unstable.Key, unstable.Table, unstable.ArrayTable, unstable.KeyValue:
	}
	return "something else" // the parser does not give these as values
}

// asText returns the text of v.
func (v value) asText(hint string) (string, []fault) {
	switch {
	case v.kind != unstable.String:
		return "", v.bad(hint, "needs text in quotes, not %s", kindWords(v.kind))
	case strings.ContainsRune(v.text, 0):
		return "", v.bad("", "has a character 0 in it")
	}
	return v.text, nil
}

// A check judges a text. An empty reason is a good one.
type check func(s string) (reason, hint string)

// text reads any text that check likes; check may be nil.
func text(dst *string, judge check) decoder {
	return func(v value) []fault {
		s, faults := v.asText("put quotes around it")
		if faults != nil {
			return faults
		}
		if judge != nil {
			if reason, hint := judge(s); reason != "" {
				return v.bad(hint, "%s", reason)
			}
		}
		*dst = s
		return nil
	}
}

// A folder is where files lie that are named without theirs.
type folder struct {
	dir         string          // of the configuration
	credentials string          // of the credentials that systemd hands over; "" none
	handedOver  map[string]bool // the names in it
}

// file reads the name of a file; "" is none. A bare name that systemd has handed over
// as a credential is that. Any other without a / at its start is in the folder of the
// configuration: what it means must not depend on where the program is started.
func file(dst *string, in folder) decoder {
	return func(v value) []fault {
		faults := text(dst, nil)(v)
		switch {
		case faults != nil || *dst == "" || filepath.IsAbs(*dst):
		case in.handedOver[*dst]:
			*dst = filepath.Join(in.credentials, *dst)
		default:
			*dst = filepath.Join(in.dir, *dst)
		}
		return faults
	}
}

// list reads one or more texts, none of them twice.
func list(dst *[]string, judge check, example string) decoder {
	return func(v value) []fault {
		if v.kind != unstable.Array {
			return v.bad(example, "needs a list, not %s", kindWords(v.kind))
		}
		if len(v.items) == 0 {
			return v.bad(example, "is empty")
		}
		var all []string
		var faults []fault
		seen := map[string]bool{}
		for _, item := range v.items {
			var s string
			faults = append(faults, text(&s, judge)(item)...)
			if s != "" && seen[s] && !strings.HasSuffix(s, ":0") {
				faults = append(faults, item.bad("leave one out", "%q stands twice", s)...)
			}
			seen[s] = true
			all = append(all, s)
		}
		if faults == nil {
			*dst = all
		}
		return faults
	}
}

// listOrNone reads a list that may be empty.
func listOrNone(dst *[]string, judge check, example string) decoder {
	return func(v value) []fault {
		if v.kind == unstable.Array && len(v.items) == 0 {
			*dst = nil
			return nil
		}
		return list(dst, judge, example)(v)
	}
}

func boolean(dst *bool) decoder {
	return func(v value) []fault {
		if v.kind != unstable.Bool {
			return v.bad("write true or false, without quotes", "needs true or false, not %s", kindWords(v.kind))
		}
		*dst = v.text == "true"
		return nil
	}
}

// integer reads a whole number from low to high.
func integer[T ~int | ~int16 | ~int32 | ~uint16](dst *T, low, high T) decoder {
	return func(v value) []fault {
		if v.kind != unstable.Integer {
			return v.bad(fmt.Sprintf("a number from %d to %d, without quotes", low, high), "needs a whole number, not %s", kindWords(v.kind))
		}
		n, err := strconv.ParseInt(v.text, 0, 64)
		if err != nil || n < int64(low) || n > int64(high) {
			return v.bad("", "is %s; it must be from %d to %d", v.text, low, high)
		}
		*dst = T(n)
		return nil
	}
}

// An option is one value of a choice.
type option[T any] struct {
	word  string
	value T
}

// choice reads one of the words. later are words of which a person should know
// that they do not exist yet.
func choice[T any](dst *T, options []option[T], later ...string) decoder {
	return func(v value) []fault {
		words, plain := make([]string, len(options)), make([]string, len(options))
		for i, o := range options {
			words[i], plain[i] = strconv.Quote(o.word), o.word
		}
		allowed := strings.Join(words, " or ")
		s, faults := v.asText("write " + allowed)
		if faults != nil {
			return faults
		}
		for _, o := range options {
			if o.word == s {
				*dst = o.value
				return nil
			}
		}
		if slices.Contains(later, s) {
			return v.bad("write "+allowed+", or leave the key out", "%q does not exist in this version", s)
		}
		hint := ""
		if near := closest(strings.ToLower(s), plain); near != "" && distance(strings.ToLower(s), near) <= 2 {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return v.bad(hint, "is %q; it must be %s", s, allowed)
	}
}

// size reads a number of bytes, such as "256KiB", from low to high.
func size[T ~int | ~int64](dst *T, low, high T) decoder {
	return func(v value) []fault {
		s, faults := v.asText(sizeHint)
		if faults != nil {
			return faults
		}
		n, ok := parseSize(s)
		if !ok {
			return v.bad(sizeHintFor(s), "%q is not a size", s)
		}
		if n < int64(low) || n > int64(high) {
			return v.bad("", "is %s; it must be from %s to %s", s, formatSize(int64(low)), formatSize(int64(high)))
		}
		*dst = T(n)
		return nil
	}
}

// sizeOrNone reads what size does; "" is 0.
func sizeOrNone(dst *int, low, high int) decoder {
	return func(v value) []fault {
		if v.kind == unstable.String && v.text == "" {
			*dst = 0
			return nil
		}
		return usually(`a size such as "64KiB", or "" for no limit`, size(dst, low, high)(v))
	}
}

const sizeHint = `a size is a whole number and its unit: "512B", "256KiB", "16MiB", "8GiB" or "1TiB"`

// sizeHintFor says of a decimal or short unit which ones there are, with the size
// that was probably meant.
func sizeHintFor(s string) string {
	digits := strings.TrimRight(s, "kKmMgGtTiIbB")
	unit := strings.ToUpper(strings.TrimRight(s[len(digits):], "iIbB"))
	if _, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63); err != nil || len(unit) != 1 {
		return sizeHint
	}
	unit = map[string]string{"K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}[unit]
	return fmt.Sprintf("write GiB, MiB or KiB: %q", strings.TrimSpace(digits)+unit)
}

// usually gives faults that have no better hint this one.
func usually(hint string, faults []fault) []fault {
	for i := range faults {
		if faults[i].hint == "" || faults[i].hint == sizeHint {
			faults[i].hint = hint
		}
	}
	return faults
}

// sizeUnits are tried in this order, because each name ends like the last.
func sizeUnits() []option[int64] {
	return []option[int64]{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// parseSize reads a size below 2^50 bytes.
func parseSize(s string) (n int64, ok bool) {
	for _, unit := range sizeUnits() {
		digits, found := strings.CutSuffix(s, unit.word)
		if !found {
			continue
		}
		count, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || count > 1<<50/uint64(unit.value) {
			return 0, false
		}
		return int64(count) * unit.value, true
	}
	return 0, false
}

func formatSize(n int64) string {
	for _, unit := range sizeUnits() {
		if n >= unit.value && n%unit.value == 0 {
			return strconv.FormatInt(n/unit.value, 10) + unit.word
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

const day = 24 * time.Hour

// duration reads a time such as "500ms" or "30d" from low to high.
func duration(dst *time.Duration, low, high time.Duration) decoder {
	return func(v value) []fault {
		if v.kind == unstable.Integer && v.text == "0" {
			v.kind = unstable.String // the one number that needs no unit
		}
		s, faults := v.asText(durationHint)
		if faults != nil {
			return faults
		}
		d, ok := parseDuration(s)
		if !ok {
			return v.bad(durationHint, "%q is not a duration", s)
		}
		if d < low || d > high {
			return v.bad("", "is %s; it must be from %s to %s", s, formatDuration(low), formatDuration(high))
		}
		*dst = d
		return nil
	}
}

const durationHint = `a duration is a number and its unit: "500ms", "15s", "10m", "12h" or "30d"`

// parseDuration reads what time.ParseDuration does, and days in front of it.
func parseDuration(s string) (d time.Duration, ok bool) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, false
	}
	if rest != "" || !found {
		if d, err = time.ParseDuration(rest); err != nil || found && d < 0 {
			return 0, false
		}
	}
	sum := d + time.Duration(n)*day
	return sum, sum >= d
}

func formatDuration(d time.Duration) string {
	switch {
	case d >= day && d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d >= time.Hour && d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d >= time.Minute && d%time.Minute == 0:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	}
	return d.String()
}
