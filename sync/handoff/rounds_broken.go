//go:build break_round

package handoff

// noCollect: with this build tag TestSite must fail.
const noCollect = true
