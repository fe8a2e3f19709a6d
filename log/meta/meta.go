// Package meta keeps the few small facts that are not records: who this node
// is, how far Kafka is known to be, and a checkpoint of the QoS 2 packet ids.
//
// It is the sole user of bbolt, and never on the path of a message: a commit
// costs two flushes, so what changes often is written at most every ten
// seconds. Positions are lower bounds: Kafka knows better. The checkpoint shortens
// what is read at a start; of packet ids whose records the log no longer holds it
// is the only memory.
package meta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/tributary-edge/tributary"
)

// FileName is the name of the file in the data directory.
const FileName = "meta.db"

// DB is an open meta file. Its methods may be called at once.
type DB struct {
	db      *bolt.DB
	page    int64 // how large one is, in bytes
	commits atomic.Int64
	broken  atomic.Bool // the file was seen to be damaged: bbolt may hold its locks for ever
}

var errBroken = errors.New(FileName + " is damaged; it is set aside and made anew at the next start")

// guard runs f, which looks at the file. bbolt reads through a memory map, where
// what the disk does not give back, and a file that was cut, are faults that
// would end the process, and it panics on some damaged pages.
func (d *DB) guard(f func() error) (err error) {
	if d.broken.Load() {
		return errBroken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			d.broken.Store(true)
			err = fmt.Errorf("%w: %v", errBroken, p)
		}
	}()
	return f()
}

// Version is the format version of the file's content.
const Version = 1

//nolint:gochecknoglobals // constants
var (
	bucketNode      = []byte("node")
	bucketPositions = []byte("positions") // ledger id -> JSON of Position
	bucketSessions  = []byte("sessions")  // client id -> the state of its session, as ingest/session has it
	bucketRetained  = []byte("retained")  // topic -> its retained message, as ingest has it
	keyVersion      = []byte("version")
	keyNodeID       = []byte("id")
	keyBoots        = []byte("boots")
	keyQoS2         = []byte("qos2")
	keyOthers       = []byte("others")
)

// Open opens the meta file in dir, or makes it. A file that is damaged is set
// aside under the name returned in aside, and a new one is made: the node gets
// a new id and loses nothing that was acknowledged.
func Open(dir string) (d *DB, aside string, err error) {
	path := filepath.Join(dir, FileName)
	d, err = open(path)
	if err == nil {
		return d, "", nil
	}
	if !damaged(err) {
		return nil, "", err
	}
	aside = fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	if err := os.Rename(path, aside); err != nil {
		return nil, "", fmt.Errorf("set damaged %s aside: %w", path, err)
	}
	d, err = open(path)
	return d, aside, err
}

// damaged says whether it is the content of the file that keeps it from being
// opened: an error of the operating system, such as too many open files, passes.
func damaged(err error) bool {
	return !errors.As(err, new(*VersionError)) && !errors.As(err, new(syscall.Errno)) && !errors.Is(err, bolterrors.ErrTimeout)
}

// A VersionError says that a newer Tributary wrote the file.
type VersionError struct{ Version uint64 }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d and this program reads %d: run the newer program that wrote it; nothing was changed",
		FileName, e.Version, Version)
}

func open(path string) (d *DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // see guard
	defer func() {
		if p := recover(); p != nil { // bbolt panics on some damaged pages
			d, err = nil, fmt.Errorf("open %s: damaged: %v", path, p)
		}
	}()
	// The free list is stored: finding it anew at an open would have bbolt walk
	// all pages in a goroutine of its own, where a damaged one ends the process.
	db, err := bolt.Open(path, 0o640, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d = &DB{db: db, page: int64(db.Info().PageSize)}
	err = d.update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketPositions, bucketSessions, bucketRetained} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucketIfNotExists(bucketNode)
		if err != nil {
			return err
		}
		if v := b.Get(keyVersion); v != nil && binary.BigEndian.Uint64(pad(v)) > Version {
			return &VersionError{Version: binary.BigEndian.Uint64(pad(v))}
		}
		return b.Put(keyVersion, binary.BigEndian.AppendUint64(nil, Version))
	})
	if err != nil {
		err = fmt.Errorf("open %s: %w", path, err)
		if d.broken.Load() {
			return nil, err // what is locked stays so
		}
		return nil, errors.Join(err, db.Close())
	}
	if err := d.touch(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return d, nil
}

// touch reads all that is in the file: what cannot be read is found at once.
func (d *DB) touch() error {
	return d.view(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				_, _ = bytes.Clone(k), bytes.Clone(v)
				return nil
			})
		})
	})
}

// view runs f in a transaction that changes nothing.
func (d *DB) view(f func(tx *bolt.Tx) error) error {
	return d.guard(func() error { return d.db.View(f) })
}

// update runs f in a transaction, which is durable when update returns nil.
func (d *DB) update(f func(tx *bolt.Tx) error) error {
	d.commits.Add(1)
	return d.guard(func() error { return d.db.Update(f) })
}

// Written returns what was given to the device since Open, in bytes and flushes.
// A commit writes the pages that it has changed and flushes, then writes one that
// names them and flushes again.
func (d *DB) Written() (written, flushes int64) {
	stats, commits := d.db.Stats(), d.commits.Load()
	return stats.TxStats.GetPageAlloc() + commits*d.page, 2 * commits
}

