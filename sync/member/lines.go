package member

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// complaintsPerMinute bounds what serf may put into the log: a stranger makes it
// complain with each packet.
const complaintsPerMinute = 5

// lines turns the lines that serf and memberlist log into slog's: their errors
// and warnings are warnings, all else is for debugging. Nobody's data is at stake.
type lines struct {
	log *slog.Logger

	mu     sync.Mutex
	minute time.Time
	said   int
	unsaid int
}

// Write implements io.Writer for one line.
func (l *lines) Write(p []byte) (int, error) {
	level, text := split(p)
	if level != "ERR" && level != "WARN" {
		l.log.Debug("gossip", "line", text)
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.minute) >= time.Minute {
		if l.unsaid > 0 {
			l.log.Warn("gossip has complained more often than was logged", "unsaid", l.unsaid)
		}
		l.minute, l.said, l.unsaid = now, 0, 0
	}
	if l.said == complaintsPerMinute {
		l.unsaid++
		return len(p), nil
	}
	l.said++
	l.log.Warn("gossip complains", "line", text)
	return len(p), nil
}

// split cuts the date off a line of the form "DATE TIME [LEVEL] text".
func split(p []byte) (level, text string) {
	_, rest, found := bytes.Cut(p, []byte("["))
	if found {
		l, t, closed := bytes.Cut(rest, []byte("] "))
		if closed && len(l) <= len("DEBUG") {
			return string(l), string(bytes.TrimSpace(t))
		}
	}
	return "", string(bytes.TrimSpace(p))
}
