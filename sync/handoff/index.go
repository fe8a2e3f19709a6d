package handoff

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A Log is what this node holds. Its methods may be called at once.
type Log interface {
	// Held returns what is durable of each ledger, its own and copies.
	Held() []Held
	// Read returns a Reader of a ledger.
	Read(id tributary.LedgerID) (Reader, error)
	// Settle returns when all that was given to the log before is durable.
	Settle(ctx context.Context) error
}

// Held is what this node holds of a ledger: records [From, To).
type Held struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN
}

// A Reader reads one ledger; see log/store.Reader.
type Reader interface {
	Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error)
	GroupStart(lsn tributary.LSN) tributary.LSN
	Close()
}

const (
	// lookBack is how many records of a ledger that are in Kafka already are looked at
	// when this node starts, for the packet ids of QoS 2 in them.
	lookBack  = 20_000
	readBytes = 1 << 20

	mostPlaces = 200_000 // of clients in ledgers: some 100 bytes each
	mostIDs    = 100_000
)

// headers of records that were MQTT messages; ingest has them all.
const (
	headerClientID = "mqtt.client_id"
	headerTopic    = "mqtt.topic"
	headerQoS      = "mqtt.qos"
	headerPacketID = "_pid"
)

// An Index knows, of each ledger that this node holds, which clients have records in
// it that may not be in Kafka, and which packet ids of QoS 2 they have not released.
// It follows the ledgers by reading them, a second behind at most while Update is
// called each second, and what it cannot say exactly it says of all clients.
type Index struct {
	log      Log
	position func(tributary.LedgerID) tributary.LSN

	updating chan struct{} // one slot: who has it updates

	mu      sync.Mutex // guards what follows
	ledgers map[tributary.LedgerID]*indexed
	places  int // in all ledgers
	ids     int // the same
}

// indexed is what is known of one ledger: of its records [from, next).
type indexed struct {
	reader     Reader // touched by Update alone; nil while nothing new comes
	from, next tributary.LSN
	held       tributary.LSN // durable, when it was looked at last
	pruned     tributary.LSN // clients whose records end at or below it are forgotten
	crowded    tributary.LSN // below it, too many clients have records: any may
	partial    bool          // packet ids were forgotten
	clients    map[string]*place
	ids        map[string]map[uint16]*idState // by client; 0: all of its ids that are older
}

// place is where a client's last record is.
type place struct {
	end   tributary.LSN
	epoch uint64
}

// idState is what a ledger says last of a packet id.
type idState struct {
	lsn      tributary.LSN
	epoch    uint64
	sum      uint64
	released bool
	sticky   bool // other ledgers may have it too: that it was released is to be remembered
}

// NewIndex returns an Index that has looked at nothing. position says below which
// record a ledger is known to be in Kafka.
func NewIndex(log Log, position func(tributary.LedgerID) tributary.LSN) *Index {
	return &Index{log: log, position: position, updating: make(chan struct{}, 1), ledgers: map[tributary.LedgerID]*indexed{}}
}

