package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	root "github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

// A purge deletes what pending says is in Kafka: so it says that only of what it is
// sure of, and of everything else that it is to be kept.
func TestPending(t *testing.T) {
	n := node(t)
	n.publish(t, 25)
	data := filepath.Join(filepath.Dir(n.config), "data")
	keeps := func(when, says string) {
		t.Helper()
		if code, out, errs := tributary(t, "pending", data); code != 1 || !strings.Contains(out+errs, says) {
			t.Errorf("%s: exit %d, %s%s; want 1 and %q", when, code, out, errs, says)
		}
	}
	keeps("a running node", "so keep it")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	keeps("nothing is in Kafka", "records are not known to be in Kafka")

	noted(t, data, 1)
	keeps("all but one is in Kafka", "1 records are not known to be in Kafka")
	gaps := filepath.Join(edge.LogDir(data), "gaps")
	noted(t, data, 0)
	if err := os.WriteFile(gaps, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	keeps("records were dropped", "Kafka may not know of them")
	if err := os.Remove(gaps); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := tributary(t, "pending", data); code != 0 {
		t.Errorf("all is in Kafka: exit %d, %s%s", code, out, errs)
	}
	if err := os.Remove(filepath.Join(data, "meta.db")); err != nil {
		t.Fatal(err)
	}
	keeps("without positions", "so keep it")

	if code, out, errs := tributary(t, "pending", t.TempDir()); code != 0 {
		t.Errorf("a directory without a log: exit %d, %s%s", code, out, errs)
	}
}

// noted has the positions of a stopped node say that all but so many records of each
// ledger are in Kafka.
func noted(t *testing.T, data string, but root.LSN) {
	t.Helper()
	fs, err := disk.Dir(edge.LogDir(data))
	if err != nil {
		t.Fatal(err)
	}
	found, err := store.Verify(fs)
	if err != nil {
		t.Fatal(err)
	}
	db, _, err := meta.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var all []root.Position
	for _, l := range found.Ledgers {
		all = append(all, root.Position{Ledger: l.ID, Next: l.To - but})
	}
	if err := db.Save(all, nil, func(root.LedgerID) bool { return true }); err != nil {
		t.Fatal(err)
	}
}
