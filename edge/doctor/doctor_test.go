package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/disk"
)

// judge checks the level of a finding, what its line says, and that whoever is
// warned is told what to do.
func judge(t *testing.T, name string, f Finding, want Level, says string) {
	t.Helper()
	line := f.String()
	if f.Level != want || !strings.Contains(line, says) || strings.Contains(line, "\n") {
		t.Errorf("%s: want %s with %q: %s", name, want, says, line)
	}
	if (f.Level == Warn || f.Level == Error) && (f.Do == "" || f.Means == "") {
		t.Errorf("%s: what does it mean, and what is to be done? %s", name, line)
	}
}

func TestFlushFinding(t *testing.T) {
	const ms = time.Millisecond
	auto, none, some := config.Ack{WindowAuto: true}, config.Ack{}, config.Ack{Window: 20 * ms}
	for _, c := range []struct {
		name     string
		p50, p99 time.Duration
		flash    bool
		ack      config.Ack
		want     Level
		says     string
	}{
		{"a disk", 2 * ms, 9 * ms, false, auto, Good, "mean 2ms, p50 2ms, p99 9ms, max 9ms over 200 flushes of 4 KiB. With a window of 0s a device that waits for each acknowledgement gets about 500 a second"},
		{"a card", 5 * ms, 200 * ms, true, auto, Good, "window of 100ms a device that waits for each acknowledgement gets about 9 a second"},
		{"a card without a window", 5 * ms, 200 * ms, true, none, Warn, `window = "auto"`},
		{"a card with some window", 5 * ms, 200 * ms, true, some, Good, "window of 20ms"},
		{"a slow card", 50 * ms, 1100 * ms, true, auto, Warn, "takes over 1s: devices that wait less send again"},
		{"memory", 2 * time.Microsecond, ms, false, auto, Warn, "a power cut loses"},
	} {
		judge(t, c.name, flushFinding(disk.Latency{Flushes: 200, Mean: c.p50, P50: c.p50, P99: c.p99, Max: c.p99}, c.flash, &c.ack), c.want, c.says)
	}
}

func TestSpaceFinding(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name              string
		quota, have, free int64
		short, want       Level
		says              string
	}{
		{"room", 1000 * mib, 100 * mib, 900 * mib, Warn, Good, "the log may have 1000.0 MiB, has 100.0 MiB, and 900.0 MiB of the disk are free"},
		{"another program has it", 1000 * mib, 100 * mib, 899 * mib, Warn, Warn, "full at 999.0 MiB"},
		{"a part of the disk", 1000 * mib, 100 * mib, 899 * mib, Note, Note, "full at 999.0 MiB"},
		{"none", 1000 * mib, 32 * mib, 31 * mib, Note, Error, "no room for 4 segments of 16.0 MiB"},
	} {
		judge(t, c.name, spaceFinding(c.quota, c.have, c.free, 16*mib, c.short), c.want, c.says)
	}
}

func TestFlashFinding(t *testing.T) {
	well := status.Flash{
		Device: "mmcblk0p2", WindowSeconds: 3600, BytesPerDay: 4e9, KernelBytesPerDay: 5e9, KernelKnown: true, JournalKnown: true,
		EnduranceBytes: 120e12, LifeYears: 60,
	}
	short, other, unknown := well, well, well
	short.LifeYears = 2.9
	other.LifeYears, other.KernelBytesPerDay = 2.9, 9e9
	unknown.EnduranceBytes, unknown.LifeYears = 0, 0
	judge(t, "well", flashFinding(&well), Good, "4 GB a day")
	judge(t, "short", flashFinding(&short), Warn, `window = "500ms"`)
	early := short
	early.WindowSeconds = 899
	judge(t, "early", flashFinding(&early), Good, "too early to say")
	judge(t, "other", flashFinding(&other), Warn, "other program that writes to mmcblk0p2")
	judge(t, "unknown", flashFinding(&unknown), Note, "[log] endurance")
}

func TestRoomFinding(t *testing.T) {
	judge(t, "not filling", roomFinding(&status.Log{FreeBytes: 1 << 30}), Good, "1.0 GiB free, not filling")
	judge(t, "filling", roomFinding(&status.Log{Filling: true, RoomDays: 40}), Note, "room for 40 days")
	judge(t, "refusing", roomFinding(&status.Log{Refusing: true}), Error, "no room. Devices are told to wait; what is stored is forwarded once Kafka is back. Do: bring Kafka back")
	judge(t, "drops", roomFinding(&status.Log{Filling: true, FullSoon: true, DropsOldest: true}), Note, "the oldest records go")
	judge(t, "dropping", roomFinding(&status.Log{DropsOldest: true, UntoldRecords: 1}), Note, "full, dropping the oldest. ")
	judge(t, "soon", roomFinding(&status.Log{Filling: true, RoomDays: 0.5, FullSoon: true}), Warn, "room for 12 hours")
}

