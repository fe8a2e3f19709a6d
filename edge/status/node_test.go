package status

import (
	"strings"
	"testing"
)

// The table says what somebody wants to know who looks after several gateways.
func TestWriteNodes(t *testing.T) {
	var b strings.Builder
	err := WriteNodes(&b, []Node{
		{Name: "gw1", ID: "0a", Address: "10.0.0.5:7882", State: "this", Standing: "member", Ledgers: 2, Records: 30, Forwards: []string{"0123456789abcdef"}},
		{Name: "gw2", ID: "0b", Address: "10.0.0.6:7882", State: "alive", Standing: "member", Copied: 7, Behind: 3},
		{Name: "gw3", ID: "0c", Address: "10.0.0.7:7882", State: "alive", Standing: "member", Copied: 10},
		{ID: "0d", State: "failed", Standing: "removed"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
NAME   ID   ADDRESS         STATE             NOT IN KAFKA              COPY       FORWARDS
gw1    0a   10.0.0.5:7882   this              30 records of 2 ledgers   -          01234567
gw2    0b   10.0.0.6:7882   alive             -                         3 behind   -
gw3    0c   10.0.0.7:7882   alive             -                         complete   -
-      0d   -               failed, removed   -                         -          -
`, "\n")
	if got := b.String(); got != want {
		t.Errorf("\n%s\nshould be\n%s", got, want)
	}
}

// A ledger that is stuck is red after a minute, and the sentence says what to type.
func TestStuckIsRed(t *testing.T) {
	r := Report{Gateways: &Gateways{Stuck: []Stuck{{Ledger: "abc", From: 5, To: 7, Seconds: 10}}}}
	r.judgeGateways()
	if r.Colour == Red {
		t.Error("red before another gateway had time to help")
	}
	r.Gateways.Stuck[0].Seconds = 100
	r.judgeGateways()
	if text := strings.Join(r.Reasons, " "); r.Colour != Red || !strings.Contains(text, "records 5 to 6 of ledger abc") || !strings.Contains(text, "tributary skip abc") {
		t.Errorf("%v: %s", r.Colour, text)
	}
}
