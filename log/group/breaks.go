//go:build !break_padding

package group

// Align is what a group starts at a multiple of, and is padded to. It is a page:
// a write that a power cut tears may damage the rest of the page, and in it are
// no records but its own. -tags break_padding lets groups share pages, which the
// tests of package store must catch.
const Align = PageBytes
