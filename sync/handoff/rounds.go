//go:build !break_round

package handoff

// noCollect leaves out the second round, so that nobody says how far a device is. It is
// a test's way to show that the tests notice: see Makefile, teeth.
const noCollect = false
