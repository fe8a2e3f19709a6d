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
	CollectWithoutNonces                     // R42: the others are not told who has restarted
	HandoffBeforeFsync                       // R42: no barrier
	LeaseFromReceipt                         // R44: counted from when the STATUS came
	LeaseWithoutSlack                        // R44
	LeaseForgetsMissing                      // R44: any number of nodes may be missing
	LeaseForgetsOldLedgers                   // R44: ledgers of earlier processes do not matter
	NoLease                                  // R44: whoever is silent makes a hand-off incomplete
	HoldBlind                                // R45: time without Kafka counts, and what the node holds itself
	ResendsAreOvertaken                      // R47: newer publishes do not wait
	ResendsAreBelieved                       // R47: a record of another ledger is acknowledged unseen
	RemovedAtOnce                            // R70: a node that is removed is not asked, whether it knows or not
	LeavesEarly                              // R70: a removed node leaves as soon as it knows
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
	{Name: "reopen_flushed", About: "C2: only flushed records are sent", Within: 100, Set: trap(ReopenTrusted|ReplicateAfterFsync, 2, tailIsNotDurable)},
	{Name: "reopen_flushed_lying", About: "C3", Within: 100, Set: breaking(ReopenTrusted|ReplicateAfterFsync, func(c *Config) { c.Rates.Lying = 0.3 })},
	{Name: "reopen_flushed_image", About: "C3", Within: 100, Set: breaking(ReopenTrusted|ReplicateAfterFsync, func(c *Config) {
		c.Rates.Rollback, c.Rates.MaxDestroyed = 0.08, 2
	})},
	{Name: "copy_acks_early", About: "C4", Within: 100, Set: breaking(CopyAcksBeforeFsync, func(c *Config) {
		c.Rates.SiteCut, c.Rates.Destroy, c.Rates.MaxDestroyed = 0.1, 0.1, 1
	})},
	{Name: "no_reinit", About: "C5", Within: 100, Set: breaking(NoReinit, func(c *Config) { c.TV2 = false })},
	{Name: "cached_position", About: "C6", Within: 100, Set: breaking(CachedPosition)},
	{Name: "no_epoch_check", About: "C6b", Within: 100, Set: breaking(NoEpochCheck, func(c *Config) { c.Rates.Spike = 0.08 })},
	{Name: "no_transactions", About: "C6b", Within: 100, Set: breaking(NoTransactions)},
	{Name: "timeout_is_commit", About: "C7", Within: 100, Set: breaking(TimeoutIsCommit)},
	{Name: "position_expires", About: "C8", Within: 100, Set: breaking(PositionExpires)},
	{Name: "position_guessed", About: "C8", Within: 100, Set: breaking(PositionExpires|PositionGuessed, (*Config).badDisks)},
	{Name: "trim_by_copies", About: "C9", Within: 100, Set: breaking(TrimByCopies, (*Config).badDisks)},
	{Name: "no_backfill", About: "C10", Within: 100, Set: breaking(NoBackfill)},
	{Name: "no_handoff", About: "C11", Within: 100, Set: breaking(NoHandoff)},
	{Name: "handoff_before_fsync", About: "C12", Within: 100, Set: trap(HandoffBeforeFsync, 2, unflushed, strict)},
	{Name: "hold_blind", About: "C13", Within: 100, Set: trap(HoldBlind, 1, outageAtMark, alone, expects(neverFlags))},
	{Name: "silence", About: "C14: two nodes apart", Within: 100, Set: trap(TakeOverOnSilence, 2, twoApart, expects(noTakeOver))},
	{Name: "overtaken", About: "C15", Within: 100, Set: trap(ResendsAreOvertaken, 3, onlyThere, qos2)},
	{Name: "forward_unacked", About: "C16", Within: 1000, Set: breaking(ForwardUnacked, func(c *Config) { c.QoS2 = true })},
	{Name: "one_round", About: "C17", Within: 100, Set: trap(OneRound, 3, lateStream, qos2, alone)},
	{Name: "streams_stay_open", About: "C17", Within: 100, Set: trap(StreamsStayOpen, 3, lateStream, qos2, alone)},
	{Name: "collect_without_nonces", About: "C22", Within: 100, Set: trap(CollectWithoutNonces, 3, lateStream, qos2, alone)},
	{Name: "answers_of_any_try", About: "C21", Within: 100, Set: trap(AnswersOfAnyTry, 3, staleAnswer, qos2, alone)},
	{Name: "old_connection", About: "C18", Within: 100, Set: breaking(OldConnectionStays, func(c *Config) {
		c.QoS2 = true
		c.Rates.Move, c.Rates.Spike = 0.6, 0.08
	})},
	{Name: "lease_from_receipt", About: "C19", Within: 100, Set: trap(LeaseFromReceipt, 2, slowStatus)},
	{Name: "lease_without_slack", About: "C19", Within: 500, Set: trap(LeaseWithoutSlack, 2, nearlyShort)},
	{Name: "lease_forgets_missing", About: "C19", Within: 100, Set: breaking(LeaseForgetsMissing, func(c *Config) {
		c.Refuse, c.Nodes, c.Rates.Partition = true, 4, 0.2
	})},
	{Name: "lease_forgets_old", About: "C19", Within: 100, Set: trap(LeaseForgetsOldLedgers, 2, oldLedger, early)},
	{Name: "removed_at_once", About: "C23", Within: 100, Set: trap(RemovedAtOnce, 2, removedApart, early)},
	{Name: "leaves_early", About: "C23", Within: 1000, Set: breaking(LeavesEarly, func(c *Config) {
		c.Rates.Members, c.QoS2 = 0.3, true
	})},
	{Name: "commands_skip", About: "C20", Within: 100, Set: breaking(CommandsSkip, func(c *Config) { c.Commands = true })},
	{Name: "resends_believed", About: "R47", Within: 100, Set: trap(ResendsAreBelieved, 3, onlyThere, qos2, refusing)},
	{Name: "no_roll", About: "R16", Within: 100, Set: breaking(NoRoll, cloned)},
	{Name: "no_chain", About: "R8", Within: 100, Set: breaking(NoChain, cloned)},
}

// cloned is the scenario liveclone with all promised: a violation with the
// rules kept is rare, and without them common.
func cloned(c *Config) {
	liveClone(c, 0)
	c.NotPromised = nil
}
