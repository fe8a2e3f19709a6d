//go:build !break_truncate

package segment

// endAtDamage is a deliberate defect that the tests of package store must catch:
// a scan ends at the first damaged group and calls it a torn tail.
const endAtDamage = false
