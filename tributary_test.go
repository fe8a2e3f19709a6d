package tributary_test

import (
	"strings"
	"testing"

	"github.com/tributary-edge/tributary"
)

// An id that came from elsewhere, Kafka say, is read or refused, whatever it is.
func TestParseIDs(t *testing.T) {
	ledger, node := tributary.NewLedgerID(), tributary.NewNodeID()
	if got, err := tributary.ParseLedgerID(ledger.String()); err != nil || got != ledger {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := tributary.ParseNodeID(node.String()); err != nil || got != node {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "ab", strings.Repeat("ab", 17), strings.Repeat("ab", 40), strings.Repeat("zz", 16), strings.Repeat("a", 31)} {
		if _, err := tributary.ParseLedgerID(bad); err == nil {
			t.Errorf("%q is a ledger", bad)
		}
		if _, err := tributary.ParseNodeID(bad); err == nil {
			t.Errorf("%q is a node", bad)
		}
	}
}
