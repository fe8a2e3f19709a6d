package auth

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClientIDBinding(t *testing.T) {
	for _, c := range []struct {
		binding, user, client string
		want                  byte
	}{
		{"", "", "anything", 0},
		{"", "pump", "other", 0},
		{"username", "pump", "pump", 0},
		{"username", "pump", "", 0},
		{"username", "pump", "pump:1", BadClientID},
		{"username", "pump", "other", BadClientID},
		{"username", "", "pump", BadClientID},
		{"username", "", "", 0},
		{"prefix", "pump", "pump", 0},
		{"prefix", "pump", "pump:1", 0},
		{"prefix", "pump", "pump-1", BadClientID}, // which may be a user
		{"prefix", "pump", "pum", BadClientID},
		{"prefix", "a:b", "a:b", BadClientID}, // which is also one of a's
		{"prefix", "", ":1", BadClientID},
	} {
		o := Options{ClientIDBinding: c.binding}
		if got := refusalCode(t, o.checkClientID(c.user, c.client)); got != c.want {
			t.Errorf("%s: user %q client id %q: %#x, want %#x", c.binding, c.user, c.client, got, c.want)
		}
	}
	g, err := Open(Options{PasswordFile: "testdata/passwd", ClientIDBinding: "username"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Authenticate(t.Context(), &Credentials{ClientID: "bob", Username: "alice", Password: []byte("alice-secret")})
	if got := refusalCode(t, err); got != BadClientID {
		t.Errorf("alice as bob: %#x", got)
	}
}

// Nothing configured lets nobody in; allow_anonymous lets everybody in, and a name
// that nobody has proved is none.
func TestNothingConfigured(t *testing.T) {
	for _, anonymous := range []bool{false, true} {
		g, err := Open(Options{AllowAnonymous: anonymous})
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"", "admin"} {
			id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: user, HasUsername: user != "", Password: []byte("x")})
			if (err == nil) != anonymous || id.User != "" {
				t.Errorf("anonymous %v, user %q: %+v, %v", anonymous, user, id, err)
			}
		}
		if g.Configured() || g.TLS() != nil || g.Doubts(time.Now()) != nil {
			t.Error("something is configured")
		}
	}
}

// With anonymous clients allowed, a wrong password is still a wrong password.
func TestAnonymousBesidePasswords(t *testing.T) {
	g, err := Open(Options{PasswordFile: "testdata/passwd", AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	if !g.Configured() || login(t, g, "alice", "x") != BadCredential || login(t, g, "nobody", "x") != BadCredential || login(t, g, "", "x") != 0 {
		t.Error("a wrong password or user is let in, or an anonymous client is not")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{CertificateUser: "dn"},
		{CertificateUser: "cn"},
		{ClientIDBinding: "x"},
		{CertFile: "a"},
		{KeyFile: "a"},
		{ClientCAFile: "a"},
		{CRLFile: "a"},
		{PasswordFile: "testdata/none"},
		{ACLFile: "testdata/none"},
		{JWT: JWTOptions{KeysFile: "testdata/none"}},
		{CertFile: "testdata/none", KeyFile: "testdata/none"},
	} {
		if g, err := Open(o); g != nil || err == nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// A file that is broken at a reload keeps all that was in force, and is named; so
// are all others that are broken.
func TestReloadKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	o := Options{PasswordFile: filepath.Join(dir, "passwd"), ACLFile: filepath.Join(dir, "acl")}
	put := func(passwd, acl string) {
		t.Helper()
		for file, text := range map[string]string{o.PasswordFile: passwd, o.ACLFile: acl} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	sample, err := os.ReadFile("testdata/passwd")
	if err != nil {
		t.Fatal(err)
	}
	_, bobs, _ := strings.Cut(string(sample), "\nbob:")
	put(string(sample), "user alice\ntopic a")
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	check := func(alice byte, mayA bool, generation uint64) {
		t.Helper()
		if got := login(t, g, "alice", "alice-secret"); got != alice {
			t.Errorf("alice: %#x, want %#x", got, alice)
		}
		if got := g.Allows("alice", "c", Write, "a"); got != mayA {
			t.Errorf("a: %v", got)
		}
		if got := g.Generation(); got != generation {
			t.Errorf("generation %d, want %d", got, generation)
		}
	}
	check(0, true, 1)
	put("bob:"+bobs, "user alice\ntopics b")
	err = g.Reload()
	if err == nil || !strings.Contains(err.Error(), "acl:2:") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Error(err)
	}
	check(0, true, 1)
	put("bob", "topics b")
	if err = g.Reload(); err == nil || !strings.Contains(err.Error(), "acl:1:") || !strings.Contains(err.Error(), "passwd:1:") {
		t.Error(err)
	}
	if err := os.Remove(o.PasswordFile); err != nil {
		t.Fatal(err)
	}
	if err = g.Reload(); err == nil {
		t.Error("a file is gone and the reload is fine")
	}
	check(0, true, 1)
	put("bob:"+bobs, "user alice\ntopic b")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	check(BadCredential, false, 2)
}

// All methods at once, for the race detector.
func TestReloadUnderUse(t *testing.T) {
	g, err := Open(Options{PasswordFile: "testdata/passwd", ACLFile: write(t, "acl", []byte("topic a"))})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				if login(t, g, "alice", "alice-secret") != 0 || g.Reload() != nil || !g.Allows("", "c", Read, "a") || g.Generation() == 0 {
					t.Error("a reload was seen")
				}
			}
		})
	}
	all.Wait()
	if got := g.Generation(); got != 81 {
		t.Errorf("generation %d after 80 reloads", got)
	}
}

func TestSecretsOpenToAll(t *testing.T) {
	file := write(t, "passwd", nil)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	g, err := Open(Options{PasswordFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if doubts := g.Doubts(time.Now()); len(doubts) != 1 || !strings.Contains(doubts[0], "chmod o= "+file) {
		t.Errorf("%q", doubts)
	}
}
