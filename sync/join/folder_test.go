package join

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
)

var nodeA, nodeB = tributary.NodeID{0xa}, tributary.NodeID{0xb}

func create(t *testing.T, name string, node tributary.NodeID) (*Site, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Create(dir, name, node)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func open(t *testing.T, dir string, node tributary.NodeID) *Site {
	t.Helper()
	s, ok, err := Open(dir, node)
	if err != nil || !ok {
		t.Fatalf("open: %v, %v", ok, err)
	}
	if id, err := peer.VerifyNode(s.Authority.Certificate(), s.Cert.Leaf); err != nil || id != node {
		t.Errorf("certificate of %v: %v", id, err)
	}
	return s
}

func sameSite(a, b *Site) bool {
	return a.Name == b.Name && a.Authority.Certificate().Equal(b.Authority.Certificate()) && bytes.Equal(a.GossipKey, b.GossipKey)
}

// What Create and Adopt have written is what Open reads, and nobody else may.
func TestFolder(t *testing.T) {
	if _, ok, err := Open(t.TempDir(), nodeA); ok || err != nil {
		t.Errorf("nothing is there: %v, %v", ok, err)
	}
	made, dir := create(t, "plant", nodeA)
	if s := open(t, dir, nodeA); !sameSite(s, made) || s.Shared() || !bytes.Equal(s.Cert.Certificate[0], made.Cert.Certificate[0]) {
		t.Errorf("%+v, should be %+v", s, made)
	}
	if _, err := Create(dir, "office", nodeA); err == nil {
		t.Error("a second site is made in its place")
	}
	err := filepath.Walk(filepath.Join(dir, "site"), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.share(); err != nil || !made.Shared() || !open(t, dir, nodeA).Shared() {
		t.Errorf("it is shared now: %v", err)
	}

	b := &Bundle{Site: "office", GossipKey: bytes.Repeat([]byte{7}, 32), Peers: []string{"10.0.0.1:1"}}
	if b.Authority, err = peer.NewAuthority("office"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second takes the place of the first
		joined, err := b.Adopt(dir, nodeA)
		if err != nil {
			t.Fatal(err)
		}
		if s := open(t, dir, nodeA); !sameSite(s, joined) || s.Name != "office" || !s.Shared() || !reflect.DeepEqual(s.Peers, b.Peers) {
			t.Errorf("%+v, should be %+v", s, joined)
		}
		if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 2 {
			t.Errorf("the data directory has %v", names)
		}
	}
}

// A node with a new id, or whose certificate is damaged, gets a new one of the
// same site.
func TestNewCertificate(t *testing.T) {
	made, dir := create(t, "plant", nodeA)
	last := made
	file := filepath.Join(dir, "site", "node.pem")
	for what, damage := range map[string]func() error{
		"a new id":    func() error { return nil },
		"a rotten":    func() error { return os.WriteFile(file, []byte("rot"), 0o600) },
		"a lost file": func() error { return os.Remove(file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, nodeB)
		if !sameSite(s, made) || bytes.Equal(s.Cert.Certificate[0], last.Cert.Certificate[0]) && what != "a new id" {
			t.Errorf("%s: another site, or the same certificate", what)
		}
		if again := open(t, dir, nodeB); !bytes.Equal(s.Cert.Certificate[0], again.Cert.Certificate[0]) {
			t.Errorf("%s: the new certificate was not kept", what)
		}
		last = s
	}
}

// An error names the file that is wrong, and tells no key.
func TestDamagedFolder(t *testing.T) {
	other, otherDir := create(t, "office", nodeA)
	otherAuthority, err := os.ReadFile(filepath.Join(otherDir, "site", "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, text, says string }{
		{"authority.pem", "rot", "authority.pem"},
		{"authority.pem", string(otherAuthority), "of site \"office\""},
		{"authority.pem", strings.Repeat(" ", 1<<20), "authority.pem"},
		{"gossip.key", "abcdef", "gossip.key"},
		{"site.json", "{", "site.json"},
		{"site.json", "{}", "site.json"},
		{"site.json", `{"version":2,"name":"plant"}`, "run the newer program"},
		{"site.json", "", "site.json"},
	} {
		_, dir := create(t, "plant", nodeA)
		path := filepath.Join(dir, "site", c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, ok, err := Open(dir, nodeA)
		if err == nil || ok || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "abcdef") {
			t.Errorf("%s with %.20q: %v, %v", c.file, c.text, s, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := Open(dir, nodeA); err == nil || ok || !strings.Contains(err.Error(), c.file) {
			t.Errorf("without %s: %v", c.file, err)
		}
	}
	if !sameSite(other, open(t, otherDir, nodeA)) {
		t.Error("the other site has changed")
	}
}

// A power cut between any two steps of a replacement leaves the old site, or the
// new one.
func TestCutWhileReplacing(t *testing.T) {
	before, dir := create(t, "plant", nodeA)
	after, newDir := create(t, "office", nodeA)
	in := func(name string) string { return filepath.Join(dir, name) }
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(in("site.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !sameSite(open(t, dir, nodeA), before) { // cut while the new one is written
		t.Error("the old site is not there")
	}
	rename(in("site"), in("site.old")) // the new one is not whole: that is not how Adopt does it
	if s, ok, err := Open(dir, nodeA); ok || err != nil {
		t.Errorf("half a folder is taken: %v, %v", s, err)
	}
	rename(in("site.old"), in("site"))
	if err := os.Remove(in("site.new")); err != nil {
		t.Fatal(err)
	}
	rename(filepath.Join(newDir, "site"), in("site.new"))
	if !sameSite(open(t, dir, nodeA), before) { // cut before the old one is put aside
		t.Error("the old site is not there")
	}
	rename(in("site"), in("site.old"))
	if !sameSite(open(t, dir, nodeA), after) { // cut before the new one has its name
		t.Error("the new site is not there")
	}
}
