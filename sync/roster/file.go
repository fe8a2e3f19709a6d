package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
)

// FileName is the name of the file, in the folder of the site.
const FileName = "roster.json"

// FileVersion is the format version of the file.
const FileVersion = 1

const maxFileBytes = 256 << 10

type fileJSON struct {
	Version int        `json:"version"`
	Nodes   []nodeJSON `json:"nodes"`
}

type nodeJSON struct {
	Node    string `json:"node"`
	Name    string `json:"name,omitempty"`
	State   State  `json:"state"`
	Version uint64 `json:"version"`
	Boot    uint64 `json:"boot,omitempty"`
	Nonce   uint64 `json:"nonce,omitempty"`
}

// Open reads the roster in the folder of the site. One that is not there, or is
// damaged, knows this node alone: damaged says so, and others tell it the rest.
func Open(folder string, self tributary.NodeID) (r *Roster, damaged bool, err error) {
	r = &Roster{self: self, path: filepath.Join(folder, FileName)}
	text, err := os.ReadFile(r.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("read who is of the site: %w; nothing was changed", err)
	}
	if err == nil {
		nodes, err := parse(text)
		if _, newer := errors.AsType[*VersionError](err); newer {
			return nil, false, fmt.Errorf("%s %w", r.path, err)
		}
		damaged = err != nil
		for _, n := range nodes {
			if r.find(n.Node) == nil && r.add(n.Standing) != nil {
				*r.find(n.Node) = n
			}
		}
	}
	if r.find(self) == nil && r.add(Standing{Node: self, State: Member}) == nil {
		return nil, damaged, fmt.Errorf("%s has %d nodes already; nothing was changed", r.path, Most)
	}
	return r, damaged, nil
}

// A VersionError says that a newer program wrote the file.
type VersionError struct{ Version int }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("has format version %d and this program reads %d: run the newer program that wrote it; nothing was changed", e.Version, FileVersion)
}

// parse reads the content of the file.
func parse(text []byte) ([]Node, error) {
	var f fileJSON
	if len(text) > maxFileBytes {
		return nil, errors.New("it is too long")
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, err
	}
	if f.Version > FileVersion {
		return nil, &VersionError{f.Version}
	}
	all := make([]Node, 0, len(f.Nodes))
	for _, j := range f.Nodes {
		n := Node{Standing: Standing{Version: j.Version, State: j.State}, Name: j.Name, Boot: j.Boot, Nonce: j.Nonce}
		var err error
		if n.Node, err = tributary.ParseNodeID(j.Node); err != nil || n.State < Member || n.State > Lost {
			return nil, fmt.Errorf("%q is no node", j.Node)
		}
		all = append(all, n)
	}
	return all, nil
}

// save writes the file anew, durably. The caller has mu.
func (r *Roster) save() error {
	f := fileJSON{Version: FileVersion}
	for _, n := range r.nodes {
		f.Nodes = append(f.Nodes, nodeJSON{Node: n.Node.String(), Name: n.Name, State: n.State, Version: n.Version, Boot: n.Boot, Nonce: n.Nonce})
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = disk.ReplaceFile(r.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note who is of the site: %w", err)
	}
	return nil
}
