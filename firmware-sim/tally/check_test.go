package tally

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// tell makes a Truth from the lines of a ledger of the devices a and b.
func tell(t *testing.T, lines string) *Truth {
	t.Helper()
	truth := &Truth{names: map[string]int{}}
	text := versionLine + "d 0 a\nd 1 b\n" + strings.ReplaceAll(lines, "; ", "\n") + "\n"
	if _, err := read(strings.NewReader(text), truth); err != nil {
		t.Fatal(err)
	}
	return truth
}

// at lists copies, in the order of their offsets in one partition.
func at(messages ...any) (copies []Copy) {
	for i := 0; i < len(messages); i += 2 {
		copies = append(copies, Copy{
			Device: messages[i].(string), Seq: uint64(messages[i+1].(int)), Topic: "t", Offset: int64(i / 2),
		})
	}
	return copies
}

// TestCheck shows the checker each kind of offence: U1, exactly once, and U2,
// in order. A checker that could not say no would prove nothing.
func TestCheck(t *testing.T) {
	const three = "n 0 1; s 0 1 1 1 1 5; a 0 1; s 0 2 1 1 2 5; a 0 2; s 0 3 1 1 3 5; a 0 3"
	for _, c := range []struct {
		name   string
		ledger string
		kafka  []Copy
		want   Report
		says   string
	}{
		{"all is well", three, at("a", 1, "a", 2, "a", 3), Report{Sent: 3, Acked: 3, InKafka: 3}, ""},
		{
			"lost", three, at("a", 1, "a", 3),
			Report{Sent: 3, Acked: 3, InKafka: 2, Lost: 1},
			"a message 2, QoS 1, was acknowledged and is not in Kafka",
		},
		{"not acknowledged, not there", "n 0 1; s 0 1 1 1 1 5", at(), Report{Sent: 1}, ""},
		{"not acknowledged, there", "n 0 1; s 0 1 1 1 1 5", at("a", 1), Report{Sent: 1, InKafka: 1}, ""},
		{
			"QoS 1 sent once, twice there", "n 0 1; s 0 1 1 1 1 5; a 0 1", at("a", 1, "a", 1),
			Report{Sent: 1, Acked: 1, InKafka: 1, Twice: 1},
			"a message 1, QoS 1, sent 1 time(s), is 2 times in Kafka, the last time at t/0@1",
		},
		{
			"QoS 1 sent twice, twice there", "n 0 1; s 0 1 1 1 1 5; s 0 1 1 1 1 5; a 0 1", at("a", 1, "a", 1),
			Report{Sent: 1, Acked: 1, InKafka: 1, Resent: 1},
			"",
		},
		{
			"QoS 1 sent twice, four times there", "n 0 1; s 0 1 1 1 1 5; s 0 1 1 1 1 5", at("a", 1, "a", 1, "a", 1, "a", 1),
			Report{Sent: 1, InKafka: 1, Resent: 1, Twice: 2},
			"is 4 times in Kafka, the last time at t/0@3",
		},
		{
			"QoS 2 sent twice in one session", "n 0 1; s 0 1 2 1 1 5; s 0 1 2 1 1 5; a 0 1", at("a", 1, "a", 1),
			Report{Sent: 1, Acked: 1, InKafka: 1, Twice: 1},
			"a message 1, QoS 2, sent in 1 session(s), is 2 times",
		},
		{
			"QoS 2 sent in two sessions", "n 0 1; s 0 1 2 1 1 5; n 0 2; s 0 1 2 2 1 5; s 0 1 2 2 1 5", at("a", 1, "a", 1),
			Report{Sent: 1, InKafka: 1, Resent: 1},
			"",
		},
		{
			"QoS 0 twice", "n 0 1; s 0 1 0 1 0 5", at("a", 1, "a", 1),
			Report{Sent: 1, InKafka: 1, Twice: 1},
			"QoS 0, sent 1 time(s), is 2 times",
		},
		{"QoS 0 lost", "n 0 1; s 0 1 0 1 0 5", at(), Report{Sent: 1}, ""},
		{
			"out of order", three, at("a", 2, "a", 1, "a", 3),
			Report{Sent: 3, Acked: 3, InKafka: 3, OutOfOrder: 1},
			"a message 1 is at t/0@1, after message 2",
		},
		{
			"two out of order", three, at("a", 3, "a", 1, "a", 2),
			Report{Sent: 3, Acked: 3, InKafka: 3, OutOfOrder: 2},
			"a message 2 is at t/0@2, after message 3",
		},
		{
			"a repetition behind younger ones", "n 0 1; s 0 1 1 1 1 5; s 0 2 1 1 2 5; s 0 1 1 1 1 5", at("a", 1, "a", 2, "a", 1),
			Report{Sent: 2, InKafka: 2, Resent: 1},
			"",
		},
		{
			"refused, then sent behind younger ones", "n 0 1; s 0 1 1 1 1 5; s 0 2 1 1 2 5; x 0 1; s 0 1 1 1 3 5; a 0 1",
			at("a", 2, "a", 1),
			Report{Sent: 2, Acked: 1, InKafka: 2},
			"",
		},
		{
			"in two partitions", three, append(at("a", 1, "a", 2), Copy{Device: "a", Seq: 3, Topic: "t", Partition: 1}),
			Report{Sent: 3, Acked: 3, InKafka: 3, OutOfOrder: 1},
			"a is in partitions 0 and 1 of topic t",
		},
		{
			"in two topics", three, append(at("a", 3), Copy{Device: "a", Seq: 1, Topic: "u"}, Copy{Device: "a", Seq: 2, Topic: "u"}),
			Report{Sent: 3, Acked: 3, InKafka: 3},
			"",
		},
		{
			"two devices in one partition", "n 0 1; s 0 1 1 1 1 5; s 0 2 1 1 2 5; n 1 1; s 1 1 1 1 1 5",
			at("a", 1, "a", 2, "b", 1),
			Report{Sent: 3, InKafka: 3},
			"",
		},
		{
			"never sent", three, at("a", 1, "a", 2, "a", 3, "a", 4, "c", 1, "a", 0),
			Report{Sent: 3, Acked: 3, InKafka: 3, Unknown: 3},
			"c message 1 is at t/0@4, and was never sent",
		},
	} {
		got := Check(tell(t, c.ledger), slices.Values(c.kafka))
		text := got.String()
		if !strings.Contains(text, c.says) {
			t.Errorf("%s: does not say %q:\n%s", c.name, c.says, text)
		}
		ok := c.want.Lost == 0 && c.want.Twice == 0 && c.want.OutOfOrder == 0
		if got.OK() != ok {
			t.Errorf("%s: OK is %v", c.name, got.OK())
		}
		if c.want.Twice+c.want.Lost+c.want.OutOfOrder+c.want.Unknown == 0 && strings.Contains(text, " message ") {
			t.Errorf("%s: accuses somebody:\n%s", c.name, text)
		}
		got.QoS, got.Offenders = [3]Figures{}, Offenders{}
		if g, w := line(t, got), line(t, c.want); g != w {
			t.Errorf("%s:\n got %s\nwant %s", c.name, g, w)
		}
	}
}

