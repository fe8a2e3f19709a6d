//go:build !break_fence

package uplink

// breakFence makes a session read the position before it has fenced the
// previous forwarder. It is a test's way to show that the tests notice: see
// docs/format/positions.md for how to run them with it.
const breakFence = false
