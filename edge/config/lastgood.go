package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tributary-edge/tributary/log/disk"
)

// lastGoodFile is the copy's name in the data directory.
const lastGoodFile = "last-good.toml"

// LastGoodPath returns where the last good configuration of a data directory is.
func LastGoodPath(dataDir string) string { return filepath.Join(dataDir, lastGoodFile) }

// KeepLastGood writes what r sets into a data directory, so that it is there, whole,
// after a power cut too; what was there before is replaced. Secrets are not in it:
// variables that are called like one stay variables, and files are named, not
// copied. It is only for a Reading with a Config, and for one caller at a time.
func (r *Reading) KeepLastGood(dataDir string) error {
	var set []Setting
	for _, s := range r.Settings() {
		if s.From != "default" {
			set = append(set, s)
		}
	}
	text := "# The configuration of the last start or reload that worked, for run --last-good-on-error.\n# It is written anew each time: changes here are lost.\n\n" + written(set, false)
	path := LastGoodPath(dataDir)
	if there, err := os.ReadFile(path); err == nil && string(there) == text {
		return nil // a flush less for the card
	}
	if err := disk.ReplaceFile(path, []byte(text)); err != nil {
		return fmt.Errorf("keep the last good configuration: %w", err)
	}
	return nil
}

// LastGood reads the copy that KeepLastGood wrote into the data directory that broken
// names, or, if it is nil because nothing could be read, the environment, the command
// line or the default. Files that it names without a
// folder lie where those of the configuration at i.Path do; what the environment and
// the command line set is in it already. The error says what to do.
func (i *Input) LastGood(broken *Reading) (*Reading, error) {
	if broken == nil {
		broken = parse(sources{files: []textFile{{name: i.Path}}, environ: i.Environ, set: i.Set})
	}
	dataDir := broken.DataDir
	path := LastGoodPath(dataDir)
	in := Input{Path: path, alone: filepath.Dir(i.Path)}
	for _, e := range i.Environ { // for secrets, which are not in the copy
		if !strings.HasPrefix(e, environPrefix) {
			in.Environ = append(in.Environ, e)
		}
	}
	r, err := in.Read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no last good configuration in %s: no node has run with this data directory yet; correct the configuration", dataDir)
	case err != nil:
		return nil, err
	case r.Config == nil:
		return nil, fmt.Errorf("the last good configuration is of no use either: %s", r.FirstError())
	}
	return r, nil
}

// FirstError returns the first Error as a sentence; "" if there is none.
func (r *Reading) FirstError() string {
	for i := range r.Problems {
		if p := &r.Problems[i]; p.Severity == Error {
			return p.Sentence()
		}
	}
	return ""
}
