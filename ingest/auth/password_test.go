package auth

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cheapParameters begin an argon2id hash that costs little.
const cheapParameters = "$argon2id$v=19$m=8,t=1,p=1$"

func refusalCode(t *testing.T, err error) byte {
	t.Helper()
	if err == nil {
		return 0
	}
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Why == "" {
		t.Fatalf("%v is no Refusal with a reason", err)
	}
	return r.Code
}

func login(t *testing.T, g *Guard, user, password string) byte {
	t.Helper()
	id, err := g.Authenticate(t.Context(), &Credentials{ClientID: "c", Username: user, HasUsername: true, Password: []byte(password)})
	if err == nil && (id.User != user || !id.Expires.IsZero()) {
		t.Fatalf("%q is %+v", user, id)
	}
	return refusalCode(t, err)
}

// What mosquitto_passwd 2.0.11 wrote: $7$ and $6$.
func TestMosquittoPasswords(t *testing.T) {
	g, err := Open(Options{PasswordFile: "testdata/passwd"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, password string
		want           byte
	}{
		{"alice", "alice-secret", 0},
		{"alice", "alice-secret", 0}, // from the cache
		{"bob", "bob-secret", 0},
		{"old", "old secret: ä", 0},
		{"alice", "bob-secret", BadCredential},
		{"alice", "", BadCredential},
		{"alice", "alice-secret ", BadCredential},
		{"Alice", "alice-secret", BadCredential},
		{"carol", "alice-secret", BadCredential},
	} {
		if got := login(t, g, c.user, c.password); got != c.want {
			t.Errorf("%s with %q: %#x, want %#x", c.user, c.password, got, c.want)
		}
	}
	_, err = g.Authenticate(t.Context(), &Credentials{ClientID: "c"})
	if got := refusalCode(t, err); got != NotAuthorized {
		t.Errorf("an anonymous client: %#x", got)
	}
}

func TestRealMosquittoPasswd(t *testing.T) {
	command := mosquittoPath(t, "mosquitto_passwd")
	file := filepath.Join(t.TempDir(), "passwd")
	for _, args := range [][]string{{"-c", "-b", file, "a", "x y"}, {"-b", file, "b", "z"}, {"-H", "sha512", "-b", file, "c", "w"}} {
		if out, err := exec.CommandContext(t.Context(), command, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v, %s", args, err, out)
		}
	}
	g, err := Open(Options{PasswordFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if login(t, g, "a", "x y") != 0 || login(t, g, "b", "z") != 0 || login(t, g, "c", "w") != 0 || login(t, g, "c", "z") == 0 {
		t.Error("a password of mosquitto_passwd is not taken, or the wrong one is")
	}
	// It can delete from what we wrote.
	if _, err := SetPassword(file, "d", []byte("new"), false); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), command, "-D", file, "a").CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if login(t, g, "a", "x y") == 0 || login(t, g, "b", "z") != 0 || login(t, g, "d", "new") != 0 {
		t.Error("the file that both have written does not say what it should")
	}
}

func TestPasswordFaults(t *testing.T) {
	const (
		salt = "c2FsdHNhbHRzYWx0"
		sum  = "i3FUDZLlAGvrVUMhXrWS7VLdD9TOHqtMl8AF86eFxSYMTqnYlWRdhaPqAJcWuDOjG9bGlYPcGSf0xYi2sDZYzw=="
	)
	raw := strings.TrimRight(salt, "=") + "$" + strings.TrimRight(sum, "=")
	for text, want := range map[string]string{
		"": "",
		"# a comment\n\n  \na:$6$" + salt + "$" + sum:                 "",
		" a : $6$" + salt + "$" + sum + "\r\n":                        "",
		"a:$7$101$" + salt + "$" + sum:                                "",
		"a:" + cheapParameters + raw:                                  "",
		"a":                                                           "p:1: this is not user:hash",
		"\n\na:":                                                      "p:3: user \"a\": the password is not hashed",
		"a:hunter2":                                                   "not hashed",
		":$6$" + salt + "$" + sum:                                     "no name",
		" # x:$6$" + salt + "$" + sum:                                 "comment",
		"a\x00:$6$" + salt + "$" + sum:                                "not text",
		"a\xff:$6$" + salt + "$" + sum:                                "not text",
		"a:b:$6$" + salt + "$" + sum:                                  "not hashed",
		"a:$6$" + salt + "$" + sum + ":x":                             "length",
		"a:$5$" + salt + "$" + sum:                                    "no known kind",
		"a:$6$" + salt:                                                "$6$salt$hash",
		"a:$6$$" + sum:                                                "salt",
		"a:$6$" + salt + "$":                                          "length",
		"a:$6$" + salt + "$" + sum[:84]:                               "length",
		"a:$7$0$" + salt + "$" + sum:                                  "iterations",
		"a:$7$-1$" + salt + "$" + sum:                                 "iterations",
		"a:$7$1000001$" + salt + "$" + sum:                            "iterations",
		"a:$7$" + salt + "$" + sum:                                    "$7$iterations",
		"a:$argon2i$v=19$m=8,t=1,p=1$" + raw:                          "no known kind",
		"a:$argon2id$m=8,t=1,p=1$" + raw:                              "argon2id$v=19",
		"a:$argon2id$v=16$m=8,t=1,p=1$" + raw:                         "version",
		"a:$argon2id$v=19$m=7,t=1,p=1$" + raw:                         "8 times",
		"a:$argon2id$v=19$t=1,m=8,p=1$" + raw:                         "parameters",
		"a:$argon2id$v=19$m=8,t=1$" + raw:                             "parameters",
		"a:$argon2id$v=19$m=8,t=0,p=1$" + raw:                         "t=",
		"a:$argon2id$v=19$m=999999,t=1,p=1$" + raw:                    "m=",
		"a:" + cheapParameters + raw + "==":                           "length",
		"a:$6$" + salt + "$" + sum + "\nb:\na:$6$" + salt + "$" + sum: "p:3: user \"a\" stands on line 1",
	} {
		p, err := parsePasswords("p", []byte(text))
		if want == "" && err != nil || want != "" && (p != nil || err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), sum[:10])) {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}

func TestArgon2(t *testing.T) {
	s := newSecret([]byte("pass"))
	again, err := parseSecret(s.String())
	if err != nil {
		t.Fatal(err)
	}
	if !again.matches([]byte("pass")) || again.matches([]byte("Pass")) || again.matches(nil) {
		t.Error("the hash takes the wrong password, or not the right one")
	}
	// From the reference implementation: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 (its test.c).
	known, err := parseSecret("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil || !known.matches([]byte("password")) {
		t.Errorf("the reference hash does not match; %v", err)
	}
}

// An unknown user is checked against a secret as well, always the same.
func TestUnknownUserCostsACheck(t *testing.T) {
	for _, text := range []string{"", "a:" + newSecret([]byte("x")).String(), "a:" + newSecret([]byte("x")).String() + "\nb:" + newSecret([]byte("y")).String()} {
		p, err := parsePasswords("p", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		first, isUser := p.find("nobody")
		again, _ := p.find("nobody")
		if first == nil || first != again || isUser {
			t.Errorf("%v, %v, %v", first, again, isUser)
		}
	}
}

// S1: password checks that wait are bounded, in number, by address, and in time.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newChecks()
		for range checksAtOnce {
			if err := g.enter(t.Context(), "10.0.0.1"); err != nil {
				t.Fatal(err)
			}
		}
		started := time.Now()
		got := make(chan error)
		enter := func(remote string) { got <- g.enter(t.Context(), remote) }
		for range maxWaitingFrom {
			go enter("10.0.0.1")
		}
		synctest.Wait()
		if code := refusalCode(t, g.enter(t.Context(), "10.0.0.1")); code != Busy {
			t.Errorf("one too many from one address: %#x", code)
		}
		for i := range maxWaiting - maxWaitingFrom {
			go enter("10.0.1." + string(rune('a'+i%8)))
		}
		synctest.Wait()
		if code := refusalCode(t, g.enter(t.Context(), "10.0.0.2")); code != Busy {
			t.Errorf("one too many: %#x", code)
		}
		if !time.Now().Equal(started) {
			t.Error("who is refused at once had to wait")
		}
		g.leave()
		if err := <-got; err != nil {
			t.Error("nobody took the place that was free:", err)
		}
		for range maxWaiting - 1 {
			if code := refusalCode(t, <-got); code != Busy {
				t.Errorf("who waited too long: %#x", code)
			}
		}
		if waited := time.Since(started); waited != longestWait {
			t.Errorf("waited %v", waited)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if code := refusalCode(t, g.enter(canceled, "10.0.0.1")); code != Busy {
			t.Errorf("a client that is gone: %#x", code)
		}
		if g.waiting != 0 || len(g.from) != 0 {
			t.Errorf("%d wait, from %v", g.waiting, g.from)
		}
	})
}

