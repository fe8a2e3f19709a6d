package join

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/roster"
)

// FolderVersion is the format version of the folder.
const FolderVersion = 1

// The folder in the data directory, and what it is called while it is replaced.
const (
	folder    = "site"
	folderNew = "site.new"
	folderOld = "site.old"
)

const (
	authorityFile = "authority.pem"
	nodeFile      = "node.pem"
	gossipFile    = "gossip.key"
	siteFile      = "site.json"

	gossipKeyBytes = 32
	maxFileBytes   = 64 << 10
)

// A Site is what makes this node one of a site: the folder, read. The fields are
// not to be changed.
type Site struct {
	Name      string
	Authority *peer.Authority
	Cert      tls.Certificate // of this node
	GossipKey []byte          // 32 bytes
	Peers     []string        // HOST:PORT: where nodes of the site were when this one joined

	node   tributary.NodeID
	path   string
	mu     sync.Mutex // guards shared, and its file
	shared bool
}

// siteJSON is the content of site.json.
type siteJSON struct {
	Version int      `json:"version"`
	Name    string   `json:"name"`
	Shared  bool     `json:"shared"`
	Peers   []string `json:"peers,omitempty"`
}

// Create makes a new site, of this node alone, in the data directory dir. It is
// durable when Create returns. A site that is there is an error.
func Create(dir, name string, node tributary.NodeID) (*Site, error) {
	if _, err := os.Lstat(filepath.Join(dir, folder)); err == nil {
		return nil, fmt.Errorf("make site %q: this node has a site already, in %s; nothing was changed", name, filepath.Join(dir, folder))
	}
	a, err := peer.NewAuthority(name)
	if err != nil {
		return nil, err
	}
	s := &Site{Name: name, Authority: a, GossipKey: make([]byte, gossipKeyBytes), node: node}
	_, _ = rand.Read(s.GossipKey) // never fails: crypto/rand.Read
	if err := s.write(dir); err != nil {
		return nil, fmt.Errorf("make site %q: %w", name, err)
	}
	return s, nil
}

// Adopt makes this node one of the site of the bundle, durably. A site that it
// was of before is kept in the folder site.old of the data directory dir, in place
// of an older one.
func (b *Bundle) Adopt(dir string, node tributary.NodeID) (*Site, error) {
	s := &Site{Name: b.Site, Authority: b.Authority, GossipKey: b.GossipKey, Peers: b.Peers, node: node, shared: true}
	if err := s.write(dir); err != nil {
		return nil, fmt.Errorf("note that this node is of site %q: %w", b.Site, err)
	}
	who, _, err := roster.Open(s.Path(), node)
	if err != nil || b.inviter == (tributary.NodeID{}) {
		return s, err
	}
	// Or else a device that comes before any other node does would be let in as if there were none (R42).
	who.Merge([]roster.Standing{{Node: b.inviter, State: roster.Member}})
	return s, who.Save()
}

// Open reads the site of this node from the data directory dir; ok is false if
// there is none. Where node.pem is not a certificate of this node, because the
// node has a new id since or the file is damaged, a new one is issued. An error
// names the file that is wrong; nothing was changed then.
func Open(dir string, node tributary.NodeID) (s *Site, ok bool, err error) {
	path := filepath.Join(dir, folder)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := finish(dir); err != nil {
			return nil, false, err
		}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	s, err = read(path)
	if err != nil {
		return nil, false, err
	}
	s.node = node
	text, err := readFile(path, nodeFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if s.Cert, err = parseNode(text, s.Authority, node); err == nil {
		return s, true, nil
	}
	if text, err = s.issue(); err == nil {
		err = errors.Join(writeFile(path, nodeFile, text), syncDir(path))
	}
	return s, err == nil, err
}

// finish ends a replacement that a power cut has come into: the old folder is put
// aside and the new one, which was whole before that, has not its name yet.
func finish(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, folderOld)); err != nil {
		return nil //nolint:nilerr // nothing was being replaced
	}
	if _, err := read(filepath.Join(dir, folderNew)); err != nil {
		return nil //nolint:nilerr // and that is not whole
	}
	return errors.Join(os.Rename(filepath.Join(dir, folderNew), filepath.Join(dir, folder)), syncDir(dir))
}

// Shared says whether other nodes are, or were, of this site: this one has joined
// it, or has let another one in.
func (s *Site) Shared() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared
}

// share notes durably that another node is of the site.
func (s *Site) share() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared {
		return nil
	}
	text, err := s.json(true)
	if err == nil {
		err = errors.Join(writeFile(s.path, siteFile, text), syncDir(s.path))
	}
	s.shared = err == nil
	return err
}

// Renew gives the folder to another node, durably: this one has a new id, and gets
// the certificate that belongs to it. Nobody may be using Cert meanwhile.
func (s *Site) Renew(node tributary.NodeID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = node
	text, err := s.issue()
	if err != nil {
		return err
	}
	return errors.Join(writeFile(s.path, nodeFile, text), syncDir(s.path))
}

// Path returns the folder.
func (s *Site) Path() string { return s.path }

// mostPeers bounds what a site remembers.
const mostPeers = 16

