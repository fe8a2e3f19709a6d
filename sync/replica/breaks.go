//go:build !break_copyack

package replica

// ackBeforeFlush makes a Keeper tell its peer that a group is durable before it is.
// It is a test's way to show that the tests notice: see the bubble of edge/sitetest.
const ackBeforeFlush = false
