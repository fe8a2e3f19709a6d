//go:build !break_round

package handoff

// oneRound leaves out the first round: that is a fault, for tests.
const oneRound = false