// The cache forgets by age and is bounded.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(10, time.Minute)
		k := c.key("user", []byte("password"))
		if k == c.key("userp", []byte("assword")) || k == newCache(1, 1).key("user", []byte("password")) {
			t.Error("two passwords, or two processes, have the same key")
		}
		c.add(k)
		time.Sleep(59 * time.Second) //nolint:forbidigo // in a bubble
		if !c.has(k) {
			t.Error("forgotten too soon")
		}
		time.Sleep(61 * time.Second) //nolint:forbidigo // in a bubble
		if c.has(k) {
			t.Error("not forgotten")
		}
		for i := range 1000 {
			c.add(c.key("user", []byte{byte(i), byte(i >> 8)}))
		}
		if n := len(c.young) + len(c.old); n > 20 {
			t.Errorf("%d remembered", n)
		}
	})
}

// A check that is in the cache needs no slot.
func TestCacheNeedsNoCheck(t *testing.T) {
	g, err := Open(Options{PasswordFile: "testdata/passwd"})
	if err != nil {
		t.Fatal(err)
	}
	if got := login(t, g, "alice", "alice-secret"); got != 0 {
		t.Fatal(got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range checksAtOnce {
		if err := g.checks.enter(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	for password, want := range map[string]byte{"alice-secret": 0, "wrong": Busy} {
		_, err := g.Authenticate(ended, &Credentials{Username: "alice", Password: []byte(password)})
		if got := refusalCode(t, err); got != want {
			t.Errorf("%s: %#x, want %#x", password, got, want)
		}
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	_, err = g.Authenticate(ended, &Credentials{Username: "alice", Password: []byte("alice-secret")})
	if got := refusalCode(t, err); got != Busy {
		t.Errorf("%#x; a reload has to drop the cache", got)
	}
}

func FuzzParsePasswords(f *testing.F) {
	sample, err := os.ReadFile("testdata/passwd")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add([]byte("a:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n#b:\n"))
	f.Add([]byte("a:$7$101$$\n:\n$6$"))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := parsePasswords("p", src)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if p == nil {
			return
		}
		for user, s := range p.users {
			if user == "" || len(s.salt) < minSaltBytes || len(s.sum) < minSumBytes || s.algorithm == 0 {
				t.Fatalf("user %q has the secret %+v", user, s)
			}
			edited, found := replaceUser(src, user, "")
			again, err := parsePasswords("p", edited)
			if !found || err != nil || len(again.users) != len(p.users)-1 {
				t.Fatalf("user %q cannot be taken out: %v, %v", user, found, err)
			}
		}
	})
}
