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
	Millis    int64 // Unix time; 0 when it is appended: the log's clock says
	Key       []byte
	Value     []byte
	Headers   []Header

	// How the log is to treat it. Neither is stored.
	Urgent bool // its group does not wait for company
	Alarm  bool // it may use the room that a full log keeps for alarms
}

// An Entry is a record with its place: LSN in its ledger, Offset in its
// partition of that ledger.
type Entry struct {
	LSN    tributary.LSN
	Offset int64
	// Logged is the time that the record was logged with, where Millis has been
	// put right since: the clock of that boot was not synchronised then. Else 0.
	Logged int64
	Record
}

// A Chunk is one or more whole, consecutive, durable groups of one ledger: the
// records [From, Next) in the order of their LSNs. Chain is the ledger's chain
// at Next. The slices in it belong to whoever received the chunk.
//
// A chunk with a Gap has no entries: the records were durable once, and are gone.
type Chunk struct {
	From, Next tributary.LSN
	Chain      uint64
	Entries    []Entry
	Gap        *Gap
}

// A Gap says what is known of records that are gone.
type Gap struct {
	Reason GapReason
	// FirstMillis and LastMillis are log times between which they were logged:
	// bounds, not exact. 0: not known.
	FirstMillis, LastMillis int64
	// Streams counts them by stream, control records under "". Streams beyond
	// some bound are counted together under OtherStreams. nil: not known.
	Streams map[string]int64
}

// OtherStreams is the name in Gap.Streams for those that found no room there.
// No Kafka topic can have it.
const OtherStreams = "*"

// A GapReason says why records are gone.
type GapReason string

// The reasons.
const (
	Damaged GapReason = "damaged" // the disk no longer gives back what it had confirmed
	Dropped GapReason = "dropped" // the log was full, and its policy is to drop the oldest
)

// Header returns the value of the first header with that key, or nil.
func (r *Record) Header(key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}
