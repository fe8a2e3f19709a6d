package edge_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// killed returns a site with what is on the disk at this moment, which is what a
// SIGKILL leaves, and ends the old one. Nothing may be under way.
func (s *site) killed() *site {
	s.t.Helper()
	next := &site{t: s.t, dir: s.t.TempDir(), kafka: s.kafka, late: new(atomic.Bool), addr: s.addr, extra: s.extra}
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		to := filepath.Join(next.dir, strings.TrimPrefix(path, s.dir))
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(to, 0o700)
		case e.Type().IsRegular():
			return copyFile(path, to)
		default:
			return nil // a socket
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.end()
	next.start()
	return next
}

func (w *wire) follow(filter string, options byte) {
	w.t.Helper()
	b := append([]byte{0, 9, 0, 0, byte(len(filter))}, filter...)
	w.send(0x82, append(b, options))
	if head, body := w.packet(); head != 0x90 || body[3] != options&3 {
		w.t.Fatalf("SUBACK %02x %x", head, body)
	}
}

// wantMessage takes a PUBLISH, acknowledges it if it is of QoS 1, and checks what it says.
func (w *wire) wantMessage(want string) {
	w.t.Helper()
	head, body := w.packet()
	if head>>4 != 3 {
		w.t.Fatalf("got %02x %x, want the message %q", head, body, want)
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	topic := string(body[2:at])
	if head&6 != 0 {
		w.send(0x40, body[at:at+2])
		at += 2
	}
	payload := body[at+1+int(body[at]):]
	if got := fmt.Sprintf("%x %s %s", head&0x0f, topic, payload); got != want {
		w.t.Fatalf("got message %q, want %q", got, want)
	}
}

func (s *site) dial() *wire {
	s.t.Helper()
	c, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.Door().Addrs()[0].String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{t: s.t, Conn: c, r: bufio.NewReader(c)}
}

// M1: what a subscriber who is away is owed, its subscriptions, retained messages,
// and the will of a client that was connected survive a SIGKILL, and then
// another.
func TestSubscribersOverAKill(t *testing.T) {
	s := newSite(t, "[[route]]\nmatch = \"#\"\ntopic = \"mqtt\"\n")
	s.start()
	sub := s.connect("sub", 0)
	sub.follow("cmd/#", 1)
	sub.follow("wills", 1)
	_ = sub.Close()
	doomed := s.dial() // with a will of QoS 1 that is to be retained
	doomed.send(0x10, []byte("\x00\x04MQTT\x05\x2e\x00\x3c\x00\x00\x04doom\x00\x00\x05wills\x00\x04gone"))
	if head, body := doomed.packet(); head != 0x20 || body[1] != 0 {
		t.Fatalf("CONNACK %02x %x", head, body)
	}
	pub := s.connect("pub", 1)
	for i := range uint16(20) {
		pub.publish(1, 0, i+1, "cmd/x", fmt.Sprint(i))
	}
	pub.send(0x33, []byte("\x00\x04kept\x00\x15\x00state"))
	for i := range uint16(21) {
		pub.expect(0x40, i+1)
	}
	s = s.killed()
	late := s.connect("late", 1)
	late.follow("wills", 1)
	if _, body := late.packet(); !strings.HasSuffix(string(body), "gone") {
		t.Fatalf("got %x, want the will", body)
	}
	late.publish(1, 0, 1, "x", "") // behind the note that the will was sent
	late.expect(0x40, 1)
	s = s.killed()
	sub = s.connect("sub", 0)
	for i := range 20 {
		sub.wantMessage(fmt.Sprintf("2 cmd/x %d", i))
	}
	sub.wantMessage("2 wills gone") // once
	late = s.connect("late", 1)
	late.follow("kept", 0)
	late.wantMessage("1 kept state")
	late.publish(1, 0, 1, "cmd/y", "live") // the subscription is still there
	late.expect(0x40, 1)
	sub.wantMessage("2 cmd/y live")
}

// A restart does not give the members of a shared subscription again what the
// checkpoint says that they had.
func TestSharedOverRestart(t *testing.T) {
	s := newSite(t, "[[route]]\nmatch = \"#\"\ntopic = \"mqtt\"\n")
	s.start()
	away := s.connect("away", 0)
	away.follow("$share/g/cmd", 1)
	_ = away.Close()
	s.end()
	s.start()
	there := s.connect("there", 0)
	there.follow("$share/g/cmd", 1)
	pub := s.connect("pub", 1)
	for i := range uint16(20) {
		pub.publish(1, 0, i+1, "cmd", fmt.Sprint(i))
		pub.expect(0x40, i+1)
		there.wantMessage(fmt.Sprintf("2 cmd %d", i))
	}
	there.send(0xc0, nil) // PINGREQ: the last PUBACK is there
	if head, _ := there.packet(); head != 0xd0 {
		t.Fatalf("got %02x, want PINGRESP", head)
	}
	s.end()
	s.start()
	away = s.connect("away", 0)
	s.connect("pub", 1).publish(1, 0, 1, "cmd", "new")
	away.wantMessage("2 cmd new")
}
