package join

import (
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/sync/peer"
)

func invite(t *testing.T, v *Invitations, now time.Time) Code {
	t.Helper()
	i, err := v.New(now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCode(i.Code)
	if err != nil || !i.Until.Equal(now.Add(15*time.Minute)) {
		t.Fatalf("%+v: %v", i, err)
	}
	return c
}

func newInvitations(t *testing.T) *Invitations {
	t.Helper()
	a, err := peer.NewAuthority("plant")
	if err != nil {
		t.Fatal(err)
	}
	return NewInvitations(a)
}

func says(t *testing.T, r *refusal, want string) {
	t.Helper()
	if want == "" && r != nil || want != "" && (r == nil || !strings.Contains(r.reason, want)) {
		t.Errorf("refusal %v, should say %q", r, want)
	}
}

// A code is good once, and for 15 minutes.
func TestCodeIsGoodOnce(t *testing.T) {
	v, now := newInvitations(t), time.Now()
	a, b := invite(t, v, now), invite(t, v, now.Add(time.Minute))
	says(t, v.take(a.secret[:], now.Add(15*time.Minute-1)), "")
	says(t, v.take(a.secret[:], now.Add(15*time.Minute-1)), "used")
	says(t, v.take(b.secret[:], now.Add(16*time.Minute)), "expired")
	says(t, v.take(a.secret[:], now.Add(time.Hour)), "used")
	never := newCode(v.authority)
	says(t, v.take(never.secret[:], now), "not one of this node")
}

func TestAtMostEightCodes(t *testing.T) {
	v, now := newInvitations(t), time.Now()
	codes := make([]Code, maxOpen)
	for i := range codes {
		codes[i] = invite(t, v, now.Add(time.Duration(i)*time.Second))
	}
	if i, err := v.New(now.Add(time.Minute)); err == nil {
		t.Errorf("a ninth: %+v", i)
	}
	says(t, v.take(codes[3].secret[:], now.Add(time.Minute)), "")
	invite(t, v, now.Add(time.Minute))
	for range 5 * maxClosed { // what is remembered does not grow
		now = now.Add(validFor)
		invite(t, v, now)
	}
	if len(v.closed) > maxClosed || len(v.open) != 1 {
		t.Errorf("%d open, %d closed", len(v.open), len(v.closed))
	}
}

// Ten wrong tries end all open codes; those of long ago do not count, nor
// those while nothing was open.
func TestWrongCodes(t *testing.T) {
	v, now := newInvitations(t), time.Now()
	wrong := newCode(v.authority)
	try := func(times int, at time.Time) (voided bool) {
		for range times {
			r := v.take(wrong.secret[:], at)
			says(t, r, "not one of this node")
			voided = voided || r.voided
		}
		return voided
	}
	if try(50, now) {
		t.Error("what is not there is void")
	}
	good := invite(t, v, now)
	if try(maxWrong-1, now) {
		t.Error("void before the tenth")
	}
	says(t, v.take(good.secret[:], now), "")
	now = now.Add(validFor)
	good = invite(t, v, now)
	other := invite(t, v, now)
	if try(maxWrong-1, now) || !try(1, now) {
		t.Error("it is the tenth that makes them void")
	}
	says(t, v.take(good.secret[:], now), "void")
	says(t, v.take(other.secret[:], now), "void")
	good = invite(t, v, now)
	says(t, v.take(good.secret[:], now), "")
}
