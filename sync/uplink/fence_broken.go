//go:build break_fence

package uplink

// breakFence: with this build tag TestChaos must fail.
const breakFence = true
