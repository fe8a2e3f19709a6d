//go:build break_round

package handoff

const oneRound = true
