package route

import "testing"

// hotPaths are the promises of Resolve about memory.
func hotPaths() []struct {
	name   string
	rule   Rule
	allocs float64
} {
	return []struct {
		name   string
		rule   Rule
		allocs float64
	}{
		{"constant", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry"}, 0},
		{"constant key topic", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry", Key: "{topic}"}, 0},
		{"constant key constant", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry", Key: "{node}"}, 0},
		{"constant key level", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry", Key: "{device}"}, 0},
		{"local", Rule{Match: "plant/{line}/{device}/tele/#"}, 0},
		{"constant key built", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry", Key: "{line}/{device}"}, 1},
		{"topic built", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry.{line}"}, 1},
		{"both built", Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry.{line}", Key: "{line}/{device}"}, 1},
	}
}

func TestResolveAllocations(t *testing.T) {
	for _, tc := range hotPaths() {
		table := mustCompile(t, Rule{Topic: "mqtt"}, Rule{Match: "other/#", Topic: "x"}, tc.rule)
		got := testing.AllocsPerRun(100, func() {
			if target, err := table.Resolve("plant/7/dev3/tele/temp", "dev3", "anna"); err != nil || target.Rule != 1 {
				t.Fatal(target, err)
			}
		})
		if got != tc.allocs {
			t.Errorf("%s: %v allocations, want %v", tc.name, got, tc.allocs)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	for _, tc := range hotPaths() {
		b.Run(tc.name, func(b *testing.B) {
			table := mustCompile(b, Rule{Topic: "mqtt"}, Rule{Match: "other/#", Topic: "x"}, tc.rule)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := table.Resolve("plant/7/dev3/tele/temp", "dev3", "anna"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
