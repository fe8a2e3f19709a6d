package auth

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sampleACL = `# anonymous clients
topic read $SYS/broker/uptime
topic public/#

user roger
topic foo/bar
topic read  status/+
topic deny status/secret
topic write cmd with space/x
user admin
topic #
topic $SYS/#

user roger
topic write late

pattern readwrite dev/%c/#
pattern read user/%u/in
pattern deny dev/+/private
pattern all/%c-%u
pattern write %c/own
pattern read common/#
`

func accessOf(t *testing.T, text string) *accessList {
	t.Helper()
	l, err := parseAccess("acl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAccess(t *testing.T) {
	l := accessOf(t, sampleACL)
	for _, c := range []struct {
		user, client string
		access       Access
		topic        string
		want         bool
	}{
		{"", "c1", Read, "$SYS/broker/uptime", true},
		{"", "c1", Write, "$SYS/broker/uptime", false},
		{"", "c1", Write, "public/a", true},
		{"roger", "c1", Read, "public/a", false}, // the first lines are for anonymous clients alone
		{"roger", "c1", Read, "foo/bar", true},
		{"roger", "c1", Write, "foo/bar", true},
		{"", "c1", Write, "foo/bar", false},
		{"roger", "c1", Read, "status/a", true},
		{"roger", "c1", Write, "status/a", false},
		{"roger", "c1", Read, "status/secret", false},
		{"roger", "c1", Write, "cmd with space/x", true},
		{"roger", "c1", Write, "late", true}, // a second user line goes on with the first
		{"admin", "c1", Read, "foo/bar", true},
		{"admin", "c1", Read, "$SYS/x", true},
		{"admin", "c1", Read, "$other/x", false},
		{"admin", "c1", Read, "dev/x/private", true}, // own lines are asked before the patterns, as in Mosquitto

		{"nobody", "c1", Write, "dev/c1/x", true}, // patterns are for everybody
		{"nobody", "c1", Write, "dev/c1", true},
		{"nobody", "c1", Write, "dev/c2/x", false},
		{"", "c1", Read, "dev/c1/x", true},
		{"nobody", "c1", Read, "dev/c1/private", false},
		{"nobody", "c1", Read, "user/nobody/in", true},
		{"nobody", "c1", Read, "user/roger/in", false},
		{"", "c1", Read, "user//in", false},
		{"", "c1", Read, "user/%u/in", false},
		{"u", "c1", Write, "all/c1-u", true},
		{"u", "c1", Write, "c1/own", true},
		{"u", "$SYS", Write, "$SYS/own", false},
		{"u", "", Write, "dev//x", false},

		{"u", "+", Read, "dev/c1/x", false},
		{"u", "#", Read, "dev/c1/x", false},
		{"u", "+", Read, "common/x", false}, // nothing at all, as in Mosquitto
		{"u+", "c1", Read, "common/x", false},
		{"u", "a/b", Write, "dev/a/b/x", false},
		{"u", "a/b", Read, "common/x", true},

		{"u", "c1", Subscribe, "dev/c1/#", true},
		{"u", "c1", Subscribe, "dev/c2/#", false},
		{"u", "c1", Subscribe, "dev/+/x", true},
		{"u", "c1", Subscribe, "dev/+/private", false},
		{"u", "c1", Subscribe, "#", true},
		{"u", "c1", Subscribe, "c1/own", false}, // write only
		{"u", "c1", Subscribe, "$SYS/#", false},
		{"", "c1", Subscribe, "$SYS/#", true},
		{"roger", "c1", Subscribe, "status/#", true},
		{"roger", "c1", Subscribe, "status/secret", false},
		{"admin", "c1", Subscribe, "+/+", true},
	} {
		if got := l.allows(c.user, c.client, c.access, c.topic); got != c.want {
			t.Errorf("user %q client %q access %d %q: %v, want %v", c.user, c.client, c.access, c.topic, got, c.want)
		}
	}
}

// A deny with a name in it holds even where a grant with that name would not.
func TestDenyWithSlashInTheName(t *testing.T) {
	l := accessOf(t, "pattern read #\npattern deny dev/%c/x\n")
	if l.allows("u", "a/b", Read, "dev/a/b/x") || !l.allows("u", "a/b", Read, "dev/a/x") {
		t.Error("the deny does not hold, or holds for others")
	}
}

func TestAccessFaults(t *testing.T) {
	for text, want := range map[string]string{
		"user":                             "acl:1: the name",
		"topic":                            "acl:1: topic",
		"topic read ":                      "",                 // the topic "read", as in Mosquitto
		"topic rw a":                       "acl:1: \"rw\" is", // a topic with a space needs the first word
		"# fine\n # not\n":                 "acl:2: \"#\" is",
		"topics a":                         "acl:1: \"topics\"",
		"Topic a":                          "acl:1:",
		"\n\ntopic a/#/b":                  "acl:3:",
		"topic a+":                         "acl:1:",
		"pattern deny\ta":                  "acl:1:",
		"topic deny a\x00":                 "acl:1:",
		"topic \xff":                       "acl:1:",
		"\ttopic a":                        "acl:1:",
		"topic a\r\nuser b\r\ntopic c\r\n": "",
		"user a b \n topic  read   b c  ":  "",
		strings.Repeat("x\n", 100):         "acl:21: and more",
		"topic a/b\nuser x\ntopic deny +#": "acl:3:",
	} {
		l, err := parseAccess("acl", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || l != nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	l := accessOf(t, "user a b \n topic  read   b c  ")
	if !l.allows("a b", "", Read, "b c") {
		t.Error("names and topics with spaces inside are lost")
	}
}

// naive is an ACL file as Mosquitto's source reads it, one line after the other,
// with the exceptions that accessList names.
func naive(text, user, client string, a Access, topic string) bool {
	type line struct {
		access Access
		filter string
	}
	var own, patterns []line
	about := ""
	for l := range strings.SplitSeq(text, "\n") {
		w := strings.Fields(l)
		switch {
		case len(w) == 0:
		case w[0] == "user":
			about = w[1]
		default:
			access := map[string]Access{"read": Read, "write": Write, "readwrite": Read | Write, "deny": 0}[w[1]]
			switch {
			case w[0] == "pattern":
				patterns = append(patterns, line{access, w[2]})
			case about == user:
				own = append(own, line{access, w[2]})
			}
		}
	}
	for _, deny := range []bool{true, false} {
		for _, l := range own {
			if deny == (l.access == 0) && naiveMatches(l.filter, topic) && (deny || l.access&a != 0) {
				return !deny
			}
		}
	}
	if strings.ContainsAny(user+client, "+#") {
		return false
	}
	for _, deny := range []bool{true, false} {
		for _, l := range patterns {
			hasClient, hasUser := strings.Contains(l.filter, "%c"), strings.Contains(l.filter, "%u")
			switch {
			case deny != (l.access == 0), hasUser && user == "", hasClient && client == "":
				continue
			case !deny && (hasClient && strings.Contains(client, "/") || hasUser && strings.Contains(user, "/")):
				continue
			case !deny && topic[0] == '$' && l.filter[0] != '$':
				continue
			}
			filter := strings.NewReplacer("%c", client, "%u", user).Replace(l.filter)
			if naiveMatches(filter, topic) && (deny || l.access&a != 0) {
				return !deny
			}
		}
	}
	return false
}

func oneOf(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

func randomACL(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(10) {
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "user %s\n", oneOf(r, "u", "v", "u/w", "u+"))
		}
		filter := oneOf(r, "a", "b", "%c", "%u", "+", "$s", "x%c%u", "#")
		for range r.IntN(3) {
			if strings.HasSuffix(filter, "#") {
				break
			}
			filter += "/" + oneOf(r, "a", "b", "%c", "%u", "+", "#", "", "%c-%u")
		}
		fmt.Fprintf(&b, "%s %s %s\n", oneOf(r, "topic", "pattern"), oneOf(r, "read", "write", "readwrite", "deny"), filter)
	}
	return b.String()
}

func randomTopic(r *rand.Rand) string {
	topic := oneOf(r, "a", "b", "c", "u", "$s", "xcu", "v")
	for range r.IntN(4) {
		topic += "/" + oneOf(r, "a", "b", "c", "u", "", "c-u", "w")
	}
	return topic
}

// S1: the compiled list gives what reading the file line by line gives, and a
// subscription is never refused that could deliver something.
func TestAccessAgainstNaive(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	defer func() {
		if t.Failed() {
			t.Logf("seed %d; put it into TestAccessAgainstNaive to repeat", seed)
		}
	}()
	r := rand.New(rand.NewPCG(seed, 1))
	allowed, refused := 0, 0
	for range 3000 {
		text := randomACL(r)
		l := accessOf(t, text)
		user, client := oneOf(r, "", "u", "v", "u/w", "u+"), oneOf(r, "c", "c", "c", "", "a/b", "#", "$s")
		for range 10 {
			topic := randomTopic(r)
			for _, a := range []Access{Read, Write} {
				want := naive(text, user, client, a, topic)
				if got := l.allows(user, client, a, topic); got != want {
					t.Fatalf("user %q client %q access %d topic %q: %v, want %v, by\n%s", user, client, a, topic, got, want, text)
				}
				if want {
					allowed++
				}
			}
			filter := randomTopic(r)
			if r.IntN(2) == 0 {
				filter = oneOf(r, "#", "+/#", "a/#", "+/+", "a/+", "$s/#", topic)
			}
			switch {
			case l.allows(user, client, Subscribe, filter):
			case naiveMatches(filter, topic) && naive(text, user, client, Read, topic):
				t.Fatalf("user %q client %q may read %q but not subscribe to %q, by\n%s", user, client, topic, filter, text)
			default:
				refused++
			}
		}
	}
	if allowed < 1000 || refused < 1000 {
		t.Errorf("%d allowed and %d refused are too few to show anything", allowed, refused)
	}
}

func TestAllowsWithoutFile(t *testing.T) {
	g, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		access Access
		topic  string
		want   bool
	}{
		{Read, "a", true},
		{Write, "a", true},
		{Subscribe, "#", true},
		{Subscribe, "$SYS/#", true},
		{Read, "$SYS/a", true},
		{Write, "$SYS/a", false},
		{Write, "$a", false},
		{Write, "", false},
		{Read, "", false},
	} {
		if got := g.Allows("", "c", c.access, c.topic); got != c.want {
			t.Errorf("access %d %q: %v, want %v", c.access, c.topic, got, c.want)
		}
	}
}

func guardWith(tb testing.TB, acl string) *Guard {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "acl")
	if err := os.WriteFile(file, []byte(acl), 0o600); err != nil {
		tb.Fatal(err)
	}
	g, err := Open(Options{ACLFile: file})
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func TestAllowsDoesNotAllocate(t *testing.T) {
	g := guardWith(t, sampleACL)
	if n := testing.AllocsPerRun(100, func() {
		if !g.Allows("u", "device-17", Write, "dev/device-17/tele") || g.Allows("u", "device-17", Subscribe, "dev/x/#") {
			t.Error("the wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllows(b *testing.B) {
	g := guardWith(b, sampleACL)
	b.ReportAllocs()
	for b.Loop() {
		if g.Allows("u", "device-17", Write, "nothing/for/this/device-17") {
			b.Fatal("allowed")
		}
	}
}

func FuzzParseAccess(f *testing.F) {
	f.Add(sampleACL, "u", "c", "dev/c/x")
	f.Add("topic deny #\npattern %c/%u%%c\n", "u", "$SYS", "$SYS/a")
	f.Add("user \xff\ntopic a/#/\n", "", "", "+/#")
	f.Fuzz(func(t *testing.T, text, user, client, topic string) {
		l, err := parseAccess("acl", []byte(text))
		if (l == nil) == (err == nil) {
			t.Fatalf("%v, %v", l, err)
		}
		if l == nil || topic == "" {
			return
		}
		for _, a := range []Access{Read, Write} {
			if l.allows(user, client, a, topic) && checkFilter(topic) == nil && !l.allows(user, client, Subscribe, topic) && a == Read {
				t.Fatalf("%q may be read but not subscribed to", topic)
			}
		}
	})
}
