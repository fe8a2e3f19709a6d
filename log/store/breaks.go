//go:build !break_fsync && !break_retry && !break_header && !break_probe

package store

// Deliberate defects that the crash tests must catch: they are run once with
// each, by -tags break_fsync and so on, and have to fail.
const (
	ackBeforeSync = false // break_fsync: a group is acknowledged before it is flushed
	retryFlush    = false // break_retry: a flush that failed is tried again, and believed
	keepOldName   = false // break_header: a segment is used again before its new name is durable
	probeAlone    = false // break_probe: the watchdog is fed though the committer hangs
)
