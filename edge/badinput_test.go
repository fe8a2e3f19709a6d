package edge_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	bolt "go.etcd.io/bbolt"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/status"
)

// refused opens a node that must not start, and returns what it says.
func (s *site) refused(words ...string) {
	s.t.Helper()
	n, err := edge.Open(s.t.Context(), s.config(), slog.New(slog.DiscardHandler))
	if err == nil {
		_ = n.Close()
		s.t.Fatal("the node started")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.t.Errorf("the message %q does not say %q", err, w)
		}
	}
}

func TestTwoProcessesOneDirectory(t *testing.T) {
	s := newSite(t, "")
	s.start()
	s.refused("in use by another", "nothing was changed", "data_dir")
}

func TestDataDirectoryIsAFile(t *testing.T) {
	s := newSite(t, "")
	s.dir = filepath.Join(s.dir, "file")
	if err := os.WriteFile(s.dir, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(s.dir, "data directory")
}

// A newer program's data is left alone, byte for byte.
func TestNewerFormat(t *testing.T) {
	s := newSite(t, "")
	s.start()
	w := s.connect("d", 1)
	w.publish(1, 0, 1, "t", "x")
	w.expect(0x40, 1)
	s.end()
	path := filepath.Join(s.dir, "meta.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("node")).Put([]byte("version"), binary.BigEndian.AppendUint64(nil, 99))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	s.refused("version 99", "newer", "nothing was changed")
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file was changed")
	}
}

// A packet above the limit closes that connection with 0x95 and harms nobody
// else; nothing acknowledged is lost.
func TestPacketTooLarge(t *testing.T) {
	s := newSite(t, "")
	s.start()
	good, bad := s.connect("good", 1), s.connect("bad", 1)
	bad.publish(1, 0, 1, "t", "small")
	bad.expect(0x40, 1)
	if _, err := bad.Write([]byte{0x32, 0x80, 0x88, 0x10}); err != nil { // the head: 257 KiB will follow
		t.Fatal(err)
	}
	for {
		head, body, err := bad.next()
		if err != nil {
			break // closed, as it should be
		}
		if head == 0xe0 && len(body) > 0 && body[0] != 0x95 {
			t.Errorf("DISCONNECT %x, want 0x95, packet too large", body)
		}
	}
	good.publish(1, 0, 1, "t", "fine")
	good.expect(0x40, 1)
	if all := s.committed("mqtt", 2); string(all[0].Value)+string(all[1].Value) != "smallfine" && string(all[0].Value)+string(all[1].Value) != "finesmall" {
		t.Error("records differ")
	}
}

// A topic that is missing, where none may be created: the node says which, what
// is safe and what to do; when it is there, everything arrives (U4).
func TestTopicMissing(t *testing.T) {
	s := newSite(t, "create_topics = false\n[[route]]\nmatch = \"#\"\ntopic = \"not-there\"\n")
	client, err := kgo.NewClient(kgo.SeedBrokers(s.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	compact := "compact"
	if _, err := admin.CreateTopic(t.Context(), 4, 1, map[string]*string{"cleanup.policy": &compact}, "tributary.positions"); err != nil {
		t.Fatal(err)
	}
	s.start()
	w := s.connect("d", 1)
	w.publish(1, 0, 1, "t", "x")
	w.expect(0x40, 1)
	r := s.until("the uplink to say what is wrong", func(r status.Report) bool { return r.Uplink.State == "waiting" && r.Uplink.What != "" })
	if all := r.Uplink.What + r.Uplink.Do; !strings.Contains(all, "not-there") || !strings.Contains(all, "kafka-topics") {
		t.Errorf("says %q, do %q", r.Uplink.What, r.Uplink.Do)
	}
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "not-there"); err != nil {
		t.Fatal(err)
	}
	if all := s.committed("not-there", 1); string(all[0].Value) != "x" {
		t.Error("not the record")
	}
}

// A positions topic that Kafka would delete from is refused: the position is
// what makes it exactly once (U3).
func TestPositionsTopicNotCompacted(t *testing.T) {
	s := newSite(t, "")
	client, err := kgo.NewClient(kgo.SeedBrokers(s.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, "tributary.positions"); err != nil {
		t.Fatal(err)
	}
	s.start()
	w := s.connect("d", 1)
	w.publish(1, 0, 1, "t", "x")
	w.expect(0x40, 1)
	r := s.until("red", func(r status.Report) bool { return r.Colour == status.Red })
	if len(r.Reasons) == 0 || !strings.Contains(r.Reasons[0], "compact") {
		t.Errorf("reasons %q", r.Reasons)
	}
}

// A status address that is taken ends the start with a sentence.
func TestStatusListenTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := newSite(t, fmt.Sprintf("[status]\nlisten = %q\n", l.Addr()))
	n, err := edge.Open(t.Context(), s.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = n.Run(t.Context())
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err == nil || !strings.Contains(err.Error(), "[status] listen") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("run: %v", err)
	}
}

// The socket of a node that was killed does not keep the next one from starting.
func TestStaleSocket(t *testing.T) {
	s := newSite(t, "")
	if err := os.WriteFile(filepath.Join(s.dir, "admin.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("a report", func(r status.Report) bool { return r.Boots == 1 })
}
