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
		{"constant", Rule{"plant/{line}/{device}/tele/#", "telemetry", ""}, 0},
		{"constant key topic", Rule{"plant/{line}/{device}/tele/#", "telemetry", "{topic}"}, 0},
		{"constant key constant", Rule{"plant/{line}/{device}/tele/#", "telemetry", "{node}"}, 0},
		{"constant key level", Rule{"plant/{line}/{device}/tele/#", "telemetry", "{device}"}, 0},
		{"local", Rule{"plant/{line}/{device}/tele/#", "", ""}, 0},
		{"constant key built", Rule{"plant/{line}/{device}/tele/#", "telemetry", "{line}/{device}"}, 1},
		{"topic built", Rule{"plant/{line}/{device}/tele/#", "telemetry.{line}", ""}, 1},
		{"both built", Rule{"plant/{line}/{device}/tele/#", "telemetry.{line}", "{line}/{device}"}, 1},
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
