//go:build break_probe

package store

const (
	ackBeforeSync = false
	retryFlush    = false
	keepOldName   = false
	probeAlone    = true
)
