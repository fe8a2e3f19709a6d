package model

// A Break is a rule that is not kept, on purpose. A search that finds nothing
// proves nothing unless it finds these.
type Break uint64

// The rules that can be broken.
const (
	ReopenTrusted          Break = 1 << iota // R1: a process goes on in its last ledger, and copies keep what they have
	ReopenTruncating                         // R1: the same, and copies follow the owner
	ReplicateAfterFsync                      // R5: only what is flushed is sent
	CopyAcksBeforeFsync                      // R9
	NoBackfill                               // R7, R10: a copy begins at the owner's end
	NoRoll                                   // R16
	NoChain                                  // R8, R21: nothing is compared
	StreamsStayOpen                          // R17
	CachedPosition                           // R21: the position is the one that is known
	ForwardUnacked                           // R22, the owner
	ForwardUnflushed                         // R22, others
	TimeoutIsCommit                          // R23
	NoReinit                                 // R24
	NoBackoff                                // R25
	TakeOverOnSilence                        // R26
	NoTransactions                           // R20
	NoEpochCheck                             // a Kafka that does not fence partitions
	PositionExpires                          // a group offset for a position
	PositionGuessed                          // and the known one instead of it
	TrimByCopies                             // R30
	NoHandoff                                // R40 to R43
	OldConnectionStays                       // R41
	OneRound                                 // R41, R42: COLLECT alone
	AnswersOfAnyTry                          // R42: an answer to an earlier COLLECT counts
	HandoffBeforeFsync                       // R42: no barrier
	LeaseFromReceipt                         // R44: counted from when the STATUS came
	LeaseWithoutSlack                        // R44
	LeaseForgetsMissing                      // R44: any number of nodes may be missing
	LeaseForgetsOldLedgers                   // R44: ledgers of earlier processes do not matter
	NoLease                                  // R44: whoever is silent makes a hand-off incomplete
	HoldBlind                                // R45: time without Kafka counts, and what the node holds itself
	ResendsAreOvertaken                      // R47: newer publishes do not wait
	ResendsAreBelieved                       // R47: a record of another ledger is acknowledged unseen
	CommandsSkip                             // R61: the cursor moves when a command is sent
)

// breaking returns a setting that breaks rules in a site with bad disks, or
// not, and changes more.
func breaking(b Break, more ...func(*Config)) func(*Config, uint64) {
	return func(c *Config, _ uint64) {
		c.Broken = b
		for _, m := range more {
			m(c)
		}
	}
}

// Variants are the protocol with a rule broken, each with the faults that
// show it. The numbers are those of the counter-examples in
// docs/REPLICATION.md.
var Variants = []Scenario{
	{Name: "reopen_trusted", About: "C1", Within: 100, Set: breaking(ReopenTrusted)},
	{Name: "reopen_truncating", About: "C1", Within: 100, Set: breaking(ReopenTruncating)},
}
