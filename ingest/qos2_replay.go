package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// Control records of the log that belong to QoS 2. Their stream is empty,
// they have no headers, and their value starts with a format version.
//
//	qos2.release  version 1 (1 byte), packet id (2 bytes, big endian), client id (the rest)
//	qos2.clean    version 1 (1 byte), client id (the rest)
//
// Where there are other gateways they have version 2, and behind it the epoch of the
// session (8 bytes, big endian): see log/mark.
const (
	keyRelease     = mark.ReleaseKey
	keyClean       = mark.CleanKey
	controlVersion = 1
)

// A snapshot, in order: version 1 (1 byte); the number of clients (uvarint);
// for each client, in ascending order, the length of its id (uvarint), the
// id, the number of packet ids (uvarint), and the packet ids, ascending (2
// bytes each, big endian); at the end the CRC-32C of all that (4 bytes, big
// endian).
const snapshotVersion = 1

var errSnapshot = errors.New("the checkpoint of QoS 2 packet ids is damaged; " +
	"nothing is lost: replay all ledgers instead of what follows the checkpoint")

// ForgetPacketIDs drops all that Restore and Replay have learnt so far. The
// node calls it between two calls of Replay, when it meets a damaged stretch
// of the log: the release of any id may have been there, and the next message
// with an id that was released is acknowledged and dropped. Without the ids,
// a message that is sent again is logged again: a second copy can be seen in
// Kafka, a lost message cannot. It is called before Run.
func (d *Door) ForgetPacketIDs() { d.q2.forget() }

func (q *qos2) replay(e *record.Entry) error {
	if forgetQoS2 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Header(headerTopic) != nil {
		if pid := e.Header(headerPacketID); len(pid) == 2 && string(e.Header(headerQoS)) == "2" {
			q.learn(string(e.Header(headerClientID)), binary.BigEndian.Uint16(pid))
		}
		return nil
	}
	if e.Stream != "" {
		return nil
	}
	switch string(e.Key) {
	case keyRelease:
		end, err := mark.ParseRelease(e.Value)
		if err != nil {
			return fmt.Errorf("replay record %d: unknown form of %s % x: it was written by another version of the program", e.LSN, keyRelease, e.Value)
		}
		q.durable.remove(end.Client, end.PacketID)
		q.remove(end.Client, end.PacketID)
	case keyClean:
		end, err := mark.ParseClean(e.Value)
		if err != nil {
			return fmt.Errorf("replay record %d: unknown form of %s % x: it was written by another version of the program", e.LSN, keyClean, e.Value)
		}
		delete(q.durable, end.Client)
		q.removeAll(end.Client)
	}
	return nil
}

// learn notes an id that an earlier process logged and did not see released.
func (q *qos2) learn(client string, pid uint16) {
	q.durable.add(client, pid)
	q.put(client, pid, q2entry{state: q2Durable, logged: true})
}

func (q *qos2) snapshot() (tributary.LedgerID, tributary.LSN, []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := binary.AppendUvarint([]byte{snapshotVersion}, uint64(len(q.durable)))
	for _, client := range slices.Sorted(maps.Keys(q.durable)) {
		ids := q.durable[client]
		b = binary.AppendUvarint(b, uint64(len(client)))
		b = append(b, client...)
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, pid := range slices.Sorted(maps.Keys(ids)) {
			b = binary.BigEndian.AppendUint16(b, pid)
		}
	}
	return q.ledger, q.next, binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func (q *qos2) restore(b []byte) error {
	ids, err := parseSnapshot(b)
	if err != nil {
		return err
	}
	if forgetQoS2 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for client, pids := range ids {
		for pid := range pids {
			q.learn(client, pid)
		}
	}
	return nil
}

func parseSnapshot(b []byte) (unreleased, error) {
	if len(b) < 6 || crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, errSnapshot
	}
	if b[0] != snapshotVersion {
		return nil, fmt.Errorf("%w (version %d)", errSnapshot, b[0])
	}
	b = b[1 : len(b)-4]
	clients, b, ok := takeUvarint(b)
	all := unreleased{}
	for ; ok && clients > 0; clients-- {
		var size, count uint64
		if size, b, ok = takeUvarint(b); !ok || size > uint64(len(b)) {
			return nil, errSnapshot
		}
		client := string(b[:size])
		if count, b, ok = takeUvarint(b[size:]); !ok || count == 0 || count > uint64(len(b)/2) {
			return nil, errSnapshot
		}
		for range count {
			all.add(client, binary.BigEndian.Uint16(b))
			b = b[2:]
		}
	}
	if !ok || len(b) > 0 {
		return nil, errSnapshot
	}
	return all, nil
}

func takeUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, b, false
	}
	return v, b[n:], true
}
