package join

import (
	"crypto/x509"
	"strings"
	"testing"
)

var anAuthority = &x509.Certificate{Raw: []byte("a certificate")}

// A code is read in all the forms in which people write it.
func TestCode(t *testing.T) {
	c := newCode(anAuthority)
	text := c.String()
	if !strings.HasPrefix(text, "TRIB-") || len(text) != 52 || !c.isOf(anAuthority) || c.isOf(&x509.Certificate{Raw: []byte("another")}) {
		t.Fatalf("code %q", text)
	}
	if other := newCode(anAuthority); other.secret == c.secret {
		t.Error("two codes have one secret")
	}
	plain := strings.ReplaceAll(text, "-", "")
	for _, form := range []string{
		text, strings.ToLower(text), plain, " " + text + "\n", strings.TrimPrefix(plain, "TRIB"), strings.ReplaceAll(text, "-", " "),
		"TRIB" + strings.NewReplacer("0", "O", "1", "l").Replace(plain[4:]), strings.NewReplacer("0", "o", "1", "I").Replace(plain[4:]),
	} {
		if got, err := ParseCode(form); err != nil || got != c {
			t.Errorf("%q: %v, %v", form, got, err)
		}
	}
}

// Every wrong character, and every two that have changed places, are noticed.
func TestCodeTypos(t *testing.T) {
	plain := strings.ReplaceAll(newCode(anAuthority).String(), "-", "")[4:]
	for i := range plain {
		for _, r := range "0123456789ABCDEFGHJKMNPQRSTVWXYZU*" {
			if wrong := plain[:i] + string(r) + plain[i+1:]; wrong != plain {
				if _, err := ParseCode(wrong); err == nil {
					t.Fatalf("%s is taken for %s", wrong, plain)
				}
			}
		}
		if i > 0 && plain[i] != plain[i-1] {
			if _, err := ParseCode(plain[:i-1] + plain[i:i+1] + plain[i-1:i] + plain[i+1:]); err == nil {
				t.Fatalf("%s: characters %d and %d may change places", plain, i-1, i)
			}
		}
	}
	for _, wrong := range []string{"", "TRIB", plain[1:], plain + "0", strings.Repeat("-", 1000), strings.Repeat("é", 20)} {
		if _, err := ParseCode(wrong); err == nil {
			t.Errorf("%q is a code", wrong)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	text := newCode(anAuthority).String()
	f.Add(text)
	f.Add(strings.ToLower(text[5:]))
	f.Add("TRIB-00000-00000")
	f.Add("tr1b\xff-oil")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCode(text)
		if err != nil {
			return
		}
		if again, err := ParseCode(c.String()); err != nil || again != c {
			t.Errorf("%q: %v, then %v, %v", text, c, again, err)
		}
	})
}