func TestClockFinding(t *testing.T) {
	judge(t, "synchronised", clockFinding(true), Good, "synchronised")
	judge(t, "not", clockFinding(false), Warn, "timedatectl")
}

// about returns the findings about something.
func (r *Report) about(what string) (all []Finding) {
	for _, f := range r.Findings {
		if strings.HasPrefix(f.About, what) {
			all = append(all, f)
		}
	}
	return all
}

// It looks at a directory and leaves it as it was, and believes the node.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	logDir := filepath.Join(dir, "log")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(logDir, 0o700),
		os.WriteFile(filepath.Join(logDir, "0000000000000001.seg"), make([]byte, 2<<20), 0o600),
		os.WriteFile(filepath.Join(logDir, "0000000000000002.zseg"), make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Node: config.Node{DataDir: dir}, Ack: config.Ack{WindowAuto: true}, Log: config.Log{MaxBytes: 64 << 20, SegmentBytes: 4 << 20},
		Status: config.Status{Socket: "/run/x.sock"},
	}
	r := Examine(t.Context(), cfg, logDir, nil, nil, nil)
	judge(t, "node", r.about("node")[0], Note, "/run/x.sock")
	if f := r.about("fsync"); len(f) != 1 || !strings.Contains(f[0].What, "flushes of 4 KiB") {
		t.Errorf("fsync: %v", f)
	}
	if f := r.about("space"); len(f) != 1 || !strings.Contains(f[0].What, "has 3.0 MiB") {
		t.Errorf("space: %v", f)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("the directory has %d entries, %v; it had 2", len(left), err)
	}
	judge(t, "a socket of another", Examine(t.Context(), cfg, logDir, nil, nil, fs.ErrPermission).about("node")[0], Note, "permission denied on /run/x.sock")
	wrong := fmt.Errorf("password_file: %w", fs.ErrNotExist)
	judge(t, "no password file", Examine(t.Context(), cfg, logDir, wrong, nil, nil).about("files")[0], Error, "lets nobody in")
	judge(t, "a directory of another", denied("data directory /x", fs.ErrPermission), Error, "run as the user of the node")
	yellow := &status.Report{Node: "n1", Colour: status.Yellow, Reasons: []string{"Kafka is away"}}
	judge(t, "yellow", withMeaning(Examine(t.Context(), cfg, logDir, nil, yellow, nil).about("node")[0]), Warn, "Kafka is away")
	red := &status.Report{Node: "n1", Colour: status.Red, Reasons: []string{"the log is full"}}
	if r := Examine(t.Context(), cfg, logDir, nil, red, nil); r.ExitCode() != 1 {
		t.Errorf("a red node: exit %d", r.ExitCode())
	}

	cfg.Node.DataDir = filepath.Join(dir, "missing")
	r = Examine(t.Context(), cfg, logDir, nil, nil, nil)
	judge(t, "missing", r.about("data directory")[0], Warn, "does not exist")
	if len(r.about("fsync"))+len(r.about("space")) != 0 {
		t.Errorf("a missing directory was measured: %v", r.Findings)
	}
	cfg.Node.DataDir = file
	if r = Examine(t.Context(), cfg, logDir, nil, nil, nil); r.ExitCode() != 1 {
		t.Errorf("a file for a directory: %v", r.Findings)
	}
}

// withMeaning stands for the reason of a node, which says itself what it means.
func withMeaning(f Finding) Finding {
	f.Means, f.Do = f.What, f.What
	return f
}

func TestReport(t *testing.T) {
	full := Finding{Level: Warn, About: "a", What: "one.", Means: "two.", Do: "three"}
	if got := full.String(); got != "warn   a: one. two. Do: three" {
		t.Error(got)
	}
	r := &Report{}
	for _, c := range []struct {
		level Level
		code  int
	}{{Good, 0}, {Note, 0}, {Warn, 3}, {Error, 1}, {Warn, 1}} {
		r.Add(Finding{Level: c.level, About: "a", What: "w"})
		if r.ExitCode() != c.code {
			t.Errorf("after %s: exit %d, want %d", c.level, r.ExitCode(), c.code)
		}
	}
	var b strings.Builder
	if err := r.Text(&b); err != nil || strings.Count(b.String(), "\n") != 6 || !strings.HasSuffix(b.String(), "errors: 1, warnings: 2. Nothing was changed.\n") {
		t.Errorf("%v\n%s", err, b.String())
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.HasPrefix(string(text), `{"findings":[{"level":"good","about":"a","what":"w"}`) {
		t.Errorf("%s, %v", text, err)
	}
}
