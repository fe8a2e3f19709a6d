//go:build break_truncate

package segment

const endAtDamage = true
