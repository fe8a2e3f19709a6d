package edge

import (
	"fmt"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/disk"
)

// copyReserve is the part of the log that is kept for what this node's own devices
// send: copies of others leave a quarter of what the disk has for it.
const copyReserve = 4

// room returns what the log may have, how much of that is for alarms alone, and how
// much copies of others leave.
func (n *Node) room() (maxBytes, alarmReserve, copiesLeave int64, err error) {
	total, free, err := disk.Space(n.cfg.Node.DataDir)
	if err != nil {
		return 0, 0, 0, err
	}
	used, err := disk.Used(LogDir(n.cfg.Node.DataDir), ".seg", ".zseg")
	if err != nil {
		return 0, 0, 0, err
	}
	if maxBytes = n.cfg.Log.MaxBytes; maxBytes == 0 {
		maxBytes = total / 100 * int64(n.cfg.Log.MaxPercent)
	}
	copiesLeave = min(maxBytes, used+free) / copyReserve
	alarmReserve, err = reserveFor(n.cfg, maxBytes, used+free)
	if err != nil && used > 0 { // what is stored must go on; another program may have filled the disk
		n.logger.Warn("a smaller reserve is kept for alarms", "why", err.Error())
		return maxBytes, min(maxBytes, used+free) / 2, copiesLeave, nil
	}
	return maxBytes, alarmReserve, copiesLeave, err
}

// reserveFor returns how much of a log that may have maxBytes, on a disk that has
// onDisk for it, is for alarms alone. Without an alarm route nothing is.
func reserveFor(cfg *config.Config, maxBytes, onDisk int64) (int64, error) {
	const share = 50 // 2 %
	reachable := min(maxBytes, onDisk)
	switch reserve := cfg.Log.AlarmReserve; {
	case !cfg.HasAlarms():
		return 0, nil
	case reserve > reachable/2:
		return 0, &reserveError{reserve, maxBytes, onDisk}
	case reserve > 0:
		return reserve, nil
	}
	return reachable / share, nil
}

// A reserveError says that alarm_reserve leaves next to nothing to the messages
// that are no alarms.
type reserveError struct{ reserve, maxBytes, onDisk int64 }

func (e *reserveError) Error() string {
	return fmt.Sprintf("[log] alarm_reserve %s leaves no room for other messages: the log may have %s, and the disk has %s for it; lower it. Nothing was changed",
		status.Bytes(e.reserve), status.Bytes(e.maxBytes), status.Bytes(e.onDisk))
}