// Update looks at what has become durable. It returns nil when it has looked at all
// that was when it was called; else ctx's error, or the log's.
func (x *Index) Update(ctx context.Context) error {
	select {
	case x.updating <- struct{}{}:
		defer func() { <-x.updating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	all := x.log.Held()
	x.refresh(all)
	x.forget(all)
	var errs []error
	for _, h := range all {
		if err := x.follow(ctx, h); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// refresh takes note of what is held.
func (x *Index) refresh(all []Held) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range all {
		position := x.position(h.Ledger)
		l := x.ledgers[h.Ledger]
		if l == nil {
			from := max(h.From, min(position, h.To-min(h.To, lookBack)))
			l = &indexed{from: from, next: from, pruned: position, clients: map[string]*place{}, ids: map[string]map[uint16]*idState{}}
			x.ledgers[h.Ledger] = l
		}
		l.held = max(l.held, h.To)
		x.prune(l, position)
	}
}

// forget forgets the ledgers that are no longer held: all of them is in Kafka, or
// gone. What was not released in them is remembered.
func (x *Index) forget(all []Held) {
	there := map[tributary.LedgerID]bool{}
	for _, h := range all {
		there[h.Ledger] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, l := range x.ledgers {
		if there[id] {
			continue
		}
		l.close()
		l.next, l.held = max(l.next, l.held), max(l.next, l.held)
		x.drop(l)
		for client, of := range l.ids {
			for id, s := range of {
				if s.released {
					x.deleteID(l, client, id)
				}
			}
		}
		if len(l.ids) == 0 {
			delete(x.ledgers, id)
		}
	}
}

// prune forgets the clients all of whose records in l are in Kafka.
func (x *Index) prune(l *indexed, position tributary.LSN) {
	if position <= l.pruned {
		return
	}
	l.pruned = position
	for client, p := range l.clients {
		if p.end <= position {
			delete(l.clients, client)
			x.places--
		}
	}
}

func (x *Index) drop(l *indexed) {
	x.places -= len(l.clients)
	clear(l.clients)
}

// follow looks at what is new of a ledger.
func (x *Index) follow(ctx context.Context, h Held) error {
	x.mu.Lock()
	l := x.ledgers[h.Ledger]
	l.next = max(l.next, h.From) // what is below is in Kafka, or gone
	next := l.next
	x.mu.Unlock()
	if next >= h.To {
		l.close()
		return nil
	}
	if l.reader == nil {
		r, err := x.log.Read(h.Ledger)
		if err != nil {
			return err
		}
		l.reader = r
		if start := r.GroupStart(next); start < next {
			next = start
		}
	}
	for next < h.To {
		c, err := l.reader.Read(ctx, next, readBytes)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			l.close() // it is found anew
			return err
		}
		x.mu.Lock()
		for i := range c.Entries {
			if e := &c.Entries[i]; e.LSN >= l.next {
				x.note(l, e)
			}
		}
		l.next = max(l.next, c.Next)
		x.mu.Unlock()
		next = c.Next
	}
	return nil
}

func (l *indexed) close() {
	if l.reader != nil {
		l.reader.Close()
		l.reader = nil
	}
}

// note takes up one record.
func (x *Index) note(l *indexed, e *record.Entry) {
	if e.Stream == "" && len(e.Headers) == 0 {
		x.noteControl(l, e)
		return
	}
	var client, topic, qos, id []byte
	var stamp mark.Stamp
	for i := range e.Headers {
		switch h := &e.Headers[i]; h.Key {
		case headerClientID:
			client = h.Value
		case headerTopic:
			topic = h.Value
		case headerQoS:
			qos = h.Value
		case headerPacketID:
			id = h.Value
		case mark.StampKey:
			stamp, _ = mark.ParseStamp(h.Value)
		}
	}
	if client == nil {
		return
	}
	x.place(l, client, e.LSN+1, stamp.Epoch)
	if len(id) != 2 || string(qos) != "2" {
		return
	}
	pid := binary.BigEndian.Uint16(id)
	was := l.ids[string(client)][pid]
	x.setID(l, string(client), pid, idState{
		lsn: e.LSN, epoch: stamp.Epoch, sum: mark.Sum(topic, e.Value),
		sticky: stamp.Flags != 0 || was != nil && was.sticky,
	})
}

func (x *Index) noteControl(l *indexed, e *record.Entry) {
	switch string(e.Key) {
	case mark.HandoffKey:
		if h, err := mark.ParseHandoff(e.Value); err == nil {
			x.place(l, []byte(h.Client), e.LSN+1, h.Epoch)
		}
	case mark.ReleaseKey:
		if r, err := mark.ParseRelease(e.Value); err == nil {
			x.release(l, e.LSN, &r)
		}
	case mark.CleanKey:
		r, err := mark.ParseClean(e.Value)
		if err != nil {
			return
		}
		x.ids -= len(l.ids[r.Client])
		delete(l.ids, r.Client)
		x.release(l, e.LSN, &r)
	}
}

// release notes that a packet id, or all of a client, are free. Where an older ledger
// may say otherwise that is remembered: which of them counts, the epoch says.
func (x *Index) release(l *indexed, lsn tributary.LSN, r *mark.Ending) {
	was := l.ids[r.Client][r.PacketID]
	if r.Epoch == 0 || was != nil && !was.sticky {
		x.deleteID(l, r.Client, r.PacketID)
		return
	}
	x.setID(l, r.Client, r.PacketID, idState{lsn: lsn, epoch: r.Epoch, released: true, sticky: true})
}

func (x *Index) place(l *indexed, client []byte, end tributary.LSN, epoch uint64) {
	if end <= l.pruned || end <= l.crowded {
		return
	}
	if p := l.clients[string(client)]; p != nil {
		p.end, p.epoch = end, max(p.epoch, epoch)
		return
	}
	if x.places >= mostPlaces {
		l.crowded = l.held
		x.drop(l)
		return
	}
	l.clients[string(client)] = &place{end, epoch}
	x.places++
}

func (x *Index) setID(l *indexed, client string, id uint16, s idState) {
	of := l.ids[client]
	if p := of[id]; p != nil {
		*p = s
		return
	}
	if x.ids >= mostIDs {
		l.partial = true
		return
	}
	if of == nil {
		of = map[uint16]*idState{}
		l.ids[client] = of
	}
	of[id] = &s
	x.ids++
}

func (x *Index) deleteID(l *indexed, client string, id uint16) {
	of := l.ids[client]
	if _, there := of[id]; !there {
		return
	}
	x.ids--
	if delete(of, id); len(of) == 0 {
		delete(l.ids, client)
	}
}

// look says how far clients are in all that this node holds. It adds what it knows
// of their epochs to epochs.
func (x *Index) look(clients []peer.Device, epochs []uint64) *peer.Collected {
	x.refresh(x.log.Held())
	x.mu.Lock()
	defer x.mu.Unlock()
	m := &peer.Collected{Epochs: epochs, Held: make([]bool, len(clients))}
	for id, l := range x.ledgers {
		position := x.position(id)
		if l.held <= position && len(l.ids) == 0 {
			continue
		}
		if len(m.Ledgers) >= peer.MaxLedgers {
			m.Partial = true
			break
		}
		behind := l.next < l.held
		at := peer.Looked{Ledger: id, From: l.from, To: max(l.held, l.next), All: behind || l.crowded > position}
		m.Partial = m.Partial || l.partial || behind
		for i := range clients {
			at.All = l.add(m, uint16(i), clients[i].ID) || at.All
		}
		m.Ledgers = append(m.Ledgers, at)
	}
	return m
}

// add adds to m what the ledger, which m is to have next, says of a client. It returns
// whether there was no room for where its last record is.
func (l *indexed) add(m *peer.Collected, i uint16, client string) (full bool) {
	n := uint16(len(m.Ledgers))
	if p := l.clients[client]; p != nil {
		m.Epochs[i] = max(m.Epochs[i], p.epoch)
		if full = len(m.Ends) >= peer.MaxEnds; !full {
			m.Ends = append(m.Ends, peer.ClientEnd{Client: i, Ledger: n, End: p.end})
		}
	}
	for id, s := range l.ids[client] {
		if len(m.IDs) >= peer.MaxIDs {
			m.Partial = true
			break
		}
		m.IDs = append(m.IDs, peer.PacketID{Client: i, Ledger: n, ID: id, Released: s.released, LSN: s.lsn, Epoch: s.epoch, Sum: s.sum})
	}
	return full
}
