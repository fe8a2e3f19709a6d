package model

import "time"

// A kafka is the part of Apache Kafka that decides: the transaction
// coordinator, the leaders of the data partitions, and the positions topic.
// The transactional.id is the ledger (R20), so producers are numbered like
// ledgers. An outage loses requests, never what is committed.
type kafka struct {
	w         *world
	up        bool
	txns      []*transaction // by ledger
	parts     []*partition
	positions []position // by ledger: the positions topic, compacted, which never expires
	written   []time.Duration
}

type txnState int

const (
	txnEmpty txnState = iota
	txnOngoing
	txnPrepareCommit
	txnPrepareAbort
	txnCommitted
	txnAborted
)

// A transaction is what the coordinator knows of one transactional.id.
type transaction struct {
	epoch   int32
	state   txnState
	parts   []bool
	next    position // in the transaction, not committed
	started time.Duration
	markers int // not written yet
}

// A partition of a data topic, as its leader keeps it.
type partition struct {
	log       []entry
	producers []producerState // by ledger
}

type producerState struct {
	known   bool
	epoch   int32
	lastSeq int64
	open    bool // in a transaction that the leader knows of
}

// An outcome is what became of a record's transaction.
type outcome uint8

const (
	open outcome = iota
	committed
	aborted
)

// An entry is a record in a partition, or a marker.
type entry struct {
	ledger ledgerNo
	lsn    int64
	record *record
	marker bool
	late   bool // flagged, because the writer was said to be lost (R71)
	state  outcome
}

const txnTimeout = 3 * sec

func newKafka(w *world) *kafka {
	k := &kafka{w: w, up: true}
	for range w.Partitions {
		k.parts = append(k.parts, &partition{})
	}
	k.expire()
	return k
}

// expire aborts transactions that were left open.
func (k *kafka) expire() {
	for l, t := range k.txns {
		if t != nil && t.state == txnOngoing && k.w.now-t.started > txnTimeout {
			t.epoch++
			k.end(ledgerNo(l), t, false)
		}
	}
	k.w.after(250*ms, k.expire)
}

// initProducerID fences whoever had the ledger's epoch before. An open
// transaction is aborted first; the caller asks until that is done.
func (k *kafka) initProducerID(l ledgerNo) (int32, answer) {
	t := at(k.txns, l)
	if t == nil {
		t = &transaction{epoch: -1, parts: make([]bool, len(k.parts))}
		put(&k.txns, l, t)
	}
	switch t.state {
	case txnPrepareCommit, txnPrepareAbort:
		return 0, concurrent
	case txnOngoing:
		t.epoch++ // the marker of the abort carries the new epoch: it fences the partitions too
		k.end(l, t, false)
		return 0, concurrent
	case txnEmpty, txnCommitted, txnAborted:
	}
	t.epoch++
	t.state = txnEmpty
	k.w.logf(l, nobody, "kafka: %v has epoch %d", l, t.epoch)
	return t.epoch, fine
}

// end decides a transaction. Its markers reach the partitions, and its
// position the positions topic, one by one and later.
func (k *kafka) end(l ledgerNo, t *transaction, commit bool) {
	t.state = txnPrepareAbort
	if commit {
		t.state = txnPrepareCommit
	}
	t.markers = 1
	if k.w.TV2 {
		t.epoch++ // KIP-890 part 2: each transaction ends with a new epoch, which its markers carry
	}
	epoch := t.epoch
	written := func() {
		t.markers--
		if t.markers > 0 {
			return
		}
		t.state = txnAborted
		if commit {
			t.state = txnCommitted
		}
		clear(t.parts)
		t.next = position{}
	}
	for p, in := range t.parts {
		if !in {
			continue
		}
		t.markers++
		k.w.after(k.w.between(1*ms, 30*ms), func() {
			k.parts[p].mark(l, epoch, commit)
			written()
		})
	}
	k.w.after(k.w.between(1*ms, 30*ms), func() {
		if commit && t.next.found {
			k.setPosition(l, t.next)
		}
		written()
	})
}

func (k *kafka) setPosition(l ledgerNo, p position) {
	if old := at(k.positions, l); old.found && p.next < old.next {
		k.w.violated(I8, l, nobody, "the position of %v in Kafka moved back from %d to %d", l, old.next, p.next)
	}
	put(&k.positions, l, p)
	put(&k.written, l, k.w.now)
	k.w.logf(l, nobody, "kafka: the position of %v is %d", l, p.next)
}