// pad makes an eight-byte number of a value that may be damaged.
func pad(v []byte) []byte {
	var b [8]byte
	copy(b[:], v)
	return b[:]
}

// Close closes the file.
func (d *DB) Close() error {
	if d.broken.Load() {
		return nil
	}
	return d.db.Close()
}

// Identity is who a node is.
type Identity struct {
	Node  tributary.NodeID
	Boots uint64 // starts of this node so far, this one included
}

// Start returns the node's identity with its start counted, durably.
func (d *DB) Start() (id Identity, err error) {
	err = d.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNode)
		if v := b.Get(keyNodeID); len(v) == len(id.Node) {
			copy(id.Node[:], v)
		} else {
			id.Node = tributary.NewNodeID()
			if err := b.Put(keyNodeID, id.Node[:]); err != nil {
				return err
			}
		}
		id.Boots = binary.BigEndian.Uint64(pad(b.Get(keyBoots))) + 1
		return b.Put(keyBoots, binary.BigEndian.AppendUint64(nil, id.Boots))
	})
	return id, err
}

// Renew makes the node another one, durably: with a new id, whose starts go on to be
// counted where those of the old one were. Somebody else has the old id.
func (d *DB) Renew() (id Identity, err error) {
	err = d.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNode)
		id = Identity{Node: tributary.NewNodeID(), Boots: binary.BigEndian.Uint64(pad(b.Get(keyBoots)))}
		return b.Put(keyNodeID, id.Node[:])
	})
	return id, err
}

type position struct {
	Next  tributary.LSN `json:"next"`
	Chain uint64        `json:"chain"`
}

// Positions returns what is known to be in Kafka: for each ledger a lower bound.
func (d *DB) Positions() (ps []tributary.Position, err error) {
	err = d.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketPositions).ForEach(func(k, v []byte) error {
			var p position
			if len(k) != len(tributary.LedgerID{}) || json.Unmarshal(v, &p) != nil {
				return nil //nolint:nilerr // a hint that cannot be read is no hint
			}
			ps = append(ps, tributary.Position{Ledger: tributary.LedgerID(k), Next: p.Next, Chain: p.Chain})
			return nil
		})
	})
	return ps, err
}

// A Checkpoint is the state of the door after every record of a ledger below
// Next. Its slices belong to whoever made or read it.
type Checkpoint struct {
	Ledger tributary.LedgerID
	Next   tributary.LSN
	State  []byte // of the QoS 2 packet ids
	Others []byte // how far the ledgers of other gateways were given to subscribers; nil: none were

	// To Save, what has changed; a nil value is gone. From Checkpoint, all there is.
	Sessions map[string][]byte // by client id
	Retained map[string][]byte // by topic
}

// Save stores positions and a checkpoint (nil: none) in one durable commit, and
// drops the positions of ledgers that keep does not want any more.
func (d *DB) Save(positions []tributary.Position, c *Checkpoint, keep func(tributary.LedgerID) bool) error {
	return d.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketPositions)
		if err := b.ForEach(func(k, _ []byte) error {
			if len(k) == len(tributary.LedgerID{}) && keep(tributary.LedgerID(k)) {
				return nil
			}
			return b.Delete(k)
		}); err != nil {
			return err
		}
		for _, p := range positions {
			v, err := json.Marshal(position{p.Next, p.Chain})
			if err != nil {
				return err
			}
			if err := b.Put(p.Ledger[:], v); err != nil {
				return err
			}
		}
		if c == nil {
			return nil
		}
		if err := change(tx.Bucket(bucketSessions), c.Sessions); err != nil {
			return err
		}
		if err := change(tx.Bucket(bucketRetained), c.Retained); err != nil {
			return err
		}
		if err := change(tx.Bucket(bucketNode), map[string][]byte{string(keyOthers): c.Others}); err != nil {
			return err
		}
		v := append([]byte(nil), c.Ledger[:]...)
		v = binary.BigEndian.AppendUint64(v, uint64(c.Next))
		return tx.Bucket(bucketNode).Put(keyQoS2, append(v, c.State...))
	})
}

func change(b *bolt.Bucket, changed map[string][]byte) error {
	for key, v := range changed {
		var err error
		if v == nil {
			err = b.Delete([]byte(key))
		} else {
			err = b.Put([]byte(key), v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func all(b *bolt.Bucket) (map[string][]byte, error) {
	m := map[string][]byte{}
	return m, b.ForEach(func(k, v []byte) error {
		m[string(k)] = bytes.Clone(v)
		return nil
	})
}

// Checkpoint returns the checkpoint saved last; ok is false if there is none.
func (d *DB) Checkpoint() (c Checkpoint, ok bool, err error) {
	err = d.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketNode).Get(keyQoS2)
		if ok = len(v) >= len(c.Ledger)+8; !ok {
			return nil
		}
		n := copy(c.Ledger[:], v)
		c.Next = tributary.LSN(binary.BigEndian.Uint64(v[n:]))
		c.State = append([]byte(nil), v[n+8:]...)
		c.Others = bytes.Clone(tx.Bucket(bucketNode).Get(keyOthers))
		if c.Sessions, err = all(tx.Bucket(bucketSessions)); err != nil {
			return err
		}
		c.Retained, err = all(tx.Bucket(bucketRetained))
		return err
	})
	return c, ok, err
}
