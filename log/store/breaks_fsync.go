//go:build break_fsync

package store

const (
	ackBeforeSync = true
	retryFlush    = false
	keepOldName   = false
	probeAlone    = false
)
