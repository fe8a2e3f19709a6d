package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A Keeper takes what peers have to keep, and gives them what they ask for.
type Keeper struct {
	Log    Log
	Heals  Healer       // nil: what is missing stays so
	Logger *slog.Logger // nil: none
	// Status is given what a peer says of itself, until the next call; nil: it is not needed.
	Status func(from *peer.Hello, s *peer.Status)
	// Own says whether a ledger is, or was, written by this node: nobody else streams it.
	Own  func(id tributary.LedgerID) bool
	Pace *Pace // of what is given; nil: no bound
	// Classify says which of the reasons err, of AppendCopy, is; 0 for none of them.
	Classify func(err error) peer.Reason
	// Asked returns the answer to what a peer asks for devices that have come to it, or
	// nil if there is none; it may take its time. nil: nothing is answered.
	Asked func(ctx context.Context, from *peer.Hello, m peer.Message) peer.Message
	// Left is told that a peer, or its machine, has closed its only connection: it is
	// not there, or will say so soon. nil: nobody is told.
	Left func(n tributary.NodeID)
	// Promise fills in what an Echo says of this node; nil: nothing is promised.
	Promise func(e *peer.Echo)

	// Shared is given what a peer says of what all nodes know alike, until the next call,
	// and returns the answer, or nil; nil: nothing is shared.
	Shared func(from *peer.Hello, m peer.Message) peer.Message

	mu   sync.Mutex // guards what follows
	open map[*serving]struct{}
}

// serving is one connection that a peer has dialed.
type serving struct {
	*Keeper

	conn  *peer.Conn
	dec   *zstd.Decoder
	cut   atomic.Bool   // nothing is taken any more
	ended chan struct{} // closed when nothing ever will be
	asks  sync.WaitGroup

	mu     sync.Mutex // guards what follows, and the order of what is sent
	news   map[tributary.LedgerID]bool
	nacks  []peer.Nack
	pulls  []peer.Pull
	echo   *peer.Echo
	shared peer.Message // the answer to the latest question about what is shared
	wake   chan struct{}
	nacked map[tributary.LedgerID]nacked
	giving tributary.LedgerID // what is being given
	asked  map[uint64]bool    // questions that are being answered
	told   []peer.Message     // and the answers that are to be sent
}

// nacked is where a copy ended when the peer was told so last, and when that was.
type nacked struct {
	end tributary.LSN
	at  time.Time
}

// A gift is a ledger that the peer has asked for, while it is given.
type gift struct {
	Reader

	id   tributary.LedgerID
	next tributary.LSN
	to   tributary.LSN // only what is below is wanted; 0: all there is
}

