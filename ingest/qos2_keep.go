//go:build !break_qos2

package ingest

// forgetQoS2 is off in the product. Built with the tag break_qos2, the table
// of packet ids forgets at every reconnect and restart, so that a test can
// show that its checker notices.
const forgetQoS2 = false
