package edge

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tributary-edge/tributary/sync/join"
)

// Invited is the answer to POST /api/invite.
type Invited struct {
	join.Invitation

	Addresses []string `json:"addresses"` // HOST:PORT where this node listens for others, the best first
}

// inviter makes codes that let a node into the site; *join.Invitations does.
type inviter interface {
	New(now time.Time) (join.Invitation, error)
}

// answerInvite answers POST /api/invite with a new code. It is only for those who
// may open the socket: a code lets a node in.
func answerInvite(from inviter, addresses func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		at := addresses()
		if len(at) == 0 {
			http.Error(w, "this node does not listen for other gateways yet: try again", http.StatusServiceUnavailable)
			return
		}
		i, err := from.New(time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Invited{Invitation: i, Addresses: at})
	}
}