// Serve answers the peer on c until the connection ends or ctx does; then it
// closes c. It returns nil when the peer has ended it.
func (k *Keeper) Serve(ctx context.Context, c *peer.Conn) error {
	dec, err := newDecoder()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	defer dec.Close()
	s := &serving{
		Keeper: k, conn: c, dec: dec, wake: make(chan struct{}, 1), ended: make(chan struct{}), asked: map[uint64]bool{},
		news: map[tributary.LedgerID]bool{}, nacked: map[tributary.LedgerID]nacked{},
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // wakes who receives
	defer stop()
	var answers sync.WaitGroup
	answers.Go(func() {
		if err := s.answer(ctx); err != nil && ctx.Err() == nil {
			orDiscard(k.Logger).Info("a peer does not hear the answers any more", "peer", c.Peer().Name, "error", err)
		}
		cancel()
	})
	k.note(s, true)
	err = s.receive(ctx)
	k.note(s, false)
	close(s.ended)
	k.left(ctx, s, err)
	cancel()
	s.asks.Wait()
	answers.Wait()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	_ = c.Close() // it may be closed
	return err
}

// receive takes what the peer says.
func (s *serving) receive(ctx context.Context) error {
	for {
		m, err := s.conn.Receive()
		if err != nil {
			return err
		}
		if s.cut.Load() {
			return errCut
		}
		switch m := m.(type) {
		case *peer.Status:
			s.status(m)
		case *peer.Append:
			err = s.append(m)
		case *peer.Pull:
			err = s.pull(*m)
		case *peer.Close:
			s.ask(ctx, m, m.Try)
		case *peer.Collect:
			s.ask(ctx, m, m.Try)
		case *peer.Hashes, *peer.Shared:
			s.share(m)
		default:
			err = fmt.Errorf("the peer says %T, which is an answer, and was asked nothing", m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *serving) status(m *peer.Status) {
	if s.Status != nil {
		s.Status(s.conn.Peer(), m)
	}
	e := &peer.Echo{SentMillis: m.SentMillis}
	if s.Promise != nil {
		s.Promise(e) // after it was heard: the time of the promise begins when the Status was sent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo = e
	s.signal()
}

// share takes what is known alike, and sees to the answer.
func (s *serving) share(m peer.Message) {
	if s.Shared == nil {
		return
	}
	answer := s.Shared(s.conn.Peer(), m)
	if answer == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = answer
	s.signal()
}

// Take adds what a peer has given, because it was asked, to the copy of a closed
// ledger. What does not follow the copy is left: it is asked for again.
func (k *Keeper) Take(m *peer.Pulled) error {
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	got, err := prove(m.Ledger, m.Codec, m.Sealed, dec)
	if err != nil {
		return err
	}
	err = k.Log.AppendCopy(&got, func(error) {})
	if err != nil && k.Classify(err) == peer.Gap && k.Heals != nil {
		err = k.heal(&got, dec)
	}
	if err != nil && k.Classify(err) == 0 {
		return err
	}
	return nil
}

// heal fills what is missing here with groups that lie before the end of a copy (R15),
// if they go on from what is before them.
func (k *Keeper) heal(s *group.Sealed, dec *zstd.Decoder) error {
	groups, err := s.Groups(dec)
	if err != nil {
		return err
	}
	r, err := k.Log.Read(s.Ledger)
	if err != nil {
		return err
	}
	defer r.Close()
	if chain, known := r.ChainAt(s.Base); known && chain != s.PrevChain {
		return fmt.Errorf("record %d of the peer's copy has another history before it than this node's", s.Base)
	}
	for i := range groups {
		raw := groups[i].Raw()
		if err := k.Heals.Heal(&raw, func(error) {}); err != nil && k.Classify(err) != peer.Gap {
			return err // what is not missing is passed over
		}
	}
	return nil
}

// Answered takes what a peer answers: it is a Sender's Answer.
func (k *Keeper) Answered(_ *peer.Hello, m peer.Message) {
	if p, ok := m.(*peer.Pulled); ok {
		if err := k.Take(p); err != nil {
			orDiscard(k.Logger).Warn("could not keep what a peer gave", "ledger", p.Ledger.String(), "error", err)
		}
	}
}

// prove returns what a peer has sent of a ledger, in memory of its own, if it is
// what it says it is.
func prove(id tributary.LedgerID, codec group.Codec, sealed []byte, dec *zstd.Decoder) (group.Sealed, error) {
	got, err := group.Prove(codec, slices.Clone(sealed), dec)
	if err == nil && got.Ledger != id {
		err = fmt.Errorf("the peer calls a group of ledger %v one of %v", got.Ledger, id)
	}
	if err != nil {
		return got, fmt.Errorf("what the peer wants to have kept is damaged: %w", err)
	}
	return got, nil
}

func newDecoder() (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(group.MaxBody))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return dec, nil
}

// append keeps what the peer wants to have kept, and sees to the answer.
func (s *serving) append(m *peer.Append) error {
	got, err := prove(m.Ledger, m.Codec, m.Sealed, s.dec)
	if err != nil {
		return err
	}
	if s.Own(m.Ledger) {
		s.refuse(m.Ledger, peer.Diverged)
		return nil
	}
	s.Log.Forwarded(m.Ledger, m.Position)
	err = s.Log.AppendCopy(&got, func(err error) {
		if err == nil {
			s.tell(m.Ledger)
		}
	})
	if err == nil {
		s.mu.Lock()
		delete(s.nacked, m.Ledger)
		s.mu.Unlock()
		if ackBeforeFlush {
			s.tell(m.Ledger)
		}
		return nil
	}
	reason := s.Classify(err)
	if reason == 0 {
		return err
	}
	s.refuse(got.Ledger, reason)
	return nil
}

// refuse tells the peer where the copy ends: once for each such place, because
// what is under way was sent before it can hear of it. For want of room it tries
// again later, and is told again.
func (s *serving) refuse(id tributary.LedgerID, reason peer.Reason) {
	end, chain, _ := s.Log.CopyEnd(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, told := s.nacked[id]; told && last.end == end && (reason != peer.Full || time.Since(last.at) < fullRest/2) {
		return
	}
	s.nacked[id] = nacked{end, time.Now()}
	s.nacks = append(s.nacks, peer.Nack{Ledger: id, Reason: reason, End: end, Chain: chain})
	s.news[id] = true // it may not know what is durable
	s.signal()
}

// tell has the peer told what is durable of a ledger. The committer calls it: it
// does not wait.
func (s *serving) tell(id tributary.LedgerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news[id] = true
	s.signal()
}

func (s *serving) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// maxPulls is how many requests a peer may have waiting.
const maxPulls = 1 << 10

// pull notes what the peer asks for. It asks again each second: what it is being given,
// or will be, is not given twice.
func (s *serving) pull(m peer.Pull) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Ledger == s.giving || slices.ContainsFunc(s.pulls, func(p peer.Pull) bool { return p.Ledger == m.Ledger }) {
		return nil
	}
	if len(s.pulls) >= maxPulls {
		return fmt.Errorf("the peer has asked for %d ledgers and not waited for an answer", maxPulls)
	}
	s.pulls = append(s.pulls, m)
	s.signal()
	return nil
}

// answer says what there is to say, until the connection or ctx ends.
func (s *serving) answer(ctx context.Context) error {
	var given *gift
	defer func() { given.close() }()
	var later <-chan time.Time
	for {
		select {
		case <-s.wake:
		case <-later:
		case <-ctx.Done():
			return ctx.Err()
		}
		for later = nil; ; {
			said, err := s.answerOnce()
			if err == nil && given == nil {
				given, err = s.begin()
			}
			if wait := s.Pace.Delay(); err == nil && given != nil && wait > 0 {
				later = time.After(wait) // what others wait for goes first
			} else if err == nil && given != nil {
				said = true
				given, err = s.give(ctx, given)
			}
			if err != nil {
				return err
			}
			if !said {
				break
			}
		}
		if err := s.conn.Flush(); err != nil {
			return err
		}
	}
}

// answerOnce says all that is quickly said.
func (s *serving) answerOnce() (said bool, err error) {
	s.mu.Lock()
	news, nacks, echo, told, shared := s.news, s.nacks, s.echo, s.told, s.shared
	s.news, s.nacks, s.echo, s.told, s.shared = map[tributary.LedgerID]bool{}, nil, nil, nil, nil
	s.mu.Unlock()
	if shared != nil {
		told = append(told, shared)
	}
	for _, m := range told {
		if err := s.conn.Send(m); err != nil {
			return true, err
		}
	}
	if echo != nil {
		if err := s.conn.Send(echo); err != nil {
			return true, err
		}
	}
	for i := range nacks {
		if err := s.conn.Send(&nacks[i]); err != nil {
			return true, err
		}
	}
	for id := range news {
		from, to, chain, held := s.Log.Held(id)
		if ackBeforeFlush {
			to, chain, held = s.Log.CopyEnd(id)
		}
		if !held {
			continue
		}
		if err := s.conn.Send(&peer.Ack{Ledger: id, Base: from, Durable: to, Chain: chain}); err != nil {
			return true, err
		}
	}
	return len(news)+len(nacks)+len(told) > 0 || echo != nil, nil
}

// begin begins to give what the peer has asked for next, or returns nil.
func (s *serving) begin() (*gift, error) {
	s.mu.Lock()
	s.giving = tributary.LedgerID{}
	if len(s.pulls) == 0 {
		s.mu.Unlock()
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	m := s.pulls[0]
	s.pulls = s.pulls[1:]
	s.giving = m.Ledger
	s.mu.Unlock()
	if m.Ledger == s.Log.Ledger() && m.To == 0 { // it is streamed to those who keep it
		return nil, s.conn.Send(&peer.End{Ledger: m.Ledger, Position: s.Log.Position(m.Ledger)})
	}
	r, err := s.Log.Read(m.Ledger)
	if err != nil {
		return nil, err
	}
	return &gift{r, m.Ledger, max(m.From, r.Base()), m.To}, nil
}

// give sends the next part of what this node has of a ledger: between two parts it
// says what others wait for. It returns nil after the last.
func (s *serving) give(ctx context.Context, g *gift) (*gift, error) {
	var all []group.Sealed
	err := io.EOF
	if g.to == 0 || g.next < g.to {
		all, err = g.Sealed(ctx, g.next, s.Pace.part())
	}
	if err != nil { // the end, a hole, or a record that is not where a group starts: this node has no more to give
		g.close()
		return nil, s.conn.Send(&peer.End{Ledger: g.id, Position: s.Log.Position(g.id)})
	}
	for i := range all {
		s.Pace.Spent(len(all[i].Bytes))
		if err := s.conn.Send(&peer.Pulled{Ledger: g.id, Codec: all[i].Codec, Sealed: all[i].Bytes}); err != nil {
			return g, err
		}
	}
	g.next = all[len(all)-1].Next()
	return g, nil
}

func (g *gift) close() {
	if g != nil {
		g.Reader.Close()
	}
}
