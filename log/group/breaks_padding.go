//go:build break_padding

package group

const Align = 64
