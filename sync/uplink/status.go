package uplink

import (
	"fmt"

	"github.com/tributary-edge/tributary"
)

// Observer is told how a Forward gets on, from the goroutine that called it:
// an Observer must return soon, and not call back.
type Observer interface {
	// Committed is called after each transaction, when Kafka has said that it
	// is committed, and when the position in Kafka is found to be ahead of all
	// that was reported; then the counts are 0.
	Committed(Commit)
	// State is called when the state changes, and again at each failed try.
	State(Status)
}

// A Commit is one transaction that Kafka has committed.
type Commit struct {
	Position       tributary.Position // everything below is in Kafka
	Records        int                // sent to topics, dead letters among them, gap records not
	DeadLetters    int                // sent to the dead-letter topic
	Gaps           int                // gap records sent to the dead-letter topic
	GapRecords     uint64             // records of the ledger that are gone, as those say
	Bytes          int                // keys, values and headers, before compression
	KafkaClusterID string             // where; "" when that Kafka has no id
}

// State is what a Forward is doing.
type State uint8

// The states of a Forward.
const (
	Connecting State = iota // looking for Kafka for the first time
	Forwarding              // the position is known; chunks are sent as they come
	Waiting                 // something is wrong and will be tried again
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Forwarding:
		return "forwarding"
	case Waiting:
		return "waiting"
	default:
		return fmt.Sprintf("state %d", uint8(s))
	}
}

// Status is a state with its reason, in words for a status page. What is safe
// is for the caller to add: uplink only reads the ledger, so whatever the state,
// nothing is lost, and the caller knows how much waits.
type Status struct {
	State    State
	What     string // what happened; "" when nothing is wrong
	Do       string // what a person can do about it; "" when waiting is all
	Err      error  // the error behind What, for the log; nil when nothing is wrong
	Counters Counters
}

// Counters count from the call of Forward.
type Counters struct {
	Transactions uint64 // committed
	DeadLetters  uint64 // records sent to the dead-letter topic
	Gaps         uint64 // gap records sent there
	GapRecords   uint64 // records that are gone, as those say
	Failed       uint64 // tries that ended in an error
	Fenced       uint64 // tries that ended because another forwarder took over
}

// StoppedError says that a ledger cannot be forwarded before a person has looked
// at it: what Kafka holds and what this node holds contradict each other, and going
// on could lose or double records. The ledger is as it was. Forward returns it.
type StoppedError struct {
	What string // what contradicts
	Do   string // what to do
}

// Error returns what happened, what is safe and what to do.
func (s *StoppedError) Error() string {
	return s.What + ". Nothing is lost: the records stay on this node, and none was sent twice. " + s.Do
}
