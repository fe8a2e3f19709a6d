//go:build !break_nosync

package disk

// neverSync is the deliberate defect that the power-cut tests must see in nearly
// every round: with -tags break_nosync nothing is ever flushed.
const neverSync = false