func line(t *testing.T, r Report) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReportKeys(t *testing.T) {
	r := Check(tell(t, "n 0 1; s 0 1 2 1 1 5; a 0 1; s 0 2 1 1 2 5; a 0 2"), slices.Values(at("a", 1, "a", 1)))
	got := line(t, r)
	want := `{"sent":2,"acked":2,"in_kafka":1,"lost":1,"twice":1,"out_of_order":0,"resent":0,"unknown":0,` +
		`"by_qos":[{"sent":0,"acked":0,"in_kafka":0,"lost":0,"twice":0,"resent":0},` +
		`{"sent":1,"acked":1,"in_kafka":0,"lost":1,"twice":0,"resent":0},` +
		`{"sent":1,"acked":1,"in_kafka":1,"lost":0,"twice":1,"resent":0}],` +
		`"offenders":{"lost":["a message 2, QoS 1, was acknowledged and is not in Kafka"],` +
		`"twice":["a message 1, QoS 2, sent in 1 session(s), is 2 times in Kafka, the last time at t/0@1"]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestOnlyTheFirstOffendersAreNamed(t *testing.T) {
	var lines strings.Builder
	lines.WriteString("n 0 1")
	for range 30 {
		lines.WriteString("; s 0 1 1 1 1 5")
	}
	copies := make([]any, 0, 200)
	for range 100 {
		copies = append(copies, "a", 1)
	}
	r := Check(tell(t, lines.String()), slices.Values(at(copies...)))
	if r.Twice != 70 || r.Resent != 29 || len(r.Offenders.Twice) != sampleSize {
		t.Errorf("twice %d, resent %d, named %d", r.Twice, r.Resent, len(r.Offenders.Twice))
	}
	if text := r.String(); !strings.Contains(text, "and 50 more") {
		t.Error(text)
	}
}

func TestMissing(t *testing.T) {
	c := NewChecker(tell(t, "n 0 1; s 0 1 1 1 1 5; a 0 1; s 0 2 1 1 2 5; s 0 3 1 1 3 5; a 0 3"))
	for i, want := range []int{2, 1, 1, 1, 0} {
		if got := c.Missing(); got != want {
			t.Errorf("after %d records %d are missing; want %d", i, got, want)
		}
		if i < 4 {
			c.Add(Copy{Device: "a", Seq: []uint64{1, 1, 2, 3}[i], Topic: "t", Offset: int64(i)})
		}
	}
}
