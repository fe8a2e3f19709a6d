package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFileBytes is far above any real configuration; it keeps a wrong path, a log
// file for example, from being read as one.
const maxFileBytes = 1 << 20

// maxFiles is how many files conf.d may have.
const maxFiles = 100

// An Input says what a configuration is read from. What comes later in it replaces,
// key by key, what came before: the file; the files conf.d/*.toml beside it, in the
// order of their names; the environment; the command line. Routes are not replaced:
// those of a later file come after the others.
type Input struct {
	Path    string   // the file
	Environ []string // NAME=VALUE: for ${NAME}, TRIBUTARY_SECTION__KEY and $CREDENTIALS_DIRECTORY
	Set     []string // section.key=value, of the command line

	alone string // not "": no conf.d, and files are named from this folder
}

// A Reading is what was read. It does not change.
type Reading struct {
	Config *Config // nil if one of Problems is an Error; with Warnings alone it can be used
	// Problems are all there are, up to 200 errors and 200 warnings, in the order of
	// their places.
	Problems []Problem
	// DataDir is where the last good configuration is looked for: [node] data_dir, if
	// that could be read, else its default. It is set where Config is nil, too.
	DataDir string
	// Socket is where the commands reach the node: [status] socket, likewise.
	Socket string

	settings map[string]*Setting
	in       folder
}

// sources are the contents of an Input.
type sources struct {
	files   []textFile // the main one first
	environ []string
	set     []string
	in      folder
}

type textFile struct {
	name string
	src  []byte
}

// Read reads it all. It opens nothing for writing. The error says which file could
// not be read, and what to do.
func (i *Input) Read() (*Reading, error) {
	from := sources{environ: i.Environ, set: i.Set, in: folder{dir: filepath.Dir(i.Path)}}
	if i.alone != "" {
		from.in.dir = i.alone
	}
	main, err := readFile(i.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w. Name its file with -c; two lines are enough: [kafka] and brokers = [\"broker1:9092\"]", err)
	}
	from.files = []textFile{{i.Path, main}}
	if i.alone == "" {
		more, err := readFolder(filepath.Join(filepath.Dir(i.Path), "conf.d"))
		if err != nil {
			return nil, fmt.Errorf("cannot read the configuration: %w. Correct it, or move it away", err)
		}
		from.files = append(from.files, more...)
	}
	if from.in.credentials = variables(i.Environ)["CREDENTIALS_DIRECTORY"]; from.in.credentials != "" {
		entries, err := os.ReadDir(from.in.credentials)
		if err != nil {
			return nil, fmt.Errorf("cannot read the credentials of systemd: %w. $CREDENTIALS_DIRECTORY says where they are", err)
		}
		from.in.handedOver = map[string]bool{}
		for _, e := range entries {
			from.in.handedOver[e.Name()] = true
		}
	}
	return parse(from), nil
}

// readFolder reads the files of conf.d in the order of their names. That there is no
// such folder is no error.
func readFolder(dir string) (all []textFile, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries { // sorted
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".toml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if len(all) == maxFiles {
			return nil, fmt.Errorf("%s has more than %d files", dir, maxFiles)
		}
		name := filepath.Join(dir, e.Name())
		src, err := readFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, textFile{name, src})
	}
	return all, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	src, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(src) > maxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, so it is something else", path, maxFileBytes)
	}
	return src, nil
}

// variables makes a map of an environment.
func variables(environ []string) map[string]string {
	all := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, found := strings.Cut(e, "="); found {
			all[name] = value
		}
	}
	return all
}
