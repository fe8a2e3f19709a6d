package status

import "testing"

// The totals count each record once: one that was dropped is untold first, and named
// by a gap record then.
func TestSum(t *testing.T) {
	r := well()
	r.Log.DroppedRecords, r.Log.UntoldRecords, r.Uplink.GapRecords = 9, 4, 5
	r.MQTT.RefusedFull, r.MQTT.RefusedDisk, r.MQTT.RefusedTopic, r.MQTT.NoRoute = 1, 2, 4, 8
	r.Uplink.DeadLetters, r.Uplink.Twice = 16, 3
	r.Sum(2)
	if want := (Totals{Lost: 11, Twice: 3, Refused: 7, DeadLetters: 24}); r.Totals != want {
		t.Errorf("got %+v, want %+v", r.Totals, want)
	}
}
