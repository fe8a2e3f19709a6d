//go:build break_copyack

package replica

// ackBeforeFlush: with this build tag TestSite must fail.
const ackBeforeFlush = true
