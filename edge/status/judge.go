package status

import (
	"fmt"
	"strings"
	"time"
)

// patience is how long the uplink may be away before the node turns yellow.
const patience = 30 * time.Second

// maxHolesSaid is how many damaged stretches are given as reasons, one by one.
const maxHolesSaid = 3

// Judge sets Colour and Reasons.
func (r *Report) Judge(now time.Time) {
	r.Colour, r.Reasons = Green, []string{}
	if r.Log.Failed != "" {
		r.say(Red, "%s; restart the node to go on with a new ledger once the disk is well", r.Log.Failed)
	}
	if r.Uplink.State == "stopped" {
		r.say(Red, "the uplink has stopped: %s. Nothing is lost: %d records wait. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Waiting, r.Uplink.Do)
	}
	r.judgeRoom()
	if r.Uplink.State == "waiting" && now.Sub(r.Uplink.Since) > patience {
		r.say(Yellow, "%s. %d records wait on this disk. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Waiting, r.Uplink.Do)
	}
	r.judgeDisk()
	r.judgeDropped()
	r.judgeGateways()
	if r.MQTT.BadReload != "" {
		r.say(Yellow, "what says who may connect was not reloaded: %s. What was read before stays in force", r.MQTT.BadReload)
	}
	r.judgeConfig()
	for _, doubt := range r.MQTT.Doubts {
		r.say(Yellow, "%s", doubt)
	}
}

// judgeConfig says what of the configuration is not in force.
func (r *Report) judgeConfig() {
	if c := &r.Config; c.LastGood != "" {
		r.say(Yellow, "the configuration is broken, and the node runs with the last good one: %s. Correct it, look with \"tributary check\", and restart", c.LastGood)
	}
	if c := &r.Config; c.BadReload != "" {
		r.say(Yellow, "the configuration was not reloaded: %s. All of it stays as it was; correct it and send SIGHUP again", c.BadReload)
	}
	if c := &r.Config; len(c.NeedsRestart) > 0 {
		r.say(Yellow, "needs a restart: %s. Until then the old values are in force", strings.Join(c.NeedsRestart, ", "))
	}
}

// say adds a reason, and its colour if that is worse.
func (r *Report) say(c Colour, format string, args ...any) {
	if c == Red || r.Colour == Green {
		r.Colour = c
	}
	r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
}

// judgeRoom says whether the log is full, or will be.
func (r *Report) judgeRoom() {
	l := &r.Log
	switch {
	case l.Refusing && l.NoSegment != "":
		r.say(Red, "devices are told to wait%s: no further segment can be prepared: %s; tried again every 5 s%s", l.alarmsToo(), l.NoSegment, l.alarmsTaken())
	case l.Refusing:
		r.say(Red, "the log is full and devices are told to wait%s: %d records are not in Kafka yet%s. Bring Kafka back, or raise [log] max_size and restart%s",
			l.alarmsToo(), r.Uplink.Waiting, l.safe(), l.alarmsTaken())
	case l.NoSegment != "":
		r.say(Yellow, "no further segment can be prepared: %s; tried again every 5 s", l.NoSegment)
	case l.DropsOldest: // it is always about to be full, and says what it dropped
	case l.FreeBytes < min(l.MaxBytes, l.UsedBytes+l.FreeBytes)/5: // the disk may never have had more
		r.say(Yellow, "less than a fifth of the log is free: %s", Bytes(l.FreeBytes))
	}
	if l.FullSoon && !l.Refusing && !l.DropsOldest {
		r.say(Yellow, "the log will be full in %s at this rate: %s are free, and what is not in Kafka grows by %s a day",
			Days(l.RoomDays), Bytes(l.FreeBytes), Bytes(int64(l.GrowthBytesPerDay)))
	}
}

// safe says of a log that refuses that it keeps what it has.
func (l *Log) safe() string {
	if l.DropsOldest {
		return ""
	}
	return ". Nothing acknowledged is lost"
}

// alarmsToo says of a log that refuses that it does not even take alarms.
func (l *Log) alarmsToo() string {
	if l.HasAlarms && l.RefusingAlarms {
		return ", AND ALARMS TOO (alarm_reserve is full)"
	}
	return ""
}

// alarmsTaken says of a log that refuses that it still takes alarms.
func (l *Log) alarmsTaken() string {
	if l.HasAlarms && !l.RefusingAlarms {
		return ". Alarms are still taken"
	}
	return ""
}

// judgeDisk says what the disk has done to the log.
func (r *Report) judgeDisk() {
	if r.Log.LedgerEnded != "" {
		r.say(Yellow, "a write to the disk failed: %s. Devices were told to send again, and the log goes on in another file; the next failure ends it. Look at the disk, then restart", r.Log.LedgerEnded)
	} else if r.Log.DiskError != "" {
		r.say(Yellow, "the disk has failed at something that nothing depends on: %s. Look at the disk", r.Log.DiskError)
	}
	for i, h := range r.Log.Holes {
		if i == maxHolesSaid {
			r.say(Yellow, "and %d more such stretches", len(r.Log.Holes)-i)
			break
		}
		r.say(Yellow, "the disk has damaged records %d to %d of ledger %s; Kafka gets a gap record in their place", h.From, h.To-1, h.Ledger)
	}
	if r.Log.DamagedRanges > 0 && len(r.Log.Holes) == 0 {
		r.say(Yellow, "the disk has damaged %d stretches of the log: run \"tributary verify\" on the data directory", r.Log.DamagedRanges)
	}
}

// judgeDropped says what on_full = "drop-oldest" has cost, also before a restart.
func (r *Report) judgeDropped() {
	switch l := &r.Log; {
	case l.UntoldRecords > 0:
		r.say(Yellow, "the log was full: %d records were dropped, as on_full says; gap records will say which once Kafka is reached", l.UntoldRecords)
	case l.DroppedRecords > 0:
		r.say(Yellow, "the log was full: %d records were dropped, as on_full says; gap records in Kafka say which", l.DroppedRecords)
	}
}
