package status

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

func screen(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b, r.Started.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// well returns a node that has run for a while and lacks nothing.
func well() *Report {
	return &Report{
		Node: "n1", Started: time.Unix(1_700_000_000, 0), Boots: 3, Version: `1"0`,
		MQTT: MQTT{Received: [3]uint64{1, 2, 3}, Durable: [3]uint64{1, 2, 3}, RefusedFull: 7},
		Log:  Log{UsedBytes: 1 << 30, FreeBytes: 20 << 30, MaxBytes: 22 << 30, FlushMeanMs: 1.5},
		Flash: Flash{
			Device: "mmcblk0p2", Bytes: 50 << 20, LogBytes: 40 << 20, MetaBytes: 6 << 20, JournalBytes: 4 << 20, JournalKnown: true, Flushes: 600,
			KernelKnown: true, KernelBytes: 60 << 20, KernelFlushes: 700, WindowSeconds: 3600,
			BytesPerDay: 3.7e9, KernelBytesPerDay: 3.9e9, BytesPerRecord: 213.4, FlushesPerRecord: 0.0498, EnduranceBytes: 120e12, LifeYears: 84.2,
		},
		Uplink: Uplink{State: "forwarding", Sent: 5, Waiting: 1},
	}
}

func TestFlashLine(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   string
	}{
		{"all known", func(*Report) {}, "FLASH    3.7 GB a day over 1 h, 3.9 GB by the kernel's count of mmcblk0p2   213 bytes and 0.05 flushes a record   a new card of 120 TB lasts 84 years\n"},
		{"early", func(r *Report) { r.Flash.WindowSeconds = 59 }, "FLASH    50.0 MiB in 600 flushes since the start, too early for more\n"},
		{"a minute", func(r *Report) { r.Flash.WindowSeconds = 61 }, "3.7 GB a day over 1 min, 3.9 GB by the kernel's count of mmcblk0p2   213 bytes and 0.05 flushes a record   too early to say how long a card lasts\n"},
		{"a quarter", func(r *Report) { r.Flash.WindowSeconds = 900 }, "over 15 min, 3.9 GB by the kernel's count of mmcblk0p2   213 bytes and 0.05 flushes a record   a new card of 120 TB lasts 84 years\n"},
		{"no device", func(r *Report) { r.Flash.KernelKnown = false }, "3.7 GB a day over 1 h, the kernel's count is not known   213"},
		{"no journal", func(r *Report) { r.Flash.JournalKnown = false }, "3.7 GB a day and what the file system adds over 1 h, 3.9 GB by"},
		{"no endurance", func(r *Report) { r.Flash.EnduranceBytes, r.Flash.LifeYears = 0, 0 }, "a record   life not known: set [log] endurance\n"},
		{"no records", func(r *Report) { r.Flash.BytesPerRecord = 0 }, "mmcblk0p2   a new card"},
		{"a short life", func(r *Report) { r.Flash.LifeYears = 0.1 }, "120 TB lasts 37 days\n"},
		{"not filling", func(*Report) {}, "20 GiB free, not filling   flush mean 1.5 ms"},
		{"full", func(r *Report) { r.Log.Refusing = true }, "20 GiB free, no room   flush"},
		{"dropping", func(r *Report) { r.Log.DropsOldest, r.Log.UntoldRecords = true, 5 }, "20 GiB free, full, dropping the oldest   flush"},
		{"dropped once", func(r *Report) { r.Log.DropsOldest, r.Log.DroppedRecords = true, 5 }, "20 GiB free, not filling   flush"},
		{"records", func(r *Report) { r.Log.Records, r.Log.WrittenBytes = 10, 423 }, "not filling   42 bytes a record   flush"},
		{"gaps", func(r *Report) { r.Uplink.Gaps, r.Uplink.GapRecords = 2, 9 }, "GAPS TOLD 9 records in 2\n"},
		{"filling", func(r *Report) { r.Log.Filling, r.Log.RoomDays = true, 41.3 }, "20 GiB free, room for 41 days at this rate"},
	} {
		r := well()
		c.change(r)
		if got := screen(t, r); !strings.Contains(got, c.want) {
			t.Errorf("%s: no %q in\n%s", c.name, c.want, got)
		}
	}
}

// A log that will be full within a day is yellow a day ahead; once devices
// are refused it is red, and the forecast is over.
func TestJudgeFullSoon(t *testing.T) {
	r := well()
	r.Judge(r.Started)
	if r.Colour != Green {
		t.Fatal(r.Colour, r.Reasons)
	}
	r.Log.Filling, r.Log.RoomDays, r.Log.GrowthBytesPerDay, r.Log.FullSoon = true, 0.9, 22<<30, true
	r.Judge(r.Started)
	if r.Colour != Yellow || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "full in 22 hours at this rate: 20 GiB are free") {
		t.Error(r.Colour, r.Reasons)
	}
	r.Log.Refusing = true
	r.Judge(r.Started)
	if r.Colour != Red || len(r.Reasons) != 1 {
		t.Error(r.Colour, r.Reasons)
	}
}

