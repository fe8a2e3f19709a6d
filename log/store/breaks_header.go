//go:build break_header

package store

const (
	ackBeforeSync = false
	retryFlush    = false
	keepOldName   = true
	probeAlone    = false
)
