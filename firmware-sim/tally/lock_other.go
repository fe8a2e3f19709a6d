//go:build !unix

package tally

import "os"

// lock does nothing where files cannot be locked: do not start two simulators
// with one ledger there.
func lock(*os.File, bool) error { return nil }
