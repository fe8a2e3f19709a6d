package doctor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/disk"
)

// leastSegments is how many a log needs to turn over.
const leastSegments = 4

// space compares what the log may have with what the disk has.
func (r *Report) space(cfg *config.Config, logDir string) {
	total, free, err := disk.Space(cfg.Node.DataDir)
	if err != nil {
		r.Add(Finding{Error, "space", err.Error(), "", "look at the kernel's log"})
		return
	}
	quota, short := cfg.Log.MaxBytes, Warn
	if quota == 0 { // a part of the disk, whatever else lies there
		quota, short = total/100*int64(cfg.Log.MaxPercent), Note
	}
	have, err := disk.Used(logDir, ".seg", ".zseg")
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.Add(denied("space", err))
	case err != nil:
		r.Add(Finding{Error, "space", err.Error(), "What the log has already is not known", "look at the kernel's log"})
	default:
		r.Add(spaceFinding(quota, have, free, cfg.Log.SegmentBytes, short))
	}
}

// spaceFinding finds as much as short when the disk has less room than the quota.
func spaceFinding(quota, have, free, segmentBytes int64, short Level) Finding {
	f := Finding{
		Level: Good, About: "space",
		What: fmt.Sprintf("the log may have %s, has %s, and %s of the disk are free", status.Bytes(quota), status.Bytes(have), status.Bytes(free)),
	}
	switch {
	case have+free < leastSegments*segmentBytes:
		f.Level = Error
		f.Means = fmt.Sprintf("There is no room for %d segments of %s, without which the log cannot turn over", leastSegments, status.Bytes(segmentBytes))
		f.Do = "make room on the disk"
	case quota-have > free:
		f.Level = short
		f.Means = fmt.Sprintf("The log will be full at %s, sooner than [log] max_size says", status.Bytes(have+free))
		f.Do = "make room, or lower [log] max_size to what is there"
	}
	return f
}

// shortLifeYears is below which a card is not worth building in.
const shortLifeYears = 3

// node adds what the running node says of itself.
func (r *Report) node(cfg *config.Config, node *status.Report, err error) {
	const means = "What is written to the card in a day, and for how long the log has room, only a running node can say"
	if errors.Is(err, fs.ErrPermission) {
		r.Add(Finding{
			Note, "node", "permission denied on " + cfg.Status.Socket, means,
			"run as the user of the node, for example sudo -u USER tributary doctor",
		})
		return
	}
	if node == nil {
		r.Add(Finding{
			Note, "node", "none answers on " + cfg.Status.Socket,
			means, `start it, "tributary run"`,
		})
		return
	}
	if len(node.Reasons) == 0 {
		r.Add(Finding{Good, "node", fmt.Sprintf("%s runs, and is %s", node.Node, node.Colour), "", ""})
	}
	level := map[status.Colour]Level{status.Red: Error, status.Yellow: Warn}[node.Colour]
	for _, reason := range node.Reasons {
		r.Add(Finding{level, "node", reason, "", ""}) // it says itself what to do
	}
	r.Add(flashFinding(&node.Flash))
	r.Add(roomFinding(&node.Log))
}

func flashFinding(f *status.Flash) Finding {
	found := Finding{Level: Good, About: "flash", What: f.Text()}
	switch {
	case f.EnduranceBytes == 0:
		found.Level = Note
		found.Means = "How long the card lasts is not known"
		found.Do = `set [log] endurance to what its maker says may be written (TBW), such as "120TB"`
	case f.TellsLife() && f.LifeYears > 0 && f.LifeYears < shortLifeYears:
		found.Level = Warn
		found.Means = "The card will not last"
		found.Do = `gather more for each flush, [ack] window = "500ms" at most; or use a card of more endurance`
		if f.KernelKnown && f.KernelBytesPerDay > 2*f.BytesPerDay {
			found.Do = "look for the other program that writes to " + f.Device + ": it writes more than the node"
		}
	}
	return found
}

func roomFinding(l *status.Log) Finding {
	f := Finding{Level: Good, About: "log", What: status.Bytes(l.FreeBytes) + " free, " + l.Room()}
	switch {
	case l.Refusing:
		f.Level = Error
		f.Means = "Devices are told to wait; what is stored is forwarded once Kafka is back"
		f.Do = "bring Kafka back, or make the log larger, [log] max_size; if the disk itself is full, make room"
	case l.DropsOldest && (l.Dropping() || l.FullSoon || l.Filling):
		f.Level = Note
		f.Means = "When it is full the oldest records go, as on_full says"
	case l.FullSoon:
		f.Level = Warn
		f.Means = "When it is full devices are told to wait"
		f.Do = "bring Kafka back, or make the log larger, [log] max_size"
	case l.Filling:
		f.Level = Note
		f.Means = "Records come in faster than they go to Kafka"
	}
	return f
}
