//go:build break_retry

package store

const (
	ackBeforeSync = false
	retryFlush    = true
	keepOldName   = false
	probeAlone    = false
)