// What a full log says: what is safe, what to do, and what becomes of alarms.
func TestJudgeFull(t *testing.T) {
	const full = "the log is full and devices are told to wait: 1 records are not in Kafka yet. Nothing acknowledged is lost. Bring Kafka back, or raise [log] max_size and restart"
	for _, c := range []struct {
		name   string
		change func(*Report)
		colour Colour
		want   string
	}{
		{"full", func(r *Report) { r.Log.Refusing = true }, Red, full},
		{"no alarms", func(r *Report) { r.Log.Refusing, r.Log.RefusingAlarms = true, true }, Red, full},
		{"alarms", func(r *Report) { r.Log.Refusing, r.Log.HasAlarms = true, true }, Red, full + ". Alarms are still taken"},
		{"alarms too", func(r *Report) { r.Log.Refusing, r.Log.HasAlarms, r.Log.RefusingAlarms = true, true, true }, Red, strings.Replace(full, "wait:", "wait, AND ALARMS TOO (alarm_reserve is full):", 1)},
		{"a disk that never had more", func(r *Report) { r.Log.FreeBytes, r.Log.UsedBytes = 4<<30, 8<<10 }, Green, ""},
		{"little", func(r *Report) { r.Log.FreeBytes, r.Log.UsedBytes = 4<<30, 40<<30 }, Yellow, "less than a fifth of the log is free: 4.0 GiB"},
		{"drop-oldest", func(r *Report) { r.Log.FreeBytes, r.Log.FullSoon, r.Log.DropsOldest = 4<<30, true, true }, Green, ""},
		{"drop-oldest cannot", func(r *Report) { r.Log.DropsOldest, r.Log.Refusing = true, true }, Red, strings.Replace(full, " Nothing acknowledged is lost.", "", 1)},
		{"untold", func(r *Report) { r.Log.DropsOldest, r.Log.UntoldRecords = true, 8 }, Yellow, "the log was full: 8 records were dropped, as on_full says; gap records will say which once Kafka is reached"},
		{"told", func(r *Report) { r.Log.DropsOldest, r.Log.DroppedRecords = true, 8 }, Yellow, "the log was full: 8 records were dropped, as on_full says; gap records in Kafka say which"},
	} {
		r := well()
		c.change(r)
		r.Judge(r.Started)
		if got := strings.Join(r.Reasons, "; "); got != c.want || r.Colour != c.colour {
			t.Errorf("%s: %s, %q, want %s, %q", c.name, r.Colour, got, c.colour, c.want)
		}
	}
}

func TestDays(t *testing.T) {
	for days, want := range map[float64]string{
		4000: "more than 1000 days", 41.3: "41 days", 2.25: "2.2 days", 1.5: "36 hours", 0.05: "72 minutes", 0: "0 minutes",
	} {
		if got := Days(days); got != want {
			t.Errorf("%v days: %q, want %q", days, got, want)
		}
	}
}

// Every line of /metrics is as Prometheus wants it: HELP, TYPE, then the values of
// that metric, each metric once, counters and only they with _total.
func TestMetrics(t *testing.T) {
	r := well()
	r.Log.Filling, r.Log.RoomDays = true, 2
	var b strings.Builder
	if err := r.Metrics(&b); err != nil {
		t.Fatal(err)
	}
	sample := regexp.MustCompile(`^(tributary_[a-z0-9_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"\})? (-?[0-9.]+(?:e[+-][0-9]+)?)$`)
	values, seen, name := map[string]string{}, map[string]bool{}, ""
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, _, _ = strings.Cut(rest, " ")
			if seen[name] || !strings.HasSuffix(rest, ".") {
				t.Errorf("%q: twice, or not a sentence", line)
			}
			seen[name] = true
			continue
		}
		if kind, ok := strings.CutPrefix(line, "# TYPE "+name+" "); ok {
			if (kind == "counter") != strings.HasSuffix(name, "_total") {
				t.Errorf("%q: counters, and only they, end in _total", line)
			}
			continue
		}
		if got := sample.FindStringSubmatch(line); got == nil || got[1] != name {
			t.Errorf("not a value of %s: %q", name, line)
		} else {
			values[got[1]+got[2]] = got[3]
		}
	}
	for key, want := range map[string]string{
		`tributary_build_info{version="1\"0"}`:                "1",
		"tributary_start_time_seconds":                        "1.7e+09",
		`tributary_state{colour="red"}`:                       "0",
		`tributary_mqtt_received_total{qos="2"}`:              "3",
		`tributary_mqtt_refused_total{reason="full"}`:         "7",
		"tributary_log_limit_bytes":                           fmt.Sprint(float64(22 << 30)),
		"tributary_log_flush_mean_seconds":                    "0.0015",
		"tributary_log_room_seconds":                          "172800",
		`tributary_flash_written_bytes_total{part="meta"}`:    fmt.Sprint(float64(6 << 20)),
		"tributary_flash_device_flushes_total":                "700",
		"tributary_flash_endurance_bytes":                     "1.2e+14",
		`tributary_uplink_state{state="forwarding"}`:          "1",
		"tributary_uplink_waiting_records":                    "1",
		"tributary_uplink_sent_records_total":                 "5",
		`tributary_flash_written_bytes_total{part="journal"}`: fmt.Sprint(float64(4 << 20)),
	} {
		if values[key] != want {
			t.Errorf("%s is %q, want %q", key, values[key], want)
		}
	}
	r.Log.Refusing = true
	b.Reset()
	if err := r.Metrics(&b); err != nil || !strings.Contains(b.String(), "\ntributary_log_room_seconds 0\n") {
		t.Errorf("a log that refuses has room: %v\n%s", err, b.String())
	}
	r.Log.Refusing, r.Log.Filling, r.Flash.KernelKnown = false, false, false
	b.Reset()
	if err := r.Metrics(&b); err != nil || strings.Contains(b.String(), "room_seconds") || strings.Contains(b.String(), "device_written") {
		t.Errorf("what is not known is given: %v\n%s", err, b.String())
	}
}
