package replica

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/tributary-edge/tributary/sync/peer"
)

var errCut = errors.New("this node has closed the connection, because a device came while the peer was silent, or the peer has started anew")

// note remembers a connection, or that it has ended.
func (k *Keeper) note(s *serving, open bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open == nil {
		k.open = map[*serving]struct{}{}
	}
	if open {
		k.open[s] = struct{}{}
	} else {
		delete(k.open, s)
	}
}

// left tells who ended it that a connection did, unless this node has, or the network.
func (k *Keeper) left(ctx context.Context, s *serving, cause error) {
	if k.Left == nil || ctx.Err() != nil || s.cut.Load() || errors.Is(cause, net.ErrClosed) || errors.Is(cause, os.ErrDeadlineExceeded) {
		return
	}
	k.mu.Lock()
	for other := range k.open {
		if other.conn.Peer().Node == s.conn.Peer().Node {
			k.mu.Unlock()
			return
		}
	}
	k.mu.Unlock()
	k.Left(s.conn.Peer().Node)
}

// Cut closes the connections of the peers that which says. When it returns nil,
// nothing more of what they had under way is taken (R17); ctx's error says that
// something may be.
func (k *Keeper) Cut(ctx context.Context, which func(*peer.Hello) bool) error {
	var all []*serving
	k.mu.Lock()
	for s := range k.open {
		if which(s.conn.Peer()) {
			all = append(all, s)
		}
	}
	k.mu.Unlock()
	for _, s := range all {
		s.cut.Store(true)
		_ = s.conn.Close() // it may be closed
	}
	for _, s := range all {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// mostAsked is how many questions of one peer are answered at a time.
const mostAsked = 8

// ask has a question answered, unless it is being answered already: it is asked again
// until there is an answer.
func (s *serving) ask(ctx context.Context, m peer.Message, try uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Asked == nil || s.asked[try] || len(s.asked) >= mostAsked {
		return
	}
	s.asked[try] = true
	s.asks.Go(func() {
		said := s.Asked(ctx, s.conn.Peer(), m)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, try)
		if said != nil {
			s.told = append(s.told, said)
			s.signal()
		}
	})
}
