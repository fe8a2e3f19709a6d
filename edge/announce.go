package edge

import (
	"log/slog"
	"strings"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// An announcer writes to the node's own log what somebody should know who does
// not look at the status. It holds what it has said.
type announcer struct {
	colour    status.Colour
	soon      bool // full within a day
	dropped   int64
	droppedAt time.Time
}

// saysDropped is how often it says that records were dropped.
const saysDropped = time.Minute

// look writes what is new in r.
func (a *announcer) look(logger *slog.Logger, r *status.Report, now time.Time) {
	if soon := r.Log.FullSoon && !r.Log.DropsOldest; soon != a.soon && !r.Log.Refusing {
		a.soon = soon
		if soon {
			logger.Warn("the log will be full within a day", "room", status.Days(r.Log.RoomDays), "free", status.Bytes(r.Log.FreeBytes),
				"growth_a_day", status.Bytes(int64(r.Log.GrowthBytesPerDay)))
		} else {
			logger.Info("the log will not be full within a day any more", "free", status.Bytes(r.Log.FreeBytes))
		}
	}
	if more := r.Log.DroppedRecords - a.dropped; more > 0 && now.Sub(a.droppedAt) >= saysDropped {
		a.dropped, a.droppedAt = r.Log.DroppedRecords, now
		logger.Warn("the log is full and has dropped its oldest records, as on_full says", "records", more, "since_start", a.dropped)
	}
	if r.Colour == a.colour {
		return
	}
	a.colour = r.Colour
	reasons := strings.Join(r.Reasons, "; ")
	switch r.Colour {
	case status.Green:
		logger.Info("status is green again")
	case status.Red:
		logger.Error("status is red", "reasons", reasons)
	case status.Yellow:
		logger.Warn("status is yellow", "reasons", reasons)
	}
}
