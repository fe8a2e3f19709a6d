package edge

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/sync/join"
	"github.com/tributary-edge/tributary/sync/peer"
)

func TestAnswerInvite(t *testing.T) {
	a, err := peer.NewAuthority("plant")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.0.0.1:1"}
	h := answerInvite(join.NewInvitations(a), func() []string { return want })
	for n := 1; ; n++ {
		w := httptest.NewRecorder()
		h(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/invite", http.NoBody))
		if w.Code != http.StatusOK {
			if n != 9 || w.Code != http.StatusConflict {
				t.Errorf("invitation %d: %d %s", n, w.Code, w.Body)
			}
			return
		}
		var i Invited
		if err := json.Unmarshal(w.Body.Bytes(), &i); err != nil || time.Until(i.Until) > 15*time.Minute || !reflect.DeepEqual(i.Addresses, want) {
			t.Fatalf("%+v, %v", i, err)
		}
		if _, err := join.ParseCode(i.Code); err != nil {
			t.Fatal(err)
		}
	}
}