// Remember notes durably where nodes of the site are, HOST:PORT, for the next start:
// those that are not known yet. It may be called at once with other methods, but not
// while somebody looks at Peers.
func (s *Site) Remember(there []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.Peers)
	for _, a := range there {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	if len(all) == len(s.Peers) {
		return nil
	}
	before := s.Peers
	s.Peers = all[max(0, len(all)-mostPeers):]
	text, err := s.json(s.shared)
	if err == nil {
		err = errors.Join(writeFile(s.path, siteFile, text), syncDir(s.path))
	}
	if err != nil {
		s.Peers = before
	}
	return err
}

func (s *Site) json(shared bool) ([]byte, error) {
	text, err := json.MarshalIndent(siteJSON{Version: FolderVersion, Name: s.Name, Shared: shared, Peers: s.Peers}, "", "  ")
	return append(text, '\n'), err
}

// issue gives the node a new certificate, and returns node.pem.
func (s *Site) issue() (text []byte, err error) {
	cert, err := s.Authority.Issue(s.node)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	s.Cert, err = parseNode(text, s.Authority, s.node) // what is written can be read
	return text, err
}

// write writes the whole folder, in place of the one that is there.
func (s *Site) write(dir string) error {
	node, err := s.issue()
	if err != nil {
		return err
	}
	authority, err := s.Authority.PEM()
	if err != nil {
		return err
	}
	about, err := s.json(s.shared)
	if err != nil {
		return err
	}
	path, next, old := filepath.Join(dir, folder), filepath.Join(dir, folderNew), filepath.Join(dir, folderOld)
	if err := errors.Join(os.RemoveAll(next), os.Mkdir(next, 0o700)); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{
		{authorityFile, authority},
		{nodeFile, node},
		{siteFile, about},
		{gossipFile, []byte(hex.EncodeToString(s.GossipKey) + "\n")},
	} {
		if err := writeFile(next, f.name, f.text); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(next), syncDir(dir)); err != nil { // before the old one loses its name: see finish
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		if err := errors.Join(os.RemoveAll(old), os.Rename(path, old)); err != nil {
			return err
		}
	}
	s.path = path
	return errors.Join(os.Rename(next, path), syncDir(dir))
}

// read reads a folder but for node.pem.
func read(path string) (*Site, error) {
	s := &Site{path: path}
	text, err := readFile(path, siteFile)
	if err != nil {
		return nil, err
	}
	var about siteJSON
	switch err := json.Unmarshal(text, &about); {
	case err != nil:
		return nil, damaged(path, siteFile, err)
	case about.Version > FolderVersion:
		return nil, fmt.Errorf("%s has format version %d and this program reads %d: run the newer program that wrote it; nothing was changed",
			filepath.Join(path, siteFile), about.Version, FolderVersion)
	case about.Version < 1:
		return nil, damaged(path, siteFile, errors.New("it has no version"))
	}
	s.Name, s.shared, s.Peers = about.Name, about.Shared, about.Peers
	if text, err = readFile(path, authorityFile); err != nil {
		return nil, err
	}
	if s.Authority, err = peer.ParseAuthority(text); err != nil {
		return nil, damaged(path, authorityFile, err)
	}
	if s.Authority.Site() != s.Name {
		return nil, damaged(path, siteFile, fmt.Errorf("it is of site %q, and %s of site %q", s.Name, authorityFile, s.Authority.Site()))
	}
	if text, err = readFile(path, gossipFile); err != nil {
		return nil, err
	}
	s.GossipKey, err = parseGossipKey(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, damaged(path, gossipFile, err)
	}
	return s, nil
}

func damaged(path, name string, err error) error {
	return fmt.Errorf("%s cannot be used: %w; no record is touched. Put a copy of the folder of this node back, or move the folder away and join the site again",
		filepath.Join(path, name), err)
}

func parseGossipKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != gossipKeyBytes {
		return nil, fmt.Errorf("a gossip key has %d hexadecimal digits", 2*gossipKeyBytes) // and the error would show it
	}
	return key, nil
}

// parseNode reads node.pem, which is to be of this node and issued by the authority.
func parseNode(text []byte, a *peer.Authority, node tributary.NodeID) (cert tls.Certificate, err error) {
	if cert, err = tls.X509KeyPair(text, text); err != nil {
		return cert, err
	}
	if _, ok := cert.PrivateKey.(ed25519.PrivateKey); !ok {
		return cert, errors.New("its key is not of Ed25519")
	}
	switch id, err := peer.VerifyNode(a.Certificate(), cert.Leaf); {
	case err != nil:
		return cert, err
	case id != node:
		return cert, fmt.Errorf("it is of node %v", id)
	}
	return cert, nil
}

func readFile(path, name string) (text []byte, err error) {
	f, err := os.Open(filepath.Join(path, name))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; nothing was changed: run as the user of the node", err)
	}
	if err != nil {
		return nil, damaged(path, name, err)
	}
	defer func() { _ = f.Close() }() // only read
	if text, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1)); err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	if err != nil {
		return nil, damaged(path, name, err)
	}
	return text, nil
}

// writeFile writes a file and makes it durable under another name, then gives it
// its own. That it has it is durable after syncDir.
func writeFile(path, name string, text []byte) error {
	temp := filepath.Join(path, name+".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close(), os.Remove(temp))
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, filepath.Join(path, name))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
