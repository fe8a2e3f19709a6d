// Package record is a message at rest: its fields, and their bytes in Kafka's
// record format v2.
//
// The bytes are those of the records section of a Kafka RecordBatch (magic 2),
// so that a run of them can be served to a Kafka client as it is. The package
// is pure: no files, no goroutines, no clock.
package record

import "github.com/tributary-edge/tributary"

// MinBytes is the least that a record takes, encoded: its length, attributes,
// two deltas, no key, no value and no headers.
const MinBytes = 7

// A Header is one named value that travels with a record, as in Kafka.
type Header struct {
	Key   string
	Value []byte
}

// A Record is one message. Stream is the Kafka topic it is meant for; the
// empty stream holds the log's own control records, which are never sent to a
// data topic. Headers whose key starts with "_" stay on the gateway.
type Record struct {
	Stream    string
	Partition int32
	Millis    int64 // Unix time
	Key       []byte
	Value     []byte
	Headers   []Header
}

// An Entry is a record with its place: LSN in its ledger, Offset in its
// partition of that ledger.
type Entry struct {
	LSN    tributary.LSN
	Offset int64
	Record
}

// A Chunk is one or more whole, consecutive, durable groups of one ledger: the
// records [From, Next) in the order of their LSNs. Chain is the ledger's chain
// at Next. The slices in it belong to whoever received the chunk.
type Chunk struct {
	From, Next tributary.LSN
	Chain      uint64
	Entries    []Entry
}

// Header returns the value of the first header with that key, or nil.
func (r *Record) Header(key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}
