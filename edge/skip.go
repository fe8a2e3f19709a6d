package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/tributary-edge/tributary/edge/status"
)

// answerSkip gives up what the ledger is stuck with that is named by its id, or by how
// that begins.
func (s *site) answerSkip(w http.ResponseWriter, req *http.Request) {
	name := req.FormValue("ledger")
	if s.node.cfg.DefaultRoute.DeadLetter == "" {
		http.Error(w, "[default_route] dead_letter is not set: there is no topic to say in which records are given up; nothing was changed", http.StatusConflict)
		return
	}
	for _, k := range s.taking.Stuck() {
		if len(name) < leastOfID || !strings.HasPrefix(k.Ledger.String(), name) {
			continue
		}
		given, err := s.taking.Skip(k.Ledger)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status.Stuck{Ledger: given.Ledger.String(), From: uint64(given.From), To: uint64(given.To)})
		return
	}
	http.Error(w, fmt.Sprintf("no ledger whose id begins with %q is stuck on this gateway; nothing was changed: tributary status says which are", name), http.StatusConflict)
}
