package auth

import (
	"context"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tributary-edge/tributary/ingest/gate"
)

// S1: tokens and passwords are checked when the gate has a place for that.
func TestChecksWaitForAPlace(t *testing.T) {
	s := newSigners(t)
	places := gate.New(1)
	g, err := Open(Options{
		PasswordFile: "testdata/passwd", Gate: places,
		JWT: JWTOptions{KeysFile: write(t, "pem", pemOf(t, s.ec.Public()))},
	})
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, jwt.SigningMethodES256, s.ec, nil, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
	for what, password := range map[string]string{"token": token, "password": "alice-secret"} {
		place, err := places.Enter(t.Context(), gate.Connect, "")
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = g.Authenticate(ended, &Credentials{Username: "alice", Password: []byte(password)})
		if got := refusalCode(t, err); got != Busy {
			t.Errorf("%s: %#x without a place", what, got)
		}
		place.Leave()
		if _, err = g.Authenticate(t.Context(), &Credentials{Username: "alice", Password: []byte(password)}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := places.Enter(t.Context(), gate.Connect, ""); err != nil {
		t.Error("the place was not given back:", err)
	}
}
