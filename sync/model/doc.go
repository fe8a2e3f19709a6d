// Package model is the replication protocol of a site as a small world that
// can be run a million times, so that a schedule which breaks an invariant is
// found by search and not by a customer.
//
// It models the rules R1 to R71 and the invariants I1 to I9 of
// docs/REPLICATION.md: nodes with their ledgers and copies, a lossy network,
// the transaction coordinator of Kafka, and devices that roam. Time is
// virtual and every choice comes from one seed, so a run is the same run
// whenever it is repeated. Nothing here is used by the program; the program
// has to do what this does.
//
// Read it in this order: ledger and disk (what is kept), network and kafka
// (what is outside), node, replicate, ack, catchup and trim (copies),
// forwarder, transact, watch and hold (the way to Kafka), device, session,
// handoff and commands (devices), then faults, scenarios, variants and check.
package model
