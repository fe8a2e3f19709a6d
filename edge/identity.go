package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/roster"
)

// whoami returns what this node says of itself to peers.
func (s *site) whoami() peer.Hello {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hello
}

// admit says whether a peer may speak (R3).
func (s *site) admit(h *peer.Hello) (news bool, err error) {
	news, err = s.roster.Admit(h.Node, h.Name, h.Boot, h.Nonce)
	if impostor, is := errors.AsType[*roster.ImpostorError](err); is {
		s.alarms.raise(s, fmt.Sprintf("a process says that it is node %v (%s), of which a later one is known: its card or data directory was copied, or is an old image. It was told to become another node; nothing is lost or sent twice", h.Node, h.Name))
		return false, &peer.RejectError{Reason: err.Error(), Boot: impostor.Boot, Nonce: impostor.Nonce}
	}
	if err == nil && news {
		s.saveRoster()
	}
	return news, err
}

// saveRoster writes down who is of the site. What is not written down is learnt anew.
func (s *site) saveRoster() {
	if err := s.roster.Save(); err != nil {
		s.node.logger.Warn("could not note who is of the site; it is noted with the next change", "error", err)
	}
}

var errAnother = errors.New("another process has a better right to be this node")

// rejected is told that a peer knows another process of this node.
func (s *site) rejected(by string) {
	select {
	case s.another <- by:
	default:
	}
}

// clone is told of another process that says it is this node. One of the two yields.
func (s *site) clone(boot, nonce uint64, where string) (itYields bool) {
	self := s.whoami()
	if roster.Later(boot, nonce, self.Boot, self.Nonce) {
		s.rejected(where)
		return false
	}
	s.alarms.raise(s, fmt.Sprintf("another process says that it is this node (%s): its card or data directory was copied, or is an old image. It is told to become another node; nothing is lost or sent twice", where))
	return true
}

// awaitAnother returns errAnother when this node has to become another one.
func (s *site) awaitAnother(ctx context.Context) error {
	select {
	case where := <-s.another:
		s.alarms.raise(s, fmt.Sprintf("a later process of this node is known (%s): this data directory was copied, or is an old image. This is another node now, with a new id, and keeps what it holds; nothing is lost or sent twice", where))
		return errAnother
	case <-ctx.Done():
		return ctx.Err()
	}
}

// becomeAnother gives this node a new id, durably, and the certificate that goes with
// it. What it writes goes on, and so do its devices.
func (s *site) becomeAnother() error {
	id, err := s.node.meta.Renew()
	if err != nil {
		return err
	}
	if err := errors.Join(s.mine.Renew(id.Node), s.roster.Become(id.Node)); err != nil {
		return err
	}
	s.view.Become(id.Node)
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.hello.Node
	s.hello.Node, s.hello.Boot, s.hello.Nonce = id.Node, id.Boots, nonce()
	select {
	case <-s.another: // that was about the node that it is no longer
	default:
	}
	s.node.logger.Warn("this node has a new id", "was", was.String(), "is", id.Node.String(),
		"do", "if no other process runs under the old id, say so: tributary nodes remove "+was.String()+" --lost; the site waits for it, and flags devices that change gateways")
	return nil
}

// alarmFor is how long an alarm is shown after it was raised last.
const alarmFor = 24 * time.Hour

// mostAlarms bounds what others can make this node show.
const mostAlarms = 8

// alarms are what somebody should know who looks at the status.
type alarms struct {
	mu  sync.Mutex
	all []alarm // the one that was raised last is last
}

type alarm struct {
	text string
	at   time.Time
}

// raise shows an alarm for a day, and says it in the log if it is not shown yet.
func (a *alarms) raise(s *site, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.all)
	a.all = slices.DeleteFunc(a.all, func(one alarm) bool { return one.text == text })
	if len(a.all) == before {
		s.node.logger.Error("alarm of the site", "what", text)
	}
	a.all = append(a.all, alarm{text, time.Now()})
	a.all = a.all[max(0, len(a.all)-mostAlarms):]
}

// shown returns the alarms of the last day.
func (a *alarms) shown() (all []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		if time.Since(one.at) < alarmFor {
			all = append(all, one.text)
		}
	}
	return all
}
