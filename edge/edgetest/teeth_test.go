//go:build kafka

package edgetest

import "testing"

// TestTeeth shows that the tests of this package can fail: they are run with a
// node into which a fault is compiled that they exist to find. (The third
// fault, break_fsync, takes a power cut to be seen.)
func TestTeeth(t *testing.T) {
	t.Run("break_qos2", func(t *testing.T) {
		r := chaos(t, "break_qos2", ordeal{devices: 100, messages: 10_000, kills: 6})
		if twice := r.QoS[2].Twice + r.QoS[2].Resent; twice == 0 {
			t.Error("a node that forgets QoS 2 packet ids passes")
		} else {
			t.Logf("a node that forgets QoS 2 packet ids: %d records twice", twice)
		}
	})
	t.Run("break_fence", func(t *testing.T) {
		r := takeOver(t, "break_fence")
		if r.Twice == 0 {
			t.Error("a node that reads the position before the fence passes")
		} else {
			t.Logf("a node that reads the position before the fence: %d records twice", r.Twice)
		}
	})
}
