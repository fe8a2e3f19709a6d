//go:build !break_fsync

package store

// ackBeforeSync is the deliberate defect that the power-cut tests must catch:
// they are run once with it, by -tags break_fsync, and have to fail.
const ackBeforeSync = false
