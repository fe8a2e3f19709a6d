package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
)

// A registry is a guard that lets in whoever it has. slow, when set, is called
// between the check of a client and its end.
type registry struct {
	openDoor

	mu    sync.Mutex
	users []string
	slow  func()
}

func (r *registry) Authenticate(_ context.Context, c *auth.Credentials) (auth.Identity, error) {
	id := auth.Identity{User: c.Username}
	err := r.Stands(&id, nil)
	if r.slow != nil {
		r.slow()
	}
	return id, err
}

func (r *registry) Stands(i *auth.Identity, _ *tls.ConnectionState) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.users, i.User) {
		return nil
	}
	return &auth.Refusal{Code: auth.NotAuthorized, Why: "not in the registry"}
}

func (r *registry) withdraw(user string) {
	r.mu.Lock()
	r.users = slices.DeleteFunc(r.users, func(u string) bool { return u == user })
	r.mu.Unlock()
}

// S2: who would not be let in again is disconnected, MQTT 5 clients with a reason;
// nobody else notices, and what was under way is acknowledged to them.
func TestRecheck(t *testing.T) {
	r := &registry{users: []string{"gone", "stays"}}
	bubble(t, func(o *Options) { o.Guard = r }, func(t *testing.T, d *Door, l *fakeLog) {
		gone := pipe(t, d).enter(dialled{id: "a", user: "gone", v5: true, will: "w"})
		old := pipe(t, d).enter(dialled{id: "b", user: "gone"})
		stays := pipe(t, d).enter(dialled{id: "c", user: "stays", v5: true})
		silent := pipe(t, d) // no CONNECT yet
		stays.publish(1, 1, "t", "x")
		synctest.Wait()
		if n := d.Recheck(); n != 0 {
			t.Errorf("%d withdrawn before the rules changed", n)
		}
		r.withdraw("gone")
		if n := d.Recheck(); n != 2 {
			t.Errorf("%d withdrawn, want 2", n)
		}
		gone.want(0xe0, 2, packet.CodeAdministrative, 0)
		gone.wantEnd()
		old.wantEnd()
		l.commit(nil)
		stays.want(0x40, 2, 0, 1)
		if ack := silent.connect(dialled{id: "a", user: "gone", v5: true}); ack[3] != packet.CodeNotAuthorized {
			t.Errorf("CONNACK % x", ack)
		}
		silent.wantEnd()
		synctest.Wait()
		if got := l.payloads(); got != "x gone" {
			t.Errorf("the log has %q, want the message and the will", got)
		}
		if s := d.Stats(); s.Refused.Withdrawn != 2 || s.Connections != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// S2: who is being let in by the old rules while they change is not let in.
func TestRecheckMeanwhile(t *testing.T) {
	r := &registry{users: []string{"late"}}
	bubble(t, func(o *Options) { o.Guard = r }, func(t *testing.T, d *Door, _ *fakeLog) {
		r.slow = func() {
			r.withdraw("late")
			if n := d.Recheck(); n != 0 {
				t.Errorf("%d withdrawn; it is not known yet who this is", n)
			}
		}
		if ack := pipe(t, d).connect(dialled{id: "a", user: "late", v5: true}); ack[3] != packet.CodeNotAuthorized {
			t.Errorf("CONNACK % x, want not authorized", ack)
		}
	})
}

// A reader is a guard that lets one user alone read.
type reader struct {
	openDoor

	user string
}

func (r reader) Allows(user, _ string, a auth.Access, _ string) bool {
	return a != auth.Read || user == r.user
}

// A member of a shared subscription that the rules do not give a message, any more,
// does not take it from the others.
func TestSharedWithDenied(t *testing.T) {
	autoBubble(t, func(o *Options) { o.Guard = reader{user: "may"} }, func(t *testing.T, d *Door) {
		t.Helper()
		may := pipe(t, d).enter(dialled{id: "a", user: "may", v5: true}).subscribe("$share/g/t", 1)
		mayNot := pipe(t, d).enter(dialled{id: "b", user: "may not", v5: true}).subscribe("$share/g/t", 1)
		pub := pipe(t, d).enter(dialled{id: "pub", v5: true})
		for i := range byte(4) {
			pub.publish(1, uint16(i)+1, "t", "x")
			pub.want(0x40, 2, 0, i+1)
			may.ack(packet.TypePuback, may.wantMessage(delivered{topic: "t", payload: "x", qos: 1}))
		}
		mayNot.wantNothing()
	})
}

// Who looks for the reason why nothing comes finds a line in the log; a client that
// tries for ever does not fill it.
func TestDenialsAreTold(t *testing.T) {
	var said bytes.Buffer
	guarded := func(o *Options) {
		o.Guard, o.Logger = rules{fmt.Sprint(auth.Write, " theirs"): true}, slog.New(slog.NewTextHandler(&said, nil))
	}
	bubble(t, guarded, func(t *testing.T, d *Door, _ *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "pump", v5: true})
		for pid := uint16(1); pid <= 3; pid++ {
			c.publish(1, pid, "theirs", "x")
			c.want(0x40, 3, 0, byte(pid), packet.CodeNotAuthorized)
		}
	})
	if n := strings.Count(said.String(), "client=pump user=\"\" topic=theirs"); n != 1 { // the end of the connection may be told as well
		t.Errorf("%d lines of it:\n%s", n, &said)
	}
}
