//go:build break_qos2

package ingest

const forgetQoS2 = true