// readPosition is a read_committed read of the positions topic to its end.
func (k *kafka) readPosition(l ledgerNo) (position, answer) {
	if t := at(k.txns, l); t != nil && t.state == txnPrepareCommit {
		return position{}, unstable
	}
	if k.w.broken(PositionExpires) && at(k.positions, l).found && k.w.now-k.written[l] > 4*sec {
		k.positions[l] = position{}
	}
	return at(k.positions, l), fine
}

// addPartitions begins a transaction, or adds to it.
func (k *kafka) addPartitions(l ledgerNo, epoch int32, parts []int) (struct{}, answer) {
	t := at(k.txns, l)
	if t == nil || t.epoch != epoch {
		return struct{}{}, fenced
	}
	if t.state == txnPrepareCommit || t.state == txnPrepareAbort {
		return struct{}{}, concurrent
	}
	if t.state != txnOngoing {
		t.state = txnOngoing
		clear(t.parts)
		t.next = position{}
		t.started = k.w.now
	}
	for _, p := range parts {
		t.parts[p] = true
	}
	return struct{}{}, fine
}

// produce appends a batch to a partition, if its leader takes it: epoch,
// sequence, and (KIP-890 part 1) whether the transaction is open.
func (k *kafka) produce(p int, l ledgerNo, epoch int32, seq int64, batch []entry) (struct{}, answer) {
	part := k.parts[p]
	s := part.producer(l, epoch)
	if !k.w.broken(NoEpochCheck) && epoch < s.epoch {
		return struct{}{}, fenced
	}
	s.raise(epoch)
	if seq <= s.lastSeq {
		return struct{}{}, fine // it has this batch
	}
	if seq != s.lastSeq+1 {
		return struct{}{}, outOfSequence
	}
	if !k.w.broken(NoEpochCheck) && !s.open {
		t := at(k.txns, l)
		if t == nil || t.state != txnOngoing || !t.parts[p] || t.epoch != epoch {
			return struct{}{}, fenced
		}
	}
	s.lastSeq = seq + int64(len(batch)) - 1
	s.open = true
	part.log = append(part.log, batch...)
	k.w.logRecords(l, nobody, batch[0].lsn, batch[len(batch)-1].lsn, "kafka: partition %d takes %v [%d..%d] at epoch %d", p, l, batch[0].lsn, batch[len(batch)-1].lsn, epoch)
	return struct{}{}, fine
}

// stagePosition is the position record of the transaction.
func (k *kafka) stagePosition(l ledgerNo, epoch int32, p position) (struct{}, answer) {
	t := at(k.txns, l)
	if t == nil || t.epoch != epoch || t.state != txnOngoing {
		return struct{}{}, fenced
	}
	t.next = p
	return struct{}{}, fine
}

// commitTxn is EndTxn. While the markers are being written the caller is told
// to ask again, which stands for the client's own wait.
func (k *kafka) commitTxn(l ledgerNo, epoch int32) (int32, answer) {
	t := at(k.txns, l)
	if t == nil {
		return 0, fenced
	}
	if k.w.TV2 && t.epoch == epoch+1 { // asked again for the transaction that ended
		switch t.state {
		case txnCommitted:
			return t.epoch, fine
		case txnPrepareCommit:
			return 0, concurrent
		case txnEmpty, txnOngoing, txnPrepareAbort, txnAborted:
		}
	}
	if t.epoch != epoch {
		return 0, fenced
	}
	switch t.state {
	case txnOngoing:
		k.w.logf(l, nobody, "kafka: %v commits up to %d at epoch %d", l, t.next.next, epoch)
		k.end(l, t, true)
		return 0, concurrent
	case txnPrepareCommit:
		return 0, concurrent
	case txnCommitted:
		if !k.w.TV2 {
			return epoch, fine
		}
	case txnEmpty, txnPrepareAbort, txnAborted:
	}
	return 0, badState
}

func (p *partition) producer(l ledgerNo, epoch int32) *producerState {
	if int(l) >= len(p.producers) {
		put(&p.producers, l, producerState{})
	}
	s := &p.producers[l]
	if !s.known {
		*s = producerState{known: true, epoch: epoch, lastSeq: -1}
	}
	return s
}

func (s *producerState) raise(epoch int32) {
	if epoch > s.epoch {
		s.epoch, s.lastSeq = epoch, -1
	}
}

// mark writes a transaction's marker: it decides about all entries since the
// producer's last one.
func (p *partition) mark(l ledgerNo, epoch int32, commit bool) {
	s := p.producer(l, epoch)
	s.raise(epoch)
	s.open = false
	state := aborted
	if commit {
		state = committed
	}
	for i := len(p.log) - 1; i >= 0; i-- {
		e := &p.log[i]
		if e.ledger != l {
			continue
		}
		if e.marker {
			break
		}
		e.state = state
	}
	p.log = append(p.log, entry{ledger: l, marker: true})
}
