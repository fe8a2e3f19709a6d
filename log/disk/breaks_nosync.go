//go:build break_nosync

package disk

const neverSync = true
