package route

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func facts() Facts {
	return Facts{Node: "gw1", Site: "plant7", DeadLetter: "{site}.dead", Reserved: []string{"tributary.positions"}}
}

// mustCompile is for rules that are right.
func mustCompile(t testing.TB, fallback Rule, rules ...Rule) *Table {
	t.Helper()
	table, err := Compile(rules, fallback, facts())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTopics(t *testing.T) {
	table := mustCompile(t, Rule{Topic: "mqtt"},
		Rule{Match: "a/{line}", Topic: "telemetry.{line}"}, Rule{Match: "b", Topic: "{site}.b"}, Rule{Match: "c"}, Rule{Match: "d", Topic: "mqtt"})
	if got := table.Topics(); !slices.Equal(got, []string{"plant7.b", "mqtt"}) {
		t.Errorf("topics %q", got)
	}
}

func TestResolve(t *testing.T) {
	table := mustCompile(t, Rule{Topic: "mqtt"},
		Rule{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry.{line}"},
		Rule{Match: "plant/+/alarm", Topic: "alarms", Key: "{site}-{username}/{client_id}"},
		Rule{Match: "spBv1.0/#", Topic: "sparkplug.raw", Key: "{topic}"},
		Rule{Match: "raw/#", Topic: "{site}.{topic}", Key: "{node}"},
		Rule{Match: "one/{a}", Topic: "{a}", Key: "{a}"},
		Rule{Match: "debug/#", Topic: ""},
		Rule{Match: "+/status", Topic: "status"},
		Rule{Match: "$SYS/#", Topic: "sys"},
		Rule{Match: "/lead", Topic: "lead"},
		Rule{Match: "by/name", Topic: "u.{username}", Key: "{username}"},
	)
	for _, tc := range []struct {
		topic string
		want  string // Kafka topic
		key   string
		rule  int
	}{
		{"plant/7/dev3/tele", "telemetry.7", "c1", 0}, // '#' takes its parent
		{"plant/7/dev3/tele/temp/1", "telemetry.7", "c1", 0},
		{"plant/7/dev3/cmd", "mqtt", "c1", Fallback},
		{"plant/7/alarm", "alarms", "plant7-anna/c1", 1},
		{"spBv1.0/g/DDATA/n", "sparkplug.raw", "spBv1.0/g/DDATA/n", 2},
		{"raw/a/b", "plant7.raw.a.b", "gw1", 3}, // '/' of a variable becomes '.'
		{"raw", "plant7.raw", "gw1", 3},
		{"one/x", "x", "x", 4},
		{"debug/x", "", "c1", 5}, // kept local
		{"x/status", "status", "c1", 6},
		{"$SYS/status", "sys", "c1", 7}, // a leading wildcard does not take '$' (MQTT 5, 4.7.2)
		{"$other/x", "mqtt", "c1", Fallback},
		{"/lead", "lead", "c1", 8},
		{"lead", "mqtt", "c1", Fallback},
		{"by/name", "u.anna", "anna", 9},
		{"", "mqtt", "c1", Fallback},
	} {
		got, err := table.Resolve(tc.topic, "c1", "anna")
		if err != nil {
			t.Errorf("%q: %v", tc.topic, err)
			continue
		}
		if got.Topic != tc.want || string(got.Key) != tc.key || got.Rule != tc.rule {
			t.Errorf("%q: topic %q key %q rule %d, want %q %q %d",
				tc.topic, got.Topic, got.Key, got.Rule, tc.want, tc.key, tc.rule)
		}
		if got.LocalOnly() != (tc.want == "") {
			t.Errorf("%q: LocalOnly is %v", tc.topic, got.LocalOnly())
		}
	}
}

// U4: a record whose own topic is impossible still has a place to go. S1: no
// device reaches the topic of the positions or Kafka's own topics.
func TestImpossibleTopicGoesToTheDeadLetter(t *testing.T) {
	table := mustCompile(t, Rule{Topic: "{topic}", Key: "{client_id}"})
	for _, tc := range []struct{ topic, reason string }{
		{"a b", `has ' ' in it`},
		{"größe", `has 'ö' in it`},
		{"a\xff", `has '�' in it`},
		{".", `is not a name`},
		{"/.", ``}, // ".." after the replacement
		{"", `is empty`},
		{strings.Repeat("x", 250), `has 250 characters`},
		{"tributary/positions", `keeps its own positions`},
		{"tributary.positions", `keeps its own positions`},
		{"__consumer_offsets", `starts with "__"`},
		{"a\x00", `has '\x00' in it`},
	} {
		got, err := table.Resolve(tc.topic, "c1", "")
		var bad *TopicError
		if !errors.As(err, &bad) {
			t.Errorf("%q: error %v, want a *TopicError", tc.topic, err)
			continue
		}
		if !strings.Contains(bad.Reason, tc.reason) || bad.Rule != Fallback {
			t.Errorf("%q: rule %d reason %q, want %q", tc.topic, bad.Rule, bad.Reason, tc.reason)
		}
		if got.Topic != "plant7.dead" || string(got.Key) != "c1" {
			t.Errorf("%q: goes to %q with key %q", tc.topic, got.Topic, got.Key)
		}
	}
	long, err := table.Resolve(strings.Repeat("x", maxNameBytes), "c1", "")
	if err != nil || len(long.Topic) != maxNameBytes {
		t.Errorf("the longest legal name: %v", err)
	}
	if _, err := table.Resolve(strings.Repeat("y", 60000), "", ""); len(err.Error()) > 200 {
		t.Errorf("the error has %d bytes; it must fit a log line", len(err.Error()))
	}
}

func TestKeyIsNeverNil(t *testing.T) {
	table := mustCompile(t, Rule{Topic: "mqtt", Key: "{username}"},
		Rule{Match: "two", Topic: "t", Key: "{username}{client_id}"},
		Rule{Match: "var/{x}", Topic: "t.{x}", Key: "{username}{client_id}"})
	for _, topic := range []string{"x", "two", "var/x"} {
		got, err := table.Resolve(topic, "", "")
		if err != nil || got.Key == nil || len(got.Key) != 0 {
			t.Errorf("%q: key %#v, err %v; want empty, not nil", topic, got.Key, err)
		}
	}
}

func TestCompileNamesEveryFault(t *testing.T) {
	rules := []Rule{
		{Match: "ok/#", Topic: "ok"},
		{Match: "", Topic: "x"},
		{Match: "a/#/b", Topic: "x"},
		{Match: "a/b#", Topic: "x"},
		{Match: "a/x{line}", Topic: "x"},
		{Match: "{a}/{a}", Topic: "x"},
		{Match: "{topic}/b", Topic: "x"},
		{Match: "{1a}/b", Topic: "x"},
		{Match: "{}/b", Topic: "x"},
		{Match: "$share/g/a", Topic: "x"},
		{Match: "a\x00", Topic: "x"},
		{Match: strings.Repeat("a", 65536), Topic: "x"},
		{Match: "a/+", Topic: "a/b"},
		{Match: "a/{b}", Topic: "a.{c}"},
		{Match: "a/{b}", Topic: "a.{b"},
		{Match: "a/{b}", Topic: "a.b}"},
		{Match: "a/{b}", Topic: "a b.{b}"},
		{Match: "a/{b}", Topic: strings.Repeat("a", 250) + "{b}"},
		{Match: "a/{b}", Topic: "__x{b}"},
		{Match: "a", Topic: "."},
		{Match: "a", Topic: "tributary.positions"},
		{Match: "a", Topic: "x", Key: "{}"},
		{Match: "a", Topic: "x/y", Key: "{nope}"},
	}
	_, err := Compile(rules, Rule{Topic: "mqtt/", Key: "{line}"},
		Facts{DeadLetter: "dead.{client_id}", Reserved: facts().Reserved})
	var bad *CompileError
	if !errors.As(err, &bad) {
		t.Fatalf("error is %v", err)
	}
	want := []struct {
		rule          int
		field, reason string
	}{
		{1, "match", "is empty"},
		{2, "match", "'#' must be the last level"},
		{3, "match", `level "b#" mixes`},
		{4, "match", `level "x{line}" mixes`},
		{5, "match", "{a} stands twice"},
		{6, "match", "{topic} has a meaning already"},
		{7, "match", `"1a" is not a name`},
		{8, "match", `"" is not a name`},
		{9, "match", "$share is for subscriptions"},
		{10, "match", "not text that MQTT allows"},
		{11, "match", "has 65536 bytes"},
		{12, "topic", "has '/' in it"},
		{13, "topic", "no variable {c} here; there are {b}, {client_id}"},
		{14, "topic", "braces"},
		{15, "topic", "braces"},
		{16, "topic", "has ' ' in it"},
		{17, "topic", "has 250 characters"},
		{18, "topic", `starts with "__"`},
		{19, "topic", "not a name that Kafka takes"},
		{20, "topic", "keeps its own positions"},
		{21, "key", "no variable {} here"},
		{22, "topic", "has '/' in it"},
		{22, "key", "no variable {nope} here"},
		{Fallback, "topic", "has '/' in it"},
		{Fallback, "key", "no variable {line} here"},
		{Fallback, "dead_letter", "{node} and {site} only"},
	}
	for i, f := range bad.Faults {
		if i >= len(want) {
			t.Errorf("one too many: %+v", f)
			continue
		}
		w := want[i]
		if f.Rule != w.rule || f.Field != w.field || !strings.Contains(f.Reason, w.reason) {
			t.Errorf("fault %d is %+v, want %+v", i, f, w)
		}
	}
	if len(bad.Faults) != len(want) {
		t.Errorf("%d faults, want %d", len(bad.Faults), len(want))
	}
	if text := bad.Error(); !strings.HasPrefix(text, "route 2 match: is empty") || !strings.Contains(text, "default route key:") {
		t.Errorf("error reads %q", text)
	}
}

func TestDeadLetter(t *testing.T) {
	if got := mustCompile(t, Rule{}).DeadLetter(); got != "plant7.dead" {
		t.Errorf("dead letter is %q", got)
	}
	for _, name := range []string{"", "a/b", "tributary.positions", "__x", "{", "{client_id}"} {
		f := facts()
		f.DeadLetter = name
		if _, err := Compile(nil, Rule{}, f); err == nil {
			t.Errorf("dead letter %q was taken", name)
		}
	}
}

// What a rule says of alarms and urgency reaches every message that it wins,
// wherever that goes: to its topic, to the dead letters, or nowhere. Nobody
// else's.
func TestAlarmAndUrgent(t *testing.T) {
	table := mustCompile(t, Rule{Topic: "{topic}", Urgent: true},
		Rule{Match: "plant/+/alarm", Topic: "alarms", Alarm: true},
		Rule{Match: "plant/+/stop", Topic: "{topic}", Alarm: true, Urgent: true},
		Rule{Match: "here/#", Alarm: true},
		Rule{Match: "plant/#", Topic: "{topic}"},
	)
	for _, tc := range []struct {
		topic         string
		want          string
		alarm, urgent bool
	}{
		{"plant/7/alarm", "alarms", true, false},
		{"plant/7/stop", "plant.7.stop", true, true},
		{"plant/a b/stop", "plant7.dead", true, true},
		{"plant/a b/tele", "plant7.dead", false, false},
		{"here/x", "", true, false},
		{"plant/7/tele", "plant.7.tele", false, false},
		{"other", "other", false, true},
	} {
		got, _ := table.Resolve(tc.topic, "c1", "anna")
		if got.Topic != tc.want || got.Alarm != tc.alarm || got.Urgent != tc.urgent {
			t.Errorf("%q: topic %q alarm %v urgent %v, want %q %v %v",
				tc.topic, got.Topic, got.Alarm, got.Urgent, tc.want, tc.alarm, tc.urgent)
		}
	}
}

func TestCompileKeepsNoReference(t *testing.T) {
	rules, f := []Rule{{Match: "a", Topic: "b"}}, facts()
	table, err := Compile(rules, Rule{Topic: "{topic}"}, f)
	if err != nil {
		t.Fatal(err)
	}
	rules[0], f.Reserved[0] = Rule{Match: "x", Topic: "y"}, "z"
	if got, err := table.Resolve("a", "", ""); err != nil || got.Topic != "b" {
		t.Errorf("the table changed: %+v, %v", got, err)
	}
	if _, err := table.Resolve("tributary.positions", "", ""); err == nil {
		t.Error("the reserved topics changed")
	}
}

func TestCovered(t *testing.T) {
	table := mustCompile(t, Rule{},
		Rule{Match: "a/+/c", Topic: "x"},
		Rule{Match: "a/b/c", Topic: "x"}, // by 0
		Rule{Match: "a/b/#", Topic: "x"},
		Rule{Match: "a/{q}/c", Topic: "x"}, // by 0
		Rule{Match: "a/b", Topic: "x"},     // by 2: '#' takes its parent
		Rule{Match: "+/#", Topic: "x"},
		Rule{Match: "#", Topic: "x"}, // by 5
		Rule{Match: "$SYS/#", Topic: "x"},
	)
	var got [][2]int
	for i := range 8 {
		if by, ok := table.Covered(i); ok {
			got = append(got, [2]int{i, by})
		}
	}
	if want := [][2]int{{1, 0}, {3, 0}, {4, 2}, {6, 5}}; !slices.Equal(got, want) {
		t.Errorf("covered are %v, want %v", got, want)
	}
}

func TestCheckTopic(t *testing.T) {
	for name, legal := range map[string]bool{
		"a": true, "A.b_c-9": true, "...": true, "_x": true, strings.Repeat("x", 249): true,
		"": false, ".": false, "..": false, "__x": false, "a/b": false, "é": false, strings.Repeat("x", 250): false,
	} {
		if err := CheckTopic(name); (err == nil) != legal {
			t.Errorf("%q: %v", name, err)
		}
	}
}
