package group

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// update rewrites the expected output: go test ./log/group -run TestGolden -update.
// Then copy it to docs/format/log.md; bytes that exist on disks must not change.
var update = flag.Bool("update", false, "rewrite testdata")

// The bytes of a small group are those of every version 2, and those that the
// format's document explains one by one.
func TestGolden(t *testing.T) {
	var b Builder
	b.Reset(40)
	b.Add(&record.Record{
		Stream: "telemetry", Partition: 0, Key: []byte("d1"), Value: []byte("21.5"),
		Headers: []record.Header{{Key: "mqtt.qos", Value: []byte("1")}},
	}, 1_700_000_000_123, 7)
	b.Add(&record.Record{Stream: "alarms", Partition: 2, Value: []byte("hot")}, 1_700_000_000_130, 0)
	b.Add(&record.Record{Stream: "telemetry", Partition: 0, Key: []byte("d1"), Value: []byte("21.6")}, 1_700_000_000_125, 8)
	h := Header{
		Number: 3, PrevChain: 0x1122334455667788, Millis: 1_700_000_000_131, BootMillis: 1_699_999_940_131, Trusted: true,
		Ledger: tributary.LedgerID(sixteen("00112233445566778899aabbccddeeff")), Boot: sixteen("b0070000000000000000000000000001"),
	}
	padded, f := b.Seal(&h, nil)
	f.Segment, f.Salt, f.Commit = 1, 0x5a175a175a175a17, 9
	f.Encode(padded)

	got := explain(padded, f.Bytes) + fmt.Sprintf("\nchain after the group: %016x\n", h.Chain())
	const file = "testdata/group.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	doc, err := os.ReadFile("../../docs/format/log.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, want) {
		t.Errorf("docs/format/log.md does not show what is in %s", file)
	}
}

func sixteen(digits string) (id [16]byte) {
	if n, err := hex.Decode(id[:], []byte(digits)); err != nil || n != len(id) {
		panic(digits)
	}
	return id
}

// explain writes the bytes of a group, field by field. It knows the layout by
// itself, so that a changed layout shows.
func explain(b []byte, size int) string {
	var out strings.Builder
	at := 0
	part := func(title string) { fmt.Fprintf(&out, "%s\n", title) }
	field := func(n int, what string) {
		line := fmt.Sprintf("%4d  %-50s%s", at, hex.EncodeToString(b[at:at+n]), what)
		out.WriteString(strings.TrimRight(line, " ") + "\n")
		at += n
	}
	part("frame")
	for _, f := range []struct {
		n    int
		what string
	}{{4, "magic TRBF"}, {4, "CRC-32C of bytes 8 to 48"}, {8, "segment"}, {8, "salt"}, {8, "commit"}, {2, "index"}, {2, "of"}, {4, "bytes stored behind the frame"}, {4, "CRC-32C of those bytes"}, {1, "codec: raw"}, {3, "zero"}} {
		field(f.n, f.what)
	}
	part("header")
	for _, f := range []struct {
		n    int
		what string
	}{
		{4, "magic TRBG"},
		{4, "CRC-32C of the rest of the header, and the raw body"},
		{2, "version"},
		{2, "flags: clock to be trusted"},
		{4, "bytes of the raw body"},
		{4, "records"},
		{4, "zero"},
		{16, "ledger"},
		{8, "number of the group"},
		{8, "LSN of the first record"},
		{8, "chain before"},
		{8, "log time, ms"},
		{8, "time of the boot, ms"},
		{16, "boot"},
	} {
		field(f.n, f.what)
	}
	run := func(name string, offset, first int, gaps []string, records ...int) {
		part("run")
		field(1, "length of the stream's name")
		field(len(name), fmt.Sprintf("%q", name))
		field(1, "partition")
		field(1, fmt.Sprintf("offset of the first record: %d", offset))
		field(6, "time of the first record, ms, zigzag")
		field(1, fmt.Sprintf("records: %d", len(records)))
		field(1, fmt.Sprintf("index of the first record in the group: %d", first))
		field(1, fmt.Sprintf("bytes of gaps: %d", len(gaps)))
		for _, g := range gaps {
			field(1, g)
		}
		field(1, "bytes of records")
		for i, n := range records {
			what := fmt.Sprintf("record %d, in Kafka's format v2", i)
			for ; n > 24; n -= 24 {
				field(24, what)
				what = ""
			}
			field(n, what)
		}
	}
	run("telemetry", 7, 0, []string{"gap: the record between is of another run"}, 24, 13)
	run("alarms", 0, 1, nil, 10)
	part("padding")
	fmt.Fprintf(&out, "%4d  zeros up to byte %d\n", at, len(b))
	if at != FrameBytes+size || bytes.Trim(b[at:], "\x00") != nil {
		fmt.Fprintf(&out, "the group ends at %d\n", FrameBytes+size)
	}
	return out.String()
}
