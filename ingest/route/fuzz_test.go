package route

import (
	"errors"
	"testing"
)

// Whatever rules compile and whatever a device sends, Resolve gives a topic that
// Kafka takes or none at all, and a key (S1, U4).
func FuzzResolve(f *testing.F) {
	f.Add("plant/{line}/#", "telemetry.{line}", "{client_id}", "{topic}", "plant/7/x", "c1", "anna")
	f.Add("#", "{topic}", "{topic}-{username}", "", "a//b", "\xff", "")
	f.Add("{a}/{b}/{c}", "{c}{b}{a}", "{a}/{c}", "mqtt", "x/y/z", "", "")
	f.Add("+/#", "_{username}", "{node}{site}", "{username}", "$SYS/x", "_", "_x")
	f.Fuzz(func(t *testing.T, match, topicTemplate, key, fallback, topic, clientID, username string) {
		table, err := Compile([]Rule{{Match: match, Topic: topicTemplate, Key: key}}, Rule{Topic: fallback}, facts())
		if err != nil {
			var bad *CompileError
			if !errors.As(err, &bad) || len(bad.Faults) == 0 || table != nil {
				t.Fatalf("error is %v, table is %v", err, table)
			}
			return
		}
		got, err := table.Resolve(topic, clientID, username)
		if got.Key == nil {
			t.Fatal("the key is nil")
		}
		if got.LocalOnly() {
			if err != nil || topicTemplate != "" && fallback != "" {
				t.Fatalf("kept local: %v", err)
			}
			return
		}
		if bad := CheckTopic(got.Topic); bad != nil {
			t.Fatalf("topic %q %v", got.Topic, bad)
		}
		if got.Topic == "tributary.positions" {
			t.Fatal("a record would go among the positions")
		}
		if err != nil && got.Topic != table.DeadLetter() {
			t.Fatalf("topic %q although %v", got.Topic, err)
		}
		if wins := naiveMatch(match, topic); wins != (got.Rule == 0) {
			t.Fatalf("rule %d won, filter %q, topic %q", got.Rule, match, topic)
		}
	})
}
